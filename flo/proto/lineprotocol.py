r"""InfluxDB's line protocol: bytes to columns of points. No socket, no clock, no store.

    [spaces] measurement[,tag=value]… spaces field=number[,field=number]… [spaces timestamp] [spaces] newline

The names are `series.py`'s. A number is a float (`1`, `-.5`, `2.5e-3`), an integer (`123i`, `123u`), or a truth value (`t T true True
TRUE f F false False FALSE`: 1 and 0). A field can also be a string in quotes, with `\"`, `\\` and line ends inside. Flo does not keep
strings, nor integers past 2^53, which a double would round. A line that begins with `#` is a comment. Lines end with `\n` or `\r\n`. This
is the grammar of influxdata's own decoder (github.com/influxdata/line-protocol), but for two forms of floats that Go's parser reads and
InfluxDB 1.x refuses: hexadecimal floats, and `_` between digits.

Agents send the same series again and again, so there are two ways to read a piece of a body, with the same result:

- *By columns*: a few `split`s give the heads (`measurement,tags`), names, numbers and timestamps of all lines at once. `Names` remembers
  the series of each head and field name as they are sent, so only new ones are parsed. Numbers and timestamps are converted a column at a
  time. If anything is unusual, nothing of the piece is taken.
- *Line by line*, for what is unusual: strings, comments, booleans, negative timestamps, and all errors, which have a line and a column.
"""

import re
from array import array
from collections.abc import Generator, Iterable, Sequence
from itertools import chain, compress, islice, repeat
from math import isfinite
from operator import sub

from flo import series
from flo.errors import BadRequest
from flo.series import HEAD_BYTES_MAX, Malformed, found, shown

PIECE_BYTES = 8 << 10  # read at once: the shortest lines, each of a new series, take 3 ms
SLICE_BYTES = 32 << 10  # of a slice by columns, with what is remembered of new names: 1 ms
RUN_BYTES = 4 << 10  # a piece with an unusual line is read in runs of this size, so that most lines are still read by columns
SLICE_WORK = 2000  # of a slice line by line: lines and fields, each 1 to 2 us, …
NEW_BYTES = 256  # … and so many bytes of new names, …
ERROR_WORK = 3  # … and a bad line is as much work as so many
LINE_BYTES_MAX = 256 << 10  # a line is read in one slice; a string in InfluxDB has 64 KiB at most
FIELDS_MAX = 2000  # of a line, which is read in one slice; each is a series, and a new one takes 5 us
INTEGER_MAX = 1 << 53  # past it, doubles do not have every integer
ERRORS_MAX = 20  # messages for bad lines that are kept: a whole body of them would say nothing more
NAMES_BYTES_MAX = 256 << 20  # of the names that are remembered: those of 250,000 series, which take more memory themselves
HEAD_BYTES, FIELD_BYTES = 480, 180  # of a remembered head and a field, besides the text

