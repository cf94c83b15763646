// What a person does to an action: invoke, register, pause, delete. Each says the command that does the same.

import { bytesOf, textOf } from "./flo.js";
import { CLIP, called, labelsText, line, runLink } from "./actions_words.js";
import { commandLine, confirm, count, dialog, done, field, h, nameOf, plural, shown } from "./ui.js";

export const COMMAND_BYTES = 1000; // a longer input is not put into a command
const SECOND = 1000;

export const box = (attributes = {}) => h("input", { type: "text", spellcheck: "false", autocomplete: "off", autocapitalize: "off", ...attributes });
export const number = (value, attributes = {}) => h("input", { type: "number", value: String(value ?? ""), min: 0, step: 1, ...attributes });
const ms = (control) => (control.value === "" ? undefined : Math.round(Number(control.value) * SECOND));
const whole = (control) => (control.value === "" ? undefined : Number(control.value));

/** The input of an action's newest run: { run, bytes, whole } of at most CLIP bytes; null if it has no run. */
export async function lastInput(view, action) {
  const { runs } = await view.run("action_runs", { key: action, limit: 1 });
  return runs.length ? inputOf(view, runs[0].run_id) : null;
}

/** The input of a run, likewise. */
export async function inputOf(view, run) {
  const { input: bytes } = await view.run("action_input", { key: run, clip: CLIP + 1 });
  return { run, bytes: bytes.subarray(0, CLIP), whole: bytes.length <= CLIP };
}

/**
 * Ask for an input and invoke the action. `given` is the input of a run that is done once more; without it the newest run's is there to begin
 * with. Resolves with the run's id, or null.
 */
export async function invoke(view, action, given) {
  const last = given ?? (await lastInput(view, action).catch(() => null)); // a run may go meanwhile
  const begun = last?.whole ? textOf(last.bytes) : null;
  const input = h("textarea", { value: begun ?? "", spellcheck: "false" });
  const before = input.value; // a textarea turns \r\n into \n: what was not changed is sent as it was
  const isJson = h("input", { type: "checkbox" });
  isJson.checked = Boolean(begun) && parses(begun);
  const priority = number(0, { max: 255, required: true });
  const delay = number("", { step: "any", placeholder: "none" });
  const [unique, concurrency, idempotency, traceparent] = Array.from({ length: 4 }, () => box({ placeholder: "none" }));
  const labels = box({ placeholder: '{"region": "eu"}' });
  const copied = () => Boolean(given) && begun === null && input.value === ""; // what cannot stand in the box is sent all the same
  let value = null;
  const submit = async () => {
    if (isJson.checked && !copied()) JSON.parse(input.value); // throws a sentence with the place
    if (copied()) value = (await view.run("action_input", { key: given.run })).input;
    else value = begun !== null && input.value === before ? last.bytes : bytesOf(input.value);
    return view.run("action_invoke", {
      key: action, value, priority: whole(priority) || undefined, delay: ms(delay), unique_key: unique.value || undefined, concurrency_key: concurrency.value || undefined,
      idempotency_key: idempotency.value || undefined, labels: labels.value || undefined, traceparent: traceparent.value || undefined,
    });
  };
  const note = !last || !last.bytes.length ? null : begun !== null ? `This is the input of ${given ? "that" : "the newest"} run.` : `The input of ${given ? "that" : "the newest"} run is ${last.whole ? "no text" : "long"}, so it is not here.${given ? " It is sent as it is unless you write another." : ""}`;
  const answer = await dialog({
    title: `Invoke ${called(action)}`,
    wide: true,
    children: [
      field("Input", input),
      h("div.row", note && h("span.soft.grow", note), h("label.check", isJson, "Refuse what is no JSON")),
      h("div.grid", field("Priority: 0 goes first, 255 last", priority), field("Delay, in seconds", delay)),
      h("div.grid", field("Unique key: no second run while one with it has not ended", unique), field("Concurrency key: runs with it take turns", concurrency)),
      h("div.grid", field("Idempotency key: one run in 24 h", idempotency), field("Labels a worker must have, besides the action's", labels)),
      field("Trace context (traceparent)", traceparent),
    ],
    action: "Invoke",
    submit,
  });
  if (!answer) return null;
  const run = textOf(answer.run_id);
  const inline = !copied() && value.length <= COMMAND_BYTES && !value.includes(0) && shown(value) !== "-";
  const flags = [["priority", whole(priority) || ""], ["delay", ms(delay)], ["unique-key", unique.value], ["concurrency-key", concurrency.value], ["idempotency-key", idempotency.value], ["labels", labels.value], ["traceparent", traceparent.value]];
  const command = line(view, "action", "invoke", value.length ? [action, inline ? value : "-"] : [action], flags);
  const from = copied() ? `${line(view, "action", "input", [given.run], [["format", "raw"]])} | ${command}` : `${command} < input`;
  const keyed = unique.value || idempotency.value;
  done([keyed ? "The run with this key is " : "The run is ", runLink(run), `, of ${called(action)}.`], { command: command && !inline ? from : command });
  return run;
}

function parses(text) {
  try {
    return JSON.parse(text) !== undefined;
  } catch {
    return false;
  }
}

