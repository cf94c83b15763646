"""What a query becomes: the range, the order of stages, and the refusals of what does not fit together."""

import pytest

from flo.errors import BadRequest
from flo.floql.parser import parse
from flo.floql.plan import ANSWER_POINTS_MAX, Aggregate, Fill, GroupBy, Limit, Pipeline, Plan, Rate, Rounding, Step, Top, Window, make_plan
from flo.floql.source import TagMatcher

pytestmark = pytest.mark.computes


def plan(text: str, now: int = 10_000_000) -> Pipeline:
    return make_plan(parse(text), now).pipelines[0]


def steps(text: str) -> tuple[Step, ...]:
    return plan(text).steps


def test_a_plan_says_what_to_read() -> None:
    expected = Pipeline("cpu", (TagMatcher("host", "=", "a"),), ("usage",), 5, 9, (Aggregate("avg"),), descending=True)
    assert make_plan(parse("cpu{host=a}[5..9] | field(usage) | avg() | sort(-time)"), 0) == Plan((expected,))
    assert (plan("cpu").start, plan("cpu").end, plan("cpu").fields) == (6_400_000, 10_000_000, None)
    assert (plan("cpu[10s]").start, plan("cpu[10s]").end) == (9_990_000, 10_000_000)


def test_a_window_in_the_aggregate_is_a_window_before_it() -> None:
    for name in ("avg", "sum", "count", "min", "max", "first", "last", "stddev", "median"):
        assert steps(f"cpu | {name}(5m)") == steps(f"cpu | window(5m) | {name}()") != steps(f"cpu | {name}()")
    expected = (Aggregate("percentile", 99.0, Window(300_000)),)
    assert steps("cpu | percentile(99, 5m)") == steps("cpu | window(5m) | percentile(99)") == expected


def test_stages_inside_a_window_keep_their_place() -> None:
    assert steps("cpu | window(5m) | group_by(host) | abs() | avg()") == (
        GroupBy(("host",)),
        Rounding("abs"),
        Aggregate("avg", 0.0, Window(300_000)),
    )


def test_limit_looks_from_the_end_that_sort_has_chosen_so_far() -> None:
    assert steps("cpu | limit(1) | sort(-time) | limit(2) | sort(time) | limit(3)") == (Limit(1), Limit(2, True), Limit(3))
    assert not plan("cpu | sort(-time) | sort(time)").descending


def test_fill_uses_the_windows_of_the_aggregate_before_it() -> None:
    assert steps("cpu | avg(1m) | max(5m) | fill(linear)")[-1] == Fill(Window(300_000), "linear")
    assert steps("cpu | rate(1m) | math(* 2) | fill(0)") == (Rate(Window(60_000)), *steps("cpu | math(* 2)"), Fill(Window(60_000), 0.0))
    assert steps("cpu | avg(1m) | fill(none) | topk(3)")[1:] == (Top(3, True),)


@pytest.mark.parametrize(
    ("text", "column", "sentence"),
    [
        ("cpu | window(5m)", 7, "no aggregate; expected one behind it"),
        ("cpu | window(5m) | abs()", 7, "no aggregate"),
        ("cpu | window(5m) | window(5m) | avg()", 20, "waits for its aggregate"),
        ("cpu | window(5m) | rate(1m)", 20, "waits for its aggregate"),
        ("cpu | window(5m) | fill(0) | avg()", 20, "waits for its aggregate"),
        ("cpu | window(5m) | limit(5) | avg()", 20, "waits for its aggregate"),
        ("cpu | window(5m) | avg(1m)", 20, "has a window, and one waits"),
        ("cpu | fill(0)", 7, "`fill` needs windows"),
        ("cpu | avg() | fill(0)", 15, "`fill` needs windows"),
        ("cpu | avg(5m) | max() | fill(0)", 25, "`fill` needs windows"),
        ("cpu | avg(5m) | group_by(host) | fill(0)", 34, "`fill` needs windows"),
        ("cpu | field(a) | field(b)", 18, "second `field`"),
        ("cpu | topk(1) | field(b)", 17, "in front of topk"),
        (
            "cpu[520w] | avg(1ms)",
            13,
            r"into 314,496,000,001, and an answer has at most 100,000 points; expected a window of at least \d+ ms",
        ),
        ("cpu[520w] | rate(1s)", 13, "an answer has at most 100,000"),
        ("cpu[520w] | window(1s) | avg()", 13, "an answer has at most 100,000"),
    ],
)
def test_stages_that_do_not_fit_together_are_refused_with_a_caret(text: str, column: int, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence) as refusal:
        plan(text)
    first, shown, caret = str(refusal.value).split("\n")
    assert first.startswith(f"Line 1, column {column}: ")
    assert (shown, caret) == (text, " " * (column - 1) + "^")


def test_the_window_that_a_refusal_names_is_accepted() -> None:
    with pytest.raises(BadRequest) as refusal:
        plan("cpu[520w] | avg(1ms)")
    width = str(refusal.value).partition("at least ")[2].partition(" ms")[0]
    assert plan(f"cpu[520w] | avg({width}ms)").steps
    assert plan(f"cpu[0..{ANSWER_POINTS_MAX - 1}] | avg(1ms)").steps
    with pytest.raises(BadRequest, match="100,001"):
        plan(f"cpu[0..{ANSWER_POINTS_MAX}] | avg(1ms)")
