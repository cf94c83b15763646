"""The log: append records, commit them as one batch, read them back by index, roll from segment to segment.

Durability, from SPEC section 3:

    sync       commit returns when the batch is on disk
    async      commit returns when it is written; one helper thread syncs at least every 100 ms
    ephemeral  never synced; the directory is emptied at stop and start

`committed` says which replies may be sent: a reply computed at index N, once `committed >= N`. It is the durable index in `sync`, otherwise
the written one. For a log kept elsewhere it would be the acknowledged one.
"""

import errno
import os
import threading
import time as clock
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from flo.errors import Damaged, LogDamaged, LogFailed, NotFound, Overloaded
from flo.ual import batch, compaction_reserve, descriptors, manifest, next_segment, recovery
from flo.ual.base import Base
from flo.ual.batch import BATCH_BYTES
from flo.ual.compaction import Replacement, Source, remove_replaced, sources_of, tail_of
from flo.ual.directory import CREATING_NAME, FILE_ENDS, is_new, removable
from flo.ual.files import Files
from flo.ual.lock import DirectoryLock
from flo.ual.manifest import CleanEnd, ManifestEntry
from flo.ual.next_segment import NextSegment
from flo.ual.record import FAMILY_KV, FAMILY_MASK, TYPE_AT, Record, decode
from flo.ual.segment import CAPACITY_MAX, FIRST_OF_BATCH, HEADER_BYTES, OFFSET_BYTES, TRAILER_BYTES, Segment, file_name

SYNC, ASYNC, EPHEMERAL = "sync", "async", "ephemeral"
DURABILITIES = (SYNC, ASYNC, EPHEMERAL)
SEGMENT_BYTES = 64 << 20  # large enough that a roll (a few ms) is rare, small enough to compact one at a time
SMALL_SEGMENT_BYTES = 16 << 20  # smaller ones would roll several times a second under full load
RESERVED_SHARE = 16  # past the size above, a segment is at most a sixteenth of the log: two of them are reserved and may be empty, and
# just before a compaction the directory is to be at most three times the live records
FIRST_SEGMENT_BYTES = 4 << 20  # the first segment is written whole at the first start, which should not take a second
ASYNC_SYNC_SECONDS = 0.1  # SPEC: synced at least every 100 ms
# So long after the last batch an empty one says that it is on disk: damage to acknowledged records is then told from a torn tail
CLAIM_SECONDS = 1.0
SPARE_BYTES_MIN = 1 << 20  # on a nearly full disk
PLENTY_BYTES = 256 << 20  # with so much free, a compaction has no bound
MARGIN_BYTES = 256 << 10  # kept back from the room given to a compaction: for the next manifests, and rounding by the file system
RESERVE_RETRY_SECONDS = 0.25  # how often a full disk is asked again
# Batches of large values are dropped from the system's memory once they are on disk: the store has the values. Writing to pages just given
# back is cheaper than to new ones, two and a half times if a hypervisor must find those first
DROP_BYTES_MIN = 256 << 10  # the call itself costs tens of us
DROP_RECORD_BYTES_MIN = 4 << 10  # on average: with smaller records, the look at each costs as much as it saves
RECENT_BYTES = 1 << 20  # of records just written that are read back from memory: most messages are taken a moment after they came
RECENT_TURNS = 256  # they are of so many turns at most
PIECES_MAX = 900  # buffers of one write: IOV_MAX is 1,024
DAMAGED_TOLD_MAX = 1000  # unreadable records that the operator is told of: a whole file of them must not fill the operator's log
SEALED_OPEN_MAX = 128  # sealed files kept open; a base has two descriptors
EPHEMERAL_NAME = "EPHEMERAL"
MAY_PASS = recovery.FULL_DISK | descriptors.NONE_LEFT  # failures that are no failure of the log: writes wait until they are over


class Lack(NamedTuple):
    """What the next segment lacks, as parts of sentences about the directory `{}`."""

    sentence: str
    over: str
    remedy: str


NO_ROOM = Lack(
    "the disk that holds {} is full",
    "the disk that holds {} has room again",
    "until there is room; reads and deletions go on. Free some space, or delete data and run `flo compact {}`.",
)
NO_DESCRIPTOR = Lack(
    "no file descriptor is left for the log in {}",
    "there are file descriptors again for the log in {}",
    "until there is one; reads and deletions go on. Close connections, or raise the limit (ulimit -n, LimitNOFILE=).",
)


class Room(NamedTuple):
    """The bounds of a compaction if room on the disk is scarce: the bytes it may write before it removes something; whether history is
    kept."""

    bytes: int
    history: bool


