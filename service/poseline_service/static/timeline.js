/* Segments over media time, one row a class: hatched while provisional, solid once final, fading when retracted.

   Positions are CSS arithmetic on custom properties, so a frame changes three numbers and no segment. */

import { $, calm, clamp, element, hue, minutes, vars, words } from "./page.js";

export class Timeline {
  constructor(root) {
    this.root = root;
    this.track = root.querySelector(".track");
    this.lanes = new Map(); // label -> its row
    this.segments = new Map(); // segment_id -> {node, label, start, end, open}
  }

  reset({ segments, frames, fps }) {
    this.duration = frames.length / fps;
    this.lanes.forEach((lane) => lane.remove());
    this.lanes.clear();
    this.segments.clear();
    this.now = 0;
    this.view = { from: 0, span: this.span() };
    this.truth = segments.map(({ label, start, end }) => {
      const node = element("li", "segment performed ahead", words(label));
      node.title = `${words(label)}, ${start.toFixed(1)}–${end.toFixed(1)} s`;
      vars(node, { start, end, hue: hue(label) });
      return { node, start, end };
    });
    $("truth").replaceChildren(...this.truth.map(({ node }) => node));
    const ticks = Array.from({ length: Math.floor(this.duration / 5) + 1 }, (_, i) => {
      const tick = element("span", "tick", minutes(i * 5));
      vars(tick, { start: i * 5 });
      return tick;
    });
    $("ruler").replaceChildren(...ticks);
    this.count();
  }

  /** Seconds in view: twenty, fewer on a phone. */
  span() {
    return clamp(this.track.clientWidth / 36, 8, 20);
  }

  take({ type, segment_id: id, ...message }) {
    let segment = this.segments.get(id);
    if (type === "segment.retracted") return segment && this.retract(id, segment);
    if (!segment) {
      segment = { node: element("li", "segment"), end: message.start };
      this.segments.set(id, segment);
    }
    Object.assign(segment, message, { open: type !== "segment.final" });
    this.place(segment);
    this.count();
  }

  place({ node, label, start, end, score, open }) {
    const reel = this.lane(label).querySelector(".reel");
    const former = node.parentElement;
    if (former !== reel) reel.append(node); // a provisional segment may change its label
    if (former && former !== reel) this.release(former.closest(".lane"));
    node.classList.toggle("open", open);
    vars(node, { start, end, heard: Math.max(end, this.now), hue: hue(label) });
    node.title = `${words(label)}, ${start.toFixed(1)}–${end.toFixed(1)} s, score ${score.toFixed(2)}${open ? ", provisional" : ""}`;
    node.setAttribute("aria-label", node.title);
  }

  retract(id, { node }) {
    this.segments.delete(id);
    node.classList.add("retracted");
    setTimeout(() => {
      const lane = node.closest(".lane");
      node.remove();
      if (lane) this.release(lane);
    }, 500);
  }

  lane(label) {
    let lane = this.lanes.get(label);
    if (!lane) {
      lane = element("div", "lane", element("h3", "", words(label)));
      lane.append(element("div", "track", element("ol", "reel")));
      lane.dataset.label = label;
      this.lanes.set(label, lane);
      $("lanes").append(lane);
    }
    return lane;
  }

  /** Closes a row that has nothing left to show, as after a false start. */
  release(lane) {
    if (lane.querySelector(".segment") || this.lanes.get(lane.dataset.label) !== lane) return;
    this.lanes.delete(lane.dataset.label);
    this.count();
    lane.classList.add("leaving");
    setTimeout(() => lane.remove(), 400);
  }

  /** The label of the youngest open segment. */
  current() {
    return [...this.segments.values()].findLast(({ open }) => open)?.label;
  }

  count() {
    const finals = [...this.segments.values()].filter(({ open }) => !open).length;
    this.root.dataset.finals = $("finals").textContent = finals;
    $("empty").hidden = this.lanes.size > 0;
    vars(this.root, { count: this.lanes.size });
  }

  /** Follows the clock with the line near the right edge; `whole` shows the finished timeline in one piece. */
  draw(now, dt, whole) {
    this.now = now;
    this.root.classList.toggle("whole", whole);
    const span = whole ? this.duration : this.span();
    const from = whole ? 0 : Math.max(0, now - 0.94 * span);
    const ease = whole && !calm.matches ? 1 - Math.exp(-dt / 0.35) : 1;
    this.view.span += (span - this.view.span) * ease;
    this.view.from += (from - this.view.from) * ease;
    const scale = this.track.clientWidth / this.view.span;
    vars(this.root, { pps: `${scale}px`, shift: `${-this.view.from * scale}px`, now });
    let acted = 0;
    for (const { node, start, end } of this.truth) {
      node.classList.toggle("ahead", start >= now);
      acted += end <= now;
    }
    $("acted").textContent = `for ${acted} action${acted === 1 ? "" : "s"}`;
  }
}
