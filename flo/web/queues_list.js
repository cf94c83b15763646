// The queues of a namespace: by name, in pages; those that need a person; the largest.

import { BAD_REQUEST, bytesOf, fromBase64 } from "./flo.js";
import { keepFocus, patch } from "./patch.js";
import { lessons } from "./queues_one.js";
import { KINDS, marksOf, oldestAge, ratesOf } from "./queues_words.js";
import { attempt, base64url, bytesFor, bytesIn, count, duration, emptyState, fill, h, link, nameOf, plural, rate, shown, table } from "./ui.js";

const PAGE = 100;
const POLL_MS = 5000;
const TYPING_MS = 250;
const SCAN = 500; // queues in one answer while all are looked through
const FOUND_MOST = 200;

const byName = (row) => (typeof row.name === "string" ? row.name : `\n${row.name.base64}`);
const begins = (bytes, prefix) => prefix.every((byte, at) => bytes[at] === byte);
const same = (one, other) => one.length === other.length && begins(one, other);

/** The bytes that a person means: as they are typed, but `\xff` is a byte, as it is shown. */
function typed(text) {
  const pieces = text.split(/(\\x[0-9a-fA-F]{2})/).filter(Boolean).map((piece, at) => (/^\\x[0-9a-fA-F]{2}$/.test(piece) ? [parseInt(piece.slice(2), 16)] : [...bytesOf(piece)]));
  return Uint8Array.from(pieces.flat());
}

/**
 * The cursor after which come the names that begin with `prefix`: queue_list's own are the letter q and the name after which the list goes on.
 * What lies between this one and the first of them begins otherwise, and is left out by who asks.
 */
function cursorBefore(prefix) {
  const lastByte = prefix.at(-1);
  const tail = lastByte ? [lastByte - 1, ...Array(8).fill(255)] : [];
  return Uint8Array.from([113, ...prefix.subarray(0, -1), ...tail]);
}

const linkTo = (row, state) => link("queues", { ...bytesFor("queue", row.name), ...state });

