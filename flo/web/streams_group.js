// One consumer group: what it has still to do, its consumers, its dead letters and its pending records, and what can be done with these.

import { bytesOf, NOT_FOUND } from "./flo.js";
import { many } from "./streams_many.js";
import { idTime, streamLine } from "./streams_read.js";
import { clipped, lineOf, oneLine, recordLink, timeOf } from "./streams_record.js";
import { Rows, headed } from "./streams_rows.js";
import { ago, attempt, base64url, bytesFor, confirm, count, done, duration, facts, fill, h, link, nameOf, plural } from "./ui.js";

const INFO_MS = 2000;
const LISTS_MS = 10_000; // between two readings of pending records and dead letters; sooner if their numbers say so
const SHOWN = 50; // of each list at first
const MORE = 100;
const LISTED_MAX = 1000; // of each list in an answer
const CONSUMERS = 50;
const COMMAND_IDS = 10; // more are not shown in a command

export function openGroup(view, name, group) {
  const back = { ...bytesFor("stream", name), tab: "groups" };
  const about = h("div");
  const consumers = new Rows("Consumers", [
    { title: "Consumer", class: "name", cell: (row) => nameOf(row.name) },
    { title: "Pending", class: "num", live: true, cell: (row) => count(row.pending) },
    { title: "Idle for", class: "num", live: true, cell: (row) => duration(row.idle_ms) },
  ], (row) => base64url(bytesOf(row.name)));
  const consumersNote = h("p.soft");
  const dead = new DeadLetters(view, name, group, () => refresh());
  const pending = new Pending(view, name, group, () => refresh());
  fill(
    view.root,
    h("div.head", h("h2.grow", h("a", { href: link("streams", back) }, "All groups"), " / ", headed(group)), view.canWrite && h("button.danger", { type: "button", onclick: () => attempt(remove) }, "Delete the group…")),
    h("div.grid", h("section.card", h("h2", "Facts"), about), h("section.card", h("h2", "Consumers"), consumersNote, consumers.element)),
    dead.element,
    pending.element,
  );
  let read = null; // when the lists were read, and what numbers they had
  let info = null;

  async function load() {
    try {
      info = await view.run("stream_group_info", { key: name, group });
      if (view.ended) return;
      if (read === null || Date.now() - read.time > LISTS_MS || read.dead !== info.dead || (read.pending !== info.pending && info.pending <= SHOWN)) {
        const lists = await view.run("stream_group_pending", { key: name, group });
        if (view.ended) return;
        read = { time: Date.now(), dead: lists.dead_count, pending: lists.pending_count };
        dead.set(lists);
        pending.set(lists, info);
      }
    } catch (error) {
      if (error.status !== NOT_FOUND) throw error;
      if (!view.ended) fill(view.root, h("section.card", h("p", "This stream has no group ", nameOf(group), "."), h("a", { href: link("streams", back) }, "All groups")));
      view.end();
      return;
    }
    fill(about, factsOf(info));
    const shownConsumers = [...info.consumers].sort((one, other) => other.pending - one.pending).slice(0, CONSUMERS);
    consumers.set(shownConsumers);
    consumers.element.hidden = !shownConsumers.length;
    consumersNote.textContent = info.consumer_count > CONSUMERS ? `${CONSUMERS} of ${plural(info.consumer_count, "consumer")}, those with most pending records first.` : info.consumer_count ? "" : "No consumer has got a record yet.";
  }

  function refresh() {
    read = null;
    run();
  }

  async function remove() {
    const now = await view.run("stream_group_info", { key: name, group });
    const text = `The group with ${plural(now.consumer_count, "consumer")}, ${plural(now.pending, "pending record")} and ${plural(now.dead, "dead letter")} will be deleted; the stream's records stay. A consumer that reads again makes the group anew, from the first record.`;
    if (!(await confirm("Delete the group?", text, "Delete the group"))) return;
    await view.run("stream_group_delete", { key: name, group });
    done(["The group ", nameOf(group), " is deleted."], { command: streamLine(view, "group delete", [], name, group) });
    location.hash = link("streams", back);
  }

  const run = view.every(INFO_MS, load);
  const update = () => {
    dead.draw();
    pending.draw();
  };
  return { update };
}

