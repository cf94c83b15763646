"""The RESP request parser: round trips, every split, hostile input."""

import contextlib
import itertools
import random
import re
import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.limits import INLINE_BYTES_MAX
from flo.proto import resp
from flo.proto.detect import detect
from flo.proto.resp import ProtocolError, RequestParser, split_inline
from tests.support.examples import examples
from tests.support.processes import encode

pytestmark = pytest.mark.computes

REQUESTS = st.lists(st.lists(st.binary(max_size=50), min_size=1, max_size=5), min_size=1, max_size=5)


def parse_all(data: bytes, cuts: list[int], parser: RequestParser | None = None) -> list[list[bytes]]:
    """Every request in `data`, fed in pieces that end at `cuts`."""
    parser = parser or RequestParser()
    found: list[list[bytes]] = []
    rest, start = b"", 0
    for cut in [*sorted(cuts), len(data)]:
        rest += data[start:cut]
        start = cut
        at = 0
        while True:
            args, at = parser.parse(rest, at)
            if args is None:
                break
            found.append(args)
        rest = rest[at:]
    return found


@settings(max_examples=300, deadline=None)
@given(requests=REQUESTS, data=st.data())
def test_any_split_gives_the_same_requests(requests: list[list[bytes]], data: st.DataObject) -> None:
    stream = b"".join(encode(*request) for request in requests)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    assert parse_all(stream, cuts) == requests


def test_every_single_split() -> None:
    stream = encode("SET", "key", "a\r\nb") + b"*0\r\n*-1\r\n" + b"PING\r\n" + b'  ECHO "a b" \n' + encode("X")
    expected = [[b"SET", b"key", b"a\r\nb"], [b"PING"], [b"ECHO", b"a b"], [b"X"]]
    for cut in range(len(stream) + 1):
        assert parse_all(stream, [cut]) == expected
    assert parse_all(stream, list(range(len(stream)))) == expected


@pytest.mark.parametrize("size", [32_767, 32_768, 65_534, 65_536, 200_000])
def test_large_arguments_are_received_in_place(size: int) -> None:
    value = random.Random(size).randbytes(size)
    stream = encode("SET", "k", value) + encode("PING")
    for step in (1000, 40_000, 100_000):
        parser = RequestParser()
        at, rest, found = 0, b"", []
        while at < len(stream) or rest:
            room = parser.body_room()
            if room is not None:
                count = min(len(room), len(stream) - at, step)
                room[:count] = stream[at : at + count]
                room.release()
                at += count
                args = parser.body_received(count)
            else:
                rest += stream[at : at + step]
                at += step
                args, taken = parser.parse(rest, 0)
                rest = rest[taken:]
            if args is not None:
                found.append(args)
        assert found == [[b"SET", b"k", value], [b"PING"]]


def test_a_declared_length_costs_no_memory() -> None:
    parser = RequestParser()
    parser.parse(b"*2\r\n$3\r\nGET\r\n$33554000\r\nabc", 0)
    assert parser.held < 1 << 17


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*9223372036854775808\r\n", "invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$4294967296\r\n", "invalid bulk length"),
        (b"*1\r\n$33554433\r\n", "invalid bulk length"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n*1\r\n", "expected '$', got '*'"),
        (b"*1\r\n$1\r\nabc\r\n", "expected CR and LF"),
        (b"$3\r\nfoo\r\n", "expected '*', got '$'"),
        (b"+OK\r\n", "expected '*', got '+'"),
        (b"*" + b"1" * 70_000, "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 70_000, "too big bulk count string"),
        (b"a" * 70_000, "too big inline request"),
        (b'SET "a\r\n', "unbalanced quotes"),
        (b"SET 'a'b\r\n", "unbalanced quotes"),
        (b"*2\r\n$33554432\r\n" + b"x" * 33_554_432 + b"\r\n$1\r\n", "over 33554432 bytes"),
    ],
)
def test_lost_framing_is_a_protocol_error(data: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=re.escape(message)):
        parse_all(data, [])


def test_before_authentication_requests_are_small() -> None:
    inline = (b"a" * 17_000, b'"' + b"a" * 17_000, b"a " * 17 + b"\r\n", b'"a" ' * 17 + b"\r\n")
    for data in (b"*17\r\n", b"*1\r\n$16385\r\n", *inline):
        with pytest.raises(ProtocolError):
            RequestParser(authenticated=False).parse(data, 0)
    args, _ = RequestParser(authenticated=False).parse(encode("AUTH", "x" * 1000), 0)
    assert args == [b"AUTH", b"x" * 1000]


def test_mutated_requests_raise_nothing_else(long_run: bool) -> None:
    """100,000 mutations (a tenth here, all with --long) of valid pipelines: requests or a ProtocolError."""
    chance = random.Random(7)
    seed = encode("SET", "key", "value") + b"PING\r\n" + encode("MGET", "a", "b") + b'ECHO "x\\x41"\r\n'
    for _ in range(100_000 if long_run else 10_000):
        data = bytearray(seed)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            kind = chance.randrange(3)
            if kind == 0:
                data[at] = chance.randrange(256)
            elif kind == 1:
                del data[at : at + chance.randint(1, 5)]
            else:
                data[at:at] = chance.choice([b"\r\n", b"$", b"*", b"-1", b"\0", b"999999999999"])
        with contextlib.suppress(ProtocolError):
            parse_all(bytes(data), [chance.randint(0, len(data))])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"SET a b", [b"SET", b"a", b"b"]),
        (b"\"a\\x41\\n\\\"\" 'it\\'s'", [b'aA\n"', b"it's"]),
        (b"", []),
        (b"   ", []),
        (b'""', [b""]),
        (b'"\\xzz"', [b"xzz"]),
    ],
)
def test_inline_words(line: bytes, expected: list[bytes]) -> None:
    assert split_inline(line) == expected


