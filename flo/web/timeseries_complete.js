// Completion of a FloQL query: a list below the text box, of names that the server has, and of stages with what they do. The arrow keys
// choose, Tab and Enter take, Escape closes; Ctrl-Space asks for it.

import STAGES from "./stages.js";
import { beginningWith, described } from "./timeseries_read.js";
import { expected, quoted } from "./timeseries_floql.js";
import { attempt, fill, h } from "./ui.js";

const SHOWN = 50;
const TYPING_MS = 120; // before the server is asked for names
const DURATIONS = [["10s"], ["1m"], ["5m"], ["15m"], ["1h"], ["1d"]];
const RANGES = [["15m", "The last 15 minutes."], ["1h", "The last hour."], ["6h", "The last 6 hours."], ["24h", "The last day."], ["7d", "The last week."]];
const FILLS = [["0", "A point with 0."], ["previous", "The point before, again."], ["linear", "A line between the points on both sides."], ["none", "Nothing."]];
const ORDERS = [["time", "The oldest first."], ["-time", "The newest first."]];

/** A stage as it is written, with the words of its arguments. */
const shapeOf = (name) => `${name}(${STAGES[name].arguments.map(([, words]) => words).join(", ")})`;

/** What a stage puts into the text, and how many letters of it stand behind the caret then. */
function stageOption(name) {
  const kinds = STAGES[name].arguments.map(([kind]) => kind);
  return { shown: shapeOf(name), says: STAGES[name].summary, puts: `${name}()`, back: kinds.length ? 1 : 0 };
}

const plainOption = ([text, says]) => ({ shown: text, says, puts: text, back: 0 });
const nameOption = (says, behind = "") => (name) => ({ shown: name, says: typeof says === "function" ? says(name) : says, puts: quoted(name) + behind, back: 0 });

/** What there is for a place in a query. `values(tag)` are values of a tag that are known. */
async function optionsFor(view, place, values) {
  const begins = (word) => word.toLowerCase().startsWith(place.word.toLowerCase());
  if (place.kind === "stage") return Object.keys(STAGES).filter(begins).map(stageOption);
  const fixed = { duration: DURATIONS, range: RANGES, fill: FILLS, order: ORDERS }[place.kind];
  if (fixed) return fixed.filter(([text]) => begins(text)).map(plainOption);
  if (place.kind === "value") return values(place.tag).filter(begins).map(nameOption(`A value of ${place.tag}.`));
  if (place.kind === "measurement") {
    const { measurements } = await beginningWith(view, place.word, SHOWN);
    return measurements.map((each) => nameOption(`${each.series === 1 ? "One series" : `${each.series} series`}, ${each.fields.length === 1 ? `the field ${each.fields[0]}` : `${each.fields.length} fields`}.`)(each.name));
  }
  const known = place.measurement && (await described(view, place.measurement));
  if (!known) return [];
  if (place.kind === "field") return known.fields.filter(begins).map(nameOption("A field."));
  const counts = new Map(known.tags.map((tag) => [tag.name, tag.values]));
  return [...counts.keys()].filter(begins).map(nameOption((tag) => `A tag with ${counts.get(tag) === 1 ? "one value" : `${counts.get(tag)} values`}.`, place.plain ? "" : "="));
}

/** Give a text box completion. Gives the element with the list, to stand right below the box. `changed()` is called when text was put in. */
export function complete(view, box, values, changed) {
  const list = h("ul.options", { id: `${box.id}-options`, role: "listbox", "aria-label": "What may stand here", hidden: true });
  let options = [];
  let active = -1;
  let place = null;
  let timer = 0;
  let asked = 0;
  box.setAttribute("aria-autocomplete", "list");
  box.setAttribute("aria-haspopup", "listbox");
  box.setAttribute("aria-controls", list.id);
  view.onEnd(() => clearTimeout(timer));

  function close() {
    clearTimeout(timer);
    asked++;
    list.hidden = true;
    options = [];
    box.removeAttribute("aria-activedescendant");
  }

  function choose(at) {
    active = (at + options.length) % options.length;
    [...list.children].forEach((item, index) => item.setAttribute("aria-selected", String(index === active)));
    list.children[active].scrollIntoView({ block: "nearest" });
    box.setAttribute("aria-activedescendant", list.children[active].id);
  }

  function take(option) {
    const end = box.selectionEnd;
    box.setSelectionRange(place.from, end);
    const behind = box.value.slice(end);
    const cut = option.puts.endsWith(")") && behind.startsWith("(") ? option.puts.indexOf("(") : option.puts.length; // the arguments are there
    const text = option.puts.slice(0, cut);
    box.setRangeText(text, place.from, end, "end");
    if (option.back && cut === option.puts.length) box.setSelectionRange(box.selectionEnd - option.back, box.selectionEnd - option.back);
    close();
    changed();
    if (/[=(]$/.test(box.value.slice(0, box.selectionEnd))) look(); // what goes into it
  }

  /** Look what may stand at the caret, and show it. */
  async function look() {
    const mine = ++asked;
    const before = box.value.slice(0, box.selectionEnd);
    const next = box.selectionStart === box.selectionEnd ? expected(before, STAGES) : null;
    const found = next ? ((await attempt(() => optionsFor(view, next, values))) ?? []) : [];
    if (mine !== asked || view.ended) return;
    place = next;
    options = found.slice(0, SHOWN);
    const written = next && before.slice(next.from);
    if (!options.length || (options.length === 1 && options[0].puts === written)) return close();
    fill(list, options.map((option, at) => h("li", { id: `${list.id}-${at}`, role: "option", "aria-selected": "false", onpointerdown: (event) => { event.preventDefault(); take(option); } }, h("bdi.mono", option.shown), h("span.soft", option.says ?? ""))));
    list.hidden = false;
    choose(0);
  }

  box.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, TYPING_MS);
  });
  box.addEventListener("blur", close);
  box.addEventListener("click", close);
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey && event.code === "Space") {
      look();
    } else if (list.hidden || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) {
      if (event.key === "Enter") close(); // nothing opens behind a query that runs
      return;
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      choose(active + (event.key === "ArrowDown" ? 1 : -1));
    } else if ((event.key === "Enter" || event.key === "Tab") && !event.shiftKey) {
      take(options[active]);
    } else if (event.key === "Escape") {
      close();
    } else {
      if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End") close();
      return;
    }
    event.preventDefault();
  });
  return list;
}
