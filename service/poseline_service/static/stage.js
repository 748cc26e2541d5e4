/* The performers: bodies of tapered limbs, sorted by depth, on a floor of dots, seen by a camera that follows. */

import { calm, clamp } from "./page.js";

// Joints of body16, by number.
const [PELVIS, NECK, HEAD, L_ANKLE, R_ANKLE] = [0, 2, 3, 12, 15];
const TRUNK = [4, 7, 13, 10]; // shoulders and hips, around

// Metres: radius [at the first joint, at the second].
const limb = (a, b, tone, ...radii) => ({ ends: [a, b], tone, radii });
const side = (arm, leg, tone) => [
  limb(arm, arm + 1, tone, 0.047, 0.037), limb(arm + 1, arm + 2, tone, 0.037, 0.024),
  limb(leg, leg + 1, tone, 0.072, 0.05), limb(leg + 1, leg + 2, tone, 0.05, 0.03),
];
const LIMBS = [limb(NECK, HEAD, "trunk", 0.048, 0.048), ...side(4, 10, "accent"), ...side(7, 13, "limb")];
const [SKULL, GIRTH, DISTANCE, EYE, PITCH] = [0.108, 0.072, 4.6, 0.99, 0.2];

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

  /** A new scene: the camera goes to whoever comes first. */
  enter() {
    this.centre = undefined;
    this.orbit = 0;
  }

  /** poses: (16, 3) of body16 each, undefined where a joint is missing. */
  draw(poses, dt) {
    const middle = [0, 2].map((axis) => poses.reduce((sum, pose) => sum + pose[PELVIS][axis], 0) / Math.max(1, poses.length));
    this.centre ??= poses.length ? [middle[0], 0, middle[1]] : undefined;
    if (poses.length) {
      const follow = 1 - Math.exp(-dt / 0.9);
      for (const [axis, x] of [[0, middle[0]], [2, middle[1]]]) this.centre[axis] += (x - this.centre[axis]) * follow;
    }
    if (!calm.matches) this.orbit += dt;
    const yaw = -0.55 + 0.3 * Math.sin((this.orbit * 2 * Math.PI) / 45);
    this.camera = { cos: Math.cos(yaw), sin: Math.sin(yaw), cosPitch: Math.cos(PITCH), sinPitch: Math.sin(PITCH) };
    const narrow = this.width < 560; // there the caption stands over the head, not beside it
    this.horizon = this.height * (narrow ? 0.56 : 0.5);
    const spread = Math.max(0, ...poses.map((pose) => Math.hypot(pose[PELVIS][0] - middle[0], pose[PELVIS][2] - middle[1])));
    this.focal = (DISTANCE * Math.min(this.height / (narrow ? 2.8 : 2.45), this.width / 2.1)) / (1 + spread / 2);

    this.pen.clearRect(0, 0, this.width, this.height);
    this.floor(poses);
    const parts = poses.flatMap((pose) => this.parts(pose.map((joint) => joint && this.project(joint))));
    for (const { draw } of parts.sort((one, other) => one.near - other.near)) draw();
  }

  /** World to screen: [x, y, pixels a metre there]; larger scale is nearer. */
  project([x, y, z]) {
    const { cos, sin, cosPitch, sinPitch } = this.camera;
    const [left, , front] = this.centre ?? [0, 0, 0];
    [x, y, z] = [x - left, y - EYE, z - front];
    [x, z] = [x * cos + z * sin, z * cos - x * sin];
    const scale = this.focal / Math.max(0.5, DISTANCE - (y * sinPitch + z * cosPitch));
    return [this.width / 2 + x * scale, this.horizon - (y * cosPitch - z * sinPitch) * scale, scale];
  }

  floor(poses) {
    const { pen } = this;
    pen.fillStyle = this.colour.soft;
    const [left, , front] = this.centre ?? [0, 0, 0];
    const [middleX, middleZ] = [Math.round(left * 2), Math.round(front * 2)];
    for (let a = middleX - 8; a <= middleX + 8; a++) {
      for (let b = middleZ - 8; b <= middleZ + 8; b++) {
        const fade = 1 - Math.hypot(a / 2 - left, b / 2 - front) / 3.6;
        if (fade <= 0) continue;
        const [x, y, scale] = this.project([a / 2, 0, b / 2]);
        pen.globalAlpha = 0.55 * fade * fade;
        pen.beginPath();
        pen.ellipse(x, y, 0.014 * scale, 0.007 * scale, 0, 0, 7);
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
    for (const pose of poses) {
      for (const [joint, radius] of [[PELVIS, 0.5], [L_ANKLE, 0.22], [R_ANKLE, 0.22]]) {
        if (pose[joint]) this.shadow(this.project([pose[joint][0], 0, pose[joint][2]]), radius);
      }
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

  /** What there is of one body, each with its nearness. */
  parts(points) {
    const parts = LIMBS.filter(({ ends: [a, b] }) => points[a] && points[b]).map(({ ends, radii, tone }) => {
      const [a, b] = ends.map((joint) => points[joint]);
      return { near: (a[2] + b[2]) / 2, draw: () => this.limb(a, b, radii, this.colour[tone]) };
    });
    const corners = TRUNK.map((joint) => points[joint]);
    if (corners.every(Boolean)) {
      parts.push({ near: corners.reduce((sum, corner) => sum + corner[2], 0) / 4, draw: () => this.trunk(corners) });
    }
    const head = points[HEAD];
    if (head) parts.push({ near: head[2], draw: () => this.limb(head, head, [SKULL, SKULL], this.colour.trunk) });
    return parts;
  }

  trunk(corners) {
    const { pen, colour } = this;
    const width = 2 * GIRTH * corners[0][2];
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
