"""Uniform spans: neighbouring records of a batch that have one layout and are handled together. A log of millions is mostly such.

Records that begin with the same twelve bytes (length, type, shape, length of the entity, namespace) have every field at the same place.
The bytes that must be equal are compared by slices with a step: the same byte of all records at once. The messages of a span are of one
queue, priority and delay; its stream records are of one stream.
"""

import struct
from itertools import chain
from typing import NamedTuple

from flo.errors import LogDamaged
from flo.ual.layouts import alike_places
from flo.ual.record import HEADER_BYTES, LIKE, LIKE_BYTES, U32

CUT_RECORDS = 64  # records that one format takes apart, in a third of the time of slices
LOOK_RECORDS = 8  # records skipped after a search that found no span
SPAN_MAX = 1024  # records: no step is long, since the process that compacts naps only between steps
STRIDES_MIN = 64  # from so many records on, slices with a step are cheaper than a look at each record

Row = tuple[int, bytes, int, bool]  # index, bytes with the record, its offset in them, whether an earlier pass made it history


class UniformSpan(NamedTuple):
    """`records` neighbours of `length` bytes each, from index `first` on, from offset `at` of `data` on. None of them leans on a record,
    and none is the end of an entity: their shape is 0."""

    first: int
    records: int
    data: bytes
    at: int
    length: int
    kind: int
    entity_length: int
    namespace: int

    def cut(self, start: int, end: int) -> list[bytes]:
        """The bytes from `start` to `end` of each record."""
        data, length = self.data, self.length
        middle, behind = self.at + self.records // CUT_RECORDS * CUT_RECORDS * length, self.at + self.records * length
        form = f"{start}x{end - start}s{length - end}x" * CUT_RECORDS
        found = list(chain.from_iterable(struct.iter_unpack(form, memoryview(data)[self.at : middle])))
        found += [data[place + start : place + end] for place in range(middle, behind, length)]
        return found

    def rows(self) -> list[Row]:
        """The records as single rows."""
        return [(self.first + number, self.data, self.at + number * self.length, False) for number in range(self.records)]

    def part(self, start: int, count: int) -> "UniformSpan":
        """The span of `count` records behind the first `start`."""
        return self._replace(first=self.first + start, records=count, at=self.at + start * self.length)


def count_alike(body: bytes, at: int, length: int, places: list[int], most: int) -> int:
    """The number of records of `length` bytes, up to `most`, from the one at offset `at` on, that have the same bytes as that one at
    `places`. It compares few records first, then eight times as many each time: little work is lost where records of several kinds
    alternate."""
    done, window = 0, STRIDES_MIN
    while done < most:
        count = wanted = min(window, most - done)
        start = at + done * length
        for place in places:
            same = body[at + place : at + place + 1]
            column = body[start + place : start + count * length : length]
            if column != same * count:
                count -= len(column.lstrip(same))
        done += count
        if count < wanted:
            break
        window *= 8
    return done


def split(first: int, count: int, body: bytes) -> list[UniformSpan | list[Row]]:
    """The records of a batch whose checksum held, in order: spans of STRIDES_MIN to SPAN_MAX records, and lists of the rows between them.
    Raises `LogDamaged` if the lengths in it are impossible."""
    found: list[UniformSpan | list[Row]] = []
    rows: list[Row] = []
    at, index, end, size = 0, first, first + count, len(body)
    look_at = first  # where to search for a span next
    length_at = U32.unpack_from
    while index < end:
        if at + HEADER_BYTES > size:
            raise LogDamaged("a batch holds fewer records than it says.")
        length = length_at(body, at)[0]
        if length < HEADER_BYTES or at + length > size:
            raise LogDamaged(f"a record says it has {length} bytes, which cannot be.")
        if index == look_at:
            span = _span_at(index, min(end - index, SPAN_MAX), body, at, length)
            if span.records >= STRIDES_MIN:
                if rows:
                    found.append(rows)
                    rows = []
                found.append(span)
                index = look_at = index + span.records
                at += span.records * length
                continue
            look_at += max(span.records, LOOK_RECORDS)
        rows.append((index, body, at, False))
        index += 1
        at += length
    if rows:
        found.append(rows)
    return found


def _span_at(index: int, most: int, body: bytes, at: int, length: int) -> UniformSpan:
    """The span of up to `most` records that begins at offset `at`; of the first record alone if it would be short."""
    _, kind, shape, entity_length, namespace = LIKE.unpack_from(body, at)
    count = 1
    # in a span of STRIDES_MIN records the last one begins as the first does: a quick test
    if not shape and body.startswith(body[at : at + LIKE_BYTES], at + (STRIDES_MIN - 1) * length):
        most = min(most, (len(body) - at) // length)
        count = count_alike(body, at, length, alike_places(kind, entity_length, length), most)
    return UniformSpan(index, count, body, at, length, kind, entity_length, namespace)
