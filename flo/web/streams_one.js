// One stream: its facts and append rate, what can be done to all of it, and the tabs Records and Groups.

import { Chart } from "./chart.js";
import { openGroups } from "./streams_groups.js";
import { described, idFrom, idOf, idTime, nextId, streamLine } from "./streams_read.js";
import { recordPanel } from "./streams_record.js";
import { boundsText, headed } from "./streams_rows.js";
import { openRecords } from "./streams_tail.js";
import { ago, attempt, bytesFor, bytesText, confirm, count, dialog, done, facts, field, fill, h, link, nameOf, plural, rate } from "./ui.js";

const SAMPLE_MS = 2000;
const SAMPLES_KEPT = 150; // five minutes
const COUNTED = 200; // records that are read to count what came while a bounded stream lost as many
const COMMAND_BYTES = 200; // a longer payload is not shown in a command

/** Draw a stream. Gives { update }. */
export function openStream(view, name) {
  const chart = new Chart("Appended", ["records a second"], rate, { least: 10 });
  const known = h("div");
  const tabs = h("nav.tabs", { "aria-label": "Parts of the stream" });
  const record = h("section.card.stack", { "aria-label": "One record", hidden: true });
  const content = h("div.stack");
  const own = { description: undefined, info: null };
  // The record stands on the left, and stays in sight while the list beside it is scrolled
  Object.assign(record.style, { position: "sticky", top: "60px" });
  fill(
    view.root,
    h("div.head", h("h1.grow", h("a", { href: link("streams") }, "Streams"), " / ", headed(name)), view.canWrite && actions(view, name, own)),
    h("div.grid", h("section.card", h("h2", "Facts"), known), chart.element),
    tabs,
    h("div", record, content),
  );
  const panel = recordPanel(view.part(record), name);
  let tab = null;
  let inner = null;
  let drawn = null;

  function update() {
    const wanted = view.params.get("tab") === "groups" ? "groups" : "records";
    if (wanted !== tab) {
      inner?.end();
      tab = wanted;
      inner = view.part(fill(content));
      drawn = tab === "groups" ? openGroups(inner, name) : openRecords(inner, name);
      const to = (which) => link("streams", { ...bytesFor("stream", name), tab: which === "records" ? null : which });
      fill(tabs, ["records", "groups"].map((which) => h("a", { href: to(which), "aria-current": which === tab ? "page" : null }, which === "records" ? "Records" : "Groups")));
    } else {
      drawn.update();
    }
    panel.update();
  }

  const points = [];
  let before = null; // the sample before: { time, info }
  async function sample() {
    if (own.description === undefined) own.description = await described(view, name);
    const info = await view.run("stream_info", { key: name });
    if (view.ended) return;
    drawn.seen?.(info);
    const now = { time: Date.now(), info };
    points.push([now.time, before && (await appendRate(view, name, before, now))]);
    if (view.ended) return;
    while (points.length > SAMPLES_KEPT) points.shift();
    before = now;
    own.info = info;
    chart.set(points);
    fill(known, factsOf(info, own.description));
  }

  update();
  view.every(SAMPLE_MS, sample);
  return { update };
}

function factsOf(info, description) {
  const id = (text, gone) => [h("span.mono", text), " ", idTime(text) !== null && h("span.soft", ago(idTime(text))), gone && h("span.soft", " the highest so far; that record is gone")];
  if (!info.count && info.last === "0-0") return facts(["Records", "none yet: this stream is empty, or there is none of this name"], ["Groups", count(info.groups)]);
  return facts(
    ["Records", count(info.count)],
    ["Size", bytesText(info.bytes)],
    ["First", info.count ? id(info.first) : "none"],
    ["Last", id(info.last, !info.count)],
    ["Groups", count(info.groups)],
    ["Keeps at most", description === undefined || description === null ? null : boundsText(description) || "everything"],
  );
}

/**
 * Records appended by the second between two samples; null if that is not known. Where records went at the other end, the count tells
 * nothing: the new ones are read, and, where they are many, counted by the times in their ids.
 */
