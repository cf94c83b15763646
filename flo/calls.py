"""Requests as values: encode a request, decode its answer. This module uses no socket.

The functions below make `Call`s. `flo.Client` runs them, one by one or many at once (`Client.run_many`); an asyncio client could run them
too: `encode` gives the bytes, `finish` takes the response. Arguments are checked when the call is made (flo.given): names and values are
text or bytes, numbers are ints, and anything else is a `TypeError`.

    version, entry = client.run_many([kv_put("a", b"1"), kv_get("a")])
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from flo.errors import BadRequest, FloError, NotFound
from flo.given import RANGES, Text, data, flag, number, ranged, several, text, told
from flo.proto import binary, fields
from flo.proto.binary import Response, decode_answer, encode_request, error_of
from flo.proto.operations import BY_NAME, OPTION_BY_NAME
from flo.proto.shapes import shape

T = TypeVar("T")
COMPRESS_BYTES_MIN = 1 << 10  # compressing a shorter value does not pay
_PARAMETERS = {"cas_version": "cas", "dedup_key": "dedup", "to_dlq": "dead", "wait": "timeout_ms"}  # options with another name here


class Entry(NamedTuple):
    """A key's version and value."""

    version: int
    value: bytes


class Page(NamedTuple):
    """One page of a scan. `cursor` begins the next page; it is empty at the end."""

    items: list[tuple[bytes, bytes]]
    cursor: bytes


class HistoryItem(NamedTuple):
    """One version of a key: `time` in Unix ms; a deletion is a `tombstone`."""

    version: int
    time: int
    tombstone: bool
    value: bytes


class Counter(NamedTuple):
    """A counter's value and its version."""

    value: int
    version: int


class NotAnAnswer(FloError):
    """The payload of an OK answer does not have the operation's layout: no Flo server sent it."""


class Message(NamedTuple):
    """A message of a queue. `time`, in Unix ms, is when it was enqueued; for a dead letter, when it died."""

    seq: int
    priority: int
    attempts: int
    time: int
    payload: bytes

    @property
    def receipt(self) -> tuple[int, int]:
        """The receipt of this delivery; it acknowledges no later one."""
        return self.seq, self.attempts


class StreamId(NamedTuple):
    """A record's place in its stream; `str()` gives `ms-seq`."""

    ms: int
    seq: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"


Id = StreamId | tuple[int, int] | str  # text is `ms-seq`, or `ms` for `ms-0`


class StreamRecord(NamedTuple):
    """A record of a stream. `kind` is 0 for bytes, 1 for a list of fields; `deliveries` is how often a group delivered it."""

    id: StreamId
    kind: int
    payload: bytes
    deliveries: int = 0

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """The fields that XADD wrote; a record of bytes has the one field `data`."""
        if self.kind == 0:
            return [(b"data", self.payload)]
        items = fields.unpack(self.payload)
        return list(zip(items[::2], items[1::2], strict=True))


class StreamInfo(NamedTuple):
    """A stream's ids, size and groups. `last` is the highest id it ever had; a missing id is 0-0."""

    first: StreamId
    last: StreamId
    records: int
    size: int  # bytes of payloads
    groups: int


Receipt = Message | tuple[int, int] | int  # an int is a seq: the present lease, whoever holds it


