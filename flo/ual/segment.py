"""A segment: one file of the log, from its header to its footer. Reads its records by index.

Layout (docs/log-format.md, "Segment"):

    0     header: magic, random id, first index, capacity, crc; zeros to 4096
    4096  batches
          open: zeros to the capacity          sealed: the footer, and the file ends
    footer: u32 offset of each record (its highest bit: the record is the first of its batch), then a trailer: magic "FLOF", u32 count,
            u32 last batch's crc, u64 end of batches, u32 crc of the offsets and the trailer's first 20 bytes

A record is read with its batch, whose checksum is verified before the record is served. The verified bytes are kept for the next read.
"""

import os
import struct
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple
from zlib import crc32

from flo.errors import RESTORE, LogDamaged
from flo.ual import batch
from flo.ual.batch import BATCH_BYTES, BatchHeader
from flo.ual.files import ZEROS, Files
from flo.ual.manifest import ID_BYTES, ManifestEntry, check_id
from flo.ual.record import U32

HEADER_MAGIC = b"FLOSEG1\0"
_HEADER = struct.Struct("<8s16sQQ")
HEADER_BYTES = 4096  # a page of its own, so that no batch ever rewrites a sector of it
FOOTER_MAGIC = b"FLOF"
_TRAILER = struct.Struct("<4sIIQ")
TRAILER_BYTES = _TRAILER.size + U32.size
assert TRAILER_BYTES == 24
OFFSET_BYTES = 4
FIRST_OF_BATCH = 1 << 31  # in an offset; footers of earlier versions lack it, so a start makes them again
PLACE_MASK = FIRST_OF_BATCH - 1
CAPACITY_MAX = FIRST_OF_BATCH  # offsets are the other 31 bits
SCAN_BYTES = 256 << 10  # read at a time by a start: it stays in the cache until it is used
CHECK_BYTES = 4 << 10  # read first of a batch: most records that clients write singly are smaller, so most reads are one system call
CHECK_AHEAD_BYTES = 32 << 10  # read when neighbours are read one after the other
AHEAD_BATCHES = 128  # verified at most then: 0.5 us each if they are small
READERS = 7  # of one file that read at different places without checking each other's batches anew: at most READER_BYTES each
READER_BYTES = 2 * BATCH_BYTES
KEPT_BYTES_MAX = 1 << 20  # verified bytes up to this are kept for the next read: more is one large record, or an earlier version's batch
PAGE_OFFSETS = 1024  # of a sealed segment's footer, kept in memory: neighbours are read one after the other
_IS_FIRST = bytes(128) + b"\1" * 128  # by an offset's highest byte
_HIGHEST = slice(3, None, 4) if sys.byteorder == "little" else slice(0, None, 4)


def file_name(first: int) -> str:
    """The file name of the segment that starts at index `first`."""
    return f"{first:020d}.seg"


def pack_header(identity: bytes, first: int, capacity: int) -> bytes:
    """The header page of a segment with the random 16-byte `identity`."""
    head = _HEADER.pack(HEADER_MAGIC, identity, first, capacity)
    return (head + U32.pack(crc32(head))).ljust(HEADER_BYTES, b"\0")


class Tail(NamedTuple):
    """How far the batches of a segment continue the log."""

    end: int  # file offset behind the last batch
    last: int  # index of the last record, first - 1 if there is none
    crc: int  # of the last batch, or the seed
    time: int  # of the last batch, 0 if there is none


