// flo.js as a client by itself: every operation is called once or more, with answers of every form.
import assert from "node:assert/strict";
import { connect } from "node:net";
import { scenario } from "./harness.mjs";

const BYTES = Uint8Array.of(0xff, 0, 0x80, 10); // no UTF-8
const HEX = "hex:ff00800a"; // how `plain` shows them
const BIG = 2n ** 63n + 1n;
const MISSING = { status: 1 };

/** Goes into the page: an answer or refusal with bytes as text, or as hexadecimal where they are no UTF-8, and BigInts as `5n`. */
function plain(value) {
  if (value instanceof Uint8Array) return window.lib.textOf(value) ?? `hex:${Array.from(value, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  if (typeof value === "bigint") return `${value}n`;
  if (value instanceof Error) return { error: value.name, status: value.status, message: value.message, version: value.version };
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
  return value;
}

/** Assert that an object has these, and perhaps more. */
const has = (found, wanted) => assert.deepEqual(Object.fromEntries(Object.keys(wanted).map((name) => [name, found[name]])), wanted);

async function keys(ask) {
  const { version } = await ask("kv_put", { key: BYTES, value: "one", ttl: 100 });
  assert.ok(version > 0);
  assert.deepEqual(await ask("kv_get", { key: BYTES }), { version, value: "one" });
  has(await ask("kv_put", { key: BYTES, value: "x", if_absent: true }), { error: "FloError", status: 3, version });
  has(await ask("kv_cas", { key: BYTES, value: "x", cas_version: BIG }), { status: 3, version });
  const second = await ask("kv_cas", { key: BYTES, value: BYTES, cas_version: version, keep_ttl: true });
  has(await ask("kv_info", { key: BYTES }), { version: second.version, bytes: 4, kind: "string" });
  assert.deepEqual((await ask("kv_history", { key: BYTES })).map(({ value, tombstone }) => [value, tombstone]), [[HEX, false], ["one", false]]);
  assert.deepEqual(await ask("kv_get", { key: BYTES, clip: 2 }), { version: second.version, value: "hex:ff00" });
  assert.ok((await ask("kv_touch", { key: BYTES, ttl: 50 })).version > second.version);
  assert.ok((await ask("kv_persist", { key: BYTES })).version > second.version);

  assert.equal((await ask("kv_batch_put", { value: [{ key: "b1", value: BYTES }, { key: "b2", value: "two", ttl: 100 }] })).length, 2);
  const found = await ask("kv_mget", { value: ["b1", "none", "b2"] });
  assert.deepEqual(found.map(({ found: there, value }) => [there, value]), [[true, HEX], [false, ""], [true, "two"]]);
  const first = await ask("kv_scan", { key: "b", limit: 1 });
  has(first, { has_more: true, items: [{ key: "b1", value: HEX }] });
  const rest = await ask("kv_scan", { key: "b", cursor: first.cursor, keys_only: true });
  has(rest, { has_more: false, cursor: "", items: [{ key: "b2", value: "" }] });

  assert.equal((await ask("kv_incr", { key: "n", delta: 9007199254740993n })).value, "9007199254740993n");
  assert.equal((await ask("kv_incr", { key: "n", delta: -9007199254740993n - 5n })).value, -5);
  has(await ask("kv_json_set", { key: "j", value: '{"a":[1,2]}' }), {});
  assert.equal((await ask("kv_json_get", { key: "j", path: "$.a[1]" })).value, "2");
  await ask("kv_json_del", { key: "j", path: "$.a" });
  assert.equal((await ask("kv_json_get", { key: "j" })).value, "{}");
  has(await ask("kv_json_get", { key: "b1" }), { status: 3 });
  assert.deepEqual(await ask("kv_exists", { key: "b1" }), { exists: true });
  assert.ok((await ask("kv_delete", { key: "b1" })).version);
  assert.deepEqual(await ask("kv_exists", { key: "b1" }), { exists: false });
  has(await ask("kv_get", { key: "b1" }), MISSING);
}

async function queues(ask) {
  const key = "مهام";
  assert.equal(await ask("queue_configure", { key, lease: 60_000, max_attempts: 1 }), undefined);
  const { seq } = await ask("queue_enqueue", { key, value: BYTES, dedup_key: "once" });
  assert.deepEqual(await ask("queue_enqueue", { key, value: BYTES, dedup_key: "once" }), { seq });
  await ask("queue_enqueue", { key, value: "urgent", priority: 0 });
  await ask("queue_enqueue", { key, value: "calm", priority: 9 });
  assert.deepEqual((await ask("queue_peek", { key })).map(({ payload, priority }) => [payload, priority]), [[HEX, 0], ["urgent", 0], ["calm", 9]]);
  const taken = await ask("queue_dequeue", { key, limit: 3, block: 1000 });
  assert.deepEqual(taken.map(({ payload, attempts }) => [payload, attempts]), [[HEX, 1], ["urgent", 1], ["calm", 1]]);
  const [one, two, three] = taken.map((each) => ({ seq: each.seq, attempt: each.attempts }));
  assert.deepEqual(await ask("queue_touch", { key, value: [one], lease: 50_000 }), { touched: 1 });
  assert.deepEqual(await ask("queue_ack", { key, value: [{ seq: BIG, attempt: 1 }, one] }), { acked: 1 }); // there is no such seq
  assert.deepEqual(await ask("queue_nack", { key, value: [two, three], to_dlq: true }), { given_back: 2 });
  const [dead] = await ask("queue_dlq_list", { key, limit: 1 });
  assert.equal(dead.payload, "urgent");
  assert.equal((await ask("queue_dlq_list", { key, cursor: String(dead.seq) }))[0].payload, "calm");
  assert.deepEqual(await ask("queue_dlq_requeue", { key, value: [two.seq] }), { requeued: 1 });
  assert.deepEqual(await ask("queue_dlq_delete", { key, value: [] }), { deleted: 0 });
  assert.deepEqual(await ask("queue_dlq_delete", { key }), { deleted: 1 }); // all
  await ask("queue_pause", { key, value: true });
  has(await ask("queue_stats", { key }), { ready: 1, dead: 0, paused: 1, lease_ms: 60_000, max_attempts: 1 });
  assert.deepEqual(await ask("queue_dequeue", { key }), []);
  has((await ask("queue_list")).queues[0], { name: key, ready: 1 });
  assert.deepEqual(await ask("queue_purge", { key }), { removed: 1 });
  assert.equal(await ask("queue_delete", { key }), undefined);
  assert.deepEqual(await ask("queue_list"), { queues: [], cursor: "" });
}

async function streams(ask, resp) {
  const key = "events";
  assert.equal(await ask("stream_create", { key, max_len: 100 }), undefined);
  has(await ask("stream_create", { key }), { status: 3, version: 0 });
  const { id } = await ask("stream_append", { key, value: BYTES });
  assert.match(id, /^\d{13}-\d+$/);
  await resp("XADD", key, "18446744073709551000-18446744073709551001", "kind", "login");
  const [first, last] = await ask("stream_read", { key });
  assert.deepEqual(first, { id, kind: 0, payload: HEX });
  has(last, { id: "18446744073709551000-18446744073709551001", kind: 1 });
  assert.deepEqual(await ask("fieldsOfLast", { key, start: last.id, end: last.id }), [["kind", "login"]]);
  has(await ask("stream_info", { key }), { first: id, last: last.id, count: 2, groups: 0 });

  const group = { key, group: "g" };
  assert.equal(await ask("stream_group_create", { ...group, ack_timeout: 60_000 }), undefined);
  const read = await ask("stream_group_read", { ...group, consumer: "c" });
  assert.deepEqual(read.map((each) => [each.id, each.deliveries]), [[id, 1], [last.id, 1]]);
  assert.deepEqual(await ask("stream_group_touch", { ...group, value: [id], lease: 1000, consumer: "c" }), { touched: 1 });
  assert.equal((await ask("stream_group_claim", { ...group, consumer: "d", min_idle: 0, limit: 1 }))[0].deliveries, 2);
  assert.deepEqual(await ask("stream_group_ack", { ...group, value: [last.id] }), { acked: 1 });
  assert.deepEqual(await ask("stream_group_nack", { ...group, value: [{ id }] }), { given_back: 1 });
  has(await ask("stream_group_pending", group), { pending_count: 1, dead_count: 0 });
  has(await ask("stream_group_info", group), { name: "g", made_by: "flo", pending: 1, last_id: last.id });
  assert.equal(await ask("stream_group_delete", group), undefined);
  has(await ask("stream_group_info", group), MISSING);
  has((await ask("stream_list")).streams[0], { name: key, count: 2, last_id: last.id, max_len: 100 });
  assert.deepEqual(await ask("stream_trim", { key, max_len: 1, dry_run: true }), { removed: 1 });
  assert.deepEqual(await ask("stream_trim", { key, start: last.id }), { removed: 1 });
  assert.equal(await ask("stream_delete", { key }), undefined);
}

async function server(ask) {
  assert.deepEqual(await ask("ping", { value: BYTES }), { value: HEX });
  has(await ask("auth", { value: "x" }), { error: "FloError", status: 2 });
  has(await ask("server_stats", { block: 2000 }), { access: "all" });
  const view = await ask("server_view", { value: "settings", limit: 1 });
  assert.equal(view.settings[0].name, "server.port");
  assert.notEqual((await ask("server_view", { value: "settings", limit: 1, cursor: { base64: view.cursor } })).settings[0].name, "server.port");
  assert.equal(await ask("namespace_create", { key: "other" }), undefined);
  await ask("kv_put", { key: "k", value: "v", namespace: "other" });
  has(await ask("kv_get", { key: "k" }), MISSING);
  has(await ask("namespace_delete", { key: "other" }), { status: 3, version: 0 });
  has(await ask("namespace_info", { key: "other" }), { name: "other", keys: 1 });
  await ask("kv_delete", { key: "k", namespace: "other" });
  assert.equal(await ask("namespace_delete", { key: "other" }), undefined);
  assert.deepEqual(await ask("namespace_list"), [{ namespace: "default" }]);
  has(await ask("kv_get", { key: "k", namespace: "other" }), { status: 2 });
  has(await ask("cluster_join", { value: "" }), { status: 2 });
  has(await ask("cluster_leave"), { status: 2 });
  has(await ask("cluster_promote", { key: "a" }), { status: 2 });
  has(await ask("cluster_remove", { key: "a" }), { status: 2 });
  has(await ask("cluster_status"), { mode: "standalone" });
  assert.equal((await ask("cluster_partition_table")).partitions.length, 1);
  has(await ask("cluster_fetch", { key: "none.seg", value: 0 }), { status: 1 });
  has(await ask("kv_get", { key: "k", limit: 5 }), { error: "TypeError", message: "kv_get has no option limit; it has clip, wait, block, cas_version" });
}

async function series(ask) {
  assert.deepEqual(await ask("ts_create_measurement", { key: "cpu", max_age: 1_000_000_000 }), undefined);
  assert.deepEqual(await ask("ts_write", { key: "cpu", value: "1.5", tags: "host=a", timestamp: 1_700_000_000_000 }), { points: 1 });
  assert.deepEqual(await ask("ts_write_batch", { value: "cpu,host=b value=2 1700000001", precision: 3 }), { points: 1 });
  has(await ask("ts_write_batch", { value: "cpu" }), { status: 2 });
  const read = await ask("ts_read", { key: "cpu", from: 1_699_999_999_000, to: 1_700_000_002_000 });
  assert.deepEqual(read.series.map((each) => [each.tags.host, each.points]), [["a", [[1_700_000_000_000, 1.5]]], ["b", [[1_700_000_001_000, 2]]]]);
  const query = await ask("ts_query", { value: "cpu[1699999999000..1700000002000] | group_by() | avg()" });
  assert.equal(query.series[0].points[0][1], 1.75);
  has((await ask("ts_list")).measurements[0], { name: "cpu", series: 2 });
  assert.deepEqual(await ask("ts_delete", { key: "cpu" }), { series: 2 });
}

async function actions(ask) {
  assert.deepEqual(await ask("action_register", { key: "job", timeout: 60_000, rate: "100/1000", labels: '{"r":"eu"}' }), { version: 1 });
  has((await ask("action_list", { key: "job" })).actions[0], { name: "job", version: 1, timeout_ms: 60_000 });
  const { run_id: first } = await ask("action_invoke", { key: "job", value: "in", unique_key: "u" });
  const { run_id: second } = await ask("action_invoke", { key: "job", value: "more" });
  has(await ask("action_status", { key: first }), { status: "pending", action: "job" });
  assert.equal((await ask("action_runs", { key: "job" })).runs.length, 2);
  assert.deepEqual(await ask("action_pause", { key: "job", value: 0 }), undefined);
  assert.deepEqual(await ask("worker_register", { key: "w", value: ["job"], labels: '{"r":"eu"}', concurrency: 3 }), undefined);
  has((await ask("worker_list")).workers[0], { worker_id: "w", status: "idle" });
  has(await ask("worker_await", { key: "w" }), { run_id: first, action: "job", attempt: 1, lease_ms: 60_000 });
  has(await ask("worker_touch", { key: first, worker_id: "w", progress: "half" }), { cancelled: false });
  assert.deepEqual(await ask("worker_complete", { key: first, value: "out", worker_id: "w" }), undefined);
  has(await ask("action_result", { key: first }), { state: 2 });
  await ask("worker_await", { key: "w" });
  assert.deepEqual(await ask("worker_release", { key: second, worker_id: "w" }), undefined);
  await ask("worker_await", { key: "w" });
  assert.deepEqual(await ask("worker_fail", { key: second, value: "no", worker_id: "w" }), { state: 3 });
  assert.deepEqual(await ask("action_retry", { key: second }), undefined);
  assert.deepEqual(await ask("action_cancel", { key: second }), undefined);
  has(await ask("action_retry_many", { key: "job", state: 4 }), { count: 1 });
  assert.deepEqual(await ask("action_cancel", { key: second }), undefined);
  has(await ask("action_input", { key: second }), {});
  assert.deepEqual(await ask("worker_heartbeat", { key: "w", load: 1 }), { status: 1 });
  assert.deepEqual(await ask("worker_drain", { key: "w" }), undefined);
  assert.deepEqual(await ask("worker_deregister", { key: "w" }), undefined);
  assert.equal(typeof (await ask("schedule_put", { key: "s", value: '{"action": "job", "cron": "0 3 * * *"}' })).next, "number");
  has((await ask("schedule_list")).schedules[0], { name: "s", action: "job" });
  assert.deepEqual(await ask("schedule_delete", { key: "s" }), undefined);
  assert.deepEqual(await ask("action_delete", { key: "job" }), undefined);
}

/** A request that waits is rejected with its connection; the client connects again, and what is asked then is answered. */
async function lost(ask, page, resp) {
  await page.evaluate(() => {
    window.states = [];
    window.flo.addEventListener("state", () => window.states.push(window.flo.state));
  });
  const waiting = ask("queue_dequeue", { key: "nobody", block: 0 });
  const { clients } = await ask("server_view", { value: "clients" });
  const mine = clients.findLast((each) => each.waiting === 1); // by their ids: the page's own client came before
  await resp("CLIENT", "KILL", "ID", String(mine.id));
  has(await waiting, { error: "ConnectionLost", message: "the connection to Flo was lost; it is not known whether the request was done" });
  assert.deepEqual(await ask("ping", { value: "again" }), { value: "again" });
  assert.deepEqual(await page.evaluate(() => window.states), ["closed", "connecting", "open"]);
  const left = ask("queue_dequeue", { key: "nobody", block: 0 });
  await page.evaluate(() => window.flo.close());
  has(await left, { error: "ConnectionLost", message: "the client was closed" });
  has(await ask("ping"), { error: "ConnectionLost" });
}

await scenario(async ({ base, open }) => {
  const page = await open("/dashboard/");
  await page.evaluate(`window.plain = ${plain}`); // as a script of its own: the page's CSP has no eval
  await page.evaluate(async () => {
    window.lib = await import("/dashboard/flo.js");
    window.flo = new window.lib.Flo();
  });
  const called = new Set();
  const ask = (name, given = {}) => {
    called.add(name);
    return page.evaluate(async ([method, options]) => {
      const { flo, lib } = window;
      try {
        if (method === "fieldsOfLast") return window.plain(lib.fieldList((await flo.stream_read(options))[0].payload));
        return window.plain(await flo[method](options));
      } catch (error) {
        return window.plain(error);
      }
    }, [name, given]);
  };
  const socket = connect(new URL(base).port, "127.0.0.1");
  socket.unref(); // it does not keep the script from its end
  const resp = (...words) =>
    new Promise((resolve) => {
      socket.once("data", (data) => resolve(data.toString()));
      socket.write(`*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("")}`);
    });
  await keys(ask);
  await queues(ask);
  await streams(ask, resp);
  await series(ask);
  await actions(ask);
  await server(ask);
  await lost(ask, page, resp);
  called.delete("fieldsOfLast");
  const all = await page.evaluate(() => Object.keys(window.lib.OPERATIONS));
  assert.deepEqual([...called].sort(), all.sort());
});
