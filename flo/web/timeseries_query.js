// The FloQL box: a query with completion, its range, its answer, live if one wants, and the queries that were asked before in this tab.
//
// The address has the query as `q`; a range that was marked in the chart stands beside it as `zoom` and takes the place of the query's own.

import { FloError } from "./flo.js";
import { AnswerView } from "./timeseries_answer.js";
import { complete } from "./timeseries_complete.js";
import { endsOf, rangeOf, withRange } from "./timeseries_floql.js";
import { lessons } from "./timeseries_list.js";
import { firstQuery } from "./timeseries_one.js";
import { page, queryCurl, tsLine } from "./timeseries_read.js";
import { attempt, copyable, fill, h, link, when } from "./ui.js";

const RANGES = ["15m", "1h", "6h", "24h", "7d"];
const RANGE_WORDS = { "15m": "Last 15 minutes", "1h": "Last hour", "6h": "Last 6 hours", "24h": "Last 24 hours", "7d": "Last 7 days" };
const LIVE = [5, 10, 30]; // seconds
const STORE = "flo-queries"; // in this tab's storage
const KEPT = 50; // queries
const SUGGESTED = 8; // measurements
const ZOOM_LEAST = 10; // ms

export function openQuery(view) {
  const box = h("textarea.query", { id: "floql", rows: "3", spellcheck: "false", autocapitalize: "off", autocomplete: "off", placeholder: "cpu{host=web-1}[1h] | avg(1m)", "aria-describedby": "floql-help", onkeydown: key });
  const list = complete(view, box, knownValues, () => {});
  const range = h("select", { onchange: chooseRange }, RANGES.map((each) => h("option", { value: each }, RANGE_WORDS[each])), h("option", { value: "custom" }, "Other…"));
  const [from, to] = ["From", "To"].map((name) => h("input", { type: "datetime-local", step: "1", "aria-label": name }));
  const custom = h("span.row", { hidden: true }, from, h("span.soft", "to"), to, h("button", { type: "button", onclick: useCustom }, "Use this range"));
  const live = h("select", { onchange: () => view.set({ live: live.value }, { replace: false }) }, h("option", { value: "" }, "Off"), LIVE.map((each) => h("option", { value: String(each) }, `Each ${each} s`)));
  const help = h("span.soft", { id: "floql-help" }, "Ctrl-Enter runs it, Ctrl-Space shows what may stand here. ", h("code", "measurement{tag=value}[1h] | stage() | stage()"));
  const form = h("form.stack", { onsubmit: run }, h("div.stack", h("label", { for: box.id }, "FloQL"), h("div.combo", box, list), help), h("div.row", h("button.main", { type: "submit" }, "Run"), h("label.row", "Range", range), custom, h("label.row", "Live", live)));
  const refusal = h("pre.value.bad", { role: "alert", hidden: true });
  const status = h("p.soft", { role: "status", hidden: true });
  const zoomed = h("span.row", { hidden: true });
  const tabs = h("nav.tabs", { "aria-label": "Form of the answer" });
  const answers = new AnswerView("Answer", { zoom: zoomTo, back: zoomOut });
  const result = h("section.card.stack", { "aria-label": "Answer", hidden: true }, h("div.head", tabs), answers.element);
  const commands = h("div.stack");
  const more = h("details", { hidden: true }, h("summary", "The same by command line"), commands);
  const begin = h("div", { hidden: true });
  const past = h("details", h("summary", "Asked before in this tab"), h("ul.plain"));
  fill(view.root, h("section.card.stack", form, zoomed, refusal, status), result, begin, more, past);

  let shown = null; // what the address had when it was drawn: query, zoom, live
  let zooms = []; // those before the one in the address
  let ticking = null; // the part of the page that asks again and again
  let asked = 0;
  let ends = null; // of the range that was asked for

  const param = (name) => view.params.get(name) ?? "";
  const text = () => (param("zoom") ? (withRange(param("q"), param("zoom")) ?? param("q")) : param("q"));

  // -- asking --------------------------------------------------------------------------------------------------------------------------

  function key(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run();
    }
  }

  function run(event) {
    event?.preventDefault();
    const query = box.value.trim();
    if (!query) return box.focus();
    zooms = [];
    if (query === param("q") && !param("zoom")) return start();
    return view.set({ q: query, zoom: null });
  }

  /** Ask now, and then as often as the address says. */
  function start() {
    ticking?.end();
    ticking = view.part(view.root);
    const seconds = Number(param("live"));
    if (LIVE.includes(seconds) && !param("zoom")) ticking.every(seconds * 1000, ask);
    else attempt(ask);
  }

  async function ask() {
    const mine = ++asked;
    const query = text();
    status.hidden = false;
    status.textContent = "Asking…";
    try {
      const answer = await view.run("ts_query", { value: query });
      if (view.ended || mine !== asked) return;
      ends = endsOf(rangeOf(query), Date.now());
      refusal.hidden = true;
      box.removeAttribute("aria-invalid");
      remember(param("q"));
      draw(answer);
    } catch (error) {
      if (view.ended || mine !== asked) return;
      if (!(error instanceof FloError)) throw error;
      ticking?.end(); // what is refused now is refused again
      refusal.hidden = false;
      refusal.textContent = error.message;
      box.setAttribute("aria-invalid", "true");
      result.hidden = true;
    } finally {
      if (mine === asked) status.hidden = true;
    }
  }

  // -- drawing -------------------------------------------------------------------------------------------------------------------------

  function draw(answer = answers.answer) {
    if (!answer) return;
    const as = param("as");
    const state = Object.fromEntries(view.params);
    const tab = (title, name) => h("a", { href: link("timeseries", { ...state, as: name }), "aria-current": as === (name ?? "") ? "page" : null }, title);
    if (tabs.dataset.drawn !== location.hash) fill(tabs, tab("Chart", null), tab("Table", "table"));
    tabs.dataset.drawn = location.hash;
    result.hidden = false;
    answers.set(answer, ends, as);
    fill(commands, copyable(tsLine(view, "query", [], text())), copyable(queryCurl(view, text())));
    more.hidden = false;
  }

  function knownValues(tag) {
    return [...new Set((answers.answer?.series ?? []).map((each) => each.tags[tag]).filter(Boolean))].sort();
  }

  // -- the range -----------------------------------------------------------------------------------------------------------------------

  const local = (ms) => new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 19);

  function drawRange() {
    const written = rangeOf(box.value || "x");
    range.value = RANGES.includes(written) ? written : "custom";
    custom.hidden = range.value !== "custom";
    if (!custom.hidden) [from.value, to.value] = endsOf(written, Date.now()).map(local);
  }

  function chooseRange() {
    custom.hidden = range.value !== "custom";
    if (range.value !== "custom") return useRange(range.value);
    [from.value, to.value] = endsOf(rangeOf(box.value || "x"), Date.now()).map(local);
    return from.focus();
  }

  function useCustom() {
    const times = [from, to].map((input) => Date.parse(input.value));
    if (times.every(Number.isFinite)) useRange(times.map((ms) => new Date(ms).toISOString().replace(".000", "")).join(".."));
  }

  function useRange(next) {
    const query = box.value.trim() && withRange(box.value, next);
    if (!query) return;
    box.value = query;
    run();
  }

  function zoomTo(begin, end) {
    if (end - begin < ZOOM_LEAST || withRange(param("q"), "1h") === null) return;
    zooms.push(param("zoom"));
    view.set({ zoom: `${begin}..${end}` });
  }

  function zoomOut() {
    if (param("zoom")) view.set({ zoom: zooms.pop() || null });
  }

  // -- what was asked before -----------------------------------------------------------------------------------------------------------

  function remembered() {
    try {
      return JSON.parse(sessionStorage.getItem(STORE)) ?? [];
    } catch {
      return [];
    }
  }

  function remember(query) {
    const before = remembered();
    if (before[0]?.q === query && before[0].ns === view.namespace) return;
    sessionStorage.setItem(STORE, JSON.stringify([{ q: query, ns: view.namespace }, ...before.filter((each) => each.q !== query || each.ns !== view.namespace)].slice(0, KEPT)));
    drawPast();
  }

  function drawPast() {
    const mine = remembered().filter((each) => each.ns === view.namespace);
    past.hidden = !mine.length;
    fill(past.lastChild, mine.map((each) => h("li", h("a.mono", { href: link("timeseries", { tab: "query", q: each.q }) }, each.q))));
  }

  /** Where nothing was asked yet: queries to begin with. */
  async function suggest() {
    const { measurements } = await page(view, "", SUGGESTED);
    if (view.ended || param("q")) return;
    begin.hidden = false;
    const rows = measurements.filter((row) => row.fields.length).map((row) => firstQuery(row, row.fields[0]));
    const list = () => h("section.card", h("h2", "To begin with"), h("ul.plain", rows.map((q) => h("li", h("a.mono", { href: link("timeseries", { tab: "query", q }) }, q)))));
    fill(begin, rows.length ? list() : lessons(view));
  }

  function update() {
    const now = JSON.stringify(["q", "zoom", "live"].map(param));
    live.value = LIVE.includes(Number(param("live"))) ? param("live") : "";
    if (now === shown) return draw();
    const [query, marked] = JSON.parse(shown ?? '["", ""]');
    if (query !== param("q") || shown === null) box.value = param("q");
    if (!param("zoom")) zooms = [];
    zoomed.hidden = !param("zoom");
    if (!zoomed.hidden) fill(zoomed, h("button", { type: "button", onclick: zoomOut }, "Zoom out"), h("span", "Only from ", param("zoom").split("..").map((ms) => when(Number(ms))).join(" to ")));
    if (query !== param("q") || marked !== param("zoom")) answers.chart.at = null;
    if (query !== param("q")) answers.chart.hidden.clear();
    shown = now;
    drawRange();
    begin.hidden = true;
    if (param("q")) start();
    else {
      ticking?.end();
      result.hidden = more.hidden = refusal.hidden = true;
      attempt(suggest);
    }
    return undefined;
  }

  drawPast();
  update();
  if (!param("q")) box.focus();
  return { update };
}
