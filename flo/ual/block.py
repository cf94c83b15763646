"""A block of a base: up to 1,024 records, laid out so that a store takes most of them without a look at each.

Layout (docs/log-format.md, "Block"), little-endian; places count from the block's start:

    0   header: magic "FLOK", u32 records, u32 values, u32 namespace of the values, u32 bytes of the values, of the others, of the
        groups, of the grouped records, u64 first index, u64 last index, u32 crc
    52  u64 index of each record, u32 place of each
        u64 time of each value, u64 predecessor of each value
        values: as the key-value store holds them: "[", u32 twice their number, then for each its key and its entry, as "s", u32 length,
        bytes others: records as in a segment groups: neighbours of one queue or stream, as columns (a start reads up to here; the crc is of
        all this) grouped records: for each u32 crc, then the record as in a segment; a start does not need them

A value is a record of a string, counter or document without a deadline. A group is of neighbours of one container, of a type in
flo.ual.layouts. Both have only *current* records: live, with no record that leans on them. So they may be applied in any order, after
the others. `marshal` can read the form of the values, and makes a million objects in a tenth of a second; `read_pieces` does the same in
Python, in case a later `marshal` cannot.
"""

import marshal
import struct
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain
from typing import NamedTuple
from zlib import crc32

from flo.errors import RESTORE, LogDamaged
from flo.ual.columns import extend, from_bytes, to_bytes
from flo.ual.keyindex import check_of, seed_of, words_of
from flo.ual.layouts import LAYOUTS, Group
from flo.ual.record import (
    HEADER,
    HEADER_BYTES,
    KV_COUNTER,
    KV_JSON,
    KV_STRING,
    U16,
    U32,
)
from flo.ual.uniform_spans import UniformSpan

MAGIC = b"FLOK"
_HEAD = struct.Struct("<4sIIIIIIIQQ")
BLOCK_HEADER_BYTES = _HEAD.size + U32.size
assert BLOCK_HEADER_BYTES == 52
COLUMN_BYTES = 12  # of a record: its index, its place
VALUE_COLUMN_BYTES = 16  # more of a value: its time, its predecessor
_GROUP = struct.Struct("<BBHIIQ")  # type, order, length of the name, namespace, records, `last` (flo.ual.layouts); then name and columns
LOADED_BYTES = 128 << 10  # a block is full with so many bytes that a start reads …
GROUPED_BYTES = 1 << 20  # … or so many that it does not read …
RECORDS_MAX = 1024  # … or so many records: they are searched to find one
GROUP_MIN = 4  # fewer records are not worth a group

VALUE_TYPES = (KV_STRING, KV_COUNTER, KV_JSON)
_KIND_MASK = 0x03
_FLAGS_SHIFT = 56  # of a value's entry: index, u56; flags, u8 (flo.store.kv)
_INDEX_MASK = (1 << _FLAGS_SHIFT) - 1
_ENTRY_END = 10  # CR, LF, index and flags
_VERSION = struct.Struct("<Q")
_LIST, _PIECE = ord("["), ord("s")
_PIECE_HEAD = struct.Struct("<BI")
PIECE_HEAD_BYTES = _PIECE_HEAD.size


class Head(NamedTuple):
    """A block's header. Places count from the block's start."""

    records: int
    values: int
    namespace: int  # of the values
    values_at: int
    others_at: int  # records with a lower place are values
    groups_at: int
    end: int  # of the part that a start reads; records with a higher place have a checksum of their own
    grouped_bytes: int
    first: int
    last: int


def read_head(data: bytes, path: str, at: int) -> Head:
    """The header at the start of `data`, which is from offset `at` of a file; its checksum is not verified. Raises `LogDamaged`."""
    if len(data) < BLOCK_HEADER_BYTES or data[:4] != MAGIC:
        raise LogDamaged(f"{path} is damaged at byte {at}: there is no block. {RESTORE}")
    _, records, values, namespace, values_bytes, others, groups, grouped, first, last = _HEAD.unpack_from(data)
    values_at = BLOCK_HEADER_BYTES + COLUMN_BYTES * records + VALUE_COLUMN_BYTES * values
    others_at = values_at + values_bytes
    groups_at = others_at + others
    return Head(records, values, namespace, values_at, others_at, groups_at, groups_at + groups, grouped, first, last)


