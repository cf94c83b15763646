// The dead letters of a queue, in pages, oldest first; requeue or delete one, those that are ticked, or all.

import { keepFocus } from "./patch.js";
import { allDead, called, deadCommand, enqueue } from "./queues_actions.js";
import { CLIP, NARROW, SHOWN_BYTES, isNarrow, payloadView } from "./queues_payload.js";
import { ago, attempt, bytesFor, confirm, count, done, download, facts, fill, h, link, plural, preview, table, when } from "./ui.js";

const PAGE = 100;
const REQUEUE = { operation: "queue_dlq_requeue", answer: "requeued", flag: "--requeue", title: "Requeue", going: "Requeueing", after: "back in" };
const DELETE = { operation: "queue_dlq_delete", answer: "deleted", flag: "--delete", title: "Delete", going: "Deleting", after: "deleted from" };

/** `element` is the tab; `update()` follows the address, `load()` lists again. */
export function deadTab(view, queue, changed) {
  const list = h("section.card.stack");
  const side = h("section.card.stack.beside", { "aria-label": "Dead letter" });
  const progress = h("div");
  const parts = h("div", list, side);
  const element = h("div.stack", progress, parts);
  const before = new Map(); // the cursor of a page, by the one of the page behind it
  const ticked = new Set();
  let letters = null;
  let more = false;
  let cursor = null; // the one whose page is shown
  let total = 0;
  let busy = false;

  const chosen = () => Number(view.params.get("message")) || 0;
  const here = (state) => link("queues", { ...bytesFor("queue", queue), tab: "dead", after: cursor, ...state });

  async function load() {
    const wanted = view.params.get("after") ?? "";
    const options = { key: queue, limit: PAGE + 1, clip: CLIP };
    const [found, now] = await Promise.all([view.run("queue_dlq_list", wanted ? { ...options, cursor: wanted } : options), view.run("queue_stats", { key: queue })]);
    if (view.ended || wanted !== (view.params.get("after") ?? "")) return;
    if (!found.length && wanted) return void view.set({ after: null, message: null }); // the last page is empty by now
    const last = found.at(Math.min(found.length, PAGE) - 1);
    const cut = found.length && found.length <= PAGE && found.length < now.dead; // an answer may have ended at 16 MiB: is there one behind it?
    const behind = cut ? await view.run("queue_dlq_list", { key: queue, limit: 1, clip: 0, cursor: String(last.seq) }) : [];
    if (view.ended) return;
    [cursor, letters, total] = [wanted, found.slice(0, PAGE), now.dead];
    more = found.length > PAGE || behind.length > 0;
    ticked.clear();
    if (letters.length) before.set(String(letters.at(-1).seq), cursor);
    keepFocus(list, drawList);
    await drawOne();
  }

  // -- what is done to them ------------------------------------------------------------------------------------------------------------

  const act = async (kind, seqs) => (await view.run(kind.operation, { key: queue, value: seqs }))[kind.answer];

  async function sure(kind, number) {
    if (kind !== DELETE) return true;
    return confirm("Delete dead letters", `${plural(number, "dead letter")} of ${called(queue)} go for good. This cannot be undone.`, `Delete ${plural(number, "dead letter")}`);
  }

  function told(kind, number, wanted, seqs) {
    const left = number < wanted ? ` of ${count(wanted)}` : "";
    done(`${count(number)}${left} dead ${wanted === 1 ? "letter" : "letters"} ${wanted === 1 ? "is" : "are"} ${kind.after} ${called(queue)}.${left && !seqs ? " The command does the rest." : ""}`, { command: deadCommand(view, queue, kind.flag, seqs) });
  }

  async function some(kind, seqs) {
    if (!seqs.length || !(await sure(kind, seqs.length))) return;
    told(kind, await act(kind, seqs), seqs.length, seqs);
    if (seqs.includes(chosen())) view.set({ message: null }, { replace: true });
    changed();
    await load();
  }

  async function every(kind) {
    const { dead } = await view.run("queue_stats", { key: queue });
    if (!dead || !(await sure(kind, dead))) return;
    busy = true;
    drawTools();
    const number = await allDead(view, queue, dead, kind.going, progress, (seqs) => act(kind, seqs));
    busy = false;
    told(kind, number, dead, null);
    if (view.ended) return;
    if (view.params.get("tab") === "dead") view.set({ after: null, message: null }, { replace: true });
    changed();
    await load();
  }

  // -- the list ------------------------------------------------------------------------------------------------------------------------

  const tools = h("div.row", { role: "group", "aria-label": "Do with dead letters" });
  const all = h("input", { type: "checkbox", onchange: () => tickAll(all.checked) });

  const button = (text, run, attributes = {}) => h(`button${attributes.danger ? ".danger" : ""}`, { type: "button", disabled: busy || attributes.disabled, onclick: () => attempt(run) }, text);

  function drawTools() {
    const seqs = [...ticked];
    const none = { disabled: !seqs.length };
    fill(tools,
      button(`Requeue selected (${seqs.length})`, () => some(REQUEUE, seqs), none),
      button(`Delete selected (${seqs.length})`, () => some(DELETE, seqs), { ...none, danger: true }),
      h("span.grow"),
      button(`Requeue all ${count(total)}`, () => every(REQUEUE)),
      button(`Delete all ${count(total)}`, () => every(DELETE), { danger: true }));
    all.checked = seqs.length > 0 && seqs.length === letters.length;
    all.indeterminate = seqs.length > 0 && !all.checked;
  }

  function tick(seq, on) {
    if (on) ticked.add(seq);
    else ticked.delete(seq);
    drawTools();
  }

  function tickAll(on) {
    for (const box of list.querySelectorAll("tbody input")) box.checked = on;
    for (const { seq } of letters) if (on) ticked.add(seq); else ticked.delete(seq);
    drawTools();
  }

  function drawList() {
    const again = h("button", { type: "button", onclick: () => attempt(load) }, "Look again");
    if (!letters.length) {
      fill(list, h("div.row", h("h2.grow", "No dead letters"), again), h("p.soft", "A message becomes a dead letter when its attempts are spent, or when a worker sends it here. It waits here until it is requeued or deleted."));
      return;
    }
    const columns = [
      view.canWrite && { title: h("label.check", all, "All"), cell: (row) => h("input", { type: "checkbox", "aria-label": `Select ${row.seq}`, checked: ticked.has(row.seq), onchange: (event) => tick(row.seq, event.target.checked) }) },
      { title: "Seq", class: "num", cell: (row) => h("a", { href: here({ message: row.seq }) }, String(row.seq)) },
      { title: "Payload", class: "name", cell: (row) => preview(row.payload, row.payload.length < CLIP, chosen() ? NARROW : undefined) },
      !chosen() && { title: "Attempts", class: "num", cell: (row) => row.attempts },
      !chosen() && { title: "Priority", class: "num", cell: (row) => row.priority },
      { title: "Died", cell: (row) => ago(row.time) },
    ].filter(Boolean);
    if (view.canWrite) drawTools();
    const back = before.get(cursor);
    const pages = [
      cursor && h("a.button", { href: here({ after: null }) }, "First page"),
      cursor && back && h("a.button", { href: here({ after: back }) }, "Previous page"),
      more && h("a.button", { href: here({ after: letters.at(-1).seq }) }, "Next page"),
    ];
    const title = total > letters.length ? `${count(letters.length)} of ${plural(total, "dead letter")}` : plural(letters.length, "dead letter");
    fill(list, h("div.row", h("h2.grow", title), again), h("p.soft", "Oldest first. Requeued messages begin anew: their failed attempts no longer count."), view.canWrite && tools, table("Dead letters", columns, letters, { selected: (row) => row.seq === chosen() }), h("div.row", pages));
  }

  // -- one of them ---------------------------------------------------------------------------------------------------------------------

  /** A letter of this page with `clip` bytes of its payload, null if it is gone: the list goes on behind the one before it. */
  async function look(seq, clip) {
    const place = letters.findIndex((letter) => letter.seq === seq);
    if (place < 0) return null;
    const behind = place ? String(letters[place - 1].seq) : cursor;
    const [found] = await view.run("queue_dlq_list", { key: queue, limit: 1, clip, cursor: behind || undefined });
    return found?.seq === seq ? found : null;
  }

  async function drawOne() {
    const seq = chosen();
    parts.className = seq ? "split" : "";
    side.hidden = !seq;
    list.hidden = seq > 0 && isNarrow();
    if (!seq || !letters) return;
    const listed = letters.find((letter) => letter.seq === seq);
    const letter = listed && listed.payload.length < CLIP ? listed : await look(seq, SHOWN_BYTES);
    if (view.ended || chosen() !== seq) return;
    const close = h("a.button", { href: here({}) }, "Close");
    if (!letter) {
      fill(side, h("div.row", h("h2.grow", `Dead letter ${seq}`), close), h("p", "It is not on this page of the dead letters any more. Look again."));
      return;
    }
    const whole = letter.payload.length < SHOWN_BYTES;
    const payload = async () => {
      const found = whole ? letter : await look(seq);
      if (!found) throw new Error(`Dead letter ${seq} is gone, or the one before it. Look again.`);
      return found.payload;
    };
    const duplicate = async () => {
      if ((await enqueue(view, queue, { payload: await payload(), priority: letter.priority })) !== null) changed();
    };
    fill(side,
      h("div.row", h("h2.grow", `Dead letter ${seq}`), close),
      h("div.row",
        view.canWrite && [button("Requeue", () => some(REQUEUE, [seq])), button("Duplicate", duplicate), button("Delete", () => some(DELETE, [seq]), { danger: true })],
        button(whole ? "Download" : "Download the whole", async () => download(await payload(), `dead-letter-${seq}`))),
      facts(["Attempts", String(letter.attempts)], ["Died", when(letter.time)], ["Priority", String(letter.priority)]),
      payloadView(letter.payload, whole, view.params.get("as"), (as) => {
        view.set({ as }, { replace: true });
        attempt(drawOne);
      }));
  }

  function update() {
    if (!letters || (view.params.get("after") ?? "") !== cursor) return void attempt(load);
    keepFocus(list, drawList);
    return void attempt(drawOne);
  }

  return { element, load, update };
}
