// The measurements of a namespace: by name, in pages; or those with the most series, which is what memory goes to.

import { beginningWith, page, telegrafLines, tsLine, writeCurl } from "./timeseries_read.js";
import { Rows } from "./streams_rows.js";
import { attempt, copyable, count, duration, emptyState, fill, h, link, nameOf, plural, table } from "./ui.js";

const PAGE = 100;
const LIST_MS = 5000;
const TYPING_MS = 250;
const SCAN = 1000; // measurements in one answer while all are looked through
const LARGEST = 100;
const TAGS_SHOWN = 4;
const MANY_SERIES = 1000; // of a measurement; from here on a tag that makes half of them is pointed at
const SERIES_MAX = 1_000_000; // of a namespace: docs/timeseries.md

/** The address of a measurement. */
export const linkTo = (name) => link("timeseries", { measurement: name });

/** Whether a tag has so many values that each series nearly has one of its own. */
export const isWide = (row, tag) => row.series >= MANY_SERIES && tag.values * 2 >= row.series / row.fields.length;

function tagsOf(row) {
  if (!row.tags.length) return h("span.soft", "none");
  const shown = row.tags.slice(0, TAGS_SHOWN).map((tag) => h(`span.pill${isWide(row, tag) ? ".warn" : ""}`, h("bdi", tag.name), ` ${count(tag.values)}`, isWide(row, tag) && ": makes the series many"));
  return h("span.row", shown, row.tags.length > TAGS_SHOWN && h("span.soft", `and ${count(row.tags.length - TAGS_SHOWN)} more`));
}

const COLUMNS = [
  { title: "Measurement", class: "name", cell: (row) => h("a", { href: linkTo(row.name) }, nameOf(row.name, 80)) },
  { title: "Series", class: "num", live: true, cell: (row) => count(row.series) },
  { title: "Fields", class: "num", live: true, cell: (row) => count(row.fields.length) },
  { title: "Tags, with their number of values", class: "text", live: true, cell: tagsOf },
  { title: "Kept for", live: true, cell: (row) => [row.max_age_ms ? duration(row.max_age_ms) : h("span.soft", "ever"), row.problem && [" ", h("span.pill.warn", "a rule does not run")]] },
];

