// One run: its facts, its attempts, its input and output; cancel, retry, and the same once more.

import { NOT_FOUND, bytesOf, textOf } from "./flo.js";
import { inputOf, invoke } from "./actions_change.js";
import { attemptsOf } from "./actions_timeline.js";
import { CLIP, actionLink, called, isOver, labelPills, labelsText, line, statePill } from "./actions_words.js";
import { keepFocus, patch } from "./patch.js";
import { payloadView } from "./queues_payload.js";
import { ago, attempt, bytesFor, confirm, copyable, count, done, download, facts, fill, h, link, nameOf, plural, when } from "./ui.js";

const POLL_MS = 2000;

export function openRun(view) {
  const id = view.params.get("run");
  const head = h("div.head");
  const about = h("div.stack");
  const attempts = h("section.card.stack");
  const input = h("section.card.stack");
  const output = h("section.card.stack");
  const parts = h("div.grid", h("section.card.stack", h("h2", "Facts"), about), input, output);
  parts.style.alignItems = "start"; // a card is as high as what it holds
  fill(view.root, head, attempts, parts);
  document.title = `Run ${id} · Actions · Flo`;
  let run = null;
  let given = null; // the input: { bytes, whole }
  let result = null; // { key, bytes }: of which end the output is, and what it is
  let drawn = "";

  const back = () => {
    const params = Object.fromEntries(view.params);
    delete params.run;
    delete params.as;
    return link("actions", params);
  };

  const load = view.every(POLL_MS, async () => {
    let now;
    try {
      now = await view.run("action_status", { key: id });
      given ??= await inputOf(view, id);
      const end = `${now.status} ${now.attempt}`;
      if (isOver(now.status) && result?.end !== end) result = { end, bytes: (await view.run("action_result", { key: id })).output };
      else if (!isOver(now.status)) result = null;
    } catch (error) {
      if (error.status !== NOT_FOUND) throw error;
      if (!view.ended) fill(view.root, h("section.card", h("p", `There is no run ${id} in this namespace: runs that have ended are kept for a while only, 24 hours unless the server is set otherwise.`), h("p", h("a", { href: back() }, "All runs"))));
      return view.end();
    }
    if (view.ended) return undefined;
    run = now;
    return draw();
  });

  function draw() {
    const over = isOver(run.status);
    patch(about, h("div.stack", factsOf(run)));
    patch(attempts, h("section.card.stack", attemptsOf(run)));
    const now = `${run.status} ${run.attempt} ${view.params.get("as")} ${view.params.get("out")}`;
    if (now === drawn) return;
    drawn = now;
    keepFocus(view.root, () => {
      drawHead(over);
      drawBytes(input, "Input", "as", given.bytes, given.whole, async () => (given.whole ? given.bytes : (await view.run("action_input", { key: id })).input));
      if (!over) fill(output, h("h2", "Output"), h("p.soft", "None yet: the run has not ended."));
      else drawBytes(output, run.status === "completed" ? "Output" : "Error", "out", result.bytes.subarray(0, CLIP), result.bytes.length <= CLIP, async () => result.bytes);
    });
  }

  function drawHead(over) {
    const button = (text, act, kind = "button") => h(kind, { type: "button", onclick: () => attempt(act) }, text);
    fill(head,
      h("h2.grow", h("a", { href: back() }, "Runs"), ` / ${id} `, statePill(run.status)),
      h("div.row",
        view.canWrite && over && button("Retry", retry, "button.main"),
        view.canWrite && button("Invoke again", async () => {
          const next = await invoke(view, bytesOf(run.action), given);
          if (next) location.hash = link("actions", { tab: "runs", run: next });
        }),
        view.canWrite && !over && button("Cancel the run", cancel, "button.danger")));
  }

  function drawBytes(place, title, parameter, bytes, whole, all) {
    const name = `run-${id}-${title.toLowerCase()}`;
    const save = h("button", { type: "button", onclick: () => attempt(async () => download(await all(), name)) }, whole ? "Download" : "Download the whole");
    const choose = (as) => {
      view.set({ [parameter]: as }, { replace: true });
      draw();
    };
    const shownPart = payloadView(bytes, whole, view.params.get(parameter), choose);
    shownPart.querySelector("pre").setAttribute("aria-label", title);
    shownPart.querySelector("h3").textContent = whole ? plural(bytes.length, "byte") : `The first ${count(bytes.length)} bytes`;
    fill(place, h("div.row", h("h2.grow", title), bytes.length > 0 && save), bytes.length ? shownPart : h("p.soft", title === "Input" ? "Nothing: it was invoked without one." : "Nothing."));
  }

  async function cancel() {
    if (!(await confirm("Cancel the run", ["Run ", h("span.mono", id), " of ", nameOf(run.action), " ends now, as cancelled. ", run.status === "running" ? "Its worker learns it when it next reports, and may be at work until then." : "No worker has it."], "Cancel the run"))) return;
    await view.run("action_cancel", { key: id });
    load();
    done(`Run ${id} of ${called(run.action)} is cancelled.`, { command: line(view, "action", "cancel", [id]), undo: retry });
  }

  async function retry() {
    await view.run("action_retry", { key: id });
    load();
    done(`Run ${id} of ${called(run.action)} is pending again, with all its attempts.`, { command: line(view, "action", "retry", [id]) });
  }

  return { update: () => run && draw() };

  function factsOf(row) {
    const worker = bytesOf(row.worker);
    const progress = bytesOf(row.progress);
    const time = (ms) => (ms ? [when(ms), " ", h("span.soft", ago(ms))] : null);
    return [facts(
      ["Action", actionLink(row.action)],
      ["State", statePill(row.status)],
      ["Attempt", `${count(row.attempt)}; ${plural(row.failures, "failure")}${row.max_attempts ? ` of ${count(row.max_attempts)}` : ", no bound"}`],
      ["Invoked", time(row.created_at)],
      ["Starts", row.not_before > Date.now() ? time(row.not_before) : null],
      ["Started", time(row.started_at)],
      ["Ended", time(row.finished_at)],
      ["Worker", worker.length ? h("a", { href: link("actions", { tab: "workers", ...bytesFor("worker", worker) }) }, nameOf(worker)) : null],
      ["Lease ends", row.lease_until ? time(row.lease_until) : null],
      ["Progress", progress.length ? h("span.mono", textOf(progress) ?? nameOf(progress)) : null],
      ["Priority", String(row.priority)],
      ["Labels", labelsText(row.labels) ? labelPills(row.labels) : null],
      ["traceparent", row.traceparent ? h("span.mono", row.traceparent) : null],
    )];
  }
}
