// How safe the data is, what the log costs, and the commands that look after it.

import { Chart } from "./chart.js";
import { durability } from "./health.js";
import { grown } from "./live.js";
import { bytesText, copyable, count, facts, fill, h, plural, rate, shellWord } from "./ui.js";

const RATE_SAMPLES = 5; // rates in the facts are of so many seconds: one alone jumps

export function open(view) {
  const { live } = view;
  view.onEnd(live.draw());
  const health = h("ul.health");
  const numbers = h("div.card");
  const charts = [
    { chart: new Chart("Syncs", ["a second"], rate, { least: 10 }), values: (a, b) => [grown(a, b, (each) => each.log.syncs)] },
    { chart: new Chart("Written", ["a second"], bytesText, { least: 1024 }), values: (a, b) => [grown(a, b, (each) => each.log.bytes_written)] },
    { chart: new Chart("Log on disk", ["all", "not compacted"], bytesText, { least: 1 << 20 }), values: (_, b) => [b.log.bytes, b.log.tail_bytes] },
  ];
  const commands = h("div.card.stack", h("h2", "To look after it"), h("p.soft", "…"));
  fill(view.root, health, h("div.charts", charts.map(({ chart }) => chart.element)), h("div.grid", numbers, commands));

  function draw() {
    const { samples, last } = live;
    fill(health, saidOf(last).map(([level, text]) => h("li", { class: level }, text)));
    fill(numbers, h("h2", "The log"), factsOf(samples.at(-1 - RATE_SAMPLES) ?? samples[0], last));
    for (const { chart, values } of charts) chart.set(samples.slice(1).map((sample, at) => [sample.time, ...values(samples[at], sample)]));
  }

  async function drawCommands() {
    const status = await view.flo.cluster_status();
    if (view.ended) return;
    const directory = shellWord(status.data_dir);
    fill(
      commands,
      h("h2", "To look after it"),
      h("p", "On the server's machine. All three may run beside the server."),
      h("h3", "Copy the data, as of one moment, to a directory that does not exist yet, and check the copy"),
      copyable(`flo backup ${directory} ${shellWord(`${status.data_dir}-backup`)}`),
      h("h3", "Read everything and verify every checksum. It needs as much memory as the server"),
      copyable(`flo check ${directory}`),
      h("h3", "Compact the log now: overwritten and deleted data leaves the disk. The server does this by itself too, see the settings log.compact_…"),
      copyable(`flo compact ${directory}`),
    );
  }

  view.on(live, "sample", draw);
  draw();
  drawCommands().catch((error) => view.fail(error));
}

/** How safe the data is, the worst first: [level, sentence]. */
function saidOf(now) {
  const { log, compaction } = now;
  return [
    !log.accepts_adds && ["bad", "The disk is full: writes that add are refused. Deletes, acknowledgements and reads go on. Free space on the disk: the server takes writes again by itself."],
    log.damage_met && ["bad", `${plural(log.damage_met, "read")} met damaged data on disk. What is damaged is refused, never invented. Run flo check, below, before the next restart.`],
    [log.durability === "sync" ? "good" : "warn", durability(now)],
    now.unread && ["warn", `${plural(now.unread, "value")} ${now.unread === 1 ? "is" : "are"} still on disk only, since the start. They are served, more slowly.`],
    compaction.running && ["good", "The log is being compacted. Requests go on meanwhile."],
  ].filter(Boolean);
}

function factsOf(before, now) {
  const { log, compaction } = now;
  const batch = now.log.batches - before.log.batches ? (log.last_index - before.log.last_index) / (log.batches - before.log.batches) : 0;
  return facts(
    ["Log on disk", `${bytesText(log.bytes)} in ${plural(log.segments, "segment")}`],
    ["Not compacted", `${bytesText(log.tail_bytes)}: a start reads this record by record`],
    ["Compaction", `${compaction.running ? "running now" : "not running"}; ${compaction.passes === 1 ? "1 pass" : `${count(compaction.passes)} passes`} since the start`],
    ["Syncs", `${rate(grown(before, now, (each) => each.log.syncs))} a second; ${count(log.syncs)} since the start`],
    ["Written", `${bytesText(grown(before, now, (each) => each.log.bytes_written))} a second; ${bytesText(log.bytes_written)} since the start`],
    ["Batches", `${count(log.batches)} since the start${batch ? `; now ${rate(batch)} records in each` : ""}`],
    ["Records", `${count(log.last_index)}; ${log.last_index === log.durable_index ? "all on disk" : `${count(log.last_index - log.durable_index)} not on disk yet`}`],
    ["Disk", log.accepts_adds ? "has room" : h("strong.bad", "full")],
    ["Damage met", log.damage_met ? h("strong.bad", plural(log.damage_met, "read")) : "none"],
  );
}
