"""Runs: a pipeline of one command whose arguments have one size, as bulk loads and cache reads are, taken apart by stride.

The requests of such a buffer differ in one or two arguments only, and each begins as many bytes behind the last as it is long. So one
compiled format takes those arguments out of all of them, and putting the requests together again from what was taken and comparing
that with the buffer says whether they were what the format supposes: 70 ns a request, all in C, where cutting it at its line ends and
looking at each piece is 400.

    GET, INCR       *2 $3 GET   $16 <key>                           the key differs
    MGET            *4 $4 MGET  $16 <key> $9 <key> $9 <key>         the keys, of which all but the first have one size
    SET             *3 $3 SET   $16 <key> $3 <value>                key and value
    LPUSH, QENQUEUE *3 $5 LPUSH $4 work   $64 <payload>             the payload
    RPOP, QDEQUEUE  *2 $4 RPOP  $4 work                             nothing
    QACK            *3 $4 QACK  $4 work   $7 <seq>-<attempt>        the receipt
    XADD            *5 $4 XADD  $6 stream $1 * $5 field $3 <value>  the value

The functions are the bodies of flat.py's loop for these commands; what is not plain ends a run, and flat.py goes on behind it.
tests/commands/test_flat.py holds them equal to the plain way.
"""

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from flo.commands.context import Context
from flo.engine.queue import Queues
from flo.engine.stream import FIELDS
from flo.store.kv import COUNTER, FLAGS_SHIFT, FRAME_END_BYTES, I64_MAX, KEY_OVERHEAD_BYTES, PLAIN_MAX, SHARD_MASK
from flo.store.queue import ATTEMPTS_MAX, FRESH_BYTES, QueueStore
from flo.store.stream import RECORD_BYTES as STREAM_RECORD_BYTES
from flo.store.stream import SEQ_MASK, Stream, StreamStore
from flo.ual.record import HEADER_BYTES, KV_COUNTER, KV_STRING, QUEUE_MESSAGE, STREAM_RECORD

RUN_MIN = 4  # requests: fewer are not worth the look
FEW_MIN = 2  # … of messages leased or acknowledged, for whose short way more is to be looked up
FEW_INITIALS = b"QqRr"
RUN_BYTES_MIN = 4 * 20  # of so many of the shortest
FIRST_BYTES = 400  # of a buffer that are looked at to see what the first request is
LOOK_BYTES = 2048  # … and to see whether there are several
LEAD_BYTES = 14  # by which a layout that was seen before is found: past the command's name, or most of it
LAYOUTS_MAX = 64  # are remembered, each up to 3 KB
ARGUMENT_BYTES_MAX = 2048  # larger ones are in no run, and larger keys go the plain way: their bytes cost more than the steps
ATTEMPT_DIGITS = 6  # of a receipt: all that fit their bits in a message's state
UNCOUNTED_BYTES = 400  # a buffer holds 2,600 GETs at most: answers up to this size stay near OUTPUT_ROOM uncounted
MGET_GO = 16  # requests looked up in one go
MGET_KEYS_MAX = 40  # of one request in a run: more are no longer cheaper together
RUN_ANSWER_BYTES_MAX = 64 << 10  # payloads in one go: the loop looks at the room and the time between
RECORD_OVER_BYTES = 64  # what a record has more than its request, at most: 28 for a counter, 24 for a stream's
CRLF = b"\r\n"
NEXT = b"\r\n*"  # where a request may begin
OK = b"+OK\r\n"
TOKENS = tuple(b"$%d" % size for size in range(ARGUMENT_BYTES_MAX + 1))
SIZES = {token: size for size, token in enumerate(TOKENS)}
COUNTS = {b"*%d" % count: count for count in range(1, 65)}  # arguments of a request; more go the plain way

# flo.ual.record's header in two pieces, for records of one size have the first in common: an entry's last 8 bytes, less its flags, are
# its record's index, and so the predecessor of the next
_START = struct.Struct("<IBBHIQ")
pack_start = _START.pack
pack_version = struct.Struct("<Q").pack
assert _START.size + 8 == HEADER_BYTES
NO_PREDECESSOR = bytes(8)
NO_FLAGS = b"\0"
AT_ONCE = bytes(9)  # flo.engine.queue: priority 0, no delay
# flo.engine.stream and flo.proto.fields: ms, seq, kind, number among all, one field, its name's length; behind the name its value's
pack_added = struct.Struct("<QQBQHH").pack
pack_size = struct.Struct("<I").pack
COUNTER_FLAG = COUNTER << FLAGS_SHIFT
# `$n\r\n` before a counter's text takes 4 bytes up to 9 digits and 5 from there on
SHORT_COUNTER_ENTRY_MAX = 4 + 9 + FRAME_END_BYTES

