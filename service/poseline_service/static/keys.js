/* Shortcuts of one key, and the list of them. They can be turned off, for who speaks to the machine. */

import { $ } from "./page.js";

const OFF = "poseline.shortcuts-off";

/** actions: by key, as KeyboardEvent names it, in lower case. */
export function shortcuts(actions) {
  $("single").checked = !localStorage.getItem(OFF);
  $("single").addEventListener("change", ({ target }) => (target.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "1")));
  $("help").addEventListener("click", () => $("keys").showModal());

  document.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || $("keys").open) return;
    const typed = key.length === 1;
    // A key that means something to the control it goes to is left to it.
    if (typed && (!$("single").checked || event.target.matches(":read-write"))) return;
    if (key === " " && event.target.closest("button, input, label")) return;
    const action = key === "?" ? () => $("keys").showModal() : actions[key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
