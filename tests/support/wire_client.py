"""A blocking client of Flo's binary protocol, written from docs/wire-protocol.md alone, as the test of that page.

It knows nothing of the server's code: where the page was not enough to write a line of it, the page was at fault. Standard library
only. A `Call` is one request with the way to read its answer; the functions of the operations' names make them. `Client.run` does one,
`Client.start` and `Client.finish` do them in any order, `Client.pipeline` does many in one go.
"""

import contextlib
import json
import select
import socket
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

MAGIC = b"FLO\x01"
REQUEST = struct.Struct("<4sHHQIQHH")
RESPONSE = struct.Struct("<4sHHQI4s")
COMPRESSED = 1
ACCEPT_COMPRESSED = 2
MAX_KEY = 65_535
MAX_VALUE = 16 * 1024 * 1024
MAX_PAYLOAD = 32 * 1024 * 1024
MAX_RESPONSE_INFLATED = 1024 * 1024


class Status(IntEnum):
    """What a response can be."""

    OK = 0
    NOT_FOUND = 1
    BAD_REQUEST = 2
    CONFLICT = 3
    UNAUTHORIZED = 4
    OVERLOADED = 5
    INTERNAL_ERROR = 6
    NOT_LEADER = 7


class Op(IntEnum):
    """The codes of the operations."""

    PING = 0x00
    AUTH = 0x03
    SERVER_STATS = 0x06
    SERVER_VIEW = 0x07
    KV_GET = 0x10
    KV_PUT = 0x11
    KV_DELETE = 0x12
    KV_SCAN = 0x13
    KV_BATCH_PUT = 0x14
    KV_HISTORY = 0x15
    KV_CAS = 0x16
    NAMESPACE_CREATE = 0x70
    NAMESPACE_LIST = 0x71
    NAMESPACE_DELETE = 0x72
    NAMESPACE_INFO = 0x73
    CLUSTER_JOIN = 0xC0
    CLUSTER_LEAVE = 0xC1
    CLUSTER_STATUS = 0xC2
    CLUSTER_PARTITION_TABLE = 0xC3
    CLUSTER_PROMOTE = 0xC4
    CLUSTER_REMOVE = 0xC5
    CLUSTER_FETCH = 0xC6
    KV_INFO = 0x17
    KV_MGET = 0x102
    KV_INCR = 0x10B
    KV_JSON_GET = 0x10C
    KV_JSON_SET = 0x10D
    KV_JSON_DEL = 0x10E
    KV_TOUCH = 0x113
    KV_PERSIST = 0x114
    KV_EXISTS = 0x115


class StreamOp(IntEnum):
    """The codes of the operations on streams."""

    STREAM_APPEND = 0x30
    STREAM_READ = 0x31
    STREAM_CREATE = 0x32
    STREAM_INFO = 0x33
    STREAM_TRIM = 0x34
    STREAM_GROUP_CREATE = 0x35
    STREAM_GROUP_READ = 0x36
    STREAM_GROUP_ACK = 0x37
    STREAM_GROUP_NACK = 0x38
    STREAM_GROUP_TOUCH = 0x39
    STREAM_GROUP_PENDING = 0x3A
    STREAM_GROUP_CLAIM = 0x3B
    STREAM_GROUP_INFO = 0x3C
    STREAM_GROUP_DELETE = 0x3D
    STREAM_LIST = 0x3E
    STREAM_DELETE = 0x3F


class Opt(IntEnum):
    """The types of the options."""

    TTL = 0x01
    CAS_VERSION = 0x02
    BLOCK = 0x06
    IF_ABSENT = 0x10
    IF_PRESENT = 0x11
    LIMIT = 0x12
    CURSOR = 0x13
    KEYS_ONLY = 0x14
    WAIT = 0x15
    DELTA = 0x18
    PATH = 0x19
    KEEP_TTL = 0x1B
    PATTERN = 0x1C
    CLIP = 0x1D


class StreamOpt(IntEnum):
    """The types of the options that the operations on streams take, and those on keys do not."""

    DELAY = 0x04
    GROUP = 0x07
    LEASE = 0x16
    START = 0x20
    END = 0x21
    TAIL = 0x22
    MAX_LEN = 0x23
    MAX_AGE = 0x24
    MAX_BYTES = 0x25
    DRY_RUN = 0x26
    CONSUMER = 0x30
    NO_ACK = 0x31
    ACK_TIMEOUT = 0x32
    MAX_DELIVER = 0x33
    MIN_IDLE = 0x34


class ProtocolError(Exception):
    """The server sent what the page does not allow."""


