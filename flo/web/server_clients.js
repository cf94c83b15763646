// The connected clients: who they are, what they did last, and what they hold.

import { bytesText, copyable, count, duration, fill, h, plural } from "./ui.js";
import { cursorOf, filterBox, filterOf, pages, plain, redisLine, redraw } from "./server_parts.js";

const POLL_MS = 5000;
const PAGE = 100;
const LOOKED_AT = 1000; // by a filter, at once

const idle = (row) => (row.last_command ? row.idle_seconds : row.age_seconds);
const size = (bytes) => (bytes ? bytesText(bytes) : h("span.soft", "0"));

// `key` is what a column is sorted by; `first` is the direction that the first click gives: 1 is ascending.
const COLUMNS = [
  { title: "Id", name: "id", class: "num", key: (row) => row.id, first: 1, cell: (row) => row.id },
  { title: "Address", name: "address", key: (row) => row.address, first: 1, cell: (row) => h("span.mono", row.address) },
  { title: "Protocol", name: "protocol", key: (row) => row.protocol, first: 1, cell: (row) => row.protocol },
  { title: "Name", name: "name", key: (row) => plain(row.name), first: 1, cell: (row) => (row.name === "" ? h("span.soft", "–") : h("bdi", plain(row.name))) },
  { title: "Age", name: "age", class: "num", key: (row) => row.age_seconds, first: -1, cell: (row) => duration(row.age_seconds * 1000) },
  { title: "Idle", name: "idle", class: "num", key: idle, first: -1, cell: (row) => duration(idle(row) * 1000) },
  { title: "Last command", name: "command", key: (row) => row.last_command, first: 1, cell: (row) => (row.last_command ? h("span.mono", row.last_command) : h("span.soft", "none yet")) },
  { title: "Waiting", name: "waiting", class: "num", key: (row) => row.waiting, first: -1, cell: (row) => (row.waiting ? count(row.waiting) : h("span.soft", "0")) },
  { title: "Unread", name: "unread", class: "num", key: (row) => row.input_bytes + row.held_bytes, first: -1, cell: (row) => size(row.input_bytes + row.held_bytes) },
  { title: "Unsent", name: "unsent", class: "num", key: (row) => row.output_bytes, first: -1, cell: (row) => size(row.output_bytes) },
];

export function open(view) {
  let answer = null;
  const told = h("p.soft", { role: "status" });
  const list = h("div.card");
  const more = h("div");
  const box = filterBox(view, "Filter by address, name, protocol or command", () => again());
  const heads = COLUMNS.map((column) => h("button.quiet", { type: "button", onclick: () => sortBy(column) }, column.title));
  const shown = COLUMNS.map((column, at) => ({ ...column, title: heads[at] }));
  const help = h("div.card.stack", h("h2", "To close a connection"), copyable(redisLine("CLIENT", "KILL", "ID", "7")), h("p.soft", "Unread is input that the server has not executed yet, unsent is output that the client has not read. A client that waits (for a message, say) is not stuck: that costs nothing."));
  fill(view.root, h("div.row", box), told, list, more, help);

  function sorting() {
    const [, minus, name] = /^(-?)(.*)$/.exec(view.params.get("sort") ?? "id");
    return { column: COLUMNS.find((each) => each.name === name) ?? COLUMNS[0], direction: minus ? -1 : 1 };
  }

  function sortBy(column) {
    const now = sorting();
    const direction = now.column === column ? -now.direction : column.first;
    view.set({ sort: `${direction < 0 ? "-" : ""}${column.name}` }, { replace: true });
    draw();
  }

  async function load() {
    const from = view.params.get("from");
    const wide = Boolean(view.params.get("find"));
    const found = await view.flo.server_view({ value: "clients", limit: wide ? LOOKED_AT : PAGE, ...cursorOf(view) });
    if (view.ended || view.params.get("from") !== from) return;
    answer = found;
    draw();
  }

  function draw() {
    if (!answer) return;
    const fits = filterOf(view);
    const { column, direction } = sorting();
    const rows = answer.clients.filter((row) => fits(row.address, plain(row.name), row.protocol, row.last_command));
    rows.sort((one, other) => direction * (column.key(one) < column.key(other) ? -1 : column.key(one) > column.key(other) ? 1 : one.id - other.id));
    const partial = answer.cursor || view.params.has("from");
    const all = view.live.last.clients.connected;
    const looked = answer.clients.length;
    const text = rows.length < looked ? `${count(rows.length)} of ${plural(looked, "connection")} match.` : `${plural(looked, "connection")}.`;
    fill(told, text, partial ? ` There are ${count(all)}; a filter and an order are of those on this page.` : "", rows.length > PAGE ? ` The first ${PAGE} are shown.` : "");
    redraw(list, "Clients", shown, rows.slice(0, PAGE));
    list.querySelectorAll("th").forEach((head, at) => {
      const sorted = COLUMNS[at] === column;
      if (sorted) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
      heads[at].textContent = COLUMNS[at].title + (sorted ? (direction > 0 ? " ↑" : " ↓") : "");
    });
    fill(more, pages(view, "clients", answer.cursor));
  }

  const run = view.every(POLL_MS, load);
  function again() {
    draw(); // at once with what is there
    run();
  }
  return {
    update() {
      if (document.activeElement !== box) box.value = view.params.get("find") ?? "";
      again();
    },
  };
}
