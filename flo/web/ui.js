// What all pages are made of: elements, names and values of any bytes, numbers for people, tables, dialogs, toasts, commands to copy.

import { bytesOf, fromBase64, textOf } from "./flo.js";

// -- elements ----------------------------------------------------------------------------------------------------------------------------

/**
 * Make an element: `h("a.button", { href: "#/", onclick: run, disabled: false }, "text", other)`. Attributes that are null, undefined or
 * false are left out; those that begin with `on` are listeners. Children may be nested lists; null and false are left out.
 */
export function h(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  if (attributes && (typeof attributes !== "object" || attributes instanceof Node || Array.isArray(attributes))) {
    children.unshift(attributes);
    attributes = null;
  }
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value") element.value = value;
    else if (key === "class") element.classList.add(...value.split(" ").filter(Boolean));
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Put these in the place of what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// -- names and values: any bytes ---------------------------------------------------------------------------------------------------------

// Control characters, and those that turn the direction of what is around them, are shown as escapes.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/;
const ESCAPES = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function escaped(letter) {
  const code = letter.codePointAt(0);
  return ESCAPES[letter] ?? (code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`);
}

/** Bytes as a line of text: what cannot be shown stands there as \n, \x1b, \xff. */
export function shown(bytes) {
  const text = textOf(bytes);
  if (text === null) return Array.from(bytes, (byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`)).join("");
  return Array.from(text, (letter) => (HIDDEN.test(letter) ? escaped(letter) : letter)).join("");
}

/** A name (bytes, or as JSON answers have it) as an element that keeps its direction to itself; an empty one is said. */
export function nameOf(name, most = 120) {
  const text = shown(bytesOf(name));
  if (!text) return h("span.soft", "(empty)");
  return h("bdi.mono", { title: text.length > most ? text : null }, text.length > most ? `${text.slice(0, most)}…` : text);
}

/** The text of bytes of which the end may be cut off, also within a character (not if they are `whole`); null where they are none. */
export function textOfClipped(bytes, whole = false) {
  for (let cut = 0; cut <= (whole ? 0 : 3); cut++) {
    const text = textOf(bytes.subarray(0, bytes.length - cut));
    if (text !== null) return text;
  }
  return null;
}

/** A line of a value for a list: its beginning, and `…` where there is more. `whole`: nothing was cut off before it came here. */
export function preview(bytes, whole = true, most = 160) {
  const cut = bytes.length > most || !whole;
  const part = bytes.subarray(0, most);
  const text = shown(cut ? bytesOf(textOfClipped(part) ?? part) : part);
  return h("span.mono", text || h("span.soft", "(empty)"), cut && h("span.soft", " …"));
}

/** Bytes as a dump of lines: offset, hexadecimal, text. */
export function hexDump(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const piece = Array.from(bytes.subarray(at, at + 16));
    const digits = piece.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${digits.padEnd(47)}  ${piece.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("")}`);
  }
  return lines.join("\n");
}

/** Base64url of bytes, for the page's address. */
export function base64url(bytes) {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** Bytes of a parameter of the page's address, null if it is not there: `key=text`, or `key64=base64url` where the bytes are no text. */
export function bytesIn(params, name) {
  if (params.has(name)) return bytesOf(params.get(name));
  return params.has(`${name}64`) ? fromBase64(params.get(`${name}64`)) : null;
}

/** The same as an object, to be put into an address by `link`. */
export function bytesFor(name, value) {
  const bytes = bytesOf(value);
  if (!bytes.length) return { [`${name}64`]: " " }; // base64 of nothing; `link` leaves out what is empty
  const text = textOf(bytes);
  return text === null ? { [`${name}64`]: base64url(bytes) } : { [name]: text };
}

/** The address of a page with its state; what is null, undefined or empty is left out. The namespace is kept by the frame. */
export function link(page, state = {}) {
  const params = new URLSearchParams();
  const space = new URLSearchParams(location.hash.split("?")[1]).get("ns");
  for (const [name, value] of Object.entries({ ns: space, ...state })) {
    if (value !== null && value !== undefined && value !== "" && value !== false) params.set(name, value);
  }
  const query = params.toString();
  return `#/${page}${query ? `?${query}` : ""}`;
}

