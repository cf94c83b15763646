"""Commands on the records of streams, as Redis has them: XADD, XREAD, ranges, trims, XINFO STREAM. Groups are in groups.py."""

import struct
from collections.abc import Callable, Generator, Iterable
from typing import NamedTuple

from flo.commands.resp.arguments import integer, syntax_error
from flo.commands.resp.session import RespSession, wrong_arity
from flo.commands.resp.table import command
from flo.commands.runner import WAITING, Job, Reply
from flo.engine import Streams
from flo.engine.group import MANY_SLICE, check_ids
from flo.engine.stream import FIELDS, RAW, Bounds, StreamRecord, id_text
from flo.errors import BadRequest, Damaged, NotFound
from flo.limits import LIST_BYTES_MAX
from flo.proto import fields, resp
from flo.proto.resp import EMPTY_ARRAY, NIL3, NIL_ARRAY2, OK, array, bulk
from flo.store.stream import CHUNK_RECORDS, ID_HALF_MAX, ID_MAX, SEQ_BITS, Stream

INVALID_ID = "Invalid stream ID specified as stream command argument"
READ_SLICE = 256  # records that XREAD reads in one slice
DATA = b"data"  # the one field of a record that is bytes to the binary protocol
LIMIT_DEFAULT = 100 * CHUNK_RECORDS  # records that a trim with ~ removes at once
NO_KEY = "no such key"


def streams_of(session: RespSession) -> Streams:
    """The streams of the session's namespace."""
    return session.namespace.streams


def nil_array(session: RespSession) -> bytes:
    """No array."""
    return NIL3 if session.v3 else NIL_ARRAY2


def counted(ids: list[int], step: Callable[[list[int]], int]) -> Reply:
    """How many of the ids `step` counts, given a slice of them at a time."""
    check_ids(ids)
    return resp.integer(step(ids)) if len(ids) <= MANY_SLICE else _count_job(ids, step)


def _count_job(ids: list[int], step: Callable[[list[int]], int]) -> Job:
    count = 0
    for at in range(0, len(ids), MANY_SLICE):
        count += step(ids[at : at + MANY_SLICE])
        yield
    return [resp.integer(count)]


# -- ids -------------------------------------------------------------------------------------------


