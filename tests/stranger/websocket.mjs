// The client's side of RFC 6455, as far as Poseline's stream needs it.
import net from 'node:net';
import tls from 'node:tls';
import { createHash, randomBytes } from 'node:crypto';

const SUBPROTOCOL = 'poseline.v1.json';

/** What ends an attempt; `again`: the session may be resumed; `after`: not before so many seconds. */
export class Broken extends Error {
  constructor(message, { again = false, after = 0 } = {}) { super(message); Object.assign(this, { again, after }); }
}

/** One WebSocket that speaks JSON. Not the platform's: that sends no Authorization, and cannot break off within a message. */
export class Connection {
  heard = Date.now(); over = false;
  #socket; #sent = 0; #buffer = Buffer.alloc(0); #parts = []; #inbox = []; #waiting = null; #held = []; #cutBytes; #cutMessages;

  /** cut: for tests; "20000" breaks the line after so many bytes sent, "12m" after so many messages heard. */
  constructor(socket, cut = '') {
    this.#socket = socket;
    this.#cutBytes = /^\d+$/.test(cut) ? Number(cut) : Infinity;
    this.#cutMessages = /^\d+m$/.test(cut) ? parseInt(cut) : Infinity;
    socket.on('close', () => this.#end(1006));  // a line that breaks without a close frame has this code
    socket.on('drain', () => this.#release());
  }

  static open(url, { key, cut }) {
    const { protocol, hostname, port, host, pathname, search } = new URL(url);
    const name = hostname.replace(/^\[|\]$/g, ''), secure = protocol === 'wss:', nonce = randomBytes(16).toString('base64');
    const socket = (secure ? tls : net).connect({ host: name, port: port || (secure ? 443 : 80), servername: net.isIP(name) ? '' : name });
    socket.setNoDelay(true);
    socket.write([`GET ${pathname}${search} HTTP/1.1`, `Host: ${host}`, 'Upgrade: websocket', 'Connection: Upgrade',
      `Sec-WebSocket-Key: ${nonce}`, 'Sec-WebSocket-Version: 13', `Sec-WebSocket-Protocol: ${SUBPROTOCOL}`,
      ...(key ? [`Authorization: Bearer ${key}`] : []), '', ''].join('\r\n'));
    return new Promise((resolve, reject) => {
      let answer = Buffer.alloc(0);
      const fail = (error) => { socket.destroy(); reject(error); };
      socket.setTimeout(15000, () => fail(new Broken('no answer to the upgrade', { again: true })));
      socket.on('error', (error) => fail(new Broken(error.message, { again: true })));
      socket.on('close', () => fail(new Broken('closed before the upgrade', { again: true })));
      socket.on('data', function head(data) {
        answer = Buffer.concat([answer, data]);
        const end = answer.indexOf('\r\n\r\n');
        if (end < 0) return;
        const [status, ...lines] = answer.subarray(0, end).toString('latin1').split('\r\n');
        const headers = Object.fromEntries(lines.map((line) => [line.split(':')[0].toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]));
        const body = answer.subarray(end + 4), code = Number(status.split(' ')[1]);
        if (code !== 101) {
          if (body.length < Number(headers['content-length'] ?? 0)) return;
          return fail(new Broken(`refused: ${code} ${body}`, { again: code === 408 || code === 429 || code >= 500, after: Number(headers['retry-after']) || 0 }));
        }
        const proof = createHash('sha1').update(`${nonce}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
        if (headers['sec-websocket-accept'] !== proof) return fail(new Broken('this is no WebSocket server'));
        socket.setTimeout(0).off('data', head);
        const connection = new Connection(socket, cut);
        socket.on('data', (bytes) => connection.#receive(bytes));
        connection.#receive(body);
        resolve(connection);
      });
    });
  }

  /** Resolves as soon as the socket takes more: a server that does not read (`block`) holds its sender up. */
  async send(text, { part = 1 } = {}) {
    this.#write(1, Buffer.from(text), part);
    while (!this.over && this.#socket.writableNeedDrain) await new Promise((resolve) => { this.#held.push(resolve); });
  }
  ping() { this.#write(9, Buffer.alloc(0)); }

  #write(opcode, payload, part = 1) {
    if (this.over) return;
    const size = payload.length, long = size > 65535 ? 8 : size > 125 ? 2 : 0, mask = randomBytes(4);
    const frame = Buffer.alloc(2 + long + 4 + size);
    frame.set([128 | opcode, 128 | (long === 8 ? 127 : long === 2 ? 126 : size)]);
    if (long === 8) frame.writeBigUInt64BE(BigInt(size), 2); else if (long) frame.writeUInt16BE(size, 2);
    frame.set(mask, 2 + long);
    for (let i = 0, at = 6 + long; i < size; i++) frame[at + i] = payload[i] ^ mask[i & 3];
    const room = Math.min(Math.floor(frame.length * part), this.#cutBytes - this.#sent);
    this.#sent += Math.min(frame.length, room);
    if (room >= frame.length) return this.#socket.write(frame);
    this.#socket.write(frame.subarray(0, room), () => this.cut());
    this.#end(1006);
  }

  #receive(bytes) {
    this.heard = Date.now();
    this.#buffer = this.#buffer.length ? Buffer.concat([this.#buffer, bytes]) : bytes;
    for (let b = this.#buffer; b.length >= 2 && !this.over; b = this.#buffer) {
      const short = b[1] & 127, at = short === 127 ? 10 : short === 126 ? 4 : 2;
      if (b.length < at) return;
      const size = short === 127 ? Number(b.readBigUInt64BE(2)) : short === 126 ? b.readUInt16BE(2) : short;
      if (b.length < at + size) return;
      const payload = b.subarray(at, at + size), opcode = b[0] & 15;
      this.#buffer = b.subarray(at + size);
      if (opcode === 9) this.#write(10, payload);
      else if (opcode === 8) {
        this.#write(8, payload);
        this.#socket.end();
        this.#end(size >= 2 ? payload.readUInt16BE(0) : 1005);
      } else if (opcode <= 2) {
        this.#parts.push(payload);
        if (b[0] & 128) this.#push({ message: JSON.parse(Buffer.concat(this.#parts.splice(0)).toString()) });
      }
    }
  }

  #push(item) {
    if (item.message && this.#cutMessages-- <= 0) return this.cut();  // what came is lost: nobody hears it
    if (this.#waiting) { this.#waiting(item); this.#waiting = null; } else this.#inbox.push(item);
  }
  #release() { for (const go of this.#held.splice(0)) go(); }
  #end(closed) { if (!this.over) { this.over = true; this.#release(); this.#push({ closed }); } }

  /** The next { message }, or { closed: code } as the last of all. */
  next() { return this.#inbox.length ? Promise.resolve(this.#inbox.shift()) : new Promise((resolve) => { this.#waiting = resolve; }); }
  unheard() { return this.#inbox.flatMap(({ message }) => message ?? []); }
  /** Breaks the line without a close frame; nothing where it has ended. */
  cut() { if (!this.#socket.destroyed) this.#socket.resetAndDestroy(); this.#end(1006); }
}
