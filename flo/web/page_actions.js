// Actions: the actions of a namespace, or one of them, if the address names one; their runs, or one of these; the workers; and the schedules.

import { openList } from "./actions_list.js";
import { openAction } from "./actions_one.js";
import { openRun } from "./actions_run.js";
import { openRuns } from "./actions_runs.js";
import { openSchedules } from "./actions_schedules.js";
import { openWorkers } from "./actions_workers.js";
import { base64url, bytesIn, fill, h, link } from "./ui.js";

// `chosen(params)` is what the address names within the tab, as text: `one` opens it, `open` the list.
const TABS = [
  { tab: null, title: "Actions", open: openList, chosen: nameIn, one: openAction },
  { tab: "runs", title: "Runs", open: openRuns, chosen: (params) => params.get("run"), one: openRun },
  { tab: "workers", title: "Workers", open: openWorkers, chosen: () => null },
  { tab: "schedules", title: "Schedules", open: openSchedules, chosen: () => null },
];

function nameIn(params) {
  const name = bytesIn(params, "action");
  return name && base64url(name);
}

export function open(view) {
  const nav = h("nav.tabs", { "aria-label": "Parts of the page" });
  const place = h("div.parts");
  fill(view.root, h("h1", "Actions"), nav, place);
  let shown = null; // what is drawn
  let inner = null; // its part of the page
  let drawn = null;

  function update() {
    const tab = TABS.find((each) => each.tab === view.params.get("tab")) ?? TABS[0];
    const chosen = tab.chosen(view.params);
    const wanted = `${tab.tab} ${chosen}`;
    if (wanted === shown && !inner.ended) return void drawn.update();
    inner?.end();
    shown = wanted;
    fill(nav, TABS.map((each) => h("a", { href: link("actions", { tab: each.tab }), "aria-current": each === tab ? "page" : null }, each.title)));
    inner = view.part(fill(place));
    drawn = (chosen === null ? tab.open : tab.one)(inner);
  }

  update();
  return { update };
}
