"""The text of InfluxQL to statements, by recursive descent. Words of the language are read in any case.

Refusals are worded as InfluxDB's: `error parsing query: found X, expected Y at line 1, char 8`. Clients show them as they are.
"""

import re
from collections.abc import Callable
from math import isfinite
from typing import Literal, TypeVar

from flo.errors import BadRequest
from flo.floql.regex import PatternError, Regex
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

QUERY_CHARS_MAX = 256 << 10  # Grafana puts all values of a variable into a pattern, in each of a dozen statements
STATEMENTS_MAX = 100  # Grafana sends one for each query of a panel
NESTING_MAX = 32  # of parentheses, calls and signs: the parser calls itself seven times for each
OPERATORS_MAX = 200  # of a statement: `"host" = 'a' OR "host" = 'b'` and so on; whoever walks over the tree calls itself for each
ITEMS_MAX = 1_000  # of a list: columns, sources, tags, keys
INTEGER_MAX = (1 << 63) - 1  # InfluxQL's integers, times and durations

_UNITS = {
    "ns": 1,
    "u": 1_000,
    "µ": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_SPACES = re.compile(r"\s*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_DURATION = re.compile(r"([0-9]+)(ns|ms|u|µ|s|m|h|d|w)(?![A-Za-z])|([0-9]+)(ns|ms|u|µ|s|m|h|d|w)(?=[0-9])")
_PATTERN = re.compile(r"/((?:[^\\/\n]|\\.)*)/")
_ESCAPES = {"n": "\n", "\\": "\\", "'": "'", '"': '"'}
_LEVELS = (("or",), ("and",), ("=~", "!~", "!=", "<>", "<=", ">=", "=", "<", ">"), ("+", "-"), ("*", "/", "%"))
# What ends an expression, a name of a column or a list, so that a bare name may not be one of them.
_RESERVED = {
    *("and", "as", "asc", "by", "create", "desc", "fill", "from", "group", "in", "into", "limit", "offset", "on", "or", "order"),
    *("select", "show", "slimit", "soffset", "where", "with"),
}
_SHOWN = {
    "databases": (),
    "retention policies": ("on",),
    "measurements": ("on", "with measurement", "where", "limit", "offset"),
    "field keys": ("on", "from", "limit", "offset"),
    "tag keys": ("on", "from", "where", "limit", "offset"),
    "tag values": ("on", "from", "with key", "where", "limit", "offset"),
    "series": ("on", "from", "where", "limit", "offset"),
    "users": (),
    "continuous queries": (),
    "grants for": ("name",),
}
_BOOLEANS = {"true": 1.0, "false": 0.0}  # as line protocol's are kept
_NEGATIVE_PATTERNS = ("=~", "!~")
Item = TypeVar("Item")


def parse(text: str) -> tuple[Statement, ...]:
    """Read the statements between semicolons. Raise `BadRequest` with the line and column."""
    return _Parser(text).statements()


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > QUERY_CHARS_MAX:
            raise BadRequest(f"error parsing query: {len(text):,} characters; a query has at most {QUERY_CHARS_MAX:,}")
        self._text = text
        self._at = 0
        self._depth = 0
        self._operators = 0

    # -- words -------------------------------------------------------------------------------------

    def _skip(self) -> int:
        match = _SPACES.match(self._text, self._at)
        assert match
        self._at = match.end()
        return self._at

    def _refuse(self, position: int, sentence: str) -> BadRequest:
        line = self._text.count("\n", 0, position) + 1
        column = position - self._text.rfind("\n", 0, position)
        return BadRequest(f"error parsing query: {sentence} at line {line}, char {column}")

    def _unexpected(self, expected: str) -> BadRequest:
        position = self._skip()
        match = _WORD.match(self._text, position) or _NUMBER.match(self._text, position)
        found = match[0][:40] if match else ascii(self._text[position])[1:-1] if position < len(self._text) else "EOF"
        return self._refuse(position, f"found {found}, expected {expected}")

    def _word(self) -> str:
        """The word that comes next, in lower case; "" for none."""
        match = _WORD.match(self._text, self._skip())
        return match[0].lower() if match else ""

    def _take(self, *symbols: str) -> str:
        """Read the first that comes next of words of the language, in lower case, or other symbols."""
        word = self._word()
        for symbol in symbols:
            if symbol == word if symbol.isalpha() else self._text.startswith(symbol, self._at):
                self._at += len(symbol)
                return symbol
        return ""

    def _take_words(self, words: str) -> bool:
        """Read all of the words, or nothing."""
        start = self._skip()
        if all(self._take(word) for word in words.split()):
            return True
        self._at = start
        return False

    def _need(self, *symbols: str) -> str:
        found = self._take(*symbols)
        if not found:
            raise self._unexpected(", ".join(symbol.upper() for symbol in symbols))
        return found

    def _name(self, expected: str) -> str:
        """A name, bare or in double quotes."""
        if self._text.startswith('"', self._skip()):
            return self._quoted('"')
        match = _WORD.match(self._text, self._at)
        if match is None or match[0].lower() in _RESERVED:
            raise self._unexpected(expected)
        self._at = match.end()
        return match[0]

    def _quoted(self, quote: str) -> str:
        start = self._at
        self._at += 1
        parts = []
        while (c := self._text[self._at : self._at + 1]) != quote:
            if not c or c == "\n":
                raise self._refuse(start, f"found a text without its closing {quote}")
            self._at += 1
            if c == "\\":
                c = self._text[self._at : self._at + 1]
                if c not in _ESCAPES:
                    raise self._refuse(self._at - 1, "found an unknown escape, expected \\\\, \\n or an escaped quote")
                c = _ESCAPES[c]
                self._at += 1
            parts.append(c)
        self._at += 1
        return "".join(parts)

    def _pattern(self) -> Regex:
        """A regular expression in slashes; only `\\/` is an escape of this language."""
        start = self._at
        match = _PATTERN.match(self._text, start)
        if match is None:
            raise self._refuse(start, "found a regular expression without its closing /")
        self._at = match.end()
        try:
            return Regex(re.sub(r"\\(.)", lambda escape: "/" if escape[1] == "/" else escape[0], match[1]))
        except PatternError as e:
            raise self._refuse(start, f"{e} This regular expression begins") from None

    def _integer(self) -> int:
        match = _NUMBER.match(self._text, self._skip())
        if match is None or not match[0].isdigit() or len(match[0]) > 18:
            raise self._unexpected("integer")
        self._at = match.end()
        return int(match[0])

    def _duration(self) -> int | None:
        """A duration such as `5m` or `1h30m`, in ns; None if none comes next."""
        start = self._skip()
        total = 0
        while match := _DURATION.match(self._text, self._at):
            digits, unit = (match[1], match[2]) if match[1] else (match[3], match[4])
            if len(digits) > 19:
                raise self._refuse(start, "found a duration that is too large, expected at most 63 bits of ns")
            total += int(digits) * _UNITS[unit]
            self._at = match.end()
        if total > INTEGER_MAX:
            raise self._refuse(start, "found a duration that is too large, expected at most 63 bits of ns")
        return total if self._at > start else None

    def _list(self, item: Callable[[], Item]) -> tuple[Item, ...]:
        """Items with commas between them."""
        items = [item()]
        while self._take(","):
            if len(items) == ITEMS_MAX:
                raise self._refuse(self._at - 1, f"found too many items, expected at most {ITEMS_MAX:,}")
            items.append(item())
        return tuple(items)

    # -- statements --------------------------------------------------------------------------------

    def statements(self) -> tuple[Statement, ...]:
        """All of the text."""
        statements: list[Statement] = []
        while True:
            while self._take(";"):
                pass
            if self._skip() == len(self._text):
                return tuple(statements)
            if len(statements) == STATEMENTS_MAX:
                raise self._refuse(self._at, f"found too many statements, expected at most {STATEMENTS_MAX}")
            self._operators = 0
            word = self._need("select", "show", "create")
            if word == "select":
                statements.append(self._select())
            elif word == "show":
                statements.append(self._show())
            else:
                self._need("database")
                statements.append(CreateDatabase(self._name("identifier")))
            if self._skip() < len(self._text) and not self._text.startswith(";", self._at):
                raise self._unexpected(";, EOF")

    def _select(self) -> Select:
        columns = self._list(self._column)
        self._need("from")
        sources, database = self._sources()
        condition = self._expression() if self._take("where") else None
        windows: TimeWindows | None = None
        tags: tuple[str | Regex | Wildcard, ...] = ()
        if self._take("group"):
            self._need("by")
            windows, tags = self._dimensions()
        fill = self._fill() if self._take("fill") else None
        descending = False
        if self._take("order"):
            self._need("by")
            self._need("time")
            descending = self._take("asc", "desc") == "desc"
        limit, offset, series_limit, series_offset = (
            self._integer() if self._take(word) else 0 for word in ("limit", "offset", "slimit", "soffset")
        )
        if self._take("tz"):
            self._zone()
        limits = limit, offset, series_limit, series_offset
        return Select(columns, sources, condition, windows, tags, fill, descending, *limits, database)

    def _column(self) -> Column:
        expression = self._expression()
        return Column(expression, self._name("identifier") if self._take("as") else "")

    def _sources(self) -> tuple[tuple[str | Regex, ...], str]:
        """Measurements, and the database that all of them name."""
        position = self._skip()
        found = self._list(self._source)
        databases = {database for database, _ in found}
        if len(databases) > 1:
            raise self._refuse(position, "found measurements of several databases, expected one database for all")
        return tuple([measurement for _, measurement in found]), databases.pop()

    def _source(self) -> tuple[str, str | Regex]:
        """The database, or "", and the measurement: `m`, `rp.m`, `db.rp.m` or `db..m`."""
        parts: list[str | Regex] = [self._source_part()]
        while isinstance(parts[-1], str) and len(parts) < 3 and self._text.startswith(".", self._at):
            self._at += 1
            parts.append("" if len(parts) == 1 and self._text.startswith(".", self._at) else self._source_part())
        database = parts[0] if len(parts) == 3 else ""
        assert isinstance(database, str)
        return database, parts[-1]

    def _source_part(self) -> str | Regex:
        if self._text.startswith("/", self._skip()):
            return self._pattern()
        return self._name("identifier or a regular expression")

    def _dimensions(self) -> tuple[TimeWindows | None, tuple[str | Regex | Wildcard, ...]]:
        windows: TimeWindows | None = None
        tags: list[str | Regex | Wildcard] = []
        for dimension in self._list(self._dimension):
            if not isinstance(dimension, TimeWindows):
                tags.append(dimension)
            elif windows is None:
                windows = dimension
            else:
                raise self._refuse(self._at, "found a second time(), expected one before here")
        return windows, tuple(tags)

    def _dimension(self) -> TimeWindows | str | Regex | Wildcard:
        if self._take("*"):
            return Wildcard()
        position = self._skip()
        if self._text.startswith("/", position):
            return self._pattern()
        name = self._name("identifier, time(), *, or a regular expression")
        if self._text[position] == '"' or name.lower() != "time" or not self._take("("):
            if self._take("::"):
                self._need("tag")
            return name
        width = self._duration()
        if not width:
            raise self._unexpected("duration")
        offset = 0
        if self._take(","):
            sign = -1 if self._take("-") else 1
            length = self._duration()
            if length is None:
                raise self._unexpected("duration")
            offset = sign * length
        self._need(")")
        return TimeWindows(width, offset)

    def _fill(self) -> float | Literal["none", "previous", "linear"] | None:
        self._need("(")
        fill: float | Literal["none", "previous", "linear"] | None
        if self._take("null"):
            fill = None
        elif self._take("none"):
            fill = "none"
        elif self._take("previous"):
            fill = "previous"
        elif self._take("linear"):
            fill = "linear"
        else:
            sign = -1.0 if self._take("-") else 1.0
            fill = sign * self._number("null, none, previous, linear or a number").value
        self._need(")")
        return fill

    def _zone(self) -> None:
        """Only UTC: windows of other zones change their widths."""
        self._need("(")
        position = self._skip()
        zone = self._quoted("'") if self._text.startswith("'", position) else ""
        if zone.upper() != "UTC":
            raise self._refuse(position, f"found the time zone '{zone}', expected 'UTC', the only one that Flo has,")
        self._need(")")

    def _show(self) -> Show:
        for what, clauses in _SHOWN.items():
            if self._take_words(what):
                return self._shown(what, clauses)
        raise self._unexpected(", ".join(what.upper() for what in _SHOWN))

    def _shown(self, what: str, clauses: tuple[str, ...]) -> Show:
        if "name" in clauses:
            self._name("identifier")
        database = self._name("identifier") if "on" in clauses and self._take("on") else ""
        sources: tuple[str | Regex, ...] = ()
        if "from" in clauses and self._take("from"):
            sources, named = self._sources()
            database = named or database
        with_ = None
        for words in ("with measurement", "with key"):
            if words in clauses and self._take_words(words):
                with_ = self._with()
        if with_ is None and "with key" in clauses:
            raise self._unexpected("WITH KEY")
        condition = self._expression() if "where" in clauses and self._take("where") else None
        limit, offset = (self._integer() if word in clauses and self._take(word) else 0 for word in ("limit", "offset"))
        return Show(what, sources, with_, condition, limit, offset, database)

    def _with(self) -> tuple[str, str | Regex | tuple[str, ...]]:
        operator = self._need("=~", "!~", "!=", "=", "in")
        if operator in _NEGATIVE_PATTERNS:
            if not self._text.startswith("/", self._skip()):
                raise self._unexpected("a regular expression")
            return operator, self._pattern()
        if operator != "in":
            return operator, self._name("identifier")
        self._need("(")
        names = self._list(lambda: self._name("identifier"))
        self._need(")")
        return operator, names

    # -- expressions -------------------------------------------------------------------------------

    def _expression(self, level: int = 0) -> Expression:
        if level == len(_LEVELS):
            return self._operand()
        left = self._expression(level + 1)
        while operator := self._take(*_LEVELS[level]):
            self._operators += 1
            if self._operators > OPERATORS_MAX:
                raise self._refuse(self._at, f"found too many operators, expected at most {OPERATORS_MAX:,} before here")
            if operator in _NEGATIVE_PATTERNS:
                if not self._text.startswith("/", self._skip()):
                    raise self._unexpected("a regular expression")
                left = Binary(operator, left, Pattern(self._pattern()))
            else:
                left = Binary("!=" if operator == "<>" else operator, left, self._expression(level + 1))
        return left

    def _operand(self) -> Expression:
        position = self._skip()
        opening = self._take("(", "-")
        if opening:
            return self._nested(position, lambda: self._expression() if opening == "(" else self._operand(), opening)
        if self._take("*"):
            return Wildcard(self._need("field", "tag") if self._take("::") else "")
        c = self._text[position : position + 1]
        if c == "/":
            return Pattern(self._pattern())
        if c == "'":
            return Text(self._quoted("'"))
        duration = self._duration()
        if duration is not None:
            return Duration(duration)
        if c and c in "0123456789.":
            return self._number("a number")
        name = self._name("identifier, string, number, bool")
        if c != '"' and name.lower() in _BOOLEANS:
            return Number(_BOOLEANS[name.lower()])
        if c != '"' and self._take("("):
            return self._nested(position, lambda: self._arguments(name), "")
        kind = self._need("field", "tag", "float", "integer", "string", "boolean") if self._take("::") else ""
        return Reference(name, kind)

    def _nested(self, position: int, read: Callable[[], Expression], opening: str) -> Expression:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise self._refuse(position, f"found too many parentheses, calls and signs, expected at most {NESTING_MAX} in each other")
        inner = read()
        self._depth -= 1
        if opening == "(":
            self._need(")")
        return Negative(inner) if opening == "-" else inner

    def _arguments(self, name: str) -> Call:
        if self._take(")"):
            return Call(name.lower(), ())
        arguments = self._list(self._expression)
        self._need(")")
        return Call(name.lower(), arguments)

    def _number(self, expected: str) -> Number:
        position = self._skip()
        match = _NUMBER.match(self._text, position)
        if match is None:
            raise self._unexpected(expected)
        self._at = match.end()
        if match[0].isdigit():
            if len(match[0]) > 19 or int(match[0]) > INTEGER_MAX:
                raise self._refuse(position, "found an integer that is too large, expected at most 63 bits")
            return Number(int(match[0]))
        if len(match[0]) > 400 or not isfinite(float(match[0])):
            raise self._refuse(position, "found a number that is too large")
        return Number(float(match[0]))