class ServerRefused(Exception):
    """The server cannot serve this client at all; the message is its line, for the user."""


class ConnectionEnded(ConnectionError):
    """The server closed the connection, between two responses."""


class WireError(Exception):
    """A response of another status than OK."""

    def __init__(self, status: Status, message: str, version: int) -> None:
        super().__init__(f"{status.name}: {message}")
        self.status = status
        self.message = message
        self.version = version


class Response(NamedTuple):
    """One response, its payload inflated."""

    req_id: int
    status: Status
    compressed: bool
    payload: bytes

    def error(self) -> WireError:
        """The error that a status other than OK stands for."""
        version, text = 0, self.payload
        if self.status is Status.CONFLICT:
            if len(text) < 8:
                raise ProtocolError(f"a CONFLICT of {len(text)} bytes has no version")
            version, text = int.from_bytes(text[:8], "little"), text[8:]
        return WireError(self.status, text.decode("utf-8"), version)


class Found(NamedTuple):
    """A value and its version."""

    version: int
    value: bytes


class Page(NamedTuple):
    """An answer of `kv_scan`."""

    has_more: bool
    cursor: bytes
    items: list[tuple[bytes, bytes]]


class Past(NamedTuple):
    """A version of a key, of `kv_history`."""

    version: int
    time: int
    tombstone: bool
    value: bytes


class Number(NamedTuple):
    """The answer of `kv_incr`."""

    value: int
    version: int


class Id(NamedTuple):
    """The id of a record; they compare as the page says: by ms, then by seq."""

    ms: int
    seq: int

    def next(self) -> "Id":
        """Where a reader goes on: seq one higher."""
        return Id(self.ms, self.seq + 1) if self.seq < 2**64 - 1 else Id(self.ms + 1, 0)

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"


class Record(NamedTuple):
    """A record of a stream, of `stream_read`."""

    id: Id
    kind: int
    payload: bytes


class Delivery(NamedTuple):
    """A record as it was delivered to a consumer."""

    id: Id
    kind: int
    deliveries: int
    payload: bytes


