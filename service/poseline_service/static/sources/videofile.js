/* A video file, at its own pace; media time is the video's. */

import { Trouble } from "../page.js";
import { Picture } from "./picture.js";

export class VideoFile extends Picture {
  constructor(file) {
    super();
    Object.assign(this, { file, name: file.name });
  }

  /** The first picture is searched before the second is shown: the network's first run is its slowest. */
  async open() {
    await super.open();
    await new Promise((resolve) => {
      this.searched = resolve;
      this.look(0);
    });
  }

  async show() {
    this.url = URL.createObjectURL(this.file);
    this.picture.src = this.url;
    await new Promise((resolve, reject) => {
      this.picture.onloadeddata = resolve;
      this.picture.onerror = () => reject(new Trouble(`${this.name} is no video that this browser can play`));
    });
    this.duration = this.picture.duration;
  }

  begin() {
    return this.picture.play(); // not before somebody listens, so that nothing is lost
  }

  get time() {
    return this.left ?? this.picture.currentTime;
  }

  get seeking() {
    return this.left !== undefined;
  }

  get shown() {
    return this.seeking ? this.picture.currentTime : undefined;
  }

  get ended() {
    return !this.seeking && this.picture.ended && !this.busy && !this.found.length;
  }

  stamp(mediaTime) {
    return mediaTime;
  }

  pause(on) {
    this.paused = on;
    if (this.seeking || this.picture.ended) return;
    if (on) this.picture.pause();
    else this.picture.play();
  }

  seek(t) {
    if (t !== undefined) {
      this.left ??= this.picture.currentTime;
      this.picture.currentTime = t;
      this.picture.play();
    } else if (this.seeking) {
      this.picture.currentTime = this.left;
      if (this.paused || this.left >= this.duration) this.picture.pause();
      this.left = undefined;
    }
  }

  close() {
    super.close();
    this.picture.onloadeddata = this.picture.onerror = null;
    this.picture.removeAttribute("src");
    this.picture.load();
    URL.revokeObjectURL(this.url);
  }
}
