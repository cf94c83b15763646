"""What a start does with a log: the records' effect on the stores, many at a time.

`Loading` does to the stores what `Engine.apply` does, record by record, for the records that most logs consist of, three to ten times as
fast; the rest goes to `Engine.apply`. tests/ual/test_compaction.py holds the two equal. While it is at work the key-value stores' order of
keys and accounted bytes are not kept; `finish` makes them at once.

A batch is read record by record. But records that begin with the same twelve bytes (length, type, shape, length of the entity, namespace)
are laid out alike, and where several of them follow each other one compiled format takes them apart: a **run**. In long runs of messages
or stream records what must be the same is compared, and ids are taken out, by slices with a step, one byte of all of them at once. New
messages of a queue and new records of a stream are gathered on the way, run or not, out of batches and of bases, and reach the store as
columns when something comes that is neither those nor a value.
"""

import struct
from array import array
from collections.abc import Callable, Sequence

from flo.engine.background_load import LAZY_FILES_MAX, LAZY_VALUES_MIN, BackgroundLoad
from flo.engine.namespace import Namespace
from flo.errors import LogDamaged
from flo.store.kv import FLAGS_SHIFT, KIND_MASK, NOTED, SHARD_MASK, VERSION
from flo.store.stream import SEQ_BITS
from flo.ual.base import BaseFile
from flo.ual.block import Messages, Records
from flo.ual.columns import extend, from_bytes
from flo.ual.keyindex import KeyIndex
from flo.ual.record import (
    FAMILY_KV,
    FAMILY_MASK,
    HEADER,
    HEADER_BYTES,
    KV_COUNTER,
    KV_JSON,
    KV_STRING,
    MESSAGE_STATE,
    QUEUE_MESSAGE,
    RECORD_STATE,
    STREAM_ID,
    STREAM_RECORD,
    U16,
    U64,
    Record,
    decode,
)
from flo.ual.uniform_spans import LIKE, LIKE_BYTES, STRIDES_MIN, alike_places, count_alike

GATHERED_MAX = 1 << 14  # messages, or records: 130 KB, or 450, which stay in the cache until the store takes them
ALONE_MIN = 256  # records of a group that are worth a call of their own
RUN_SIZES = (8, 64, 512)  # records looked at in one go: after a whole run of one size, the next larger
FORMATS_RECORDS_MAX = 64 * RUN_SIZES[-1]  # of all formats together: 4 MB
AT_ONCE = bytes(MESSAGE_STATE.size)  # a message of priority 0 and without a delay
NOTHING_NOTED = b"\0"  # stands for the entry of a key that is missing

_FLAGS = {kind: (kind & KIND_MASK) << FLAGS_SHIFT for kind in (KV_STRING, KV_COUNTER, KV_JSON)}
_ID_AND_STATE = struct.Struct("<QQBQ")  # of a stream's record: ms, seq, kind, number among all
assert _ID_AND_STATE.size == STREAM_ID.size + RECORD_STATE.size

# What takes the records of a run apart: (format, pieces a record), by the type and the lengths of what is cut
Form = tuple[Callable[[bytes], tuple[bytes, ...]], int]


