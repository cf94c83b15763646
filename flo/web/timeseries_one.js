// One measurement: how many series its fields and tags make, its last hour, its age limit, and deleting it or some of its series.

import { AnswerView } from "./timeseries_answer.js";
import { endsOf, quoted } from "./timeseries_floql.js";
import { tagText } from "./timeseries_line.js";
import { isWide, linkTo } from "./timeseries_list.js";
import { described, tsLine } from "./timeseries_read.js";
import { attempt, confirm, count, dialog, done, duration, facts, field, fill, h, link, nameOf, table } from "./ui.js";

const LOAD_MS = 5000;
const CHART_MS = 30_000;
const DRAWN_SERIES = 500; // more are read only when a person asks: a query over 100,000 takes seconds
const UNITS = [["d", 86_400, "days"], ["h", 3600, "hours"], ["m", 60, "minutes"], ["s", 1, "seconds"]]; // of the command line

const unitOf = (seconds) => UNITS.find(([, each]) => seconds % each === 0);

/** An age as the command line takes it. */
const ageText = (seconds) => `${seconds / unitOf(seconds)[1]}${unitOf(seconds)[0]}`;

/** The query for the first look at a measurement. */
export function firstQuery(row, name) {
  const head = `${quoted(row.name)}[1h] | field(${quoted(name)})`;
  const perField = row.series / row.fields.length;
  if (perField > DRAWN_SERIES) return `${head} | group_by() | avg(1m)`;
  return perField > 20 ? `${head} | avg(1m) | topk(20)` : `${head} | avg(1m)`;
}

