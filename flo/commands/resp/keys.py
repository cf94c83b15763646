"""Commands on keys, whatever they hold: presence, copies, deadlines, scans."""

from bisect import bisect_left
from zlib import crc32

from flo.commands.resp import arguments
from flo.commands.resp.arguments import integer, syntax_error
from flo.commands.resp.session import RespSession
from flo.commands.resp.table import command
from flo.commands.runner import Job, Reply
from flo.engine import KeyValue, Queues, Streams
from flo.engine.kv import check_count
from flo.engine.stream import shown
from flo.errors import BadRequest, NotFound
from flo.limits import DEADLINE_MAX
from flo.proto import resp
from flo.proto.resp import OK, ONE, ZERO, array, bulk, bulk_array, bulk_or_nil
from flo.store.kv import COUNTER, JSON, STRING, entry_deadline
from flo.store.pattern import Pattern, read_pattern

SCAN_COUNT_MAX = 10_000  # keys one SCAN looks at, whatever COUNT says: others wait meanwhile
KEYS_SLICE = 1000  # keys one slice of KEYS looks at: about a ms
OTHER_KINDS = {"queues": "list", "streams": "stream"}  # what TYPE says, by the part
NEVER, MISSING = -1, -2  # what TTL and its kin answer for a key with no deadline, and for no key


# -- presence, kinds, copies -----------------------------------------------------------------------


def _delete(session: RespSession, args: list[bytes]) -> bytes:
    kv = session.namespace.kv
    if len(args) == 2:
        count = int(kv.discard(args[1]) or _delete_other(session, args[1]))
    elif not _has_others(session):
        count = kv.delete_many(args[1:])
    else:
        keys = list(dict.fromkeys(args[1:]))
        others = [key for key in keys if not kv.exists(key)]
        count = kv.delete_many(keys) + sum(_delete_other(session, name) for name in others)
    return ZERO if not count else resp.integer(count)


def _delete_other(session: RespSession, name: bytes) -> bool:
    """Delete the queue or the stream of that name; returns whether there was one."""
    part = _other_part(session, name)
    return part is not None and part.delete(name)


def _has_others(session: RespSession) -> bool:
    """Whether anything but keys is in the namespace."""
    return bool(session.namespace.queues.store.queues or session.namespace.streams.store.streams)


def _other_part(session: RespSession, name: bytes) -> Queues | Streams | None:
    """The part that has something of this name, which no key has."""
    if _has_others(session):
        for part in (session.namespace.queues, session.namespace.streams):
            if part.exists(name):
                return part
    return None


def _other_kind(session: RespSession, name: bytes) -> str:
    """The kind, in Redis's words, of what has this name, which no key has; empty for nothing."""
    part = _other_part(session, name)
    return "" if part is None else OTHER_KINDS[part.name]


@command(
    "DEL",
    -2,
    "key [key …]",
    "Delete keys.",
    group="generic",
    keys=(1, -1, 1),
    access="RM delete",
    flags="write",
    differs="at most 10,000 keys at a time",
)
def del_(session: RespSession, args: list[bytes]) -> Reply:
    return _delete(session, args)


@command(
    "UNLINK",
    -2,
    "key [key …]",
    "Delete keys; the same as DEL.",
    group="generic",
    since="4.0.0",
    keys=(1, -1, 1),
    access="RM delete",
    flags="write fast",
    differs="at most 10,000 keys at a time",
)
def unlink(session: RespSession, args: list[bytes]) -> Reply:
    return _delete(session, args)


def _count(session: RespSession, args: list[bytes]) -> bytes:
    kv = session.namespace.kv
    if len(args) == 2 and kv.entry(args[1]) is not None:
        return ONE
    keys = args[1:]
    check_count(keys)
    count = len(kv.live_keys(keys))
    if count < len(keys) and _has_others(session):
        count += sum(bool(_other_kind(session, key)) for key in keys if not kv.exists(key))
    return ONE if count == 1 else resp.integer(count)


@command(
    "EXISTS",
    -2,
    "key [key …]",
    "How many of the keys exist.",
    group="generic",
    keys=(1, -1, 1),
    access="RO",
    flags="readonly fast",
    differs="at most 10,000 keys at a time",
)
def exists(session: RespSession, args: list[bytes]) -> Reply:
    return _count(session, args)


@command(
    "TOUCH",
    -2,
    "key [key …]",
    "How many of the keys exist.",
    group="generic",
    since="3.2.1",
    keys=(1, -1, 1),
    access="RO",
    flags="readonly fast",
    differs="the same as EXISTS: Flo evicts nothing, so it keeps no last access",
)
def touch(session: RespSession, args: list[bytes]) -> Reply:
    return _count(session, args)