GET, INCR, SET, LPUSH, XADD, RPOP, QDEQUEUE, QACK, QENQUEUE, MGET = range(10)
DIFFERING = (1, 1, 2, 1, 1, 0, 0, 1, 1)  # arguments, the last ones; of MGET all
KINDS = {
    (spelling, count): kind
    for name, count, kind in (
        (b"GET", 2, GET),
        (b"INCR", 2, INCR),
        (b"SET", 3, SET),
        (b"LPUSH", 3, LPUSH),
        (b"XADD", 5, XADD),
        (b"RPOP", 2, RPOP),
        (b"QDEQUEUE", 2, QDEQUEUE),
        (b"QACK", 3, QACK),
        (b"QENQUEUE", 3, QENQUEUE),
        *((b"MGET", count, MGET) for count in range(3, MGET_KEYS_MAX + 2)),
    )
    for spelling in (name, name.lower())
}


Emit = Callable[[bytes], None]
EmitAll = Callable[[list[bytes]], None]


class Layout(NamedTuple):
    """How the requests of a run are laid out."""

    kind: int
    prefix: bytes  # what each begins with
    middle: bytes  # what is between key and value; nothing where one argument differs
    stride: int  # bytes of one
    rows: Callable[[bytes | memoryview], Iterator[tuple[bytes, ...]]]
    between: bytes  # from what differs in one to what differs in the next
    fixed: tuple[bytes, ...]  # the arguments that are the same in all
    size: int  # of the last argument
    least: int  # how many make a run


NO_LAYOUT = Layout(-1, b"\0", b"", 1, struct.Struct("1s").iter_unpack, b"", (), 0, RUN_MIN)  # no request begins so


def run_of(data: bytes, known: dict[bytes, Layout]) -> tuple[Layout, list[Any] | None]:
    """The layout of the requests in a buffer and what differs in them, as `rows_of`; None where they are no run. `known` are layouts of
    runs so far, by how those began: the same programs send more of the same."""
    lead = data[:LEAD_BYTES]
    guess = known.get(lead, NO_LAYOUT)
    if data.startswith(guess.prefix):
        rows = rows_of(guess, data)
        if rows is not None or not guess.middle:  # else it may be values of another size
            return guess, rows
    if data.count(NEXT, 0, LOOK_BYTES) < least_of(data) - 1:
        return NO_LAYOUT, None
    layout = layout_of(data)
    if layout is None:
        return NO_LAYOUT, None
    if len(known) >= LAYOUTS_MAX:
        known.clear()
    known[lead] = layout
    return layout, rows_of(layout, data)


def least_of(data: bytes) -> int:
    """How many requests that begin so make a run, if they are of a command that does; by its initial, for most are looked at in vain."""
    return FEW_MIN if data[8:9] in FEW_INITIALS else RUN_MIN


def layout_of(data: bytes) -> Layout | None:
    """How the first request of a buffer is laid out; None where it is none of these."""
    pieces = data[:FIRST_BYTES].split(CRLF, 11)
    if len(pieces) < 5:
        return None
    count = COUNTS.get(pieces[0], 0)
    kind = KINDS.get((pieces[2], count), -1)
    differing = DIFFERING[kind] if kind != MGET else count - 1
    if kind == MGET:
        pieces = data[:LOOK_BYTES].split(CRLF, 2 * count + 1)
        if len({*pieces[5 : 2 * count : 2]}) != 1:
            return None
    if kind < 0 or len(pieces) < 2 * count + 2:
        return None
    fixed = count - differing
    whole = pieces[2 : 2 * count : 2]  # all but the last argument, which may be cut off
    if [TOKENS[len(piece)] for piece in whole] != pieces[1 : 2 * count - 1 : 2]:
        return None
    size = SIZES.get(pieces[2 * count - 1], -1)
    if size < 0 or (kind == XADD and pieces[6] != b"*"):
        return None
    prefix = CRLF.join(pieces[: 2 * fixed + 2 if differing else 2 * count + 1]) + CRLF
    middle, form = b"", f"<{len(prefix)}x{size}s2x"
    if not differing:
        form = f"<{len(prefix)}x"
        if TOKENS[len(pieces[2 * count])] != pieces[2 * count - 1]:
            return None
    elif differing > 1:
        key = len(pieces[2 * fixed + 2])
        middle = CRLF + pieces[2 * count - 1] + CRLF
        form = f"<{len(prefix)}x{key}s" + f"{len(middle)}x{size}s" * (differing - 1) + "2x"
    compiled = struct.Struct(form)
    least = FEW_MIN if kind in (RPOP, QDEQUEUE, QACK) else RUN_MIN
    fixed_ones = tuple(pieces[2 : 2 * fixed + 2 : 2])
    return Layout(kind, prefix, middle, compiled.size, compiled.iter_unpack, CRLF + prefix, fixed_ones, size, least)