function factsOf(info) {
  const never = (number, text) => (number ? text(number) : "never");
  return facts(
    ["Lag", `${plural(info.lag, "record")} not delivered yet`],
    ["Pending", `${plural(info.pending, "record")} delivered and not acknowledged`],
    ["Dead letters", [info.dead ? h("span.warn", count(info.dead)) : "0", info.dead_evicted > 0 && `, and ${count(info.dead_evicted)} older ones deleted`]],
    ["Delivered up to", [h("span.mono", info.last_id), " ", idTime(info.last_id) !== null && h("span.soft", ago(idTime(info.last_id)))]],
    ["Waiting readers", count(info.waiting)],
    ["Comes again after", never(info.ack_timeout_ms, duration)],
    ["Set aside after", never(info.max_deliver, (number) => plural(number, "delivery").replace("deliverys", "deliveries"))],
    ["Made by", info.made_by === "xgroup" ? "Redis's XGROUP: nothing comes again by itself" : "Flo"],
  );
}

const idsOf = (rows) => rows.map((row) => row.id);

/** How many of a list are shown: the parameter of the address, or the least. */
const shownOf = (view, parameter) => Math.max(Number(view.params.get(parameter)) || SHOWN, SHOWN);

function moreButton(view, parameter, total) {
  const now = shownOf(view, parameter);
  const listed = Math.min(total, LISTED_MAX);
  return [
    now < listed && h("button", { type: "button", onclick: () => view.set({ [parameter]: now + MORE }) }, `Show ${Math.min(MORE, listed - now)} more`),
    total > 0 && h("span.soft", `${count(Math.min(now, listed))} of ${count(total)} shown${total > LISTED_MAX ? `; the first ${count(LISTED_MAX)} can be` : ""}`),
  ];
}

/** `flo stream group VERB` for these ids; for many, a pipe that takes them from the list of pending records. */
function idsLine(view, verb, name, group, ids) {
  if (ids && ids.length <= COMMAND_IDS) return streamLine(view, `group ${verb}`, [], name, group, ...ids);
  return `${streamLine(view, "group pending", ["--format", "json"], name, group)} | jq -r '.dead[].id' | xargs ${streamLine(view, `group ${verb}`, [], name, group)}`;
}

// -- dead letters ------------------------------------------------------------------------------------------------------------------------

class DeadLetters {
  constructor(view, name, group, changed) {
    Object.assign(this, { view, name, group, changed });
    this.chosen = new Set();
    this.lines = new Map(); // by id: an element with the record, read once
    this.rows = new Rows("Dead letters", [
      view.canWrite && { title: "", cell: (row) => this._box(row.id) },
      { title: "Record", cell: (row) => recordLink(view, row.id) },
      { title: "Holds", class: "text", cell: (row) => this._line(row.id) },
      { title: "Last consumer", cell: (row) => nameOf(row.consumer, 40) },
      { title: "Deliveries", class: "num", cell: (row) => count(row.deliveries) },
      { title: "Set aside", live: true, cell: (row) => oneLine(ago(row.died_at)) },
    ].filter(Boolean), (row) => `${row.id} ${row.died_at}`);
    this.all = h("input", { type: "checkbox", "aria-label": "Choose all that are shown", onchange: () => this._chooseAll() });
    if (view.canWrite) this.rows.element.querySelector("th").append(this.all);
    this.buttons = h("div.row");
    this.note = h("p.soft");
    this.more = h("div.row");
    this.element = h("section.card.stack", h("h2", "Dead letters"), this.note, this.buttons, this.rows.element, this.more);
    this.lists = null;
  }

  set(lists) {
    this.lists = lists;
    this.draw();
  }

