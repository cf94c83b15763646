"""The key-value operations over the binary protocol (SPEC section 2.3)."""

from collections.abc import Callable, Generator

from flo.commands.binary.session import BinarySession, Waiter
from flo.commands.binary.table import WAITING, Reply, handles
from flo.commands.host import LAZY_ARGUMENTS_MAX
from flo.engine import KeyValue
from flo.engine.kv import ATOMIC_KEYS_MAX, DEADLINE_MAX
from flo.errors import BadRequest, NotFound
from flo.proto.binary import VERSION, Request
from flo.proto.operations import LIST_BYTES_MAX, MGET_KEYS_MAX
from flo.proto.shapes import shape
from flo.store.kv import Found

MISSING = "the key does not exist"
_version = VERSION.pack


def _kv(session: BinarySession, request: Request) -> KeyValue:
    return session.host.engine.namespace_by_hash(request.namespace_hash).kv


def _deadline(session: BinarySession, seconds: int) -> int:
    """The deadline of a ttl; 0 for none."""
    if not seconds:
        return 0
    deadline = session.host.engine.now + seconds * 1000
    if deadline > DEADLINE_MAX:
        raise BadRequest(f"a ttl of {seconds} seconds ends after the last deadline Flo can keep, 2^53 ms")
    return deadline


def _found(found: Found | None) -> bytes:
    if found is None:
        raise NotFound(MISSING)
    return _version(found.version) + found.value


@handles("kv_get")
def get(session: BinarySession, request: Request) -> Reply:
    kv, options, key = _kv(session, request), request.options, request.key
    if "wait" not in options and "block" not in options:
        if "cas_version" in options:
            raise BadRequest("kv_get takes cas_version only with block, as the version already known")
        found = kv.get(key)
        counters = session.host.counters
        if found is None:
            counters.misses += 1
        else:
            counters.hits += 1
        return _found(found)
    if "wait" in options and "block" in options:
        raise BadRequest("kv_get takes wait or block, not both")
    if "wait" in options:
        if "cas_version" in options:
            raise BadRequest("kv_get takes cas_version only with block, as the version already known")
        known, milliseconds = None, options["wait"]
    else:
        present = kv.get(key)
        known, milliseconds = options.get("cas_version", present.version if present else 0), options["block"]

    waiter = Waiter(session, request, milliseconds, lambda: _found(kv.get_after_commit(key)))
    watch = kv.watch(key, waiter.ready, known)
    if watch is None:
        waiter.ready()
    else:
        waiter.ends_with(watch.cancel)
        _expire_later(session, waiter, kv, key)
    return WAITING


def _expire_later(session: BinarySession, waiter: Waiter, kv: KeyValue, key: bytes) -> None:
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


@handles("kv_put")
def put(session: BinarySession, request: Request) -> Reply:
    options = request.options
    if "if_absent" in options and "if_present" in options:
        raise BadRequest("kv_put takes if_absent or if_present, not both")
    return _version(
        _kv(session, request).put(
            request.key,
            request.value,
            deadline=_deadline(session, options.get("ttl", 0)),
            cas=options.get("cas_version"),
            if_absent="if_absent" in options,
            if_present="if_present" in options,
        )
    )


@handles("kv_cas")
def cas(session: BinarySession, request: Request) -> Reply:
    options = request.options
    deadline = _deadline(session, options.get("ttl", 0))
    return _version(_kv(session, request).put(request.key, request.value, deadline=deadline, cas=options["cas_version"]))


@handles("kv_delete")
def delete(session: BinarySession, request: Request) -> Reply:
    return _version(_kv(session, request).delete(request.key, request.options.get("cas_version")))


@handles("kv_exists")
def exists(session: BinarySession, request: Request) -> Reply:
    return b"\1" if _kv(session, request).exists(request.key) else b"\0"


@handles("kv_incr")
def incr(session: BinarySession, request: Request) -> Reply:
    value, version = _kv(session, request).incr(request.key, request.options.get("delta", 1))
    return shape(request.operation.answer).encode(value, version)