class Block:
    """A block, without the part that a start does not read. Its other parts are decoded on demand."""

    head: Head

    def __init__(self, data: bytes, seed: int, path: str, at: int) -> None:
        """`data` is from offset `at` of the file. Raises `LogDamaged` if its checksum does not hold."""
        self.data = data
        self.path = path
        self.at = at
        self.head = head = read_head(data, path, at)
        if len(data) != head.end or not is_intact(data, seed):
            raise LogDamaged(f"{path} is damaged at byte {at}: a block's checksum does not hold. {RESTORE}")

    def indexes(self) -> "array[int]":
        """The indexes of all records, ascending."""
        return from_bytes("Q", self.data[BLOCK_HEADER_BYTES : BLOCK_HEADER_BYTES + 8 * self.head.records])

    def places(self) -> "array[int]":
        """The places of all records."""
        start = BLOCK_HEADER_BYTES + 8 * self.head.records
        return from_bytes("I", self.data[start : start + 4 * self.head.records])

    def pieces(self) -> list[bytes]:
        """The values as key, entry, key, entry, and so on."""
        if not self.head.values:
            return []
        pieces = self.data[self.head.values_at : self.head.others_at]
        found: list[bytes] = marshal.loads(pieces) if MARSHAL_READS_PIECES else read_pieces(pieces)
        return found

    def words(self, modulus: int) -> list[tuple[int, int]]:
        """The words of the values' keys in the index of a file with this `modulus`, each with its check."""
        seed, word = seed_of(self.head.namespace), words_of(modulus, self.head.namespace)
        place = self.at + self.head.values_at + PIECE_HEAD_BYTES
        words: list[tuple[int, int]] = []
        pieces = self.pieces()
        for key, entry in zip(pieces[::2], pieces[1::2], strict=True):
            words.append((word(key, place), check_of(seed, key, entry)))
            place += 2 * PIECE_HEAD_BYTES + len(key) + len(entry)
        return words

    def others(self) -> list[tuple[int, int]]:
        """(index, offset in `data`) of the records that are neither values nor in a group, in order."""
        start, end = self.head.others_at, self.head.groups_at
        if start == end:
            return []
        return [(index, place) for index, place in zip(self.indexes(), self.places(), strict=True) if start <= place < end]

    def groups(self) -> list[Group]:
        """The groups: a store takes each as a whole. Raises `LogDamaged` for one of a type that this Flo does not group."""
        found: list[Group] = []
        data, at = self.data, self.head.groups_at
        while at < self.head.end:
            kind, order, length, namespace, count, last = _GROUP.unpack_from(data, at)
            layout = LAYOUTS.get(kind)
            if layout is None:
                raise LogDamaged(f"{self.path}: the block at byte {self.at} groups records of type {kind:#04x}, which this Flo does not.")
            at += _GROUP.size
            name = data[at : at + length]
            at += length
            columns: list[array[int]] = []
            for code in "Q" + layout.codes:
                size = array(code).itemsize * count
                columns.append(from_bytes(code, data[at : at + size]))
                at += size
            found.append(Group(kind, namespace, name, order, tuple(columns), last))
        return found

    def rows(self, grouped: bytes) -> Iterator[tuple[int, bytes]]:
        """(index, bytes) of every record, in order; `grouped` is the part that a start does not read. All parts are checked against each
        other. Raises `LogDamaged`."""
        seen: dict[int, bytes] = {}
        for (index, row), place in zip(self.rows_that_read(grouped), self.places(), strict=True):
            if row is None:
                raise LogDamaged(f"{self.path} is damaged: the checksum of index {index} does not hold. {RESTORE}")
            if place >= self.head.end:
                seen[index] = row
            yield index, row
        builder = Builder()
        for index, row in seen.items():
            builder.add(index, row, current=True)
        if seen and builder.groups(minimum=0) != self.groups():
            raise LogDamaged(f"{self.path} is damaged at byte {self.at}: a group's columns are not those of its records.")

    def rows_that_read(self, grouped: bytes) -> Iterator[tuple[int, bytes | None]]:
        """(index, bytes) of every record, in order; None for a record whose own checksum does not hold."""
        pieces, times, predecessors = self.pieces(), self._times(), self._predecessors()
        number = 0
        for index, place in zip(self.indexes(), self.places(), strict=True):
            row: bytes | None
            if place < self.head.others_at:
                row = self._value(index, pieces[2 * number], pieces[2 * number + 1], times[number], predecessors[number])
                number += 1
            elif place < self.head.end:
                row = self.data[place : place + U32.unpack_from(self.data, place)[0]]
            else:
                try:
                    row = take_row(self.path, index, grouped, place - self.head.end)
                except LogDamaged:
                    row = None
            yield index, row

    def _times(self) -> "array[int]":
        start = self.head.values_at - VALUE_COLUMN_BYTES * self.head.values
        return from_bytes("Q", self.data[start : start + 8 * self.head.values])

    def _predecessors(self) -> "array[int]":
        return from_bytes("Q", self.data[self.head.values_at - 8 * self.head.values : self.head.values_at])

    def _value(self, index: int, key: bytes, entry: bytes, time: int, prev: int) -> bytes:
        if _VERSION.unpack_from(entry, len(entry) - 8)[0] & _INDEX_MASK != index:
            raise LogDamaged(f"{self.path} is damaged at byte {self.at}: the value of index {index} is another's.")
        return value_row(key, entry, self.head.namespace, time, prev)


