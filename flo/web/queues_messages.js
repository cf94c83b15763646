// The messages of a queue that are ready, in the order of their delivery, and one of them.

import { keepFocus } from "./patch.js";
import { CLIP, NARROW, SHOWN_BYTES, isNarrow, payloadView } from "./queues_payload.js";
import { enqueue } from "./queues_actions.js";
import { ago, attempt, bytesFor, count, download, emptyState, facts, fill, h, link, plural, preview, table, when } from "./ui.js";

const LIMIT = 100; // there is no cursor: whoever wants to see more takes messages

/** `element` is the tab; `update()` follows the address, `load()` looks again. `stats()` gives the queue's newest counts. */
export function messagesTab(view, queue, stats, changed, teach) {
  const list = h("section.card.stack");
  const side = h("section.card.stack.beside", { "aria-label": "Message" });
  const element = h("div", list, side);
  const key = { key: queue };
  let messages = null;
  let at = 0; // when they were looked at
  let ready = 0; // how many there were

  async function load() {
    const [found, now] = await Promise.all([view.run("queue_peek", { ...key, limit: LIMIT, clip: CLIP }), view.run("queue_stats", key)]);
    if (view.ended) return;
    [messages, at, ready] = [found, Date.now(), now.ready];
    keepFocus(list, drawList);
    await drawOne();
  }

  const chosen = () => Number(view.params.get("message")) || 0;

  function drawList() {
    const { delayed, leased } = stats() ?? { delayed: 0, leased: 0 };
    const hidden = delayed || leased ? ` ${count(delayed)} delayed and ${count(leased)} leased messages are not in this list.` : "";
    const again = h("button", { type: "button", onclick: () => attempt(load) }, "Look again");
    const title = h("div.row", h("h2.grow", messages.length < ready ? `The next ${count(messages.length)} of ${count(ready)} messages` : `${plural(messages.length, "ready message")}`), again);
    if (!messages.length) return void fill(list, title, emptyState(`No message is ready.${hidden} Put one in:`, ...teach()));
    const short = messages.length < Math.min(ready, LIMIT) ? " They are large: the list ends near 16 MiB." : "";
    const columns = [
      { title: "Seq", class: "num", cell: (row) => h("a", { href: link("queues", { ...bytesFor("queue", queue), tab: "messages", message: row.seq }) }, String(row.seq)) },
      { title: "Payload", class: "name", cell: (row) => preview(row.payload, row.payload.length < CLIP, chosen() ? NARROW : undefined) },
      !chosen() && { title: "Priority", class: "num", cell: (row) => row.priority },
      !chosen() && { title: "Attempts", class: "num", cell: (row) => row.attempts },
      { title: "Enqueued", cell: (row) => ago(row.time) },
    ].filter(Boolean);
    fill(list, title, h("p.soft", `In the order of delivery, as of ${new Date(at).toLocaleTimeString()}. Looking takes nothing out.${short}${hidden}`), table("Ready messages", columns, messages, { selected: (row) => row.seq === chosen() }));
    return undefined;
  }

  /** The message at this place of the order, with `clip` bytes of its payload; null if another one is there by now. */
  async function look(seq, clip) {
    const place = messages.findIndex((message) => message.seq === seq);
    const found = place < 0 ? [] : await view.run("queue_peek", { ...key, limit: place + 1, clip });
    return found.find((message) => message.seq === seq) ?? null;
  }

  async function drawOne() {
    const seq = chosen();
    element.className = seq ? "split" : "";
    side.hidden = !seq;
    list.hidden = seq > 0 && isNarrow();
    if (!seq || !messages) return;
    const listed = messages.find((message) => message.seq === seq);
    const message = listed && listed.payload.length < CLIP ? listed : await look(seq, SHOWN_BYTES);
    if (view.ended || chosen() !== seq) return;
    const close = h("a.button", { href: link("queues", { ...bytesFor("queue", queue), tab: "messages" }) }, "Close");
    if (!message) {
      fill(side, h("div.row", h("h2.grow", `Message ${seq}`), close), h("p", `It is not among the next ${LIMIT} messages: it was delivered meanwhile, it is delayed, or others go first.`));
      return;
    }
    const whole = message.payload.length < SHOWN_BYTES;
    const all = async () => (whole ? message : await look(seq));
    const gone = () => {
      throw new Error(`Message ${seq} is not ready any more: it was delivered meanwhile. Look again.`);
    };
    const duplicate = async () => {
      const { payload, priority } = (await all()) ?? gone();
      if ((await enqueue(view, queue, { payload, priority })) !== null) changed();
    };
    fill(side,
      h("div.row", h("h2.grow", `Message ${seq}`),
        view.canWrite && h("button", { type: "button", onclick: () => attempt(duplicate) }, "Duplicate"),
        h("button", { type: "button", onclick: () => attempt(async () => download(((await all()) ?? gone()).payload, `message-${seq}`)) }, whole ? "Download" : "Download the whole"),
        close),
      facts(["Priority", String(message.priority)], ["Attempts", String(message.attempts)], ["Enqueued", when(message.time)]),
      payloadView(message.payload, whole, view.params.get("as"), (as) => {
        view.set({ as }, { replace: true });
        attempt(drawOne);
      }));
  }

  function update() {
    if (!messages) return void attempt(load);
    keepFocus(list, drawList);
    return void attempt(drawOne);
  }

  return { element, load, update };
}
