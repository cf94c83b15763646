"""The hand-written handlers of the stream operations (SPEC section 2.3): operations that wait, go in slices, or answer in JSON."""

from collections.abc import Callable
from itertools import islice

from flo.commands.binary.names import NAMESPACE_DELETED, json_payload, json_text, page
from flo.commands.binary.session import BinarySession
from flo.commands.binary.table import Options, Result, handles, packs
from flo.commands.operations import SECOND_MS
from flo.commands.runner import Job, Wait
from flo.engine import Namespace, Streams
from flo.engine.group import MANY_SLICE, Delivery, check_names, check_stream_name, unread
from flo.engine.stream import Bounds, id_text
from flo.errors import BadRequest, NotFound, Refusal
from flo.limits import ATOMIC_ITEMS_MAX
from flo.operations.stream import DELIVERIES, IDS, RECORDS
from flo.proto.shapes import NUMBERS, shape
from flo.store.group import ACK_TIMEOUT_MS, DELIVERIES_DEFAULT
from flo.store.stream import ID_MAX, Stream

SHOWN_MAX = 1000  # deliveries, dead letters and consumers in one JSON answer

_count = NUMBERS["u32"].pack


def _streams(namespace: Namespace, name: bytes, options: Options) -> Streams:
    """The namespace's streams. Raises `BadRequest` if a name in the request is over its limit."""
    check_stream_name(name)
    check_names(options.get("group", b""), options.get("consumer", b""))
    return namespace.streams


def _ids(value: bytes) -> list[int]:
    ids: list[int] = shape(IDS).decode(value, ATOMIC_ITEMS_MAX)[0]
    return ids


_records, _deliveries = shape(RECORDS).pack, shape(DELIVERIES).pack


# -- records ---------------------------------------------------------------------------------------