class Call(Generic[T]):
    """One request. `decode` turns the values of an OK answer into the result. `missing`, if given, makes NOT_FOUND a result instead of
    an error. `waits` is how many ms the server may delay the answer: 0 for ever, None not at all."""

    __slots__ = ("_decode", "_key", "_missing", "_options", "_value", "operation", "waits")

    def __init__(
        self,
        name: str,
        decode: Callable[..., T],
        key: Text = b"",
        value: Text = b"",
        options: Mapping[str, Any] | None = None,
        missing: Callable[[], T] | None = None,
        waits: int | None = None,
    ) -> None:
        self.operation = BY_NAME[name]
        self._decode = decode
        self._key = data(key, self.operation.key.removeprefix("its "))
        self._value = data(value, "secret" if name == "auth" else "value")
        self._options = {option: _option(option, given) for option, given in (options or {}).items() if given is not None}
        self._missing = missing
        self.waits = waits

    def encode(self, req_id: int, namespace_hash: int, compress: bool = False) -> bytes:
        """The request's bytes. Raises `BadRequest` if it exceeds a limit of the protocol."""
        return encode_request(
            self.operation,
            req_id,
            0 if self.operation.plain else namespace_hash,
            self._key,
            self._value,
            self._options,
            compress=compress and len(self._value) >= COMPRESS_BYTES_MIN,
            accept_compressed=compress,
        )

    def finish(self, response: Response) -> T:
        """The result. Raises the refusal in the response, if it is one, or `NotAnAnswer`."""
        if response.status == binary.OK:
            try:
                values = decode_answer(self.operation, response.payload)
            except BadRequest as e:
                raise NotAnAnswer(str(e)) from None
            return self._decode(*values)
        error = error_of(response)
        if self._missing is not None and isinstance(error, NotFound):
            return self._missing()
        raise error


def _option(name: str, given: Any) -> Any:
    """The value of an option, checked against its row in the table."""
    form, what = OPTION_BY_NAME[name].form, _PARAMETERS.get(name, name)
    if form == "bytes":
        return data(given, what)
    if form == "empty":
        return flag(given, what)
    return given if form == "id" else ranged(given, what, *RANGES[form])


def _nothing() -> None:
    return None


def _same(value: T) -> T:
    return value


# -- system and namespaces -------------------------------------------------------------------------


def ping(value: Text = b"") -> Call[bytes]:
    """Echo."""
    return Call("ping", _same, value=value)


def auth(secret: Text) -> Call[None]:
    """Send the secret. A wrong one is refused as `Unauthorized` after a second."""
    return Call("auth", _nothing, value=secret)


def status() -> Call[dict[str, Any]]:
    """The server's status: docs/wire-protocol.md, "JSON answers"."""
    return Call("cluster_status", _same)


def partition_table() -> Call[dict[str, Any]]:
    """One partition, on this server."""
    return Call("cluster_partition_table", _same)


def namespace_create(name: Text) -> Call[None]:
    """Create a namespace; no error if it exists."""
    return Call("namespace_create", _nothing, name)


def namespace_list() -> Call[list[str]]:
    """Every namespace's name."""
    return Call("namespace_list", lambda names: [name.decode() for name in names])


def namespace_delete(name: Text) -> Call[None]:
    """Delete an empty namespace. Refused as `Conflict` while anything is in it."""
    return Call("namespace_delete", _nothing, name)


def namespace_info(name: Text) -> Call[dict[str, Any]]:
    """A namespace's contents and memory, as counts."""
    return Call("namespace_info", _same, name)


# -- keys ------------------------------------------------------------------------------------------


def kv_get(key: Text) -> Call[Entry | None]:
    """The key's version and value; None if the key is missing."""
    return Call("kv_get", Entry, key, missing=_nothing)


def kv_wait(key: Text, timeout_ms: int = 0) -> Call[Entry | None]:
    """Wait until the key exists or the time runs out, then `kv_get`; 0 waits for ever."""
    return Call("kv_get", Entry, key, options={"wait": number(timeout_ms, "timeout_ms")}, missing=_nothing, waits=timeout_ms)


def kv_changed(key: Text, timeout_ms: int = 0, known: int | None = None) -> Call[Entry | None]:
    """Wait until the key's version is over `known` (None: its present version) or the time runs out, then `kv_get`; None for a deletion."""
    return Call(
        "kv_get", Entry, key, options={"block": number(timeout_ms, "timeout_ms"), "cas_version": known}, missing=_nothing, waits=timeout_ms
    )


def kv_put(
    key: Text,
    value: Text,
    *,
    ttl: int | None = None,
    cas: int | None = None,
    if_absent: bool = False,
    if_present: bool = False,
) -> Call[int]:
    """Set the key; the result is its version. `ttl` is in seconds; `cas` is the expected version, 0 for a missing key."""
    options = {"ttl": ttl, "cas_version": cas, "if_absent": if_absent, "if_present": if_present}
    return Call("kv_put", _same, key, value, options)


