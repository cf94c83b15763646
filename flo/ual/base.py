"""A base: what compaction kept of one or more segments, every record under its own index, with gaps between them.

A base is two files of the same layout: `*.base` holds what is live, which recovery reads; `*.hist` what is history only, which
is read when somebody asks for it. Layout (docs/log-format.md, "Base"), little-endian:

    0   header: magic, random id, first and last index of the range, time of its last batch, crc; zeros to 64
    64  blocks: header: magic "FLOK", u32 bytes of rows, u32 count, u64 first index, u64 last index, u32 crc
                rows:   the records, as in a segment
                u64 index of each, u32 offset of each in the rows
        footer: u64 offset of each block, u64 its first index; then a trailer: magic "FLOT", u32 blocks, u64 records,
                u64 offset of the footer, u32 crc of the footer and the trailer's first 24 bytes

A block's crc covers its header's first 28 bytes, rows and columns, from the id's crc. The file is whole or it is not there: it is
synced before a manifest names it, and never written again.
"""

import os
import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple
from zlib import crc32

from flo.errors import LogDamaged
from flo.ual.files import Files
from flo.ual.manifest import ManifestEntry
from flo.ual.record import U32

MAGIC = b"FLOBASE1"
_HEADER = struct.Struct("<8s16sQQQ")
HEADER_BYTES = 64
BLOCK_MAGIC = b"FLOK"
_BLOCK = struct.Struct("<4sIIQQ")
BLOCK_HEADER_BYTES = _BLOCK.size + U32.size
assert BLOCK_HEADER_BYTES == 32
COLUMN_BYTES = 12  # of a record: its index, its offset
FOOTER_MAGIC = b"FLOT"
_TRAILER = struct.Struct("<4sIQQ")
TRAILER_BYTES = _TRAILER.size + U32.size
ENTRY_BYTES = 16  # of a block, in the footer
BLOCK_ROWS_BYTES = 128 << 10  # a block is full past this, or with so many records: what is read to find one record
BLOCK_RECORDS = 1024
SYNC_BYTES = 1 << 20  # a large sync would hold up those of the log


class Block(NamedTuple):
    """Where a block is, and what its header says."""

    at: int  # of its rows in the file
    length: int  # of its rows
    records: int
    first: int
    last: int


def file_name(first: int, last: int, token: str, history: bool) -> str:
    """The name of a base's file. The random `token` tells it from an earlier base of the same range, and from one that another
    process may still be writing after the server that started it has died."""
    return f"{first:020d}-{last:020d}-{token}.{'hist' if history else 'base'}"