class StreamInfo(NamedTuple):
    """The answer of `stream_info`."""

    first: Id
    last: Id
    records: int
    bytes: int
    groups: int


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how to read its answer."""

    opcode: int
    parse: Callable[[bytes], T]
    key: bytes = b""
    value: bytes = b""
    options: bytes = b""


class Reader:
    """Reads an answer by its layout; every byte must be accounted for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if self.at + size > len(self.data):
            raise ProtocolError(f"the answer ends at {len(self.data)}, within a field at {self.at}")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int, signed: bool = False) -> int:
        """An integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little", signed=signed)

    def flag(self) -> bool:
        """A u8 of 0 or 1."""
        value = self.number(1)
        if value > 1:
            raise ProtocolError(f"{value} is neither 0 nor 1")
        return value == 1

    def name(self) -> bytes:
        """A name: u16 length, bytes."""
        return self.take(self.number(2))

    def blob(self) -> bytes:
        """A blob: u32 length, bytes."""
        return self.take(self.number(4))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self.data) - self.at)

    def end(self) -> None:
        """Nothing may be left."""
        if self.at != len(self.data):
            raise ProtocolError(f"{len(self.data) - self.at} bytes too many")


# Answers


def read_empty(data: bytes) -> None:
    """No bytes."""
    Reader(data).end()


def read_rest(data: bytes) -> bytes:
    """`value rest`"""
    return data


def read_json(data: bytes) -> Any:
    """A JSON text in UTF-8."""
    return json.loads(data.decode("utf-8"))


def read_version(data: bytes) -> int:
    """`version u64`"""
    reader = Reader(data)
    version = reader.number(8)
    reader.end()
    return version


def read_found(data: bytes) -> Found:
    """`version u64, value rest`"""
    reader = Reader(data)
    return Found(reader.number(8), reader.rest())


def read_exists(data: bytes) -> bool:
    """`exists u8`"""
    reader = Reader(data)
    exists = reader.flag()
    reader.end()
    return exists


def read_names(data: bytes) -> list[bytes]:
    """`count u32, (namespace name)*`"""
    reader = Reader(data)
    names = [reader.name() for _ in range(reader.number(4))]
    reader.end()
    return names


def read_page(data: bytes) -> Page:
    """`has_more u8, cursor blob, count u32, (key name, value blob)*`"""
    reader = Reader(data)
    has_more, cursor = reader.flag(), reader.blob()
    items = [(reader.name(), reader.blob()) for _ in range(reader.number(4))]
    reader.end()
    if has_more != bool(cursor):
        raise ProtocolError(f"has_more {has_more} with a cursor of {len(cursor)} bytes")
    return Page(has_more, cursor, items)


def read_versions(data: bytes) -> list[int]:
    """`count u32, (version u64)*`"""
    reader = Reader(data)
    versions = [reader.number(8) for _ in range(reader.number(4))]
    reader.end()
    return versions


def read_history(data: bytes) -> list[Past]:
    """`count u32, (version u64, time i64, tombstone u8, value blob)*`"""
    reader = Reader(data)
    history = [Past(reader.number(8), reader.number(8, signed=True), reader.flag(), reader.blob()) for _ in range(reader.number(4))]
    reader.end()
    return history


def read_mget(data: bytes) -> list[Found | None]:
    """`count u16, (found u8, version u64, value blob)*`"""
    reader = Reader(data)
    items: list[Found | None] = []
    for _ in range(reader.number(2)):
        found, version, value = reader.flag(), reader.number(8), reader.blob()
        if not found and (version or value):
            raise ProtocolError("a missing key has a version or a value")
        items.append(Found(version, value) if found else None)
    reader.end()
    return items


def read_number(data: bytes) -> Number:
    """`value i64, version u64`"""
    reader = Reader(data)
    number = Number(reader.number(8, signed=True), reader.number(8))
    reader.end()
    return number


def read_u32(data: bytes) -> int:
    """One u32: `acked`, `given_back`, `touched`."""
    reader = Reader(data)
    number = reader.number(4)
    reader.end()
    return number


def read_u64(data: bytes) -> int:
    """One u64: `removed`."""
    reader = Reader(data)
    number = reader.number(8)
    reader.end()
    return number


def _id(reader: Reader) -> Id:
    return Id(reader.number(8), reader.number(8))


def _kind(reader: Reader) -> int:
    kind = reader.number(1)
    if kind > 1:
        raise ProtocolError(f"{kind} is no kind of a record")
    return kind


def read_id(data: bytes) -> Id:
    """`ms u64, seq u64`"""
    reader = Reader(data)
    answer = _id(reader)
    reader.end()
    return answer


def read_records(data: bytes) -> list[Record]:
    """`count u32, (ms u64, seq u64, kind u8, payload blob)*`"""
    reader = Reader(data)
    records = [Record(_id(reader), _kind(reader), reader.blob()) for _ in range(reader.number(4))]
    reader.end()
    return records


def read_deliveries(data: bytes) -> list[Delivery]:
    """`count u32, (ms u64, seq u64, kind u8, deliveries u32, payload blob)*`"""
    reader = Reader(data)
    records = [Delivery(_id(reader), _kind(reader), reader.number(4), reader.blob()) for _ in range(reader.number(4))]
    reader.end()
    return records


def read_stream_info(data: bytes) -> StreamInfo:
    """`first_ms u64, first_seq u64, last_ms u64, last_seq u64, count u64, bytes u64, groups u32`"""
    reader = Reader(data)
    info = StreamInfo(_id(reader), _id(reader), reader.number(8), reader.number(8), reader.number(4))
    reader.end()
    return info


def read_fields(payload: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a record of kind 1: count u16, then of each its name (u16 length, bytes) and its value (u32 length, bytes)."""
    reader = Reader(payload)
    fields = [(reader.name(), reader.blob()) for _ in range(reader.number(2))]
    reader.end()
    return fields


# Requests


def option(kind: int, data: bytes = b"") -> bytes:
    """One option."""
    return struct.pack("<BH", kind, len(data)) + data


def options(
    *,
    ttl: int | None = None,
    cas_version: int | None = None,
    block: int | None = None,
    if_absent: bool = False,
    if_present: bool = False,
    limit: int | None = None,
    cursor: bytes | None = None,
    keys_only: bool = False,
    keep_ttl: bool = False,
    wait: int | None = None,
    delta: int | None = None,
    path: str | bytes | None = None,
) -> bytes:
    """The options given, encoded."""
    parts = []
    for kind, number, size in (
        (Opt.TTL, ttl, 8),
        (Opt.CAS_VERSION, cas_version, 8),
        (Opt.BLOCK, block, 4),
        (Opt.LIMIT, limit, 4),
        (Opt.WAIT, wait, 4),
    ):
        if number is not None:
            parts.append(option(kind, number.to_bytes(size, "little")))
    if delta is not None:
        parts.append(option(Opt.DELTA, delta.to_bytes(8, "little", signed=True)))
    parts += [
        option(kind)
        for kind, given in (
            (Opt.IF_ABSENT, if_absent),
            (Opt.IF_PRESENT, if_present),
            (Opt.KEYS_ONLY, keys_only),
            (Opt.KEEP_TTL, keep_ttl),
        )
        if given
    ]
    if cursor is not None:
        parts.append(option(Opt.CURSOR, cursor))
    if path is not None:
        parts.append(option(Opt.PATH, path.encode() if isinstance(path, str) else path))
    return b"".join(parts)


