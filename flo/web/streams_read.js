// Ids of records and names of streams as the operations take them, and the search for the newest records. Draws nothing.

import { bytesOf, fromBase64 } from "./flo.js";
import { commandLine } from "./ui.js";

const SEQ_BITS = 64n;
const HALF_MAX = (1n << SEQ_BITS) - 1n; // of an id: its ms, or its seq
const NAME_BYTES_MAX = 32_000; // of a stream
const DATE_MS_MAX = 8.64e15; // later than this JavaScript knows no date
const TRIES_MAX = 128; // halving finds any id in so many; of common streams it takes one to ten
const READ_MAX = 1000; // records in an answer
const READS_MAX = 5; // answers in a row, each of 16 MiB that the server reads

// -- ids ---------------------------------------------------------------------------------------------------------------------------------

/** The id of a text, `ms-seq` or `ms`, as a number of 128 bits that is ordered as ids are; null if it is none. */
export function idOf(text) {
  const found = /^(\d{1,20})(?:-(\d{1,20}))?$/.exec(text.trim());
  if (!found) return null;
  const [ms, seq] = [BigInt(found[1]), BigInt(found[2] ?? 0)];
  return ms > HALF_MAX || seq > HALF_MAX ? null : (ms << SEQ_BITS) | seq;
}

export const idText = (id) => `${id >> SEQ_BITS}-${id & HALF_MAX}`;

/** The id after this one, as text. */
export const nextId = (text) => idText(idOf(text) + 1n);

/** The time in an id, ms; null if it has none that a calendar knows, or is the id 0-0 of no record. */
export function idTime(text) {
  const ms = Number(text.split("-")[0]);
  return text === "0-0" || ms > DATE_MS_MAX ? null : ms;
}

/** The id to begin with for what a person wrote: an id, a date and time, a time of today, or `5 min ago`. Null if it is none of these. */
export function idFrom(text, now = Date.now()) {
  const id = idOf(text);
  if (id !== null) return idText(id);
  const past = /^(\d+)\s*(s|min|m|h|d)(?:\s+ago)?$/.exec(text.trim());
  if (past) return `${Math.max(now - Number(past[1]) * { s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 }[past[2]], 0)}-0`;
  const today = /^\d{1,2}:\d\d(:\d\d)?$/.test(text.trim()) ? `${new Date(now).toDateString()} ${text}` : text;
  const ms = Date.parse(today);
  return ms >= 0 ? `${ms}-0` : null;
}

// -- the newest records ------------------------------------------------------------------------------------------------------------------

/**
 * The last records up to the id `end`, oldest first: at least `want` of them, if there are as many from the id `first` on. The server
 * reads forward only, so the place to begin is searched. `read(start, end, limit)` gives records; ids are numbers, as of `idOf`; `back` is
 * a guess how far before `end` to begin. A begin is too early if the answer does not reach the end, too late if it has too few records.
 */
export async function newest(read, first, end, want, back) {
  const limit = Math.min(3 * want, READ_MAX);
  let early = null;
  let late = end + 1n;
  let oldest = late; // of the records found; from `late` on there are no others
  let best = [];
  let start = larger(first, end - back);
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const { records, reached } = await readTo(read, start, end, limit);
    if (reached) {
      if (records.length >= want || start <= first) return records;
      [best, late] = [records, start];
      if (records.length) [oldest, end] = [idOf(records[0].id), idOf(records.at(-1).id)]; // the record `end` may be gone
    } else {
      early = start;
      // The records are large: so many would be too many
      if (records.length < limit) want = Math.min(want, Math.ceil(records.length / 3));
      if (best.length >= want) return best;
    }
    if (early === null) start = larger(first, end - (back = larger(back, 1n) * 16n));
    else if (late - early <= 1n) break;
    else start = between(early, late, oldest);
  }
  return best;
}

/** Records from `start` to `end`, at most `limit`, and whether they are all. An answer that is cut because of its bytes is gone on with. */
async function readTo(read, start, end, limit) {
  const records = [];
  for (let reads = 0; reads < READS_MAX; reads++) {
    const more = await read(records.length ? nextId(records.at(-1).id) : idText(start), idText(end), limit - records.length);
    records.push(...more);
    if (!more.length || idOf(more.at(-1).id) === end) return { records, reached: true };
    if (records.length === limit) break;
  }
  return { records, reached: false };
}

/** A begin between two. Distances from the oldest record found, and seqs, are of any magnitude: the geometric mean finds it in few steps. */
function between(early, late, oldest) {
  const [low, high] = [early & HALF_MAX, late & HALF_MAX];
  if (early >> SEQ_BITS === late >> SEQ_BITS && high > 4n * (low + 1n)) return (early - low) | root((low + 1n) * high);
  const start = oldest - root((oldest - early) * larger(oldest - late, 1n));
  return start > early && start < late ? start : (early + late) / 2n;
}

const larger = (one, other) => (one > other ? one : other);
const root = (square) => BigInt(Math.floor(Math.sqrt(Number(square))));

// -- streams by name ---------------------------------------------------------------------------------------------------------------------

/** A cursor of stream_list behind which the names begin that are `name` or come after it; `pad` is the length of the cursor's name. */
function cursorBefore(name, pad = 0) {
  if (!name.length) return new Uint8Array(0);
  const last = name.at(-1);
  const cursor = new Uint8Array(Math.max(pad, last ? name.length + 16 : name.length) + 1).fill(255);
  cursor[0] = 115; // s: the mark of stream_list's cursors
  cursor.set(name, 1);
  if (!last) return cursor.subarray(0, name.length); // without its last byte, a zero, the name is the one just before
  cursor[name.length] = last - 1; // and then bytes of 255: hardly a name lies between
  return cursor;
}

/** What stream_list tells of one stream: its bounds and the names of its groups; null if it is missing. */
export async function described(view, name) {
  for (const pad of [0, NAME_BYTES_MAX]) {
    const { streams } = await view.run("stream_list", { limit: 1, cursor: cursorBefore(name, pad) });
    const found = streams[0] && bytesOf(streams[0].name);
    if (!found || order(found, name) > 0) return null;
    if (order(found, name) === 0) return streams[0];
  }
  return null;
}

/** The cursor, as base64, of a page of stream_list that begins with a name. */
export const cursorAt = (name) => btoa(Array.from(cursorBefore(bytesOf(name)), (byte) => String.fromCharCode(byte)).join(""));

/** One page of stream_list from a cursor in base64. */
export const listPage = (view, cursor, limit) => view.run("stream_list", { limit, cursor: fromBase64(cursor ?? "") });

function order(one, other) {
  const length = Math.min(one.length, other.length);
  for (let at = 0; at < length; at++) if (one[at] !== other[at]) return one[at] - other[at];
  return one.length - other.length;
}

// -- the command line --------------------------------------------------------------------------------------------------------------------

/** `flo stream VERB …`, with options first; the verb may be two words, as `group ack`. */
export function streamLine(view, verb, options, ...names) {
  const dashes = names.some((name) => bytesOf(name)[0] === 45) ? ["--"] : []; // a name that begins with - is no option
  const [first, second] = verb.split(" ");
  const line = commandLine(view.namespace, "stream", second ?? first, ...options, ...dashes, ...names);
  return second ? line.replace("flo stream ", `flo stream ${first} `) : line;
}
