"""Commands on keys: strings, counters, deadlines, scans, and Flo's own CAS, GETV and HISTORY."""

from flo.commands import arguments
from flo.commands.arguments import integer, syntax_error
from flo.commands.session import RespSession
from flo.commands.table import Job, Reply, command
from flo.engine import KeyValue
from flo.engine.kv import DEADLINE_MAX, HISTORY_BYTES_MAX, VALUE_BYTES_MAX, WRONG_KIND_TEXT, check_count
from flo.errors import BadRequest, Conflict, NotFound, WrongKind
from flo.proto import resp
from flo.proto.resp import OK, ONE, ZERO, array, bulk, bulk_array, bulk_or_nil
from flo.store.kv import COUNTER, JSON, PLAIN_MAX, SHARD_MASK, STRING, VERSION_BYTES, Found, frame

REPLY_BYTES_MAX = 64 << 20  # of one MGET: past it a client should ask in parts
SCAN_COUNT_MAX = 10_000  # keys one SCAN looks at, whatever COUNT says: others wait meanwhile
KEYS_SLICE = 1000  # keys one slice of KEYS looks at: about a ms
FLOAT_DIGITS = 17  # behind the point: what INCRBYFLOAT keeps, as Redis does
NEVER, MISSING = -1, -2  # what TTL and its kin answer for a key with no deadline, and for no key

STRING_KEY = {"group": "string", "keys": (1, 1, 1)}


def live_text(session: RespSession, key: bytes) -> Found | None:
    """The key's state, None where it is missing. Raises `WrongKind` for a JSON document: JSON.GET reads those."""
    found = session.namespace.kv.get(key)
    if found is not None and found.kind == JSON:
        raise WrongKind(WRONG_KIND_TEXT, found.version)
    return found


# -- strings ---------------------------------------------------------------------------------------


@command(
    "GET",
    2,
    "key",
    "The string or counter at a key.",
    group="string",
    keys=(1, 1, 1),
    flags="readonly fast",
    differs="a JSON document is WRONGTYPE: use JSON.GET",
)
def get(session: RespSession, args: list[bytes]) -> Reply:
    found = live_text(session, args[1])
    counters = session.host.counters
    if found is None:
        counters.misses += 1
        return session.nil
    counters.hits += 1
    return bulk(found.value)


@command(
    "SET",
    -3,
    "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-seconds | PXAT unix-milliseconds | KEEPTTL]",
    "Set a key to a string.",
    group="string",
    keys=(1, 1, 1),
    flags="write denyoom",
)
def set_(session: RespSession, args: list[bytes]) -> Reply:
    kv = session.namespace.kv
    if len(args) == 3:
        kv.put(args[1], args[2])
        return OK
    now = session.host.engine.now
    absent = present = want_old = keep = False
    deadline = 0
    expiry: bytes = b""
    amount = b""
    at = 3
    while at < len(args):
        option = args[at].upper()
        at += 1
        if option == b"NX" and not present:
            absent = True
        elif option == b"XX" and not absent:
            present = True
        elif option == b"GET":
            want_old = True
        elif option == b"KEEPTTL" and not expiry:
            keep = True
        elif option in _EXPIRY_OPTIONS and at < len(args) and expiry in (b"", option) and not keep:
            expiry, amount = option, args[at]
            at += 1
        else:
            raise syntax_error()
    if expiry:
        unit, absolute = _EXPIRY_OPTIONS[expiry]
        deadline = arguments.deadline(amount, unit, 0 if absolute else now, "set")
    old = live_text(session, args[1]) if want_old else None
    try:
        _put(kv, args[1], args[2], deadline, now, if_absent=absent, if_present=present, keep_deadline=keep)
    except Conflict:
        return bulk(old.value) if old else session.nil
    if want_old:
        return bulk_or_nil(old.value if old else None, session.v3)
    return OK


