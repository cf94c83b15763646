"""Runs: neighbours in a batch that are laid out alike, which can be taken together. A log of millions is mostly such.

Records that begin with the same twelve bytes (length, type, shape, length of the entity, namespace) have everything in the same places.
What has to be the same is compared by slices with a step, one byte of all of them at once. Messages of a span are of one queue, priority
and delay; stream records, of one stream.
"""

import struct
from itertools import chain
from typing import NamedTuple

from flo.errors import LogDamaged
from flo.ual.record import HEADER_BYTES, MESSAGE_STATE, QUEUE_MESSAGE, RECORD_STATE, STREAM_ID, STREAM_RECORD, U16, U32, U64

LIKE = struct.Struct("<IBBHI")  # the start of a record's header: length, type, shape, length of the entity, namespace
LIKE_BYTES = LIKE.size  # what is laid out alike begins alike
CUT_RECORDS = 64  # that one format takes apart, in a third of the time that slices take
LOOK_RECORDS = 8  # so many are passed over after a look for a span that found none
SPAN_MAX = 1024  # records: no step is long, for the process that compacts naps between steps only
STRIDES_MIN = 64  # records from which on slices with a step are cheaper than a look at each

Row = tuple[int, bytes, int, bool]  # index, bytes that hold the record, its offset in them, whether an earlier pass made it history


class UniformSpan(NamedTuple):
    """`records` of `length` bytes each, from index `first` on, side by side from offset `at` of `data` on. None has a shape: they
    lean on nothing, and are not of what is gone."""

    first: int
    records: int
    data: bytes
    at: int
    length: int
    kind: int
    entity_length: int
    namespace: int

    def cut(self, start: int, end: int) -> list[bytes]:
        """From byte `start` to `end` of each."""
        data, length = self.data, self.length
        middle, behind = self.at + self.records // CUT_RECORDS * CUT_RECORDS * length, self.at + self.records * length
        form = f"{start}x{end - start}s{length - end}x" * CUT_RECORDS
        found = list(chain.from_iterable(struct.iter_unpack(form, memoryview(data)[self.at : middle])))
        found += [data[place + start : place + end] for place in range(middle, behind, length)]
        return found

    def rows(self) -> list[Row]:
        """Each by itself."""
        return [(self.first + number, self.data, self.at + number * self.length, False) for number in range(self.records)]

    def part(self, start: int, count: int) -> "UniformSpan":
        """`count` of them, without the first `start`."""
        return self._replace(first=self.first + start, records=count, at=self.at + start * self.length)


def alike_places(kind: int, entity_length: int, length: int) -> list[int]:
    """Which bytes of a span's records are the same. Raises `LogDamaged` where a message or stream record cannot have such lengths."""
    if kind not in (QUEUE_MESSAGE, STREAM_RECORD):
        return list(range(LIKE_BYTES))
    id_bytes, state_bytes = (U64.size, MESSAGE_STATE.size) if kind == QUEUE_MESSAGE else (STREAM_ID.size, RECORD_STATE.size)
    middle = HEADER_BYTES + entity_length
    if entity_length < U16.size + id_bytes or middle + state_bytes > length:
        raise LogDamaged(f"a record of type {kind:#x} and {length} bytes cannot have an entity of {entity_length}.")
    name = range(HEADER_BYTES, middle - id_bytes)
    return [*range(LIKE_BYTES), *name, *(range(middle, middle + state_bytes) if kind == QUEUE_MESSAGE else ())]


def count_alike(body: bytes, at: int, length: int, places: list[int], most: int) -> int:
    """How many records of `length` bytes, from the one at offset `at` on, have the same bytes as it at `places`, up to `most`. Looks at
    few to begin with, then at eight times as many: where records of several kinds alternate, little is looked at in vain."""
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
    """The records of a batch whose checksum held, in order: spans of STRIDES_MIN to SPAN_MAX, and what is between them. Raises `LogDamaged`
    where its lengths cannot be."""
    found: list[UniformSpan | list[Row]] = []
    rows: list[Row] = []
    at, index, end, size = 0, first, first + count, len(body)
    look_at = first  # where the next look for a span is worth it
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
    """The span that begins with the record at offset `at`, of up to `most` records; of that one alone where it would be short."""
    _, kind, shape, entity_length, namespace = LIKE.unpack_from(body, at)
    count = 1
    # where there is one, the last record that makes it one begins as the first does
    if not shape and body.startswith(body[at : at + LIKE_BYTES], at + (STRIDES_MIN - 1) * length):
        most = min(most, (len(body) - at) // length)
        count = count_alike(body, at, length, alike_places(kind, entity_length, length), most)
    return UniformSpan(index, count, body, at, length, kind, entity_length, namespace)
