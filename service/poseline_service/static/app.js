/* The console at `/`: poses of a source go out over /v1/stream in real time, segments come back and become a timeline.

   This part knows what the page is doing: which source, which state, live or seen again. A session that breaks is followed by
   another for the same source, which goes on where the first one stopped. */

import * as download from "./download.js";
import { Figures } from "./figures.js";
import { shortcuts } from "./keys.js";
import { Overlay } from "./overlay.js";
import { $, classes, clamp, minutes, Trouble, words } from "./page.js";
import { Replay } from "./replay.js";
import { Scores } from "./scores.js";
import { Actor } from "./sources/actor.js";
import { Stage } from "./stage.js";
import { HOPELESS, Stream } from "./stream.js";
import { REMEMBER, Teach } from "./teach.js";
import { Thresholds } from "./thresholds.js";
import { Timeline } from "./timeline.js";

const KINDS = ["actor", "webcam", "video", "poses"];
const INTERVAL = 12; // seconds for which the actor's finished timeline stays
const NOTE = 8; // seconds for which a remark of the server is shown
const ABSENT = 1; // seconds after which nobody is said to be in view

const stage = new Stage($("stage"));
const overlay = new Overlay($("overlay"), $("picture"));
const scores = new Scores($("scores"));
const figures = new Figures();
const timeline = new Timeline($("timeline"), again);
const teach = new Teach(() => (state === "live" && !ended && scored !== undefined ? { track: scored, t: source.time } : undefined));
const thresholds = new Thresholds((options) => stream?.send({ type: "session.update", options }));

let kind, source; // what is chosen; what plays, or is being opened
let opened = false, ended = false, playing = true;
let stream, options, model, fault; // its session: options in effect, who answers, its fatal error in words
let replay; // a segment that is seen again
let state, note, waiting = 0, failures = 0; // of the page; a passing remark; seconds to the next try
let seed = Number(new URLSearchParams(location.search).get("seed") ?? 7);
let seen, scored; // media seconds at which somebody was in view; the track whose scores are shown

// --- what is said ---------------------------------------------------------------------------------------------------

function enter(next, text, seconds = 0) {
  [state, waiting, note] = [next, seconds, undefined];
  $("state").dataset.state = next;
  say(text);
  furnish();
}

function say(text) {
  if ($("state-text").textContent !== text) $("state-text").textContent = text; // a screen reader hears every change
}

function tell() {
  const absent = source.picture && playing && !replay && source.time - seen > ABSENT;
  const said = note && note.until > performance.now() ? note.text : absent ? "nobody in view" : "";
  say([replay && !source.live ? "Held" : playing ? "Live" : "Paused", said].filter(Boolean).join(" · "));
}

function remark(text) {
  note = { text, until: performance.now() + 1000 * NOTE };
}

/** Shows one of the panels over the stage, or none. */
function panel(name, trouble = "") {
  $("panel").hidden = !name;
  for (const one of document.querySelectorAll("[data-panel]")) one.hidden = one.dataset.panel !== name;
  $("trouble").textContent = trouble;
}

/** The controls that mean something now. */
function furnish() {
  for (const control of document.querySelectorAll("[data-of]")) {
    control.hidden = !control.dataset.of.split(" ").includes(kind) || (kind !== "actor" && !source);
  }
  const done = state === "ended" && kind !== "actor";
  const gone = source?.live && ended; // a camera that was stopped
  $("play").hidden = !source || gone;
  $("stop").hidden ||= gone;
  $("play").textContent = replay ? "Back" : done ? "Once more" : playing ? "Pause" : "Play";
  $("replay").hidden = !replay;
  $("scene").dataset.view = !source?.picture || !opened || gone ? "stage" : replay ? "both" : "picture";
  $("scene").classList.toggle("mirrored", Boolean(source?.mirrored));
  for (const id of ["json", "csv", "ndjson"]) $(id).disabled = !opened || !model;
}

// --- sources --------------------------------------------------------------------------------------------------------

/** Turns to another kind of source. The actor begins by itself; the others are asked for. */
async function choose(next) {
  kind = next;
  for (const radio of document.querySelectorAll("[name=source]")) radio.checked = radio.value === kind;
  drop();
  failures = 0;
  if (kind === "actor") return begin(new Actor(seed));
  restart({ truth: [], duration: Infinity });
  enter("idle", "Not started");
  panel(kind);
  if (kind === "poses") return;
  const { missing } = await import("./sources/picture.js");
  const lacking = await missing().catch((error) => ({ error }));
  if (kind !== next || source) return;
  if (lacking.error) panel(kind, lacking.error.message);
  else if (lacking.length) panel("parts");
}

/** Opens a source and a session for it; whatever ran before is dropped. */
async function begin(next) {
  drop();
  [source, playing] = [next, true];
  panel();
  enter("connecting", source.live ? "Asking for the camera" : "Opening");
  try {
    await next.open();
  } catch (error) {
    if (!(error instanceof Trouble)) reportError(error);
    if (next === source) refuse(error instanceof Trouble ? error.message : `something went wrong on this page: ${error.message}`);
    return;
  }
  if (next !== source) return;
  [opened, ended] = [true, false];
  stage.enter();
  restart();
  connect();
}