@handles("stream_read")
def read(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    streams, limit = _streams(namespace, name, options), options["limit"]
    start, end = options.get("start", 0), options.get("end", ID_MAX)
    if "tail" in options:
        stream = streams.find(name)
        start = stream.last + 1 if stream is not None else 0
    found = streams.read(name, start, end, limit)
    if found or "block" not in options:
        return _records(found)

    def answer() -> bytes:
        if namespace.deleted:
            raise NotFound(NAMESPACE_DELETED)
        return _records(streams.read(name, start, end, limit))

    waiter = Wait(session, None, options["block"], answer)
    waiter.ends_with(streams.watch({name: max(start - 1, 0)}, waiter.ready).cancel)
    return waiter


@handles("stream_info")
def info(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    stream = _streams(namespace, name, options).find(name) or Stream(name)
    groups = sum(group.declared for group in stream.groups.values())
    return packs("stream_info")(stream.first, stream.last, stream.count, stream.bytes, groups)


@handles("stream_trim")
def trim(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    if not {"start", "max_len", "max_age", "max_bytes"} & options.keys():
        raise BadRequest("stream_trim needs at least one of the options start, max_len, max_age, max_bytes: they say which records stay")
    bounds = Bounds(
        options.get("max_len"),
        options["max_age"] * SECOND_MS if "max_age" in options else None,
        options.get("max_bytes"),
        options.get("start"),
    )
    removed = _streams(namespace, name, options).trim(name, bounds, dry_run="dry_run" in options)
    return packs("stream_trim")(removed)


@handles("stream_list")
def stream_list(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    streams = _streams(namespace, name, options)
    names, following = page("stream_list", options, streams.names(), CURSOR_MARK)
    return json_payload({"streams": [_described(streams.store.streams[each]) for each in names], "cursor": following})


CURSOR_MARK = b"s"


def _described(stream: Stream) -> dict[str, object]:
    return {
        "name": json_text(stream.name),
        "count": stream.count,
        "bytes": stream.bytes,
        "first_id": id_text(stream.first).decode(),
        "last_id": id_text(stream.last).decode(),
        "groups": [json_text(name) for name, group in sorted(stream.groups.items()) if group.declared],
        "max_len": stream.max_len,
        "max_age_ms": stream.max_age,
        "max_bytes": stream.max_bytes,
    }


# -- groups ----------------------------------------------------------------------------------------


@handles("stream_group_create")
def group_create(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    start = None if "tail" in options else max(options.get("start", 0) - 1, 0)
    _streams(namespace, name, options).groups.create(
        name,
        options["group"],
        start,
        make_stream=True,
        own=True,
        ack_timeout=options.get("ack_timeout", ACK_TIMEOUT_MS),
        max_deliver=options.get("max_deliver", DELIVERIES_DEFAULT),
    )
    return b""


@handles("stream_group_read")
def group_read(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    groups, limit = _streams(namespace, name, options).groups, options["limit"]
    group, consumer, no_ack = options["group"], options["consumer"], "no_ack" in options
    found = groups.read(name, group, consumer, limit, no_ack=no_ack, create=True)
    if found or "block" not in options:
        return _deliveries(found)
    gone: list[Refusal] = []

    def deliver(_name: bytes, delivered: list[Delivery] | Refusal) -> None:
        if isinstance(delivered, Refusal):
            gone.append(delivered)
        else:
            found.extend(delivered)
        waiter.ready()

    def answer() -> bytes:
        if gone:
            raise gone[0]
        return _deliveries(found)

    waiter = Wait(session, None, options["block"], answer)
    waiter.ends_with(groups.wait([(name, group)], consumer, limit, deliver, acknowledge=no_ack).cancel)
    return waiter


@handles("stream_group_ack")
def group_ack(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    streams, group = _streams(namespace, name, options), options["group"]
    return _counted(_ids(value), lambda ids: streams.groups.ack(name, group, ids, need=True))


@handles("stream_group_nack")
def group_nack(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    streams = _streams(namespace, name, options)
    group, delay, consumer = options["group"], options.get("delay", 0), options.get("consumer")
    return _counted(_ids(value), lambda ids: streams.groups.nack(name, group, ids, delay=delay, consumer=consumer))


@handles("stream_group_touch")
def group_touch(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    streams = _streams(namespace, name, options)
    group, lease, consumer = options["group"], options.get("lease"), options.get("consumer")
    return _counted(_ids(value), lambda ids: streams.groups.touch(name, group, ids, lease=lease, consumer=consumer))


def _counted(ids: list[int], step: Callable[[list[int]], int]) -> Result:
    """The number of ids that `step` counts; it gets the ids in slices of MANY_SLICE."""
    return _count(step(ids)) if len(ids) <= MANY_SLICE else _count_job(ids, step)


def _count_job(ids: list[int], step: Callable[[list[int]], int]) -> Job:
    count = 0
    for at in range(0, len(ids), MANY_SLICE):
        count += step(ids[at : at + MANY_SLICE])
        yield
    return _count(count)


@handles("stream_group_claim")
def group_claim(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    streams = _streams(namespace, name, options)
    return _claim_job(streams, name, options["group"], options["consumer"], options.get("min_idle", 0), options["limit"])


def _claim_job(streams: Streams, name: bytes, group: bytes, consumer: bytes, idle: int, limit: int) -> Job:
    start, found = streams.groups.claim_idle(name, group, consumer, idle, 0, limit)[:2]
    while start and not found:
        yield
        start, found = streams.groups.claim_idle(name, group, consumer, idle, start, limit)[:2]
    return _deliveries(found)


@handles("stream_group_pending")
def group_pending(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    _, group = _streams(namespace, name, options).groups.need(name, options["group"])
    now = session.host.engine.now
    pending = [(ident, group.pending[ident]) for ident in islice(group.order.start(0), SHOWN_MAX)]
    return json_payload(
        {
            "group": json_text(group.name),
            "pending_count": len(group.pending),
            "pending": [
                {
                    "id": id_text(ident).decode(),
                    "consumer": json_text(one.consumer),
                    "delivered_at": one.time,
                    "idle_ms": one.idle(now),
                    "deliveries": one.deliveries,
                    "deadline": one.deadline,
                }
                for ident, one in pending
            ],
            "dead_count": len(group.dead),
            "dead_evicted": group.evicted,
            "dead": [
                {"id": id_text(ident).decode(), "consumer": json_text(dead.consumer), "deliveries": dead.deliveries, "died_at": dead.time}
                for ident, dead in islice(group.dead.items(), SHOWN_MAX)
            ],
        }
    )


@handles("stream_group_info")
def group_info(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    groups = _streams(namespace, name, options).groups
    stream, group = groups.need(name, options["group"])
    now = session.host.engine.now
    return json_payload(
        {
            "name": json_text(group.name),
            "made_by": "flo" if group.own else "xgroup",
            "last_id": id_text(group.last).decode(),
            "lag": unread(stream, group),
            "pending": len(group.pending),
            "dead": len(group.dead),
            "dead_evicted": group.evicted,
            "waiting": groups.waiting(stream.name, group.name),
            "ack_timeout_ms": group.ack_timeout,
            "max_deliver": group.max_deliver,
            "consumer_count": len(group.consumers),
            "consumers": [
                {"name": json_text(name), "pending": len(one.order), "idle_ms": max(now - one.seen, 0)}
                for name, one in islice(sorted(group.consumers.items()), SHOWN_MAX)
            ],
        }
    )


@handles("stream_group_delete")
def group_delete(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    groups, group = _streams(namespace, name, options).groups, options["group"]
    groups.need(name, group)
    groups.destroy(name, group)
    return b""