_EXPIRY_OPTIONS = {b"EX": (1000, False), b"PX": (1, False), b"EXAT": (1000, True), b"PXAT": (1, True)}


def _put(
    kv: KeyValue,
    key: bytes,
    value: bytes,
    deadline: int,
    now: int,
    if_absent: bool = False,
    if_present: bool = False,
    keep_deadline: bool = False,
) -> None:
    """Set a key; one whose absolute deadline has passed already is gone at once."""
    kv.put(key, value, deadline=deadline, if_absent=if_absent, if_present=if_present, keep_deadline=keep_deadline)
    if deadline and deadline <= now:
        kv.sweep_key(key)


@command("SETNX", 3, "key value", "Set a key unless it exists.", group="string", keys=(1, 1, 1), flags="write denyoom fast")
def setnx(session: RespSession, args: list[bytes]) -> Reply:
    try:
        session.namespace.kv.put(args[1], args[2], if_absent=True)
    except Conflict:
        return ZERO
    return ONE


@command(
    "SETEX", 4, "key seconds value", "Set a key with a time to live.", group="string", since="2.0.0", keys=(1, 1, 1), flags="write denyoom"
)
def setex(session: RespSession, args: list[bytes]) -> Reply:
    return _set_for(session, args, 1000)


@command(
    "PSETEX",
    4,
    "key milliseconds value",
    "Set a key with a time to live in ms.",
    group="string",
    since="2.6.0",
    keys=(1, 1, 1),
    flags="write denyoom",
)
def psetex(session: RespSession, args: list[bytes]) -> Reply:
    return _set_for(session, args, 1)


def _set_for(session: RespSession, args: list[bytes], unit: int) -> bytes:
    deadline = arguments.deadline(args[2], unit, session.host.engine.now, args[0].decode("latin-1"))
    session.namespace.kv.put(args[1], args[3], deadline=deadline)
    return OK


@command("GETSET", 3, "key value", "Set a key and answer what it was.", group="string", keys=(1, 1, 1), flags="write denyoom fast")
def getset(session: RespSession, args: list[bytes]) -> Reply:
    old = live_text(session, args[1])
    session.namespace.kv.put(args[1], args[2])
    return bulk_or_nil(old.value if old else None, session.v3)


@command("GETDEL", 2, "key", "Answer a key's string and delete it.", group="string", since="6.2.0", keys=(1, 1, 1), flags="write fast")
def getdel(session: RespSession, args: list[bytes]) -> Reply:
    old = live_text(session, args[1])
    if old is None:
        return session.nil
    session.namespace.kv.delete(args[1])
    return bulk(old.value)


@command(
    "GETEX",
    -2,
    "key [EX seconds | PX milliseconds | EXAT unix-seconds | PXAT unix-milliseconds | PERSIST]",
    "Answer a key's string and change its deadline.",
    group="string",
    since="6.2.0",
    keys=(1, 1, 1),
    flags="write fast",
)
def getex(session: RespSession, args: list[bytes]) -> Reply:
    kv, now = session.namespace.kv, session.host.engine.now
    deadline: int | None = None
    if len(args) == 3 and args[2].upper() == b"PERSIST":
        deadline = 0
    elif len(args) == 4 and args[2].upper() in _EXPIRY_OPTIONS:
        unit, absolute = _EXPIRY_OPTIONS[args[2].upper()]
        deadline = arguments.deadline(args[3], unit, 0 if absolute else now, "getex")
    elif len(args) != 2:
        raise syntax_error()
    found = live_text(session, args[1])
    if found is None:
        return session.nil
    if deadline:
        kv.touch(args[1], deadline)
    elif deadline == 0:
        kv.persist(args[1])
    return bulk(found.value)


