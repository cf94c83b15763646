"""Line protocol: what is read, what is refused and where, and that both ways of reading have the same result."""

import re
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flo import series
from flo.engine.operation import run_job
from flo.errors import BadRequest
from flo.proto import lineprotocol
from flo.proto.lineprotocol import Names, Points, decode, parse_number, parse_point
from flo.series import Series, parse_key, parse_tags, series_key, write_key
from tests.support.points import by_series

pytestmark = pytest.mark.computes

NOW = 1_700_000_000_123
Read = dict[str, list[tuple[int, float]]]


def points_of(data: bytes, unit: str = "ns", strict: bool = True, names: Names | None = None) -> Points:
    return run_job(decode(data, Names() if names is None else names, NOW, unit, strict))


def read(data: bytes, unit: str = "ns", strict: bool = True) -> Read:
    """The points by the text of their series' key."""
    points = points_of(data, unit, strict)
    columns = {key.decode(): list(zip(*column, strict=True)) for key, column in by_series(points).items()}
    assert len(points.keys) == sum(map(len, columns.values()))
    return columns


def by_lines_only(data: bytes, names: Names, unit: str = "ns", strict: bool = False) -> Points:
    with patch.object(lineprotocol._Reader, "by_columns", lambda self, stop: False):
        return run_job(decode(data, names, NOW, unit, strict))


# -- what is read ------------------------------------------------------------------------------------

GOOD: list[tuple[bytes, Read]] = [
    (b"cpu,host=a usage=1.5 1000000", {"cpu,host=a usage": [(1, 1.5)]}),
    (b"cpu usage=1.5", {"cpu usage": [(NOW, 1.5)]}),
    (b"cpu,z=1,a=2 f=1 0\n", {"cpu,a=2,z=1 f": [(0, 1)]}),
    (b"cpu f=1,g=2i,h=3u,i=t,j=False 0", {"cpu f": [(0, 1)], "cpu g": [(0, 2)], "cpu h": [(0, 3)], "cpu i": [(0, 1)], "cpu j": [(0, 0)]}),
    (b"m f=1 0\nm f=2 0\nm f=3 0", {"m f": [(0, 1), (0, 2), (0, 3)]}),
    (b"m f=1,f=2 0", {"m f": [(0, 1), (0, 2)]}),
    (b"# a comment\n\n   \r\n  m   f=1   5000000  \r\n# behind", {"m f": [(5, 1)]}),
    (b"m f=1\r\nm f=2\r", {"m f": [(NOW, 1), (NOW, 2)]}),
    (b"m f=1 -1", {"m f": [(-1, 1)]}),  # floored, not cut
    (b"m f=1 -1000000\nm f=2 -1000001", {"m f": [(-1, 1), (-2, 2)]}),
    (b"m f=1 1999999", {"m f": [(1, 1)]}),
    (b"m f=1 9223372036854775807\nm f=2 -9223372036854775808", {"m f": [(9223372036854, 1), (-9223372036855, 2)]}),
    (rb"a\,b\ c,t\=1\,=v\ \=\, f\ \=\,g=1 0", {r"a\,b\ c,t\=1\,=v\ \=\, f\ \=\,g": [(0, 1)]}),
    (rb"a=b\=c f=1 0", {r"a=b\=c f": [(0, 1)]}),  # `=` needs no escape in a measurement, and `\=` is two characters there
    (rb"a\b\\,t=C:\\x\y f\z=1 0", {r"a\b\\,t=C:\\x\y f\z": [(0, 1)]}),  # `\\,` is a backslash and a comma
    ('größe,ö="ü" ß=1 0'.encode(), {'größe,ö="ü" ß': [(0, 1)]}),
    (b"#", {}),
    (b"", {}),
    (b"\n\r\n \n", {}),
]


@pytest.mark.parametrize(("data", "expected"), GOOD)
def test_lines_that_are_good(data: bytes, expected: Read) -> None:
    assert read(data) == expected
    assert read(data, strict=False) == expected


