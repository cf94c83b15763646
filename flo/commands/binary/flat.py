"""The binary protocol's hot path: runs of kv_get, kv_put and kv_incr without options, parsed and executed in flat loops.

The twin of commands/flat.py, for the same reason and under the same rule: what does not fit (another operation, options,
flags, a key with a deadline, a missing piece) is left to the plain way, which gives the same answer: FrameReader,
BinarySession and flo.engine.kv. tests/test_binary_session.py holds the two equal, in answers, memory and log.

The sixteen bytes of a header behind the request's id (payload length, namespace, key length, options length) say how the
whole request is laid out. So they are looked up in `LAYOUTS`, which gives a compiled format that takes headers, keys and values
of a run of such requests out of the buffer in C, in 95 ns each. A run ends where a request differs; pipelines mostly do not.
"""

import struct
from collections.abc import Callable, Iterator
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING

from flo.commands.flat import NO_CONTEXT, OUTPUT_ROOM_BYTES, SORT_MIN, context
from flo.commands.runs import (
    COUNTER_FLAG,
    CRLF,
    NO_FLAGS,
    NO_PREDECESSOR,
    RUN_MIN,
    SHORT_COUNTER_ENTRY_MAX,
    TOKENS,
    UNCOUNTED_BYTES,
    pack_start,
    pack_version,
)
from flo.errors import BadRequest, LaneFailure
from flo.proto.binary import MAGIC, NOT_FOUND, OK, REQUEST_BYTES, encode_response
from flo.store.kv import COUNTER, FRAME_END_BYTES, I64_MAX, KEY_OVERHEAD_BYTES, PLAIN_MAX, SHARD_MASK
from flo.ual.record import KV_COUNTER, KV_STRING

if TYPE_CHECKING:
    from flo.commands.binary.session import BinarySession
    from flo.commands.host import Host

__all__ = ["NO_CONTEXT", "OUTPUT_ROOM_BYTES", "run", "run_many"]

FLAT_PAYLOAD_BYTES_MAX = 2048  # larger requests go the plain way: their bytes cost more than the steps
LAYOUTS_MAX = 4096  # 1 MiB of formats; programs use a few sizes
RUN_MAX = 64  # requests between looks at the clock: under 100 us

_TAIL = struct.Struct("<I8sHH")  # payload length, namespace, key length, options length
_VERSION_RESPONSE = struct.Struct("<8s8sIxxxxQ").pack  # head, id, payload length, zeros, version
_COUNTER_RESPONSE = struct.Struct("<8s8sIxxxxqQ").pack  # …, value, version

GET, PUT, INCR = (MAGIC + struct.pack("<HH", code, 0) for code in (0x10, 0x11, 0x10B))
ANSWERED = MAGIC + struct.pack("<HH", OK, 0)
_MISSING = encode_response(NOT_FOUND, 0, b"the key does not exist")
MISSING_HEAD, MISSING_TAIL = _MISSING[:8], _MISSING[16:]


# How requests with one tail are laid out: (rows, stride, key length, value length, namespace). `rows` takes a buffer of such
# requests to (head, id, tail, key) of each, with the value where there is one; `stride` is the bytes of one. Plain tuples
# unpack fastest.
Rows = Callable[[bytes | memoryview], Iterator[tuple[bytes, ...]]]
Layout = tuple[Rows, int, int, int, bytes]
LAYOUTS: dict[bytes, Layout] = {}


def layout_of(tail: bytes) -> Layout | None:
    """The layout that the last 16 bytes of a header say, None where it is not for the flat way. Remembers it."""
    if len(tail) < _TAIL.size:
        return None
    size, namespace, key_length, options_length = _TAIL.unpack(tail)
    if options_length or key_length > size or size > FLAT_PAYLOAD_BYTES_MAX:
        return None
    value = f"{size - key_length}s" if size > key_length else ""
    rows: Rows = struct.Struct(f"<8s8s16s{key_length}s{value}").iter_unpack
    if len(LAYOUTS) >= LAYOUTS_MAX:
        LAYOUTS.clear()
    made = LAYOUTS[tail] = (rows, REQUEST_BYTES + size, key_length, size - key_length, namespace)
    return made