/** A source that could not be opened. The actor needs nothing but the server, so it is tried again. */
function refuse(why) {
  if (kind === "actor") return lost(why);
  drop();
  enter("error", "Not started");
  panel(kind, why);
}

function drop() {
  leave();
  teach.over();
  stream?.drop();
  source?.close();
  [stream, source, opened] = [undefined, undefined, false];
}

function restart(of = source) {
  [seen, scored] = [0, undefined];
  figures.reset();
  timeline.reset(of);
  scores.show([]);
  $("length").textContent = Number.isFinite(of.duration) ? `/ ${minutes(of.duration)} · 1×` : "";
}

/** The same again, from its beginning. */
function repeat() {
  if (source instanceof Actor) begin(new Actor(seed));
  else begin(new source.constructor(source.file));
}

async function start(module, name, ...given) {
  failures = 0;
  const { [name]: Source } = await import(`./sources/${module}.js`);
  begin(new Source(...given));
}

/** A file for the chooser that it was picked with. */
function open(file, next) {
  if (next !== kind) choose(next);
  if (next === "video") start("videofile", "VideoFile", file);
  else start("posefile", "PoseFile", file);
}

/** The seed that was typed in, or else the next one. */
function perform() {
  const wanted = $("seed").valueAsNumber;
  seed = Number.isInteger(wanted) && wanted !== seed ? wanted : seed + 1;
  $("seed").value = seed;
  failures = 0;
  begin(new Actor(seed));
}

// --- the session ----------------------------------------------------------------------------------------------------

function connect() {
  enter("connecting", "Connecting");
  fault = "";
  if (stream?.resumable) stream.connect();
  else stream = new Stream(source, { remember: REMEMBER, ...thresholds.chosen }, { message, close });
}

const handlers = {
  "session.started"({ session_id: session, model: answering, classes: names, options: effective, layout_conversion: way, resumed }) {
    classes.splice(0, Infinity, ...names);
    if (answering.digest !== model?.digest) restart(); // now that the colours are known
    teach.begin(session);
    [model, options, failures] = [answering, effective, 0];
    $("model").textContent = `Model ${model.name} ${model.version}`;
    $("licence").textContent = model.license + (model.research_only ? ", research only" : "");
    $("layout").textContent = way.from + (way.approximate ? `, approximately ${way.to}` : "");
    if (!resumed) {
      timeline.renew();
      scored = undefined;
    }
    thresholds.show(options);
    figures.interrupt();
    enter("live", playing ? "Live" : "Paused");
    seen = source.time;
    if (playing) source.begin();
  },
  "session.updated"({ options: effective }) {
    options = effective;
    thresholds.show(options);
  },
  scores({ t, top, unknown, track_id: track }) {
    figures.scored(t);
    scored ??= track;
    if (track === scored) scores.show(top, unknown);
  },
  "track.ended"({ track_id: track }) {
    if (track === scored) scored = undefined;
    if (!ended) teach.left(track);
  },
  "session.draining": () => remark("the server is about to restart"),
  "session.closed"() {
    if (!ended) return; // the server is going away: `close` comes back
    stream.drop();
    teach.over();
    enter("ended", "Finished", kind === "actor" ? INTERVAL : 0);
    if (source.live) panel(kind);
  },
  warning({ code, detail }) {
    if (code !== "layout_approximate") remark(detail); // the footer says so for as long as it holds
  },
  error({ detail, fatal, param }) {
    if (fatal) return (fault = detail);
    remark(detail);
    if (param?.startsWith("options")) thresholds.show(options);
  },
};

function message({ type, ...rest }) {
  if (type.startsWith("segment.")) {
    classes[rest.label_id] = rest.label; // it may have been enrolled since
    timeline.take({ type, ...rest });
    // What the end of the stream forces out says nothing about how fast the model decides.
    if (type === "segment.final" && rest.forced === "none") figures.decided(source.time - rest.end);
  } else {
    handlers[type]?.(rest); // later versions may add types
  }
}

function close(code, reason) {
  if (!stream.resumable || ended || HOPELESS.has(code)) stream.drop();
  const why = fault || reason || (code === 1006 ? "connection lost" : `closed with code ${code}`);
  if (ended) enter("ended", `Finished · ${why}`);
  else if (HOPELESS.has(code)) enter("error", `Stopped: ${why}.`);
  else lost(why);
}

/** Says so and comes back: 0.5 s × 2ⁿ up to 15 s, jittered, so that many pages do not return at once. */
function lost(why) {
  const delay = Math.min(15, 0.5 * 2 ** failures++) * (0.5 + Math.random() / 2);
  enter("error", `Interrupted: ${why.replace(/\.$/, "")}. Trying again`, delay);
}

/** What follows when the wait is over. */
function proceed() {
  if (state === "ended") perform();
  else if (opened) connect();
  else repeat();
}

