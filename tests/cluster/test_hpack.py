"""HPACK against PyPI's hpack, and against blocks that break it."""

import contextlib

import hpack as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.cluster import hpack
from flo.cluster.hpack import Header, HpackError

pytestmark = pytest.mark.computes

NAMES = st.sampled_from([b":status", b"grpc-status", b"content-type", b"date", b"x"]) | st.binary(min_size=1, max_size=40)
HEADERS = st.lists(st.tuples(NAMES, st.binary(max_size=300)), max_size=12)


def wanted(headers: list[tuple[bytes, bytes]]) -> list[Header]:
    return [(name, value) for name, value in headers]


@settings(deadline=None)
@given(blocks=st.lists(HEADERS, max_size=6), huffman=st.booleans(), sizes=st.lists(st.sampled_from([None, 0, 100, 4096]), min_size=6))
def test_what_another_encoder_sends_is_read(blocks: list[list[Header]], huffman: bool, sizes: list[int | None]) -> None:
    """Tables included: blocks of one connection refer to each other, and the encoder may change the table's size between them."""
    encoder, decoder = oracle.Encoder(), hpack.Decoder()
    for headers, size in zip(blocks, sizes, strict=False):
        if size is not None:
            encoder.header_table_size = size
        assert decoder.decode(encoder.encode(headers, huffman=huffman)) == wanted(headers)


@settings(deadline=None)
@given(HEADERS)
def test_another_decoder_reads_what_is_encoded(headers: list[Header]) -> None:
    found = oracle.Decoder(max_header_list_size=1 << 20).decode(hpack.encode(headers), raw=True)
    assert [(bytes(name), bytes(value)) for name, value in found] == headers


@settings(deadline=None)
@given(HEADERS)
def test_a_peer_that_has_made_its_table_smaller_reads_what_is_encoded(headers: list[Header]) -> None:
    """RFC 7541 section 4.2: the first block after that must say that the encoder keeps to it."""
    decoder = oracle.Decoder(max_header_list_size=1 << 20)
    decoder.max_allowed_table_size = 0
    found = decoder.decode(hpack.encode(headers), raw=True)
    assert [(bytes(name), bytes(value)) for name, value in found] == headers


def test_headers_that_must_not_be_kept_are_read() -> None:
    encoder, decoder = oracle.Encoder(), hpack.Decoder()
    headers = [oracle.NeverIndexedHeaderTuple(b"token", b"secret"), oracle.HeaderTuple(b"grpc-status", b"0")]
    for _ in range(3):
        assert decoder.decode(encoder.encode(headers)) == [(b"token", b"secret"), (b"grpc-status", b"0")]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    decoder = hpack.Decoder()
    for _ in range(2):
        try:
            decoder.decode(data)
        except HpackError:
            return


@settings(deadline=None)
@given(HEADERS, st.data())
def test_a_damaged_block_is_read_or_refused(headers: list[Header], data: st.DataObject) -> None:
    block = bytearray(oracle.Encoder().encode([*headers, (b"a", b"b")]))
    place = data.draw(st.integers(0, len(block) - 1))
    block[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(HpackError):
        hpack.Decoder().decode(bytes(block[: data.draw(st.integers(0, len(block)))]))


@pytest.mark.parametrize(
    ("block", "part"),
    [
        (b"\x80", "no header 0"),
        (b"\xbe", "no header 62"),
        (b"\x3f\xe2\x1f", "4097 bytes"),
        (b"\xff" + b"\xff" * 20, "no end"),
        (b"\x7f" + b"\x80" * 20, "no end"),
        (b"\x40\x05abc", "within a string"),
        (b"\x40\x01a", "within a header"),
        (b"\x40\x84\xff\xff\xff\xff", "code for the end"),
        (b"\x40\x81\x00", "not padded"),
        (b"\x82" * 201, "over 200"),
    ],
)
def test_a_block_that_breaks_the_rules_is_refused(block: bytes, part: str) -> None:
    with pytest.raises(HpackError, match=part):
        hpack.Decoder().decode(block)


def test_the_table_is_bounded() -> None:
    decoder = hpack.Decoder()
    for count in range(300):
        decoder.decode(b"\x40\x04%04d\x7f\x49" % count + b"v" * 200)
    assert decoder.table_bytes <= hpack.TABLE_BYTES_MAX
    decoder.decode(b"\x40\x01a\x7f\x89\x26" + b"v" * 5000)  # larger than the table: empties it
    assert decoder.table_bytes == 0
