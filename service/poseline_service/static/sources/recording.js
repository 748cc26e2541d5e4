/* Poses that are all known before the first is sent. Media time advances with the page's frames only, so a hidden tab or a
   pause stops it, and what has been sent is always exactly what the clock has passed.

   Every source has this interface:
     name, layout, coordinates, fps           what it is called; what `session.start` says
     poses, truth, duration                   what was seen (Poses); labelled segments; seconds, Infinity if it has no end
     picture, mirrored, live                  a <video>, or undefined; shown as a mirror does; cannot be held
     time, ended                              seconds on its clock; nothing will follow
     cost                                     milliseconds that finding a pose takes, where it is done here
     open()    promise; raises Trouble        begin()    somebody listens from now on
     take(dt)  frames since the last call     pause(on)  stop for a while
     seek(t)   play the picture from there, if it can be had again; without t, go on where it was left
     shown     time of the picture that was sought
     close()   give everything back
*/

import { Body, Poses } from "../poses.js";

const MOST = 64; // frames in one message, of which a page that was held up may owe more

export class Recording {
  constructor() {
    [this.time, this.sent, this.truth] = [0, 0, []];
  }

  async load({ layout, coordinates, fps, frames }) {
    Object.assign(this, { layout, coordinates, fps });
    this.poses = new Poses(await Body.of(layout, coordinates), frames);
    this.duration = frames.at(-1).t + (fps ? 1 / fps : 0);
  }

  take(dt) {
    if (this.paused) return [];
    this.time = Math.min(this.time + dt, this.duration);
    let end = this.poses.index(this.time) + 1;
    if (end > this.sent + MOST) {
      end = this.sent + MOST;
      this.time = this.poses.frames[end - 1].t;
    }
    const due = this.poses.frames.slice(this.sent, end);
    this.sent += due.length;
    return due;
  }

  get ended() {
    return this.sent === this.poses.frames.length;
  }

  pause(on) {
    this.paused = on;
  }

  begin() {}
  seek() {}
  close() {}
}
