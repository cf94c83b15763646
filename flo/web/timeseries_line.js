// InfluxDB's line protocol: a line from its parts, and what the server's refusal says of a line. Draws nothing.

const UNWRITABLE = /[\u0000-\u001f\u007f]|\\$/; // no name has a control character or ends in a backslash, which would escape what follows

const measurementText = (name) => name.replace(/[, ]/g, "\\$&");
const nameText = (name) => name.replace(/[,= ]/g, "\\$&");

/** Tags as `k=v,k2=v2`, with escapes. */
export const tagText = (tags) => tags.map(([name, value]) => `${nameText(name)}=${nameText(value)}`).join(",");

/** Fields as `f=1.5,g=2i`, with escapes. */
export const fieldText = (fields) => fields.map(([name, value]) => `${nameText(name)}=${value.trim()}`).join(",");

/** A line; `time` is in ms, or null for the server's. */
export function lineOf({ measurement, tags, fields, time }) {
  const head = [measurementText(measurement), ...(tags.length ? [tagText(tags)] : [])].join(",");
  return `${head} ${fieldText(fields)}${time === null ? "" : ` ${time}`}`;
}

/** Why these parts make no line, as a sentence; null if they do. Whether values are numbers, the server says. */
export function problemOf({ measurement, tags, fields }) {
  if (!measurement) return "A measurement needs a name.";
  if (measurement.startsWith("#")) return "A line that begins with # is a comment: the measurement needs another name.";
  if (!fields.length) return "A point needs a field: its name, and a number.";
  for (const name of [measurement, ...tags.flat(), ...fields.map(([each]) => each)]) {
    if (!name) return "A tag needs a name and a value, a field a name.";
    if (UNWRITABLE.test(name)) return `The name ${JSON.stringify(name)} has a control character or ends in a backslash, which line protocol cannot write.`;
  }
  const empty = fields.find(([, value]) => !value.trim());
  return empty ? `The field ${empty[0]} needs a number.` : null;
}

/** The unit of lines' times, by the digits of the first one: "ns", "us", "ms" or "s"; null where no line has a time. */
export function unitOf(lines) {
  const digits = /[^\\\s] -?(\d+)\s*$/m.exec(lines)?.[1].length;
  if (!digits) return null;
  return digits <= 11 ? "s" : digits <= 14 ? "ms" : digits <= 17 ? "us" : "ns";
}

/** Of the server's refusal of lines: { number, line, at } of the bad one, `at` being the letter; null if it names none. */
export function placeOf(message, lines) {
  const [, number, column] = /^line (\d+), column (\d+): /.exec(message) ?? [];
  const line = number && lines.split("\n")[number - 1];
  if (line === undefined || line === "") return null;
  const before = new TextEncoder().encode(line).subarray(0, column - 1); // columns count bytes
  return { number: Number(number), line: line.replace(/\r$/, ""), at: new TextDecoder().decode(before).length };
}
