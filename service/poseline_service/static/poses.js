/* What a source has seen, by media time: sent to the server as it came, drawn as the sixteen joints of body16.

   The server tells how any layout becomes body16 (`to_body16`), so this page knows no layout. Axes and facing are turned as
   docs/protocol.md says; size and floor are guessed, for the eye alone. */

import { clamp } from "./page.js";
import { ask } from "./server.js";

const TORSO = 0.5; // metres from pelvis to neck; what is far from it is in another unit
const ANKLE = 0.085; // metres over the floor
const HOLD = 1; // seconds for which a pose stays drawn while the next one is awaited; slow machines find few
const [PELVIS, NECK, ANKLES] = [0, 2, [12, 15]];

/** How one layout in one kind of coordinates becomes body16: metres, y up, facing +z. */
export class Body {
  constructor(toBody16, { y_axis: up, facing = "-z", mirrored = false }, mirror) {
    this.parts = toBody16;
    this.twin = mirrored ? mirror : undefined;
    const [y, z] = [up === "down" ? -1 : 1, facing === "-z" ? -1 : 1];
    this.signs = [y * z * (mirrored ? -1 : 1), y, z]; // turned, never reflected, unless the picture was
    [this.scale, this.floor] = [1, undefined];
  }

  static async of(layout, coordinates) {
    const { to_body16: toBody16, mirror } = await ask(`v1/layouts/${encodeURIComponent(layout)}`);
    return new Body(toBody16, coordinates, mirror);
  }

  /** kp as on the wire; joints that are missing are undefined. */
  joints(kp) {
    return this.parts.map((made) => {
      const sum = [0, 0, 0];
      let weight = 0;
      for (const [j, w] of made) {
        const joint = kp[this.twin ? this.twin[j] : j];
        if (!joint || joint[3] === 0) continue;
        weight += w;
        for (let axis = 0; axis < 3; axis++) sum[axis] += w * joint[axis];
      }
      return weight ? sum.map((x, axis) => ((x / weight) * this.signs[axis]) * this.scale) : undefined;
    });
  }

  /** Sizes a whole recording: its unit from the torsos, one floor unless the pelvis never rises nor falls. */
  fit(poses) {
    const known = poses.map((kp) => this.joints(kp)).filter((pose) => pose[PELVIS] && pose[NECK]);
    if (!known.length) return;
    const torso = quantile(known.map((pose) => Math.hypot(...pose[NECK].map((x, axis) => x - pose[PELVIS][axis]))), 0.5);
    if (torso < 0.5 * TORSO || torso > 1.6 * TORSO) this.scale = TORSO / torso;
    const heights = known.map((pose) => pose[PELVIS][1] * this.scale);
    const feet = known.map((pose) => lowest(pose) * this.scale).filter(Number.isFinite);
    const moves = quantile(heights, 0.95) - quantile(heights, 0.05) > 0.02;
    if (feet.length) this.floor = moves ? quantile(feet, 0.05) : undefined;
  }

  /** On the floor of the stage: on the recording's, or else on the lower foot. */
  place(joints) {
    const lift = ANKLE - (this.floor ?? lowest(joints));
    return Number.isFinite(lift) ? joints.map((joint) => joint && [joint[0], joint[1] + lift, joint[2]]) : joints;
  }
}

const lowest = (pose) => Math.min(...ANKLES.map((i) => pose[i]?.[1] ?? Infinity));
const quantile = (values, q) => values.toSorted((a, b) => a - b)[Math.floor(q * (values.length - 1))];

/** Frames in rising time, {t, people: [{id, kp}]}, with `landmarks` where they were found in a picture. */
export class Poses {
  /** keep: seconds after which a frame is forgotten; a camera never ends. */
  constructor(body, frames = [], keep = Infinity) {
    Object.assign(this, { body, frames, keep });
    if (frames.length) body.fit(frames.flatMap(({ people }) => people.map(({ kp }) => kp)));
  }

  push(frame) {
    this.frames.push(frame);
    const old = this.frames.findIndex(({ t }) => t >= frame.t - this.keep);
    if (old > 300) this.frames.splice(0, old); // seldom, as it moves all the others
  }

  get start() {
    return this.frames[0]?.t ?? Infinity;
  }

  /** Number of the last frame at `t` or before it; -1 if there is none. */
  index(t) {
    let [low, high] = [0, this.frames.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.frames[middle].t <= t) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** The frame that holds at `t`, for what is drawn over a picture. */
  frame(t) {
    const frame = this.frames[this.index(t)];
    return frame && t - frame.t < HOLD ? frame : undefined;
  }

  /** Everybody on the stage at `t`: (16, 3) each; between two frames the pose is their mean. */
  at(t) {
    const i = Math.max(0, this.index(t));
    const [one, next] = [this.frames[i], this.frames[i + 1]];
    if (!one || Math.abs(t - one.t) > HOLD) return [];
    const between = next ? clamp((t - one.t) / (next.t - one.t), 0, 1) : 0;
    return one.people.flatMap(({ id, kp }) => {
      const now = this.body.joints(kp);
      const later = next?.people.find((person) => person.id === id);
      const then = later && next.t - one.t < HOLD ? this.body.joints(later.kp) : now;
      const pose = now.map((joint, j) => (joint && then[j] ? joint.map((x, axis) => x + (then[j][axis] - x) * between) : joint));
      return pose[PELVIS] ? [this.body.place(pose)] : [];
    });
  }
}
