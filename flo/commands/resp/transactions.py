"""MULTI, EXEC, DISCARD, WATCH, UNWATCH: transactions, in the profile `redis` (SPEC section 4, "resp.profile").

Between MULTI and EXEC, commands are checked and kept. EXEC executes them in one go, in one turn and so in one batch: after a crash, all of
them are in the log or none is. A command that fails inside does not undo the others, as in Redis. WATCH sets a guard (flo.engine.guard) on
the key, the queue and the stream of each name; if one was written since, or has expired, EXEC executes nothing.

What takes more than a turn is refused when it is queued: it would have to be cut into slices, and others would see the parts. A range or a
list has a budget inside: past it, it is answered with an error. Commands that block do not block.
"""

from collections.abc import Generator
from time import monotonic
from types import GeneratorType
from typing import Any

from flo.commands.host import KEYS_AT_ONCE
from flo.commands.resp.session import MULTI_REFUSAL, RespSession, Unblocked, Worded
from flo.commands.resp.table import Command, command
from flo.commands.resp.transaction import BYTES_MAX, COMMANDS_MAX, Transaction
from flo.commands.runner import Job, Later, Reply, Waiting
from flo.errors import BadRequest, Overloaded, Refusal
from flo.proto.resp import NIL3, NIL_ARRAY2, OK

READ_SECONDS = 0.015  # for all ranges and lists of a transaction
REPLY_BYTES_MAX = 32 << 20  # past it, nothing more is read: the replies of a transaction leave together

POPS = frozenset(("GETDEL", "RPOP", "LPOP", "BRPOP", "BLPOP", "QDEQUEUE", "XREADGROUP"))  # write, and give values back


@command(
    "MULTI",
    1,
    "",
    "Begins a transaction: commands are kept until EXEC.",
    group="transactions",
    since="1.2.0",
    flags="fast resets reads",
    redis_only=MULTI_REFUSAL,
    differs=f"at most {COMMANDS_MAX:,} commands and {BYTES_MAX >> 20} MiB; without KEYS, FLUSHALL, XCLAIM and what concerns the connection",
)
def multi(session: RespSession, args: list[bytes]) -> Reply:
    if not session.redis_profile:
        session.refusing = True
        session.note_settings()
        return BadRequest(MULTI_REFUSAL)
    if session.transaction is not None:
        return BadRequest("MULTI calls can not be nested")
    session.transaction = Transaction()
    session.note_settings()
    return OK


@command(
    "EXEC",
    1,
    "",
    "Executes the commands since MULTI, all in one batch of the log.",
    group="transactions",
    since="1.2.0",
    flags="resets reads",
    redis_only=MULTI_REFUSAL,
    differs="ranges and lists inside it have 15 ms together",
)
def exec_(session: RespSession, args: list[bytes]) -> Reply:
    if session.refusing:
        session.refusing = False
        session.note_settings()
        return Worded(f"EXECABORT Transaction discarded: {MULTI_REFUSAL}")
    transaction = session.transaction
    if transaction is None:
        return BadRequest("EXEC without MULTI")
    if transaction.aborted:
        session.end_transaction()
        return Worded("EXECABORT Transaction discarded because of previous errors.")
    keys = transaction.keys()
    if len(keys) > KEYS_AT_ONCE and session.namespace.kv.needs_preparing:
        return _once_prepared(session, transaction, keys)
    return b"".join(_execute(session, transaction))


def _once_prepared(session: RespSession, transaction: Transaction, keys: list[bytes]) -> Job:
    yield from session.namespace.kv.prepare(keys)
    return _execute(session, transaction)


