// A message's payload for people: as text, as JSON, or as a dump of its bytes.

import { bytesOf, textOf } from "./flo.js";
import { bytesText, h, hexDump, shown } from "./ui.js";

export const SHOWN_BYTES = 65_536; // of a chosen message
export const CLIP = 200; // bytes, in lists
export const NARROW = 60; // letters, in a list beside a chosen message

/** Whether there is no room for a message beside its list; as in the style sheet. */
export const isNarrow = () => matchMedia("(max-width: 860px)").matches;

/** The text of bytes, or null. Of bytes that were cut off, a letter that was cut in two is left out. */
function textIn(bytes, whole) {
  for (let less = 0; less < (whole ? 1 : 4); less++) {
    const text = textOf(bytes.subarray(0, bytes.length - less));
    if (text !== null) return text;
  }
  return null;
}

const lines = (text) => text.split(/(\n|\t)/).map((piece) => (piece === "\n" || piece === "\t" ? piece : shown(bytesOf(piece)))).join("");

/** JSON text with a line for each member. It is not parsed and written again: that would round its large numbers. */
function indented(text) {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s"{}[\],:]+/g);
  let depth = 0;
  let out = "";
  tokens.forEach((token, at) => {
    const line = () => `\n${"  ".repeat(depth)}`;
    if (token === "{" || token === "[") {
      depth++;
      out += token + (/[}\]]/.test(tokens[at + 1]) ? "" : line());
    } else if (token === "}" || token === "]") {
      depth--;
      out += (/[{[]/.test(tokens[at - 1]) ? "" : line()) + token;
    } else {
      out += token === "," ? `,${line()}` : token === ":" ? ": " : token;
    }
  });
  return out;
}

function isJson(text) {
  try {
    return /^\s*[[{]/.test(text) && JSON.parse(text) !== undefined;
  } catch {
    return false;
  }
}

/**
 * A payload, and buttons to choose its form. `whole`: nothing was cut off. `as` is the form that was chosen before ("text", "json", "hex", or
 * null), `choose(as)` is told the next one.
 */
export function payloadView(bytes, whole, as, choose) {
  const text = textIn(bytes, whole);
  const forms = [text !== null && ["text", "Text"], whole && text !== null && isJson(text) && ["json", "JSON"], ["hex", "Hex"]].filter(Boolean);
  const form = (forms.find(([name]) => name === as) ?? forms.find(([name]) => name === "json") ?? forms[0])[0];
  const buttons = forms.map(([name, title]) => h("button", { type: "button", "aria-pressed": String(name === form), class: name === form ? "" : "quiet", onclick: () => choose(name) }, title));
  const content = form === "hex" ? hexDump(bytes) : form === "json" ? lines(indented(text)) : lines(text);
  return h("div.stack",
    h("div.row", h("h3.grow", whole ? `Payload, ${bytesText(bytes.length)}` : `The first ${bytesText(bytes.length)} of the payload`), buttons),
    h("pre.value", { dir: form === "text" ? "auto" : null, tabindex: "0", role: "region", "aria-label": "Payload" }, content || h("span.soft", "(empty)")));
}
