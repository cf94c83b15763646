// The attempts of a run, drawn: each is a bar at its place in the time from the invocation, or the first attempt that is known, to the end.

import { s } from "./chart.js";
import { bytesOf } from "./flo.js";
import { levelOf, stateText } from "./actions_words.js";
import { duration, h, nameOf, plural, preview, table, when } from "./ui.js";

const WIDTH = 260;
const HEIGHT = 14;
const LEAST = 3; // pixels of a bar

/** The attempts, and the one that is going on. */
function allOf(run) {
  if (run.status !== "running") return run.attempts;
  return [...run.attempts, { number: run.attempt, worker: run.worker, started_at: run.started_at, ended_at: 0, how: "running", error: "" }];
}

/** A heading and a table, with a bar in each row. */
export function attemptsOf(run) {
  const all = allOf(run);
  if (!all.length) return [h("h2", "Attempts"), h("p.soft", run.status === "pending" ? "None yet: it waits for its time, or for a worker." : "None: no worker had it.")];
  const now = Date.now();
  const whole = all[0].number === 1;
  const begin = whole ? run.created_at : all[0].started_at;
  const end = Math.max(run.finished_at || now, ...all.map((each) => each.ended_at || now), begin + 1);
  const place = (ms) => (Math.min(Math.max(ms - begin, 0), end - begin) / (end - begin)) * (WIDTH - LEAST);
  const columns = [
    { title: "No.", class: "num", cell: (each) => each.number },
    { title: `${duration(end - begin)} in all`, cell: (each) => bar(each, begin, now, place) },
    { title: "Took", class: "num", cell: (each) => tookText(Math.max((each.ended_at || now) - each.started_at, 0)) },
    { title: "How it ended", cell: (each) => h("span.pill", { class: levelOf(each.how) }, stateText(each.how)) },
    { title: "Worker", cell: (each) => (bytesOf(each.worker).length ? nameOf(each.worker, 40) : "–") },
    { title: "Error", class: "text", cell: (each) => (bytesOf(each.error).length ? preview(bytesOf(each.error), true, 400) : "") },
  ];
  const from = whole ? `from the invocation, ${when(begin)}` : `the last ${plural(all.length, "attempt")}, from ${when(begin)}`;
  return [h("h2", "Attempts"), h("p.soft", `Time runs to the right, ${from}.`), table("Attempts", columns, all)];
}

const tookText = (ms) => duration(ms).replace(" ", "\u00a0");

function bar(each, begin, now, place) {
  const [from, to] = [place(each.started_at), place(each.ended_at || now)];
  const drawing = s("svg", { width: WIDTH, height: HEIGHT, role: "img", class: levelOf(each.how) || "soft" });
  drawing.setAttribute("aria-label", `started after ${duration(Math.max(each.started_at - begin, 0))}, ${each.ended_at ? `ended after ${duration(Math.max(each.ended_at - begin, 0))}` : "still at it"}`);
  const ground = s("rect", { x: 0, y: HEIGHT / 2 - 0.5, width: WIDTH, height: 1, fill: "currentColor", opacity: 0.3 });
  drawing.append(ground, s("rect", { x: from.toFixed(1), y: 2, width: Math.max(to - from, LEAST).toFixed(1), height: HEIGHT - 4, rx: 2, fill: "currentColor" }));
  return drawing;
}
