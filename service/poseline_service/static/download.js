/* The timeline and the poses as files, made here from what the page has: nothing is asked of the server.

   JSON and CSV are the formats of core/poseline/formats (native, tables), the poses a recorded stream in NDJSON. */

const SEGMENT = ["segment_id", "track_id", "label", "label_id", "start", "end", "score", "repetitions"];
const MODEL = { model: "name", version: "version", digest: "digest", model_layout: "layout", license: "license", research_only: "research_only" };
const RECORDING = ["duration", "fps", "layout"];
const THRESHOLDS = ["min_score", "off_score", "min_duration", "off_hang", "max_duration", "classes", "gap_reset"];

/** A finished timeline: what it is of, which model found it by which thresholds, and its finals by start. */
export function report(source, model, options, finals) {
  const { name, duration, fps = null, layout, time } = source;
  return {
    format: "poseline.timeline",
    version: 1,
    source: name,
    duration: Number.isFinite(duration) ? duration : time,
    fps,
    layout,
    model,
    thresholds: Object.fromEntries(THRESHOLDS.filter((one) => one in options).map((one) => [one, options[one]])),
    segments: finals
      .toSorted((a, b) => a.start - b.start || compare(a.track_id, b.track_id) || compare(a.label, b.label))
      .map((segment) => Object.fromEntries(SEGMENT.map((name) => [name, segment[name]]))),
  };
}

const compare = (a, b) => (a < b ? -1 : Number(a > b));

export const json = (timeline) => JSON.stringify(timeline, null, 1) + "\n";

export function csv(timeline) {
  const whole = RECORDING.map((name) => timeline[name]);
  const model = Object.values(MODEL).map((name) => timeline.model[name]);
  const rows = timeline.segments.map((segment) => [
    timeline.source, ...SEGMENT.map((name) => segment[name]), ...whole, ...model, JSON.stringify(timeline.thresholds),
  ]);
  const head = ["source", ...SEGMENT, ...RECORDING, ...Object.keys(MODEL), "thresholds"];
  return [head, ...rows].map((row) => row.map(cell).join(",") + "\r\n").join("");
}

function cell(value) {
  const text = value === true ? "True" : value === false ? "False" : String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Frames up to media time `until`. */
export function poses({ layout, coordinates, poses: { frames } }, until) {
  const seen = frames.filter(({ t }) => t <= until).map(({ t, people }) => ({ t, people }));
  return [{ layout, coordinates }, ...seen].map((line) => JSON.stringify(line) + "\n").join("");
}

export function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // not before the browser has read it
}
