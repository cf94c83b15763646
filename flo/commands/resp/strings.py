"""Commands on what a key holds: strings, counters, and Flo's own CAS, GETV and HISTORY."""

from flo.commands.resp import arguments
from flo.commands.resp.arguments import integer, syntax_error
from flo.commands.resp.session import RespSession
from flo.commands.resp.table import command
from flo.commands.runner import Job, Reply
from flo.engine.kv import WRONG_KIND_TEXT, check_count
from flo.errors import BadRequest, Conflict, WrongKind
from flo.limits import LIST_BYTES_MAX, VALUE_BYTES_MAX
from flo.proto import resp
from flo.proto.resp import OK, ONE, ZERO, array, bulk, bulk_or_nil
from flo.store.kv import JSON, KIND_MASK, PLAIN_MAX, Found, entry_version, tail_bytes

REPLY_BYTES_MAX = 64 << 20  # of one MGET: past it a client should ask in parts
FLOAT_DIGITS = 17  # behind the point: what INCRBYFLOAT keeps, as Redis does


VIEW_BYTES_MIN = 16 << 10  # larger values leave as a view of the entry: copying one costs as much as sending it


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
    entry = session.namespace.kv.entry(args[1])
    if entry is None:
        session.counters.misses += 1
        return session.nil
    if entry[-1] >= PLAIN_MAX and entry[-1] & KIND_MASK == JSON:
        raise WrongKind(WRONG_KIND_TEXT, entry_version(entry))
    session.counters.hits += 1
    # an entry begins as the reply does
    return entry[: -tail_bytes(entry)] if len(entry) < VIEW_BYTES_MIN else memoryview(entry)[: -tail_bytes(entry)]  # type: ignore[return-value]


@command(
    "SET",
    -3,
    "key value [NX | XX | IFEQ value | IFNE value] [GET] "
    "[EX seconds | PX milliseconds | EXAT unix-seconds | PXAT unix-milliseconds | KEEPTTL]",
    "Set a key to a string; with IFEQ or IFNE only if it holds that value, or does not.",
    group="string",
    keys=(1, 1, 1),
    access="RW access update variable_flags",
    flags="write denyoom",
    differs="IFEQ and IFNE are Redis 8.4's; IFDEQ and IFDNE, which compare digests, are refused",
)
def set_(session: RespSession, args: list[bytes]) -> Reply:
    kv = session.namespace.kv
    if len(args) == 3:
        kv.put(args[1], args[2])
        return OK
    now = kv.engine.now
    if len(args) == 5 and args[3] in _EXPIRY_OPTIONS:  # most that have an option at all
        unit, absolute = _EXPIRY_OPTIONS[args[3]]
        deadline = arguments.deadline(args[4], unit, 0 if absolute else now, "set")
        kv.put(args[1], args[2], deadline=deadline)
        if deadline <= now:
            kv.sweep_key(args[1])  # its time has passed already
        return OK
    absent = present = want_old = keep = False
    expiry = amount = comparison = compared = b""
    at = 3
    while at < len(args):
        option = args[at] if args[at] in _EXPIRY_OPTIONS else args[at].upper()
        at += 1
        if option in _EXPIRY_OPTIONS and at < len(args) and expiry in (b"", option) and not keep:
            expiry, amount = option, args[at]
            at += 1
        elif option == b"NX" and not present and not comparison:
            absent = True
        elif option == b"XX" and not absent and not comparison:
            present = True
        elif option in COMPARISONS and at < len(args) and not (absent or present or comparison):
            comparison, compared = option, args[at]
            at += 1
        elif option == b"GET":
            want_old = True
        elif option == b"KEEPTTL" and not expiry:
            keep = True
        else:
            raise syntax_error()
    deadline = 0
    if expiry:
        unit, absolute = _EXPIRY_OPTIONS[expiry]
        deadline = arguments.deadline(amount, unit, 0 if absolute else now, "set")
    old = live_text(session, args[1]) if want_old or comparison else None
    shown = bulk_or_nil(old.value if old and want_old else None, session.v3)
    if comparison and not holds(comparison, old, compared):
        return shown
    try:
        kv.put(args[1], args[2], deadline=deadline, if_absent=absent, if_present=present, keep_deadline=keep)
    except Conflict:
        return shown
    if deadline and deadline <= now:
        kv.sweep_key(args[1])  # its time has passed already
    return shown if want_old else OK


_EXPIRY_OPTIONS = {b"EX": (1000, False), b"PX": (1, False), b"EXAT": (1000, True), b"PXAT": (1, True)}


