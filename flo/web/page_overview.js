// The overview: what is wrong first, then how much is done, how long it takes, and what it costs.

import { Chart } from "./chart.js";
import { durability, problems, upFor } from "./health.js";
import { grown, waited } from "./live.js";
import { bytesFor, bytesText, copyable, count, fill, h, link, micros, nameOf, plural, rate, table } from "./ui.js";

const COMMANDS_SHOWN = 10;
const RATE_SAMPLES = 5; // rates in tables are of so many seconds: one alone jumps

export function open(view) {
  const { live } = view;
  view.onEnd(live.draw());
  const title = h("div.head", h("h1.grow", "Overview"));
  const health = h("ul.health");
  const tiles = h("div.tiles");
  const charts = [
    { chart: new Chart("Requests", ["answered", "refused"], rate, { least: 10 }), values: (a, b) => [grown(a, b, (each) => each.requests), grown(a, b, refusals)] },
    { chart: new Chart("Waits", ["half", "99 of 100"], micros, { least: 1000 }), values: (a, b) => [waited(a, b, 0.5), waited(a, b, 0.99)] },
    { chart: new Chart("Memory", ["data", "process"], bytesText, { least: 1 << 20 }), values: (_, b) => [b.memory.used, b.memory.resident] },
    { chart: new Chart("Log", ["written a second"], bytesText, { least: 1024 }), values: (a, b) => [grown(a, b, (each) => each.log.bytes_written)] },
    { chart: new Chart("Connections", ["connected", "waiting"], count, { least: 10 }), values: (_, b) => [b.clients.connected, b.clients.waiting] },
    { chart: new Chart("Processor", ["of a core"], (share) => `${Math.round(share * 100)} %`, { least: 1 }), values: (a, b) => [grown(a, b, (each) => each.cpu_seconds)] },
  ];
  const tables = h("div.grid");
  fill(view.root, title, health, tiles, h("div.charts", charts.map(({ chart }) => chart.element)), tables);

  function draw() {
    const { samples, last } = live;
    const before = samples.at(-2);
    fill(title, h("h1.grow", "Overview"), h("span.soft", `Flo ${last.version}, up ${upFor(last)}`), !view.canWrite && h("span.pill.warn", "read-only secret"));
    const found = problems(before, last);
    fill(health, found.map((each) => h("li", { class: each.level }, each.text, " ", each.look && h("a", { href: link(...each.look) }, "Look"))));
    if (!found.length) fill(health, h("li.good", h("strong", "All well. "), durability(last), " ", last.compaction.running ? "The log is being compacted." : ""));
    fill(tiles, tilesOf(before, last));
    for (const { chart, values } of charts) {
      chart.set(samples.slice(1).map((sample, at) => [sample.time, ...values(samples[at], sample)]));
    }
    fill(tables, last.requests > 20 || last.counts.keys ? commandsOf(samples.at(-1 - RATE_SAMPLES) ?? samples[0], last) : welcome(), largestOf(last));
  }

  view.on(live, "sample", draw);
  draw();
}

const refusals = (sample) => sample.commands.reduce((sum, each) => sum + each.failed + each.rejected, 0);

function tile(text, value) {
  return h("div.tile", h("b", value), h("span", text));
}

function tilesOf(before, now) {
  const { counts, log, memory } = now;
  const p99 = before ? waited(before, now, 0.99) : null;
  return [
    tile("requests a second", before ? rate(grown(before, now, (each) => each.requests)) : "–"),
    tile("99 of 100 wait less than", p99 === null ? "–" : micros(p99)),
    tile(memory.max ? `of ${bytesText(memory.max)} of memory` : "of memory", bytesText(memory.used)),
    tile(`of log, ${bytesText(log.tail_bytes)} not compacted`, bytesText(log.bytes)),
    tile("keys", count(counts.keys)),
    tile(`messages in ${plural(counts.queues, "queue")}`, count(counts.messages)),
    tile(`records in ${plural(counts.streams, "stream")}`, count(counts.records)),
    tile(`connections, ${count(now.clients.waiting)} waiting`, count(now.clients.connected)),
  ];
}

function commandsOf(before, now) {
  const seconds = Math.max((now.time - before.time) / 1000, 1);
  const earlier = new Map(before.commands.map((each) => [`${each.protocol} ${each.command}`, each]));
  const rows = now.commands
    .map((each) => {
      const was = earlier.get(`${each.protocol} ${each.command}`) ?? { calls: 0, failed: 0, rejected: 0, seconds: 0 };
      const calls = Math.max(each.calls - was.calls, 0);
      const failed = Math.max(each.failed + each.rejected - was.failed - was.rejected, 0);
      return { ...each, rate: calls / seconds, failing: failed / seconds, each: calls ? ((each.seconds - was.seconds) / calls) * 1e6 : null, share: (each.seconds - was.seconds) / seconds };
    })
    .filter((row) => row.rate || row.failing)
    .sort((one, other) => other.rate - one.rate)
    .slice(0, COMMANDS_SHOWN);
  const columns = [
    { title: "Command", cell: (row) => [h("span.mono", row.command), " ", h("span.pill", row.protocol)] },
    { title: "a second", class: "num", cell: (row) => rate(row.rate) },
    { title: "refused", class: "num", cell: (row) => (row.failing ? h("span.bad", rate(row.failing)) : "0") },
    { title: "takes", class: "num", cell: (row) => (row.each === null ? "–" : micros(row.each)) },
    { title: "of a core", class: "num", cell: (row) => `${(row.share * 100).toFixed(1)} %` },
  ];
  return h("section.card", h("h2", "Commands now"), rows.length ? table("Commands now", columns, rows) : h("p.soft", "Nobody asks for anything."));
}

function largestOf(now) {
  const of = (title, page, unit, rows) => {
    const columns = [
      { title, class: "name", cell: (row) => h("a", { href: link(page, { ns: row.namespace === "default" ? null : row.namespace, ...bytesFor(page.slice(0, -1), row.name) }) }, nameOf(row.name, 48)) },
      { title: "Namespace", cell: (row) => row.namespace },
      { title: unit, class: "num", cell: (row) => count(row.messages ?? row.records) },
      { title: "dead", class: "num", cell: (row) => (row.dead_messages ?? row.dead_records ? h("span.warn", count(row.dead_messages ?? row.dead_records)) : "0") },
    ];
    return rows?.length ? h("div", h("h2", `Largest ${page}`), table(`Largest ${page}`, columns, rows)) : null;
  };
  const found = [of("Queue", "queues", "messages", now.largest.queue), of("Stream", "streams", "records", now.largest.stream)].filter(Boolean);
  return found.length ? h("section.card.stack", found) : null;
}

function welcome() {
  const host = `-p ${location.port || 80}`;
  return h("section.card", h("h2", "Try it"), h("p", "Nothing has been asked of this server yet. Any Redis client works, and so do these:"), h("div.stack", copyable(`redis-cli ${host} SET greeting hello`), copyable(`redis-cli ${host} LPUSH jobs "first job"`), copyable(`redis-cli ${host} XADD events '*' kind login`), copyable(`curl ${location.origin}/api/v1/kv/default/keys/greeting`)));
}