export function openList(view) {
  const shows = () => view.params.get("show"); // "attention", "largest", or the list
  const tiles = h("div.tiles");
  const tabs = h("nav.tabs", { "aria-label": "Which queues" });
  const body = h("div.stack");
  const input = h("input.grow", { type: "search", id: "queue-prefix", autocomplete: "off", spellcheck: "false", oninput: type, placeholder: "a name or its beginning" });
  const search = h("form.row", { role: "search", onsubmit: enter }, h("label", { for: "queue-prefix" }, "Begins with"), input, h("button", { type: "submit" }, "Open"), h("span.soft", { role: "status" }));
  const said = search.lastChild;
  const before = new Map(); // answers by the queue's name, for rates
  const pageBefore = new Map(); // the cursor of a page, by the one of the page behind it
  let page = null; // { state, rows, next, refused }
  let info = null;
  let drawn = shows(); // which list there was before the address changed
  let scan = null; // { seen, found, running, stopped, whole }
  fill(view.root, h("h1", "Queues"), tiles, tabs, search, body);

  const attention = () => shows() === "attention";
  const prefix = () => bytesIn(view.params, "prefix") ?? new Uint8Array();
  const state = () => `${view.params.get("after") ?? ""} ${shown(prefix())}`;

  // -- the list by name ----------------------------------------------------------------------------------------------------------------

  async function load() {
    const mine = state();
    const begin = prefix();
    const after = view.params.get("after");
    const cursor = after ? fromBase64(after) : begin.length ? cursorBefore(begin) : undefined;
    const asked = view.run("queue_list", { limit: PAGE, cursor }).catch((error) => {
      if (error.status === BAD_REQUEST && cursor) return { queues: [], cursor: "", refused: error.message };
      throw error;
    });
    const [answer, counts] = await Promise.all([asked, view.run("namespace_info", { key: view.namespace })]);
    if (view.ended || mine !== state()) return;
    const at = Date.now();
    const rows = answer.queues.filter((row) => begins(bytesOf(row.name), begin));
    const known = new Map();
    for (const row of rows) {
      row.at = at;
      row.rates = ratesOf(before.get(byName(row)), row);
      known.set(byName(row), row);
    }
    before.clear();
    known.forEach((row, name) => before.set(name, row));
    const lastName = answer.queues.length ? bytesOf(answer.queues.at(-1).name) : null;
    const next = answer.cursor && begins(lastName, begin) ? base64url(fromBase64(answer.cursor)) : "";
    if (next) pageBefore.set(next, after ?? "");
    [page, info] = [{ state: mine, rows, next, refused: answer.refused }, counts];
    draw();
  }

  function columns() {
    const marks = (row) => marksOf(row, row.rates).map(({ level, text }) => h(`span.pill.${level}`, text));
    const perSecond = (name) => (row) => (row.rates ? rate(row.rates[name]) : "–");
    const number = (title, name) => ({ title, class: "num", cell: (row) => (row[name] ? count(row[name]) : h("span.soft", "0")) });
    return [
      { title: "Queue", class: "name", cell: (row) => h("a", { href: linkTo(row) }, nameOf(row.name, 80)) },
      { title: "Look at", cell: (row) => h("span.row", marks(row)) },
      number("Ready", "ready"),
      number("Leased", "leased"),
      number("Delayed", "delayed"),
      { title: "Dead", class: "num", cell: (row) => (row.dead ? h("a", { href: linkTo(row, { tab: "dead" }) }, count(row.dead)) : h("span.soft", "0")) },
      number("Workers wait", "waiting"),
      { title: "In /s", class: "num", cell: perSecond("enqueued") },
      { title: "Delivered /s", class: "num", cell: perSecond("delivered") },
      { title: "Done /s", class: "num", cell: perSecond("acknowledged") },
      { title: "Oldest", class: "num", cell: (row) => (row.oldest_at ? duration(oldestAge(row)) : "–") },
    ];
  }

  function draw() {
    const tile = (text, value) => h("div.tile", h("b", value), h("span", text));
    if (info) patch(tiles, h("div.tiles", tile(info.queues === 1 ? "queue" : "queues", count(info.queues)), tile("ready", count(info.ready_messages)), tile("leased", count(info.leased_messages)), tile("delayed", count(info.delayed_messages)), tile("dead letters", count(info.dead_messages))));
    const tab = (text, show) => h("a", { href: link("queues", { show }), "aria-current": shows() === show ? "page" : null }, text);
    patch(tabs, h("nav.tabs", { "aria-label": "Which queues" }, tab("By name", null), tab("Need attention", "attention"), tab("Largest", "largest")));
    search.hidden = shows() !== null;
    if (shows() === "largest") patch(body, h("div.stack", largest()));
    if (shows() || !page) return;
    const fresh = h("div.stack");
    if (page.rows.length) {
      const more = page.next || view.params.get("after") || prefix().length;
      fill(fresh, h("section.card.stack", h("h2", title(more)), table("Queues", columns(), page.rows), pages()));
    } else {
      fill(fresh, nothing());
    }
    patch(body, fresh);
  }

  function title(more) {
    if (!more) return plural(page.rows.length, "queue");
    return `${plural(page.rows.length, "queue")}${prefix().length ? ` that begin${page.rows.length === 1 ? "s" : ""} with “${shown(prefix())}”${page.next ? ", and more" : ""}` : ` of ${count(info.queues)}, by name`}`;
  }

  function pages() {
    const after = view.params.get("after") ?? "";
    const kept = prefix().length ? bytesFor("prefix", prefix()) : {};
    const back = pageBefore.get(after);
    return h("div.row",
      after && h("a.button", { href: link("queues", kept) }, "First page"),
      after && back && h("a.button", { href: link("queues", { ...kept, after: back }) }, "Previous page"),
      page.next && h("a.button", { href: link("queues", { ...kept, after: page.next }) }, "Next page"));
  }

  function nothing() {
    if (page.refused) return h("section.card", h("h2", "The server does not go on at this place of the list"), h("p", page.refused), h("p", prefix().length ? h("a", { href: link("queues", bytesFor("queue", prefix())) }, "Open the queue of exactly this name") : null, " ", h("a", { href: link("queues") }, "List from the beginning")));
    if (prefix().length) return h("section.card", h("p", "No queue begins with “", nameOf(prefix()), "”. ", h("a", { href: link("queues") }, "List all")));
    if (view.params.get("after")) return h("section.card", h("p", "The list ends here. ", h("a", { href: link("queues") }, "List from the beginning")));
    return h("section.card", emptyState("No queue yet. The first message makes one. A queue gives each message to one worker at a time, and keeps it until the worker acknowledges it.", ...lessons(view, bytesOf("jobs"))));
  }

  function largest() {
    const rows = view.live.last.largest.queue.filter((row) => row.namespace === view.namespace);
    const shape = [
      { title: "Queue", class: "name", cell: (row) => h("a", { href: linkTo(row) }, nameOf(row.name, 80)) },
      { title: "Messages", class: "num", cell: (row) => count(row.messages) },
      { title: "Dead", class: "num", cell: (row) => (row.dead_messages ? h("a", { href: linkTo(row, { tab: "dead" }) }, count(row.dead_messages)) : h("span.soft", "0")) },
    ];
    return h("section.card.stack",
      h("h2", `${count(rows.length)} of the server's ten largest queues ${rows.length === 1 ? "is" : "are"} in this namespace`),
      rows.length ? table("Largest queues", shape, rows) : h("p.soft", "The server tells its ten largest queues only, of all namespaces."));
  }

  // -- the search ----------------------------------------------------------------------------------------------------------------------

  let timer = 0;
  view.onEnd(() => clearTimeout(timer));

  function setPrefix() {
    clearTimeout(timer);
    view.set({ prefix: null, prefix64: null, after: null, ...(input.value ? bytesFor("prefix", typed(input.value)) : {}) }, { replace: true });
    said.textContent = "";
  }

  function type() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      setPrefix();
      again();
    }, TYPING_MS);
  }

  async function enter(event) {
    event.preventDefault();
    setPrefix();
    const wanted = prefix();
    if (!wanted.length) return again();
    await attempt(load);
    if (view.ended || !same(wanted, prefix()) || !page) return undefined;
    const exact = page.rows.find((row) => same(bytesOf(row.name), wanted)) ?? (page.rows.length === 1 ? page.rows[0] : null);
    if (exact) location.hash = linkTo(exact);
    else if (page.rows.length) said.textContent = "No queue has exactly this name; these begin with it.";
    return undefined;
  }

  // -- all that need a person ----------------------------------------------------------------------------------------------------------

  async function look() {
    const mine = (scan = { seen: 0, found: [], running: true, stopped: false, whole: false });
    drawScan();
    try {
      let cursor;
      do {
        const answer = await view.run("queue_list", { limit: SCAN, cursor });
        if (view.ended || mine !== scan) return;
        for (const row of answer.queues) {
          const marks = marksOf(row);
          row.kinds = marks.map((mark) => mark.kind);
          row.weight = marks.reduce((sum, mark) => sum + mark.weight * mark.weight, 0);
          if (row.weight) mine.found.push(row);
        }
        mine.seen += answer.queues.length;
        cursor = answer.cursor ? fromBase64(answer.cursor) : undefined;
        drawScan();
      } while (cursor && !mine.stopped && attention());
      mine.whole = !cursor;
    } finally {
      mine.running = false;
      if (!view.ended && mine === scan) drawScan();
    }
  }

  function drawScan() {
    if (!attention() || !scan) return;
    const { seen, found, running, whole } = scan;
    const total = Math.max(info?.queues ?? 0, seen);
    const kind = view.params.get("kind");
    const mine = found.filter((row) => !kind || row.kinds.includes(kind));
    const rows = mine.sort((one, other) => other.weight - one.weight || other.dead - one.dead || other.ready - one.ready).slice(0, FOUND_MOST);
    const act = running ? h("button", { type: "button", onclick: () => (scan.stopped = true) }, "Stop") : h("button", { type: "button", onclick: () => attempt(look) }, "Look again");
    const text = `${plural(found.length, "queue")} of ${count(seen)} looked at need${found.length === 1 ? "s" : ""} a person${whole ? "" : `; there are ${count(total)}`}.`;
    const bar = running && h("progress", { max: String(total || 1), value: String(seen), "aria-label": "Queues looked at" });
    if (bar) bar.value = seen;
    const choice = (name, title, number) => h("a", { href: link("queues", { show: "attention", kind: name }), "aria-current": name === kind ? "page" : null }, `${title} (${count(number)})`);
    const numbers = Object.keys(KINDS).map((name) => [name, found.filter((row) => row.kinds.includes(name)).length]);
    const choices = [choice(null, "All", found.length), numbers.filter(([name, number]) => number || name === kind).map(([name, number]) => choice(name, KINDS[name], number))];
    const shape = columns().filter((column) => !/\/s$/.test(column.title));
    keepFocus(body, () => fill(body, h("section.card.stack",
      h("div.row", h("h2.grow", { role: "status" }, text), act), bar,
      h("nav.tabs", { "aria-label": "What they need" }, choices),
      mine.length > rows.length && h("p", `The worst ${count(rows.length)} are shown.`),
      rows.length ? table("Queues that need attention", shape, rows) : !running && h("p.good", "None needs anything."))));
  }

  // --------------------------------------------------------------------------------------------------------------------------------------

  const again = view.every(POLL_MS, async () => {
    if (!shows()) return load();
    info = await view.run("namespace_info", { key: view.namespace });
    if (!view.ended) draw();
    return undefined;
  });

  function update() {
    if (document.activeElement !== input) input.value = shown(prefix());
    said.textContent = "";
    if (attention() && drawn === "attention") return drawScan(); // another kind of the same
    drawn = shows();
    fill(body);
    if (attention()) attempt(look);
    else if (!shows() && page?.state !== state()) page = null;
    draw();
    return again();
  }

  input.value = shown(prefix());
  if (attention()) attempt(look);
  draw();
  return { update };
}