class BaseWriter:
    """Writes one file of a base, record by record, in order of index."""

    def __init__(self, files: Files, path: str, first: int, last: int, time: int) -> None:
        """Begin a new file at `path` for the range of indexes `first` to `last`. Raises `OSError`."""
        self.files = files
        self.path = path
        self.records = 0
        self.size = HEADER_BYTES
        self._blocks = array("Q")  # offset, first index of each
        self._rows: list[bytes] = []
        self._indexes = array("Q")
        self._offsets = array("I")
        self._length = 0
        self._unsynced = 0
        identity = os.urandom(16)
        self._seed = crc32(identity)
        self.fd = files.create(path)
        head = _HEADER.pack(MAGIC, identity, first, last, time)
        try:
            files.pwrite(self.fd, [(head + U32.pack(crc32(head))).ljust(HEADER_BYTES, b"\0")], 0)
        except OSError:
            self.discard()
            raise

    def add(self, index: int, data: bytes) -> None:
        """The next record."""
        self._indexes.append(index)
        self._offsets.append(self._length)
        self._rows.append(data)
        self._length += len(data)
        if self._length >= BLOCK_ROWS_BYTES or len(self._rows) >= BLOCK_RECORDS:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        rows = b"".join(self._rows)
        indexes, offsets = _to_bytes(self._indexes), _to_bytes(self._offsets)
        head = _BLOCK.pack(BLOCK_MAGIC, len(rows), len(self._rows), self._indexes[0], self._indexes[-1])
        crc = crc32(offsets, crc32(indexes, crc32(rows, crc32(head, self._seed))))
        self._blocks.extend((self.size, self._indexes[0]))
        self._write([head + U32.pack(crc), rows, indexes, offsets])
        self.records += len(self._rows)
        self._rows, self._indexes, self._offsets, self._length = [], array("Q"), array("I"), 0

    def _write(self, pieces: list[bytes]) -> None:
        self.files.pwrite(self.fd, pieces, self.size)
        size = sum(map(len, pieces))
        self.size += size
        self._unsynced += size
        if self._unsynced >= SYNC_BYTES:
            self.files.sync(self.fd)
            self._unsynced = 0

    def finish(self) -> None:
        """Write the footer and sync: the file is whole. Its name is not durable yet."""
        self._flush()
        footer = _to_bytes(self._blocks)
        trailer = _TRAILER.pack(FOOTER_MAGIC, len(self._blocks) // 2, self.records, self.size)
        self._write([footer, trailer + U32.pack(crc32(trailer, crc32(footer)))])
        self.files.sync(self.fd)
        self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd >= 0:
            self.files.close(self.fd)
            self.fd = -1

    def discard(self) -> None:
        """Close and remove the file."""
        self.close()
        self.files.remove(self.path)


class BaseFile:
    """One file of a base, open for reading."""

    def __init__(self, files: Files, path: str, first: int, last: int) -> None:
        """Open it. Raises `LogDamaged` where its header or footer does not hold or is of another range."""
        self.files = files
        self.path = path
        self._page: tuple[array[int], array[int], int, int] | None = None  # indexes, offsets, where the rows begin, their length
        self._page_at = -1
        try:
            self.fd = files.open(path)
        except FileNotFoundError:
            raise LogDamaged(f"{path} is missing, though the manifest lists it. Restore it from a backup.") from None
        try:
            self._read_ends(first, last)
        except BaseException:
            files.close(self.fd)
            raise

    def _read_ends(self, first: int, last: int) -> None:
        files, size = self.files, self.files.size(self.fd)
        head = files.pread(self.fd, HEADER_BYTES, 0)
        length = _HEADER.size
        if len(head) < HEADER_BYTES or head[:8] != MAGIC or U32.unpack_from(head, length)[0] != crc32(head[:length]):
            raise LogDamaged(f"{self.path} is damaged at byte 0: its header does not hold. Restore it from a backup.")
        _, identity, said_first, said_last, self.time = _HEADER.unpack_from(head)
        if (said_first, said_last) != (first, last):
            raise LogDamaged(f"{self.path} says it holds {said_first} to {said_last}, the manifest says {first} to {last}.")
        self.seed = crc32(identity)
        trailer = files.pread(self.fd, TRAILER_BYTES, max(size - TRAILER_BYTES, 0))
        sentence = f"{self.path} is damaged at byte {size}: its footer does not hold. Restore it from a backup."
        if len(trailer) < TRAILER_BYTES or trailer[:4] != FOOTER_MAGIC:
            raise LogDamaged(sentence)
        _, blocks, self.records, self.footer_at = _TRAILER.unpack_from(trailer)
        if self.footer_at + blocks * ENTRY_BYTES + TRAILER_BYTES != size:
            raise LogDamaged(sentence)
        footer = files.pread(self.fd, blocks * ENTRY_BYTES, self.footer_at)
        if U32.unpack_from(trailer, _TRAILER.size)[0] != crc32(trailer[: _TRAILER.size], crc32(footer)):
            raise LogDamaged(sentence)
        table = _from_bytes("Q", footer)
        self._offsets, self._firsts = table[0::2], table[1::2]
        self.size = size

    def blocks(self) -> Iterator[tuple[Block, bytes, "array[int]", "array[int]"]]:
        """Every block: (block, its rows, their indexes, their offsets), checked. Raises `LogDamaged`."""
        for number in range(len(self._offsets)):
            yield self.block(number)

    def block(self, number: int) -> tuple[Block, bytes, "array[int]", "array[int]"]:
        """The block of that number, checked."""
        at = self._offsets[number]
        end = self._offsets[number + 1] if number + 1 < len(self._offsets) else self.footer_at
        data = self.files.pread(self.fd, end - at, at)
        block = self._block_header(data, at)
        columns = BLOCK_HEADER_BYTES + block.length
        if len(data) != columns + COLUMN_BYTES * block.records or not self._is_intact(data):
            raise LogDamaged(f"{self.path} is damaged at byte {at}: a block's checksum does not hold. Restore it from a backup.")
        middle = columns + 8 * block.records
        return block, data[BLOCK_HEADER_BYTES:columns], _from_bytes("Q", data[columns:middle]), _from_bytes("I", data[middle:])

    def __len__(self) -> int:
        """How many blocks there are."""
        return len(self._offsets)

    def _is_intact(self, data: bytes) -> bool:
        crc = crc32(memoryview(data)[BLOCK_HEADER_BYTES:], crc32(data[: _BLOCK.size], self.seed))
        return crc == int(U32.unpack_from(data, _BLOCK.size)[0])

    def _block_header(self, data: bytes, at: int) -> Block:
        if len(data) < BLOCK_HEADER_BYTES or data[:4] != BLOCK_MAGIC:
            raise LogDamaged(f"{self.path} is damaged at byte {at}: there is no block. Restore it from a backup.")
        _, length, count, first, last = _BLOCK.unpack_from(data)
        return Block(at + BLOCK_HEADER_BYTES, length, count, first, last)

    def scan(self, apply: Callable[[int, bytes, int], None]) -> None:
        """Call `apply(index, data, offset in data)` for every record."""
        for _, rows, indexes, offsets in self.blocks():
            for index, offset in zip(indexes, offsets, strict=True):
                apply(index, rows, offset)

    def read(self, index: int) -> bytes | None:
        """The bytes of record `index`, None where it is not kept."""
        number = bisect_right(self._firsts, index) - 1
        if number < 0:
            return None
        if number != self._page_at or self._page is None:
            self._read_page(number)
            assert self._page is not None
        indexes, offsets, rows_at, length = self._page
        place = bisect_left(indexes, index)
        if place == len(indexes) or indexes[place] != index:
            return None
        start = offsets[place]
        end = offsets[place + 1] if place + 1 < len(offsets) else length
        data = self.files.pread(self.fd, end - start, rows_at + start)
        if len(data) != end - start:
            raise LogDamaged(f"{self.path}: {len(data)} bytes of index {index} could be read where {end - start} should be.")
        return data

    def _read_page(self, number: int) -> None:
        """Have a block's columns at hand."""
        at = self._offsets[number]
        block = self._block_header(self.files.pread(self.fd, BLOCK_HEADER_BYTES, at), at)
        data = self.files.pread(self.fd, COLUMN_BYTES * block.records, block.at + block.length)
        if len(data) != COLUMN_BYTES * block.records:
            raise LogDamaged(f"{self.path} is damaged at byte {at}: its columns are cut short. Restore it from a backup.")
        middle = 8 * block.records
        self._page = (_from_bytes("Q", data[:middle]), _from_bytes("I", data[middle:]), block.at, block.length)
        self._page_at = number

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd >= 0:
            self.files.close(self.fd)
            self.fd, self._page, self._page_at = -1, None, -1

    def reopen(self) -> None:
        """Open the file again for reading."""
        if self.fd < 0:
            self.fd = self.files.open(self.path)


class Base:
    """A range of the log that was compacted. It has the parts of `Segment` that a log needs of what is sealed."""

    def __init__(self, files: Files, directory: str, entry: ManifestEntry) -> None:
        """Open both files. Raises `LogDamaged`, `OSError`."""
        file, first, last, history = entry
        self.entry = entry
        self.files = files
        self.path = os.path.join(directory, file)
        self.first = first
        self.last = last
        self.live = BaseFile(files, self.path, first, last)
        self.history: BaseFile | None = None
        if history:
            try:
                self.history = BaseFile(files, os.path.join(directory, history), first, last)
            except BaseException:
                self.live.close()
                raise
        self.time: int = self.live.time

    @property
    def fd(self) -> int:
        return self.live.fd

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.live.size + (self.history.size if self.history is not None else 0)

    def read(self, index: int) -> bytes | None:
        """The bytes of record `index`, None where it was dead."""
        data = self.live.read(index)
        if data is None and self.history is not None:
            data = self.history.read(index)
        return data

    def close(self) -> None:
        """Give the descriptors back."""
        self.live.close()
        if self.history is not None:
            self.history.close()

    def reopen(self) -> None:
        """Open the files again for reading."""
        if self.history is not None:
            self.history.reopen()  # first: `fd`, which says whether it is open, is the other's
        self.live.reopen()


def _to_bytes(column: "array[int]") -> bytes:
    if sys.byteorder != "little":
        column = column[:]
        column.byteswap()
    return column.tobytes()


def _from_bytes(code: str, data: bytes) -> "array[int]":
    column = array(code, data)
    if sys.byteorder != "little":
        column.byteswap()
    return column
