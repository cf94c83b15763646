// One queue: how it is, its counts over time, what one can do to it, and its tabs.

import { Chart } from "./chart.js";
import { patch } from "./patch.js";
import { called, configure, enqueue, pause, purge, queueCommand, remove } from "./queues_actions.js";
import { deadTab } from "./queues_dead.js";
import { messagesTab } from "./queues_messages.js";
import { healthOf, oldestAge, ratesOf } from "./queues_words.js";
import { attempt, bytesFor, copyable, count, duration, facts, fill, h, link, plural, rate, shown } from "./ui.js";

const SAMPLE_MS = 2000;
const KEPT = 300; // samples: ten minutes
const DEPTH = ["ready", "leased", "delayed", "dead"];
const RATES = [["in", "enqueued"], ["delivered", "delivered"], ["acknowledged", "acknowledged"]];

/** Commands that put the first message into a queue and take it out, of this server, and of this namespace. */
export function lessons(view, queue) {
  const here = ["localhost", "127.0.0.1"].includes(location.hostname);
  const port = location.port || "80";
  const host = [...(here ? [] : ["--host", location.hostname]), ...(port === "9000" ? [] : ["--port", port])];
  const path = bytesToPath(queue);
  const plain = /^[\w.:-]+$/.test(shown(queue)) ? shown(queue) : null;
  return [
    plain && view.namespace === "default" && `redis-cli ${here ? "" : `-h ${location.hostname} `}-p ${port} LPUSH ${plain} "first message"`,
    plain && view.namespace === "default" && `redis-cli ${here ? "" : `-h ${location.hostname} `}-p ${port} RPOP ${plain}`,
    queueCommand(view, "enqueue", queue, ["first message"], host),
    `curl ${location.origin}/api/v1/queues/${view.namespace}/${path}/messages -d 'first message'`,
  ].filter(Boolean);
}

