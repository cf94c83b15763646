"""The series of one namespace: what the log says of their points, in memory.

A **series** is a measurement, a set of tags and a field. Its newest points are **open**: two arrays, times and values, in the order in
which they came. The others are in **chunks** (flo.store.chunk): the log holds their points, memory the place of their record and their
summary.

A write is one record with points of any number of series. A chunk's record holds all points that were open in its series until then, so
they are open no longer; it does not matter which of both a start still finds of the records before. Chunks of a series have numbers. Where
two have points of one time, the one with the higher number is right: points that come late, or again, are in a later chunk.

A series is known by the index of its record. That number is in the records of points and chunks; none is used twice, so points of a series
that was deleted are nobody's. Series with open points are kept in the order of the first record that they still need: the records of
points below the first one's are needed by nobody (`needed_from`).

A series' **key** is its measurement, tags and field as one text (flo.series). Names are str, UTF-8 with surrogateescape.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from operator import lt

from flo.store.chunk import SUMMARY_BYTES, Summary, summary_of
from flo.store.downsampling import Progress, Rule, parse_rules

TEXT = ("utf-8", "surrogateescape")  # how names are encoded
Tags = tuple[tuple[str, str], ...]  # in order of their names, which differ

# By tracemalloc, over 100,000 series with three tags
SERIES_BYTES = 1200  # without its names
OPEN_SERIES_BYTES = 400  # more for a series with open points: its two arrays, its place among the open ones
NAME_BYTES = 2  # for each byte of a series' key, which has its names once more
OPEN_BYTES = 18  # a point: eight bytes in each of two arrays, which grow ahead
CHUNK_BYTES = 300
MEASUREMENT_BYTES = 1200


class Chunk:
    """A sealed chunk."""

    __slots__ = ("index", "number", "packed", "size")

    def __init__(self, index: int, number: int, state: bytes) -> None:
        self.index: int = index  # of its record
        self.number: int = number
        self.packed: bytes = state[:SUMMARY_BYTES]
        self.size: int = len(state)

    @property
    def summary(self) -> Summary:
        """What is known without its points."""
        return summary_of(self.packed)


class Series:
    """One series."""

    __slots__ = ("chunks", "field", "id", "key", "measurement", "since", "since_points", "tags", "times", "values")

    def __init__(self, identity: int, key: bytes, measurement: "Measurement", tags: Tags, field: str) -> None:
        self.id: int = identity
        self.key: bytes = key
        self.measurement: Measurement = measurement
        self.tags: Tags = tags
        self.field: str = field
        self.times: array[int] = array("q")
        self.values: array[float] = array("d")
        self.since: int = 0  # the first record that holds open points; 0 for none
        self.since_points: int = 0  # points of all series that were written before it
        self.chunks: list[Chunk] = []  # by their numbers

    @property
    def points(self) -> int:
        """How many points it has; one that replaced another counts until both are in one chunk."""
        return len(self.times) + sum(chunk.summary.points for chunk in self.chunks)


class Measurement:
    """The series of one name."""

    __slots__ = ("by_tag", "fields", "max_age", "name", "progress", "rules", "series")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.series: dict[int, Series] = {}  # by their numbers
        self.by_tag: dict[str, dict[str, set[Series]]] = {}  # tag -> value -> its series
        self.fields: dict[str, int] = {}  # how many series each has
        self.max_age: int = 0  # ms; 0 for ever
        self.rules: str = ""  # of downsampling, as they were given
        self.progress: dict[str, Progress] = {}  # of the rules, by their keys

    @property
    def configured(self) -> bool:
        """Whether a client has configured it."""
        return bool(self.max_age or self.rules)

    @property
    def exists(self) -> bool:
        """Whether clients see it."""
        return bool(self.series) or self.configured


class TimeSeriesStore:
    """`declare`, `add`, `seal` and so on apply records, replayed or live. A series that is not there is one that was deleted."""

    def __init__(self) -> None:
        self.measurements: dict[str, Measurement] = {}
        self.by_id: dict[int, Series] = {}
        self.by_key: dict[bytes, Series] = {}
        self.aging: set[str] = set()  # the measurements with a most age
        self.ruled: dict[str, tuple[Rule, ...]] = {}  # the measurements with rules of downsampling
        self.open: dict[int, Series] = {}  # the series with open points, by their numbers, in the order of `since`
        self.open_points: int = 0
        self.sealed_points: int = 0
        self.written_points: int = 0  # ever, as far as the log knows
        self.chunks: int = 0
        self._name_bytes = 0

    @property
    def accounted(self) -> int:
        """Bytes of memory accounted to it."""
        return (
            SERIES_BYTES * len(self.by_id)
            + self._name_bytes
            + OPEN_SERIES_BYTES * len(self.open)
            + OPEN_BYTES * self.open_points
            + CHUNK_BYTES * self.chunks
            + MEASUREMENT_BYTES * len(self.measurements)
        )

    def needed_from(self, next_index: int) -> int:
        """The first record of points that a start needs; `next_index` if it needs none."""
        return next(iter(self.open.values())).since if self.open else next_index

    @property
    def passed_points(self) -> int:
        """How many of the written points no start needs any more, since they came before the first that one needs."""
        return next(iter(self.open.values())).since_points if self.open else self.written_points

    # -- looking -----------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The measurements, in order."""
        return sorted(name for name, each in self.measurements.items() if each.exists)

    def settle(self, series: Series) -> None:
        """Put the open points of a series in order of time; of several at one time, the last that came stays. No answer shows that this was
        done."""
        times = series.times
        if len(times) > 1 and not all(map(lt, times, islice(times, 1, None))):
            ordered = dict(sorted(dict(zip(times, series.values, strict=True)).items()))
            self.open_points -= len(times) - len(ordered)
            series.times, series.values = array("q", ordered), array("d", ordered.values())

    @staticmethod
    def select(measurement: Measurement, equal: Mapping[str, str]) -> Iterator[Series]:
        """The series that have these tags, as they are when the first is asked for; an empty value stands for a missing tag too."""
        found: set[Series] | None = None
        missing = []
        for tag, value in equal.items():
            if not value:
                missing.append(tag)
                continue
            series = measurement.by_tag.get(tag, {}).get(value, set())
            found = series if found is None else found & series
        for each in list(measurement.series.values() if found is None else found):
            if not missing or not any(dict(each.tags).get(tag) for tag in missing):
                yield each

    # -- what records do ---------------------------------------------------------------------------

    def measurement(self, name: str) -> Measurement:
        """The measurement of that name; makes it if there is none."""
        found = self.measurements.get(name)
        if found is None:
            found = self.measurements[name] = Measurement(name)
        return found

    def declare(self, identity: int, key: bytes, name: str, tags: Tags, field: str) -> None:
        """There is a series with this number, this key, and its names."""
        measurement = self.measurement(name)
        made = self.by_id[identity] = self.by_key[key] = measurement.series[identity] = Series(identity, key, measurement, tags, field)
        measurement.fields[field] = measurement.fields.get(field, 0) + 1
        for tag, value in tags:
            measurement.by_tag.setdefault(tag, {}).setdefault(value, set()).add(made)
        self._name_bytes += NAME_BYTES * len(key)

    def add(self, index: int, ids: Sequence[int], times: Sequence[int], values: Sequence[float]) -> None:
        """Record `index` holds points, each with the number of its series."""
        get, is_open, missing, written = self.by_id.get, self.open, 0, self.written_points
        for identity, time, value in zip(ids, times, values, strict=True):
            series = get(identity)
            if series is None:
                missing += 1
                continue
            if not series.since:
                series.since, series.since_points = index, written
                is_open[identity] = series
            series.times.append(time)
            series.values.append(value)
        self.written_points += len(ids)
        self.open_points += len(ids) - missing

    def seal(self, index: int, identity: int, number: int, state: bytes) -> None:
        """Record `index` is a chunk of a series: all its open points, and those of the chunk with this number, if there was one."""
        series = self.by_id.get(identity)
        if series is None:
            return
        self._close(series)
        self.unseal(identity, number)
        chunk = Chunk(index, number, state)
        at = len(series.chunks)
        while at and series.chunks[at - 1].number > number:
            at -= 1
        series.chunks.insert(at, chunk)
        self.chunks += 1
        self.sealed_points += chunk.summary.points

    def unseal(self, identity: int, number: int) -> None:
        """A chunk is gone."""
        series = self.by_id.get(identity)
        for chunk in series.chunks if series is not None else ():
            if chunk.number == number:
                assert series is not None
                series.chunks.remove(chunk)
                self.chunks -= 1
                self.sealed_points -= chunk.summary.points
                return

    def _close(self, series: Series) -> None:
        if series.since:
            self.open_points -= len(series.times)
            series.times, series.values = array("q"), array("d")
            series.since = 0
            del self.open[series.id]

    def remove(self, identity: int) -> None:
        """A series was deleted."""
        series = self.by_id.pop(identity, None)
        if series is None:
            return
        self._close(series)
        self.chunks -= len(series.chunks)
        self.sealed_points -= sum(chunk.summary.points for chunk in series.chunks)
        measurement = series.measurement
        del self.by_key[series.key], measurement.series[identity]
        measurement.fields[series.field] -= 1
        if not measurement.fields[series.field]:
            del measurement.fields[series.field]
        for tag, value in series.tags:
            values = measurement.by_tag[tag]
            values[value].discard(series)
            if not values[value]:
                del values[value]
            if not values:
                del measurement.by_tag[tag]
        self._name_bytes -= NAME_BYTES * len(series.key)
        self._forget_empty(measurement)

    def configure(self, name: str, max_age: int, rules: str) -> None:
        """The measurement keeps its points for so many ms (0: for ever), and has these rules."""
        measurement = self.measurement(name)
        measurement.max_age, measurement.rules = max_age, rules
        if max_age:
            self.aging.add(name)
        else:
            self.aging.discard(name)
        if rules:
            self.ruled[name] = parse_rules(rules)
        else:
            self.ruled.pop(name, None)
        self._forget_empty(measurement)

    def advance(self, name: str, key: str, progress: Progress | None) -> None:
        """The rule with this key has come so far; None: there is no such rule any more."""
        measurement = self.measurement(name)
        if progress is not None:
            measurement.progress[key] = progress
        else:
            measurement.progress.pop(key, None)
            self._forget_empty(measurement)

    def _forget_empty(self, measurement: Measurement) -> None:
        if not measurement.exists:
            del self.measurements[measurement.name]
