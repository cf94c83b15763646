// The text of a FloQL query, as far as the page must understand it: where its range stands, and what may be written at a place. What a query
// means, and whether it is right, the server says. Draws nothing.

const NAME = /[A-Za-z_][A-Za-z0-9_.:/-]*/y;
const SPACE = /[ \t\r\n]*/y;
const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
const DEFAULT_MS = UNITS.h; // without a range

/** A name as a query has it: bare where it may be, else in quotes. */
export function quoted(name) {
  NAME.lastIndex = 0;
  if (NAME.test(name) && NAME.lastIndex === name.length) return name;
  return `"${name.replace(/[\\"]/g, "\\$&").replaceAll("\n", "\\n").replaceAll("\r", "\\r").replaceAll("\t", "\\t")}"`;
}

/** Reads a text from its beginning. */
class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  space() {
    SPACE.lastIndex = this.at;
    SPACE.test(this.text);
    this.at = SPACE.lastIndex;
    return this.at;
  }

  get ended() {
    return this.at >= this.text.length;
  }

  take(word) {
    if (!this.text.startsWith(word, this.at)) return false;
    this.at += word.length;
    return true;
  }

  /** A name, bare or in quotes, or a regular expression between marks: { from, word, open }; `open`: the text ends in it. Null if there is none. */
  name(marks = "\"'") {
    const from = this.space();
    const mark = this.text[from];
    if (mark !== undefined && marks.includes(mark)) {
      let word = "";
      for (this.at = from + 1; this.at < this.text.length && this.text[this.at] !== mark; this.at++) {
        if (this.text[this.at] === "\\") this.at++;
        word += this.text[this.at] ?? "";
      }
      const open = this.ended;
      this.at++;
      return { from, word, open };
    }
    NAME.lastIndex = from;
    const found = NAME.exec(this.text);
    if (!found) return null;
    this.at = NAME.lastIndex;
    return { from, word: found[0], open: this.ended };
  }
}

/**
 * What may be written at the end of a text that is the beginning of a query: { kind, from, word, … }, or null. `word` is what is there of it,
 * from the place `from` on. Kinds: "measurement"; "tag", "value" (with `tag`), "field", "range", "duration", "fill", "order", "stage", each with
 * the `measurement`, null where that is a regular expression.
 */
export function expected(text, stages) {
  const reader = new Reader(text);
  const begin = reader.space();
  const isRegex = reader.take("~");
  const measurement = isRegex ? reader.name("/\"'") : reader.name();
  if (!measurement) return begin === text.length ? { kind: "measurement", from: begin, word: "" } : null;
  if (measurement.open) return isRegex ? null : { kind: "measurement", from: measurement.from, word: measurement.word };
  const known = { measurement: isRegex ? null : measurement.word };
  reader.space();
  if (reader.take("{")) {
    const inside = matchers(reader);
    if (inside) return inside.kind ? { ...inside, ...known } : null;
    reader.space();
  }
  if (reader.take("[")) {
    const from = reader.at;
    const end = text.indexOf("]", from);
    if (end < 0) return { kind: "range", from, word: text.slice(from), ...known };
    reader.at = end + 1;
    reader.space();
  }
  while (reader.take("|")) {
    const from = reader.space();
    const word = /\w*/y;
    word.lastIndex = from;
    const stage = word.exec(text)[0];
    reader.at = from + stage.length;
    if (reader.ended) return { kind: "stage", from, word: stage, ...known };
    reader.space();
    if (!reader.take("(")) return null;
    const argument = argumentsOf(reader, stage, stages);
    if (argument) return argument.kind ? { ...argument, ...known } : null;
    reader.space();
  }
  return null;
}