ESCAPED = {0x6E: b"\n", 0x72: b"\r", 0x74: b"\t", 0x62: b"\b", 0x61: b"\a"}


def split_a_byte_at_a_time(line: bytes) -> list[bytes] | None:
    """What `split_inline` has to give, by Redis's own steps (sdssplitargs); None for quotes that do not balance."""
    args: list[bytes] = []
    at, size = 0, len(line)
    while True:
        while at < size and line[at : at + 1].isspace():
            at += 1
        if at >= size:
            return args
        arg = bytearray()
        quote = 0
        while at < size:
            byte = line[at]
            if quote == 0:
                if line[at : at + 1].isspace():
                    break
                if byte in b"\"'":
                    quote = byte
                else:
                    arg.append(byte)
            elif byte == 0x5C and quote == 0x22 and at + 1 < size:
                following = line[at + 1]
                digits = line[at + 2 : at + 4]
                if following == 0x78 and len(digits) == 2 and all(digit in b"0123456789abcdefABCDEF" for digit in digits):
                    arg.append(int(digits, 16))
                    at += 3
                else:
                    arg += ESCAPED.get(following, line[at + 1 : at + 2])
                    at += 1
            elif byte == 0x5C and quote == 0x27 and line[at + 1 : at + 2] == b"'":
                arg.append(0x27)
                at += 1
            elif byte == quote:
                quote = 0
                if at + 1 < size and not line[at + 1 : at + 2].isspace():
                    return None
            else:
                arg.append(byte)
            at += 1
        if quote:
            return None
        args.append(bytes(arg))


def split_or_none(line: bytes, arguments_max: int = resp.ARGUMENTS_MAX) -> list[bytes] | None:
    try:
        return split_inline(line, arguments_max)
    except ProtocolError as e:
        assert str(e) == "unbalanced quotes in request"
        return None


INLINE_PIECES = st.sampled_from([b'"', b"'", b"\\", b"\\x", b"4", b"5c", b"1", b"n", b"a", b" ", b"\t", b"\n", b"\xe0", b"\x0b", b"\0"])


@pytest.mark.slow
@examples(3000)
@given(st.lists(INLINE_PIECES | st.binary(max_size=2), max_size=14).map(b"".join))
def test_inline_words_are_those_of_a_byte_at_a_time(line: bytes) -> None:
    expected = split_a_byte_at_a_time(line)
    assert split_or_none(line) == expected
    if expected is not None:
        for most in range(4):
            found = split_or_none(line, most)
            assert found is not None
            assert len(found) == min(len(expected), most + 1) and found[:most] == expected[:most]


def test_all_short_inline_lines() -> None:
    """Every line of up to six of the bytes that mean something."""
    for size in range(7):
        for line in map(bytes, itertools.product(b"\"'\\ x4", repeat=size)):
            assert split_or_none(line) == split_a_byte_at_a_time(line), line


@pytest.mark.parametrize(
    "piece", [b"\\n", b"\\x41", b"\\\\", b'\\"', b"'", b'"', b"''", b'"" ', b"a ", b"a", b"\\'", b"\\", b"'\"", b' "', b"a'b "]
)
@pytest.mark.parametrize("start", [b"", b'"', b"'", b"a"])
def test_the_longest_inline_lines_are_split_in_ms(start: bytes, piece: bytes) -> None:
    """Whatever they hold: the time grows with their length, and not with its square."""
    line = start + piece * (INLINE_BYTES_MAX // len(piece)) + start
    split_or_none(line)
    took = min(timeit.repeat(lambda: split_or_none(line), number=1, repeat=5))
    assert took < 0.1, f"{took * 1000:.0f} ms"


def test_replies_in_both_versions() -> None:
    assert resp.mapping({b"a": resp.integer(1)}, False) == b"*2\r\n$1\r\na\r\n:1\r\n"
    assert resp.mapping({b"a": resp.integer(1)}, True) == b"%1\r\n$1\r\na\r\n:1\r\n"
    assert resp.boolean(True, True) == b"#t\r\n"
    assert resp.boolean(True, False) == b":1\r\n"
    assert resp.verbatim("x", True) == b"=5\r\ntxt:x\r\n"
    assert resp.bulk_or_nil(None, True) == b"_\r\n"
    assert resp.error("ERR a\r\nb") == b"-ERR a  b\r\n"


@pytest.mark.parametrize(
    "line", [b"FLOOD\r\n", b"PING\r\n", b"GET /x HTTP/1.1\r\n", b"FLO\r\n", b"x" * 15 + b"\r\n", b"*1\r\n", b"FLO\x01"]
)
def test_a_protocol_is_found_wherever_the_first_bytes_are_cut(line: bytes) -> None:
    whole = detect(line)
    assert whole is not None
    for cut in range(len(line)):
        assert detect(line[:cut]) in (None, whole), line[:cut]
