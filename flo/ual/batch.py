"""The batch: the records that one turn of the loop wrote, or a part of them, framed; the checksums of the batches are a chain.

A turn that writes more than BATCH_BYTES writes several batches, so that a record can be read and checked without reading all of them. These
batches are a *group*: each but the last says that more follow. A group counts only if it is whole.

Layout of its header (docs/log-format.md, "Batch"), little-endian, 48 bytes:

    0  magic "FLOB" | 4  u32 length of the records | 8  u64 first index
    16 u32 count, in its highest bit whether more batches of the group follow      | 20 u32 previous crc
    24 u64 time, ms | 32 u64 durable index         | 40 u32 head crc    | 44 u32 crc   | 48 records

head crc covers bytes 0-39 from the segment's seed; crc covers the records from the head crc.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

MAGIC = b"FLOB"
_HEAD = struct.Struct("<4sIQIIQQ")
_CRCS = struct.Struct("<II")
_LOOSE = struct.Struct("<4sI32xII")  # of the same header: magic, length, head crc, crc
HEADER_BYTES = _HEAD.size + _CRCS.size
assert _LOOSE.size == HEADER_BYTES
assert HEADER_BYTES == 48


BATCH_BYTES = 64 << 10  # of records, unless a single record is larger: checking so much takes 40 us
MORE = 1 << 31  # in the count: the next batch is of the same group


class BatchHeader(NamedTuple):
    """A batch's header, decoded. `length` is that of the records alone; `more`: the next batch is of the same group."""

    length: int
    first: int
    records: int
    prev_crc: int
    time: int
    durable: int
    head_crc: int
    crc: int
    more: bool = False

    @property
    def last(self) -> int:
        """The index of the last record; `first - 1` if there is none."""
        return self.first + self.records - 1


def headers_bytes(length: int) -> int:
    """The most bytes that the headers of a group with `length` bytes of records can take."""
    return HEADER_BYTES * (1 + 2 * length // BATCH_BYTES)  # any two neighbours have more than BATCH_BYTES of records together


def cut(ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The batches of a group, each as (first record, end) by number. `ends` are the offsets where the records end, from the first one's
    start."""
    done = start = 0
    while done < len(ends):
        upto = max(bisect_right(ends, start + BATCH_BYTES, done), done + 1)
        yield done, upto
        done, start = upto, ends[upto - 1]


def pack_header(
    records: Sequence[bytes], length: int, first: int, count: int, time: int, durable: int, prev_crc: int, seed: int, more: bool = False
) -> tuple[bytes, int]:
    """(the header for `records`, the batch's crc). `records` may be cut anywhere; they are `length` bytes in all."""
    head = _HEAD.pack(MAGIC, length, first, count | MORE if more else count, prev_crc, time, durable)
    head_crc = crc = crc32(head, seed)
    for piece in records:
        crc = crc32(piece, crc)
    return head + _CRCS.pack(head_crc, crc), crc


def read_header(data: bytes, seed: int, at: int = 0) -> BatchHeader | None:
    """The header at offset `at` of `data`; None if its magic or its crc does not hold."""
    if len(data) < at + HEADER_BYTES or data[at : at + 4] != MAGIC:
        return None
    _, length, first, count, prev_crc, time, durable = _HEAD.unpack_from(data, at)
    head_crc, crc = _CRCS.unpack_from(data, at + _HEAD.size)
    if crc32(data[at : at + _HEAD.size], seed) != head_crc:
        return None
    return BatchHeader(length, first, count & ~MORE, prev_crc, time, durable, head_crc, crc, count >= MORE)


def body_is_intact(header: BatchHeader, body: bytes | memoryview) -> bool:
    """Whether `body` is the records that the header was written for."""
    return len(body) == header.length and crc32(body, header.head_crc) == header.crc


def whole_until(data: bytes, start: int, most: int) -> int:
    """The end of the intact batches that follow each other from offset `start` of `data`, up to `most` of them. Their log was read before,
    so of a header only the parts that the records' checksum needs are checked."""
    view, end = memoryview(data), start
    for _ in range(most):
        if len(data) < end + HEADER_BYTES:
            break
        magic, length, head_crc, crc = _LOOSE.unpack_from(data, end)
        upto = end + HEADER_BYTES + length
        if magic != MAGIC or upto > len(data) or crc32(view[end + HEADER_BYTES : upto], head_crc) != crc:
            break
        end = upto
    return end
