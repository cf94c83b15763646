"""Every stage, and pipelines of stages, against the plain reference; limits, slices, and how little is read."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flo.floql.evaluate import AnswerSeries
from flo.floql.parser import parse
from tests.floql.memory import MemorySource, ask
from tests.floql.reference import Data, Line, Points, answer

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


@settings(max_examples=600, deadline=None)
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


@settings(max_examples=60, deadline=None)
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