/** Reads matchers to their `}`. Where the text ends before: what may be written there, or {}. */
function matchers(reader) {
  for (;;) {
    const from = reader.space();
    if (reader.ended) return { kind: "tag", from, word: "" };
    if (reader.take("}")) return null;
    const tag = reader.name();
    if (!tag) return {};
    if (tag.open) return { kind: "tag", from: tag.from, word: tag.word };
    reader.space();
    const isRegex = reader.take("=~") || reader.take("!~");
    if (!isRegex && !reader.take("!=") && !reader.take("=")) return {};
    const at = reader.space();
    if (isRegex) {
      if (!'/"\''.includes(reader.text[at] ?? " ")) {
        while (!reader.ended && !",}".includes(reader.text[reader.at])) reader.at++;
        if (reader.ended) return {};
      } else if (reader.name("/\"'").open) return {};
    } else {
      if (reader.ended) return { kind: "value", from: at, word: "", tag: tag.word };
      const value = reader.name();
      if (!value) return {};
      if (value.open) return { kind: "value", from: value.from, word: value.word, tag: tag.word };
    }
    reader.space();
    if (reader.ended) return {};
    if (reader.take("}")) return null;
    if (!reader.take(",")) return {};
  }
}

const KINDS = { DURATION: "duration", WINDOW: "duration", FILL: "fill", ORDER: "order", TAGS: "tag" };

/** Reads a stage's arguments to their `)`. Where the text ends before: what may be written there, or {}. */
function argumentsOf(reader, stage, stages) {
  let depth = 0;
  let begin = reader.at;
  let number = 0;
  for (; !reader.ended; reader.at++) {
    const letter = reader.text[reader.at];
    if (letter === '"' || letter === "'") {
      if (reader.name().open) break;
      reader.at--;
    } else if (letter === "(") depth++;
    else if (letter === ")" && depth-- === 0) {
      reader.at++;
      return null;
    } else if (letter === "," && depth === 0) {
      begin = reader.at + 1;
      number++;
    }
  }
  const word = reader.text.slice(begin).replace(/^\s+/, "");
  const from = reader.text.length - word.length;
  const kinds = stages[stage]?.arguments ?? [];
  const kind = (kinds[number] ?? kinds.at(-1))?.[0];
  if (stage === "field") return { kind: "field", from, word: word.replace(/^["']/, "") };
  return KINDS[kind] ? { kind: KINDS[kind], from, word: word.replace(/^["']/, ""), plain: kind === "TAGS" } : {};
}

/** Where the range of a query stands: { from, to, text }, with nothing as text where there is none; null where that cannot be told. */
function rangeIn(query) {
  const reader = new Reader(query);
  reader.space();
  const measurement = reader.take("~") ? reader.name("/\"'") : reader.name();
  if (!measurement) return null;
  const end = reader.at;
  reader.space();
  if (reader.take("{") && matchers(reader)) return null;
  const behind = reader.text[reader.at - 1] === "}" ? reader.at : end;
  const from = reader.space();
  if (!reader.take("[")) return { from: behind, to: behind, text: "" };
  const close = query.indexOf("]", from);
  return close < 0 ? null : { from, to: close + 1, text: query.slice(from + 1, close).trim() };
}

/** The query with another range, such as `6h` or `1000..2000`; null where its own cannot be found. */
export function withRange(query, range) {
  const found = rangeIn(query);
  return found && `${query.slice(0, found.from)}[${range}]${query.slice(found.to)}`;
}

/** The range of a query as it is written, without brackets; "1h" where there is none. Null where it cannot be found. */
export function rangeOf(query) {
  const found = rangeIn(query);
  return found && (found.text || "1h");
}

/** The two ends of a range, ms. */
export function endsOf(range, now) {
  const [, number, unit] = /^(\d+)(ms|s|m|h|d|w)$/.exec(range ?? "") ?? [];
  if (number) return [now - number * UNITS[unit], now];
  const ends = (range ?? "").split("..").map((end) => (/^\s*-?\d+\s*$/.test(end) ? Number(end) : Date.parse(end)));
  return ends.length === 2 && ends.every(Number.isFinite) ? ends : [now - DEFAULT_MS, now];
}
