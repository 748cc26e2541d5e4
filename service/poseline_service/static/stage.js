/* The performer: a body of tapered limbs, sorted by depth, on a floor of dots, seen by a camera that follows. */

import { calm, clamp } from "./page.js";

// Metres. Limbs by the child joint of the bone: [at the parent, at the child].
const LIMBS = { head: [0.048, 0.048], elbow: [0.047, 0.037], wrist: [0.037, 0.024], knee: [0.072, 0.05], ankle: [0.05, 0.03] };
const [HEAD, TRUNK, DISTANCE, EYE, PITCH] = [0.108, 0.072, 4.6, 0.99, 0.2];

export class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    new ResizeObserver(() => this.fit()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.fit());
    this.fit();
  }

  fit() {
    const style = getComputedStyle(document.documentElement);
    const names = ["card", "shade", "soft", "accent", "limb", "trunk"];
    this.colour = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`)]));
    const scale = Math.min(devicePixelRatio, 2);
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = this.width * scale;
    this.canvas.height = this.height * scale;
    this.pen.setTransform(scale, 0, 0, scale, 0, 0);
  }

  enter({ joints, bones, frames }) {
    this.frames = frames;
    this.index = Object.fromEntries(joints.map((name, i) => [name, i]));
    this.limbs = bones.flatMap(([child, parent]) => {
      const [side, part = side] = joints[child].split("_");
      const tone = { left: "accent", right: "limb" }[side] ?? "trunk";
      return part in LIMBS ? [{ child, parent, radii: LIMBS[part], tone }] : [];
    });
    this.centre = frames[0][0].slice();
    this.orbit = 0;
  }

  /** at: frame number, with a fraction; the pose between two frames is their mean. */
  draw(at, dt) {
    const i = clamp(Math.floor(at), 0, this.frames.length - 1);
    const after = this.frames[Math.min(i + 1, this.frames.length - 1)];
    const pose = this.frames[i].map((joint, j) => joint.map((x, axis) => x + (after[j][axis] - x) * clamp(at - i, 0, 1)));
    const follow = 1 - Math.exp(-dt / 0.9);
    for (const axis of [0, 2]) this.centre[axis] += (pose[0][axis] - this.centre[axis]) * follow;
    if (!calm.matches) this.orbit += dt;
    const yaw = -0.55 + 0.3 * Math.sin((this.orbit * 2 * Math.PI) / 45);
    this.camera = { cos: Math.cos(yaw), sin: Math.sin(yaw), cosPitch: Math.cos(PITCH), sinPitch: Math.sin(PITCH) };
    const narrow = this.width < 560; // there the caption stands over the head, not beside it
    this.horizon = this.height * (narrow ? 0.56 : 0.5);
    this.focal = DISTANCE * Math.min(this.height / (narrow ? 2.8 : 2.45), this.width / 2.1);

    this.pen.clearRect(0, 0, this.width, this.height);
    this.floor(pose);
    this.body(pose.map((joint) => this.project(joint)));
  }

  /** World to screen: [x, y, pixels a metre there]; larger scale is nearer. */
  project([x, y, z]) {
    const { cos, sin, cosPitch, sinPitch } = this.camera;
    [x, y, z] = [x - this.centre[0], y - EYE, z - this.centre[2]];
    [x, z] = [x * cos + z * sin, z * cos - x * sin];
    const scale = this.focal / Math.max(0.5, DISTANCE - (y * sinPitch + z * cosPitch));
    return [this.width / 2 + x * scale, this.horizon - (y * cosPitch - z * sinPitch) * scale, scale];
  }

  floor(pose) {
    const { pen } = this;
    pen.fillStyle = this.colour.soft;
    const [middleX, middleZ] = [Math.round(this.centre[0] * 2), Math.round(this.centre[2] * 2)];
    for (let a = middleX - 8; a <= middleX + 8; a++) {
      for (let b = middleZ - 8; b <= middleZ + 8; b++) {
        const fade = 1 - Math.hypot(a / 2 - this.centre[0], b / 2 - this.centre[2]) / 3.6;
        if (fade <= 0) continue;
        const [x, y, scale] = this.project([a / 2, 0, b / 2]);
        pen.globalAlpha = 0.55 * fade * fade;
        pen.beginPath();
        pen.ellipse(x, y, 0.014 * scale, 0.007 * scale, 0, 0, 7);
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
    for (const [name, radius] of [["pelvis", 0.5], ["left_ankle", 0.22], ["right_ankle", 0.22]]) {
      const [x, , z] = pose[this.index[name]];
      this.shadow(this.project([x, 0, z]), radius);
    }
  }

  shadow([x, y, scale], radius) {
    const { pen } = this;
    const shade = pen.createRadialGradient(0, 0, 0, 0, 0, radius * scale);
    shade.addColorStop(0, this.colour.shade);
    shade.addColorStop(1, "transparent");
    pen.save();
    pen.translate(x, y);
    pen.scale(1, 0.3);
    pen.fillStyle = shade;
    pen.fillRect(-radius * scale, -radius * scale, 2 * radius * scale, 2 * radius * scale);
    pen.restore();
  }

  body(points) {
    const at = (name) => points[this.index[name]];
    const parts = this.limbs.map(({ child, parent, radii, tone }) => {
      const [a, b] = [points[parent], points[child]];
      return { near: (a[2] + b[2]) / 2, draw: () => this.limb(a, b, radii, this.colour[tone]) };
    });
    const corners = ["left_shoulder", "right_shoulder", "right_hip", "left_hip"].map(at);
    parts.push({ near: at("spine")[2], draw: () => this.trunk(corners) });
    parts.push({ near: at("head")[2], draw: () => this.limb(at("head"), at("head"), [HEAD, HEAD], this.colour.trunk) });
    parts.sort((one, other) => one.near - other.near);
    for (const { draw } of parts) draw();
  }

  trunk(corners) {
    const { pen, colour } = this;
    const width = 2 * TRUNK * corners[0][2];
    pen.lineJoin = "round";
    pen.beginPath();
    for (const [x, y] of corners) pen.lineTo(x, y);
    pen.closePath();
    for (const [tone, more] of [[colour.card, 4], [colour.trunk, 0]]) {
      pen.lineWidth = width + more;
      pen.strokeStyle = pen.fillStyle = tone;
      pen.stroke();
      pen.fill();
    }
  }

  /** A tapered capsule with a thin gap of paper around it, which is what tells a limb before the trunk from one in it. */
  limb(a, b, [first, last], colour) {
    const { pen } = this;
    const angle = Math.atan2(b[1] - a[1], b[0] - a[0]);
    pen.beginPath();
    pen.arc(a[0], a[1], first * a[2], angle + Math.PI / 2, angle - Math.PI / 2);
    pen.arc(b[0], b[1], last * b[2], angle - Math.PI / 2, angle + Math.PI / 2);
    pen.closePath();
    pen.strokeStyle = this.colour.card;
    pen.lineWidth = 4;
    pen.stroke();
    pen.fillStyle = colour;
    pen.fill();
  }
}
