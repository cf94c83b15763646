// The tab Groups: the consumer groups of a stream with what they have still to do, and the making of one.

import { bytesOf } from "./flo.js";
import { openGroup } from "./streams_group.js";
import { described, idFrom, streamLine } from "./streams_read.js";
import { Rows } from "./streams_rows.js";
import { base64url, bytesFor, bytesIn, count, copyable, dialog, done, field, fill, h, link, nameOf, plural, shown } from "./ui.js";

const PAGE = 25; // groups on a page: each is a request
const LIST_MS = 5000;

/** Draw the tab: the list, or the group of the address. Gives { update }. */
export function openGroups(view, name) {
  let shownGroup = null;
  let inner = null;
  let drawn = null;

  function update() {
    const group = bytesIn(view.params, "group");
    const wanted = group === null ? "" : `=${base64url(group)}`;
    if (wanted === shownGroup) return void drawn.update();
    inner?.end();
    shownGroup = wanted;
    inner = view.part(fill(view.root));
    drawn = group === null ? openList(inner, name) : openGroup(inner, name, group);
  }

  update();
  return { update };
}

function openList(view, name) {
  const to = (row) => link("streams", { ...bytesFor("stream", name), tab: "groups", ...bytesFor("group", row.name) });
  const marked = (number, level) => (number ? h(`span.${level}`, count(number)) : "0");
  const columns = [
    { title: "Group", class: "name", cell: (row) => h("a", { href: to(row) }, nameOf(row.name)) },
    { title: "Lag", class: "num", live: true, cell: (row) => count(row.lag) },
    { title: "Pending", class: "num", live: true, cell: (row) => count(row.pending) },
    { title: "Dead", class: "num", live: true, cell: (row) => marked(row.dead, "warn") },
    { title: "Consumers", class: "num", live: true, cell: (row) => count(row.consumer_count) },
    { title: "Waiting", class: "num", live: true, cell: (row) => count(row.waiting) },
    { title: "Delivered up to", live: true, cell: (row) => h("span.mono", row.last_id) },
  ];
  const rows = new Rows("Groups", columns, (row) => base64url(bytesOf(row.name)));
  const search = h("input", { type: "search", "aria-label": "Search groups", placeholder: "Part of a group's name", value: view.params.get("groups") ?? "" });
  const place = h("div", h("p.soft", "Reading…"));
  const steps = h("nav.row", { "aria-label": "Pages of the groups" });
  const make = view.canWrite && h("button", { type: "button", onclick: () => create(view, name, () => reload()) }, "New group…");
  fill(view.root, h("section.card.stack", h("div.row", search, h("span.grow"), make), place, steps));
  search.addEventListener("input", () => {
    view.set({ groups: search.value, page: null }, { replace: true });
    reload();
  });
  let state = "";
  let stepsFor = "";

  async function load() {
    const description = await described(view, name);
    const text = (view.params.get("groups") ?? "").toLowerCase();
    const page = Math.max(Number(view.params.get("page")) || 1, 1);
    const all = (description?.groups ?? []).map(bytesOf).filter((group) => shown(group).toLowerCase().includes(text));
    const names = all.slice((page - 1) * PAGE, page * PAGE);
    // A group that was deleted since is left out
    const found = (await Promise.all(names.map((group) => view.run("stream_group_info", { key: name, group }).catch((error) => missing(error))))).filter(Boolean);
    if (view.ended) return;
    const now = found.length ? "rows" : text ? "unmatched" : "none";
    if (now !== state) fill(place, now === "rows" ? rows.element : now === "none" ? nothing(view, name) : h("p", "No group has this in its name."));
    state = now;
    rows.set(found);
    drawSteps(page, all.length);
  }

  function drawSteps(page, total) {
    const pages = Math.ceil(total / PAGE);
    if (stepsFor === `${page} ${pages} ${total}`) return;
    stepsFor = `${page} ${pages} ${total}`;
    const at = (number) => link("streams", { ...Object.fromEntries(view.params), page: number > 1 ? number : null });
    fill(steps, pages > 1 && [page > 1 && h("a.button", { href: at(page - 1) }, "Previous"), page < pages && h("a.button", { href: at(page + 1) }, "Next"), h("span.soft", `Page ${page} of ${pages}, ${plural(total, "group")}`)]);
  }

  const reload = view.every(LIST_MS, load);
  return { update: () => void reload() };
}

function missing(error) {
  if (error.status === 1) return null;
  throw error;
}

function nothing(view, name) {
  return h(
    "div.empty",
    h("p", "This stream has no groups. A group shares the records among its consumers: each record goes to one of them, and comes again until it is acknowledged. The first read makes the group:"),
    copyable(streamLine(view, "group read", [], name, "workers", "consumer-1")),
    view.namespace === "default" && /^[\w.:-]+$/.test(shown(name)) && copyable(`redis-cli -p ${location.port || 80} XGROUP CREATE ${shown(name)} workers 0`),
  );
}

function create(view, name, made) {
  const group = h("input", { required: true });
  const begin = h("select", h("option", { value: "first" }, "the first record"), h("option", { value: "tail" }, "new records only"), h("option", { value: "id" }, "an id or a time"));
  const id = h("input", { placeholder: "1700000000000-0, or 2025-01-31 10:30" });
  const where = field("Id or time", id);
  where.hidden = true;
  begin.addEventListener("change", () => (where.hidden = begin.value !== "id"));
  const timeout = h("input", { type: "number", min: 0, placeholder: "30000" });
  const most = h("input", { type: "number", min: 0, placeholder: "10" });
  const submit = async () => {
    const start = begin.value === "id" ? idFrom(id.value) : undefined;
    if (start === null) throw new Error(`${id.value || "Nothing"} is neither an id nor a time`);
    const numbers = { ack_timeout: timeout.value ? Number(timeout.value) : undefined, max_deliver: most.value ? Number(most.value) : undefined };
    await view.run("stream_group_create", { key: name, group: group.value, start, tail: begin.value === "tail", ...numbers });
    const flags = [start && ["--start", start], begin.value === "tail" && "--tail", timeout.value && ["--ack-timeout", timeout.value], most.value && ["--max-deliver", most.value]];
    done(["The group ", nameOf(group.value), " is there."], { command: streamLine(view, "group create", flags.flat().filter(Boolean), name, group.value) });
    made();
  };
  const children = [
    field("Name", group),
    field("Begins with", begin),
    where,
    field("A record comes again if it is not acknowledged within, ms (0: never)", timeout),
    field("Deliveries after which it becomes a dead letter (0: never)", most),
  ];
  return dialog({ title: "New group", children, action: "Create", submit });
}
