"""Recovery: from a data directory to the segments of a log that can be appended to.

The rule (docs/log-format.md, "Recovery"): read to the first damage. Beyond the highest durable index any valid batch
claims it is a torn tail that was never acknowledged: zeroed, synced, reported. Below it, or in a sealed segment, it is
corruption: refuse, say where, change nothing.
"""

import errno
import os
from collections.abc import Callable
from typing import NamedTuple

from flo.errors import LogDamaged
from flo.ual import manifest, spare
from flo.ual.files import ZEROS, Files
from flo.ual.manifest import ManifestEntry
from flo.ual.record import Record, decode
from flo.ual.segment import HEADER_BYTES, Segment, file_name

FULL_DISK = frozenset((errno.ENOSPC, errno.EDQUOT))
Apply = Callable[[int, Record], None]


class Recovered(NamedTuple):
    """What recovery found. `segments` are in order, the last one open for appending."""

    identity: str  # of the directory
    segments: list[Segment]
    time: int  # of the last batch, 0 for an empty log
    cut_bytes: int  # length of the torn tail that was cut, 0 for none
    records: int


def create(files: Files, directory: str, capacity: int) -> None:
    """Make a new, empty log in `directory`."""
    Segment.create(files, directory, os.urandom(16), 1, capacity).close()
    files.sync_dir(directory)
    manifest.write(files, directory, os.urandom(16).hex(), [ManifestEntry(file_name(1), 1)])


def is_new(files: Files, directory: str) -> bool:
    """Whether `directory` holds no log yet. A first start that was cut short before its manifest counts as none."""
    names = files.names(directory)
    if manifest.NAME in names:
        return False
    segments = [name for name in names if name.endswith(".seg") and name != spare.NAME]
    if segments and segments != [file_name(1)]:
        raise LogDamaged(f"{directory} has segments but no {manifest.NAME}. Restore it from a backup.")
    if segments and _holds_batches(files, os.path.join(directory, segments[0])):
        raise LogDamaged(f"{directory} has a segment with records but no {manifest.NAME}. Restore it from a backup.")
    return True


def _holds_batches(files: Files, path: str) -> bool:
    try:
        segment = Segment.load(files, path, 1, writable=False)
    except LogDamaged:
        return False  # not even its header was finished
    try:
        return next(segment.batches(), None) is not None
    finally:
        segment.close()


def recover(files: Files, directory: str, apply: Apply) -> Recovered:
    """Read the whole log, calling `apply(index, record)` for each record in order; repair its tail.

    Raises `LogDamaged` where the log cannot be trusted; then nothing on disk was changed.
    """
    identity, entries = manifest.read(files, directory)
    listed = {entry.file for entry in entries}
    segments: list[Segment] = []
    time = cut_bytes = records = 0

    def apply_bytes(index: int, data: bytes, at: int) -> None:
        apply(index, decode(data, at))

    unsealed: list[Segment] = []
    try:
        for i, entry in enumerate(entries):
            segment = Segment.load(files, os.path.join(directory, entry.file), entry.first, writable=True)
            segments.append(segment)
            tail = segment.scan(apply_bytes)
            time = max(time, tail.time)
            records += tail.last - entry.first + 1
            if i + 1 < len(entries):
                if tail.last + 1 != entries[i + 1].first:
                    raise LogDamaged(_damaged_sealed(segment, entries[i + 1].first))
                if not segment.footer_is_intact():
                    unsealed.append(segment)
        cut_bytes = _mend_tail(files, segments[-1])
        for segment in unsealed:  # a crash came between the roll's manifest and its footer
            segment.seal()
        for name in files.names(directory):
            if name.endswith(".seg") and name not in listed:
                files.remove(os.path.join(directory, name))  # a spare, or a roll that was cut short
        # A process may have ended between the rename of the manifest and the sync of its directory: what is built on that
        # manifest from here on must not be lost with it.
        _settle_manifest(files, directory, identity, entries)
    except BaseException:
        for segment in segments:
            segment.close()
        raise
    return Recovered(identity, segments, time, cut_bytes, records)


def _settle_manifest(files: Files, directory: str, identity: str, entries: list[ManifestEntry]) -> None:
    """Make the manifest that was read durable, by putting it in place anew; on a full disk by syncing it where it is."""
    try:
        manifest.write(files, directory, identity, entries)
    except OSError as e:
        if e.errno not in FULL_DISK:
            raise
        fd = files.open(os.path.join(directory, manifest.NAME), writable=True)
        try:
            files.sync(fd)
        finally:
            files.close(fd)
        files.sync_dir(directory)


def _damaged_sealed(segment: Segment, next_first: int) -> str:
    return (
        f"{segment.path} is damaged at byte {segment.tail}: it ends at index {segment.last}, and the next segment begins at "
        f"{next_first}. `flo check` tells more; restore the directory from a backup."
    )


def _mend_tail(files: Files, segment: Segment) -> int:
    """Cut a torn tail off the open segment; returns its length. Syncs what is kept, torn or not: a process killed
    between write and sync leaves bytes that only the page cache holds, and they are about to be shown."""
    claimed, dirty_end = segment.find_beyond(segment.tail)
    if claimed > segment.last:
        raise LogDamaged(
            f"{segment.path} is damaged at byte {segment.tail}: index {segment.last + 1} does not read, and a batch behind it says "
            f"everything up to {claimed} was on disk. `flo check` tells more; restore the directory from a backup."
        )
    at = segment.tail
    while at < dirty_end:
        size = min(len(ZEROS), dirty_end - at)
        files.pwrite(segment.fd, [ZEROS[:size]], at)
        at += size
    short_by = segment.capacity - files.size(segment.fd)
    if short_by > 0:  # a seal that was never in a manifest cannot be; a file someone cut short can
        files.reserve(segment.fd, segment.capacity)
    # What no batch claims to be durable is written again: after a failed sync the page cache may hold bytes that the disk
    # does not have and that another sync would not write.
    if segment.unclaimed_from < segment.tail:
        unsure = files.pread(segment.fd, segment.tail - segment.unclaimed_from, segment.unclaimed_from)
        files.pwrite(segment.fd, [unsure], segment.unclaimed_from)
    files.sync(segment.fd)
    assert segment.tail >= HEADER_BYTES
    return dirty_end - segment.tail