# How the answer to a kv_get is made from an entry (`$<length>\\r\\n<value>\\r\\n<version>`, flo.store.kv), by the entry's length:
# (pack, payload length, where the value begins). `pack` takes head, id, payload length, the version's seven bytes, value.
ValueAnswer = tuple[Callable[..., bytes], bytes, int]
ANSWERS: list[ValueAnswer] = []
ENTRY_BYTES_MAX = 2066  # that of a value of FLAT_PAYLOAD_BYTES_MAX
assert FLAT_PAYLOAD_BYTES_MAX + 3 + len(b"%d" % FLAT_PAYLOAD_BYTES_MAX) + FRAME_END_BYTES + 1 == ENTRY_BYTES_MAX


def prepare() -> None:
    """Fill ANSWERS, before the first `run`: 3 ms that a server without binary clients does not spend."""
    if not ANSWERS:
        ANSWERS.extend(map(_value_answer, range(ENTRY_BYTES_MAX + 1)))


def _value_answer(entry_bytes: int) -> ValueAnswer:
    digits = 1
    while len(b"%d" % (entry_bytes - 3 - digits - FRAME_END_BYTES)) > digits:
        digits += 1
    length = max(entry_bytes - 3 - digits - FRAME_END_BYTES, 0)
    return struct.Struct(f"<8s8s8s7sx{length}s").pack, (8 + length).to_bytes(8, "little"), 3 + digits


class _Together:
    """What `run` needs of a session, for the requests of several: their answers, in order."""

    def __init__(self, host: "Host") -> None:
        self.host = host
        self.peer = self
        self.out: list[bytes] = []
        self.output_room = self.executed = 0

    def yield_turn(self) -> None:
        """Its requests have had their time: those that are left are executed as their connections'."""


def run_many(work: list[tuple["BinarySession", bytes]], position: int, room_of_each: int) -> tuple[int, int]:
    """As `flo.commands.flat.run_many`."""
    if not position and len(work) >= SORT_MIN:
        work.sort(key=_input_size)
    try:
        while position < len(work):
            session, data = work[position]
            if position + RUN_MIN <= len(work) and len(data) == len(work[position + RUN_MIN - 1][1]):
                done = _run_same(work, position, room_of_each)
                position += done
                if done:
                    continue
            if session.halted:
                session.halted = session.yielded = False
            at = run(session, data, 0, room_of_each)
            if at != len(data) or session.halted:
                return position, at
            position += 1
    except Exception as e:
        raise LaneFailure(position) from e
    return position, 0


def _input_size(item: tuple["BinarySession", bytes]) -> int:
    return len(item[1])


def _run_same(work: list[tuple["BinarySession", bytes]], position: int, room: int) -> int:
    """Execute the one request of each connection from `position` on, as long as they are laid out alike, in one run; returns how many."""
    session, data = work[position]
    size, tail = len(data), data[16:32]
    layout = LAYOUTS.get(tail) or layout_of(tail)
    if layout is None or layout[1] != size:
        return 0
    inputs = [data]
    for _, more in islice(work, position + 1, None):
        if len(more) != size or more[16:32] != tail:
            break
        inputs.append(more)
    if len(inputs) < RUN_MIN:
        return 0
    together = _Together(session.host)
    done = run(together, b"".join(inputs), 0, room) // size
    answers = together.out
    assert len(answers) == done, "one answer each"
    for (session, _), answer in zip(islice(work, position, position + done), answers, strict=True):
        session.peer.out.append(answer)
        session.executed += 1
    return done


