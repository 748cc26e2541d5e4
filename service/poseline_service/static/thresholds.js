/* The sliders of a running session's thresholds: moved here, answered by the server, shown as they hold there. */

import { $, vars } from "./page.js";

const NAMES = ["min_score", "off_score", "min_duration"];
const PATIENCE = 120; // milliseconds: a slider that is being dragged is not told at every step

export class Thresholds {
  /** change: called with the options that the user chose, once they rest. */
  constructor(change) {
    this.chosen = {};
    this.sliders = Object.fromEntries(NAMES.map((name) => [name, $(name)]));
    for (const name of NAMES) this.sliders[name].addEventListener("input", () => this.move(name, change));
    $("reset").addEventListener("click", () => {
      this.chosen = {};
      change(Object.fromEntries(NAMES.map((name) => [name, null]))); // null: the model's own again
    });
  }

  move(name, change) {
    const { min_score: on, off_score: off } = this.sliders;
    // A segment must not begin to close before it opens: the other slider gives way.
    if (off.valueAsNumber > on.valueAsNumber) (name === "min_score" ? off : on).value = this.sliders[name].value;
    for (const one of NAMES) {
      const value = this.sliders[one].valueAsNumber;
      if (this.effective?.[one] !== value) this.chosen[one] = Number(value.toFixed(3));
    }
    this.label();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => change({ ...this.chosen }), PATIENCE);
  }

  /** What holds at the server, whatever was chosen. */
  show(options) {
    this.effective = options;
    for (const name of NAMES) this.sliders[name].value = options[name];
    this.label();
  }

  label() {
    for (const [name, slider] of Object.entries(this.sliders)) {
      const text = slider.valueAsNumber.toFixed(2);
      $(`${name}-value`).textContent = name === "min_duration" ? `${text} s` : text;
      slider.setAttribute("aria-valuetext", name === "min_duration" ? `${text} seconds` : text);
    }
    vars($("scores"), { on: this.sliders.min_score.value, off: this.sliders.off_score.value });
    $("reset").disabled = !Object.keys(this.chosen).length;
  }
}
