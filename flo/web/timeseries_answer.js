// The answer to a query: a chart with a legend, or a table of its points, and both to copy.

import { RangeChart, SERIES_MOST, keyOf, valueText } from "./chart_range.js";
import { copyButton, count, download, fill, h, plural, table, when } from "./ui.js";

const ROWS = 100; // of the table at once

/** What tells the series of an answer apart, and what they have in common: { names, common }. */
export function namesOf(series) {
  const parts = series.map((each) => [["", each.name], ["field", each.field], ...Object.entries(each.tags)]);
  const first = new Map(parts[0]);
  const shared = new Set([...first].filter(([key, value]) => parts.every((each) => new Map(each).get(key) === value)).map(([key]) => key));
  const text = (list) => list.map(([key, value]) => (key === "" || key === "field" ? value : `${key}=${value}`)).join(" ");
  if (series.length === 1) return { names: [text(parts[0])], common: "" };
  const names = parts.map((each) => text(each.filter(([key]) => !shared.has(key))));
  const seen = new Map();
  const unique = names.map((name) => { // two of a query may be named alike, by `alias`
    seen.set(name, (seen.get(name) ?? 0) + 1);
    return seen.get(name) > 1 || !name ? `${name} (${seen.get(name)})`.trim() : name;
  });
  return { names: unique, common: text([...first].filter(([key]) => shared.has(key))) };
}

const csvCell = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** An answer as CSV: a row for each point. */
export function csvOf({ series }) {
  const tags = [...new Set(series.flatMap((each) => Object.keys(each.tags)))].sort();
  const rows = [["time", "name", ...tags, "field", "value"].map(csvCell).join(",")];
  for (const each of series) {
    const names = [each.name, ...tags.map((tag) => each.tags[tag] ?? ""), each.field].map(csvCell).join(",");
    for (const [ms, value] of each.points) rows.push(`${new Date(ms).toISOString()},${names},${value}`);
  }
  return `${rows.join("\r\n")}\r\n`;
}

/** The points of an answer by their times: [[ms, value of each series or undefined], …], in the order of the answer. */
function byTime(series, most) {
  const rows = new Map();
  series.slice(0, most).forEach((each, at) => {
    for (const [ms, value] of each.points) {
      if (!rows.has(ms)) rows.set(ms, [ms]);
      rows.get(ms)[at + 1] = value;
    }
  });
  const longest = series.find((each) => each.points.length > 1)?.points;
  const turn = longest && longest[0][0] > longest.at(-1)[0] ? -1 : 1;
  return [...rows.values()].sort((one, other) => turn * (one[0] - other[0]));
}

/**
 * Shows answers. `zoom(from, to)` and `back()` are the chart's. `element` is to be put into the page; `set(answer, ends, as)` shows an answer to a
 * query from `ends[0]` to `ends[1]`, as "table" or as a chart; an answer without points is said.
 */
export class AnswerView {
  constructor(title, given) {
    this.chart = new RangeChart(title, given);
    this.legend = h("div");
    this.about = h("p.soft", { role: "status" });
    this.body = h("div.stack");
    this.note = h("p", { hidden: true });
    this.tools = h("div.row", copyButton(() => csvOf(this.answer), "Copy as CSV"), copyButton(() => JSON.stringify(this.answer), "Copy as JSON"), h("button.quiet", { type: "button", onclick: () => download(csvOf(this.answer), "points.csv") }, "Download CSV"));
    this.drawing = h("div.chart.stack", this.chart.element, this.legend);
    this.element = h("div.stack", this.about, this.note, this.body, this.tools);
    this.rows = ROWS;
    this.looks = new Map(); // by the name of a series: it keeps its colour, also where its rank changes
    this.keys = null;
  }

  set(answer, ends, as) {
    this.answer = answer;
    const { series } = answer;
    const points = series.reduce((sum, each) => sum + each.points.length, 0);
    const { names, common } = series.length ? namesOf(series) : { names: [], common: "" };
    fill(this.about, `${plural(points, "point")} of ${count(series.length)} series`, common && [", all ", h("bdi.mono", common)], `. ${plural(answer.scanned, "point")} scanned in ${answer.elapsed_ms.toFixed(answer.elapsed_ms < 10 ? 1 : 0)} ms.`);
    this.note.hidden = series.length <= SERIES_MOST;
    fill(this.note, `The first ${SERIES_MOST} of ${count(series.length)} series are shown. `, h("code", `| topk(${SERIES_MOST})`), " chooses the largest; a condition on a tag, or group_by, makes them fewer.");
    this.tools.hidden = !points;
    if (!points) fill(this.body, h("div.empty", "No point is in this range."));
    else if (as === "table") this._drawTable(names);
    else this._drawChart(names, ends);
  }

