// Below express-session in an HTTP server: a session over several requests, its time, its end. Prints {} when all went well.

import assert from "node:assert/strict";
import http from "node:http";

import { RedisStore } from "connect-redis";
import session from "express-session";
import { createClient } from "redis";

const client = createClient({ url: `redis://127.0.0.1:${process.argv[2]}` });
await client.connect();
const store = new RedisStore({ client, prefix: "sess:", ttl: 100 });
const middleware = session({ store, secret: "x", resave: false, saveUninitialized: false });
const server = http.createServer((request, response) => {
  middleware(request, response, (error) => {
    if (error) {
      throw error;
    }
    if (request.url === "/leave") {
      request.session.destroy(() => response.end("gone"));
      return;
    }
    request.session.visits = (request.session.visits ?? 0) + 1;
    response.end(String(request.session.visits));
  });
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${server.address().port}`;

const first = await fetch(`${origin}/`);
const cookie = first.headers.get("set-cookie").split(";")[0];
assert.equal(await first.text(), "1");
const visit = async (path) => (await fetch(origin + path, { headers: { cookie } })).text();
assert.equal(await visit("/"), "2");
assert.equal(await visit("/"), "3");
const call = (name, ...words) => new Promise((resolve, reject) => store[name](...words, (error, value) => (error ? reject(error) : resolve(value))));
const [id] = await call("ids");
assert.equal((await call("get", id)).visits, 3);
assert.equal(await call("length"), 1);
assert.equal((await call("all")).length, 1);
const left = await client.ttl(`sess:${id}`);
assert.ok(left > 0 && left <= 100);
await call("touch", id, { cookie: {} });
assert.equal(await visit("/leave"), "gone");
assert.equal(await visit("/"), "1");
await call("clear");
assert.equal(await call("length"), 0);
server.close();
server.closeAllConnections();
await client.quit();
console.log("{}");