COMPARISONS = (b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE")


def holds(comparison: bytes, found: Found | None, value: bytes) -> bool:
    """Whether what a key holds is as one of COMPARISONS says; a missing key holds no value. Raises `BadRequest` for those of digests."""
    if comparison in (b"IFDEQ", b"IFDNE"):
        raise BadRequest("Flo computes no digests of values; compare the value itself, with IFEQ or IFNE")
    return (found is not None and found.value == value) == (comparison == b"IFEQ")


@command(
    "SETNX", 3, "key value", "Set a key unless it exists.", group="string", keys=(1, 1, 1), access="OW insert", flags="write denyoom fast"
)
def setnx(session: RespSession, args: list[bytes]) -> Reply:
    try:
        session.namespace.kv.put(args[1], args[2], if_absent=True)
    except Conflict:
        return ZERO
    return ONE


@command(
    "SETEX",
    4,
    "key seconds value",
    "Set a key with a time to live.",
    group="string",
    since="2.0.0",
    keys=(1, 1, 1),
    access="OW update",
    flags="write denyoom",
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
    access="OW update",
    flags="write denyoom",
)
def psetex(session: RespSession, args: list[bytes]) -> Reply:
    return _set_for(session, args, 1)


def _set_for(session: RespSession, args: list[bytes], unit: int) -> bytes:
    deadline = arguments.deadline(args[2], unit, session.host.engine.now, "setex" if unit == 1000 else "psetex")
    session.namespace.kv.put(args[1], args[3], deadline=deadline)
    return OK


@command(
    "GETSET",
    3,
    "key value",
    "Set a key and answer what it was.",
    group="string",
    keys=(1, 1, 1),
    access="RW access update",
    flags="write denyoom fast",
)
def getset(session: RespSession, args: list[bytes]) -> Reply:
    old = live_text(session, args[1])
    session.namespace.kv.put(args[1], args[2])
    return bulk_or_nil(old.value if old else None, session.v3)


@command(
    "GETDEL",
    2,
    "key",
    "Answer a key's string and delete it.",
    group="string",
    since="6.2.0",
    keys=(1, 1, 1),
    access="RW access delete",
    flags="write fast",
)
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
    access="RW access update",
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
    keys, nil = args[1:], session.nil
    check_count(keys)
    look = session.namespace.kv.entry
    pieces: list[bytes] = [b"*%d\r\n" % len(keys)]
    total = misses = 0
    for key in keys:
        entry = look(key)
        if entry is None or (entry[-1] >= PLAIN_MAX and entry[-1] & KIND_MASK == JSON):
            misses += 1
            pieces.append(nil)
            continue
        total += len(entry)
        if total > REPLY_BYTES_MAX:
            raise BadRequest(f"the values of these keys are over {REPLY_BYTES_MAX} bytes together; ask for fewer at a time")
        pieces.append(entry[: -tail_bytes(entry)])
    session.counters.misses += misses
    session.counters.hits += len(keys) - misses
    return b"".join(pieces)


@command(
    "MSET",
    -3,
    "key value [key value …]",
    "Set several keys, all or none.",
    group="string",
    since="1.0.1",
    keys=(1, -1, 2),
    access="OW update",
    flags="write denyoom",
    differs="at most 10,000 keys at a time",
)
def mset(session: RespSession, args: list[bytes]) -> Reply:
    if len(args) % 2 == 0:
        raise BadRequest("wrong number of arguments for 'mset' command")
    session.namespace.kv.put_many([(args[at], args[at + 1], 0) for at in range(1, len(args), 2)])
    return OK


@command(
    "MSETNX",
    -3,
    "key value [key value …]",
    "Set several keys if none of them exists.",
    group="string",
    since="1.0.1",
    keys=(1, -1, 2),
    access="OW insert",
    flags="write denyoom",
    differs="at most 10,000 keys at a time",
)
def msetnx(session: RespSession, args: list[bytes]) -> Reply:
    if len(args) % 2 == 0:
        raise BadRequest("wrong number of arguments for 'msetnx' command")
    kv, keys = session.namespace.kv, args[1::2]
    check_count(keys)
    if kv.live_keys(keys):
        return ZERO
    kv.put_many([(key, value, 0) for key, value in zip(keys, args[2::2], strict=True)])
    return ONE


@command(
    "STRLEN", 2, "key", "The length of a key's string.", group="string", since="2.2.0", keys=(1, 1, 1), access="RO", flags="readonly fast"
)
def strlen(session: RespSession, args: list[bytes]) -> Reply:
    found = live_text(session, args[1])
    return resp.integer(len(found.value) if found else 0)


@command(
    "APPEND",
    3,
    "key value",
    "Append to a key's string.",
    group="string",
    since="2.0.0",
    keys=(1, 1, 1),
    access="RW insert",
    flags="write denyoom fast",
)
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
    "SUBSTR",
    4,
    "key start end",
    "The same as GETRANGE, whose old name this is.",
    group="string",
    keys=(1, 1, 1),
    flags="readonly",
)
def substr(session: RespSession, args: list[bytes]) -> Reply:
    return getrange(session, args)


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


@command(
    "INCR",
    2,
    "key",
    "Add one to a counter.",
    group="string",
    keys=(1, 1, 1),
    access="RW access update",
    flags="write denyoom fast",
    differs=_COUNTER_DIFFERS,
)
def incr(session: RespSession, args: list[bytes]) -> Reply:
    return _add(session, args[1], 1)


@command(
    "DECR",
    2,
    "key",
    "Take one from a counter.",
    group="string",
    keys=(1, 1, 1),
    access="RW access update",
    flags="write denyoom fast",
    differs=_COUNTER_DIFFERS,
)
def decr(session: RespSession, args: list[bytes]) -> Reply:
    return _add(session, args[1], -1)


@command(
    "INCRBY",
    3,
    "key increment",
    "Add to a counter.",
    group="string",
    keys=(1, 1, 1),
    access="RW access update",
    flags="write denyoom fast",
    differs=_COUNTER_DIFFERS,
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
    access="RW access update",
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
    access="RW access update",
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
            if value.is_infinite():
                raise BadRequest("increment would produce NaN or Infinity")
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


# -- Flo's own -------------------------------------------------------------------------------------


@command(
    "CAS",
    -4,
    "key version value [EX seconds]",
    "Set a key to a string, whatever it holds, if its version is the one given (0: if it does not exist); answers the new version. The key "
    "has no deadline then, unless EX gives one.",
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
    "The version of a key, which CAS needs, and its string, counter or JSON document.",
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
    "Versions of a key, newest first, 10 without LIMIT: [version, time in ms, value or nil for a deletion] each.",
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
    versions = yield from session.namespace.kv.history_job(key, limit, LIST_BYTES_MAX)
    items = [
        array([resp.integer(item.version), resp.integer(item.time), bulk_or_nil(None if item.tombstone else item.value, session.v3)])
        for item in versions
    ]
    return [array(items)]
