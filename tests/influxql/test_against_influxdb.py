"""The same points in Flo and in InfluxDB 1.6, the same InfluxQL to both, the JSON compared.

Known and wanted differences, which the comparisons leave out (docs/timeseries.md says why):

- Flo's numbers are all floats and it has no strings; so only floats are written here.
- Rows of several series at one time come in the order of the series from Flo, and in any order from InfluxDB.
- Of points at one time, a derivative or difference over several series takes the first, and which one that is, is as open.
- The percentile's time, if several points have its value, is the earliest one's; InfluxDB takes any.
- OFFSET without LIMIT skips so many rows in Flo; InfluxDB answers one row or none.
- A percentile below the first rank is no point; in InfluxDB it also ends the series at that window.
- A derivative of windows without a lower bound of time is empty in InfluxDB, whose bound overflows.
- The error of a statement is kept where others follow it; InfluxDB says "not executed" in its place.
"""

import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.influxdb import MISSING, InfluxDoor, InfluxProcess, is_installed
from tests.support.processes import FloProcess

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not is_installed(), reason=MISSING)]

START = 1_500_000_000_000  # all points are in one of InfluxDB's shards, a week long
SPAN = 600_000
SHORT = 350  # statements of the table in the short version


class Both(NamedTuple):
    """The doors of two servers."""

    flo: InfluxDoor
    influx: InfluxDoor

    def write(self, database: str, lines: str) -> None:
        for door in self:
            door.create(database)
            door.write(database, lines)

    def compare(self, database: str, text: str, **parameters: str) -> Any:
        """Ask both; returns Flo's answer."""
        ours, theirs = (door.query(database, text, **parameters) for door in self)
        if text.startswith("SELECT percentile") and "time(" not in text:
            ours, theirs = without_times(ours), without_times(theirs)
        assert_same(ours, theirs, text)
        return ours


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    directory: Path = tmp_path_factory.mktemp("both")
    with FloProcess(directory / "flo") as flo, InfluxProcess(directory / "influx") as influx:
        doors = Both(InfluxDoor(flo.port), InfluxDoor(influx.port))
        doors.write("main", main_lines())
        yield doors
        for door in doors:
            door.close()


# -- comparing -------------------------------------------------------------------------------------


def assert_same(ours: Any, theirs: Any, text: str) -> None:
    """The same but for the last digits of floats, and the order of a series' rows at one time."""
    assert shape(ours) == shape(theirs), f"{text}\nFlo:      {ours}\nInfluxDB: {theirs}"
    for mine, other in zip(numbers(in_order(ours)), numbers(in_order(theirs)), strict=True):
        assert math.isclose(mine, other, rel_tol=1e-9, abs_tol=1e-9), f"{text}\nFlo:      {ours}\nInfluxDB: {theirs}"


def without_times(answer: Any) -> Any:
    """The answer of one statement without the times of its rows."""
    (result,) = answer["results"]
    for series in result.get("series", ()):
        series["values"] = [row[1:] for row in series["values"]]
    return answer


def in_order(answer: Any) -> Any:
    """The answer with rows of one time in one order."""
    if isinstance(answer, dict):
        return {
            name: sorted_rows(value) if name == "values" and "time" in answer["columns"] else in_order(value)
            for name, value in answer.items()
        }
    return [in_order(each) for each in answer] if isinstance(answer, list) else answer


def sorted_rows(rows: list[Any]) -> list[Any]:
    return [row for _, group in itertools.groupby(rows, key=lambda row: row[0]) for row in sorted(group, key=sort_key)]


def sort_key(row: list[Any]) -> list[tuple[str, Any]]:
    return [(type(cell).__name__ if not isinstance(cell, (int, float)) else "number", "" if cell is None else cell) for cell in row]


def shape(answer: Any) -> Any:
    """The answer with 0 for each number that is no time, and the names of JSON objects in their order."""
    return masked(in_order(answer))


def masked(answer: Any) -> Any:
    if isinstance(answer, dict):
        return [
            (name, [masked_row(row) for row in value] if name == "values" else value if name == "statement_id" else masked(value))
            for name, value in answer.items()
        ]
    return [masked(each) for each in answer] if isinstance(answer, list) else answer


def masked_row(row: list[Any]) -> list[Any]:
    return [row[0], *[0 if isinstance(cell, (int, float)) else cell for cell in row[1:]]]