def stream_options(
    *,
    block: int | None = None,
    limit: int | None = None,
    cursor: bytes | None = None,
    delay: int | None = None,
    lease: int | None = None,
    group: bytes | None = None,
    consumer: bytes | None = None,
    start: Id | None = None,
    end: Id | None = None,
    tail: bool = False,
    max_len: int | None = None,
    max_age: int | None = None,
    max_bytes: int | None = None,
    dry_run: bool = False,
    no_ack: bool = False,
    ack_timeout: int | None = None,
    max_deliver: int | None = None,
    min_idle: int | None = None,
) -> bytes:
    """The options given, of those that operations on streams take, encoded."""
    parts = [options(block=block, limit=limit, cursor=cursor)]
    parts += [
        option(kind, number.to_bytes(size, "little"))
        for kind, number, size in (
            (StreamOpt.DELAY, delay, 8),
            (StreamOpt.LEASE, lease, 4),
            (StreamOpt.MAX_LEN, max_len, 8),
            (StreamOpt.MAX_AGE, max_age, 8),
            (StreamOpt.MAX_BYTES, max_bytes, 8),
            (StreamOpt.ACK_TIMEOUT, ack_timeout, 4),
            (StreamOpt.MAX_DELIVER, max_deliver, 4),
            (StreamOpt.MIN_IDLE, min_idle, 8),
        )
        if number is not None
    ]
    parts += [option(kind, data) for kind, data in ((StreamOpt.GROUP, group), (StreamOpt.CONSUMER, consumer)) if data is not None]
    parts += [option(kind, id_bytes(at)) for kind, at in ((StreamOpt.START, start), (StreamOpt.END, end)) if at is not None]
    flags = ((StreamOpt.TAIL, tail), (StreamOpt.DRY_RUN, dry_run), (StreamOpt.NO_ACK, no_ack))
    parts += [option(kind) for kind, given in flags if given]
    return b"".join(parts)


def id_bytes(at: Id) -> bytes:
    """An id, ms u64 and seq u64: the page has it so in answers and values, and only names the form `id` of options."""
    return struct.pack("<QQ", *at)


def ids_bytes(ids: Sequence[Id]) -> bytes:
    """`count u32, (ms u64, seq u64)*`"""
    return struct.pack("<I", len(ids)) + b"".join(map(id_bytes, ids))


def name(data: bytes) -> bytes:
    """A name: u16 length, bytes."""
    return struct.pack("<H", len(data)) + data


def blob(data: bytes) -> bytes:
    """A blob: u32 length, bytes."""
    return struct.pack("<I", len(data)) + data


def namespace_hash(namespace: str | None) -> int:
    """FNV-1a of a namespace's name; 0 for none, which is `default`."""
    if namespace is None:
        return 0
    value = 0xCBF29CE484222325
    for byte in namespace.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def request(call: Call[Any], req_id: int, namespace: int = 0, flags: int = 0) -> bytes:
    """A request's bytes. Flag bit 0 compresses the value."""
    value = zlib.compress(call.value) if flags & COMPRESSED else call.value
    size = len(call.key) + len(value) + len(call.options)
    header = REQUEST.pack(MAGIC, call.opcode, flags, req_id, size, namespace, len(call.key), len(call.options))
    return header + call.key + value + call.options


def ping(value: bytes = b"") -> Call[bytes]:
    """Echoes its value."""
    return Call(Op.PING, read_rest, value=value)


def auth(secret: bytes) -> Call[None]:
    """Gives the secret."""
    return Call(Op.AUTH, read_empty, value=secret)


def namespace_create(namespace: str | bytes) -> Call[None]:
    """Binds a name to its hash."""
    return Call(Op.NAMESPACE_CREATE, read_empty, key=_bytes(namespace))


def namespace_list() -> Call[list[bytes]]:
    """Names every namespace."""
    return Call(Op.NAMESPACE_LIST, read_names)


def namespace_delete(namespace: str | bytes) -> Call[None]:
    """Deletes an empty namespace."""
    return Call(Op.NAMESPACE_DELETE, read_empty, key=_bytes(namespace))


