import { fill, h } from "./ui.js";
export function open(view) { fill(view.root, h("h1", "…")); }
