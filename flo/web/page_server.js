// The server itself: who is connected, what was slow, what it logged, how its storage is, its settings and namespaces. A tab is a module.

import { ago, fill, h, link } from "./ui.js";

const TABS = [
  { name: "clients", title: "Clients", load: () => import("./server_clients.js") },
  { name: "slow", title: "Slow", load: () => import("./server_slow.js") },
  { name: "log", title: "Log", load: () => import("./server_log.js") },
  { name: "storage", title: "Storage", load: () => import("./server_storage.js") },
  { name: "cluster", title: "Cluster", load: () => import("./server_cluster.js") },
  { name: "settings", title: "Settings", load: () => import("./server_settings.js") },
  { name: "namespaces", title: "Namespaces", load: () => import("./server_spaces.js") },
];
const STATUS_MS = 60_000; // only a restart changes what is shown

export function open(view) {
  const about = h("div.head", h("span.soft", "…"));
  const tabs = h("nav.tabs", { "aria-label": "Parts of this page" });
  const place = h("div.stack");
  fill(view.root, h("div.head", h("h1.grow", "Server")), about, tabs, place);
  let shown = null; // the tab
  let part = null; // its view
  let opened = null; // what its `open` gave

  async function update() {
    const tab = TABS.find((each) => each.name === view.params.get("tab")) ?? TABS[0];
    if (tab === shown) return void opened?.update?.();
    shown = tab;
    part?.end();
    opened = null;
    const mine = (part = view.part(place));
    for (const each of tabs.children) each.toggleAttribute("aria-current", false);
    tabs.children[TABS.indexOf(tab)].setAttribute("aria-current", "page");
    try {
      const module = await tab.load();
      if (mine.ended) return;
      fill(place);
      opened = module.open(mine) ?? null;
    } catch (error) {
      mine.fail(error);
    }
  }

  async function drawAbout() {
    const status = await view.flo.cluster_status();
    if (view.ended) return;
    const since = Date.now() - status.uptime_seconds * 1000;
    const fact = (name, ...value) => h("span", h("span.soft", `${name} `), value);
    fill(
      about,
      fact("Flo", `${status.version}, Python ${status.python}, process ${status.pid}`),
      fact("address", h("span.mono", status.address)),
      fact("data in", h("span.mono", status.data_dir)),
      fact("up since", new Date(since).toLocaleString(), ", ", ago(since)),
    );
  }

  fill(tabs, TABS.map((tab) => h("a", { href: link("server", { tab: tab.name }) }, tab.title)));
  view.every(STATUS_MS, drawAbout);
  update();
  return { update };
}
