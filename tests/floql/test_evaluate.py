"""Every stage, and pipelines of stages, against the plain reference; limits, slices, and how little is read."""

import inspect
import math
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flo.errors import BadRequest
from flo.floql.columns import PIECE_POINTS, Meter, merged
from flo.floql.evaluate import AnswerSeries, Budget, evaluate
from flo.floql.parser import NESTING_MAX, OPERATORS_MAX, STAGES_MAX, parse
from flo.floql.plan import Aggregate, Alias, Function, Pipeline, Plan, Window, make_plan
from flo.floql.regex import NESTING_MAX as REGEX_NESTING_MAX
from flo.floql.source import Columns
from tests.floql.memory import MemorySource, ask, run, run_plan
from tests.floql.reference import Data, Key, Line, Points, answer
from tests.support.examples import examples

pytestmark = pytest.mark.computes

EIGHTHS = st.integers(-8000, 8000).map(lambda n: n / 8)  # sums of these are exact, whatever the order
TIMES = st.integers(-5000, 5000)
WIDTHS = ("7ms", "100ms", "1s", "3s", "1m")


@st.composite
def points_of_a_series(draw: st.DrawFn) -> Points:
    """Regular or not, with gaps, and with values that come again."""
    if draw(st.booleans()):
        times = list(draw(st.sets(TIMES, max_size=30)))
    else:
        first, step, count = draw(TIMES), draw(st.sampled_from([1, 7, 50, 100, 1000, 1500])), draw(st.integers(0, 40))
        times = [first + step * i for i in range(count) if i % 13 != 12]
    values = EIGHTHS if draw(st.booleans()) else st.sampled_from([0.0, 1.0, 2.5, -3.0])
    return [(t, draw(values)) for t in times]


@st.composite
def made_data(draw: st.DrawFn) -> Data:
    keys = st.tuples(
        st.sampled_from(["cpu", "cpu2", "mem"]),
        st.sampled_from([(), (("host", "a"),), (("host", "b"),), (("host", "b"), ("zone", "x")), (("zone", "y"),), (("host", ""),)]),
        st.sampled_from(["value", "other"]),
    )
    return {key: draw(points_of_a_series()) for key in draw(st.sets(keys, min_size=1, max_size=5))}


POINTWISE = (
    "where(value > 0.5)",
    "where(<= 2.5)",
    "where(value != 2.5)",
    "where(== 1)",
    "where(>= -0.3)",
    "where(< 100)",
    "math(* 2)",
    "math(value - value * 0.5)",
    "math(-value)",
    "abs()",
)
ROUNDINGS = ("ceil()", "floor()", "round()", "round(1)")
INEXACT_MATH = ("math(value * 1.8 + 32)", "math(1 / value)", "math(value % 3)", "math(100 % value)", "math(value * 1e308 * 10)")
EXACT_AGGREGATES = ("sum", "count", "min", "max", "first", "last")
AGGREGATE_NAMES = (*EXACT_AGGREGATES, "avg", "stddev", "median", "percentile(99", "percentile(50", "percentile(0", "percentile(33.3")


@st.composite
def pipelines(draw: st.DrawFn) -> str:
    """Stages in an order that the rules allow. Stages that jump (a rounding, a ranking, a fall) come only while values are exact: floats
    that differ in the last bit may jump differently."""
    stages: list[str] = draw(st.sampled_from([[], ["field(value)"]]))
    stages = list(stages)
    exact, grid = True, False
    for _ in range(draw(st.integers(1, 4))):
        kinds = ["point", "aggregate", "group", "delta", "limit", "sort", "alias", "inexact"]
        kinds += ["rounding", "rank", "rate"] if exact else []
        kinds += ["fill"] * 3 if grid else []
        kind = draw(st.sampled_from(kinds))
        if kind == "point":
            stages.append(draw(st.sampled_from(POINTWISE if exact else ("math(* 2)", "abs()", "where(value > 0.31371)"))))
        elif kind == "rounding":
            stages.append(draw(st.sampled_from(ROUNDINGS)))
        elif kind == "inexact":
            stages.append(draw(st.sampled_from(INEXACT_MATH if exact else ("math(value * 1.8 + 32)",))))
            exact = False
        elif kind == "aggregate":
            name = draw(st.sampled_from(AGGREGATE_NAMES))
            width = draw(st.sampled_from((None, *WIDTHS)))
            opened = "(" in name
            call = name if opened else name + "("
            between = draw(st.sampled_from([None, None, "where(> 0.31371)", "group_by(host)"]))
            if width and between:
                stages += [f"window({width})", between, call + ")"]
            else:
                stages.append(call + (", " if opened and width else "") + (width or "") + ")")
            exact = exact and name in EXACT_AGGREGATES
            grid = width is not None
        elif kind == "rate":
            stages.append(f"rate({draw(st.sampled_from(WIDTHS))})")
            exact, grid = False, True
        elif kind == "group":
            stages.append(draw(st.sampled_from(["group_by(host)", "group_by(zone, host)", "group_by(none)", "group_by()"])))
            grid = False
        elif kind == "rank":
            stages.append(draw(st.sampled_from(["topk(1)", "topk(2)", "bottomk(1)", "bottomk(3)"])))
        elif kind == "fill":
            how = draw(st.sampled_from(["0", "previous", "linear", "none"]))
            exact = exact and how != "linear"
            stages.append(f"fill({how})")
        else:
            stages.append(
                draw(
                    st.sampled_from(
                        {"delta": ["delta()"], "limit": ["limit(1)", "limit(5)"], "sort": ["sort(time)", "sort(-time)"]}.get(
                            kind, ["alias(x)"]
                        )
                    )
                )
            )
    return " | ".join(stages)


