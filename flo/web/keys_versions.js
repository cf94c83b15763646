// The versions of a key: the list, what differs between two, and putting one back.

import { textOf } from "./flo.js";
import { diffView } from "./diff.js";
import { isDocument, isJson } from "./keys_json.js";
import { CLIP, store, storeCommand, valueOfVersion } from "./keys_store.js";
import { keepFocus } from "./patch.js";
import { ago, attempt, bytesFor, bytesText, dialog, done, fill, h, link, nameOf, plural, preview, table, textOfClipped } from "./ui.js";

const LIMIT = 100;
const LIMIT_MAX = 1000;
const LINE = 200; // bytes of a value in the list
const LARGE = 1 << 20;
const NUMBER = /^(0|-?[1-9][0-9]*)$/;

/** The pane of a key's versions: { element, load() }; `draw()` follows the address. */
export function versionsPane(page, item) {
  const { view } = page;
  const list = h("div");
  const compared = h("section.stack");
  const element = h("div.stack", list, compared);
  const values = new Map(); // by version: of those that were compared
  let items = [];
  let limit = LIMIT;

  async function load() {
    const loaded = await view.run("kv_history", { key: item.key, limit, clip: LINE });
    if (view.ended) return;
    items = loaded;
    drawList();
    draw();
  }

  function drawList() {
    if (!items.length) return void fill(list, h("p.soft", "No version of this key is kept."));
    const columns = [
      { title: "Version", class: "num", cell: (row) => h("span.mono", row.version) },
      { title: "Written", cell: (row) => ago(row.time, page.now()) },
      { title: "Value", class: "name", cell: valueOf },
      { title: "Change", cell: (row) => h("a", { href: address(row.version), "aria-label": `Compare version ${row.version} with the one before` }, "Compare") },
    ];
    if (view.canWrite) columns.push({ title: "Way back", cell: (row) => canPut(row) && h("button.quiet", { type: "button", "aria-label": `Put back version ${row.version}`, onclick: () => attempt(() => putBack(row)) }, "Put back") });
    const older = items.length === limit && limit < LIMIT_MAX && h("button", { type: "button", onclick: () => { limit = LIMIT_MAX; attempt(load); } }, "Older versions");
    const says = `${plural(items.length, "version")}. How many are kept, and how long, is in the settings kv.history_depth and kv.history_age.`;
    const large = item.info?.bytes > LARGE && " Of large values fewer are listed: 16 MiB together.";
    const rows = table("Versions", columns, items);
    rows.classList.add("tall");
    fill(list, rows, h("p.soft", says, large), older);
  }

  function valueOf(row) {
    if (row.tombstone) return h("span.pill.warn", "deleted or expired");
    const before = older(row);
    const same = before && !before.tombstone && row.value.length < LINE && textOf(row.value) !== null && textOf(row.value) === textOf(before.value);
    return [preview(row.value, row.value.length < LINE, textOfClipped(row.value) === null ? 24 : 80), same && h("span.soft", " same value; perhaps another time to live")];
  }

  const older = (row) => items[items.indexOf(row) + 1];
  const address = (to, from = null) => link("keys", { q: view.params.get("q"), ...bytesFor("key", item.key), as: "versions", to, from });
  const canPut = (row) => !row.tombstone && row.version !== item.info?.version;
  const known = (name) => items.find((row) => String(row.version) === view.params.get(name));

  /** The older and the newer one that are compared; undefined where there is none. */
  function pair() {
    const to = known("to") ?? items[0];
    return [known("from") ?? (to && older(to)), to];
  }

  async function draw() {
    const [from, to] = pair();
    list.querySelectorAll("tbody tr").forEach((row, at) => (items[at] === to ? row.setAttribute("aria-selected", "true") : row.removeAttribute("aria-selected")));
    if (!from) return void fill(compared);
    const [old, now] = await Promise.all([contentOf(from), contentOf(to)]);
    if (view.ended || pair()[0] !== from || pair()[1] !== to) return;
    const cut = [old, now].some((bytes) => bytes?.length === CLIP);
    const cells = [
      h("h3", "What changed"),
      h("div.row", "From", choose("from", "Older version", from), "to", choose("to", "Newer version", to)),
      diffView(old, now, [`version ${from.version}`, `version ${to.version}`]),
      cut && h("p.soft", `Only the first ${bytesText(CLIP)} of each are compared.`),
    ];
    keepFocus(compared, () => fill(compared, cells));
    if (known("to")) compared.scrollIntoView({ block: "nearest" });
  }

  function choose(name, label, row) {
    const chose = (event) => {
      const [from, to] = pair();
      view.set({ from: from.version, to: to.version, [name]: event.target.value }, { replace: true });
      attempt(draw);
    };
    return h("select", { "aria-label": label, onchange: chose }, items.map((each) => h("option", { value: each.version, selected: each === row }, each.version)));
  }

  /** The first 64 KiB of a version, null for a deletion. */
  async function contentOf(row) {
    if (row.tombstone) return null;
    if (row.value.length < LINE) return row.value;
    if (!values.has(row.version)) {
      const found = await view.run("kv_history", { key: item.key, limit: Math.min(items.indexOf(row) + 10, LIMIT_MAX), clip: CLIP });
      for (const each of found) values.set(each.version, each.value);
    }
    return values.get(row.version) ?? row.value;
  }

  async function putBack(row) {
    const { key, info } = item;
    const value = row.value.length < LINE ? row.value : await valueOfVersion(view, key, row.version, Math.min(items.indexOf(row) + 10, LIMIT_MAX));
    const kind = await kindOf(value);
    if (!kind) return;
    const given = { kind, value, cas: info?.version ?? 0, ttl: info ? undefined : 0 };
    const version = await store(view, key, given);
    view.set({ from: null, to: null }, { replace: true }); // what changed now is the newest
    page.wrote(key, version);
    done([`Version ${row.version} of `, nameOf(key), ` is the present value again, as version ${version}.`], { command: storeCommand(view, key, given) });
  }

  /** What a version was: the history does not tell. As the key is now; where it is gone and this may be a document, the person says. */
  async function kindOf(value) {
    const text = textOf(value) ?? "";
    if (item.info?.kind === "json" && isJson(text)) return "json";
    if (item.info?.kind === "counter" && NUMBER.test(text)) return "counter";
    if (item.info || !isDocument(text)) return "string";
    const json = h("input", { type: "checkbox", checked: true });
    const children = [h("p", "The key is gone, and its versions do not tell what it was."), h("label.check", json, "It is a JSON document")];
    return dialog({ title: "Put this version back", children, action: "Put back", submit: () => (json.checked ? "json" : "string") });
  }

  return { element, load, draw };
}
