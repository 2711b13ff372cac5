// Elements. Texts of models, tasks and users are set as `textContent` and never parsed as markup.

const make = (name, given = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "on") for (const [event, run] of Object.entries(value)) element.addEventListener(event, run);
    else if (key === "class") element.className = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
};

const draw = (name, given = {}, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(given)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
};

const SHOWN = 1200;

// Long texts are folded at first. Each text has its own direction, which does not affect its surroundings.
const written = (text, limit = SHOWN) => {
  const body = withFormulas(make("span", { class: "written", dir: "auto" }, text.length > limit ? `${text.slice(0, limit)}…` : text));
  if (text.length <= limit) return body;
  const more = make("button", { type: "button", class: "more" }, `show all ${text.length.toLocaleString("en")} characters`);
  more.addEventListener("click", (event) => {
    event.stopPropagation();
    event.preventDefault();
    body.textContent = text;
    withFormulas(body);
    more.remove();
  });
  return make("span", {}, body, " ", more);
};

const writtenAnswer = (text) => withFormulas(make("span", { class: "written", dir: "auto" }, short(text, 200)), true);

const short = (text, limit) => (text.length > limit ? `${text.slice(0, limit - 1)}…` : text);

const count = (number) => (number ?? null) === null ? "–" : Math.round(number).toLocaleString("en");

const decimal = (number) => {
  if ((number ?? null) === null) return "–";
  if (number !== 0 && Math.abs(number) < 0.005) return number.toExponential(0);
  return number.toFixed(2);
};

const seconds = (number) => (number ?? null) === null ? "–" : number < 10 ? number.toFixed(2) : number.toFixed(0);

// From coral (0) through yellow to green (1), distinguishable with red-green blindness. The number is shown as well.
const colour = (score) => {
  if ((score ?? null) === null) return "var(--unscored)";
  const [from, to, share] = score < 0.5 ? ["low", "middle", score * 2] : ["middle", "high", score * 2 - 1];
  return `color-mix(in oklab, var(--score-${to}) ${(100 * share).toFixed(0)}%, var(--score-${from}))`;
};
