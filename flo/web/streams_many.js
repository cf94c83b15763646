// The same for many records: asked once, done in slices, with a bar and a way to stop.

import { dialog, h } from "./ui.js";

const SLICE = 500; // ids of a request

/**
 * Ask, and do it for `total` ids. `take(most)` gives the next ids, none at the end; `run(ids)` gives how many it did; `said(number, stopped)`
 * says what was done, also where the person stopped it: by Cancel or Escape, while the bar is there.
 */
export function many({ title, text, action, danger = false, total, take, run, said }) {
  const bar = h("progress", { max: total, hidden: true, "aria-label": "Done so far" });
  const submit = async () => {
    bar.hidden = false;
    let [looked, number] = [0, 0];
    try {
      while (looked < total && bar.isConnected) {
        const ids = await take(Math.min(SLICE, total - looked));
        if (!ids.length || !bar.isConnected) break;
        number += await run(ids);
        bar.value = looked += ids.length;
      }
    } finally {
      if (looked) said(number, looked < total && !bar.isConnected);
    }
  };
  return dialog({ title, children: [h("p", text), bar], action, danger, submit });
}
