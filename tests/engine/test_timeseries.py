"""Time series against a plain dictionary: late points, points written again, chunks of any size, restarts, compaction, deletion."""

import random
from array import array
from pathlib import Path

import pytest

from flo.engine import Engine, EngineSettings
from flo.engine import timeseries as engine_timeseries
from flo.engine.operation import run_job
from flo.engine.timeseries import TimeSeries
from flo.errors import BadRequest
from flo.series import Series, write_key
from flo.ual.record import FAMILY_TS_POINTS
from tests.support.points import write_columns

FOREVER = (-(1 << 62), 1 << 62)
Points = dict[bytes, dict[int, float]]


def key(measurement: str = "cpu", field: str = "value", **tags: str) -> bytes:
    return write_key(Series(measurement, tuple(sorted(tags.items())), field))


def columns(points: list[tuple[int, float]]) -> tuple["array[int]", "array[float]"]:
    return array("q", [time for time, _ in points]), array("d", [value for _, value in points])


def read(part: TimeSeries, series: bytes, start: int = FOREVER[0], end: int = FOREVER[1]) -> dict[int, float]:
    """All points of a series, by way of its blocks, whose summaries are right."""
    found = part.store.by_key.get(series)
    points: dict[int, float] = {}
    last = FOREVER[0] - 1
    for block in part.blocks(found, start, end) if found is not None else ():
        times, values, divisor = block.columns()
        assert last < block.start and list(times) == sorted(set(times)), "in order of time, each once"
        last = block.end
        plain = [value / divisor if divisor else value for value in values]
        assert (block.start, block.end, block.count) == (times[0], times[-1], len(times))
        assert (block.minimum, block.maximum, block.first, block.last) == (min(plain), max(plain), plain[0], plain[-1])
        points.update(zip(times, plain, strict=True))
    return points