@handles("kv_touch")
def touch(session: BinarySession, request: Request) -> Reply:
    deadline = _deadline(session, request.options["ttl"])
    return _version(_kv(session, request).touch(request.key, deadline, request.options.get("cas_version")))


@handles("kv_persist")
def persist(session: BinarySession, request: Request) -> Reply:
    return _version(_kv(session, request).persist(request.key, request.options.get("cas_version")))


@handles("kv_scan")
def scan(session: BinarySession, request: Request) -> Generator[None, None, bytes]:
    """The cursor is the last key looked at, behind a byte that says so: it needs no memory here, and is good on any connection,
    after a restart as well."""
    kv, options = _kv(session, request), request.options
    cursor: bytes | None = options.get("cursor")
    if cursor and cursor[:1] != CURSOR_MARK:
        raise BadRequest("the option cursor is not one that kv_scan gave")
    after = cursor[1:] if cursor else None
    keys, more = yield from kv.scan_job(request.key, after, options.get("limit", request.operation.limits[0]))
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
    return shape(request.operation.answer).encode(more, CURSOR_MARK + last if more else b"", items)


CURSOR_MARK = b"k"
SLICE_BYTES = 1 << 20  # of values copied in one slice


@handles("kv_batch_put")
def batch_put(session: BinarySession, request: Request) -> Reply:
    (items,) = shape(request.operation.value).decode(request.value, ATOMIC_KEYS_MAX)
    kv = _kv(session, request)
    ttls = {ttl for _, _, ttl in items}
    for ttl in ttls:
        _deadline(session, ttl)  # one that cannot be is told at once

    def put_all() -> bytes:
        deadlines = {ttl: _deadline(session, ttl) for ttl in ttls}  # counted from here, however long it waited
        return shape(request.operation.answer).encode(kv.put_many([(key, value, deadlines[ttl]) for key, value, ttl in items]))

    return _once_read(kv, len(items), put_all)


def _once_read(kv: KeyValue, count: int, answer: Callable[[], bytes]) -> Reply:
    """The answer to a request of so many keys: where they may be on disk since the start and are many, once all are read. Each would cost
    a look there, and others would wait."""

    def later() -> Generator[None, None, bytes]:
        yield from kv.all_read()
        return answer()

    return later() if count > LAZY_ARGUMENTS_MAX and kv.store.lazy is not None else answer()


@handles("kv_history")
def history(session: BinarySession, request: Request) -> Generator[None, None, bytes]:
    limit = request.options.get("limit", request.operation.limits[0])
    versions = yield from _kv(session, request).history_job(request.key, limit, LIST_BYTES_MAX)
    return shape(request.operation.answer).encode(versions)


@handles("kv_mget")
def mget(session: BinarySession, request: Request) -> Reply:
    (keys,) = shape(request.operation.value).decode(request.value, MGET_KEYS_MAX)
    kv = _kv(session, request)

    def get_all() -> bytes:
        size = kv.value_bytes(keys)
        if size > LIST_BYTES_MAX:
            raise BadRequest(f"the values are {size} bytes together; kv_mget answers {LIST_BYTES_MAX} at most: ask for fewer keys")
        items = [(False, 0, b"") if item is None else (True, item.version, item.value) for item in kv.mget(keys)]
        return shape(request.operation.answer).encode(items)

    return _once_read(kv, len(keys), get_all)


@handles("kv_json_get")
def json_get(session: BinarySession, request: Request) -> Reply:
    text, version = _kv(session, request).json_get(request.key, request.options.get("path", b"$"))
    return _version(version) + text


@handles("kv_json_set")
def json_set(session: BinarySession, request: Request) -> Reply:
    options = request.options
    return _version(_kv(session, request).json_set(request.key, request.value, options.get("path", b"$"), cas=options.get("cas_version")))


@handles("kv_json_del")
def json_delete(session: BinarySession, request: Request) -> Reply:
    options = request.options
    return _version(_kv(session, request).json_delete(request.key, options.get("path", b"$"), options.get("cas_version")))
