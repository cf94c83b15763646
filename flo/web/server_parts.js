// What the tabs of the server's page share: tables that are drawn again in place, a filter, pages of a list, and redis-cli's command line.

import { bytesOf } from "./flo.js";
import { fill, h, link, shellWord, shown, table } from "./ui.js";

/** Text of a name or word as JSON answers have it, for filters and sorting. */
export const plain = (value) => (typeof value === "string" ? value : shown(bytesOf(value)));

/** A command line of redis-cli to this server. */
export function redisLine(...words) {
  const host = location.hostname === "localhost" || location.hostname === "127.0.0.1" ? [] : ["-h", location.hostname.replace(/^\[|\]$/g, "")];
  const tls = location.protocol === "https:" ? ["--tls"] : [];
  return ["redis-cli", ...host, "-p", location.port || (tls.length ? "443" : "80"), ...tls, ...words].map(shellWord).join(" ");
}

/**
 * Draw a table again: where `place` has one with this caption already, only its rows change, so that focus and scroll stay. While text in it
 * is selected, nothing changes: somebody is copying it.
 */
export function redraw(place, caption, columns, rows) {
  const old = place.querySelector("table");
  const selection = getSelection();
  if (old && !selection.isCollapsed && old.contains(selection.anchorNode)) return;
  if (old?.getAttribute("aria-label") !== caption) return void fill(place, table(caption, columns, rows));
  const untitled = columns.map((column) => ({ ...column, title: "" })); // a title may be an element: it stays where it is
  old.tBodies[0].replaceWith(table(caption, untitled, rows).querySelector("tbody"));
}

/** A box that filters: what is written is in the address as `find`. `changed` is called at each letter. */
export function filterBox(view, label, changed) {
  const box = h("input.grow", { type: "search", value: view.params.get("find") ?? "", placeholder: label, "aria-label": label, oninput: change });
  function change() {
    view.set({ find: box.value }, { replace: true });
    changed();
  }
  return box;
}

/** A test of rows against the filter: each of its words must be in one of the row's texts. */
export function filterOf(view) {
  const words = (view.params.get("find") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  return (...texts) => {
    const all = texts.join(" ").toLowerCase();
    return words.every((word) => all.includes(word));
  };
}

/** The way to other pages of a list of server_view: `cursor` is that of the next page, the one shown is in the address as `from`. */
export function pages(view, tab, cursor) {
  const of = (from) => link("server", { ...Object.fromEntries(view.params), tab, from });
  const begun = view.params.has("from");
  if (!begun && !cursor) return null;
  return h("div.row", begun && h("a.button", { href: of(null) }, "First page"), cursor && h("a.button", { href: of(cursor) }, "Next page"));
}

/** The option `cursor` for the page that is shown. */
export const cursorOf = (view) => (view.params.has("from") ? { cursor: { base64: view.params.get("from") } } : {});
