"""RESP requests out of a buffer, executed one after the other: the ordinary way of every command.

One `split` cuts the whole buffer at its line ends; each `$n` line is then compared with the ready-made line for the length of the piece
that follows. So a request costs a few list operations, one look in a table, and its handler. What is framed in another way (inline
commands, a value with CR LF inside, more arguments than COUNTS knows, a request that is not whole) is left to `RequestParser`, which is
slower and complete. What is no plain command (it waits, it changes the session, it is unknown) is left to `RespSession.execute`.
"""

from time import monotonic
from typing import TYPE_CHECKING, Any

from flo.commands.table import PLAIN
from flo.errors import LaneFailure, Refusal

if TYPE_CHECKING:
    from flo.commands.session import RespSession

OUTPUT_ROOM_BYTES = 1 << 20  # SPEC section 3: past 1 MiB of unsent output no more requests are executed
CRLF = b"\r\n"
TOKENS = tuple(b"$%d" % size for size in range(2049))  # the lengths of nearly all arguments
COUNTS = {b"*%d" % count: count for count in range(1, 65)}  # arguments of a request; more are rare, and parsing is the least of their cost
LARGE_BYTES = 2048  # input from here on may be one large value
Work = list[tuple["RespSession", bytes]]


def run_many(work: Work, position: int, room: int) -> tuple[int, int]:
    """Execute the requests of each (session, input) in `work` from `position` on, whose connections owe nothing yet and may each add
    `room` bytes of replies. Returns (the length of `work`, 0), or where it ended early: (whose input, the offset reached in it, which is at
    a request's first byte). Raises `LaneFailure` for a defect."""
    for at in range(position, len(work)):
        session, data = work[at]
        try:
            offset = run(session, data, room)
        except Exception as e:
            raise LaneFailure(at) from e
        if offset != len(data) or session.halted:
            return at, offset
    return len(work), 0


def run(session: "RespSession", data: bytes, room: int) -> int:
    """Execute the requests of `data`, as far as they are whole and framed as usual. Returns the offset reached, which is at a request's
    first byte. `room` is how many bytes of replies may be added. `session.halted` says whether execution has to stop there."""
    host = session.host
    tokens, counts, plain, log, deadline = TOKENS, COUNTS, PLAIN, host.engine.log, host.tick_deadline
    slower = host.settings.slowlog_slower_than  # us; below 0 for never
    slow = slower * 1e-6 if slower >= 0 else float("inf")
    out = session.peer.out
    emit = out.append
    pieces = data.split(CRLF) if len(data) <= LARGE_BYTES else _pieces_of(data)
    last = len(pieces) - 1
    at = done = 0
    before = monotonic()
    known: Any = None
    if not session.flat or host.monitors:
        return 0  # another session's request has changed that
    session.halted = session.yielded = False
    while at + 2 < last:
        try:
            count = counts[pieces[at]]
            end = at + 2 * count + 1
            if end > last:
                break
            if count == 2:  # most requests: the same as below, in half the time
                name, key = args = [pieces[at + 2], pieces[at + 4]]
                if tokens[len(key)] != pieces[at + 3] or tokens[len(name)] != pieces[at + 1]:
                    break
            else:
                args = pieces[at + 2 : end : 2]
                if [tokens[len(arg)] for arg in args] != pieces[at + 1 : end : 2]:
                    break
        except (KeyError, IndexError):
            if pieces[at] not in counts:
                break
            args = pieces[at + 2 : end : 2]  # some are longer than `tokens` knows
            if [b"$%d" % len(arg) for arg in args] != pieces[at + 1 : end : 2]:
                break
        known = plain.get(args[0])
        at = end
        done += 1
        if known is None or not known[1] <= count <= known[2]:
            answered = len(out)
            session.execute(args)
            if len(out) > answered:
                room -= len(out[-1])
            if session.halted or not session.flat or host.monitors:
                break
            now = monotonic()
        else:
            appended = log.next_index
            try:
                reply = known[0](session, args)
            except Refusal as e:
                reply = session.refused(e)
            except Exception as e:
                reply = session.failed(e, args, appended)
            if type(reply) is bytes:
                emit(reply)
                room -= len(reply)
            else:
                session.accept(reply, args)
                if session.halted:
                    break
            now = monotonic()
            if now - before >= slow:
                session.note_slow(now - before, args)
        before = now
        if room < 0 or now > deadline:
            session.yield_turn()
            break
    session.output_room = room
    session.executed += done
    host.counters.commands += done
    if known is not None:
        session.last_command = known[3]
    if at == last and not pieces[last]:
        return len(data)
    rest = pieces[at:]
    return len(data) - sum(map(len, rest)) - 2 * (len(rest) - 1)


def _pieces_of(data: bytes) -> list[bytes]:
    """`data` cut at its line ends. Looking for them in a large value costs more than all else: where `data` is one request of three
    arguments, as a SET is, its last is taken by its length, whatever is in it."""
    pieces = data[:LARGE_BYTES].split(CRLF, 6)
    if len(pieces) == 7 and pieces[0] == b"*3":
        at = sum(map(len, pieces[:6])) + 12
        if pieces[5] == b"$%d" % (len(data) - at - 2) and data.endswith(CRLF):
            return [*pieces[:6], data[at:-2], b""]
    return data.split(CRLF)
