// The workers of a namespace, in pages: how they are, what they hold, what they take; drain and deregister.

import { BAD_REQUEST, NOT_FOUND, bytesOf } from "./flo.js";
import { PAGE, actionLink, buttonsOf, called, cursorFor, cursorIn, curl, labelPills, labelsText, line, pages, runLink } from "./actions_words.js";
import { keepFocus } from "./patch.js";
import { Rows } from "./streams_rows.js";
import { ago, attempt, base64url, bytesIn, confirm, count, done, emptyState, fill, h, link, nameOf, plural } from "./ui.js";

const LIST_MS = 5000;
const SHOWN = 5; // runs and actions of a worker, in the list
const LEVELS = { active: "good", draining: "warn", unhealthy: "bad" };
const keyOf = (row) => base64url(bytesOf(row.worker_id));

const some = (all, cell) => (all.length ? h("span.row", all.slice(0, SHOWN).map(cell), all.length > SHOWN && h("span.soft", `and ${count(all.length - SHOWN)} more`)) : h("span.soft", "none"));

export function openWorkers(view) {
  const rows = new Rows("Workers", [
    { title: "Worker", class: "name", cell: (row) => nameOf(row.worker_id, 80) },
    { title: "Status", live: true, cell: (row) => h("span.pill", { class: LEVELS[row.status] ?? "" }, row.status) },
    { title: "Holds", class: "num", live: true, cell: (row) => `${count(row.runs.length)} of ${count(row.concurrency)}` },
    { title: "Runs", live: true, cell: (row) => some(row.runs, (id) => runLink(id)) },
    { title: "Load", class: "num", live: true, cell: (row) => count(row.load) },
    { title: "Done", class: "num", live: true, cell: (row) => count(row.completed) },
    { title: "Failed", class: "num", live: true, cell: (row) => count(row.failed) },
    { title: "Seen", live: true, cell: (row) => ago(row.seen_at) },
    { title: "Takes", live: true, cell: (row) => some(row.actions, (name) => actionLink(name, nameOf(name, 40))) },
    { title: "Labels", live: true, cell: (row) => labelPills(row.labels) },
    view.canWrite && { title: "Do", cell: change },
  ].filter(Boolean), keyOf);
  const heading = h("h2.grow");
  const steps = h("nav.row", { "aria-label": "Pages of the list" });
  const place = h("section.card.stack", h("p.soft", "Reading…"));
  const latest = new Map(); // by key: the row
  const drains = new Map(); // by key: the button
  let state = "";
  fill(view.root, place);

  function change(row) {
    const key = keyOf(row);
    const button = (verb, run, kind) => h(kind, { type: "button", "aria-label": `${verb} ${called(row.worker_id)}`, onclick: () => attempt(() => run(latest.get(key) ?? row)) }, verb);
    const drain = button("Drain", drainOne, "button");
    drains.set(key, drain);
    return buttonsOf(drain, button("Deregister", forget, "button.danger"));
  }

  async function drainOne(row) {
    const key = bytesOf(row.worker_id);
    await view.run("worker_drain", { key });
    reload();
    const undo = async () => {
      await view.run("worker_register", { key, value: row.actions.map(bytesOf), labels: labelsText(row.labels) || undefined, concurrency: row.concurrency });
      reload();
    };
    done(`${called(row.worker_id)} gets no more runs; it finishes the ${count(row.runs.length)} that it holds.`, { command: line(view, "worker", "drain", [row.worker_id]), undo });
  }

  async function forget(row) {
    const held = row.runs.length ? `Its ${plural(row.runs.length, "run")} come${row.runs.length === 1 ? "s" : ""} back when the lease ends.` : "It holds no run.";
    if (!(await confirm("Deregister the worker", ["The server forgets ", nameOf(row.worker_id), ` and gives it nothing until it registers again. ${held} Drain it instead to let it finish.`], "Deregister"))) return;
    await view.run("worker_deregister", { key: bytesOf(row.worker_id) });
    reload();
    done(`The worker ${called(row.worker_id)} is deregistered.`, { command: curl(view, ["-X", "DELETE"], "workers", row.worker_id) });
  }

  async function load() {
    const after = view.params.get("after");
    const only = bytesIn(view.params, "worker");
    let answer;
    try {
      answer = await view.run("worker_list", only?.length ? { key: only } : { limit: PAGE, cursor: cursorIn(view) });
    } catch (error) {
      if (!(error.status === NOT_FOUND && only) && !(error.status === BAD_REQUEST && after)) throw error;
      answer = { workers: [], cursor: "" };
    }
    if (view.ended || after !== view.params.get("after")) return;
    const found = answer.workers;
    latest.clear();
    for (const row of found) latest.set(keyOf(row), row);
    const next = cursorFor(answer.cursor);
    const now = JSON.stringify([found.length > 0, after, next, only && base64url(only)]);
    if (now !== state) fill(place, found.length ? [h("div.row", heading, only && h("a.button", { href: link("actions", { tab: "workers" }) }, "All workers")), rows.element, steps] : nothing(only, after));
    state = now;
    keepFocus(place, () => rows.set(found));
    heading.textContent = `${plural(found.length, "worker")}${after || next ? " of this page, by id" : ""}`;
    fill(steps, pages(view, { tab: "workers" }, next));
    for (const [key, button] of drains) button.hidden = latest.get(key)?.status === "draining";
  }

  function nothing(only, after) {
    if (only || after) return [h("p", only ? ["There is no worker ", nameOf(only), ": it was deregistered, or not seen for 24 hours. "] : "The list ends here. ", h("a", { href: link("actions", { tab: "workers" }) }, "All workers"))];
    return [emptyState("No worker. A worker registers for actions, awaits a run, does it, and reports. With curl:",
      `${curl(view, ["-X", "PUT", "-H", "content-type: application/json"], "workers", "me")} -d '{"actions": ["send-email"]}'`,
      curl(view, ["-i", "-X", "POST"], "workers", "me", "/await?block=30000"),
      `${curl(view, [], "runs", "RUN_ID", "/complete?worker_id=me")} -d 'done'`)];
  }

  const reload = view.every(LIST_MS, load);
  return { update: () => void reload() };
}
