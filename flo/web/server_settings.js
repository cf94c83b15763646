// The settings of the server, those that were changed first, and the line that changes each.

import { bytesText, copyable, count, duration, fill, h, micros, plural } from "./ui.js";
import { filterBox, filterOf, redisLine, redraw } from "./server_parts.js";

const POLL_MS = 5000;

// Numbers come without their unit: bytes, or ms.
const SIZE = /bytes$|\.max_memory$|\.compact_min$/;
const TIME = /_age$|_timeout$|_reads$|\.compact_quiet$/;
const SIZES = [["gb", 2 ** 30], ["mb", 2 ** 20], ["kb", 2 ** 10], ["b", 1]];
const TIMES = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1000], ["ms", 1]];

const inUnits = (number, units) => {
  const [unit, step] = units.find(([, each]) => number % each === 0 && number >= each) ?? ["s", 1];
  return `${number / step}${unit}`;
};

/** A value as flo.toml and CONFIG SET take it, without quotes. */
function written(name, value) {
  if (SIZE.test(name)) return value ? inUnits(value, SIZES) : "0";
  if (TIME.test(name)) return inUnits(value, TIMES);
  return String(value);
}

/** A line of flo.toml. */
function tomlLine(name, value) {
  const [section, key] = name.split(".");
  const plain = typeof value === "object" || typeof value === "boolean" || (typeof value === "number" && /^-?\d+$/.test(written(name, value)));
  const text = Array.isArray(value) ? `[${value.map((each) => JSON.stringify(each)).join(", ")}]` : plain ? String(value) : JSON.stringify(written(name, value));
  return `[${section}]\n${key} = ${text}`;
}

/** A value for people. */
function said(name, value) {
  if (value === "" || (Array.isArray(value) && !value.length)) return h("span.soft", "none");
  if (Array.isArray(value)) return h("bdi.mono", value.join(", "));
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return h("bdi.mono", value);
  if (SIZE.test(name)) return value ? bytesText(value) : "0";
  if (TIME.test(name)) return duration(value);
  if (name === "resp.slowlog_slower_than" && value >= 0) return micros(value);
  if (name === "resp.latency_threshold" && value) return duration(value);
  return name === "server.port" ? String(value) : count(value);
}

const changed = (row) => JSON.stringify(row.value) !== JSON.stringify(row.default);

function change(row) {
  const file = copyable(tomlLine(row.name, row.value));
  const toml = row.live ? [h("p.soft", "That lasts until the server stops. To keep it, write it into flo.toml too:"), file] : [h("p.soft", "In flo.toml; then start the server again:"), file];
  return h("details", h("summary", "How to change it"), row.live && [h("p.soft", "At once:"), copyable(redisLine("CONFIG", "SET", row.name, written(row.name, row.value)))], toml);
}

const COLUMNS = [
  { title: "Setting", cell: (row) => [h("div.mono", row.name), changed(row) && h("span.pill.warn", "changed"), " ", row.live && h("span.pill", "live")] },
  { title: "Value", cell: (row) => (changed(row) ? h("strong", said(row.name, row.value)) : said(row.name, row.value)) },
  { title: "Default", cell: (row) => said(row.name, row.default) },
  { title: "What it does", class: "text", cell: (row) => [h("div", row.summary), change(row)] },
];

export function open(view) {
  let rows = null;
  const told = h("p.soft", { role: "status" });
  const list = h("div.card");
  const box = filterBox(view, "Filter by name or words", () => draw());
  const note = h("p.soft", "A live setting can be changed while the server runs. Flags and the environment go before flo.toml. The files of secrets are not shown.");
  fill(view.root, h("div.row", box), told, list, note);

  async function load() {
    const found = await view.flo.server_view({ value: "settings", limit: 1000 });
    if (view.ended || JSON.stringify(found.settings) === JSON.stringify(rows)) return;
    rows = found.settings;
    draw();
  }

  function draw() {
    if (!rows) return;
    const fits = filterOf(view);
    const shown = rows.filter((row) => fits(row.name, row.summary, changed(row) ? "changed" : "", row.live ? "live" : ""));
    shown.sort((one, other) => changed(other) - changed(one));
    told.textContent = `${plural(shown.length, "setting")}${shown.length < rows.length ? ` of ${rows.length}` : ""}, ${count(shown.filter(changed).length)} changed.`;
    redraw(list, "Settings", COLUMNS, shown);
  }

  view.every(POLL_MS, load);
  return {
    update() {
      if (document.activeElement !== box) box.value = view.params.get("find") ?? "";
      draw();
    },
  };
}
