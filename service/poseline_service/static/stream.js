/* The socket to /v1/stream, and what it takes to go on with a session whose socket broke. */

import { ask } from "./server.js";

export const HOPELESS = new Set([1003, 1007, 1008, 1009, 4400, 4409, 4422]); // to come back would end the same way
const GONE = new Set([4404, 4410]); // the server keeps the session no more: a new one it must be
const ANSWERED = { flushed: "flush", "session.updated": "session.update", "session.closed": "session.close" };

export class Stream {
  /** A session for what a source gives; options: those that differ from the model's own. */
  constructor({ layout, coordinates, fps }, options, on) {
    this.on = on;
    this.first = {
      type: "session.start", layout, coordinates, fps,
      options: { partials: "all", scores_hz: 10, ...options }, client: { name: "poseline-console", version: "1" },
    };
    this.sent = 0;
    this.heard = -1;
    this.unconfirmed = []; // messages that the server may not have
    // A pause must not look like a client that went away (the server gives up after 30 s).
    this.pulse = setInterval(() => this.write({ type: "keepalive" }), 10_000);
    this.connect();
  }

  /** A socket, the first one or another: there the session goes on, if the server still keeps it. */
  async connect() {
    this.behind = undefined;
    const url = new URL("v1/stream", location.href.replace(/^http/, "ws"));
    try { // a browser can give a socket no header: a ticket stands for the key
      url.searchParams.set("ticket", (await ask("v1/stream/tickets", "POST")).ticket);
    } catch ({ message }) {
      if (!this.dropped) this.on.close(1006, message);
      return;
    }
    if (this.dropped) return;
    this.socket = new WebSocket(url, ["poseline.v1.json"]);
    this.socket.onopen = () => this.write(this.started ? { type: "session.start", resume: this.claim } : this.first);
    this.socket.onmessage = ({ data }) => this.take(JSON.parse(data));
    this.socket.onclose = ({ code, reason }) => {
      if (GONE.has(code)) this.started = undefined;
      this.on.close(code, reason);
    };
  }

  get resumable() {
    return this.started !== undefined;
  }

  get claim() {
    const { session_id, resume_token: token } = this.started;
    return { session_id, token, last_server_seq: this.heard };
  }

  take(message) {
    const { type, seq, fatal } = message;
    if (type === "session.started") [this.started, this.behind] = [message, message.resumed ? message : undefined];
    else if (!fatal && seq <= this.heard) return; // told before the socket broke
    if (!fatal) this.heard = Math.max(this.heard, seq);
    this.confirm(message);
    this.on.message(message);
    if (this.behind && this.heard >= this.behind.server_seq) this.repeat();
  }

  /** Forget what the server has. */
  confirm({ type, client_seq, fatal }) {
    if (type === "ack") {
      this.unconfirmed = this.unconfirmed.filter(({ frames, seq }) => !frames || seq + frames.length - 1 > client_seq);
    }
    const answered = type === "error" && !fatal ? "session.update" : ANSWERED[type];
    const at = this.unconfirmed.findIndex((one) => one.type === answered);
    if (at >= 0) this.unconfirmed.splice(at, 1);
  }

  /** Everything is heard: send what the server lacks. */
  repeat() {
    const { next_client_seq: next } = this.behind;
    this.behind = undefined;
    for (const { type, seq, frames } of this.unconfirmed.filter(({ frames }) => frames)) {
      const rest = frames.slice(Math.max(0, next - seq));
      if (rest.length) this.write({ type, seq: seq + frames.length - rest.length, frames: rest });
    }
    for (const one of this.unconfirmed.filter(({ frames }) => !frames)) this.write(one);
  }

  send(message) {
    this.unconfirmed.push(message);
    if (!this.behind) this.write(message);
  }

  write(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  frames(frames) {
    this.send({ type: "frames", seq: this.sent, frames: frames.map(({ t, people }) => ({ t, people })) });
    this.sent += frames.length;
  }

  get congested() {
    return this.socket?.bufferedAmount > 65_536;
  }

  drop() {
    clearInterval(this.pulse);
    this.dropped = true;
    if (!this.socket) return;
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
  }
}
