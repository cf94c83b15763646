// What the lists of this page share: a table that is drawn again and again, in which a row stays the same element as long as its key is
// there, so that focus and what is chosen stay; and words for bounds and headings.

import { bytesText, count, duration, fill, h, nameOf, table } from "./ui.js";

/**
 * `columns` as for `table`; a column with `live` is drawn again by each `set`, the others once. `keyOf(row)` tells rows apart and is text.
 * `element` is to be put into the page.
 */
export class Rows {
  constructor(caption, columns, keyOf) {
    this.columns = columns;
    this.keyOf = keyOf;
    this.element = table(caption, columns, []);
    this.body = this.element.querySelector("tbody");
    this.shown = new Map(); // by key: the element
  }

  set(rows) {
    const next = new Map();
    for (const row of rows) {
      const key = this.keyOf(row);
      const element = this.shown.get(key) ?? h("tr", this.columns.map((column) => h("td", { class: column.class })));
      const known = this.shown.has(key);
      this.columns.forEach((column, at) => (!known || column.live) && fill(element.cells[at], column.cell(row)));
      next.set(key, element);
    }
    for (const [key, element] of this.shown) if (!next.has(key)) element.remove();
    let before = this.body.firstChild;
    for (const element of next.values()) {
      if (element === before) before = before.nextSibling;
      else this.body.insertBefore(element, before);
    }
    this.shown = next;
  }
}

/** What a stream keeps, in words; empty if it keeps all. */
export function boundsText({ max_len, max_age_ms, max_bytes }) {
  return [max_len && `${count(max_len)} records`, max_age_ms && duration(max_age_ms), max_bytes && bytesText(max_bytes)].filter(Boolean).join(", ");
}

/** A name in a heading: in its type, not the smaller one of data. */
export function headed(name) {
  const element = nameOf(name);
  element.classList.remove("mono");
  return element;
}