def kv_cas(key: Text, value: Text, version: int, *, ttl: int | None = None) -> Call[int]:
    """Set the key if it has this version; 0 means a missing key."""
    return Call("kv_cas", _same, key, value, {"cas_version": number(version, "version"), "ttl": ttl})


def kv_delete(key: Text, *, cas: int | None = None) -> Call[int | None]:
    """Delete the key; the result is the version of its tombstone, None if the key was missing."""
    return Call[int | None]("kv_delete", _same, key, options={"cas_version": cas}, missing=_nothing)


def kv_exists(key: Text) -> Call[bool]:
    """Whether the key exists."""
    return Call("kv_exists", bool, key)


def kv_incr(key: Text, delta: int = 1) -> Call[Counter]:
    """Add to a counter."""
    return Call("kv_incr", Counter, key, options={"delta": number(delta, "delta")})


def kv_touch(key: Text, ttl: int, *, cas: int | None = None) -> Call[int]:
    """Let the key expire after `ttl` seconds, 0 for never. Refused as `NotFound`."""
    return Call("kv_touch", _same, key, options={"ttl": number(ttl, "ttl"), "cas_version": cas})


def kv_persist(key: Text, *, cas: int | None = None) -> Call[int]:
    """Remove the key's deadline. Refused as `NotFound`."""
    return Call("kv_persist", _same, key, options={"cas_version": cas})


def kv_scan(prefix: Text = b"", *, limit: int | None = None, cursor: Text = b"", keys_only: bool = False) -> Call[Page]:
    """One page of the keys with a prefix, ascending."""

    def page(more: int, cursor: bytes, rows: list[tuple[bytes, bytes]]) -> Page:
        return Page(rows, cursor if more else b"")

    return Call("kv_scan", page, prefix, options={"limit": limit, "cursor": data(cursor, "cursor") or None, "keys_only": keys_only})


def kv_mget(keys: Iterable[Text]) -> Call[list[Entry | None]]:
    """Up to 256 keys at once, in their order."""

    def entries(rows: list[tuple[int, int, bytes]]) -> list[Entry | None]:
        return [Entry(version, value) if found else None for found, version, value in rows]

    return Call("kv_mget", entries, value=_layout("kv_mget", several(keys, "keys")))


def kv_batch_put(items: Iterable[tuple[Text, Text] | tuple[Text, Text, int]]) -> Call[list[int]]:
    """Set every (key, value) or (key, value, ttl in seconds), all or none; the result is their versions."""
    rows = [tuple(several(item, "item")) for item in several(items, "items")]
    rows = [row if len(row) != 2 else (*row, 0) for row in rows]
    return Call[list[int]]("kv_batch_put", _same, value=_layout("kv_batch_put", rows))


def kv_history(key: Text, limit: int | None = None) -> Call[list[HistoryItem]]:
    """The key's versions, newest first."""

    def versions(rows: list[tuple[int, int, int, bytes]]) -> list[HistoryItem]:
        return [HistoryItem(version, time, bool(tombstone), value) for version, time, tombstone, value in rows]

    return Call("kv_history", versions, key, options={"limit": limit})


def json_get(key: Text, path: Text = b"$") -> Call[Entry]:
    """The JSON text at a path of the document. Refused as `NotFound`, `Conflict`."""
    return Call("kv_json_get", Entry, key, options={"path": data(path, "path")})


def json_set(key: Text, value: Text, path: Text = b"$", *, cas: int | None = None) -> Call[int]:
    """Set the JSON text at a path; the result is the document's version."""
    return Call("kv_json_set", _same, key, value, {"path": data(path, "path"), "cas_version": cas})


def json_delete(key: Text, path: Text = b"$", *, cas: int | None = None) -> Call[int]:
    """Delete the JSON at a path; the result is the version."""
    return Call("kv_json_del", _same, key, options={"path": data(path, "path"), "cas_version": cas})


# -- queues ----------------------------------------------------------------------------------------


