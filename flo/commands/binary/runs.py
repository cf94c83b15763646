"""Runs: requests of one operation and one layout, as pipelines and crowds of clients send them, each kind executed in one go.

The sixteen bytes of a header behind the request's id (payload length, namespace, key length, options length) say how the whole request
is laid out. So they are looked up in `LAYOUTS`, and a compiled format takes ids, keys and values of a run out of the buffer in C. Its
answers are all of one length wherever that can be: then ids, versions and values are laid as columns between what is the same in all of
them, which costs a fifth of packing them one by one.

Another operation, options, flags, a key with a deadline, a missing piece end a run; flat.py goes on behind it, or the plain way does.
"""

import struct
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from flo.commands.context import Context
from flo.commands.host import RUN_MAX
from flo.commands.runs import UNCOUNTED_BYTES, incr_all, set_all
from flo.proto.binary import MAGIC, NOT_FOUND, OK, REQUEST_BYTES, RESPONSE_BYTES, encode_response
from flo.store.kv import COUNTER, FRAME_END_BYTES, PLAIN_MAX, SHARD_MASK

if TYPE_CHECKING:
    from flo.commands.host import Host

FLAT_PAYLOAD_BYTES_MAX = 2048  # larger requests go the plain way: their bytes cost more than the steps
LAYOUTS_MAX = 4096  # 1 MiB of formats; programs use a few sizes

_TAIL = struct.Struct("<I8sHH")  # payload length, namespace, key length, options length
_WORD = struct.Struct("<Q").pack
version_response = struct.Struct("<8s8sIxxxxQ").pack  # head, id, payload length, zeros, version
counter_response = struct.Struct("<8s8sIxxxxqQ").pack  # …, value, version

GET, PUT, INCR = (MAGIC + struct.pack("<HH", code, 0) for code in (0x10, 0x11, 0x10B))
ANSWERED = MAGIC + struct.pack("<HH", OK, 0)
_MISSING = encode_response(NOT_FOUND, 0, b"the key does not exist")
MISSING_HEAD, MISSING_TAIL = _MISSING[:8], _MISSING[16:]

# How requests with one tail are laid out: (bytes of one, key length, value length, namespace). A plain tuple unpacks fastest.
Layout = tuple[int, int, int, bytes]
LAYOUTS: dict[bytes, Layout] = {}
# What takes so many requests of one layout apart: one format for all of them, for `unpack` costs 30 ns a request and `iter_unpack` 100.
# By key length, value length and count; for entries of one length by where their values begin, as a negative, that length and count.
FORMATS: dict[tuple[int, int, int], Callable[[bytes], tuple[bytes, ...]]] = {}
FORMATS_MAX = 256  # 6 MB, were all of RUN_MAX requests

# What came of a run: how many requests were done, their answers as one piece, each of so many bytes, or one by one (0), and how many
# bytes of answers there is room for now
Done = tuple[int, bytes | list[bytes], int, int]
NOTHING: Done = (0, b"", 0, 0)


def layout_of(tail: bytes) -> Layout | None:
    """The layout that the last 16 bytes of a header say, None where it is not for the flat way. Remembers it."""
    if len(tail) < _TAIL.size:
        return None
    size, namespace, key_length, options_length = _TAIL.unpack(tail)
    if options_length or key_length > size or size > FLAT_PAYLOAD_BYTES_MAX:
        return None
    if len(LAYOUTS) >= LAYOUTS_MAX:
        LAYOUTS.clear()
    made = LAYOUTS[tail] = (REQUEST_BYTES + size, key_length, size - key_length, namespace)
    return made


def columns_of(head: bytes, tail: bytes, layout: Layout, data: bytes) -> list[tuple[bytes, ...]]:
    """The ids and keys, and the values where there are some, of the requests of `data` up to the first that does not begin with `head`
    or does not go on with `tail`. That they do is proven by putting the requests together again."""
    stride, key_length, value_length, _ = layout
    count, width = len(data) // stride, 3 if value_length else 2
    form = (key_length, value_length, count)
    unpack = FORMATS.get(form)
    if unpack is None:
        unpack = remember(form, f"8x8s16x{key_length}s" + (f"{value_length}s" if value_length else ""))
    found = unpack(data)
    columns = [found[at::width] for at in range(width)]
    pieces = [head, b"", tail, b"", b""][: width + 2] * count
    pieces[1 :: width + 2], pieces[3 :: width + 2] = columns[0], columns[1]
    if value_length:
        pieces[4::5] = columns[2]
    if b"".join(pieces) == data:
        return columns
    alike = 0
    while data.startswith(head, alike * stride) and data.startswith(tail, alike * stride + 16):
        alike += 1
    return [column[:alike] for column in columns]


def remember(form: tuple[int, int, int], one: str) -> Callable[[bytes], tuple[bytes, ...]]:
    """Make a format of so many times `one`."""
    if len(FORMATS) >= FORMATS_MAX:
        FORMATS.clear()
    made = FORMATS[form] = struct.Struct("<" + one * form[2]).unpack
    return made


