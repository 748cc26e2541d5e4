/* The page at `/`: an actor's poses go out over /v1/stream in real time, segments come back and become a timeline.

   This part owns the clock. Media time advances with requestAnimationFrame only, so a hidden tab or a pause stops it,
   and what has been sent is always exactly what the clock has passed. */

import { $, classes, clamp, minutes, words } from "./page.js";
import { Scores } from "./scores.js";
import { Stage } from "./stage.js";
import { HOPELESS, Stream } from "./stream.js";
import { Timeline } from "./timeline.js";

const SECONDS = 60;
const INTERVAL = 12; // seconds for which a finished timeline stays

const stage = new Stage($("stage"));
const timeline = new Timeline($("timeline"));
const scores = new Scores($("scores"));

let seed = Number(new URLSearchParams(location.search).get("seed") ?? 7);
let actor, stream, detail; // the performance, its socket, and the last fatal error's text
let clock = 0, sent = 0, delays = [], sendTimes = []; // media seconds, frames, seconds, wall ms
let state, playing = true, waiting = 0, failures = 0, loading = 0;

const finished = () => sent === actor.frames.length;

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
    classes.splice(0, Infinity, ...names);
    restart(); // now that the colours are known
    failures = 0;
    $("model").textContent = `Model ${model.name} ${model.version}`;
    $("licence").textContent = model.license + (model.research_only ? ", research only" : "");
    enter("live", playing ? "Live" : "Paused");
  },
  scores: ({ top }) => scores.show(top),
  "session.draining": () => ($("state-text").textContent = "Live · the server is about to restart"),
  "session.closed"() {
    if (!finished()) return; // the server is going away: `close` comes back
    stream.drop();
    clock = timeline.duration;
    enter("ended", "Finished", INTERVAL);
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

function sendDue(now) {
  const kps = actor.frames.slice(sent, Math.floor(clock * actor.fps) + 1);
  if (kps.length) {
    const frames = kps.map((kp, i) => ({ t: (sent + i) / actor.fps, people: [{ id: "actor", kp }] }));
    stream.send({ type: "frames", seq: sent, frames });
    sent += kps.length;
    sendTimes = [...sendTimes, ...kps.map(() => now)].slice(-60);
    if (finished()) stream.send({ type: "session.close" });
  }
}

let before = performance.now();
function tick(time) {
  const dt = clamp((time - before) / 1000, 0, 0.1); // a tab that was hidden goes on from where it stopped
  if (time - before > 500) sendTimes = [];
  before = time;
  if (state === "live" && playing && !finished() && !stream.congested) {
    clock = Math.min(clock + dt, timeline.duration);
    sendDue(time);
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
  }
  readout();
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
  $("countdown").textContent = waiting <= 0 ? "" : state === "ended" ? `· next in ${left} s` : `in ${left} s`;
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