@command(
    "MGET",
    -2,
    "key [key …]",
    "The strings of several keys.",
    group="string",
    keys=(1, -1, 1),
    flags="readonly fast",
    differs="a JSON document answers nil, as every other kind does in Redis; at most 10,000 keys and 64 MiB of values at a time",
)
def mget(session: RespSession, args: list[bytes]) -> Reply:
    keys = args[1:]
    pieces: list[bytes] = [b"*%d\r\n" % len(keys)]
    total = misses = 0
    check_count(keys)
    kv, nil = session.namespace.kv, session.nil
    shards = kv.store.shards
    for key in keys:
        entry = shards[hash(key) & SHARD_MASK].get(key)
        if entry is not None and entry[-1] >= PLAIN_MAX:  # a document, or something with a deadline
            found = kv.get(key)
            entry = None if found is None or found.kind == JSON else frame(found.value, 0, 0)
        if entry is None:
            misses += 1
            pieces.append(nil)
        else:
            total += len(entry)
            if total > REPLY_BYTES_MAX:
                raise BadRequest(f"the values of these keys are over {REPLY_BYTES_MAX} bytes together; ask for fewer at a time")
            pieces.append(entry[:-VERSION_BYTES])
    session.host.counters.misses += misses
    session.host.counters.hits += len(keys) - misses
    return b"".join(pieces)


@command(
    "MSET",
    -3,
    "key value [key value …]",
    "Set several keys, all or none.",
    group="string",
    since="1.0.1",
    keys=(1, -1, 2),
    flags="write denyoom",
    differs="at most 10,000 keys at a time",
)
def mset(session: RespSession, args: list[bytes]) -> Reply:
    if len(args) % 2 == 0:
        raise BadRequest("wrong number of arguments for 'mset' command")
    session.namespace.kv.put_many([(args[at], args[at + 1], 0) for at in range(1, len(args), 2)])
    return OK


@command("STRLEN", 2, "key", "The length of a key's string.", group="string", since="2.2.0", keys=(1, 1, 1), flags="readonly fast")
def strlen(session: RespSession, args: list[bytes]) -> Reply:
    found = live_text(session, args[1])
    return resp.integer(len(found.value) if found else 0)


@command("APPEND", 3, "key value", "Append to a key's string.", group="string", since="2.0.0", keys=(1, 1, 1), flags="write denyoom fast")
def append(session: RespSession, args: list[bytes]) -> Reply:
    new = session.namespace.kv.update(args[1], lambda old: _within((old or b""), len(args[2])) + args[2])
    assert new is not None
    return resp.integer(len(new))


def _within(old: bytes, more: int) -> bytes:
    """`old`, unless `more` bytes would take it past the limit of a value."""
    if len(old) + more > VALUE_BYTES_MAX:
        raise BadRequest(f"string exceeds maximum allowed size ({VALUE_BYTES_MAX} bytes)")
    return old


@command("GETRANGE", 4, "key start end", "A part of a key's string.", group="string", since="2.4.0", keys=(1, 1, 1), flags="readonly")
def getrange(session: RespSession, args: list[bytes]) -> Reply:
    start, end = integer(args[2]), integer(args[3])
    found = live_text(session, args[1])
    value = found.value if found else b""
    size = len(value)
    if start < 0 and end < 0 and start > end:
        return bulk(b"")
    start = max(start + size, 0) if start < 0 else start
    end = max(end + size, 0) if end < 0 else min(end, size - 1)
    return bulk(value[start : end + 1] if size and start <= end else b"")


@command(
    "SETRANGE",
    4,
    "key offset value",
    "Overwrite a part of a key's string.",
    group="string",
    since="2.2.0",
    keys=(1, 1, 1),
    flags="write denyoom",
)
def setrange(session: RespSession, args: list[bytes]) -> Reply:
    offset, part = integer(args[2]), args[3]
    if offset < 0:
        raise BadRequest("offset is out of range")

    def change(old: bytes | None) -> bytes | None:
        value = old or b""
        if not part:
            return None
        _within(b"", offset + len(part))
        return value[:offset].ljust(offset, b"\0") + part + value[offset + len(part) :]

    new = session.namespace.kv.update(args[1], change)
    if new is None:
        return strlen(session, args[:2])
    return resp.integer(len(new))