KIND_NAMES = {STRING: "string", COUNTER: "string", JSON: "ReJSON-RL"}


@command("TYPE", 2, "key", "What kind of value a key holds.", group="generic", keys=(1, 1, 1), access="RO", flags="readonly fast")
def type_(session: RespSession, args: list[bytes]) -> Reply:
    found = session.namespace.kv.get(args[1])
    return resp.simple(KIND_NAMES[found.kind] if found else _other_kind(session, args[1]) or "none")


def refuse_other_kind(session: RespSession, name: bytes, command: str, instead: str) -> None:
    """Raise `BadRequest` if no key has this name, but a queue or a stream has: `command` is for keys. `instead` says what to do."""
    kind = _other_kind(session, name)  # the caller has found no key
    if kind:
        raise BadRequest(f"{command} is for keys, and {shown(name)} is a {'queue' if kind == 'list' else kind}: {instead}")


WRITE_AGAIN = "write what is in it under the new name"


def _rename(session: RespSession, args: list[bytes], replace: bool) -> bool:
    try:
        return session.namespace.kv.copy(args[1], args[2], replace=replace, move=True)
    except NotFound:
        raise _no_such_key(session, args) from None


def _no_such_key(session: RespSession, args: list[bytes]) -> BadRequest:
    refuse_other_kind(session, args[1], args[0].decode("latin-1").upper(), WRITE_AGAIN)
    return BadRequest("no such key")


@command("RENAME", 3, "key newkey", "Rename a key.", group="generic", keys=(1, 2, 1), access="RW access delete, OW update", flags="write")
def rename(session: RespSession, args: list[bytes]) -> Reply:
    _rename(session, args, replace=True)
    return OK


@command(
    "RENAMENX",
    3,
    "key newkey",
    "Rename a key unless the new name is taken.",
    group="generic",
    keys=(1, 2, 1),
    access="RW access delete, OW insert",
    flags="write fast",
)
def renamenx(session: RespSession, args: list[bytes]) -> Reply:
    if args[1] == args[2]:
        if not session.namespace.kv.exists(args[1]):
            raise _no_such_key(session, args)
        return ZERO
    return ONE if _rename(session, args, replace=False) else ZERO


@command(
    "COPY",
    -3,
    "source destination [DB index] [REPLACE]",
    "Copy a key.",
    group="generic",
    since="6.2.0",
    keys=(1, 2, 1),
    access="RO access, OW update",
    flags="write denyoom",
)
def copy(session: RespSession, args: list[bytes]) -> Reply:
    replace = False
    at = 3
    while at < len(args):
        option = args[at].upper()
        if option == b"REPLACE":
            replace = True
        elif option == b"DB" and at + 1 < len(args):
            at += 1
            if integer(args[at]) != session.database:
                raise BadRequest(f"DB index is out of range: COPY stays within its namespace, whose index is {session.database}")
        else:
            raise syntax_error()
        at += 1
    if args[1] == args[2]:
        raise BadRequest("source and destination objects are the same")
    try:
        return ONE if session.namespace.kv.copy(args[1], args[2], replace=replace, move=False) else ZERO
    except NotFound:
        refuse_other_kind(session, args[1], "COPY", WRITE_AGAIN)
        return ZERO


@command("RANDOMKEY", 1, "", "Some key.", group="generic", flags="readonly")
def randomkey(session: RespSession, args: list[bytes]) -> Reply:
    kv = session.namespace.kv
    return bulk_or_nil(kv.random_key(), session.v3) if kv.store.lazy is None else _randomkey_job(kv, session.v3)


def _randomkey_job(kv: KeyValue, v3: bool) -> Job:
    yield from kv.all_read()
    return [bulk_or_nil(kv.random_key(), v3)]


# -- deadlines -------------------------------------------------------------------------------------

_EXPIRE_SYNTAX = "[NX | XX | GT | LT]"


