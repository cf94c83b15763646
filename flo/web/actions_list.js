// The actions of a namespace, by name, in pages: their runs by state, rates, workers; and what one does to them from here.

import { BAD_REQUEST, bytesOf } from "./flo.js";
import { invoke, lessons, pause, register } from "./actions_change.js";
import { PAGE, actionLink, buttonsOf, called, cursorFor, cursorIn, pages, stateText } from "./actions_words.js";
import { keepFocus } from "./patch.js";
import { ratesOf } from "./queues_words.js";
import { Rows } from "./streams_rows.js";
import { attempt, base64url, bytesFor, count, emptyState, fill, h, link, plural, rate } from "./ui.js";

const LIST_MS = 5000;
export const GROWING = ["started", "done", "failed"]; // counts of an action, for rates
const keyOf = (row) => base64url(bytesOf(row.name));
const zero = () => h("span.soft", "0");

/** A number of runs, with the way to them. */
export const runsOf = (row, state) => (row.runs[state] ? h("a", { href: link("actions", { tab: "runs", ...bytesFor("action", row.name), state }), "aria-label": `${count(row.runs[state])} ${stateText(state)}` }, count(row.runs[state])) : zero());

/** What a person should look at: [{ level, text }]. */
export function marksOf(row) {
  const live = row.runs.pending + row.runs.running;
  const failed = row.runs.failed + row.runs.timed_out;
  return [
    row.paused && { level: "warn", text: "paused" },
    !row.paused && live > 0 && !row.workers && { level: "bad", text: "no worker" },
    failed > 0 && { level: "warn", text: `${count(failed)} failed` },
  ].filter(Boolean);
}

export function openList(view) {
  const latest = new Map(); // by key: the row, with its rates
  const pausing = new Map(); // by key: the button
  const columns = [
    { title: "Action", class: "name", cell: (row) => actionLink(row.name) },
    { title: "Look at", live: true, cell: (row) => h("span.row", marksOf(row).map(({ level, text }) => h(`span.pill.${level}`, text))) },
    { title: "Pending", class: "num", live: true, cell: (row) => runsOf(row, "pending") },
    { title: "Running", class: "num", live: true, cell: (row) => runsOf(row, "running") },
    { title: "Completed", class: "num", live: true, cell: (row) => runsOf(row, "completed") },
    { title: "Failed", class: "num", live: true, cell: (row) => runsOf(row, "failed") },
    { title: "Timed out", class: "num", live: true, cell: (row) => runsOf(row, "timed_out") },
    { title: "Cancelled", class: "num", live: true, cell: (row) => runsOf(row, "cancelled") },
    ...["Started /s", "Done /s", "Errors /s"].map((title, at) => ({ title, class: "num", live: true, cell: (row) => (row.rates ? rate(row.rates[GROWING[at]]) : "–") })),
    { title: "Workers", class: "num", live: true, cell: (row) => (row.workers ? count(row.workers) : zero()) },
    view.canWrite && { title: "Do", cell: change },
  ].filter(Boolean);
  const rows = new Rows("Actions", columns, keyOf);
  const heading = h("h2.grow");
  const steps = h("nav.row", { "aria-label": "Pages of the list" });
  const place = h("section.card.stack", h("p.soft", "Reading…"));
  const add = view.canWrite && h("button.main", { type: "button", onclick: () => attempt(() => register(view, null, reload)) }, "Register an action");
  const head = h("div.row", heading, add);
  fill(view.root, place);
  let state = "";

  function change(row) {
    const key = keyOf(row);
    const button = (label, run) => h("button", { type: "button", onclick: () => attempt(run) }, label);
    const stop = button("Pause", () => pause(view, row.name, !latest.get(key).paused, reload));
    const start = button("Invoke", async () => (await invoke(view, bytesOf(row.name))) && reload());
    start.setAttribute("aria-label", `Invoke ${called(row.name)}`);
    pausing.set(key, stop);
    return buttonsOf(start, stop);
  }

  async function load() {
    const after = view.params.get("after");
    const asked = view.run("action_list", { limit: PAGE, cursor: cursorIn(view) }).catch((error) => {
      if (error.status === BAD_REQUEST && after) return { actions: [], cursor: "" };
      throw error;
    });
    const [answer, info] = await Promise.all([asked, view.run("namespace_info", { key: view.namespace })]);
    if (view.ended || after !== view.params.get("after")) return;
    const at = Date.now();
    const known = answer.actions.map((row) => [keyOf(row), Object.assign(row, { at, rates: ratesOf(latest.get(keyOf(row)), { ...row, at }, GROWING) })]);
    latest.clear();
    for (const [key, row] of known) latest.set(key, row);
    const next = cursorFor(answer.cursor);
    const now = `${answer.actions.length > 0} ${after} ${next}`;
    if (now !== state) fill(place, answer.actions.length ? [head, rows.element, steps] : nothing(after));
    state = now;
    keepFocus(place, () => rows.set(answer.actions));
    heading.textContent = after || next ? `${plural(answer.actions.length, "action")}${info.actions ? ` of ${count(info.actions)}` : ""}, by name` : answer.actions.length ? plural(answer.actions.length, "action") : "No action yet";
    fill(steps, pages(view, {}, next));
    for (const [key, button] of pausing) if (latest.has(key)) drawPausing(button, latest.get(key));
  }

  function drawPausing(button, row) {
    const word = row.paused ? "Resume" : "Pause";
    if (button.textContent === word) return;
    button.textContent = word;
    button.setAttribute("aria-label", `${word} ${called(row.name)}`);
  }

  function nothing(after) {
    if (after) return [h("p", "The list ends here. ", h("a", { href: link("actions") }, "List from the beginning"))];
    return [head, emptyState("An action is a name for work that is done somewhere else: whoever wants it done invokes it and gets the id of a run, and a worker takes the run, does it, and reports. Register one, and invoke it:", ...lessons(view))];
  }

  const reload = view.every(LIST_MS, load);
  return { update: () => void reload() };
}
