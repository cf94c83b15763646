// One action: how it is, its rates over time, its settings, and what one can do to it.

import { Chart } from "./chart.js";
import { NOT_FOUND, bytesOf } from "./flo.js";
import { invoke, pause, register, remove } from "./actions_change.js";
import { GROWING, runsOf } from "./actions_list.js";
import { STATES, called, labelPills, labelsText, line, stateText } from "./actions_words.js";
import { patch } from "./patch.js";
import { ratesOf } from "./queues_words.js";
import { attempt, bytesFor, bytesIn, copyable, count, duration, facts, fill, h, link, nameOf, plural, rate, shown, when } from "./ui.js";

const SAMPLE_MS = 2000;
const KEPT = 300; // samples: ten minutes

/** How the action is, in sentences: [level, text]. */
function healthOf(row) {
  const { pending, running, failed, timed_out: late } = row.runs;
  const found = [];
  if (row.paused) found.push(["warn", `Paused. It is invoked, and none of its runs starts until it is resumed; ${count(pending)} wait.`]);
  else if (pending - row.delayed > 0 && !row.workers) found.push(["bad", `${plural(pending, "run")} wait${pending === 1 ? "s" : ""} and no worker is there for this action. Start one, or look why it has stopped.`]);
  else if (!row.workers) found.push(["warn", "No worker is there for this action. What is invoked waits for one."]);
  if (failed + late) found.push(["warn", `${plural(failed + late, "run")} ended badly: ${count(failed)} failed, ${count(late)} timed out. Look why, and retry them.`]);
  if (!found.length) found.push(["good", `${plural(row.workers, "worker")}; ${count(pending)} pending, ${count(running)} running.`]);
  return found;
}

export function openAction(view) {
  const name = bytesIn(view.params, "action");
  const samples = []; // answers, with `at` and `rates`
  const last = () => samples.at(-1);
  const heading = h("h2.grow");
  heading.style.minWidth = "min(200px, 100%)";
  const head = h("div.head");
  const health = h("ul.health", { "aria-label": "Health" });
  const tiles = h("div.tiles");
  const flow = new Chart("Runs /s", ["started", "done", "errors"], rate, { least: 1, area: false });
  const depth = new Chart("Runs not ended", ["pending", "running"], count, { least: 10, area: false });
  const settings = h("section.card.stack");
  const cards = h("div.charts", flow.element, depth.element, settings);
  cards.style.alignItems = "start"; // a card is as high as what it holds
  fill(view.root, head, health, tiles, cards);
  document.title = `${called(name)} · Actions · Flo`;

  const sample = view.every(SAMPLE_MS, async () => {
    let row;
    try {
      [row] = (await view.run("action_list", { key: name })).actions;
    } catch (error) {
      if (error.status !== NOT_FOUND) throw error;
      if (!view.ended) fill(view.root, h("section.card", h("p", "There is no action ", nameOf(name), " in this namespace."), h("p", h("a", { href: link("actions") }, "All actions"))));
      return view.end();
    }
    if (view.ended) return undefined;
    const now = { ...row, at: Date.now() };
    now.rates = ratesOf(last(), now, GROWING);
    samples.push(now);
    if (samples.length > KEPT) samples.shift();
    return draw(now);
  });

  function draw(row) {
    patch(health, h("ul.health", { "aria-label": "Health" }, healthOf(row).map(([level, text]) => h("li", { class: level }, text))));
    const tile = (text, value) => h("div.tile", h("b", value), h("span", text));
    patch(tiles, h("div.tiles",
      STATES.map((state) => tile(state === "pending" && row.delayed ? `pending, ${count(row.delayed)} of them not yet ready` : stateText(state), runsOf(row, state))),
      tile(row.workers === 1 ? "worker" : "workers", row.workers ? h("a", { href: link("actions", { tab: "workers" }) }, count(row.workers)) : "0")));
    flow.set(samples.map((each) => [each.at, ...GROWING.map((of) => each.rates?.[of] ?? null)]));
    depth.set(samples.map((each) => [each.at, each.runs.pending, each.runs.running]));
    drawFixed(row);
  }

  let drawn = ""; // what the buttons and the settings depend on: they are made anew only when that has changed

  function drawFixed(row) {
    const { version, paused } = row;
    if (drawn === `${version} ${paused}`) return;
    drawn = `${version} ${paused}`;
    const button = (text, run, kind = "button") => h(kind, { type: "button", onclick: () => attempt(run) }, text);
    fill(head,
      fill(heading, h("a", { href: link("actions") }, "All actions"), " / ", h("bdi", { title: shown(name) }, called(name)), " ", paused && h("span.pill.warn", "paused")),
      h("div.row",
        view.canWrite && button("Invoke", async () => (await invoke(view, name)) && sample(), "button.main"),
        h("a.button", { href: link("actions", { tab: "runs", ...bytesFor("action", name) }) }, "Runs"),
        view.canWrite && button(paused ? "Resume" : "Pause", () => pause(view, name, !paused, sample)),
        view.canWrite && button("Delete", async () => (await remove(view, name)) && (location.hash = link("actions")), "button.danger")));
    const command = line(view, "action", "runs", [name]);
    fill(settings,
      h("div.row", h("h2.grow", "Settings"), view.canWrite && button("Change", () => register(view, last(), sample))),
      facts(
        ["Does", shown(bytesOf(row.description)) || h("span.soft", "not said")],
        ["Version", `${count(version)}; registered first ${when(row.created_at)}`],
        ["Lease", `${duration(row.timeout_ms)}: a worker that is silent for longer loses its run`],
        ["Attempts", row.max_attempts ? `a run ends after ${plural(row.max_attempts, "failure")}` : "no bound: a run that fails is tried again for ever"],
        ["Back-off", `${duration(row.retry_delay_ms)} before the second attempt, doubled before each next, an hour at most`],
        ["Concurrency", `${plural(row.concurrency, "run")} of one concurrency key at once`],
        ["Rate", row.rate ? `${plural(row.rate.starts, "start")} in ${duration(row.rate.ms)} at most` : "no bound"],
        ["Labels", labelsText(row.labels) ? labelPills(row.labels) : h("span.soft", "none: any worker of the action may take its runs")]),
      command && [h("h3", "In a terminal"), copyable(command)]);
  }

  return { update: () => void sample() };
}