/** A word for a POSIX shell; bytes that are no text in bash's $'…'. */
export function shellWord(value) {
  const bytes = bytesOf(typeof value === "number" || typeof value === "bigint" ? String(value) : value);
  const text = textOf(bytes);
  if (text !== null && !HIDDEN.test(text)) return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
  return `$'${Array.from(bytes, (byte) => (byte >= 32 && byte < 127 && byte !== 39 && byte !== 92 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`)).join("")}'`;
}

/** A command line that does what a page did: `flo -n NAMESPACE …`. */
export function commandLine(namespace, ...words) {
  const [group, verb, ...rest] = words;
  const space = namespace === "default" ? [] : ["-n", namespace];
  return ["flo", group, verb, ...space, ...rest].map(shellWord).join(" ");
}

// -- numbers for people ------------------------------------------------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en-US");

/** 12,345. */
export const count = (number) => whole.format(number);

/** 1 queue, 2 queues. */
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** A rate: few digits, no more than are true. */
export function rate(number) {
  if (number >= 100_000) return `${(number / 1000).toFixed(0)}k`;
  if (number >= 10_000) return `${(number / 1000).toFixed(1)}k`;
  return number >= 10 || number === 0 ? whole.format(Math.round(number)) : number.toFixed(1);
}

/** Bytes: 512 B, 1.5 KiB, 20 MiB. */
export function bytesText(size) {
  for (const [unit, step] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (size >= step) return `${size / step >= 10 ? Math.round(size / step) : (size / step).toFixed(1)} ${unit}`;
  }
  return `${Math.round(size)} B`;
}

/** A length of time, ms: 340 ms, 12 s, 5 min, 3 h, 2 d. */
export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  for (const [unit, step, next] of [["s", 1000, 60], ["min", 60_000, 60], ["h", 3_600_000, 48], ["d", 86_400_000, Infinity]]) {
    if (ms < step * next) return `${ms / step < 10 && unit !== "s" ? (ms / step).toFixed(1) : Math.round(ms / step)} ${unit}`;
  }
  return "";
}

/** A wait, in microseconds: 85 µs, 1.2 ms. */
export const micros = (usec) => (usec < 1000 ? `${Math.round(usec)} µs` : usec < 1e6 ? `${(usec / 1000).toFixed(usec < 10_000 ? 1 : 0)} ms` : `${(usec / 1e6).toFixed(1)} s`);

/** A time, ms, as an element: how long ago, and the date as its title. */
export function ago(ms, now = Date.now()) {
  const date = new Date(ms);
  const past = now - ms;
  const text = past < 0 ? `in ${duration(-past)}` : past < 1000 ? "now" : `${duration(past)} ago`;
  return h("time", { datetime: date.toISOString(), title: date.toLocaleString() }, text);
}

/** A date and time in full, of the person's own clock. */
export const when = (ms) => new Date(ms).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

// -- tables ------------------------------------------------------------------------------------------------------------------------------

/**
 * A table. `columns`: [{ title, cell: (row) => child, class: "num" }]. `caption` is for screen readers. `selected(row)` marks rows.
 */
export function table(caption, columns, rows, { selected = () => false } = {}) {
  const head = h("tr", columns.map((column) => h("th", { scope: "col", class: column.class }, column.title)));
  const body = rows.map((row) => h("tr", { "aria-selected": selected(row) ? "true" : null }, columns.map((column) => h("td", { class: column.class }, column.cell(row)))));
  return h("div.scroll", { tabindex: "0", role: "region", "aria-label": caption }, h("table", { "aria-label": caption }, h("thead", head), h("tbody", body)));
}