def namespace_info(namespace: str | bytes) -> Call[Any]:
    """Tells what is in a namespace."""
    return Call(Op.NAMESPACE_INFO, read_json, key=_bytes(namespace))


def cluster_join(value: bytes = b"") -> Call[None]:
    """Is refused by a standalone server."""
    return Call(Op.CLUSTER_JOIN, read_empty, value=value)


def cluster_leave(value: bytes = b"") -> Call[None]:
    """Is refused by a standalone server."""
    return Call(Op.CLUSTER_LEAVE, read_empty, value=value)


def cluster_promote(node: bytes) -> Call[None]:
    """Gives the lead to a member."""
    return Call(Op.CLUSTER_PROMOTE, read_empty, key=node)


def cluster_remove(node: bytes) -> Call[None]:
    """Forgets a member."""
    return Call(Op.CLUSTER_REMOVE, read_empty, key=node)


def cluster_fetch(file: bytes, offset: int) -> Call[bytes]:
    """A piece of a file of the log."""
    return Call(Op.CLUSTER_FETCH, read_rest, key=file, value=struct.pack("<Q", offset) if file else b"")


def server_stats(*, block: int | None = None) -> Call[Any]:
    """Tells what the server has counted; with `block`, the next time that it is made."""
    return Call(Op.SERVER_STATS, read_json, options=options(block=block))


def server_view(view: bytes, *, limit: int | None = None, cursor: bytes | None = None) -> Call[Any]:
    """Lists clients, slow requests, lines of the log or settings."""
    return Call(Op.SERVER_VIEW, read_json, value=view, options=options(limit=limit, cursor=cursor))


def cluster_status() -> Call[Any]:
    """Tells about the server."""
    return Call(Op.CLUSTER_STATUS, read_json)


def cluster_partition_table() -> Call[Any]:
    """One partition."""
    return Call(Op.CLUSTER_PARTITION_TABLE, read_json)


def kv_get(key: bytes, *, wait: int | None = None, block: int | None = None, cas_version: int | None = None) -> Call[Found]:
    """Reads a key; `wait` for it to exist, `block` for it to change, in milliseconds."""
    return Call(Op.KV_GET, read_found, key, options=options(wait=wait, block=block, cas_version=cas_version))


def kv_put(
    key: bytes,
    value: bytes,
    *,
    ttl: int | None = None,
    cas_version: int | None = None,
    if_absent: bool = False,
    if_present: bool = False,
    keep_ttl: bool = False,
) -> Call[int]:
    """Sets a key."""
    given = options(ttl=ttl, cas_version=cas_version, if_absent=if_absent, if_present=if_present, keep_ttl=keep_ttl)
    return Call(Op.KV_PUT, read_version, key, value, given)


def kv_delete(key: bytes, *, cas_version: int | None = None) -> Call[int]:
    """Deletes a key."""
    return Call(Op.KV_DELETE, read_version, key, options=options(cas_version=cas_version))


def kv_scan(prefix: bytes = b"", *, limit: int | None = None, cursor: bytes | None = None, keys_only: bool = False) -> Call[Page]:
    """Lists the keys with a prefix."""
    return Call(Op.KV_SCAN, read_page, prefix, options=options(limit=limit, cursor=cursor, keys_only=keys_only))


def kv_batch_put(items: Sequence[tuple[bytes, bytes, int]]) -> Call[list[int]]:
    """Sets keys to values with ttls, all or nothing."""
    parts = [struct.pack("<I", len(items))]
    parts += [name(key) + blob(value) + struct.pack("<Q", ttl) for key, value, ttl in items]
    return Call(Op.KV_BATCH_PUT, read_versions, value=b"".join(parts))


def kv_history(key: bytes, *, limit: int | None = None) -> Call[list[Past]]:
    """Lists a key's versions, newest first."""
    return Call(Op.KV_HISTORY, read_history, key, options=options(limit=limit))


def kv_cas(key: bytes, value: bytes, cas_version: int, *, ttl: int | None = None) -> Call[int]:
    """Sets a key if it has the version given."""
    return Call(Op.KV_CAS, read_version, key, value, options(cas_version=cas_version, ttl=ttl))


def kv_info(key: bytes) -> Call[Any]:
    """What is known about a key besides its value."""
    return Call(Op.KV_INFO, read_json, key)


def kv_mget(keys: Sequence[bytes]) -> Call[list[Found | None]]:
    """Reads keys, in their order."""
    return Call(Op.KV_MGET, read_mget, value=struct.pack("<H", len(keys)) + b"".join(map(name, keys)))


