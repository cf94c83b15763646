// Deleting all keys that a search found: in slices, with progress, and a way to stop.

import { NOT_FOUND } from "./flo.js";
import { commandLine, confirm, count, done, h, plural, shellWord } from "./ui.js";

const SLICE = 500; // deletions that are sent at once

/** Ask, then delete. `search` is at its end and has counted. `show(content)` shows the progress, `show(null)` takes it away. */
export async function deleteFound(view, search, show) {
  const text = `${plural(search.found, "key")} of the namespace ${view.namespace} will be deleted: ${search.words}. Keys that come to be found while this runs may be deleted too. There is no undo for all at once: each key can be put back from its versions, as long as they are kept.`;
  if (!(await confirm(`Delete ${plural(search.found, "key")}?`, text, `Delete ${count(search.found)}`))) return;
  const again = new search.constructor(view, search.text);
  const bar = h("progress", { max: search.found, value: 0, "aria-label": "Deleted keys" });
  const says = h("span.grow", "…");
  let stopped = false;
  show(h("div.stack", bar, h("div.row", says, h("button", { type: "button", onclick: () => (stopped = true) }, "Stop"))));
  let deleted = 0;
  try {
    while (!again.ended && !stopped && !view.ended) {
      const keys = await again.next(SLICE);
      for (let at = 0; at < keys.length && !stopped && !view.ended; at += SLICE) {
        deleted += await deleteSlice(view, keys.slice(at, at + SLICE));
        bar.value = deleted;
        says.textContent = `${count(deleted)} of ${count(search.found)} deleted`;
      }
    }
  } finally {
    show(null);
    const left = again.ended && !stopped ? "" : " Then it was stopped.";
    done(`${plural(deleted, "key")} deleted.${left} Each can be put back from its versions.`, { command: commandOf(view, search) });
  }
}

/** Gives how many were there. */
async function deleteSlice(view, keys) {
  const answers = await Promise.allSettled(keys.map((key) => view.run("kv_delete", { key })));
  const wrong = answers.find((answer) => answer.status === "rejected" && answer.reason.status !== NOT_FOUND);
  if (wrong) throw wrong.reason;
  return answers.filter((answer) => answer.status === "fulfilled").length;
}

/** A pipeline: the command line lists by prefixes only, redis-cli by patterns. */
function commandOf(view, search) {
  const deletes = `tr '\\n' '\\0' | xargs -0 -n ${SLICE} ${commandLine(view.namespace, "kv", "delete")} --`;
  if (!search.isPattern) return `${commandLine(view.namespace, "kv", "list", "--limit", 0, "--format", "raw", ...(search.text ? ["--", search.text] : []))} | ${deletes}`;
  if (view.namespace !== "default") return ""; // redis-cli's --scan cannot choose another
  return `redis-cli -p ${location.port || 80} --scan --pattern ${shellWord(search.text)} | ${deletes}`;
}
