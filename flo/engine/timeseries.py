"""The time series of one namespace (SPEC section 3, "Time series").

A write is one record with all its points. Points stay open, in memory, until their series has enough for a chunk, or until too many are
open, or a start would have to read too many; then a chunk's record takes their place (flo.store.timeseries). A watermark drops the records
of points that no start needs any more: those below the first that a series with open points still needs. So points cost memory only while
they are open, and compaction remembers nothing of those that are sealed.

    points    container without a name, u64 own index; for each point its series' u64 number, then i64 times, then f64 values
    chunk     measurement's container, u64 series, u32 number; as flo.store.chunk
    series    measurement's container, "s", u64 own index; its key (flo.series)
    settings  measurement's container, "m"; u64 most age in ms, rules
    progress  measurement's container, "d", key of a rule of downsampling; i64 done, i64 late (flo.store.downsampling.Progress)

A chunk whose record is gone must not leave its points behind: the records that brought them may still be there. So a chunk is deleted only
when the watermark has passed its own record, and its deletion leans on it: while a compaction keeps the deletion, since it does not see
what is older, the chunk stays too. A series is deleted at once, since its number means nothing after.
"""

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import takewhile
from time import monotonic
from typing import Any, ClassVar

from flo.engine.downsampling import Downsampling
from flo.engine.part import Database, Part
from flo.errors import BadRequest, LogDamaged, Overloaded
from flo.floql.source import Columns
from flo.series import parse_key
from flo.store.chunk import Summary, pack, unpack
from flo.store.downsampling import Progress, parse_rules
from flo.store.timeseries import TEXT, Chunk, Measurement, Series, TimeSeriesStore
from flo.ual.record import (
    FAMILY_TS_POINTS,
    HEADER_BYTES,
    TS_CHUNK,
    TS_CHUNK_GONE,
    TS_POINTS,
    TS_PROGRESS,
    TS_PROGRESS_GONE,
    TS_SERIES,
    TS_SERIES_GONE,
    TS_SETTINGS,
    TS_SETTINGS_GONE,
    U64,
    WATERMARK,
    Record,
    container,
    container_of,
)

CHUNK_POINTS = 4096  # of a full chunk: 10 KB of a gauge; packing it takes 1 ms, reading it 0.3
SMALL_POINTS = 1024  # a chunk with fewer is merged with those behind it, …
SMALL_CHUNKS = 8  # … once so many follow each other: each point is then written two or three times
OPEN_MIN, OPEN_EACH = 1_000_000, 40  # points that may be open: 18 MB, or so many for each series
READ_SHARE = 2  # times the bound: points that a start reads one by one, from the first that is open on. As many as series of one pace have
PASS_POINTS = 100_000  # that the watermark passes at once: 2.4 MB on disk
SERIES_MAX = 1_000_000  # of a namespace: a GB. More are mostly a mistake: a tag with a value of its own for each request
NAME_BYTES_MAX = 32_000  # of a measurement
WRITE_POINTS_MAX = 50_000  # in one request, which takes all or nothing: 20 ms
SIDE_BYTES = HEADER_BYTES + 60  # a record about a series, without its names
POINT_BYTES = 24  # in the record of a write
DELETE_SLICE = 200  # series deleted in one slice: 20 us each
DECLARE_SLICE = 500  # series made in one slice: 12 us each
AGES_MS = 10_000  # between two looks at the ages of all points
RULE_AGES = 3  # times the width of a rule's window that points must be kept: a window is over, as long past, and may have late points
AGE_SECONDS = 0.002  # of one slice of a look: a series takes 2 us, a chunk that is deleted 20, one that is sealed a ms
AGE_CHUNKS = 100  # deleted of one series before the next look at the time
TAGS_SHOWN = 100  # of a measurement: those with the most values
SEALS_BEHIND = 2  # times the bound: past it, a write seals before it adds
SEAL_SECONDS = 0.004  # of sealing in one slice
IDLE_MS = 600_000  # without a write: all open points are sealed. They take 24 bytes each on disk, in chunks 2 to 4

