/* A moving picture in which poses are found here, in the browser. The webcam and the video file are two of it.

   One picture at a time is with the worker; those that come meanwhile are passed over, so the rate of poses is what the machine
   can do and the delay stays one picture. */

import { $, Trouble } from "../page.js";
import { ask } from "../server.js";
import { Body, Poses } from "../poses.js";

const KEEP = 600; // seconds of poses kept for replay

/** Which of the extractor's files the server lacks; none is what is wanted. Raises Trouble. */
export const missing = async () => (await ask("vision")).missing;

export class Picture {
  constructor() {
    Object.assign(this, { layout: "blazepose33", coordinates: { space: "world_m", dims: 3, y_axis: "down", facing: "-z" } });
    Object.assign(this, { picture: $("picture"), truth: [], found: [], last: -Infinity });
  }

  async open() {
    this.poses = new Poses(await Body.of(this.layout, this.coordinates), [], KEEP);
    await Promise.all([this.show(), this.start()]);
    if (this.closed) throw new Trouble("it was closed");
    this.await();
  }

  start() {
    this.worker = new Worker(new URL("landmarker.js", import.meta.url), { type: "module" });
    return new Promise((resolve, reject) => {
      const fail = (why) => reject(new Trouble(`the pose model could not be started: ${why}`));
      this.worker.onerror = ({ message }) => fail(message);
      this.worker.onmessage = ({ data: { fault } }) => (fault ? fail(fault) : resolve());
    }).then(() => (this.worker.onmessage = ({ data }) => this.receive(data)));
  }

  await() {
    this.waiting = this.picture.requestVideoFrameCallback((_, { mediaTime }) => {
      this.await();
      this.look(this.stamp(mediaTime));
    });
  }

  async look(t) {
    if (this.closed || this.busy || this.paused || this.seeking || t <= this.last) return;
    [this.busy, this.last] = [true, t];
    try {
      const picture = await createImageBitmap(this.picture);
      this.worker.postMessage({ picture, t }, [picture]);
    } catch {
      this.busy = false; // the picture was taken away in the meantime
      this.searched?.();
    }
  }

  receive({ world, image, ms }) {
    const frame = { t: this.last, people: world ? [{ id: "person", kp: world }] : [], landmarks: image };
    [this.busy, this.cost] = [false, ms];
    if (this.closed) return;
    this.poses.push(frame);
    this.found.push(frame);
    this.searched?.();
  }

  take() {
    return this.found.splice(0);
  }

  close() {
    this.closed = true;
    this.worker?.terminate();
    this.picture.cancelVideoFrameCallback(this.waiting);
    this.picture.pause();
  }
}