  _drawChart(names, [from, to]) {
    this._look(names.slice(0, SERIES_MOST));
    const series = this.answer.series.slice(0, SERIES_MOST).map((each, at) => ({ name: names[at], at: this.looks.get(names[at]), points: each.points[0][0] > each.points.at(-1)[0] ? [...each.points].reverse() : each.points }));
    const first = Math.min(from, ...series.map((each) => each.points[0][0])); // a window begins before the range
    const last = Math.max(to, ...series.map((each) => each.points.at(-1)[0]));
    this.chart.set({ series, from: first, to: last });
    this._drawLegend(series);
    if (this.drawing.parentNode !== this.body) fill(this.body, this.drawing);
  }

  /** Give each name a look; those that are gone leave theirs. */
  _look(names) {
    const kept = new Map(names.filter((name) => this.looks.has(name)).map((name) => [name, this.looks.get(name)]));
    const taken = new Set(kept.values());
    const free = Array.from({ length: SERIES_MOST }, (_, at) => at).filter((at) => !taken.has(at));
    for (const name of names) if (!kept.has(name)) kept.set(name, free.shift());
    this.looks = kept;
  }

  _drawLegend(series) {
    const stats = series.map(({ points }) => {
      const values = points.map(([, value]) => value);
      const total = values.reduce((sum, value) => sum + value, 0);
      return { last: values.at(-1), least: values.reduce((one, other) => Math.min(one, other)), most: values.reduce((one, other) => Math.max(one, other)), mean: total / values.length, points: values.length };
    });
    const keys = JSON.stringify(series.map((each) => [each.name, each.at]));
    if (keys !== this.keys) {
      const one = series.length === 1;
      const toggle = ({ name, at }) => (one ? [keyOf(at), h("bdi", name)] : h("button.quiet", { type: "button", "aria-pressed": "true", title: "Show or leave out", onclick: () => this._toggle(name, false) }, keyOf(at), h("bdi", name)));
      const only = ({ name }) => h("button.quiet", { type: "button", "aria-label": `Only ${name}`, title: "Show this one alone, or all again", onclick: () => this._toggle(name, true) }, "Only");
      const number = (title) => ({ title, class: "num", cell: () => null });
      const columns = [{ title: "Series", class: "name", cell: toggle }, ...["Last", "Least", "Mean", "Most", "Points"].map(number), ...(one ? [] : [{ title: "Alone", cell: only }])];
      if (one) columns.at(-1).class = "num";
      fill(this.legend, table("Series", columns, series));
      this.keys = keys;
    }
    [...this.legend.querySelectorAll("tbody tr")].forEach((row, at) => {
      const { last, least, mean, most, points } = stats[at];
      [valueText(last), valueText(least), valueText(mean), valueText(most), count(points)].forEach((text, column) => (row.cells[column + 1].textContent = text));
    });
    this._mark();
  }

  _toggle(name, only) {
    this.chart.toggle(name, only);
    this._mark();
  }

  _mark() {
    this.chart.given.series.forEach(({ name }, at) => this.legend.querySelectorAll("tbody tr")[at]?.querySelector("[aria-pressed]")?.setAttribute("aria-pressed", String(!this.chart.hidden.has(name))));
  }

  _drawTable(names) {
    const rows = byTime(this.answer.series, SERIES_MOST);
    const shown = rows.slice(0, this.rows);
    const columns = [{ title: "Time", cell: ([ms]) => h("time", { datetime: new Date(ms).toISOString(), title: `${ms}` }, when(ms)) }, ...names.slice(0, SERIES_MOST).map((name, at) => ({ title: h("bdi", name), class: "num", cell: (row) => (row[at + 1] === undefined ? h("span.soft", "–") : valueText(row[at + 1])) }))];
    const more = rows.length - shown.length;
    const grow = () => {
      this.rows += ROWS;
      this._drawTable(names);
    };
    fill(this.body, table("Points", columns, shown), more > 0 && h("div.row", h("span.soft", `${count(shown.length)} of ${count(rows.length)} times`), h("button", { type: "button", onclick: grow }, `Show ${Math.min(more, ROWS)} more`)));
  }
}
