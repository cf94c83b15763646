"""The binary protocol's codec: round trips, any cut, any damage, and never more memory than was sent."""

import tracemalloc
import zlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.engine.namespace import hash_name
from flo.errors import BadRequest, Conflict, NotFound, Overloaded, Refusal
from flo.limits import BODY_GROWTH_BYTES, REQUEST_BYTES_MAX
from flo.operations import BY_CODE, OPERATIONS, OPTION_BY_NAME, OPTIONS
from flo.proto import binary
from flo.proto.binary import (
    REQUEST_BYTES,
    RESPONSE_BYTES,
    Frame,
    FrameReader,
    FramingLost,
    encode_refusal,
    encode_request,
    encode_response,
    error_of,
    inflate,
    namespace_hash,
    split_request,
    split_response,
)
from flo.proto.row import Operation
from flo.proto.shapes import Shape, shape

pytestmark = pytest.mark.computes

U64 = st.integers(0, 2**64 - 1)
FORMS: dict[str, st.SearchStrategy[Any]] = {
    "u8": st.integers(0, 255),
    "u32": st.integers(0, 2**32 - 1),
    "u64": U64,
    "i64": st.integers(-(2**63), 2**63 - 1),
    "lease": st.integers(1, 2**32 - 1),
    "empty": st.just(True),
    "bytes": st.binary(max_size=40),
    "id": st.integers(0, 2**128 - 1),
    "rate": st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
}
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "u8": FORMS["u8"],
    "u16": st.integers(0, 65535),
    "u32": FORMS["u32"],
    "u64": U64,
    "i64": FORMS["i64"],
    "bool": st.booleans(),
    "id": FORMS["id"],
    "name": st.binary(max_size=30),
    "blob": st.binary(max_size=30),
    "rest": st.binary(max_size=30),
    "json": st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(), s, max_size=3)
    ),
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[Operation, int, int, bytes, bytes, dict[str, Any]]:
    """A request that its operation takes."""
    operation = draw(st.sampled_from(OPERATIONS))
    options = {}
    for name in operation.options:
        if name in operation.required or draw(st.booleans()):
            form = OPTION_BY_NAME[name].form
            options[name] = draw(st.integers(1, operation.limits[1]) if name == "limit" else FORMS["lease" if name == "lease" else form])
    for _, name in operation.either:
        options.pop(name, None)
    key = draw(st.binary(max_size=50)) if operation.key else b""
    value = draw(st.binary(max_size=3000)) if operation.value else b""
    return operation, draw(U64), draw(U64), key, value, options


def values_of(made: Shape) -> st.SearchStrategy[tuple[Any, ...]]:
    """Values that fit a layout."""
    items = []
    for _, kind, group in made.items:
        if group is None:
            items.append(KINDS[kind])
        else:
            single = len(group.items) == 1
            inner = values_of(group)
            items.append(st.lists(inner.map(lambda v: v[0]) if single else inner, max_size=4))
    return st.tuples(*items)


LAYOUTS = sorted({o.answer for o in OPERATIONS if o.answer} | {o.value for o in OPERATIONS if o.layout})


def frames(reader: FrameReader, data: bytes, cuts: list[int]) -> list[Frame]:
    """Every message in `data`, fed in pieces as a connection would: what is not taken comes again."""
    found, rest, at = [], b"", 0
    for cut in [*sorted(c % (len(data) + 1) for c in cuts), len(data)]:
        rest, at = rest + data[at:cut], cut
        while True:
            frame, taken = reader.parse(rest, 0)
            rest = rest[taken:]
            if frame is None:
                break
            found.append(Frame(frame.header, bytes(frame.payload)))
    assert not rest
    return found


@settings(max_examples=300, deadline=None)
@given(st.lists(requests(), max_size=5), st.lists(st.integers(0, 1 << 20), max_size=6))
def test_requests_round_trip_however_they_are_cut(
    many: list[tuple[Operation, int, int, bytes, bytes, dict[str, Any]]], cuts: list[int]
) -> None:
    data = b"".join(encode_request(o, i, n, k, v, opts) for o, i, n, k, v, opts in many)
    found = frames(FrameReader(REQUEST_BYTES), data, cuts)
    assert len(found) == len(many)
    for frame, (operation, req_id, namespace, key, value, options) in zip(found, many, strict=True):
        request = split_request(frame, BY_CODE)
        assert request == (operation, 0, req_id, namespace, key, value, operation.defaults | options)