def _messages(rows: list[tuple[int, int, int, int, bytes]]) -> list[Message]:
    return [Message(*row) for row in rows]


def _receipts(receipts: Iterable[Receipt]) -> list[tuple[int, int]]:
    return [r.receipt if isinstance(r, Message) else (r, 0) if isinstance(r, int) else r for r in several(receipts, "receipts")]


def queue_enqueue(
    queue: Text, payload: Text, *, priority: int | None = None, delay: int | None = None, dedup: Text | None = None
) -> Call[int]:
    """Put a message in; the result is its seq. `delay` is in ms."""
    options = {"priority": priority, "delay": delay, "dedup_key": dedup}
    return Call("queue_enqueue", _same, queue, payload, options)


def queue_dequeue(queue: Text, limit: int | None = None, *, lease: int | None = None, block: int | None = None) -> Call[list[Message]]:
    """Lease messages. `lease` is in ms. `block` is how many ms to wait for the first, 0 for ever."""
    return Call("queue_dequeue", _messages, queue, options={"limit": limit, "lease": lease, "block": block}, waits=block)


def queue_ack(queue: Text, receipts: Iterable[Receipt]) -> Call[int]:
    """Acknowledge and remove messages; the result is how many of the receipts were valid."""
    return Call[int]("queue_ack", _same, queue, _layout("queue_ack", _receipts(receipts)))


def queue_nack(queue: Text, receipts: Iterable[Receipt], *, delay: int | None = None, dead: bool = False) -> Call[int]:
    """Give messages back, or to the dead letters; the result is how many of the receipts were valid."""
    options = {"delay": delay, "to_dlq": dead}
    return Call[int]("queue_nack", _same, queue, _layout("queue_nack", _receipts(receipts)), options)


def queue_touch(queue: Text, receipts: Iterable[Receipt], lease: int | None = None) -> Call[int]:
    """Extend leases; the result is how many of the receipts were valid."""
    return Call[int]("queue_touch", _same, queue, _layout("queue_touch", _receipts(receipts)), {"lease": lease})


def queue_peek(queue: Text, limit: int | None = None) -> Call[list[Message]]:
    """The ready messages, in the order of their delivery."""
    return Call("queue_peek", _messages, queue, options={"limit": limit})


def queue_dead_letters(queue: Text, limit: int | None = None) -> Call[list[Message]]:
    """Dead letters, oldest first."""
    return Call("queue_dlq_list", _messages, queue, options={"limit": limit})


def queue_requeue(queue: Text, seqs: Iterable[int]) -> Call[int]:
    """Put dead letters back; the result is how many were found."""
    return Call[int]("queue_dlq_requeue", _same, queue, _layout("queue_dlq_requeue", several(seqs, "seqs")))


def queue_delete_dead(queue: Text, seqs: Iterable[int] | None = None) -> Call[int]:
    """Delete dead letters (None: all); the result is how many."""
    return Call[int]("queue_dlq_delete", _same, queue, b"" if seqs is None else _layout("queue_dlq_requeue", several(seqs, "seqs")))


def queue_stats(queue: Text) -> Call[dict[str, Any]]:
    """Counts and configuration."""
    return Call("queue_stats", _same, queue)


def queue_purge(queue: Text) -> Call[int]:
    """Remove every message; the result is how many there were."""
    return Call[int]("queue_purge", _same, queue)


def queue_list(limit: int | None = None, cursor: Text = b"") -> Call[dict[str, Any]]:
    """The queues with their stats, a page at a time: docs/wire-protocol.md, "Queues"."""
    return Call("queue_list", _same, options={"limit": limit, "cursor": data(cursor, "cursor") or None})


def queue_configure(queue: Text, *, lease: int | None = None, max_attempts: int | None = None) -> Call[None]:
    """Set a queue's own lease (ms) or maximum of attempts."""
    return Call("queue_configure", _nothing, queue, options={"lease": lease, "max_attempts": max_attempts})


# -- streams ---------------------------------------------------------------------------------------


