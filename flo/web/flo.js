// A client of Flo's binary protocol over WebSocket, for browsers and for Node 22 or later. No dependency.
//
//     import { Flo, textOf } from "./flo.js";
//     const flo = new Flo("ws://localhost:9000/ws", { secret: "…", namespace: "default" });
//     const { version } = await flo.kv_put({ key: "greeting", value: "hello", ttl: 60 });
//     console.log(textOf((await flo.kv_get({ key: "greeting" })).value), version);
//
// Every operation of docs/wire-protocol.md is a method with its name. Its one argument is an object with `key`, `value`, the operation's
// options by their names, and `namespace`, if it is not the client's. It gives a promise.
//
// Bytes (keys, values, payloads, options of the form `bytes`) are given as strings, which become UTF-8, or as Uint8Array; they come back as
// Uint8Array. Numbers are given as Number or BigInt; they come back as Number where that is exact (up to 2^53), else as BigInt. Ids of
// records are text: "1700000000000-0". An option of the form `empty` is given as true.
//
// A value with a layout is given as a list of objects with the names in the layout; where each has one field, as a list of these. An answer
// is an object with the names in the layout; a list in it is `items`. An answer that is only a list is an array, one that is JSON is what
// the JSON says, an empty one is undefined.
//
// A refusal rejects the promise with a FloError: `status` is its number, `message` the server's sentence, `version`, for a conflict, the
// key's present version. A lost connection rejects with a ConnectionLost what was sent and not answered; whether it was done is unknown.
// The client then connects again. What is asked meanwhile waits for the next attempt.

import OPERATIONS from "./operations.js";

export { OPERATIONS };

const MAGIC = 0x014f4c46; // "FLO", version 1, as a little-endian u32
const REQUEST_BYTES = 32; // magic u32, opcode u16, flags u16, req_id u64, payload_len u32, namespace u64, key_length u16, options_length u16
const RESPONSE_BYTES = 24; // magic u32, status u16, flags u16, req_id u64, payload_len u32, zeros u32
const RETRY_MS = [250, 500, 1000, 2000, 4000]; // between attempts to connect; then always the last

export const OK = 0;
export const NOT_FOUND = 1;
export const BAD_REQUEST = 2;
export const CONFLICT = 3;
export const UNAUTHORIZED = 4;
export const OVERLOADED = 5;
export const INTERNAL_ERROR = 6;
export const NOT_LEADER = 7;

/** A refusal of the server. */
export class FloError extends Error {
  constructor(status, message, version = 0) {
    super(message);
    this.name = "FloError";
    this.status = status;
    this.version = version;
  }
}

/** The connection ended before the answer came, or there is none. */
export class ConnectionLost extends Error {
  constructor(message) {
    super(message);
    this.name = "ConnectionLost";
  }
}

// -- bytes -------------------------------------------------------------------------------------------------------------------------------

const encoder = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes of a string (UTF-8), of base64 as JSON answers have it ({base64: "…"}), or of a Uint8Array. */
export function bytesOf(value) {
  if (typeof value === "string") return encoder.encode(value);
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (value && typeof value.base64 === "string") return fromBase64(value.base64);
  throw new TypeError(`${value} is neither a string nor a Uint8Array`);
}

/** The text of bytes, or null where they are no UTF-8. */
export function textOf(bytes) {
  try {
    return strict.decode(bytes);
  } catch {
    return null;
  }
}

/** The bytes of base64, or of base64url. */
export function fromBase64(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}

const exact = (big) => (big <= Number.MAX_SAFE_INTEGER && big >= Number.MIN_SAFE_INTEGER ? Number(big) : big);

/** Reads what a layout is made of. */
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  take(count) {
    this.at += count;
    return this.at - count;
  }

  read(form) {
    switch (form) {
      case "u8": return this.view.getUint8(this.take(1));
      case "u16": return this.view.getUint16(this.take(2), true);
      case "u32": return this.view.getUint32(this.take(4), true);
      case "u64": return exact(this.view.getBigUint64(this.take(8), true));
      case "i64": return exact(this.view.getBigInt64(this.take(8), true));
      case "bool": return this.view.getUint8(this.take(1)) === 1;
      case "id": return `${this.read("u64")}-${this.read("u64")}`;
      case "name": return this.cut(this.read("u16"));
      case "blob": return this.cut(this.read("u32"));
      case "rest": return this.cut(this.bytes.length - this.at);
      case "json": return JSON.parse(textOf(this.cut(this.bytes.length - this.at)));
      default: throw new TypeError(`a layout has the unknown type ${form}`);
    }
  }

  cut(length) {
    const start = this.take(length);
    if (this.at > this.bytes.length) throw new RangeError("an answer is shorter than its layout says");
    return this.bytes.subarray(start, this.at);
  }
}

