// What the page of time series asks the server of measurements, and the commands that do the same as the page.

import { bytesOf, fromBase64 } from "./flo.js";
import { commandLine, shellWord } from "./ui.js";

const MARK = 116; // t: the first byte of ts_list's cursors

/** A cursor of ts_list behind which come the names that begin with this one. */
function cursorBefore(name) {
  const bytes = bytesOf(name);
  if (!bytes.length) return undefined;
  const end = bytes.at(-1); // names are UTF-8 without control characters: the last byte is no zero, and none has a byte of 255
  return Uint8Array.from([MARK, ...bytes.subarray(0, -1), end - 1, 255]);
}

/** A page of measurements, from the cursor `after` (base64, or empty) on: { measurements, cursor }, `cursor` empty where there are no more. */
export const page = (view, after, limit) => view.run("ts_list", { limit, cursor: after ? fromBase64(after) : undefined });

/** The same, of those whose names begin with `prefix`. */
export async function beginningWith(view, prefix, limit, after = "") {
  const cursor = after ? fromBase64(after) : cursorBefore(prefix);
  const answer = await view.run("ts_list", { limit, cursor });
  const measurements = answer.measurements.filter(({ name }) => name.startsWith(prefix));
  return { measurements, cursor: measurements.length === answer.measurements.length ? answer.cursor : "" };
}

/** One measurement as ts_list has it, or null. */
export const described = async (view, name) => (await view.run("ts_list", { key: name })).measurements[0] ?? null;

/** `flo ts VERB …`; what begins with - is no option behind `--`. */
export function tsLine(view, verb, options, ...words) {
  return commandLine(view.namespace, "ts", verb, ...options, ...(words.some((word) => String(word).startsWith("-")) ? ["--"] : []), ...words);
}

/** The curl that asks a query. */
export const queryCurl = (view, query) => `curl -G ${location.origin}/api/v1/timeseries/${encodeURIComponent(view.namespace)}/query --data-urlencode ${shellWord(`floql=${query}`)}`;

/** The curl that writes lines, with timestamps in ms. */
export const writeCurl = (view, lines) => `curl ${shellWord(`${location.origin}/write?db=${encodeURIComponent(view.namespace)}&precision=ms`)} --data-binary ${shellWord(lines)}`;

/** Telegraf's lines for this server. */
export const telegrafLines = (view) => `[[outputs.influxdb]]\n  urls = ["${location.origin}"]\n  database = "${view.namespace}"\n  skip_database_creation = true`;
