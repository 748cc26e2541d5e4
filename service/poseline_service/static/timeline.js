/* Segments over media time, one row a class (and person): hatched while provisional, solid once final, fading when retracted.

   Positions are CSS arithmetic on custom properties, so a frame changes three numbers and no segment. Finals are one
   stop of the Tab key, within which the arrow keys move. */

import { $, calm, clamp, element, hue, minutes, vars, words } from "./page.js";

const STEPS = [5, 10, 30, 60, 120, 300, 600]; // seconds between ticks
const ROOM = 70; // pixels that a tick's word needs
const LONGEST = 180; // seconds that a finished timeline shows at once

export class Timeline {
  /** again: called with a final segment that is to be seen again. */
  constructor(root, again) {
    this.root = root;
    this.track = root.querySelector(".ruler .track");
    this.lanes = new Map(); // label and track -> its row
    this.segments = new Map(); // segment_id -> {node, label, start, end, open, …}
    this.truth = [];
    this.view = { from: 0, span: this.span() };
    $("lanes").addEventListener("click", ({ target }) => {
      const segment = this.of(target);
      if (segment && !segment.open) again(segment);
    });
    $("lanes").addEventListener("keydown", (event) => this.step(event));
    $("lanes").addEventListener("focusin", ({ target }) => this.reveal(this.of(target)));
    $("follow").addEventListener("click", () => this.follow());
    this.dragging();
  }

  reset({ truth, duration }) {
    this.duration = duration;
    this.lanes.forEach((lane) => lane.remove());
    this.lanes.clear();
    this.segments.clear();
    this.now = this.session = 0;
    this.follow();
    this.root.classList.toggle("untold", !truth.length);
    this.truth = truth.map(({ label, start, end }) => {
      const node = element("li", "segment performed ahead", words(label));
      node.title = `${words(label)}, ${start.toFixed(1)}–${end.toFixed(1)} s`;
      vars(node, { start, end, hue: hue(label) });
      return { node, start, end };
    });
    $("truth").replaceChildren(...this.truth.map(({ node }) => node));
    this.count();
  }

  /** The next session's segments; nobody will end those that the last one left open. */
  renew() {
    this.session++;
    for (const [id, segment] of this.segments) if (segment.open) this.retract(id, segment);
  }

  get finals() {
    return [...this.segments.values()].filter(({ open }) => !open).sort((a, b) => a.start - b.start || a.end - b.end);
  }

  /** Seconds in view: twenty, fewer on a phone. */
  span() {
    return clamp(this.track.clientWidth / 36, 8, 20);
  }

  take({ type, segment_id: name, ...message }) {
    const id = this.session > 1 ? `${this.session}-${name}` : name; // every session counts from one
    let segment = this.segments.get(id);
    if (type === "segment.retracted") return segment && this.retract(id, segment);
    if (!segment) {
      segment = { segment_id: id, node: element("button", "segment"), end: message.start };
      segment.node.type = "button";
      segment.node.tabIndex = -1;
      this.segments.set(id, segment);
    }
    Object.assign(segment, message, { open: type !== "segment.final" });
    this.place(segment);
    this.count();
  }