/** Writes what a layout is made of. */
class Writer {
  constructor() {
    this.parts = [];
    this.length = 0;
  }

  bytes(data) {
    this.parts.push(data);
    this.length += data.length;
  }

  number(size, value, set) {
    const data = new Uint8Array(size);
    set.call(new DataView(data.buffer), 0, size === 8 ? BigInt(value) : Number(value), true);
    this.bytes(data);
  }

  write(form, value) {
    const view = DataView.prototype;
    switch (form) {
      case "u8": return this.number(1, value, view.setUint8);
      case "u16": return this.number(2, value, view.setUint16);
      case "u32": return this.number(4, value, view.setUint32);
      case "u64": return this.number(8, value, view.setBigUint64);
      case "i64": return this.number(8, value, view.setBigInt64);
      case "bool": return this.number(1, value ? 1 : 0, view.setUint8);
      case "id": return String(value).split("-").forEach((half) => this.write("u64", half));
      case "name": return this.sized("u16", bytesOf(value));
      case "blob": return this.sized("u32", bytesOf(value));
      case "rate": return String(value).split("/").forEach((half) => this.write("u32", Number(half)));
      case "empty": return undefined;
      case "bytes":
      case "rest": return this.bytes(bytesOf(value));
      default: throw new TypeError(`a layout has the unknown type ${form}`);
    }
  }

  sized(form, data) {
    this.write(form, data.length);
    this.bytes(data);
  }

