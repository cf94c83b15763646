// What a person does to a queue: enqueue, configure, pause, purge, delete; and how many things are done in slices. Each says the command that
// does the same.

import { bytesOf, textOf } from "./flo.js";
import { attempt, commandLine, confirm, count, dialog, done, duration, field, h, nameOf, plural, shown } from "./ui.js";

const SLICE = 500; // messages that one request names
const DASH = 0x2d;
const COMMAND_BYTES = 1000; // a longer payload is not put into a command

/**
 * The line `flo queue VERB FLAGS QUEUE WORDS`. Words that begin with a dash need `--`, or they would be read as flags. It is empty where no
 * shell can pass a word on: none can have a byte 0.
 */
export function queueCommand(view, verb, queue, words = [], flags = []) {
  const given = [queue, ...words].map(bytesOf);
  if (given.some((word) => word.includes(0))) return "";
  const dashed = given.some((word) => word[0] === DASH);
  return commandLine(view.namespace, "queue", verb, ...flags, ...(dashed ? ["--"] : []), ...given);
}

/** A queue's name for a sentence or a heading. */
export function called(queue) {
  const text = shown(queue) || "(empty)";
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

function number(value, attributes) {
  return h("input", { type: "number", value: String(value ?? ""), ...attributes });
}

/**
 * Ask for a message and enqueue it. `given`: { payload, priority } of a message to be duplicated. Resolves with the seq, or null.
 */
export async function enqueue(view, queue, given = {}) {
  const text = given.payload ? textOf(given.payload) : "";
  const editable = text !== null && text.length <= 65_536;
  const payload = h("textarea", { value: editable ? text : "", spellcheck: "false" });
  const begun = payload.value; // a textarea turns \r\n into \n: what was not changed is sent as it was
  const priority = number(given.priority ?? 0, { min: 0, max: 255, step: 1, required: true });
  const delay = number("", { min: 0, step: "any", placeholder: "none" });
  const dedup = h("input", { type: "text", placeholder: "none" });
  const kept = h("p", `The payload is ${editable ? "" : text === null ? "no text" : "long"}: ${plural(given.payload?.length ?? 0, "byte")} are sent as they are.`);
  let value = given.payload;
  const submit = () => {
    if (editable && !(given.payload && payload.value === begun)) value = bytesOf(payload.value);
    const ms = delay.value === "" ? undefined : Math.round(Number(delay.value) * 1000);
    return view.run("queue_enqueue", { key: queue, value, priority: Number(priority.value) || undefined, delay: ms, dedup_key: dedup.value || undefined });
  };
  const answer = await dialog({
    title: given.payload ? "Duplicate a message" : "Enqueue a message",
    children: [
      editable ? field("Payload", payload) : kept,
      h("div.grid", field("Priority: 0 goes first, 255 last", priority), field("Delay, in seconds", delay)),
      field("Deduplication key: one message in 300 s", dedup),
    ],
    action: "Enqueue",
    submit,
  });
  if (!answer) return null;
  const flags = [
    ...(Number(priority.value) ? ["--priority", priority.value] : []),
    ...(delay.value ? ["--delay", String(Math.round(Number(delay.value) * 1000))] : []),
    ...(dedup.value ? ["--dedup", dedup.value] : []),
  ];
  const inline = value.length <= COMMAND_BYTES && !value.includes(0) && shown(value) !== "-";
  const command = queueCommand(view, "enqueue", queue, [inline ? value : "-"], flags);
  done(dedup.value ? `Message ${answer.seq} stands for this deduplication key in ${called(queue)}.` : `Message ${answer.seq} is in ${called(queue)}.`, { command: command && !inline ? `${command} < payload` : command });
  return answer.seq;
}

/** Pause or resume. A pause is undone by the button of what is said. */
export async function pause(view, queue, paused, changed) {
  await view.run("queue_pause", { key: queue, value: paused });
  changed();
  const sentence = paused ? `${called(queue)} is paused: it takes messages and hands none out, also after a restart.` : `${called(queue)} hands out messages again.`;
  done(sentence, { command: queueCommand(view, "pause", queue, [paused ? "on" : "off"]), undo: () => pause(view, queue, !paused, changed) });
}

/** Ask for a queue's configuration and set it. */
export async function configure(view, queue, stats, changed) {
  const lease = number(stats.lease_ms / 1000, { min: 0.001, step: "any", required: true });
  const most = number(stats.max_attempts, { min: 0, step: 1, required: true });
  const wanted = () => ({ lease: Math.round(Number(lease.value) * 1000), max_attempts: Number(most.value) });
  const answer = await dialog({
    title: "Configure the queue",
    children: [
      field("Lease, in seconds: how long a worker has before a message is delivered again", lease),
      field("Attempts before a message that fails becomes a dead letter; 0: never", most),
      h("p.soft", "Fewer attempts make messages dead at once that have failed so often already."),
    ],
    submit: () => set(wanted()),
  });
  function set(given) {
    return view.run("queue_configure", { key: queue, ...given });
  }
  if (!answer) return;
  changed();
  const now = wanted();
  const undo = async () => {
    await set({ lease: stats.lease_ms, max_attempts: stats.max_attempts });
    changed();
  };
  const flags = ["--lease", String(now.lease), "--max-attempts", String(now.max_attempts)];
  const attempts = now.max_attempts ? `dead after ${plural(now.max_attempts, "attempt")}` : "never dead";
  done(`${called(queue)}: a lease of ${duration(now.lease)}, ${attempts}.`, { command: queueCommand(view, "configure", queue, [], flags), undo });
}

/** Ask, and remove every message. */
export async function purge(view, queue, changed) {
  const stats = await view.run("queue_stats", { key: queue });
  const total = stats.ready + stats.delayed + stats.leased;
  const text = ["All messages of ", nameOf(queue), ` go: ${count(stats.ready)} ready, ${count(stats.delayed)} delayed, ${count(stats.leased)} leased. Its ${plural(stats.dead, "dead letter")} and its configuration stay. This cannot be undone.`];
  if (!(await confirm("Purge the queue", text, `Remove ${plural(total, "message")}`))) return;
  const { removed } = await view.run("queue_purge", { key: queue });
  changed();
  done(`${plural(removed, "message")} of ${called(queue)} ${removed === 1 ? "is" : "are"} gone.`, { command: queueCommand(view, "purge", queue) });
}

/** Ask, and delete the queue. Gives whether it was. */
export async function remove(view, queue) {
  const stats = await view.run("queue_stats", { key: queue });
  const total = stats.ready + stats.delayed + stats.leased;
  const text = ["The queue ", nameOf(queue), ` goes with ${plural(total, "message")}, ${plural(stats.dead, "dead letter")} and its configuration. Workers that wait go on waiting. This cannot be undone.`];
  if (!(await confirm("Delete the queue", text, "Delete the queue"))) return false;
  await view.run("queue_delete", { key: queue });
  done(`The queue ${called(queue)} is deleted.`, { command: queueCommand(view, "delete", queue) });
  return true;
}

/** The command for dead letters: these seqs, or all of them. */
export function deadCommand(view, queue, flag, seqs) {
  const list = queueCommand(view, "dlq", queue);
  if (!list) return "";
  const [line, dashed] = list.split(" -- "); // a name that begins with a dash goes last, any other goes first: seqs are as many as there are
  const does = (words) => (dashed ? `${line} ${words} -- ${dashed}` : `${line} ${words}`);
  if (seqs) return does(`${flag} ${seqs.join(" ")}`);
  if (flag === "--delete") return does(flag);
  return `while seqs=$(${list} | cut -d- -f1) && [ "$seqs" ]; do ${does(`${flag} $seqs`)}; done`;
}

/**
 * Do something to all dead letters that are there now, in slices, with progress in `place` and a way to stop. `act(seqs)` resolves with how
 * many it found. What dies meanwhile is left for the next time. Resolves with how many were done; it ends with the page.
 */
export async function allDead(view, queue, total, words, place, act) {
  let finished = 0;
  let seen = 0;
  let stopped = false;
  const bar = h("progress", { max: String(total), value: "0", "aria-label": words });
  const text = h("span.grow", { role: "status" });
  const stop = h("button", { type: "button", onclick: () => (stopped = true) }, "Stop");
  place.replaceChildren(h("div.card.stack", h("div.row", text, stop), bar));
  stop.focus();
  const work = async () => {
    while (seen < total && !stopped && !view.ended) {
      text.textContent = `${words}: ${count(finished)} of ${count(total)}`;
      const slice = await view.run("queue_dlq_list", { key: queue, limit: Math.min(SLICE, total - seen), clip: 0 });
      if (!slice.length) break;
      finished += await act(slice.map((message) => message.seq));
      seen += slice.length;
      bar.value = seen;
    }
  };
  await attempt(work); // what was done before a refusal is told all the same
  place.replaceChildren();
  return finished;
}

