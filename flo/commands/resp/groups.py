"""Commands on consumer groups, as Redis has them: XGROUP, XREADGROUP, XACK, XPENDING, XCLAIM, XAUTOCLAIM, XINFO."""

from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from flo.commands.resp.arguments import integer, syntax_error
from flo.commands.resp.session import RespSession, wrong_subcommand
from flo.commands.resp.streams import (
    by_stream,
    counted,
    entry,
    field_array,
    need_stream,
    nil_array,
    range_end,
    range_start,
    read_options,
    stream_id,
    stream_info,
    streams_of,
    xinfo_stream,
)
from flo.commands.resp.table import Sub, command
from flo.commands.runner import WAITING, Job, Reply
from flo.engine.group import MANY_SLICE, Delivery, Groups, check_ids, lag
from flo.engine.stream import id_text
from flo.errors import BadRequest, NoGroup, Refusal
from flo.limits import LIST_BYTES_MAX, LIST_ITEMS_MAX
from flo.proto import resp
from flo.proto.resp import EMPTY_ARRAY, OK, array, bulk
from flo.store.group import NOT_COUNTED, Group, Pending
from flo.store.stream import ID_MAX, Stream

FULL_COUNT = 10  # of each list in XINFO STREAM FULL, where COUNT does not say
FULL_COUNT_MAX = 1000
FULL_ROWS_MAX = 10_000  # consumers and deliveries that one XINFO STREAM FULL shows
PENDING_COUNT_MAX = 10_000  # deliveries one XPENDING shows, whatever its count says
CLAIM_COUNT = 100


def _groups(session: RespSession) -> Groups:
    return streams_of(session).groups


def _delivery(session: RespSession, found: Delivery) -> bytes:
    """A record as XREADGROUP shows it; nil for the fields of one that was deleted meanwhile."""
    name = id_text(found.ident)
    shown = nil_array(session) if found.payload is None else field_array(found.kind, found.payload)
    return b"*2\r\n" + bulk(name) + shown


def _deliveries(session: RespSession, found: list[Delivery]) -> bytes:
    return array([_delivery(session, one) for one in found])


# -- groups and consumers --------------------------------------------------------------------------


@command(
    "XGROUP",
    -2,
    "",
    "Make, move and delete groups and their consumers.",
    group="stream",
    since="5.0.0",
    subcommands={
        "CREATE": Sub(
            -5, "stream group id | $ [MKSTREAM] [ENTRIESREAD n]", "Make a group.", "write denyoom", keys=(2, 2, 1), access="RW insert"
        ),
        "SETID": Sub(-5, "stream group id | $ [ENTRIESREAD n]", "Move a group to an id.", "write", keys=(2, 2, 1)),
        "DESTROY": Sub(4, "stream group", "Delete a group.", "write", keys=(2, 2, 1), access="RW delete"),
        "CREATECONSUMER": Sub(5, "stream group consumer", "Make a consumer.", "write denyoom", keys=(2, 2, 1), access="RW insert"),
        "DELCONSUMER": Sub(
            5, "stream group consumer", "Delete a consumer and its deliveries.", "write", keys=(2, 2, 1), access="RW delete"
        ),
    },
    differs="DELCONSUMER with many deliveries is cut into slices",
)
def xgroup(session: RespSession, args: list[bytes]) -> Reply:
    sub = args[1].upper()
    groups = _groups(session)
    if sub in (b"CREATE", b"SETID"):
        name, group = args[2], args[3]
        make, read, at = False, NOT_COUNTED, 5
        while at < len(args):
            word = args[at].upper()
            if word == b"MKSTREAM" and sub == b"CREATE":
                make = True
            elif word == b"ENTRIESREAD" and at + 1 < len(args):
                at += 1
                read = integer(args[at])
                if read < 0 and read != NOT_COUNTED:
                    raise BadRequest("value for ENTRIESREAD must be positive or -1")
            else:
                raise wrong_subcommand(args)
            at += 1
        if sub == b"CREATE":
            start = None if args[4] == b"$" else stream_id(args[4])
            groups.create(name, group, start, make_stream=make, read=read)
        else:
            ends = {b"$": None, b"-": 0, b"+": ID_MAX}
            groups.set_cursor(name, group, ends[args[4]] if args[4] in ends else stream_id(args[4]), read)
        return OK
    if sub == b"DESTROY":
        return resp.integer(groups.destroy(args[2], args[3]))
    if sub == b"CREATECONSUMER":
        return resp.integer(groups.create_consumer(args[2], args[3], args[4]))
    return _delete_consumer(groups, args[2], args[3], args[4])