/** What stands where there is nothing yet: a sentence, and commands that make the first. */
export function emptyState(sentence, ...commands) {
  return h("div.empty", h("p", sentence), commands.map((command) => copyable(command)));
}

/** A command that can be copied. */
export function copyable(command) {
  return h("div.row", h("pre.grow", command), copyButton(command));
}

/** A button that copies a text; a long one may be a function that makes it. */
export function copyButton(text, label = "Copy") {
  const button = h("button.quiet", { type: "button", onclick: copy }, label);
  async function copy() {
    try {
      await navigator.clipboard.writeText(typeof text === "function" ? text() : text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed"; // only pages of localhost or https may
    }
    setTimeout(() => (button.textContent = label), 1500);
  }
  return button;
}

/** Facts: a list of [name, child]; those that are null are left out. */
export function facts(...pairs) {
  return h("dl.facts", pairs.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined).map(([name, child]) => [h("dt", name), h("dd", child)]));
}

// -- over the page -----------------------------------------------------------------------------------------------------------------------

/**
 * A dialog with a form. `build(form)` gives the children. Resolves with what `submit()` gives, which may be a promise: where that rejects,
 * its message is shown and the dialog stays. Resolves with null where the person leaves it. `action` is the button's text.
 */
export function dialog({ title, children = [], action = "Save", danger = false, wide = false, submit = () => true }) {
  return new Promise((resolve) => {
    const problem = h("p.bad", { role: "alert", hidden: true });
    const go = h(`button.main${danger ? ".danger" : ""}`, { type: "submit" }, action);
    const form = h("form", { method: "dialog" }, h("h2", title), children, problem, h("div.row", h("button", { type: "button", onclick: () => box.close() }, "Cancel"), go));
    const box = h(`dialog${wide ? ".wide" : ""}`, { "aria-label": title }, form);
    let result = null;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      try {
        result = (await submit(form)) ?? true;
        box.close();
      } catch (error) {
        problem.textContent = error.message;
        problem.hidden = false;
      } finally {
        go.disabled = false;
      }
    });
    box.addEventListener("close", () => {
      box.remove();
      resolve(result);
    });
    document.body.append(box);
    box.showModal();
  });
}

/** Ask once before something is destroyed. `text` says what will happen. Resolves with whether it is to be done. */
export const confirm = (title, text, action) => dialog({ title, children: [h("p", text)], action, danger: true }).then(Boolean);

/** A field of a dialog: a label and its control. */
export const field = (label, control) => h("label.field", label, control);

/**
 * Say what was done: a sentence, the command that does the same, and a way back, if there is one. It goes after 12 s, but not while the
 * pointer or the focus is on it.
 */
export function done(sentence, { command = "", undo = null } = {}) {
  const back = undo && h("button", { type: "button", onclick: () => { box.remove(); attempt(undo); } }, "Undo");
  const box = h("div.toast", h("div", sentence), command && h("div.row", h("code.grow", command), copyButton(command)), back && h("div.row", back));
  toast(box, 12_000);
}

/** Say what went wrong. */
export function failed(error) {
  toast(h("div.toast.bad", { role: "alert" }, error.message), 20_000);
}

/** Run something; what it rejects with is said. Gives its result, or undefined. */
export async function attempt(run) {
  try {
    return await run();
  } catch (error) {
    failed(error);
    return undefined;
  }
}

function toast(box, ms) {
  const close = h("button.quiet", { type: "button", onclick: () => box.remove() }, "Dismiss");
  box.append(h("div.row", h("span.grow"), close));
  const list = document.getElementById("toasts");
  list.append(box);
  while (list.children.length > 4) list.firstChild.remove();
  const later = () => setTimeout(() => (box.matches(":hover, :focus-within") ? later() : box.remove()), ms);
  later();
}

/** Save bytes as a file of the person's. */
export function download(bytes, name) {
  const url = URL.createObjectURL(new Blob([bytes]));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
