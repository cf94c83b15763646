// How a record is shown: as a line of a list, and in full beside it.

import { bytesOf, fieldList, textOf } from "./flo.js";
import { nextId, idTime, streamLine } from "./streams_read.js";
import { attempt, bytesFor, bytesText, copyable, download, facts, fill, h, hexDump, link, nameOf, plural, preview, shown, when } from "./ui.js";

export const LINE_BYTES = 512; // of a record in a list
const WHOLE_BYTES = 65_536; // of a record in full; the rest is a download
const LINE_FIELDS = 12;
const FIELDS = 1; // the kind of a record that is a list of fields

/** Options of stream_read for a list: the byte more tells whether anything was cut off. */
export const clipped = { clip: LINE_BYTES + 1 };

/** [name, value, whether all of it is here] of each field. The one that `clip` cut through comes with what there is. */
function fieldsOf(payload) {
  const fields = fieldList(payload).map(([name, value]) => [name, value, true]);
  const at = fields.reduce((sum, [name, value]) => sum + 6 + name.length + value.length, 2);
  if (at + 2 > payload.length) return fields;
  const begin = at + 2 + payload[at] + 256 * payload[at + 1];
  if (begin <= payload.length) fields.push([payload.subarray(at + 2, begin), payload.subarray(begin + 4), false]);
  return fields;
}

/** A record as a line of a list. */
export function lineOf({ kind, payload }) {
  const all = payload.length <= LINE_BYTES;
  if (kind !== FIELDS) return preview(payload, all, 240);
  const fields = fieldsOf(payload);
  const cells = fields.slice(0, LINE_FIELDS).map(([name, value, whole]) => [h("span.soft", nameOf(name, 40), " "), preview(value, whole, 100), "  "]);
  return [cells, (!all || fields.length > LINE_FIELDS) && h("span.soft", "…")];
}

/** What a filter looks at: all of the line, in lower case. */
export function textFor({ kind, payload }) {
  const parts = kind === FIELDS ? fieldsOf(payload).flatMap(([name, value]) => [name, value]) : [payload];
  return parts.map(shown).join("\n").toLowerCase();
}

/** The time of an id with its ms; what has none is said. */
export function timeOf(id) {
  const ms = idTime(id);
  if (ms === null) return h("span.soft", "no time");
  const date = new Date(ms);
  const today = date.toDateString() === new Date().toDateString();
  const clock = `${date.toLocaleTimeString("en-GB")}.${String(date.getMilliseconds()).padStart(3, "0")}`;
  const day = date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
  return oneLine(h("time", { datetime: date.toISOString(), title: when(ms) }, today ? clock : `${day} ${clock}`));
}

/** The link that shows a record in full. */
export const recordLink = (view, id) => oneLine(h("a.mono", { href: link("streams", { ...Object.fromEntries(view.params), record: id }) }, id));

/** An element that is never broken into lines. */
export function oneLine(element) {
  element.style.whiteSpace = "nowrap";
  return element;
}

// -- one record in full ------------------------------------------------------------------------------------------------------------------

/** Show the record that the parameter `record` names, if there is one. Gives { update }. `found(there)` is told whether there is. */
export function recordPanel(view, name) {
  let id = null;

  async function update() {
    const wanted = view.params.get("record");
    if (wanted === id) return;
    id = wanted;
    view.root.hidden = id === null;
    view.root.parentNode.classList.toggle("split", id !== null);
    if (id === null) return void fill(view.root);
    const close = h("a.button", { href: link("streams", { ...Object.fromEntries(view.params), record: null }) }, "Close");
    const head = h("div.head", h("h2.grow", "Record ", h("span.mono", id)), close);
    fill(view.root, head, h("p.soft", "Reading…"));
    const records = await attempt(() => view.run("stream_read", { key: name, start: id, end: id, clip: WHOLE_BYTES + 1 }));
    if (view.ended || wanted !== id) return;
    if (!records?.length) fill(view.root, head, h("p", records ? "There is no such record: it was trimmed, or never there." : "It could not be read."));
    else fill(view.root, head, bodyOf(view, name, records[0]));
    const box = view.root.getBoundingClientRect();
    if (box.top < 0 || box.top > innerHeight) view.root.scrollIntoView();
  }

  return { update };
}

function bodyOf(view, name, record) {
  const { id, kind } = record;
  const cut = record.payload.length > WHOLE_BYTES;
  const payload = record.payload.subarray(0, WHOLE_BYTES);
  const ms = idTime(id);
  const fields = kind === FIELDS ? fieldsOf(payload) : null;
  const size = fields ? plural(fields.length, "field") : bytesText(payload.length);
  const content = h("div.stack");
  const ways = h("select", { onchange: draw }, Object.keys(WAYS).map((way) => h("option", way)));
  function draw() {
    const box = (value) => h("pre.value", { tabindex: "0" }, WAYS[ways.value](value) || h("span.soft", "(empty)"));
    fill(content, fields ? fields.map(([title, value, whole]) => [h("h3", nameOf(title)), box(value), !whole && h("p.soft", "cut off here")]) : box(payload));
  }
  const save = async () => {
    const [all] = await view.run("stream_read", { key: name, start: id, end: id });
    if (all) download(all.payload, `${id}.bin`);
  };
  const to = (from) => link("streams", { ...bytesFor("stream", name), from });
  draw();
  return h("div.stack",
    facts(["Written", ms === null ? "the id has no time" : when(ms)], ["Holds", cut ? `more than ${size}` : size]),
    h("div.row", h("label.check", "Show as ", ways), h("button", { type: "button", onclick: () => attempt(save) }, fields ? "Download as stored" : "Download")),
    cut && h("p.warn", "The first 64 KiB are shown."),
    content,
    h("div.row", h("a", { href: to(id) }, "Read on from this record"), h("a", { href: to(nextId(id)) }, "From the next one")),
    copyable(streamLine(view, "read", ["--start", id, "--end", id], name)),
  );
}

/** Ways to show bytes. The first takes what suits them. */
const WAYS = {
  "what it is": (bytes) => asJson(bytes) ?? asText(bytes) ?? hexDump(bytes),
  "text": (bytes) => asText(bytes) ?? shown(bytes),
  "hexadecimal": hexDump,
};

/** JSON with its indents; null if it is none, or only a word or a number. */
function asJson(bytes) {
  const text = textOf(bytes);
  return text !== null && /^\s*[[{]/.test(text) ? parsed(text) : null;
}

/** Text with its lines; in them, what cannot be shown is escaped. Null if it is none. */
function asText(bytes) {
  return textOf(bytes)?.split("\n").map((line) => shown(bytesOf(line))).join("\n") ?? null;
}

function parsed(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return null;
  }
}
