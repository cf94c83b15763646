"""Runs: requests of one operation and one layout, as pipelines and crowds of clients send them, each kind executed in one go.

The sixteen bytes of a header behind the request's id (payload length, namespace, key length, options length) say how the whole request
is laid out. So they are looked up in `LAYOUTS`, and a compiled format takes ids, keys and values of a run out of the buffer in C. Its
answers are all of one length wherever that can be: then ids, versions and values are laid as columns between what is the same in all of
them, which costs a fifth of packing them one by one.

In a long run everything begins as many bytes behind the one before as a request is long, so one slice with a step takes the same byte
of all requests: that is how the bytes that must be the same are compared, and how the ids get from the requests into the answers
without becoming objects, at 1 ns a byte. It costs 3 us a run besides, so short ones go the other way: taken apart and put together
again, which proves that they were what the format supposes.

Another operation, options, flags, a key with a deadline, a missing piece end a run; flat.py goes on behind it, or the plain way does.
"""

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING

from flo.commands.context import Context
from flo.commands.host import RUN_MAX
from flo.commands.runs import (
    CRLF,
    NO_FLAGS,
    NO_PREDECESSOR,
    RECORD_OVER_BYTES,
    TOKENS,
    UNCOUNTED_BYTES,
    incr_all,
    pack_start,
    set_all,
)
from flo.proto.binary import MAGIC, NOT_FOUND, OK, REQUEST_BYTES, RESPONSE_BYTES, encode_response
from flo.store.kv import COUNTER, FRAME_END_BYTES, KEY_OVERHEAD_BYTES, PLAIN_MAX, SHARD_MASK
from flo.ual.record import HEADER_BYTES, KV_STRING

if TYPE_CHECKING:
    from flo.commands.host import Host

FLAT_PAYLOAD_BYTES_MAX = 2048  # larger requests are in no run: their bytes cost more than the steps
SINGLE_PAYLOAD_BYTES_MAX = 64 << 10  # one by one, up to all that is received at once
SHORT_VALUE_BYTES = 16  # up to which values get into a long run's answers and entries by such slices too: more slices are not cheaper
# Entries of a long run that become objects in one go: each takes the memory that one replaced shortly before gave back, which is in the
# cache still. All of a run at once take cold memory, which costs more than making them so saves.
ENTRIES_AT_ONCE = 32
STRIDES_MIN = 32  # requests of a run from which on slices with a step are cheaper
LAYOUTS_MAX = 4096  # 3 MB with their formats; programs use a few sizes

_TAIL = struct.Struct("<I8sHH")  # payload length, namespace, key length, options length
_WORD = struct.Struct("<Q").pack
version_response = struct.Struct("<8s8sIxxxxQ").pack  # head, id, payload length, zeros, version
counter_response = struct.Struct("<8s8sIxxxxqQ").pack  # …, value, version

