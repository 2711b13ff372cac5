// Every candidate with its text, nested as they were thought; and the finished paths with what they were chosen by.

const BECAME = {
  chosen: "chosen", continued: "followed up", finished: "finished", pruned: "pruned", rejected: "rejected", ended: "led no further",
};

const fate = (node) => {
  if (node.kind === "rejected") return `rejected: ${node.reason}`;
  if (!node.rank || node.rank.of <= node.rank.kept) return BECAME[node.kind];
  const { place, of, kept, value } = node.rank;
  const when = node.kind === "pruned" ? `pruned after step ${node.depth}` : BECAME[node.kind];
  return `${when}: ${place} of ${of} by ${decimal(value)}, ${kept} kept`;
};

const pill = (score) => {
  const element = make("span", { class: "pill" }, (score ?? null) === null ? "·" : decimal(score));
  element.style.background = colour(score);
  return element;
};

const line = (node) => make("span", { class: "line" },
  make("span", { class: "line-facts" }, pill(node.score), node.times && make("b", { class: "times", title: "identical samples" }, `×${node.times}`),
    make("span", { class: `fate ${node.kind}` }, fate(node)),
    node.probability !== undefined && make("span", { class: "quiet", title: "mean probability of its tokens" }, `p ${decimal(node.probability)}`),
    make("span", { class: "quiet" }, `${count(node.tokens)} tokens`)),
  written(node.text));

const outline = (tree, select) => {
  const parents = new Set(tree.nodes.map((node) => node.parent));
  const items = tree.nodes.map((node, i) => {
    const text = line(node);
    const inner = make("ol", {});
    const body = parents.has(i) ? make("details", { open: node.kind === "chosen" }, make("summary", {}, text), inner) : text;
    if (body === text) {  // a summary is reached by the keyboard as it is
      text.setAttribute("tabindex", "0");
      text.addEventListener("keydown", (event) => event.key === "Enter" && select(i));
    }
    const item = make("li", { class: `candidate ${node.kind}`, "data-node": i }, body);
    item.addEventListener("click", (event) => {
      event.stopPropagation();
      select(i);
    });
    return { item, inner };
  });
  const top = make("ol", { class: "outline" });
  tree.nodes.forEach((node, i) => (node.parent < 0 ? top : items[node.parent].inner).append(items[i].item));
  return top;
};

// Neighbours with equivalent answers, and how many paths of the whole tree reach that answer.
const groupsOf = (tree) => {
  const groups = [];
  const votes = new Map();
  for (const path of tree.finished) {
    if (groups.at(-1)?.paths[0].group === path.group) groups.at(-1).paths.push(path);
    else groups.push({ paths: [path], first: !votes.has(path.group) });
    votes.set(path.group, (votes.get(path.group) ?? 0) + path.votes);
  }
  return groups.map((group) => ({ ...group, votes: votes.get(group.paths[0].group) }));
};

const finishedPaths = (tree, by, select) => {
  const heads = ["answer", "paths", "last", "min", "mean", "prod", "likelihood"].map((name) =>
    make("th", name === by ? { class: "by", title: "what the search ranked by" } : {}, name));
  const table = make("table", { class: "paths" }, make("thead", {}, make("tr", {}, ...heads)));
  for (const { paths, first, votes } of groupsOf(tree)) {
    const rows = paths.map((path, i) => make("tr", { class: path.chosen ? "chosen" : "", "data-path": path.node, on: { click: () => select(path.node) } },
      make("td", {}, make("bdi", { class: "short" }, writtenAnswer(tree.nodes[path.node].answer)), path.right && make("span", { class: "right", title: "equals the reference answer" }, " ✓"),
        path.chosen && make("span", { class: "tag" }, "chosen")),
      make("td", {}, first && i === 0 && votes > path.votes ? `${path.votes} (${votes} in all)` : String(path.votes)),
      ...["last", "min", "mean", "prod"].map((name) => make("td", {}, pill(path[name]))),
      make("td", {}, decimal(path.likelihood))));
    table.append(make("tbody", {}, ...rows));
  }
  return make("div", { class: "scroll" }, table);
};
