"""Reads the words of a query: names, numbers, durations, times, regular expressions. The parser says which kind may come next.

A word depends on its place: `cpu-1` is a name in front of `|`, but a subtraction in `math`. So there is no list of tokens ahead of the
parser.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite

from flo.errors import BadRequest
from flo.floql.regex import STATES_MAX, PatternError, Regex
from flo.limits import DEADLINE_MAX

QUERY_CHARS_MAX = 32 << 10  # four regular expressions of the largest size fit; to read one of this length takes about 20 ms
QUERY_STATES_MAX = 2 * STATES_MAX  # of all regular expressions together: to make them takes 10 ms
SHOWN_CHARS = 100  # of a long line around the column of an error: it fits a terminal

UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_SPACES = re.compile(r"[ \t\r\n]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INTEGER = re.compile(r"[0-9]+")
_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "'": "'"}


def fail(text: str, position: int, sentence: str) -> BadRequest:
    """The refusal of a query: the sentence, the line of the query that has the position, and a caret below its column."""
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[start : end if end >= 0 else len(text)]
    column = position - start
    row = text.count("\n", 0, position) + 1
    first = max(0, min(column - SHOWN_CHARS // 2, len(line) - SHOWN_CHARS))
    before, after = ("…" if first else ""), ("…" if first + SHOWN_CHARS < len(line) else "")
    shown = before + _CONTROL.sub(" ", line[first : first + SHOWN_CHARS]) + after
    caret = " " * (column - first + len(before)) + "^"
    return BadRequest(f"Line {row}, column {column + 1}: {sentence}\n{shown}\n{caret}")


class Lexer:
    """A place in a query's text. Each method reads one kind of word there, skipping white space in front of it, or refuses the query."""

    def __init__(self, text: str) -> None:
        if len(text) > QUERY_CHARS_MAX:
            raise BadRequest(f"A query has at most {QUERY_CHARS_MAX:,} characters; this one has {len(text):,}.")
        self.text = text
        self.position: int = 0
        self._states = 0

    def skip(self) -> int:
        """Skip white space; the position behind it."""
        match = _SPACES.match(self.text, self.position)
        assert match
        self.position = match.end()
        return self.position

    def fail(self, position: int, sentence: str) -> BadRequest:
        """The refusal of the query for what stands at the position."""
        return fail(self.text, position, sentence)

    def unexpected(self, expected: str) -> BadRequest:
        """The refusal for what comes next."""
        position = self.skip()
        if position == len(self.text):
            return self.fail(position, f"The query ends here; expected {expected}.")
        found = _NAME.match(self.text, position) or _NUMBER.match(self.text, position)
        shown = found[0][:40] if found else self.text[position]
        if not shown.isprintable():
            shown = ascii(shown)[1:-1]
        return self.fail(position, f"Found `{shown}`; expected {expected}.")

    def at(self, symbol: str) -> bool:
        """Whether the symbol comes next."""
        return self.text.startswith(symbol, self.skip())

    def take(self, *symbols: str) -> str:
        """Read the first of the symbols that comes next; "" for none of them."""
        self.skip()
        for symbol in symbols:
            if self.text.startswith(symbol, self.position):
                self.position += len(symbol)
                return symbol
        return ""

    def need(self, symbol: str, expected: str = "") -> None:
        """Read the symbol, or refuse the query."""
        if not self.take(symbol):
            raise self.unexpected(expected or f"`{symbol}`")

    def word(self) -> str:
        """Read a word of the language; "" if none comes next."""
        return self._read(_WORD)

    def _read(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.skip())
        if match is None:
            return ""
        self.position = match.end()
        return match[0]

    def name(self, expected: str) -> str:
        """Read a name, bare or in quotes."""
        position = self.skip()
        if self.text[position : position + 1] in ('"', "'"):
            return self._quoted()
        name = self._read(_NAME)
        if not name:
            raise self.unexpected(f"{expected}; one that does not begin with a letter or `_` stands in quotes")
        return name

    def _quoted(self) -> str:
        start = self.position
        quote = self.text[start]
        self.position += 1
        parts = []
        while (c := self.text[self.position : self.position + 1]) != quote:
            self.position += 1
            if not c:
                raise self.fail(start, f"This quote is not closed; expected `{quote}` at the end of the name.")
            if c == "\\":
                escape = self.text[self.position : self.position + 1]
                if escape not in _ESCAPES:
                    raise self.fail(self.position - 1, "This escape is not known; expected one of \\\\ \\\" \\' \\n \\r \\t.")
                c = _ESCAPES[escape]
                self.position += 1
            parts.append(c)
        self.position += 1
        return "".join(parts)

    # -- numbers and times -------------------------------------------------------------------------

    def number(self, expected: str) -> float:
        """Read a number without a sign."""
        position = self.skip()
        digits = self._read(_NUMBER)
        if not digits:
            raise self.unexpected(expected)
        value = float(digits)
        if not isfinite(value):
            raise self.fail(position, "This number is too large; expected one up to 1.7e308.")
        return value

    def integer(self, expected: str, least: int, most: int) -> int:
        """Read a whole number within the bounds."""
        position = self.skip()
        digits = self._read(_INTEGER)
        if not digits:
            raise self.unexpected(expected)
        if len(digits) > 20 or not least <= int(digits) <= most:
            raise self.fail(position, f"{digits[:20]} is out of bounds; expected {expected}, at most {most:,}.")
        return int(digits)

    def duration(self, expected: str) -> int:
        """Read a number and its unit; ms."""
        position = self.skip()
        digits = self._read(_INTEGER)
        if not digits:
            raise self.unexpected(expected)
        at = self.position
        unit = _WORD.match(self.text, at)
        if unit is None or unit[0] not in UNITS:
            raise self.fail(at, f"Expected the duration's unit: {' '.join(UNITS)}.")
        self.position = unit.end()
        if len(digits) > 20 or not 0 < int(digits) * UNITS[unit[0]] <= DEADLINE_MAX:
            raise self.fail(position, f"This duration is out of bounds; expected 1ms to {DEADLINE_MAX}ms.")
        return int(digits) * UNITS[unit[0]]

    def time(self) -> int:
        """Read a time: ms, or RFC 3339. Fractions of a ms are cut off downwards."""
        position = self.skip()
        match = _TIME.match(self.text, position)
        if match is not None:
            self.position = match.end()
            return self._rfc3339(match, position)
        sign = -1 if self.take("-") else 1
        digits = self._read(_INTEGER)
        if not digits:
            raise self.unexpected("a time in ms, or one such as 2024-05-01T12:00:00Z")
        if self.text[self.position : self.position + 1] == "-" or _WORD.match(self.text, self.position):
            raise self.fail(position, "This is no time; expected ms, or RFC 3339 such as 2024-05-01T12:00:00Z.")
        if len(digits) > 20 or int(digits) > DEADLINE_MAX:
            raise self.fail(position, f"This time is out of bounds; expected at most {DEADLINE_MAX} ms.")
        return sign * int(digits)

    def _rfc3339(self, match: re.Match[str], position: int) -> int:
        year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
        zone = timedelta(hours=int(match[9] or 0), minutes=int(match[10] or 0)) * (-1 if match[8] == "-" else 1)
        try:
            seconds = datetime(year, month, day, hour, minute, second, tzinfo=UTC) - _EPOCH - zone
        except ValueError as e:
            raise self.fail(position, f"There is no such time: {e}; expected RFC 3339 such as 2024-05-01T12:00:00Z.") from None
        return seconds // timedelta(milliseconds=1) + int(((match[7] or "") + "000")[:3])

    # -- regular expressions -----------------------------------------------------------------------

    def regex(self, bare: bool) -> Regex:
        """Read a regular expression in `/…/` or quotes. If `bare`, one without them ends in front of `,` or `}`."""
        start = self.skip()
        delimiter = self.text[start : start + 1]
        if delimiter and delimiter in "/\"'":
            places = self._delimited(delimiter)
        elif bare:
            end = start
            while end < len(self.text) and self.text[end] not in ",}":
                end += 1
            places = range(start, start + len(self.text[start:end].rstrip()))
            self.position = end
            if not places:
                raise self.unexpected("a regular expression")
        else:
            raise self.unexpected("a regular expression in `/…/` or quotes")
        try:
            regex = Regex("".join([self.text[place] for place in places]))
            self._states += regex.states
            if self._states > QUERY_STATES_MAX:
                raise PatternError(f"Those of a query have {QUERY_STATES_MAX:,} states together at most.", 0)
            return regex
        except PatternError as e:
            place = places[e.position] if e.position < len(places) else self.position
            raise self.fail(place, f"Expected a regular expression. {e}") from None

    def _delimited(self, delimiter: str) -> Sequence[int]:
        """The places of a pattern's characters. A backslash goes if the delimiter follows, and stays in front of anything else."""
        start = self.position
        self.position += 1
        places = []
        while (c := self.text[self.position : self.position + 1]) != delimiter:
            if not c:
                raise self.fail(start, f"This regular expression is not closed; expected `{delimiter}` at its end.")
            if c == "\\" and self.position + 1 < len(self.text):
                if self.text[self.position + 1] != delimiter:
                    places.append(self.position)
                self.position += 1
            places.append(self.position)
            self.position += 1
        self.position += 1
        return places
