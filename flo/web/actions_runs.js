// Runs, the newest first: by state, action and labels, in pages; and the retry of all that match.

import { BAD_REQUEST, NOT_FOUND, bytesOf } from "./flo.js";
import { PAGE, RETRIABLE, STATES, actionLink, called, cursorFor, cursorIn, labelPills, line, pages, runLink, stateText, statePill } from "./actions_words.js";
import { lessons } from "./actions_change.js";
import { keepFocus } from "./patch.js";
import { Rows } from "./streams_rows.js";
import { ago, attempt, bytesFor, bytesIn, count, dialog, done, duration, emptyState, field, fill, h, link, nameOf, plural, preview, shown } from "./ui.js";

const LIST_MS = 5000;
const SLICE = 500; // runs that one request looks at

/** What the address filters by. */
function filterIn(view) {
  const state = STATES.includes(view.params.get("state")) ? view.params.get("state") : "";
  return { state, action: bytesIn(view.params, "action"), labels: view.params.get("labels") ?? "" };
}

/** The filter as the address has it. */
const filterFor = ({ state, action, labels }) => ({ tab: "runs", state, ...(action ? bytesFor("action", action) : {}), labels });

/** The filter as options of a request. */
const asked = ({ state, action, labels }) => ({ key: action ?? "", state: state ? STATES.indexOf(state) : undefined, labels: labels || undefined });

/** How long a run took, or has been at it. */
const took = (row) => (row.started_at ? duration(Math.max((row.finished_at || Date.now()) - row.started_at, 0)) : "–");

/** What there is to say of a run in a line: how far it is, when it starts, why it failed, also the last time. */
function noteOf(row) {
  const [error, progress] = [bytesOf(row.error), bytesOf(row.progress)];
  if (row.status === "running" && progress.length) return preview(progress, true, 120);
  return [row.not_before > Date.now() && h("span.soft", "starts ", ago(row.not_before), error.length > 0 && "; "), error.length > 0 && row.status !== "completed" && preview(error, true, 120)];
}

