// One question: its text, and the answer and search of each run.

const VERDICTS = { right: "right", wrong: "wrong", failed: "failed", unscored: "no verdict", absent: "not asked" };
const STOPPED = {
  final: "a final answer", depth: "step limit", length: "token limit", budget: "budget spent", invalid: "no valid step found",
};

const fact = (name, value, style = "") =>
  make("div", { class: `fact ${style}` }, make("dt", {}, name), make("dd", {}, value));

const letterOf = (i) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[i] ?? String(i + 1);

const asked = (entry, question) => {
  const pictures = make("div", { class: "pictures" });
  for (const number of entry.pictures ?? []) {
    const picture = make("img", { alt: "image of the question", loading: "lazy" });
    picture.addEventListener("click", () => picture.classList.toggle("large"));
    pictures.append(picture);
    loadPicture(number).then((source) => {
      if (source === null) picture.replaceWith(make("p", { class: "quiet" }, "the image is in the missing part of this file"));
      else picture.src = source;
    });
  }
  if (entry.unseen !== undefined) pictures.append(make("p", { class: "quiet" }, `No image: ${index.unseen[entry.unseen]}`));
  const options = (question.options ?? []).map((option, i) => make("li", {}, make("b", {}, letterOf(i)), " ", writtenAnswer(option)));
  return make("section", { class: "asked" }, pictures, make("div", { class: "asked-text" },
    make("p", { class: "text" }, written(question.text || "(no text)", 6000)),
    options.length > 0 && make("ol", { class: "options" }, ...options),
    (question.target ?? null) !== null && make("p", { class: "target" }, make("span", { class: "quiet" }, "reference answer "), writtenAnswer(question.target))));
};

const facts = (run) => make("dl", { class: "facts" },
  (run.extracted ?? null) !== null && fact("answer read", writtenAnswer(run.extracted), "wide"),
  run.rule && fact("by the rule", run.rule, "wide"),
  fact("tokens", count(run.tokens)),
  run.judged !== undefined && fact("of them critiques", count(run.judged)),
  fact("policy calls", count(run.policy_calls)),
  fact("PRM calls", count(run.prm_calls)),
  fact("latency, s", seconds(run.seconds)),
  run.stopped && fact("stopped by", STOPPED[run.stopped] ?? run.stopped, run.stopped === "budget" ? "over" : ""),
  run.won && fact(run.won.by, decimal(run.won.value)));

const legend = (tree) => {
  const scored = tree.nodes.some((node) => node.score !== undefined);
  const kinds = ["chosen", "finished", "pruned", "rejected"].filter((kind) => tree.nodes.some((node) => node.kind === kind));
  return make("p", { class: "legend" },
    scored && make("span", {}, "step score 0 ", make("i", { class: "scale" }), " 1"),
    ...kinds.map((kind) => make("span", { class: `key ${kind}` }, make("i", {}), BECAME[kind])),
    tree.nodes.some((node) => node.use !== undefined) && make("span", { class: "key asked-node" }, make("i", {}), "no step: a reply to a prompt of the search"),
    tree.nodes.some((node) => node.use === undefined && isWritten(node)) && make("span", { class: "key written-node" }, make("i", {}), "no step: written by the search"),
    tree.nodes.some((node) => noteOf(node)) && make("span", {}, "under a box: what the search noted"),
    tree.nodes.some((node) => node.times) && make("span", {}, "×n identical samples"),
    tree.nodes.some((node) => node.probability !== undefined) && make("span", {}, "p: mean probability of a step's tokens"));
};

const lineage = (tree, i) => (i < 0 ? [] : [...lineage(tree, tree.nodes[i].parent), tree.nodes[i]]);

const thinking = (tree, by) => {
  const chain = make("ol", { class: "chain", tabindex: 0, "aria-live": "polite", "aria-label": "the path to the selected step" });
  const panel = make("div", { class: "thinking" });
  const select = (i) => {
    for (const old of panel.querySelectorAll(".selected")) old.classList.remove("selected");
    for (const element of panel.querySelectorAll(`[data-node="${i}"]`)) element.classList.add("selected");
    chain.replaceChildren(...lineage(tree, i).map((node) => make("li", { class: `${node.kind} ${originOf(node)}` }, line(node), critique(node))));
    chain.scrollTop = chain.scrollHeight;
    const item = panel.querySelector(`.entry[data-node="${i}"]`);
    for (let above = item.parentElement; above !== panel; above = above.parentElement) {
      if (above.tagName === "DETAILS") above.open = true;
    }
  };
  panel.append(legend(tree), mapAndPath(map(tree, select), chain));
  if (tree.finished.length) panel.append(make("h3", {}, "Finished paths"), finishedPaths(tree, by, select));
  panel.append(make("h3", {}, `All ${counted(tree)}`), outline(tree, select));
  select(Math.max(tree.nodes.findLastIndex((node) => node.kind === "chosen"), 0));
  return panel;
};

const answered = (run, brief, letter) => {
  if (!run) return make("section", { class: "answered" }, make("h2", {}, letter && make("b", { class: "letter" }, letter), " Not asked in this run"));
  const verdict = brief.verdict;
  const parts = [make("h2", {}, letter && make("b", { class: "letter" }, letter), make("span", { class: `verdict ${verdict}` }, VERDICTS[verdict])), facts(run)];
  if (run.failed !== undefined) parts.push(make("p", { class: "failure" }, "Failed: ", written(run.failed || "the reason is not recorded")));
  if (run.why) parts.push(make("p", { class: "why" }, written(run.why)));
  if (run.tree) parts.push(thinking(run.tree, run.by));
  else if (run.failed === undefined) parts.push(make("p", { class: "quiet" }, "No search tree is recorded."));
  if (run.reply) {
    parts.push(make("details", { class: "reply", open: !run.tree }, make("summary", {}, "Scored reply"), make("pre", {}, run.tree ? run.reply : written(run.reply, 6000))));
  }
  return make("section", { class: "answered" }, ...parts);
};

const title = (entry) => make("header", { class: "question-head" },
  make("h2", {}, make("bdi", {}, entry.task), make("span", { class: "quiet" }, ` question ${entry.doc}${entry.repeat ? `, repeat ${entry.repeat}` : ""}`)),
  make("p", { class: "groups" }, ...Object.entries(entry.groups ?? {}).flatMap(([grouping, values]) =>
    values.map((value) => make("span", { class: "group" }, make("i", {}, grouping), " ", make("bdi", {}, value))))));

const show = async (number) => {
  const place = document.getElementById("question");
  const entry = index.questions[number];
  let question;
  try {
    question = await loadQuestion(number);
  } catch (error) {
    if (number === current) place.replaceChildren(title(entry), make("p", { class: "failure" }, `This question cannot be shown: ${error.message}`));
    return;
  }
  if (number !== current) return;
  forgetFormulas();
  const runs = question.runs.map((run, i) => answered(run, entry.runs[i], index.runs === 2 ? "AB"[i] : ""));
  place.replaceChildren(title(entry), asked(entry, question), make("div", { class: "runs" }, ...runs));
  place.scrollTop = 0;
};