class Log:
    """An open log. Not safe for several threads. A hot path may append to `pending` directly if it also advances `next_index` and
    `pending_bytes`."""

    files: Files
    written: int  # the last index that was written
    durable: int  # the last index that is on disk

    def __init__(
        self,
        directory: str,
        apply: recovery.Apply,
        *,
        loader: recovery.Loader | None = None,
        durability: str = SYNC,
        segment_bytes: int = SEGMENT_BYTES,
        files: Files | None = None,
        on_notice: Callable[[str], None] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Open or create the log in `directory`, and pass every record in it to `apply(index, record)`, or many at a time to `loader`.

        Raises `DirectoryInUse`, `LogDamaged`, `LogFailed` or `OSError`. `on_notice` is called with sentences about what recovery did,
        `on_progress` with (bytes read, bytes in all).
        """
        assert durability in DURABILITIES
        assert segment_bytes <= CAPACITY_MAX
        self.directory = directory
        self.durability = durability
        self.files = files = files or Files()
        self.pending: list[bytes] = []
        self.pending_bytes: int = 0
        # what `_remember` keeps: turns without a gap between their indexes, up to the last one written
        self._recent_firsts: list[int] = []
        self._recent: list[tuple[list[bytes], int]] = []  # (records, their bytes)
        self._recent_bytes = 0
        self.batches: int = 0
        self.bytes_written: int = 0
        self.syncs: int = 0
        self.damage_met: int = 0  # reads that failed because of damage
        self._damaged: set[str] = set()  # the damage that the operator was told of
        self._segment_bytes = segment_bytes
        self._notice = on_notice or (lambda _: None)
        self._spare: NextSegment | None = None
        self._room = compaction_reserve.CompactionReserve(files, directory)
        self._room_is_taken = False  # to a compaction
        self._lack: Lack | None = None  # why the next segment could not be reserved; the operator was told
        self._kept = -1  # a descriptor that `_free_descriptor` gives back
        self._reserve_at = 0.0
        self._syncer: _Syncer | None = None
        self.owes_claim: bool = False  # the last batch has records: CLAIM_SECONDS later an empty batch is to say that they are on disk
        self._written_at = 0.0  # when that batch was written, monotonic
        files.make_dir(directory)
        self._lock = DirectoryLock(files, directory)
        self._segments: list[Segment | Base] = []
        try:
            self._prepare_ephemeral()
            if is_new(files, directory):
                recovery.create(files, directory, min(segment_bytes, FIRST_SEGMENT_BYTES))
            found = recovery.recover(files, directory, loader or recovery.PlainLoader(apply), on_progress)
            self.identity: str = found.identity
            self.compacted_bytes: int = found.compacted
            self._segments = [*found.sealed, found.open]
            self._open = found.open
            self._sealed_open_max = descriptors.share(SEALED_OPEN_MAX)
            self._open_sealed = [item for item in found.sealed if item.fd >= 0]
            self._limit_descriptors()
            self._reserve_spare()
        except BaseException:
            self.abandon()
            raise
        if found.sentence:
            self._notice(found.sentence)
        self.time: int = found.time
        self.recovered_records: int = found.records
        self.next_index: int = self._open.last + 1
        self.written = self.durable = self._open.last
        if durability == ASYNC:
            self._syncer = _Syncer(files)

    # -- appending ---------------------------------------------------------------------------------

    @property
    def committed(self) -> int:
        """The index up to which replies may be sent."""
        return self.durable if self.durability == SYNC else self.written

    @property
    def may_be_replaced(self) -> bool:
        """Whether files may be replaced by compacted ones now: nothing appended waits to be written behind them."""
        return not self.pending

    @property
    def segments(self) -> int:
        """The number of segments and bases."""
        return len(self._segments)

    @property
    def accepts_adds(self) -> bool:
        """Whether writes that add are accepted: the next segment is reserved."""
        return self._spare is not None

    def admit(self, size: int, adds: bool) -> None:
        """Check that records of `size` bytes in all can be appended to the open batch.

        Raises `Overloaded` if the disk has no room: for a write that adds, as soon as the next segment cannot be reserved; for a write that
        frees (a deletion, an ack), when the rest of the open segment is used up too.
        """
        if self._spare is None and not self._reserve_spare() and adds:
            lack = self._lack or NO_ROOM
            raise Overloaded(f"{lack.sentence.format(self.directory)}: writes that add are refused {lack.remedy.format(self.directory)}")
        records, more = len(self.pending) + 1, size
        size += self.pending_bytes
        needed = batch.headers_bytes(size) + size + OFFSET_BYTES * records
        if needed <= self._open.room:
            return
        needed += HEADER_BYTES + TRAILER_BYTES + batch.HEADER_BYTES
        if self._spare is not None and needed <= self._spare.capacity:
            return
        if needed > CAPACITY_MAX or not self._reserve_spare(needed):
            sentence = (self._lack or NO_ROOM).sentence.format(self.directory)
            raise Overloaded(f"{sentence}: there is no place for {more} bytes more. Try again later.")

    def fits(self, size: int) -> bool:
        """Whether a record of `size` bytes fits the open segment and writes that add are accepted: `admit` would not raise."""
        size += self.pending_bytes
        needed = batch.headers_bytes(size) + size + OFFSET_BYTES * (len(self.pending) + 1)
        return self._spare is not None and needed <= self._open.room

    def holds(self, size: int) -> bool:
        """Whether `size` more bytes of records, with their places in the footer, fit the open segment or the next one. A caller that
        appends many records without `admit` for each asks this first."""
        if self._spare is None:
            return False
        size += self.pending_bytes
        needed = size + OFFSET_BYTES * len(self.pending) + HEADER_BYTES + TRAILER_BYTES + batch.HEADER_BYTES + batch.headers_bytes(size)
        return needed <= max(self._open.room, self._spare.capacity)

    def append(self, record: bytes) -> int:
        """Add one record to the open batch; returns its index. `admit` must have been called before."""
        self.pending.append(record)
        self.pending_bytes += len(record)
        index = self.next_index
        self.next_index = index + 1
        return index

    def commit(self, time: int) -> None:
        """Write the open batch, stamped with the engine's `time` (an empty batch only stamps), and make it as durable as the mode asks.
        Raises `LogFailed` if that fails: the process must end then, since memory is ahead of the disk."""
        records, self.pending, self.pending_bytes = self.pending, [], 0
        assert self.next_index == self.written + 1 + len(records), "every index is in exactly one batch"
        self._write(records, time)

    def _write(self, records: list[bytes], time: int) -> None:
        """Write the records behind the last written one as a batch. Raises `LogFailed`."""
        try:
            self._write_batch(records, time)
        except OSError as e:
            raise LogFailed(f"the log in {self.directory} could not be written: {e}") from e

    def _write_batch(self, records: list[bytes], time: int) -> None:
        segment = self._open
        count = len(records)
        length = sum(map(len, records))
        size = batch.HEADER_BYTES + length if length <= BATCH_BYTES else batch.headers_bytes(length) + length
        if size + OFFSET_BYTES * count > segment.room:
            if not records and self._spare is None:
                return  # a stamp may not take the space that deletions have on a full disk
            self._roll(size + OFFSET_BYTES * count)
            segment = self._open
        first = self.written + 1
        if length <= BATCH_BYTES:
            body = b"".join(records)
            header, crc = batch.pack_header([body], length, first, count, time, self.durable, segment.crc, segment.seed)
            self.files.pwrite(segment.fd, [header, body], segment.tail)
            offsets = segment.offsets
            assert offsets is not None
            place = len(offsets)
            offsets.extend(accumulate(map(len, records), initial=segment.tail + batch.HEADER_BYTES))
            offsets.pop()  # accumulate also gives the offset of the next record
            if count:
                offsets[place] |= FIRST_OF_BATCH
        else:
            size, crc = self._write_group(records, first, time)
        segment.tail += size
        segment.crc = crc
        segment.last = self.written = self.written + count
        self.time = time
        self.batches += 1
        self.bytes_written += size
        if count:
            self._remember(records, first, length)
            self._written_at = clock.monotonic()
        self.owes_claim = count > 0 and self.durability != EPHEMERAL
        if self.durability == SYNC:
            self.files.sync(segment.fd)
            self.syncs += 1
            self.durable = self.written
            if size >= DROP_BYTES_MIN and size >= count * DROP_RECORD_BYTES_MIN and _are_values(records, length):
                self.files.drop(segment.fd, segment.tail - size, segment.tail)
        elif self._syncer is not None:
            self.durable = max(self.durable, self._syncer.note(segment.fd, self.written))

    def _remember(self, records: list[bytes], first: int, length: int) -> None:
        """Keep records that were just written, the first with index `first`, for those who read them soon."""
        firsts, recent = self._recent_firsts, self._recent
        firsts.append(first)
        recent.append((records, length))
        self._recent_bytes += length
        while self._recent_bytes > RECENT_BYTES or len(recent) > RECENT_TURNS:
            self._recent_bytes -= recent.pop(0)[1]
            del firsts[0]

    def forget_recent(self) -> None:
        """Read everything from disk from here on."""
        self._recent_firsts, self._recent, self._recent_bytes = [], [], 0

    def _write_group(self, records: list[bytes], first: int, time: int) -> tuple[int, int]:
        """Write a turn's records as several batches; returns (bytes in all, the last batch's crc)."""
        segment, crc, at = self._open, self._open.crc, self._open.tail
        offsets = segment.offsets
        assert offsets is not None
        pieces: list[bytes] = []
        ends, start = list(accumulate(map(len, records))), 0
        for done, upto in batch.cut(ends):
            body = b"".join(records[done:upto])
            more = upto < len(records)
            header, crc = batch.pack_header([body], len(body), first + done, upto - done, time, self.durable, crc, segment.seed, more)
            pieces += (header, body)
            at += batch.HEADER_BYTES
            offsets.append(at | FIRST_OF_BATCH)
            offsets.extend(map((at - start).__add__, ends[done : upto - 1]))
            at += len(body)
            start = ends[upto - 1]
        start = segment.tail
        for done in range(0, len(pieces), PIECES_MAX):
            part = pieces[done : done + PIECES_MAX]
            self.files.pwrite(segment.fd, part, start)
            start += sum(map(len, part))
        return at - segment.tail, crc

    # -- segments ----------------------------------------------------------------------------------

    def _roll(self, needed: int) -> None:
        """Make the next segment the open one. The order of steps is that of docs/log-format.md, "A roll"."""
        old = self._open
        needed += HEADER_BYTES + TRAILER_BYTES + batch.HEADER_BYTES
        if self._spare is None or self._spare.capacity < needed:
            # not needed after admit(); a caller that did not call it gets an error here, before anything has changed
            self._reserve_at = 0.0
            if not self._reserve_spare(needed):
                raise OSError(errno.ENOSPC, f"no room for the next segment in {self.directory}")
        empty = old.last < old.first  # it has only stamps, if anything
        # in `async` even if all records are durable: the last batch may be a stamp alone, which the helper is about to sync through a
        # descriptor that may be closed soon
        if self.durability != EPHEMERAL and (empty or self.durable < self.written or self._syncer is not None):
            self._sync_now()
        took, self._spare = self._spare, None
        assert took is not None
        self._free_descriptor()
        first = old.last + 1
        path = os.path.join(self.directory, file_name(first))
        # the place of an empty segment is taken without a new manifest, so with the same id
        new = Segment.begin(self.files, path, took.fd, old.identity if empty else os.urandom(16), first, took.capacity)
        if empty:
            # the new segment has the old one's name and takes its place; it keeps the time that the old one may have stamped
            header, crc = batch.pack_header([], 0, first, 0, self.time, self.durable, new.crc, new.seed)
            self.files.pwrite(new.fd, [header], new.tail)
            self.files.sync(new.fd)
            new.tail, new.crc = new.tail + len(header), crc
        self.files.rename(took.path, path)
        self.files.sync_dir(self.directory)
        if empty:
            self._segments[-1] = new
            old.close()
        else:
            self._segments.append(new)
            manifest.write(self.files, self.directory, self.identity, self._entries(), self.compacted_bytes)
            old.seal()
            self._open_sealed.append(old)
        self._open = new
        self._limit_descriptors()
        self._reserve_spare()

    def _entries(self) -> list[ManifestEntry]:
        return [segment.entry for segment in self._segments]

    def _next_capacity(self) -> int:
        share = max(SMALL_SEGMENT_BYTES, self.size // RESERVED_SHARE)
        return min(self._segment_bytes, 2 * self._open.capacity, share)

    def _reserve_spare(self, needed: int = 0) -> bool:
        """Reserve a next segment of at least `needed` bytes, and the room that a compaction needs. The segment is smaller if there is
        little room. False if the disk has too little; it is tried again at most every RESERVE_RETRY_SECONDS."""
        now = clock.monotonic()
        if self._room_is_taken or (self._spare is None and now < self._reserve_at):
            return self._spare is not None and needed <= self._spare.capacity
        wanted = max(needed, self._next_capacity())
        least = max(needed, min(wanted, SPARE_BYTES_MIN))
        while True:
            try:
                self._keep_descriptor()
                if self._spare is None:
                    manifest.reserve(self.files, self.directory, self.identity, self._entries(), self.compacted_bytes)
                self._room.resize(max(wanted, *(segment.size for segment in self._segments)))
                if self._spare is None:
                    self._spare = NextSegment(self.files, self.directory, wanted)
                else:
                    self._spare.grow(wanted)
                break
            except OSError as e:
                if e.errno not in MAY_PASS:
                    raise LogFailed(f"the next segment in {self.directory} could not be reserved: {e}") from e
                lack = NO_DESCRIPTOR if e.errno in descriptors.NONE_LEFT else NO_ROOM
            if wanted <= least or lack is NO_DESCRIPTOR:
                self._reserve_at = now + RESERVE_RETRY_SECONDS
                if lack is not self._lack:
                    self._notice(f"{lack.sentence.format(self.directory)}: writes that add are refused")
                self._lack = lack
                return False
            wanted = max(wanted // 2, least)
        if self._lack is not None:
            self._notice(f"{self._lack.over.format(self.directory)}: writes that add are accepted")
        self._lack = None
        return True

    def _keep_descriptor(self) -> None:
        """Keep a descriptor for the next roll and the next manifest: they open one file at a time, and could not fail without leaving
        memory ahead of the disk. Raises `OSError`."""
        if self._kept < 0:
            self._kept = self.files.open(self._open.path)

    def _free_descriptor(self) -> None:
        """Give the kept descriptor back: it is needed now. `_reserve_spare` or `_reserve_manifest` must follow."""
        if self._kept >= 0:
            self.files.close(self._kept)
            self._kept = -1

    def upkeep(self, idle: bool) -> bool:
        """Zero a slice of the next segment: always if `idle`, else only if the open segment fills faster.

        Returns whether there is more to do. Raises `LogFailed`.
        """
        if idle and self.owes_claim and self._written_at + CLAIM_SECONDS <= clock.monotonic() and not self.pending:
            self._claim()
        ahead = self._spare
        if ahead is None:
            self._reserve_spare()
            return False
        if ahead.ready or self.durability == EPHEMERAL:
            return False
        behind = ahead.zeroed * self._open.capacity < 2 * self._open.tail * ahead.capacity
        if idle or behind:
            try:
                ahead.zero_slice()
            except OSError as e:
                raise LogFailed(f"the next segment in {self.directory} could not be zeroed: {e}") from e
        return not ahead.ready

    def _claim(self) -> None:
        """Write an empty batch that says that everything before it is on disk."""
        if self._syncer is not None:
            self.durable = max(self.durable, self._syncer.synced)
        self._write([], self.time)
        self.owes_claim = False  # also if a full disk has no room for it

    # -- copying -----------------------------------------------------------------------------------

    def listing(self) -> tuple[bytes, dict[str, int]]:
        """(the manifest's bytes, the sizes of the files that it names, as far as they are written)."""
        fd = self.files.open(os.path.join(self.directory, manifest.NAME))
        try:
            text = self.files.pread(fd, self.files.size(fd), 0)
        finally:
            self.files.close(fd)
        sizes = {name: self.files.size_of(os.path.join(self.directory, name)) for entry in self._entries() for name in entry.files}
        sizes[os.path.basename(self._open.path)] = self._open.tail
        return text, sizes

    def piece_of(self, name: str, offset: int, most: int) -> bytes:
        """Up to `most` bytes of one of these files, from `offset` on. Raises `NotFound` for a file that is not there any more."""
        if not any(name in entry.files for entry in self._entries()):
            raise NotFound(f"the log has no file {name[:100]!r}; it may have been compacted")
        fd = self.files.open(os.path.join(self.directory, name))
        try:
            return self.files.pread(fd, most, offset)
        finally:
            self.files.close(fd)

    # -- compaction --------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """The bytes of the log that are written."""
        return sum(segment.size for segment in self._segments)

    @property
    def history_size(self) -> int:
        """How many of these bytes are history, which a start does not read."""
        return sum(each.history.size for each in self._segments if isinstance(each, Base) and each.history is not None)

    @property
    def room_is_scarce(self) -> bool:
        """Whether a compaction may find the disk full before it is done."""
        return self._spare is None or self.files.free(self.directory) < PLENTY_BYTES

    def make_room(self, seal: bool) -> Room | None:
        """Prepare the disk for a compaction; with `seal`, seal everything written so far (all must be committed then). Returns the
        compaction's bounds, None for no bound. On a nearly full disk the reserve is released for it, and nothing is reserved until
        `end_compaction`. Raises `Overloaded` if there is no room to begin with, `LogFailed`."""
        if self._lack is NO_DESCRIPTOR:
            self._reserve_at = 0.0
            if not self._reserve_spare():
                raise self._without_descriptor()  # a full disk would be a reason to drop history, and this is none
        if not self.room_is_scarce:
            if seal:
                self.roll()
            return None
        history = self._spare is not None
        if self._spare is None or self.files.free(self.directory) < 2 * self._room.size:
            self._room_is_taken = True
        try:
            if self._room_is_taken:
                self._room.release()
            if seal:
                if self._spare is None and self._open.last >= self._open.first:
                    self._keep_descriptor()
                    manifest.reserve(self.files, self.directory, self.identity, self._entries(), self.compacted_bytes)
                    self._spare = NextSegment(self.files, self.directory, min(SPARE_BYTES_MIN, self._segment_bytes))
                self.roll()
            room = self.files.free(self.directory) - MARGIN_BYTES
            if room > 0:
                return Room(room, history)
        except OSError as e:
            if e.errno not in MAY_PASS:
                raise LogFailed(f"room for a compaction of {self.directory} could not be made: {e}") from e
            if e.errno in descriptors.NONE_LEFT:
                self.end_compaction()
                raise self._without_descriptor() from e
        self.end_compaction()
        raise Overloaded(
            f"the disk that holds {self.directory} has no room for a compaction. Free some space, or rewrite the directory onto another "
            "disk: stop Flo, then `flo compact DIR --to OTHER`."
        )

    def _without_descriptor(self) -> Overloaded:
        return Overloaded(f"{NO_DESCRIPTOR.sentence.format(self.directory)}. Try again later.")

    def end_compaction(self) -> None:
        """A compaction has ended, in whatever way: reserve again the space that was released for it, if it was. Raises `LogFailed`."""
        if self._room_is_taken:
            self._room_is_taken = False
            self._reserve_at = 0.0
            self._reserve_spare()

    def roll(self) -> None:
        """Begin a new segment, so that everything written so far is sealed. Raises `Overloaded`, `LogFailed`."""
        if self._open.last < self._open.first:
            return
        self._reserve_at = 0.0
        if self._spare is None and not self._reserve_spare():
            sentence = (self._lack or NO_ROOM).sentence.format(self.directory)
            raise Overloaded(f"{sentence}: there is no place for another segment. Try again later.")
        try:
            self._roll(0)
        except OSError as e:
            raise LogFailed(f"the log in {self.directory} could not be written: {e}") from e

    @property
    def open_size(self) -> int:
        """The bytes of the open segment that are written."""
        return self._open.size

    @property
    def tail_size(self) -> int:
        """The bytes of all segments, with the open one: the part of the log that was not compacted yet."""
        return sum(segment.size for segment in self._segments if isinstance(segment, Segment))

    def sources(self, tail: bool = False) -> list[Source]:
        """The sources that can be compacted now, all or only the `tail`."""
        return tail_of(self.files, self.directory, self._entries()) if tail else sources_of(self._entries())

    def adopt(self, replacement: Replacement) -> None:
        """Put a base in the place of its sources, now and after any crash. The caller removes the replaced files. Raises `OSError` or
        `LogDamaged` with nothing changed and the base removed, `LogFailed` if it is not known whether the manifest was replaced."""
        old, entry = replacement
        entries = self._entries()
        names, old_names = [each.files for each in entries], [each.files for each in old]
        at = names.index(old_names[0]) if old_names[0] in names else -1
        if at < 0 or names[at : at + len(old)] != old_names or at + len(old) >= len(entries):
            raise LogDamaged(f"{entry.file} was made from files that the log in {self.directory} does not consist of")
        base = None
        try:
            base = Base(self.files, self.directory, entry)
            self._write_manifest([*entries[:at], entry, *entries[at + len(old) :]])
        except (OSError, LogDamaged):
            if base is not None:
                base.close()
            remove_replaced(self.files, self.directory, [entry])
            raise
        self.forget_recent()  # what is dead now is not read any more
        replaced = self._segments[at : at + len(old)]
        self._segments[at : at + len(old)] = [base]
        for segment in replaced:
            if segment in self._open_sealed:
                self._open_sealed.remove(segment)
            segment.close()
        self._open_sealed.append(base)
        self._limit_descriptors()

    def tidy(self) -> None:
        """Remove the files that the manifest does not name: a killed compaction left them, or was to remove them."""
        for name in removable(self.files, self.directory, self._entries(), self.written):
            if name != next_segment.NAME:
                self.files.remove(os.path.join(self.directory, name))

    def note_compacted(self, last: int) -> None:
        """A pass over everything up to index `last` is done: growth counts from the present size of that. Raises as `adopt` does."""
        self.compacted_bytes = sum(segment.size for segment in self._segments if segment.last <= last)
        self._write_manifest(self._entries())

    def _write_manifest(self, entries: list[ManifestEntry]) -> None:
        self._free_descriptor()
        try:
            manifest.write(self.files, self.directory, self.identity, entries, self.compacted_bytes)
        except OSError as e:
            if e.errno in MAY_PASS and self._lists_others(entries):
                raise
            raise LogFailed(f"the manifest in {self.directory} could not be written: {e}") from e
        finally:
            self._reserve_manifest(entries)

    def _lists_others(self, entries: list[ManifestEntry]) -> bool:
        """Whether the manifest on disk is known to list other files."""
        try:
            return manifest.read(self.files, self.directory).entries != entries
        except OSError:
            return False

    def _reserve_manifest(self, entries: list[ManifestEntry]) -> None:
        """Reserve the next roll's manifest again, since another manifest took its space. Without room for it, give up the next segment."""
        try:
            self._keep_descriptor()
            if self._spare is None:
                return
            manifest.reserve(self.files, self.directory, self.identity, entries, self.compacted_bytes)
        except OSError as e:
            if e.errno not in MAY_PASS:
                raise LogFailed(f"the next manifest in {self.directory} could not be reserved: {e}") from e
            reserved, self._spare = self._spare, None
            if reserved is not None:
                reserved.discard()

    def _limit_descriptors(self) -> None:
        while len(self._open_sealed) > self._sealed_open_max:
            self._open_sealed.pop(0).close()

    # -- reading -----------------------------------------------------------------------------------

    def read(self, index: int) -> Record | None:
        """Record `index`, from the open batch or from disk; None if the log does not have it, or not any more.

        Raises `Damaged` if the bytes on disk cannot be read or are not those that were written.
        """
        data = self.read_bytes(index)
        return decode(data) if data is not None else None

    def read_bytes(self, index: int) -> bytes | None:
        """The same, not decoded."""
        if index > self.written:
            at = index - self.written - 1
            return self.pending[at] if at < len(self.pending) else None
        firsts = self._recent_firsts
        if firsts and index >= firsts[0]:
            at = bisect_right(firsts, index) - 1
            return self._recent[at][0][index - firsts[at]]
        segment = self._segment_of(index)
        if segment is None:
            return None
        try:
            return segment.read(index)
        except (OSError, LogDamaged) as e:
            raise self.met_damage(f"index {index}", segment.path, e) from e

    def _segment_of(self, index: int) -> Segment | Base | None:
        """The file of record `index`, opened; None if no file has it. Raises `Damaged`."""
        segment: Segment | Base = self._open
        if index < segment.first:
            low, high = 0, len(self._segments)
            while low + 1 < high:  # the last segment that starts at or before index
                middle = (low + high) // 2
                if self._segments[middle].first <= index:
                    low = middle
                else:
                    high = middle
            segment = self._segments[low]
            if not segment.first <= index <= segment.last:
                return None
        if segment.fd < 0:
            self._reopen(segment, index)
        return segment

    def _reopen(self, segment: Segment | Base, index: int) -> None:
        """Open a sealed file again, to read record `index`. If no descriptor is left, those of other sealed files are given up for it.
        Raises `Damaged`, `Overloaded`."""
        while True:
            try:
                segment.reopen()
                break
            except OSError as e:
                if e.errno not in descriptors.NONE_LEFT:
                    raise self.met_damage(f"index {index}", segment.path, e) from e
                if not self._open_sealed:
                    raise Overloaded(f"no file descriptor is left to read {segment.path}. Try again later.") from e
                self._open_sealed.pop(0).close()
        self._open_sealed.append(segment)
        self._limit_descriptors()

    def met_damage(self, what: str, path: str, cause: Exception) -> Damaged:
        """Count damage to `what` in the file `path`, tell the operator once, and return the refusal."""
        self.damage_met += 1
        if what not in self._damaged and len(self._damaged) < DAMAGED_TOLD_MAX:
            self._damaged.add(what)
            self._notice(f"damage on disk: {what} in {path} does not read: {cause}")
        return Damaged(
            f"{what} in {path} does not read: the disk has damaged it. Everything else is served. `flo check` tells more; what is lost is "
            "in a backup, if you have one."
        )

    # -- ending ------------------------------------------------------------------------------------

    def _sync_now(self) -> None:
        """Make everything written durable."""
        if self._syncer is not None:
            self._syncer.finish()
        self.files.sync(self._open.fd)
        self.syncs += 1
        self.durable = self.written

    def close(self) -> None:
        """Sync, write the batch that claims everything durable, release the directory. The open batch must be committed. Raises
        `LogFailed`."""
        assert not self.pending, "commit before close"
        try:
            if self.durability != EPHEMERAL:
                self._sync_now()
                if self._open.room >= batch.HEADER_BYTES:
                    self._write([], self.time)
                    self._sync_now()
                self._note_end()
        except OSError as e:
            raise LogFailed(f"the log in {self.directory} could not be synced: {e}") from e
        finally:
            self.abandon()
        if self.durability == EPHEMERAL:
            self._empty_directory()

    def _note_end(self) -> None:
        """Note in the manifest that the log was closed in order, and where it ends. A full disk may have no room for that."""
        end = CleanEnd(self._open.last, self._open.tail)
        self._free_descriptor()
        try:
            manifest.write(self.files, self.directory, self.identity, self._entries(), self.compacted_bytes, end)
        except OSError as e:
            if e.errno not in MAY_PASS:
                raise

    def abandon(self) -> None:
        """Close every descriptor and write nothing, as a crash would."""
        if self._syncer is not None:
            self._syncer.stop()
            self._syncer = None
        self._free_descriptor()
        if self._spare is not None:
            self.files.close(self._spare.fd)
            self._spare = None
        for segment in self._segments:
            segment.close()
        self._lock.release()

    # -- ephemeral directories ---------------------------------------------------------------------

    def _prepare_ephemeral(self) -> None:
        """Empty a directory that was ephemeral; refuse to make a directory with durable data ephemeral."""
        names = self.files.names(self.directory)
        if EPHEMERAL_NAME in names:
            self._empty_directory()
        elif self.durability == EPHEMERAL and manifest.NAME in names:
            raise LogFailed(
                f"{self.directory} holds durable data, and durability 'ephemeral' would remove it at once. "
                "Choose another --data-dir, or another durability."
            )
        if self.durability == EPHEMERAL:
            self.files.close(self.files.create(os.path.join(self.directory, EPHEMERAL_NAME)))
            self.files.sync_dir(self.directory)

    def _empty_directory(self) -> None:
        """Remove the log. The mark that allows this is removed last, when the removal of the rest is durable."""
        ours = (manifest.NAME, manifest.NEW_NAME, CREATING_NAME, compaction_reserve.NAME)
        for name in self.files.names(self.directory):
            if name in ours or name.endswith(FILE_ENDS):
                self.files.remove(os.path.join(self.directory, name))
        self.files.sync_dir(self.directory)
        self.files.remove(os.path.join(self.directory, EPHEMERAL_NAME))
        self.files.sync_dir(self.directory)


def _are_values(records: Sequence[bytes], length: int) -> bool:
    """Whether most of the `length` bytes of `records` are values of keys. Those are in memory; payloads of queues and streams are read back
    from the log."""
    return sum(len(record) for record in records if record[TYPE_AT] & FAMILY_MASK == FAMILY_KV) > length // 2


class _Syncer:
    """The helper thread of `async`: syncs the last noted descriptor, at most every 100 ms.

    While it lives, the log is synced only by the thread, and by the log itself after `finish`; one lock keeps the descriptor open
    meanwhile.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._target = (-1, 0)  # descriptor, index written through it
        self.synced = 0  # the index known durable
        self._failure: OSError | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="flo-sync", daemon=True)
        self._thread.start()

    def note(self, fd: int, index: int) -> int:
        """Records up to `index` were written to `fd`. Returns the index known durable; raises an earlier failure."""
        if self._failure is not None:
            raise self._failure
        self._target = (fd, index)
        self._wake.set()
        return self.synced

    def _run(self) -> None:
        started = 0.0
        while not self._stopping:
            self._wake.wait()
            pause = started + ASYNC_SYNC_SECONDS - clock.monotonic()
            if pause > 0 and not self._stopping:
                clock.sleep(pause)
            self._wake.clear()
            started = clock.monotonic()
            with self._lock:
                fd, index = self._target
                if fd < 0:
                    continue
                try:
                    self._files.sync(fd)
                except OSError as e:
                    self._failure = e
                    return
                self.synced = index

    def finish(self) -> None:
        """Let a sync that is under way end and forget the target: the caller syncs from here."""
        with self._lock:
            self._target = (-1, 0)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        self._stopping = True
        with self._lock:
            self._target = (-1, 0)
        self._wake.set()
        self._thread.join()