# -- counters --------------------------------------------------------------------------------------

_COUNTER_DIFFERS = "a key that is no integer answers -WRONGTYPE and an overflow -CONFLICT, where Redis says -ERR"


def _add(session: RespSession, key: bytes, delta: int) -> bytes:
    value, _ = session.namespace.kv.incr(key, delta)
    return resp.integer(value)


@command("INCR", 2, "key", "Add one to a counter.", group="string", keys=(1, 1, 1), flags="write denyoom fast", differs=_COUNTER_DIFFERS)
def incr(session: RespSession, args: list[bytes]) -> Reply:
    return _add(session, args[1], 1)


@command("DECR", 2, "key", "Take one from a counter.", group="string", keys=(1, 1, 1), flags="write denyoom fast", differs=_COUNTER_DIFFERS)
def decr(session: RespSession, args: list[bytes]) -> Reply:
    return _add(session, args[1], -1)


@command(
    "INCRBY", 3, "key increment", "Add to a counter.", group="string", keys=(1, 1, 1), flags="write denyoom fast", differs=_COUNTER_DIFFERS
)
def incrby(session: RespSession, args: list[bytes]) -> Reply:
    return _add(session, args[1], integer(args[2]))


@command(
    "DECRBY",
    3,
    "key decrement",
    "Take from a counter.",
    group="string",
    keys=(1, 1, 1),
    flags="write denyoom fast",
    differs=_COUNTER_DIFFERS,
)
def decrby(session: RespSession, args: list[bytes]) -> Reply:
    delta = integer(args[2])
    if delta == arguments.I64_MIN:
        raise BadRequest("decrement would overflow")
    return _add(session, args[1], -delta)


@command(
    "INCRBYFLOAT",
    3,
    "key increment",
    "Add a decimal number to a key.",
    group="string",
    since="2.6.0",
    keys=(1, 1, 1),
    flags="write denyoom fast",
    differs="the sum is exact in decimal; the key stays a string",
)
def incrbyfloat(session: RespSession, args: list[bytes]) -> Reply:
    from decimal import Context, Decimal, InvalidOperation

    # room for every digit of a double and FLOAT_DIGITS behind the point; rounding happens once, at the end
    context = Context(prec=400, Emax=9999, Emin=-9999)

    def number(text: bytes) -> Decimal:
        try:
            if len(text) > 256 or b"_" in text or text != text.strip():
                raise InvalidOperation
            value = Decimal(text.decode("latin-1"))
            if not abs(float(value)) < float("inf") or value.adjusted() < -400:
                raise InvalidOperation
        except (InvalidOperation, ValueError, OverflowError):
            raise BadRequest("value is not a valid float") from None
        return value

    delta = number(args[2])

    def change(old: bytes | None) -> bytes:
        total = context.add(number(old) if old is not None else Decimal(0), delta)
        if abs(float(total)) == float("inf"):
            raise BadRequest("increment would produce NaN or Infinity")
        text = format(context.quantize(total, Decimal(1).scaleb(-FLOAT_DIGITS)), "f")
        text = text.rstrip("0").rstrip(".")
        return b"0" if text in ("-0", "") else text.encode()

    new = session.namespace.kv.update(args[1], change)
    assert new is not None
    return bulk(new)


# -- presence, kinds, copies -----------------------------------------------------------------------


def _delete(session: RespSession, args: list[bytes]) -> bytes:
    others = [(key, _other_kind(session, key)) for key in dict.fromkeys(args[1:])] if _has_others(session) else []
    others = [(key, kind) for key, kind in others if kind and not session.namespace.kv.exists(key)]
    count = session.namespace.kv.delete_many(args[1:])
    for key, kind in others:
        count += session.namespace.queues.delete(key) if kind == "list" else session.namespace.streams.delete(key)
    return resp.integer(count)


