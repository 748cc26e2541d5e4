/* A file of poses: a request of `POST /v1/localize` (as `poseline actor` prints it), or a recorded stream in NDJSON, whose
   first line says what the numbers are and whose others are frames: docs/protocol.md. */

import { Trouble } from "../page.js";
import { Recording } from "./recording.js";

const LARGEST = 128 * 2 ** 20; // bytes; as the command line's readers

export class PoseFile extends Recording {
  constructor(file) {
    super();
    Object.assign(this, { file, name: file.name });
  }

  async open() {
    if (this.file.size > LARGEST) throw new Trouble(`${this.name} has more than ${LARGEST / 2 ** 20} MiB; cut it into parts`);
    const recording = read(await this.file.text(), this.name);
    if (typeof recording.layout !== "string") {
      throw new Trouble(`${this.name} has joints of its own (a custom layout), which this page cannot draw; \`poseline stream\` can play it`);
    }
    if ((recording.coordinates.dims ?? 3) !== 3) throw new Trouble(`${this.name} has flat poses, which the stage cannot show`);
    if (!recording.frames.some(({ people }) => people.length)) throw new Trouble(`nobody is in ${this.name}`);
    await this.load(recording);
  }
}

function read(text, name) {
  let documents;
  try {
    documents = [JSON.parse(text)];
  } catch {
    documents = lines(text, name);
  }
  const [head, ...frames] = documents;
  if (!head?.layout) throw new Trouble(`${name} is no pose file: it does not say its layout`);
  const { layout, coordinates = {}, fps } = head;
  const recording = { layout, coordinates, fps, frames: head.tracks ? moments(head, name) : frames };
  const wrong = recording.frames.findIndex(({ t, people }, i) => !(t > (recording.frames[i - 1]?.t ?? -Infinity)) || !Array.isArray(people));
  if (wrong >= 0) throw new Trouble(`frame ${wrong} of ${name} is not {t, people} with rising t`);
  // The page's clock begins with the file's first frame.
  const first = recording.frames[0]?.t ?? 0;
  return { ...recording, frames: recording.frames.map(({ t, people }) => ({ t: t - first, people })) };
}

function lines(text, name) {
  return text.split("\n").filter((line) => line.trim()).map((line, i) => {
    try {
      return JSON.parse(line);
    } catch {
      throw new Trouble(`${name} is no pose file: line ${i + 1} is not JSON`);
    }
  });
}

/** A request's tracks, turned from one list of poses each into one list of people each moment. */
function moments({ tracks, fps, timestamps }, name) {
  if (!fps === !timestamps) throw new Trouble(`${name} needs either fps or timestamps`);
  const most = Math.max(0, ...tracks.map(({ start_frame: start = 0, keypoints }) => start + keypoints.length));
  const clock = timestamps ?? Array.from({ length: most }, (_, i) => i / fps);
  const frames = clock.map((t) => ({ t, people: [] }));
  for (const { track_id: id, start_frame: start = 0, keypoints } of tracks) {
    keypoints.forEach((kp, i) => frames[start + i]?.people.push({ id, kp }));
  }
  return frames;
}