def _expire(session: RespSession, args: list[bytes], unit: int, absolute: bool, floor: bool = False) -> bytes:
    kv, base = session.namespace.kv, 0 if absolute else session.host.engine.now
    options = _expire_options(args[3:]) if len(args) > 3 else ()
    value = integer(args[2])
    if floor and value > 0:
        value = max(value // 1000, 1) * 1000  # the seeds: whole seconds, but a positive time never to none
    if value * unit < arguments.I64_MIN or value * unit + base > DEADLINE_MAX:
        raise BadRequest(f"invalid expire time in '{args[0].decode('latin-1').lower()}' command")
    deadline = max(value * unit + base, 1)
    entry = kv.entry(args[1])
    part = _other_part(session, args[1]) if entry is None else None
    if options:
        current = entry_deadline(entry) if entry is not None else part.deadline(args[1]) if part is not None else 0
        if (
            (b"NX" in options and current)
            or (b"XX" in options and not current)
            or (b"GT" in options and (not current or deadline <= current))
            or (b"LT" in options and current and deadline >= current)
        ):
            return ZERO
    if part is not None:
        part.expire_at(args[1], deadline)
        return ONE
    return ONE if kv.expire_at(args[1], deadline, entry) else ZERO


def _expire_options(words: list[bytes]) -> set[bytes]:
    options = {word.upper() for word in words}
    for word in words:
        if word.upper() not in (b"NX", b"XX", b"GT", b"LT"):
            raise BadRequest(f"Unsupported option {word[:64].decode('utf-8', 'replace')}")
    if b"NX" in options and len(options) > 1:
        raise BadRequest("NX and XX, GT or LT options at the same time are not compatible")
    if {b"GT", b"LT"} <= options:
        raise BadRequest("GT and LT options at the same time are not compatible")
    return options


@command(
    "EXPIRE",
    -3,
    f"key seconds {_EXPIRE_SYNTAX}",
    "Let a key expire after some seconds.",
    group="generic",
    keys=(1, 1, 1),
    flags="write fast",
)
def expire(session: RespSession, args: list[bytes]) -> Reply:
    return _expire(session, args, 1000, absolute=False)


@command(
    "PEXPIRE",
    -3,
    f"key milliseconds {_EXPIRE_SYNTAX}",
    "Let a key expire after some milliseconds.",
    group="generic",
    since="2.6.0",
    keys=(1, 1, 1),
    flags="write fast",
    differs="in the profile flo, rounded down to whole seconds, but a positive time never to none",
)
def pexpire(session: RespSession, args: list[bytes]) -> Reply:
    return _expire(session, args, 1, absolute=False, floor=not session.redis_profile)


@command(
    "EXPIREAT",
    -3,
    f"key unix-seconds {_EXPIRE_SYNTAX}",
    "Let a key expire at a time.",
    group="generic",
    since="1.2.0",
    keys=(1, 1, 1),
    flags="write fast",
)
def expireat(session: RespSession, args: list[bytes]) -> Reply:
    return _expire(session, args, 1000, absolute=True)


@command(
    "PEXPIREAT",
    -3,
    f"key unix-milliseconds {_EXPIRE_SYNTAX}",
    "Let a key expire at a time in ms.",
    group="generic",
    since="2.6.0",
    keys=(1, 1, 1),
    flags="write fast",
)
def pexpireat(session: RespSession, args: list[bytes]) -> Reply:
    return _expire(session, args, 1, absolute=True)


@command("PERSIST", 2, "key", "Remove a key's deadline.", group="generic", since="2.2.0", keys=(1, 1, 1), flags="write fast")
def persist(session: RespSession, args: list[bytes]) -> Reply:
    entry = session.namespace.kv.entry(args[1])
    if entry is None:
        part = _other_part(session, args[1])
        return ONE if part is not None and part.persist(args[1]) else ZERO
    if not entry_deadline(entry):
        return ZERO
    session.namespace.kv.persist(args[1])
    return ONE


def _deadline(session: RespSession, key: bytes) -> int:
    """The deadline of a key, or else of the queue or the stream of that name, in ms; or NEVER, or MISSING."""
    entry = session.namespace.kv.entry(key)
    if entry is not None:
        return entry_deadline(entry) or NEVER
    part = _other_part(session, key)
    return MISSING if part is None else part.deadline(key) or NEVER


@command(
    "TTL", 2, "key", "Seconds until a key expires; -1 for never, -2 for no key.", group="generic", keys=(1, 1, 1), flags="readonly fast"
)
def ttl(session: RespSession, args: list[bytes]) -> Reply:
    deadline = _deadline(session, args[1])
    return resp.integer(deadline if deadline < 0 else (deadline - session.host.engine.now + 500) // 1000)


@command("PTTL", 2, "key", "Milliseconds until a key expires.", group="generic", since="2.6.0", keys=(1, 1, 1), flags="readonly fast")
def pttl(session: RespSession, args: list[bytes]) -> Reply:
    deadline = _deadline(session, args[1])
    return resp.integer(deadline if deadline < 0 else deadline - session.host.engine.now)


@command(
    "EXPIRETIME", 2, "key", "When a key expires, in Unix seconds.", group="generic", since="7.0.0", keys=(1, 1, 1), flags="readonly fast"
)
def expiretime(session: RespSession, args: list[bytes]) -> Reply:
    deadline = _deadline(session, args[1])
    return resp.integer(deadline if deadline < 0 else (deadline + 500) // 1000)


@command("PEXPIRETIME", 2, "key", "When a key expires, in Unix ms.", group="generic", since="7.0.0", keys=(1, 1, 1), flags="readonly fast")
def pexpiretime(session: RespSession, args: list[bytes]) -> Reply:
    return resp.integer(_deadline(session, args[1]))


# -- scanning --------------------------------------------------------------------------------------


@command(
    "KEYS",
    2,
    "pattern",
    "Every key that matches.",
    group="generic",
    flags="readonly",
    differs="cut into slices, so it is no snapshot; keys come in order",
)
def keys(session: RespSession, args: list[bytes]) -> Reply:
    pattern, kv = read_pattern(args[1]), session.namespace.kv
    if pattern.exact:
        return bulk_array(kv.live_keys([pattern.prefix]))
    return _keys_job(kv, pattern)


def _keys_job(kv: KeyValue, pattern: Pattern) -> Job:
    count, pieces = 0, []
    after: bytes | None = None
    while True:
        found, more = yield from kv.scan_job(pattern.prefix, after, KEYS_SLICE)
        if found:
            after = found[-1]
        live = kv.live_keys(found if pattern.whole_prefix else (yield from pattern.matching(found)))
        count += len(live)
        pieces.append(b"".join([bulk(key) for key in live]))
        if not more:
            return [b"*%d\r\n" % count, *pieces]
        yield


@command(
    "SCAN",
    -2,
    "cursor [MATCH pattern] [COUNT count] [TYPE type]",
    "Keys, a page at a time.",
    group="generic",
    since="2.8.0",
    flags="readonly",
    differs="a key comes twice only where many others are added or deleted meanwhile; a cursor from before a restart starts over",
)
def scan(session: RespSession, args: list[bytes]) -> Reply:
    cursor = integer(args[1], 0, (1 << 64) - 1, "invalid cursor") if len(args[1]) < 20 else 0
    pattern, count, kind = read_pattern(b"*"), 10, b""
    at = 2
    while at < len(args):
        if at + 1 >= len(args):
            raise syntax_error()
        option, value = args[at].upper(), args[at + 1]
        if option == b"MATCH":
            pattern = read_pattern(value)
        elif option == b"COUNT":
            count = integer(value)
            if count < 1:
                raise syntax_error()
        elif option == b"TYPE":
            kind = value.lower()
        else:
            raise syntax_error()
        at += 2
    kv = session.namespace.kv
    if kind in (b"list", b"stream"):
        names = session.namespace.queues.names() if kind == b"list" else session.namespace.streams.names()
        return _scan_names(names, cursor, pattern, min(count, SCAN_COUNT_MAX))
    if pattern.exact:
        return array([bulk(b"0"), bulk_array(_of_kind(kv, kv.live_keys([pattern.prefix]), kind))])
    return _scan_job(kv, cursor, pattern, min(count, SCAN_COUNT_MAX), kind)


def _scan_names(names: list[bytes], cursor: int, pattern: Pattern, count: int) -> Job:
    """Queues or streams by name, in the order of their checksums: the next one's is the cursor. There are few beside keys."""
    left = sorted((crc32(name), name) for name in names if name.startswith(pattern.prefix))
    first = bisect_left(left, (cursor, b""))
    last = first + count
    while last < len(left) and left[last][0] == left[last - 1][0]:
        last += 1
    following = left[last][0] if last < len(left) else 0
    found = yield from pattern.matching([name for _, name in left[first:last]])
    return [array([bulk(b"%d" % following), bulk_array(found)])]


def _scan_job(kv: KeyValue, cursor: int, pattern: Pattern, count: int, kind: bytes) -> Job:
    found, following = yield from kv.walk_job(pattern.prefix, cursor, count)
    if not pattern.whole_prefix:
        found = yield from pattern.matching(found)
    live: list[bytes] = []
    for at in range(0, len(found), KEYS_SLICE):
        if at:
            yield  # each that has expired is buried, which takes ten times as long as a look
        live += kv.live_keys(found[at : at + KEYS_SLICE])
    return [array([bulk(b"%d" % following), bulk_array(_of_kind(kv, live, kind))])]


def _of_kind(kv: KeyValue, names: list[bytes], kind: bytes) -> list[bytes]:
    if not kind:
        return names
    states = ((name, kv.get(name)) for name in names)
    return [name for name, found in states if found and KIND_NAMES[found.kind].lower().encode() == kind]


@command("DBSIZE", 1, "", "How many keys there are.", group="server", flags="readonly fast")
def dbsize(session: RespSession, args: list[bytes]) -> Reply:
    kv = session.namespace.kv
    return resp.integer(len(kv.store)) if kv.store.lazy is None else _dbsize_job(kv)


def _dbsize_job(kv: KeyValue) -> Job:
    yield from kv.all_read()
    return [resp.integer(len(kv.store))]