def stream_id(ident: Id) -> StreamId:
    """An id from any of its forms. Raises `TypeError`, `BadRequest`."""
    if not isinstance(ident, (str, bytes)):
        if not isinstance(ident, (tuple, list)) or len(ident) != 2:
            raise TypeError(f"the id {told(ident, 'id')}; give a StreamId, (ms, seq) or text such as '1700000000000-0'")
        return StreamId(*(ranged(half, "id", *RANGES["u64"]) for half in ident))
    ident = text(ident, "id")
    ms, dash, seq = ident.partition("-")
    if not (ms.isascii() and ms.isdigit() and ((seq.isascii() and seq.isdigit()) or not dash)):
        raise BadRequest(f"{ident!r} is not an id of a stream: ms-seq is expected")
    return stream_id((int(ms), int(seq or 0)))


def _optional_id(ident: Id | None) -> StreamId | None:
    return None if ident is None else stream_id(ident)


def _records(rows: list[tuple[int, int, int, bytes]]) -> list[StreamRecord]:
    return [StreamRecord(StreamId(ms, seq), kind, payload) for ms, seq, kind, payload in rows]


def _deliveries(rows: list[tuple[int, int, int, int, bytes]]) -> list[StreamRecord]:
    return [StreamRecord(StreamId(ms, seq), kind, payload, deliveries) for ms, seq, kind, deliveries, payload in rows]


def _ids(name: str, ids: Iterable["Id | StreamRecord"]) -> bytes:
    return _layout(name, [one.id if isinstance(one, StreamRecord) else stream_id(one) for one in several(ids, "ids")])


def stream_append(stream: Text, payload: Text) -> Call[StreamId]:
    """Append a record; the result is its id."""
    return Call("stream_append", StreamId, stream, payload)


def stream_read(
    stream: Text,
    start: Id | None = None,
    end: Id | None = None,
    *,
    tail: bool = False,
    limit: int | None = None,
    block: int | None = None,
) -> Call[list[StreamRecord]]:
    """Records by id, both ends included. `tail` reads only new records; `block` is how many ms to wait for the first, 0 for ever."""
    options = {"start": _optional_id(start), "end": _optional_id(end), "tail": tail, "limit": limit, "block": block}
    return Call("stream_read", _records, stream, options=options, waits=block)


def stream_create(stream: Text, *, max_len: int | None = None, max_age: int | None = None, max_bytes: int | None = None) -> Call[None]:
    """Create an empty stream that keeps at most so many records, seconds, bytes. Refused as `Conflict` if it exists."""
    return Call("stream_create", _nothing, stream, options={"max_len": max_len, "max_age": max_age, "max_bytes": max_bytes})


def stream_info(stream: Text) -> Call[StreamInfo]:
    """The stream's ids, size and groups; zeros if the stream is missing."""

    def info(first_ms: int, first_seq: int, last_ms: int, last_seq: int, count: int, size: int, groups: int) -> StreamInfo:
        return StreamInfo(StreamId(first_ms, first_seq), StreamId(last_ms, last_seq), count, size, groups)

    return Call("stream_info", info, stream)


def stream_trim(
    stream: Text,
    *,
    start: Id | None = None,
    max_len: int | None = None,
    max_age: int | None = None,
    max_bytes: int | None = None,
    dry_run: bool = False,
) -> Call[int]:
    """Remove the oldest records: those before `start`, and those past so many records, seconds, bytes; the result is how many."""
    options = {"start": _optional_id(start), "max_len": max_len, "max_age": max_age, "max_bytes": max_bytes, "dry_run": dry_run}
    return Call[int]("stream_trim", _same, stream, options=options)


def stream_delete(stream: Text) -> Call[None]:
    """Delete a stream with its groups."""
    return Call("stream_delete", _nothing, stream)


def stream_list(limit: int | None = None, cursor: Text = b"") -> Call[dict[str, Any]]:
    """The streams, a page at a time: docs/wire-protocol.md, "Streams"."""
    return Call("stream_list", _same, options={"limit": limit, "cursor": data(cursor, "cursor") or None})


