/* The socket to /v1/stream. */

export const HOPELESS = new Set([1003, 1007, 1008, 1009, 4400, 4409, 4422]); // to come back would end the same way

export class Stream {
  /** A session for what a source gives; options: those that differ from the model's own. */
  constructor({ layout, coordinates, fps }, options, on) {
    const url = new URL("v1/stream", location.href.replace(/^http/, "ws"));
    this.sent = 0;
    this.socket = new WebSocket(url, ["poseline.v1.json"]);
    this.socket.onopen = () => this.send({
      type: "session.start", layout, coordinates, fps,
      options: { partials: "all", scores_hz: 10, ...options }, client: { name: "poseline-console", version: "1" },
    });
    this.socket.onmessage = ({ data }) => on.message(JSON.parse(data));
    this.socket.onclose = ({ code, reason }) => on.close(code, reason);
    // A pause must not look like a client that went away (the server gives up after 30 s).
    this.pulse = setInterval(() => this.send({ type: "keepalive" }), 10_000);
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  frames(frames) {
    this.send({ type: "frames", seq: this.sent, frames: frames.map(({ t, people }) => ({ t, people })) });
    this.sent += frames.length;
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
