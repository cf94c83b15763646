// What differs between two values: by lines where both are text (documents are indented first), else both side by side.

import { isDocument, indented } from "./keys_json.js";
import { bytesOf, textOf } from "./flo.js";
import { count, h, hexDump, shown } from "./ui.js";

const LINES_MAX = 20_000; // of both together
const EDITS_MAX = 800; // Myers' D: the work grows with lines times edits, the memory with the square of the edits
const CONTEXT = 3; // lines around a change; what is between is folded

/**
 * The lines of two lists as [[sign, line], …] with the signs " ", "-" and "+", by Myers' algorithm ("An O(ND) difference algorithm",
 * 1986). Null where they are too long or differ too much.
 */
export function lineDiff(before, after) {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start++;
  let end = 0;
  while (end < before.length - start && end < after.length - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  const middle = edits(before.slice(start, before.length - end), after.slice(start, after.length - end));
  if (!middle) return null;
  const same = (lines) => lines.map((line) => [" ", line]);
  return [...same(before.slice(0, start)), ...middle, ...same(end ? before.slice(-end) : [])];
}

function edits(before, after) {
  if (before.length + after.length > LINES_MAX) return null;
  const rows = []; // for each number of edits, how far each diagonal came before them
  let reach = new Map([[1, 0]]);
  for (let d = 0; d <= Math.min(EDITS_MAX, before.length + after.length); d++) {
    rows.push(reach);
    const next = new Map();
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && reach.get(k - 1) < reach.get(k + 1));
      let x = down ? reach.get(k + 1) : reach.get(k - 1) + 1;
      while (x < before.length && x - k < after.length && before[x] === after[x - k]) x++;
      next.set(k, x);
      if (x >= before.length && x - k >= after.length) return traced(rows, before, after);
    }
    reach = next;
  }
  return null;
}

function traced(rows, before, after) {
  const found = [];
  let x = before.length;
  let y = after.length;
  for (let d = rows.length - 1; d >= 0; d--) {
    const reach = rows[d];
    const k = x - y;
    const down = k === -d || (k !== d && reach.get(k - 1) < reach.get(k + 1));
    const startX = d ? (down ? reach.get(k + 1) : reach.get(k - 1) + 1) : 0; // behind the edit; from there on the lines are the same
    for (; x > startX; y--) found.push([" ", before[--x]]);
    if (d) found.push(down ? ["+", after[--y]] : ["-", before[--x]]);
  }
  return found.reverse();
}

/** Two values (bytes, or null for none) as an element. `titles`: what each is called. */
export function diffView(before, after, titles) {
  const [old, now] = [before, after].map((bytes) => textOf(bytes ?? new Uint8Array()));
  if (old === null || now === null) return sideBySide(dumps(before, after), titles);
  if (before && after && old === now) return h("p.soft", `${titles[0]} and ${titles[1]} are the same.`);
  const documents = [old, now].every((text, at) => isDocument(text) || [before, after][at] === null);
  const linesOf = (text, bytes) => (bytes === null ? [] : (documents ? indented(text) : text).split("\n"));
  const [oldLines, newLines] = [linesOf(old, before), linesOf(now, after)];
  const rows = lineDiff(oldLines, newLines);
  if (!rows) return sideBySide([oldLines, newLines].map((lines) => lines.map((line) => shown(bytesOf(line))).join("\n")), titles);
  const key = h("p", h("span.removed", `- ${titles[0]}`), "  ", h("span.added", `+ ${titles[1]}`), documents ? " Both are indented here." : "");
  const list = h("div.value.mono", { tabindex: "0", role: "region", "aria-label": "The difference" }, folded(rows).map(lineOf));
  return h("div.stack", key, rows.some(([sign]) => sign !== " ") ? list : h("p.soft", "They differ in spaces only."));
}

function folded(rows) {
  const near = new Uint8Array(rows.length);
  rows.forEach(([sign], at) => sign !== " " && near.fill(1, Math.max(at - CONTEXT, 0), at + CONTEXT + 1));
  const found = [];
  for (let at = 0; at < rows.length; ) {
    let end = at;
    while (end < rows.length && !near[end]) end++;
    if (end - at > 1) found.push(["…", `${count(end - at)} lines are the same`]);
    else if (end > at) found.push(rows[at]);
    if (end < rows.length) found.push(rows[end]);
    at = end + 1;
  }
  return found;
}

function lineOf([sign, line]) {
  if (sign === "…") return h("div.soft", `… ${line}`);
  return h(`pre${{ "-": ".removed", "+": ".added" }[sign] ?? ""}`, `${sign} `, h("bdi", shown(bytesOf(line))));
}

/** Two dumps; `|` stands before lines that are not the same in both. */
function dumps(before, after) {
  const [old, now] = [before, after].map((bytes) => hexDump(bytes ?? new Uint8Array()).split("\n"));
  const marked = (lines, others) => lines.map((line, at) => `${line === others[at] ? " " : "|"} ${line}`).join("\n");
  return [marked(old, now), marked(now, old)];
}

function sideBySide(texts, titles) {
  return h("div.stack", texts.map((text, at) => h("div", h("h3", titles[at]), h("pre.value.hex", { tabindex: "0", role: "region", "aria-label": titles[at] }, text))));
}
