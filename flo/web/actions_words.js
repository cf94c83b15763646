// What the tabs of this page share: names, states and how attempts ended, in words; command lines; and addresses.

import { bytesOf, fromBase64 } from "./flo.js";
import { base64url, bytesFor, commandLine, h, link, nameOf, shellWord, shown } from "./ui.js";

export const PAGE = 100; // things of a list at once
export const STATES = ["pending", "running", "completed", "failed", "cancelled", "timed_out"]; // in the order of their numbers
export const RETRIABLE = ["failed", "cancelled", "timed_out"]; // those that can be retried all at once
export const CLIP = 65_536; // bytes that are shown of an input or an output
const LEVELS = { running: "good", failed: "bad", timed_out: "bad", cancelled: "warn" };
const DASH = 0x2d;

/** A state, or how an attempt ended, as people write it. */
export const stateText = (state) => state.replace("_", " ");

/** `bad`, `warn`, `good`, or nothing. */
export const levelOf = (state) => LEVELS[state] ?? "";

/** A state as a mark. */
export const statePill = (state) => h("span.pill", { class: levelOf(state) }, stateText(state));

/** Whether a run of this state has ended. */
export const isOver = (state) => state !== "pending" && state !== "running";

/** A name for a sentence. */
export function called(name) {
  const text = shown(bytesOf(name)) || "(empty)";
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

export const actionLink = (name, text = nameOf(name, 80)) => h("a", { href: link("actions", bytesFor("action", name)) }, text);
export const runLink = (id, state = {}) => h("a.mono", { href: link("actions", { tab: "runs", ...state, run: id }) }, id);

/** Buttons of a row of a list, side by side. */
export function buttonsOf(...buttons) {
  const element = h("span", buttons.flatMap((button) => [button, " "]));
  element.style.whiteSpace = "nowrap";
  return element;
}

/** Labels for people: `region: eu`, each apart. */
export function labelPills(labels) {
  const all = Object.entries(labels);
  return all.length ? h("span.row", all.map(([name, value]) => h("span.pill", h("bdi", shown(bytesOf(name))), ": ", h("bdi", shown(bytesOf(typeof value === "string" ? value : JSON.stringify(value))))))) : h("span.soft", "none");
}

/** Labels as the server takes them, nothing if there are none. */
export const labelsText = (labels) => (Object.keys(labels).length ? JSON.stringify(labels) : "");

/**
 * The line `flo GROUP VERB FLAGS WORDS`; flags are [name, value], left out where there is no value. Words that begin with a dash and go on need `--`,
 * or they would be read as flags. It is empty where no shell can pass a word on: none can have a byte 0.
 */
export function line(view, group, verb, words, flags = []) {
  const given = flags.filter(([, value]) => value !== "" && value !== null && value !== undefined).flatMap(([name, value]) => {
    const bytes = bytesOf(typeof value === "number" ? String(value) : value);
    return bytes[0] === DASH ? [Uint8Array.of(...bytesOf(`--${name}=`), ...bytes)] : [bytesOf(`--${name}`), bytes];
  });
  const bytes = words.map(bytesOf);
  if ([...given, ...bytes].some((word) => word.includes(0))) return "";
  return commandLine(view.namespace, group, verb, ...given, ...(bytes.some((word) => word[0] === DASH && word.length > 1) ? ["--"] : []), ...bytes);
}

const escapedByte = (byte) => (/[\w.~-]/.test(String.fromCharCode(byte)) ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`);

/** The curl of a REST route on a thing, where there is no command: `curl FLAGS …/api/v1/KIND/NAMESPACE/NAME…`. */
export function curl(view, flags, kind, name, rest = "") {
  return `curl ${[...flags, `${location.origin}/api/v1/${kind}/${encodeURIComponent(view.namespace)}/${Array.from(bytesOf(name), escapedByte).join("")}${rest}`].map(shellWord).join(" ")}`;
}

/** The option `cursor` of the page's address, and a cursor of an answer for it. */
export const cursorIn = (view) => (view.params.get("after") ? fromBase64(view.params.get("after")) : undefined);
export const cursorFor = (cursor) => (cursor ? base64url(fromBase64(cursor)) : "");

/** Links to the first and the next page of a list. `state` is what the address keeps. */
export function pages(view, state, next) {
  const after = view.params.get("after");
  return [after && h("a.button", { href: link("actions", state) }, "First page"), next && h("a.button", { href: link("actions", { ...state, after: next }) }, "Next page")];
}
