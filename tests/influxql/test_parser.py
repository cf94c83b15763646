"""InfluxQL's statements, in the forms that Grafana sends, and refusals in InfluxDB's words."""

import inspect
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.errors import BadRequest
from flo.floql.regex import Regex
from flo.influxql.parser import ITEMS_MAX, NESTING_MAX, OPERATORS_MAX, QUERY_CHARS_MAX, STATEMENTS_MAX, parse
from flo.influxql.statement import (
    Binary,
    Call,
    Column,
    CreateDatabase,
    Duration,
    Expression,
    Negative,
    Number,
    Pattern,
    Reference,
    Select,
    Show,
    Statement,
    Text,
    TimeWindows,
    Wildcard,
)

pytestmark = pytest.mark.computes

MS, MINUTE = 1_000_000, 60_000_000_000
TIME, HOST, VALUE = Reference("time"), Reference("host"), Reference("value")
MEAN = (Column(Call("mean", (VALUE,))),)


def one(text: str) -> Statement:
    statements = parse(text)
    assert len(statements) == 1
    return statements[0]


def condition(text: str) -> Expression | None:
    statement = one(f"SELECT a FROM b WHERE {text}")
    assert isinstance(statement, Select)
    return statement.condition


def test_what_grafanas_builder_sends() -> None:
    text = (
        'SELECT mean("value") FROM "autogen"."cpu" WHERE ("host"::tag = \'a\') AND time >= 1700000000000ms and time <= 1700000060000ms '
        'GROUP BY time(5m), "host"::tag fill(null) ORDER BY time ASC'
    )
    matched = Binary("=", Reference("host", "tag"), Text("a"))
    first = Binary(">=", TIME, Duration(1_700_000_000_000 * MS))
    last = Binary("<=", TIME, Duration(1_700_000_060_000 * MS))
    where = Binary("and", Binary("and", matched, first), last)
    assert one(text) == Select(MEAN, ("cpu",), where, TimeWindows(5 * MINUTE), ("host",))


