// JSON texts as they are written: a number of any length and a repeated name stay, which JSON.parse would lose. As a tree, and indented.

import { bytesOf } from "./flo.js";
import { count, h, plural, shown } from "./ui.js";

const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\]:,]|[^\s{}[\]:,"]+/g;
const CHILDREN_SHOWN = 100;
const OPEN_AT_FIRST = 60; // nodes; what lies deeper is drawn when it is opened
const INDENT_MAX = 60;

/** Whether a text is JSON. */
export function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Whether a text is a JSON object or array. */
export const isDocument = (text) => /^\s*[[{]/.test(text) && isJson(text);

/** The tree of a JSON text. A node has a `name` (the literal, null in arrays), and either `open` ("{" or "[") and `children`, or `raw`. */
function treeOf(text) {
  const root = { open: "[", children: [] };
  const stack = [root];
  let name = null;
  for (const [token] of text.matchAll(TOKENS)) {
    const parent = stack.at(-1);
    if (token === "{" || token === "[") {
      stack.push({ name, open: token, children: [] });
      parent.children.push(stack.at(-1));
      name = null;
    } else if (token === "}" || token === "]") stack.pop();
    else if (token === "," || token === ":") continue;
    else if (parent.open === "{" && name === null) name = token;
    else {
      parent.children.push({ name, raw: token });
      name = null;
    }
  }
  return root.children[0];
}

/** A JSON text with a line for each member; null where it is no JSON. */
export function indented(text) {
  if (!isJson(text)) return null;
  const opens = new Set(["{", "["]);
  const parts = [];
  let depth = 0;
  let before = "";
  const turn = () => parts.push(`\n${"  ".repeat(Math.min(depth, INDENT_MAX))}`);
  for (const [token] of text.matchAll(TOKENS)) {
    if (token === "}" || token === "]") {
      depth--;
      if (!opens.has(before)) turn();
    } else if (before === "," || opens.has(before)) turn();
    parts.push(token);
    if (opens.has(token)) depth++;
    if (token === ":") parts.push(" ");
    before = token;
  }
  return parts.join("");
}

/** A JSON text as a tree of <details>. */
export function jsonTree(text) {
  const budget = { left: OPEN_AT_FIRST };
  return h("div.tree.mono", nodeOf(treeOf(text), null, budget));
}

function literal(raw) {
  return raw[0] === '"' ? shown(bytesOf(JSON.stringify(JSON.parse(raw)))) : raw;
}

function nodeOf(node, place, budget) {
  budget.left--;
  const named = node.name === null ? place : literal(node.name).slice(1, -1);
  const label = named !== null && [h("bdi.soft", named), ": "];
  if (node.raw !== undefined) return h("div.leaf", label, h("bdi", literal(node.raw)));
  const size = node.children.length;
  const object = node.open === "{";
  if (!size) return h("div.leaf", label, object ? "{}" : "[]");
  const box = h("details", h("summary", label, h("span.soft", object ? `{ ${plural(size, "field")} }` : `[ ${plural(size, "item")} ]`)));
  let drawn = false;
  const draw = (left) => {
    if (!drawn) box.append(...childrenOf(node, 0, left));
    drawn = true;
  };
  if (named === null || size <= budget.left) {
    draw(budget);
    box.open = true;
  }
  box.addEventListener("toggle", () => box.open && draw({ left: 0 }));
  return box;
}

function childrenOf(node, from, budget) {
  const to = Math.min(from + CHILDREN_SHOWN, node.children.length);
  const items = node.children.slice(from, to).map((child, at) => nodeOf(child, node.open === "[" ? String(from + at) : null, budget));
  const left = node.children.length - to;
  if (left) {
    const more = h("button.quiet", { type: "button", onclick: () => more.replaceWith(...childrenOf(node, to, { left: 0 })) }, `${count(left)} more`);
    items.push(more);
  }
  return items;
}
