/* The camera of this machine. Its clock goes on in a pause, as what it sees does. */

import { Trouble } from "../page.js";
import { Picture } from "./picture.js";

const REFUSALS = {
  NotAllowedError: "The camera was refused. Allow it for this page in the browser’s address bar, then try again.",
  NotFoundError: "No camera was found. Connect one, then try again.",
  NotReadableError: "The camera is in use by another program. Close that one, then try again.",
};

export class Webcam extends Picture {
  constructor() {
    super();
    Object.assign(this, { name: "webcam", mirrored: true, live: true, duration: Infinity, ended: false });
  }

  async show() {
    if (!navigator.mediaDevices) throw new Trouble("Browsers give a camera only to pages from https or from localhost.");
    const wanted = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    } catch ({ name, message }) {
      throw new Trouble(REFUSALS[name] ?? `The camera could not be opened: ${message}.`);
    }
    if (this.closed) return this.release();
    this.stream.getVideoTracks()[0].onended = () => (this.ended = true); // unplugged, or allowed no longer
    this.picture.srcObject = this.stream;
    await this.picture.play();
    this.opened = performance.now();
  }

  get time() {
    return this.opened ? ((this.left ?? performance.now()) - this.opened) / 1000 : 0;
  }

  stamp() {
    return this.time;
  }

  pause(on) {
    this.paused = on;
    if (on) this.picture.pause();
    else this.picture.play();
  }

  begin() {}
  seek() {}

  release() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.picture.srcObject = null;
  }

  close() {
    this.left ??= performance.now();
    super.close();
    this.release();
  }
}
