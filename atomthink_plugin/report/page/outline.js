// All nodes with their texts, nested as in the tree, and the finished paths with their scores and votes.

// A step is sampled from a policy as part of a chain. Other texts are marked as no steps: replies to prompts of the
// search's own (a judge's verdict), and those that it writes itself.
const isWritten = (node) => node.role === "";
const isCandidate = (node) => node.use === undefined && !isWritten(node);
const markOf = (node) => node.use ?? (isWritten(node) ? "written" : "");
const originOf = (node) => (node.use !== undefined ? "asked-node" : isWritten(node) ? "written-node" : "");

const badges = (node) => [
  node.use !== undefined && `no step: ${node.use}`,
  isWritten(node) && "no step: written by the search",
  node.role && `role ${node.role}`,
  node.unit !== undefined && `unit ${node.unit}`,
].filter(Boolean);

const counted = (tree) => {
  const asked = tree.nodes.filter((node) => node.use !== undefined).length;
  const texts = tree.nodes.filter((node) => node.use === undefined && isWritten(node)).length;
  const candidates = tree.nodes.length - asked - texts;
  const parts = [
    [candidates, "candidate step", "candidate steps"],
    [asked, "reply to another prompt", "replies to other prompts"],
    [texts, "text written by the search", "texts written by the search"],
  ];
  return parts.filter(([number], i) => i === 0 || number).map(([number, one, several]) => `${count(number)} ${number === 1 ? one : several}`).join(", ");
};

const rootOf = (node) => -1 - node.parent;
const treeName = (tree, root) => tree.roots?.[root] ?? "the question";

const BECAME = {
  chosen: "chosen", continued: "extended", finished: "finished", pruned: "pruned", rejected: "rejected", ended: "not extended", side: "",
};

const status = (node) => {
  if (node.kind === "side") return node.reason === undefined ? "" : `invalid: ${node.reason}`;
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
    ...badges(node).map((text) => make("span", { class: `badge ${originOf(node)}` }, text)),
    make("span", { class: `status ${node.kind}` }, status(node)),
    node.note !== undefined && make("span", { class: "note", title: "noted by the search" }, node.note),
    node.probability !== undefined && make("span", { class: "quiet", title: "mean probability of its tokens" }, `p ${decimal(node.probability)}`),
    make("span", { class: "quiet" }, `${count(node.tokens)} tokens`)),
  written(node.text));

const critique = (node) => node.critique !== undefined &&
  make("details", { class: "critique" }, make("summary", {}, "critique of this step"), written(node.critique));

const outline = (tree, select) => {
  const parents = new Set(tree.nodes.map((node) => node.parent));
  const items = tree.nodes.map((node, i) => {
    const text = line(node);
    const inner = make("ol", {});
    const body = parents.has(i) ? make("details", { open: node.kind === "chosen" }, make("summary", {}, text), inner) : text;
    if (body === text) {  // a summary can have keyboard focus by default
      text.setAttribute("tabindex", "0");
      text.addEventListener("keydown", (event) => event.key === "Enter" && select(i));
    }
    const item = make("li", { class: `entry ${isCandidate(node) ? "candidate" : originOf(node)} ${node.kind}`, "data-node": i }, body);
    item.addEventListener("click", (event) => {
      event.stopPropagation();
      select(i);
    });
    return { item, inner };
  });
  const tops = [];
  tree.nodes.forEach((node, i) => {
    const inner = node.parent < 0 ? (tops[rootOf(node)] ??= make("ol", { class: "outline" })) : items[node.parent].inner;
    inner.append(items[i].item);
  });
  return make("div", { class: "outlines" }, ...tops.flatMap((top, root) => [tops.length > 1 && make("h4", {}, treeName(tree, root)), top]).filter(Boolean));
};

// Neighbouring paths with equivalent answers, with the number of paths in the tree that have this answer.
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

const COLUMNS = {
  answer: "the final answer", paths: "the number of identical paths", last: "the score of the last step",
  min: "the lowest step score", mean: "the mean of the step scores", prod: "the product of the step scores",
  log_odds: "the mean of the log odds of the step scores, as a probability",
  likelihood: "the mean probability of the path's tokens",
};

const finishedPaths = (tree, by, select) => {
  const heads = Object.entries(COLUMNS).map(([name, meaning]) =>
    make("th", name === by ? { class: "by", title: `${meaning}: the search ranked by it` } : { title: meaning }, name));
  const table = make("table", { class: "paths" }, make("thead", {}, make("tr", {}, ...heads)));
  for (const { paths, first, votes } of groupsOf(tree)) {
    const rows = paths.map((path, i) => make("tr", { class: path.chosen ? "chosen" : "", "data-path": path.node, on: { click: () => select(path.node) } },
      make("td", {}, make("bdi", { class: "short" }, writtenAnswer(tree.nodes[path.node].answer)), path.right && make("span", { class: "right", title: "equals the reference answer" }, " ✓"),
        path.chosen && make("span", { class: "tag" }, "chosen")),
      make("td", {}, first && i === 0 && votes > path.votes ? `${path.votes} (${votes} in all)` : String(path.votes)),
      ...["last", "min", "mean", "prod", "log_odds"].map((name) => make("td", {}, pill(path[name]))),
      make("td", {}, decimal(path.likelihood))));
    table.append(make("tbody", {}, ...rows));
  }
  return make("div", { class: "scroll" }, table);
};