  place({ node, label, track_id: track, start, end, score, repetitions, open }) {
    const reel = this.lane(label, track).querySelector(".reel");
    const former = node.parentElement;
    if (former !== reel) reel.append(node); // a provisional segment may change its label
    if (former && former !== reel) this.release(former.closest(".lane"));
    node.classList.toggle("open", open);
    node.disabled = open;
    vars(node, { start, end, heard: Math.max(end, this.now), hue: hue(label) });
    const often = repetitions > 1;
    node.textContent = often ? `×${repetitions}` : "";
    node.title = `${words(label)}${often ? `, ${repetitions} times` : ""}, ${start.toFixed(1)}–${end.toFixed(1)} s, score ${score.toFixed(2)}${open ? ", provisional" : ""}`;
    node.setAttribute("aria-label", node.title);
    if (!open && !this.root.querySelector(".segment[tabindex='0']")) node.tabIndex = 0;
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

  lane(label, track) {
    const key = `${label} ${track}`;
    let lane = this.lanes.get(key);
    if (!lane) {
      const tracks = new Set([...this.segments.values()].map(({ track_id: id }) => id));
      lane = element("div", "lane", element("h3", "", tracks.size > 1 ? `${words(label)} · ${track}` : words(label)));
      lane.append(element("div", "track", element("div", "reel")));
      lane.dataset.key = key;
      this.lanes.set(key, lane);
      $("lanes").append(lane);
    }
    return lane;
  }

  /** Closes a row that has nothing left to show, as after a false start. */
  release(lane) {
    if (lane.querySelector(".segment") || this.lanes.get(lane.dataset.key) !== lane) return;
    this.lanes.delete(lane.dataset.key);
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

  // --- looking back ---------------------------------------------------------------------------------------------

  of(node) {
    return [...this.segments.values()].find((segment) => segment.node === node);
  }

  step(event) {
    const finals = this.finals;
    const at = finals.indexOf(this.of(event.target));
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: finals.length - 1 }[event.key];
    if (at < 0 || to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    finals[clamp(to, 0, finals.length - 1)].node.focus();
  }

  /** Makes a segment the Tab key's stop, and moves the view if it is out of sight. */
  reveal(segment) {
    if (!segment) return;
    for (const { node } of this.segments.values()) node.tabIndex = node === segment.node ? 0 : -1;
    const { from, span } = this.view;
    if (segment.start < from || segment.end > from + span) this.look(segment.start - 0.3 * span);
  }

  /** Stays at `from` from now on. */
  look(from) {
    this.held = clamp(from, 0, Math.max(0, this.now - 0.5 * this.view.span));
    $("follow").hidden = false;
  }

  follow() {
    this.held = undefined;
    $("follow").hidden = true;
  }

  dragging() {
    const scale = () => this.view.span / this.track.clientWidth;
    this.root.addEventListener("wheel", (event) => {
      const pixels = event.deltaX || (event.shiftKey ? event.deltaY : 0);
      if (!pixels) return;
      event.preventDefault();
      this.look(this.view.from + pixels * scale());
    }, { passive: false });
    let grip, moved;
    this.root.addEventListener("pointerdown", ({ clientX: x, isPrimary }) => {
      [grip, moved] = [isPrimary ? { x, from: this.view.from } : undefined, false];
    });
    addEventListener("pointermove", ({ clientX: x }) => {
      moved ||= Boolean(grip) && Math.abs(x - grip.x) > 8;
      if (grip && moved) this.look(grip.from + (grip.x - x) * scale());
    });
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => (grip = undefined));
    // What ends a drag is no click.
    this.root.addEventListener("click", (event) => moved && event.detail && event.stopPropagation(), { capture: true });
  }

  // --- every frame ------------------------------------------------------------------------------------------------

  /** Follows the clock with the line near the right edge; `whole` shows the finished timeline in one piece. again: media time
      of a replay, or undefined. */
  draw(now, dt, whole, again) {
    this.now = now;
    this.root.classList.toggle("whole", whole);
    const span = whole ? clamp(now, 5, LONGEST) : this.span();
    const from = this.held ?? Math.max(0, whole ? now - span : now - 0.94 * span);
    const ease = (whole || this.held !== undefined) && !calm.matches ? 1 - Math.exp(-dt / 0.35) : 1;
    this.view.span += (span - this.view.span) * ease;
    this.view.from += (from - this.view.from) * ease;
    const scale = this.track.clientWidth / this.view.span;
    vars(this.root, { pps: `${scale}px`, shift: `${-this.view.from * scale}px`, now, again: again ?? 0 });
    $("again-at").hidden = again === undefined;
    this.ticks(scale);
    let acted = 0;
    for (const { node, start, end } of this.truth) {
      node.classList.toggle("ahead", start >= now);
      acted += end <= now;
    }
    $("acted").textContent = this.truth.length ? `for ${acted} action${acted === 1 ? "" : "s"}` : "";
  }

  /** Only those in sight, made anew when others come into it. */
  ticks(scale) {
    const step = STEPS.find((seconds) => seconds * scale >= ROOM) ?? STEPS.at(-1);
    const first = Math.max(0, Math.floor(this.view.from / step) * step);
    const key = `${step} ${first} ${Math.ceil(this.view.span)}`;
    if (key === this.ruled) return;
    this.ruled = key;
    $("ruler").replaceChildren(...Array.from({ length: Math.ceil(this.view.span / step) + 2 }, (_, i) => {
      const tick = element("span", "tick", minutes(first + i * step));
      vars(tick, { start: first + i * step });
      return tick;
    }));
  }
}
