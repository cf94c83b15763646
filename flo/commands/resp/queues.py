"""Commands on queues: Redis's list commands as far as a job queue uses them, and Flo's own with receipts.

RPOP and BRPOP lease, as every delivery does: QLAST tells the receipts. With CLIENT AUTOACK ON they acknowledge as they deliver.
"""

from collections.abc import Callable

from flo.commands.resp.arguments import I64_MAX, integer, word_pairs
from flo.commands.resp.session import RespSession, wrong_arity
from flo.commands.resp.table import Sub, command
from flo.commands.runner import WAITING, Job, Reply
from flo.engine import Queues
from flo.engine.queue import Message, Receipt, peek_job
from flo.errors import BadRequest
from flo.limits import DEQUEUE_MAX, LIST_ITEMS_MAX
from flo.proto import resp
from flo.proto.resp import EMPTY_ARRAY, NIL3, NIL_ARRAY2, array, bulk, bulk_array

POP_MAX = 1000  # messages of one RPOP, whatever its count says: each payload is read from the log
U32_MAX = (1 << 32) - 1
LEASES = "a message is leased, not removed, unless CLIENT AUTOACK is ON or resp.profile is redis; see QACK"
LISTS = "Flo's lists are queues: LPUSH adds, RPOP takes"  # the refusal of list commands
ENDS = "a list that is filled from one end is taken from the other"


def _queues(session: RespSession) -> Queues:
    return session.namespace.queues


def _nil_array(session: RespSession) -> bytes:
    return NIL3 if session.v3 else NIL_ARRAY2


def receipt(arg: bytes) -> Receipt:
    """`seq` or `seq-attempt`."""
    seq, dash, attempt = arg.partition(b"-")
    wrong = f"{arg[:40].decode('utf-8', 'replace')!r} is no receipt: seq or seq-attempt is expected"
    return integer(seq, 1, (1 << 63) - 1, wrong), integer(attempt, 1, U32_MAX, wrong) if dash else 0


def _delivered(session: RespSession, messages: list[Message]) -> None:
    session.last_receipts = [(message.seq, message.attempts) for message in messages]


@command(
    "LPUSH",
    -3,
    "queue message [message …]",
    "Put messages into a queue, all or none; answers how many are ready.",
    group="list",
    keys=(1, 1, 1),
    access="RW insert",
    flags="write denyoom fast",
    differs="adds to a queue, which hands messages out with leases",
)
def lpush(session: RespSession, args: list[bytes]) -> Reply:
    return resp.integer(_queues(session).enqueue_many(args[1], args[2:]))


@command(
    "RPUSH",
    -3,
    "queue message [message …]",
    "Put messages into a queue from its other end, all or none; answers how many are ready.",
    group="list",
    keys=(1, 1, 1),
    access="RW insert",
    flags="write denyoom fast",
    redis_only=LISTS,
    differs=ENDS,
)
def rpush(session: RespSession, args: list[bytes]) -> Reply:
    return resp.integer(_queues(session).enqueue_many(args[1], args[2:], right=True))


@command(
    "RPOP",
    -2,
    "queue [count]",
    "Take the next message of a queue, or several.",
    group="list",
    keys=(1, 1, 1),
    access="RW access delete",
    flags="write fast",
    differs=f"{LEASES}; at most {POP_MAX:,} at a time",
)
def rpop(session: RespSession, args: list[bytes]) -> Reply:
    return _pop(session, args, right=True)


@command(
    "LPOP",
    -2,
    "queue [count]",
    "Take the next message of a queue that RPUSH fills, or several.",
    group="list",
    keys=(1, 1, 1),
    access="RW access delete",
    flags="write fast",
    redis_only=LISTS,
    differs=f"{ENDS}; at most {POP_MAX:,} at a time",
)
def lpop(session: RespSession, args: list[bytes]) -> Reply:
    return _pop(session, args, right=False)


def _pop(session: RespSession, args: list[bytes], right: bool) -> Reply:
    if len(args) > 3:
        return wrong_arity(args[0].decode("latin-1"))
    count = integer(args[2], 0, message="value is out of range, must be positive") if len(args) == 3 else 1
    if not count:
        return EMPTY_ARRAY if _queues(session).ready_count(args[1]) else _nil_array(session)
    found = _queues(session).dequeue(args[1], min(count, POP_MAX), acknowledge=session.auto_ack, right=right)
    _delivered(session, found)
    if len(args) == 2:
        return bulk(found[0].payload) if found else session.nil
    return bulk_array(message.payload for message in found) if found else _nil_array(session)