_POINTS_ENTITY = container(b"")
SERIES_MARK, SETTINGS_MARK, PROGRESS_MARK = b"s", b"m", b"d"
_PROGRESS = struct.Struct("<qq")
_CHUNK_ID = struct.Struct("<QI")


class Block:
    """Points of a series that follow each other: what is known of them, and a way to them (a `Block` of flo.floql.source)."""

    __slots__ = ("_read", "count", "end", "first", "last", "maximum", "minimum", "start", "sum")

    start: int
    end: int
    count: int
    sum: float
    minimum: float
    maximum: float
    first: float
    last: float

    def __init__(self, summary: Summary, read: Callable[[], Columns]) -> None:
        self.start, self.end, self.count, self.sum, self.minimum, self.maximum, self.first, self.last = summary
        self._read = read

    def columns(self) -> Columns:
        """Read the points. Raises `Damaged`."""
        return self._read()


class TimeSeries(Part):
    """The time series of one namespace."""

    name = "ts"
    types: ClassVar[frozenset[int]] = frozenset(
        (TS_POINTS, TS_CHUNK, TS_CHUNK_GONE, TS_SERIES, TS_SERIES_GONE, TS_SETTINGS, TS_SETTINGS_GONE, TS_PROGRESS, TS_PROGRESS_GONE)
    )
    scopes: ClassVar[frozenset[int]] = frozenset((FAMILY_TS_POINTS,))
    nouns: ClassVar[dict[str, str]] = {"measurements": "Measurements.", "series": "Series of measurements.", "points": "Points of series."}
    container = "measurement"
    measures: ClassVar[dict[str, str]] = {"series": "Series of the measurement."}

    def __init__(self, engine: Database, namespace: int) -> None:
        super().__init__(engine, namespace)
        self.store: TimeSeriesStore = TimeSeriesStore()
        self._full: dict[int, Series] = {}  # with enough open points for a chunk
        self._low = 0  # the watermark that was written last
        self._low_points = 0  # how many points it has passed
        self._to_age: list[Series] = []  # whose ages are still to be looked at
        self._age_after = 0  # by the steady clock: when the next look at all ages begins
        self._downsampling = Downsampling(self)
        self._low_wanted = 0  # chunks up to this record are to be deleted: the watermark must pass it first
        self._idle_after = 0  # by the steady clock: when all open points are sealed, unless more come

    # -- records -----------------------------------------------------------------------------------

    def apply(self, index: int, record: Record) -> None:
        """See `Part`."""
        kind, entity, state = record.type, record.entity, record.state
        if kind == TS_POINTS:
            self.store.add(index, *_unpack_points(state))
            return
        head = container_of(entity)
        if kind in (TS_CHUNK, TS_CHUNK_GONE):
            series, number = _CHUNK_ID.unpack_from(entity, len(head))
            if kind == TS_CHUNK:
                self.store.seal(index, series, number, state)
            else:
                self.store.unseal(series, number)
        elif kind == TS_SERIES:
            self.store.declare(index, state, *parse_key(state))
        elif kind == TS_SERIES_GONE:
            self.store.remove(U64.unpack_from(entity, len(head) + 1)[0])
        elif kind == TS_SETTINGS:
            self.store.configure(head[2:].decode(*TEXT), U64.unpack_from(state)[0], state[U64.size :].decode(*TEXT))
        elif kind in (TS_PROGRESS, TS_PROGRESS_GONE):
            progress = Progress(*_PROGRESS.unpack(state)) if kind == TS_PROGRESS else None
            self.store.advance(head[2:].decode(*TEXT), entity[len(head) + 1 :].decode(), progress)
        else:
            self.store.configure(head[2:].decode(*TEXT), 0, "")

    def apply_watermark(self, scope: bytes, below: int) -> None:
        """See `Part`. Points below it are open no longer."""
        self._low = max(self._low, below)

    def _write(self, kind: int, entity: bytes, state: bytes, leans: tuple[int, ...] = (), gone: bool = False) -> int:
        return self.engine.write(Record(kind, self.namespace, self.engine.now, entity, state, leans=leans, gone=gone))

    # -- writing -----------------------------------------------------------------------------------

    def write(self, keys: Sequence[bytes], times: "array[int]", values: "array[float]") -> int:
        """Add points, each with the key of its series, its time (ms) and its value; of two at one time the later stays. Returns how many.
        Raises `BadRequest`, with nothing written, if these are too many points, or would be too many series."""
        store, log, count = self.store, self.engine.log, len(keys)
        self.check_count(count)
        known = store.by_key
        new = self._new_among(keys)
        self._admit_series(new)
        self.admit_adds(POINT_BYTES * count + HEADER_BYTES)
        while store.open_points > SEALS_BEHIND * self._open_most and store.open:
            self._seal(next(iter(store.open.values())))
        self._declare(new)
        if not count:
            return 0
        found = [known[key] for key in keys]
        if store.ruled:
            self._downsampling.note(zip(found, times, strict=True))
        ids = array("Q", [series.id for series in found])
        self._write(TS_POINTS, _POINTS_ENTITY + U64.pack(log.next_index), b"".join((ids, times, values)))
        for series in set(found):
            if len(series.times) >= CHUNK_POINTS:
                self._full[series.id] = series
        self._idle_after = self.engine.steady() + IDLE_MS
        self.engine.busy.add(self.namespace)
        return count

    @staticmethod
    def check_count(count: int) -> None:
        """Check that one write may have so many points. Raises `BadRequest`."""
        if count > WRITE_POINTS_MAX:
            raise BadRequest(f"the request has {count:,} points; at most {WRITE_POINTS_MAX:,} are allowed in one: send them in several")

    def declare_job(self, keys: Sequence[bytes]) -> Generator[None, None, None]:
        """Make the series of these keys that are new, so that `write` need not, all in one turn. Raises `BadRequest` if they would be too
        many, `Overloaded`; then none is made. A job."""
        new = self._new_among(keys)
        self._admit_series(new)
        for at in range(0, len(new), DECLARE_SLICE):
            self.check_namespace()
            try:
                self._declare([key for key in new[at : at + DECLARE_SLICE] if key not in self.store.by_key])
            except Overloaded:
                yield from self._undeclare(new[:at])
                raise
            yield

    def _undeclare(self, keys: Sequence[bytes]) -> Generator[None, None, None]:
        """Delete those of these series that have no points. A job."""
        for at in range(0, len(keys), DECLARE_SLICE):
            self.check_namespace()
            for key in keys[at : at + DECLARE_SLICE]:
                series = self.store.by_key.get(key)
                if series is not None and not series.since and not series.chunks:
                    self._delete(series)
            yield

    def _new_among(self, keys: Sequence[bytes]) -> list[bytes]:
        known = self.store.by_key
        return list(dict.fromkeys([key for key in keys if key not in known]))

    def _admit_series(self, new: Sequence[bytes]) -> None:
        if len(self.store.by_id) + len(new) > SERIES_MAX:
            raise BadRequest(
                f"{len(new):,} new series would be more than {SERIES_MAX:,}; look with ts_list which tag has so many values, and delete "
                "what nobody needs"
            )

    def _declare(self, new: Sequence[bytes]) -> None:
        """Make series. Raises `BadRequest` if a measurement's name is too long."""
        names = [(key, parse_key(key).measurement) for key in new]
        for _, measurement in names:
            self._admit_name(measurement)
        self.admit_adds(sum([2 * len(key) + SIDE_BYTES for key in new]))
        for key, measurement in names:
            self._write(TS_SERIES, container(measurement.encode(*TEXT)) + SERIES_MARK + U64.pack(self.engine.log.next_index), key)

    @staticmethod
    def _admit_name(measurement: str) -> None:
        size = len(measurement.encode(*TEXT))
        if not measurement or size > NAME_BYTES_MAX:
            raise BadRequest(f"the measurement's name is {size} bytes; it is 1 to {NAME_BYTES_MAX}")

    # -- sealing -----------------------------------------------------------------------------------

    @property
    def _open_most(self) -> int:
        """How many points may be open."""
        return max(OPEN_MIN, OPEN_EACH * len(self.store.by_id))

    def _seal(self, series: Series) -> None:
        """Put the open points of a series into chunks, with those of small chunks, or of chunks of the same time, before them. Raises
        `Overloaded`."""
        store = self.store
        store.settle(series)
        merged = self._to_merge(series)
        times, values = series.times, series.values
        if merged:
            times, values = _merged([*(self._columns(series, chunk) for chunk in merged), Columns(times, values.tolist())])
        numbers = [chunk.number for chunk in merged]
        following = numbers[0] if numbers else series.chunks[-1].number + 1 if series.chunks else 1
        self.admit_frees(2 * SIDE_BYTES * (len(merged) + 1) + (POINT_BYTES + 1) * len(times))
        head = container(series.measurement.name.encode(*TEXT))
        for at in range(0, len(times), CHUNK_POINTS):
            state = pack(times[at : at + CHUNK_POINTS], values[at : at + CHUNK_POINTS])
            self._write(TS_CHUNK, head + _CHUNK_ID.pack(series.id, following), state)
            following += 1
        for number in numbers:
            if number >= following:
                self._write(TS_CHUNK_GONE, head + _CHUNK_ID.pack(series.id, number), b"", gone=True)
        self._full.pop(series.id, None)

    def _to_merge(self, series: Series) -> list[Chunk]:
        """The last chunks of a series that are to be one with its open points."""
        start, end = series.times[0], series.times[-1]
        room = 2 * CHUNK_POINTS  # what is of one time with them: points that come late, or again
        late: list[Chunk] = []
        for chunk in reversed(series.chunks):
            summary = chunk.summary
            room -= summary.points
            if summary.end < start or summary.start > end or room < 0:
                break
            late.append(chunk)
        small = list(takewhile(lambda chunk: chunk.summary.points < SMALL_POINTS, reversed(series.chunks)))[:SMALL_CHUNKS]
        return [*reversed(late if len(late) > len(small) or len(small) < SMALL_CHUNKS - 1 else small)]

    def _columns(self, series: Series, chunk: Chunk) -> Columns:
        """The points of a chunk. A query that has paused may still want one that is replaced, whose record compaction has taken: then those
        of its time that the series has now."""
        record = self.engine.log.read(chunk.index)
        if record is not None:
            return Columns(*unpack(record.state))
        if self.store.by_id.get(series.id) is not series:
            return Columns((), ())
        if chunk in series.chunks:
            raise LogDamaged(f"chunk {chunk.index} is in its series but not in the log")
        start, end = chunk.summary.start, chunk.summary.end
        times, values = _merged([block.columns() for block in self.blocks(series, start, end)])
        first, last = bisect_left(times, start), bisect_right(times, end)
        return Columns(times[first:last], values[first:last])

    def _lower(self) -> None:
        """Write the watermark, if it has moved. Raises `Overloaded`."""
        low = self.store.needed_from(self.engine.log.next_index)
        if low > self._low:
            self.admit_frees(SIDE_BYTES)
            scope = bytes((FAMILY_TS_POINTS,)) + _POINTS_ENTITY
            self._write(WATERMARK, scope, U64.pack(low))
        self._low_points = self.store.passed_points

    # -- time and background -----------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """See `Part`."""
        return not self.store.open and not self.store.aging and not self.store.ruled and not self._must_lower

    @property
    def _must_write(self) -> bool:
        """Whether a series must be sealed, or the watermark must move."""
        return bool(self._full) or self._must_seal or self._must_lower

    @property
    def _must_seal(self) -> bool:
        store, most = self.store, self._open_most
        is_full = self.engine.memory_full and bool(store.open)  # a chunk takes less memory than its points
        return is_full or store.open_points > most or store.written_points - store.passed_points > READ_SHARE * most

    @property
    def _must_lower(self) -> bool:
        return self.store.passed_points - self._low_points >= PASS_POINTS

    def next_due(self) -> int | None:
        """See `Part`."""
        if self._must_write or self._to_age:
            return 0
        due = self._downsampling.next_due()
        if self.store.aging or self.store.open:
            after = min(([self._age_after] if self.store.aging else []) + ([self._idle_after] if self.store.open else []))
            wait = self.engine.now + max(after - self.engine.steady(), 0)
            due = wait if due is None else min(wait, due)
        return due

    def sweep_slice(self) -> bool:
        """See `Part`: seal some series, move the watermark; or sum up some windows, and look at the ages of some series."""
        until, sealed = monotonic() + SEAL_SECONDS, False
        while monotonic() < until and (series := self._next_to_seal()) is not None:
            self._seal(series)
            sealed = True
        if self._must_lower:
            self._lower()
        elif not sealed:
            summed = self._downsampling.slice()
            return self._age_slice() or summed
        return True

    def _next_to_seal(self) -> Series | None:
        """The series that is to be sealed next."""
        if self._full:
            return next(iter(self._full.values()))
        oldest = next(iter(self.store.open.values()), None)
        if oldest is None or not (self._must_seal or oldest.since <= self._low_wanted or not self.engine.is_early(self._idle_after)):
            return None
        return oldest

    def _age_slice(self) -> bool:
        """Delete what is too old of some series; begins again every AGES_MS. Returns whether there is more. Raises `Overloaded`."""
        engine, store = self.engine, self.store
        if not self._to_age:
            if engine.is_early(self._age_after) or not store.aging:
                return False
            if self._low <= self._low_wanted:
                self._lower()
            self._to_age = [series for name in store.aging for series in store.measurements[name].series.values()]
            self._age_after = engine.steady() + AGES_MS
        until = monotonic() + AGE_SECONDS
        while self._to_age and monotonic() < until:
            series = self._to_age[-1]
            max_age = series.measurement.max_age
            if store.by_id.get(series.id) is not series or not max_age or not self._age(series, engine.now - max_age):
                self._to_age.pop()
        return bool(self._to_age)

    def _age(self, series: Series, oldest: int) -> bool:
        """Delete some of the chunks of a series whose points are all older, and the series itself if that was all. Returns whether there
        are more."""
        if series.since and max(series.times) < oldest:
            self._seal(series)
        head = container(series.measurement.name.encode(*TEXT))
        doomed: list[Chunk] = []
        for chunk in series.chunks:
            if chunk.summary.end >= oldest:
                continue
            if chunk.index >= self._low:
                self._low_wanted = max(self._low_wanted, chunk.index)  # the next look deletes it
            else:
                doomed.append(chunk)
        self.admit_frees((SIDE_BYTES + U64.size + len(head)) * min(len(doomed), AGE_CHUNKS))
        for chunk in doomed[:AGE_CHUNKS]:
            self._write(TS_CHUNK_GONE, head + _CHUNK_ID.pack(series.id, chunk.number), b"", (chunk.index,), gone=True)
        if not series.chunks and not series.since:
            self._delete(series)
        return len(doomed) > AGE_CHUNKS

    # -- settings ----------------------------------------------------------------------------------

    def configure(self, name: str, max_age: int, rules: str) -> None:
        """Let a measurement keep its points for so many ms, 0 for ever, and have these rules of downsampling. Raises `BadRequest`."""
        self._admit_name(name)
        parsed = parse_rules(rules)
        for rule in parsed:
            self._admit_name(f"{name}:{rule.key}")
            if max_age and max_age < RULE_AGES * rule.width:
                raise BadRequest(
                    f"points that are kept for {max_age} ms are gone before the rule {rule.key} has summed them up; keep them for at least "
                    f"{RULE_AGES * rule.width} ms"
                )
        self.admit_adds((SIDE_BYTES + len(name)) * (1 + len(parsed)) + len(rules))
        self._configure(name, max_age, rules)
        for rule in parsed:
            target = self.store.measurements.get(f"{name}:{rule.key}")
            if target is None or target.max_age != rule.max_age:
                self._configure(f"{name}:{rule.key}", rule.max_age, target.rules if target is not None else "")
        measurement = self.store.measurements.get(name)
        for key in measurement.progress.keys() - {rule.key for rule in parsed} if measurement is not None else ():
            self.advance(name, key, None)
        self._downsampling.forget(name)
        self._age_after = 0
        self.engine.busy.add(self.namespace)

    def _configure(self, name: str, max_age: int, rules: str) -> None:
        state = U64.pack(max_age) + rules.encode(*TEXT)
        self._write(TS_SETTINGS, container(name.encode(*TEXT)) + SETTINGS_MARK, state)

    def advance(self, name: str, key: str, progress: Progress | None) -> None:
        """Write down how far a rule of downsampling is; None: it is there no more."""
        entity = container(name.encode(*TEXT)) + PROGRESS_MARK + key.encode()
        if progress is not None:
            self._write(TS_PROGRESS, entity, _PROGRESS.pack(*progress))
        else:
            self._write(TS_PROGRESS_GONE, entity, b"", gone=True)

    # -- reading -----------------------------------------------------------------------------------

    def blocks(self, series: Series, start: int, end: int) -> list[Block]:
        """The points of a series from `start` to `end`, both included, as blocks in order of time. The outer ones may reach further, but no
        point is too old."""
        if not series.since and not series.chunks:
            return []
        self.store.settle(series)
        max_age = series.measurement.max_age
        oldest = self.engine.now - max_age if max_age else start
        start = max(start, oldest)
        found = [
            Block(summary, partial(self._columns, series, chunk))
            for chunk in series.chunks
            if (summary := chunk.summary).end >= start and summary.start <= end
        ]
        times, values = series.times, series.values
        if times and times[-1] >= start and times[0] <= end:
            found.append(_block_of(times, values))
        order = sorted(range(len(found)), key=lambda at: (found[at].start, at))
        made: list[Block] = []
        together: list[int] = []  # blocks of one time: the later ones are right
        reach = 0
        for at in order:
            if together and found[at].start > reach:
                made.append(_together([found[each] for each in sorted(together)]))
                together = []
            reach = max(reach, found[at].end) if together else found[at].end
            together.append(at)
        if together:
            made.append(_together([found[each] for each in sorted(together)]))
        if max_age and made and made[0].start < oldest:
            made[0] = _younger(made[0], oldest)
        return made

    def names(self) -> list[str]:
        """The measurements, in order."""
        return self.store.names()

    def describe(self, name: str) -> dict[str, object] | None:
        """A measurement for people: its fields, and how many values each tag has, which makes series many; None if it is missing."""
        measurement = self.store.measurements.get(name)
        if measurement is None:
            return None
        values = sorted(((len(found), tag) for tag, found in measurement.by_tag.items()), key=lambda each: (-each[0], each[1]))
        return {
            "name": name,
            "series": len(measurement.series),
            "fields": sorted(measurement.fields),
            "tags": [{"name": tag, "values": count} for count, tag in values[:TAGS_SHOWN]],
            "max_age_ms": measurement.max_age,
            "downsample": measurement.rules,
            "problem": self._downsampling.problem(name),
        }

    # -- deleting ----------------------------------------------------------------------------------

    def delete_job(self, name: str, equal: dict[str, str]) -> Generator[None, None, int]:
        """Delete the series of a measurement that have these tags; returns how many. A job; without tags, the settings go too."""
        measurement = self.store.measurements.get(name)
        if measurement is None:
            return 0
        count = 0
        doomed = list(self.store.select(measurement, equal))
        while doomed:
            for _ in range(min(DELETE_SLICE, len(doomed))):
                series = doomed.pop()  # so that it is freed in this slice
                if self.store.by_id.get(series.id) is series:
                    self._delete(series)
                    count += 1
            if doomed:
                yield
                self.check_namespace()
        if count:
            self._lower()  # so that a compaction frees what the records of their points take, as far as no other series needs them
        if not equal and measurement.configured:
            self.admit_frees((SIDE_BYTES + len(name)) * (1 + len(measurement.progress)))
            for key in tuple(measurement.progress):
                self.advance(name, key, None)
            self._downsampling.forget(name)
            self._write(TS_SETTINGS_GONE, container(name.encode(*TEXT)) + SETTINGS_MARK, b"", gone=True)
        return count

    def _delete(self, series: Series) -> None:
        head = container(series.measurement.name.encode(*TEXT))
        self.admit_frees((SIDE_BYTES + len(head)) * (len(series.chunks) + 1))
        numbers = [chunk.number for chunk in series.chunks]
        self._write(TS_SERIES_GONE, head + SERIES_MARK + U64.pack(series.id), b"", gone=True)
        for number in numbers:
            self._write(TS_CHUNK_GONE, head + _CHUNK_ID.pack(series.id, number), b"", gone=True)
        self._full.pop(series.id, None)

    # -- contents ----------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """See `Part`."""
        return not self.store.measurements

    @property
    def memory_bytes(self) -> int:
        """See `Part`."""
        return self.store.accounted

    def counts(self) -> dict[str, int]:
        """See `Part`."""
        store = self.store
        return {"measurements": len(store.measurements), "series": len(store.by_id), "points": store.open_points + store.sealed_points}

    def containers(self) -> list[Any]:
        """See `Part`."""
        return list(self.store.measurements.values())

    def measure(self, container: Measurement) -> tuple[bytes, tuple[int, ...]]:
        """See `Part`."""
        return container.name.encode(*TEXT), (len(container.series),) if container.exists else ()

    def drop(self, below: int) -> list[Any]:
        """See `Part`."""
        store, self.store = self.store, TimeSeriesStore()
        self._full, self._low, self._low_points, self._to_age = {}, 0, 0, []
        self._downsampling.forget()
        found = store.measurements.values()
        knowing = [*(each.series for each in found), *(each.by_tag for each in found)]  # series know their measurement: cycles
        return [*knowing, store.by_id, store.by_key, store.open, store.measurements]

    def finish_load(self) -> None:
        """See `Part`."""
        self._full = {series.id: series for series in self.store.open.values() if len(series.times) >= CHUNK_POINTS}
        self._idle_after = self.engine.steady() + IDLE_MS