# How the answer to a kv_get is made from an entry (`$<length>\r\n<value>\r\n<version>`, flo.store.kv), by the entry's length:
# (pack, payload length, where the value begins). `pack` takes head, id, payload length, the version's seven bytes, value.
ValueAnswer = tuple[Callable[..., bytes], bytes, int]
ANSWERS: list[ValueAnswer] = []
ENTRY_BYTES_MAX = 2066  # that of a value of FLAT_PAYLOAD_BYTES_MAX
assert FLAT_PAYLOAD_BYTES_MAX + 3 + len(b"%d" % FLAT_PAYLOAD_BYTES_MAX) + FRAME_END_BYTES + 1 == ENTRY_BYTES_MAX


def prepare() -> None:
    """Fill ANSWERS, before the first run: 3 ms that a server without binary clients does not spend."""
    if not ANSWERS:
        ANSWERS.extend(map(_value_answer, range(ENTRY_BYTES_MAX + 1)))


def _value_answer(entry_bytes: int) -> ValueAnswer:
    digits = 1
    while len(b"%d" % (entry_bytes - 3 - digits - FRAME_END_BYTES)) > digits:
        digits += 1
    length = max(entry_bytes - 3 - digits - FRAME_END_BYTES, 0)
    return struct.Struct(f"<8s8s8s7sx{length}s").pack, (8 + length).to_bytes(8, "little"), 3 + digits


def execute(host: "Host", head: bytes, tail: bytes, layout: Layout, data: bytes, room: int) -> Done:
    """Execute the requests of `data`, whole ones as long as the layout of the first says, as far as they are of that layout and the
    short way goes. The host's context is of their namespace. `room` is how many bytes of answers there is room for."""
    stride, key_length, value_length, _ = layout
    place: Context = host.flat_context
    _, store, _, _, _, log, _, _, _, adds, *_ = place
    if not (head == GET or (adds and head in (PUT, INCR))) or (head == PUT) != bool(value_length):
        return NOTHING  # before anything is taken apart
    key = data[REQUEST_BYTES : REQUEST_BYTES + key_length]
    entry = place[2][hash(key) & SHARD_MASK].get(key)
    if entry is not None and (entry[-1] >= PLAIN_MAX or (head == INCR and entry[-1] != COUNTER)):
        return NOTHING
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
    log.pending_bytes += 3 * done * stride  # an upper bound of what these requests appended
    store.bytes += grown
    return done, answers, size, room


def in_words(ids: tuple[bytes, ...], payload_length: int, *columns: Sequence[int]) -> bytes:
    """Answers that are words of eight bytes: head, the ids, the payload's length, a column of numbers for each word of the payload."""
    step, count = 3 + len(columns), len(ids)
    words = array("Q", (ANSWERED + bytes(8) + _WORD(payload_length) + bytes(payload_length)) * count)  # moved, never computed with
    words[1::step] = array("Q", b"".join(ids))
    pack = _PACKS[count] or _packs(count)
    for at, column in enumerate(columns, 3):
        words[at::step] = array("Q", pack(*column))
    return words.tobytes()


_PACKS: list[Callable[..., bytes] | None] = [None] * (RUN_MAX + 1)  # what packs so many numbers


def _packs(count: int) -> Callable[..., bytes]:
    made = _PACKS[count] = struct.Struct(f"<{count}q").pack
    return made


def _get_all(host: "Host", ids: tuple[bytes, ...], keys: tuple[bytes, ...], room: int) -> Done:
    shards, count, misses = host.flat_context[2], len(keys), 0
    entries = [shards[hash(key) & 255].get(key) for key in keys]
    counters = host.counters
    length = len(entries[0] or b"")
    # of one length, as mostly; large ones are not even put side by side
    if length <= UNCOUNTED_BYTES and all(entries) and [*map(len, entries)].count(length) == count:
        joined = b"".join(entries)
        if joined[length - 1 :: length].count(0) == count:  # no flags: then a version is what an entry ends with
            _, payload_length, at = ANSWERS[length]
            form = (-at, length, count)
            unpack = FORMATS.get(form) or remember(form, f"{at}x{length - at - 10}s2x8s")
            found = unpack(joined)
            pieces = [ANSWERED, b"", payload_length, b"", b""] * count
            pieces[1::5], pieces[3::5], pieces[4::5] = ids, found[1::2], found[::2]
            counters.hits += count
            return count, b"".join(pieces), 24 + int.from_bytes(payload_length, "little"), room
    answers: list[bytes] = []
    emit = answers.append
    for req_id, entry in zip(ids, entries, strict=False):
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


# written out above: a global name costs a lookup
assert SHARD_MASK == 255 and PLAIN_MAX == 2 and RESPONSE_BYTES == 24 and len(ANSWERED) == 8
