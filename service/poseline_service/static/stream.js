/* The socket to /v1/stream. */

export const HOPELESS = new Set([1003, 1007, 1008, 1009, 4400, 4409, 4422]); // to come back would end the same way

export class Stream {
  constructor(fps, on) {
    const url = new URL("v1/stream", location.href.replace(/^http/, "ws"));
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
