// A value to look at: as a tree, as text, or in hexadecimal.

import { bytesOf, textOf } from "./flo.js";
import { isDocument, jsonTree } from "./keys_json.js";
import { h, hexDump, shown, textOfClipped } from "./ui.js";

/** The ways to look at a value, the best first: of "tree", "text" and "hex". `whole`: nothing is cut off. */
export function waysOf(kind, bytes, whole) {
  const text = textOfClipped(bytes, whole);
  if (text === null) return ["hex", "text"];
  return whole && (kind === "json" || isDocument(text)) ? ["tree", "text", "hex"] : ["text", "hex"];
}

/** The value in one of these ways. */
export function valueView(way, bytes, whole) {
  if (!bytes.length) return h("p.soft", "The value is empty: it has no bytes.");
  if (way === "tree") return h("div.value", { tabindex: "0", role: "region", "aria-label": "The value as a tree" }, jsonTree(textOf(bytes)));
  const text = way === "text" ? textOfClipped(bytes, whole) : null;
  const content = way === "hex" ? hexDump(bytes) : text === null ? shown(bytes) : lines(text);
  return h(`pre.value${way === "hex" ? ".hex" : ""}`, { tabindex: "0", role: "region", "aria-label": "The value", dir: way === "hex" ? null : "auto" }, content);
}

/** Text with its lines and tabs; other characters that cannot be seen are escaped. */
const lines = (text) => text.split(/(\n|\t)/).map((part) => (part === "\n" || part === "\t" ? part : shown(bytesOf(part)))).join("");
