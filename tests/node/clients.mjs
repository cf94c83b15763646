// Drives one of the Node clients against a Flo server and prints what it saw as one line of JSON.
// Usage: node clients.mjs ioredis|node-redis-2|node-redis-3|ioredis-cluster|node-redis-cluster PORT
import Redis from "ioredis";
import { createClient, createCluster } from "redis";

const [which, port] = process.argv.slice(2);

/** What a promise gives, or the error's message. */
const outcome = (promise) => promise.then((value) => value, (error) => ({ error: error.message }));

async function ioredis() {
  const client = new Redis({ host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: 1, retryStrategy: null });
  client.on("error", () => {});
  const seen = {};
  seen.ping = await client.ping();
  seen.set = await client.set("io:hello", "world");
  seen.get = await client.get("io:hello");
  seen.missing = await client.get("io:missing");
  seen.setnx = await client.set("io:hello", "other", "NX");
  seen.setex = await client.set("io:ttl", "v", "EX", 100);
  seen.ttl = await client.ttl("io:ttl");
  seen.persist = await client.persist("io:ttl");
  seen.incr = [await client.incr("io:n"), await client.incrby("io:n", 41), await client.decr("io:n")];
  seen.mset = await client.mset({ "io:a": "1", "io:b": "2" });
  seen.mget = await client.mget("io:a", "io:missing", "io:b");
  seen.buffer = (await client.getBuffer("io:hello")).toString("hex");
  seen.json = [await client.call("JSON.SET", "io:doc", "$", '{"a":[1,2]}'), await client.call("JSON.GET", "io:doc", "$.a[1]")];
  seen.pipeline = await client.pipeline().set("io:p", "1").incr("io:p").get("io:p").exec();
  seen.scanned = [];
  for await (const page of client.scanStream({ match: "io:*", count: 3 })) seen.scanned.push(...page);
  seen.scanned.sort();
  seen.wrongType = await outcome(client.incr("io:hello"));
  seen.multi = await outcome(client.multi().set("io:transaction", "1").incr("io:n").exec());
  seen.afterMulti = [await client.get("io:transaction"), await client.get("io:n")];
  seen.info = /redis_version:(\S+)/.exec(await client.info())[1];
  seen.many = (await Promise.all(Array.from({ length: 500 }, (_, at) => client.set(`io:many:${at}`, at)))).every((reply) => reply === "OK");
  seen.del = await client.del("io:a", "io:b", "io:missing");
  seen.quit = await client.quit();
  return seen;
}

async function nodeRedis(RESP) {
  const client = createClient({ RESP, socket: { host: "127.0.0.1", port: Number(port), reconnectStrategy: false } });
  client.on("error", () => {});
  await client.connect();
  const prefix = `nr${RESP}`;
  const seen = {};
  seen.ping = await client.ping();
  seen.set = await client.set(`${prefix}:hello`, "world");
  seen.get = await client.get(`${prefix}:hello`);
  seen.missing = await client.get(`${prefix}:missing`);
  seen.setnx = await client.set(`${prefix}:hello`, "other", { condition: "NX" });
  seen.setex = await client.set(`${prefix}:ttl`, "v", { expiration: { type: "EX", value: 100 } });
  seen.ttl = await client.ttl(`${prefix}:ttl`);
  seen.persist = await client.persist(`${prefix}:ttl`);
  seen.incr = [await client.incr(`${prefix}:n`), await client.incrBy(`${prefix}:n`, 41), await client.decr(`${prefix}:n`)];
  seen.mset = await client.mSet({ [`${prefix}:a`]: "1", [`${prefix}:b`]: "2" });
  seen.mget = await client.mGet([`${prefix}:a`, `${prefix}:missing`, `${prefix}:b`]);
  seen.json = [await client.json.set(`${prefix}:doc`, "$", { a: [1, 2] }), await client.json.get(`${prefix}:doc`)];
  seen.jsonPath = await client.sendCommand(["JSON.GET", `${prefix}:doc`, "$.a[1]"]);
  seen.pipeline = await client.multi().set(`${prefix}:p`, "1").incr(`${prefix}:p`).execAsPipeline();
  seen.scanned = [];
  for await (const page of client.scanIterator({ MATCH: `${prefix}:*`, COUNT: 3 })) seen.scanned.push(...page);
  seen.scanned.sort();
  seen.wrongType = await outcome(client.incr(`${prefix}:hello`));
  seen.multi = await outcome(client.multi().set(`${prefix}:transaction`, "1").incr(`${prefix}:n`).exec());
  seen.afterMulti = [await client.get(`${prefix}:transaction`), await client.get(`${prefix}:n`)];
  seen.info = /redis_version:(\S+)/.exec(await client.info())[1];
  seen.id = typeof (await client.clientId());
  seen.config = { ...(await client.configGet("appendonly")) };
  seen.many = (await Promise.all(Array.from({ length: 500 }, (_, at) => client.set(`${prefix}:many:${at}`, `${at}`)))).every((reply) => reply === "OK");
  seen.del = await client.del([`${prefix}:a`, `${prefix}:b`, `${prefix}:missing`]);
  await client.close();
  return seen;
}

