"""Conditions on several fields and tags, against a plain reading of each point; and what only InfluxQL asks of aggregates."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flo.floql.condition import Compare, Condition, Every, Some, fields_of, matchers_of, of_series
from flo.floql.plan import Aggregate, Function, GroupBy, Only, Pipeline, Plan, Window
from flo.floql.query import Expression, Negative, Number, Operation, Value
from flo.floql.regex import Regex
from flo.floql.source import TagMatcher
from tests.floql.memory import MemorySource, run_plan
from tests.floql.reference import Data

pytestmark = pytest.mark.computes

FIELDS = ("usage", "idle", "nothing")
FORMULAS: st.SearchStrategy[Expression] = st.recursive(
    st.sampled_from([Number(0.0), Number(2.5), *map(Value, FIELDS)]),
    lambda inner: st.builds(Operation, st.sampled_from("+-*/%"), inner, inner) | st.builds(Negative, inner),
    max_leaves=3,
)
MATCHERS = [
    TagMatcher("host", "=", "a"),
    TagMatcher("host", "!=", "b"),
    TagMatcher("zone", "=~", Regex("x|^$")),
    TagMatcher("zone", "=", ""),
]
LEAVES = (
    st.builds(Compare, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), FORMULAS, FORMULAS)
    | st.builds(Compare, st.sampled_from(["<", ">"]), st.sampled_from([Value("usage"), Value("idle")]), st.just(Number(1.0)))
    | st.sampled_from(MATCHERS)
    | st.booleans()
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, min_size=1, max_size=3).flatmap(lambda of: st.sampled_from([Every(tuple(of)), Some(tuple(of))]))
)
TAGS = [(), (("host", "a"),), (("host", "b"), ("zone", "x"))]
POINTS = st.dictionaries(st.integers(0, 40), st.integers(-4, 4).map(lambda n: n / 2), min_size=1).map(lambda points: sorted(points.items()))
DATA = st.dictionaries(st.tuples(st.just("cpu"), st.sampled_from(TAGS), st.sampled_from(FIELDS[:2])), POINTS, min_size=1)


def value_of(formula: Expression, row: Mapping[str, float]) -> float | None:
    match formula:
        case Number(number):
            return number
        case Value(field):
            return row.get(field)
        case Negative(operand):
            inner = value_of(operand, row)
            return None if inner is None else -inner
        case Operation(sign, left, right):
            a, b = value_of(left, row), value_of(right, row)
            if a is None or b is None:
                return None
            if sign in "/%" and b == 0:
                return 0.0 if sign == "/" else math.nan
            return {"+": a + b, "-": a - b, "*": a * b, "/": a / (b or 1), "%": math.fmod(a, b or 1)}[sign]


def is_true(condition: Condition, tags: Mapping[str, str], row: Mapping[str, float]) -> bool:
    match condition:
        case bool():
            return condition
        case TagMatcher():
            return condition.matches(tags.get(condition.name, ""))
        case Compare(sign, left, right):
            a, b = value_of(left, row), value_of(right, row)
            if a is None or b is None:
                return False
            return {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[sign]
        case Every(conditions):
            return all(is_true(each, tags, row) for each in conditions)
        case Some(conditions):
            return any(is_true(each, tags, row) for each in conditions)


USAGE, IDLE = Compare("<", Value("usage"), Number(1.0)), Compare("<", Value("idle"), Number(1.0))


@example({("cpu", (), "usage"): [(0, 0.5)]}, Every((IDLE, Every((USAGE, USAGE)))), [1], "usage")  # as many steps as parts, one part missing
@given(DATA, CONDITIONS, st.sampled_from([[1], [2, 5], [100]]), st.sampled_from(["usage", "idle", None]))
def test_a_condition_chooses_points_by_all_fields_of_their_series(
    data: Data, condition: Condition, cuts: list[int], field: str | None
) -> None:
    expected: dict[Any, Any] = {}
    for (_, tags, name), points in data.items():
        rows = [{each: dict(data.get(("cpu", tags, each), [])).get(time) for each in FIELDS} for time, _ in points]
        known = [{each: value for each, value in row.items() if value is not None} for row in rows]
        kept = [point for point, row in zip(points, known, strict=True) if is_true(condition, dict(tags), row)]
        if kept and field in (None, name):
            expected[tags, name] = [(time, pytest.approx(value)) for time, value in kept]
    plan = Plan((Pipeline("cpu", (), None if field is None else (field,), 0, 40, (), condition=condition),))
    result = run_plan(MemorySource(data, cuts, divisor=2), plan)
    assert {(tuple(sorted(series.tags.items())), series.field): series.points for series in result.series} == expected


def test_blocks_whose_extremes_decide_are_not_read() -> None:
    data: Data = {("cpu", (), "usage"): [(t, float(t)) for t in range(100)]}
    source = MemorySource(data, [10])
    condition = Every((Compare(">=", Value("usage"), Number(30.0)), Compare("<", Value("usage"), Number(45.0))))
    plan = Plan((Pipeline("cpu", (), ("usage",), 0, 99, (Aggregate("count"),), condition=condition),))
    assert run_plan(source, plan).series[0].points == [(0, 15.0)]
    assert source.opened == [10], "the others' extremes tell enough"


def test_what_is_left_of_a_condition() -> None:
    more = Compare(">", Value("usage"), Operation("+", Value("idle"), Number(1.0)))
    asked = Some((Every((MATCHERS[0], more)), MATCHERS[2]))
    assert fields_of(asked) == {"usage", "idle"} and matchers_of(asked) == (MATCHERS[0], MATCHERS[2])
    assert of_series(asked, {"host": "a", "zone": "y"}) == more
    assert of_series(asked, {"host": "b", "zone": "y"}) is False and of_series(asked, {}) is True


A: Data = {
    ("cpu", (("host", "a"),), "value"): [(2, 4.0), (3, 1.0), (5, 9.0), (7, 9.0), (8, 4.0)],
    ("cpu", (), "value"): [(4, 1.0), (6, 5.0)],
}


@pytest.mark.parametrize("cuts", [[1], [2], [10]])
@pytest.mark.parametrize(
    ("function", "percent", "own_time", "expected"),
    [
        ("spread", 0.0, False, [(0, 8.0), (6, 5.0)]),
        ("distinct", 0.0, False, [(0, 3.0), (6, 3.0)]),
        ("percentile", 50.0, False, [(0, 4.0 - 3), (6, 5.0)]),
        ("percentile", 10.0, False, []),
        ("percentile", 100.0, True, [(5, 9.0)]),
        ("percentile", 50.0, True, [(2, 4.0)]),
        ("percentile", 1.0, True, []),
    ],
)
def test_aggregates_of_influxql(
    cuts: list[int], function: Function, percent: float, own_time: bool, expected: list[tuple[int, float]]
) -> None:
    window = None if own_time else Window(6)
    step = Aggregate(function, percent, window, own_time, undefined=True)
    result = run_plan(MemorySource(A, cuts, divisor=1), Plan((Pipeline("cpu", (), None, 0, 9, (GroupBy(()), step)),)))
    assert [series.points for series in result.series] == ([expected] if expected else [])


def test_a_deviation_of_one_point_is_no_number_where_that_is_asked() -> None:
    data: Data = {("cpu", (), "value"): [(0, 1.0), (1, 3.0), (10, 5.0)]}
    for undefined, times in ((False, [0]), (True, [0, 10])):
        step = Aggregate("stddev", window=Window(10), undefined=undefined)
        (series,) = run_plan(MemorySource(data), Plan((Pipeline("cpu", (), None, 0, 19, (step,)),))).series
        assert [time for time, _ in series.points] == times
        assert not undefined or math.isnan(series.points[1][1])


def test_only_the_chosen_groups() -> None:
    chosen = Only(("host",), frozenset({("cpu", ("",))}))
    for steps in ((chosen,), (GroupBy(("host",)), chosen)):
        (series,) = run_plan(MemorySource(A), Plan((Pipeline("cpu", (), None, 0, 9, steps),))).series
        assert series.points == [(4, 1.0), (6, 5.0)]
