/* The scripted actor: the only source whose true segments are known. */

import { ask } from "../server.js";
import { Recording } from "./recording.js";

const SECONDS = 60;

export class Actor extends Recording {
  constructor(seed) {
    super();
    Object.assign(this, { seed, name: `actor ${seed}` });
  }

  async open() {
    const { fps, layout, coordinates, frames, segments } = await ask(`demo/actor.json?seed=${this.seed}&seconds=${SECONDS}`);
    const seen = frames.map((kp, i) => ({ t: i / fps, people: [{ id: "actor", kp }] }));
    await this.load({ layout, coordinates, fps, frames: seen });
    this.truth = segments;
  }
}