def same(series: list[AnswerSeries], lines: list[Line]) -> None:
    """Assert that two answers are equal but for rounding."""
    assert [(one.name, one.tags, one.field) for one in series] == [(line.name, line.tags, line.field) for line in lines]
    for one, line in zip(series, lines, strict=True):
        assert [t for t, _ in one.points] == [t for t, _ in line.points]
        for (_, ours), (_, theirs) in zip(one.points, line.points, strict=True):
            assert math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-6), (one, line)
            assert isinstance(ours, float)


RANGES = st.sampled_from(["-6000..6000", "-3000..2000", "0..0", "-1..4999", "-4321..-7"])
CUTS = st.lists(st.integers(1, 12), min_size=1, max_size=4)


@pytest.mark.slow
@examples(600)
@given(
    made_data(),
    st.sampled_from(["cpu", "~/^cpu/", 'cpu{host=""}', "cpu{host!=a}", "cpu{host=~b|c}"]),
    RANGES,
    pipelines(),
    CUTS,
    st.sampled_from([0, 1, 8]),
)
@example({("cpu", (), "value"): [(0, 0.5), (1, 0.25)]}, "cpu", "-6000..6000", "math(value * 1e308 * 10) | count()", [1], 8)
def test_any_pipeline_gives_what_the_reference_gives(
    data: Data, what: str, range_: str, stages: str, cuts: list[int], divisor: int
) -> None:
    text = f"{what}[{range_}] | {stages}"
    same(ask(MemorySource(data, cuts, divisor), text).series, answer(parse(text), data))


@pytest.mark.slow
@examples(60)
@given(made_data(), CUTS, st.sampled_from([0, 8]))
@pytest.mark.parametrize(
    "stage",
    [
        *POINTWISE,
        *ROUNDINGS,
        *INEXACT_MATH,
        "delta()",
        "rate(1s)",
        "rate(1m)",
        *(f"{n}{', ' if '(' in n else '('}1s)" for n in AGGREGATE_NAMES),
        *(f"{n}{'' if '(' in n else '('})" for n in AGGREGATE_NAMES),
        "sum(100ms) | fill(0)",
        "avg(1s) | fill(previous)",
        "max(1s) | fill(linear)",
        "topk(2)",
        "bottomk(2)",
        "limit(3)",
        "sort(-time) | limit(3)",
        "group_by(host)",
        "alias(x)",
    ],
)
def test_each_stage_gives_what_the_reference_gives(stage: str, data: Data, cuts: list[int], divisor: int) -> None:
    text = f"~/./[-4000..4000] | {stage}"
    same(ask(MemorySource(data, cuts, divisor), text).series, answer(parse(text), data))


# -- rules of section 6, one by one ----------------------------------------------------------------

A: Key = ("cpu", (("host", "a"),), "value")
B: Key = ("cpu", (("host", "b"),), "value")


def points(data: Data, text: str) -> list[Points]:
    """The points of each series of the answer."""
    return [series.points for series in ask(MemorySource(data), text).series]


def test_windows_are_aligned_to_the_epoch_before_it_too() -> None:
    data = {A: [(-7, 1.0), (-5, 2.0), (-1, 4.0), (0, 8.0), (5, 16.0)]}
    assert points(data, "cpu[-100..100] | sum(5ms)") == [[(-10, 1.0), (-5, 6.0), (0, 8.0), (5, 16.0)]]


