"""Time series against a plain dictionary, with restarts, crashes and moved clocks: the last write at a time wins, in open points and in
chunks, of any size and merged; nothing younger than the most age is lost, nothing older is shown; what is deleted stays so; and what the
liveness rule keeps is enough to rebuild them."""

from array import array
from collections.abc import Callable, Collection
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from flo.engine import Engine
from flo.engine import timeseries as engine_timeseries
from flo.engine.operation import run_job
from flo.engine.timeseries import AGES_MS
from flo.engine.timeseries_query import query_job
from flo.series import Series, write_key
from flo.store.timeseries import Series as StoredSeries
from tests.support.points import write_columns
from tests.support.restarts import HOUR, START, RestartModel
from tests.support.totals import check_totals

pytestmark = pytest.mark.computes

SMALL = {
    "CHUNK_POINTS": 8,
    "SMALL_POINTS": 4,
    "SMALL_CHUNKS": 3,
    "OPEN_MIN": 12,
    "OPEN_EACH": 2,
    "PASS_POINTS": 4,
    "AGE_SECONDS": 1e-5,
    "AGE_CHUNKS": 2,
    "DELETE_SLICE": 2,
}
HOSTS, FIELDS = ("a", "b", "c"), ("x", "y")
NAMES = st.sampled_from(["cpu", "cpu", "mem"])
TAGS = st.fixed_dictionaries({}, optional={"host": st.sampled_from([*HOSTS, ""]), "zone": st.sampled_from(["1", ""])})
STEP = 1000  # ms between points that follow each other
FOREVER = (-(1 << 60), 1 << 60)

Key = tuple[str, tuple[tuple[str, str], ...], str]
Points = dict[int, float]


def key_of(key: Key) -> bytes:
    return write_key(Series(*key))


ALL_KEYS: list[Key] = [
    (name, tuple(sorted(tags.items())), field)
    for name in ("cpu", "mem")
    for tags in [{}, *({"host": host} for host in HOSTS), {"host": "a", "zone": "1"}]
    for field in FIELDS
]
KEYS = st.sampled_from(ALL_KEYS)


def snapshot(engine: Engine) -> Any:
    """Everything that must be the same after a rebuild."""
    store = engine.ts.store

    def series(each: StoredSeries) -> Any:
        chunks = [(chunk.number, chunk.index, chunk.packed, chunk.size) for chunk in each.chunks]
        return each.id, chunks, sorted(dict(zip(each.times, each.values, strict=True)).items()), each.since

    settings = {name: (each.max_age, each.rules, sorted(each.series)) for name, each in store.measurements.items()}
    return settings, {key: series(each) for key, each in store.by_key.items()}, sorted(store.aging)


