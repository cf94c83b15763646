// A helper for line protocol: a point from its parts, with the line and the commands that write it; and many lines to write at once, with
// the server's refusal at the line that is wrong.

import { fieldText, lineOf, placeOf, problemOf, tagText, unitOf } from "./timeseries_line.js";
import { tsLine, writeCurl } from "./timeseries_read.js";
import { attempt, copyable, copyButton, done, field, fill, h, link, plural } from "./ui.js";

const UNITS = ["ns", "us", "ms", "s"]; // in the order of the option's numbers
const MS = UNITS.indexOf("ms");

export function openWrite(view) {
  fill(view.root, pointForm(view), linesForm(view));
  return { update() {} };
}

// -- a point -----------------------------------------------------------------------------------------------------------------------------

/** Rows of a name and a value, with a button for another. `pairs()` are those that were filled in. */
function pairRows(noun, first, changed) {
  const rows = h("div.stack");
  const add = ([name, value] = ["", ""]) => {
    const number = rows.children.length + 1;
    const input = (what, text, placeholder) => h("input", { value: text, placeholder, autocomplete: "off", autocapitalize: "off", spellcheck: "false", "aria-label": `${what} of ${noun} ${number}`, oninput: changed });
    const row = h("div.row", input("Name", name, `${noun}'s name`), h("span.soft", "="), input("Value", value, noun === "tag" ? "value" : "number"));
    rows.append(row);
    return row;
  };
  first.forEach(add);
  const more = h("button.quiet", { type: "button", onclick: () => add().querySelector("input").focus() }, `Another ${noun}`);
  const pairs = () => [...rows.children].map((row) => [...row.querySelectorAll("input")].map((input) => input.value)).filter(([name, value]) => name || value);
  return { element: h("fieldset.stack", h("legend", noun === "tag" ? "Tags" : "Fields"), rows, h("div.row", more)), pairs };
}

function pointForm(view) {
  const measurement = h("input", { value: "cpu", required: true, autocomplete: "off", autocapitalize: "off", spellcheck: "false", oninput: draw });
  const tags = pairRows("tag", [["host", "web-1"]], draw);
  const fields = pairRows("field", [["usage", "12.5"]], draw);
  const time = h("input", { type: "datetime-local", step: "0.001", oninput: draw });
  const problem = h("p.warn", { role: "status", hidden: true });
  const made = h("div.stack");
  const write = view.canWrite && h("button.main", { type: "submit" }, "Write this point");
  const form = h("form.stack", { onsubmit: submit }, h("div.grid", h("div.stack", field("Measurement", measurement), field("Time (none: when it arrives)", time)), tags.element, fields.element), problem, made, write && h("div.row", write));

  function parts() {
    const ms = Date.parse(time.value);
    return { measurement: measurement.value, tags: tags.pairs(), fields: fields.pairs(), time: Number.isFinite(ms) ? ms : null };
  }

  function commandOf(point) {
    const options = [...(point.tags.length ? ["--tags", tagText(point.tags)] : []), ...(point.time === null ? [] : ["--at", point.time])];
    return tsLine(view, "write", options, point.measurement, fieldText(point.fields));
  }

  function draw() {
    const point = parts();
    const wrong = problemOf(point);
    problem.hidden = wrong === null;
    problem.textContent = wrong ?? "";
    made.hidden = wrong !== null;
    if (write) write.disabled = wrong !== null;
    if (wrong) return;
    const line = lineOf(point);
    fill(made, h("h3", "The line, with its time in ms"), copyable(line), h("h3", "Commands that write it"), copyable(commandOf(point)), copyable(writeCurl(view, line)));
  }

  async function submit(event) {
    event.preventDefault();
    const point = parts();
    if (!write || problemOf(point)) return;
    await attempt(async () => {
      const { points } = await view.run("ts_write_batch", { value: lineOf(point), precision: MS });
      done(h("span", `${plural(points, "point")} written to `, h("a", { href: link("timeseries", { measurement: point.measurement }) }, point.measurement), "."), { command: commandOf(point) });
    });
  }

  draw();
  return h("section.card", h("h2", "A point"), form);
}

// -- many lines --------------------------------------------------------------------------------------------------------------------------

function linesForm(view) {
  const box = h("textarea", { "aria-label": "Lines", spellcheck: "false", autocapitalize: "off", placeholder: "cpu,host=web-1 usage=12.5,idle=80 1700000000000\ncpu,host=web-2 usage=30 1700000000000", oninput: guess });
  const unit = h("select", { onchange: () => (chosen = true) }, UNITS.map((each) => h("option", { value: each }, each)));
  const refusal = h("div", { role: "alert" });
  const write = view.canWrite && h("button.main", { type: "submit" }, "Write all lines");
  let chosen = false; // the person has said the unit

  function guess() {
    const found = unitOf(box.value);
    if (found && !chosen) unit.value = found;
    fill(refusal);
  }

  async function submit(event) {
    event.preventDefault();
    fill(refusal);
    if (!write || !box.value.trim()) return box.focus();
    write.disabled = true;
    try {
      const { points } = await view.run("ts_write_batch", { value: box.value, precision: UNITS.indexOf(unit.value) });
      done(`${plural(points, "point")} written.`, { command: tsLine(view, "write", ["--file", "points.txt", "--precision", unit.value]) });
    } catch (error) {
      refused(error);
    } finally {
      write.disabled = false;
    }
    return undefined;
  }

  function refused(error) {
    const place = placeOf(error.message, box.value);
    fill(refusal, h("p.bad", error.message), place && h("pre.value", `${`${place.number}: `}${place.line.slice(0, place.at)}`, h("mark", place.line.slice(place.at, place.at + 1) || " "), place.line.slice(place.at + 1)));
    if (!place) return;
    const begin = box.value.split("\n").slice(0, place.number - 1).reduce((sum, line) => sum + line.length + 1, 0);
    box.focus();
    box.setSelectionRange(begin + place.at, begin + place.line.length);
    box.scrollTop = (box.scrollHeight * (place.number - 1)) / box.value.split("\n").length - box.clientHeight / 2;
  }

  const same = tsLine(view, "write", ["--file", "-", "--precision", "ms"]);
  return h("section.card", h("h2", "Many lines"), h("form.stack", { onsubmit: submit }, h("p.soft", "All are written, or none if one is wrong; at most 50,000 points at once. Larger files: ", h("code", same), " ", copyButton(same)), box, refusal, h("div.row", h("label.row", "Times are in", unit), write)));
}