def _execute(session: RespSession, transaction: Transaction) -> list[bytes]:
    """The replies, behind their number; nil if a watched name was written."""
    intact = _is_intact(session)
    session.end_transaction()
    if not intact:
        return [NIL3 if session.v3 else NIL_ARRAY2]
    if session.namespace.deleted:
        session.find_namespace_again()
    replies = [b"*%d\r\n" % len(transaction.queued)]
    size, deadline = 0, monotonic() + READ_SECONDS
    session.executing = True
    try:
        for found, args in transaction.queued:
            full = size > REPLY_BYTES_MAX and ("readonly" in found.flags or found.name in POPS)
            pieces = _perform_one(session, found, args, deadline, full)
            replies += pieces
            size += sum(map(len, pieces))
    finally:
        session.executing = False
    session.host.counters.commands += len(transaction.queued)
    return replies


def _is_intact(session: RespSession) -> bool:
    """Whether no watched name was written, and none has expired."""
    guard = session.guard
    if guard is None:
        return True
    engine = session.host.engine
    for identity, name in guard.names:
        namespace = engine.namespace_by_id(identity)
        if namespace.kv.is_over(name) or namespace.queues.is_over(name) or namespace.streams.is_over(name):
            return False
    return guard.holds()


def _perform_one(session: RespSession, found: Command, args: list[bytes], deadline: float, full: bool) -> list[bytes]:
    """The reply of one command of the transaction, which is counted and shown as any other."""
    began, appended = monotonic(), session.host.engine.log.next_index
    if session.host.monitors:
        session.tell_monitors(args)
    reply: Any
    try:
        if full:
            raise Overloaded(f"the replies of this transaction are over {REPLY_BYTES_MAX >> 20} MiB already; read less in one")
        reply = session.perform(found, args)
        if isinstance(reply, GeneratorType):
            reply = _to_its_end(reply, deadline if "readonly" in found.flags else None)
    except Unblocked as e:
        reply = e.reply
    except Refusal as e:
        reply = e
    except Exception as e:
        return [session.failed(e, args, appended)]
    assert not isinstance(reply, (Later, Waiting)), "no command of a transaction waits"
    tally = session.tally_of(args)
    tally.calls += 1
    tally.seconds += monotonic() - began
    if isinstance(reply, Refusal):
        return [session.refused(reply, args)]
    return reply if isinstance(reply, list) else [reply]


def _to_its_end(job: Generator[None, None, Any], deadline: float | None) -> Any:
    """What the job gives. Raises `Overloaded` behind the deadline: a job that only reads may be ended anywhere."""
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value
        if deadline is not None and monotonic() > deadline:
            job.close()
            raise Overloaded("the transaction reads too much at once, and others would wait for it; read this outside of it, or less of it")


@command(
    "DISCARD",
    1,
    "",
    "Ends a transaction without executing it.",
    group="transactions",
    since="2.0.0",
    flags="fast resets reads",
    redis_only=MULTI_REFUSAL,
)
def discard(session: RespSession, args: list[bytes]) -> Reply:
    if session.refusing:
        session.refusing = False
        session.note_settings()
        return OK
    if session.transaction is None:
        return BadRequest("DISCARD without MULTI")
    session.end_transaction()
    return OK


@command(
    "WATCH",
    -2,
    "key [key …]",
    "Lets the next EXEC execute nothing if one of the names is written, or expires, before it.",
    group="transactions",
    since="2.2.0",
    keys=(1, -1, 1),
    access="RO",
    flags="fast resets reads",
    redis_only=MULTI_REFUSAL,
    differs="at most 10,000 names; a key that expires aborts too",
)
def watch(session: RespSession, args: list[bytes]) -> Reply:
    if not session.redis_profile:
        return BadRequest(MULTI_REFUSAL)
    if session.transaction is not None:
        return BadRequest("WATCH inside MULTI is not allowed")
    namespace = session.namespace
    names = args[1:]
    namespace.kv.bury_expired(names)  # else it would be their end that aborts
    for name in names:
        namespace.queues.find(name)
        namespace.streams.find(name)
    session.guard_names(names)
    return OK


@command("UNWATCH", 1, "", "Ends what WATCH began.", group="transactions", since="2.2.0", flags="fast reads")
def unwatch(session: RespSession, args: list[bytes]) -> Reply:
    session.unguard()
    return OK