  joined() {
    const whole = new Uint8Array(this.length);
    let at = 0;
    for (const part of this.parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }
}

/** The fields of a layout, "name type, …", each as [name, type]; a list, "count u32, (…)*", as ["", type of the count, fields of an item]. */
function fieldsOf(layout) {
  const fields = [];
  for (const [, name, form, items] of layout.matchAll(/(\w+) (\w+)(?:, \((.*)\)\*)?/g)) {
    fields.push(items === undefined ? [name, form] : ["", form, fieldsOf(items)]);
  }
  return fields;
}

function readFields(reader, fields) {
  const found = {};
  for (const [name, form, items] of fields) {
    if (items === undefined) found[name] = reader.read(form);
    else found.items = Array.from({ length: reader.read(form) }, () => readFields(reader, items));
  }
  return found;
}

function decode(layout, payload) {
  const fields = fieldsOf(layout);
  if (!fields.length) return undefined;
  const found = readFields(new Reader(payload), fields);
  if (fields.length > 1) return found;
  if (fields[0][2]) return found.items;
  return fields[0][1] === "json" ? found[fields[0][0]] : found;
}

function writeList(writer, layout, list) {
  const [[, form, fields]] = fieldsOf(layout);
  writer.write(form, list.length);
  for (const item of list) {
    for (const [name, type] of fields) {
      writer.write(type, fields.length === 1 && (typeof item !== "object" || item instanceof Uint8Array) ? item : item[name] ?? 0);
    }
  }
}

/** The fields of a record whose `kind` is 1: [[name, value], …], as bytes. What was cut off (`clip`) is left out. */
export function fieldList(payload) {
  const reader = new Reader(payload);
  const fields = [];
  try {
    for (let left = reader.read("u16"); left; left--) fields.push([reader.read("name"), reader.read("blob")]);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return fields;
}

/** FNV-1a, 64 bits, of a namespace's name; 0 for the namespace `default`. */
export function namespaceHash(name) {
  if (name === "default") return 0n;
  let hash = 0xcbf29ce484222325n;
  for (const byte of encoder.encode(name)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}

// -- requests and responses --------------------------------------------------------------------------------------------------------------

function encodeRequest(name, id, hash, given) {
  const row = OPERATIONS[name];
  const { key = "", value, namespace, ...options } = given;
  const body = new Writer();
  body.bytes(bytesOf(key));
  const keyLength = body.length;
  if (value !== undefined) {
    if (row.layout && row.value.startsWith("count")) writeList(body, row.value, value);
    else if (row.layout) body.write(fieldsOf(row.value)[0][1], value);
    else body.bytes(bytesOf(value));
  }
  const before = body.length;
  for (const [option, set] of Object.entries(options)) {
    if (set === undefined || set === false) continue;
    const known = row.options[option];
    if (!known) throw new TypeError(`${name} has no option ${option}; it has ${Object.keys(row.options).join(", ") || "none"}`);
    const content = new Writer();
    content.write(known[1], set);
    body.write("u8", known[0]);
    body.sized("u16", content.joined());
  }
  const message = new Uint8Array(REQUEST_BYTES + body.length);
  const view = new DataView(message.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint16(4, row.code, true);
  view.setBigUint64(8, BigInt(id), true);
  view.setUint32(16, body.length, true);
  view.setBigUint64(20, row.plain ? 0n : hash, true);
  view.setUint16(28, keyLength, true);
  view.setUint16(30, body.length - before, true);
  message.set(body.joined(), REQUEST_BYTES);
  return message;
}

function refusalOf(status, payload) {
  if (status !== CONFLICT) return new FloError(status, new TextDecoder().decode(payload));
  return new FloError(status, new TextDecoder().decode(payload.subarray(8)), new Reader(payload).read("u64"));
}

/** The address of `/ws` at the server that this file came from. */
function ownAddress() {
  const url = new URL("/ws", import.meta.url);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/**
 * A client. Events: `state`, when `client.state` has changed: "connecting", "open", "closed" (until the next attempt) or "ended".
 */
export class Flo extends EventTarget {
  constructor(url = ownAddress(), { secret = "", namespace = "default" } = {}) {
    super();
    this.url = url;
    this.secret = secret;
    this.namespace = namespace;
    this.state = "closed";
    this._next = 1;
    this._asked = new Map(); // by req_id: {message, layout, resolve, reject}; those without a message were sent
    this._attempts = 0;
    this._timer = 0;
    this._hashes = new Map();
    this._socket = null;
  }

  /** Run an operation by its name. */
  run(name, given = {}) {
    if (this.state === "ended") return Promise.reject(new ConnectionLost("the client was closed"));
    const space = given.namespace ?? this.namespace;
    if (!this._hashes.has(space)) this._hashes.set(space, namespaceHash(space));
    const id = this._next++;
    return new Promise((resolve, reject) => {
      const message = encodeRequest(name, id, this._hashes.get(space), given);
      const request = { message, layout: OPERATIONS[name].answer, resolve, reject };
      this._asked.set(id, request);
      if (this.state === "open") this._send(request);
      else this.connect();
    });
  }

  /** Connect now, if there is no connection; with another secret, if one is given. */
  connect(secret) {
    if (secret !== undefined && secret !== this.secret) {
      this.secret = secret;
      this._drop("the connection was made anew, with another secret");
    }
    if (this.state === "open" || this.state === "connecting") return;
    clearTimeout(this._timer);
    const socket = (this._socket = new WebSocket(this.url));
    socket.binaryType = "arraybuffer";
    this._become("connecting");
    socket.onopen = () => {
      this._attempts = 0;
      if (this.secret) {
        const id = this._next++;
        const message = encodeRequest("auth", id, 0n, { value: this.secret });
        this._asked.set(id, { layout: "", resolve: () => {}, reject: () => {} }); // who is refused for it is told by its own request
        socket.send(message);
      }
      this._become("open");
      for (const request of this._asked.values()) this._send(request);
    };
    socket.onmessage = (event) => this._receive(event.data);
    socket.onclose = (event) => {
      if (socket !== this._socket) return;
      this._socket = null;
      const why = event.reason || "the connection to Flo was lost";
      const wait = RETRY_MS[Math.min(this._attempts++, RETRY_MS.length - 1)];
      this._timer = setTimeout(() => this.connect(), wait * (0.75 + Math.random() / 2));
      this._become("closed");
      this._fail(new ConnectionLost(`${why}; it is not known whether the request was done`));
    };
  }

  /** Close the connection, for good. */
  close() {
    clearTimeout(this._timer);
    this._drop("the client was closed");
    this._become("ended");
  }

  _drop(why) {
    const socket = this._socket;
    this._socket = null;
    if (socket) socket.close();
    this.state = "closed";
    this._fail(new ConnectionLost(why));
  }

  _send(request) {
    if (request.message) this._socket.send(request.message);
    request.message = undefined;
  }

  _receive(data) {
    const view = new DataView(data);
    const id = Number(view.getBigUint64(8, true));
    const request = this._asked.get(id);
    if (!request) return;
    this._asked.delete(id);
    const status = view.getUint16(4, true);
    const payload = new Uint8Array(data, RESPONSE_BYTES);
    try {
      if (status === OK) request.resolve(decode(request.layout, payload));
      else request.reject(refusalOf(status, payload));
    } catch (error) {
      request.reject(error);
    }
  }

  _fail(error) {
    const asked = [...this._asked.values()];
    this._asked.clear();
    for (const request of asked) request.reject(error);
  }

  _become(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}

for (const name of Object.keys(OPERATIONS)) {
  Flo.prototype[name] = function (given) {
    return this.run(name, given);
  };
}
