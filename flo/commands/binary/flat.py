"""The binary protocol's hot path: kv_get, kv_put and kv_incr without options, of one connection or of many, in flat loops.

The twin of commands/flat.py, for the same reason and under the same rule: what does not fit (another operation, options,
flags, a key with a deadline, a missing piece) is left to the plain way, which gives the same answer: FrameReader,
BinarySession and flo.engine.kv. tests/commands/test_binary_session.py holds the two equal, in answers, memory and log.

Here is where one run ends and the next begins; runs.py executes them.
"""

import struct
from collections.abc import Iterable
from itertools import islice, takewhile
from time import monotonic
from typing import TYPE_CHECKING

from flo.commands.binary.runs import (
    ANSWERED,
    ANSWERS,
    FLAT_PAYLOAD_BYTES_MAX,
    GET,
    INCR,
    LAYOUTS,
    MISSING_HEAD,
    MISSING_TAIL,
    PUT,
    Layout,
    counter_response,
    execute,
    in_pieces,
    layout_of,
    prepare,
    version_response,
)
from flo.commands.context import NO_CONTEXT, context, has_room
from flo.commands.flat import OUTPUT_ROOM_BYTES, SORT_MIN
from flo.commands.host import RUN_MAX
from flo.commands.runs import (
    ARGUMENT_BYTES_MAX,
    COUNTER_FLAG,
    CRLF,
    NO_FLAGS,
    NO_PREDECESSOR,
    RECORD_OVER_BYTES,
    RUN_MIN,
    SHORT_COUNTER_ENTRY_MAX,
    TOKENS,
    UNCOUNTED_BYTES,
    pack_start,
    pack_version,
)
from flo.errors import BadRequest, LaneFailure
from flo.proto.binary import REQUEST_BYTES
from flo.store.kv import COUNTER, I64_MAX, KEY_OVERHEAD_BYTES, PLAIN_MAX, SHARD_MASK
from flo.ual.record import KV_COUNTER, KV_STRING

if TYPE_CHECKING:
    from flo.commands.binary.session import BinarySession
    from flo.commands.host import Host

__all__ = ["OUTPUT_ROOM_BYTES", "prepare", "run", "run_many"]

SINGLY_MAX = 64  # connections with one request each: up to here one by one, in one loop, is cheaper than as a run
RUN_STRIDE_MAX = REQUEST_BYTES + FLAT_PAYLOAD_BYTES_MAX  # bytes of a request
FEW = 8  # requests looked at to begin with, and where a run has just ended early; twice as many after each that did not


def run_many(work: list[tuple["BinarySession", bytes]], position: int, room_of_each: int) -> tuple[int, int]:
    """As `flo.commands.flat.run_many`."""
    host, sort = work[position][0].host, not position and len(work) >= SORT_MIN
    if not has_room(host.engine):
        host.flat_context = NO_CONTEXT
    try:
        while position < len(work):
            session, data = work[position]
            at, last = 0, position + SINGLY_MAX
            layout = LAYOUTS.get(data[16:32])
            if sort and (position or not layout or layout[0] != len(data)):
                # what came at one time has no order; most crowds of one request each are a run as they come, and are not sorted
                sort, work[position:] = False, sorted(work[position:], key=_input_size)
                continue
            if layout and layout[0] == len(data) and (last >= len(work) or len(work[last][1]) != len(data)):
                done = _singly(host, work, position, data[:8], data[16:32], layout)
                if done:
                    host.counters.commands += done
                    position += done
                    continue
            elif position + 1 < len(work) and len(data) == len(work[position + 1][1]):
                done, at, whole = _run_same(work, position, room_of_each, host.run_most)
                host.run_most = min(2 * host.run_most, RUN_MAX) if whole else FEW
                position += done
                if done and not at:
                    continue
                session, data = work[position]
            if session.halted:
                session.halted = session.yielded = False
            at = run(session, data, at, room_of_each)
            if at != len(data) or session.halted:
                return position, at
            position += 1
    except LaneFailure:  # of `_singly`, which knows better
        raise
    except Exception as e:
        raise LaneFailure(position) from e
    return position, 0


def _input_size(item: tuple["BinarySession", bytes]) -> int:
    return len(item[1])