class SeriesModel(RestartModel):
    """Every operation, on the engine and on the model."""

    PASSES: ClassVar = [1, 700, AGES_MS + 1, AGES_MS + 1, 60_000]

    @initialize(points=st.sampled_from([0, 9, 30]), age=st.sampled_from([0, 0, 30_000]))
    def open(self, points: int, age: int) -> None:
        self.patches = pytest.MonkeyPatch()
        for name, value in SMALL.items():
            self.patches.setattr(engine_timeseries, name, value)
        self.points: dict[Key, Points] = {}  # the last value of each time
        self.old: dict[Key, dict[int, set[float]]] = {}  # values of points that were too old once: they may be gone, or come back
        self.ages: dict[str, int] = {}
        self.begin()
        if age:
            self.configure("cpu", age)
        for at in range(0, points, 3):  # chance alone takes long to fill chunks
            self.write(ALL_KEYS[:2], 3, self.wall + at * STEP, 1)

    def open_engine(self) -> Engine:
        engine = super().open_engine()
        engine.steady = lambda: self.true
        return engine

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "patches"):
            self.patches.undo()

    # -- the model ---------------------------------------------------------------------------------

    def _now(self) -> int:
        """The time now, and what it has done."""
        with self.engine.batch():
            while self.engine.sweep():
                pass
        for key, points in self.points.items():
            oldest = self._oldest(key[0])
            for time in [time for time in points if time < oldest]:
                self.old.setdefault(key, {}).setdefault(time, set()).add(points.pop(time))
        return self.wall

    def _oldest(self, name: str) -> int:
        age = self.ages.get(name, 0)
        return self.wall - age if age else FOREVER[0]

    def _agrees(self, key: Key, found: Points, start: int, end: int) -> None:
        """What was read of a series from `start` to `end`."""
        sure = {time: value for time, value in self.points.get(key, {}).items() if start <= time <= end}
        rest = {time: value for time, value in found.items() if time not in sure}
        assert {time: value for time, value in found.items() if time in sure} == sure
        old = self.old.get(key, {})
        assert all(value in old.get(time, ()) and start <= time <= end and time >= self._oldest(key[0]) for time, value in rest.items())

    # -- operations --------------------------------------------------------------------------------

    @rule(
        keys=st.lists(KEYS, min_size=1, max_size=4, unique=True),
        count=st.sampled_from([1, 1, 2, 5, 20]),
        start=st.integers(-40, 40).map(lambda at: at * STEP),
        step=st.sampled_from([1, STEP, STEP, -STEP, 0]),
    )
    def write_points(self, keys: list[Key], count: int, start: int, step: int) -> None:
        """In order, late, in reverse, again, or all at one time."""
        self.write(keys, count, START + start if step else self.wall, step)

    @rule(keys=st.lists(KEYS, min_size=1, max_size=2, unique=True), count=st.sampled_from([1, 3, 9]))
    def write_now(self, keys: list[Key], count: int) -> None:
        self.write(keys, count, self.wall, STEP)

    def write(self, keys: list[Key], count: int, start: int, step: int) -> None:
        self._now()
        batch, wrote = {}, self.engine.log.next_index  # values that no other write has
        for number, key in enumerate(keys):
            times = [start + at * step for at in range(count)]
            values = [(wrote * 100 + number * 20 + at) / 8 for at in range(count)]
            batch[key_of(key)] = array("q", times), array("d", values)
            points = self.points.setdefault(key, {})
            for time, value in zip(times, values, strict=True):
                if time in points:
                    self.old.setdefault(key, {}).setdefault(time, set()).add(points[time])
                points[time] = value
        with self.engine.batch():
            assert write_columns(self.engine.ts, batch) == count * len(keys)

    @rule(name=NAMES, age=st.sampled_from([0, 20_000, HOUR]))
    def configure(self, name: str, age: int) -> None:
        self._now()
        with self.engine.batch():
            self.engine.ts.configure(name, age, "")
        self.ages[name] = age

    @rule(name=NAMES, tags=TAGS)
    def delete(self, name: str, tags: dict[str, str]) -> None:
        self._now()
        there = self._select(name, tags)
        with self.engine.batch():
            run_job(self.engine.ts.delete_job(name, tags))
        assert not self._select(name, tags)
        for key in there:
            self.points.pop(key, None)
            self.old.pop(key, None)
        if not tags:
            self.ages.pop(name, None)

    def _select(self, name: str, tags: dict[str, str]) -> set[Key]:
        """The series that the engine has, selected the plain way."""
        found = self.engine.ts.store.by_id.values()
        keys = [(each.measurement.name, each.tags, each.field) for each in found]
        return {key for key in keys if key[0] == name and all(dict(key[1]).get(tag, "") == value for tag, value in tags.items())}

    @rule(name=NAMES, tags=TAGS, start=st.integers(-50, 100), length=st.integers(0, 100), field=st.sampled_from(FIELDS))
    def query(self, name: str, tags: dict[str, str], start: int, length: int, field: str) -> None:
        self._now()
        since, until = START + start * STEP // 2, START + (start + length) * STEP // 2
        matchers = ", ".join(f'{tag}="{value}"' for tag, value in tags.items())
        text = f"{name}{{{matchers}}}[{since}..{until}] | field({field})"

        def ask(stage: str) -> dict[Key, Points]:
            answer = run_job(query_job(self.engine.ts, text + stage, 10**6))["series"]
            return {(name, tuple(sorted(each["tags"].items())), field): dict(map(tuple, each["points"])) for each in answer}

        plain = ask("")
        for key in self._select(name, tags) | {key for key in self.points if key[0] == name}:
            if key[2] == field and all(dict(key[1]).get(tag, "") == value for tag, value in tags.items()):
                self._agrees(key, plain.get(key, {}), since, until)
            else:
                assert key not in plain
        plain = {key: points for key, points in plain.items() if points}
        functions: dict[str, Callable[[Collection[float]], float]] = {"count": len, "sum": sum}
        for stage, function in functions.items():
            assert ask(f" | {stage}()") == {key: {since: function(points.values())} for key, points in plain.items()}
        highest: dict[Key, Points] = {key: {} for key in plain}
        for key, points in plain.items():
            for time, value in points.items():
                highest[key][time - time % 7000] = max(value, highest[key].get(time - time % 7000, value))
        assert ask(" | window(7s) | max()") == highest

    @rule(count=st.integers(1, 3))
    def seal(self, count: int) -> None:
        """As if too many points were open."""
        part = self.engine.ts
        with self.engine.batch():
            for series in list(part.store.open.values())[:count]:
                part._seal(series)
            part._lower()

    # -- time and restarts -------------------------------------------------------------------------

    def snapshot(self, engine: Engine) -> Any:
        return snapshot(engine)

    def look(self, ms: int, data: st.DataObject) -> None:
        if data.draw(st.booleans()):
            self._now()

    def last_snapshot(self) -> Any:
        self._now()
        self.engine.commit()
        return super().last_snapshot()

    # -- what must always hold -----------------------------------------------------------------------

    def agree(self) -> None:
        self._now()
        check_totals(self.engine)
        part = self.engine.ts
        for key in {*self.points, *self.old}:
            found = part.store.by_key.get(key_of(key))
            points: Points = {}
            for block in part.blocks(found, *FOREVER) if found is not None else ():
                times, values, divisor = block.columns()
                plain = [value / divisor if divisor else value for value in values]
                assert (block.start, block.end, block.count) == (times[0], times[-1], len(times))
                assert (block.minimum, block.maximum, block.sum) == (min(plain), max(plain), sum(plain))
                assert block.start > max(points, default=FOREVER[0]) and list(times) == sorted(set(times)), "ascending, each once"
                points.update(zip(times, plain, strict=True))
            self._agrees(key, points, *FOREVER)
        assert {(each.measurement.name, each.tags, each.field) for each in part.store.by_id.values()} <= {*self.points, *self.old}
        assert sorted(part.store.measurements) == part.names()


TestSeriesModel = pytest.mark.slow(SeriesModel.TestCase)
TestSeriesModel.settings = settings(max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.long
class TestSeriesModelLong(SeriesModel.TestCase):  # type: ignore[misc, valid-type]
    """The same, for longer."""

    settings = settings(max_examples=1500, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck))
