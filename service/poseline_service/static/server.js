/* What the console asks of its server by HTTP; and the key, where that asks for one. */

import { $, Trouble } from "./page.js";

const KEY = "poseline-key"; // of this tab alone, until it is closed
let asking; // one dialog, however many wait for it

/** JSON of our own server; content: what is sent as JSON. Raises Trouble, with the `code` of the problem. */
export async function ask(path, method = "GET", content) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    let response;
    try {
      response = await fetch(path, {
        method,
        headers: { ...(key && { Authorization: `Bearer ${key}` }), ...(content && { "Content-Type": "application/json" }) },
        body: content && JSON.stringify(content),
      });
    } catch {
      throw new Trouble("no connection to the server");
    }
    if (response.ok) return response.status === 204 ? undefined : response.json();
    const { code, detail } = await response.json().catch(() => ({}));
    if (response.status !== 401) throw new Trouble(detail ?? `the server answered ${response.status}`, code);
    if (sessionStorage.getItem(KEY) === key) await (asking ??= key_of(detail)).finally(() => (asking = undefined));
  }
}

/** The key that the user gives. Raises Trouble where there is none. */
async function key_of(why) {
  const dialog = $("door");
  $("door-why").textContent = sessionStorage.getItem(KEY) ? why : "";
  $("key").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
  if (dialog.returnValue !== "in") throw new Trouble("this server asks for an API key");
  sessionStorage.setItem(KEY, $("key").value.trim());
}