def _run_same(work: list[tuple["BinarySession", bytes]], position: int, room: int, most: int) -> tuple[int, int, bool]:
    """Execute the run that begins at `position` and goes over the connections whose input is of one size and layout, of up to `most`
    requests. Returns (how many connections were done, the offset reached in the input of the next, whether it went as far as it might)."""
    session, data = work[position]
    host, size, tail = session.host, len(data), data[16:32]
    layout = LAYOUTS.get(tail) or layout_of(tail)
    if layout is None or layout[0] > RUN_STRIDE_MAX or size % layout[0] or not _enter(host, layout[-1]):
        return 0, 0, False
    each = size // layout[0]
    inputs = [data for _, data in work[position : position + most // each]]
    if [*map(len, inputs)].count(size) != len(inputs):
        inputs = list(takewhile(lambda data: len(data) == size, inputs))
    if len(inputs) * each < RUN_MIN:  # none of them, where one alone is more than `most`
        return 0, 0, True
    done, answers, answer_size, _ = execute(host, data[:8], tail, layout, b"".join(inputs), room)
    if not done:
        return 0, 0, False
    whole, rest = divmod(done, each)
    pieces: Iterable[bytes]
    if not isinstance(answers, list):
        bytes_of_each = each * answer_size
        pieces = in_pieces(memoryview(answers)[: whole * bytes_of_each] if rest else answers, bytes_of_each)
        if rest:
            pieces = (*pieces, bytes(answers[whole * bytes_of_each :]))
    elif each > 1:
        pieces = [b"".join(answers[at : at + each]) for at in range(0, done, each)]
    else:
        pieces = answers
    for (session, _), piece in zip(islice(work, position, None), pieces, strict=False):
        session.peer.out.append(piece)
    host.counters.commands += done
    return whole, rest * layout[0], whole == len(inputs)


def _enter(host: "Host", its_namespace: bytes) -> bool:
    """Have the host's context be of the namespace that a header names; False where there is none."""
    if host.flat_context[-1] != its_namespace:
        try:
            found = context(host.engine.namespace_by_hash(int.from_bytes(its_namespace, "little")))
        except BadRequest:
            return False  # the plain way says so
        host.flat_context = (*found[:-1], its_namespace)  # `default` goes by two hashes
    return True


def run(session: "BinarySession", data: bytes, start: int, room: int) -> int:
    """Execute requests of `data` from offset `start` as far as the flat way goes; returns the offset reached, which is at a
    request's first byte. `room` is how many bytes of answers may be added; what is left of it becomes `session.output_room`.
    `session.halted` says whether execution has to stop there."""
    at, total = start, len(data)
    host, out = session.host, session.peer.out
    executed, most = 0, FEW
    if not has_room(host.engine):
        host.flat_context = NO_CONTEXT
    while True:
        tail = data[at + 16 : at + 32]
        layout = LAYOUTS.get(tail) or layout_of(tail)
        if layout is None or not _enter(host, layout[-1]):
            break
        stride = layout[0]
        head = data[at : at + 8]
        count = min((total - at) // stride, most)
        if count > 1 and not (data.startswith(head, at + stride) and data.startswith(tail, at + stride + 16)):
            count = 1
        if not count:
            break
        if stride > RUN_STRIDE_MAX:
            count = 1
        end = at + count * stride
        if count == 1 and _one(session, data[at:end], head, tail, layout):
            done = 1
        elif stride > RUN_STRIDE_MAX:
            break
        else:
            done, answers, _, left = execute(host, head, tail, layout, data[at:end], room)
            if not done:
                break
            room = left
            if not isinstance(answers, list):
                out.append(bytes(answers))
            else:
                out += answers
        executed += done
        at += done * stride
        if at == total:
            break
        most = min(2 * most, RUN_MAX) if done == count else FEW
        if room < 0 or (executed > 8 and monotonic() > host.tick_deadline):
            session.yield_turn()
            break
    session.output_room = room
    host.counters.commands += executed
    session.executed += executed
    return at


def _one(session: "BinarySession", data: bytes, head: bytes, tail: bytes, layout: Layout) -> int:
    """`_singly` of one request."""
    try:
        return _singly(session.host, [(session, data)], 0, head, tail, layout)
    except LaneFailure as e:
        assert e.__cause__ is not None
        raise e.__cause__ from None


def _singly(host: "Host", work: list[tuple["BinarySession", bytes]], position: int, head: bytes, tail: bytes, layout: Layout) -> int:
    """Execute what begins at `position`: inputs that are one request of `head`, `tail` and the layout that this says, without what only a
    run needs. Returns how many were done; they are not counted among the commands. Raises `LaneFailure` for a defect, and those before it
    are done."""
    stride, key_length, value_length, apart, its_namespace = layout
    if not _enter(host, its_namespace):
        return 0
    _, store, shards, buried, grow, log, push, now, namespace, adds, *_ = host.flat_context
    if head == GET and not value_length:
        return _get_singly(host, work, position, tail, layout)
    if not adds or head not in (PUT, INCR) or (head == PUT) != bool(value_length):
        return 0
    counters, text = host.counters, b""
    start = pack_start(28 + key_length + value_length, KV_STRING, 0, key_length, namespace, now) if value_length else b""
    token = TOKENS[value_length] if value_length <= ARGUMENT_BYTES_MAX else b"$%d" % value_length
    first = index = log.next_index
    done = grown = 0
    try:
        for session, data in work[position:] if position else work:
            if len(data) != stride:
                break
            if not data.startswith(head) or not data.startswith(tail, 16):
                break
            if value_length:
                req_id, key, text = apart(data)
            else:
                req_id, key = apart(data)
            shard = shards[hash(key) & 255]
            entry = shard.get(key)
            if value_length:
                if entry is None:
                    if buried and key in buried:
                        break
                    push(b"".join((start, NO_PREDECESSOR, key, text)))
                    grow(key)
                    grown += KEY_OVERHEAD_BYTES + key_length
                elif entry[-1] < 2:
                    push(b"".join((start, entry[-8:-1], NO_FLAGS, key, text)))
                    grown -= len(entry)
                else:
                    break
                shard[key] = changed = CRLF.join((token, text, pack_version(index)))
                grown += len(changed)
                answer = version_response(ANSWERED, req_id, 8, index)
                index += 1
            else:
                if entry is None:
                    if buried and key in buried:
                        break
                    value, predecessor = 1, NO_PREDECESSOR
                    grow(key)
                    grown += KEY_OVERHEAD_BYTES + key_length
                elif entry[-1] == COUNTER:
                    value = int(entry[4:-10] if len(entry) <= SHORT_COUNTER_ENTRY_MAX else entry[5:-10]) + 1
                    if value > I64_MAX:
                        break
                    predecessor = entry[-8:-1] + NO_FLAGS
                    grown -= len(entry)
                else:
                    break
                digits = b"%d" % value
                length = len(digits)
                start = pack_start(28 + key_length + length, KV_COUNTER, 0, key_length, namespace, now)
                push(b"".join((start, predecessor, key, digits)))
                shard[key] = changed = CRLF.join((TOKENS[length], digits, pack_version(index | COUNTER_FLAG)))
                grown += len(changed)
                answer = counter_response(ANSWERED, req_id, 16, value, index)
                index += 1
            session.peer.out.append(answer)
            done += 1
    except Exception as e:
        counters.commands += done
        raise LaneFailure(position + done) from e
    finally:
        log.next_index = index
        log.pending_bytes += (stride + RECORD_OVER_BYTES) * (index - first)
        store.bytes += grown
    return done


def _get_singly(host: "Host", work: list[tuple["BinarySession", bytes]], position: int, tail: bytes, layout: Layout) -> int:
    """`_singly` of kv_gets."""
    shards, counters = host.flat_context[2], host.counters
    apart = layout[3]
    done = misses = 0
    known, pack, payload_length, offset = -1, *ANSWERS[0]
    try:
        for session, data in work[position:] if position else work:
            if not data.startswith(GET) or not data.startswith(tail, 16):
                break
            try:
                req_id, key = apart(data)
            except struct.error:  # another length
                break
            entry = shards[hash(key) & 255].get(key)
            if entry is None:
                misses += 1
                answer = MISSING_HEAD + req_id + MISSING_TAIL
            else:
                if entry[-1] >= 2:  # PLAIN_MAX
                    break
                length = len(entry)
                if length != known:
                    if length > UNCOUNTED_BYTES:
                        break
                    known = length
                    pack, payload_length, offset = ANSWERS[length]
                answer = pack(ANSWERED, req_id, payload_length, entry[-8:-1], entry[offset:-10])
            session.peer.out.append(answer)
            done += 1
    except Exception as e:
        counters.commands += done
        raise LaneFailure(position + done) from e
    finally:
        counters.hits += done - misses
        counters.misses += misses
    return done


# written out above: a global name costs a lookup
assert SHARD_MASK == 255 and PLAIN_MAX == 2 and REQUEST_BYTES == 32