export function openList(view) {
  const tiles = h("div.tiles");
  const kind = h("a.button");
  const input = h("input.grow", { type: "search", id: "measurement-prefix", autocomplete: "off", spellcheck: "false", autocapitalize: "off", placeholder: "a name or its beginning", oninput: type });
  const search = h("form.row", { role: "search", onsubmit: enter }, h("label", { for: input.id }, "Begins with"), input, h("button", { type: "submit" }, "Open"), kind);
  const rows = new Rows("Measurements", COLUMNS, (row) => row.name);
  const steps = h("nav.row", { "aria-label": "Pages of the list" });
  const place = h("div");
  fill(view.root, tiles, search, place);
  let state = "";
  let scan = null; // { found, seen, running, whole }
  let timer = 0;
  view.onEnd(() => clearTimeout(timer));

  const largest = () => view.params.get("show") === "largest";
  const param = (name) => view.params.get(name) ?? "";

  function drawHead(info) {
    const tile = (text, value) => h("div.tile", h("b", value), h("span", text));
    fill(tiles, tile(info.measurements === 1 ? "measurement" : "measurements", count(info.measurements)), tile(`series; a namespace takes ${count(SERIES_MAX)}`, count(info.series)), tile("points", count(info.points)));
  }

  function drawKind() {
    kind.href = link("timeseries", { show: largest() ? null : "largest" });
    kind.textContent = largest() ? "By name" : "Most series first";
  }

  // -- by name -------------------------------------------------------------------------------------------------------------------------

  async function load() {
    const mine = JSON.stringify([param("prefix"), param("after")]);
    const asked = largest() ? null : param("prefix") ? beginningWith(view, param("prefix"), PAGE, param("after")) : page(view, param("after"), PAGE);
    const [answer, info] = await Promise.all([asked, view.run("namespace_info", { key: view.namespace })]);
    if (view.ended) return;
    drawHead(info);
    if (!answer || largest() || mine !== JSON.stringify([param("prefix"), param("after")])) return;
    const next = answer.measurements.length ? `rows ${mine} ${answer.cursor}` : `none ${mine}`;
    if (next !== state) {
      const pages = [param("after") && h("a.button", { href: link("timeseries", { prefix: param("prefix") }) }, "First page"), answer.cursor && h("a.button", { href: link("timeseries", { prefix: param("prefix"), after: answer.cursor }) }, `Next ${PAGE}`)];
      fill(steps, pages);
      fill(place, answer.measurements.length ? h("section.card.stack", rows.element, steps) : nothing());
    }
    state = next;
    rows.set(answer.measurements);
  }

  function nothing() {
    if (param("prefix")) return h("section.card", h("p", "No measurement begins with “", nameOf(param("prefix")), "”. ", h("a", { href: link("timeseries") }, "List all")));
    if (param("after")) return h("section.card", h("p", "The list ends here. ", h("a", { href: link("timeseries") }, "List from the beginning")));
    return lessons(view);
  }

  function type() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      view.set({ prefix: input.value, after: null, show: null }, { replace: true });
      drawKind();
      reload();
    }, TYPING_MS);
  }

  function enter(event) {
    event.preventDefault();
    clearTimeout(timer);
    if (input.value) location.hash = linkTo(input.value);
  }

  // -- the largest ---------------------------------------------------------------------------------------------------------------------

  async function look() {
    const mine = (scan = { found: [], seen: 0, running: true, whole: false });
    try {
      let cursor = "";
      do {
        const answer = await page(view, cursor, SCAN);
        if (view.ended || mine !== scan || !largest()) return;
        mine.found.push(...answer.measurements);
        mine.found = mine.found.sort((one, other) => other.series - one.series).slice(0, LARGEST);
        mine.seen += answer.measurements.length;
        cursor = answer.cursor;
        mine.whole = !cursor;
        drawScan();
      } while (cursor && mine.running);
    } finally {
      mine.running = false;
      if (!view.ended && mine === scan && largest()) drawScan();
    }
  }

  function drawScan() {
    const { found, seen, running, whole } = scan;
    const act = running ? h("button", { type: "button", onclick: () => (scan.running = false) }, "Stop") : h("button", { type: "button", onclick: () => attempt(look) }, "Look again");
    const text = `${seen > LARGEST ? `The ${LARGEST} with the most series of ` : ""}${plural(seen, "measurement")}${whole ? "" : " looked at so far"}`;
    fill(place, !found.length && whole ? lessons(view) : h("section.card.stack", h("div.row", h("h2.grow", { role: "status" }, text), act), table("Measurements", COLUMNS, found)));
  }

  function update() {
    if (document.activeElement !== input) input.value = param("prefix");
    drawKind();
    state = "";
    if (largest()) attempt(look);
    return reload();
  }

  input.value = param("prefix");
  drawKind();
  if (largest()) attempt(look);
  const reload = view.every(LIST_MS, load);
  return { update };
}

/** What stands where there is nothing: how points come here. */
export function lessons(view) {
  const box = emptyState("There are no measurements in this namespace. A point is a measurement, tags, fields and a time; the first one makes its measurement. Write one:", tsLine(view, "write", ["--tags", "host=web-1"], "cpu", "usage=12.5"), writeCurl(view, "cpu,host=web-1 usage=12.5"));
  box.append(h("p", "Or let Telegraf write; this stands in its telegraf.conf, with ", h("code", "username"), " and ", h("code", "password"), " if there is a secret:"), copyable(telegrafLines(view)), h("p", h("a", { href: link("timeseries", { tab: "write" }) }, "Make a line by hand")));
  return h("section.card", box);
}
