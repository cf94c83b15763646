"""Queries as text: everything that the grammar has, errors with their columns, and a round trip through a printer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.errors import BadRequest
from flo.floql.lexer import QUERY_CHARS_MAX
from flo.floql.parser import MATCHERS_MAX, NESTING_MAX, OPERATORS_MAX, STAGES_MAX, TAGS_MAX, parse
from flo.floql.query import (
    STAGES,
    Argument,
    ArgumentValue,
    Comparison,
    Expression,
    FixedRange,
    LastRange,
    Negative,
    Number,
    Operation,
    Query,
    Stage,
    Value,
)
from flo.floql.regex import PatternError, Regex
from flo.floql.source import TagMatcher

pytestmark = pytest.mark.computes


# -- a printer, for the round trip -----------------------------------------------------------------


def quoted(text: str) -> str:
    for plain, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(plain, escape)
    return f'"{text}"'


def pattern(regex: Regex) -> str:
    """In slashes. A `\\` before anything but a slash stays, so a pair of them in front of a slash is no escape of it."""
    shown, escaped = "", False
    for c in regex.pattern:
        shown += "\\/" if c == "/" and not escaped else c
        escaped = c == "\\" and not escaped
    return f"/{shown}/"


def printed(query: Query) -> str:
    text = quoted(query.measurement) if isinstance(query.measurement, str) else "~" + pattern(query.measurement)
    if query.matchers:
        shown = [
            quoted(matcher.name)
            + matcher.operator
            + (quoted(matcher.operand) if isinstance(matcher.operand, str) else pattern(matcher.operand))
            for matcher in query.matchers
        ]
        text += "{" + ", ".join(shown) + "}"
    if isinstance(query.range, FixedRange):
        text += f"[{query.range.start}..{query.range.end}]"
    elif query.range:
        text += f"[{query.range.duration}ms]"
    for stage in query.stages:
        arguments = [argument(kind, value) for kind, value in zip(STAGES[stage.name], stage.arguments, strict=True) if value is not None]
        text += f" | {stage.name}({', '.join(arguments)})"
    return text


def argument(kind: Argument, value: ArgumentValue) -> str:
    if isinstance(value, Comparison):
        return f"value {value.operator} {value.number!r}"
    if isinstance(value, Expression):
        return expression(value)
    if isinstance(value, tuple):
        return ", ".join(map(quoted, value))
    if kind in (Argument.DURATION, Argument.WINDOW):
        return f"{value}ms"
    return quoted(value) if kind is Argument.NAME and isinstance(value, str) else str(value)


def expression(node: Expression) -> str:
    match node:
        case Number(number):
            return repr(number)
        case Value():
            return "value"
        case Negative(operand):
            return f"-{expression(operand)}"
        case Operation(operator, left, right):
            return f"({expression(left)} {operator} {expression(right)})"
    raise AssertionError(node)


TEXT = st.text(max_size=6) | st.text("ab\\\"'/\n\t{}[]|~é\udc80", max_size=6)


def is_pattern(text: str) -> bool:
    try:
        Regex(text)
    except PatternError:
        return False
    return True


REGEXES = st.sampled_from(["a", "^web-[0-9]{1,2}$", r"\d\.", "a/b", r"\\", "(?i)x|y", "", 'a"', r"x\\/y"]).filter(is_pattern).map(Regex)
NUMBERS = st.floats(0, 1e300, allow_subnormal=False)
EXPRESSIONS = st.recursive(
    NUMBERS.map(Number) | st.just(Value()),
    lambda inner: inner.map(Negative) | st.tuples(st.sampled_from("+-*/%"), inner, inner).map(lambda parts: Operation(*parts)),
    max_leaves=6,
).map(lambda made: Operation("+", made, Value()))
MATCHERS = st.tuples(TEXT, st.sampled_from(["=", "!="]), TEXT) | st.tuples(TEXT, st.sampled_from(["=~", "!~"]), REGEXES)
WIDTHS = st.integers(1, 10**12)
ARGUMENTS: dict[Argument, st.SearchStrategy[ArgumentValue]] = {
    Argument.NAME: TEXT,
    Argument.TAGS: st.lists(TEXT, max_size=3).map(tuple),
    Argument.DURATION: WIDTHS,
    Argument.WINDOW: st.none() | WIDTHS,
    Argument.PERCENT: st.floats(0, 100, allow_subnormal=False),
    Argument.COUNT: st.integers(1, 10**9),
    Argument.DIGITS: st.none() | st.integers(0, 15),
    Argument.COMPARISON: st.tuples(
        st.sampled_from([">", ">=", "<", "<=", "==", "!="]), st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
    ).map(lambda parts: Comparison(*parts)),
    Argument.EXPRESSION: EXPRESSIONS,
    Argument.FILL: st.sampled_from(["0", "previous", "linear", "none"]),
    Argument.ORDER: st.sampled_from(["time", "-time"]),
}


@st.composite
def stages(draw: st.DrawFn) -> Stage:
    name = draw(st.sampled_from(list(STAGES)))
    return Stage(name, tuple(draw(ARGUMENTS[kind]) for kind in STAGES[name]))


RANGES = (
    st.none()
    | WIDTHS.map(LastRange)
    | st.tuples(st.integers(-(10**12), 10**12), st.integers(0, 10**12)).map(lambda pair: FixedRange(pair[0], pair[0] + pair[1]))
)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(TEXT | REGEXES, st.lists(MATCHERS.map(lambda parts: TagMatcher(*parts)), max_size=3), RANGES, st.lists(stages(), max_size=4))
def test_a_printed_query_is_read_as_it_was(
    measurement: str | Regex, matchers: list[TagMatcher], range_: LastRange | FixedRange | None, chain: list[Stage]
) -> None:
    query = Query(measurement, tuple(matchers), range_, tuple(chain))
    assert parse(printed(query)) == query


@settings(max_examples=1000, deadline=None)
@given(
    st.text(st.characters(), max_size=30)
    | st.lists(
        st.sampled_from(
            [
                "cpu",
                "{",
                "}",
                "[",
                "]",
                "1h",
                "..",
                "=~",
                "=",
                ",",
                "/",
                '"',
                "\\",
                "|",
                *STAGES,
                "(",
                ")",
                "value",
                "-",
                "5",
                "5m",
                "time",
                "\n",
                "é",
                "\ud800",
                "=~",
            ]
        ),
        max_size=15,
    ).map("".join)
)
def test_any_text_is_read_or_refused_with_its_line_and_a_caret(text: str) -> None:
    try:
        parse(text)
    except BadRequest as e:
        sentence, shown, caret = str(e).split("\n")
        assert sentence.startswith("Line ") and sentence.endswith(".")
        assert "xpected" in sentence
        assert caret.strip() == "^" and len(caret) <= len(shown) + 1


# -- the forms of section 6 ------------------------------------------------------------------------


def test_names_and_values() -> None:
    assert parse("a.b:c/d-e_1").measurement == "a.b:c/d-e_1"
    assert parse(r'"1 \"x\" \\ \n"').measurement == '1 "x" \\ \n'
    assert parse("'it\\'s'").measurement == "it's"
    assert parse(' cpu { host = "" , "a b"!=c }\n[ 5m ] ').matchers == (TagMatcher("host", "=", ""), TagMatcher("a b", "!=", "c"))
    assert parse("cpu{}").matchers == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"cpu{h=~^web-\d+$}", r"^web-\d+$"),
        (r"cpu{h=~ a b , x=y}", "a b"),
        ("cpu{h=~a{2}", None),
        (r"cpu{h=~/a\/b,}\d\\/}", r"a/b,}\d\\"),
        (r'cpu{h=~"a\"b\d\/"}', r'a"b\d\/'),
        (r"cpu{h=~'a\'b'}", "a'b"),
        ("cpu{h=~(?i)web|db}", "(?i)web|db"),
    ],
)
def test_where_a_regular_expression_ends(text: str, expected: str | None) -> None:
    if expected is None:  # bare, it ends at the first brace
        assert parse(text).matchers == (TagMatcher("h", "=~", Regex("a{2")),)
    else:
        assert parse(text).matchers[0].operand == Regex(expected)


def test_a_measurement_by_a_regular_expression_needs_delimiters() -> None:
    assert parse("~/^cpu/").measurement == parse("~'^cpu'").measurement == parse('~ "^cpu"').measurement == Regex("^cpu")
    refused("~^cpu", 2, "in `/…/` or quotes")


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("0..5", 0, 5),
        ("-7 .. -5", -7, -5),
        ("1970-01-01T00:00:01Z..1970-01-01T00:00:01.5Z", 1000, 1500),
        ("1969-12-31T23:59:59.9999Z..1970-01-01t01:00:00.0019+01:00", -1, 1),
        ("1970-01-01T00:00:00-00:30..9999999", 1_800_000, 9_999_999),
        ("0001-01-01T00:00:00Z..9999-12-31T23:59:59.999-23:59", -62_135_596_800_000, 253_402_387_139_999),
    ],
)
def test_fixed_ranges(text: str, start: int, end: int) -> None:
    assert parse(f"cpu[{text}]").range == FixedRange(start, end)


@pytest.mark.parametrize(
    ("text", "ms"), [("5ms", 5), ("2s", 2000), ("3m", 180_000), ("1h", 3_600_000), ("2d", 172_800_000), ("1w", 604_800_000)]
)
def test_durations(text: str, ms: int) -> None:
    assert parse(f"cpu[{text}]").range == LastRange(ms)


V, TWO = Value(), Number(2.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("value * 1.8 + 32", Operation("+", Operation("*", V, Number(1.8)), Number(32.0))),
        ("32 + value * 2", Operation("+", Number(32.0), Operation("*", V, TWO))),
        ("value-2-2", Operation("-", Operation("-", V, TWO), TWO)),
        ("2 / (value % 2)", Operation("/", TWO, Operation("%", V, TWO))),
        ("* 100", Operation("*", V, Number(100.0))),
        ("+ 2 * 2", Operation("+", V, Operation("*", TWO, TWO))),
        ("/ 2 + 2", Operation("+", Operation("/", V, TWO), TWO)),
        ("% 2", Operation("%", V, TWO)),
        ("- 2", Operation("-", V, TWO)),
        ("-(2 + 2)", Operation("-", V, Operation("+", TWO, TWO))),
        ("-value", Negative(V)),
        ("-2 * value", Operation("*", Negative(TWO), V)),
        ("value - -2", Operation("-", V, Negative(TWO))),
    ],
)
def test_math(text: str, expected: Expression) -> None:
    assert parse(f"cpu | math({text})").stages == (Stage("math", (expected,)),)


def test_text_that_is_no_utf_8_is_taken_as_it_is() -> None:
    query = parse('cpu{a="\udc80",b=~/^\ud800|\udcff$/}')
    assert query.matchers[0].matches("\udc80") and query.matchers[1].matches("x\udcff")
    refused("cpu \udc80", 5, r"Found `\\udc80`", shown="cpu  ")


def test_where() -> None:
    for text in ("value > 90", "> 90", ">90.0", "value>9e1"):
        assert parse(f"cpu | where({text})").stages == (Stage("where", (Comparison(">", 90.0),)),)
    for operator in (">", ">=", "<", "<=", "==", "!="):
        assert parse(f"cpu | where({operator} -5)").stages == (Stage("where", (Comparison(operator, -5.0),)),)


# -- refusals --------------------------------------------------------------------------------------


def refused(text: str, column: int, sentence: str, shown: str = "") -> None:
    with pytest.raises(BadRequest, match=sentence) as refusal:
        parse(text)
    first, line, caret = str(refusal.value).split("\n")
    assert first.startswith(f"Line 1, column {column}: "), first
    assert (line, caret) == (shown or text, " " * (column - 1) + "^")


@pytest.mark.parametrize(
    ("text", "column", "sentence"),
    [
        ("", 1, "The query ends here; expected a measurement"),
        ("8cpu", 1, "Found `8`; expected a measurement.*quotes"),
        ("cpu{host}", 9, "expected one of = != =~ !~"),
        ("cpu{host=8080}", 10, "Found `8080`; expected the tag's value.*quotes"),
        ("cpu{host=a", 11, "expected `,` or `}`"),
        ("cpu{host=a b=c}", 12, "expected `,` or `}`"),
        ("cpu{host=~}", 11, "expected a regular expression"),
        ("cpu{host=~a(b}", 12, "Expected a regular expression.*no `"),
        (r'cpu{host=~"a\"(?=b)"}', 15, "looks around"),
        ("cpu{host=~/ab}", 11, "not closed"),
        ('cpu{host="ab}', 10, "not closed"),
        (r'cpu{host="a\d"}', 12, "escape is not known"),
        ("cpu[]", 5, "expected a duration"),
        ("cpu[1]", 6, "unit: ms s m h d w"),
        ("cpu[1y]", 6, "unit"),
        ("cpu[0h]", 5, "out of bounds"),
        ("cpu[1h", 7, "expected `]`"),
        ("cpu[5..1]", 8, "ends before it starts"),
        ("cpu[2024-05-01..5]", 5, "RFC 3339"),
        ("cpu[2024-02-30T00:00:00Z..5]", 5, "no such time"),
        ("cpu[0..99999999999999999999999]", 8, "out of bounds"),
        ("cpu x", 5, r"expected `\{` with matchers, `\[` with a range, `\|` or the end"),
        ("cpu{} [1h] x", 12, r"expected `\|` or the end"),
        ("cpu |", 6, "expected a stage: field window"),
        ("cpu | mean()", 7, "Found `mean`; expected a stage"),
        ("cpu | avg", 10, r"expected `\(` behind the stage `avg`"),
        ("cpu | avg(5)", 12, "unit"),
        ("cpu | avg(x)", 11, "expected a window such as 5m, or nothing"),
        ("cpu | avg(5m", 13, r"expected `\)`"),
        ("cpu | window()", 14, "expected a duration"),
        ("cpu | percentile()", 18, "expected a number from 0 to 100"),
        ("cpu | percentile(101)", 18, "no percentile above 100"),
        ("cpu | percentile(50 5m)", 21, r"expected `,` or `\)`"),
        ("cpu | topk(0)", 12, "from 1"),
        ("cpu | limit(-1)", 13, "whole number"),
        ("cpu | round(16)", 13, "0 to 15"),
        ("cpu | where(90)", 13, "expected one of > >= < <= == !="),
        ("cpu | where(x > 90)", 13, "Found `x`; expected a comparison"),
        ("cpu | where(> 1e999)", 15, "too large"),
        ("cpu | math(value +)", 19, "expected `value`, a number"),
        ("cpu | math(5)", 12, "does not depend"),
        ("cpu | math((value)", 19, r"expected `\)`"),
        ("cpu | math(valu)", 12, "Found `valu`"),
        ("cpu | fill(5)", 12, "expected 0, previous, linear or none"),
        ("cpu | sort(value)", 12, "expected time or -time"),
        ("cpu | group_by(host zone)", 21, r"expected `,` or `\)`"),
        ("cpu | delta(5)", 13, r"expected `\)`"),
    ],
)
def test_a_refusal_points_at_the_column_and_says_what_was_expected(text: str, column: int, sentence: str) -> None:
    refused(text, column, sentence)


def test_a_refusal_shows_the_line_of_the_query_and_of_a_long_one_a_part() -> None:
    with pytest.raises(BadRequest) as refusal:
        parse("cpu\n  | avg(5m)\n  | wher(> 3)\n  | max()")
    assert str(refusal.value).split("\n")[1:] == ["  | wher(> 3)", "    ^"]
    assert str(refusal.value).startswith("Line 3, column 5: Found `wher`; ")
    with pytest.raises(BadRequest) as refusal:
        parse("x" * 500 + " ? " + "y" * 500)
    _, shown, caret = str(refusal.value).split("\n")
    assert len(shown) == 102 and shown[0] == shown[-1] == "…"
    assert shown[caret.index("^")] == "?"


def test_limits() -> None:
    matchers = ",".join(["a=b"] * MATCHERS_MAX)
    chain = " | abs()" * STAGES_MAX
    tags = ",".join(["a"] * TAGS_MAX)
    parse(f"cpu{{{matchers}}}{chain}")
    parse(f"cpu | group_by({tags})")
    parse("cpu | math(" + "(" * NESTING_MAX + "value" + ")" * NESTING_MAX + ")")
    parse("cpu | math(value" + "+1" * OPERATORS_MAX + ")" + " | math(value" + "+1" * OPERATORS_MAX + ")")
    for text, sentence in (
        (f"cpu{{{matchers},a=b}}", "at most 64 matchers"),
        (f"cpu{chain} | abs()", "at most 64 stages"),
        (f"cpu | group_by({tags},a)", "At most 64 tags"),
        ("cpu | math(" + "-" * (NESTING_MAX + 1) + "value)", "nested at most 32 deep"),
        ("cpu | math(value" + "+1" * (OPERATORS_MAX + 1) + ")", "at most 100 operators"),
        ("x" * (QUERY_CHARS_MAX + 1), "at most 32,768 characters"),
        ("cpu{a=~" + "a" * 9000 + "}", "at most 8,192 bytes"),
        ("cpu{a=~/(a{500}){500}/}", "at most 10,000"),
        ("cpu{" + ",".join(["a=~/(a{99}){100}/"] * 3) + "}", "20,000 states together"),
    ):
        with pytest.raises(BadRequest, match=sentence):
            parse(text)