def kv_incr(key: bytes, delta: int | None = None) -> Call[Number]:
    """Adds to a counter."""
    return Call(Op.KV_INCR, read_number, key, options=options(delta=delta))


def kv_json_get(key: bytes, path: str | bytes | None = None) -> Call[Found]:
    """Reads a document, or a part."""
    return Call(Op.KV_JSON_GET, read_found, key, options=options(path=path))


def kv_json_set(key: bytes, text: str | bytes, path: str | bytes | None = None, *, cas_version: int | None = None) -> Call[int]:
    """Sets a document, or a part."""
    return Call(Op.KV_JSON_SET, read_version, key, _bytes(text), options(path=path, cas_version=cas_version))


def kv_json_del(key: bytes, path: str | bytes | None = None, *, cas_version: int | None = None) -> Call[int]:
    """Deletes a document, or a part."""
    return Call(Op.KV_JSON_DEL, read_version, key, options=options(path=path, cas_version=cas_version))


def kv_touch(key: bytes, ttl: int, *, cas_version: int | None = None) -> Call[int]:
    """Gives a key a deadline; ttl 0 takes it away."""
    return Call(Op.KV_TOUCH, read_version, key, options=options(ttl=ttl, cas_version=cas_version))


def kv_persist(key: bytes, *, cas_version: int | None = None) -> Call[int]:
    """Takes a key's deadline away."""
    return Call(Op.KV_PERSIST, read_version, key, options=options(cas_version=cas_version))


def kv_exists(key: bytes) -> Call[bool]:
    """Whether the key is there."""
    return Call(Op.KV_EXISTS, read_exists, key)


def stream_append(stream: bytes, payload: bytes) -> Call[Id]:
    """Appends a record."""
    return Call(StreamOp.STREAM_APPEND, read_id, stream, payload)


def stream_read(
    stream: bytes,
    *,
    start: Id | None = None,
    end: Id | None = None,
    tail: bool = False,
    limit: int | None = None,
    block: int | None = None,
) -> Call[list[Record]]:
    """Reads records by id, oldest first; `block` waits for the first, in milliseconds."""
    given = stream_options(start=start, end=end, tail=tail, limit=limit, block=block)
    return Call(StreamOp.STREAM_READ, read_records, stream, options=given)


def stream_create(stream: bytes, *, max_len: int | None = None, max_age: int | None = None, max_bytes: int | None = None) -> Call[None]:
    """Makes an empty stream, with bounds."""
    return Call(StreamOp.STREAM_CREATE, read_empty, stream, options=stream_options(max_len=max_len, max_age=max_age, max_bytes=max_bytes))


def stream_info(stream: bytes) -> Call[StreamInfo]:
    """Tells about a stream."""
    return Call(StreamOp.STREAM_INFO, read_stream_info, stream)


def stream_trim(
    stream: bytes,
    *,
    start: Id | None = None,
    max_len: int | None = None,
    max_age: int | None = None,
    max_bytes: int | None = None,
    dry_run: bool = False,
) -> Call[int]:
    """Removes the oldest records."""
    given = stream_options(start=start, max_len=max_len, max_age=max_age, max_bytes=max_bytes, dry_run=dry_run)
    return Call(StreamOp.STREAM_TRIM, read_u64, stream, options=given)


def stream_group_create(
    stream: bytes,
    group: bytes,
    *,
    start: Id | None = None,
    tail: bool = False,
    ack_timeout: int | None = None,
    max_deliver: int | None = None,
) -> Call[None]:
    """Makes a group, and the stream."""
    given = stream_options(group=group, start=start, tail=tail, ack_timeout=ack_timeout, max_deliver=max_deliver)
    return Call(StreamOp.STREAM_GROUP_CREATE, read_empty, stream, options=given)


def stream_group_read(
    stream: bytes, group: bytes, consumer: bytes, *, limit: int | None = None, block: int | None = None, no_ack: bool = False
) -> Call[list[Delivery]]:
    """Delivers records to a consumer."""
    given = stream_options(group=group, consumer=consumer, limit=limit, block=block, no_ack=no_ack)
    return Call(StreamOp.STREAM_GROUP_READ, read_deliveries, stream, options=given)


def stream_group_ack(stream: bytes, group: bytes, ids: Sequence[Id]) -> Call[int]:
    """Ends deliveries."""
    return Call(StreamOp.STREAM_GROUP_ACK, read_u32, stream, ids_bytes(ids), stream_options(group=group))


