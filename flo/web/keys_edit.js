// Editing a value as text. It is saved only over the version that it began with; where somebody else was faster, both are shown.

import { bytesOf, textOf } from "./flo.js";
import { diffView } from "./diff.js";
import { isDocument, indented } from "./keys_json.js";
import { CLIP, isConflict, orMissing, store, storeCommand } from "./keys_store.js";
import { attempt, bytesText, done, field, fill, h, nameOf } from "./ui.js";

/** A value as a field for text can hold it: { text, ends } with the ends of its lines; null where it would change it. */
export function editable(bytes) {
  const text = bytes.length <= CLIP ? textOf(bytes) : null;
  if (text === null || !text.includes("\r")) return text === null ? null : { text, ends: "\n" };
  return /[\r\n]/.test(text.replaceAll("\r\n", "")) ? null : { text: text.replaceAll("\r\n", "\n"), ends: "\r\n" };
}

/**
 * A form for the value of a key. `leave()` ends it. It gives { element, changed(info) }; call `changed` with what the server says of the key
 * when its version is another.
 */
export function editor(page, { key, info, value, valueVersion }, leave) {
  const { view } = page;
  const { text, ends } = editable(value);
  const area = h("textarea", { spellcheck: "false", rows: Math.min(Math.max(text.split("\n").length + 1, 6), 24), value: text, dir: "auto" });
  const note = h("p.warn", { role: "status", hidden: true });
  const problem = h("p.bad", { role: "alert", hidden: true });
  const conflict = h("div.stack");
  const format = isDocument(text) && h("button", { type: "button", onclick: indent }, "Indent");
  const go = h("button.main", { type: "submit" }, "Save");
  const form = h("form.stack", note, conflict, field(info.kind === "json" ? "JSON document" : "Text", area), problem, h("div.row", go, h("button", { type: "button", onclick: leave }, "Cancel"), format, ends !== "\n" && h("span.soft", "Its lines end in CR LF; they will again.")));
  let cas = valueVersion; // what the person knows of
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save();
  });
  area.addEventListener("keydown", (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && save());

  const written = () => bytesOf(area.value.replaceAll("\n", ends));

  function indent() {
    const better = indented(area.value);
    problem.hidden = better !== null;
    problem.textContent = "This is no JSON as it stands.";
    if (better !== null) area.value = better;
  }

  async function save() {
    const mine = written();
    problem.hidden = mine.length <= CLIP;
    problem.textContent = `This has ${bytesText(mine.length)}; the page edits ${bytesText(CLIP)} at most. Replace the value by a file.`;
    if (mine.length > CLIP || go.disabled) return;
    go.disabled = true;
    const given = { kind: info.kind === "counter" ? "string" : info.kind, value: mine, cas };
    try {
      const version = await store(view, key, given);
      page.wrote(key, version);
      leave();
      done(["The key ", nameOf(key), ` was saved as version ${version}.`], { command: storeCommand(view, key, given), undo: given.cas === valueVersion && (() => back(version)) });
    } catch (error) {
      if (isConflict(error, cas)) await attempt(() => meet(mine));
      else {
        problem.hidden = false;
        problem.textContent = error.message;
      }
    } finally {
      go.disabled = false;
    }
  }

  async function back(version) {
    page.wrote(key, await store(view, key, { kind: info.kind, value, cas: version }));
  }

  /** Show theirs and mine. */
  async function meet(mine) {
    const theirs = await orMissing(view.run("kv_get", { key, clip: CLIP }));
    const version = theirs?.version ?? 0;
    const overwrite = () => {
      cas = version;
      save();
    };
    const title = theirs ? `theirs, version ${version}` : "theirs: deleted";
    note.hidden = true;
    fill(
      conflict,
      h("h3", theirs ? "Somebody else changed this key" : "Somebody else deleted this key, or it expired"),
      h("p", `You began with version ${valueVersion}; ${theirs ? `it has version ${version} now` : "it is gone now"}. Nothing was saved. Below is what would change if you overwrite it; you can also go on editing.`),
      diffView(theirs ? theirs.value : null, mine, [title, "mine"]),
      h("div.row", h("button.danger", { type: "button", onclick: overwrite }, "Overwrite theirs"), h("button", { type: "button", onclick: leave }, "Take theirs")),
    );
    go.hidden = true; // the two buttons are the two ways to go on
    area.addEventListener("input", () => (go.hidden = false), { once: true });
    conflict.scrollIntoView({ block: "nearest" });
  }

  function changed(now) {
    if (conflict.children.length || now?.version === valueVersion) return;
    note.hidden = false;
    note.textContent = now ? `Somebody else changed this key meanwhile: it has version ${now.version} now, you edit version ${valueVersion}. Saving shows both.` : "This key is gone meanwhile: it was deleted, or has expired. Saving asks you what to do.";
  }

  return { element: form, changed, focus: () => area.focus() };
}