def group_create(
    stream: Text,
    group: Text,
    *,
    start: Id | None = None,
    tail: bool = False,
    ack_timeout: int | None = None,
    max_deliver: int | None = None,
) -> Call[None]:
    """Create a group, and its stream if it is missing. `ack_timeout` is in ms. Refused as `Conflict` if the group exists."""
    options = {
        "group": data(group, "group"),
        "start": _optional_id(start),
        "tail": tail,
        "ack_timeout": ack_timeout,
        "max_deliver": max_deliver,
    }
    return Call("stream_group_create", _nothing, stream, options=options)


def group_read(
    stream: Text, group: Text, consumer: Text, *, limit: int | None = None, block: int | None = None, no_ack: bool = False
) -> Call[list[StreamRecord]]:
    """Deliver records to a consumer. `block` is how many ms to wait for the first, 0 for ever."""
    options = {"group": data(group, "group"), "consumer": data(consumer, "consumer"), "limit": limit, "block": block, "no_ack": no_ack}
    return Call("stream_group_read", _deliveries, stream, options=options, waits=block)


def group_ack(stream: Text, group: Text, ids: Iterable[Id | StreamRecord]) -> Call[int]:
    """Acknowledge deliveries; the result is how many were pending."""
    return Call[int]("stream_group_ack", _same, stream, _ids("stream_group_ack", ids), {"group": data(group, "group")})


def group_nack(
    stream: Text, group: Text, ids: Iterable[Id | StreamRecord], *, delay: int | None = None, consumer: Text | None = None
) -> Call[int]:
    """Give deliveries back, after `delay` ms; the result is how many were pending."""
    options = {"group": data(group, "group"), "delay": delay, "consumer": consumer}
    return Call[int]("stream_group_nack", _same, stream, _ids("stream_group_nack", ids), options)


def group_touch(
    stream: Text, group: Text, ids: Iterable[Id | StreamRecord], *, lease: int | None = None, consumer: Text | None = None
) -> Call[int]:
    """Let deliveries run out `lease` ms from now; the result is how many were pending."""
    options = {"group": data(group, "group"), "lease": lease, "consumer": consumer}
    return Call[int]("stream_group_touch", _same, stream, _ids("stream_group_touch", ids), options)


def group_claim(
    stream: Text, group: Text, consumer: Text, *, min_idle: int | None = None, limit: int | None = None
) -> Call[list[StreamRecord]]:
    """Deliver to this consumer the records that have been pending for at least `min_idle` ms, whoever has them."""
    options = {"group": data(group, "group"), "consumer": data(consumer, "consumer"), "min_idle": min_idle, "limit": limit}
    return Call("stream_group_claim", _deliveries, stream, options=options)


def group_pending(stream: Text, group: Text) -> Call[dict[str, Any]]:
    """The unacknowledged deliveries and the dead letters."""
    return Call("stream_group_pending", _same, stream, options={"group": data(group, "group")})


def group_info(stream: Text, group: Text) -> Call[dict[str, Any]]:
    """A group's figures and consumers."""
    return Call("stream_group_info", _same, stream, options={"group": data(group, "group")})


def group_delete(stream: Text, group: Text) -> Call[None]:
    """Delete a group."""
    return Call("stream_group_delete", _nothing, stream, options={"group": data(group, "group")})


def _layout(name: str, rows: Sequence[Any]) -> bytes:
    """The value of an operation that takes a list; each item is checked against the layout."""
    layout = shape(BY_NAME[name].value)
    columns = layout.columns
    values: list[Any] = []
    for row in rows:
        if len(columns) == 1:
            values.append(_cell(row, *columns[0]))
            continue
        if not isinstance(row, tuple) or len(row) != len(columns):
            raise TypeError(f"one of the items of {name} {told(row, 'item')}; give tuples of {', '.join(name for name, _ in columns)}")
        values.append(tuple(_cell(cell, *column) for cell, column in zip(row, columns, strict=True)))
    try:
        return layout.encode(values)
    except BadRequest as e:
        raise BadRequest(f"{name}: {e}") from None


def _cell(given: Any, what: str, kind: str) -> Any:
    return ranged(given, what, *RANGES[kind]) if kind in RANGES else data(given, what)