def rows_of(layout: Layout, data: bytes) -> list[Any] | None:
    """What differs in the requests of a buffer, in order: an argument, (key, value), or (); a part of a request at its end is left out.
    None where they are not laid out so."""
    kind, prefix, middle, stride, rows, between, _, _, least = layout
    count = len(data) // stride
    if count < least or not data.startswith(prefix, stride):
        return None
    end = count * stride
    chunk = data if end == len(data) else data[:end]
    if kind in (RPOP, QDEQUEUE):
        return [()] * count if prefix * count == chunk else None
    if middle:
        pairs = list(rows(chunk))
        return pairs if b"".join((prefix, between.join([middle.join(pair) for pair in pairs]), CRLF)) == chunk else None
    found = [row for (row,) in rows(chunk)]
    return found if b"".join((prefix, between.join(found), CRLF)) == chunk else None


def get_all(keys: Iterable[bytes], shards: list[dict[bytes, bytes]], emit: Emit, nil: bytes) -> int:
    """GET of each; returns how many were missing."""
    misses = 0
    for key in keys:
        entry = shards[hash(key) & 255].get(key)
        if entry is None:
            misses += 1
            emit(nil)
        elif entry[-1] < 2 and len(entry) < UNCOUNTED_BYTES:  # PLAIN_MAX
            emit(entry[:-8])
        else:
            break
    return misses


def mget_all(rows: list[tuple[bytes, ...]], most_bytes: int, shards: list[dict[bytes, bytes]], emit: Emit, nil: bytes) -> int:
    """MGET of each row of keys, up to so many bytes; returns how many keys were missing."""
    misses, width, join = 0, len(rows[0]), b"".join
    head = b"*%d\r\n" % width
    for at in range(0, len(rows), MGET_GO):
        go = rows[at : at + MGET_GO]
        entries = [shards[hash(key) & 255].get(key) for row in go for key in row]
        there = entries if all(entries) else [entry for entry in entries if entry]
        sizes = [*map(len, there)]  # type: ignore[arg-type]
        longest = max(sizes, default=0)
        if longest > UNCOUNTED_BYTES or (there and max([entry[-1] for entry in there]) >= 2):  # type: ignore[index]  # PLAIN_MAX
            count = 0  # the rows before the first that is not plain
            while not any(entry and (entry[-1] >= 2 or len(entry) > UNCOUNTED_BYTES) for entry in entries[count : count + width]):
                count += width
            if not count:
                break
            del entries[count:]
            sizes, most_bytes = [], -1  # and no further
        if sizes and sizes.count(longest) == len(entries):
            texts: Any = _cut(longest, len(entries))(join(there))  # type: ignore[arg-type]
        else:
            texts = [nil if entry is None else entry[:-8] for entry in entries]
            misses += entries.count(None)
        for mine in range(0, len(entries), width):
            emit(join((head, *texts[mine : mine + width])))
        most_bytes -= sum(sizes)
        if most_bytes < 0:
            break
    return misses


_CUTS: dict[tuple[int, int], Callable[[bytes], tuple[bytes, ...]]] = {}
CUTS_MAX = 64  # 1 MB


