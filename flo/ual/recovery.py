"""Recovery: from a data directory to the segments of a log that can be appended to.

The rule (docs/log-format.md, "Recovery"): read to the first damage. In the open segment, if nothing on disk says that there was more
(flo.ual.ending), the log ends there, and a torn tail behind is zeroed, synced and reported. Anything else is corruption: refuse, say where,
change nothing. Nothing is changed before the whole log was read and the unlisted files were checked (flo.ual.directory).
"""

import errno
import os
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple, Protocol

from flo.errors import RESTORE, LogDamaged
from flo.ual import descriptors, manifest
from flo.ual.base import Base, BaseFile
from flo.ual.directory import begin_creation, end_creation, removable
from flo.ual.ending import Ending, look_at_end
from flo.ual.files import ZEROS, Files
from flo.ual.layouts import Group
from flo.ual.manifest import ID_BYTES, CleanEnd, ManifestEntry
from flo.ual.record import HEADER_BYTES as RECORD_HEADER_BYTES
from flo.ual.record import U32, Record, decode
from flo.ual.segment import HEADER_BYTES, Segment, file_name

FULL_DISK = frozenset((errno.ENOSPC, errno.EDQUOT))
PROGRESS_BYTES = 1 << 20  # 10 ms of reading
OPEN_MAX = 32  # files left open for reading
Apply = Callable[[int, Record], None]


class Loader(Protocol):
    """Receives the log during recovery, from its first record to its last."""

    def defer_values(self, bases: Sequence[Callable[[], BaseFile]]) -> bool:
        """Called first, with functions that open the live files of the bases, the oldest first. Returns True if the loader reads their
        values later by itself: then `values` is not called."""

    def batch(self, first: int, count: int, body: bytes, base: int, offsets: "array[int]") -> None:
        """Take `count` records, from index `first` on, in `body`, which is from offset `base` of a file. Adds their offsets in the file to
        `offsets`; raises `LogDamaged` if their lengths do not add up to the body."""

    def other(self, index: int, record: Record) -> None:
        """Take a single record of a base."""

    def values(self, namespace: int, pieces: list[bytes]) -> None:
        """Take values of a base (flo.ual.block)."""

    def group(self, group: Group) -> None:
        """Take a group of a base (flo.ual.layouts)."""

    def finish(self) -> None:
        """The end of a file: apply everything that is held back."""


class PlainLoader:
    """Takes the log record by record."""

    def __init__(self, apply: Apply) -> None:
        """`apply(index, record)` is called for every record."""
        self.other = apply

    def defer_values(self, _bases: Sequence[Callable[[], BaseFile]]) -> bool:
        """As in Loader: never."""
        return False

    def batch(self, first: int, count: int, body: bytes, base: int, offsets: "array[int]") -> None:
        """As in Loader."""
        at = 0
        for index in range(first, first + count):
            if at + RECORD_HEADER_BYTES > len(body):
                raise LogDamaged("the batch holds fewer records than it says.")
            offsets.append(base + at)
            self.other(index, decode(body, at))
            at += max(U32.unpack_from(body, at)[0], RECORD_HEADER_BYTES)
        if at != len(body):
            raise LogDamaged("the batch's records do not add up to its length.")

    def finish(self) -> None:
        """As in Loader: nothing is held back."""


class Recovered(NamedTuple):
    """The result of recovery: the `sealed` segments and bases in order, and the segment that is open for appending."""

    identity: str  # of the directory
    sealed: list[Segment | Base]
    open: Segment
    compacted: int  # bytes the log had when it was last compacted
    time: int  # of the last batch, 0 for an empty log
    records: int
    sentence: str  # for the operator, about the log's end; "" for none


def create(files: Files, directory: str, capacity: int) -> None:
    """Make a new, empty log in `directory`."""
    begin_creation(files, directory)
    identity = os.urandom(16)
    Segment.create(files, directory, identity, 1, capacity).close()
    files.sync_dir(directory)
    entry = ManifestEntry(file_name(1), 1, id=identity[:ID_BYTES].hex())
    manifest.write(files, directory, os.urandom(16).hex(), [entry], stopped=CleanEnd(0, HEADER_BYTES))


class _Progress:
    """Reports the bytes read so far, each PROGRESS_BYTES."""

    def __init__(self, files: Files, directory: str, entries: list[ManifestEntry], tell: Callable[[int, int], None] | None) -> None:
        self._tell = tell
        self._done = self._told = self._total = 0
        if tell is not None:
            self._total = sum(files.size_of(os.path.join(directory, entry.file)) for entry in entries)

    def add(self, size: int) -> None:
        """`size` more bytes were read."""
        self._done += size
        if self._tell is not None and self._done - self._told >= PROGRESS_BYTES:
            self._told = self._done
            self._tell(self._done, self._total)