def _delete_consumer(groups: Groups, name: bytes, group: bytes, consumer: bytes) -> Job:
    count = yield from groups.delete_consumer(name, group, consumer)
    return [resp.integer(count)]


# -- reading ---------------------------------------------------------------------------------------


@command(
    "XREADGROUP",
    -7,
    "GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS stream [stream …] id [id …]",
    "Deliver records of a group: > those it has not delivered yet, an id what is pending with the consumer behind it.",
    group="stream",
    since="5.0.0",
    flags="write blocking movablekeys",
    access="RO access",
    streams_from=4,
    differs=f"at most {LIST_ITEMS_MAX:,} records at a time; a group made by Flo's own operations delivers what ran out first",
)
def xreadgroup(session: RespSession, args: list[bytes]) -> Reply:
    options = read_options(args)
    if options.group is None:
        raise BadRequest("Missing GROUP option for XREADGROUP")
    group, consumer = options.group
    groups = _groups(session)
    after: list[int | None] = []
    for name, arg in zip(options.names, options.ids, strict=True):
        if arg == b"$":
            raise BadRequest(
                "The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a "
                "proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set."
            )
        after.append(None if arg == b">" else stream_id(arg))
        groups.need(name, group, " in XREADGROUP with GROUP option")
    count = min(options.limit, LIST_ITEMS_MAX)
    rows: list[tuple[bytes, bytes]] = []
    left, room = LIST_ITEMS_MAX, LIST_BYTES_MAX  # of all streams together: others wait meanwhile
    for name, ident in zip(options.names, after, strict=True):
        if left <= 0 or room <= 0:
            break
        if ident is None:
            found = groups.read(name, group, consumer, min(count, left), no_ack=options.no_ack)
            if not found:
                continue
        else:
            found = groups.history(name, group, consumer, ident, min(count, left)) if ident < ID_MAX else []
        rows.append((name, _deliveries(session, found)))
        left -= len(found)
        room -= len(rows[-1][1])
    if rows or options.block is None or any(ident is not None for ident in after):
        return by_stream(session, rows)

    def deliver(name: bytes, found: list[Delivery] | Refusal) -> None:
        if isinstance(found, Refusal):
            block.answer(found)
        else:
            block.answer(by_stream(session, [(name, _deliveries(session, found))]))

    reader = groups.wait([(name, group) for name in options.names], consumer, count, deliver, acknowledge=options.no_ack)
    block = session.block(options.block, reader.cancel, lambda: nil_array(session), args)
    return WAITING


@command(
    "XACK",
    -4,
    "stream group id [id …]",
    "Deliveries are done; answers how many there were.",
    group="stream",
    since="5.0.0",
    keys=(1, 1, 1),
    flags="write fast",
)
def xack(session: RespSession, args: list[bytes]) -> Reply:
    ids = [stream_id(arg) for arg in args[3:]]
    groups = _groups(session)
    return counted(ids, lambda some: groups.ack(args[1], args[2], some))


# -- what is pending -------------------------------------------------------------------------------


