// The left of the page of keys: the search, what it has found, and the way to a key of which the name is known.

import { deleteFound } from "./keys_bulk.js";
import { chosen, nameField } from "./keys_names.js";
import { attempt, base64url, bytesFor, bytesIn, commandLine, count, emptyState, fill, h, link, nameOf, table } from "./ui.js";

const PAGE = 100; // keys found at once
const LOOKED_AT = 1000; // by one request with a pattern
const ROWS_MAX = 2000;
const PATTERN = /[*?[\\]/;

/** A search: a prefix, or a pattern as Redis's KEYS has them where the text has one of *?[\. */
export class Search {
  constructor(view, text) {
    this.view = view;
    this.text = text;
    this.isPattern = PATTERN.test(text);
    this.cursor = undefined;
    this.found = 0;
    this.looked = 0;
    this.ended = false; // nothing more is to be found
  }

  /** What it searches for, in words. */
  get words() {
    if (!this.text) return "all keys";
    return this.isPattern ? `keys that match ${this.text}` : `keys that begin with ${this.text}`;
  }

  /** The next keys that one request finds; perhaps none, though there are more. */
  async next(most) {
    const given = this.isPattern ? { key: "", pattern: this.text } : { key: this.text };
    const limit = this.isPattern ? LOOKED_AT : most;
    const answer = await this.view.run("kv_scan", { ...given, limit, cursor: this.cursor, keys_only: true });
    const keys = answer.items.map((item) => item.key);
    this.cursor = answer.cursor;
    this.ended = !answer.has_more;
    this.found += keys.length;
    this.looked += this.ended && !this.isPattern ? keys.length : limit;
    return keys;
  }
}

/** The pane. `update()` follows the address; `fresh()` searches again; `wrote(key, version)` is told of the page's own changes. */
export function searchPane(view) {
  const input = h("input.grow", { type: "search", "aria-label": "Prefix or pattern", placeholder: "user: or user:*:name", autocomplete: "off", spellcheck: "false", autocapitalize: "off" });
  const form = h("form.row", { role: "search", onsubmit: submit }, input, h("button", { type: "submit" }, "Search"));
  const hint = h("p.soft", "A prefix, or with ", ["*", "?", "[a-z]", "\\"].map((mark, at) => [at ? " " : "", h("code", mark)]), " a pattern.");
  const status = h("span.grow", { role: "status" });
  const more = h("button", { type: "button", hidden: true, onclick: () => attempt(() => go(PAGE)) });
  const bulk = h("button.danger", { type: "button", hidden: true, onclick: () => attempt(deleteAll) }, "Delete all found…");
  const progress = h("div");
  const list = table("Keys found", [{ title: "Key", class: "name", cell: () => null }], []);
  const body = list.querySelector("tbody");
  list.classList.add("tall");
  list.addEventListener("keydown", walk);
  const dropped = h("p.soft", { hidden: true });
  const nothing = h("div");
  const element = h("section.card.stack", { "aria-label": "Search" }, form, hint, exactForm(view), h("div.row", status, more), progress, dropped, list, nothing, h("div.row", bulk));
  let search = null;
  let running = false;
  let total = 0;
  let droppedRows = 0;

  function submit(event) {
    event.preventDefault();
    if (input.value === search?.text) fresh();
    else view.set({ q: input.value });
  }

  function fresh() {
    search = new Search(view, view.params.get("q") ?? "");
    running = false;
    droppedRows = 0;
    fill(body);
    attempt(() => go(PAGE));
  }

  /** Search on until so many more are found, or to the end. */
  async function go(wanted) {
    const mine = search;
    if (running) return void (running = false); // the button says Stop now
    running = true;
    const enough = mine.found + wanted / 2; // another request for a few more is not worth it
    try {
      draw();
      total = (await view.run("namespace_info", { key: view.namespace })).keys;
      while (running && mine === search && !mine.ended && mine.found < enough && !view.ended) {
        if (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
        const keys = await mine.next(wanted === PAGE ? PAGE : LOOKED_AT);
        if (view.ended || mine !== search) return;
        append(keys);
        draw();
      }
    } finally {
      if (mine === search) {
        running = false;
        draw();
      }
    }
  }

  function append(keys) {
    const query = search.text || null;
    const cell = (key) => h("a", { href: link("keys", { q: query, ...bytesFor("key", key) }) }, nameOf(key, 200));
    const rows = [...table("", [{ title: "", class: "name", cell }], keys).querySelectorAll("tbody tr")];
    rows.forEach((row, at) => (row.dataset.key = base64url(keys[at])));
    body.append(...rows);
    while (body.children.length > ROWS_MAX) {
      body.firstChild.remove();
      droppedRows++;
    }
    mark();
  }

  function mark() {
    const chosen = bytesIn(view.params, "key");
    const id = chosen && base64url(chosen);
    for (const row of body.children) {
      const is = row.dataset.key === id;
      if (is) row.setAttribute("aria-selected", "true");
      else row.removeAttribute("aria-selected");
      if (is) row.querySelector("a").setAttribute("aria-current", "true");
      else row.querySelector("a").removeAttribute("aria-current");
    }
  }

  function draw() {
    const { found, ended } = search;
    const looked = Math.min(search.looked, Math.max(total, found));
    const all = ended && !running;
    status.textContent = `${count(found)} found, ${all && search.isPattern ? "all" : `${count(looked)} of ${count(total)}`} looked at${all && !search.isPattern && search.text ? ", there are no others" : ""}`;
    more.hidden = ended && !running;
    more.textContent = running ? "Stop" : "More";
    bulk.hidden = !view.canWrite || !found || running;
    dropped.hidden = !droppedRows;
    dropped.textContent = `The first ${count(droppedRows)} are not listed any more: a list holds ${count(ROWS_MAX)}.`;
    list.hidden = !found;
    fill(nothing, !found && ended && (search.text ? h("p.soft", `There are no ${search.words}.`) : welcome(view)));
  }

  async function deleteAll() {
    if (!search.ended) await go(Infinity); // the person is asked with the whole count
    if (!search.ended || view.ended) return;
    bulk.hidden = true;
    await deleteFound(view, search, (content) => fill(progress, content));
    if (!view.ended) fresh();
  }

  /** Up and down between the keys of the list. */
  function walk(event) {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const row = step && event.target.closest("tr")?.[step];
    if (!row) return;
    event.preventDefault();
    row.querySelector("a").focus();
  }

  function update() {
    const text = view.params.get("q") ?? "";
    if (text !== search?.text) {
      input.value = text;
      fresh();
    } else mark();
  }

  /** The page has written a key; a deleted one leaves the list. */
  function wrote(key, version) {
    const id = base64url(key);
    const row = [...body.children].find((each) => each.dataset.key === id);
    if (row) row.hidden = version === 0;
  }

  return { element, update, fresh, wrote };
}

/** A box to open a key by its whole name. */
function exactForm(view) {
  const name = nameField();
  const form = h("form.stack", name.element, h("div.row", h("button", { type: "submit" }, "Open")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(() => view.set(chosen(name.bytes())));
  });
  return h("details", h("summary", "Open a key by its exact name"), form);
}

function welcome(view) {
  const space = view.namespace;
  const redis = `redis-cli -p ${location.port || 80} SET user:1:name Ada`;
  const curl = `curl -X PUT ${location.origin}/api/v1/kv/${space}/keys/user:1:name -d Ada`;
  const flo = commandLine(space, "kv", "set", "user:1:name", "Ada");
  return emptyState("There are no keys in this namespace yet. Make the first:", flo, ...(space === "default" ? [redis] : []), curl);
}