def test_every_split_of_a_stream() -> None:
    data = b"".join(encode_request(BY_CODE[0x11], i, 0, b"key%d" % i, b"v" * i, {"ttl": i}) for i in range(6))
    whole = frames(FrameReader(REQUEST_BYTES), data, [])
    for cut in range(len(data)):
        assert frames(FrameReader(REQUEST_BYTES), data, [cut]) == whole
    assert frames(FrameReader(REQUEST_BYTES), data, list(range(len(data)))) == whole


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 7), U64, st.binary(max_size=5000), st.booleans(), st.lists(st.integers(0, 1 << 20), max_size=4))
def test_responses_round_trip(status: int, req_id: int, payload: bytes, compress: bool, cuts: list[int]) -> None:
    data = encode_response(status, req_id, payload, compress=compress)
    (frame,) = frames(FrameReader(RESPONSE_BYTES), data, cuts)
    assert split_response(frame) == (status, req_id, payload)


def test_refusals_round_trip() -> None:
    for error in (NotFound("no"), BadRequest("bad"), Conflict("v", 7), Overloaded("full")):
        (frame,) = frames(FrameReader(RESPONSE_BYTES), encode_refusal(error, 9), [])
        back = error_of(split_response(frame))
        assert type(back) is type(error) and str(back) == str(error)
        assert getattr(back, "version", 0) == getattr(error, "version", 0)


@pytest.mark.slow
@pytest.mark.parametrize("text", LAYOUTS)
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_layouts_round_trip_and_refuse_what_is_cut_or_longer(text: str, data: st.DataObject) -> None:
    made = shape(text)
    values = data.draw(values_of(made))
    encoded = made.encode(*values)
    decoded = made.decode(encoded)
    assert made.encode(*decoded) == encoded and decoded == values
    assert made.pack(*values) == encoded, "what is quick packs the same"
    assert made.decode_from(encoded, 0, 1 << 32) == (values, len(encoded)), "and so does what is careful decode"
    if not text.endswith(("rest", "json")):
        with pytest.raises(BadRequest):
            made.decode(encoded + b"x")
        for cut in range(len(encoded)):
            with pytest.raises(BadRequest):
                made.decode(encoded[:cut])


def test_both_hashes_of_names_are_one() -> None:
    for name in ("default", "x", "a.b_c:d-e", "n" * 128):
        assert hash_name(name) == namespace_hash(name)
    assert namespace_hash("") == 0xCBF29CE484222325


def test_a_declared_length_takes_no_memory() -> None:
    """A header that promises 32 MiB costs what was sent, and so does each further byte."""
    header = binary.REQUEST.pack(binary.MAGIC, 0x11, 0, 1, REQUEST_BYTES_MAX, 0, 1, 0)
    tracemalloc.start()
    try:
        readers = [FrameReader(REQUEST_BYTES) for _ in range(100)]
        for reader in readers:
            assert reader.parse(header + b"k", 0) == (None, 33)
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 100 * 2 * BODY_GROWTH_BYTES
        sent = 1
        while sent < 4 << 20:
            assert readers[0].parse(b"x" * 10_000, 0) == (None, 10_000)
            sent += 10_000
            assert readers[0].held <= max(2 * sent, BODY_GROWTH_BYTES)
    finally:
        tracemalloc.stop()


def test_a_payload_received_in_place() -> None:
    value = bytes(range(256)) * 4000
    data = encode_request(BY_CODE[0x11], 5, 0, b"key", value)
    reader = FrameReader(REQUEST_BYTES)
    assert reader.parse(data[:50], 0) == (None, 50)
    at = 50
    while True:
        room = reader.body_room()
        assert room is not None and len(room) <= len(data)
        count = min(len(room), 70_001, len(data) - at)
        room[:count] = data[at : at + count]
        room.release()
        at += count
        frame = reader.body_received(count)
        if frame is not None:
            break
    request = split_request(frame, BY_CODE)
    assert (request.key, request.value, reader.idle, at) == (b"key", value, True, len(data))


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", "begins with 46 4C 4F 01"),
        (b"FLO\x02" + bytes(28), "version 2"),
        (binary.REQUEST.pack(binary.MAGIC, 0, 0, 77, REQUEST_BYTES_MAX + 1, 0, 0, 0), "33554433 bytes; at most 33554432"),
    ],
)
def test_framing_that_is_lost_says_why(header: bytes, says: str) -> None:
    with pytest.raises(FramingLost, match=says):
        FrameReader(REQUEST_BYTES).parse(header, 0)


def option(code: int, data: bytes) -> bytes:
    return binary.OPTION.pack(code, len(data)) + data