@command(
    "XPENDING",
    -3,
    "stream group [[IDLE milliseconds] start end count [consumer]]",
    "What is delivered and not acknowledged: a summary, or the deliveries.",
    group="stream",
    since="5.0.0",
    keys=(1, 1, 1),
    flags="readonly",
    differs=f"shows at most {PENDING_COUNT_MAX:,}",
)
def xpending(session: RespSession, args: list[bytes]) -> Reply:
    if len(args) == 3:
        return _pending_summary(session, _groups(session).need(args[1], args[2])[1])
    at, idle = 3, 0
    if not 6 <= len(args) <= 9:
        raise syntax_error()
    if args[3].upper() == b"IDLE":
        idle = integer(args[4])
        if len(args) < 8:
            raise syntax_error()
        at = 5
    start, end = range_start(args[at]), range_end(args[at + 1])
    count = integer(args[at + 2])
    consumer = args[at + 3] if len(args) - at > 3 else None
    groups = _groups(session)
    groups.need(args[1], args[2])
    if count <= 0:
        return EMPTY_ARRAY
    return _pending_job(groups, args[1], args[2], (start, end, min(count, PENDING_COUNT_MAX)), consumer, idle)


def _pending_summary(session: RespSession, group: Group) -> bytes:
    first, last = group.order.first(), group.order.last()
    if first is None or last is None:
        return array([resp.integer(0), session.nil, session.nil, nil_array(session)])
    # in the order of names, as Redis has it
    counts = [array([bulk(c.name), bulk(b"%d" % len(c.order))]) for _, c in sorted(group.consumers.items()) if c.order]
    return array([resp.integer(len(group.pending)), bulk(id_text(first)), bulk(id_text(last)), array(counts)])


def _pending_job(groups: Groups, name: bytes, group: bytes, within: tuple[int, int, int], consumer: bytes | None, idle: int) -> Job:
    found = yield from groups.pending(name, group, *within, consumer, idle)
    now = groups.engine.now
    return [array([_pending_row(ident, pending, now) for ident, pending in found])]


def _pending_row(ident: int, pending: Pending, now: int) -> bytes:
    idle, deliveries = resp.integer(pending.idle(now)), resp.integer(pending.deliveries)
    return array([bulk(id_text(ident)), bulk(pending.consumer), idle, deliveries])


# -- claiming --------------------------------------------------------------------------------------


@command(
    "XCLAIM",
    -6,
    "stream group consumer min-idle id [id …] [IDLE ms] [TIME unix-ms] [RETRYCOUNT n] [FORCE] [JUSTID] [LASTID id]",
    "Have deliveries that are idle with another consumer.",
    group="stream",
    since="5.0.0",
    keys=(1, 1, 1),
    flags="write fast",
)
def xclaim(session: RespSession, args: list[bytes]) -> Reply:
    name, group, consumer = args[1:4]
    groups = _groups(session)
    groups.need(name, group)
    min_idle = max(integer(args[4], message="Invalid min-idle-time argument for XCLAIM"), 0)
    at = 5
    ids: list[int] = []
    with suppress(BadRequest):  # what is no id is an option
        while at < len(args):
            ids.append(stream_id(args[at]))
            at += 1
    now = groups.engine.now
    time: int | None = None
    deliveries: int | None = None
    force = just_id = False
    last = 0
    while at < len(args):
        word, more = args[at].upper(), at + 1 < len(args)
        if word in (b"FORCE", b"JUSTID"):
            force, just_id = force or word == b"FORCE", just_id or word == b"JUSTID"
            at += 1
            continue
        if not more:
            raise BadRequest(f"Unrecognized XCLAIM option '{args[at][:128].decode('utf-8', 'replace')}'")
        value = args[at + 1]
        if word == b"IDLE":
            time = now - integer(value, message="Invalid IDLE option argument for XCLAIM")
        elif word == b"TIME":
            time = integer(value, message="Invalid TIME option argument for XCLAIM")
        elif word == b"RETRYCOUNT":
            deliveries = integer(value, 0, (1 << 32) - 1, "Invalid RETRYCOUNT option argument for XCLAIM")
        elif word == b"LASTID":
            last = stream_id(value)
        else:
            raise BadRequest(f"Unrecognized XCLAIM option '{args[at][:128].decode('utf-8', 'replace')}'")
        at += 2
    if time is not None:
        time = min(max(time, 0), now)

    def claim(some: list[int]) -> list[Delivery]:
        moved = last if some is first else 0
        return groups.claim(
            name, group, consumer, some, min_idle=min_idle, time=time, deliveries=deliveries, force=force, count=not just_id, last=moved
        )[0]

    check_ids(ids)
    slices = [ids[at : at + MANY_SLICE] for at in range(0, len(ids), MANY_SLICE)] or [[]]
    first = slices[0]
    return _claim_job(session, claim, slices, just_id)