def check(engine: Engine, expected: Points) -> None:
    part = engine.namespaces["default"].ts
    assert {series: read(part, series) for series in expected} == expected
    assert set(part.store.by_key) == {each.key for each in part.store.by_id.values()} == set(expected)
    store = part.store
    assert store.open_points == sum(len(each.times) for each in store.by_id.values())
    assert store.chunks == sum(len(each.chunks) for each in store.by_id.values())
    assert store.sealed_points == sum(chunk.summary.points for each in store.by_id.values() for chunk in each.chunks)
    assert list(store.open) == [each.id for each in sorted(store.by_id.values(), key=lambda each: each.since) if each.since] or len(
        {each.since for each in store.open.values()}
    ) < len(store.open)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and bounds as small as a test can fill."""
    for name, value in {
        "CHUNK_POINTS": 16,
        "SMALL_POINTS": 8,
        "SMALL_CHUNKS": 3,
        "OPEN_MIN": 40,
        "OPEN_EACH": 2,
        "PASS_POINTS": 10,
    }.items():
        monkeypatch.setattr(engine_timeseries, name, value)


@pytest.mark.parametrize("seed", range(12))
def test_any_life_is_that_of_a_dictionary(tmp_path: Path, small: None, seed: int) -> None:
    chance = random.Random(seed)
    wall = [1_000_000]
    settings = EngineSettings(segment_bytes=1 << 16)
    expected: Points = {}
    engine = Engine(str(tmp_path), settings, clock=lambda: wall[0])
    names = [
        key(host=f"h{number % 5}", **({"region": "eu"} if number % 2 else {})) if number % 3 else key("mem", f"f{number}")
        for number in range(8)
    ]
    for step in range(120):
        wall[0] += 1000
        part = engine.namespaces["default"].ts
        turn = chance.random()
        if turn < 0.75:
            batch = {}
            for series in chance.sample(names, chance.randrange(1, 4)):
                base = wall[0] if chance.random() < 0.7 else chance.randrange(1_000_000, wall[0])
                points = [
                    (base + chance.randrange(-3, 40) * 10, round(chance.uniform(-5, 5), 2)) for _ in range(chance.choice([1, 1, 2, 9, 40]))
                ]
                batch[series] = columns(points)
                expected.setdefault(series, {}).update(points)
            with engine.batch():
                write_columns(part, batch)
        elif turn < 0.85:
            engine.close()
            engine = Engine(str(tmp_path), settings, clock=lambda: wall[0])
        elif turn < 0.92:
            engine.compact(tail=chance.random() < 0.5)
        elif turn < 0.96:
            with engine.batch():
                while engine.sweep():
                    pass
        else:
            host = f"h{chance.randrange(5)}"
            with engine.batch():
                run_job(part.delete_job("cpu", {"host": host}))
            expected = {series: points for series, points in expected.items() if b",host=%b" % host.encode() not in series}
        if step % 10 == 9:
            check(engine, expected)
    engine.close()
    with Engine(str(tmp_path), settings, clock=lambda: wall[0]) as engine:
        check(engine, expected)
        engine.compact()
        check(engine, expected)
    with Engine(str(tmp_path), settings, clock=lambda: wall[0]) as engine:
        check(engine, expected)


def test_ranges_read_no_more_than_they_must(tmp_path: Path, small: None) -> None:
    with Engine(str(tmp_path)) as engine:
        part = engine.ts
        with engine.batch():
            for at in range(0, 1600, 16):
                write_columns(part, {key(): columns([(time, float(time)) for time in range(at, at + 16)])})
                while engine.sweep():
                    pass
        found = part.store.by_key.get(key())
        assert found is not None and len(found.chunks) == 100 and not found.since
        blocks = part.blocks(found, 100, 130)
        assert [(block.start, block.end) for block in blocks] == [(96, 111), (112, 127), (128, 143)]
        assert part.blocks(found, 5000, 6000) == []


@pytest.mark.slow
def test_what_is_sealed_costs_the_law_nothing(tmp_path: Path, small: None) -> None:
    with Engine(str(tmp_path), EngineSettings(segment_bytes=1 << 16)) as engine:
        part = engine.ts
        for at in range(3000):
            with engine.batch():
                write_columns(part, {key(host=f"h{at % 20}"): columns([(at, 1.0)])})
                while engine.sweep():
                    pass
        engine.compact()
    with Engine(str(tmp_path)) as engine:
        part = engine.ts
        assert part.counts()["points"] == 3000
        assert 0 < records_of_points(engine) < 200


def records_of_points(engine: Engine) -> int:
    """How many records with points a compaction leaves."""
    engine.compact()
    records = map(engine.log.read, range(1, engine.log.next_index))
    return sum(record is not None and record.family == FAMILY_TS_POINTS for record in records)


def test_records_of_points_go_though_few_points_are_ever_open(tmp_path: Path, small: None) -> None:
    """A busy series whose points are in chunks soon, beside one that is slow."""
    with Engine(str(tmp_path), EngineSettings(segment_bytes=1 << 16)) as engine:
        part = engine.ts
        for at in range(200):
            with engine.batch():
                write_columns(part, {key(): columns([(time, 1.0) for time in range(at * 16, at * 16 + 16)])})
                if at == 0:
                    write_columns(part, {key(host="slow"): columns([(1, 1.0)])})
                while engine.sweep():
                    pass
        assert part.store.open_points < 40 and len(read(part, key())) == 3200
        assert records_of_points(engine) < 5
    with Engine(str(tmp_path)) as engine:
        assert len(read(engine.ts, key())) == 3200 and len(read(engine.ts, key(host="slow"))) == 1


def test_a_deletion_frees_the_records_of_points(tmp_path: Path) -> None:
    with Engine(str(tmp_path), EngineSettings(segment_bytes=1 << 16)) as engine:
        part = engine.ts
        for at in range(100):
            with engine.batch():
                write_columns(part, {key(): columns([(at, 1.0)])})
        assert records_of_points(engine) == 100
        with engine.batch():
            write_columns(part, {key("mem"): columns([(1, 1.0)])})
            run_job(part.delete_job("cpu", {}))
        assert records_of_points(engine) == 1


def test_what_is_too_old_goes(tmp_path: Path, small: None) -> None:
    wall, steady = [10_000_000], [0]

    def pass_time(seconds: int) -> None:
        wall[0] += seconds * 1000
        steady[0] += seconds * 1000
        engine.tick()
        with engine.batch():
            while engine.sweep():
                pass

    engine = Engine(str(tmp_path), clock=lambda: wall[0], steady=lambda: steady[0])
    expected: dict[int, float] = {}
    for step in range(60):
        part = engine.ts
        if step == 0:
            with engine.batch():
                part.configure("cpu", 300_000, "")
        with engine.batch():
            points = [(wall[0] + number * 1000, float(step)) for number in range(5)]
            write_columns(part, {key(): columns(points), key("mem"): columns([(wall[0], 1.0)])})
            if step < 3:
                write_columns(part, {key(host="gone"): columns([(wall[0], 1.0)])})
        expected.update(points)
        pass_time(20)
        oldest = wall[0] - 300_000
        assert read(part, key()) == {time: value for time, value in expected.items() if time >= oldest}
        if step % 20 == 19:
            engine.close()
            engine = Engine(str(tmp_path), clock=lambda: wall[0], steady=lambda: steady[0])
            assert read(engine.ts, key()) == {time: value for time, value in expected.items() if time >= oldest}
        if step == 30:
            engine.compact()
    part = engine.ts
    assert part.store.by_key.get(key(host="gone")) is None, "a series goes with its last point"
    assert len(read(part, key("mem"))) == 60, "of another measurement"
    found = part.store.by_key.get(key())
    assert found is not None and found.points < 150, "not only hidden"
    engine.close()


class Aged:
    """A measurement `cpu` with a most age of 300 s; the test moves the clocks."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.wall, self.steady = 10_000_000, 0
        self.engine = self.open()
        with self.engine.batch():
            self.part.configure("cpu", 300_000, "")

    def open(self) -> Engine:
        return Engine(str(self.directory), EngineSettings(segment_bytes=1 << 16), clock=lambda: self.wall, steady=lambda: self.steady)

    @property
    def part(self) -> TimeSeries:
        return self.engine.ts

    def write(self, series: bytes, count: int) -> None:
        """So many points, from now on, and the work that is due."""
        with self.engine.batch():
            write_columns(self.part, {series: columns([(self.wall + number, 1.0) for number in range(count)])})
        self.pass_time(0)

    def pass_time(self, seconds: int) -> None:
        self.wall += 1000 * seconds
        self.steady += 1000 * seconds
        self.engine.tick()
        with self.engine.batch():
            while self.engine.sweep():
                pass

    def check_restart(self, tail: bool) -> None:
        """What is deleted stays so: after a compaction and a restart, even if the measurement keeps all from here on."""
        with self.engine.batch():
            self.part.configure("cpu", 0, "")
        before = read(self.part, key())
        self.engine.compact(tail=tail)
        self.engine.close()
        self.engine = self.open()
        assert read(self.part, key()) == before
        self.engine.close()


