// Names of keys as a person writes them: as text, or with escapes for other bytes.

import { bytesOf } from "./flo.js";
import { bytesFor, field, h } from "./ui.js";

/** The changes of the address that choose a key; null chooses none. */
export const chosen = (key) => ({ key: null, key64: null, as: null, from: null, to: null, ...(key ? bytesFor("key", key) : {}) });

/** A field for a name of any bytes. */
export function nameField() {
  const input = h("input", { autocomplete: "off", spellcheck: "false", autocapitalize: "off" });
  const escapes = h("input", { type: "checkbox" });
  const element = h("div.stack", field("Name", input), h("label.check.soft", escapes, h("span", h("code", "\\n"), " and ", h("code", "\\xff"), " stand for bytes")));
  return { element, input, escapes, bytes: () => (escapes.checked ? unescaped(input.value) : bytesOf(input.value)) };
}

const MARKS = { n: 10, r: 13, t: 9, "\\": 92 };

/** The bytes of a text with escapes, as `shown` writes them. */
export function unescaped(text) {
  const bytes = [];
  for (const [, byte, code, mark, plain] of text.matchAll(/\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\([nrt\\])|([^\\]+|\\)/gi)) {
    if (byte) bytes.push(parseInt(byte, 16));
    else bytes.push(...(mark ? [MARKS[mark.toLowerCase()]] : bytesOf(code ? String.fromCharCode(parseInt(code, 16)) : plain)));
  }
  return Uint8Array.from(bytes);
}
