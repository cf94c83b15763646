"""The key-value operations over the binary protocol (SPEC section 2.3) that do not follow from their rows: waits, lists, slices."""

import struct
from collections.abc import Callable, Generator

from flo.commands.binary.session import BinarySession
from flo.commands.binary.table import Options, Result, handles, packs, reply_of, serve
from flo.commands.host import KEYS_AT_ONCE
from flo.commands.operations import deadline
from flo.commands.runner import Reply, Wait
from flo.engine import KeyValue, Namespace
from flo.engine.kv import ATOMIC_KEYS_MAX
from flo.errors import BadRequest, NotFound
from flo.operations import BY_NAME
from flo.operations.kv import LIST_BYTES_MAX, MGET_KEYS_MAX
from flo.proto.binary import MAGIC, OK, RESPONSE, VERSION, Request
from flo.proto.shapes import shape
from flo.store.kv import entry_parts

MISSING = NotFound("the key does not exist")
_version = VERSION.pack
_FOUND = struct.Struct(RESPONSE.format + "8s")  # a response with a version


def get(session: BinarySession, request: Request) -> Reply:
    """The reply to kv_get. It packs it itself, which takes two thirds of the time: half the requests of many clients are these."""
    _, _, req_id, space, key, _, options = request
    engine = session.host.engine
    kv = (engine.by_hash.get(space) or engine.namespace_by_hash(space)).kv
    if options:
        return reply_of(_get_or_wait(session, kv, key, options), request)
    entry = kv.entry(key)
    if entry is None:
        session.counters.misses += 1
        return MISSING
    session.counters.hits += 1
    version, value = entry_parts(entry)
    return _FOUND.pack(MAGIC, OK, 0, req_id, 8 + len(value), version) + value


serve(BY_NAME["kv_get"], get)


def _get_or_wait(session: BinarySession, kv: KeyValue, key: bytes, options: Options) -> Result:
    if "cas_version" in options and "block" not in options:
        raise BadRequest("kv_get takes cas_version only with block, as the version already known")
    present = kv.get(key)  # a damaged one is refused here: nothing after the waiter is made may raise
    if "wait" in options:
        known, milliseconds = None, options["wait"]
    else:
        known, milliseconds = options.get("cas_version", present.version if present else 0), options["block"]

    def answer() -> bytes:
        found = kv.get_after_commit(key)
        if found is None:
            raise NotFound(str(MISSING))
        return _version(found.version) + found.value

    waiter = Wait(session, None, milliseconds, answer, holds=False)
    watch = kv.watch(key, waiter.ready, known)
    if watch is None:
        waiter.ready()
    else:
        waiter.ends_with(watch.cancel)
        _expire_later(session, waiter, kv, key)
    return waiter


def _expire_later(session: BinarySession, waiter: Wait, kv: KeyValue, key: bytes) -> None:
    """Bury the key at its deadline, if it has one: the sweep would come up to a second later. The timer goes by the steady clock: where the
    wall clock has gone back meanwhile, the deadline is waited for again; where it has gone forward, the sweep comes first."""
    host, left = session.host, kv.store.deadline(key) - session.host.engine.now
    if left <= 0:
        return  # it has none, or has expired

    def expire() -> None:
        kv.sweep_key(key)
        if not waiter.over:
            _expire_later(session, waiter, kv, key)

    waiter.ends_with(host.call_later(left / 1000 + 0.001, expire).cancel)


@handles("kv_scan")
def scan(session: BinarySession, namespace: Namespace, prefix: bytes, _: bytes, options: Options) -> Generator[None, None, bytes]:
    """The cursor is the last key looked at, behind a byte that says so: it needs no memory here, and is good on any connection,
    after a restart as well."""
    kv = namespace.kv
    cursor: bytes | None = options.get("cursor")
    if cursor and cursor[:1] != CURSOR_MARK:
        raise BadRequest("the option cursor is not one that kv_scan gave")
    after = cursor[1:] if cursor else None
    keys, more = yield from kv.scan_job(prefix, after, options["limit"])
    last = keys[-1] if keys else b""
    items: list[tuple[bytes, bytes]] = []
    if "keys_only" in options:
        items = [(key, b"") for key in kv.live_keys(keys)]
        keys = []
    size = unseen = 0
    for key in keys:
        entry = kv.value_bytes((key,))
        if items and size + entry + len(key) > LIST_BYTES_MAX:
            last, more = items[-1][0], True
            break
        found = kv.get(key)
        if found is None:
            continue
        items.append((key, found.value))
        size += entry + len(key)
        unseen += entry
        if unseen > SLICE_BYTES:
            unseen = 0
            yield
    return packs("kv_scan")(more, CURSOR_MARK + last if more else b"", items)


CURSOR_MARK = b"k"
SLICE_BYTES = 1 << 20  # of values copied in one slice


@handles("kv_batch_put")
def batch_put(session: BinarySession, namespace: Namespace, _: bytes, value: bytes, options: Options) -> Result:
    (items,) = shape(BY_NAME["kv_batch_put"].value).decode(value, ATOMIC_KEYS_MAX)
    engine, kv = session.host.engine, namespace.kv
    ttls = {ttl for _, _, ttl in items}
    for ttl in ttls:
        deadline(engine, ttl)  # one that cannot be is told at once

    def put_all() -> bytes:
        deadlines = {ttl: deadline(engine, ttl) for ttl in ttls}  # counted from here, however long it waited
        return packs("kv_batch_put")(kv.put_many([(key, value, deadlines[ttl]) for key, value, ttl in items]))

    return _once_prepared(kv, [key for key, *_ in items], put_all)


def _once_prepared(kv: KeyValue, keys: list[bytes], answer: Callable[[], bytes]) -> Result:
    """The answer to a request of so many keys: some may be on disk since the start, or have expired. To look there, or to bury them, would
    take long, and others would wait."""

    def later() -> Generator[None, None, bytes]:
        yield from kv.prepare(keys)
        return answer()

    return later() if len(keys) > KEYS_AT_ONCE and kv.needs_preparing else answer()


@handles("kv_history")
def history(session: BinarySession, namespace: Namespace, key: bytes, _: bytes, options: Options) -> Generator[None, None, bytes]:
    versions = yield from namespace.kv.history_job(key, options["limit"], LIST_BYTES_MAX)
    return packs("kv_history")(versions)


@handles("kv_mget")
def mget(session: BinarySession, namespace: Namespace, _: bytes, value: bytes, options: Options) -> Result:
    (keys,) = shape(BY_NAME["kv_mget"].value).decode(value, MGET_KEYS_MAX)
    kv = namespace.kv

    def get_all() -> bytes:
        size = kv.value_bytes(keys)
        if size > LIST_BYTES_MAX:
            raise BadRequest(f"the values are {size} bytes together; kv_mget answers {LIST_BYTES_MAX} at most: ask for fewer keys")
        items = [(False, 0, b"") if item is None else (True, item.version, item.value) for item in kv.mget(keys)]
        return packs("kv_mget")(items)

    return _once_prepared(kv, keys, get_all)


@handles("kv_json_get")
def json_get(session: BinarySession, namespace: Namespace, key: bytes, _: bytes, options: Options) -> Result:
    text, version = namespace.kv.json_get(key, **options)
    return _version(version) + text