@pytest.mark.parametrize(
    ("opcode", "flags", "key", "value", "options", "says"),
    [
        (0x7777, 0, b"", b"", b"", "0x7777 is not an operation"),
        (0x10, 4, b"k", b"", b"", "flags are 0x0004"),
        (0x00, 0, b"k", b"", b"", "ping takes no key"),
        (0x10, 0, b"k", b"v", b"", "kv_get takes no value"),
        (0x10, 0, b"k", b"", option(0xEE, b""), r"kv_get does not take the option 0xee; it takes clip \(0x1d\), wait \(0x15\), block"),
        (0x15, 0, b"k", b"", option(0x01, bytes(8)), r"kv_history does not take the option 0x01; it takes limit \(0x12\)"),
        (0x21, 0, b"q", b"", option(0x16, bytes(4)), "the option lease is 0; it is 1 at least"),
        (0x11, 0, b"k", b"", option(0x11, b"") + option(0x10, b""), "kv_put takes if_absent or if_present, not both"),
        (0x11, 0, b"k", b"", option(0x01, bytes(8)) * 2, r"the option ttl \(0x01\) is given twice"),
        (0x11, 0, b"k", b"", option(0x01, bytes(7)), r"the option ttl \(0x01\) is 7 bytes, which does not fit its form, u64"),
        (0x11, 0, b"k", b"", option(0x10, b"x"), r"if_absent \(0x10\) is 1 bytes, which does not fit its form, empty"),
        (0x11, 0, b"k", b"", b"\x01\x08", "end inside the type and length of one"),
        (0x11, 0, b"k", b"", b"\x01\x09\x00" + bytes(8), "declares 9 bytes, but 8 are left"),
        (0x16, 0, b"k", b"v", b"", r"kv_cas needs the option cas_version \(0x02\)"),
        (0x13, 0, b"", b"", option(0x12, bytes(4)), "limit is 0; kv_scan takes 1 to 1000"),
        (0x13, 0, b"", b"", option(0x12, (1001).to_bytes(4, "little")), "limit is 1001"),
        (0x11, 0, b"k", bytes((16 << 20) + 1), b"", "the value is 16777217 bytes"),
    ],
)
def test_each_row_of_what_is_refused(opcode: int, flags: int, key: bytes, value: bytes, options: bytes, says: str) -> None:
    payload = key + value + options
    header = binary.REQUEST.pack(binary.MAGIC, opcode, flags, 1, len(payload), 0, len(key), len(options))
    with pytest.raises(BadRequest, match=says):
        split_request(Frame(header, payload), BY_CODE)


def test_lengths_that_do_not_fit_are_refused() -> None:
    header = binary.REQUEST.pack(binary.MAGIC, 0x10, 0, 1, 5, 0, 3, 3)
    with pytest.raises(BadRequest, match="key of 3 bytes and the options of 3 do not fit the payload of 5"):
        split_request(Frame(header, b"12345"), BY_CODE)


def inflated(data: bytes, limit: int) -> bytes:
    job = inflate(data, limit)
    try:
        while True:
            next(job)
    except StopIteration as end:
        result: bytes = end.value
        return result


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 12))
def test_inflation_round_trips(piece: bytes, times: int) -> None:
    value = piece * (1 << times)
    assert inflated(zlib.compress(value), max(len(value), 1)) == value


def test_inflation_is_bounded() -> None:
    bomb = zlib.compress(bytes(64 << 20), 9)
    tracemalloc.start()
    try:
        with pytest.raises(BadRequest, match="inflates to more than 16777216 bytes"):
            inflated(bomb, 16 << 20)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    exact = zlib.compress(bytes(1 << 20))
    assert len(inflated(exact, 1 << 20)) == 1 << 20
    for wrong, says in ((b"not zlib", "it is not"), (exact[:-3], "ends early"), (exact + b"x", "1 bytes follow"), (b"", "ends early")):
        with pytest.raises(BadRequest, match=says):
            inflated(wrong, 1 << 20)


def test_no_option_or_operation_is_there_twice() -> None:
    assert len({o.code for o in OPTIONS}) == len({o.name for o in OPTIONS}) == len(OPTIONS)
    codes = [o.code for o in OPERATIONS] + [o.also for o in OPERATIONS if o.also]
    assert len(set(codes)) == len(codes)
    for operation in OPERATIONS:
        assert set(operation.required) <= set(operation.options) <= set(OPTION_BY_NAME)
        assert ("limit" in operation.options) == (operation.limits[1] > 0)
        shape(operation.answer)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_raise_nothing_but_the_codecs_own_errors(data: bytes) -> None:
    for prefix in (b"", binary.MAGIC):
        reader = FrameReader(REQUEST_BYTES)
        try:
            frame, _ = reader.parse(prefix + data, 0)
            if frame is not None:
                split_request(frame, BY_CODE)
        except (FramingLost, Refusal):
            pass
    for text in LAYOUTS:
        with suppress(BadRequest):
            shape(text).decode(data)