# Nanoseconds of the units of timestamps, as InfluxDB's precisions are named; its default is ns
UNITS = {"n": 1, "ns": 1, "u": 1000, "us": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_MS = UNITS["ms"]
_NS_MAX = (1 << 63) - 1  # a timestamp in ns fits 64 bits in InfluxDB, in whatever unit it is sent

BOOLEANS = dict.fromkeys(b"t T true True TRUE".split(), 1.0) | dict.fromkeys(b"f F false False FALSE".split(), 0.0)
_INTEGER = re.compile(rb"-?[0-9]+i|[0-9]+u")
_FLOAT_TEXT = rb"-?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+"
_FLOAT = re.compile(_FLOAT_TEXT)
_INTEGER_DIGITS_MAX = 20  # of 2^64

_SPACES = re.compile(rb" *")
_COMMENT = re.compile(rb"#[^\x00-\x1f\x7f]*")
_HEAD = re.compile(rb"(?:[^\x00-\x1f\x7f \\]+|\\+ ?)*")  # up to the space that ends it
_PLAIN_TEXT = re.compile(rb"[^\x00-\x20\x7f-\xff,=\\]+")  # a name without escapes
_VALUE = re.compile(rb"[^, \r\n]*")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_TIME = re.compile(rb"[-0-9]*")
# A field and the end of a line as most are. The integer has no more digits than a double. What ends in a second `+` never gives back what
# it took, so that no text takes long.
_PLAIN_NAME = rb"(?:[^\x00-\x1f\x7f,= \\]++|\\++[,= ]?+)++"
_PLAIN_FIELD = re.compile(rb"(%b)=(?:(-?[0-9]{1,15}+)i|(%b))(?=[, \r\n])" % (_PLAIN_NAME, _FLOAT_TEXT))
_PLAIN_END = re.compile(rb" +([0-9]{1,19}+) *\r?\n")

# In the columns, these stand for an escaped space, comma and `=`, so that a `split` finds the separators only. No name can have them.
_SPACE, _COMMA, _EQUALS = b"\x00", b"\x01", b"\x02"


class Points:
    """What a body has, as columns in the order of its lines. In `strict` mode there is nothing but points."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []  # of the series
        self.times: array[int] = array("q")  # ms
        self.values: array[float] = array("d")
        self.dropped = 0  # fields left out: strings, and integers past 2^53
        self.dropped_lines = 0  # good lines that had no other fields
        self.bad_lines = 0
        self.errors: list[str] = []  # of the first bad lines


class Fields(dict[bytes, bytes]):
    """The keys of the series of a head by the field's name, as it is sent."""

    __slots__ = ("head", "names")

    def __init__(self, names: "Names", head: bytes) -> None:
        self.names: Names = names
        self.head: bytes = head

    def __missing__(self, raw: bytes) -> bytes:
        if _PLAIN_TEXT.fullmatch(raw):
            return self._remember(raw, self.head + b" " + raw)
        text = raw.replace(_SPACE, b"\\ ").replace(_COMMA, b"\\,").replace(_EQUALS, b"\\=")
        name, at = series.read_name(text, 0, len(text), "a field's name")
        if at < len(text):
            raise Malformed(at, "no field's name")
        return self.learn(raw, name)

    def learn(self, raw: bytes, name: bytes) -> bytes:
        """The key of the series of a field that is sent as `raw`; it is remembered."""
        return self._remember(raw, series.field_key(self.head, name))

    def _remember(self, raw: bytes, key: bytes) -> bytes:
        if len(key) > series.SERIES_BYTES_MAX:
            raise Malformed(0, f"the names of the series have {len(key)} bytes together, {series.SERIES_BYTES_MAX} at most")
        self.names.count_bytes(len(raw) + len(key) + FIELD_BYTES)
        self[raw] = key
        return key


class Names(dict[bytes, Fields]):
    """The heads of lines, `measurement,tags`, as they are sent. A server has one for all that writes to it."""

    def __init__(self) -> None:
        self.bytes: int = 0
        self.remembered: int = 0  # bytes that were counted so far: a measure of work

    def __missing__(self, raw: bytes) -> Fields:
        text = raw.replace(_SPACE, b"\\ ")
        if len(text) > HEAD_BYTES_MAX:
            raise Malformed(0, "too long")
        head, at = series.read_head(text, 0, len(text))
        if at < len(text):
            raise Malformed(at, "no head")
        return self.learn(raw, head)

    def learn(self, raw: bytes, head: bytes) -> Fields:
        """The fields of a head that is sent as `raw`; it is remembered."""
        self.count_bytes(len(raw) + len(head) + HEAD_BYTES)
        fields = self[raw] = Fields(self, head)
        return fields

    def count_bytes(self, more: int) -> None:
        """Count what is to be remembered. When it is too much, all is forgotten: what is still in use is parsed once again."""
        self.bytes += more
        self.remembered += more
        if self.bytes > NAMES_BYTES_MAX:
            self.clear()
            self.bytes = more


class _Unusual(Exception):
    """The columns' way does not read this piece."""


class _BadString(Malformed):
    """A string is wrong. The next line is looked for behind `resume`: line ends in the string do not end the line."""

    def __init__(self, at: int, message: str, resume: int) -> None:
        super().__init__(at, message)
        self.resume = resume


def decode(data: bytes, names: Names, now: int, unit: str = "ns", strict: bool = True) -> Generator[None, None, Points]:
    """The points of a body, in slices; a line without a timestamp has `now`, in ms. `unit` is one of `UNITS`.

    `strict`: the first bad line, string or integer past 2^53 raises `BadRequest` with its line and column. Otherwise good lines are kept
    and bad ones counted, and strings and such integers are left out and counted.
    """
    reader = _Reader(data, names, now, UNITS[unit], strict)
    begun = names.remembered  # how far all slices before this one came, in bytes read and remembered
    while reader.at < len(data):
        stop = reader.piece_end(PIECE_BYTES)
        if not reader.by_columns(stop):
            while reader.by_runs(stop):
                yield
        done = reader.at + names.remembered
        if done - begun >= SLICE_BYTES:
            yield
            begun = done
    return reader.points


class _Reader:
    """Reads a body: `at` is where the next line begins."""

    def __init__(self, data: bytes, names: Names, now: int, unit: int, strict: bool) -> None:
        self.data = data
        self.at = 0
        self._work = 0  # of this slice, line by line
        self.points = Points()
        self._names = names
        self._strict = strict
        self._line = 1  # the number of the next line
        self._unit = unit
        self._time_max = _NS_MAX // unit
        self._now = now - now % max(unit // _MS, 1)  # InfluxDB gives the server's time the precision of the request, too

    # -- by columns --------------------------------------------------------------------------------

    def piece_end(self, most: int) -> int:
        """Where the last whole line that begins here and has at most `most` bytes with those before it ends; `at` if there is none."""
        if self.at + most >= len(self.data):
            return len(self.data)
        return max(self.data.rfind(b"\n", self.at, self.at + most) + 1, self.at)

    def run_end(self) -> int:
        """Where a short piece without a quote ends; `at` if its first line has one."""
        quote = self.data.find(b'"', self.at, self.at + RUN_BYTES)
        if quote < 0:
            return self.piece_end(RUN_BYTES)
        return max(self.data.rfind(b"\n", self.at, quote) + 1, self.at)

    def by_runs(self, stop: int) -> bool:
        """Read the lines up to `stop`, or those of one slice; returns whether there are more."""
        self._work = 0
        begun = self._names.remembered
        while self._work + (self._names.remembered - begun) // NEW_BYTES < SLICE_WORK:
            run = min(self.run_end(), stop)
            if not self.by_columns(run):
                self.by_lines(max(run, self.at + 1))
            if self.at >= stop:
                return False
        return True

    def by_columns(self, stop: int) -> bool:
        """Read the lines up to `stop` by columns. If that is not possible, it returns False and nothing has changed."""
        if stop == self.at:
            return False
        piece = self.data[self.at : stop]
        if b'"' in piece:
            return False
        if not piece.endswith(b"\n"):
            piece += b"\n"
        lines = piece.count(b"\n")
        try:
            keys, times, values = self._split(piece, lines)
        except (_Unusual, Malformed, ValueError):
            return False
        points = self.points
        points.keys += keys
        points.times.extend(islice(times, len(keys)))  # `times` can be endless
        points.values.extend(values)
        self._line += lines
        self.at = stop
        return True

    def _split(self, piece: bytes, lines: int) -> tuple[list[bytes], Iterable[int], Sequence[float]]:
        """The columns of a piece: series' keys, timestamps and numbers. All its lines have a timestamp, or none of them has one."""
        for mark in (_SPACE, _COMMA, _EQUALS):
            if mark in piece:
                raise _Unusual
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n")
        is_escaped = b"\\" in piece
        if is_escaped:
            piece = piece.replace(b"\\ ", _SPACE)
        # head, fields, timestamp, "\n". There are as many "\n" as lines. If each is where a line should end, all lines have the same parts.
        parts = piece.replace(b"\n", b" \n ").split(b" ")
        width = (len(parts) - 1) // lines
        if width not in (3, 4) or len(parts) != width * lines + 1 or parts[width - 1 :: width].count(b"\n") != lines:
            raise _Unusual
        text = b" \n ".join(parts[1::width])
        if is_escaped:
            text = text.replace(b"\\,", _COMMA).replace(b"\\=", _EQUALS)
        # name, number, and "," or "\n". If there is one of these behind each pair, none is elsewhere: it would be no name and no number.
        tokens = text.replace(b"=", b" ").replace(b",", b" , ").split(b" ")
        names, ends = tokens[0::3], tokens[2::3]
        count = len(names)
        if len(tokens) != 3 * count - 1 or ends.count(b",") + ends.count(b"\n") != count - 1:
            raise _Unusual
        known = self._names
        rows: Iterable[Fields] = [known[head] for head in parts[0 : width * lines : width]]
        times: Iterable[int] = self._times(parts[2::width]) if width == 4 else repeat(self._now)
        if count > lines:
            lasts = [at for at, end in enumerate(ends) if end == b"\n"]
            lasts.append(count - 1)
            sizes = list(map(sub, lasts, [-1, *lasts]))
            if count > FIELDS_MAX and max(sizes) > FIELDS_MAX:
                raise _Unusual
            rows = chain.from_iterable(map(repeat, rows, sizes))
            times = chain.from_iterable(map(repeat, times, sizes))
        return [fields[name] for fields, name in zip(rows, names, strict=True)], times, _numbers(tokens[1::3])

    def _times(self, texts: list[bytes]) -> Sequence[int]:
        if not b"".join(texts).isdigit():
            raise _Unusual
        times = list(map(int, texts))
        if max(times) > self._time_max:
            raise _Unusual
        unit = self._unit
        if unit == _MS:
            return times
        if unit > _MS:
            return [time * (unit // _MS) for time in times]
        parts = _MS // unit
        return [time // parts for time in times]

    # -- line by line ------------------------------------------------------------------------------

    def by_lines(self, stop: int) -> None:
        """Read lines one by one, up to the first that ends at or behind `stop`."""
        data = self.data
        stop = min(stop, len(data))
        while self.at < stop and self._work < SLICE_WORK:
            start = self.at
            end = min(start + LINE_BYTES_MAX, len(data))
            try:
                after = self._read_line(start, end)
            except Malformed as error:
                after = self._refuse(start, end, error)
                self._work += ERROR_WORK
            self._work += 1
            self._line += data.count(b"\n", start, after)
            self.at = after

    def _refuse(self, start: int, end: int, error: Malformed) -> int:
        """Count a bad line; returns where the next one begins."""
        data, at, message = self.data, error.at, str(error)
        resume = error.resume if isinstance(error, _BadString) else at
        if end < len(data) and data.find(b"\n", start, end) < 0:
            at = resume = end
            message = f"the line is longer than {LINE_BYTES_MAX} bytes"
        line = self._line + data.count(b"\n", start, at)
        column = at - data.rfind(b"\n", 0, at)
        message = f"line {line}, column {column}: {message}"
        if self._strict:
            raise BadRequest(f"{message}; nothing was written")
        self.points.bad_lines += 1
        if len(self.points.errors) < ERRORS_MAX:
            self.points.errors.append(message)
        return data.find(b"\n", resume) + 1 or len(data)

    def _line_end(self, at: int) -> int:
        """Where the next line begins if the line ends at `at`, else -1."""
        text = self.data[at : at + 2]
        if text[:1] == b"\n":
            return at + 1
        return at + len(text) if text in (b"\r\n", b"\r", b"") else -1

    def _spaces(self, at: int, end: int) -> int:
        match = _SPACES.match(self.data, at, end)
        assert match
        return match.end()

    def _read_line(self, at: int, end: int) -> int:
        """Read the line at `at`, and take its points if it is good; returns where the next begins."""
        data = self.data
        if data[at] in b" #\r\n":
            at = self._spaces(at, end)
            if comment := _COMMENT.match(data, at, end):
                at = comment.end()
            if (after := self._line_end(at)) >= 0:
                return after
            if comment:
                raise Malformed(at, f"expected printable text in a comment, found {found(data, at, end)}")
        fields, at = self._read_head(at, end)
        numbers: list[tuple[bytes, float]] = []
        dropped = 0
        while True:
            if len(numbers) + dropped == FIELDS_MAX:
                raise Malformed(at, f"the line has more than {FIELDS_MAX} fields; split it")
            plain = _PLAIN_FIELD.match(data, at, end)
            number: float | None
            if plain and (key := fields.get(plain[1], b"")) and isfinite(number := float(plain[plain.lastindex or 0])):
                at = plain.end()
            else:
                key, at = self._read_field(fields, at, end)
                number, at = self._read_value(at, end)
            if number is None:
                dropped += 1
            else:
                numbers.append((key, number))
            if data[at : min(at + 1, end)] != b",":
                break
            at += 1
        plain = _PLAIN_END.match(data, at, end)
        if plain and (time := int(plain[1])) <= self._time_max:
            time, after = time * self._unit // _MS, plain.end()
        else:
            time, after = self._read_time(at, end)
        points = self.points
        for key, number in numbers:
            points.keys.append(key)
            points.times.append(time)
            points.values.append(number)
        self._work += len(numbers) + dropped
        points.dropped += dropped
        points.dropped_lines += not numbers
        return after

    def _read_head(self, at: int, end: int) -> tuple[Fields, int]:
        match = _HEAD.match(self.data, at, end)
        assert match
        raw = match[0]
        fields, stop = self._names.get(raw), match.end()
        if fields is None:
            if len(raw) > HEAD_BYTES_MAX:
                raise Malformed(at, f"measurement and tags have {len(raw)} bytes, {HEAD_BYTES_MAX} at most")
            head, stop = series.read_head(self.data, at, end)
            if stop == match.end():
                fields = self._names.learn(raw, head)
        after = self._spaces(stop, end)
        if fields is None or after == stop:
            raise Malformed(stop, f"expected a tag behind ',', or a space and a field, found {found(self.data, stop, end)}")
        return fields, after

    def _read_field(self, fields: Fields, at: int, end: int) -> tuple[bytes, int]:
        """The key of the series of a field, and where its value begins."""
        match = series.NAME.match(self.data, at, min(end, at + HEAD_BYTES_MAX))
        assert match
        key, stop = fields.get(match[0]), match.end()
        if key is None:
            name, stop = series.read_name(self.data, at, end, "a field's name")
            try:
                key = fields.learn(match[0], name)
            except Malformed as error:
                raise Malformed(at, str(error)) from None
        if self.data[stop : min(stop + 1, end)] != b"=":
            raise Malformed(stop, f"expected '=' after the field's name {shown(match[0])}, found {found(self.data, stop, end)}")
        return key, stop + 1

    def _read_value(self, at: int, end: int) -> tuple[float | None, int]:
        """A field's number, None if Flo does not keep it, and where it ends."""
        data = self.data
        if data[at : min(at + 1, end)] == b'"':
            string = _STRING.match(data, at, end)
            if string is None:
                raise _BadString(at, "expected a quote that ends the string", end)
            number, stop = None, string.end()
            if not string[0].isascii():
                try:
                    string[0].decode()
                except UnicodeDecodeError:
                    raise _BadString(at, "expected a string in UTF-8", stop) from None
        else:
            match = _VALUE.match(data, at, end)
            assert match
            stop = match.end()
            if not match[0]:
                raise Malformed(at, f"expected a field's value, found {found(data, at, end)}")
            try:
                number = parse_number(match[0])
            except ValueError as error:
                raise Malformed(at, str(error)) from None
        if data[stop : min(stop + 1, end)] not in (b",", b" ", b"\n", b"\r", b""):
            raise _BadString(stop, f"expected ',', a space or the end of the line, found {found(data, stop, end)}", stop)
        if number is None and self._strict:
            kind = "a string" if data[at] == ord('"') else "an integer past 2^53"
            raise Malformed(at, f"expected a number, found {kind}, {shown(data[at:stop])}, which Flo does not keep; leave the field out")
        return number, stop

    def _read_time(self, at: int, end: int) -> tuple[int, int]:
        """The timestamp in ms, and where the next line begins."""
        at = self._spaces(at, end)
        if (after := self._line_end(at)) >= 0:
            return self._now, after
        match = _TIME.match(self.data, at, end)
        assert match
        if not match[0]:
            raise Malformed(at, f"expected a timestamp or the end of the line, found {found(self.data, at, end)}")
        digits = match[0].removeprefix(b"-")
        if not digits.isdigit():
            raise Malformed(at, f"expected an integer as timestamp, found {shown(match[0])}")
        time = int(match[0]) if len(digits.lstrip(b"0")) < _INTEGER_DIGITS_MAX else _NS_MAX * 2
        if not -self._time_max - (self._unit == 1) <= time <= self._time_max:
            raise Malformed(at, f"the timestamp {shown(match[0])} is past 64 bits of nanoseconds; is the precision right?")
        at = self._spaces(match.end(), end)
        after = self._line_end(at)
        if after < 0:
            raise Malformed(at, f"expected the end of the line after the timestamp, found {found(self.data, at, end)}")
        return time * self._unit // _MS, after


# -- numbers -----------------------------------------------------------------------------------------


def parse_number(text: bytes) -> float | None:
    """The number of a field, None if it is an integer past 2^53. Raises `ValueError` with a message."""
    if _FLOAT.fullmatch(text):
        number = float(text)
        if not isfinite(number):
            raise ValueError(f"the number {shown(text)} is too large for a double")
        return number
    if _INTEGER.fullmatch(text):
        digits = text.strip(b"-iu").lstrip(b"0") or b"0"
        integer = int(digits) if len(digits) <= _INTEGER_DIGITS_MAX else 1 << 64
        if integer >= 1 << (64 if text.endswith(b"u") else 63) and not (integer == 1 << 63 and text.startswith(b"-")):
            raise ValueError(f"the integer {shown(text)} is past 64 bits")
        if integer > INTEGER_MAX:
            return None
        return float(-integer if text.startswith(b"-") else integer)
    if text in BOOLEANS:
        return BOOLEANS[text]
    raise ValueError(f"expected a number, 'true' or 'false', found {shown(text)}")


def _numbers(texts: list[bytes]) -> Sequence[float]:
    """A column of numbers: floats, integers ending in `i`, or both mixed. Anything else raises `_Unusual` or `ValueError`."""
    joined = b",".join(texts)
    rest = joined.translate(None, b"0123456789.,-")
    integers = rest.count(b"i")
    if not integers:
        return _floats(texts, joined, rest)
    if integers == len(texts):
        return _integers(joined, integers)
    marks = [text[-1:] == b"i" for text in texts]
    whole = list(compress(texts, marks))
    others = [text for text in texts if text[-1:] != b"i"]
    joined = b",".join(others)
    next_integer = iter(_integers(b",".join(whole), integers)).__next__
    next_float = iter(_floats(others, joined, joined.translate(None, b"0123456789.,-"))).__next__
    return [next_integer() if mark else next_float() for mark in marks]


def _floats(texts: list[bytes], joined: bytes, rest: bytes) -> Sequence[float]:
    """`rest` is what `joined` has besides digits, points and minuses: exponents alone, or `float` would read what is no float here."""
    if rest and (rest.strip(b"eE+") or b",+" in joined or joined.startswith(b"+")):
        raise _Unusual
    floats = list(map(float, texts))
    if not isfinite(sum(floats)):
        raise _Unusual
    return floats


def _integers(joined: bytes, count: int) -> Sequence[float]:
    """`count` is how many `i` there are; each ends an integer, or something is unusual."""
    if (joined + b",").count(b"i,") != count or joined.translate(None, b"0123456789i,-"):
        raise _Unusual
    integers = list(map(int, joined.replace(b"i", b"").split(b",")))
    if max(integers) > INTEGER_MAX or min(integers) < -INTEGER_MAX:
        raise _Unusual
    return integers


def parse_point(measurement: bytes, tags: bytes, value: bytes) -> list[tuple[bytes, float]]:
    """The series' keys and the numbers of `ts_write`: a bare number, which is the field `value`, or `f=1.5,g=2`. Raises `BadRequest`."""
    tag_set = series.parse_tags(tags)
    try:
        fields = _read_point(value)
    except Malformed as error:
        raise BadRequest(f"value, column {error.at + 1}: {error}; write a number, or fields as f=1.5,g=2") from None
    return [(series.series_key(measurement, tag_set, name), number) for name, number in fields]


def _read_point(text: bytes) -> list[tuple[bytes, float]]:
    end, at = len(text), 0
    match = series.NAME.match(text)
    assert match
    if text[match.end() : match.end() + 1] != b"=":
        return [(b"value", _kept_number(text, 0))]
    fields: list[tuple[bytes, float]] = []
    while True:
        if len(fields) == FIELDS_MAX:
            raise Malformed(at, f"there are more than {FIELDS_MAX} fields")
        name, at = series.read_name(text, at, end, "a field's name")
        if text[at : at + 1] != b"=":
            raise Malformed(at, f"expected '=' after the field's name {shown(name)}, found {found(text, at, end)}")
        match = _VALUE.match(text, at + 1)
        assert match
        fields.append((name, _kept_number(match[0], at + 1)))
        at = match.end()
        if at == end:
            return fields
        if text[at : at + 1] != b",":
            raise Malformed(at, f"expected ',' or the end of the fields, found {found(text, at, end)}")
        at += 1


def _kept_number(text: bytes, at: int) -> float:
    try:
        number = parse_number(text)
    except ValueError as error:
        raise Malformed(at, str(error)) from None
    if number is None:
        raise Malformed(at, f"the integer {shown(text)} is past 2^53, which a double cannot keep exactly")
    return number
