/* The figures beside the scores: how late decisions are (mean), how long the server takes (median), at what rate poses go
   out. */

import { $ } from "./page.js";

const MEMORY = 60; // poses

export class Figures {
  reset() {
    [this.delays, this.trips, this.times, this.underway] = [[], [], [], []];
  }

  /** After a pause, or for a new session: neither the rate nor the way of a pose goes across it. */
  interrupt() {
    [this.times, this.underway] = [[], []];
  }

  sent(frames) {
    const now = performance.now();
    this.times = [...this.times, ...frames.map(() => now)].slice(-MEMORY);
    this.underway = [...this.underway, ...frames.map(({ t }) => ({ t, now }))].slice(-MEMORY);
  }

  /** Scores came for media time `t`. */
  scored(t) {
    const of = this.underway.findIndex((pose) => pose.t >= t - 1e-3); // the first pose by which they could be known
    if (of < 0) return;
    this.trips = [...this.trips, performance.now() - this.underway[of].now].slice(-MEMORY);
    this.underway.splice(0, of + 1);
  }

  /** A segment became final so many media seconds after its end. */
  decided(seconds) {
    this.delays.push(seconds);
  }

  /** cost: milliseconds that finding a pose takes, where it is done in this browser. */
  draw(running, cost) {
    const { delays, trips, times } = this;
    const span = times.at(-1) - times[0];
    const rate = running && times.length > 10 && span > 0 && ((times.length - 1) * 1000) / span;
    put("delay", delays.length && (delays.reduce((a, b) => a + b) / delays.length).toFixed(2));
    put("latency", trips.length && trips.toSorted((a, b) => a - b)[trips.length >> 1].toFixed(0));
    put("rate", rate && rate.toFixed(1));
    $("cost").textContent = cost ? `${cost.toFixed(0)} ms a pose` : "poses sent";
  }
}

function put(id, text) {
  if ($(id).textContent !== (text || "–")) $(id).textContent = text || "–";
}