export function openRuns(view) {
  const tabs = h("nav.tabs", { "aria-label": "State of the runs" });
  const action = h("input", { type: "text", spellcheck: "false", autocomplete: "off", autocapitalize: "off", placeholder: "all" });
  const labels = h("input", { type: "text", spellcheck: "false", autocomplete: "off", placeholder: '{"region": "eu"}' });
  const form = h("form.row", { role: "search", onsubmit: enter }, field("Action", action), field("Labels", labels), h("button", { type: "submit" }, "Show"), h("a.button", { href: link("actions", { tab: "runs" }) }, "All runs"));
  const progress = h("div");
  const place = h("section.card.stack", h("p.soft", "Reading…"));
  const heading = h("h2.grow");
  const tools = h("div.row");
  const steps = h("nav.row", { "aria-label": "Pages of the list" });
  const rows = new Rows("Runs", [
    { title: "Run", cell: (row) => runLink(row.run_id, { ...filterFor(filterIn(view)), after: view.params.get("after") }) },
    { title: "Action", class: "name", cell: (row) => actionLink(row.action, nameOf(row.action, 60)) },
    { title: "State", live: true, cell: (row) => statePill(row.status) },
    { title: "Attempt", class: "num", live: true, cell: (row) => (row.attempt ? count(row.attempt) : h("span.soft", "0")) },
    { title: "Invoked", live: true, cell: (row) => ago(row.created_at) },
    { title: "Took", class: "num", live: true, cell: took },
    { title: "Ended", live: true, cell: (row) => (row.finished_at ? ago(row.finished_at) : "–") },
    { title: "Worker", live: true, cell: (row) => (bytesOf(row.worker).length ? nameOf(row.worker, 40) : "–") },
    { title: "What happens", class: "text", live: true, cell: noteOf },
    { title: "Labels", cell: (row) => labelPills(row.labels) },
  ], (row) => row.run_id);
  form.style.alignItems = "end"; // the buttons beside the fields, not between them and their labels
  let busy = false;
  let drawn = null; // what `place` and the tools were drawn for
  fill(view.root, tabs, form, progress, place);

  const filter = () => filterIn(view);
  const stateOf = () => JSON.stringify([filterFor(filter()), view.params.get("after")]);

  function drawFilter() {
    const mine = filter();
    const tab = (state, text) => h("a", { href: link("actions", { ...filterFor(mine), state }), "aria-current": mine.state === state ? "page" : null }, text);
    const had = tabs.contains(document.activeElement) ? [...tabs.children].indexOf(document.activeElement) : -1;
    fill(tabs, tab("", "All"), STATES.map((state) => tab(state, stateText(state)[0].toUpperCase() + stateText(state).slice(1))));
    tabs.children[had]?.focus();
    if (document.activeElement !== action) action.value = mine.action ? shown(mine.action) : "";
    if (document.activeElement !== labels) labels.value = mine.labels;
  }

  function enter(event) {
    event.preventDefault();
    const same = filter().action && action.value === shown(filter().action); // a name that is no text stays as it is
    const names = same ? {} : { action: null, action64: null, ...(action.value ? bytesFor("action", action.value) : {}) };
    view.set({ ...names, labels: labels.value.trim(), after: null });
  }

  async function load() {
    const mine = stateOf();
    let answer;
    try {
      answer = await view.run("action_runs", { ...asked(filter()), limit: PAGE, cursor: cursorIn(view) });
    } catch (error) {
      if (![BAD_REQUEST, NOT_FOUND].includes(error.status)) throw error;
      answer = { runs: [], cursor: "", refused: error.message };
    }
    if (view.ended || mine !== stateOf()) return;
    const next = cursorFor(answer.cursor);
    const now = `${mine} ${next} ${answer.runs.length > 0} ${answer.refused} ${busy}`;
    if (now !== drawn) {
      drawTools(answer.runs.length);
      fill(place, answer.runs.length ? [h("div.row", heading, tools), rows.element, steps] : nothing(answer.refused));
      fill(steps, pages(view, filterFor(filter()), next));
    }
    drawn = now;
    keepFocus(place, () => rows.set(answer.runs));
    heading.textContent = `${plural(answer.runs.length, "run")}, the newest first${next ? "; older ones on the next page" : ""}`;
  }

  function drawTools(some) {
    const { state, action: name } = filter();
    if (!view.canWrite || !some || !RETRIABLE.includes(state)) return void fill(tools);
    if (name === null) return void fill(tools, h("span.soft", "To retry all that match, choose an action."));
    return void fill(tools, h("button", { type: "button", disabled: busy, onclick: () => attempt(retryAll) }, "Retry all that match"));
  }

  function nothing(refused) {
    if (refused) return [h("h2", "The server does not list these"), h("p", refused)];
    if (view.params.get("after")) return [h("p", "The list ends here. ", h("a", { href: link("actions", filterFor(filter())) }, "List from the newest"))];
    const { state, action: name, labels: wanted } = filter();
    if (state || name || wanted) return [h("p", `No run${name ? ` of ${called(name)}` : ""}${wanted ? " with these labels" : ""} is ${state ? stateText(state) : "here"}.`)];
    return [emptyState("No run yet. Each invocation of an action makes one:", ...lessons(view))];
  }

  // -- retry of all ----------------------------------------------------------------------------------------------------------------------

  async function retryAll() {
    const mine = filter();
    const { key, state, labels: wanted } = asked(mine);
    const [{ runs }] = (await view.run("action_list", { key })).actions;
    const total = runs[mine.state];
    if (!total) return;
    const text = `${wanted ? `Of the ${count(total)} ${stateText(mine.state)} runs of ${called(mine.action)} those with these labels become pending` : `The ${count(total)} ${stateText(mine.state)} runs of ${called(mine.action)} become pending`}, each with all its attempts. A run is left out if another one has its unique key.`;
    if (!(await dialog({ title: "Retry all that match", children: [h("p", text)], action: wanted ? "Retry them" : `Retry ${plural(total, "run")}` }))) return;
    busy = true;
    await load();
    let [looked, retried, stopped] = [0, 0, false];
    const bar = h("progress", { max: String(total), value: "0", "aria-label": "Runs looked at" });
    const told = h("span.grow", { role: "status" });
    const stop = h("button", { type: "button", onclick: () => (stopped = true) }, "Stop");
    fill(progress, h("div.card.stack", h("div.row", told, stop), bar));
    stop.focus();
    await attempt(async () => {
      for (let cursor; !stopped && !view.ended;) {
        told.textContent = `Retrying: ${count(retried)} of ${count(total)}`;
        const answer = await view.run("action_retry_many", { key, state, labels: wanted, limit: SLICE, cursor });
        retried += answer.count;
        bar.value = looked += SLICE;
        if (!answer.has_more) break;
        cursor = answer.cursor;
      }
    }); // what was done before a refusal is told all the same
    busy = false;
    fill(progress);
    const command = line(view, "action", "retry", [], [["action", mine.action], ["state", mine.state], ["labels", mine.labels]]);
    done(`${plural(retried, "run")} of ${called(mine.action)} ${retried === 1 ? "is" : "are"} pending again.${stopped ? " The command does the rest." : ""}`, { command });
    if (!view.ended) reload();
  }

  const reload = view.every(LIST_MS, load);
  function update() {
    drawFilter();
    reload();
  }
  drawFilter();
  return { update };
}
