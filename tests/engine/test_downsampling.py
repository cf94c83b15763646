"""Rules of downsampling against a plain dictionary: late points, restarts, crashes, a clock that moves, deletion, refusals."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean, median, stdev

import pytest

from flo.engine import Engine, EngineSettings
from flo.engine import downsampling as engine_downsampling
from flo.engine import timeseries as engine_timeseries
from flo.engine.operation import run_job
from flo.errors import BadRequest
from flo.store.downsampling import Rule, parse_rules
from tests.engine.test_timeseries import columns, key, read
from tests.support.points import write_columns

MINUTE, HOUR = 60_000, 3_600_000
START = 1_700_000_000_000
FUNCTIONS: dict[str, Callable[[list[float]], float | None]] = {
    "avg": fmean,
    "sum": lambda values: sum(values),
    "count": lambda values: len(values),
    "min": min,
    "max": max,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "stddev": lambda values: stdev(values) if len(values) > 1 else None,
    "median": median,
}


def expected(points: dict[int, float], width: int, function: str, until: int) -> dict[int, float]:
    windows: dict[int, list[float]] = {}
    for time, value in sorted(points.items()):
        windows.setdefault(time - time % width, []).append(value)
    made = {start: FUNCTIONS[function](values) for start, values in windows.items() if start + width <= until}
    return {start: value for start, value in made.items() if value is not None}


class Clocks:
    """Both clocks of an engine, moved by hand."""

    def __init__(self) -> None:
        self.wall, self.steady = START, 1_000_000

    def forward(self, ms: int) -> None:
        self.wall += ms
        self.steady += ms


def opened(path: Path, clocks: Clocks) -> Engine:
    return Engine(str(path), EngineSettings(segment_bytes=1 << 16), clock=lambda: clocks.wall, steady=lambda: clocks.steady)


def settle(engine: Engine) -> None:
    for _ in range(10_000):
        with engine.batch():
            more = engine.upkeep(idle=True)
        if not more:
            return
    raise AssertionError("the work has no end")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {
        "CHUNK_POINTS": 16,
        "SMALL_POINTS": 8,
        "SMALL_CHUNKS": 3,
        "OPEN_MIN": 40,
        "OPEN_EACH": 2,
        "PASS_POINTS": 10,
    }.items():
        monkeypatch.setattr(engine_timeseries, name, value)
    for name, value in {"WRITE_POINTS": 7, "SERIES_SLICE": 2, "LATE_WINDOWS_MAX": 12}.items():
        monkeypatch.setattr(engine_downsampling, name, value)
    yield


@pytest.mark.parametrize("seed", range(4))
def test_any_life_sums_up_what_is_there(tmp_path: Path, small: None, seed: int) -> None:
    chance = random.Random(seed)
    clocks = Clocks()
    rules = {f"1m:{function}": (MINUTE, function) for function in chance.sample(sorted(FUNCTIONS), 2)} | {"5m:avg": (5 * MINUTE, "avg")}
    text = ",".join(f"{rule}:0" for rule in rules)
    engine = opened(tmp_path, clocks)
    hosts = [f"h{number}" for number in range(4)]
    points: dict[str, dict[int, float]] = {host: {} for host in hosts}
    configured = False
    for step in range(150):
        clocks.forward(chance.randrange(1, 40_000))
        part = engine.namespaces["default"].ts
        if not configured and step > 20:
            part.configure("cpu", 0, text)  # what was written before is summed up too
            configured = True
        for host in chance.sample(hosts, 2):
            late = chance.choice((0, 0, 0, 1, 20)) * MINUTE
            time = clocks.wall - late - chance.randrange(1000)
            value = chance.randrange(1000) / 8
            write_columns(part, {key(host=host): columns([(time, value)])})
            points[host][time] = value
        turn = chance.random()
        if turn < 0.3:
            with engine.batch():
                engine.upkeep(idle=True)  # a slice: what follows comes in the middle of a run
        elif turn < 0.5:
            settle(engine)
        elif turn < 0.6:
            engine.close()
            engine = opened(tmp_path, clocks)
        elif turn < 0.65:
            engine.compact(tail=chance.random() < 0.5)
    clocks.forward(HOUR)
    settle(engine)
    part = engine.namespaces["default"].ts
    for host in hosts:
        for rule, (width, function) in rules.items():
            made = read(part, key(f"cpu:{rule}", host=host))
            assert made == pytest.approx(expected(points[host], width, function, clocks.wall - 5 * MINUTE)), (host, rule)
    engine.close()


def test_a_late_point_writes_its_window_again_and_only_that(tmp_path: Path) -> None:
    clocks = Clocks()
    engine = opened(tmp_path, clocks)
    part = engine.namespaces["default"].ts
    part.configure("cpu", 0, "1m:sum:30d")
    base = START - START % MINUTE
    write_columns(part, {key(host=host): columns([(base + second * 1000, 1.0) for second in range(0, 600, 10)]) for host in "ab"})
    clocks.forward(20 * MINUTE)
    settle(engine)
    assert read(part, key("cpu:1m:sum", host="a")) == {base + minute * MINUTE: 6.0 for minute in range(10)}
    before = part.store.by_key[key("cpu:1m:sum", host="b")].points
    write_columns(part, {key(host="a"): columns([(base + 3 * MINUTE + 5, 10.0)])})
    engine.close()  # it must not be forgotten
    engine = opened(tmp_path, clocks)
    part = engine.namespaces["default"].ts
    clocks.forward(engine_downsampling.LATE_MS)
    settle(engine)
    assert read(part, key("cpu:1m:sum", host="a"))[base + 3 * MINUTE] == 16.0
    write_columns(part, {key(host="a"): columns([(base + 4 * MINUTE + 5, 10.0)])})
    written = engine.log.next_index
    settle(engine)
    assert engine.log.next_index == written, "late points are collected for a while"
    clocks.forward(engine_downsampling.LATE_MS)
    settle(engine)
    assert read(part, key("cpu:1m:sum", host="a"))[base + 4 * MINUTE] == 16.0
    assert engine.log.next_index - written == 2, "one point, and how far the rule is"
    part.store.settle(part.store.by_key[key("cpu:1m:sum", host="b")])
    assert part.store.by_key[key("cpu:1m:sum", host="b")].points == before
    described = part.describe("cpu:1m:sum")
    assert described is not None and described["max_age_ms"] == 30 * 24 * HOUR
    engine.close()


def test_idle_rules_write_nothing(tmp_path: Path) -> None:
    clocks = Clocks()
    engine = opened(tmp_path, clocks)
    part = engine.namespaces["default"].ts
    part.configure("cpu", 0, "1m:sum:0")
    write_columns(part, {key(): columns([(START, 1.0)])})
    for _ in range(2):
        clocks.forward(engine_timeseries.IDLE_MS)  # what is open is sealed then: the points first, then their sums
        settle(engine)
    written = engine.log.next_index
    for _ in range(20):
        clocks.forward(MINUTE)
        settle(engine)
    assert engine.log.next_index == written
    engine.close()


def test_deleting_the_measurement_ends_its_rules_and_keeps_the_sums(tmp_path: Path) -> None:
    clocks = Clocks()
    engine = opened(tmp_path, clocks)
    part = engine.namespaces["default"].ts
    part.configure("cpu", 0, "1m:sum:0")
    write_columns(part, {key(): columns([(START, 1.0)])})
    clocks.forward(5 * MINUTE)
    settle(engine)
    assert part.names() == ["cpu", "cpu:1m:sum"]
    run_job(part.delete_job("cpu", {}))
    assert part.names() == ["cpu:1m:sum"] and not part.store.ruled
    clocks.forward(HOUR)
    settle(engine)
    engine.close()
    engine = opened(tmp_path, clocks)
    part = engine.namespaces["default"].ts
    assert part.names() == ["cpu:1m:sum"] and "cpu" not in part.store.measurements
    engine.close()


def test_a_run_that_is_refused_says_why_and_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks()
    engine = opened(tmp_path, clocks)
    part = engine.namespaces["default"].ts
    part.configure("cpu", 0, "1m:sum:0")
    write_columns(part, {key(): columns([(START, 1.0)])})
    monkeypatch.setattr(engine_timeseries, "SERIES_MAX", 1)
    clocks.forward(5 * MINUTE)
    settle(engine)
    described = part.describe("cpu")
    assert described is not None and "more than 1" in str(described["problem"])
    monkeypatch.setattr(engine_timeseries, "SERIES_MAX", 10)
    clocks.forward(engine_downsampling.RETRY_MS)
    settle(engine)
    described = part.describe("cpu")
    assert described is not None and not described["problem"]
    assert read(part, key("cpu:1m:sum")) == {START - START % MINUTE: 1.0}
    engine.close()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("1m:avg", "'1m:avg'"),
        ("1m:avg:30d,", "''"),
        ("0m:avg:30d", "'0m:avg:30d'"),
        ("1m:mode:30d", "'mode'"),
        ("10ms:avg:30d", "10 ms"),
        ("1m:avg:30d,1m:avg:0", "two rules"),
        (",".join(f"{minute}m:avg:0" for minute in range(1, 19)), "18 rules"),
    ],
)
def test_rules_that_are_none(text: str, wrong: str) -> None:
    with pytest.raises(BadRequest, match=wrong):
        parse_rules(text)


def test_rules() -> None:
    assert parse_rules("") == ()
    assert parse_rules("1m:avg:30d, 2h:max:0") == (Rule("1m:avg", MINUTE, "avg", 30 * 24 * HOUR), Rule("2h:max", 2 * HOUR, "max", 0))