def stream_group_nack(
    stream: bytes, group: bytes, ids: Sequence[Id], *, delay: int | None = None, consumer: bytes | None = None
) -> Call[int]:
    """Gives deliveries back."""
    given = stream_options(group=group, delay=delay, consumer=consumer)
    return Call(StreamOp.STREAM_GROUP_NACK, read_u32, stream, ids_bytes(ids), given)


def stream_group_touch(
    stream: bytes, group: bytes, ids: Sequence[Id], *, lease: int | None = None, consumer: bytes | None = None
) -> Call[int]:
    """Lets deliveries run out later."""
    given = stream_options(group=group, lease=lease, consumer=consumer)
    return Call(StreamOp.STREAM_GROUP_TOUCH, read_u32, stream, ids_bytes(ids), given)


def stream_group_pending(stream: bytes, group: bytes) -> Call[Any]:
    """Tells what is delivered and not acknowledged."""
    return Call(StreamOp.STREAM_GROUP_PENDING, read_json, stream, options=stream_options(group=group))


def stream_group_claim(
    stream: bytes, group: bytes, consumer: bytes, *, min_idle: int | None = None, limit: int | None = None
) -> Call[list[Delivery]]:
    """Delivers to this consumer what is pending."""
    given = stream_options(group=group, consumer=consumer, min_idle=min_idle, limit=limit)
    return Call(StreamOp.STREAM_GROUP_CLAIM, read_deliveries, stream, options=given)


def stream_group_info(stream: bytes, group: bytes) -> Call[Any]:
    """Tells about a group."""
    return Call(StreamOp.STREAM_GROUP_INFO, read_json, stream, options=stream_options(group=group))


def stream_group_delete(stream: bytes, group: bytes) -> Call[None]:
    """Deletes a group."""
    return Call(StreamOp.STREAM_GROUP_DELETE, read_empty, stream, options=stream_options(group=group))


def stream_list(*, limit: int | None = None, cursor: bytes | None = None) -> Call[Any]:
    """Names the streams."""
    return Call(StreamOp.STREAM_LIST, read_json, options=stream_options(limit=limit, cursor=cursor))


def stream_delete(stream: bytes) -> Call[None]:
    """Deletes a stream with its groups."""
    return Call(StreamOp.STREAM_DELETE, read_empty, stream)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


