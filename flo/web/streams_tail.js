// The tab Records: the newest records and what comes, newest first; or, with `from` in the address, a page of records from there on.

import { ConnectionLost, FloError, UNAUTHORIZED } from "./flo.js";
import { clipped, lineOf, recordLink, textFor, timeOf } from "./streams_record.js";
import { idFrom, idOf, newest, nextId, streamLine } from "./streams_read.js";
import { attempt, copyable, count, failed, fill, h, link, table } from "./ui.js";

const PAGE = 100; // records at first, of each older page, and of a page from an id on
const KEPT = 1000; // records on the page
const READ_MAX = 1000; // of one read
const BLOCK_MS = 10_000;
const PACE_MS = 1000; // between two reads that are answered at once
const RETRY_MS = 2000; // after a refusal

/** Draw the tab. Gives { update, seen }. */
export function openRecords(view, name) {
  const list = new List(view);
  const filter = h("input", { type: "search", "aria-label": "Filter", placeholder: "Filter by text", value: view.params.get("q") ?? "" });
  const state = h("span.soft");
  const pause = h("button", { type: "button", onclick: () => setPaused(!paused) }, "Stop following");
  const steps = h("div.row");
  const older = h("button", { type: "button", onclick: () => attempt(readOlder) }, `Show ${PAGE} older`);
  const nothing = h("div");
  const read = (start, end, limit) => view.run("stream_read", { key: name, start, end, limit, ...clipped });
  const to = (changes) => link("streams", { ...Object.fromEntries(view.params), ...changes });
  let from = view.params.get("from");
  let paused = false;
  let runs = 0; // of `follow`
  let last = null; // the id up to which all was read
  let skipped = false;
  let trouble = "";
  let wake = () => {};

  filter.addEventListener("input", () => {
    view.set({ q: filter.value }, { replace: true });
    list.filter(filter.value);
    drawState();
  });
  fill(view.root, h("section.card.stack", h("div.row", pause, filter, jumper(view), state), nothing, list.element, steps));

  function setPaused(now) {
    paused = now;
    pause.textContent = paused ? "Follow" : "Stop following";
    drawState();
    wake();
  }

  function drawState() {
    const live = paused ? "Paused" : document.hidden || view.flo.state !== "open" ? "Waiting for the connection" : "Live, newest first";
    const shown = `${count(list.matching)} of ${count(list.entries.length)} shown`;
    const notes = [shown, from === null && list.entries.length >= KEPT && `the newest ${count(KEPT)} are kept`, skipped && "more came than can be shown: some were passed over", trouble];
    fill(state, h("strong", from === null ? live : "From an id on, oldest first"), ` · ${notes.filter(Boolean).join(" · ")}`);
  }

  // -- live ------------------------------------------------------------------------------------------------------------------------------

  const mayRead = () => from === null && !paused && !document.hidden && view.flo.state === "open";

  /** Read what comes, until the tab ends or a later call begins. What is answered in a pause is dropped, and read again after it. */
  async function follow() {
    const mine = ++runs;
    const over = () => view.ended || from !== null || mine !== runs;
    while (!over()) {
      if (!mayRead()) await new Promise((resolve) => (wake = resolve));
      else await step(over);
    }
  }

  async function step(over) {
    try {
      if (last === null) return await begin(over);
      const records = await view.run("stream_read", { key: name, start: nextId(last), limit: READ_MAX, block: BLOCK_MS, ...clipped });
      if (over() || paused) return undefined;
      trouble = "";
      if (records.length === READ_MAX) {
        [last, skipped] = [null, true];
      } else if (records.length) {
        last = records.at(-1).id;
        list.add(records);
        fill(nothing);
      }
      drawState();
      return records.length ? await rest(PACE_MS) : undefined;
    } catch (error) {
      if (over() || error instanceof ConnectionLost) return undefined;
      if (!(error instanceof FloError) || error.status === UNAUTHORIZED) return void view.fail(error);
      trouble = error.message;
      drawState();
      return await rest(RETRY_MS);
    }
  }

  /** Show the newest records. */
  async function begin(over) {
    const info = await view.run("stream_info", { key: name });
    const [first, end] = [idOf(info.first), idOf(info.last)];
    const back = info.count ? ((end - first) * BigInt(PAGE + PAGE / 2)) / BigInt(info.count) : 0n;
    const records = info.count ? (await newest(read, first, end, PAGE, back)).slice(-PAGE) : [];
    if (over()) return;
    last = info.last;
    list.clear();
    list.add(records);
    drawOlder(records.length > 0 && idOf(records[0].id) > first);
    fill(nothing, !records.length && empty(view, name));
    drawState();
  }

  async function readOlder() {
    older.disabled = true;
    try {
      const { oldest, entries } = list;
      const { first } = await view.run("stream_info", { key: name });
      const end = idOf(oldest);
      const back = ((idOf(entries[0].id) - end) * BigInt(PAGE + PAGE / 2)) / BigInt(entries.length);
      const records = idOf(first) < end ? await newest(read, idOf(first), end, PAGE + 1, back) : [];
      if (view.ended || from !== null || list.oldest !== oldest) return;
      const before = records.filter((record) => record.id !== oldest).slice(-PAGE);
      list.addOlder(before);
      drawOlder(before.length > 0 && idOf(list.oldest) > idOf(first));
      drawState();
    } finally {
      older.disabled = false;
    }
  }

  function drawOlder(more) {
    const full = list.entries.length >= KEPT;
    fill(steps, more && !full && older, more && h("a.button", { href: to({ from: "0-0" }) }, "Read from the first"));
  }

  // -- from an id on -----------------------------------------------------------------------------------------------------------------------

  async function readFrom() {
    const start = idFrom(from);
    if (start === null) return void fill(nothing, h("p.bad", `${from} is neither an id nor a time.`));
    const asked = from;
    fill(steps);
    const records = await view.run("stream_read", { key: name, start, limit: PAGE, ...clipped });
    if (view.ended || from !== asked) return undefined;
    list.clear();
    list.add(records, true);
    const full = records.length === PAGE;
    fill(
      steps,
      h("button", { type: "button", onclick: () => attempt(() => readBefore(start)) }, `Previous ${PAGE}`),
      full && h("a.button", { href: to({ from: nextId(records.at(-1).id) }) }, `Next ${PAGE}`),
      h("a.button", { href: to({ from: null }) }, "Live"),
      !full && h("span.soft", "These are the last ones."),
    );
    fill(nothing, !records.length && h("p", "No record has this id or a later one."));
    drawState();
    return undefined;
  }

  async function readBefore(start) {
    const { first, last: highest } = await view.run("stream_info", { key: name });
    const end = idOf(start) - 1n;
    const known = list.entries.length > 1 ? idOf(list.entries.at(-1).id) - idOf(list.entries[0].id) : idOf(highest) - idOf(first);
    const records = idOf(first) <= end ? await newest(read, idOf(first), end, PAGE, (known < 0n ? -known : known) * 2n) : [];
    if (view.ended) return;
    if (records.length) view.set({ from: records.slice(-PAGE)[0].id });
    else failed(new Error("There are no records before these."));
  }

  // ----------------------------------------------------------------------------------------------------------------------------------------

  function restart() {
    list.clear();
    fill(steps);
    fill(nothing, h("p.soft", "Reading…"));
    [last, skipped, trouble] = [null, false, ""];
    pause.hidden = from !== null;
    drawState();
    if (from === null) follow();
    else attempt(readFrom);
    wake();
  }

  function update() {
    const wanted = view.params.get("from");
    const text = view.params.get("q") ?? "";
    if (text !== list.text && document.activeElement !== filter) filter.value = text;
    list.filter(filter.value);
    list.choose(view.params.get("record"));
    if (wanted !== from) {
      from = wanted;
      restart();
    }
    drawState();
  }

  /** A sample of stream_info: where its last id is lower than ours, the stream was deleted and made anew. */
  function seen(info) {
    if (last !== null && idOf(info.last) < idOf(last)) restart();
  }

  const turned = () => {
    drawState();
    wake();
  };
  view.on(document, "visibilitychange", turned);
  view.on(view.flo, "state", turned);
  view.onEnd(() => wake());
  list.filter(filter.value);
  list.choose(view.params.get("record"));
  restart();
  return { update, seen };
}

