// LaTeX in texts, drawn by KaTeX, which creates elements and parses no markup. Other formulas are shown as text.

const LONGEST = 4000;  // characters of one formula
const DRAWN = { throwOnError: false, trust: false, strict: "ignore", maxSize: 12, maxExpand: 300, errorColor: "currentColor" };
const OPENING = /\\\$|\\\(|\\\[|\$\$|\$|\\boxed\s*\{|\\begin\s*\{([a-zA-Z]+\*?)\}/g;
const CLOSING = { "\\(": "\\)", "\\[": "\\]", $$: "$$" };

// The end of a group that was opened before `from`, -1 if it is not closed.
const groupEnd = (text, from) => {
  let open = 1;
  for (let i = from; i < Math.min(text.length, from + LONGEST); i += 1) {
    if (text[i] === "\\") i += 1;
    else if (text[i] === "{") open += 1;
    else if (text[i] === "}" && (open -= 1) === 0) return i;
  }
  return -1;
};

// As in Pandoc, without spaces inside the dollars and without a digit after them. "$5 and $6" and "$5, or 5$" are prices.
const dollarEnd = (text, from) => {
  let end = from;
  while (end < text.length && !"$\n".includes(text[end])) end += text[end] === "\\" ? 2 : 1;
  const inner = text.slice(from, end);
  const price = /^\d[^\\^_]*\s[a-z]{2,}/.test(inner) && !/[\\^_]/.test(inner);
  return text[end] === "$" && /^\S(.*\S)?$/.test(inner) && !/\d/.test(text[end + 1] ?? "") && !price ? end : -1;
};

const WORDS = /[A-Za-z]{2,}\s+[A-Za-z]{2,}/;

// The formula that begins with a match of `OPENING`, or null.
const formulaAt = (text, match) => {
  const [opening, name] = match;
  const from = match.index + opening.length;
  const whole = (end, tex, display) => (end < 0 ? null : { tex, display, source: text.slice(match.index, end) });
  if (opening === "\\$") return null;
  if (opening.startsWith("\\boxed")) {
    const end = groupEnd(text, from);
    const inner = text.slice(from, end);
    if (!inner.trim()) return null;
    return whole(end < 0 ? -1 : end + 1, WORDS.test(inner) && !inner.includes("\\") ? `\\boxed{\\text{${inner}}}` : `\\boxed{${inner}}`, false);
  }
  if (name !== undefined) {
    const end = text.indexOf(`\\end{${name}}`, from);
    const last = end < 0 || end - from > LONGEST ? -1 : end + `\\end{${name}}`.length;
    return whole(last, text.slice(match.index, last), true);
  }
  if (opening === "$") {
    const end = dollarEnd(text, from);
    return whole(end < 0 ? -1 : end + 1, text.slice(from, end), false);
  }
  const end = text.indexOf(CLOSING[opening], from);
  const empty = end >= 0 && !text.slice(from, end).trim();
  return whole(end < 0 || empty || end - from > LONGEST ? -1 : end + 2, text.slice(from, end), opening !== "\\(");
};

// Splits a text into strings and formulas.
const formulasIn = (text) => {
  const parts = [];
  let from = 0;
  OPENING.lastIndex = 0;
  for (let match = OPENING.exec(text); match; match = OPENING.exec(text)) {
    const found = formulaAt(text, match);
    if (!found) continue;
    parts.push(text.slice(from, match.index), found);
    from = match.index + found.source.length;
    OPENING.lastIndex = from;
  }
  return [...parts, text.slice(from)].filter((part) => part !== "");
};

// The page's content policy forbids `style` attributes, which KaTeX uses. They are set as properties instead.
const renameStyles = (node) => {
  if (node.attributes?.style) {
    node.attributes["data-style"] = node.attributes.style;
    delete node.attributes.style;
  }
  for (const child of node.children ?? []) renameStyles(child);
};

const styled = (element) => {
  for (const one of element.querySelectorAll("[data-style]")) one.style.cssText = one.dataset.style;
  return element;
};

const formula = ({ tex, display, source }) => {
  if (tex.length > LONGEST) return source;
  try {
    const tree = katex.__renderToDomTree(tex, { ...DRAWN, displayMode: display });
    if (tree.classes.includes("katex-error")) return source;
    renameStyles(tree);
    return styled(make("span", { class: display ? "maths display" : "maths", dir: "ltr", title: source }, tree.toNode()));
  } catch {
    return source;
  }
};

const withMaths = typeof katex !== "undefined";

// An answer is often a formula without delimiters: "\frac{1}{2}".
const bare = (text) => /\\[a-zA-Z%]|\^/.test(text) && !WORDS.test(text) && !/[$\n]|\\[([]|\\boxed/.test(text);

const drawn = (text, answer = false, inline = false) => {
  if (!withMaths) return [text];
  const parts = answer && bare(text) ? [{ tex: text, display: false, source: text }] : formulasIn(text);
  return parts.map((part, i) => {
    if (typeof part !== "string") return formula(inline ? { ...part, display: false } : part);
    if (inline) return part;
    const start = parts[i - 1]?.display ? part.trimStart() : part;  // a displayed formula has its own margin
    return parts[i + 1]?.display ? start.trimEnd() : start;
  });
};

// Formulas of thousands of candidates take seconds, so each text is drawn when it becomes visible.
const viewed = withMaths && new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    viewed.unobserve(target);
    target.replaceChildren(...drawn(target.textContent, target.dataset.answer !== undefined));
    for (const one of target.querySelectorAll(".maths")) {
      one.classList.toggle("large", one.scrollWidth > one.clientWidth + 2 || one.scrollHeight > one.clientHeight + 40);
    }
  }
}, { rootMargin: "200px", scrollMargin: "200px" });

const withFormulas = (element, answer = false) => {
  if (answer) element.dataset.answer = "";
  const found = (text) => (answer && bare(text)) || formulasIn(text).some((part) => typeof part !== "string");
  if (withMaths && found(element.textContent)) viewed.observe(element);
  return element;
};

const forgetFormulas = () => viewed && viewed.disconnect();  // of the previous question
