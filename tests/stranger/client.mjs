// A client of Poseline's stream, written from docs/protocol.md alone. Node 18 or later, no packages. How to run: README.md.
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Broken, Connection } from './websocket.mjs';

// ---- A request of POST /v1/localize as a stream's session.start and frames

async function asStream(request, url, key) {
  const { layout, coordinates, fps, timestamps, model, tracks, options = {} } = request;
  const { mode, max_segments, return: wanted, frame_scores_hz, ...decoding } = options;  // those four are no stream's
  const start = { type: 'session.start', layout, coordinates, fps, model, options: decoding, client: { name: 'stranger', version: '1' } };
  const joints = async () => layout.joints?.length ?? (await (await fetch(new URL(`/v1/layouts/${layout}`, url.replace(/^ws/, 'http')),
    { headers: key ? { Authorization: `Bearer ${key}` } : {} })).json()).joints.length;
  const people = await Promise.all(tracks.map(async ({ track_id, keypoints, start_frame = 0 }) => {
    if (typeof keypoints !== 'string') return { id: track_id, from: start_frame, poses: keypoints };
    const bytes = Buffer.from(keypoints, 'base64'), size = (await joints()) * ((coordinates?.dims ?? 3) + 1) * 4;
    return { id: track_id, from: start_frame, poses: Array.from({ length: bytes.length / size }, (_, i) => bytes.toString('base64', i * size, (i + 1) * size)) };
  }));
  const count = timestamps?.length ?? Math.max(...people.map(({ from, poses }) => from + poses.length));
  const frames = Array.from({ length: count }, (_, i) => ({
    t: timestamps ? timestamps[i] : i / fps,
    people: people.filter(({ from, poses }) => i >= from && i < from + poses.length).map(({ id, from, poses }) => ({ id, kp: poses[i - from] })),
  }));
  return { start, times: frames.map(({ t }) => t), texts: frames.map((frame) => JSON.stringify(frame)) };
}

// ---- Streaming, and going on after a break

/** Closes after which the session is still there and may be asked for again (docs: Resume, and the table of close codes). */
const RESUMABLE = new Set([1001, 1005, 1006, 1012, 1013, 4408, 4429]);

