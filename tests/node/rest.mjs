// A round of REST with Node's fetch; prints what it saw as one line of JSON.
// Usage: node rest.mjs PORT
const base = `http://127.0.0.1:${process.argv[2]}/api/v1`;
const key = `${base}/kv/default/keys/${encodeURIComponent("node/ü")}`;
const json = { "Content-Type": "application/json" };

/** The status, the ETag and the body of an answer. */
async function ask(url, options) {
  const answer = await fetch(url, options);
  const text = await answer.text();
  const isJson = (answer.headers.get("content-type") ?? "").includes("json");
  return { status: answer.status, etag: answer.headers.get("etag"), body: isJson ? JSON.parse(text) : text };
}

const seen = {};
seen.put = await ask(key, { method: "PUT", body: "value" });
seen.get = await ask(key);
seen.same = await ask(key, { headers: { "If-None-Match": seen.put.etag } });
seen.part = await ask(key, { headers: { Range: "bytes=1-2" } });
seen.late = await ask(key, { method: "PUT", body: "never", headers: { "If-Match": '"999999"' } });
seen.head = await ask(key, { method: "HEAD" });
seen.dots = await ask(`${base}/kv/default/keys/-?name64=Li4`, { method: "PUT", body: "up" });
seen.mget = await ask(`${base}/kv/default/mget`, { method: "POST", headers: json, body: JSON.stringify({ keys: ["node/ü", ".."] }) });
seen.enqueue = await ask(`${base}/queues/default/node/messages`, { method: "POST", body: new Uint8Array([255]), headers: { "Idempotency-Key": "one" } });
seen.dequeue = await ask(`${base}/queues/default/node/dequeue?block=1000`, { method: "POST" });
const receipts = seen.dequeue.body.messages.map(({ seq, attempts }) => ({ seq, attempt: attempts }));
seen.ack = await ask(`${base}/queues/default/node/ack`, { method: "POST", headers: json, body: JSON.stringify({ receipts }) });
seen.refused = await ask(`${base}/queues/default/node/ack`, { method: "POST", headers: json, body: "{" });
seen.many = (await Promise.all(Array.from({ length: 100 }, (_, at) => ask(`${key}${at}`, { method: "PUT", body: `${at}` })))).every(({ status }) => status === 200);
seen.del = await ask(key, { method: "DELETE" });
seen.gone = await ask(key);
console.log(JSON.stringify(seen));