def test_a_chunk_stays_while_the_record_of_its_points_does(tmp_path: Path, small: None) -> None:
    aged = Aged(tmp_path)
    with aged.engine.batch():
        write_columns(aged.part, {key(host="slow"): columns([(aged.wall + 1_000_000, 1.0)])})  # its record, the first, stays for long
    aged.write(key(), 16)
    aged.pass_time(290)
    aged.write(key(), 1)  # so that the series stays
    aged.pass_time(11)
    found = aged.part.store.by_key[key()]
    assert len(found.chunks) == 1, "the watermark cannot pass it yet"
    aged.check_restart(tail=False)


@pytest.mark.parametrize("tail", [True, False])
def test_a_deleted_chunk_leaves_no_points_behind(tmp_path: Path, small: None, tail: bool) -> None:
    """A compaction of the tail does not see the base, which has the record of the points, nor that the watermark drops it."""
    aged = Aged(tmp_path)
    aged.write(key(), 1)
    aged.engine.compact()
    aged.write(key(), 15)
    aged.pass_time(290)
    aged.write(key(), 1)
    for _ in range(3):
        aged.pass_time(11)
    assert len(read(aged.part, key())) == 1 == aged.part.store.by_key[key()].points
    aged.check_restart(tail)


def test_looks_at_ages_write_nothing_while_nothing_is_too_old(tmp_path: Path, small: None) -> None:
    aged = Aged(tmp_path)
    aged.write(key(), 16)
    aged.pass_time(11)
    before = aged.engine.log.next_index
    for _ in range(10):
        aged.pass_time(11)
    assert aged.engine.log.next_index == before
    aged.engine.close()


def test_the_later_of_two_chunks_is_right_whatever_their_times(tmp_path: Path, small: None) -> None:
    """Chunks of one time stay apart where they are too large to become one."""
    with Engine(str(tmp_path)) as engine:
        part = engine.ts
        for start in (100, 116, 132):
            with engine.batch():
                write_columns(part, {key(): columns([(time, 1.0) for time in range(start, start + 16)])})
                while engine.sweep():
                    pass
        late = dict.fromkeys(range(90, 140, 3), 2.0)  # before the first chunk's start, and over all
        with engine.batch():
            write_columns(part, {key(): columns([*late.items()])})
            while engine.sweep():
                pass
        found = part.store.by_key[key()]
        first, second = found.chunks[0].summary, found.chunks[1].summary
        assert not found.since and second.start < first.start < second.end, "the later chunk begins before the earlier one"
        assert read(part, key()) == dict.fromkeys(range(100, 148), 1.0) | late


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_timeseries, "SERIES_MAX", 3)
    with Engine(str(tmp_path)) as engine:
        part = engine.ts
        one = columns([(1, 1.0)])
        with engine.batch():
            write_columns(part, {key(host="a"): one, key(host="b"): one})
            with pytest.raises(BadRequest, match="2 new series would be more than 3"):
                write_columns(part, {key(host="c"): one, key(host="d"): one})
            with pytest.raises(BadRequest, match="measurement's name is 40000 bytes"):
                write_columns(part, {key("m" * 40_000): one})
            with pytest.raises(BadRequest, match="at most 50,000"):
                write_columns(part, {key(host="a"): columns([(time, 1.0) for time in range(50_001)])})
        assert part.counts() == {"measurements": 1, "series": 2, "points": 2}
