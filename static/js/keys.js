// Single keys for staff: `/` searches, `?` helps, `j` and `k` go from row to row, `x` ticks. A switch turns all of them off.
const OFF = "rollcall-keys-off";
const box = document.querySelector("#q");
const help = document.querySelector("#keys");
const on = help.querySelector("[data-on]");
const opener = document.querySelector("[data-keys]");

function typing(target) {
  return target instanceof HTMLElement && (target.isContentEditable || target.matches("input:not([type=checkbox]), select, textarea"));
}

function here() {
  return document.activeElement.closest("main tbody tr");
}

function move(step) {
  const rows = [...document.querySelectorAll("main tbody tr")].filter((row) => row.checkVisibility());
  const row = here() ? rows[rows.indexOf(here()) + step] : rows[0];
  if (!row) return;
  row.tabIndex = -1;
  row.focus();
}

const KEYS = {
  "/": () => (box.focus(), box.select()),
  "?": () => help.showModal(),
  j: () => move(1),
  k: () => move(-1),
  x: () => here()?.querySelector("[name=reference]")?.click(),
};

function use(wanted) {
  on.checked = wanted;
  if (wanted) box.setAttribute("aria-keyshortcuts", "/");
  else box.removeAttribute("aria-keyshortcuts");
}

addEventListener("keydown", (event) => {
  if (!on.checked || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (!Object.hasOwn(KEYS, event.key) || typing(event.target) || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  KEYS[event.key]();
});

on.addEventListener("change", () => {
  if (on.checked) localStorage.removeItem(OFF);
  else localStorage.setItem(OFF, "1");
  use(on.checked);
});
addEventListener("pageshow", () => use(!localStorage.getItem(OFF)));

opener.hidden = false;
opener.addEventListener("click", () => help.showModal());
