// ioredis and node-redis as subscribers and publishers, in RESP2 and RESP3. Prints what each has received.

import Redis from "ioredis";
import { createClient } from "redis";

const port = Number(process.argv[2]);
const seen = {};

/** Wait until `got` has as many as were published. */
async function until(got, count) {
  const deadline = Date.now() + 10_000;
  while (got.length < count) {
    if (Date.now() > deadline) {
      throw new Error(`only ${JSON.stringify(got)} came`);
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

{
  const subscriber = new Redis(port), publisher = new Redis(port), got = (seen.ioredis = []);
  subscriber.on("message", (channel, message) => got.push([channel, message]));
  subscriber.on("pmessage", (pattern, channel, message) => got.push([pattern, channel, message]));
  await subscriber.subscribe("news", "more");
  await subscriber.psubscribe("log.*");
  await publisher.publish("news", "hello");
  await publisher.publish("log.web", "line");
  await until(got, 2);
  await subscriber.unsubscribe("news", "more");
  await subscriber.punsubscribe();
  got.push(await subscriber.get("missing")); // an ordinary connection again
  subscriber.disconnect();
  publisher.disconnect();
}
for (const RESP of [2, 3]) {
  const publisher = createClient({ url: `redis://127.0.0.1:${port}`, RESP });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const got = (seen[`redis${RESP}`] = []);
  await subscriber.subscribe("news", (message, channel) => got.push([channel, message]));
  await subscriber.pSubscribe("log.*", (message, channel) => got.push([channel, message]));
  await publisher.publish("news", "hello");
  await publisher.publish("log.web", "line");
  await until(got, 2);
  await subscriber.unsubscribe();
  await subscriber.pUnsubscribe();
  await Promise.all([publisher.close(), subscriber.close()]);
}
console.log(JSON.stringify(seen));