def value_row(key: bytes, entry: bytes, namespace: int, time: int, prev: int) -> bytes:
    """The record of a value, made from its key and entry."""
    value = entry[entry.index(10) + 1 : -_ENTRY_END]
    kind = KV_STRING | entry[-1] & _KIND_MASK
    return HEADER.pack(HEADER_BYTES + len(key) + len(value), kind, 0, len(key), namespace, time, prev) + key + value


def take_row(path: str, index: int, data: bytes, start: int) -> bytes:
    """The record behind the checksum at offset `start` of `data`. Raises `LogDamaged`."""
    if start + 8 <= len(data):
        crc, length = U32.unpack_from(data, start)[0], U32.unpack_from(data, start + 4)[0]
        row = data[start + 4 : start + 4 + length]
        if HEADER_BYTES <= length == len(row) and crc32(row) == crc:  # zeros have the checksum of nothing
            return row
    raise LogDamaged(f"{path} is damaged: the checksum of index {index} does not hold. {RESTORE}")


class _Rows:
    """Neighbours of one container, on their way into a block."""

    def __init__(self) -> None:
        self.indexes: array[int] = array("Q")
        self.rows: list[bytes] = []


class Builder:
    """Collects the records of one block."""

    count: int  # of records
    loaded_bytes: int  # of the records that a start reads
    grouped_bytes: int  # of the others

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.count = 0
        self.loaded_bytes = self.grouped_bytes = 0
        self._namespace = -1  # of the values
        self._values: list[tuple[int, bytes]] = []
        self._others: list[tuple[int, bytes]] = []
        self._groups: defaultdict[tuple[int, int, int, bytes], _Rows] = defaultdict(_Rows)  # by type, order, namespace, name

    @property
    def full(self) -> bool:
        """Whether the block is full and should be built."""
        return self.count >= RECORDS_MAX or self.loaded_bytes >= LOADED_BYTES or self.grouped_bytes >= GROUPED_BYTES

    def add(self, index: int, data: bytes, current: bool) -> None:
        """Add the next record."""
        self.count += 1
        _, kind, shape, entity_length, namespace, _, _ = HEADER.unpack_from(data)
        if current and not shape:
            if kind in VALUE_TYPES and self._namespace in (-1, namespace):
                self._namespace = namespace
                self._values.append((index, data))
                self.loaded_bytes += len(data)
                return
            layout = LAYOUTS.get(kind)
            order = None if layout is None else layout.order(data, HEADER_BYTES + entity_length)
            if order is not None:
                name = data[HEADER_BYTES + 2 : HEADER_BYTES + 2 + U16.unpack_from(data, HEADER_BYTES)[0]]
                group = self._groups[kind, order, namespace, name]
                group.indexes.append(index)
                group.rows.append(data)
                self.grouped_bytes += len(data)
                return
        self._others.append((index, data))
        self.loaded_bytes += len(data)

    def add_span(self, span: UniformSpan) -> int:
        """Add the next records, all of them current, as many as there is room for; returns their number. 0 if they are not of a kind that
        is grouped."""
        layout = LAYOUTS.get(span.kind)
        at = span.at + HEADER_BYTES + span.entity_length
        order = None if layout is None else layout.order(span.data, at)
        if layout is None or order is None:
            return 0
        count = min(span.records, RECORDS_MAX - self.count, (GROUPED_BYTES - self.grouped_bytes) // span.length + 1)
        name = span.data[span.at + HEADER_BYTES + U16.size : at - layout.id_bytes]
        group = self._groups[span.kind, order, span.namespace, name]
        extend(group.indexes, span.first, 1, count)
        group.rows += span.part(0, count).cut(0, span.length)
        self.count += count
        self.grouped_bytes += count * span.length
        return count

    def groups(self, minimum: int) -> list[Group]:
        """The groups of at least `minimum` records; the records of smaller ones become others."""
        found: list[Group] = []
        for key in [key for key, group in self._groups.items() if len(group.rows) < minimum]:
            few = self._groups.pop(key)
            self._others += zip(few.indexes, few.rows, strict=True)
        self._others.sort()
        for (kind, order, namespace, name), group in self._groups.items():
            columns, last = LAYOUTS[kind].columns(group.rows, HEADER_BYTES + U16.size + len(name))
            found.append(Group(kind, namespace, name, order, (group.indexes, *columns), last))
        return found

    def build(self, seed: int, modulus: int) -> tuple[int, bytes, bytes, list[tuple[int, int]]]:
        """(first index, the part that a start reads, the grouped records, the words of the values' keys with their checks) of the block;
        the words' places count from the block's start. Then the builder is empty again. `modulus` is that of the file's index."""
        groups = b"".join(_pack_group(group) for group in self.groups(GROUP_MIN))
        count, values = self.count, len(self._values)
        at = BLOCK_HEADER_BYTES + COLUMN_BYTES * count + VALUE_COLUMN_BYTES * values
        parts: list[tuple[Iterable[int], list[int]]] = []  # indexes and places of each part
        places: list[int] = []
        pieces: list[bytes] = []
        times, predecessors = array("Q"), array("Q")
        if values:
            pieces.append(_PIECE_HEAD.pack(_LIST, 2 * values))
        size = len(pieces) * PIECE_HEAD_BYTES
        words: list[tuple[int, int]] = []
        start, word = seed_of(max(self._namespace, 0)), words_of(modulus, max(self._namespace, 0))
        for index, data in self._values:
            places.append(at + size)
            _, kind, _, key_length, _, time, prev = HEADER.unpack_from(data)
            times.append(time)
            predecessors.append(prev)
            middle = HEADER_BYTES + key_length
            entry = b"$%d\r\n%b\r\n%b" % (len(data) - middle, data[middle:], _VERSION.pack(index | (kind & _KIND_MASK) << _FLAGS_SHIFT))
            key = data[HEADER_BYTES:middle]
            words.append((word(key, at + size), check_of(start, key, entry)))
            pieces += (_PIECE_HEAD.pack(_PIECE, key_length), key, _PIECE_HEAD.pack(_PIECE, len(entry)), entry)
            size += 2 * PIECE_HEAD_BYTES + key_length + len(entry)
        parts.append(([index for index, _ in self._values], places))
        values_bytes = size
        at += size
        others = b"".join([data for _, data in self._others])
        parts.append(([index for index, _ in self._others], list(accumulate([len(data) for _, data in self._others], initial=at))[:-1]))
        at += len(others) + len(groups)
        end = at
        grouped: list[bytes] = []
        for group in self._groups.values():
            rows = group.rows
            pieces_of_group = [b""] * (2 * len(rows))
            pieces_of_group[::2] = struct.unpack("4s" * len(rows), to_bytes(array("I", map(crc32, rows))))
            pieces_of_group[1::2] = rows
            grouped += pieces_of_group
            *places, at = accumulate([U32.size + len(data) for data in rows], initial=at)
            parts.append((group.indexes, places))
        indexes, starts = _merged([part for part in parts if part[1]])
        first, last = indexes[0], indexes[-1]
        namespace = max(self._namespace, 0)
        head = _HEAD.pack(MAGIC, count, values, namespace, values_bytes, len(others), len(groups), at - end, first, last)
        body = b"".join((*map(to_bytes, (indexes, starts, times, predecessors)), *pieces, others, groups))
        self._clear()
        return first, b"".join((head, U32.pack(crc32(body, crc32(head, seed))), body)), b"".join(grouped), words


def _merged(parts: list[tuple[Iterable[int], list[int]]]) -> tuple["array[int]", "array[int]"]:
    """Indexes and places of all parts, in order of index."""
    if len(parts) == 1:
        return array("Q", parts[0][0]), array("I", parts[0][1])
    rows = sorted(chain.from_iterable(zip(*part, strict=True) for part in parts))
    return array("Q", [index for index, _ in rows]), array("I", [place for _, place in rows])


def _pack_group(group: Group) -> bytes:
    head = _GROUP.pack(group.type, group.order, len(group.name), group.namespace, len(group.columns[0]), group.last)
    return b"".join((head, group.name, *map(to_bytes, group.columns)))


def is_intact(data: bytes, seed: int) -> bool:
    """Whether the checksum of the part that a start reads is right."""
    crc = crc32(memoryview(data)[BLOCK_HEADER_BYTES:], crc32(data[: _HEAD.size], seed))
    return crc == int(U32.unpack_from(data, _HEAD.size)[0])


def read_pieces(data: bytes) -> list[bytes]:
    """The same as `marshal.loads` for the values of a block, in plain steps."""
    found = []
    at = PIECE_HEAD_BYTES
    while at < len(data):
        length = _PIECE_HEAD.unpack_from(data, at)[1]
        at += PIECE_HEAD_BYTES
        found.append(data[at : at + length])
        at += length
    return found


def _marshal_reads_pieces() -> bool:
    sample = [b"key", b"", bytes(300)]
    data = _PIECE_HEAD.pack(_LIST, len(sample)) + b"".join(_PIECE_HEAD.pack(_PIECE, len(piece)) + piece for piece in sample)
    try:
        return bool(marshal.loads(data) == sample)
    except (ValueError, EOFError, TypeError):
        return False


MARSHAL_READS_PIECES = _marshal_reads_pieces()  # the form may change between versions of Python; it never has so far