/** Bytes in a path of a URL. */
const bytesToPath = (bytes) => Array.from(bytes, (byte) => (/[\w.~-]/.test(String.fromCharCode(byte)) ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`)).join("");

export function openQueue(view, queue) {
  const samples = []; // answers of queue_stats, with `at`, when they came, and `rates`
  const last = () => samples.at(-1) ?? null;
  document.title = `${called(queue)} · Queues · Flo`;
  const name = h("bdi", { title: shown(queue) }, called(queue));
  const heading = h("h1.grow");
  name.style.overflowWrap = "anywhere"; // a name may be one long word
  heading.style.minWidth = "min(200px, 100%)";

  const head = h("div.head");
  const health = h("ul.health", { "aria-label": "Health" });
  const tiles = h("div.tiles");
  const tabs = h("nav.tabs", { "aria-label": "Parts of the queue" });
  const body = h("div");
  fill(view.root, h("p", h("a", { href: link("queues") }, "All queues")), head, health, tabs, body);

  // -- the tabs ------------------------------------------------------------------------------------------------------------------------

  const depth = new Chart("Depth", DEPTH, count, { least: 10, area: false });
  const flow = new Chart("Messages /s", RATES.map(([title]) => title), rate, { least: 1, area: false });
  const age = new Chart("Age of the oldest ready message", ["oldest"], duration, { least: 1000 });
  const settings = h("section.card");
  const overview = h("div.stack", tiles, h("div.charts", depth.element, flow.element, age.element, settings));
  const teach = () => lessons(view, queue);
  const made = { "": { element: overview, update() {}, load: async () => {} } };
  const parts = {
    messages: () => messagesTab(view, queue, last, changed, teach),
    dead: () => deadTab(view, queue, sample),
  };
  const tab = () => (parts[view.params.get("tab")] ? view.params.get("tab") : "");

  function showTab() {
    const name = tab();
    made[name] ??= parts[name]();
    if (body.firstChild !== made[name].element) fill(body, made[name].element);
    made[name].update();
    drawTabs();
  }

  function drawTabs() {
    const stats = last();
    const number = (of) => (stats ? ` (${count(stats[of])})` : "");
    const one = (name, text) => h("a", { href: link("queues", { ...bytesFor("queue", queue), tab: name }), "aria-current": tab() === name ? "page" : null }, text);
    patch(tabs, h("nav.tabs", { "aria-label": "Parts of the queue" }, one("", "Overview"), one("messages", `Messages${number("ready")}`), one("dead", `Dead letters${number("dead")}`)));
  }

  // -- what is sampled -----------------------------------------------------------------------------------------------------------------

  const sample = view.every(SAMPLE_MS, async () => {
    const stats = await view.run("queue_stats", { key: queue });
    if (view.ended) return;
    const now = { ...stats, at: Date.now() };
    now.rates = ratesOf(last(), now);
    samples.push(now);
    if (samples.length > KEPT) samples.shift();
    draw();
  });

  function draw() {
    const stats = last();
    const found = healthOf(stats, stats.rates);
    patch(health, h("ul.health", { "aria-label": "Health" }, found.map(({ level, text }) => h("li", { class: level }, text))));
    const tile = (text, value) => h("div.tile", h("b", value), h("span", text));
    const oldest = oldestAge(stats);
    patch(tiles, h("div.tiles",
      tile("ready", count(stats.ready)),
      tile("leased", count(stats.leased)),
      tile("delayed", count(stats.delayed)),
      tile("dead letters", count(stats.dead)),
      tile(stats.waiting === 1 ? "worker waits" : "workers wait", count(stats.waiting)),
      tile("age of the oldest", oldest ? duration(oldest) : "–"),
      tile("in /s", stats.rates ? rate(stats.rates.enqueued) : "–"),
      tile("acknowledged /s", stats.rates ? rate(stats.rates.acknowledged) : "–")));
    depth.set(samples.map((each) => [each.at, ...DEPTH.map((name) => each[name])]));
    flow.set(samples.map((each) => [each.at, ...RATES.map(([, name]) => each.rates?.[name] ?? null)]));
    age.set(samples.map((each) => [each.at, each.oldest_at ? Math.max(each.at - each.oldest_at, 0) : 0]));
    drawTabs();
    drawActions(stats);
  }

  /** After a change: the counts at once, and the tab that is shown. */
  function changed() {
    if (view.ended) return; // an undo may come later
    sample();
    attempt(() => made[tab()].load());
  }

  // -- what one can do -----------------------------------------------------------------------------------------------------------------

  let drawn = ""; // what the buttons depend on: they are made anew only when that has changed

  function drawActions(stats) {
    const state = `${stats.paused} ${stats.lease_ms} ${stats.max_attempts}`;
    if (state === drawn) return;
    drawn = state;
    const command = queueCommand(view, "stats", queue);
    const button = (text, run, kind = "button") => h(kind, { type: "button", onclick: () => attempt(run) }, text);
    fill(head,
      fill(heading, name, " ", stats.paused ? h("span.pill.warn", "paused") : null),
      view.canWrite && h("div.row",
        button("Enqueue", async () => (await enqueue(view, queue)) !== null && changed(), "button.main"),
        button(stats.paused ? "Resume" : "Pause", () => pause(view, queue, !stats.paused, changed)),
        button("Purge", () => purge(view, queue, changed), "button.danger"),
        button("Delete", async () => (await remove(view, queue)) && (location.hash = link("queues")), "button.danger")));
    fill(settings,
      h("div.row", h("h2.grow", "Configuration"), view.canWrite && button("Change", () => configure(view, queue, stats, changed))),
      facts(
        ["Lease", `${duration(stats.lease_ms)}: a message that is not acknowledged by then is delivered again`],
        ["Attempts", stats.max_attempts ? `a message that fails ${plural(stats.max_attempts, "time")} becomes a dead letter` : "no bound: no message becomes a dead letter by itself"],
        ["Deliveries", stats.paused ? "paused: it takes messages and hands none out, also after a restart. Workers may acknowledge what they have." : "on. A pause stops them; the queue takes messages meanwhile."]),
      command && [h("h3", "In a terminal"), copyable(command)]);
  }

  showTab();
  return { update: showTab };
}