async function stream(urls, request, { key, speed, cuts }) {
  const { start, times, texts } = await asStream(request, urls[0], key);
  const session = { id: null, token: null, heard: -1, acked: -1, ttl: 60, finals: new Map(), began: null };
  const totals = { frames: texts.length, sent: 0, breaks: 0, resumed: 0, finals: 0, repeated_finals: 0 };
  for (let failures = 0, brokeAt = Date.now(), at = 0; ;) {
    try {
      return await connect(urls[at % urls.length]);
    } catch (error) {
      if (!(error instanceof Broken) || !error.again) throw error;
      if (error.lived) { failures = 0; brokeAt = Date.now(); totals.breaks++; } else { failures++; at++; }
      if (Date.now() - brokeAt > session.ttl * 1000) throw new Broken(`given up: ${error.message}`);
      const wait = Math.max(error.after * 1000, Math.random() * Math.min(15000, 500 * 2 ** failures));
      console.error(`${error.message}; again in ${Math.round(wait)} ms`);
      await sleep(wait);
    }
  }

  async function connect(url) {
    const connection = await Connection.open(url, { key, cut: cuts.shift() });
    let lived = false, draining = false, after = 0, last = null;
    const resume = session.token && { session_id: session.id, token: session.token, last_server_seq: session.heard };
    connection.send(JSON.stringify(resume ? { type: 'session.start', resume } : start));
    const pulse = setInterval(() => {  // the server wants to hear something within 30 s; so do we, and a pong is something
      connection.send('{"type":"keepalive"}');
      connection.ping();
      if (Date.now() - connection.heard > 30000) connection.cut();
    }, 10000);
    try {
      for (;;) {
        const { message, closed } = await connection.next();
        if (closed !== undefined) {
          const why = `closed ${closed}${last ? `: ${last.code}: ${last.detail}` : ''}`;
          throw Object.assign(new Broken(why, { again: RESUMABLE.has(closed), after }), { lived });
        }
        // The session.started of a resume has seq 0 and is not one of the messages that are counted.
        if (message.type !== 'session.started' || !message.resumed) session.heard = message.seq;
        if (message.type === 'session.started') {
          if (resume && message.next_client_seq <= session.acked) throw new Broken(`frame ${message.next_client_seq} is asked for, ${session.acked} was acknowledged`);
          Object.assign(session, { id: message.session_id, token: message.resume_token, ttl: message.resume_ttl });
          lived = true;
          if (message.resumed) totals.resumed++;
          session.began ??= Date.now();
          feed(connection, message.next_client_seq, message.limits, () => draining);
        } else if (message.type === 'ack') session.acked = message.client_seq;
        else if (message.type === 'segment.final') {
          if (session.finals.has(message.segment_id)) { totals.repeated_finals++; continue; }
          const { type, seq, session_id, ...final } = message;
          session.finals.set(message.segment_id, final);
          console.log(JSON.stringify(final));
        } else if (message.type === 'session.draining') { draining = true; after = message.retry_after; }
        else if (message.type === 'warning') console.error(`warning ${message.code}: ${message.detail}`);
        else if (message.type === 'error') { last = message; after = message.retry_after ?? after; }
        else if (message.type === 'session.closed') {
          const { type, seq, session_id, ...closing } = message;
          await connection.next();  // the close, with 1000; where the line breaks instead, nothing is missing any more
          return { ...totals, finals: session.finals.size, ...closing };
        }
      }
    } finally { clearInterval(pulse); if (!connection.over) connection.cut(); }
  }

  /** Sends the frames from `seq` on, each when its time has come, as many a message as are due and allowed; then session.close. */
  async function feed(connection, seq, limits, stopped) {
    const due = (i) => session.began + (times[i] - times[0]) * 1000 / speed;
    while (seq < texts.length) {
      while (due(seq) > Date.now() && !connection.over) await sleep(Math.min(due(seq) - Date.now(), 1000));
      if (connection.over || stopped()) return;
      const batch = [];
      for (let bytes = 64, i = seq; i < texts.length && batch.length < limits.frames_per_message && due(i) <= Date.now(); i++) {
        bytes += Buffer.byteLength(texts[i]) + 1;
        if (batch.length && bytes > limits.message_bytes) break;
        batch.push(texts[i]);
      }
      await connection.send(`{"type":"frames","seq":${seq},"frames":[${batch.join(',')}]}`);
      seq += batch.length;
      totals.sent += batch.length;
    }
    if (!stopped()) await connection.send('{"type":"session.close"}');
  }
}

// ---- Golden transcripts

const NOT_COMPARED = new Set(['seq', 'session_id', 'resume_token', 'resume_ttl', 'server_seq', 'limits', 'wall_seconds', 'detail']);

/** The first place at which what was said is not what the file says, or null. */
function difference(file, said, path = '') {
  const differs = () => `${path || 'message'} is ${JSON.stringify(said)}, the file has ${JSON.stringify(file)}`;
  if (typeof file === 'number' && typeof said === 'number') return Math.abs(file - said) <= 0.0001 + 1e-9 ? null : differs();  // told in 4 decimals
  if (file === null || typeof file !== 'object') return file === said ? null : differs();
  if (said === null || typeof said !== 'object' || (Array.isArray(file) && file.length !== said.length)) return differs();
  for (const name of Object.keys(file)) {
    if (path === '' && NOT_COMPARED.has(name)) continue;
    if (/^top\.\d+\.0$/.test(`${path}.${name}`) && file[1] < 0.01) continue;  // which of the hopeless classes comes first, nobody promises
    const found = difference(file[name], said[name], path ? `${path}.${name}` : name);
    if (found) return found;
  }
  return null;
}

