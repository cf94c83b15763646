"""The streams of one namespace: records under ids that only grow (SPEC section 3, "Streams"). Groups are in engine/group.py.

A record's entity is its id; its payload is read from the log. It has its number among all records that the stream ever had. So a trim
writes only a watermark: all records below an index are dead. Facts that do not follow from the remaining records (the last id of an empty
stream, the highest deleted id, the bounds) are in a record about the stream itself, its *state*.

An append wakes all waiting readers of the stream in the same turn; each then reads for itself.
"""

import struct
from bisect import bisect_left
from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar, NamedTuple

from flo.engine.bulk_rows import BulkRecords
from flo.engine.expiring import Expiring
from flo.engine.group import Groups, check_ids, check_stream_name
from flo.engine.operation import in_program, operation
from flo.engine.part import Database, Part
from flo.engine.waiting import Watch, Watches
from flo.errors import BadRequest, Conflict, Damaged, LogDamaged
from flo.limits import DEADLINE_MAX, LIST_BYTES_MAX, VALUE_BYTES_MAX
from flo.store.lifetimes import Lifetimes
from flo.store.stream import ID_HALF_MAX, ID_MAX, SEQ_BITS, SEQ_MASK, Stream, StreamStore
from flo.ual.record import (
    FAMILY_STREAM,
    FAMILY_STREAM_GROUP,
    FAMILY_STREAM_SIDE,
    HEADER,
    HEADER_BYTES,
    RECORD_STATE,
    STREAM_ID,
    STREAM_RECORD,
    STREAM_RECORD_GONE,
    STREAM_STATE,
    U64,
    WATERMARK,
    Record,
    container,
    container_of,
)

READ_SLICE = 256  # records read in one slice: 3 us each from a warm cache
SIDE_BYTES = HEADER_BYTES + 80  # a log record about a stream, without its names
SWEEP_SLICE = 100  # streams whose records' age is checked in one slice
AGES_AHEAD_MS = 10_000  # between checks of ages while ids are ahead of the clock: each stream costs up to 40 reads of the log

RAW, FIELDS = 0, 1  # kinds of payload: bytes, or a list of fields (flo.proto.fields)

_STATE = struct.Struct("<QQQQQQQQ")  # last ms, last seq, added, highest deleted ms, seq, most records, most ms, most bytes;
# a u64 follows if the stream has a deadline
STATE_MARK = b"s"


class StreamRecord(NamedTuple):
    """A record as a reader gets it. `kind` is RAW or FIELDS."""

    ident: int
    kind: int
    payload: bytes


class Bounds(NamedTuple):
    """What a trim keeps; None for no bound. `max_age` is in ms. With `approximate`, a trim removes only whole chunks, `limit` records at
    most (0: no limit)."""

    max_len: int | None = None
    max_age: int | None = None
    max_bytes: int | None = None
    min_id: int | None = None
    approximate: bool = False
    limit: int = 0


def id_text(ident: int) -> bytes:
    """The id as `ms-seq`."""
    return b"%d-%d" % (ident >> SEQ_BITS, ident & SEQ_MASK)


def shown(name: bytes) -> str:
    """A name as error messages show it."""
    return repr(name[:64].decode("utf-8", "replace"))


