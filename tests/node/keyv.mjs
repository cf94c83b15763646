// Values, times, namespaces, many values at once, iterating, clearing. Prints {} when all went well.

import assert from "node:assert/strict";

import KeyvRedis from "@keyv/redis";
import Keyv from "keyv";

const url = `redis://127.0.0.1:${process.argv[2]}`;
const users = new Keyv({ store: new KeyvRedis(url), namespace: "users" });
const others = new Keyv({ store: new KeyvRedis(url), namespace: "others" });
users.on("error", (error) => { throw error; });

await users.set("ann", { age: 30 });
await others.set("ann", "another");
assert.deepEqual(await users.get("ann"), { age: 30 });
assert.equal(await others.get("ann"), "another");
assert.equal(await users.get("nobody"), undefined);
await users.set("soon", 1, 30);
assert.equal(await users.has("soon"), true);
const deadline = Date.now() + 10_000;
while (await users.has("soon")) {
  assert.ok(Date.now() < deadline, "a key outlived its time");
}
await users.setMany([{ key: "a", value: 1 }, { key: "b", value: 2, ttl: 60_000 }]);
assert.deepEqual(await users.getMany(["a", "b", "c"]), [1, 2, undefined]);
const found = [];
for await (const [key] of users.iterator()) {
  found.push(key);
}
assert.deepEqual(found.sort(), ["a", "ann", "b"]);
assert.equal(await users.delete("a"), true);
assert.equal(await users.delete("a"), false);
await users.deleteMany(["b", "nothing"]);
await users.clear();
assert.equal(await users.get("ann"), undefined);
assert.equal(await others.get("ann"), "another");
await users.disconnect();
await others.disconnect();
console.log("{}");
