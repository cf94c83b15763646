// Time series: the measurements of a namespace, or one of them, if the address names one; the FloQL box; and a helper for line protocol.

import { openList } from "./timeseries_list.js";
import { openMeasurement } from "./timeseries_one.js";
import { openQuery } from "./timeseries_query.js";
import { openWrite } from "./timeseries_write.js";
import { fill, h, link } from "./ui.js";

const TABS = [
  { tab: null, title: "Measurements", open: openList },
  { tab: "query", title: "Query", open: openQuery },
  { tab: "write", title: "Line protocol", open: openWrite },
];

export function open(view) {
  const nav = h("nav.tabs", { "aria-label": "Parts of the page" });
  const place = h("div.parts");
  fill(view.root, h("h1", "Time series"), nav, place);
  let shown = null; // the tab or measurement that is drawn
  let inner = null; // its part of the page
  let drawn = null;

  function update() {
    const name = view.params.get("measurement");
    const tab = TABS.find((each) => each.tab === view.params.get("tab")) ?? TABS[0];
    const wanted = name === null ? `${tab.tab}` : `=${name}`;
    if (wanted === shown && !inner.ended) return void drawn.update();
    inner?.end();
    shown = wanted;
    fill(nav, TABS.map((each) => h("a", { href: link("timeseries", { tab: each.tab }), "aria-current": each === tab ? "page" : null }, each.title)));
    inner = view.part(fill(place));
    drawn = name === null ? tab.open(inner) : openMeasurement(inner, name);
  }

  update();
  return { update };
}