def recover(files: Files, directory: str, loader: Loader | PlainLoader, on_progress: Callable[[int, int], None] | None = None) -> Recovered:
    """Read the whole log into `loader`; repair its tail. `on_progress(bytes read, bytes in all)` is called now and then.

    Raises `LogDamaged` if the log cannot be trusted; nothing on disk was changed then.
    """
    found = manifest.read(files, directory)
    entries = found.entries
    sealed: list[Segment | Base] = []
    segment: Segment | None = None
    time = records = 0
    unsealed: list[Segment] = []
    progress = _Progress(files, directory, entries, on_progress)

    def take(first: int, count: int, body: bytes, base: int, offsets: "array[int]") -> None:
        progress.add(len(body))
        loader.batch(first, count, body, base, offsets)

    try:
        bases = [entry for entry in entries if entry.is_base]
        deferred = loader.defer_values(
            [partial(BaseFile, files, os.path.join(directory, each.file), each.first, each.last, each.id) for each in bases]
        )
        for entry, following in pairwise((*entries, None)):
            assert entry is not None
            loader.finish()  # nothing is gathered across files: after a repair, records between two files may be missing
            if entry.is_base:
                assert following is not None, "the manifest ends with a segment"
                base = Base(files, directory, entry)
                sealed.append(base)
                _load(base.live, loader, progress, deferred)
                time = max(time, base.time)
                records += base.live.records
                if entry.last + 1 != following.first:
                    raise LogDamaged(_damaged_sealed(base.path, base.size, entry.last, following.first))
                _close_if_many(base, sealed)
                continue
            segment = Segment.load(files, os.path.join(directory, entry.file), entry.first, writable=True, expected=entry.id)
            if following is not None:
                sealed.append(segment)
            tail = segment.scan(take)
            time = max(time, tail.time)
            records += tail.last - entry.first + 1
            if following is not None:
                if tail.last + 1 != following.first:
                    raise LogDamaged(_damaged_sealed(segment.path, segment.tail, segment.last, following.first))
                if segment.footer_is_intact():
                    _close_if_many(segment, sealed)
                else:
                    unsealed.append(segment)
        assert segment is not None, "a manifest lists one segment at least"
        loader.finish()
        ending = look_at_end(segment, tail, found)
        superfluous = removable(files, directory, entries, segment.last)
        _mend_tail(files, segment, ending)
        # A process may have ended between the rename of the manifest and the sync of its directory. The manifest must be durable before
        # anything is built on it, or removed because it does not list it. And it must not say any more how the log was closed when
        # something is appended.
        _make_manifest_durable(files, directory, found.id, [item.entry for item in (*sealed, segment)], found.compacted)
        for other in unsealed:  # a crash came between the roll's manifest and its footer
            other.seal()
        for name in superfluous:
            files.remove(os.path.join(directory, name))
        end_creation(files, directory)
    except BaseException:
        for item in sealed:
            item.close()
        if segment is not None:
            segment.close()
        raise
    return Recovered(found.id, sealed, segment, found.compacted, time, records, ending.sentence)


def _close_if_many(item: Segment | Base, sealed: list[Segment | Base]) -> None:
    """Close a file that was read if many are open: it is opened again when a record in it is asked for."""
    if len(sealed) > descriptors.share(OPEN_MAX):
        item.close()


def _load(file: BaseFile, loader: Loader | PlainLoader, progress: _Progress, deferred: bool) -> None:
    """Hand a base to `loader`; leave out its values if they are `deferred`. In each block, watermarks and the records that others lean on
    come first."""
    if isinstance(loader, PlainLoader):
        for number in range(len(file)):
            for index, data in file.rows(number):
                loader.other(index, decode(data))
        return
    for block in file.blocks():
        progress.add(len(block.data) + block.head.grouped_bytes)
        for index, at in block.others():
            loader.other(index, decode(block.data, at))
        if block.head.values and not deferred:
            loader.values(block.head.namespace, block.pieces())
        for group in block.groups():
            loader.group(group)


def _make_manifest_durable(files: Files, directory: str, identity: str, entries: list[ManifestEntry], compacted: int) -> None:
    """Make the manifest that was read durable: write it again, or on a full disk sync it in place."""
    try:
        manifest.write(files, directory, identity, entries, compacted)
    except OSError as e:
        if e.errno not in FULL_DISK:
            raise
        fd = files.open(os.path.join(directory, manifest.NAME), writable=True)
        try:
            files.sync(fd)
        finally:
            files.close(fd)
        files.sync_dir(directory)


def _damaged_sealed(path: str, at: int, last: int, next_first: int) -> str:
    return f"{path} is damaged at byte {at}: it ends at index {last}, and the next segment begins at {next_first}. {RESTORE}"


def _mend_tail(files: Files, segment: Segment, ending: Ending) -> None:
    """Cut a torn tail off the open segment, and sync the rest in any case: a process killed between write and sync leaves bytes that only
    the page cache holds, and clients are about to see them."""
    at = segment.tail
    while at < ending.torn_end:
        size = min(len(ZEROS), ending.torn_end - at)
        files.pwrite(segment.fd, [ZEROS[:size]], at)
        at += size
    # a copy may have holes in place of the zeros, and a copy made by an earlier Flo ends with the batches
    files.reserve(segment.fd, segment.capacity)
    if files.size(segment.fd) > segment.capacity:  # with a manifest of format 4, the next start would take a longer file for damage
        files.truncate(segment.fd, segment.capacity)
    # Batches that no later batch claims to be durable are written again: after a failed sync the page cache may hold bytes that the disk
    # does not have, and that another sync would not write.
    if segment.unclaimed_from < segment.tail:
        unsure = files.pread(segment.fd, segment.tail - segment.unclaimed_from, segment.unclaimed_from)
        files.pwrite(segment.fd, [unsure], segment.unclaimed_from)
    files.sync(segment.fd)
    assert segment.tail >= HEADER_BYTES
