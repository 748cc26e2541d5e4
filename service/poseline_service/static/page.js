/* What the console's parts share: the document, words and numbers, and the colours of the classes. */

export const $ = (id) => document.getElementById(id);
export const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
export const words = (label) => label.replaceAll("_", " ");
export const minutes = (t) => `${Math.floor(t / 60)}:${String(Math.floor(t % 60)).padStart(2, "0")}`;
export const calm = matchMedia("(prefers-reduced-motion: reduce)");

export function element(tag, className, content = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.append(content);
  return node;
}

/** Custom properties of an element; through the CSSOM, which the Content-Security-Policy allows. */
export function vars(node, values) {
  for (const [name, value] of Object.entries(values)) node.style.setProperty(`--${name}`, value);
}

/** The class names; the index is the label_id, 0 is the background. Those that are enrolled meanwhile come when they are heard of. */
export const classes = [];

/** A class keeps its colour as long as it keeps its label_id: neighbours are a golden angle apart. */
export function hue(label) {
  return (190 + Math.max(0, classes.indexOf(label)) * 137.508) % 360;
}

/** What a user can do something about, in words for them; any other error is a bug. */
export class Trouble extends Error {
  /** code: of the server's problem, where it is one. */
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}
