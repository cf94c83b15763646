"""The wire format, by the examples of protobuf.dev and by round trips."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.cluster.protobuf import Fields, NotProtobuf, messages, nested, number, pack, text, unpack

pytestmark = pytest.mark.computes

NUMBERS = st.integers(1, (1 << 29) - 1)
FIELDS = st.lists(st.tuples(NUMBERS, st.integers(1, (1 << 64) - 1) | st.binary(min_size=1, max_size=50)), max_size=10)


def test_the_examples_of_the_format_s_page() -> None:
    assert pack([(1, 150)]) == bytes.fromhex("089601")
    assert pack([(2, b"testing")]) == bytes.fromhex("120774657374696e67")
    assert nested(3, pack([(1, 150)])) == bytes.fromhex("1a03089601")
    assert unpack(bytes.fromhex("1a03089601")) == {3: [bytes.fromhex("089601")]}
    assert unpack(bytes.fromhex("220568656c6c6f280128022803")) == {4: [b"hello"], 5: [1, 2, 3]}
    assert pack([(1, -2)]) == bytes.fromhex("08feffffffffffffffff01")


def test_fixed_numbers_are_passed_over_as_bytes() -> None:
    assert unpack(bytes.fromhex("0d01020304") + bytes.fromhex("110102030405060708")) == {1: [bytes([1, 2, 3, 4])], 2: [bytes(range(1, 9))]}


def test_defaults_are_left_out_and_read_as_such() -> None:
    assert pack([(1, 0), (2, b"")]) == b""
    assert nested(2, b"") == b"\x12\0"
    assert number({}, 1) == 0 and text({}, 2) == b"" and messages({}, 3) == []
    assert number({1: [1, 2]}, 1) == 2, "the last one counts"


@settings(deadline=None)
@given(FIELDS)
def test_what_is_packed_is_read(fields: list[tuple[int, int | bytes]]) -> None:
    wanted: Fields = {}
    for field, value in fields:
        wanted.setdefault(field, []).append(value)
    assert unpack(pack(fields)) == wanted


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = unpack(data)
    except NotProtobuf:
        return
    for field in found:
        for read in (number, text, messages):
            with contextlib.suppress(NotProtobuf):
                read(found, field)


@settings(deadline=None)
@given(FIELDS, st.data())
def test_a_message_that_is_cut_off_is_refused_or_shorter(fields: list[tuple[int, int | bytes]], data: st.DataObject) -> None:
    whole = pack(fields)
    part = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        found = unpack(part)
    except NotProtobuf:
        return
    assert sum(map(len, found.values())) <= len(fields)


@pytest.mark.parametrize(
    "data", [b"\x08", b"\x08" + b"\xff" * 10, b"\x12\x05abc", b"\x0b", b"\x0e", b"\x09\0\0", b"\x12" + b"\xff" * 9 + b"\x01"]
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(NotProtobuf):
        unpack(data)