def _claim_job(session: RespSession, claim: Callable[[list[int]], list[Delivery]], slices: list[list[int]], just_id: bool) -> Job:
    found = claim(slices[0])
    for some in slices[1:]:
        yield
        found += claim(some)
    return [_claimed(session, found, just_id)]


def _claimed(session: RespSession, found: list[Delivery], just_id: bool) -> bytes:
    return array([bulk(id_text(one.ident)) for one in found]) if just_id else _deliveries(session, found)


@command(
    "XAUTOCLAIM",
    -6,
    "stream group consumer min-idle start [COUNT count] [JUSTID]",
    "Have what is idle with other consumers, from an id on; answers where to go on, what was claimed, and ids that are gone.",
    group="stream",
    since="6.2.0",
    keys=(1, 1, 1),
    access="RW delete",
    flags="write fast",
    differs=f"at most {LIST_ITEMS_MAX:,} at a time",
)
def xautoclaim(session: RespSession, args: list[bytes]) -> Reply:
    name, group, consumer = args[1:4]
    min_idle = max(integer(args[4], message="Invalid min-idle-time argument for XAUTOCLAIM"), 0)
    start = range_start(args[5])
    count, just_id, at = CLAIM_COUNT, False, 6
    while at < len(args):
        word = args[at].upper()
        if word == b"COUNT" and at + 1 < len(args):
            at += 1
            count = integer(args[at], 1, (1 << 63) // 16, "COUNT must be > 0")
        elif word == b"JUSTID":
            just_id = True
        else:
            raise syntax_error()
        at += 1
    following, claimed, gone = _groups(session).claim_idle(
        name, group, consumer, min_idle, start, min(count, LIST_ITEMS_MAX), count=not just_id
    )
    return array([bulk(id_text(following)), _claimed(session, claimed, just_id), array([bulk(id_text(ident)) for ident in gone])])


# -- XINFO -----------------------------------------------------------------------------------------


@command(
    "XINFO",
    -2,
    "",
    "Tell about a stream, its groups, their consumers.",
    group="stream",
    since="5.0.0",
    subcommands={
        "STREAM": Sub(-3, "stream [FULL [COUNT count]]", "Tell about a stream.", "readonly", keys=(2, 2, 1)),
        "GROUPS": Sub(3, "stream", "Tell about a stream's groups.", "readonly", keys=(2, 2, 1)),
        "CONSUMERS": Sub(4, "stream group", "Tell about a group's consumers.", "readonly", keys=(2, 2, 1)),
    },
    differs="after a restart a consumer's idle time begins anew",
)
def xinfo(session: RespSession, args: list[bytes]) -> Reply:
    sub = args[1].upper()
    if sub == b"STREAM":
        if len(args) == 3:
            return xinfo_stream(session, args[2])
        if args[3].upper() != b"FULL" or len(args) not in (4, 6) or (len(args) == 6 and args[4].upper() != b"COUNT"):
            raise wrong_subcommand(args)
        count = integer(args[5]) if len(args) == 6 else FULL_COUNT
        return _xinfo_full(session, args[2], FULL_COUNT_MAX if count <= 0 else min(count, FULL_COUNT_MAX))
    if sub == b"GROUPS":
        stream = need_stream(session, args[2])
        return array([_group_info(session, stream, group) for _, group in sorted(stream.groups.items()) if group.declared])
    stream = need_stream(session, args[2])
    found = stream.group(args[3])
    if found is None:
        group, name = (arg[:128].decode("utf-8", "replace") for arg in (args[3], args[2]))
        raise NoGroup(f"No such consumer group '{group}' for key name '{name}'")
    return array([_consumer_info(session, found, name) for name in sorted(found.consumers)])


def _read_so_far(session: RespSession, group: Group) -> bytes:
    return session.nil if group.read == NOT_COUNTED else resp.integer(group.read)


def _lag(session: RespSession, stream: Stream, group: Group) -> bytes:
    value = lag(stream, group)
    return session.nil if value is None else resp.integer(value)


def _group_info(session: RespSession, stream: Stream, group: Group) -> bytes:
    info = {
        b"name": bulk(group.name),
        b"consumers": resp.integer(len(group.consumers)),
        b"pending": resp.integer(len(group.pending)),
        b"last-delivered-id": bulk(id_text(group.last)),
        b"entries-read": _read_so_far(session, group),
        b"lag": _lag(session, stream, group),
    }
    return resp.mapping(info, session.v3)


def _consumer_info(session: RespSession, group: Group, name: bytes) -> bytes:
    consumer, now = group.consumers[name], session.namespace.streams.engine.now
    info = {
        b"name": bulk(name),
        b"pending": resp.integer(len(consumer.order)),
        b"idle": resp.integer(max(now - consumer.seen, 0)),
        b"inactive": resp.integer(max(now - consumer.active, 0) if consumer.active >= 0 else -1),
    }
    return resp.mapping(info, session.v3)


def _xinfo_full(session: RespSession, name: bytes, count: int) -> Job:
    """At most FULL_ROWS_MAX consumers and deliveries in all; a slice a group."""
    stream = need_stream(session, name)
    info = stream_info(session, stream)
    info[b"entries"] = array(map(entry, streams_of(session).read(name, limit=count)))
    groups: list[bytes] = []
    left = FULL_ROWS_MAX
    for group_name in sorted(stream.groups):
        group = stream.groups.get(group_name)
        if group is None or not group.declared:
            continue
        pending = [(ident, group.pending[ident]) for ident in islice(group.order.start(0), min(count, left))]
        left -= len(pending)
        rows = [array([bulk(id_text(i)), bulk(p.consumer), resp.integer(p.time), resp.integer(p.deliveries)]) for i, p in pending]
        consumers: list[bytes] = []
        for consumer in sorted(group.consumers):
            if left <= 0:
                break
            shown = min(count, left - 1)
            consumers.append(_full_consumer(session, group, consumer, shown))
            left -= 1 + min(shown, len(group.consumers[consumer].order))
        details = {
            b"name": bulk(group.name),
            b"last-delivered-id": bulk(id_text(group.last)),
            b"entries-read": _read_so_far(session, group),
            b"lag": _lag(session, stream, group),
            b"pel-count": resp.integer(len(group.pending)),
            b"pending": array(rows),
            b"consumers": array(consumers),
        }
        groups.append(resp.mapping(details, session.v3))
        if len(groups) % 8 == 0:
            yield
    info[b"groups"] = array(groups)
    return [resp.mapping(info, session.v3)]


def _full_consumer(session: RespSession, group: Group, name: bytes, count: int) -> bytes:
    consumer = group.consumers[name]
    ids = list(islice(consumer.order.start(0), count))
    rows = [array([bulk(id_text(i)), resp.integer(group.pending[i].time), resp.integer(group.pending[i].deliveries)]) for i in ids]
    return resp.mapping(
        {
            b"name": bulk(name),
            b"seen-time": resp.integer(consumer.seen),
            b"active-time": resp.integer(consumer.active),
            b"pel-count": resp.integer(len(consumer.order)),
            b"pending": array(rows),
        },
        session.v3,
    )