def _timeout(arg: bytes) -> float:
    """Seconds, with a fraction; 0 for ever."""
    try:
        seconds = float(arg)
    except ValueError:
        seconds = float("nan")
    if seconds != seconds or b"_" in arg or arg != arg.strip():
        raise BadRequest("timeout is not a float or out of range")
    if seconds < 0:
        raise BadRequest("timeout is negative")
    if seconds * 1000 > I64_MAX:
        raise BadRequest("timeout is out of range")
    return seconds


@command(
    "BRPOP",
    -3,
    "queue [queue …] timeout",
    "Take the next message of the first queue that has one, waiting for it up to some seconds; 0 waits for ever.",
    group="list",
    since="2.0.0",
    keys=(1, -2, 1),
    access="RW access delete",
    flags="write blocking",
    differs=LEASES,
)
def brpop(session: RespSession, args: list[bytes]) -> Reply:
    return _blocking_pop(session, args, right=True)


@command(
    "BLPOP",
    -3,
    "queue [queue …] timeout",
    "Take the next message of the first queue that has one and that RPUSH fills, waiting for it up to some seconds; 0 waits for ever.",
    group="list",
    since="2.0.0",
    keys=(1, -2, 1),
    access="RW access delete",
    flags="write blocking",
    redis_only=LISTS,
    differs=ENDS,
)
def blpop(session: RespSession, args: list[bytes]) -> Reply:
    return _blocking_pop(session, args, right=False)


def _blocking_pop(session: RespSession, args: list[bytes], right: bool) -> Reply:
    seconds = _timeout(args[-1])

    def reply(name: bytes, messages: list[Message]) -> bytes:
        _delivered(session, messages)
        return array([bulk(name), bulk(messages[0].payload)]) if messages else _nil_array(session)

    return take(session, args, args[1:-1], 1, seconds, None, session.auto_ack, reply, right)


def take(
    session: RespSession,
    args: list[bytes],
    names: list[bytes],
    count: int,
    seconds: float,
    lease: int | None,
    acknowledge: bool,
    reply: Callable[[bytes, list[Message]], bytes],
    right: bool | None = None,
) -> Reply:
    """Take messages now, or have the session blocked until there are some or the time is up."""
    at_once: list[bytes] = []
    block = None

    def deliver(name: bytes, found: list[Message] | BadRequest) -> None:
        if block is not None:
            block.answer(found if isinstance(found, BadRequest) else reply(name, found))
        elif not isinstance(found, BadRequest):  # nobody is refused who does not wait
            at_once.append(reply(name, found))

    taker = _queues(session).take(names, count, deliver, lease=lease, acknowledge=acknowledge, right=right)
    if taker is None:
        return at_once[0]
    block = session.block(seconds, taker.cancel, lambda: reply(b"", []), args)
    return WAITING


@command(
    "LLEN",
    2,
    "queue",
    "How many messages are ready.",
    group="list",
    keys=(1, 1, 1),
    access="RO",
    flags="readonly fast",
    differs="leased ones are not counted",
)
def llen(session: RespSession, args: list[bytes]) -> Reply:
    return resp.integer(_queues(session).ready_count(args[1]))


@command(
    "LRANGE",
    4,
    "queue start stop",
    "Show ready messages: 0 is the newest, -1 the next that RPOP takes; the other way round in a queue that RPUSH fills.",
    group="list",
    keys=(1, 1, 1),
    flags="readonly",
    differs="stops near 16 MiB; cut into slices, so it is no snapshot",
)
def lrange(session: RespSession, args: list[bytes]) -> Reply:
    start, stop = integer(args[2]), integer(args[3])
    count = _queues(session).ready_count(args[1])
    first = max(start + count if start < 0 else start, 0)
    last = min(stop + count if stop < 0 else stop, count - 1)
    if first > last:
        return EMPTY_ARRAY
    queue = _queues(session).find(args[1])
    if queue is not None and _queues(session).is_right(queue):
        return _lrange(_queues(session), args[1], first, last, oldest_first=True)
    return _lrange(_queues(session), args[1], count - 1 - last, count - 1 - first, oldest_first=False)


def _lrange(queues: Queues, name: bytes, first: int, last: int, oldest_first: bool) -> Job:
    found = yield from peek_job(queues, name, first, last)
    return [bulk_array(message.payload for message in (found if oldest_first else reversed(found)))]


