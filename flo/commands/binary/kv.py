"""The hand-written handlers of the key-value operations (SPEC section 2.3): operations that wait, list, or go in slices."""

import struct
from collections.abc import Callable, Generator

from flo.commands.binary.session import BinarySession
from flo.commands.binary.table import CLIP, Options, Result, clipped, handles, packs, reply_of, serve
from flo.commands.host import KEYS_AT_ONCE
from flo.commands.operations import deadline
from flo.commands.runner import Reply, Wait
from flo.engine import KeyValue, Namespace
from flo.errors import BadRequest, NotFound
from flo.limits import ATOMIC_ITEMS_MAX, LIST_BYTES_MAX
from flo.operations import BY_NAME
from flo.proto.binary import MAGIC, OK, RESPONSE, VERSION, Request
from flo.proto.shapes import shape
from flo.store.kv import entry_parts
from flo.store.pattern import read_pattern

MISSING = NotFound("the key does not exist")
_version = VERSION.pack
_FOUND = struct.Struct(RESPONSE.format + "8s")  # a response with a version


def get(session: BinarySession, request: Request) -> Reply:
    """The reply to kv_get. Packing it here takes two thirds of the time, and kv_get is half the requests of many clients."""
    _, _, req_id, space, key, _, options = request
    engine = session.host.engine
    kv = (engine.by_hash.get(space) or engine.namespace_by_hash(space)).kv
    if options and (len(options) > 1 or CLIP not in options):
        return reply_of(_wait_and_clip(session, kv, key, options), request)
    entry = kv.entry(key)
    if entry is None:
        session.counters.misses += 1
        return MISSING
    session.counters.hits += 1
    version, value = entry_parts(entry)
    if options:
        value = value[: options[CLIP]]
    return _FOUND.pack(MAGIC, OK, 0, req_id, 8 + len(value), version) + value


serve(BY_NAME["kv_get"], get)


def _wait_and_clip(session: BinarySession, kv: KeyValue, key: bytes, options: Options) -> Result:
    rest = {name: value for name, value in options.items() if name != CLIP}
    result = _get_or_wait(session, kv, key, rest)
    return clipped(BY_NAME["kv_get"], result, options[CLIP]) if CLIP in options else result


def _get_or_wait(session: BinarySession, kv: KeyValue, key: bytes, options: Options) -> Result:
    if "cas_version" in options and "block" not in options:
        raise BadRequest("kv_get takes cas_version only with block, as the version already known")
    present = kv.get(key)  # refuses a damaged value here, because nothing may raise once the waiter is made
    if "wait" in options:
        known, milliseconds = None, options["wait"]
    else:
        known, milliseconds = options.get("cas_version", present.version if present else 0), options["block"]

    def answer() -> bytes:
        found = kv.get_after_commit(key)
        if found is None:
            raise NotFound(str(MISSING))
        return _version(found.version) + found.value

    watch = kv.watch(key, lambda: waiter.ready(), known)
    if watch is None:
        return answer()  # no wait: where replies come in order, one that ends here would be sent for no request
    try:
        waiter = Wait(session, None, milliseconds, answer)
    except BaseException:
        watch.cancel()
        raise
    waiter.ends_with(watch.cancel)
    _expire_later(session, waiter, kv, key)
    return waiter


def _expire_later(session: BinarySession, waiter: Wait, kv: KeyValue, key: bytes) -> None:
    """Write the key's tombstone at its deadline, if it has one: the sweep could come a second later. The timer uses the steady clock. If
    the wall clock went back meanwhile, another timer is set for the deadline; if it went forward, the sweep comes first."""
    host, left = session.host, kv.store.deadline(key) - session.host.engine.now
    if left <= 0:
        return  # it has no deadline, or has expired

    def expire() -> None:
        kv.sweep_key(key)
        if not waiter.over:
            _expire_later(session, waiter, kv, key)

    waiter.ends_with(host.call_later(left / 1000 + 0.001, expire).cancel)


@handles("kv_scan")
def scan(session: BinarySession, namespace: Namespace, prefix: bytes, _: bytes, options: Options) -> Generator[None, None, bytes]:
    """A cursor is CURSOR_MARK and the last key that was looked at. So it takes no memory here, and it is valid on any connection and
    after a restart."""
    kv = namespace.kv
    cursor: bytes | None = options.get("cursor")
    if cursor and cursor[:1] != CURSOR_MARK:
        raise BadRequest("the option cursor is no cursor of kv_scan; send the cursor of the answer before, unchanged")
    after = cursor[1:] if cursor else None
    pattern = read_pattern(options["pattern"]) if "pattern" in options else None
    start = prefix if pattern is None else pattern.within(prefix)
    if start is None:
        return packs("kv_scan")(False, b"", [])
    keys, more = yield from kv.scan_job(start, after, options["limit"])
    last = keys[-1] if keys else b""
    if pattern is not None:
        keys = yield from pattern.matching(keys)
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
    (items,) = shape(BY_NAME["kv_batch_put"].value).decode(value, ATOMIC_ITEMS_MAX)
    engine, kv = session.host.engine, namespace.kv
    ttls = {ttl for _, _, ttl in items}
    for ttl in ttls:
        deadline(engine, ttl)  # refuses a ttl that is too long at once, before any job

    def put_all() -> bytes:
        deadlines = {ttl: deadline(engine, ttl) for ttl in ttls}  # counted from the time of execution, however long the request waited
        return packs("kv_batch_put")(kv.put_many([(key, value, deadlines[ttl]) for key, value, ttl in items]))

    return _once_prepared(kv, [key for key, *_ in items], put_all)


def _once_prepared(kv: KeyValue, keys: list[bytes], answer: Callable[[], bytes]) -> Result:
    """The answer to a request for `keys`. If there are many, and some may still be on disk after the start or have expired, a job first
    reads these and writes the tombstones in slices: in one piece it would delay other clients."""

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
    (keys,) = shape(BY_NAME["kv_mget"].value).decode(value, BY_NAME["kv_mget"].items_max)
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
