// A search tree as a map: one column per step, the chosen path along the top. Trees of further roots follow below.

const BOX = { width: 44, height: 22, column: 66, line: 32, left: 34, top: 30, answer: 14, formula: 60, letter: 7.5, small: 6.1 };
const MARKED = 7;  // letters in the mark of a box
const NOTED = 20;  // letters of a note under a box

// The first parts of a note that fit under a box: "visits 9, value 0.71" of "visits 9, value 0.71, simulation 3".
const noteOf = (node) => {
  const parts = (node.note ?? "").split(", ");
  while (parts.length && parts.join(", ").length > NOTED) parts.pop();
  return parts.join(", ");
};

// Notes need wider columns and higher lines. Several trees have a heading each.
const sizeOf = (tree) => {
  const letters = Math.max(0, ...tree.nodes.map((node) => noteOf(node).length));
  return { ...BOX, column: Math.max(BOX.column, 10 + letters * BOX.small), line: BOX.line + (letters ? 15 : 0), noted: letters > 0, headed: tree.roots !== undefined };
};

// Whether a node is drawn in its parent's line: true for the first child, unless its parent's answer is drawn there.
const straight = (nodes, i) => i > 0 && i < nodes.length && nodes[i].parent === i - 1
  && !(nodes[i].kind === "side" && nodes[i - 1].answer !== undefined);

// A first child is in its parent's line. Any other child starts on the next lower line with enough free columns.
const placed = (nodes, headed) => {
  const places = [];
  const used = [];
  const starts = [];  // the first line of each tree
  nodes.forEach((node, i) => {
    if (node.parent < 0) starts[rootOf(node)] ??= Math.max(-1, ...used.filter((line) => line !== undefined)) + (headed ? 2 : 1);
    const above = node.parent < 0 ? { column: 0, line: starts[rootOf(node)] - 1 } : places[node.parent];
    const column = above.column + 1;
    if (straight(nodes, i)) {
      places[i] = { column, line: above.line };
      return;
    }
    let end = i;
    while (straight(nodes, end + 1)) end += 1;
    const last = column + end - i + (nodes[end].answer === undefined ? 0 : 2);
    let line = above.line + 1;
    for (let k = column; k <= last; k += 1) line = Math.max(line, (used[k] ?? -1) + 1);
    for (let k = column; k <= last; k += 1) used[k] = line;
    places[i] = { column, line };
  });
  return { places, starts };
};

const centre = (place, size) => ({
  x: BOX.left + (place.column - 1) * size.column,
  y: heightOf(place.line, size),
});

const heightOf = (line, size) => BOX.top + line * size.line + BOX.height / 2;

const edge = (node, { places, starts }, i, size) => {
  const to = centre(places[i], size);
  const from = node.parent < 0 ? { x: 10, y: heightOf(starts[rootOf(node)], size) } : centre(places[node.parent], size);
  const start = node.parent < 0 ? from.x : from.x + BOX.width;
  const bend = (start + to.x) / 2;
  return draw("path", { class: `edge ${node.kind}`, d: `M${start} ${from.y}C${bend} ${from.y} ${bend} ${to.y} ${to.x} ${to.y}` });
};

const label = (node) => {
  if (node.score === undefined && markOf(node)) return short(markOf(node), MARKED);
  if (node.kind === "rejected" && node.score === undefined) return "×";
  return node.score === undefined ? "·" : node.score >= 0.995 ? "1.0" : node.score.toFixed(2).slice(1);
};

// The answer at the end of a path, as SVG text unless it has formulas.
const stated = (answer, x, y, right) => {
  const parts = answer.length <= BOX.formula ? drawn(answer, true) : [answer];
  if (parts.every((part) => typeof part === "string")) {
    const text = draw("text", { class: "answer", x, y: y + 4 }, short(answer, BOX.answer));
    if (right) text.append(draw("tspan", { class: "right" }, " ✓"));
    return text;
  }
  const box = { x, y: y - BOX.line / 2, width: BOX.answer * BOX.letter + 16, height: BOX.line };
  return draw("foreignObject", box, make("div", { class: "answer" }, ...parts, right && make("span", { class: "right" }, " ✓")));
};

