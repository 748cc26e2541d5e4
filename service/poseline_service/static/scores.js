/* The current scores of the best classes as bars, and whether the model says that it does not know. */

import { $, clamp, classes, element, hue, vars, words } from "./page.js";

/** Five rows. A class keeps its row while it stays among the best, so bars move and rows do not. */
export class Scores {
  constructor(list) {
    this.rows = Array.from({ length: 5 }, () => {
      const row = { node: element("li", "faint"), name: element("span", "", "–"), value: element("span", ""), bar: element("i", "") };
      const head = element("div", "name", row.name);
      head.append(row.value);
      row.node.append(head, element("div", "level", row.bar));
      list.append(row.node);
      return row;
    });
  }

  show(top, unknown) {
    $("unknown").hidden = !unknown;
    const best = new Map(top.slice(0, this.rows.length));
    const free = this.rows.filter(({ id }) => !best.has(id));
    for (const id of best.keys()) {
      if (!this.rows.some((row) => row.id === id)) free.shift().id = id;
    }
    for (const row of this.rows) {
      const p = best.get(row.id) ?? 0;
      this.name(row);
      row.value.textContent = p.toFixed(2);
      row.node.classList.toggle("faint", p < 0.1);
      vars(row.bar, { p: clamp(p, 0, 1) });
    }
  }

  /** Also while it stays: a class that was enrolled meanwhile is named later than scored. */
  name(row) {
    if (row.id === undefined || row.label === (classes[row.id] ?? `class ${row.id}`)) return;
    row.label = classes[row.id] ?? `class ${row.id}`;
    row.name.textContent = words(row.label);
    row.node.classList.toggle("background", row.id === 0);
    vars(row.node, { hue: hue(row.label) });
  }
}