def test_partial_windows_stand_at_their_start_and_a_lone_aggregate_at_the_start_of_the_range() -> None:
    data = {A: [(9, 1.0), (10, 2.0), (25, 4.0), (26, 8.0)]}
    assert points(data, "cpu[10..25] | sum(20ms)") == [[(0, 2.0), (20, 4.0)]]
    assert points(data, "cpu[10..25] | sum()") == [[(10, 6.0)]]


def test_the_default_range_is_the_last_hour_with_both_ends() -> None:
    hour = 3_600_000
    data = {A: [(-1, 1.0), (0, 2.0), (hour, 4.0), (hour + 1, 8.0)]}
    assert [series.points for series in ask(MemorySource(data), "cpu", now=hour).series] == [[(0, 2.0), (hour, 4.0)]]
    assert [series.points for series in ask(MemorySource(data), "cpu[1ms]", now=hour + 1).series] == [[(hour, 4.0), (hour + 1, 8.0)]]


def test_rate_counts_the_rise_from_the_point_before_the_window_and_a_fall_as_the_new_value() -> None:
    data = {A: [(0, 10.0), (500, 16.0), (1000, 18.0), (1500, 3.0), (5000, 4.0)]}
    assert points(data, "cpu[0..9999] | rate(1s)") == [[(0, 6.0), (1000, 5.0), (5000, 1.0)]]
    assert points(data, "cpu[0..9999] | rate(2s)") == [[(0, 5.5), (4000, 0.5)]]


def test_one_point_has_no_deviation_and_no_rate() -> None:
    data = {A: [(0, 1.0)]}
    for stage in ("stddev()", "rate(1s)", "delta()"):
        assert points(data, f"cpu[0..9] | {stage}") == []


def test_of_points_at_one_time_first_and_last_take_the_larger_and_a_merge_the_series_order() -> None:
    data = {B: [(0, 2.0), (5, 10.0)], A: [(0, 1.0), (5, 20.0)]}
    assert points(data, "cpu[0..9] | group_by() | last()") == [[(0, 20.0)]]
    assert points(data, "cpu[0..9] | group_by() | first()") == [[(0, 2.0)]]
    data = {B: [(0, 2.0), (5, 20.0)], A: [(0, 1.0), (5, 10.0)]}
    assert points(data, "cpu[0..9] | group_by()") == [[(0, 1.0), (0, 2.0), (5, 10.0), (5, 20.0)]]


def test_ties_of_topk_are_decided_by_name_and_the_best_comes_first() -> None:
    data = {A: [(0, 1.0)], B: [(0, 1.0)], ("cpu", (("host", "c"),), "value"): [(0, 5.0)], ("cpu", (("host", "d"),), "value"): [(9, 9.0)]}
    hosts = [series.tags["host"] for series in ask(MemorySource(data), "cpu[0..8] | topk(2)").series]
    assert hosts == ["c", "a"]
    assert [series.tags["host"] for series in ask(MemorySource(data), "cpu[0..8] | bottomk(5)").series] == ["a", "b", "c"]


def test_values_without_a_result_give_no_point() -> None:
    data = {A: [(0, 0.0), (1, 2.0), (2, 1e308)]}
    assert points(data, "cpu[0..9] | math(1 / value)") == [[(1, 0.5), (2, 1e-308)]]
    assert points(data, "cpu[0..9] | math(5 % value)") == [[(1, 1.0), (2, 5.0)]]
    assert points(data, "cpu[0..9] | math(value * 10)") == [[(0, 0.0), (1, 20.0)]]
    assert points(data, "cpu[0..9] | math(* 1) | math(value + 1e308) | sum()") == [], "the sum is infinite"


def test_sort_holds_to_the_end_and_limit_looks_from_there() -> None:
    data = {A: [(t, float(t)) for t in range(10)]}
    assert points(data, "cpu[0..9] | sort(-time) | limit(3)") == [[(9, 9.0), (8, 8.0), (7, 7.0)]]
    assert points(data, "cpu[0..9] | limit(3) | sort(-time)") == [[(2, 2.0), (1, 1.0), (0, 0.0)]]
    assert points(data, "cpu[0..9] | sort(-time) | limit(3) | sort(time) | delta()") == [[(8, 1.0), (9, 1.0)]]