/** The options of action_register for settings as action_list gives them. */
function settingsOf(row) {
  return {
    timeout: row.timeout_ms, max_attempts: row.max_attempts, retry_delay: row.retry_delay_ms, concurrency: row.concurrency,
    rate: row.rate ? `${row.rate.starts}/${row.rate.ms}` : undefined, labels: labelsText(row.labels) || undefined, description: row.description || undefined,
  };
}

/** Ask for an action's settings and register it. `row` is the action as it is, or null for a new one. Gives its name, or null. */
export async function register(view, row, changed) {
  const name = box({ required: true });
  const lease = number((row?.timeout_ms ?? 30_000) / SECOND, { min: 0.001, step: "any", required: true });
  const attempts = number(row?.max_attempts ?? 3, { required: true });
  const pause = number((row?.retry_delay_ms ?? 1000) / SECOND, { step: "any", required: true });
  const concurrency = number(row?.concurrency ?? 1, { min: 1, required: true });
  const starts = number(row?.rate?.starts, { min: 1, placeholder: "no bound" });
  const window = number(row?.rate ? row.rate.ms / SECOND : 1, { min: 0.001, step: "any" });
  const labels = box({ value: row ? labelsText(row.labels) : "", placeholder: '{"region": "eu"}' });
  const description = h("textarea.query", { value: row?.description ?? "" });
  const key = () => row?.name ?? name.value;
  const settings = () => ({
    timeout: ms(lease), max_attempts: whole(attempts), retry_delay: ms(pause), concurrency: whole(concurrency),
    rate: starts.value ? `${starts.value}/${ms(window) ?? SECOND}` : undefined, labels: labels.value || undefined, description: description.value || undefined,
  });
  const set = (given) => view.run("action_register", { key: bytesOf(key()), ...given });
  const submit = async () => {
    if (!row && (await exists(view, name.value))) throw new Error(`There is an action ${called(name.value)} already. Change it on its own page.`);
    return set(settings());
  };
  const answer = await dialog({
    title: row ? `Configure ${called(row.name)}` : "Register an action",
    wide: true,
    children: [
      !row && field("Name", name),
      field("What it does, for people", description),
      h("div.grid", field("Lease, in seconds: how long a worker may be silent", lease), field("Failures after which a run ends; 0: never", attempts)),
      h("div.grid", field("Seconds before the second attempt, doubled before each next", pause), field("Runs of one concurrency key at once", concurrency)),
      h("div.grid", field("Starts at most", starts), field("… in so many seconds", window)),
      field("Labels that every run has, and its worker must have", labels),
    ].filter(Boolean),
    action: row ? "Save" : "Register",
    submit,
  });
  if (!answer) return null;
  const now = settings();
  const flags = [["lease", now.timeout], ["max-attempts", now.max_attempts], ["retry-delay", now.retry_delay], ["concurrency", now.concurrency], ["rate", now.rate], ["labels", now.labels], ["description", now.description]];
  const undo = async () => {
    if (row) await set(settingsOf(row));
    else await view.run("action_delete", { key: bytesOf(key()) });
    changed();
  };
  changed();
  done(`${called(key())} is registered, version ${answer.version}.`, { command: line(view, "action", "register", [key()], flags), undo });
  return key();
}

async function exists(view, name) {
  try {
    return Boolean((await view.run("action_list", { key: name })).actions.length);
  } catch {
    return false; // what else is wrong the registration says
  }
}

/** Pause or resume. A pause is undone by the button of what is said. */
export async function pause(view, action, paused, changed) {
  await view.run("action_pause", { key: bytesOf(action), value: paused });
  changed();
  const sentence = paused ? `${called(action)} is paused: it is invoked, and none of its runs starts, also after a restart.` : `Runs of ${called(action)} start again.`;
  done(sentence, { command: line(view, "action", "pause", [action, paused ? "on" : "off"]), undo: () => pause(view, action, !paused, changed) });
}

/** Ask, and delete the action. Gives whether it was. */
export async function remove(view, action) {
  const [row] = (await view.run("action_list", { key: bytesOf(action) })).actions;
  const live = row.runs.pending + row.runs.running;
  if (live) throw new Error(`${called(action)} has ${plural(live, "run")} that ${live === 1 ? "has" : "have"} not ended. Let them end or cancel them, then delete it.`);
  const ended = Object.values(row.runs).reduce((sum, each) => sum + each, 0);
  if (!(await confirm("Delete the action", ["The action ", nameOf(action), ` goes with its settings and ${plural(ended, "run")}, which ${ended === 1 ? "has" : "have"} ended. This cannot be undone.`], "Delete the action"))) return false;
  await view.run("action_delete", { key: bytesOf(action) });
  done(`The action ${called(action)} is deleted, with ${count(ended)} of its runs.`, { command: line(view, "action", "delete", [action]) });
  return true;
}

/** The flags of a command line that find this server. */
export function hostFlags() {
  const here = ["localhost", "127.0.0.1"].includes(location.hostname);
  const port = location.port || "80";
  return [...(here ? [] : ["--host", location.hostname]), ...(port === "9000" ? [] : ["--port", port])];
}

/** Commands for whoever has no action yet, of this server and namespace. */
export function lessons(view, name = "send-email") {
  const host = hostFlags();
  return [commandLine(view.namespace, "action", "register", ...host, name), commandLine(view.namespace, "action", "invoke", ...host, name, '{"to": "ada@example.com"}')];
}