  draw() {
    if (!this.lists) return;
    const { dead_count: total, dead } = this.lists;
    const shown = dead.slice(0, shownOf(this.view, "dead"));
    this.shown = shown;
    const ids = new Set(idsOf(shown));
    for (const id of this.chosen) if (!ids.has(id)) this.chosen.delete(id);
    this._readLines(idsOf(shown));
    this.rows.set(shown);
    this.rows.element.hidden = !total;
    this.note.textContent = total ? "Records that were delivered too often without an acknowledgement, oldest first. Requeue delivers them again, as if for the first time." : "None. A record that is delivered too often without an acknowledgement is set aside here.";
    fill(this.more, moreButton(this.view, "dead", total));
    this._drawButtons();
  }

  _drawButtons() {
    if (!this.view.canWrite) return;
    const total = this.lists.dead_count;
    const chosen = [...this.chosen];
    this.all.checked = chosen.length > 0 && chosen.length === this.shown.length;
    this.all.indeterminate = chosen.length > 0 && !this.all.checked;
    const now = `${total} ${chosen.length}`;
    if (this.drawnFor === now) return;
    this.drawnFor = now;
    const focused = this.buttons.contains(document.activeElement) ? document.activeElement.dataset.does : null;
    const button = (does, title, run, danger) => h(`button${danger ? ".danger" : ""}`, { type: "button", "data-does": does, disabled: does.endsWith("chosen") && !chosen.length, onclick: () => attempt(run) }, title);
    fill(this.buttons, total > 0 && [
      button("requeue chosen", `Requeue ${count(chosen.length)} chosen`, () => this._requeue(chosen)),
      button("delete chosen", `Delete ${count(chosen.length)} chosen…`, () => this._delete(chosen), true),
      button("requeue all", `Requeue all ${count(total)}…`, () => this._requeueAll()),
      button("delete all", `Delete all ${count(total)}…`, () => this._delete(null), true),
    ]);
    if (focused) this.buttons.querySelector(`[data-does="${focused}"]`)?.focus();
  }

  _box(id) {
    const toggle = (event) => {
      if (event.target.checked) this.chosen.add(id);
      else this.chosen.delete(id);
      this._drawButtons();
    };
    return h("input", { type: "checkbox", "aria-label": `Choose ${id}`, checked: this.chosen.has(id), onchange: toggle });
  }

  _chooseAll() {
    this.chosen = new Set(this.all.checked ? idsOf(this.shown) : []);
    for (const box of this.rows.body.querySelectorAll("input")) box.checked = this.all.checked;
    this._drawButtons();
  }

  _line(id) {
    if (!this.lines.has(id)) this.lines.set(id, h("span.soft", "…"));
    return this.lines.get(id);
  }

  _readLines(ids) {
    for (const id of this.lines.keys()) if (!ids.includes(id)) this.lines.delete(id);
    for (const id of ids) if (!this.lines.has(id)) this._readLine(id, this._line(id));
  }

  async _readLine(id, place) {
    try {
      const [record] = await this.view.run("stream_read", { key: this.name, start: id, end: id, ...clipped });
      fill(place, record ? lineOf(record) : "trimmed from the stream");
      place.classList.toggle("soft", !record);
    } catch (error) {
      place.textContent = error.message;
    }
  }

  _take(ids) {
    if (ids) {
      const left = [...ids];
      return async (most) => left.splice(0, most);
    }
    let listed = []; // what the server lists is taken whole, then asked for anew
    return async (most) => {
      if (!listed.length) listed = idsOf((await this.view.run("stream_group_pending", { key: this.name, group: this.group })).dead);
      return listed.splice(0, most);
    };
  }

  async _requeue(ids) {
    const { given_back: given } = await this.view.run("stream_group_nack", { key: this.name, group: this.group, value: ids });
    this._done(`${plural(given, "dead letter")} put back.`, idsLine(this.view, "nack", this.name, this.group, ids));
  }