/** Nothing more will be sent. */
function finish() {
  ended = true;
  if (source.live) source.close(); // stopped here, or gone by itself
  stream.send({ type: "session.close" });
}

// --- live, paused, seen again ---------------------------------------------------------------------------------------

function toggle() {
  if (replay) return leave();
  if (state === "ended" && kind !== "actor") return repeat();
  playing = !playing;
  figures.interrupt();
  if (state === "live") seen = source.time;
  if (opened) source.pause(!playing);
  if (playing && state === "live" && opened) source.begin();
  furnish();
}

function again(segment) {
  if (!Replay.possible(source, segment)) return remark("the poses of that segment are kept no longer");
  leave();
  replay = new Replay(source, segment);
  segment.node.classList.add("again");
  const { label, start, end, score } = segment;
  $("replay-text").textContent = `Again: ${words(label)}, ${start.toFixed(1)} to ${end.toFixed(1)} s, score ${score.toFixed(2)}`;
  stage.enter();
  furnish();
}

function leave() {
  if (!replay) return;
  replay.close();
  replay.segment.node.classList.remove("again");
  replay = undefined;
  stage.enter();
  furnish();
}

// --- every frame ----------------------------------------------------------------------------------------------------

function send(dt) {
  if (replay && !source.live) return;
  const frames = source.take(dt);
  if (frames.length) {
    stream.frames(frames);
    figures.sent(frames);
    if (frames.some(({ people }) => people.length)) seen = frames.at(-1).t;
  }
  if (source.ended && !ended) finish();
}

let before = performance.now();
function tick(time) {
  const dt = clamp((time - before) / 1000, 0, 0.1); // a tab that was hidden goes on from where it stopped
  if (time - before > 500) figures.interrupt();
  before = time;
  if (state === "live" && playing && !ended && !stream.congested) send(dt);
  if (state === "live") tell();
  if (waiting > 0 && !replay && (playing || state === "error")) {
    waiting -= dt;
    if (waiting <= 0) proceed();
  }
  draw(playing || replay ? dt : 0);
  requestAnimationFrame(tick);
}

function draw(dt) {
  replay?.advance(dt);
  if (opened) {
    const shown = replay?.time ?? source.time;
    if (source.picture) overlay.draw((source.live || !replay ? source.poses.frames.at(-1) : source.poses.frame(shown))?.landmarks);
    if (replay || !source.picture) stage.draw(source.poses.at(shown), dt);
  } else {
    stage.draw([], dt);
  }
  const now = opened ? source.time : 0;
  timeline.draw(now, dt, state === "ended", replay?.time);
  $("time").textContent = minutes(now);
  const label = state === "live" && !replay ? timeline.current() : undefined;
  $("action").textContent = label ? words(label) : "no action";
  $("action").classList.toggle("none", !label);
  teach.draw();
  figures.draw(state === "live" && playing, opened && source.cost);
  const left = Math.ceil(waiting);
  $("countdown").textContent = waiting <= 0 || replay ? "" : state === "ended" ? `· next in ${left} s` : `in ${left} s`;
}

// --- controls -------------------------------------------------------------------------------------------------------

function save(extension, type, write) {
  const name = source.name.replace(/\.\w+$/, "").replace(/\W+/g, "-");
  download.save(`${name}.${extension}`, type, write(download.report(source, model, options, timeline.finals)));
}

$("sources").addEventListener("change", ({ target }) => choose(target.value));
$("play").addEventListener("click", toggle);
$("back").addEventListener("click", leave);
$("stop").addEventListener("click", finish);
$("other").addEventListener("click", () => choose(kind));
$("again").addEventListener("click", () => choose(kind));
$("camera").addEventListener("click", () => start("webcam", "Webcam"));
for (const chooser of ["video", "poses"]) {
  $(`${chooser}-file`).addEventListener("change", ({ target }) => {
    if (target.files.length) open(target.files[0], chooser);
    target.value = ""; // so that the same file can be picked again
  });
}
$("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  perform();
});
$("json").addEventListener("click", () => save("json", "application/json", download.json));
$("csv").addEventListener("click", () => save("csv", "text/csv", download.csv));
$("ndjson").addEventListener("click", () => save("ndjson", "application/x-ndjson", () => download.poses(source, source.time)));
$("scene").addEventListener("dragover", (event) => event.preventDefault());
$("scene").addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  // Nobody chose: its type tells, as far as the system knows one.
  if (file) open(file, file.type.startsWith("video/") || (!file.type && kind === "video") ? "video" : "poses");
});
document.addEventListener("visibilitychange", () => {
  // Pictures of a hidden tab are not seen: a video waits, as the clock of known poses does.
  if (opened && source.picture && !source.live && playing && !ended) source.pause(document.hidden);
});
shortcuts({
  " ": () => source && toggle(),
  n: () => kind === "actor" && perform(),
  m: () => teach.mark(),
  escape() {
    leave();
    timeline.follow();
  },
  ...Object.fromEntries(KINDS.map((one, i) => [String(i + 1), () => choose(one)])),
});

$("seed").value = seed;
figures.reset();
choose("actor");
requestAnimationFrame(tick);
