/* Classes from examples: stretches of the running session, marked as they pass, become a class that every stream of the server
   answers with (docs/protocol.md, Enrolled classes). Nothing is asked of the server before the panel is open: not every key
   may teach. */

import { $, classes, element, hue, Trouble, vars, words } from "./page.js";
import { ask } from "./server.js";

export const REMEMBER = 60; // seconds that the server can look back in a session of this page
const MOST = 5; // examples of a class
const SHORTEST = 0.3; // seconds: eight frames of the network's grid
const PROTOTYPES = "v1/models/default/prototypes";
const REFUSED = { // for whom nothing that this panel offers would work
  forbidden_scope: "Your key may not teach: whoever runs the server gives one with the scope “enroll”.",
  enrolment_unavailable: "This server’s model cannot be taught: it brings nothing to tell a new class from.",
};

export class Teach {
  /** now: {session, track, t} of who is shown, t in media seconds; undefined while nobody is streamed. */
  constructor(now) {
    this.now = now;
    this.stretches = [];
    $("teaching").addEventListener("click", () => this.toggle());
    $("mark").addEventListener("click", () => this.mark());
    $("lesson").addEventListener("submit", (event) => {
      event.preventDefault();
      this.attempt(() => this.learn());
    });
  }

  get open() {
    return !$("teach").hidden;
  }

  toggle() {
    $("teach").hidden = this.open;
    $("teaching").setAttribute("aria-expanded", this.open);
    $("lesson").hidden = false; // whoever opens it again may try again
    say("");
    if (this.open) this.attempt(() => this.list());
  }

  // --- stretches ------------------------------------------------------------------------------------------------

  /** A session begins, or goes on over another connection: in either the server remembers nothing of what was before. */
  begin(session) {
    this.keep(() => false, "The connection broke: what was marked before is forgotten.");
    this.session = session;
    if (this.open && !$("lesson").hidden) this.attempt(() => this.list());
  }

  over() {
    this.keep(() => false, "That session is over: what was marked in it is forgotten.");
  }

  /** Somebody is seen no more, and so remembered no more. */
  left(track) {
    this.keep((one) => one.track !== track, "Who was marked has gone, and is forgotten.");
  }

  /** Keeps the stretches that the server may still remember, and says why the others went. */
  keep(still, why) {
    const all = this.stretches;
    this.stretches = all.filter(still);
    if (this.begun && !still(this.begun)) this.begun = undefined;
    if (this.stretches.length === all.length) return;
    say(why);
    this.show();
  }

  /** Begins a stretch, or ends the one that was begun. */
  mark() {
    const now = this.now();
    if (!this.open || $("mark").disabled || !now) return;
    if (!this.begun) return (this.begun = { track: now.track, start: round(now.t) });
    const stretch = { ...this.begun, end: round(now.t) };
    this.begun = undefined;
    if (stretch.end - stretch.start < SHORTEST) return say("That was too short to learn from: press when it begins, and again when it ends.");
    say("");
    this.stretches.push(stretch);
    this.show();
  }

  show() {
    $("stretches").replaceChildren(...this.stretches.map((one, n) => {
      const called = `Stretch ${n + 1}, ${one.track}`;
      const chip = element("li", "", element("span", "", one.track));
      chip.append(seconds(one, "start", `${called}: from, in seconds`), "to", seconds(one, "end", `${called}: to, in seconds`), "s");
      chip.append(remover(`Remove ${called}`, () => {
        this.stretches.splice(n, 1);
        this.show();
        $("mark").focus();
      }));
      return chip;
    }));
  }

  /** Every frame. */
  draw() {
    if (!this.open) return;
    const now = this.now();
    if (now) this.keep(({ start }) => !(start < now.t - REMEMBER), `The server remembers ${REMEMBER} seconds: what was marked before is forgotten.`);
    const text = this.begun ? "End stretch" : "Begin stretch";
    if ($("mark-text").textContent !== text) $("mark-text").textContent = text;
    $("marking").textContent = this.begun && now ? `${Math.max(0, now.t - this.begun.start).toFixed(1)} s` : "";
    $("mark").disabled = !now || this.stretches.length === MOST;
    $("learn").disabled = this.busy || !this.stretches.length;
  }

  // --- classes --------------------------------------------------------------------------------------------------

  /** Does it, and says in words what speaks against it. */
  async attempt(what) {
    this.busy = true;
    try {
      await what();
    } catch (error) {
      if (!(error instanceof Trouble)) throw error;
      say(REFUSED[error.code] ?? `${error.message.replace(/\.$/, "")}.`);
      $("lesson").hidden = error.code in REFUSED;
    } finally {
      this.busy = false;
    }
  }

  async learn() {
    const name = $("class-name").value.trim().replace(/\s+/g, "_");
    const examples = this.stretches.map(({ track, start, end }) => ({ session_id: this.session, track_id: track, start, end }));
    const { examples: count } = await ask(PROTOTYPES, "POST", { name, examples });
    $("lesson").reset();
    this.stretches = [];
    this.show();
    await this.list();
    say(`“${words(name)}” is found from now on, learnt from ${count} example${count === 1 ? "" : "s"}.`);
  }

  async remove(name) {
    await ask(`${PROTOTYPES}/${encodeURIComponent(name)}`, "DELETE");
    await this.list();
    say(`“${words(name)}” is found no more.`);
    ($("enrolled").querySelector("button") ?? $("mark")).focus();
  }

  async list() {
    const { prototypes } = await ask(PROTOTYPES);
    for (const { name, label_id: id } of prototypes) classes[id] = name;
    $("enrolled").replaceChildren(...prototypes.map(({ name, examples }) => {
      const item = element("li", "", element("span", "", words(name)));
      item.title = `learnt from ${examples} example${examples === 1 ? "" : "s"}`;
      vars(item, { hue: hue(name) });
      item.append(remover(`Remove the class ${words(name)}`, () => this.attempt(() => this.remove(name))));
      return item;
    }));
  }
}

const round = (t) => Math.round(10 * t) / 10;

function say(text) {
  $("taught").textContent = text;
}

/** A border of a stretch; who pressed late corrects it. */
function seconds(stretch, border, name) {
  const input = element("input", "");
  Object.assign(input, { type: "number", min: 0, step: 0.1, required: true, value: stretch[border].toFixed(1), ariaLabel: name });
  input.addEventListener("change", () => (stretch[border] = input.valueAsNumber));
  return input;
}

function remover(name, remove) {
  const button = element("button", "", "×");
  Object.assign(button, { type: "button", ariaLabel: name });
  button.addEventListener("click", remove);
  return button;
}
