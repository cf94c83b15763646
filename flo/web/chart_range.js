// A chart of a range of time with axes, of up to 20 series that have times of their own. A drag over it, or Shift and the arrow keys, marks a
// range to look at closer; the pointer, or the arrow keys, show the values of all series at a time; a series can be left out.
//
// Series differ by colour and by the mark on their line, and past the eighth by dashes.

import { Lines, s } from "./chart.js";
import { fill, h, when } from "./ui.js";

export const SERIES_MOST = 20;
const COLOURS = 8; // in the style sheet
const DASHES = ["", "7 3", "2 3"];
const HEIGHT = 300;
const LEFT = 56; // for the numbers of the scale
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 24; // for the times
const MARK_EACH = 90; // px between two marks on a line
const DRAG_LEAST = 6; // px; less is a click
const KEY_STEPS = 60; // of an arrow key, from one end to the other
const GAP = 5; // a line is broken where there is none for so many times the usual distance of its points
const SECOND = 1000;
const DAY = 86_400_000;
const TIME_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, ...[1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200].map((each) => each * SECOND), ...[1, 2, 7, 14, 30, 90, 365, 1000, 5000].map((each) => each * DAY)];

const MARKS = [
  (x, y) => `M${x - 3},${y}a3,3 0 1,0 6,0a3,3 0 1,0 -6,0`,
  (x, y) => `M${x - 3},${y - 3}h6v6h-6z`,
  (x, y) => `M${x},${y - 4}l4,7h-8z`,
  (x, y) => `M${x},${y - 4.5}l4,4.5l-4,4.5l-4,-4.5z`,
  (x, y) => `M${x - 3},${y - 3}l6,6M${x + 3},${y - 3}l-6,6`,
  (x, y) => `M${x},${y + 4}l4,-7h-8z`,
  (x, y) => `M${x - 4},${y}h8M${x},${y - 4}v8`,
];

const exact = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 6 });
const short = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 4, notation: "compact" });

/** A value for people: six digits, and a power of ten where it is very small or large. */
export const valueText = (value) => (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e12) ? value.toExponential(4) : exact.format(value));

/** The line and mark that stand for a series of the look `at`. */
export function keyOf(at) {
  const key = s("svg", { viewBox: "0 0 28 12", class: `key series-${(at % COLOURS) + 1}`, "aria-hidden": "true" });
  key.append(s("path", { d: "M0,6H28", "stroke-dasharray": dashOf(at) }), s("path", { class: "marks", d: MARKS[at % MARKS.length](14, 6) }));
  return key;
}

const dashOf = (at) => DASHES[Math.floor(at / COLOURS) % DASHES.length] || "none";

/** The index of the first point at or behind a time. */
function indexAt(points, ms) {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < ms) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The usual distance of points, ms: half have less. */
function usualStep(points) {
  const steps = points.slice(1, 400).map(([ms], at) => ms - points[at][0]).sort((one, other) => one - other);
  return steps[steps.length >> 1] ?? Infinity;
}

/**
 * `set({ series, from, to })` draws `series`, [{ name, at, points: [[ms, value], …] }, …], in order of time; `at` is the number of its look. `zoom(from, to)` is called for a range
 * that was marked, `back()` for a double click or Escape. `element` is to be put into the page.
 */
export class RangeChart extends Lines {
  constructor(title, { zoom, back }) {
    super(800, HEIGHT);
    this.title = title;
    this.zoom = zoom;
    this.back = back;
    this.hidden = new Set(); // names of the series that are left out
    this.given = { series: [], from: 0, to: 1 };
    this.brush = s("rect", { class: "brush", y: TOP, height: HEIGHT - TOP - BOTTOM, visibility: "hidden" });
    this.grid = s("g");
    this.lines = s("g");
    this.dots = s("g");
    this.drawing.append(this.grid, this.brush, this.lines, this.cross, this.dots);
    this.cross.setAttribute("y1", TOP);
    this.cross.setAttribute("y2", HEIGHT - BOTTOM);
    this.tip = h("div.tip", { role: "status", hidden: true });
    const help = "The arrow keys show values, with Shift they mark a range, Enter looks at it closer, Escape goes back";
    this.element = h("div.plot", { tabindex: "0", role: "group", "aria-label": `${title}. ${help}.` }, this.drawing, this.tip);
    this.at = null; // where the cross is, ms
    this.shown = []; // the series that are not left out
    this.drag = null; // { from, to }, ms: the range that is being marked
    this.held = false; // the pointer marks it
    this._listen();
  }