# -- bytes -----------------------------------------------------------------------------------------


def _unpack_points(state: bytes) -> tuple["array[int]", "array[int]", "array[float]"]:
    view, size = memoryview(state), len(state) // 3
    ids, times, values = array("Q"), array("q"), array("d")
    ids.frombytes(view[:size])
    times.frombytes(view[size : 2 * size])
    values.frombytes(view[2 * size :])
    return ids, times, values


# -- points ----------------------------------------------------------------------------------------


def _block_of(times: "array[int]", values: "array[float]") -> Block:
    summary = Summary(times[0], times[-1], len(times), sum(values), min(values), max(values), values[0], values[-1])
    return Block(summary, lambda: Columns(times.tolist(), values.tolist()))


def _merged(columns: Sequence[Columns]) -> tuple["array[int]", "array[float]"]:
    """Points of one time and another, in order; of two at one time the later columns' stays."""
    points: dict[int, float] = {}
    for times, values, divisor in columns:
        points.update(zip(times, [value / divisor for value in values] if divisor else values, strict=True))
    ordered = dict(sorted(points.items()))
    return array("q", ordered), array("d", ordered.values())


def _younger(block: Block, oldest: int) -> Block:
    """The points of a block from a time on."""
    times, values = _merged([block.columns()])
    at = bisect_left(times, oldest)
    return _block_of(times[at:], values[at:])


def _together(blocks: Sequence[Block]) -> Block:
    """One block of several."""
    return blocks[0] if len(blocks) == 1 else _block_of(*_merged([block.columns() for block in blocks]))
