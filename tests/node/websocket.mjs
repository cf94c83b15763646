// A client of /ws with the package ws; prints what it saw as one line of JSON.
// Usage: node websocket.mjs PORT SECRET, where the server pings a silent client soon and closes one that does not answer
import { once } from "node:events";
import WebSocket from "ws";

const [port, secret] = process.argv.slice(2);
const HEADER_BYTES = 24;
const CODES = { ping: 0x00, auth: 0x03, kv_get: 0x10, kv_put: 0x11 };
const WAIT = 0x15; // kv_get's option, in ms

/** A request of the binary protocol (docs/wire-protocol.md) in the namespace `default`. */
function request(operation, id, { key = "", value = "", wait } = {}) {
  const options = Buffer.alloc(wait === undefined ? 0 : 7);
  if (wait !== undefined) {
    options.writeUInt8(WAIT, 0);
    options.writeUInt16LE(4, 1);
    options.writeUInt32LE(wait, 3);
  }
  const payload = Buffer.concat([Buffer.from(key), Buffer.from(value), options]);
  const header = Buffer.alloc(32);
  header.write("FLO\x01", "latin1");
  header.writeUInt16LE(CODES[operation], 4);
  header.writeBigUInt64LE(BigInt(id), 8);
  header.writeUInt32LE(payload.length, 16);
  header.writeUInt16LE(Buffer.byteLength(key), 28);
  header.writeUInt16LE(options.length, 30);
  return Buffer.concat([header, payload]);
}

/** A connection. `answers(n)` gives the next n messages, each of which is one response; `pings` counts the server's. */
async function connect(options) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`, options);
  const arrived = [];
  let wake = () => {};
  const client = { socket, pings: 0, closed: once(socket, "close").then(([code, reason]) => [code, reason.toString()]) };
  socket.on("message", (data, isBinary) => {
    if (!isBinary || data.length !== HEADER_BYTES + data.readUInt32LE(16)) throw new Error("a message that is not one response");
    arrived.push({ status: data.readUInt16LE(4), id: Number(data.readBigUInt64LE(8)), payload: data.subarray(HEADER_BYTES) });
    wake();
  });
  socket.on("ping", () => (client.pings += 1));
  client.answers = async (count) => {
    while (arrived.length < count) await new Promise((resolve) => (wake = resolve));
    return arrived.splice(0, count);
  };
  await once(socket, "open");
  return client;
}

/** `status:id` of responses. */
const outline = (answers) => answers.map(({ status, id }) => `${status}:${id}`);

const seen = {};
const silent = await connect({ autoPong: false });
const client = await connect();
const { socket } = client;
seen.extensions = socket.extensions; // the client offers to compress

socket.send(request("kv_get", 1, { key: "k" }));
socket.send(request("auth", 2, { value: secret }));
seen.auth = outline(await client.answers(2));

for (let id = 0; id < 200; id += 2) {
  socket.send(request("kv_put", id, { key: `k${id}`, value: `v${id}` }));
  socket.send(request("kv_get", id + 1, { key: `k${id}` }));
}
const answers = await client.answers(200);
seen.pipeline = answers.every(({ status, id, payload }, at) => status === 0 && id === at && (id % 2 === 0 || payload.toString("utf8", 8) === `v${id - 1}`));

const large = Buffer.alloc(1_000_000, "0123456789abcdef!");
socket.send(request("kv_put", 1, { key: "large", value: large }));
socket.send(request("kv_get", 2, { key: "large" }));
const [, read] = await client.answers(2);
seen.large = read.status === 0 && read.payload.subarray(8).equals(large);

socket.send(request("kv_get", 1, { key: "later", wait: 10_000 }));
socket.send(request("ping", 2));
seen.waiting = outline(await client.answers(1));
socket.send(request("kv_put", 3, { key: "later", value: "now" }));
seen.awaited = outline(await client.answers(2)).sort();

seen.silent = await silent.closed; // by then this client, as silent, was pinged and has answered
seen.pings = [client.pings > 0, silent.pings];
socket.send(request("ping", 4));
seen.alive = outline(await client.answers(1));

socket.send("text");
seen.text = await client.closed;

const polite = await connect();
polite.socket.close(4000, "enough");
seen.closed = (await polite.closed)[0];
console.log(JSON.stringify(seen));