async function replay(url, path, { key, timeout }) {
  const [head, ...lines] = readFileSync(path, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));
  const sessions = new Map();  // by the file's session_id: ours, its newest token, and our number of each of the file's numbers
  let connection, awaited = [], sameModel = true;

  const next = async (what) => {
    const nothing = new AbortController();
    const item = await Promise.race([connection.next(), sleep(timeout * 1000, null, { signal: nothing.signal }).catch(() => null)]);
    nothing.abort();
    if (!item) throw new Error(`nothing came in ${timeout} s; awaited: ${JSON.stringify(what)}`);
    return item;
  };
  const hear = async () => {  // everything awaited; of each track (and of no track) in the order of the file
    while (awaited.length) {
      const { message, closed } = await next(awaited[0].message);
      if (closed !== undefined) throw new Error(`closed with ${closed}; awaited: ${JSON.stringify(awaited[0].message)}`);
      if (message.type === 'ack') continue;
      const index = awaited.findIndex((line) => line.message.track_id === message.track_id);
      if (index < 0) throw new Error(`not in the file here: ${JSON.stringify(message)}`);
      const [{ message: file, lost, number }] = awaited.splice(index, 1);
      if (message.type === 'session.started') sameModel = message.model.digest === head.model.digest;
      const found = difference(sameModel ? file : { type: file.type }, message);
      if (found) throw new Error(`line ${number}, ${file.type}: ${found}`);
      if (file.type === 'session.started') {
        const numbers = sessions.get(file.session_id)?.numbers ?? new Map();
        sessions.set(file.session_id, { id: message.session_id, token: message.resume_token, numbers });
      }
      if (!lost) sessions.get(file.session_id)?.numbers.set(file.seq, message.seq);
    }
  };
  const ours = (message) => {
    const known = sessions.get(message.resume?.session_id);
    if (!known) return message;
    const heard = [...known.numbers.keys()].filter((seq) => seq <= message.resume.last_server_seq);
    const last_server_seq = heard.length ? known.numbers.get(Math.max(...heard)) : -1;
    return { ...message, resume: { session_id: known.id, token: known.token, last_server_seq } };
  };

  for (const [index, line] of lines.entries()) {
    if (line.from === 'server' && line.message) {
      if (line.message.type !== 'ack') awaited.push({ ...line, number: index + 2 });
      continue;
    }
    await hear();
    if (line.connect) connection = await Connection.open(url, { key });
    else if (line.message) await connection.send(JSON.stringify(ours(line.message)), { part: line.lost ? 0.5 : 1 });
    else if (line.cut) {
      const more = connection.unheard().filter(({ type }) => type !== 'ack');
      if (more.length) throw new Error(`not in the file before line ${index + 2}: ${JSON.stringify(more)}`);
      connection.cut();
    } else if (line.close !== undefined) {
      let item;
      do item = await next({ close: line.close }); while (item.message?.type === 'ack');
      if (item.closed !== line.close) throw new Error(`line ${index + 2}: ${JSON.stringify(item)} instead of close ${line.close}`);
    }
  }
  await hear();
  if (connection && !connection.over) connection.cut();
  return sameModel ? '' : ' (another model: kinds of messages alone)';
}

// ---- Command line

const { values, positionals: [command, where, ...files] } = parseArgs({
  allowPositionals: true,
  options: { key: { type: 'string' }, speed: { type: 'string', default: 'Infinity' }, 'break-after': { type: 'string', default: '' }, timeout: { type: 'string', default: '60' } },
});
if (command === 'stream' && files.length === 1) {
  try {
    const totals = await stream(where.split(','), JSON.parse(readFileSync(files[0], 'utf8')),
      { key: values.key, speed: Number(values.speed), cuts: values['break-after'].split(',').filter(Boolean) });
    console.log(JSON.stringify({ totals }));
    process.exit(0);
  } catch (error) { console.error(error instanceof Broken ? error.message : error); process.exit(1); }
} else if (command === 'replay' && files.length) {
  let failed = false;
  for (const file of files) {
    const name = basename(file, '.jsonl');
    try { console.log(`ok ${name}${await replay(where, file, { key: values.key, timeout: Number(values.timeout) })}`); }
    catch (error) { failed = true; console.log(`DIFFERENT ${name}: ${error.message}`); }
  }
  process.exit(failed ? 1 : 0);
} else {
  console.error('client.mjs stream ws://HOST:PORT/v1/stream[,…] FILE [--speed N] [--break-after BYTES|MESSAGESm[,…]] [--key KEY]\nclient.mjs replay ws://HOST:PORT/v1/stream TRANSCRIPT.jsonl… [--key KEY]');
  process.exit(2);
}