export function openMeasurement(view, name) {
  const buttons = h("span.row");
  const known = h("section.card.stack");
  const chosen = h("select", { onchange: () => view.set({ field: chosen.value }) });
  const draw = h("div.row", { hidden: true }, h("button", { type: "button", onclick: () => attempt(loadChart) }, "Draw the mean of all"));
  const toQuery = h("a.button", "Open in the query box");
  const about = h("p", { hidden: true });
  const answers = new AnswerView("The last hour", { zoom: (from, to) => (location.hash = link("timeseries", { tab: "query", q: query(), zoom: `${from}..${to}` })), back: () => {} });
  const chart = h("section.card.stack", { "aria-label": "The last hour" }, h("div.head", h("h2", "The last hour"), h("span.grow"), h("label.row", "Field", chosen), toQuery), about, draw, answers.element);
  const missing = h("section.card", { hidden: true });
  answers.element.hidden = true;
  fill(view.root, h("div.head", h("h2", nameOf(name)), h("span.grow"), buttons), missing, known, chart);
  let row = null;
  let drawn = null;

  const fieldShown = () => (row.fields.includes(view.params.get("field")) ? view.params.get("field") : row.fields[0]);
  const query = () => firstQuery(row, fieldShown());
  const summed = (rule) => `${name}:${rule.split(":").slice(0, 2).join(":")}`; // what a rule writes
  const isLarge = () => row.series / row.fields.length > DRAWN_SERIES;

  async function load() {
    const found = await described(view, name);
    if (view.ended) return;
    missing.hidden = found !== null;
    known.hidden = chart.hidden = buttons.hidden = found === null;
    if (!found) return void fill(missing, h("p", "There is no measurement of this name. ", h("a", { href: link("timeseries") }, "List all"), "; ", h("a", { href: link("timeseries", { tab: "write" }) }, "write a point of it")));
    const first = row === null;
    row = found;
    if (JSON.stringify(row) !== drawn) drawRow();
    drawn = JSON.stringify(row);
    if (first && row.fields.length) reloadChart();
  }

  function drawRow() {
    const tags = [
      { title: "Tag", class: "name", cell: (tag) => nameOf(tag.name, 80) },
      { title: "Values", class: "num", cell: (tag) => count(tag.values) },
      { title: "Compared with the first", class: "text", cell: (tag) => [h("progress", { max: String(row.tags[0].values), value: tag.values, "aria-label": `Values of ${tag.name}` }), isWide(row, tag) && h("span.pill.warn", "makes the series many")] },
    ];
    const wide = row.tags.some((tag) => isWide(row, tag));
    fill(known,
      facts(
        ["Series", h("span", count(row.series), row.fields.length > 1 && h("span.soft", `, about ${count(Math.round(row.series / row.fields.length))} of each field`))],
        ["Fields", h("span", row.fields.slice(0, 100).map((each, at) => [at ? ", " : "", nameOf(each, 80)]), row.fields.length > 100 && h("span.soft", ` and ${count(row.fields.length - 100)} more`))],
        ["Kept for", row.max_age_ms ? duration(row.max_age_ms) : h("span.soft", "ever")],
        row.downsample ? ["Downsampled", row.downsample.split(",").map((rule) => h("div", h("code", rule), " into ", h("a", { href: linkTo(summed(rule)) }, nameOf(summed(rule)))))] : null),
      row.problem && h("p.warn", { role: "status" }, `A rule does not run: ${row.problem}`),
      row.tags.length ? table("Tags", tags, row.tags) : h("p.soft", "Its series have no tags."),
      wide && h("p", "A tag with a value for each request or user makes a series each time: about a kilobyte of memory each. Such a thing belongs into a field, or nowhere."));
    fill(chosen, row.fields.map((each) => h("option", { value: each }, each)));
    if (view.canWrite) fill(buttons, h("button", { type: "button", onclick: settings }, "Settings…"), row.tags.length > 0 && h("button.danger", { type: "button", onclick: removeSome }, "Delete series…"), h("button.danger", { type: "button", onclick: removeAll }, "Delete…"));
    drawChoice();
  }

  function drawChoice() {
    chart.hidden = !row?.fields.length;
    if (chart.hidden) return;
    chosen.value = fieldShown();
    toQuery.href = link("timeseries", { tab: "query", q: query() });
    about.hidden = draw.hidden = !isLarge();
    about.textContent = `It has ${count(row.series)} series: to draw the hour, the server looks at all of them, which may take seconds.`;
  }

  async function loadChart() {
    const asked = query();
    const answer = await view.run("ts_query", { value: asked });
    if (view.ended || asked !== query()) return;
    answers.element.hidden = false;
    answers.set(answer, endsOf("1h", Date.now()), "");
  }

  // -- changing ------------------------------------------------------------------------------------------------------------------------

  /** Settings are replaced as a whole. */
  async function configure(seconds, rules) {
    await view.run("ts_create_measurement", { key: name, max_age: seconds, downsample: rules });
    await load();
  }

  function settings() {
    const before = { seconds: Math.round(row.max_age_ms / 1000), rules: row.downsample };
    const unit = unitOf(before.seconds);
    const number = h("input", { type: "number", min: "0", step: "1", required: true, value: String(before.seconds / unit[1]) });
    const units = h("select", { "aria-label": "Unit" }, UNITS.map(([, each, words]) => h("option", { value: String(each) }, words)));
    units.value = String(unit[1]);
    const rules = h("input", { value: before.rules, placeholder: "1m:avg:30d,1h:max:0", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
    const submit = async () => {
      const seconds = Number(number.value) * Number(units.value);
      const text = rules.value.replace(/\s/g, "");
      await configure(seconds, text);
      const aged = seconds ? `Points of ${name} are kept for ${duration(seconds * 1000)}.` : `Points of ${name} are kept for ever.`;
      const changed = text === before.rules ? [] : ["--downsample", text || "none"];
      const command = tsLine(view, "retention", changed, name, seconds ? ageText(seconds) : "none");
      done(text === before.rules ? aged : `The settings of ${name} are replaced.`, { command, undo: () => configure(before.seconds, before.rules) });
    };
    const ages = h("p", "Older points are dropped, and cannot be brought back. 0 keeps them for ever.");
    const sums = h("p.soft", "A rule such as ", h("code", "1m:avg:30d"), ` writes the mean of each minute into ${name}:1m:avg, which keeps it for 30 days.`);
    return dialog({ title: "Settings", children: [ages, h("div.row", field("Keep for", number), units), field("Downsampling rules", rules), sums], submit });
  }

  async function removeAll() {
    const text = `Its ${count(row.series)} series will be deleted with all their points. There is no way back.`;
    if (!(await confirm(`Delete ${name}?`, text, "Delete"))) return;
    await attempt(async () => {
      const { series } = await view.run("ts_delete", { key: name });
      done(`${count(series)} series of ${name} deleted.`, { command: tsLine(view, "delete", [], name) });
      location.hash = link("timeseries");
    });
  }

  function removeSome() {
    const tag = h("select", row.tags.map((each) => h("option", { value: each.name }, each.name)));
    const value = h("input", { required: true, autocomplete: "off" });
    const submit = async () => {
      const tags = tagText([[tag.value, value.value]]);
      const { series } = await view.run("ts_delete", { key: name, tags });
      done(`${count(series)} series of ${name} with ${tag.value}=${value.value} deleted.`, { command: tsLine(view, "delete", ["--tags", tags], name) });
      await load();
    };
    const text = h("p", "All series with this tag will be deleted with their points. There is no way back.");
    return dialog({ title: "Delete series", children: [text, field("Tag", tag), field("Value", value)], action: "Delete", danger: true, submit });
  }

  // ------------------------------------------------------------------------------------------------------------------------------------

  view.every(LOAD_MS, load);
  const reloadChart = view.every(CHART_MS, async () => row?.fields.length && !isLarge() && loadChart());
  return {
    update() {
      if (!row) return;
      drawChoice();
      answers.element.hidden = true;
      reloadChart();
    },
  };
}
