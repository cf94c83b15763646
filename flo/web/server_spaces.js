// The namespaces with what is in them; made and deleted here.

import { textOf } from "./flo.js";
import { attempt, bytesText, confirm, copyable, count, done, fill, h, link, plural } from "./ui.js";
import { filterBox, filterOf, redraw } from "./server_parts.js";

const PAGE = 100;
const AT_ONCE = 8; // questions for the counts of a namespace

export function open(view) {
  let names = null;
  const infos = new Map(); // by name
  let shown = PAGE;
  const told = h("p.soft", { role: "status" });
  const list = h("div.card");
  const more = h("div");
  const box = filterBox(view, "Filter by name", () => { draw(); countShown(); });
  const make = h("button.main", { type: "button", onclick: () => attempt(async () => { if (await view.makeSpace()) await load(); }) }, "New namespace");
  const again = h("button", { type: "button", onclick: () => attempt(load) }, "Count again");
  const help = h("div.card.stack", h("h2", "What a namespace is"), h("p", "A set of keys, queues and streams of its own. Nothing in it is seen from another one. Choose it in the bar above, or by name:"), copyable("flo kv set -n jobs greeting hello"), h("p.soft", "The memory is that of keys, messages and records with their names, as the server counts it."));
  fill(view.root, h("div.row", box, again, view.canWrite && make), told, list, more, help);

  async function load() {
    const found = await view.flo.namespace_list();
    if (view.ended) return;
    names = found.map((each) => textOf(each.namespace));
    infos.clear();
    draw();
    await countShown();
  }

  const fitting = () => {
    const fits = filterOf(view);
    return names.filter((name) => fits(name));
  };

  /** Ask for the counts of those that are shown and not counted yet. */
  async function countShown() {
    const wanted = fitting().slice(0, shown).filter((name) => !infos.has(name));
    const ask = async () => {
      for (let name = wanted.shift(); name !== undefined && !view.ended; name = wanted.shift()) {
        try {
          infos.set(name, await view.flo.namespace_info({ key: name }));
        } catch (error) {
          infos.set(name, { error: error.message }); // deleted meanwhile
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, ask));
    if (!view.ended) draw();
  }

  const number = (title, of) => ({ title, class: "num", cell: (name) => ofInfo(name, (info) => (info[of] ? count(info[of]) : h("span.soft", "0"))) });
  const ofInfo = (name, cell) => {
    const info = infos.get(name);
    return !info || info.error ? h("span.soft", { title: info?.error }, "…") : cell(info);
  };
  const columns = [
    { title: "Namespace", class: "name", cell: (name) => h("a.mono", { href: link("keys", { ns: name === "default" ? null : name }) }, name) },
    number("Keys", "keys"),
    number("Queues", "queues"),
    number("Messages", "messages"),
    number("Dead letters", "dead_messages"),
    number("Streams", "streams"),
    number("Records", "records"),
    number("Groups", "groups"),
    { title: "Memory", class: "num", cell: (name) => ofInfo(name, (info) => bytesText(info.bytes)) },
    view.canWrite && { title: "", cell: (name) => name !== "default" && h("button.quiet.danger", { type: "button", "aria-label": `Delete ${name}`, onclick: () => attempt(() => remove(name)) }, "Delete") },
  ].filter(Boolean);

  function draw() {
    if (!names) return;
    const all = fitting();
    told.textContent = `${plural(all.length, "namespace")}${all.length < names.length ? ` of ${count(names.length)}` : ""}.`;
    redraw(list, "Namespaces", columns, all.slice(0, shown));
    fill(more, all.length > shown && h("button", { type: "button", onclick: () => { shown += PAGE; draw(); countShown(); } }, `${count(Math.min(PAGE, all.length - shown))} more`));
  }

  async function remove(name) {
    const sure = await confirm(`Delete the namespace ${name}?`, "Only an empty namespace can be deleted: with keys, queues or streams in it, the server refuses. Clients that use it are refused from then on.", "Delete");
    if (!sure) return;
    await view.flo.namespace_delete({ key: name });
    const undo = async () => {
      await view.flo.namespace_create({ key: name });
      await changed();
    };
    done(`The namespace ${name} is deleted.`, { command: `flo ns delete ${name}`, undo });
    if (name === view.namespace) location.hash = link("server", { tab: "namespaces", ns: null });
    else await changed();
  }

  async function changed() {
    view.spacesChanged();
    if (!view.ended) await load();
  }

  load().catch((error) => view.fail(error));
  return {
    update() {
      if (document.activeElement !== box) box.value = view.params.get("find") ?? "";
      draw();
    },
  };
}