async function ioredisCluster() {
  const cluster = new Redis.Cluster([{ host: "127.0.0.1", port: Number(port) }], { clusterRetryStrategy: null });
  cluster.on("error", () => {});
  const seen = {};
  seen.set = await cluster.set("ioc:hello", "world");
  seen.get = await cluster.get("ioc:hello");
  seen.group = await cluster.xgroup("CREATE", "ioc:jobs", "g", "0", "MKSTREAM");
  for (let at = 0; at < 3; at++) await cluster.xadd("ioc:jobs", "*", "n", at);
  const [[, records]] = await cluster.xreadgroup("GROUP", "g", "c", "COUNT", 10, "STREAMS", "ioc:jobs", ">");
  seen.read = records.length;
  seen.acked = await cluster.xack("ioc:jobs", "g", ...records.map(([id]) => id));
  seen.left = (await cluster.xpending("ioc:jobs", "g"))[0];
  await cluster.lpush("ioc:queue", "a");
  seen.popped = (await cluster.brpop("ioc:queue", 1))[1];
  seen.groups = (await cluster.xinfo("GROUPS", "ioc:jobs")).length;
  seen.del = (await cluster.del("ioc:hello")) + (await cluster.del("ioc:jobs"));
  await cluster.quit();
  return seen;
}

async function nodeRedisCluster() {
  const cluster = createCluster({ rootNodes: [{ socket: { host: "127.0.0.1", port: Number(port) } }] });
  cluster.on("error", () => {});
  await cluster.connect();
  const seen = {};
  seen.set = await cluster.set("nrc:hello", "world");
  seen.get = await cluster.get("nrc:hello");
  seen.group = await cluster.xGroupCreate("nrc:jobs", "g", "0", { MKSTREAM: true });
  for (let at = 0; at < 3; at++) await cluster.xAdd("nrc:jobs", "*", { n: `${at}` });
  const [{ messages }] = await cluster.xReadGroup("g", "c", { key: "nrc:jobs", id: ">" }, { COUNT: 10 });
  seen.read = messages.length;
  seen.acked = await cluster.xAck("nrc:jobs", "g", messages.map(({ id }) => id));
  seen.left = (await cluster.xPending("nrc:jobs", "g")).pending;
  await cluster.lPush("nrc:queue", "a");
  seen.popped = (await cluster.brPop("nrc:queue", 1)).element;
  seen.groups = (await cluster.xInfoGroups("nrc:jobs")).length;
  seen.del = (await cluster.del("nrc:hello")) + (await cluster.del("nrc:jobs"));
  await cluster.close();
  return seen;
}

const clients = { ioredis, "node-redis-2": () => nodeRedis(2), "node-redis-3": () => nodeRedis(3), "ioredis-cluster": ioredisCluster, "node-redis-cluster": nodeRedisCluster };
console.log(JSON.stringify(await clients[which]()));
