// Streams: their list, page by page, and the way to one of them (streams_one.js).

import { bytesOf, fromBase64 } from "./flo.js";
import { openStream } from "./streams_one.js";
import { cursorAt, idTime, listPage, streamLine } from "./streams_read.js";
import { Rows, boundsText } from "./streams_rows.js";
import { ago, base64url, bytesFor, bytesIn, bytesText, count, emptyState, fill, h, link, nameOf } from "./ui.js";

const PAGE = 100; // streams on a page
const LIST_MS = 5000;

export function open(view) {
  let shown = null; // the name of the stream that is shown, as text; "" for the list
  let inner = null; // its part of the page
  let drawn = null;

  function update() {
    const name = bytesIn(view.params, "stream");
    const wanted = name === null ? "" : `=${base64url(name)}`;
    if (wanted === shown && !inner.ended) return void drawn.update();
    inner?.end();
    shown = wanted;
    inner = view.part(fill(view.root));
    drawn = name === null ? openList(inner) : openStream(inner, name);
  }

  update();
  return { update };
}

// -- the list ----------------------------------------------------------------------------------------------------------------------------

function openList(view) {
  const dead = h("ul.health", { hidden: true });
  const columns = [
    { title: "Stream", class: "name", cell: (row) => h("a", { href: link("streams", bytesFor("stream", row.name)) }, nameOf(row.name)) },
    { title: "Records", class: "num", live: true, cell: (row) => count(row.count) },
    { title: "Size", class: "num", live: true, cell: (row) => bytesText(row.bytes) },
    { title: "Groups", class: "num", live: true, cell: (row) => count(row.groups.length) },
    { title: "Last record", live: true, cell: (row) => lastOf(row.last_id) },
    { title: "Keeps at most", live: true, cell: (row) => boundsText(row) || h("span.soft", "everything") },
  ];
  const rows = new Rows("Streams", columns, (row) => base64url(bytesOf(row.name)));
  const place = h("section.card.stack", h("p.soft", "Reading…"));
  const steps = h("nav.row", { "aria-label": "Pages of the list" });
  fill(view.root, h("div.head", h("h1.grow", "Streams"), opener(view)), dead, place);
  let state = "";

  async function load() {
    const cursor = view.params.get("cursor");
    const page = await listPage(view, cursor, PAGE);
    if (view.ended || cursor !== view.params.get("cursor")) return;
    drawDead();
    const now = page.streams.length ? "rows" : cursor ? "end" : "none";
    if (now !== state) fill(place, now === "rows" ? [rows.element, steps] : now === "end" ? [h("p", "No stream is named so, or later in the alphabet."), steps] : nothing(view));
    state = now;
    rows.set(page.streams);
    drawSteps(cursor, page.cursor);
  }

  let stepsFor = null;
  function drawSteps(cursor, next) {
    if (stepsFor === `${cursor} ${next}`) return;
    stepsFor = `${cursor} ${next}`;
    fill(steps, cursor && h("a.button", { href: link("streams") }, "First page"), next && h("a.button", { href: link("streams", { cursor: next }) }, `Next ${PAGE}`), cursor && h("span.soft", "after ", nameOf(fromBase64(cursor).subarray(1), 40)));
  }

  /** Of the largest streams the server tells who has dead letters; it tells it of no others. */
  let deadFor = null;
  function drawDead() {
    const found = (view.live.last?.largest.stream ?? []).filter((each) => each.dead_records && each.namespace === view.namespace);
    if (JSON.stringify(found) === deadFor) return;
    deadFor = JSON.stringify(found);
    dead.hidden = !found.length;
    fill(dead, found.map((each) => h("li.warn", `${count(each.dead_records)} dead ${each.dead_records === 1 ? "letter" : "letters"} in `, h("a", { href: link("streams", { ...bytesFor("stream", each.name), tab: "groups" }) }, nameOf(each.name, 48)))));
  }

  const reload = view.every(LIST_MS, load);
  return { update: () => void reload() };
}

/** The box that goes to one stream, or to the place in the list where a name would be. */
function opener(view) {
  const input = h("input", { type: "search", "aria-label": "Name of a stream", placeholder: "Name or its beginning", value: "" });
  const go = (event) => {
    event.preventDefault();
    if (!input.value) return view.set({ cursor: null });
    if (event.submitter?.value === "open") location.hash = link("streams", bytesFor("stream", input.value));
    else view.set({ cursor: cursorAt(input.value) });
    return undefined;
  };
  return h("form.row", { onsubmit: go }, input, h("button", { type: "submit" }, "Go to in the list"), h("button", { type: "submit", value: "open" }, "Open"));
}

function lastOf(id) {
  const ms = idTime(id);
  return ms === null ? h("span.soft", id === "0-0" ? "none yet" : id) : ago(ms);
}

function nothing(view) {
  return emptyState(
    "There are no streams in this namespace. A stream is a list of records that stays until it is trimmed: all readers see the same records, and consumer groups share them. The first record makes the stream:",
    ...(view.namespace === "default" ? [`redis-cli -p ${location.port || 80} XADD events '*' kind login user ada`] : []),
    streamLine(view, "append", [], "events", '{"kind": "login"}'),
    `curl ${location.origin}/api/v1/streams/${encodeURIComponent(view.namespace)}/events/records -d '{"kind": "login"}'`,
  );
}