def _cut(length: int, count: int) -> Callable[[bytes], tuple[bytes, ...]]:
    """What takes so many entries of one length to what is sent of them."""
    found = _CUTS.get((length, count))
    if found is None:
        if len(_CUTS) >= CUTS_MAX:
            _CUTS.clear()
        found = _CUTS[length, count] = struct.Struct(f"{length - 8}s8x" * count).unpack
    return found


def set_all(place: Context, pairs: Iterable[tuple[bytes, bytes]], key_size: int, size: int) -> tuple[int, int]:
    """SET of each (key, value), all of such sizes; returns how many were done, and by how many bytes the store has grown."""
    _, _, shards, buried, grow, log, push, now, namespace, *_ = place
    first = index = log.next_index
    grown, join, token = 0, b"".join, TOKENS[size]
    entry_size = len(token) + 2 + size + FRAME_END_BYTES
    start = pack_start(28 + key_size + size, KV_STRING, 0, key_size, namespace, now)
    for key, text in pairs:
        shard = shards[hash(key) & 255]
        entry = shard.get(key)
        changed = CRLF.join((token, text, pack_version(index)))
        if entry is None:
            if buried and key in buried:
                break
            push(join((start, NO_PREDECESSOR, key, text)))
            grow(key)
            grown += KEY_OVERHEAD_BYTES + key_size + entry_size
        else:
            flags = entry[-1]
            if not flags:
                push(join((start, entry[-8:], key, text)))
            elif flags < 2:  # PLAIN_MAX
                push(join((start, entry[-8:-1], NO_FLAGS, key, text)))
            else:
                break
            if len(entry) != entry_size:
                grown += entry_size - len(entry)
        shard[key] = changed
        index += 1
    return index - first, grown


def incr_all(place: Context, keys: Iterable[bytes], key_size: int) -> tuple[list[int], int]:
    """INCR of each, all of such a size; returns the numbers of those that were done, and by how many bytes the store has grown."""
    _, _, shards, buried, grow, log, push, now, namespace, *_ = place
    index = log.next_index
    grown, join, tokens, size_before, start = 0, b"".join, TOKENS, -1, b""
    values: list[int] = []
    for key in keys:
        shard = shards[hash(key) & 255]
        entry = shard.get(key)
        if entry is None:
            if buried and key in buried:
                break
            push(join((pack_start(29 + key_size, KV_COUNTER, 0, key_size, namespace, now), NO_PREDECESSOR, key, b"1")))
            shard[key] = changed = b"$1\r\n1\r\n" + pack_version(index | COUNTER_FLAG)
            grow(key)
            grown += KEY_OVERHEAD_BYTES + key_size + len(changed)
            index += 1
            values.append(1)
            continue
        if entry[-1] != 1:  # COUNTER
            break
        value = int(entry[4:-10] if len(entry) <= 23 else entry[5:-10]) + 1  # SHORT_COUNTER_ENTRY_MAX
        if value > I64_MAX:
            break
        digits = b"%d" % value
        size = len(digits)
        if size != size_before:
            size_before, start = size, pack_start(28 + key_size + size, KV_COUNTER, 0, key_size, namespace, now)
        push(join((start, entry[-8:-1], NO_FLAGS, key, digits)))
        shard[key] = changed = CRLF.join((tokens[size], digits, pack_version(index | COUNTER_FLAG)))
        grown += len(changed) - len(entry)
        index += 1
        values.append(value)
    return values, grown


def push_all(
    payloads: list[bytes],
    index: int,
    namespace: int,
    now: int,
    size: int,
    queues: QueueStore,
    name: bytes,
    counting: bool,
    log_all: EmitAll,
    answer_all: EmitAll,
) -> int:
    """LPUSH of each, all of one size, into a queue that is there, or QENQUEUE, which answers the seqs, not `counting` what is ready;
    returns the next index."""
    queue = queues.queues[name]
    ready, fresh = queues.lane_of_new(queue)
    seqs = range(index, index + len(payloads))
    length = len(queue.head) + 8
    start = b"".join((pack_start(37 + length + size, QUEUE_MESSAGE, 0, length, namespace, now), NO_PREDECESSOR, queue.head))
    join = b"".join
    log_all([join((start, mark, AT_ONCE, payload)) for mark, payload in zip(map(pack_version, seqs), payloads, strict=True)])
    count = ready[0] + ready[3] + 1  # READY, LAPSED
    answer_all([b":%d\r\n" % number for number in (range(count, count + len(seqs)) if counting else seqs)])
    fresh.extend(seqs)
    ready[0] += len(seqs)
    queues.bytes += FRESH_BYTES * len(seqs)
    return index + len(seqs)