GET, PUT, INCR = (MAGIC + struct.pack("<HH", code, 0) for code in (0x10, 0x11, 0x10B))
ANSWERED = MAGIC + struct.pack("<HH", OK, 0)
_LOW = bytes(range(256)) * (RUN_MAX // 256 + 1)  # lowest bytes of versions, from any on
_MISSING = encode_response(NOT_FOUND, 0, b"the key does not exist")
MISSING_HEAD, MISSING_TAIL = _MISSING[:8], _MISSING[16:]

Bytes = bytes | bytearray | memoryview
Apart = Callable[[Bytes], tuple[bytes, ...]]
# How requests with one tail are laid out: (bytes of one, key length, value length, what takes one apart into id, key and, where there is
# one, value; namespace). A plain tuple unpacks fastest.
Layout = tuple[int, int, int, Apart, bytes]
LAYOUTS: dict[bytes, Layout] = {}
# What takes so many requests of one layout apart: one format for all of them, for `unpack` costs 30 ns a request and `iter_unpack` 100.
# By what is taken of a header, key length, value length and count; for entries of one length by where their values begin, that length and
# count; for pieces of one length by that and count.
Form = tuple[str, int, int, int] | tuple[int, int, int] | tuple[int, int]
FORMATS: dict[Form, Apart] = {}
FORMATS_MAX = 256  # 12 MB, were all of RUN_MAX requests

# What came of a run: how many requests were done, their answers as one piece, each of so many bytes, or one by one (0), and how many
# bytes of answers there is room for now
Done = tuple[int, bytes | bytearray | list[bytes], int, int]
NOTHING: Done = (0, b"", 0, 0)


def layout_of(tail: bytes) -> Layout | None:
    """The layout that the last 16 bytes of a header say, None where it is not for the flat way. Remembers it."""
    if len(tail) < _TAIL.size:
        return None
    size, namespace, key_length, options_length = _TAIL.unpack(tail)
    if options_length or key_length > size or size > SINGLE_PAYLOAD_BYTES_MAX:
        return None
    if len(LAYOUTS) >= LAYOUTS_MAX:
        LAYOUTS.clear()
    value_length = size - key_length
    apart = struct.Struct(f"<8x8s16x{key_length}s" + (f"{value_length}s" if value_length else "")).unpack
    made = LAYOUTS[tail] = (REQUEST_BYTES + size, key_length, value_length, apart, namespace)
    return made


def columns_of(head: bytes, tail: bytes, layout: Layout, data: bytes) -> list[tuple[bytes, ...]]:
    """The ids and keys, and the values where there are some, of the requests of `data` up to the first that does not begin with `head`
    or does not go on with `tail`. That they do is proven by putting the requests together again."""
    stride, key_length, value_length, _, _ = layout
    count, width = len(data) // stride, 3 if value_length else 2
    columns = _apart(data, ("8x8s16x", key_length, value_length, count), width)
    pieces = [head, b"", tail, b"", b""][: width + 2] * count
    pieces[1 :: width + 2], pieces[3 :: width + 2] = columns[0], columns[1]
    if value_length:
        pieces[4::5] = columns[2]
    if b"".join(pieces) == data:
        return columns
    alike = _alike(head, tail, stride, data)
    return [column[:alike] for column in columns]


def _apart(data: bytes, form: tuple[str, int, int, int], width: int) -> list[tuple[bytes, ...]]:
    """What differs in requests of such a form, as `width` columns."""
    unpack = FORMATS.get(form)
    if unpack is None:
        header, key_length, value_length, _ = form
        unpack = remember(form, f"{header}{key_length}s" + (f"{value_length}s" if value_length else ""))
    found = unpack(data)
    return [found[at::width] for at in range(width)]


def _alike(head: bytes, tail: bytes, stride: int, data: bytes) -> int:
    """How many requests of `data`, from its first, begin with `head` and go on with `tail`."""
    alike = 0
    while data.startswith(head, alike * stride) and data.startswith(tail, alike * stride + 16):
        alike += 1
    return alike


def _all_alike(head: bytes, tail: bytes, stride: int, data: bytes) -> bool:
    """Whether all requests of `data` do: byte by byte, each in all of them at once."""
    return all(_SAME[value].startswith(data[at::stride]) for at, value in zip(_CONSTANT, head + tail, strict=True))


def remember(form: Form, one: str) -> Apart:
    """Make a format of so many times `one`."""
    if len(FORMATS) >= FORMATS_MAX:
        FORMATS.clear()
    made = FORMATS[form] = struct.Struct("<" + one * form[-1]).unpack
    return made


# How the answer to a kv_get is made from an entry (`$<length>\r\n<value>\r\n<version>`, flo.store.kv), by the entry's length:
# (pack, payload length, where the value begins). `pack` takes head, id, payload length, the version's seven bytes, value.
ValueAnswer = tuple[Callable[..., bytes], bytes, int]
ANSWERS: list[ValueAnswer] = []
ENTRY_BYTES_MAX = 2066  # that of a value of FLAT_PAYLOAD_BYTES_MAX
assert FLAT_PAYLOAD_BYTES_MAX + 3 + len(b"%d" % FLAT_PAYLOAD_BYTES_MAX) + FRAME_END_BYTES + 1 == ENTRY_BYTES_MAX


_CONSTANT = (*range(8), *range(16, 32))  # bytes of a request's header that are the same in all of a run
_SAME: list[bytes] = []  # each byte, as often as it may be in a run


def prepare() -> None:
    """Fill ANSWERS and _SAME, before the first run: 3 ms that a server without binary clients does not spend."""
    if not ANSWERS:
        ANSWERS.extend(map(_value_answer, range(ENTRY_BYTES_MAX + 1)))
        _SAME.extend(bytes([value]) * RUN_MAX for value in range(256))


def _value_answer(entry_bytes: int) -> ValueAnswer:
    digits = 1
    while len(b"%d" % (entry_bytes - 3 - digits - FRAME_END_BYTES)) > digits:
        digits += 1
    length = max(entry_bytes - 3 - digits - FRAME_END_BYTES, 0)
    return struct.Struct(f"<8s8s8s7sx{length}s").pack, (8 + length).to_bytes(8, "little"), 3 + digits


def execute(host: "Host", head: bytes, tail: bytes, layout: Layout, data: bytes, room: int) -> Done:
    """Execute the requests of `data`, whole ones as long as the layout of the first says, as far as they are of that layout and the
    short way goes. The host's context is of their namespace. `room` is how many bytes of answers there is room for."""
    stride, key_length, value_length, _, _ = layout
    place: Context = host.flat_context
    _, store, _, _, _, log, _, _, _, adds, *_ = place
    if not (head == GET or (adds and head in (PUT, INCR))) or (head == PUT) != bool(value_length):
        return NOTHING  # before anything is taken apart
    key = data[REQUEST_BYTES : REQUEST_BYTES + key_length]
    entry = place[2][hash(key) & SHARD_MASK].get(key)
    if entry is not None and (entry[-1] >= PLAIN_MAX or (head == INCR and entry[-1] != COUNTER)):
        return NOTHING
    if len(data) >= STRIDES_MIN * stride and _all_alike(head, tail, stride, data):
        return _execute_long(host, head, layout, data, room)
    ids, keys, *texts = columns_of(head, tail, layout, data)
    if head == GET:
        return _get_all(host, ids, keys, room)
    first = log.next_index
    if head == PUT:
        done, grown = set_all(place, zip(keys, texts[0], strict=False), key_length, value_length)
        answers, size = in_words(ids[:done], 8, range(first, first + done)), 32
    else:
        values, grown = incr_all(place, keys, key_length)
        done = len(values)
        answers, size = in_words(ids[:done], 16, values, range(first, first + done)), 40
    log.next_index = first + done
    log.pending_bytes += done * (stride + RECORD_OVER_BYTES)
    store.bytes += grown
    return done, answers, size, room


def _execute_long(host: "Host", head: bytes, layout: Layout, data: bytes, room: int) -> Done:
    """As `execute`, where all of `data` is proven to be of the layout: the ids are never looked at by themselves."""
    stride, key_length, value_length, _, _ = layout
    place: Context = host.flat_context
    store, log = place[1], place[5]
    keys, *texts = _apart(data, ("32x", key_length, value_length, len(data) // stride), 2 if value_length else 1)
    if head == GET:
        return _get_long(host, stride, data, keys, room)
    first = log.next_index
    if head == PUT:
        if value_length <= SHORT_VALUE_BYTES:
            entries = _entries(first, len(keys), value_length, data, REQUEST_BYTES + key_length, stride)
            done, grown = _put_all(place, zip(keys, texts[0], entries, strict=False), key_length, value_length)
        else:
            done, grown = set_all(place, zip(keys, texts[0], strict=True), key_length, value_length)
        answers = versions(first, done, 8)
    else:
        values, grown = incr_all(place, keys, key_length)
        done = len(values)
        answers = versions(first, done, 16)
        memoryview(answers).cast("q")[3::5] = array("q", values)
    size = 24 + (8 if head == PUT else 16)
    _lay_ids(answers, size, data, stride, done)
    log.next_index = first + done
    log.pending_bytes += done * (stride + RECORD_OVER_BYTES)
    store.bytes += grown
    return done, answers, size, room


def versions(first: int, count: int, payload_length: int) -> bytearray:
    """So many answers, at most RUN_MAX, whose payloads end with the versions from `first` on; the rest of the payloads and the ids are
    zeros. Only the lowest byte differs in all of them; the others change where it is carried."""
    answers = bytearray(ANSWERED + bytes(8) + _WORD(payload_length) + bytes(payload_length - 8) + _WORD(first)) * count
    _lay_versions(answers, 24 + payload_length, first, count)
    return answers


def _lay_versions(pieces: bytearray, size: int, first: int, count: int) -> None:
    """Have `count` pieces of `size` bytes, all of which end with `first`, end with the versions from `first` on."""
    low, begin = first & 255, _WORD(first)
    pieces[size - 8 :: size] = _LOW[low : low + count]
    for carried in range(256 - low, count, 256):  # from here to the next carry the other bytes are these
        word, end = _WORD(first + carried), min(carried + 256, count)
        for at in range(1, 8):
            if word[at] != begin[at]:
                pieces[carried * size + size - 8 + at : end * size : size] = _SAME[word[at]][: end - carried]


def _entries(first: int, count: int, length: int, data: bytes, at: int, stride: int) -> Iterator[bytes]:
    """The entries (flo.store.kv) of `count` values of `length` bytes, with the versions from `first` on, and behind them some that mean
    nothing. The first value is at `at` in `data`, the next `stride` bytes further, and so on."""
    head, end = TOKENS[length] + CRLF, CRLF + _WORD(first)
    size = len(head) + length + len(end)
    made = bytearray(head + bytes(length) + end) * count
    for byte in range(length):
        made[len(head) + byte :: size] = data[at + byte :: stride]
    _lay_versions(made, size, first, count)
    made += bytes(-count % ENTRIES_AT_ONCE * size)  # so that one format takes all parts apart
    view, width = memoryview(made), ENTRIES_AT_ONCE * size
    parts = [view[begin : begin + width] for begin in range(0, len(made), width)]
    return chain.from_iterable(map(in_pieces, parts, repeat(size)))


def _put_all(place: Context, rows: Iterable[tuple[bytes, bytes, bytes]], key_size: int, size: int) -> tuple[int, int]:
    """As `set_all`, of each (key, value, entry): what it would make one by one is there. Its loop once more: one for both, to which each
    entry is handed, cost SET and kv_put 16 deep 1 to 3 % (docs/performance.md)."""
    _, _, shards, buried, grow, log, push, now, namespace, *_ = place
    before, grown, join = len(log.pending), 0, b"".join
    entry_size = len(TOKENS[size]) + 2 + size + FRAME_END_BYTES
    start = pack_start(HEADER_BYTES + key_size + size, KV_STRING, 0, key_size, namespace, now)
    for key, text, changed in rows:
        shard = shards[hash(key) & 255]
        entry = shard.get(key)
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
    return len(log.pending) - before, grown


def in_pieces(answers: Bytes, size: int) -> Sequence[bytes]:
    """Answers cut into pieces of so many bytes, all at once: a slice each costs twice as much."""
    form = (size, len(answers) // size)
    unpack = FORMATS.get(form) or remember(form, f"{size}s")
    return unpack(answers)


def _lay_ids(answers: bytearray, size: int, data: bytes, stride: int, count: int) -> None:
    """Put the ids of the first `count` requests of `data` into as many answers of `size` bytes each, where zeros stand in their place."""
    end, zeros = count * stride, _SAME[0]
    for at in range(8, 16):
        column = data[at:end:stride]
        if not zeros.startswith(column):  # the upper bytes of ids that clients count up are zeros
            answers[at::size] = column


def in_words(ids: tuple[bytes, ...], payload_length: int, *columns: Sequence[int]) -> bytes:
    """Answers that are words of eight bytes: head, the ids, the payload's length, a column of numbers for each word of the payload."""
    step, count = 3 + len(columns), len(ids)
    words = array("Q", (ANSWERED + bytes(8) + _WORD(payload_length) + bytes(payload_length)) * count)  # moved, never computed with
    words[1::step] = array("Q", b"".join(ids))
    for at, column in enumerate(columns, 3):
        words[at::step] = array("Q", array("q", column).tobytes())
    return words.tobytes()


def _get_all(host: "Host", ids: Iterable[bytes], keys: tuple[bytes, ...], room: int) -> Done:
    """kv_get of each key, the answers one by one."""
    shards, misses = host.flat_context[2], 0
    counters = host.counters
    answers: list[bytes] = []
    emit = answers.append
    for req_id, key in zip(ids, keys, strict=False):
        entry = shards[hash(key) & 255].get(key)
        if entry is None:
            misses += 1
            emit(MISSING_HEAD + req_id + MISSING_TAIL)
            continue
        if entry[-1] >= 2:  # PLAIN_MAX
            break
        length = len(entry)
        if length > UNCOUNTED_BYTES:
            room -= length
            if room < 0 and answers:
                break
            if length > ENTRY_BYTES_MAX:
                at = entry.index(10) + 1
                size = (length - at - 2).to_bytes(8, "little")
                emit(b"".join((ANSWERED, req_id, size, entry[-8:-1], b"\0", entry[at:-10])))
                continue
        pack, payload_length, at = ANSWERS[length]
        emit(pack(ANSWERED, req_id, payload_length, entry[-8:-1], entry[at:-10]))
    counters.hits += len(answers) - misses
    counters.misses += misses
    return len(answers), answers, 0, room


def _get_long(host: "Host", stride: int, data: bytes, keys: tuple[bytes, ...], room: int) -> Done:
    """kv_get of a long run's keys. Where the values are of one length, as mostly, the answers are one piece."""
    shards, count = host.flat_context[2], len(keys)
    entries = [shards[hash(key) & 255].get(key) for key in keys]
    length = len(entries[0] or b"")
    # large ones are not even put side by side
    if length <= UNCOUNTED_BYTES and all(entries) and [*map(len, entries)].count(length) == count:
        joined = b"".join(entries)
        if joined[length - 1 :: length].count(0) == count:  # no flags: then a version is what an entry ends with
            _, payload_length, at = ANSWERS[length]
            size = 24 + int.from_bytes(payload_length, "little")
            start = ANSWERED + bytes(8) + payload_length
            if size <= 24 + 8 + SHORT_VALUE_BYTES:
                answers = bytearray(start.ljust(size)) * count
                for to, source in enumerate((*range(length - 8, length), *range(at, length - 10)), 24):
                    answers[to::size] = joined[source::length]
            else:
                form = (at, length, count)
                unpack = FORMATS.get(form) or remember(form, f"{at}x{length - at - 10}s2x8s")
                found = unpack(joined)
                pieces = [start, b"", b""] * count
                pieces[1::3], pieces[2::3] = found[1::2], found[::2]
                answers = bytearray().join(pieces)
            _lay_ids(answers, size, data, stride, count)
            host.counters.hits += count
            return count, answers, size, room
    return _get_all(host, [data[at : at + 8] for at in range(8, len(data), stride)], keys, room)


# written out above: a global name costs a lookup
assert SHARD_MASK == 255 and PLAIN_MAX == 2 and RESPONSE_BYTES == 24 and len(ANSWERED) == 8
