// Line charts over time, in SVG: as crisp as the screen is, coloured by the style sheet. chart_range.js has one with axes and zoom.

import { bytesText, h, when } from "./ui.js";

const WIDTH = 600; // of the drawing; the style sheet stretches it to the place
const HEIGHT = 120;
const SVG = "http://www.w3.org/2000/svg";

/** An element of SVG. */
export function s(tag, attributes = {}) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** A round number that is not below `most`: 1, 2, 5, 10, …; of bytes a power of two. */
function roundUp(most, binary) {
  if (binary) return 2 ** Math.ceil(Math.log2(most));
  const step = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((factor) => factor * step).find((number) => number >= most * 0.999);
}

/** What all charts share: a drawing with lines over time, and a cross at a time. Who extends it sets `x(ms)` and `y(value)`. */
export class Lines {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.cross = s("line", { class: "cross", y1: 0, y2: height, visibility: "hidden" });
    this.drawing = s("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" });
  }

  /** The path of points [[ms, value], …], broken where a value is none. */
  line(points) {
    return this.runs(points).map((run) => `M${this.steps(run)}`).join("");
  }

  /** The same, filled down to the bottom. */
  filled(points) {
    return this.runs(points).map((run) => `M${this.x(run[0][0]).toFixed(1)},${this.height}L${this.steps(run)}L${this.x(run.at(-1)[0]).toFixed(1)},${this.height}Z`).join("");
  }

  steps(run) {
    return run.map(([ms, value]) => `${this.x(ms).toFixed(1)},${this.y(value).toFixed(1)}`).join("L");
  }

  /** The points in pieces without a missing value. */
  runs(points) {
    const runs = [];
    let run = null;
    for (const point of points) {
      if (point[1] === null || !Number.isFinite(point[1])) run = null;
      else if (run) run.push(point);
      else runs.push((run = [point]));
    }
    return runs;
  }

  /** Where the pointer is, as the drawing counts. */
  across(event) {
    const box = this.drawing.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * this.width;
  }

  /** Put the cross at a time; null takes it away. */
  markTime(ms) {
    this.cross.setAttribute("visibility", ms === null ? "hidden" : "visible");
    if (ms !== null) for (const end of ["x1", "x2"]) this.cross.setAttribute(end, this.x(ms));
  }
}

/**
 * A chart. `series`: names, at most four. `format(number)` is a value for people; `least` is the top of the scale where all is smaller,
 * `span` how many ms are drawn at least.
 * `element` is to be put into the page; `set(points)` draws [[ms, value of each series or null], …], oldest first.
 */
export class Chart extends Lines {
  constructor(title, series, format, { least = 1, area = series.length === 1, span = 60_000 } = {}) {
    super(WIDTH, HEIGHT);
    this.format = format;
    this.least = least;
    this.span = span;
    this.points = [];
    this.now = series.map(() => h("b"));
    const keys = series.map((name, at) => h("span.chart-key", h(`i.series-${at + 1}`), name, this.now[at]));
    this.paths = series.map((_, at) => s("path", { class: `series-${at + 1}` }));
    this.areas = area ? series.map((_, at) => s("path", { class: `area series-${at + 1}` })) : [];
    const lines = [0, HEIGHT / 2, HEIGHT].map((y) => s("line", { class: "gridline", x1: 0, x2: WIDTH, y1: y, y2: y }));
    this.drawing.append(...lines, ...this.areas, ...this.paths, this.cross);
    this.scale = h("span.soft");
    this.time = h("span.soft");
    this.title = title;
    this.element = h("section.card.chart", h("div.chart-head", h("h2", title), keys), this.drawing, h("div.chart-head", this.scale, h("span.grow"), this.time));
    this.drawing.addEventListener("pointermove", (event) => this._point(event));
    this.drawing.addEventListener("pointerleave", () => this._point(null));
  }

  set(points) {
    this.points = points;
    const end = points.length ? points.at(-1)[0] : 0;
    const begin = Math.min(end - this.span, points[0]?.[0] ?? 0);
    const values = points.flatMap((point) => point.slice(1)).filter((value) => value !== null && Number.isFinite(value));
    const top = roundUp(Math.max(this.least, ...values), this.format === bytesText);
    this.x = (ms) => ((ms - begin) / Math.max(end - begin, 1)) * WIDTH;
    this.y = (value) => HEIGHT - (value / top) * HEIGHT;
    this.paths.forEach((path, at) => {
      const line = points.map((point) => [point[0], point[at + 1]]);
      path.setAttribute("d", this.line(line));
      if (this.areas[at]) this.areas[at].setAttribute("d", this.filled(line));
    });
    this.scale.textContent = `0 to ${this.format(top)}`;
    if (!this.hovered) this._tell(points.at(-1));
    const last = points.at(-1);
    const told = last ? this.now.map((_, at) => `${last[at + 1] === null ? "–" : this.format(last[at + 1])}`).join(", ") : "no data yet";
    this.drawing.setAttribute("aria-label", `${this.title}: ${told}`);
  }

  _tell(point, past = false) {
    this.now.forEach((element, at) => (element.textContent = point && point[at + 1] !== null ? ` ${this.format(point[at + 1])}` : ""));
    this.time.textContent = past ? when(point[0]) : this.points.length > 1 ? `last ${Math.round((this.points.at(-1)[0] - this.points[0][0]) / 1000)} s` : "";
  }

  _point(event) {
    this.hovered = event !== null && this.points.length > 1;
    if (!this.hovered) {
      this.markTime(null);
      return this._tell(this.points.at(-1));
    }
    const x = this.across(event);
    const nearest = this.points.reduce((best, point) => (Math.abs(this.x(point[0]) - x) < Math.abs(this.x(best[0]) - x) ? point : best));
    this.markTime(nearest[0]);
    return this._tell(nearest, true);
  }
}
