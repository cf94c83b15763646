// The last lines of the server's own log, the newest first.

import { count, emptyState, fill, h, plural } from "./ui.js";
import { filterBox, filterOf } from "./server_parts.js";

const POLL_MS = 2000;
const KEPT = 500; // by the server too
const NEW = 50; // asked for at once, once there are lines
const LEVELS = ["debug", "info", "warning", "error"];
const SHOWN = { debug: "", info: "", warning: "warn", error: "bad" };

const same = (one, other) => one.number === other.number && one.time === other.time;

function clock(ms) {
  const date = new Date(ms);
  const day = date.toDateString() === new Date().toDateString() ? "" : `${date.toLocaleDateString()} `;
  return h("time", { datetime: date.toISOString(), title: date.toLocaleString() }, `${day}${date.toLocaleTimeString(undefined, { hour12: false })}.${String(date.getMilliseconds()).padStart(3, "0")}`);
}

function rowOf(line) {
  const { traceback, ...details } = line.details;
  const pairs = Object.entries(details).map(([name, value]) => [h("span.soft", `${name} `), h("bdi.mono", value), " "]);
  const trace = traceback && h("details", h("summary", "Traceback"), h("pre", traceback));
  return h("tr", h("td.mono", clock(line.time)), h("td", h(`span.pill${SHOWN[line.level] ? `.${SHOWN[line.level]}` : ""}`, line.level)), h("td.text", h("bdi", line.message), trace), h("td.text", pairs));
}

export function open(view) {
  let lines = null; // the newest first
  let paused = false;
  const told = h("span.soft", { role: "status" });
  const level = h("select", { onchange: () => { view.set({ level: level.value === "debug" ? null : level.value }, { replace: true }); draw(); } }, LEVELS.map((name) => h("option", { value: name }, name === "debug" ? "all levels" : name === "error" ? "errors" : `${name} and above`)));
  const box = filterBox(view, "Filter by words", () => draw());
  const pause = h("button", { type: "button", onclick: turn }, "Stop following");
  const body = h("tbody");
  const heads = ["Time", "Level", "Message", "Details"].map((title) => h("th", { scope: "col" }, title));
  const list = h("div.scroll", { tabindex: "0", role: "region", "aria-label": "Log" }, h("table", { "aria-label": "Log" }, h("thead", h("tr", heads)), body));
  const place = h("div.card", list);
  fill(view.root, h("div.row", h("label.row", "Level", level), box, pause), told, place, h("p.soft", `The server keeps its last ${KEPT} lines for this page; all of them go to its standard error (systemd: journalctl -u flo). The setting server.log_level says what is logged.`));

  const fits = () => {
    const words = filterOf(view);
    const least = LEVELS.indexOf(view.params.get("level") ?? "debug");
    return (line) => LEVELS.indexOf(line.level) >= least && words(line.message, line.level, ...Object.values(line.details));
  };

  function draw() {
    level.value = LEVELS.includes(view.params.get("level")) ? view.params.get("level") : "debug";
    if (!lines) return;
    fill(body, lines.filter(fits()).map(rowOf));
    tell();
  }

  function tell() {
    if (!lines) return;
    const hidden = lines.length - body.children.length;
    told.textContent = paused ? "Not following: what is logged meanwhile is shown when you follow again." : `${plural(body.children.length, "line")}${hidden ? `, ${count(hidden)} left out by the filter` : ""}; follows.`;
    const empty = place.querySelector(".empty");
    if (!body.children.length && !empty) place.append(emptyState(""));
    const said = place.querySelector(".empty p");
    if (said) said.textContent = lines.length ? "No line passes the filter." : "Nothing was logged since the start. A calm server says little.";
    list.hidden = !body.children.length;
    if (body.children.length) empty?.remove();
  }

  /** What was logged since the newest line that is known; all, if that is not there any more: the server was started again. */
  async function load() {
    const fresh = [];
    let cursor = "";
    let met = false;
    do {
      const answer = await view.flo.server_view({ value: "log", limit: lines?.length ? NEW : KEPT, ...(cursor ? { cursor: { base64: cursor } } : {}) });
      if (view.ended || paused) return;
      const end = lines?.length ? answer.log.findIndex((line) => same(line, lines[0])) : -1;
      met = end >= 0;
      fresh.push(...(met ? answer.log.slice(0, end) : answer.log));
      cursor = answer.cursor;
    } while (!met && cursor);
    if (met) add(fresh);
    else {
      lines = fresh;
      draw();
    }
  }

  function add(fresh) {
    const gone = Math.max(lines.length + fresh.length - KEPT, 0);
    const test = fits();
    for (const line of lines.splice(lines.length - gone, gone)) if (test(line)) body.lastChild?.remove();
    lines.unshift(...fresh);
    body.prepend(...fresh.filter(test).map(rowOf));
    tell();
  }

  const run = view.every(POLL_MS, async () => paused || load());
  function turn() {
    paused = !paused;
    pause.textContent = paused ? "Follow" : "Stop following";
    tell();
    if (!paused) run();
  }
  draw();
  return {
    update() {
      if (document.activeElement !== box) box.value = view.params.get("find") ?? "";
      draw();
    },
  };
}
