"""A base: the records that compaction kept of one or more segments, each under its own index, with gaps between them.

A base is two files of the same layout: `*.base` holds the live records, which recovery reads; `*.hist` holds the records that are only
history, which are read on demand. Layout (docs/log-format.md, "Base"), little-endian:

    0   header: magic, random id, first and last index of the range, time of its last batch, crc; zeros to 64
    64  blocks (flo.ual.block)
        footer: for each block: u64 offset, u64 its first index, u64 bytes of the part that a start reads
        index of the keys (flo.ual.keyindex): a u64 word for each value, a u32 check for each, u32 modulus, u32 crc of all these; a file of
            history has no words and checks
        trailer: magic "FLOT", u32 blocks, u64 records, u64 offset of the footer, the random id again, u32 crc of the footer and of all
                 this

A file that a manifest names is whole: it is synced before, and never written again.
"""

import os
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple
from zlib import crc32

from flo.errors import RESTORE, LogDamaged
from flo.ual.block import (
    BLOCK_HEADER_BYTES,
    COLUMN_BYTES,
    PIECE_HEAD_BYTES,
    Block,
    Builder,
    Head,
    read_head,
    take_row,
    value_row,
)
from flo.ual.columns import from_bytes, to_bytes
from flo.ual.files import Files
from flo.ual.keyindex import CHECK_BYTES, CRC, MODULUS_BITS, PLACE_MASK, WORD_BYTES, KeyIndexWriter, check_of, draw_modulus, seed_of
from flo.ual.manifest import ID_BYTES, ManifestEntry, check_id
from flo.ual.record import U32, U64
from flo.ual.uniform_spans import UniformSpan

MAGIC = b"FLOBASE5"
MAGIC_4 = b"FLOBASE4"  # the same without a modulus in the index: its hashes are CRCs
MAGIC_3 = b"FLOBASE3"  # without the checks in the index, too
MAGIC_2 = b"FLOBASE2"  # without an index and its crc
SUFFIX, HISTORY_SUFFIX = ".base", ".hist"
_HEADER = struct.Struct("<8s16sQQQ")
HEADER_BYTES = 64
FOOTER_MAGIC = b"FLOT"
_TRAILER = struct.Struct("<4sIQQ16s")
TRAILER_BYTES = _TRAILER.size + U32.size
ENTRY_BYTES = 24  # of a block in the footer
SYNC_BYTES = 1 << 20  # a large sync would delay the syncs of the log
READ_BYTES = 1 << 10  # most records are smaller, so most reads are one system call
READ_AHEAD_BYTES = 64 << 10  # read when neighbours are read one after the other
KEPT_BYTES_MAX = 1 << 20  # a checked block up to this size is kept for the next read: a larger block has a larger value in it
LOAD_BYTES = 1 << 20  # of neighbouring blocks read at once


def file_name(first: int, last: int, token: str, history: bool) -> str:
    """The name of a base's file. The random `token` makes it different from an earlier base of the same range, and from one that the
    compacting process of a dead server may still be writing."""
    return f"{first:020d}-{last:020d}-{token}{HISTORY_SUFFIX if history else SUFFIX}"


def modulus_in(files: Files, directory: str) -> int:
    """The modulus for the next base in a directory: that of the bases there, or else a new one."""
    for name in sorted(files.names(directory), reverse=True):
        if name.endswith(SUFFIX):
            fd = files.open(os.path.join(directory, name))
            try:
                end = files.size(fd) - TRAILER_BYTES
                found = files.pread(fd, len(MAGIC), 0), files.pread(fd, U32.size, max(end - 2 * U32.size, 0))
            finally:
                files.close(fd)
            if found[0] == MAGIC and len(found[1]) == U32.size:
                modulus: int = U32.unpack(found[1])[0]
                if modulus >> MODULUS_BITS - 1 == 1:
                    return modulus
    return draw_modulus()


