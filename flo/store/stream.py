"""The streams of one namespace: where each record is in the log; counts, bounds and consumer groups.

An **id** is one int here, `ms << 64 | seq`; `flo.engine.stream` converts it from and to `ms-seq`.

    Stream.chunks   the records, ascending, in chunks; none is empty
    Chunk           four arrays, one item a record: ms u64, seq u64, index in the log u64, payload's length u32

That is 28 bytes a record; the payload is read from the log. Any id is found by two bisections, so the middle of a stream costs as much as
its ends. Indexes ascend with ids, so a trim removes everything below an index.
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import Any

from flo.store.deadlines import Deadlines
from flo.store.group import GROUP_BYTES, Bytes, Dead, Group, Pending
from flo.store.lifetimes import Lifetimes
from flo.store.timers import Timers

SEQ_BITS = 64
SEQ_MASK = ID_HALF_MAX = (1 << SEQ_BITS) - 1
ID_MAX = (1 << 2 * SEQ_BITS) - 1
CHUNK_RECORDS = 512  # a deletion in the middle moves at most so many records, in under a us

# By sys.getsizeof and the growth of RSS over a million records.
RECORD_BYTES = 34
STREAM_BYTES = 950  # besides its name, which is stored twice
MERGE_RECORDS = CHUNK_RECORDS // 2  # two neighbours with at most so many records together become one chunk


class Chunk:
    """Neighbouring records of a stream."""

    __slots__ = ("bytes", "indexes", "ms", "seqs", "sizes")

    def __init__(self) -> None:
        self.ms: array[int] = array("Q")
        self.seqs: array[int] = array("Q")
        self.indexes: array[int] = array("Q")
        self.sizes: array[int] = array("I")
        self.bytes: int = 0  # of payloads

    def __len__(self) -> int:
        return len(self.ms)

    def first(self) -> int:
        """Its lowest id."""
        return self.ms[0] << SEQ_BITS | self.seqs[0]

    def last(self) -> int:
        """Its highest id."""
        return self.ms[-1] << SEQ_BITS | self.seqs[-1]

    def id_at(self, at: int) -> int:
        """The id of the record at a place."""
        return self.ms[at] << SEQ_BITS | self.seqs[at]

    def place(self, ident: int) -> int:
        """The place of the first record with this id or a higher one."""
        ms = ident >> SEQ_BITS
        low = bisect_left(self.ms, ms)
        return bisect_left(self.seqs, ident & SEQ_MASK, low, bisect_right(self.ms, ms, low))

    def drop(self, start: int, end: int) -> int:
        """Remove the records from place `start` up to `end`; returns the bytes of their payloads."""
        size = sum(self.sizes[start:end])
        self.bytes -= size
        del self.ms[start:end], self.seqs[start:end], self.indexes[start:end], self.sizes[start:end]
        count = len(self.ms)
        if not count & (count - 1):  # an array that loses a few items at a time keeps its memory: a copy at each halving gives it back
            self.ms, self.seqs, self.indexes, self.sizes = self.ms[:], self.seqs[:], self.indexes[:], self.sizes[:]
        return size

    def take_over(self, other: "Chunk") -> None:
        """Append the records of the next chunk."""
        self.ms += other.ms
        self.seqs += other.seqs
        self.indexes += other.indexes
        self.sizes += other.sizes
        self.bytes += other.bytes


class Stream:
    """One stream. `last`, `added` and `max_deleted` outlive the records they came from."""

    # fmt: off
    __slots__ = (
        "added", "age_due", "bytes", "chunks", "count", "declared", "groups", "head", "last", "max_age", "max_bytes", "max_deleted",
        "max_len", "name",
    )
    # fmt: on

    max_len: int  # a bound; 0 for no bound, as below
    max_age: int  # ms
    max_bytes: int

    def __init__(self, name: Bytes) -> None:
        self.name: bytes = name
        self.head: bytes = len(name).to_bytes(2, "little") + name  # the first bytes of its entities in the log
        self.chunks: list[Chunk] = []
        self.count: int = 0
        self.bytes: int = 0  # of payloads
        self.last: int = 0  # the highest id that the stream ever had
        self.added: int = 0  # the number of records that the stream ever had
        self.max_deleted: int = 0  # the highest id that was deleted singly; 0 for none
        self.declared: bool = False  # the stream exists without records too
        self.max_len = self.max_age = self.max_bytes = 0
        self.age_due: int = 0  # when its age is checked next; 0 for never
        self.groups: dict[bytes, Group] = {}

    @property
    def exists(self) -> bool:
        """Whether clients see the stream."""
        return self.declared or self.count > 0

    @property
    def plain(self) -> bool:
        """Whether the stream has records and no bounds."""
        return self.count > 0 and not (self.max_len or self.max_bytes or self.max_age)

    @property
    def first(self) -> int:
        """The lowest id; 0 if the stream is empty."""
        return self.chunks[0].first() if self.chunks else 0

    def group(self, name: Bytes) -> Group | None:
        """The group of that name; None if there is none."""
        found = self.groups.get(name)
        return found if found is not None and found.declared else None

    # -- looking -----------------------------------------------------------------------------------

    def place(self, ident: int) -> tuple[int, int]:
        """(chunk, place in it) of the first record with this id or a higher one; (number of chunks, 0) if there is none."""
        at = max(bisect_right(self.chunks, ident, key=Chunk.first) - 1, 0)
        if at == len(self.chunks):
            return at, 0
        place = self.chunks[at].place(ident)
        return (at, place) if place < len(self.chunks[at]) else (at + 1, 0)

    def find(self, ident: int) -> int:
        """The index of the record with this id; 0 if there is none."""
        at, place = self.place(ident)
        if at < len(self.chunks) and self.chunks[at].id_at(place) == ident:
            return self.chunks[at].indexes[place]
        return 0

    def ascending(self, start: int, end: int, limit: int) -> list[tuple[int, int]]:
        """(id, index) of up to `limit` records from id `start` to `end`, both included."""
        found: list[tuple[int, int]] = []
        at, place = self.place(start)
        while at < len(self.chunks) and len(found) < limit:
            chunk = self.chunks[at]
            stop = min(len(chunk), place + limit - len(found))
            for ms, seq, index in zip(chunk.ms[place:stop], chunk.seqs[place:stop], chunk.indexes[place:stop], strict=True):
                ident = ms << SEQ_BITS | seq
                if ident > end:
                    return found
                found.append((ident, index))
            at, place = at + 1, 0
        return found

    def descending(self, start: int, end: int, limit: int) -> list[tuple[int, int]]:
        """(id, index) of up to `limit` records from id `end` down to `start`, both included."""
        found: list[tuple[int, int]] = []
        at, place = self.place(end + 1)
        while len(found) < limit:
            if place == 0:
                at -= 1
                if at < 0:
                    break
                place = len(self.chunks[at])
            chunk = self.chunks[at]
            place -= 1
            ident = chunk.id_at(place)
            if ident < start:
                break
            found.append((ident, chunk.indexes[place]))
        return found

    def place_of_count(self, keep: int) -> tuple[int, int]:
        """The place of the first of the last `keep` records."""
        surplus = max(self.count - keep, 0)
        at = 0
        while at < len(self.chunks) and surplus >= len(self.chunks[at]):
            surplus -= len(self.chunks[at])
            at += 1
        return at, surplus

    def place_of_bytes(self, keep: int) -> tuple[int, int]:
        """The place of the first record that stays so that the payloads that stay are at most `keep` bytes; with 0 none stays."""
        if not keep:
            return len(self.chunks), 0
        surplus = self.bytes - keep
        at = 0
        while at < len(self.chunks) and 0 < surplus >= self.chunks[at].bytes:
            surplus -= self.chunks[at].bytes
            at += 1
        if surplus <= 0 or at == len(self.chunks):
            return at, 0
        for place, size in enumerate(self.chunks[at].sizes):
            if surplus <= 0:
                return at, place
            surplus -= size
        return at + 1, 0

    def place_of_whole(self, at: int, limit: int) -> tuple[int, int]:
        """The start of chunk `at`, or of an earlier chunk if more than `limit` records are before `at`."""
        count = 0
        for number in range(at):
            count += len(self.chunks[number])
            if count > limit:
                return number, 0
        return at, 0

    def before(self, at: int, place: int) -> int:
        """The number of records before a place."""
        return sum(map(len, self.chunks[:at])) + place

    # -- what records do ---------------------------------------------------------------------------

    def append(self, index: int, ident: int, added: int, size: int) -> None:
        """Record `index` of the log is the stream record with this id, the `added`th ever; its payload has `size` bytes."""
        chunks = self.chunks
        chunk = chunks[-1] if chunks else None
        if chunk is None or len(chunk.ms) >= CHUNK_RECORDS:
            chunk = Chunk()
            chunks.append(chunk)
        chunk.ms.append(ident >> SEQ_BITS)
        chunk.seqs.append(ident & SEQ_MASK)
        chunk.indexes.append(index)
        chunk.sizes.append(size)
        chunk.bytes += size
        self.count += 1
        self.bytes += size
        self.last = ident
        self.added = added

    def extend(self, indexes: "array[int]", ms: "array[int]", seqs: "array[int]", sizes: "array[int]", added: int) -> None:
        """`append` for many, in order; `added` is the last one's. The stream's own record, with counts, may come first."""
        chunks, at = self.chunks, 0
        while at < len(ms):
            if not chunks or len(chunks[-1].ms) >= CHUNK_RECORDS:
                chunks.append(Chunk())
            chunk = chunks[-1]
            end = at + CHUNK_RECORDS - len(chunk.ms)
            columns = ms[at:end], seqs[at:end], indexes[at:end], sizes[at:end]
            size = sum(columns[3])
            if chunk.ms:
                chunk.ms += columns[0]
                chunk.seqs += columns[1]
                chunk.indexes += columns[2]
                chunk.sizes += columns[3]
            else:
                chunk.ms, chunk.seqs, chunk.indexes, chunk.sizes = columns
            chunk.bytes += size
            self.bytes += size
            at = end
        self.count += len(ms)
        self.last = max(self.last, ms[-1] << SEQ_BITS | seqs[-1])
        self.added = max(self.added, added)

    def remove(self, ident: int) -> None:
        """The record with this id is gone."""
        at, place = self.place(ident)
        if at < len(self.chunks) and self.chunks[at].id_at(place) == ident:
            chunk = self.chunks[at]
            self.bytes -= chunk.drop(place, place + 1)
            self.count -= 1
            if not chunk.ms:
                del self.chunks[at]
                return
            for first in (at - 1, at):
                pair = self.chunks[max(first, 0) : first + 2]
                if len(pair) == 2 and len(pair[0]) + len(pair[1]) <= MERGE_RECORDS:
                    pair[0].take_over(pair[1])
                    del self.chunks[first + 1]
                    return

    def drop_below(self, index: int) -> None:
        """Every record with a lower index is gone."""
        chunks = self.chunks
        whole = bisect_left(chunks, index, key=lambda chunk: chunk.indexes[-1])
        for chunk in chunks[:whole]:
            self.count -= len(chunk)
            self.bytes -= chunk.bytes
        del chunks[:whole]
        if chunks:
            place = bisect_left(chunks[0].indexes, index)
            if place:
                self.count -= place
                self.bytes -= chunks[0].drop(0, place)


class StreamStore:
    """The streams by name, and their timers. The methods that change it apply records, replayed or live."""

    def __init__(self) -> None:
        numbers: dict[int, Group] = {}
        self.streams: dict[bytes, Stream] = {}
        self.numbers = numbers  # groups by number, with those that are gone and not freed yet
        # not through self: a store dropped with its namespace must not be in a cycle, since nothing collects cycles
        self.timers: Timers = Timers(lambda item: _deadline(numbers, item))
        self.ages: Deadlines[bytes] = Deadlines()  # streams with a bound on age, by the time when their oldest record exceeds it
        self.lifetimes: Lifetimes = Lifetimes()
        self.garbage: list[Group] = []  # to be freed in slices
        # Totals over the streams and groups, kept so that a report need not walk them. The records' bytes follow from theirs.
        self.records: int = 0
        self.pending: int = 0  # deliveries that are not acknowledged
        self.dead: int = 0  # dead letters of groups
        self._other_bytes = 0  # of all but records
        self._next_number = 1

    def find(self, name: bytes) -> Stream | None:
        """The stream of that name, if clients see it."""
        found = self.streams.get(name)
        return found if found is not None and found.exists else None

    def open(self, name: bytes) -> Stream:
        """The stream of that name, seen by clients or not; makes it if there is none."""
        found = self.streams.get(name)
        if found is None:
            found = self.streams[name] = Stream(name)
            self._other_bytes += STREAM_BYTES + 2 * len(name)
        return found

    @property
    def group_count(self) -> int:
        """How many groups all streams have."""
        return len(self.numbers) - len(self.garbage)

    @property
    def item_bytes(self) -> int:
        """Bytes of memory accounted to streams, records and groups, without their timers."""
        return self._other_bytes + RECORD_BYTES * self.records

    @property
    def accounted(self) -> int:
        """Bytes of memory accounted to all of it."""
        return self.item_bytes + self.timers.bytes + self.ages.bytes + self.lifetimes.bytes

    def open_group(self, name: bytes, group: bytes) -> Group:
        """The group, declared or not; makes it if there is none: its consumers' records may come before its own."""
        stream = self.open(name)
        found = stream.groups.get(group)
        if found is None:
            found = stream.groups[group] = Group(stream.name, group, self._next_number)
            self.numbers[self._next_number] = found
            self._next_number += 1
            self._other_bytes += GROUP_BYTES + len(group)
        return found

    # -- records and the stream itself ---------------------------------------------------------------

    def append(self, index: int, name: bytes, ident: int, added: int, size: int) -> Stream:
        """A stream record was appended."""
        stream = self.streams.get(name)
        if stream is not None and ident <= stream.last:
            self._make_way(stream, ident, index)
            stream = self.streams.get(name)
        if stream is None:
            stream = self.open(name)
        self.add(stream, index, ident, added, size)
        if stream.max_age and not stream.age_due:
            self._watch_age(stream)
        return stream

    def add(self, stream: Stream, index: int, ident: int, added: int, size: int) -> None:
        """`append` to an existing stream without a bound on age."""
        stream.append(index, ident, added, size)
        self.records += 1

    def extend(self, name: bytes, indexes: "array[int]", ms: "array[int]", seqs: "array[int]", sizes: "array[int]", added: int) -> None:
        """`append` for many records of one stream."""
        stream = self.open(name)
        first = ms[0] << SEQ_BITS | seqs[0]
        if first <= stream.last:
            self._make_way(stream, first, indexes[0])
            stream = self.open(name)
        stream.extend(indexes, ms, seqs, sizes, added)
        self.records += len(ms)
        if not stream.age_due:
            self._watch_age(stream)

    def _make_way(self, stream: Stream, ident: int, index: int) -> None:
        """Make room for record `index` with this id: if the stream has one as high, damage lost its deletion in between, so trim it."""
        if stream.chunks and stream.chunks[-1].last() >= ident:
            self.trim(stream.name, index)

    def remove(self, name: bytes, ident: int) -> None:
        """A record was deleted."""
        stream = self.streams.get(name)
        if stream is not None:
            count = stream.count
            stream.remove(ident)
            self.records -= count - stream.count
            self._forget_if_nothing(stream)

    def declare(
        self, name: bytes, last: int, added: int, max_deleted: int, max_len: int, max_age: int, max_bytes: int, deadline: int
    ) -> None:
        """The stream exists without records too, with these counts and bounds. All of it is dropped at `deadline`; 0 for never."""
        stream = self.open(name)
        stream.declared = True
        self.lifetimes.set(stream.name, deadline)
        stream.last, stream.added, stream.max_deleted = max(last, stream.last), max(added, stream.added), max_deleted
        stream.max_len, stream.max_age, stream.max_bytes = max_len, max_age, max_bytes
        if stream.age_due:
            self.ages.remove(stream.age_due, name)
            stream.age_due = 0
        self._watch_age(stream)

    def trim(self, name: bytes, index: int) -> None:
        """The records below an index are gone."""
        stream = self.streams.get(name)
        if stream is not None:
            count = stream.count
            stream.drop_below(index)
            self.records -= count - stream.count
            self._forget_if_nothing(stream)

    def undeclare(self, name: bytes) -> None:
        """Everything of the stream besides its records is gone; the members of its groups have gone before."""
        stream = self.streams.get(name)
        if stream is None:
            return
        stream.declared = False
        self.lifetimes.set(name, 0)
        stream.max_len = stream.max_age = stream.max_bytes = stream.max_deleted = stream.last = stream.added = 0
        if stream.age_due:
            self.ages.remove(stream.age_due, name)
            stream.age_due = 0
        for group in tuple(stream.groups):
            self.drop_group(name, group)
        self._forget_if_nothing(stream)

    def _forget_if_nothing(self, stream: Stream) -> None:
        if not stream.exists and not stream.groups and self.streams.get(stream.name) is stream:
            del self.streams[stream.name]
            self._other_bytes -= STREAM_BYTES + 2 * len(stream.name)
            if stream.age_due:
                self.ages.remove(stream.age_due, stream.name)
                stream.age_due = 0

    def _watch_age(self, stream: Stream) -> None:
        if stream.max_age and stream.count:
            stream.age_due = stream.chunks[0].ms[0] + stream.max_age
            self.ages.add(stream.age_due, stream.name)

    def aged(self, now: int, limit: int) -> list[Stream]:
        """Up to `limit` streams whose age is to be checked; the caller then calls `age_looked_at`."""
        return [self.streams[name] for name in self.ages.due(now, limit)]

    def age_looked_at(self, stream: Stream) -> None:
        """The age was checked: check again when the record that is the oldest now exceeds it."""
        if stream.age_due:
            self.ages.remove(stream.age_due, stream.name)
            stream.age_due = 0
            self._watch_age(stream)

    # -- groups --------------------------------------------------------------------------------------

    def pend(self, name: bytes, group: bytes, ident: int, pending: Pending) -> None:
        """A record is pending with a consumer of a group, or the consumer has changed."""
        opened = self.open_group(name, group)
        self._other_bytes += self._forget_delivery(opened, ident)
        self._other_bytes += opened.pend(ident, pending)
        self.pending += 1
        if pending.deadline:
            self.timers.add(pending.deadline, opened.number << 2 * SEQ_BITS | ident)

    def end(self, name: bytes, group: bytes, ident: int) -> None:
        """A record is neither pending nor a dead letter any more."""
        opened = self.open_group(name, group)
        self._other_bytes += self._forget_delivery(opened, ident)
        self._forget_group_if_nothing(name, opened)

    def die(self, name: bytes, group: bytes, ident: int, dead: Dead) -> None:
        """A record became a dead letter of the group."""
        opened = self.open_group(name, group)
        self._other_bytes += self._forget_delivery(opened, ident)
        self._other_bytes += opened.die(ident, dead)
        self.dead += 1

    def _forget_delivery(self, group: Group, ident: int) -> int:
        """Drop a record from the group's pending ones and dead letters; returns the change in bytes."""
        pending = group.pending.get(ident)
        if pending is not None:
            self.pending -= 1
            if pending.deadline:
                self.timers.remove(pending.deadline, group.number << 2 * SEQ_BITS | ident)
        elif group.dead and ident in group.dead:
            self.dead -= 1
        return group.forget(ident)

    def consume(self, name: bytes, group: bytes, consumer: bytes, time: int) -> None:
        """The group has a consumer."""
        opened = self.open_group(name, group)  # this changes `bytes` too
        self._other_bytes += opened.consume(consumer, time)

    def dismiss(self, name: bytes, group: bytes, consumer: bytes) -> None:
        """The group does not have the consumer any more."""
        opened = self.open_group(name, group)
        self._other_bytes += opened.dismiss(consumer)
        self._forget_group_if_nothing(name, opened)

    def clear_group(self, name: bytes, group: bytes) -> None:
        """A group's consumers and pending records are gone. The old group is freed in slices; an empty one takes its place."""
        stream = self.streams.get(name)
        old = stream.groups.pop(group, None) if stream is not None else None
        if stream is None or old is None:
            return
        self.garbage.append(old)
        old.gone = True
        self.pending -= len(old.pending)
        self.dead -= len(old.dead)
        self._other_bytes -= old.bytes + GROUP_BYTES + len(group)
        if old.declared:
            self.open_group(name, group).take_after(old)
        self._forget_if_nothing(stream)

    def drop_group(self, name: bytes, group: bytes) -> None:
        """The group is gone."""
        stream = self.streams.get(name)
        found = stream.groups.get(group) if stream is not None else None
        if found is not None:
            found.declared = False
            self._forget_group_if_nothing(name, found)

    def _forget_group_if_nothing(self, name: bytes, group: Group) -> None:
        stream = self.streams[name]
        if not group.declared and not group.pending and not group.consumers and not group.dead and stream.groups.get(group.name) is group:
            del stream.groups[group.name], self.numbers[group.number]
            self._other_bytes -= group.bytes + GROUP_BYTES + len(group.name)
            self._forget_if_nothing(stream)

    def free(self, most: int) -> bool:
        """Free up to `most` pending records of groups that are gone; returns whether there are more."""
        while self.garbage and most > 0:
            group = self.garbage[-1]
            while group.pending and most > 0:
                ident, pending = group.pending.popitem()
                if pending.deadline:
                    self.timers.remove(pending.deadline, group.number << 2 * SEQ_BITS | ident)
                most -= 1
            if not group.pending:
                del self.numbers[group.number]
                self.garbage.pop()
        return bool(self.garbage)

    def tables(self) -> list[dict[Any, Any]]:
        """The dicts that hold streams and groups."""
        return [self.streams, self.numbers]

    def pieces(self) -> list[object]:
        """The containers of the pending records, so that a dropped store can be freed piece by piece."""
        return [
            self.streams,
            *(group.pending for group in self.numbers.values()),
            *self.timers.pieces(),
            *self.ages.pieces(),
            *self.lifetimes.pieces(),
        ]


def _deadline(numbers: dict[int, Group], item: int) -> int:
    group = numbers.get(item >> 2 * SEQ_BITS)
    pending = group.pending.get(item & ID_MAX) if group is not None else None
    return pending.deadline if pending is not None else 0