/** The box that jumps to a time or an id. */
function jumper(view) {
  const input = h("input", { "aria-label": "Id or time to read from", placeholder: "Id, 10:30, or 5 min ago", value: view.params.get("from") ?? "" });
  const go = (event) => {
    event.preventDefault();
    const id = idFrom(input.value);
    if (input.value && id === null) failed(new Error(`${input.value} is neither an id nor a time. Write 1700000000000-0, 10:30, 2025-01-31 10:30, or 5 min ago.`));
    else view.set({ from: id });
  };
  return h("form.row", { onsubmit: go }, input, h("button", { type: "submit" }, "Jump"));
}

function empty(view, name) {
  const words = [h("p", "There are no records. What is appended from now on appears here by itself.")];
  return h("div.empty", words, copyable(streamLine(view, "append", [], name, "first record")));
}

const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// -- the list ------------------------------------------------------------------------------------------------------------------------------

/** Records on the page, each a row that is made once. `entries` are in the order of the page. */
class List {
  constructor(view) {
    this.view = view;
    this.element = table("Records", ["Time", "Id", "Record"].map((title) => ({ title })), []);
    this.body = this.element.querySelector("tbody");
    Object.assign(this.element.querySelector("th:last-child").style, { width: "100%" }); // the others are as wide as they must
    this.entries = []; // { id, row, text }
    this.matching = 0;
    this.text = "";
    this.chosen = null;
  }