def _half(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20 or int(text) > ID_HALF_MAX:
        raise BadRequest(INVALID_ID)
    return int(text)


def stream_id(arg: bytes, seq: int = 0) -> int:
    """`ms-seq`, or `ms` with that seq."""
    ms, dash, rest = arg.partition(b"-")
    return _half(ms) << SEQ_BITS | (_half(rest) if dash else seq)


def range_start(arg: bytes) -> int:
    """The start of a range: `-`, `+`, an id, or with `(` the one behind it."""
    if arg in (b"-", b"+"):
        return 0 if arg == b"-" else ID_MAX
    if not arg.startswith(b"("):
        return stream_id(arg)
    ident = stream_id(arg[1:])
    if ident == ID_MAX:
        raise BadRequest("invalid start ID for the interval")
    return ident + 1


def range_end(arg: bytes) -> int:
    """The end of a range: `-`, `+`, an id (without seq: its last ms), or with `(` the one before it."""
    if arg in (b"-", b"+"):
        return 0 if arg == b"-" else ID_MAX
    if not arg.startswith(b"("):
        return stream_id(arg, ID_HALF_MAX)
    ident = stream_id(arg[1:], ID_HALF_MAX)
    if not ident:
        raise BadRequest("invalid end ID for the interval")
    return ident - 1


# -- records as replies ----------------------------------------------------------------------------


def field_array(kind: int, payload: bytes) -> bytes:
    """The fields of a record; bytes are the field `data`."""
    if kind == RAW:
        return b"*2\r\n$4\r\ndata\r\n$%d\r\n%b\r\n" % (len(payload), payload)
    items = fields.unpack(payload)
    return b"*%d\r\n" % len(items) + b"".join([b"$%d\r\n%b\r\n" % (len(item), item) for item in items])


def entry(record: StreamRecord) -> bytes:
    """A record: its id and its fields."""
    name = id_text(record.ident)
    return b"*2\r\n$%d\r\n%b\r\n" % (len(name), name) + field_array(record.kind, record.payload)


def by_stream(session: RespSession, parts: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Streams with an array each: a map in RESP3, pairs in RESP2; nil for none."""
    rows = list(parts)
    if not rows:
        return nil_array(session)
    if session.v3:
        return b"%%%d\r\n" % len(rows) + b"".join([bulk(name) + entries for name, entries in rows])
    return array([array([bulk(name), entries]) for name, entries in rows])


# -- appending and trimming ------------------------------------------------------------------------


class Trim(NamedTuple):
    """The trimming options of XADD and XTRIM, and where the arguments go on."""

    bounds: Bounds | None
    create: bool
    at: int


_TRIMS: dict[tuple[bytes, ...], Trim] = {}  # by their words: programs send the same ones again and again
TRIMS_MAX = 256
TRIM_WORDS_MAX = 8


def _xadd_options(args: list[bytes]) -> Trim:
    """The trimming options of an XADD."""
    try:
        key = tuple(args[2 : args.index(b"*", 2, 2 + TRIM_WORDS_MAX)])
    except ValueError:
        return _trim_options(args, 2, appends=True)
    found = _TRIMS.get(key)
    if found is None:
        found = _trim_options(args, 2, appends=True)
        if found.at == 2 + len(key) and sum(map(len, key)) < 256:
            if len(_TRIMS) >= TRIMS_MAX:
                _TRIMS.clear()
            _TRIMS[key] = found
    return found


def _trim_options(args: list[bytes], at: int, appends: bool) -> Trim:
    """Read the options from `at` on."""
    strategy = b""
    max_len = min_id = limit = None
    approximate, create = False, True
    while at < len(args):
        word = args[at].upper()
        if appends and word == b"NOMKSTREAM":
            create = False
        elif word in (b"MAXLEN", b"MINID") and at + 1 < len(args):
            if strategy and strategy != word:
                raise BadRequest("syntax error, MAXLEN and MINID options at the same time are not compatible")
            strategy, approximate = word, False
            if args[at + 1] in (b"~", b"=") and at + 2 < len(args):
                approximate = args[at + 1] == b"~"
                at += 1
            at += 1
            if word == b"MAXLEN":
                max_len = integer(args[at])
                if max_len < 0:
                    raise BadRequest("The MAXLEN argument must be >= 0.")
            else:
                min_id = stream_id(args[at])
        elif word == b"LIMIT" and at + 1 < len(args):
            at += 1
            limit = integer(args[at])
            if limit < 0:
                raise BadRequest("The LIMIT argument must be >= 0.")
        elif appends:
            break
        else:
            raise syntax_error()
        at += 1
    if limit is not None and not strategy:
        raise BadRequest("syntax error, LIMIT cannot be used without specifying a trimming strategy")
    if limit is not None and not approximate:
        raise BadRequest("syntax error, LIMIT cannot be used without the special ~ option")
    bounds = Bounds(max_len, None, None, min_id, approximate, LIMIT_DEFAULT if limit is None else limit) if strategy else None
    return Trim(bounds, create, at)


@command(
    "XADD",
    -5,
    "stream [NOMKSTREAM] [MAXLEN | MINID [= | ~] threshold [LIMIT count]] * | id field value [field value …]",
    "Append a record; answers its id.",
    group="stream",
    since="5.0.0",
    keys=(1, 1, 1),
    flags="write denyoom fast",
    differs="~ keeps up to 511 records more",
)
def xadd(session: RespSession, args: list[bytes]) -> Reply:
    bounds, create, at = (None, True, 2) if args[2] == b"*" else _xadd_options(args)
    count = len(args) - at - 1
    if count < 2 or count % 2:
        return wrong_arity("xadd")
    ms = seq = None
    if args[at] != b"*":
        head, dash, tail = args[at].partition(b"-")
        ms = _half(head)
        seq = 0 if not dash else None if tail == b"*" else _half(tail)
    kind, payload = RAW, args[at + 2]
    if count != 2 or args[at + 1] != DATA:
        try:
            kind, payload = FIELDS, fields.pack(args[at + 1 :])
        except struct.error:
            raise BadRequest(f"a record has at most {fields.FIELDS_MAX} fields, with names of {fields.NAME_BYTES_MAX} bytes") from None
    ident = streams_of(session).append(args[1], payload, kind, ms=ms, seq=seq, create=create, bounds=bounds)
    return session.nil if ident is None else bulk(id_text(ident))


@command(
    "XTRIM",
    -4,
    "stream MAXLEN | MINID [= | ~] threshold [LIMIT count]",
    "Remove the oldest records; answers how many.",
    group="stream",
    since="5.0.0",
    keys=(1, 1, 1),
    access="RW delete",
    flags="write",
    differs="~ keeps up to 511 records more",
)
def xtrim(session: RespSession, args: list[bytes]) -> Reply:
    bounds = _trim_options(args, 2, appends=False).bounds
    if bounds is None:
        raise BadRequest("syntax error, XTRIM must be called with MAXLEN or MINID")
    return resp.integer(streams_of(session).trim(args[1], bounds))


@command(
    "XDEL",
    -3,
    "stream id [id …]",
    "Delete records; answers how many there were.",
    group="stream",
    since="5.0.0",
    keys=(1, 1, 1),
    access="RW delete",
    flags="write fast",
)
def xdel(session: RespSession, args: list[bytes]) -> Reply:
    ids = [stream_id(arg) for arg in args[2:]]
    return counted(ids, lambda some: streams_of(session).delete_records(args[1], some))


@command(
    "XSETID",
    -3,
    "stream last-id [ENTRIESADDED count] [MAXDELETEDID id]",
    "Raise a stream's last id and counts, as for one that was copied from elsewhere.",
    group="stream",
    since="5.0.0",
    keys=(1, 1, 1),
    flags="write denyoom fast",
    differs="neither the last id nor the count goes back",
)
def xsetid(session: RespSession, args: list[bytes]) -> Reply:
    last = stream_id(args[2])
    added = max_deleted = None
    for at in range(3, len(args), 2):
        word = args[at].upper()
        if word not in (b"ENTRIESADDED", b"MAXDELETEDID") or at + 1 == len(args):
            raise syntax_error()
        if word == b"ENTRIESADDED":
            added = integer(args[at + 1])
            if added < 0:
                raise BadRequest("entries_added must be positive")
        else:
            max_deleted = stream_id(args[at + 1])
            if last < max_deleted:
                raise BadRequest("The ID specified in XSETID is smaller than the provided max_deleted_entry_id")
    streams_of(session).set_last(args[1], last, added, max_deleted)
    return OK


@command(
    "XLEN",
    2,
    "stream",
    "How many records the stream has.",
    group="stream",
    since="5.0.0",
    keys=(1, 1, 1),
    access="RO",
    flags="readonly fast",
)
def xlen(session: RespSession, args: list[bytes]) -> Reply:
    return resp.integer(streams_of(session).length(args[1]))


# -- reading ---------------------------------------------------------------------------------------


def _range(session: RespSession, args: list[bytes], start: int, end: int, reverse: bool) -> Reply:
    limit = ID_MAX
    for at in range(4, len(args), 2):
        if args[at].upper() != b"COUNT" or at + 1 == len(args):
            raise syntax_error()
        limit = integer(args[at + 1])
    if limit <= 0:
        return nil_array(session) if streams_of(session).exists(args[1]) else EMPTY_ARRAY
    return _range_job(streams_of(session), args[1], start, end, limit, reverse)


def _range_job(streams: Streams, name: bytes, start: int, end: int, limit: int, reverse: bool) -> Job:
    found = yield from streams.read_job(name, start, end, limit, reverse)
    return [array(map(entry, found))]


@command(
    "XRANGE",
    -4,
    "stream start end [COUNT count]",
    "Records between two ids, oldest first.",
    group="stream",
    since="5.0.0",
    keys=(1, 1, 1),
    flags="readonly",
    differs="stops near 16 MiB; cut into slices, so it is no snapshot",
)
def xrange(session: RespSession, args: list[bytes]) -> Reply:
    return _range(session, args, range_start(args[2]), range_end(args[3]), False)


@command(
    "XREVRANGE",
    -4,
    "stream end start [COUNT count]",
    "Records between two ids, newest first.",
    group="stream",
    since="5.0.0",
    keys=(1, 1, 1),
    flags="readonly",
    differs="stops near 16 MiB; cut into slices, so it is no snapshot",
)
def xrevrange(session: RespSession, args: list[bytes]) -> Reply:
    return _range(session, args, range_start(args[3]), range_end(args[2]), True)


class ReadOptions(NamedTuple):
    """What XREAD and XREADGROUP have in common: how many a stream (ID_MAX: all), how long to wait (None: not at all), streams, ids; and
    what only the latter has."""

    limit: int
    block: float | None
    names: list[bytes]
    ids: list[bytes]
    no_ack: bool
    group: tuple[bytes, bytes] | None  # and its consumer


def read_options(args: list[bytes]) -> ReadOptions:
    """Read the options, up to the streams and their ids."""
    name = args[0].upper().decode("utf-8", "replace")
    grouped = name == "XREADGROUP"
    count, block, no_ack, at = ID_MAX, None, False, 1
    group = None
    while at < len(args):
        word, more = args[at].upper(), len(args) - at - 1
        if word in (b"GROUP", b"NOACK") and not grouped:
            raise BadRequest(f"The {word.decode()} option is only supported by XREADGROUP. You called XREAD instead.")
        if word == b"COUNT" and more:
            count = integer(args[at + 1])
            count = count if count > 0 else ID_MAX
            at += 2
        elif word == b"BLOCK" and more:
            wait = integer(args[at + 1], message="timeout is not an integer or out of range")
            if wait < 0:
                raise BadRequest("timeout is negative")
            block = wait / 1000
            at += 2
        elif word == b"NOACK":
            no_ack = True
            at += 1
        elif word == b"GROUP" and more >= 2:
            group = args[at + 1], args[at + 2]
            at += 3
        elif word == b"STREAMS" and more:
            rest = args[at + 1 :]
            if len(rest) % 2:
                symbol = ">" if grouped else "$"
                raise BadRequest(f"Unbalanced {name} list of streams: for each stream key an ID or '{symbol}' must be specified.")
            return ReadOptions(count, block, rest[: len(rest) // 2], rest[len(rest) // 2 :], no_ack, group)
        else:
            raise syntax_error()
    raise syntax_error()


@command(
    "XREAD",
    -4,
    "[COUNT count] [BLOCK milliseconds] STREAMS stream [stream …] id [id …]",
    "Records behind an id of each stream, waiting for the first; $ is what comes from now on, + the last there is.",
    group="stream",
    since="5.0.0",
    flags="readonly blocking movablekeys",
    access="RO access",
    streams_from=1,
    differs="stops near 16 MiB; cut into slices, so it is no snapshot",
)
def xread(session: RespSession, args: list[bytes]) -> Reply:
    options = read_options(args)
    streams = streams_of(session)
    after: list[tuple[bytes, int]] = []  # a stream may be named twice, and is answered twice
    for name, arg in zip(options.names, options.ids, strict=True):
        stream = streams.find(name)
        if arg == b"$":
            after.append((name, stream.last if stream is not None else 0))
        elif arg == b"+":
            last = stream.chunks[-1].last() if stream is not None and stream.chunks else 0
            after.append((name, max(last - 1, 0)))
        elif arg == b">":
            raise BadRequest("The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.")
        else:
            after.append((name, stream_id(arg)))
    if options.block is None or any(_has(streams, name, ident) for name, ident in after):
        return _xread_job(session, after, options.limit)
    awaited = dict(reversed(after))  # the first of one that is named twice, as in Redis
    count = min(options.limit, READ_WAITING_MAX)

    def notify() -> int:
        rows: list[tuple[bytes, bytes]] = []
        left = count
        for name, ident in awaited.items():
            try:
                found = streams.read(name, ident + 1, limit=left) if left and ident < ID_MAX else []
            except Damaged as e:
                block.answer(e)
                return count - left
            if found:
                rows.append((name, array(map(entry, found))))
                left -= len(found)
        block.answer(by_stream(session, rows))
        return count - left

    watch = streams.watch(awaited, notify)
    block = session.block(options.block, watch.cancel, lambda: nil_array(session), args)
    return WAITING


READ_WAITING_MAX = 1000  # records that one who waited is given, whatever COUNT says


def _has(streams: Streams, name: bytes, after: int) -> bool:
    stream = streams.find(name)
    return stream is not None and bool(stream.chunks) and stream.chunks[-1].last() > after


def _xread_job(session: RespSession, after: list[tuple[bytes, int]], count: int) -> Generator[None, None, list[bytes]]:
    rows: list[tuple[bytes, bytes]] = []
    room, looked = LIST_BYTES_MAX, 0  # of all streams together: no further stream is read behind it
    for name, ident in after:
        if ident >= ID_MAX or room <= 0:
            continue
        if looked >= READ_SLICE:
            looked = 0
            yield
        found = yield from streams_of(session).read_job(name, ident + 1, ID_MAX, count, False)
        looked += 1 + len(found)
        if found:
            rows.append((name, array(map(entry, found))))
            room -= len(rows[-1][1])
    return [by_stream(session, rows)]


# -- telling ---------------------------------------------------------------------------------------


def stream_info(session: RespSession, stream: Stream) -> dict[bytes, bytes]:
    """What both forms of XINFO STREAM begin with."""
    return {
        b"length": resp.integer(stream.count),
        b"radix-tree-keys": resp.integer(len(stream.chunks)),
        b"radix-tree-nodes": resp.integer(len(stream.chunks) + 1),
        b"last-generated-id": bulk(id_text(stream.last)),
        b"max-deleted-entry-id": bulk(id_text(stream.max_deleted)),
        b"entries-added": resp.integer(stream.added),
        b"recorded-first-entry-id": bulk(id_text(stream.first)),
    }


def need_stream(session: RespSession, name: bytes) -> Stream:
    """The stream of that name. Raises `NotFound`, worded as Redis words it."""
    stream = streams_of(session).find(name)
    if stream is None:
        raise NotFound(NO_KEY)
    return stream


def xinfo_stream(session: RespSession, name: bytes) -> bytes:
    """XINFO STREAM without FULL."""
    stream, streams = need_stream(session, name), streams_of(session)
    first, last = streams.read(name, limit=1), streams.read(name, limit=1, reverse=True)
    info = stream_info(session, stream)
    info[b"groups"] = resp.integer(sum(group.declared for group in stream.groups.values()))
    info[b"first-entry"] = entry(first[0]) if first else session.nil
    info[b"last-entry"] = entry(last[0]) if last else session.nil
    return resp.mapping(info, session.v3)