def read_loosely(data: bytes, first: int, last: int, expected: str) -> tuple[int, int, int | None, int]:
    """(time of the last batch, seed of the blocks' checksums, number of records, highest possible end of the blocks) of a damaged file.

    The time is 0 if the header's checksum fails, the number of records None if the trailer's does. The end is 0 if the header is intact and
    has another range than `first` to `last`, or another id than `expected`. The seed is made of the id, which header and trailer both have.
    """
    time, identity, records, end = 0, b"", None, len(data)
    said_first, said_last = first, last
    if len(data) >= HEADER_BYTES:
        _, identity, said_first, said_last, time = _HEADER.unpack_from(data)
    intact = len(data) >= HEADER_BYTES and U32.unpack_from(data, _HEADER.size)[0] == crc32(data[: _HEADER.size])
    if intact and ((said_first, said_last) != (first, last) or (expected and identity[:ID_BYTES].hex() != expected)):
        return 0, 0, None, 0
    trailer = data[-TRAILER_BYTES:]
    if len(trailer) == TRAILER_BYTES and trailer[:4] == FOOTER_MAGIC:
        _, blocks, count, at, again = _TRAILER.unpack_from(trailer)
        footer = data[at : at + blocks * ENTRY_BYTES]
        if U32.unpack_from(trailer, _TRAILER.size)[0] == crc32(trailer[: _TRAILER.size], crc32(footer)):
            records, end, identity = count, at, identity if intact else again
    return (time if intact else 0), crc32(identity), records, end


