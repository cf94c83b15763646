"""Charts as text: where points stand, what the axes say, and that everything fits."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flo.cli.plot import LINES_MAX, Line, Look, chart, time_step, value_texts, value_ticks

START = 1_700_000_000_000
ASCII, BRAILLE = Look(40, 9, False, False), Look(40, 9, True, False)


def rows_of(text: list[str], look: Look) -> list[str]:
    """The canvas without the axis."""
    return [re.split(r"[-|┤│]", line.replace("-0", "0"), maxsplit=1)[1] for line in text[: look.rows]]


def test_a_line_rises_from_corner_to_corner() -> None:
    text = chart([Line("up", [(START + at * 1000, float(at)) for at in range(11)])], ASCII)
    rows = rows_of(text, ASCII)
    assert rows[-1].startswith("*") and rows[0].rstrip().endswith("*")
    places = [row.find("*") for row in rows]
    assert places == sorted(places, reverse=True), "each row begins further to the right than the one below"
    assert all("*" in row for row in rows), "neighbours are joined"
    assert [line.split()[0] for line in text[:9] if not line.lstrip().startswith("|")] == ["10", "5", "0"]
    assert text[-1] == "*  up  last 10"


def test_braille_has_the_dots_of_the_points() -> None:
    text = chart([Line("two", [(START, 0.0), (START + 100_000, 0.0), (START + 200_000, 10.0)])], Look(30, 5, True, False))
    rows = rows_of(text, Look(30, 5, True, False))
    assert rows[-1][0] == "\u28c0", "the lowest dots of both columns"
    assert ord(rows[0].rstrip()[-1]) & 0x08, "the highest dot on the right"


def test_a_gap_stays_a_gap() -> None:
    minute = 60_000
    times = [*range(20), *range(60, 80)]
    rows = rows_of(chart([Line("gap", [(START + at * minute, 1.0) for at in times])], ASCII), ASCII)
    (row,) = (row for row in rows if "*" in row)
    assert re.fullmatch(r"\*{8,11} {15,22}\*{8,11}", row.rstrip())


def test_lines_are_told_apart_without_colour() -> None:
    lines = [Line(f"line {number}", [(START + at, float(number)) for at in range(30)]) for number in range(LINES_MAX)]
    for look in (Look(100, 20, True, False), Look(100, 20, False, False)):
        text = chart(lines, look)
        canvas = "".join(rows_of(text, look))
        for number in range(LINES_MAX):
            letter = chr(ord("a") + number)
            assert letter in canvas, letter
            assert text[-LINES_MAX + number].startswith(f"{letter}  line {number}  ")


def test_lines_on_top_of_each_other_have_each_their_mark() -> None:
    same = [Line(name, [(START + at, 1.0) for at in range(30)]) for name in "xyz"]
    canvas = "".join(rows_of(chart(same, BRAILLE), BRAILLE))
    assert {"a", "b", "c"} <= set(canvas)


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(START, START + 10**7), st.floats(allow_nan=False, allow_infinity=False)
            ),
            min_size=1,
            max_size=30,
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(30, 150),
    st.integers(5, 20),
    st.booleans(),
)
def test_any_points_fit(points: list[list[tuple[int, float]]], columns: int, rows: int, braille: bool) -> None:
    lines = [Line("name" * 20, sorted(dict(each).items())) for each in points]
    text = chart(lines, Look(columns, rows, braille, False))
    assert len(text) == rows + 3 + len(lines)
    assert max(map(len, text)) <= columns


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300), st.integers(2, 8))
def test_ticks_hold_all_values_and_have_texts_that_differ(one: float, other: float, most: int) -> None:
    low, high = sorted((one, other))
    ticks = value_ticks(low, high, most)
    assert 2 <= len(ticks) <= max(most, 3)
    spare = (ticks[1] - ticks[0]) * 1e-6
    assert ticks[0] <= low + spare and high - spare <= ticks[-1]
    assert len(set(value_texts(ticks))) == len(ticks)


@pytest.mark.parametrize(
    ("span", "shown"),
    [(50, "22:13:20.000"), (20_000, "22:13:20"), (3_600_000, "22:13"), (30 * 86_400_000, "11-14"), (10 * 365 * 86_400_000, "2023-11-14")],
)
def test_times_are_as_exact_as_the_range_asks(span: int, shown: str) -> None:
    step, first, last = time_step(START, START + span, 60)
    assert "2023-11-14T22:13:20.000Z"[first:last] == shown
    assert 2 <= span / step <= 12