def lease_all(queues: Queues, name: bytes, count: int, most_bytes: int, answer_all: EmitAll) -> list[int]:
    """QDEQUEUE, as many as the short way goes, up to so many bytes; returns their seqs."""
    seqs, payloads = queues.pop_all(name, False, count, most_bytes)
    answer_all([b"*1\r\n*3\r\n:%d\r\n$%d\r\n%b\r\n:1\r\n" % (seq, len(each), each) for seq, each in zip(seqs, payloads, strict=True)])
    return seqs


def pop_all(queues: Queues, name: bytes, acknowledge: bool, count: int, most_bytes: int, answer_all: EmitAll) -> list[int]:
    """RPOP, as many as the short way goes, up to so many bytes; returns their seqs."""
    seqs, payloads = queues.pop_all(name, acknowledge, count, most_bytes)
    answer_all([b"$%d\r\n%b\r\n" % (len(each), each) for each in payloads])
    return seqs


def acknowledge_all(queues: Queues, name: bytes, rows: list[bytes], answer_all: EmitAll) -> None:
    """QACK of receipts, as many as the short way goes."""
    seqs, attempts = receipts_of(rows)
    if seqs:
        answer_all([b":1\r\n"] * queues.ack_all(name, seqs, attempts))


def receipts_of(rows: list[bytes]) -> tuple[list[int], list[int]]:
    """The seqs and the attempts of receipts of one size, `seq-attempt` or `seq`, written as usual; none where one is not. Attempt 0: not
    given."""
    text = b"".join(rows)
    size = len(rows[0])
    if text[::size].count(b"0") or text.translate(None, b"0123456789-") or size > 28:
        return [], []
    dashes = text.count(b"-")
    if not dashes:
        return ([*map(int, rows)], [0] * len(rows)) if size <= 18 else ([], [])
    at = rows[0].find(b"-")
    if not 0 < at <= 18 or not 0 < size - at - 1 <= ATTEMPT_DIGITS or dashes != len(rows) or text[at::size].count(b"-") != dashes:
        return [], []
    if text[at + 1 :: size].count(b"0"):
        return [], []
    return [int(row[:at]) for row in rows], [int(row[at + 1 :]) for row in rows]


def add_all(
    values: list[bytes],
    index: int,
    namespace: int,
    now: int,
    stamp: int,
    field: bytes,
    size: int,
    streams: StreamStore,
    stream: Stream,
    log_all: EmitAll,
    answer_all: EmitAll,
) -> int:
    """XADD of each, all of one size and behind the same field, to a stream that has records, no bounds and no id later than
    `stamp`, the ms of the new ones; returns the next index."""
    join, tokens, count, added = b"".join, TOKENS, len(values), stream.added + 1
    first = (stream.last & SEQ_MASK) + 1 if stream.last >> 64 == stamp else 0
    if first + count > SEQ_MASK:
        return index
    seqs = range(first, first + count)
    length, record_size, field_size = len(stream.head) + 16, 8 + len(field) + size, len(field)
    start = join((pack_start(37 + length + record_size, STREAM_RECORD, 0, length, namespace, now), NO_PREDECESSOR, stream.head))
    head = field + pack_size(size)
    log_all(
        [
            join((start, pack_added(stamp, seq, FIELDS, number, 1, field_size), head, value))
            for seq, number, value in zip(seqs, range(added, added + count), values, strict=True)
        ]
    )
    stream.extend(
        array("Q", range(index, index + count)),
        array("Q", (stamp,)) * count,
        array("Q", seqs),
        array("I", (record_size,)) * count,
        added + count - 1,
    )
    streams.bytes += STREAM_RECORD_BYTES * count
    names = [b"%d-%d" % (stamp, seq) for seq in seqs]
    answer_all([CRLF.join((tokens[len(name)], name, b"")) for name in names])
    return index + count


assert 10**ATTEMPT_DIGITS - 1 <= ATTEMPTS_MAX
# written out above: a global name costs a lookup
assert SHARD_MASK == 255 and PLAIN_MAX == 2 and COUNTER == 1 and SHORT_COUNTER_ENTRY_MAX == 23
