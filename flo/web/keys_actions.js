// What is done to a key besides editing it as text: its time to live, a counter's number, a file in place of the value, deletion; a new key.
//
// `page` is { view, now, wrote }: the server's clock, and `wrote(key, version)`, to call when this page has written a key (0: deleted it).
// `item` is the chosen key: { key, info, value, valueVersion, whole }.

import { textOf } from "./flo.js";
import { nameField } from "./keys_names.js";
import { isConflict, keyCommand, store, storeCommand, valueOfVersion } from "./keys_store.js";
import { bytesText, confirm, count, dialog, done, download, field, h, nameOf, shown } from "./ui.js";

const VALUE_MAX = 16 << 20;
const UNITS = [["seconds", 1], ["minutes", 60], ["hours", 3600], ["days", 86_400]];

// -- time to live ------------------------------------------------------------------------------------------------------------------------

function ttlField(label, given = {}) {
  const input = h("input.grow", { type: "number", min: 1, step: 1, "aria-label": `${label}: how many`, ...given });
  const unit = h("select", { "aria-label": `${label}: unit` }, UNITS.map(([name, seconds]) => h("option", { value: seconds }, name)));
  return { element: h("label.field", label, h("span.row", input, unit)), input, seconds: () => Number(input.value) * Number(unit.value) };
}

/** Seconds until a deadline, at least 1; 0 for none. Rejects a deadline that is over. */
function secondsLeft(page, deadline) {
  const left = deadline && Math.ceil((deadline - page.now()) / 1000);
  if (deadline && left < 1) throw new Error("Its time to live is over meanwhile, so it is not put back.");
  return left;
}

/** Put a deadline back, if the key still has the version that took it away. */
async function backTo(page, key, deadline, cas) {
  const left = secondsLeft(page, deadline);
  const { version } = left ? await page.view.run("kv_touch", { key, ttl: left, cas_version: cas }) : await page.view.run("kv_persist", { key, cas_version: cas });
  page.wrote(key, version);
}

export async function changeTtl(page, { key, info }) {
  const ttl = ttlField("Expires after", { required: true });
  const submit = async () => {
    const { version } = await page.view.run("kv_touch", { key, ttl: ttl.seconds(), cas_version: info.version });
    page.wrote(key, version);
    done(["The key ", nameOf(key), ` expires in ${count(ttl.seconds())} s.`], { command: keyCommand(page.view, "touch", key, { rest: [ttl.seconds()] }), undo: () => backTo(page, key, info.deadline, version) });
  };
  await dialog({ title: "Time to live", children: [ttl.element], action: "Set", submit });
}

export async function removeTtl(page, { key, info }) {
  const { version } = await page.view.run("kv_persist", { key, cas_version: info.version });
  page.wrote(key, version);
  done(["The key ", nameOf(key), " does not expire."], { command: keyCommand(page.view, "persist", key), undo: () => backTo(page, key, info.deadline, version) });
}

// -- counters ----------------------------------------------------------------------------------------------------------------------------

export async function add(page, { key }, delta) {
  const { value, version } = await page.view.run("kv_incr", { key, delta });
  page.wrote(key, version);
  done(["The counter ", nameOf(key), ` is ${value} now.`], { command: keyCommand(page.view, "incr", key, { rest: delta === 1 ? [] : [delta] }), undo: () => add(page, { key }, -delta) });
}

export async function setCounter(page, { key, info, value }) {
  const input = h("input", { required: true, inputmode: "numeric", pattern: "0|-?[1-9][0-9]{0,18}", title: "a whole number of 64 bits", value: textOf(value) });
  const submit = async () => {
    const given = { kind: "counter", value: input.value, cas: info.version };
    const version = await store(page.view, key, given);
    page.wrote(key, version);
    done(["The counter ", nameOf(key), ` is ${input.value} now.`], { command: storeCommand(page.view, key, given), undo: async () => page.wrote(key, await store(page.view, key, { kind: "counter", value, cas: version })) });
  };
  await dialog({ title: "Set the counter", children: [field("Number", input)], action: "Set", submit });
}

