// What the counts of a queue mean, in words, and how they grow.

import { count, duration, plural } from "./ui.js";

const OLD_MS = 60_000; // a ready message that nobody takes
const BEHIND_MS = 600_000; // one that waits although messages are taken

const GROWING = ["enqueued", "delivered", "acknowledged"];

/** By the second, from two answers of the server; null before the second one. A count that fell began again at 0. */
export function ratesOf(before, now, names = GROWING) {
  if (!before || now.at <= before.at) return null;
  const seconds = (now.at - before.at) / 1000;
  return Object.fromEntries(names.map((name) => [name, (now[name] >= before[name] ? now[name] - before[name] : now[name]) / seconds]));
}

/** How old the oldest ready message is, ms; 0 if none is ready. */
export const oldestAge = (stats) => (stats.oldest_at ? Math.max(Date.now() - stats.oldest_at, 0) : 0);

const unattended = (stats, rates) => stats.ready > 0 && !stats.waiting && !stats.leased && !rates?.delivered;

/** The kinds of what a person should look at, worst first. */
export const KINDS = { dropped: "Dead letters dropped", unattended: "Messages and no worker", paused: "Paused", dead: "Dead letters", behind: "Behind" };

/** What a person should look at, for a list: [{ kind, level, text, weight }]; the weight sorts queues, largest first. */
export function marksOf(stats, rates = null) {
  const age = oldestAge(stats);
  const marks = [];
  if (stats.dead_evicted) marks.push({ kind: "dropped", level: "bad", text: "dead letters dropped", weight: 4 });
  if (stats.paused) marks.push({ kind: "paused", level: "warn", text: "paused", weight: stats.ready ? 3 : 1 });
  else if (unattended(stats, rates) && age >= OLD_MS) marks.push({ kind: "unattended", level: "bad", text: `no worker, oldest ${duration(age)}`, weight: 3 });
  else if (age >= BEHIND_MS) marks.push({ kind: "behind", level: "warn", text: `behind, oldest ${duration(age)}`, weight: 2 });
  if (stats.dead) marks.push({ kind: "dead", level: "warn", text: plural(stats.dead, "dead letter"), weight: 2 });
  return marks;
}

/** How one queue is, in sentences: [{ level: "bad" | "warn" | "good", text }], worst first. */
export function healthOf(stats, rates) {
  const age = oldestAge(stats);
  const found = [];
  const say = (level, text) => found.push({ level, text });
  if (stats.dead_evicted) say("bad", `${plural(stats.dead_evicted, "dead letter")} were dropped: a queue keeps 10,000. Requeue or delete those that are left.`);
  if (stats.paused) say("warn", `Paused. It takes messages and hands none out until it is resumed; ${count(stats.ready)} wait.`);
  else if (unattended(stats, rates)) say(age >= OLD_MS ? "bad" : "warn", `${count(stats.ready)} ready, no worker waits, oldest ${duration(age)}. Start a worker, or look why it has stopped.`);
  else if (age >= BEHIND_MS) say("warn", `${count(stats.ready)} ready, oldest ${duration(age)}: the workers are behind. Start more, or look what slows them.`);
  if (stats.dead) say("warn", `${plural(stats.dead, "dead letter")} wait${stats.dead === 1 ? "s" : ""} for a decision: requeue or delete.`);
  if (found.length) return found;
  if (stats.ready) return [{ level: "good", text: `${count(stats.ready)} ready, oldest ${duration(age)}; messages are being taken.` }];
  const workers = stats.waiting ? `${plural(stats.waiting, "worker")} wait${stats.waiting === 1 ? "s" : ""} for the next message.` : "No worker waits.";
  if (stats.leased || stats.delayed) return [{ level: "good", text: `Nothing is ready; ${count(stats.leased)} leased, ${count(stats.delayed)} delayed. ${workers}` }];
  return [{ level: "good", text: `Empty. ${workers}` }];
}
