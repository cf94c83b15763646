// What is wrong with a server, worst first, from two samples of server_stats.

import { bytesText, count, duration, micros, rate } from "./ui.js";
import { grown, waited } from "./live.js";

const SLOW_USEC = 50_000; // of 99 in 100 waits: what the contract allows beside heavy requests
const FULL_SHARE = 0.9; // of the memory that may be used
const STORAGE = ["server", { tab: "storage" }];
const DURABILITY = {
  sync: "Every write is on disk before it is answered.",
  async: "Writes are answered before they are on disk: a crash of the machine may take back the last second.",
  ephemeral: "Nothing is kept: a restart begins with an empty server.",
};

/** How safe the data is, in words. */
export const durability = (sample) => DURABILITY[sample.log.durability];

/** A list of { level: "bad" | "warn", text, look }; `look` is [page, state], where to look, or null. Empty where all is well. */
export function problems(before, now) {
  const found = [];
  const bad = (text, look = STORAGE) => found.push({ level: "bad", text, look });
  const warn = (text, look = STORAGE) => found.push({ level: "warn", text, look });
  const { log, memory, clients } = now;
  if (!log.accepts_adds) bad("The disk is full: writes that add are refused. Deletes, acknowledgements and reads go on. Free space, or move the data with flo compact DIR --to OTHER.");
  if (log.damage_met) bad(`${count(log.damage_met)} reads met damaged data on disk. Run flo check on the data directory; what is damaged is refused, never invented.`);
  if (memory.full) bad(`Memory is full: ${bytesText(memory.used)} of ${bytesText(memory.max)} are used, and writes that add are refused. Delete something, or raise max_memory.`);
  else if (memory.max && memory.used > FULL_SHARE * memory.max) warn(`Memory is ${Math.round((100 * memory.used) / memory.max)} % full: ${bytesText(memory.used)} of ${bytesText(memory.max)}.`);
  if (log.durability !== "sync") warn(durability(now));
  if (now.unread) warn(`${count(now.unread)} values are still on disk only, since the start. They are served, more slowly.`, null);
  if (now.clock_steps) warn(`The machine's clock has jumped ${count(now.clock_steps)} times since the start. Deadlines follow the clock.`);
  if (before) {
    const p99 = waited(before, now, 0.99);
    if (p99 !== null && p99 > SLOW_USEC) warn(`One request in a hundred waits ${micros(p99)} or longer. The slow requests say which.`, ["server", { tab: "slow" }]);
    const rejected = grown(before, now, (sample) => sample.clients.rejected);
    if (rejected > 0) bad(`${rate(rejected)} connections a second are turned away: the limit of connections is reached.`, ["server", { tab: "clients" }]);
    const wrong = grown(before, now, (sample) => sample.clients.wrong_secrets);
    if (wrong > 0) warn(`${rate(wrong)} wrong secrets a second: somebody guesses, or a client has an old one.`, ["server", { tab: "log" }]);
    const refused = now.commands.reduce((sum, each) => sum + each.failed + each.rejected, 0) - before.commands.reduce((sum, each) => sum + each.failed + each.rejected, 0);
    const asked = now.requests - before.requests;
    if (asked > 10 && refused > asked / 10) warn(`${Math.round((100 * refused) / asked)} % of the requests are refused.`, ["server", { tab: "log" }]);
  }
  const dead = now.counts.dead_messages + now.counts.dead_records;
  if (dead) warn(`${count(dead)} dead letters wait for a decision.`, now.counts.dead_messages ? ["queues", { show: "attention", kind: "dead" }] : ["streams", {}]);
  if (clients.waiting > 50_000) warn(`${count(clients.waiting)} requests wait.`, ["server", { tab: "clients" }]);
  return found.sort((one, other) => (one.level === other.level ? 0 : one.level === "bad" ? -1 : 1));
}

/** How long a server is up, in words. */
export const upFor = (sample) => duration(sample.uptime_seconds * 1000);