def _has_others(session: RespSession) -> bool:
    """Whether anything but keys is in the namespace."""
    return bool(session.namespace.queues.store.queues or session.namespace.streams.store.streams)


def _other_kind(session: RespSession, key: bytes) -> str:
    """What TYPE says of a name that no key has: `list` for a queue, `stream`; empty for none."""
    if session.namespace.queues.exists(key):
        return "list"
    return "stream" if session.namespace.streams.exists(key) else ""


@command("DEL", -2, "key [key …]", "Delete keys.", group="generic", keys=(1, -1, 1), flags="write", differs="at most 10,000 keys at a time")
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
    flags="write fast",
    differs="at most 10,000 keys at a time",
)
def unlink(session: RespSession, args: list[bytes]) -> Reply:
    return _delete(session, args)


def _count(session: RespSession, args: list[bytes]) -> bytes:
    keys = args[1:]
    check_count(keys)
    kv = session.namespace.kv
    count = len(kv.live_keys(keys))
    if count < len(keys) and _has_others(session):
        count += sum(bool(_other_kind(session, key)) for key in keys if not kv.exists(key))
    return resp.integer(count)


@command(
    "EXISTS",
    -2,
    "key [key …]",
    "How many of the keys exist.",
    group="generic",
    keys=(1, -1, 1),
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
    flags="readonly fast",
    differs="the same as EXISTS: Flo evicts nothing, so it keeps no last access",
)
def touch(session: RespSession, args: list[bytes]) -> Reply:
    return _count(session, args)


KIND_NAMES = {STRING: "string", COUNTER: "string", JSON: "ReJSON-RL"}


@command("TYPE", 2, "key", "What kind of value a key holds.", group="generic", keys=(1, 1, 1), flags="readonly fast")
def type_(session: RespSession, args: list[bytes]) -> Reply:
    found = session.namespace.kv.get(args[1])
    return resp.simple(KIND_NAMES[found.kind] if found else _other_kind(session, args[1]) or "none")


def _rename(session: RespSession, args: list[bytes], replace: bool) -> bool:
    try:
        return session.namespace.kv.copy(args[1], args[2], replace=replace, move=True)
    except NotFound:
        raise BadRequest("no such key") from None


@command("RENAME", 3, "key newkey", "Rename a key.", group="generic", keys=(1, 2, 1), flags="write")
def rename(session: RespSession, args: list[bytes]) -> Reply:
    _rename(session, args, replace=True)
    return OK


@command("RENAMENX", 3, "key newkey", "Rename a key unless the new name is taken.", group="generic", keys=(1, 2, 1), flags="write fast")
def renamenx(session: RespSession, args: list[bytes]) -> Reply:
    if args[1] == args[2]:
        if not session.namespace.kv.exists(args[1]):
            raise BadRequest("no such key")
        return ZERO
    return ONE if _rename(session, args, replace=False) else ZERO