// -- files -------------------------------------------------------------------------------------------------------------------------------

export async function save({ view }, { key }) {
  const { value } = await view.run("kv_get", { key });
  download(value, shown(key).replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 100) || "value");
}

export async function replaceByFile(page, { key, info }) {
  const input = h("input", { type: "file", required: true });
  const json = h("input", { type: "checkbox", checked: true });
  const children = [h("p", "The value becomes the file's content; the time to live stays. The present value stays among the versions."), field("File", input)];
  if (info.kind === "json") children.push(h("label.check", json, "It is a JSON document"));
  const submit = async () => {
    const [file] = input.files;
    if (file.size > VALUE_MAX) throw new Error(`The file has ${bytesText(file.size)}; a value has at most ${bytesText(VALUE_MAX)}.`);
    const given = { kind: info.kind === "json" && json.checked ? "json" : "string", value: new Uint8Array(await file.arrayBuffer()), cas: info.version };
    const version = await store(page.view, key, given);
    page.wrote(key, version);
    done(["The key ", nameOf(key), ` has the ${bytesText(file.size)} of ${file.name}, as version ${version}.`], { command: storeCommand(page.view, key, given) });
  };
  await dialog({ title: "Replace the value by a file", children, action: "Replace", submit });
}

// -- deletion ----------------------------------------------------------------------------------------------------------------------------

/** Whether a deleted key's last version can be read again. */
async function keepsHistory(view) {
  const { settings } = await view.run("server_view", { value: "settings", limit: 1000 });
  return settings.some((setting) => setting.name === "kv.history_depth" && setting.value > 1);
}

export async function deleteKey(page, item) {
  const { view } = page;
  const { key, info } = item;
  const value = item.whole && item.valueVersion === info.version ? item.value : null; // at hand
  const back = value !== null || (await keepsHistory(view));
  const text = [nameOf(key), ` (${bytesText(info.bytes)}) will be deleted. `, back ? "It can be put back, as long as its versions are kept." : "It cannot be put back: this server keeps no versions (kv.history_depth)."];
  if (!(await confirm("Delete the key?", text, "Delete"))) return;
  await view.run("kv_delete", { key, cas_version: info.version });
  page.wrote(key, 0);
  async function undo() {
    const ttl = secondsLeft(page, info.deadline);
    try {
      const version = await store(view, key, { kind: info.kind, value: value ?? (await valueOfVersion(view, key, info.version)), cas: 0, ttl });
      page.wrote(key, version);
      done(["The key ", nameOf(key), ` is back, as version ${version}.`]);
    } catch (error) {
      if (isConflict(error, 0)) throw new Error(`The key exists again, at version ${error.version}. It was left as it is.`);
      throw error;
    }
  }
  done(["The key ", nameOf(key), " was deleted."], { command: keyCommand(view, "delete", key), undo: back && undo });
}

// -- a new key ---------------------------------------------------------------------------------------------------------------------------

/** Ask for a new key, of this name if one is given, and make it; gives its name, or null. */
export function newKey(page, name = null) {
  const box = name ? { element: h("p", nameOf(name)), bytes: () => name } : nameField();
  const kind = h("select", h("option", { value: "string" }, "Text"), h("option", { value: "json" }, "JSON document"));
  const value = h("textarea", { spellcheck: "false" });
  const ttl = ttlField("Expires after (empty: never)");
  const submit = async () => {
    const key = box.bytes();
    const given = { kind: kind.value, value: value.value, cas: 0, ttl: ttl.seconds() };
    try {
      const version = await store(page.view, key, given);
      page.wrote(key, version);
      done(["The key ", nameOf(key), ` is there, as version ${version}.`], { command: storeCommand(page.view, key, given) });
    } catch (error) {
      if (isConflict(error, 0)) throw new Error("There is a key of this name already. Open it to change it.");
      throw error;
    }
    return key;
  };
  return dialog({ title: "New key", children: [box.element, field("Kind", kind), field("Value", value), ttl.element], action: "Create", submit });
}