const box = (nodes, { x, y }, i, right) => {
  const node = nodes[i];
  const note = noteOf(node);
  const shape = draw("rect", {
    x, y: y - BOX.height / 2, width: BOX.width, height: BOX.height, rx: markOf(node) ? 0 : node.answer === undefined ? 11 : 4,
  });
  shape.style.fill = node.kind === "rejected" && node.score === undefined ? "" : colour(node.score);
  const parts = [draw("title", {}, short([...badges(node), node.note, node.text].filter(Boolean).join(": "), 300)), shape,
    draw("text", { class: "score", x: x + BOX.width / 2, y: y + 4, "text-anchor": "middle" }, label(node))];
  if (node.score !== undefined && markOf(node)) parts.push(draw("text", { class: "use-mark", x, y: y - BOX.height / 2 - 2 }, short(markOf(node), MARKED)));
  if (note) parts.push(draw("text", { class: "note-mark", x, y: y + BOX.height / 2 + 11 }, note));
  if (node.kind === "pruned") parts.push(draw("path", { class: "cut", d: `M${x + BOX.width + 5} ${y - 8}v16` }));
  if (node.times) parts.push(draw("text", { class: "times", x: x + BOX.width - 2, y: y - BOX.height / 2 - 2, "text-anchor": "end" }, `×${node.times}`));
  if (node.answer !== undefined && !straight(nodes, i + 1)) parts.push(stated(node.answer, x + BOX.width + 12, y, right));
  return draw("g", { class: `node ${node.kind} ${originOf(node)}`, "data-node": i }, ...parts);
};

// The unit of a column's nodes that are parts of chains, if it is the same for all.
const heading = (tree, places, column) => {
  const units = new Set(tree.nodes.filter((node, i) => places[i].column === column && node.kind !== "side").map((node) => node.unit));
  const [unit] = units;
  if (units.size === 1 && unit !== undefined) return short(unit, 10);
  return units.size ? `step ${column}` : "";
};

const map = (tree, select) => {
  const size = sizeOf(tree);
  const layout = placed(tree.nodes, size.headed);
  const { places, starts } = layout;
  const right = new Set(tree.finished.filter((path) => path.right).map((path) => path.node));
  const columns = Math.max(...places.map((place) => place.column));
  const lines = Math.max(...places.map((place) => place.line)) + 1;
  const letters = Math.max(0, ...tree.finished.map((path) => Math.min(tree.nodes[path.node].answer.length, BOX.answer) + (path.right ? 2 : 0)));
  const last = Math.max(BOX.width + 18 + letters * BOX.letter, size.noted ? size.column : 0);
  const width = BOX.left + (columns - 1) * size.column + last;
  const height = BOX.top + lines * size.line;
  const heads = Array.from({ length: columns }, (_, i) =>
    draw("text", { class: "head", x: BOX.left + i * size.column + BOX.width / 2, y: 14, "text-anchor": "middle" }, heading(tree, places, i + 1)));
  const edges = tree.nodes.map((node, i) => [node, edge(node, layout, i, size)]);
  edges.sort(([a], [b]) => (a.kind === "chosen") - (b.kind === "chosen"));  // the chosen path is drawn above the others
  const picture = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `search tree with ${counted(tree)}. The outline below lists them` },
  ...starts.map((line, root) => draw("circle", { class: "root", cx: 8, cy: heightOf(line, size), r: 5 }, draw("title", {}, treeName(tree, root)))),
  ...starts.filter(() => size.headed).map((line, root) => draw("text", { class: "tree-head", x: 4, y: heightOf(line - 1, size) + 8 }, treeName(tree, root))),
  ...heads, ...edges.map(([, path]) => path),
  ...tree.nodes.map((_, i) => box(tree.nodes, centre(places[i], size), i, right.has(i))));
  picture.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-node]");
    if (chosen) select(Number(chosen.dataset.node));
  });
  return { picture, width, height, columns };
};

const SMALLEST = 0.75;  // the smallest scale at which scores are readable
const MAP_SHARE = 0.64;  // the largest share of the width for a map next to the selected path
const FRAME = 14;

// A map next to the selected path, or above it if the map needs the whole width. A map that is too wide is scaled down,
// then scrolled with a hint.
const mapAndPath = ({ picture, width, height, columns }, chain) => {
  const box = make("div", { class: "map", tabindex: 0 }, picture);
  const hint = make("p", { class: "hint", hidden: true }, `${columns} columns. Scroll sideways to see all of them`);
  const tree = make("div", { class: "tree" }, make("div", { class: "map-side" }, box, hint), chain);
  const mark = () => box.classList.toggle("cut-off", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
  new ResizeObserver(() => {
    const room = tree.clientWidth;
    if (!room) return;
    const scale = Math.min(1, Math.max(SMALLEST, (room - FRAME) / width));
    tree.classList.toggle("stacked", width + FRAME > MAP_SHARE * room);
    picture.setAttribute("width", width * scale);
    picture.setAttribute("height", height * scale);
    hint.hidden = width * scale + FRAME <= room + 1;
    mark();
  }).observe(tree);
  box.addEventListener("scroll", mark, { passive: true });
  return tree;
};