@pytest.mark.parametrize(
    ("unit", "stamp", "ms"),
    [
        ("n", 1_500_000, 1),
        ("ns", -1_500_000, -2),
        ("u", 1_500, 1),
        ("us", -1_500, -2),
        ("ms", -7, -7),
        ("s", 3, 3_000),
        ("m", -2, -120_000),
        ("h", 2, 7_200_000),
    ],
)
def test_timestamps_of_each_unit_are_floored_to_ms(unit: str, stamp: int, ms: int) -> None:
    assert read(b"m f=1 %d" % stamp, unit) == {"m f": [(ms, 1)]}
    assert read(b"m f=1 %d" % abs(stamp), unit) == {"m f": [(abs(stamp) * lineprotocol.UNITS[unit] // 10**6, 1)]}


def test_the_servers_time_has_the_precision_of_the_request() -> None:
    times = {unit: read(b"m f=1", unit)["m f"][0][0] for unit in lineprotocol.UNITS}
    assert times["ns"] == times["u"] == times["ms"] == NOW
    assert (times["s"], times["m"], times["h"]) == (NOW - 123, NOW - NOW % 60_000, NOW - NOW % 3_600_000)


@pytest.mark.parametrize("text", ["1", "-1", "1.", ".5", "-.5", "1.5e3", "1E-3", "1e+3", "0001", "-0", "1e-999", "1." + "1" * 500])
def test_floats(text: str) -> None:
    assert parse_number(text.encode()) == float(text)
    assert read(f"m f={text} 0".encode()) == {"m f": [(0, float(text))]}


NO_NUMBERS = (
    "NaN nan inf -inf Inf -Infinity +1 1_000 0x10 0x1p3 1e 1e+ e5 . - -. 1.2.3 1-2 1e400 -1e400 1i2 1.5i 1e3i i -i -1u 1.0u tRUE yes 1f ٣ '"
    " 9223372036854775808i -9223372036854775809i 18446744073709551616u"
)


@pytest.mark.parametrize("text", NO_NUMBERS.split())
def test_what_is_no_number_is_bad_in_both_modes(text: str) -> None:
    for around in (b"", b"m f=1 0\n" * 100):
        data = around + f"m f={text} 0\n".encode() + around
        with pytest.raises(BadRequest, match=rf"line {around.count(b'f') + 1}, column 5: "):
            points_of(data)
        points = points_of(data, strict=False)
        assert (points.bad_lines, points.dropped, len(points.keys)) == (1, 0, 2 * around.count(b"f"))


@pytest.mark.parametrize(("text", "kept"), [("9007199254740992i", True), ("-9007199254740992i", True), ("9007199254740992u", True)])
def test_the_largest_integers_that_a_double_has(text: str, kept: bool) -> None:
    assert read(f"m f={text} 0".encode()) == {"m f": [(0, int(text[:-1]))]}


BIG = ["9007199254740993i", "-9007199254740993i", "9223372036854775807i", "-9223372036854775808i", "18446744073709551615u"]


@pytest.mark.parametrize("text", [*BIG, '"text"', '"two\nlines"', r'"a \" and \\"', '"a=1,b=2 3"', '""'])
def test_strings_and_large_integers_are_refused_or_left_out(text: str) -> None:
    data = f"m f=1 0\nm,t=x f=2,g={text},h=3 0\nm g={text} 0\nm f=4 0\n".encode()
    with pytest.raises(BadRequest, match=r"^line 2, column 13: expected a number, found .*which Flo does not keep"):
        points_of(data)
    points = points_of(data, strict=False)
    assert {key: column[1].tolist() for key, column in by_series(points).items()} == {b"m f": [1, 4], b"m,t=x f": [2], b"m,t=x h": [3]}
    assert (len(points.keys), points.dropped, points.dropped_lines, points.bad_lines, points.errors) == (4, 2, 1, 0, [])


# -- what is refused ---------------------------------------------------------------------------------

BAD = [  # the line, the column, and what the message has
    (b"m", 2, "expected a tag behind ',', or a space and a field, found the end of the line"),
    (b"m ", 3, "expected a field's name, found the end of the line"),
    (b", f=1", 1, "expected a measurement's name, found ','"),
    (b"m, f=1", 3, "expected a tag's name, found a space"),
    (b"m,t f=1", 4, "expected '=' after the tag's name 't', found a space"),
    (b"m,t= f=1", 5, "expected a value of the tag 't', found a space"),
    (b"m,t=a, f=1", 7, "expected a tag's name, found a space"),
    (b"m,=a f=1", 3, "expected a tag's name, found '='"),
    (b"m,t=a=b f=1", 6, "expected a tag behind ',', or a space and a field, found '='"),
    (b"m,t=a,u=b,t=c f=1", 11, "the tag 't' is there twice"),
    (b"m f", 4, "expected '=' after the field's name 'f', found the end of the line"),
    (b"m f=", 5, "expected a field's value, found the end of the line"),
    (b"m f=,g=1", 5, "expected a field's value, found ','"),
    (b"m f=1,", 7, "expected a field's name, found the end of the line"),
    (b"m f=1, g=2", 7, "expected a field's name, found a space"),
    (b"m f=1=2", 5, "expected a number, 'true' or 'false', found '1=2'"),
    (b'm f="a"b', 8, "expected ',', a space or the end of the line, found 'b'"),
    (b"m f=1 x", 7, "expected a timestamp or the end of the line, found 'x'"),
    (b"m f=1 1.5", 8, "expected the end of the line after the timestamp, found '.'"),
    (b"m f=1 5 6", 9, "expected the end of the line after the timestamp, found '6'"),
    (b"m f=1 1-2", 7, "expected an integer as timestamp, found '1-2'"),
    (b"m f=1 -", 7, "expected an integer as timestamp, found '-'"),
    (b"m f=1 9223372036854775808", 7, "past 64 bits of nanoseconds; is the precision right?"),
    (b"m f=1 " + b"9" * 5000, 7, "(5000 bytes) is past 64 bits"),
    (b"m\xff f=1", 1, "expected a measurement's name in UTF-8"),
    (b"m,t=\xff f=1", 5, "expected a value of the tag 't' in UTF-8"),
    (b"m f\xff=1", 3, "expected a field's name in UTF-8"),
    (b'm f="\xff"', 5, "expected a string in UTF-8"),
    (b"\tm f=1", 1, "expected a measurement's name, found the byte 0x09"),
    (b"m\x00a f=1", 2, "found the byte 0x00"),
    (b"m\x00,t=a f=1", 2, "found the byte 0x00"),
    (b"# a\tb", 4, "expected printable text in a comment, found the byte 0x09"),
    (b"m f=1\r5", 6, "expected a timestamp or the end of the line, found the end of the line"),
    (b"m f=" + b"x" * 100, 5, "found '" + "x" * 40 + "…' (100 bytes)"),
    (b"m " + b",".join(b"f%d=1" % at for at in range(2001)) + b" 0", 14893, "more than 2000 fields; split it"),
    (b"m," + b"t" * 65_000 + b"=1 f=1", 1, "measurement and tags have 65004 bytes; a series' key has 65000 at most"),
    (b"m " + b"f" * 65_000 + b"=1", 3, "have 65002 bytes together, 65000 at most"),
    (b"m f=1 " + b" " * (256 << 10), (256 << 10) + 1, "the line is longer than 262144 bytes"),
    (b"m f=" + b"1" * (256 << 10), (256 << 10) + 1, "the line is longer than 262144 bytes"),
]


@pytest.mark.parametrize(("line", "column", "message"), BAD)
def test_bad_lines_are_refused_by_line_and_column(line: bytes, column: int, message: str) -> None:
    good = b"before f=1 0\n"
    expected = rf"^line 3, column {column}: .*{re.escape(message)}.*; nothing was written$"
    with pytest.raises(BadRequest, match=expected):
        points_of(good * 2 + line + b"\n" + good)
    points = points_of(good * 2 + line + b"\nbehind f=2 0\n" + line + b"\n", strict=False)
    assert sorted(by_series(points)) == [b"before f", b"behind f"], "a bad line has left a point, or hidden a good line"
    assert (len(points.keys), points.bad_lines, len(points.errors)) == (3, 2, 2)
    assert points.errors[1].startswith(f"line 5, column {column}: ")


def test_a_string_that_does_not_end_takes_the_rest() -> None:
    data = b'm f=1 0\nm f="open\nm f=2 0\n'
    with pytest.raises(BadRequest, match=r"line 2, column 5: expected a quote that ends the string"):
        points_of(data)
    points = points_of(data, strict=False)
    assert (len(points.keys), points.bad_lines) == (1, 1)


def test_lines_are_counted_through_strings_with_line_ends() -> None:
    points = points_of(b'm f="a\nb\nc",g=1 0\nm f=2 0\nm f= 0\n', strict=False)
    assert points.errors == ["line 5, column 5: expected a field's value, found a space"]
    points = points_of(b'm f="a\nb",g=x 0\nm f=2 0\n', strict=False)
    assert points.errors == ["line 2, column 6: expected a number, 'true' or 'false', found 'x'"]
    assert by_series(points).keys() == {b"m f"}


def test_messages_are_bounded_and_counted() -> None:
    points = points_of(b"bad\n" * 1000 + b"m f=1 0", strict=False)
    assert (points.bad_lines, len(points.errors), len(points.keys)) == (1000, lineprotocol.ERRORS_MAX, 1)


# -- slices, and the names that are remembered -------------------------------------------------------


@pytest.mark.parametrize("line", [b"cpu,host=h%d f=1 %d\n", b'cpu,host=h%d f="a" %d\n', b"cpu,host=h%d bad %d\n", b"cpu,host=h%d f=t %d\n"])
def test_a_large_body_is_read_in_slices(line: bytes) -> None:
    data = b"".join(line % (at % 100, at) for at in range(40_000))
    job = decode(data, Names(), NOW, strict=False)
    assert sum(1 for _ in job) >= len(data) // (lineprotocol.SLICE_BYTES + lineprotocol.PIECE_BYTES)


def test_a_bad_line_at_the_end_of_a_strict_body_hands_nothing_out() -> None:
    data = b"m f=1 0\n" * 50_000
    with pytest.raises(BadRequest, match="line 50001, column 2"):
        points_of(data + b"=")
    assert len(points_of(data).keys) == 50_000


def test_plain_batches_are_read_by_columns() -> None:
    """Else all the rest would be right, and slow."""
    bodies = {
        "one field": b"cpu,host=a f=1.5 %d\n",
        "fields": b"cpu,host=a f=1.5,g=2,h=-3e-5 %d\n",
        "integers": b"cpu,host=a f=1i,g=-2i %d\n",
        "mixed": b"cpu,host=a f=1i,g=-2.5 %d\ncpu f=1,g=2i,h=3 0\n",
        "escapes": rb"a\ b\,c,t\ u=\=\, f\=\,\ g=1 %d" + b"\n",
        "unicode": "größe,ö=ü ß=1 %d\n".encode(),
        "windows": b"cpu,host=a f=1.5 %d\r\n",
    }
    bodies["no timestamps"] = bodies["one field"].replace(b" %d", b"")
    with patch.object(lineprotocol._Reader, "by_lines", side_effect=AssertionError("line by line")):
        for line in bodies.values():
            lines = b"".join(line % at if b"%d" in line else line for at in range(5000))
            assert len(points_of(lines).keys) >= 5000


def test_a_few_lines_with_strings_leave_the_others_by_columns() -> None:
    lines = [b'm f="text",g=1 0\n' if at % 50 == 0 else b"cpu,host=a f=1 0\n" for at in range(5000)]
    read_by_lines = []
    by_lines = lineprotocol._Reader.by_lines

    def counted(self: lineprotocol._Reader, stop: int) -> None:
        before = self._line
        by_lines(self, stop)
        read_by_lines.append(self._line - before)

    with patch.object(lineprotocol._Reader, "by_lines", counted):
        assert len(points_of(b"".join(lines), strict=False).keys) == 5000
    assert sum(read_by_lines) == 100


def test_names_are_forgotten_when_they_are_too_many() -> None:
    names = Names()
    with patch.object(lineprotocol, "NAMES_BYTES_MAX", 100_000):
        data = b"".join(b"m,host=h%d f%d=1 0\n" % (at, at) for at in range(5000))
        points = points_of(data, names=names)
        assert len(points.keys) == len(by_series(points)) == 5000
        assert names.bytes <= 100_000
        points_of(b"m,host=new f=1 0\n", names=names)
        assert b"m,host=new" in names and len(names) < 500
    assert by_series(points_of(data, names=names)) == by_series(points)


def test_two_spellings_of_a_series_are_one() -> None:
    points = points_of(b"m,a=1,b=2 f=1 0\nm,b=2,a=1 f=2 1000000\nm,b=2,a=1  f=3 2000000\n")
    assert {key: column[1].tolist() for key, column in by_series(points).items()} == {b"m,a=1,b=2 f": [1, 2, 3]}


# -- the two ways are one ------------------------------------------------------------------------------

NAME = st.text(st.sampled_from("abü1#\"' ,=\\\x00\x01\t"), min_size=1, max_size=4)
HEADS = ["cpu", "cpu,host=a", "cpu,host=b,a=1", r"a\ b,c\,=d\=", r"a\\,b=c", "x=1", "1", "größe,ö=ü"]
FIELDS = ["f=1", "f=1.5,g=2i", "h=-3i", "h=1e5", "h=+1", "f=1_0", r"i\ \=\,=4", r"j\=5", "f=t", 'f="s"', "f=1=2", "1=2", "f=", "5", "f=nan"]
STAMPS = [" 0", " 1700000000123456789", "", " -5", " 5 ", "  5", " x", " 1_0", " +1", " 9999999999999999999", " ٣"]
ENDS = ["\n", "\n", "\n", "\r\n", " \n", "\n\n", "\r"]
LINE = st.builds(
    lambda *parts: "".join(parts).encode(), st.sampled_from(HEADS), st.just(" "), *map(st.sampled_from, (FIELDS, STAMPS, ENDS))
)
GOOD_LINE = st.builds(
    lambda head, fields, stamp: f"{head} {fields} {stamp}\n".encode(),
    *map(st.sampled_from, (HEADS, ["f=1", "f=2.5", "f=1,g=-2.5", "h=3i", "g=4i,h=5"])),
    st.integers(0, 10**19),
)
ODD = st.one_of(
    LINE, st.binary(max_size=12), st.sampled_from([b"# c\n", b"# a b\n", b"\n", b' m f="a\nb",g=1 0\n', b'm f="\n', b"\\", b"\x00 "])
)
BATCH = st.one_of(
    st.lists(LINE, max_size=6).map(b"".join),
    st.tuples(st.lists(GOOD_LINE, max_size=5).map(b"".join), ODD, st.lists(GOOD_LINE, max_size=5).map(b"".join)).map(b"".join),
    st.builds(
        lambda *parts: "{} {}={} 5\n".format(*parts).encode() * 2, NAME, NAME, st.text(st.sampled_from("0123456789.-+eEiu_tn"), max_size=5)
    ),
)


def facts(points: Points) -> tuple[object, ...]:
    """All that is known of points; minus zero is another number than zero."""
    columns = {key: (times.tobytes(), numbers.tobytes()) for key, (times, numbers) in by_series(points).items()}
    return columns, len(points.keys), points.dropped, points.dropped_lines, points.bad_lines, points.errors


@settings(deadline=None)
@given(BATCH, st.sampled_from(["ns", "us", "ms", "s"]), st.integers(20, 200))
@example(b"m f=1\n123 y=1 z=2 5\ny=1 f=1 5\n", "ns", 100)  # as many spaces as two good lines
@example(b"m x=1=2,5 5\n1 2=3 6\n", "ns", 100)
@example(b"m a=1=2=3=4 5\n", "ns", 100)
@example(b"m f=1i2i,g=3 5\n", "ns", 100)
@example(b"m f=1i2i,g=3,h=4.5 5\n", "ns", 100)
@example(b"m f=1i,g=i2,h=4.5 5\n", "ns", 100)
@example(b"m f=1i,g=1_0i 5\n", "ns", 100)
@example(b"m f=1 1_0\n", "ns", 100)
@example(b"m f=1 +1\n", "ns", 100)
@example(b"a\x00b f=1 5\na\\ b f=1 5\n", "ns", 100)
@example(b"a\\ b f=1 5\n", "ns", 100)
def test_both_ways_have_the_same_result(data: bytes, unit: str, piece: int) -> None:
    """Names that the one has learnt must not change what the other reads: they share them, and a reader with none reads the same."""
    names = Names()
    with patch.object(lineprotocol, "PIECE_BYTES", piece), patch.object(lineprotocol, "RUN_BYTES", piece // 2):
        first = facts(points_of(data, unit, strict=False, names=names))
        again = facts(points_of(data, unit, strict=False, names=names))
        lines = facts(by_lines_only(data, names, unit))
    assert first == again == lines == facts(by_lines_only(data, Names(), unit)) == facts(points_of(data, unit, strict=False))
    try:
        strict = facts(points_of(data, unit))
    except BadRequest as refusal:
        with pytest.raises(BadRequest) as by_lines:
            by_lines_only(data, Names(), unit, strict=True)
        assert str(refusal) == str(by_lines.value)
        assert first[2] or first[4]
    else:
        assert strict == first


# -- names, and ts_write's values ----------------------------------------------------------------------

WRITABLE = NAME.filter(lambda name: not re.search(r"[\x00-\x1f]|\\\Z", name))


@settings(deadline=None)
@given(WRITABLE.filter(lambda name: name[0] != "#"), st.dictionaries(WRITABLE, WRITABLE, max_size=4), WRITABLE)
def test_names_survive_their_key(measurement: str, tags: dict[str, str], field: str) -> None:
    """Through `parse_key`, and as a line."""
    ordered = tuple(sorted(tags.items(), key=lambda tag: tag[0].encode()))
    key = write_key(Series(measurement, tuple(tags.items()), field))
    assert parse_key(key) == Series(measurement, ordered, field)
    assert read(key + b"=1 0") == {key.decode(): [(0, 1)]}


@pytest.mark.parametrize(
    ("measurement", "tags", "field", "message"),
    [
        (b"", (), b"f", "a measurement's name is empty"),
        (b"m", (), b"", "a field's name is empty"),
        (b"m", ((b"", b"v"),), b"f", "a tag's name is empty"),
        (b"m", ((b"t", b""),), b"f", "a value of the tag 't' is empty"),
        (b"m", ((b"t", b"1"), (b"t", b"2")), b"f", "the tag 't' is there twice"),
        (b"m\\", (), b"f", "ends in a backslash"),
        (b"m\n", (), b"f", "has the control character 0x0a"),
        (b"#m", (), b"f", "cannot begin with '#'"),
        (b"m\xff", (), b"f", "is not UTF-8"),
        (b"m" * 64_999, (), b"f", "have 65001 bytes together; shorten them to 65000"),
    ],
)
def test_names_that_line_protocol_cannot_write(
    measurement: bytes, tags: tuple[tuple[bytes, bytes], ...], field: bytes, message: str
) -> None:
    with pytest.raises(BadRequest, match=re.escape(message)):
        series_key(measurement, tags, field)


def test_tags_of_the_option() -> None:
    assert parse_tags(b"") == []
    assert parse_tags(rb"b=2,a\ \,\==1\=") == [(b"a ,=", b"1="), (b"b", b"2")]
    for text, message in (
        (b"a", "tags, column 2: expected '=' after the tag's name 'a', found the end of the text; write them as k=v,k2=v2"),
        (b"a=", "tags, column 3: expected a value of the tag 'a'"),
        (b"a=1,", "tags, column 5: expected a tag's name"),
        (b"a=1 b=2", "tags, column 4: expected ',' or the end of the tags, found a space"),
        (b"a=1,a=2", "tags, column 5: the tag 'a' is there twice"),
    ):
        with pytest.raises(BadRequest, match=re.escape(message)):
            parse_tags(text)


def test_the_value_of_ts_write() -> None:
    assert parse_point(b"cpu", b"", b"1.5") == [(b"cpu value", 1.5)]
    assert parse_point(b"a b", b"z=1,a=2", b"f=1.5,g=2i") == [(rb"a\ b,a=2,z=1 f", 1.5), (rb"a\ b,a=2,z=1 g", 2)]
    assert parse_point(b"cpu", b"", rb"a\=b=true") == [(rb"cpu a\=b", 1)]
    assert parse_point(b"cpu", b"", b"1.5=2") == [(b"cpu 1.5", 2)]
    for value, message in (
        (b"", "value, column 1: expected a number, 'true' or 'false', found ''; write a number, or fields as f=1.5,g=2"),
        (b"x", "value, column 1: expected a number"),
        (b'"x"', "value, column 1: expected a number"),
        (b"1.5 5", "value, column 1: expected a number, 'true' or 'false', found '1.5 5'"),
        (b"f=1,", "value, column 5: expected a field's name, found the end of the text"),
        (b"f=1 5", "value, column 4: expected ',' or the end of the fields, found a space"),
        (b"f=1,g", "value, column 6: expected '=' after the field's name 'g'"),
        (b"9007199254740993i", "value, column 1: the integer '9007199254740993i' is past 2^53"),
        (b",".join([b"f=1"] * 2001), "there are more than 2000 fields"),
    ):
        with pytest.raises(BadRequest, match=re.escape(message)):
            parse_point(b"cpu", b"", value)


def test_a_wrong_text_is_shown_shortened() -> None:
    assert series.shown(b"a" * 40) == "'" + "a" * 40 + "'"
    assert series.shown(b"a\r\n\x1b") == "'a���'", "a line end in a message would end RESP's reply"
    assert series.shown(b"\xff" + b"a" * 40) == "'�" + "a" * 39 + "…' (41 bytes)"
