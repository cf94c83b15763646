// Writing a key as the kind that it is, and the command lines that do the same.

import { bytesOf, CONFLICT, NOT_FOUND } from "./flo.js";
import { commandLine } from "./ui.js";

export const CLIP = 64 << 10; // the most of a value that is shown or edited
const ARGUMENT_MAX = 200; // bytes of a value in a command line; a longer one comes from a file

/**
 * Write a value as a "string", "counter" or "json" document. `cas` is the version that the key must have, 0 for none. `ttl` in seconds, 0
 * for none; without it the key keeps its own. Gives the version.
 */
export async function store(view, key, { kind, value, cas, ttl }) {
  if (kind === "json") {
    const { version } = await view.run("kv_json_set", { key, value, cas_version: cas });
    return ttl === undefined || (!ttl && !cas) ? version : (await view.run("kv_touch", { key, ttl, cas_version: version })).version;
  }
  const { version } = await view.run("kv_cas", { key, value, cas_version: cas, ttl, keep_ttl: ttl === undefined });
  return kind === "counter" ? (await view.run("kv_incr", { key, delta: 0 })).version : version; // which makes a counter of the number
}

/** Whether a refusal says that the key has another version than `cas`: with that very version, its kind is the reason. */
export const isConflict = (error, cas) => error.status === CONFLICT && error.version !== cas;

/** What an answer is, or null where there is no such key. */
export async function orMissing(answer) {
  try {
    return await answer;
  } catch (error) {
    if (error.status === NOT_FOUND) return null;
    throw error;
  }
}

/** One whole value of a key's history, by its version. Rejects where it is not kept any more. */
export async function valueOfVersion(view, key, version, limit = 10) {
  const items = await view.run("kv_history", { key, limit });
  const item = items.find((each) => each.version === version);
  if (!item) throw new Error(`Version ${version} is not kept any more, so it cannot be put back.`);
  return item.value;
}

/**
 * The command line of `flo kv VERB` for a key, "" where an argument cannot carry its name (it has a NUL). A value is given as `value`;
 * where it is long it comes from a file.
 */
export function keyCommand(view, verb, key, { flags = [], value, rest = [] } = {}) {
  const name = bytesOf(key);
  if (name.includes(0)) return "";
  const given = value === undefined ? null : bytesOf(value);
  const filed = given && (given.length > ARGUMENT_MAX || given.includes(0) || (given.length === 1 && given[0] === 45));
  const words = [name, ...(given ? [filed ? "-" : given] : []), ...rest.map(String)].map(bytesOf);
  const dashed = words.some((word) => word[0] === 45 && word.length > 1) || name[0] === 45; // would be read as a flag
  return commandLine(view.namespace, "kv", verb, ...flags, ...(dashed ? ["--"] : []), ...words) + (filed ? " < VALUE_FILE" : "");
}

/** The command that writes a value of a kind. */
export function storeCommand(view, key, { kind, value, cas, ttl }) {
  if (kind === "json") return keyCommand(view, "jset", key, { value }) + (ttl && !cas ? ` && ${keyCommand(view, "touch", key, { rest: [ttl] })}` : "");
  const flags = ["--cas", cas, ...(ttl === undefined ? ["--keep-ttl"] : ttl ? ["--ttl", ttl] : [])];
  return keyCommand(view, "set", key, { flags, value });
}