class Segment:
    """One segment file, open or sealed.

    `offsets` holds the file offset of every record while the segment is open. Those of a sealed segment are read from its footer, and
    `offsets` is None.
    """

    def __init__(self, files: Files, path: str, fd: int, identity: bytes, first: int, capacity: int) -> None:
        self.files = files
        self.path = path
        self.first = first
        self.capacity = capacity
        self.identity = identity
        self.seed: int = crc32(identity)
        self.offsets: array[int] | None = array("I")
        self.tail: int = HEADER_BYTES
        self.crc: int = self.seed
        self.last: int = first - 1
        self.unclaimed_from: int = HEADER_BYTES  # after a scan: no batch says that the bytes from here on are on disk
        self._fd = fd
        self._footer_at = 0
        self._page: array[int] = array("I")  # of a sealed segment: the offsets that were read last
        self._page_first = -1  # the number of the first of them
        self._page_crcs: array[int] = array("I")  # of a sealed segment: for each page of offsets, from when the whole footer was verified
        self._checked = b""  # neighbouring whole batches whose checksums were verified
        self._checked_at = 0  # their offset
        self._checked_before: list[tuple[bytes, int]] = []  # the same, of earlier reads: readers at several places take turns

    @classmethod
    def create(cls, files: Files, directory: str, identity: bytes, first: int, capacity: int) -> "Segment":
        """Make a new segment, with its header and zeros, and sync it. The manifest does not list it yet."""
        path = os.path.join(directory, file_name(first))
        fd = files.create(path)
        try:
            files.reserve(fd, capacity)
            for start in range(HEADER_BYTES, capacity, len(ZEROS)):
                files.pwrite(fd, [ZEROS[: capacity - start]], start)
            return cls.begin(files, path, fd, identity, first, capacity)
        except BaseException:
            files.close(fd)
            raise

    @classmethod
    def begin(cls, files: Files, path: str, fd: int, identity: bytes, first: int, capacity: int) -> "Segment":
        """Write and sync the header into the reserved file open as `fd`."""
        files.pwrite(fd, [pack_header(identity, first, capacity)], 0)
        files.sync(fd)
        return cls(files, path, fd, identity, first, capacity)

    @classmethod
    def load(cls, files: Files, path: str, first: int, writable: bool, expected: str = "") -> "Segment":
        """Open an existing segment. Raises `LogDamaged` if its header is damaged, or has another first index or another id than
        `expected`."""
        try:
            fd = files.open(path, writable)
        except FileNotFoundError:
            raise LogDamaged(f"{path} is missing, though the manifest lists it. {RESTORE}") from None
        try:
            found = cls.attach(files, path, fd, first)
            check_id(path, expected, found.identity)
            return found
        except BaseException:
            files.close(fd)
            raise

    @classmethod
    def attach(cls, files: Files, path: str, fd: int, first: int) -> "Segment":
        """The segment in the file that is open as `fd`. Raises `LogDamaged` as `load` does."""
        head = files.pread(fd, HEADER_BYTES, 0)
        size = _HEADER.size
        if len(head) < size + 4 or head[:8] != HEADER_MAGIC or U32.unpack_from(head, size)[0] != crc32(head[:size]):
            raise LogDamaged(f"{path} is damaged at byte 0: its header does not hold. {RESTORE}")
        _, identity, said, capacity = _HEADER.unpack_from(head)
        if said != first:
            raise LogDamaged(f"{path} says it starts at index {said}, the manifest says {first}.")
        return cls(files, path, fd, identity, first, capacity)

    @property
    def fd(self) -> int:
        return self._fd

    @property
    def entry(self) -> ManifestEntry:
        """Its entry in a manifest."""
        return ManifestEntry(os.path.basename(self.path), self.first, id=self.identity[:ID_BYTES].hex())

    @property
    def size(self) -> int:
        """The bytes that it would take if it were sealed now."""
        return self.tail + OFFSET_BYTES * (self.last + 1 - self.first) + TRAILER_BYTES

    @property
    def room(self) -> int:
        """The bytes that batches may still take: the capacity less the footer to come."""
        assert self.offsets is not None
        return self.capacity - self.tail - OFFSET_BYTES * len(self.offsets) - TRAILER_BYTES

    def reopen(self) -> None:
        """Open a sealed segment's file again for reading."""
        self._fd = self.files.open(self.path)

    def close(self) -> None:
        if self._fd >= 0:
            self.files.close(self._fd)
            self._fd = -1
            self._page, self._page_first, self._checked = array("I"), -1, b""
            self._checked_before.clear()

    # -- scanning ----------------------------------------------------------------------------------

    def batches(self) -> Iterator[tuple[BatchHeader, int, bytes]]:
        """The batches that continue the log from the start, in whole groups: (header, file offset of the records, the records)."""
        at, crc, expected, time = HEADER_BYTES, self.seed, self.first, 0
        window, start = b"", 0  # bytes read ahead, and their offset: without them, batches of one record would be two reads each
        group: list[tuple[BatchHeader, int, bytes]] = []  # the beginning of a group that is not known to be whole

        def piece(offset: int, size: int) -> bytes:
            nonlocal window, start
            if offset + size > start + len(window):
                window, start = self.files.pread(self._fd, max(size, SCAN_BYTES), offset), offset
            return window[offset - start : offset - start + size]

        while True:
            header = batch.read_header(piece(at, batch.HEADER_BYTES), self.seed)
            if header is None or header.prev_crc != crc or header.first != expected or header.time < time:
                return
            body = piece(at + batch.HEADER_BYTES, header.length)
            if not batch.body_is_intact(header, body):
                return
            found = header, at + batch.HEADER_BYTES, body
            at += batch.HEADER_BYTES + header.length
            crc, expected, time = header.crc, header.last + 1, header.time
            if header.more:
                group.append(found)
                continue
            yield from group
            group.clear()
            yield found

    def scan(self, take: Callable[[int, int, bytes, int, "array[int]"], None]) -> Tail:
        """Call `take(first index, count, records, their offset, offsets)` for every batch; `take` appends the offset of each record to
        `offsets`. Returns the tail."""
        offsets = self.offsets = array("I")
        tail = Tail(HEADER_BYTES, self.first - 1, self.seed, 0)
        unclaimed: deque[tuple[int, int]] = deque()  # (last index, offset) of batches that no later one claims to be durable
        for header, base, body in self.batches():
            while unclaimed and unclaimed[0][0] <= header.durable:
                unclaimed.popleft()
            unclaimed.append((header.last, base - batch.HEADER_BYTES))
            place = len(offsets)
            try:
                take(header.first, header.records, body, base, offsets)
            except LogDamaged as e:
                raise LogDamaged(f"{self.path} is damaged at byte {base}: {e}") from None
            if len(offsets) > place:
                offsets[place] |= FIRST_OF_BATCH
            tail = Tail(base + header.length, header.last, header.crc, header.time)
        self.tail, self.last, self.crc = tail.end, tail.last, tail.crc
        self.unclaimed_from = unclaimed[0][1] if unclaimed else tail.end
        return tail

    def measure(self) -> Tail:
        """Find the end of the batches, without a look at single records."""
        tail = Tail(HEADER_BYTES, self.first - 1, self.seed, 0)
        for header, at, _ in self.batches():
            tail = Tail(at + header.length, header.last, header.crc, header.time)
        self.tail, self.last, self.crc = tail.end, tail.last, tail.crc
        return tail

    def has_footer(self) -> bool:
        """Whether the file ends with a footer of these batches: it is sealed then. The end of the batches must be known."""
        column = OFFSET_BYTES * (self.last + 1 - self.first)
        if self.files.size(self._fd) != self.tail + column + TRAILER_BYTES:
            return False
        footer = self.files.pread(self._fd, column + TRAILER_BYTES, self.tail)
        trailer = _TRAILER.pack(FOOTER_MAGIC, self.last + 1 - self.first, self.crc, self.tail)
        return footer[column:] == trailer + U32.pack(crc32(trailer, crc32(footer[:column])))

    def find_beyond(self, start: int) -> tuple[int, int]:
        """(the highest durable index that a valid batch at or after `start` claims, the end of the last non-zero byte there; `start` if all
        are zero)."""
        size = self.files.size(self._fd)
        claimed, dirty_end, at = 0, start, start
        while at < size:
            window = self.files.pread(self._fd, len(ZEROS), at)
            if not window:
                break
            filled = len(window.rstrip(b"\0")) if window != ZEROS[: len(window)] else 0  # rstrip takes 3 ms a MiB, this comparison 0.1
            if filled:
                dirty_end = at + filled
            hit = window.find(batch.MAGIC)
            while hit >= 0:
                head = self.files.pread(self._fd, batch.HEADER_BYTES, at + hit)
                header = batch.read_header(head, self.seed)
                if header is not None and header.durable > claimed:
                    body = self.files.pread(self._fd, header.length, at + hit + batch.HEADER_BYTES)
                    if batch.body_is_intact(header, body):
                        claimed = header.durable
                hit = window.find(batch.MAGIC, hit + 1)
            # a magic may straddle two windows
            at += len(window) if len(window) < len(ZEROS) else len(window) - len(batch.MAGIC) + 1
        return claimed, dirty_end

    # -- sealing -----------------------------------------------------------------------------------

    def _footer(self) -> bytes:
        """The footer for the batches that were scanned or written."""
        assert self.offsets is not None
        column = _little_endian(self.offsets).tobytes()
        trailer = _TRAILER.pack(FOOTER_MAGIC, len(self.offsets), self.crc, self.tail)
        return column + trailer + U32.pack(crc32(trailer, crc32(column)))

    def seal(self) -> None:
        """Write the footer, drop the unused zeros, sync. The batches must be durable already."""
        footer = self._footer()
        self.files.pwrite(self._fd, [footer], self.tail)
        self.files.truncate(self._fd, self.tail + len(footer))
        self.files.sync(self._fd)
        self._use_footer(footer)

    def _use_footer(self, footer: bytes) -> None:
        """From now on read offsets from the file, which has this footer."""
        size = OFFSET_BYTES * PAGE_OFFSETS
        column = memoryview(footer)[: len(footer) - TRAILER_BYTES]
        self._page_crcs = array("I", [crc32(column[at : at + size]) for at in range(0, len(column), size)])
        self._footer_at, self.offsets = self.tail, None

    def footer_is_intact(self) -> bool:
        """Whether the footer on disk is that of the scanned batches; if so, it is used from now on."""
        footer = self._footer()
        intact = self.files.size(self._fd) == self.tail + len(footer) and self.files.pread(self._fd, len(footer), self.tail) == footer
        if intact:
            self._use_footer(footer)
        return intact

    # -- reading -----------------------------------------------------------------------------------

    def _read_page(self, first: int) -> None:
        """Read the page of offsets that begins with number `first`."""
        size = OFFSET_BYTES * min(PAGE_OFFSETS, self.last + 1 - self.first - first)
        data = self.files.pread(self._fd, size, self._footer_at + OFFSET_BYTES * first)
        if len(data) != size or crc32(data) != self._page_crcs[first // PAGE_OFFSETS]:
            raise LogDamaged(f"{self.path} is damaged at byte {self._footer_at + OFFSET_BYTES * first}: its footer does not hold.")
        self._page, self._page_first = _little_endian(array("I", data)), first

    def _place_of(self, index: int) -> tuple["array[int]", int]:
        """(offsets of neighbouring records, the place of this record's offset in them)."""
        assert self.first <= index <= self.last, f"index {index} is not in {self.path}"
        offsets, place = self.offsets, index - self.first
        if offsets is None:
            first = place - place % PAGE_OFFSETS
            if first != self._page_first:
                self._read_page(first)
            offsets, place = self._page, place - first
        return offsets, place

    def _batch_of(self, index: int) -> tuple[int, int]:
        """(index, file offset) of the first record of the batch with `index`."""
        while True:
            offsets, place = self._place_of(index)
            start = max(place + 1 - PAGE_OFFSETS, 0)
            found = offsets[start : place + 1].tobytes()[_HIGHEST].translate(_IS_FIRST).rfind(b"\1")
            if found >= 0:
                return index - place + start + found, offsets[start + found] & PLACE_MASK
            index -= place + 1 - start  # the batch begins before these
            if index < self.first:
                raise LogDamaged(f"{self.path}: its footer does not say where index {self.first} begins.")

    def _check(self, index: int) -> tuple[bytes, int]:
        """(intact neighbouring batches, one of which has record `index`; their file offset). Raises `LogDamaged`."""
        first, at = self._batch_of(index)
        at -= batch.HEADER_BYTES
        in_order = at == self._checked_at + len(self._checked)
        data = self.files.pread(self._fd, CHECK_AHEAD_BYTES if in_order else CHECK_BYTES, at)
        header = batch.read_header(data, self.seed)
        if header is None or header.first != first or not first <= index <= header.last:
            raise LogDamaged(f"{self.path} is damaged at byte {at}: the header of the batch with index {index} does not hold.")
        end = batch.HEADER_BYTES + header.length
        if end > len(data):
            data += self.files.pread(self._fd, end - len(data), at + len(data))
        if not batch.body_is_intact(header, memoryview(data)[batch.HEADER_BYTES : end]):
            raise LogDamaged(f"{self.path} is damaged at byte {at}: the checksum of the batch with index {index} does not hold.")
        if in_order:
            end = batch.whole_until(data, end, AHEAD_BATCHES)
        data = data[:end]
        if end <= KEPT_BYTES_MAX:
            if not in_order and len(self._checked) <= READER_BYTES:
                self._checked_before.append((self._checked, self._checked_at))
                del self._checked_before[:-READERS]
            self._checked, self._checked_at = data, at
        return data, at

    def _checked_with(self, place: int) -> tuple[bytes, int] | None:
        """(intact batches that an earlier read has checked, with the record at offset `place`; their offset)."""
        for at, (data, start) in enumerate(self._checked_before):
            if 0 <= place - start < len(data):
                if len(self._checked) <= READER_BYTES:
                    self._checked_before[at] = self._checked, self._checked_at
                else:
                    del self._checked_before[at]
                self._checked, self._checked_at = data, start
                return data, start
        return None

    def read(self, index: int) -> bytes:
        """The bytes of record `index`, which must lie in this segment. Raises `LogDamaged`."""
        offsets, place = self._place_of(index)
        place = offsets[place] & PLACE_MASK
        data, start = self._checked, self._checked_at
        if not 0 <= place - start < len(data):
            data, start = self._checked_with(place) or self._check(index)
        at = place - start
        return data[at : at + U32.unpack_from(data, at)[0]]


def _little_endian(offsets: "array[int]") -> "array[int]":
    if sys.byteorder == "little":
        return offsets
    swapped = offsets[:]
    swapped.byteswap()
    return swapped