  _listen() {
    const { drawing, element } = this;
    const time = (event) => this._clamped(this.timeAt(this.across(event)));
    drawing.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      drawing.setPointerCapture(event.pointerId);
      this.held = true;
      this.drag = { from: time(event), to: time(event) };
    });
    drawing.addEventListener("pointermove", (event) => {
      if (this.held) this.drag.to = time(event);
      this._show(time(event));
    });
    drawing.addEventListener("pointerup", () => {
      const drag = this.drag;
      this._release();
      if (drag && Math.abs(this.x(drag.from) - this.x(drag.to)) >= DRAG_LEAST) this._zoomed(drag);
    });
    drawing.addEventListener("pointercancel", () => this._release());
    drawing.addEventListener("pointerleave", () => !this.held && this._show(null));
    drawing.addEventListener("dblclick", () => this.back());
    element.addEventListener("keydown", (event) => this._key(event));
    element.addEventListener("blur", () => this._release());
    new ResizeObserver(() => this._size()).observe(element);
  }

  _release() {
    this.held = false;
    this.drag = null;
    this._show(null);
    if (this.missed) this.set(this.missed);
  }

  _zoomed({ from, to }) {
    this.zoom(Math.floor(Math.min(from, to)), Math.ceil(Math.max(from, to)));
  }

  _key(event) {
    const { from, to } = this.given;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      const before = this.at ?? (step > 0 ? from : to);
      const next = this._clamped(before + (step * (to - from)) / KEY_STEPS);
      if (event.shiftKey) this.drag = { from: this.drag?.from ?? before, to: next };
      else this.drag = null;
      this._show(next);
    } else if (event.key === "Enter" && this.drag) {
      const drag = this.drag;
      this._release();
      this._zoomed(drag);
    } else if (event.key === "Escape") {
      if (this.drag || this.at !== null) this._release();
      else this.back();
    } else return;
    event.preventDefault();
  }

  _size() {
    const width = Math.round(this.element.clientWidth);
    if (!width || width === this.width) return;
    this.width = width;
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.set(this.given);
  }

  _clamped(ms) {
    return Math.min(Math.max(ms, this.given.from), this.given.to);
  }

  timeAt(x) {
    const { from, to } = this.given;
    return from + ((x - LEFT) / Math.max(this.width - LEFT - RIGHT, 1)) * (to - from);
  }

  /** Show or leave out a series; `only`: leave out all others, or none if they are left out already. */
  toggle(name, only = false) {
    const others = this.given.series.map((each) => each.name).filter((each) => each !== name);
    const alone = !this.hidden.has(name) && others.every((each) => this.hidden.has(each));
    if (only) this.hidden = new Set(alone ? [] : others);
    else if (!this.hidden.delete(name)) this.hidden.add(name);
    this.set(this.given);
  }

  set(given) {
    this.missed = this.drag ? given : null; // what is being marked stays in its place
    if (this.drag) return;
    this.given = given;
    const { series, from, to } = given;
    const shown = series.filter((each) => !this.hidden.has(each.name));
    const [low, high] = this._scale(shown);
    this.x = (ms) => LEFT + ((ms - from) / Math.max(to - from, 1)) * (this.width - LEFT - RIGHT);
    this.y = (value) => TOP + (1 - (value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    this._drawTimes(from, to);
    this.lines.replaceChildren(...shown.flatMap((each) => this._drawn(each, shown.length)));
    this.shown = shown;
    this.drawing.setAttribute("aria-label", `${this.title}: ${shown.length} series from ${when(from)} to ${when(to)}, values from ${valueText(low)} to ${valueText(high)}`);
    this._show(this.at);
  }

  // -- drawing -------------------------------------------------------------------------------------------------------------------------

  /** Draws the scale of values; gives its ends. It has 0 in it, unless the values are far from it. */
  _scale(shown) {
    let [least, most] = [Infinity, -Infinity];
    for (const { points } of shown) {
      for (const [, value] of points) {
        if (value < least) least = value;
        if (value > most) most = value;
      }
    }
    if (least > most) [least, most] = [0, 1];
    if (least >= 0 && least <= most / 2) least = 0;
    if (most <= 0 && most >= least / 2) most = 0;
    if (least === most) [least, most] = least ? [Math.min(least, 0), Math.max(most, 0)] : [0, 1];
    const rough = (most - least) / 4;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= rough * 0.999);
    const [low, high] = [Math.floor(least / step + 1e-9) * step, Math.ceil(most / step - 1e-9) * step];
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (step / power === 2.5 ? 1 : 0));
    const text = (value) => (Math.abs(high) >= 10_000 || Math.abs(low) >= 10_000 || digits > 8 ? short.format(value) : value.toFixed(digits));
    const parts = [];
    for (let at = 0; low + at * step <= high + step / 2; at++) {
      const y = TOP + (1 - (at * step) / (high - low)) * (HEIGHT - TOP - BOTTOM);
      const label = s("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" });
      label.textContent = text(low + at * step);
      parts.push(s("line", { class: "gridline", x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y }), label);
    }
    this.grid.replaceChildren(...parts);
    return [low, high];
  }

  _drawTimes(from, to) {
    const room = Math.max(Math.floor((this.width - LEFT - RIGHT) / 85), 3);
    const step = TIME_STEPS.find((each) => (to - from) / each <= room) ?? TIME_STEPS.at(-1);
    const zone = -new Date(to).getTimezoneOffset() * 60_000; // days begin where the person is
    for (let ms = Math.ceil((from + zone) / step) * step - zone; ms <= to; ms += step) {
      const x = this.x(ms);
      const label = s("text", { x, y: HEIGHT - 6, "text-anchor": x > this.width - 40 ? "end" : "middle" });
      label.textContent = timeText(ms, step);
      this.grid.append(s("line", { class: "gridline", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }), label);
    }
  }

  /** A series: its line and its marks. */
  _drawn({ points, at }, many) {
    const colour = `series-${(at % COLOURS) + 1}`;
    const gap = points.length > 3 ? GAP * usualStep(points) : Infinity;
    const runs = [];
    for (const point of points) {
      const last = runs.at(-1)?.at(-1);
      if (last && point[0] - last[0] <= gap) runs.at(-1).push(point);
      else runs.push([point]);
    }
    let marks = "";
    let next = many > 1 ? LEFT + ((at % SERIES_MOST) / SERIES_MOST) * MARK_EACH : Infinity; // not all at one time
    for (const run of runs) {
      for (const [ms, value] of run) {
        const x = this.x(ms);
        if (run.length > 1 && x < next) continue;
        marks += MARKS[at % MARKS.length](Math.round(x * 10) / 10, Math.round(this.y(value) * 10) / 10);
        if (x >= next) next = x + MARK_EACH;
      }
    }
    const path = runs.filter((run) => run.length > 1).map((run) => `M${this.steps(this._thinned(run))}`).join("");
    return [s("path", { class: colour, d: path, "stroke-dasharray": dashOf(at) }), s("path", { class: `marks ${colour}`, d: marks })];
  }

  /** Of more points than there are pixels, those that can be seen: of each pixel the first, smallest, largest and last. */
  _thinned(run) {
    if (run.length < 2 * this.width) return run;
    const kept = [];
    let begin = 0;
    for (let at = 1; at <= run.length; at++) {
      if (at < run.length && Math.floor(this.x(run[at][0])) === Math.floor(this.x(run[begin][0]))) continue;
      const pixel = run.slice(begin, at);
      const by = (better) => pixel.reduce((best, each) => (better(each[1], best[1]) ? each : best));
      const seen = new Set([pixel[0], by((one, other) => one < other), by((one, other) => one > other), pixel.at(-1)]);
      kept.push(...[...seen].sort((one, other) => one[0] - other[0]));
      begin = at;
    }
    return kept;
  }

  // -- the cross -----------------------------------------------------------------------------------------------------------------------

  /** The cross, and the values of all series there; null takes them away. */
  _show(ms) {
    const near = ms === null ? [] : this._near(ms);
    this.at = ms;
    this.markTime(ms);
    const { drag } = this;
    this.brush.setAttribute("visibility", drag ? "visible" : "hidden");
    if (drag) {
      const [begin, end] = [this.x(drag.from), this.x(drag.to)].sort((one, other) => one - other);
      this.brush.setAttribute("x", begin);
      this.brush.setAttribute("width", end - begin);
    }
    this.dots.replaceChildren(...near.map(({ at, point }) => s("path", { class: `marks series-${(at % COLOURS) + 1}`, d: MARKS[0](this.x(point[0]), this.y(point[1])) })));
    this.tip.hidden = !near.length;
    if (!near.length) return;
    const rows = near.sort((one, other) => other.point[1] - one.point[1]).map(({ at, name, point }) => [keyOf(at), h("bdi", name), h("b.num", valueText(point[1]))]);
    fill(this.tip, h("div.soft", when(near[0].point[0])), h("div.tip-rows", rows));
    const x = (this.x(ms) / this.width) * this.element.clientWidth;
    const left = x > this.element.clientWidth / 2;
    this.tip.style.left = left ? "auto" : `${x + 14}px`;
    this.tip.style.right = left ? `${this.element.clientWidth - x + 14}px` : "auto";
  }

  /** Of each series the point nearest to a time, unless it is far away. */
  _near(ms) {
    const reach = (this.given.to - this.given.from) / 40;
    const found = [];
    for (const { points, at, name } of this.shown) {
      const behind = indexAt(points, ms);
      const [before, after] = [points[behind - 1], points[behind]];
      const point = !before || (after && after[0] - ms < ms - before[0]) ? after : before;
      if (point && Math.abs(point[0] - ms) <= Math.max(reach, usualStep(points.slice(Math.max(behind - 5, 0), behind + 5)))) found.push({ at, name, point });
    }
    return found;
  }
}

const CLOCK = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };

/** A time on the axis, with as much of it as the step needs. */
function timeText(ms, step) {
  const date = new Date(ms);
  const midnight = date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0;
  if (step >= DAY || (step >= 60 * SECOND && midnight)) return date.toLocaleDateString(undefined, { month: "short", day: "numeric", ...(step > 90 * DAY ? { year: "numeric" } : {}) });
  if (step < SECOND) return `${date.toLocaleTimeString("en-GB", { minute: "2-digit", second: "2-digit" })}.${String(date.getMilliseconds()).padStart(3, "0")}`;
  return date.toLocaleTimeString("en-GB", step < 60 * SECOND ? { ...CLOCK, second: "2-digit" } : CLOCK);
}
