// The list of questions and its filters. Only the visible rows are elements.

const ROW = 68;
const AROUND = 6;

const CLASSES = index.runs === 2
  ? [["a", "A won"], ["b", "B won"], ["both", "both right"], ["neither", "neither"], ["alone", "not compared"]]
  : [["right", "right"], ["wrong", "wrong"], ["failed", "failed"], ["unscored", "no verdict"]];

const MARKS = { right: "✓", wrong: "✗", failed: "!", unscored: "·" };

const classOf = (entry) => {
  const [first, second] = entry.runs;
  if (index.runs === 1) return first.verdict;
  if (!first || !second || first.verdict === "unscored" || second.verdict === "unscored") return "alone";
  const [a, b] = [first.verdict === "right", second.verdict === "right"];
  return a && b ? "both" : a ? "a" : b ? "b" : "neither";
};

const differs = (entry) => ["a", "b"].includes(classOf(entry));

const failedIn = (entry) => entry.runs.some((run) => run?.verdict === "failed");
const overBudget = (entry) => entry.runs.some((run) => run?.stopped === "budget");

const filters = { classes: new Set(), failed: false, budget: false, category: "", words: "", order: "as asked" };
let visible = index.questions.map((_, number) => number);

// The questions are sorted by these numbers, the smallest first. Questions without a number come last.
const ORDERS = {
  "as asked": () => 0,
  "most tokens first": (run) => (run.tokens === undefined ? undefined : -run.tokens),
  "lowest step score first": (run) => run.lowest,
};

const placeOf = (entry) => Math.min(...entry.runs.map((run) => (run ? ORDERS[filters.order](run) ?? Infinity : Infinity)));

const passes = (entry, number, words) => {
  if (filters.classes.size && !filters.classes.has(classOf(entry))) return false;
  if (filters.failed && !failedIn(entry)) return false;
  if (filters.budget && !overBudget(entry)) return false;
  if (filters.category) {
    const [grouping, value] = JSON.parse(filters.category);
    if (!(grouping === null ? entry.task === value : (entry.groups?.[grouping] ?? []).includes(value))) return false;
  }
  return !filters.words || words[number].includes(filters.words);
};

const chip = (label, total, pressed, toggle, style) => {
  const button = make("button", { type: "button", class: `chip ${style}`, "aria-pressed": String(pressed) },
    label, " ", make("b", {}, count(total)));
  button.addEventListener("click", () => {
    toggle();
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    applyFilters();
  });
  return button;
};

const showChips = () => {
  const totals = {};
  for (const entry of index.questions) totals[classOf(entry)] = (totals[classOf(entry)] ?? 0) + 1;
  const flip = (key) => () => filters.classes.has(key) ? filters.classes.delete(key) : filters.classes.add(key);
  const chips = CLASSES.filter(([key]) => totals[key]).map(([key, label]) => chip(label, totals[key], false, flip(key), key));
  const failed = index.questions.filter(failedIn).length;
  if (index.runs === 2 && failed) chips.push(chip("failed", failed, false, () => { filters.failed = !filters.failed; }, "failed"));
  const budget = index.questions.filter(overBudget).length;
  if (budget) chips.push(chip("stopped by budget", budget, false, () => { filters.budget = !filters.budget; }, "budget"));
  document.getElementById("classes").replaceChildren(...chips);
};

const showCategories = () => {
  const groupings = new Map();
  const note = (grouping, value) => {
    if (!groupings.has(grouping)) groupings.set(grouping, new Map());
    const values = groupings.get(grouping);
    values.set(value, (values.get(value) ?? 0) + 1);
  };
  for (const entry of index.questions) {
    note(null, entry.task);
    for (const [grouping, values] of Object.entries(entry.groups ?? {})) for (const value of values) note(grouping, value);
  }
  const select = document.getElementById("category");
  const parts = [...groupings].filter(([, values]) => values.size > 1).map(([grouping, values]) =>
    make("optgroup", { label: grouping ?? "task" }, ...[...values].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }))
      .map(([value, total]) => make("option", { value: JSON.stringify([grouping, value]) }, `${value} (${count(total)})`))));
  select.replaceChildren(make("option", { value: "" }, "every category"), ...parts);
  select.hidden = parts.length === 0;
};

const showOrders = () => {
  const known = Object.entries(ORDERS).filter(([, of]) => index.questions.some((entry) => entry.runs.some((run) => run && of(run) !== undefined)));
  const select = document.getElementById("order");
  select.replaceChildren(...known.map(([name]) => make("option", { value: name }, name)));
  select.hidden = known.length < 2;
};

const applyFilters = async () => {
  const words = filters.words ? await loadWords() : null;
  if (filters.words && words === null) {
    document.getElementById("count").textContent = `Search is not available: ${TORN}`;
    return;
  }
  visible = index.questions.flatMap((entry, number) => (passes(entry, number, words) ? [number] : []));
  const places = index.questions.map(placeOf);
  visible.sort((a, b) => (places[a] === places[b] ? a - b : places[a] - places[b]));
  const all = index.questions.length;
  document.getElementById("count").textContent =
    visible.length === all ? `${count(all)} questions` : `${count(visible.length)} of ${count(all)} questions`;
  document.getElementById("rows").style.height = `${visible.length * ROW}px`;
  document.getElementById("list").scrollTop = 0;
  showRows();
};

const badge = (run, letter) => {
  const verdict = run?.verdict ?? "absent";
  return make("span", { class: `mark ${verdict}`, title: `${letter} ${verdict}`.trim() }, `${letter}${MARKS[verdict] ?? "–"}`);
};

const row = (place) => {
  const number = visible[place];
  const entry = index.questions[number];
  const costs = entry.runs.map((run) => count(run?.tokens)).join(" · ");
  const element = make("button", {
    type: "button", class: "row", "data-number": number, "aria-current": number === current ? "true" : "false",
    "aria-setsize": visible.length, "aria-posinset": place + 1, on: { click: () => open(number) },
  },
  make("span", { class: "marks" }, ...entry.runs.map((run, i) => badge(run, index.runs === 2 ? "AB"[i] : ""))),
  make("span", { class: "row-text", dir: "auto" }, ...drawn(entry.text || "(no text)", false, true)),
  make("span", { class: "row-facts" }, `${index.tasks > 1 ? `${entry.task} ` : ""}#${entry.doc}${entry.repeat ? `.${entry.repeat}` : ""}`,
    make("i", {}, `${costs} tokens`), overBudget(entry) && make("i", { class: "over" }, "budget")));
  element.style.top = `${place * ROW}px`;
  return element;
};

const showRows = () => {
  const list = document.getElementById("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - AROUND);
  const last = Math.min(visible.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + AROUND);
  const rows = [];
  for (let place = first; place < last; place += 1) rows.push(row(place));
  document.getElementById("rows").replaceChildren(...rows);
};

const scrollToCurrent = () => {
  const list = document.getElementById("list");
  const place = visible.indexOf(current);
  if (place < 0) return;
  const top = place * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
};