@command(
    "COPY", -3, "source destination [DB 0] [REPLACE]", "Copy a key.", group="generic", since="6.2.0", keys=(1, 2, 1), flags="write denyoom"
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
            if integer(args[at]) != 0:
                raise BadRequest("DB index is out of range: Flo has namespaces instead, see USE")
        else:
            raise syntax_error()
        at += 1
    if args[1] == args[2]:
        raise BadRequest("source and destination objects are the same")
    try:
        return ONE if session.namespace.kv.copy(args[1], args[2], replace=replace, move=False) else ZERO
    except NotFound:
        return ZERO


@command("RANDOMKEY", 1, "", "Some key.", group="generic", flags="readonly")
def randomkey(session: RespSession, args: list[bytes]) -> Reply:
    return bulk_or_nil(session.namespace.kv.random_key(), session.v3)


# -- deadlines -------------------------------------------------------------------------------------

_EXPIRE_SYNTAX = "[NX | XX | GT | LT]"


def _expire(session: RespSession, args: list[bytes], unit: int, absolute: bool, floor: bool = False) -> bytes:
    kv, now, name = session.namespace.kv, session.host.engine.now, args[0].decode("latin-1")
    options = {arg.upper() for arg in args[3:]}
    for arg in args[3:]:
        if arg.upper() not in (b"NX", b"XX", b"GT", b"LT"):
            raise BadRequest(f"Unsupported option {arg[:64].decode('utf-8', 'replace')}")
    if b"NX" in options and len(options) > 1:
        raise BadRequest("NX and XX, GT or LT options at the same time are not compatible")
    if {b"GT", b"LT"} <= options:
        raise BadRequest("GT and LT options at the same time are not compatible")
    value = integer(args[2])
    if floor and value > 0:
        value = max(value // 1000, 1) * 1000  # the seeds: whole seconds, but a positive time never to none
    base = 0 if absolute else now
    if value * unit < arguments.I64_MIN or value * unit + base > DEADLINE_MAX:
        raise BadRequest(f"invalid expire time in '{name.lower()}' command")
    deadline = value * unit + base
    found = kv.get(args[1])
    if found is None:
        return ZERO
    current = found.deadline
    if (
        (b"NX" in options and current)
        or (b"XX" in options and not current)
        or (b"GT" in options and (not current or deadline <= current))
        or (b"LT" in options and current and deadline >= current)
    ):
        return ZERO
    kv.touch(args[1], max(deadline, 1))
    return ONE


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
    differs="rounded down to whole seconds, but a positive time never to none",
)
def pexpire(session: RespSession, args: list[bytes]) -> Reply:
    return _expire(session, args, 1, absolute=False, floor=True)


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
    found = session.namespace.kv.get(args[1])
    if found is None or not found.deadline:
        return ZERO
    session.namespace.kv.persist(args[1])
    return ONE


def _deadline(session: RespSession, key: bytes) -> int:
    """The key's deadline in ms, or NEVER, or MISSING."""
    found = session.namespace.kv.get(key)
    if found is None:
        return NEVER if _other_kind(session, key) else MISSING
    return found.deadline or NEVER


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
    differs="a pattern is an exact key or a prefix with *; cut into slices, so it is no snapshot; keys come in order",
)
def keys(session: RespSession, args: list[bytes]) -> Reply:
    text, is_prefix = arguments.pattern(args[1])
    kv = session.namespace.kv
    if not is_prefix:
        return bulk_array(kv.live_keys([text]))
    return _keys_job(kv, text)


def _keys_job(kv: KeyValue, prefix: bytes) -> Job:
    count, pieces = 0, []
    after: bytes | None = None
    while True:
        found, more = yield from kv.scan_job(prefix, after, KEYS_SLICE)
        live = kv.live_keys(found)
        count += len(live)
        pieces.append(b"".join([bulk(key) for key in live]))
        if not more:
            return [b"*%d\r\n" % count, *pieces]
        after = found[-1]
        yield


@command(
    "SCAN",
    -2,
    "cursor [MATCH pattern] [COUNT count] [TYPE type]",
    "Keys, a page at a time, in order.",
    group="generic",
    since="2.8.0",
    flags="readonly",
    differs="a pattern is an exact key or a prefix with *; keys come in order, each once; a cursor the server no longer knows starts over",
)
def scan(session: RespSession, args: list[bytes]) -> Reply:
    cursor = integer(args[1], 0, (1 << 64) - 1, "invalid cursor") if len(args[1]) < 20 else 0
    match, is_prefix, count, kind = b"", True, 10, b""
    at = 2
    while at < len(args):
        if at + 1 >= len(args):
            raise syntax_error()
        option, value = args[at].upper(), args[at + 1]
        if option == b"MATCH":
            match, is_prefix = arguments.pattern(value)
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
        return _scan_names(session, names, cursor, match, is_prefix, min(count, SCAN_COUNT_MAX))
    if not is_prefix:
        return array([bulk(b"0"), bulk_array(_of_kind(kv, kv.live_keys([match]), kind))])
    return _scan_job(kv, cursor, match, min(count, SCAN_COUNT_MAX), kind)