class BaseWriter:
    """Writes one file of a base, record by record in order of index."""

    def __init__(self, files: Files, path: str, first: int, last: int, time: int, modulus: int, history: bool = False) -> None:
        """Begin a new file at `path` for the indexes `first` to `last`, for live records or, with `history`, for those that are only
        history. `modulus` is the directory's, by `modulus_in`. Raises `OSError`."""
        self.files = files
        self._modulus = modulus
        self._keys = None if history else KeyIndexWriter()
        self.path = path
        self.records: int = 0
        self.size: int = HEADER_BYTES
        self._blocks = array("Q")  # three numbers a block, as in the footer
        self._builder = Builder()
        self._unsynced = 0
        self._identity = identity = os.urandom(16)
        self.id: str = identity[:ID_BYTES].hex()
        self._seed = crc32(identity)
        self.fd: int = files.create(path)
        head = _HEADER.pack(MAGIC, identity, first, last, time)
        try:
            files.pwrite(self.fd, [(head + U32.pack(crc32(head))).ljust(HEADER_BYTES, b"\0")], 0)
        except OSError:
            self.discard()
            raise

    def add(self, index: int, data: bytes, current: bool = False) -> None:
        """Add the next record; `current` if it is live and no record leans on it."""
        self._builder.add(index, data, current)
        if self._builder.full:
            self._flush()

    def add_span(self, span: UniformSpan) -> None:
        """Add the next records, all of them current."""
        while span.records:
            done = self._builder.add_span(span)
            if not done:
                for index, data in enumerate(span.cut(0, span.length), span.first):
                    self.add(index, data, current=True)
                return
            if self._builder.full:
                self._flush()
            span = span.part(done, span.records - done)

    def _flush(self) -> None:
        if not self._builder.count:
            return
        self.records += self._builder.count
        first, loaded, rest, words = self._builder.build(self._seed, self._modulus)
        if self._keys is not None:
            assert self.size + len(loaded) <= PLACE_MASK, "no base is a terabyte"
            self._keys.add([(self.size + word, check) for word, check in words])
        self._blocks.extend((self.size, first, len(loaded)))
        self._write([loaded, rest])

    def _write(self, pieces: list[bytes]) -> None:
        self.files.pwrite(self.fd, pieces, self.size)
        size = sum(map(len, pieces))
        self.size += size
        self._unsynced += size
        if self._unsynced >= SYNC_BYTES:
            self.files.sync(self.fd)
            self._unsynced = 0

    def finish(self) -> None:
        """Write the footer and sync: the file is whole then. Its name is not durable yet."""
        self._flush()
        footer = to_bytes(self._blocks)
        trailer = _TRAILER.pack(FOOTER_MAGIC, len(self._blocks) // 3, self.records, self.size, self._identity)
        index = b"".join(map(to_bytes, self._keys.columns())) if self._keys is not None else b""
        index += U32.pack(self._modulus)
        self._write([footer, index, U32.pack(crc32(index)), trailer + U32.pack(crc32(trailer, crc32(footer)))])
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


class _Page(NamedTuple):
    """A block whose checksum was verified, and the places of its records."""

    number: int  # of the block
    at: int  # offset of the block in the file
    head: Head
    data: bytes  # the part that a start reads
    indexes: "array[int]"
    places: "array[int]"


class BaseFile:
    """One file of a base, open for reading."""

    time: int  # of its newest batch, ms
    records: int
    footer_at: int  # offset of the footer

    def __init__(self, files: Files, path: str, first: int, last: int, expected: str = "") -> None:
        """Open it. Raises `LogDamaged` if its header or footer is damaged, or has another range or another id than `expected`."""
        self.files = files
        self.path = path
        self._page: _Page | None = None
        self._ahead, self._ahead_at = b"", 0  # bytes read ahead, and their offset
        self._read_end = 0  # the end of the last record that was read
        try:
            self.fd: int = files.open(path)
        except FileNotFoundError:
            raise LogDamaged(f"{path} is missing, though the manifest lists it. {RESTORE}") from None
        try:
            self._read_ends(first, last)
            self.id: str = check_id(path, expected, self._identity)
        except BaseException:
            files.close(self.fd)
            raise

    def _read_ends(self, first: int, last: int) -> None:
        files, size = self.files, self.files.size(self.fd)
        head = files.pread(self.fd, HEADER_BYTES, 0)
        length = _HEADER.size
        if (
            len(head) < HEADER_BYTES
            or head[:8] not in (MAGIC, MAGIC_4, MAGIC_3, MAGIC_2)
            or U32.unpack_from(head, length)[0] != crc32(head[:length])
        ):
            raise LogDamaged(f"{self.path} is damaged at byte 0: its header does not hold. {RESTORE}")
        _, identity, said_first, said_last, self.time = _HEADER.unpack_from(head)
        self._identity = identity
        self.has_index: bool = head[:8] != MAGIC_2
        self._word_bytes = WORD_BYTES + CHECK_BYTES if head[:8] in (MAGIC, MAGIC_4) else WORD_BYTES
        self._index_end = 2 * U32.size if head[:8] == MAGIC else U32.size if self.has_index else 0  # the bytes behind words and checks
        self.last = last
        if (said_first, said_last) != (first, last):
            raise LogDamaged(f"{self.path} says it holds {said_first} to {said_last}, the manifest says {first} to {last}.")
        self.seed: int = crc32(identity)
        trailer = files.pread(self.fd, TRAILER_BYTES, max(size - TRAILER_BYTES, 0))
        sentence = f"{self.path} is damaged at byte {size}: its footer does not hold. {RESTORE}"
        if len(trailer) < TRAILER_BYTES or trailer[:4] != FOOTER_MAGIC:
            raise LogDamaged(sentence)
        _, blocks, self.records, self.footer_at, again = _TRAILER.unpack_from(trailer)
        self._keys_at = self.footer_at + blocks * ENTRY_BYTES
        self._keys_bytes = size - TRAILER_BYTES - self._keys_at - self._index_end
        if again != identity or self._keys_bytes < 0 or self._keys_bytes % (self._word_bytes if self.has_index else size):
            raise LogDamaged(sentence)
        footer = files.pread(self.fd, blocks * ENTRY_BYTES, self.footer_at)
        if U32.unpack_from(trailer, _TRAILER.size)[0] != crc32(trailer[: _TRAILER.size], crc32(footer)):
            raise LogDamaged(sentence)
        table = from_bytes("Q", footer)
        self._offsets, self._firsts, self._loaded = table[0::3], table[1::3], table[2::3]
        self.size = size

    def keys(self) -> "tuple[array[int], array[int], int]":
        """(the words of all values, their checks, the modulus) of the index; no checks if an earlier version wrote the file. Raises
        `LogDamaged`."""
        size = self._keys_bytes + self._index_end
        data = self.files.pread(self.fd, size, self._keys_at)
        if not self.has_index or len(data) != size or crc32(data[: -U32.size]) != U32.unpack(data[-U32.size :])[0]:
            raise LogDamaged(f"{self.path} is damaged at byte {self._keys_at}: its index does not hold. {RESTORE}")
        words = WORD_BYTES * self.value_count
        modulus = U32.unpack_from(data, self._keys_bytes)[0] if self._index_end > U32.size else CRC
        return from_bytes("Q", data[:words]), from_bytes("I", data[words : self._keys_bytes]), modulus

    def check_keys(self, has_any: bool) -> None:
        """Raise `LogDamaged` unless the index lists exactly the values of the file, or none if not `has_any`."""
        if self.has_index:
            words, checks, modulus = self.keys()
            found = sorted(word for block in self.blocks() for word in block.words(modulus)) if has_any else []
            if list(words) != [word for word, _ in found] or (checks and list(checks) != [check for _, check in found]):
                raise LogDamaged(f"{self.path} is damaged at byte {self._keys_at}: its index is not of its keys.")

    @property
    def value_count(self) -> int:
        """The number of values in the index."""
        return int(self._keys_bytes) // self._word_bytes

    def value_namespaces(self) -> set[int]:
        """The numbers of the namespaces that have values. Raises `LogDamaged`."""
        heads = (read_head(self.files.pread(self.fd, BLOCK_HEADER_BYTES, at), self.path, at) for at in self._offsets)
        return {head.namespace for head in heads if head.values}

    def entry_at(self, place: int, check: int | None, namespace: int, key: bytes) -> bytes | None:
        """The entry of the value whose key's piece is at offset `place` of the file; None if it is of another key or namespace. It is
        verified by `check`; without one, by the checksum of the whole block. Raises `LogDamaged`."""
        if check is not None:
            data = self.files.pread(self.fd, 2 * PIECE_HEAD_BYTES + len(key) + READ_BYTES, place)
            found = self._pieces_at(data, place)
            if found is not None and check_of(seed_of(namespace), *found) == check:
                return found[1] if found[0] == key else None
        # another namespace's value, or damage: the block's checksum tells which
        page = self._page_of(bisect_right(self._offsets, place) - 1)
        found = self._pieces_at(page.data[place - page.at :], place)
        return found[1] if found is not None and found[0] == key and page.head.namespace == namespace else None

    def _pieces_at(self, data: bytes, place: int) -> tuple[bytes, bytes] | None:
        """(key, entry) of the two pieces at offset `place` of the file; `data` is their beginning. None if they are impossible."""
        middle = PIECE_HEAD_BYTES + U32.unpack_from(data, 1)[0] if len(data) >= PIECE_HEAD_BYTES else len(data)
        if middle + PIECE_HEAD_BYTES > len(data):
            return None
        end = middle + PIECE_HEAD_BYTES + int(U32.unpack_from(data, middle + 1)[0])
        if end > len(data):
            if place + end > self.footer_at:
                return None
            data += self.files.pread(self.fd, end - len(data), place + len(data))
        return data[PIECE_HEAD_BYTES:middle], data[middle + PIECE_HEAD_BYTES : end]

    def __len__(self) -> int:
        """The number of blocks."""
        return len(self._offsets)

    def _end_of(self, number: int) -> int:
        return self._offsets[number + 1] if number + 1 < len(self._offsets) else self.footer_at

    def blocks(self, passed_over: Callable[[Exception], None] | None = None) -> Iterator[Block]:
        """Every block, each without the part that a start does not read. Raises `LogDamaged` or `OSError`; with `passed_over`, calls that
        instead for each damage and goes on behind it."""
        number = 0
        while number < len(self):
            start = self._offsets[number]
            last = number  # of the blocks read at once: up to LOAD_BYTES, with nothing between them
            while (
                last + 1 < len(self)
                and self._offsets[last] + self._loaded[last] == self._offsets[last + 1]
                and self._offsets[last + 1] + self._loaded[last + 1] - start <= LOAD_BYTES
            ):
                last += 1
            try:
                data = self.files.pread(self.fd, self._offsets[last] + self._loaded[last] - start, start)
            except OSError as e:
                if passed_over is None:
                    raise
                passed_over(e)
                number = last + 1
                continue
            for each in range(number, last + 1):
                at = self._offsets[each] - start
                try:
                    block = Block(data[at : at + self._loaded[each]], self.seed, self.path, start + at)
                except LogDamaged as e:
                    if passed_over is None:
                        raise
                    passed_over(e)
                    continue
                yield block
            number = last + 1

    def rows(self, number: int) -> list[tuple[int, bytes]]:
        """(index, bytes) of every record of a block, in order, everything verified. Raises `LogDamaged`."""
        at, loaded = self._offsets[number], self._loaded[number]
        data = self.files.pread(self.fd, self._end_of(number) - at, at)
        read = Block(data[:loaded], self.seed, self.path, at)
        if len(data) != loaded + read.head.grouped_bytes:
            raise LogDamaged(f"{self.path} is damaged at byte {at}: a block is cut short. {RESTORE}")
        return list(read.rows(data[loaded:]))

    def read(self, index: int) -> bytes | None:
        """The bytes of record `index`; None if it is not in the file."""
        number = bisect_right(self._firsts, index) - 1
        if number < 0:
            return None
        page = self._page_of(number)
        at = bisect_left(page.indexes, index)
        if at == len(page.indexes) or page.indexes[at] != index:
            return None
        place = page.places[at]
        if place < page.head.others_at:
            return self._read_value(page, index, at, place)
        if place < page.head.end:
            return page.data[place : place + U32.unpack_from(page.data, place)[0]]
        return take_row(self.path, index, self._read_ahead(page.at + place), 0)

    def _read_value(self, page: _Page, index: int, at: int, place: int) -> bytes:
        data, head = page.data, page.head
        number = sum(1 for other in page.places[:at] if other < head.others_at)
        columns = BLOCK_HEADER_BYTES + COLUMN_BYTES * len(page.indexes)
        time = U64.unpack_from(data, columns + 8 * number)[0]
        prev = U64.unpack_from(data, columns + 8 * (head.values + number))[0]
        start = place + PIECE_HEAD_BYTES
        end = start + U32.unpack_from(data, place + 1)[0]
        entry = end + PIECE_HEAD_BYTES
        size = U32.unpack_from(data, end + 1)[0]
        return value_row(data[start:end], data[entry : entry + size], head.namespace, time, prev)

    def _read_ahead(self, start: int) -> bytes:
        """The record whose checksum is at offset `start`, with the checksum in front."""
        at = start - self._ahead_at
        have = len(self._ahead) - at
        head = 2 * U32.size
        if at < 0 or have < head or have < U32.size + U32.unpack_from(self._ahead, at + U32.size)[0]:
            size = READ_AHEAD_BYTES if start == self._read_end else READ_BYTES
            data = self.files.pread(self.fd, size, start)
            if len(data) < head:
                raise LogDamaged(f"{self.path} is damaged at byte {start}: it ends there. {RESTORE}")
            length = U32.size + int(U32.unpack_from(data, U32.size)[0])
            if length > len(data):
                if length > self.size:
                    raise LogDamaged(f"{self.path} is damaged at byte {start}: a record of {length} bytes cannot be there.")
                data += self.files.pread(self.fd, length - len(data), start + len(data))
            self._ahead, self._ahead_at, at = data, start, 0
        end = at + U32.size + int(U32.unpack_from(self._ahead, at + U32.size)[0])
        self._read_end = self._ahead_at + end
        return self._ahead[at:end]

    def _page_of(self, number: int) -> _Page:
        """A block, read and verified; the last one is kept. Raises `LogDamaged`."""
        page = self._page
        if page is None or number != page.number:
            at = self._offsets[number]
            block = Block(self.files.pread(self.fd, self._loaded[number], at), self.seed, self.path, at)
            page = _Page(number, at, block.head, block.data, block.indexes(), block.places())
            self._page = page if len(block.data) <= KEPT_BYTES_MAX else None
        return page

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd >= 0:
            self.files.close(self.fd)
            self.fd, self._page, self._ahead = -1, None, b""

    def reopen(self) -> None:
        """Open the file again for reading."""
        if self.fd < 0:
            self.fd = self.files.open(self.path)


class Base:
    """A compacted range of the log. It has the methods of `Segment` that a log needs of a sealed file."""

    def __init__(self, files: Files, directory: str, entry: ManifestEntry) -> None:
        """Open both files. Raises `LogDamaged`, `OSError`."""
        file, first, last, history, file_id, history_id = entry
        self.files = files
        self.path: str = os.path.join(directory, file)
        self.first = first
        self.last = last
        self.live: BaseFile = BaseFile(files, self.path, first, last, file_id)
        self.history: BaseFile | None = None
        if history:
            try:
                self.history = BaseFile(files, os.path.join(directory, history), first, last, history_id)
            except BaseException:
                self.live.close()
                raise
        if self.history is not None and self.history.has_index and self.history.value_count:
            self.close()
            raise LogDamaged(f"{self.history.path} is no file of history: it has an index of keys. {RESTORE}")
        self.time: int = self.live.time
        self.entry: ManifestEntry = entry._replace(id=self.live.id, history_id=self.history.id if self.history is not None else "")

    @property
    def fd(self) -> int:
        return self.live.fd

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.live.size + (self.history.size if self.history is not None else 0)

    def read(self, index: int) -> bytes | None:
        """The bytes of record `index`; None if it was dead."""
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
            self.history.reopen()  # first: `fd` tells whether the base is open, and it is that of the live file
        self.live.reopen()