def test_exact_decimals_are_summed_as_integers() -> None:
    values: Points = [(t, 0.1) for t in range(20)]
    source = MemorySource({A: values}, cuts=[10], divisor=10)
    assert ask(source, "cpu[11..19] | sum()").series[0].points == [(11, 0.9)]


# -- little is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["avg", "sum", "count", "min", "max", "first", "last"])
def test_a_block_within_a_window_is_not_read(name: str) -> None:
    data = {A: [(t, float(t % 7)) for t in range(100)]}
    source = MemorySource(data, cuts=[10])
    result = ask(source, f"cpu[0..99] | {name}(20ms)")
    assert (source.opened, result.scanned) == ([], 10)
    same(result.series, answer(parse(f"cpu[0..99] | {name}(20ms)"), data))
    source = MemorySource(data, cuts=[10])
    assert ask(source, f"cpu[5..94] | {name}()").scanned == 28, "8 summaries, and two blocks that the range cuts"
    assert len(source.opened) == 2


def test_a_block_whose_extremes_decide_a_comparison_is_not_read() -> None:
    data = {A: [(t, float(t)) for t in range(100)]}
    source = MemorySource(data, cuts=[10])
    assert points(data, "cpu[0..99] | where(value >= 45) | count()") == [[(0, 55.0)]]
    assert ask(source, "cpu[0..99] | where(value >= 45) | count()").scanned == 4 + 10 + 5, "four dropped, one read, five summaries"
    assert source.opened == [10]


def test_limit_reads_no_block_behind_the_last_that_it_needs() -> None:
    data = {A: [(t, float(t)) for t in range(100)]}
    for stages in ("limit(12)", "sort(-time) | limit(12)"):
        source = MemorySource(data, cuts=[10])
        ask(source, f"cpu[0..99] | {stages}")
        assert source.opened == [10, 10]


# -- limits and slices -----------------------------------------------------------------------------


def test_a_query_that_looks_at_too_many_points_is_refused_before_it_reads_them() -> None:
    data = {A: [(t, float(t)) for t in range(100)]}
    source = MemorySource(data, cuts=[10])
    with pytest.raises(BadRequest, match=r"more than 95 points \(query.max_points\)"):
        ask(source, "cpu[0..99] | median()", budget=Budget(max_points=95))
    assert sum(source.opened) == 90
    assert ask(source, "cpu[0..99] | median()", budget=Budget(max_points=100)).scanned == 100


def test_an_answer_of_too_many_points_is_refused() -> None:
    data = {A: [(t, float(t)) for t in range(60)], B: [(t, float(t)) for t in range(60)]}
    source = MemorySource(data)
    with pytest.raises(BadRequest, match="more than 119 points"):
        ask(source, "cpu[0..99]", budget=Budget(max_answer=119))
    assert len(ask(source, "cpu[0..99]", budget=Budget(max_answer=120)).series) == 2
    with pytest.raises(BadRequest, match="more than 100,000 points"):
        ask(source, "cpu[0..119999] | count(2ms) | fill(0)")


def test_topk_keeps_the_points_of_its_best_series_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flo.floql.evaluate.RANKED_POINTS_MAX", 25)
    data: Data = {("cpu", (("host", f"h{n}"),), "value"): [(t, float(n)) for t in range(10)] for n in range(9)}
    assert [series.tags["host"] for series in ask(MemorySource(data), "cpu[0..9] | topk(1)").series] == ["h8"]
    with pytest.raises(BadRequest, match="at most 25 points"):
        ask(MemorySource(data), "cpu[0..9] | topk(2)")


@pytest.mark.parametrize(
    "stages",
    [
        "avg(100ms)",
        "median()",
        "percentile(99)",
        "where(> 5)",
        "math(* 2)",
        "delta()",
        "topk(1)",
        "group_by() | delta()",
        "sort(-time) | abs()",
    ],
)
def test_long_work_is_cut_into_slices(stages: str) -> None:
    count = 100_000
    data = {A: [(t, float(t * 7919 % 1000)) for t in range(count)], B: [(t, float(t * 7919 % 997)) for t in range(count)]}
    job = evaluate(make_plan(parse(f"cpu[0..{count}] | {stages} | last()"), 0), MemorySource(data), Budget())
    result, pauses = run(job)
    assert result.series
    assert pauses >= 3, "200,000 points take at least 10 ms"


