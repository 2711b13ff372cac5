// The open question, and the keys for moving between questions.

let current = -1;

const nameOf = (entry) => `${entry.task}/${entry.doc}/${entry.repeat ?? 0}`;

const open = (number, byUser = true) => {
  current = number;
  for (const old of document.querySelectorAll('.row[aria-current="true"]')) old.setAttribute("aria-current", "false");
  document.querySelector(`.row[data-number="${number}"]`)?.setAttribute("aria-current", "true");
  if (byUser) {
    document.body.classList.add("reading");
    history.replaceState(null, "", `#${encodeURIComponent(nameOf(index.questions[number]))}`);
  }
  return show(number);
};

const move = (by, wanted = () => true) => {
  const from = visible.indexOf(current);
  for (let place = from < 0 && by < 0 ? visible.length - 1 : from + by; place >= 0 && place < visible.length; place += by) {
    if (wanted(index.questions[visible[place]])) {
      open(visible[place]);
      scrollToCurrent();
      showRows();
      return;
    }
  }
};

const toggleTheme = () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
    || (getComputedStyle(document.documentElement).colorScheme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
};

const KEYS = {
  j: () => move(1), ArrowRight: () => move(1),
  k: () => move(-1), ArrowLeft: () => move(-1),
  d: () => move(1, differs), D: () => move(-1, differs),
  t: toggleTheme,
  "/": () => document.getElementById("search").focus(),
};

document.addEventListener("keydown", (event) => {
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
  if (typing && event.key === "Escape") event.target.blur();
  const scrolling = event.key.startsWith("Arrow") && event.target.closest(".map, .scroll");
  if (typing || scrolling || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

const press = (id, run) => document.getElementById(id)?.addEventListener("click", run);
press("next", () => move(1));
press("previous", () => move(-1));
press("difference", () => move(1, differs));
press("back", () => document.body.classList.remove("reading"));
press("theme", toggleTheme);

let typed = 0;
document.getElementById("search").addEventListener("input", (event) => {
  clearTimeout(typed);
  typed = setTimeout(() => {
    filters.words = event.target.value.trim().toLowerCase();
    applyFilters();
  }, 150);
});
document.getElementById("category").addEventListener("change", (event) => {
  filters.category = event.target.value;
  applyFilters();
});
document.getElementById("order").addEventListener("change", (event) => {
  filters.order = event.target.value;
  applyFilters();
});
document.getElementById("list").addEventListener("scroll", () => requestAnimationFrame(showRows), { passive: true });
addEventListener("resize", showRows);

showChips();
showCategories();
showOrders();
await applyFilters();
const asLinked = index.questions.findIndex((entry) => `#${encodeURIComponent(nameOf(entry))}` === location.hash);
if (index.questions.length) await open(Math.max(asLinked, 0), asLinked >= 0);
scrollToCurrent();
document.body.dataset.ready = performance.now();