def run(session: "BinarySession | _Together", data: bytes, start: int, room: int) -> int:
    """Execute requests of `data` from offset `start` as far as the flat way goes; returns the offset reached, which is at a
    request's first byte. `room` is how many bytes of answers may be added; what is left of it becomes `session.output_room`.
    `session.halted` says whether execution has to stop there."""
    at, total = start, len(data)
    tail = data[at + 16 : at + 32]
    layout = LAYOUTS.get(tail) or layout_of(tail)
    session.output_room = room
    if layout is None:
        return at
    rows, stride, key_length, value_length, its_namespace = layout
    host = session.host
    if host.flat_context[-1] != its_namespace:
        try:
            found = context(host.engine.namespace_by_hash(int.from_bytes(its_namespace, "little")))
        except BadRequest:
            return at  # the plain way says so
        host.flat_context = (*found[:-1], its_namespace)  # `default` goes by two hashes
    head = data[at : at + 8]
    size = total - at
    if stride == size and _lone(session, data[at + 8 :] if at else data[8:], head, key_length, value_length):
        return total
    _, store, shards, buried, grow, log, push, now, namespace, adds, _, _, _, wire = host.flat_context
    first_index = index = log.next_index
    out = session.peer.out
    emit = out.append
    tokens, answers, answered_head, join = TOKENS, ANSWERS, ANSWERED, b"".join
    answered = len(out)
    grown = misses = gets = length = 0
    pack, payload_length, offset = answers[0]
    while True:
        if stride != size:
            count = size // stride
            if not count:
                break
            if count > 64:
                count = 64
            size = count * stride
        requests = rows(data if size == total else memoryview(data)[at : at + size])
        before = len(out)
        if head == GET:
            if value_length:
                break
            for this, req_id, its_tail, key in requests:
                if this != head or its_tail != tail:
                    break
                entry = shards[hash(key) & 255].get(key)
                if entry is None:
                    misses += 1
                    emit(MISSING_HEAD + req_id + MISSING_TAIL)
                    continue
                if entry[-1] >= 2:  # PLAIN_MAX
                    break
                if len(entry) != length:  # mostly they are of one size
                    length = len(entry)
                    if length > 2066:  # ENTRY_BYTES_MAX
                        room -= length
                        offset = entry.index(10) + 1
                        emit(pack_head(req_id, entry, length - offset - 2) + entry[offset:-10])
                        if room < 0:
                            break
                        length = 0
                        continue
                    pack, payload_length, offset = answers[length]
                    if length > 400:  # UNCOUNTED_BYTES
                        room -= length
                        if room < 0:
                            break
                        length = 0  # the next of this size is counted as well
                emit(pack(answered_head, req_id, payload_length, entry[-8:-1], entry[offset:-10]))
            gets += len(out) - before
        elif not adds:
            break
        elif head == PUT:
            if not value_length:
                break
            token = tokens[value_length]
            begins = pack_start(stride - 4, KV_STRING, 0, key_length, namespace, now)
            for this, req_id, its_tail, key, text in requests:
                if this != head or its_tail != tail:
                    break
                shard = shards[hash(key) & 255]
                entry = shard.get(key)
                if entry is None:
                    if buried and key in buried:
                        break
                    push(join((begins, NO_PREDECESSOR, key, text)))
                    shard[key] = entry = CRLF.join((token, text, pack_version(index)))
                    grow(key)
                    grown += KEY_OVERHEAD_BYTES + key_length + len(entry)
                elif entry[-1] < PLAIN_MAX:
                    push(join((begins, entry[-8:] if not entry[-1] else entry[-8:-1] + NO_FLAGS, key, text)))
                    changed = CRLF.join((token, text, pack_version(index)))
                    shard[key] = changed
                    grown += len(changed) - len(entry)
                else:
                    break
                emit(_VERSION_RESPONSE(ANSWERED, req_id, 8, index))
                index += 1
        elif head == INCR:
            if value_length:
                break
            digits_size = -1
            for this, req_id, its_tail, key in requests:
                if this != head or its_tail != tail:
                    break
                shard = shards[hash(key) & 255]
                entry = shard.get(key)
                if entry is None:
                    if buried and key in buried:
                        break
                    value, digits_size = 1, -1
                    begins = pack_start(stride - 3, KV_COUNTER, 0, key_length, namespace, now)
                    push(join((begins, NO_PREDECESSOR, key, b"1")))
                    shard[key] = entry = b"$1\r\n1\r\n" + pack_version(index | COUNTER_FLAG)
                    grow(key)
                    grown += KEY_OVERHEAD_BYTES + key_length + len(entry)
                elif entry[-1] == COUNTER:
                    value = int(entry[4:-10] if len(entry) <= SHORT_COUNTER_ENTRY_MAX else entry[5:-10]) + 1
                    if value > I64_MAX:
                        break
                    digits = b"%d" % value
                    size = len(digits)
                    if size != digits_size:
                        digits_size = size
                        begins = pack_start(stride - 4 + size, KV_COUNTER, 0, key_length, namespace, now)
                    push(join((begins, entry[-8:-1], NO_FLAGS, key, digits)))
                    changed = CRLF.join((tokens[size], digits, pack_version(index | COUNTER_FLAG)))
                    shard[key] = changed
                    grown += len(changed) - len(entry)
                else:
                    break
                emit(_COUNTER_RESPONSE(ANSWERED, req_id, 16, value, index))
                index += 1
        else:
            break
        done = len(out) - before
        at += stride if done == 1 else done * stride
        if at == total or not done:
            break
        if room < 0 or (done > 8 and monotonic() > host.tick_deadline):
            session.yield_turn()
            break
        tail = data[at + 16 : at + 32]
        layout = LAYOUTS.get(tail) or layout_of(tail)
        if layout is None:
            break
        rows, stride, key_length, value_length, its_namespace = layout
        if its_namespace != wire:
            break
        head = data[at : at + 8]
        size = total - at
    session.output_room = room
    if index != first_index:
        log.next_index = index
        log.pending_bytes += 3 * (at - start)  # an upper bound of what these requests appended
        store.bytes += grown
    done = len(out) - answered
    counters = host.counters
    counters.commands += done
    session.executed += done
    if gets:
        counters.hits += gets - misses
        counters.misses += misses
    return at


