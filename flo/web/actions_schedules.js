// The schedules of a namespace, by name, in pages: what they invoke, and when next; put, change and delete.

import { BAD_REQUEST, bytesOf } from "./flo.js";
import { hostFlags, lessons } from "./actions_change.js";
import { put, remove, utc } from "./actions_schedule.js";
import { PAGE, actionLink, buttonsOf, called, cursorFor, cursorIn, labelPills, labelsText, pages } from "./actions_words.js";
import { keepFocus } from "./patch.js";
import { Rows } from "./streams_rows.js";
import { ago, attempt, base64url, commandLine, count, duration, emptyState, fill, h, link, nameOf, plural, preview, when } from "./ui.js";

const LIST_MS = 5000;
const keyOf = (row) => base64url(bytesOf(row.name));
const zero = () => h("span.soft", "0");

/** Text on one line. */
function unbroken(...children) {
  const element = h("div", children);
  element.style.whiteSpace = "nowrap";
  return element;
}

/** A time by the person's clock; under it by UTC, as cron counts, and how far off it is. */
function time(ms) {
  const date = new Date(ms);
  const sameDay = date.getDate() === date.getUTCDate();
  return [unbroken(when(ms)), unbroken(h("span.soft", `${sameDay ? utc(ms).slice(11) : utc(ms)}, `, ago(ms)))];
}

/** What the runs of a schedule are invoked with. */
function givenOf(row) {
  const input = bytesOf(row.input);
  return h("span.row", input.length > 0 && preview(input, true, 60), row.priority > 0 && `priority ${row.priority}`, labelsText(row.labels) && labelPills(row.labels));
}

export function openSchedules(view) {
  const latest = new Map(); // by key: the row
  const rows = new Rows("Schedules", [
    { title: "Schedule", class: "name", cell: (row) => nameOf(row.name, 80) },
    { title: "Action", live: true, cell: (row) => actionLink(row.action, nameOf(row.action, 60)) },
    { title: "When", live: true, cell: (row) => unbroken(row.cron === undefined ? `every ${duration(row.every_ms)}` : h("span.mono", row.cron)) },
    { title: "Next", live: true, cell: (row) => time(row.next) },
    { title: "Last", live: true, cell: (row) => unbroken(row.runs ? ago(row.last) : h("span.soft", "none yet")) },
    { title: "Runs", class: "num", live: true, cell: (row) => (row.runs ? count(row.runs) : zero()) },
    { title: "Dropped", class: "num", live: true, cell: (row) => (row.dropped ? h("span.pill.warn", count(row.dropped)) : zero()) },
    { title: "If missed", live: true, cell: (row) => unbroken(row.missed === "skip" ? "no run" : "one run") },
    { title: "With", live: true, cell: givenOf },
    view.canWrite && { title: "Do", cell: change },
  ].filter(Boolean), keyOf);
  const heading = h("h2.grow");
  const steps = h("nav.row", { "aria-label": "Pages of the list" });
  const lost = h("p.soft", { hidden: true }, "A dropped time has made no run: the action was gone, or refused the labels.");
  const place = h("section.card.stack", h("p.soft", "Reading…"));
  const add = view.canWrite && h("button.main", { type: "button", onclick: () => attempt(() => put(view, null, reload)) }, "Put a schedule");
  const head = h("div.row", heading, add);
  let state = "";
  fill(view.root, place);

  function change(row) {
    const key = keyOf(row);
    const button = (verb, run, kind) => h(kind, { type: "button", "aria-label": `${verb} ${called(row.name)}`, onclick: () => attempt(() => run(view, latest.get(key) ?? row, reload)) }, verb);
    return buttonsOf(button("Change", put, "button"), button("Delete", remove, "button.danger"));
  }

  async function load() {
    const after = view.params.get("after");
    const answer = await view.run("schedule_list", { limit: PAGE, cursor: cursorIn(view) }).catch((error) => {
      if (error.status === BAD_REQUEST && after) return { schedules: [], cursor: "" };
      throw error;
    });
    if (view.ended || after !== view.params.get("after")) return;
    const found = answer.schedules;
    latest.clear();
    for (const row of found) latest.set(keyOf(row), row);
    const next = cursorFor(answer.cursor);
    const now = `${found.length > 0} ${after} ${next}`;
    if (now !== state) fill(place, found.length ? [head, rows.element, lost, steps] : nothing(after));
    state = now;
    keepFocus(place, () => rows.set(found));
    lost.hidden = !found.some((row) => row.dropped);
    heading.textContent = found.length ? `${plural(found.length, "schedule")}${after || next ? " of this page" : ""}, by name` : "No schedule yet";
    fill(steps, pages(view, { tab: "schedules" }, next));
  }

  function nothing(after) {
    if (after) return [h("p", "The list ends here. ", h("a", { href: link("actions", { tab: "schedules" }) }, "List from the beginning"))];
    const [register] = lessons(view, "report");
    return [head, emptyState("A schedule invokes an action by itself: at the times of five fields of cron, in UTC, or at an interval. Register an action, and put a schedule for it:", register,
      commandLine(view.namespace, "schedule", "put", ...hostFlags(), "nightly", '{"action": "report", "cron": "0 3 * * *", "input": "all"}'),
      commandLine(view.namespace, "schedule", "put", ...hostFlags(), "beat", '{"action": "report", "every_ms": 60000, "missed": "skip"}'))];
  }

  const reload = view.every(LIST_MS, load);
  return { update: () => void reload() };
}