async function appendRate(view, name, before, now) {
  const seconds = (now.time - before.time) / 1000;
  if (now.info.last === before.info.last) return 0;
  if (idOf(now.info.last) < idOf(before.info.last)) return null; // another stream of this name
  if (now.info.first === before.info.first || !before.info.count) return Math.max(now.info.count - before.info.count, 0) / seconds;
  const records = await view.run("stream_read", { key: name, start: nextId(before.info.last), limit: COUNTED, clip: 0 });
  if (records.length < COUNTED) return records.length / seconds;
  const ms = Number((idOf(records.at(-1).id) >> 64n) - (idOf(records[0].id) >> 64n));
  return (records.length / Math.max(ms, 1)) * 1000;
}

// -- what can be done --------------------------------------------------------------------------------------------------------------------

function actions(view, name, own) {
  const button = (title, run, kind = "button") => h(kind, { type: "button", onclick: () => attempt(run) }, title);
  return h("div.row", button("Append…", () => append(view, name), "button.main"), button("Trim…", () => trim(view, name, own)), button("Delete…", () => remove(view, name), "button.danger"));
}

function append(view, name) {
  const text = h("textarea", { required: true, spellcheck: "false", placeholder: '{"kind": "login", "user": "ada"}' });
  const submit = async () => {
    const { id } = await view.run("stream_append", { key: name, value: text.value });
    const short = new TextEncoder().encode(text.value).length <= COMMAND_BYTES;
    done(["The record ", h("a", { href: link("streams", { ...bytesFor("stream", name), record: id }) }, id), " is appended."], { command: streamLine(view, "append", [], name, short ? text.value : "-") + (short ? "" : " < FILE") });
  };
  return dialog({ title: "Append a record", children: [field("Payload: text", text)], action: "Append", submit });
}

async function trim(view, name, own) {
  const number = (attributes) => h("input", { type: "number", min: 0, step: 1, ...attributes });
  const inputs = { max_len: number({ placeholder: "all" }), max_age: number({ placeholder: "any age" }), start: h("input", { placeholder: "1700000000000-0, or 2025-01-31 10:30" }) };
  const submit = async () => {
    const options = Object.fromEntries(Object.entries(inputs).filter(([, input]) => input.value.trim()).map(([option, input]) => [option, option === "start" ? idFrom(input.value) : Number(input.value)]));
    if (options.start === null) throw new Error(`${inputs.start.value} is neither an id nor a time`);
    if (!Object.keys(options).length) throw new Error("Say which records stay: fill in one of the fields.");
    const { removed } = await view.run("stream_trim", { key: name, ...options, dry_run: true });
    if (!removed) throw new Error("No record would go: all are within these bounds.");
    return { options, removed };
  };
  const children = [
    h("p", "The oldest records go until all that is filled in holds. First you are told how many that is."),
    field("Newest records that stay, at most", inputs.max_len),
    field("Age of those that stay, seconds at most", inputs.max_age),
    field("First id or time that stays", inputs.start),
  ];
  const asked = await dialog({ title: "Trim the stream", children, action: "Count what would go", submit });
  if (!asked) return;
  const { options, removed } = asked;
  const stays = own.info ? ` About ${count(Math.max(own.info.count - removed, 0))} stay.` : "";
  const sure = await confirm(`Remove ${plural(removed, "record")}?`, `The ${plural(removed, "oldest record")} will be removed for all readers and groups; they do not come back.${stays}`, `Remove ${plural(removed, "record")}`);
  if (!sure) return;
  const gone = await view.run("stream_trim", { key: name, ...options });
  const flags = Object.entries(options).flatMap(([option, value]) => [`--${option.replace("_", "-")}`, value]);
  done(`${plural(gone.removed, "record")} removed.`, { command: streamLine(view, "trim", flags, name) });
}

async function remove(view, name) {
  const info = await view.run("stream_info", { key: name });
  const text = `${plural(info.count, "record")} (${bytesText(info.bytes)}) and ${plural(info.groups, "group")} with their pending records and dead letters will be deleted. They do not come back.`;
  if (!(await confirm("Delete the stream?", [text, h("br"), nameOf(name)], "Delete the stream"))) return;
  await view.run("stream_delete", { key: name });
  done(["The stream ", nameOf(name), " is deleted."], { command: streamLine(view, "delete", [], name) });
  location.hash = link("streams");
}