  async _requeueAll() {
    const total = this.lists.dead_count;
    await many({
      title: `Requeue ${plural(total, "dead letter")}?`,
      text: "They are delivered again, as if for the first time. Those that fail again come back here.",
      action: "Requeue all",
      total,
      take: this._take(null),
      run: async (ids) => (await this.view.run("stream_group_nack", { key: this.name, group: this.group, value: ids })).given_back,
      said: (number, stopped) => this._done(`${plural(number, "dead letter")} put back${stopped ? `; stopped before the other ${count(total - number)}` : ""}.`, idsLine(this.view, "nack", this.name, this.group, null)),
    });
  }

  async _delete(ids) {
    const total = ids?.length ?? this.lists.dead_count;
    await many({
      title: `Delete ${plural(total, "dead letter")}?`,
      text: `The group will never get ${total === 1 ? "this record" : "these records"} again. The stream keeps ${total === 1 ? "it" : "them"}, as long as its bounds allow.`,
      action: `Delete ${plural(total, "dead letter")}`,
      danger: true,
      total,
      take: this._take(ids),
      run: async (some) => (await this.view.run("stream_group_ack", { key: this.name, group: this.group, value: some })).acked,
      said: (number, stopped) => this._done(`${plural(number, "dead letter")} deleted${stopped ? `; stopped before the other ${count(total - number)}` : ""}.`, idsLine(this.view, "ack", this.name, this.group, ids)),
    });
  }

  _done(sentence, command) {
    done(sentence, { command });
    this.chosen.clear();
    this.changed();
  }
}

// -- pending records ---------------------------------------------------------------------------------------------------------------------

class Pending {
  constructor(view, name, group, changed) {
    Object.assign(this, { view, name, group, changed });
    this.rows = new Rows("Pending records", [
      { title: "Record", cell: (row) => recordLink(view, row.id) },
      { title: "Written", cell: (row) => timeOf(row.id) },
      { title: "Consumer", cell: (row) => nameOf(row.consumer, 40) },
      { title: "Delivered", live: true, cell: (row) => oneLine(ago(row.delivered_at)) },
      { title: "Deliveries", class: "num", cell: (row) => count(row.deliveries) },
      { title: "Comes again", live: true, cell: (row) => oneLine(this._next(row)) },
      view.canWrite && { title: "Action", cell: (row) => h("button", { type: "button", "aria-label": `Release ${row.id}`, onclick: () => attempt(() => this._release(row)) }, "Release") },
    ].filter(Boolean), (row) => `${row.id} ${row.deliveries} ${row.delivered_at}`);
    this.note = h("p.soft");
    this.more = h("div.row");
    this.element = h("section.card.stack", h("h2", "Pending"), this.note, this.rows.element, this.more);
    this.lists = null;
  }

  set(lists, info) {
    [this.lists, this.info] = [lists, info];
    this.draw();
  }

  draw() {
    if (!this.lists) return;
    const { pending, pending_count: total } = this.lists;
    this.rows.set(pending.slice(0, shownOf(this.view, "pending")));
    this.rows.element.hidden = !total;
    this.note.textContent = total ? "Delivered and not acknowledged, oldest record first. The next reader gets those whose time is over; Release gives it a record at once." : "None: all that was delivered is acknowledged.";
    fill(this.more, moreButton(this.view, "pending", total));
  }

  _next({ deadline }) {
    if (!deadline) return h("span.soft", "never by itself");
    const left = deadline - Date.now();
    return left > 0 ? h("span", `in ${duration(left)}`) : h("span.warn", "time is over");
  }

  async _release(row) {
    const { given_back: given } = await this.view.run("stream_group_nack", { key: this.name, group: this.group, value: [row.id] });
    const last = this.info.max_deliver && row.deliveries >= this.info.max_deliver;
    const sentence = !given ? "It was acknowledged meanwhile: nothing to release." : last ? "It had its last delivery: it is a dead letter now." : "Released: the next reader gets it.";
    done(sentence, { command: idsLine(this.view, "nack", this.name, this.group, [row.id]) });
    this.changed();
  }
}