  get oldest() {
    return this.entries.at(-1)?.id ?? null;
  }

  clear() {
    this.entries = [];
    this.matching = 0;
    this.body.replaceChildren();
    this.element.hidden = true;
  }

  /** Add records, oldest first: newest on top, or, `forward`, in their own order. */
  add(records, forward = false) {
    const fresh = records.map((record) => this._entry(record));
    if (!forward) fresh.reverse();
    this.body.prepend(...fresh.map((entry) => entry.row));
    this.entries.unshift(...fresh);
    this._settle();
  }

  /** Add records below, oldest first. */
  addOlder(records) {
    const fresh = records.map((record) => this._entry(record)).reverse().slice(0, Math.max(KEPT - this.entries.length, 0));
    this.body.append(...fresh.map((entry) => entry.row));
    this.entries.push(...fresh);
    this._settle();
  }

  filter(text) {
    if (text === this.text) return;
    this.text = text;
    this.matching = 0;
    for (const entry of this.entries) this._match(entry);
  }

  choose(id) {
    this.chosen = id;
    for (const entry of this.entries) this._mark(entry);
  }

  _entry(record) {
    const { id } = record;
    const row = h("tr", h("td.mono", timeOf(id)), h("td", recordLink(this.view, id)), h("td.text", lineOf(record)));
    const entry = { id, row, text: textFor(record) };
    // The address may have changed since the row was made: the link is of the present one
    row.cells[1].firstChild.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      this.view.set({ record: id });
    });
    this._match(entry);
    this._mark(entry);
    return entry;
  }

  _match({ row, text }) {
    row.hidden = !text.includes(this.text.toLowerCase());
    if (!row.hidden) this.matching++;
  }

  _mark({ id, row }) {
    if (id === this.chosen) row.setAttribute("aria-selected", "true");
    else row.removeAttribute("aria-selected");
  }

  _settle() {
    for (const { row } of this.entries.splice(KEPT)) {
      if (!row.hidden) this.matching--;
      row.remove();
    }
    this.element.hidden = !this.entries.length;
  }
}