def test_every_clause_of_select() -> None:
    text = (
        'select Max(value) / -2 as "top", * from /^cpu\\/[0-9]/, rp.mem '
        "where time > now() - 1h30m group by *, /h/, region, time(1m, -30s) "
        "fill(-1.5) order by time desc limit 5 offset 2 slimit 3 soffset 1 tz('utc')"
    )
    columns = (Column(Binary("/", Call("max", (VALUE,)), Negative(Number(2))), "top"), Column(Wildcard()))
    where = Binary(">", TIME, Binary("-", Call("now", ()), Duration(90 * MINUTE)))
    tags = (Wildcard(), Regex("h"), "region")
    sources = (Regex("^cpu/[0-9]"), "mem")
    assert one(text) == Select(columns, sources, where, TimeWindows(MINUTE, -MINUTE // 2), tags, -1.5, True, 5, 2, 3, 1)


@pytest.mark.parametrize(("text", "fill"), [("null", None), ("none", "none"), ("previous", "previous"), ("linear", "linear"), ("0", 0.0)])
def test_fill(text: str, fill: float | str | None) -> None:
    statement = one(f"SELECT mean(value) FROM a GROUP BY time(1m) fill({text})")
    assert isinstance(statement, Select)
    assert statement.fill == fill


@pytest.mark.parametrize(
    ("text", "source", "database"),
    [
        ("cpu", "cpu", ""),
        ('"c p\\"u"', 'c p"u', ""),
        ('"db"."rp"."cpu"', "cpu", "db"),
        ('"db".."cpu"', "cpu", "db"),
        ('"rp"."cpu"', "cpu", ""),
        ('"rp"./c/', Regex("c"), ""),
    ],
)
def test_a_source_is_the_measurement_and_maybe_its_database(text: str, source: str | Regex, database: str) -> None:
    assert one(f"SELECT mean(value) FROM {text}") == Select(MEAN, (source,), database=database)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host = 'it\\'s'", Binary("=", HOST, Text("it's"))),
        ("host <> 'a'", Binary("!=", HOST, Text("a"))),
        (r"host =~ /a\/b\.c/", Binary("=~", HOST, Pattern(Regex(r"a/b\.c")))),
        ("host !~ /a/", Binary("!~", HOST, Pattern(Regex("a")))),
        ("value > 1.5 + 2 * 3", Binary(">", VALUE, Binary("+", Number(1.5), Binary("*", Number(2), Number(3))))),
        (
            "a = 1 OR b = 2 AND c = 3",
            Binary(
                "or",
                Binary("=", Reference("a"), Number(1)),
                Binary("and", Binary("=", Reference("b"), Number(2)), Binary("=", Reference("c"), Number(3))),
            ),
        ),
        ("time >= '2024-05-01T00:00:00Z'", Binary(">=", TIME, Text("2024-05-01T00:00:00Z"))),
        ("time = 5", Binary("=", TIME, Number(5))),
        ("time < -5u", Binary("<", TIME, Negative(Duration(5000)))),
    ],
)
def test_conditions(text: str, expected: Expression) -> None:
    assert condition(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SHOW DATABASES", Show("databases")),
        ('SHOW RETENTION POLICIES ON "db"', Show("retention policies", database="db")),
        ("SHOW MEASUREMENTS WITH MEASUREMENT =~ /c/ LIMIT 100", Show("measurements", with_=("=~", Regex("c")), limit=100)),
        ('SHOW FIELD KEYS FROM "rp"."cpu"', Show("field keys", ("cpu",))),
        ("SHOW TAG KEYS FROM cpu WHERE host = 'a'", Show("tag keys", ("cpu",), None, Binary("=", HOST, Text("a")))),
        ('SHOW TAG VALUES ON db FROM cpu WITH KEY = "host"', Show("tag values", ("cpu",), ("=", "host"), database="db")),
        ("SHOW TAG VALUES WITH KEY IN (a, b) LIMIT 5 OFFSET 1", Show("tag values", (), ("in", ("a", "b")), None, 5, 1)),
        ("SHOW SERIES FROM cpu", Show("series", ("cpu",))),
        ("SHOW USERS", Show("users")),
        ("SHOW CONTINUOUS QUERIES", Show("continuous queries")),
        ('SHOW GRANTS FOR "bob"', Show("grants for")),
        ('CREATE DATABASE "db"', CreateDatabase("db")),
    ],
)
def test_other_statements(text: str, expected: Statement) -> None:
    assert one(text) == expected
    assert parse(f" {text.lower()} ;; {text};") == (expected, expected)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("DROP DATABASE x", "found DROP, expected SELECT, SHOW, CREATE at line 1, char 1"),
        ("SHOW FOO", "found FOO, expected DATABASES,.* at line 1, char 6"),
        ("SHOW TAG VALUES FROM a", "found EOF, expected WITH KEY at line 1, char 23"),
        ("SELECT a FROM", "found EOF, expected identifier or a regular expression at line 1, char 14"),
        ("SELECT a\nFROM b\n  LIMIT x", "found x, expected integer at line 3, char 9"),
        ("SELECT FROM b", "found FROM, expected identifier, string, number, bool at line 1, char 8"),
        ("SELECT a INTO c FROM b", "found INTO, expected FROM at line 1, char 10"),
        ("SELECT a FROM b WHERE c =~ 'x'", "found ', expected a regular expression at line 1, char 28"),
        ("SELECT a FROM b WHERE c =~ /x", "without its closing / at line 1, char 28"),
        ("SELECT a FROM b WHERE c =~ /(x/", r"no `\)`.* begins at line 1, char 28"),
        ("SELECT a FROM b WHERE c = 'x", "without its closing ' at line 1, char 27"),
        ("SELECT a FROM b WHERE c = 5x", "found x, expected ;, EOF at line 1, char 28"),
        ("SELECT a FROM b GROUP BY time(0s)", "expected duration"),
        ("SELECT a FROM b GROUP BY time(1m), time(2m)", r"second time\(\)"),
        ("SELECT a FROM b fill(x)", "found x, expected null, none, previous, linear or a number at line 1, char 22"),
        ("SELECT a FROM b ORDER BY host", "found host, expected TIME at line 1, char 26"),
        ("SELECT a FROM b tz('Europe/Berlin')", "time zone 'Europe/Berlin', expected 'UTC'"),
        ("SELECT a FROM b WHERE c = 99999999999999999999", "integer that is too large"),
        ("SELECT a FROM b WHERE time > 99999999999w", "duration that is too large"),
        ("SELECT a FROM (SELECT a FROM b)", r"found \(, expected identifier"),
    ],
)
def test_a_refusal_names_the_word_and_its_place(text: str, sentence: str) -> None:
    with pytest.raises(BadRequest, match=f"^error parsing query: .*{sentence}"):
        parse(text)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(
    st.text(st.characters(), max_size=30)
    | st.lists(
        st.sampled_from(
            [
                "SELECT",
                "a",
                "FROM",
                '"b"',
                "WHERE",
                "time",
                ">",
                "5m",
                "'x'",
                "=~",
                "/c/",
                "GROUP",
                "BY",
                "(",
                ")",
                ",",
                "*",
                "-",
                "fill",
                "SHOW",
                "TAG",
                "VALUES",
                ";",
                "\n",
                "\ud800",
                "'",
                '"',
                "/",
                "\\",
                ".",
            ]
        ),
        max_size=15,
    ).map(" ".join)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except BadRequest as e:
        assert str(e).startswith("error parsing query: ")


def test_limits() -> None:
    deepest = "(" * NESTING_MAX + "a" + ")" * NESTING_MAX
    longest = "a" + "+a" * OPERATORS_MAX
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 500)  # half of the stack is left to the server
    try:
        parse(f"SELECT {deepest}, {longest} FROM b")
        parse(";".join(["SHOW USERS"] * STATEMENTS_MAX))
        parse("SELECT " + ",".join(["a"] * ITEMS_MAX) + " FROM b")
        for text, sentence in (
            (f"SELECT ({deepest}) FROM b", "too many parentheses"),
            ("SELECT " + "-" * (NESTING_MAX + 1) + "a FROM b", "too many parentheses"),
            (f"SELECT {longest}+a FROM b", "too many operators"),
            (";".join(["SHOW USERS"] * (STATEMENTS_MAX + 1)), "too many statements"),
            ("SELECT " + ",".join(["a"] * (ITEMS_MAX + 1)) + " FROM b", "too many items"),
            (" " * (QUERY_CHARS_MAX + 1), "characters"),
        ):
            with pytest.raises(BadRequest, match=sentence):
                parse(text)
    finally:
        sys.setrecursionlimit(limit)