def _lone(session: "BinarySession | _Together", data: bytes, head: bytes, key_length: int, value_length: int) -> bool:
    """Execute the one request of a buffer, as an unpipelined client sends it, if its key is there and plain: the loops of `run`
    for one, without what only a loop needs, which is a fifth of their cost. `data` is the request behind `head`. Says whether
    it did; otherwise nothing was done."""
    host = session.host
    _, store, shards, _, _, log, push, now, namespace, adds, *_ = host.flat_context
    key = data[24 : 24 + key_length] if value_length else data[24:]
    shard = shards[hash(key) & 255]
    entry = shard.get(key)
    if entry is None or entry[-1] >= 2:  # PLAIN_MAX
        return False
    if head == GET:
        length = len(entry)
        if value_length or length > UNCOUNTED_BYTES:
            return False
        pack, payload_length, offset = ANSWERS[length]
        session.peer.out.append(pack(ANSWERED, data[:8], payload_length, entry[-8:-1], entry[offset:-10]))
        host.counters.hits += 1
    else:
        if not adds:
            return False
        index = log.next_index
        if head == PUT and value_length:
            text = data[24 + key_length :]
            start = pack_start(28 + key_length + value_length, KV_STRING, 0, key_length, namespace, now)
            push(b"".join((start, entry[-8:-1], NO_FLAGS, data[24:])))
            shard[key] = changed = CRLF.join((TOKENS[value_length], text, pack_version(index)))
            session.peer.out.append(_VERSION_RESPONSE(ANSWERED, data[:8], 8, index))
        elif head == INCR and entry[-1] == COUNTER and not value_length:
            value = int(entry[4:-10] if len(entry) <= SHORT_COUNTER_ENTRY_MAX else entry[5:-10]) + 1
            if value > I64_MAX:
                return False
            text = b"%d" % value
            length = len(text)
            start = pack_start(28 + key_length + length, KV_COUNTER, 0, key_length, namespace, now)
            push(b"".join((start, entry[-8:-1], NO_FLAGS, key, text)))
            shard[key] = changed = CRLF.join((TOKENS[length], text, pack_version(index | COUNTER_FLAG)))
            session.peer.out.append(_COUNTER_RESPONSE(ANSWERED, data[:8], 16, value, index))
        else:
            return False
        log.next_index = index + 1
        log.pending_bytes += 3 * len(data)  # an upper bound of what it appended
        store.bytes += len(changed) - len(entry)
    session.executed += 1
    host.counters.commands += 1
    return True


def pack_head(req_id: bytes, entry: bytes, payload_length: int) -> bytes:
    """The start of an answer to a kv_get of a large value: header and version."""
    return b"".join((ANSWERED, req_id, payload_length.to_bytes(8, "little"), entry[-8:-1], b"\0"))


# written out above: a global name costs a lookup
assert SHARD_MASK == 255 and ENTRY_BYTES_MAX == 2066 and REQUEST_BYTES == 32 and UNCOUNTED_BYTES == 400 and RUN_MAX == 64 and PLAIN_MAX == 2