def numbers(answer: Any) -> list[float]:
    if isinstance(answer, dict):
        return [number for value in answer.values() for number in numbers(value)]
    if isinstance(answer, list):
        return [number for each in answer for number in numbers(each)]
    return [answer] if isinstance(answer, (int, float)) and not isinstance(answer, bool) else []


# -- points ----------------------------------------------------------------------------------------


def main_lines() -> str:
    """Series with gaps, disorder and points that are written twice; times differ between the series of a measurement."""
    chance = random.Random(7)
    lines = []
    for number, tags in enumerate((",host=a,region=eu", ",host=b,region=eu", ",host=c", ",region=us")):
        times = [START + number + 10 * t for t in range(SPAN // 10) if chance.random() < 0.006 or t % 6000 == 0]
        times += chance.sample(times, 20)
        chance.shuffle(times)
        for time in times:
            if abs(time - START - 250_000) < 70_000:
                continue  # a gap
            usage = f"usage={chance.choice([chance.uniform(-50, 100), chance.randrange(-5, 6) + 0.5])!r}"
            idle = f",idle={chance.uniform(0, 10)!r}" if chance.random() < 0.6 else ""
            lines.append(f"cpu{tags} {usage}{idle} {time}")
    for number, host in enumerate("ab"):
        lines += [
            f"mem,host={host} free={chance.uniform(0, 1e9)!r},usage={chance.random()!r} {START + number + 20_000 * t}" for t in range(25)
        ]
    lines.append(f"lone\\ one,host=a\\ b,k\\=y=v\\,w value=1.25,other\\ field=3.5 {START + 5}")
    return "\n".join(lines)


# -- a table of statements -------------------------------------------------------------------------

FUNCTIONS = ("mean", "sum", "count", "min", "max", "first", "last", "median", "stddev", "spread")
CALLS = (
    *(f'{function}("usage")' for function in FUNCTIONS),
    *(f'percentile("usage", {percent})' for percent in (50, 90, 99.9, 100)),
    'count(distinct("usage"))',
    'mean("usage"), max("idle"), count("idle")',
    'mean("usage") / mean("idle") * 100 AS "share", last("idle")',
    '-(max("usage") - min("usage")) % 7, sum("idle") / 0',
    'mean("nothing"), mean("usage")',
    'max("nothing"), mean("usage")',
    'sum("usage") % 0, count("idle") / 4, (1.5 + last(usage)) * -2',
    "mean(*)", "max(/us|id/)",
)  # fmt: skip
CHANGES = (
    'derivative(mean("usage"), 10s)', 'non_negative_derivative(max("usage"))', 'difference(last("usage"))', "difference(mean(*))",
    'derivative(count("usage"), 1m), mean("usage")', "non_negative_difference(sum(usage))",
)  # fmt: skip
RANGES = (
    f"time >= {START}ms AND time <= {START + SPAN}ms",
    f"time > {START + 100_000}ms AND time < {START + 401_000}ms",
    "'2017-07-14T02:41:07.5Z' <= time AND time < '2017-07-14 02:48:00'",
    f"time >= {START + 170_000}ms AND time < {START + 330_000}ms",
    f"time = {START}ms",
    "time > '2017-07-14T04:41:07.5+02:00' AND time < 1500000480s AND time < now() - 1w",
    f"time > {START + SPAN}ms AND time < {START}ms",
)
CONDITIONS = (
    "", " AND host = 'a'", " AND \"host\" != 'a'", " AND (host =~ /^(a|c)$/ OR usage > 50)", " AND usage > 0 AND usage <= 60.5",
    " AND idle < 5", " AND (idle > 5 OR host = 'b') AND region =~ /./", " AND usage + idle > 20 AND usage != 3", " AND host::tag !~ /b/",
    " AND nothing = ''", " AND usage = 'text'", " AND host = ''", " AND host > 3", " AND (idle > usage OR usage < -2 * idle)",
)  # fmt: skip
GROUPS = ("", ', "host"', ", region, host", ", *", ", /^h/")
WINDOWS = ("", "time(1m)", "time(37s)", "time(1m, 20s)", "time(150s, -40s)")
FILLS = ("", " fill(null)", " fill(none)", " fill(previous)", " fill(linear)", " fill(-1.5)", " fill(0)")
ORDERS = ("", " ORDER BY time DESC")
LIMITS = ("", " LIMIT 3", " LIMIT 2 OFFSET 1", " SLIMIT 1", " LIMIT 4 SLIMIT 2 SOFFSET 1")


def aggregated(calls: str, source: str, range_: str, condition: str, window: str, group: str, fill: str, order: str, limit: str) -> str:
    by = ", ".join(part for part in (window, group.removeprefix(", ")) if part)
    return f"SELECT {calls} FROM {source} WHERE {range_}{condition}{f' GROUP BY {by}' if by else ''}{fill}{order}{limit}"


def table() -> list[str]:
    """Each of the calls with each of the fills, ranges and so on at least once, and as many mixes again, from one seed."""
    chance = random.Random(11)
    sides = (RANGES, CONDITIONS, WINDOWS, GROUPS, FILLS, ORDERS, LIMITS)
    statements = []
    for calls in (*CALLS, *CHANGES):
        for side in sides:
            for fixed in side:
                chosen = [fixed if each is side else chance.choice(each) for each in sides]
                if calls in CHANGES:
                    chosen[2] = chosen[2] or "time(30s)"
                if chosen[4] == " fill(linear)" and not chosen[2]:
                    chosen[2] = "time(1m)"
                statements.append(
                    aggregated(calls, chance.choice(("cpu", "cpu", "cpu, mem", '"main"."autogen".cpu', "/^(cpu|mem)/")), *chosen)
                )
    raw = (
        "usage",
        '"usage", "idle"',
        "usage, host",
        "usage, idle, region::tag, nothing",
        "*",
        "usage * 2 + idle AS x, idle",
        "/^(u|h)/",
        "*::field",
    )
    for columns in raw:
        for side in (RANGES, CONDITIONS, GROUPS, ORDERS, LIMITS):
            for fixed in side:
                range_, condition, group, order, limit = (
                    fixed if each is side else chance.choice(each) for each in (RANGES, CONDITIONS, GROUPS, ORDERS, LIMITS)
                )
                fill = chance.choice(("", "", "", " fill(0)", " fill(previous)"))
                statements.append(aggregated(columns, chance.choice(("cpu", "cpu, mem")), range_, condition, "", group, fill, order, limit))
    return statements


def is_open(text: str) -> bool:
    """Whether rows of several series at one time may stand in any order where LIMIT or fill(previous) cuts or fills between them."""
    return ("LIMIT" in text or "OFFSET" in text or "previous" in text) and "GROUP BY" not in text and "(" not in text.split(" FROM ")[0]


def test_the_table_of_statements(both: Both, long_run: bool) -> None:
    statements = table()
    if not long_run:
        statements = random.Random(13).sample(statements, SHORT)
    answered = sum("series" in both.compare("main", text, epoch="ms")["results"][0] for text in statements)
    assert answered > len(statements) / 2, "most statements find something"
    assert len(statements) >= SHORT


def test_everything_and_nothing_is_bounded(both: Both) -> None:
    for calls in (*CALLS, 'percentile("usage", 0)', 'percentile("usage", 0.1), max(usage)', "usage", "*"):
        for rest in ("", f" WHERE time >= {START + 200_000}ms", f" WHERE time < {START + 200_000}ms", " GROUP BY host"):
            both.compare("main", f"SELECT {calls} FROM cpu{rest}")
    for fill in FILLS[1:]:
        for order in ORDERS:
            end = f"WHERE time < {START + 300_000}ms"
            both.compare("main", f"SELECT mean(usage), max(idle) FROM cpu {end} GROUP BY time(1m), host{fill}{order}", epoch="s")
            both.compare("main", f"SELECT count(idle) FROM cpu {end} GROUP BY time(50s){fill}{order}")
            long = f"WHERE time >= {START}ms AND time < {START}ms + 200000s"
            both.compare("main", f"SELECT mean(idle) FROM cpu {long} GROUP BY time(1s){fill}{order} LIMIT 5 OFFSET 3")


@pytest.mark.parametrize("epoch", ["", "ns", "u", "µ", "ms", "s", "m", "h", "x"])
def test_epochs(both: Both, epoch: str) -> None:
    both.compare("main", f"SELECT usage FROM mem WHERE time > {START + 1}ms; SELECT mean(usage) FROM mem", epoch=epoch)
    both.compare("main", f"SELECT mean(usage) FROM mem WHERE time > {START}ms; SELECT max(usage) FROM mem WHERE time > 3", epoch=epoch)


SHOWS = (
    "SHOW DATABASES",
    "SHOW RETENTION POLICIES", "SHOW RETENTION POLICIES ON main", "SHOW RETENTION POLICIES ON nowhere",
    "SHOW MEASUREMENTS", "SHOW MEASUREMENTS ON main LIMIT 1 OFFSET 1", "SHOW MEASUREMENTS WITH MEASUREMENT =~ /(?i)C|lone/",
    "SHOW MEASUREMENTS WITH MEASUREMENT = \"mem\"", "SHOW MEASUREMENTS WHERE host = 'c'",
    "SHOW MEASUREMENTS WHERE host =~ /a/ AND region = 'eu'",
    "SHOW MEASUREMENTS WITH MEASUREMENT =~ /x/", "SHOW MEASUREMENTS WHERE nothing = 'x'",
    "SHOW FIELD KEYS", "SHOW FIELD KEYS FROM cpu", "SHOW FIELD KEYS FROM /m/ LIMIT 1", "SHOW FIELD KEYS FROM cpu, mem OFFSET 1",
    "SHOW FIELD KEYS FROM nowhere", "SHOW FIELD KEYS ON nowhere",
    "SHOW TAG KEYS", "SHOW TAG KEYS ON main FROM cpu", "SHOW TAG KEYS FROM cpu LIMIT 1 OFFSET 1", "SHOW TAG KEYS WHERE host = 'b'",
    "SHOW TAG KEYS FROM /c/ WHERE region = ''", "SHOW TAG KEYS WHERE host = 'b' OR region = 'us'",
    'SHOW TAG VALUES WITH KEY = "host"', "SHOW TAG VALUES FROM cpu WITH KEY IN (host, region)", "SHOW TAG VALUES WITH KEY =~ /^h/ LIMIT 2",
    "SHOW TAG VALUES WITH KEY != host", "SHOW TAG VALUES WITH KEY !~ /h|k/", "SHOW TAG VALUES FROM cpu WITH KEY = host WHERE region = 'eu'",
    "SHOW TAG VALUES FROM \"cpu\" WITH KEY = \"host\" WHERE \"region\" =~ /./ OFFSET 1", "SHOW TAG VALUES WITH KEY = nothing",
    "SHOW TAG VALUES FROM cpu WITH KEY = host WHERE region != 'eu'", "SHOW TAG VALUES WITH KEY = host WHERE usage > 3",
    "SHOW SERIES", "SHOW SERIES FROM cpu", "SHOW SERIES FROM cpu WHERE host = 'a'", "SHOW SERIES LIMIT 2 OFFSET 1",
    "SHOW SERIES FROM /c|m/",
    "SHOW SERIES WHERE host =~ /a|b/ AND region != 'us'", "SHOW SERIES WHERE usage > 1", "SHOW SERIES ON nowhere",
    "SHOW USERS",
    "SHOW MEASUREMENTS; SHOW FIELD KEYS FROM cpu; SHOW TAG KEYS FROM cpu",
)  # fmt: skip


@pytest.mark.parametrize("text", SHOWS)
def test_show(both: Both, text: str) -> None:
    ours, theirs = (door.query("main", text) for door in both)
    if text == "SHOW DATABASES":
        ours["results"][0]["series"][0]["values"].remove(["default"])
        for answer in (ours, theirs):
            values = answer["results"][0]["series"][0]["values"]
            answer["results"][0]["series"][0]["values"] = sorted(name for name in values if not name[0].startswith("made"))
    assert ours == theirs and list(ours["results"][0]) == list(theirs["results"][0])


REFUSED = (
    "SELECT foo(usage) FROM cpu", "SELECT mean() FROM cpu", "SELECT mean(usage, 3) FROM cpu", "SELECT mean(3) FROM cpu",
    "SELECT mean(mean(usage)) FROM cpu", "SELECT percentile(usage) FROM cpu", "SELECT percentile(usage, 'a') FROM cpu",
    "SELECT mean(usage), idle FROM cpu", "SELECT usage FROM cpu GROUP BY time(1m)", "SELECT usage FROM cpu fill(none)",
    "SELECT usage FROM cpu fill(linear)", "SELECT derivative(usage) FROM cpu GROUP BY time(1m)", "SELECT derivative(mean(usage)) FROM cpu",
    "SELECT derivative(usage, 0s) FROM cpu", "SELECT derivative() FROM cpu", "SELECT difference(usage, 1s) FROM cpu",
    "SELECT 3 FROM cpu", "SELECT 'a' FROM cpu", "SELECT time FROM cpu", "SELECT * + 1 FROM cpu", "SELECT mean(*) / 2 FROM cpu",
    "SELECT 1 - mean(/u/) FROM cpu",
    "SELECT usage FROM cpu WHERE time > 'abc'", "SELECT usage FROM cpu WHERE time != 3", "SELECT usage FROM cpu WHERE time > usage",
    "SELECT usage FROM cpu WHERE usage", "SELECT usage FROM nowhere..cpu",
)  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_both_refuse_in_the_same_words(both: Both, text: str) -> None:
    ours, theirs = (door.query("main", text)["results"][0] for door in both)
    assert ours == theirs and "error" in ours


def test_database_and_parameters(both: Both) -> None:
    for path in ("/query", "/query?db=main&q=", "/query?db=main&q=SELECT+mean(usage)+FRM", "/query?db=main&q=%20"):
        ours, theirs = (door.rest.ask("GET", path) for door in both)
        assert (ours.status, ours.json) == (theirs.status, theirs.json) == (400, ours.json)
        assert ours.headers["x-influxdb-error"] == theirs.headers["x-influxdb-error"]
        assert ours.headers["content-type"] == theirs.headers["content-type"]
    for door in both:
        assert door.query("nowhere", "SELECT usage FROM cpu") == {"results": [{"statement_id": 0, "error": "database not found: nowhere"}]}
        assert door.query("main", "SELECT * FROM nothing") == {"results": [{"statement_id": 0}]}
        form = door.rest.ask("POST", "/query?db=main", b"q=SHOW+MEASUREMENTS", content_type="application/x-www-form-urlencoded")
        assert form.json == door.query("main", "SHOW MEASUREMENTS")
        assert door.rest.ask("POST", "/query?db=main&q=SHOW+MEASUREMENTS").json == form.json


@pytest.mark.parametrize("size", ["1", "3", "7", ""])
def test_chunks(both: Both, size: str) -> None:
    for text in (
        f"SELECT usage FROM mem WHERE time < {START + 100_000}ms GROUP BY host; SELECT free FROM mem; SELECT usage FROM nothing",
        "SELECT foo(usage) FROM cpu",
        "SHOW MEASUREMENTS; SHOW TAG KEYS; SHOW USERS",
    ):
        ours, theirs = (door.chunks("main", text, epoch="ms", chunk_size=size) for door in both)
        if "SHOW" not in text:
            assert ours == theirs
        else:
            assert [merged_chunks(ours)] == [merged_chunks(theirs)]


def merged_chunks(chunks: list[Any]) -> Any:
    """SHOW's rows come in chunks of InfluxDB's own sizes."""
    found: dict[int, list[Any]] = {}
    for chunk in chunks:
        for result in chunk["results"]:
            for series in result.get("series", []):
                rows = found.setdefault(result["statement_id"], [])
                rows += [[series.get("name"), series.get("tags"), row] for row in series.get("values", [])]
    return found


# -- made by chance --------------------------------------------------------------------------------

made = itertools.count()
SERIES = st.sampled_from(["", ",host=a", ",host=b", ",host=a,region=eu", ",region=eu"])
POINTS = st.lists(
    st.tuples(
        SERIES,
        st.integers(0, 300).map(lambda t: START + 1000 * t),
        st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: round(v, 3)),
        st.none() | st.integers(-3, 3).map(float),
    ),
    min_size=1,
    max_size=60,
)
STATEMENT = st.builds(
    aggregated,
    st.sampled_from([*CALLS, *CHANGES]),
    st.just("cpu"),
    st.sampled_from([f"time >= {START}ms AND time < {START + 300_000}ms", f"time > {START + 33_000}ms AND time <= {START + 222_000}ms"]),
    st.sampled_from(CONDITIONS),
    st.sampled_from(WINDOWS[1:]),
    st.sampled_from(GROUPS),
    st.sampled_from(FILLS),
    st.sampled_from(ORDERS),
    st.sampled_from(LIMITS),
)


@pytest.mark.parametrize("rounds", [12, pytest.param(1500, marks=pytest.mark.long)])
def test_points_and_statements_made_by_chance(both: Both, rounds: int) -> None:
    @settings(max_examples=rounds, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(POINTS, st.lists(STATEMENT, min_size=8, max_size=8))
    def check(points: list[tuple[str, int, float, float | None]], statements: list[str]) -> None:
        database = f"made{next(made)}"
        lines = [f"cpu{tags} usage={usage!r}{'' if idle is None else f',idle={idle!r}'} {time}" for tags, time, usage, idle in points]
        both.write(database, "\n".join(lines))
        for text in statements:
            both.compare(database, text, epoch="ms")

    check()