def test_a_percentile_of_many_points_is_the_same_as_by_sorting() -> None:
    for count, values in (
        (30_000, [float(t * 7919 % 30_011) for t in range(30_000)]),
        (30_000, [float(t % 2) for t in range(30_000)]),
        (30_001, [1.0] * 30_001),
        (30_000, [float(t) for t in range(30_000)]),
        (30_000, [float(0 if t % 15 == 0 else t) for t in range(30_000)]),
    ):
        data = {A: list(enumerate(values))}
        for text in ("median()", "percentile(99)", "percentile(1)", "percentile(0)", "percentile(100)", "percentile(50.003)"):
            query = f"cpu[0..{count}] | {text}"
            same(ask(MemorySource(data), query).series, answer(parse(query), data))


def test_a_merge_hands_out_pieces_of_bounded_size() -> None:
    count = 10 * PIECE_POINTS
    parts = [iter([Columns(range(first, 3 * count, 3), [float(first)] * count)]) for first in range(3)]
    pieces = [columns for columns in merged(parts, Meter(0)) if columns is not None]
    assert [t for columns in pieces for t in columns.times] == list(range(3 * count))
    assert [v for columns in pieces for v in columns.values] == [0.0, 1.0, 2.0] * count
    assert max(len(columns.times) for columns in pieces) <= PIECE_POINTS


def test_the_longest_and_deepest_queries_do_not_exhaust_the_stack() -> None:
    """The calls of a server are below these; half of Python's stack is left to them."""
    data = {A: [(t, float(t)) for t in range(100)], B: [(t, float(t)) for t in range(100)]}
    deepest = "(" * NESTING_MAX + "value" + " + 0)" * NESTING_MAX + " + 0" * (OPERATORS_MAX - NESTING_MAX)
    nested = "(((" * (REGEX_NESTING_MAX // 3) + "a|h" + ")*x?)+y?)*" * (REGEX_NESTING_MAX // 3)
    frames = len(inspect.stack(0))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(frames + 500)
    try:
        for stage in (f"math({deepest})", "delta()", "round(1)", "limit(99)", "group_by(host)", "max(1ms)", "topk(9)", "where(> -1)"):
            chain = " | ".join([stage, "alias(x)"] if stage == "topk(9)" else [stage] * STAGES_MAX)
            text = f"cpu{{host=~/^{nested}/}}[0..99] | {chain}"
            ask(MemorySource(data), text)
    finally:
        sys.setrecursionlimit(limit)


# -- what other query languages need of a plan -----------------------------------------------------


def pipeline(*steps: Aggregate | Alias, start: int = 0, end: int = 99) -> Pipeline:
    return Pipeline("cpu", (), None, start, end, steps)


def test_windows_may_have_an_offset() -> None:
    data = {A: [(t, 1.0) for t in range(-10, 30)]}
    plan = Plan((pipeline(Aggregate("count", window=Window(20, 5)), start=-10, end=29),))
    assert run_plan(MemorySource(data), plan).series[0].points == [(-15, 15.0), (5, 20.0), (25, 5.0)]


@pytest.mark.parametrize(("name", "expected"), [("min", (3, 1.0)), ("max", (5, 9.0)), ("first", (2, 4.0)), ("last", (8, 4.0))])
def test_a_lone_selector_may_have_its_points_own_time(name: Function, expected: tuple[int, float]) -> None:
    data = {A: [(2, 4.0), (3, 1.0), (5, 9.0), (6, 1.0), (7, 9.0), (8, 4.0)], B: [(4, 1.0), (6, 9.0)]}
    for cuts in ([1], [2], [10]):
        for grouped in (False, True):
            text = "cpu[0..9] | group_by()" if grouped else "cpu{host=a}[0..9]"
            made = make_plan(parse(text), 0).pipelines[0]
            step = Aggregate(name, own_time=True)
            plan = Plan((Pipeline("cpu", made.matchers, None, 0, 9, (*made.steps, step)),))
            assert run_plan(MemorySource(data, cuts, divisor=1), plan).series[0].points == [expected]


def test_several_pipelines_answer_one_after_the_other() -> None:
    data = {A: [(0, 1.0), (1, 3.0)]}
    plan = Plan((pipeline(Aggregate("max"), Alias("largest")), pipeline(Aggregate("avg"), Alias("mean"))))
    result = run_plan(MemorySource(data), plan)
    assert [(series.name, series.points, series.pipeline) for series in result.series] == [
        ("largest", [(0, 3.0)], 0),
        ("mean", [(0, 2.0)], 1),
    ]
    assert result.scanned == 2