class Streams(Expiring):
    """The streams of one namespace. Names and payloads are bytes (a program may give str, as UTF-8); ids are ints (flo.store.stream)."""

    name = "streams"
    types: ClassVar[frozenset[int]] = frozenset((STREAM_RECORD, STREAM_RECORD_GONE, STREAM_STATE))
    bulk: ClassVar[type[BulkRecords]] = BulkRecords
    scopes: ClassVar[frozenset[int]] = frozenset((FAMILY_STREAM, FAMILY_STREAM_SIDE))
    nouns: ClassVar[dict[str, str]] = {"streams": "Streams.", "records": "Records of streams."}
    container = "stream"
    measures: ClassVar[dict[str, str]] = {
        "records": "Records of the stream.",
        "record_bytes": "Bytes of the payloads of the stream's records.",
        "groups": "Consumer groups of the stream.",
    }

    def __init__(self, engine: Database, namespace: int) -> None:
        super().__init__(engine, namespace)
        self.store: StreamStore = StreamStore()
        self.groups: Groups = (Groups if engine.manual else in_program(Groups))(self)
        self.watches: Watches = Watches()
        self._ages_ahead: list[bytes] = []  # streams that `_look_at_ages_ahead` still has to check
        self._ages_after = 0  # by the steady clock: when the next check of all streams begins

    @property
    def inner(self) -> Sequence[Part]:
        """See `Part`."""
        return (self.groups,)

    # -- records -----------------------------------------------------------------------------------

    def apply(self, index: int, record: Record) -> None:
        """Apply a log record to the store, live or replayed."""
        kind, entity = record.type, record.entity
        head = container_of(entity)
        name = head[2:]
        if kind == STREAM_RECORD:
            ms, seq = STREAM_ID.unpack_from(entity, len(head))
            _, added = RECORD_STATE.unpack_from(record.state)
            self.store.append(index, name, ms << SEQ_BITS | seq, added, len(record.state) - RECORD_STATE.size)
        elif kind == STREAM_RECORD_GONE:
            ms, seq = STREAM_ID.unpack_from(entity, len(head))
            self.store.remove(name, ms << SEQ_BITS | seq)
        else:
            state = record.state
            last_ms, last_seq, added, deleted_ms, deleted_seq, max_len, max_age, max_bytes = _STATE.unpack_from(state)
            last, deleted = last_ms << SEQ_BITS | last_seq, deleted_ms << SEQ_BITS | deleted_seq
            deadline = U64.unpack(state[_STATE.size :])[0] if len(state) > _STATE.size else 0
            self.store.declare(name, last, added, deleted, max_len, max_age, max_bytes, deadline)

    def apply_watermark(self, scope: bytes, below: int) -> None:
        """Remove a stream's records below an index, or everything but its records."""
        name = scope[3:]
        if scope[0] == FAMILY_STREAM:
            self.store.trim(name, below)
        else:
            self.store.undeclare(name)

    def _write_state(self, name: bytes, stream: Stream | None, **changes: int) -> None:
        """Write the stream's state, with `changes`."""
        values = {
            "last": stream.last if stream else 0,
            "added": stream.added if stream else 0,
            "max_deleted": stream.max_deleted if stream else 0,
            "max_len": stream.max_len if stream else 0,
            "max_age": stream.max_age if stream else 0,
            "max_bytes": stream.max_bytes if stream else 0,
            "deadline": self.store.lifetimes.by_name.get(name, 0),
        } | changes
        last, deleted = values["last"], values["max_deleted"]
        state = _STATE.pack(
            last >> SEQ_BITS,
            last & SEQ_MASK,
            values["added"],
            deleted >> SEQ_BITS,
            deleted & SEQ_MASK,
            values["max_len"],
            values["max_age"],
            values["max_bytes"],
        )
        if values["deadline"]:
            state += U64.pack(values["deadline"])
        self.engine.write(Record(STREAM_STATE, self.namespace, self.engine.now, container(name) + STATE_MARK, state))

    def mark(self, family: int, name: bytes, index: int = 0) -> None:
        """Write the watermark that drops a container's records of a family: those below `index`, or all if it is 0."""
        scope = bytes((family,)) + container(name)
        self.engine.write(Record(WATERMARK, self.namespace, self.engine.now, scope, U64.pack(index or self.engine.log.next_index)))

    @property
    def lifetimes(self) -> Lifetimes:
        """See `Expiring`."""
        return self.store.lifetimes

    def find(self, name: bytes) -> Stream | None:
        """The stream of that name, if clients see it; None if there is none, or its time is over."""
        if self.store.lifetimes.by_name and self.drop_if_over(name):
            return None
        return self.store.find(name)

    # -- appending ---------------------------------------------------------------------------------

    @operation
    def append(
        self,
        name: bytes,
        payload: bytes,
        kind: int = RAW,
        *,
        ms: int | None = None,
        seq: int | None = None,
        create: bool = True,
        bounds: Bounds | None = None,
    ) -> int | None:
        """Append a record; returns its id, or None if there is no stream and `create` is false. The id is made from the stamp time, or from
        `ms` and the next seq, or from `ms` and `seq`; it must be higher than all earlier ids. Then trims the stream to `bounds`."""
        engine, store = self.engine, self.store
        if ms == 0 == seq:
            raise BadRequest("The ID specified in XADD must be greater than 0-0")
        if store.lifetimes.by_name:
            self.drop_if_over(name)
        stream = store.streams.get(name)
        if stream is None or not (stream.count or stream.declared):
            if not create:
                return None
            check_stream_name(name)
            last = added = 0
        else:
            last, added = stream.last, stream.added
        size = len(payload)
        if size > VALUE_BYTES_MAX:
            raise BadRequest(f"the record is {size} bytes; at most {VALUE_BYTES_MAX} are allowed")
        if ms is None:
            ident = engine.stamp_time << SEQ_BITS
            if ident <= last:
                ident = last + 1
                if ident > ID_MAX:
                    raise BadRequest("The stream has exhausted the last possible ID, unable to add more items")
        else:
            ident = _given_id(ms, seq, last)
        most = size + 5 * (SIDE_BYTES + len(name))  # trimming by `bounds` and by the stream's own bounds writes two more records each
        if engine.log.pending_bytes + most > engine.adds_until:
            engine.admit(most, adds=True)
        stream = self._write_record(stream or store.open(name), ident, added + 1, kind, payload)
        if bounds is not None:
            self._trim(stream, bounds)
        if stream.max_len or stream.max_bytes or stream.max_age:
            engine.busy.add(self.namespace)  # its age must be checked
            self._trim_to_own_bounds(stream)
        if self.watches.by_name and self.watches.change(name):
            engine.changed.add(self)
        if self.groups.takers.by_key:
            self.groups.serve(name)
        return ident

    def _write_record(self, stream: Stream, ident: int, added: int, kind: int, payload: bytes) -> Stream:
        """Write a record. It is packed here: engine.write costs three times as much, and this runs for each record."""
        engine = self.engine
        head = stream.head
        length = HEADER_BYTES + len(head) + STREAM_ID.size + RECORD_STATE.size + len(payload)
        header = HEADER.pack(length, STREAM_RECORD, 0, len(head) + STREAM_ID.size, self.namespace, engine.now, 0)
        name = STREAM_ID.pack(ident >> SEQ_BITS, ident & SEQ_MASK)
        self.check_namespace()
        index = engine.log.append(b"".join((header, head, name, RECORD_STATE.pack(kind, added), payload)))
        return self.store.append(index, stream.name, ident, added, len(payload))

    def _trim_to_own_bounds(self, stream: Stream) -> None:
        """Trim the stream to its own bounds."""
        aged = bool(stream.max_age and stream.count) and stream.chunks[0].ms[0] + stream.max_age < self.engine.now
        if aged or stream.max_len or stream.max_bytes:
            self._trim(stream, Bounds(stream.max_len or None, stream.max_age if aged else None, stream.max_bytes or None))

    # -- trimming and deleting ---------------------------------------------------------------------

    def _first_kept(self, stream: Stream, bounds: Bounds) -> tuple[int, int]:
        """The place of the first record that a trim keeps."""
        place = (0, 0)
        if bounds.max_len is not None:
            place = stream.place_of_count(bounds.max_len)
        if bounds.max_bytes is not None:
            place = max(place, stream.place_of_bytes(bounds.max_bytes))
        if bounds.max_age is not None:
            place = max(place, self._place_of_age(stream, bounds.max_age))
        if bounds.min_id is not None:
            place = max(place, stream.place(bounds.min_id))
        if bounds.approximate:
            place = stream.place_of_whole(place[0], bounds.limit) if bounds.limit else (place[0], 0)
        return place

    def _place_of_age(self, stream: Stream, max_age: int) -> tuple[int, int]:
        """The place of the first record that is at most `max_age` ms old; 0 keeps no record. A record's age counts from its id's ms. If the
        id is ahead of the wall clock (all new ids are, after the clock was set back), its age counts from when the record was written."""
        now = self.engine.now
        if not max_age:
            return len(stream.chunks), 0
        place, ahead = stream.place(max(now - max_age, 0) << SEQ_BITS), stream.place(now + 1 << SEQ_BITS)
        if place != ahead or ahead[0] == len(stream.chunks):
            return place
        # the records written while the clock was ahead come first; each is at least as old as the first record behind them
        numbers = range(stream.before(*ahead), stream.count)
        right = bisect_left(numbers, True, key=lambda number: self._written(stream, number) <= now)
        young = bisect_left(numbers, True, right, key=lambda number: self._written(stream, number) >= now - max_age)
        return stream.place_of_count(stream.count - numbers[0] - young) if young > right else place

    def _written(self, stream: Stream, number: int) -> int:
        """When a record was written, ms. `number` counts from 0 at the stream's first record."""
        at, place = stream.place_of_count(stream.count - number)
        return self._read_record(stream.chunks[at].id_at(place), stream.chunks[at].indexes[place]).time

    def _trim(self, stream: Stream, bounds: Bounds) -> int:
        """Remove the records that `bounds` do not keep; returns how many. Writes two log records at most, which the caller has admitted."""
        if bounds.approximate and bounds.max_len is not None and stream.chunks and stream.count - bounds.max_len < len(stream.chunks[0].ms):
            return 0  # less than one chunk to remove: the usual case
        at, place = self._first_kept(stream, bounds)
        count = stream.before(at, place)
        if count:
            if at < len(stream.chunks):
                self.mark(FAMILY_STREAM, stream.name, stream.chunks[at].indexes[place])
            else:
                self._write_state(stream.name, stream)
                self.mark(FAMILY_STREAM, stream.name)
        return count

    @operation
    def trim(self, name: bytes, bounds: Bounds, *, dry_run: bool = False) -> int:
        """Remove the oldest records, so that `bounds` hold; returns how many. With `dry_run`, only counts them."""
        stream = self.find(name)
        if stream is None:
            return 0
        if dry_run:
            return stream.before(*self._first_kept(stream, bounds))
        self.admit_frees(2 * (SIDE_BYTES + len(name)))
        return self._trim(stream, bounds)

    @operation
    def delete_records(self, name: bytes, ids: Sequence[int]) -> int:
        """Delete records by id; returns how many of the ids were in the stream."""
        check_ids(ids)
        stream = self.find(name)
        known_ids = [ident for ident in dict.fromkeys(ids) if stream is not None and stream.find(ident)]
        if stream is None or not known_ids:
            return 0
        self.admit_frees((len(known_ids) + 1) * (SIDE_BYTES + len(name)))
        self._write_state(name, stream, max_deleted=max(stream.max_deleted, *known_ids))
        for ident in known_ids:
            entity = container(name) + STREAM_ID.pack(ident >> SEQ_BITS, ident & SEQ_MASK)
            self.engine.write(Record(STREAM_RECORD_GONE, self.namespace, self.engine.now, entity, b"", gone=True))
        return len(known_ids)

    # -- the stream itself -------------------------------------------------------------------------

    @operation
    def create(self, name: bytes, *, max_len: int = 0, max_age: int = 0, max_bytes: int = 0) -> None:
        """Make an empty stream that keeps at most `max_len` records, `max_age` ms, `max_bytes` bytes; 0 for no bound. Raises `Conflict` if
        it exists."""
        if self.find(name) is not None:
            raise Conflict(f"the stream {shown(name)} exists already")
        if max_age > DEADLINE_MAX:
            raise BadRequest(f"the age is {max_age} ms; at most 2^53 are allowed")
        self.declare(name, max_len=max_len, max_age=max_age, max_bytes=max_bytes)

    def declare(self, name: bytes, **bounds: int) -> None:
        """Write the state of a stream that does not exist yet."""
        check_stream_name(name)
        self.admit_adds(SIDE_BYTES + len(name))
        self._write_state(name, None, **bounds)

    def set_last(self, name: bytes, last: int, added: int | None, max_deleted: int | None) -> None:
        """Raise the stream's last id, the number of records it ever had, and the highest id that was deleted (None: as it is), for a stream
        that is copied from elsewhere. Neither number goes back. Raises `BadRequest`, worded as Redis words it where Redis refuses too."""
        stream = self.find(name)
        if stream is None:
            raise BadRequest("no such key")
        if stream.max_deleted > last:
            raise BadRequest("The ID specified in XSETID is smaller than current max_deleted_entry_id")
        if last < self._last_id(name):
            raise BadRequest("The ID specified in XSETID is smaller than the target stream top item")
        if added is not None and added < stream.count:
            raise BadRequest("The entries_added specified in XSETID is smaller than the target stream length")
        if last < stream.last:
            raise BadRequest(f"the last id of the stream is {id_text(stream.last).decode()}, and it never goes back; choose a higher one")
        if added is not None and added < stream.added:
            raise BadRequest(f"the stream had {stream.added} records, and the count never goes back; choose a higher one")
        self.admit_adds(SIDE_BYTES + len(name))
        self._write_state(
            name,
            stream,
            last=last,
            added=stream.added if added is None else added,
            max_deleted=max_deleted or stream.max_deleted,
        )

    @operation
    def delete(self, name: bytes) -> bool:
        """Remove the stream with its groups; returns whether it existed."""
        if self.find(name) is None:
            return False
        self.remove(name)
        return True

    def write_lifetime(self, name: bytes, deadline: int) -> None:
        """See `Expiring`."""
        self._write_state(name, self.store.find(name), deadline=deadline)

    def remove(self, name: bytes) -> None:
        """See `Expiring`."""
        groups = tuple(self.store.streams[name].groups)
        self.admit_frees((len(groups) + 2) * SIDE_BYTES + sum(map(len, groups)) + (len(groups) + 2) * len(name))
        for group in groups:
            self.mark(FAMILY_STREAM_GROUP, container(name) + group)
        self.mark(FAMILY_STREAM_SIDE, name)
        self.mark(FAMILY_STREAM, name)
        self.groups.end_stream(name)

    @operation
    def exists(self, name: bytes) -> bool:
        """Whether the stream exists."""
        return self.find(name) is not None

    @operation
    def names(self) -> list[bytes]:
        """The name of every stream, in order."""
        return sorted(name for name, stream in self.store.streams.items() if stream.exists and not self.is_over(name))

    @property
    def empty(self) -> bool:
        """Whether there is no stream."""
        return not any(stream.exists and not self.is_over(name) for name, stream in self.store.streams.items())

    @operation
    def length(self, name: bytes) -> int:
        """How many records the stream has."""
        stream = self.find(name)
        return stream.count if stream is not None else 0

    # -- reading -----------------------------------------------------------------------------------

    def _read_record(self, ident: int, index: int) -> Record:
        record = self.engine.log.read(index)
        if record is None:
            raise LogDamaged(f"the record {id_text(ident).decode()}, index {index}, is in its stream but not in the log")
        return record

    def load(self, ident: int, index: int) -> StreamRecord:
        """Read a record from the log."""
        record = self._read_record(ident, index)
        kind, _ = RECORD_STATE.unpack_from(record.state)
        return StreamRecord(ident, kind, record.state[RECORD_STATE.size :])

    @operation
    def read(self, name: bytes, start: int = 0, end: int = ID_MAX, limit: int = READ_SLICE, *, reverse: bool = False) -> list[StreamRecord]:
        """Up to `limit` records from id `start` to `end`, both included; with `reverse` from `end` to `start`. Stops near 16 MiB, but gives
        at least one record."""
        stream = self.find(name)
        if stream is None:
            return []
        found: list[StreamRecord] = []
        size = 0
        for ident, index in stream.descending(start, end, limit) if reverse else stream.ascending(start, end, limit):
            try:
                record = self.load(ident, index)
            except Damaged:
                if found:
                    break  # return the records before it; the next read raises
                raise
            size += len(record.payload)
            if found and size > LIST_BYTES_MAX:
                break
            found.append(record)
        return found

    def read_job(self, name: bytes, start: int, end: int, limit: int, reverse: bool) -> Generator[None, None, list[StreamRecord]]:
        """`read` in slices, for any number of records. Changes meanwhile may be seen or not."""
        found: list[StreamRecord] = []
        size = 0
        while True:
            try:
                page = self.read(name, start, end, min(limit - len(found), READ_SLICE), reverse=reverse)
            except Damaged:
                if found:
                    return found
                raise
            for record in page:
                size += len(record.payload)
                if found and size > LIST_BYTES_MAX:
                    return found
                found.append(record)
            if not page or len(found) >= limit:
                return found
            if reverse:
                end = page[-1].ident - 1
            else:
                start = page[-1].ident + 1
            if start > end:
                return found
            yield

    @operation
    def watch(self, after: dict[bytes, int], notify: Callable[[], int | None]) -> Watch:
        """Call `notify` when one of the streams has a record with an id above the one given for it in `after`. There must be none now.
        `notify` returns how many records it has read."""
        return self.watches.add(after, lambda name, last: last is None or last > after[name], notify)

    def notify(self, most: int) -> bool:
        """See `Part`. A watch gets the stream's last id."""
        return self.watches.notify(most, self._last_id)

    def _last_id(self, name: bytes) -> int:
        stream = self.find(name)
        return stream.chunks[-1].last() if stream is not None and stream.chunks else 0

    def end(self) -> None:
        """See `Part`."""
        super().end()
        self.watches.end_all()

    def drop(self, below: int) -> list[Any]:
        """See `Part`."""
        held, self.store = self.store.pieces(), StreamStore()
        return held

    # -- time --------------------------------------------------------------------------------------

    def next_due(self) -> int | None:
        """See `Part`."""
        times = (self.store.ages.next_due(), self.store.lifetimes.next_due())
        return min((due for due in times if due is not None), default=None)

    def _look_at_ages_ahead(self) -> bool:
        """Trim by age a slice of the streams whose ids are ahead of the wall clock: `aged` gives them only after the clock has reached
        their ids. Begins every AGES_AHEAD_MS while the stamps are ahead. Returns whether there are more. Raises `Overloaded`."""
        engine, store = self.engine, self.store
        if not engine.clock_ahead or engine.is_early(self._ages_after):
            return False
        if not self._ages_ahead:
            self._ages_ahead = [name for name, stream in store.streams.items() if stream.age_due > engine.now + stream.max_age]
        for name in self._ages_ahead[-SWEEP_SLICE:]:
            stream = store.streams.get(name)
            if stream is not None and stream.max_age and stream.count:
                self.admit_frees(2 * (SIDE_BYTES + len(name)))
                self._trim(stream, Bounds(max_age=stream.max_age))
        del self._ages_ahead[-SWEEP_SLICE:]
        self._ages_after = 0 if self._ages_ahead else engine.steady() + AGES_AHEAD_MS
        return bool(self._ages_ahead)

    def sweep_slice(self) -> bool:
        """See `Part`: remove records that are too old, and free dropped ones."""
        engine, store = self.engine, self.store
        more = store.free(READ_SLICE)
        more |= self._look_at_ages_ahead()
        more |= self.drop_some()
        aged = store.aged(engine.now, SWEEP_SLICE)
        for stream in aged:
            self.admit_frees(2 * (SIDE_BYTES + len(stream.name)))
            self._trim(stream, Bounds(max_age=stream.max_age))
            store.age_looked_at(stream)
        return len(aged) == SWEEP_SLICE or more

    @property
    def quiet(self) -> bool:
        """See `Part`."""
        return not self.store.garbage and not self.store.ages.count and not self.store.lifetimes.by_name

    @property
    def memory_bytes(self) -> int:
        """See `Part`. Includes the memory of the groups."""
        return self.store.accounted

    def counts(self) -> dict[str, int]:
        """See `Part`. Costs the same however many streams there are."""
        return {"streams": len(self.store.streams), "records": self.store.records}

    def containers(self) -> list[Any]:
        """See `Part`."""
        return list(self.store.streams.values())

    def measure(self, container: Stream) -> tuple[bytes, tuple[int, ...]]:
        """See `Part`."""
        return container.name, (container.count, container.bytes, len(container.groups)) if container.exists else ()

    def holders(self) -> list[Any]:
        """See `Part`."""
        return self.store.tables()


def _given_id(ms: int, seq: int | None, last: int) -> int:
    """The id of an append with a given `ms`, and perhaps `seq`. Raises `BadRequest` if it may not follow `last`."""
    if seq is None:
        ident = max(ms << SEQ_BITS, 1)
        if ident <= last and ms == last >> SEQ_BITS and last & SEQ_MASK < ID_HALF_MAX:
            ident = last + 1
    else:
        ident = ms << SEQ_BITS | seq
    if ident <= last:
        raise BadRequest("The ID specified in XADD is equal or smaller than the target stream top item")
    return ident
