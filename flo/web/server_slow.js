// The requests that took long to execute (SLOWLOG).

import { bytesOf } from "./flo.js";
import { copyable, count, emptyState, fill, h, micros, nameOf, shown, when } from "./ui.js";
import { cursorOf, pages, plain, redisLine, redraw } from "./server_parts.js";

const POLL_MS = 5000;
const PAGE = 100;
const LINE_CHARACTERS = 140; // of a request, before it is folded
const WORD_CHARACTERS = 40;

const COLUMNS = [
  { title: "When", cell: (row) => when(row.time) },
  { title: "Took", class: "num", cell: (row) => h("strong", micros(row.usec)) },
  { title: "Request", class: "text", cell: (row) => requestOf(row.words) },
  { title: "From", cell: (row) => [h("span.mono", row.address), row.name === "" ? null : h("div", h("bdi", plain(row.name)))] },
];

/** The beginning of a request in a line or two, all that the server has kept of it behind a fold. */
function requestOf(words) {
  const line = [];
  let length = 0;
  for (const word of words) {
    length += Math.min(shown(bytesOf(word)).length, WORD_CHARACTERS) + 1;
    if (length > LINE_CHARACTERS && line.length) break;
    line.push(nameOf(word, WORD_CHARACTERS), " ");
  }
  const left = words.length - line.length / 2;
  const cut = left > 0 || words.some((word) => shown(bytesOf(word)).length > WORD_CHARACTERS);
  if (!cut) return h("span", line);
  return h("details", h("summary", line, left > 0 && h("span.soft", `and ${count(left)} more`)), h("pre", words.map((word) => [h("bdi", shown(bytesOf(word))), "\n"])));
}

export function open(view) {
  const what = h("p", { role: "status" });
  const list = h("div.card");
  const more = h("div");
  let drawn = ""; // the answer that is drawn: where nothing new came, what is unfolded stays so
  const lines = h("div.card.stack", h("h2", "What is noted"), copyable(redisLine("CONFIG", "SET", "resp.slowlog_slower_than", "5000")), copyable(redisLine("SLOWLOG", "RESET")), h("p.soft", "The first line notes what takes 5 ms or longer from now on, the second forgets what was noted. Waiting (for a message, or for the disk) is not counted: requests of all protocols are noted by what the processor does for them."));
  fill(view.root, what, list, more, lines);

  async function load() {
    const from = view.params.get("from");
    const [settings, answer] = await Promise.all([view.flo.server_view({ value: "settings" }), view.flo.server_view({ value: "slow", limit: PAGE, ...cursorOf(view) })]);
    if (view.ended || view.params.get("from") !== from) return;
    const setting = (name) => settings.settings.find((each) => each.name === `resp.${name}`).value;
    const least = setting("slowlog_slower_than");
    const most = setting("slowlog_max_len");
    fill(what, least < 0 || !most ? "No request is noted: the setting resp.slowlog_slower_than or resp.slowlog_max_len turns that off." : `Requests that take ${micros(least)} or longer to execute are noted; the last ${count(most)} are kept.`);
    const text = JSON.stringify([least, most, answer]);
    if (text === drawn) return;
    drawn = text;
    if (answer.slow.length) redraw(list, "Slow requests", COLUMNS, answer.slow);
    else fill(list, least < 0 || !most ? emptyState("To note what takes 10 ms or longer:", redisLine("CONFIG", "SET", "resp.slowlog_slower_than", "10000")) : emptyState(`No request has taken ${micros(least)} or longer. That is good.`));
    fill(more, pages(view, "slow", answer.cursor));
  }

  const run = view.every(POLL_MS, load);
  return { update: run };
}