class Loading:
    """One start. It is the log's `flo.ual.recovery.Loader`."""

    def __init__(
        self,
        apply: Callable[[int, Record], None],
        find: Callable[[int], Namespace | None],
        begin: Callable[[list[KeyIndex]], BackgroundLoad] | None = None,
    ) -> None:
        """`apply` is the engine's; `find` gives the namespace with an id. `begin` starts a background load; None: read all values now."""
        self.apply = apply
        self._find = find
        self._begin = begin
        self._background: BackgroundLoad | None = None
        self._special: set[Namespace] = set()  # those with deadlines or deletions among their keys
        self._forms: dict[tuple[int, int, int, int], Form] = {}
        self._formed = 0  # records they are for, in all
        # messages and records on their way to a store: whose, and their columns
        self._queue: tuple[int, bytes] | None = None  # namespace, name
        self._seqs: array[int] = array("Q")
        self._stream: tuple[int, bytes] | None = None
        self._indexes: array[int] = array("Q")
        self._ms: array[int] = array("Q")
        self._stream_seqs: array[int] = array("Q")
        self._sizes: array[int] = array("I")
        self._added = 0

    def defer_values(self, bases: Sequence[Callable[[], BaseFile]]) -> bool:
        """As in Loader: the values of bases may be read later, where all have an index, and there are many in not too many files."""
        opened: list[BaseFile] = []
        values, may = 0, self._begin is not None
        try:
            for opening in bases:
                file = opening()
                opened.append(file)
                if file.has_index:
                    file.keys()  # damage anywhere is found by every start
                may = may and file.has_index
                if may and file.value_count and len(opened) <= LAZY_FILES_MAX + 1:  # one too many is enough to know
                    values += file.value_count
                else:
                    opened.pop().close()
            if self._begin is not None and may and values >= LAZY_VALUES_MIN and len(opened) <= LAZY_FILES_MAX:
                self._background, opened = self._begin([KeyIndex(file) for file in opened]), []
        finally:
            for file in opened:
                file.close()
        return self._background is not None

    def batch(self, first: int, count: int, body: bytes, base: int, offsets: "array[int]") -> None:
        """As in Loader. One loop, flat, because a log of millions is read by it: 0.7 us a value, and as much again for the cache misses of
        a large store."""
        placed = offsets.append
        known = -1
        special = False
        at, size, index, end_index = 0, len(body), first, first + count
        run_from = first  # where the next look for a run is worth it
        unpack, pack, flags, join = LIKE.unpack_from, VERSION.pack, _FLAGS, b"\r\n".join
        while index < end_index:
            if at + HEADER_BYTES > size:
                raise LogDamaged("the batch holds fewer records than it says.")
            length, kind, shape, key_length, number = unpack(body, at)
            start, end = at + HEADER_BYTES, at + length
            middle = start + key_length
            if shape or not middle <= end <= size:
                placed(base + at)
                self.other(index, decode(body, at))
                known = -1
                index += 1
                at += max(length, HEADER_BYTES)
                continue
            if index >= run_from and body.startswith(body[at : at + LIKE_BYTES], end):
                done = self._run(index, end_index - index, body, at)
                if done < RUN_SIZES[1]:
                    run_from = index + done + RUN_SIZES[1]
                if done:
                    extend(offsets, base + at, length, done)
                    index += done
                    at += done * length
                    continue
            placed(base + at)
            if kind in flags:
                if number != known:
                    namespace = self._find(number)
                    if namespace is None:
                        self.other(index, decode(body, at))
                        index += 1
                        at = end
                        continue
                    known, special, store = number, namespace in self._special, namespace.kv.store
                    shards, buried = store.shards, store.buried
                key = body[start:middle]
                shard = shards[hash(key) & SHARD_MASK]
                if special and (dict.get(shard, key, NOTHING_NOTED)[-1] & NOTED or key in buried):
                    store.put(index, key, body[middle:end], kind & KIND_MASK, 0)
                else:
                    shard[key] = join((b"$%d" % (end - middle), body[middle:end], pack(index | flags[kind])))
            elif kind == QUEUE_MESSAGE and body.startswith(AT_ONCE, middle) and self._enter_queue(number, body[start + 2 : middle - 8]):
                self._seqs.append(index)
            elif kind == STREAM_RECORD and self._enter_stream(number, body[start + 2 : middle - STREAM_ID.size]):
                ms, seq, _, added = _ID_AND_STATE.unpack_from(body, middle - STREAM_ID.size)
                self._indexes.append(index)
                self._ms.append(ms)
                self._stream_seqs.append(seq)
                self._sizes.append(end - middle - RECORD_STATE.size)
                self._added = added
            else:
                self.other(index, decode(body, at))
                known = -1
            index += 1
            at = end
        if at != size:
            raise LogDamaged("the batch's records do not add up to its length.")
        if len(self._seqs) > GATHERED_MAX or len(self._ms) > GATHERED_MAX:
            self.finish()

    def _run(self, first: int, count: int, body: bytes, at: int) -> int:
        """Apply records from offset `at` on that are laid out as the first is, up to `count`; returns how many: none where they
        are not of a kind that comes in runs."""
        length, kind, _, key_length, number, _, _ = HEADER.unpack_from(body, at)
        most = min(count, (len(body) - at) // length)
        if kind in (QUEUE_MESSAGE, STREAM_RECORD) and most >= STRIDES_MIN:
            return self._long_run(first, most, body, at)
        if kind == STREAM_RECORD:
            apply = self._run_of_records
        elif kind == QUEUE_MESSAGE:
            apply = self._run_of_messages
        elif kind in _FLAGS:
            apply = self._run_of_values
        else:
            return 0
        like = body[at : at + LIKE_BYTES]
        done, level = 0, 0
        while (size := RUN_SIZES[level]) <= min(count - done, (len(body) - at) // length):
            unpack, pieces = self._forms.get((kind, key_length, length, size)) or self._form(kind, key_length, length, size)
            found = unpack(body[at : at + size * length])
            heads = found[::pieces]
            alike = size
            if heads.count(like) != size:
                alike = next(place for place in range(size) if heads[place] != like)
                if not alike:
                    break
                found = found[: alike * pieces]
            columns = [found[place::pieces] for place in range(1, pieces)]
            took = apply(first + done, number, kind, length - HEADER_BYTES - key_length, columns)
            done += took
            if took < size:
                break
            at += size * length
            level = min(level + 1, len(RUN_SIZES) - 1)
        return done

    def _long_run(self, first: int, count: int, body: bytes, at: int) -> int:
        """`_run` of messages or stream records."""
        length, kind, _, key_length, number, _, _ = HEADER.unpack_from(body, at)
        same = alike_places(kind, key_length, length)
        middle = HEADER_BYTES + key_length
        id_bytes = U64.size if kind == QUEUE_MESSAGE else STREAM_ID.size
        id_at = middle - id_bytes
        if kind == QUEUE_MESSAGE and not body.startswith(U64.pack(first) + AT_ONCE, at + id_at):
            return 0
        count = count_alike(body, at, length, same, count)
        name = body[at + HEADER_BYTES + U16.size : at + id_at]
        if kind == QUEUE_MESSAGE:
            if not self._enter_queue(number, name):
                return 0
            extend(self._seqs, first, 1, count)
            return count
        if not self._enter_stream(number, name):
            return 0
        ids = bytearray(id_bytes * count)
        for place in range(id_bytes):
            ids[place::id_bytes] = body[at + id_at + place : at + count * length : length]
        halves = from_bytes("Q", bytes(ids))
        extend(self._indexes, first, 1, count)
        self._ms += halves[::2]
        self._stream_seqs += halves[1::2]
        self._sizes += array("I", (length - middle - RECORD_STATE.size,)) * count
        self._added = RECORD_STATE.unpack_from(body, at + (count - 1) * length + middle)[1]
        return count

    def _form(self, kind: int, key_length: int, length: int, size: int) -> Form:
        """What takes `size` such records apart."""
        rest = length - HEADER_BYTES - key_length
        cuts = [key_length, rest]  # key, value
        if kind == QUEUE_MESSAGE:
            cuts = [key_length - U64.size, U64.size, len(AT_ONCE)]  # container, seq, state
        elif kind == STREAM_RECORD:
            cuts = [key_length - STREAM_ID.size, STREAM_ID.size, RECORD_STATE.size]  # container, id, state
        over = key_length + rest - sum(cuts)
        one = f"{LIKE_BYTES}s{HEADER_BYTES - LIKE_BYTES}x" + "".join(f"{cut}s" for cut in cuts) + f"{over}x"
        if min(*cuts, over) < 0:
            raise LogDamaged(f"a record of type {kind:#x} and {length} bytes cannot have an entity of {key_length}.")
        self._formed += size
        if self._formed > FORMATS_RECORDS_MAX:
            self._forms.clear()
            self._formed = size
        made = self._forms[kind, key_length, length, size] = (struct.Struct("<" + one * size).unpack, 1 + len(cuts))
        return made

    def _run_of_values(self, first: int, number: int, kind: int, size: int, columns: list[tuple[bytes, ...]]) -> int:
        namespace = self._find(number)
        if namespace is None or namespace in self._special:
            return 0
        shards, start, end, version, flags = namespace.kv.store.shards, b"$%d\r\n" % size, b"\r\n", VERSION.pack, _FLAGS[kind]
        keys, values = columns
        for index, key, value in zip(range(first | flags, (first | flags) + len(keys)), keys, values, strict=True):
            shards[hash(key) & SHARD_MASK][key] = b"".join((start, value, end, version(index)))
        return len(keys)

    def _run_of_messages(self, first: int, number: int, kind: int, size: int, columns: list[tuple[bytes, ...]]) -> int:
        containers, seqs, states = columns
        count = len(containers)
        if containers.count(containers[0]) != count or states.count(AT_ONCE) != count or seqs[0] != U64.pack(first):
            return 0
        if not self._enter_queue(number, containers[0][2:]):
            return 0
        self._seqs.extend(range(first, first + count))
        return count

    def _run_of_records(self, first: int, number: int, kind: int, size: int, columns: list[tuple[bytes, ...]]) -> int:
        containers, ids, states = columns
        count = len(containers)
        if containers.count(containers[0]) != count or not self._enter_stream(number, containers[0][2:]):
            return 0
        halves = from_bytes("Q", b"".join(ids))
        self._indexes.extend(range(first, first + count))
        self._ms += halves[::2]
        self._stream_seqs += halves[1::2]
        self._sizes += array("I", (size - RECORD_STATE.size,)) * count
        self._added = RECORD_STATE.unpack(states[-1])[1]
        return count

    def _enter_queue(self, number: int, name: bytes) -> bool:
        """The messages that are gathered from now on are of this queue. Says whether there is its namespace."""
        if self._queue != (number, name):
            self._deliver_messages()
            if self._find(number) is None:
                return False
            self._queue = (number, name)
        return True

    def _enter_stream(self, number: int, name: bytes) -> bool:
        """As `_enter_queue`, of the records of a stream."""
        if self._stream != (number, name):
            self._deliver_records()
            if self._find(number) is None:
                return False
            self._stream = (number, name)
        return True

    def finish(self) -> None:
        """Have the stores hold what was gathered."""
        self._deliver_messages()
        self._deliver_records()

    def _deliver_messages(self, priority: int = 0) -> None:
        if self._queue is not None:
            (number, name), seqs = self._queue, self._seqs
            self._queue, self._seqs = None, array("Q")
            namespace = self._find(number)
            assert namespace is not None, "only a record by itself deletes one, and all is delivered before that"
            store = namespace.queues.store
            if len(seqs) > 1:
                store.extend(name, priority, seqs)
            else:
                store.message(seqs[0], name, priority, 0)

    def _deliver_records(self) -> None:
        if self._stream is not None:
            (number, name), columns = self._stream, (self._indexes, self._ms, self._stream_seqs, self._sizes)
            self._stream = None
            self._indexes, self._ms, self._stream_seqs, self._sizes = array("Q"), array("Q"), array("Q"), array("I")
            namespace = self._find(number)
            assert namespace is not None, "as above"
            store = namespace.streams.store
            indexes, ms, seqs, sizes = columns
            if len(ms) > 1:
                store.extend(name, *columns, self._added)
            else:
                store.append(indexes[0], name, ms[0] << SEQ_BITS | seqs[0], self._added, sizes[0])

    def other(self, index: int, record: Record) -> None:
        """One record by itself."""
        self.finish()
        if record.type & FAMILY_MASK == FAMILY_KV:
            namespace = self._find(record.namespace)
            if namespace is not None:
                self._special.add(namespace)
            if self._background is not None and self._background.is_newer(record.namespace, record.entity, index):
                return
        self.apply(index, record)

    def values(self, namespace: int, pieces: list[bytes]) -> None:
        """Values of a base: key, entry, key, entry, and so on. The namespace may have been deleted since."""
        found = self._find(namespace)
        if found is not None:
            found.kv.store.load(pieces, found in self._special)

    def group(self, group: Messages | Records) -> None:
        """Messages or stream records of a base. The namespace may have been deleted since."""
        if isinstance(group, Messages):
            if group.priority or (self._seqs and group.seqs[0] <= self._seqs[-1]):
                self._deliver_messages()
            if not self._enter_queue(group.namespace, group.name):
                return
            self._seqs += group.seqs
            if group.priority or len(self._seqs) > GATHERED_MAX:
                self._deliver_messages(group.priority)
        elif len(group.ms) >= ALONE_MIN:  # as it is: to gather it first would be one copy more
            self._deliver_records()
            namespace = self._find(group.namespace)
            if namespace is not None:
                namespace.streams.store.extend(group.name, group.indexes, group.ms, group.seqs, group.sizes, group.added)
        elif self._enter_stream(group.namespace, group.name):
            self._indexes += group.indexes
            self._ms += group.ms
            self._stream_seqs += group.seqs
            self._sizes += group.sizes
            self._added = group.added
            if len(self._ms) > GATHERED_MAX:
                self._deliver_records()
