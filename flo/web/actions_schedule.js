// What a person does to a schedule: put a new one, replace one, delete it. Each says the command that does the same.

import { NOT_FOUND, bytesOf, textOf } from "./flo.js";
import { COMMAND_BYTES, box, number } from "./actions_change.js";
import { called, labelsText, line } from "./actions_words.js";
import { confirm, dialog, done, duration, field, h, nameOf, when } from "./ui.js";

const SECOND = 1000;

/** A time of UTC, to the second. */
export const utc = (ms) => `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`;

/** The terms of a schedule as the list has it, as schedule_put takes them; what is usual is left out. */
export function termsOf({ action, cron, every_ms, input, labels, priority, missed }) {
  return {
    action: textOf(bytesOf(action)),
    ...(cron === undefined ? { every_ms } : { cron }),
    ...(bytesOf(input).length ? { input } : {}),
    ...(labelsText(labels) ? { labels } : {}),
    ...(priority ? { priority } : {}),
    ...(missed === "skip" ? { missed } : {}),
  };
}

const options = (chosen, ...all) => all.map(([value, text]) => h("option", { value, selected: value === chosen }, text));

/** The command that puts a schedule; empty where none can. */
function commandOf(view, name, terms) {
  const text = JSON.stringify(terms);
  const inline = bytesOf(text).length <= COMMAND_BYTES;
  const command = line(view, "schedule", "put", [name, inline ? text : "-"]);
  return command && !inline ? `${command} < schedule.json` : command;
}

/** Ask for a schedule's terms and put it. `row` is the schedule as it is, or null for a new one. */
export async function put(view, row, changed) {
  const name = box({ required: true });
  const { actions } = await view.run("action_list", { limit: 100 });
  const known = h("datalist", { id: "schedule-actions" }, actions.map((each) => textOf(bytesOf(each.name))).filter(Boolean).map((value) => h("option", { value })));
  const action = box({ required: true, list: "schedule-actions", value: row ? textOf(bytesOf(row.action)) : "" });
  const kind = h("select", options(row && row.cron === undefined ? "every" : "cron", ["cron", "at times of cron"], ["every", "at an interval"]));
  const cron = box({ value: row?.cron ?? "", placeholder: "0 3 * * *" });
  const every = number(row?.every_ms ? row.every_ms / SECOND : "", { min: 0.1, step: "any", placeholder: "60" });
  const cronField = field("Minute, hour, day, month, weekday, in UTC: 0 3 * * * is 03:00 each day", cron);
  const everyField = field("Seconds between two runs, 0.1 or more", every);
  const text = row ? textOf(bytesOf(row.input)) : "";
  const input = h("textarea", { value: text ?? "", spellcheck: "false" });
  const before = input.value; // a textarea turns \r\n into \n: what was not changed is put as it was
  const labels = box({ value: row ? labelsText(row.labels) : "", placeholder: '{"region": "eu"}' });
  const priority = number(row?.priority ?? 0, { max: 255, required: true });
  const missed = h("select", options(row?.missed ?? "once", ["once", "make one run for all of them"], ["skip", "make none"]));
  const choose = () => {
    const timed = kind.value === "cron";
    [cronField.hidden, everyField.hidden, cron.required, every.required] = [!timed, timed, timed, !timed];
  };
  kind.addEventListener("change", choose);
  choose();
  const key = () => row?.name ?? name.value;
  const terms = () => termsOf({
    action: action.value,
    ...(kind.value === "cron" ? { cron: cron.value } : { every_ms: Math.round(Number(every.value) * SECOND) }),
    input: row && input.value === before ? row.input : input.value,
    labels: labels.value.trim() ? JSON.parse(labels.value) : {},
    priority: Number(priority.value),
    missed: missed.value,
  });
  const set = (given) => view.run("schedule_put", { key: bytesOf(key()), value: JSON.stringify(given) });
  const submit = async () => {
    if (!row && (await exists(view, name.value))) throw new Error(`There is a schedule ${called(name.value)} already. Change it in the list.`);
    return set(terms());
  };
  const answer = await dialog({
    title: row ? `Change ${called(row.name)}` : "Put a schedule",
    wide: true,
    children: [
      row ? h("p.soft", "It is put anew: its runs and dropped times are counted from 0, and an interval begins now.") : field("Name", name),
      h("div.grid", field("Action", action), field("When", kind)),
      known, cronField, everyField,
      field("Input of each run", input),
      row && text === null && h("p.soft", "The input is no text. It stays as it is unless you write another."),
      h("div.grid", field("Labels a worker must have, besides the action's", labels), field("Priority: 0 goes first, 255 last", priority)),
      field("Times that are missed, while the server is away", missed),
    ].filter(Boolean),
    action: row ? "Replace" : "Put",
    submit,
  });
  if (!answer) return;
  const back = async () => {
    if (row) await set(termsOf(row));
    else await view.run("schedule_delete", { key: bytesOf(key()) });
    changed();
  };
  changed();
  const first = Number(answer.next);
  done(`${called(key())} runs first in ${duration(Math.max(first - Date.now(), 0))}: ${when(first)}, ${utc(first)}.`, { command: commandOf(view, key(), terms()), undo: back });
}

async function exists(view, name) {
  try {
    return Boolean((await view.run("schedule_list", { key: name })).schedules.length);
  } catch (error) {
    if (error.status === NOT_FOUND) return false;
    throw error;
  }
}

/** Ask, and delete a schedule; Undo puts it again. */
export async function remove(view, row, changed) {
  if (!(await confirm("Delete the schedule", ["The schedule ", nameOf(row.name), " invokes ", nameOf(row.action), " no more. Runs that it has made stay."], "Delete the schedule"))) return;
  const key = bytesOf(row.name);
  await view.run("schedule_delete", { key });
  changed();
  const undo = async () => {
    await view.run("schedule_put", { key, value: JSON.stringify(termsOf(row)) });
    changed();
  };
  done(`The schedule ${called(row.name)} is deleted.`, { command: line(view, "schedule", "delete", [row.name]), undo });
}
