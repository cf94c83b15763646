// The page of keys: the search on the left, the chosen key on the right.

import { newKey } from "./keys_actions.js";
import { keyPane } from "./keys_key.js";
import { chosen } from "./keys_names.js";
import { searchPane } from "./keys_search.js";
import { attempt, fill, h } from "./ui.js";

export function open(view) {
  let ahead = 0; // of the server's clock, to this machine's
  view.on(view.live, "sample", () => (ahead = view.live.last.time - Date.now()));
  const page = { view, now: () => Date.now() + ahead, wrote };
  const pane = keyPane(page);
  const search = searchPane(view);
  function wrote(key, version) {
    pane.wrote(key, version);
    search.wrote(key, version);
  }
  const create = async () => {
    const key = await newKey(page);
    if (!key) return;
    search.fresh();
    view.set(chosen(key));
  };
  const split = h("div.split.keys", search.element, pane.element);
  fill(view.root, h("div.head", h("h1.grow", "Keys"), view.canWrite && h("button.main", { type: "button", onclick: () => attempt(create) }, "New key")), split);

  function update() {
    split.classList.toggle("chosen", view.params.has("key") || view.params.has("key64"));
    search.update();
    pane.update();
  }

  update();
  return { update };
}