class Client:
    """A connection. Not for several threads at once. `namespace` is that of calls which name none.

    Reads while it writes, so that a long pipeline cannot end with both sides waiting for the other to read.
    """

    def __init__(
        self, port: int, *, host: str = "127.0.0.1", timeout: float = 10, secret: bytes | None = None, namespace: str | None = None
    ) -> None:
        self.timeout = timeout
        self.namespace = namespace
        self.sock = socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.received = bytearray()
        self.ended = False
        self.greeted = False
        self.next_id = 1
        self.calls: dict[int, Call[Any]] = {}
        self.responses: dict[int, Response] = {}
        self.order: list[int] = []
        if secret is not None:
            self.run(auth(secret))

    # One request

    def run(self, call: Call[T], *, namespace: str | None = None, compress: bool = False, accept: bool = False) -> T:
        """Do one call; raises `WireError` where it is refused."""
        return self.finish(call, self.start(call, namespace=namespace, compress=compress, accept=accept))

    def respond(self, call: Call[Any], *, namespace: str | None = None, compress: bool = False, accept: bool = False) -> Response:
        """Do one call; the response as it is, also where it is a refusal."""
        return self.response(self.start(call, namespace=namespace, compress=compress, accept=accept))

    # Many requests

    def start(
        self, call: Call[Any], *, namespace: str | None = None, compress: bool = False, accept: bool = False, req_id: int | None = None
    ) -> int:
        """Send a call without waiting; its id."""
        req_id, data = self.prepare(call, namespace=namespace, compress=compress, accept=accept, req_id=req_id)
        self.send(data)
        return req_id

    def prepare(
        self, call: Call[Any], *, namespace: str | None = None, compress: bool = False, accept: bool = False, req_id: int | None = None
    ) -> tuple[int, bytes]:
        """A call's id and bytes, for `send`."""
        if req_id is None:
            req_id, self.next_id = self.next_id, self.next_id + 1
        if req_id in self.calls:
            raise ValueError(f"the id {req_id} is under way")
        self.calls[req_id] = call
        flags = (COMPRESSED if compress else 0) | (ACCEPT_COMPRESSED if accept else 0)
        return req_id, request(call, req_id, namespace_hash(self.namespace if namespace is None else namespace), flags)

    def finish(self, call: Call[T], req_id: int) -> T:
        """The answer of a call started before."""
        response = self.response(req_id)
        if response.status is not Status.OK:
            raise response.error()
        return call.parse(response.payload)

    def pipeline(self, calls: Sequence[Call[Any]], *, namespace: str | None = None) -> list[Response]:
        """Many calls in one write; their responses, in the order of the calls."""
        prepared = [self.prepare(call, namespace=namespace) for call in calls]
        self.send(b"".join(data for _, data in prepared))
        return [self.response(req_id) for req_id, _ in prepared]

    # The connection

    def send(self, data: bytes) -> None:
        """Raw bytes; what comes meanwhile is kept."""
        deadline = time.monotonic() + self.timeout
        view = memoryview(data)
        while view:
            readers = [] if self.ended else [self.sock]
            readable, writable, _ = select.select(readers, [self.sock], [], max(0, deadline - time.monotonic()))
            if not readable and not writable:
                raise TimeoutError(f"{len(view)} bytes could not be sent in {self.timeout} s")
            if readable:
                self._read()
            if writable:
                try:
                    view = view[self.sock.send(view) :]
                except BlockingIOError:
                    continue
                except (BrokenPipeError, ConnectionResetError):
                    self._drain()
                    return

    def response(self, req_id: int) -> Response:
        """Wait for one response; others that come before it are kept."""
        while req_id not in self.responses:
            self._next()
        return self.responses.pop(req_id)

    def any_response(self) -> Response:
        """The response that comes next, whichever it is."""
        while not self.responses:
            self._next()
        return self.responses.pop(next(iter(self.responses)))

    def shutdown(self) -> None:
        """Send no more."""
        self.sock.shutdown(socket.SHUT_WR)

    def at_end(self) -> bool:
        """Wait for the end of the connection; false where a byte comes instead."""
        deadline = time.monotonic() + self.timeout
        while not self.ended and not self.received:
            self._wait(deadline)
        return not self.received

    def close(self) -> None:
        """End the connection."""
        self.sock.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _next(self) -> None:
        """Take in one response."""
        deadline = time.monotonic() + self.timeout
        while (response := self._parse()) is None:
            if self.ended:
                raise ConnectionEnded(f"the connection ended, with {len(self.received)} bytes of a response")
            self._wait(deadline)
        if response.req_id in self.responses:
            raise ProtocolError(f"two responses of the id {response.req_id}")
        self.order.append(response.req_id)
        self.calls.pop(response.req_id, None)
        self.responses[response.req_id] = response

    def _wait(self, deadline: float) -> None:
        if not select.select([self.sock], [], [], max(0, deadline - time.monotonic()))[0]:
            raise TimeoutError(f"nothing came in {self.timeout} s")
        self._read()

    def _read(self) -> None:
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        self.received += data
        self.ended = self.ended or not data

    def _drain(self) -> None:
        """The other side is gone: what it sent before is still to be read."""
        deadline = time.monotonic() + self.timeout
        with contextlib.suppress(TimeoutError):
            while not self.ended:
                self._wait(deadline)

    def _parse(self) -> Response | None:
        """The response at the front of what was received, if it is whole."""
        if not self.greeted and self.received:
            if self.received[0] == ord("-"):
                if b"\r\n" not in self.received:
                    return None
                raise ServerRefused(self.received.split(b"\r\n")[0][1:].decode())
            self.greeted = True
        if len(self.received) < RESPONSE.size:
            return None
        magic, status, flags, req_id, size, zeros = RESPONSE.unpack_from(self.received)
        if magic != MAGIC or zeros != b"\0\0\0\0" or flags & ~COMPRESSED:
            raise ProtocolError(f"no header of a response: {bytes(self.received[: RESPONSE.size]).hex(' ')}")
        end = RESPONSE.size + size
        if len(self.received) < end:
            return None
        payload = bytes(self.received[RESPONSE.size : end])
        del self.received[:end]
        if flags & COMPRESSED:
            payload = _inflate(payload)
        return Response(req_id, Status(status), bool(flags & COMPRESSED), payload)


def _inflate(data: bytes) -> bytes:
    """One whole zlib stream, within the bound the page gives."""
    stream = zlib.decompressobj()
    text = stream.decompress(data, MAX_RESPONSE_INFLATED + 1)
    if not stream.eof or stream.unused_data or len(text) > MAX_RESPONSE_INFLATED or len(text) < 1025 or len(data) >= len(text):
        raise ProtocolError("the compressed payload is not one whole stream, or not of a length that is compressed")
    return text
