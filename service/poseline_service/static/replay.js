/* One segment seen again, over and over, from the poses that were kept: a little before it to a little after. */

const MARGIN = 0.4; // seconds

export class Replay {
  constructor(source, segment) {
    Object.assign(this, { source, segment });
    this.from = Math.max(source.poses.start, segment.start - MARGIN);
    this.to = Math.min(segment.end + MARGIN, source.duration - 0.05);
    this.begin();
  }

  /** Whether the poses of that segment are kept. */
  static possible(source, segment) {
    return source.poses.start <= segment.start + MARGIN;
  }

  begin() {
    this.time = this.from;
    this.source.seek(this.from);
  }

  advance(dt) {
    this.time = this.source.shown ?? this.time + dt;
    if (this.time >= this.to) this.begin();
  }

  close() {
    this.source.seek();
  }
}