def _scan_names(session: RespSession, names: list[bytes], cursor: int, match: bytes, is_prefix: bool, count: int) -> bytes:
    """Queues or streams by name; there are few beside keys."""
    cursors = session.namespace.kv.cursors
    after = cursors.position(cursor) if cursor else None
    names = [name for name in names if (name.startswith(match) if is_prefix else name == match) and (after is None or name > after)]
    following = cursors.remember(names[count - 1]) if len(names) > count else 0
    return array([bulk(b"%d" % following), bulk_array(names[:count])])


def _scan_job(kv: KeyValue, cursor: int, prefix: bytes, count: int, kind: bytes) -> Job:
    found, more = yield from kv.scan_job(prefix, kv.cursors.position(cursor) if cursor else None, count)
    following = kv.cursors.remember(found[-1]) if more and found else 0
    return [array([bulk(b"%d" % following), bulk_array(_of_kind(kv, kv.live_keys(found), kind))])]


def _of_kind(kv: KeyValue, names: list[bytes], kind: bytes) -> list[bytes]:
    if not kind:
        return names
    states = ((name, kv.get(name)) for name in names)
    return [name for name, found in states if found and KIND_NAMES[found.kind].lower().encode() == kind]


@command("DBSIZE", 1, "", "How many keys there are.", group="server", flags="readonly fast")
def dbsize(session: RespSession, args: list[bytes]) -> Reply:
    return resp.integer(len(session.namespace.kv.store))


# -- Flo's own -------------------------------------------------------------------------------------


@command(
    "CAS",
    -4,
    "key version value [EX seconds]",
    "Set a key if its version is the one given (0: if it does not exist); answers the new version.",
    group="flo",
    since="flo 0.1",
    keys=(1, 1, 1),
    flags="write denyoom",
)
def cas(session: RespSession, args: list[bytes]) -> Reply:
    version = integer(args[2], 0)
    deadline = 0
    if len(args) == 6 and args[4].upper() == b"EX":
        deadline = arguments.deadline(args[5], 1000, session.host.engine.now, "cas")
    elif len(args) != 4:
        raise syntax_error()
    return resp.integer(session.namespace.kv.put(args[1], args[3], cas=version, deadline=deadline))


@command(
    "GETV",
    2,
    "key",
    "The version and the string of a key: what CAS needs.",
    group="flo",
    since="flo 0.1",
    keys=(1, 1, 1),
    flags="readonly fast",
)
def getv(session: RespSession, args: list[bytes]) -> Reply:
    found = session.namespace.kv.get(args[1])
    if found is None:
        return session.nil if session.v3 else resp.NIL_ARRAY2
    return array([resp.integer(found.version), bulk(found.value)])


@command(
    "HISTORY",
    -2,
    "key [LIMIT count]",
    "Versions of a key, newest first: [version, time in ms, value or nil for a deletion] each.",
    group="flo",
    since="flo 0.1",
    keys=(1, 1, 1),
    flags="readonly",
)
def history(session: RespSession, args: list[bytes]) -> Reply:
    limit = 10
    if len(args) == 4 and args[2].upper() == b"LIMIT":
        limit = integer(args[3], 1, 1_000_000)
    elif len(args) != 2:
        raise syntax_error()
    return _history(session, args[1], limit)


def _history(session: RespSession, key: bytes, limit: int) -> Job:
    versions = yield from session.namespace.kv.history_job(key, limit, HISTORY_BYTES_MAX)
    items = [
        array([resp.integer(item.version), resp.integer(item.time), bulk_or_nil(None if item.tombstone else item.value, session.v3)])
        for item in versions
    ]
    return [array(items)]
