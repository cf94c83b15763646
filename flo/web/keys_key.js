// The right of the page of keys: the chosen key. It looks every two seconds whether the key has changed.

import { FloError, textOf, UNAUTHORIZED } from "./flo.js";
import { add, changeTtl, deleteKey, newKey, removeTtl, replaceByFile, save, setCounter } from "./keys_actions.js";
import { editable, editor } from "./keys_edit.js";
import { CLIP, keyCommand, orMissing } from "./keys_store.js";
import { valueView, waysOf } from "./keys_value.js";
import { versionsPane } from "./keys_versions.js";
import { keepFocus } from "./patch.js";
import { attempt, base64url, bytesFor, bytesIn, bytesText, copyable, copyButton, count, duration, facts, fill, h, link, nameOf, shown, when } from "./ui.js";

const LOOK_MS = 2_000;
const WHOLE_MAX = 1 << 20; // of a value that the page shows whole, if it is asked to
const WAYS = { tree: "Tree", text: "Text", hex: "Hex", versions: "Versions" };

/** The pane: { element, update(), wrote(key, version) }. `page` is { view, now, wrote }. */
export function keyPane(page) {
  const { view } = page;
  const edits = new Map(); // by key: what is being edited stays while another key is looked at
  const element = h("section.card.stack", { "aria-label": "The chosen key" });
  const [buttons, about, tabs, body] = [h("div.row"), h("div"), h("nav.tabs", { "aria-label": "How the value is shown" }), h("div.stack")];
  const notice = h("p.warn", { role: "status", hidden: true });
  const left = h("span"); // of the time to live
  let item = null;

  function update() {
    const key = bytesIn(view.params, "key");
    const id = key && base64url(key);
    if (item && item.id === id) return void draw();
    item = key && { key, id, info: undefined, value: null, valueVersion: 0, whole: false, wanted: CLIP, own: -1, versions: null };
    if (!item) return void fill(element, h("p.soft", "Choose a key on the left."));
    notice.hidden = true;
    const back = h("a.back", { href: link("keys", { q: view.params.get("q") }) }, "Back to the list");
    fill(element, back, h("div.head", h("h2.grow", nameOf(key, 300)), copyButton(textOf(key) ?? shown(key), "Copy name")), buttons, notice, about, tabs, body);
    fill(body, h("p.soft", "Reading…"));
    [buttons, about, tabs].forEach((each) => fill(each));
    look();
  }

  const look = view.every(LOOK_MS, async () => {
    const mine = item;
    if (!mine) return;
    try {
      const info = await orMissing(view.run("kv_info", { key: mine.key }));
      if (view.ended || mine !== item) return;
      const before = mine.info;
      mine.info = info;
      if (before === undefined || before?.version !== info?.version) await arrived(mine, before);
      tick();
    } catch (error) {
      if (!(error instanceof FloError) || error.status === UNAUTHORIZED) throw error;
      if (mine === item) fill(body, h("p.bad", error.message));
    }
  });

  /** The key has a version that the page does not show yet. */
  async function arrived(mine, before) {
    const { info } = mine;
    notice.hidden = before === undefined || mine.own === (info?.version ?? 0);
    notice.textContent = !info ? "It is gone: somebody else deleted it, or it has expired." : `Somebody else wrote it at ${new Date(page.now()).toLocaleTimeString()}: ${before ? `version ${before.version} became ${info.version}` : `version ${info.version} is there`}.`;
    if (edits.has(mine.id)) {
      notice.hidden = true;
      edits.get(mine.id).changed(info);
    }
    await read(mine);
    if (mine === item && !view.ended) draw();
  }

  async function read(mine) {
    if (mine.versions) await mine.versions.load();
    const answer = mine.info && (await orMissing(view.run("kv_get", { key: mine.key, clip: mine.wanted })));
    if (mine.info && !answer) return;
    mine.value = answer?.value ?? null;
    mine.valueVersion = answer?.version ?? 0;
    mine.whole = !answer || answer.value.length < mine.wanted || answer.value.length === mine.info.bytes;
  }

  const draw = () => keepFocus(element, drawNow);

  function drawNow() {
    if (item.info === undefined || (item.info && item.value === null)) return;
    const edit = edits.get(item.id);
    const way = wayNow();
    fill(buttons, edit ? null : buttonsOf());
    buttons.hidden = !buttons.children.length;
    fill(about, aboutOf());
    tick();
    tabs.hidden = Boolean(edit);
    const ways = item.info ? [...waysOf(item.info.kind, item.value, item.whole), "versions"] : ["versions"];
    fill(tabs, Object.keys(WAYS).filter((each) => ways.includes(each)).map((each) => h("a", { href: link("keys", { q: view.params.get("q"), ...bytesFor("key", item.key), as: each }), "aria-current": each === way ? "page" : null }, WAYS[each])));
    if (edit) return void (body.firstChild !== edit.element && fill(body, edit.element));
    if (way === "versions") return drawVersions();
    item.versions = null;
    return void fill(body, counter(), valueView(way, item.value, item.whole), rest(), commandOf());
  }

  function wayNow() {
    if (!item.info) return "versions";
    const asked = view.params.get("as");
    const ways = waysOf(item.info.kind, item.value, item.whole);
    return asked === "versions" || ways.includes(asked) ? asked : ways[0];
  }

  function drawVersions() {
    if (item.versions) {
      if (!body.contains(item.versions.element)) fill(body, gone(), item.versions.element);
      return void attempt(item.versions.draw);
    }
    item.versions = versionsPane(page, item);
    fill(body, gone(), item.versions.element);
    return void attempt(item.versions.load);
  }

  function gone() {
    if (item.info) return null;
    const again = () => attempt(async () => (await newKey(page, item.key)) && look());
    return h("div.stack", h("p", "There is no key of this name. What is kept of it stands below."), view.canWrite && h("div.row", h("button", { type: "button", onclick: again }, "Make it…")));
  }

  function buttonsOf() {
    if (!item.info) return null;
    const mine = item;
    const button = (text, run, kind = "") => h(`button${kind}`, { type: "button", onclick: () => attempt(() => run(page, mine)) }, text);
    const size = bytesText(item.info.bytes);
    const canEdit = item.whole && item.info.kind !== "counter" && editable(item.value);
    return [
      view.canWrite && canEdit && button("Edit", () => edit(mine)),
      button(item.whole ? "Download" : `Download all ${size}`, save),
      view.canWrite && button("Replace by a file…", replaceByFile),
      view.canWrite && button("Delete…", deleteKey, ".danger"),
    ];
  }

  function edit(mine) {
    const leave = () => {
      edits.delete(mine.id);
      if (mine.id === item?.id && !view.ended) draw();
      look();
    };
    edits.set(mine.id, editor(page, mine, leave));
    draw();
    edits.get(mine.id).focus();
  }

  function aboutOf() {
    const { info } = item;
    if (!info) return null;
    const mine = item;
    const button = (text, run) => h("button.quiet", { type: "button", "aria-label": `${text.replace("…", "")} the time to live`, onclick: () => attempt(() => run(page, mine)) }, text);
    const write = view.canWrite && !edits.has(mine.id) && [button(info.deadline ? "Change…" : "Set…", changeTtl), info.deadline ? button("Remove", removeTtl) : null];
    return facts(["Kind", { string: "string", counter: "counter", json: "JSON document" }[info.kind] ?? info.kind], ["Version", h("span.mono", info.version)], ["Size", `${bytesText(info.bytes)}${info.bytes >= 1024 ? ` (${count(info.bytes)} B)` : ""}`], ["Expires", h("span.row", left, write)]);
  }

  /** The time to live, as it is now. */
  function tick() {
    const deadline = item?.info?.deadline;
    if (!item?.info) return;
    const ms = deadline - page.now();
    left.textContent = !deadline ? "never" : ms <= 0 ? "now" : ms < 3_600_000 ? `in ${clockText(ms)}` : `in ${duration(ms)}`;
    left.title = deadline ? when(deadline) : "";
  }

  function counter() {
    if (item.info.kind !== "counter" || !view.canWrite) return null;
    const mine = item;
    const button = (text, label, run) => h("button", { type: "button", "aria-label": label, onclick: () => attempt(run) }, text);
    return h("div.row", button("+1", "Add one", () => add(page, mine, 1)), button("−1", "Take one away", () => add(page, mine, -1)), button("Set the number…", null, () => setCounter(page, mine)));
  }

  /** What is not shown of a long value. */
  function rest() {
    if (item.whole) return null;
    const { bytes } = item.info;
    const mine = item;
    const all = async () => {
      mine.wanted = WHOLE_MAX;
      await read(mine);
      if (mine === item) draw();
    };
    return h("div.row", h("span.soft", `The first ${bytesText(item.value.length)} of ${bytesText(bytes)}.`), bytes <= WHOLE_MAX && h("button", { type: "button", onclick: () => attempt(all) }, `Show all ${bytesText(bytes)}`));
  }

  function commandOf() {
    const command = keyCommand(view, "get", item.key);
    return command && h("details", h("summary", "On the command line"), copyable(command));
  }

  /** This page has written a key itself. */
  function wrote(key, version) {
    if (item && base64url(key) === item.id) item.own = version;
    look();
  }

  const timer = setInterval(tick, 1000);
  view.onEnd(() => clearInterval(timer));
  return { element, update, wrote };
}

/** 59:03, counting down. */
function clockText(ms) {
  const seconds = Math.ceil(ms / 1000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}
