/* The page at `/`: an actor's poses go out over /v1/stream in real time, segments come back and become a timeline.

   Stage draws the body, Timeline the segments, Scores the bars; Stream is the socket. The show at the end owns the
   clock: media time advances with requestAnimationFrame only, so a hidden tab or a pause stops it, and what is sent
   is always exactly what the clock has passed. */

const $ = (id) => document.getElementById(id);
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const words = (label) => label.replaceAll("_", " ");
const minutes = (t) => `${Math.floor(t / 60)}:${String(Math.floor(t % 60)).padStart(2, "0")}`;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

function element(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

/** Custom properties of an element; through the CSSOM, which the Content-Security-Policy allows. */
function vars(node, values) {
  for (const [name, value] of Object.entries(values)) node.style.setProperty(`--${name}`, value);
}

let classes = [];
/** A class keeps its colour as long as the model's list does: neighbours are a golden angle apart. */
function hue(label) {
  const id = classes.indexOf(label);
  return id < 0 ? 0 : (190 + id * 137.508) % 360;
}

// --- the stage -----------------------------------------------------------------------------------------------------

// Metres. Limbs by the child joint of the bone: [at the parent, at the child].
const LIMBS = { head: [0.048, 0.048], elbow: [0.047, 0.037], wrist: [0.037, 0.024], knee: [0.072, 0.05], ankle: [0.05, 0.03] };
const [HEAD, TRUNK, DISTANCE, EYE, PITCH] = [0.108, 0.062, 4.6, 0.92, 0.2];

class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    new ResizeObserver(() => this.fit()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.fit());
    this.fit();
  }

  fit() {
    const style = getComputedStyle(document.documentElement);
    const names = ["card", "ink", "soft", "accent", "limb", "trunk"];
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
    this.bones = bones;
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
    this.focal = DISTANCE * Math.min(this.height / 2.55, this.width / 2.1);

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
    return [this.width / 2 + x * scale, this.height / 2 - (y * cosPitch - z * sinPitch) * scale, scale];
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
    // The shadow is the body flattened on the floor, in one stroke so that limbs do not darken each other.
    const ground = pose.map(([x, , z]) => this.project([x, 0, z]));
    pen.globalAlpha = 0.1;
    pen.strokeStyle = this.colour.ink;
    pen.lineWidth = 0.1 * ground[0][2];
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    for (const [child, parent] of this.bones) {
      pen.moveTo(ground[parent][0], ground[parent][1]);
      pen.lineTo(ground[child][0], ground[child][1]);
    }
    pen.stroke();
    pen.globalAlpha = 1;
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

// --- the timeline --------------------------------------------------------------------------------------------------

class Timeline {
  constructor(root) {
    this.root = root;
    this.track = root.querySelector(".track");
    this.lanes = new Map(); // label -> its row
    this.segments = new Map(); // segment_id -> {node, label, start, end, open}
  }

  reset({ segments, frames, fps }) {
    this.duration = frames.length / fps;
    this.lanes.forEach((lane) => lane.remove());
    this.lanes.clear();
    this.segments.clear();
    this.view = { from: 0, span: this.span() };
    this.truth = segments.map(({ label, start, end }) => {
      const node = element("li", "segment performed ahead", words(label));
      vars(node, { start, end, hue: hue(label) });
      return { node, start, end };
    });
    $("truth").replaceChildren(...this.truth.map(({ node }) => node));
    const ticks = Array.from({ length: Math.floor(this.duration / 5) + 1 }, (_, i) => {
      const tick = element("span", "tick", minutes(i * 5));
      vars(tick, { start: i * 5 });
      return tick;
    });
    $("ruler").replaceChildren(...ticks);
    this.count();
  }

  /** Seconds in view: twenty, fewer on a phone. */
  span() {
    return clamp(this.track.clientWidth / 36, 8, 20);
  }

  take({ type, segment_id: id, ...message }) {
    let segment = this.segments.get(id);
    if (type === "segment.retracted") return segment && this.retract(id, segment);
    if (!segment) {
      segment = { node: element("li", "segment"), end: message.start };
      this.segments.set(id, segment);
    }
    Object.assign(segment, message, { open: type !== "segment.final" });
    this.place(segment);
    this.count();
  }

  place({ node, label, start, end, score, open }) {
    const reel = this.lane(label).querySelector(".reel");
    const former = node.parentElement;
    if (former !== reel) reel.append(node); // a provisional segment may change its label
    if (former && former !== reel) this.release(former.closest(".lane"));
    node.classList.toggle("open", open);
    vars(node, { start, end, seen: end, hue: hue(label) });
    node.title = `${words(label)}, ${start.toFixed(1)}–${end.toFixed(1)} s, score ${score.toFixed(2)}${open ? ", provisional" : ""}`;
    node.setAttribute("aria-label", node.title);
  }

  retract(id, { node }) {
    this.segments.delete(id);
    node.classList.add("retracted");
    setTimeout(() => {
      const lane = node.closest(".lane");
      node.remove();
      if (lane) this.release(lane);
    }, 500);
  }

  lane(label) {
    let lane = this.lanes.get(label);
    if (!lane) {
      lane = element("div", "lane");
      const track = element("div", "track");
      track.append(element("ol", "reel"));
      lane.append(element("h3", "", words(label)), track);
      lane.dataset.label = label;
      this.lanes.set(label, lane);
      $("lanes").append(lane);
    }
    return lane;
  }

  /** Closes a row that has nothing left to show, as after a false start. */
  release(lane) {
    if (lane.querySelector(".segment") || this.lanes.get(lane.dataset.label) !== lane) return;
    this.lanes.delete(lane.dataset.label);
    lane.classList.add("leaving");
    setTimeout(() => lane.remove(), 400);
  }

  finals() {
    return [...this.segments.values()].filter(({ open }) => !open);
  }

  /** The label of the youngest open segment. */
  current() {
    return [...this.segments.values()].findLast(({ open }) => open)?.label;
  }

  count() {
    this.root.dataset.finals = this.finals().length;
    $("finals").textContent = this.root.dataset.finals;
    $("empty").hidden = this.lanes.size > 0;
  }

  /** Follows the clock with the line near the right edge; `whole` shows the finished timeline in one piece. */
  draw(now, dt, whole) {
    const span = whole ? this.duration : this.span();
    const from = whole ? 0 : Math.max(0, now - 0.94 * span);
    const ease = whole && !calm.matches ? 1 - Math.exp(-dt / 0.35) : 1;
    this.view.span += (span - this.view.span) * ease;
    this.view.from += (from - this.view.from) * ease;
    const scale = this.track.clientWidth / this.view.span;
    vars(this.root, { pps: `${scale}px`, shift: `${-this.view.from * scale}px`, now });
    let acted = 0;
    for (const { node, start, end } of this.truth) {
      node.classList.toggle("ahead", start >= now);
      acted += end <= now;
    }
    $("acted").textContent = `for ${acted} action${acted === 1 ? "" : "s"}`;
  }
}

// --- the scores ----------------------------------------------------------------------------------------------------

/** Five rows. A class keeps its row while it stays among the best, so bars move and rows do not. */
class Scores {
  constructor(list) {
    this.rows = Array.from({ length: 5 }, () => {
      const row = { node: element("li", "faint"), name: element("span", "", "–"), value: element("span", ""), bar: element("i", "") };
      const [head, level] = [element("div", "name"), element("div", "level")];
      head.append(row.name, row.value);
      level.append(row.bar);
      row.node.append(head, level);
      list.append(row.node);
      return row;
    });
  }

  show(top) {
    const best = new Map(top.slice(0, this.rows.length));
    const free = this.rows.filter(({ id }) => !best.has(id));
    for (const id of best.keys()) {
      if (this.rows.some((row) => row.id === id)) continue;
      const row = free.shift();
      row.id = id;
      row.name.textContent = words(classes[id] ?? `class ${id}`);
      row.node.classList.toggle("background", id === 0);
      vars(row.node, { hue: hue(classes[id]) });
    }
    for (const row of this.rows) {
      const p = best.get(row.id) ?? 0;
      row.value.textContent = p.toFixed(2);
      row.node.classList.toggle("faint", p < 0.1);
      vars(row.bar, { p: clamp(p, 0, 1) });
    }
  }
}

// --- the stream ----------------------------------------------------------------------------------------------------

const HOPELESS = new Set([1003, 1007, 1008, 1009, 4400, 4409, 4422]); // to come back would end the same way

class Stream {
  constructor(fps, on) {
    const url = new URL("v1/stream", location.href.replace(/^http/, "ws"));
    url.search = location.search.includes("ticket=") ? location.search : "";
    this.socket = new WebSocket(url, ["poseline.v1.json"]);
    this.socket.onopen = () => this.send({
      type: "session.start", layout: "body16", coordinates: { space: "world_m", dims: 3, facing: "+z" }, fps,
      options: { partials: "all", scores_hz: 10 }, client: { name: "poseline-page", version: "1" },
    });
    this.socket.onmessage = ({ data }) => on.message(JSON.parse(data));
    this.socket.onclose = ({ code, reason }) => on.close(code, reason);
    // A pause must not look like a client that went away (the server gives up after 30 s).
    this.pulse = setInterval(() => this.send({ type: "keepalive" }), 10_000);
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  get congested() {
    return this.socket.bufferedAmount > 65_536;
  }

  drop() {
    clearInterval(this.pulse);
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
  }
}

// --- the show ------------------------------------------------------------------------------------------------------

const SECONDS = 60;
const INTERVAL = 12; // seconds for which a finished timeline stays
const MOST = 16; // frames in a message

const stage = new Stage($("stage"));
const timeline = new Timeline($("timeline"));
const scores = new Scores($("scores"));

let seed = Number(new URLSearchParams(location.search).get("seed") ?? 7);
let actor, stream, detail; // the performance, its socket, and the last fatal error's text
let clock, sent, delays, sendTimes; // media seconds, frames, seconds, wall ms
let state, playing = true, waiting = 0, failures = 0, loading = 0;

function enter(next, text, seconds = 0) {
  state = next;
  waiting = seconds;
  $("state").dataset.state = next;
  $("state-text").textContent = text;
}

/** Fetches the performance of `seed` and opens a stream for it; whatever ran before is dropped. */
async function begin() {
  const mine = ++loading;
  stream?.drop();
  stream = undefined;
  $("seed").value = seed;
  enter("connecting", "Connecting");
  try {
    const response = await fetch(`demo/actor.json?seed=${seed}&seconds=${SECONDS}`);
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const loaded = await response.json();
    if (mine !== loading) return;
    actor = loaded;
  } catch (error) {
    if (mine === loading) lost(error instanceof TypeError ? "no connection" : error.message);
    return;
  }
  stage.enter(actor);
  restart();
  stream = new Stream(actor.fps, { message, close });
}

function restart() {
  [clock, sent, delays, sendTimes, detail] = [0, 0, [], [], ""];
  timeline.reset(actor);
  scores.show([]);
  $("delay").textContent = "–";
  $("length").textContent = `/ ${minutes(timeline.duration)} · 1×`;
}

const handlers = {
  "session.started"({ model, classes: names }) {
    classes = names;
    restart(); // now that the colours are known
    failures = 0;
    $("model").textContent = `Model ${model.name} ${model.version}`;
    $("licence").textContent = model.license;
    enter("live", playing ? "Live" : "Paused");
  },
  scores: ({ top }) => scores.show(top),
  "session.draining": () => ($("state-text").textContent = "Live · the server is about to restart"),
  "session.closed"() {
    stream.drop();
    enter("ended", `Finished: ${timeline.finals().length} segments.`, INTERVAL);
  },
  warning: ({ detail: text }) => ($("state-text").textContent = `Live · ${text}`),
  error: ({ detail: text, fatal }) => (fatal ? (detail = text) : handlers.warning({ detail: text })),
};

function message({ type, ...rest }) {
  if (type.startsWith("segment.")) {
    timeline.take({ type, ...rest });
    // What the end of the stream forces out says nothing about how fast the model decides.
    if (type === "segment.final" && rest.forced === "none") delays.push(clock - rest.end);
    if (delays.length) $("delay").textContent = (delays.reduce((a, b) => a + b) / delays.length).toFixed(2);
  } else {
    handlers[type]?.(rest); // later versions may add types
  }
}

function close(code, reason) {
  stream.drop();
  const why = detail || reason || (code === 1006 ? "connection lost" : `closed with code ${code}`);
  if (HOPELESS.has(code)) enter("error", `Stopped: ${why}.`);
  else lost(why);
}

/** Says so and comes back: 0.5 s × 2ⁿ up to 15 s, jittered, so that many pages do not return at once. */
function lost(why) {
  const delay = Math.min(15, 0.5 * 2 ** failures++) * (0.5 + Math.random() / 2);
  enter("error", `Interrupted: ${why.replace(/\.$/, "")}. Trying again`, delay);
}

function sendDue() {
  const due = Math.min(actor.frames.length, Math.floor(clock * actor.fps) + 1);
  while (sent < due) {
    const frames = actor.frames.slice(sent, Math.min(due, sent + MOST)).map((kp, i) => (
      { t: Number(((sent + i) / actor.fps).toFixed(4)), people: [{ id: "actor", kp }] }
    ));
    stream.send({ type: "frames", seq: sent, frames });
    sent += frames.length;
    sendTimes.push(...frames.map(() => performance.now()));
  }
  sendTimes = sendTimes.slice(-60);
  if (sent === actor.frames.length) {
    stream.send({ type: "session.close" });
    sent += 1; // once
  }
}

let before = performance.now();
function tick(time) {
  const dt = clamp((time - before) / 1000, 0, 0.1); // a tab that was hidden goes on from where it stopped
  before = time;
  if (state === "live" && playing && sent <= actor.frames.length && !stream.congested) {
    clock = Math.min(clock + dt, timeline.duration);
    sendDue();
  }
  if (waiting > 0 && (playing || state === "error")) {
    waiting -= dt;
    if (waiting <= 0) {
      seed += state === "ended" ? 1 : 0;
      begin();
    }
  }
  if (actor) {
    stage.draw(clock * actor.fps, playing ? dt : 0);
    timeline.draw(clock, dt, state === "ended");
    readout();
  }
  requestAnimationFrame(tick);
}

function readout() {
  const label = state === "live" ? timeline.current() : undefined;
  $("action").textContent = label ? words(label) : "no action";
  $("action").classList.toggle("none", !label);
  $("time").textContent = minutes(clock);
  const running = state === "live" && playing && sendTimes.length > 10;
  const rate = running && ((sendTimes.length - 1) * 1000) / (sendTimes.at(-1) - sendTimes[0]);
  $("rate").textContent = rate ? rate.toFixed(1) : "–";
  const left = Math.ceil(waiting);
  $("countdown").textContent = waiting <= 0 ? "" : state === "ended" ? `Next in ${left} s` : `in ${left} s`;
}

function toggle() {
  playing = !playing;
  sendTimes = [];
  $("play").textContent = playing ? "Pause" : "Play";
  if (state === "live") $("state-text").textContent = playing ? "Live" : "Paused";
}

/** The seed that was typed in, or else the next one. */
function perform(event) {
  event?.preventDefault();
  const wanted = $("seed").valueAsNumber;
  seed = Number.isInteger(wanted) && wanted !== seed ? wanted : seed + 1;
  if (!playing) toggle();
  failures = 0;
  begin();
}

$("play").addEventListener("click", toggle);
$("controls").addEventListener("submit", perform);
document.addEventListener("keydown", (event) => {
  if (event.target.closest("button, input") || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.key === " ") toggle();
  else if (event.key.toLowerCase() === "n") perform();
  else return;
  event.preventDefault();
});

begin();
requestAnimationFrame(tick);