# -- Flo's own -------------------------------------------------------------------------------------


@command(
    "QENQUEUE",
    -3,
    "queue payload [PRIORITY n] [DELAY ms] [DEDUP key]",
    "Put a message in; answers its seq.",
    group="flo",
    since="flo 0.1",
    keys=(1, 1, 1),
    flags="write denyoom fast",
)
def qenqueue(session: RespSession, args: list[bytes]) -> Reply:
    priority = delay = 0
    dedup = None
    for option, value in word_pairs(args[3:], b"PRIORITY", b"DELAY", b"DEDUP").items():
        if option == b"PRIORITY":
            priority = integer(value, 0, 255, "PRIORITY is 0 to 255, and lower goes first")
        elif option == b"DELAY":
            delay = integer(value, 0)
        else:
            dedup = value
    return resp.integer(_queues(session).enqueue(args[1], args[2], priority=priority, delay=delay, dedup=dedup))


@command(
    "QDEQUEUE",
    -2,
    "queue [COUNT n] [LEASE ms] [BLOCK ms]",
    "Lease messages: [seq, payload, attempts] each. BLOCK waits for them; 0 for ever.",
    group="flo",
    since="flo 0.1",
    keys=(1, 1, 1),
    flags="write blocking",
)
def qdequeue(session: RespSession, args: list[bytes]) -> Reply:
    options = word_pairs(args[2:], b"COUNT", b"LEASE", b"BLOCK")
    count = integer(options.get(b"COUNT", b"1"), 1, DEQUEUE_MAX, f"COUNT is 1 to {DEQUEUE_MAX}")
    lease = integer(options[b"LEASE"], 1, U32_MAX) if b"LEASE" in options else None

    def reply(_name: bytes, messages: list[Message]) -> bytes:
        _delivered(session, messages)
        return _shown(messages)

    if b"BLOCK" not in options:
        return reply(b"", _queues(session).dequeue(args[1], count, lease=lease))
    return take(session, args, [args[1]], count, integer(options[b"BLOCK"], 0, U32_MAX) / 1000, lease, False, reply)


def _shown(messages: list[Message]) -> bytes:
    return array([array([resp.integer(m.seq), bulk(m.payload), resp.integer(m.attempts)]) for m in messages])


@command(
    "QACK",
    -3,
    "queue seq[-attempt] …",
    "Remove messages that are done; answers how many of the receipts stood.",
    group="flo",
    since="flo 0.1",
    keys=(1, 1, 1),
    flags="write fast",
)
def qack(session: RespSession, args: list[bytes]) -> Reply:
    return resp.integer(_queues(session).ack(args[1], [receipt(arg) for arg in args[2:]]))


@command(
    "QLAST",
    1,
    "",
    "The receipts of the last messages this connection took, as seq-attempt.",
    group="flo",
    since="flo 0.1",
    flags="fast reads",
)
def qlast(session: RespSession, args: list[bytes]) -> Reply:
    return bulk_array(b"%d-%d" % receipt for receipt in session.last_receipts)


@command(
    "QDLQ",
    -2,
    "",
    "Dead letters: show them, put them back, delete them.",
    group="flo",
    since="flo 0.1",
    subcommands={
        "LIST": Sub(-3, "queue [COUNT n]", "Show dead letters.", "readonly", keys=(2, 2, 1)),
        "REQUEUE": Sub(-4, "queue seq …", "Put dead letters back.", "write", keys=(2, 2, 1)),
        "PURGE": Sub(-3, "queue [seq …]", "Delete dead letters, or all of them.", "write", keys=(2, 2, 1)),
    },
)
def qdlq(session: RespSession, args: list[bytes]) -> Reply:
    sub, name, rest = args[1].upper(), args[2], args[3:]
    queues = _queues(session)
    if sub == b"LIST":
        count = integer(word_pairs(rest, b"COUNT").get(b"COUNT", b"100"), 1, LIST_ITEMS_MAX, f"COUNT is 1 to {LIST_ITEMS_MAX}")
        return _shown(queues.dead_letters(name, count))
    if sub == b"REQUEUE":
        return resp.integer(queues.requeue(name, [receipt(arg)[0] for arg in rest]))
    return resp.integer(queues.delete_dead(name, [receipt(arg)[0] for arg in rest] if rest else None))
