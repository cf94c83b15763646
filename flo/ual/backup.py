"""`flo backup`: copy a log while a server writes to it, as of one index.

Sealed files of the log never change, and an open file stays readable when a compaction has removed its name. So the backup opens every file
that the manifest names, reads the manifest again, and begins anew if it has changed. Of the open segment it copies the whole batches. The
copy must contain everything that was acknowledged when the backup began. Beside a server, that is everything up to the index that the
server gives. Otherwise it is the log up to the end that a start would find (flo.ual.ending); a torn tail is refused, since nothing tells
what was in it.

The copy's manifest is written last, so that half a copy is no data directory. It says where the copy ends.
"""

import errno
import os
from collections.abc import Callable
from typing import NamedTuple

from flo.errors import FloError, LogDamaged
from flo.ual import descriptors, manifest
from flo.ual.directory import is_new, removable
from flo.ual.ending import look_at_end
from flo.ual.files import Files
from flo.ual.manifest import CleanEnd, Manifest
from flo.ual.segment import Segment

DESCRIPTORS_BESIDES = 32  # of a process that makes a backup: all of the log's files are open, and a few others
ATTEMPTS = 100  # a roll or a group of a compaction changes the manifest: a second attempt is rare


class BackupFailed(FloError):
    """The copy could not be made; nothing of it remains."""


class Copied(NamedTuple):
    """The result of a backup."""

    last: int  # the highest index copied
    files: int
    bytes: int
    sentence: str  # the notice of a start about the log's end, "" for none


def backup(
    files: Files, directory: str, out: str, acknowledged: int | None = None, on_file: Callable[[str, int], None] = lambda *_: None
) -> Copied:
    """Copy the log in `directory` to `out`, which must be empty or not there. `acknowledged` is the index that the server writing
    there has acknowledged; None if none is running. `on_file(name, bytes)` is called for each file.

    Raises `BackupFailed`, `LogDamaged` or `OSError`. The caller verifies the copy (flo.ual.check).
    """
    if files.exists(out) and files.names(out):
        raise BackupFailed(f"{out} is not empty: name a directory that is, or that is not there yet.")
    found, opened = _open_all(files, directory)
    made: list[str] = []
    try:
        if os.path.commonpath((os.path.realpath(directory), os.path.realpath(out))) == os.path.realpath(directory):
            raise BackupFailed(f"{out} is in {directory}, which is to be copied: name a directory that is not.")
        last = found.entries[-1].file
        end, sentence = _end_of(files, os.path.join(directory, last), opened[last], found, acknowledged)
        files.make_dir(out)
        size = 0
        for name, fd in opened.items():
            made.append(name)
            copied = end.size if name == last else files.size(fd)
            files.copy(fd, os.path.join(out, name), copied)
            size += copied
            on_file(name, copied)
        lengthen(files, os.path.join(out, last), found.entries[-1].first)
        files.sync_dir(out)
        made += [manifest.NEW_NAME, manifest.NAME]
        manifest.write(files, out, found.id, found.entries, found.compacted, end)
    except (OSError, LogDamaged, KeyboardInterrupt) as e:
        for name in reversed(made):
            files.discard(os.path.join(out, name))
        if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BackupFailed(f"the disk that holds {out} is full: the copy could not be made, and nothing of it is left.") from None
        raise
    finally:
        for fd in opened.values():
            files.close(fd)
    return Copied(end.last, len(opened), size, sentence)


def _end_of(files: Files, path: str, fd: int, found: Manifest, acknowledged: int | None) -> tuple[CleanEnd, str]:
    """(the end of the copy of the open segment, the notice about it). Raises `BackupFailed` or `LogDamaged` if acknowledged records are or
    may be behind that end."""
    segment = Segment.attach(files, path, fd, found.entries[-1].first)
    tail = segment.measure()
    end = CleanEnd(segment.last, segment.tail)
    if acknowledged is not None:
        if end.last < acknowledged:
            raise BackupFailed(
                f"{path} is damaged at byte {end.size}: it reads up to index {end.last}, and the server has acknowledged everything up to "
                f"{acknowledged}. Nothing was copied. The server still has it in memory: read what you need from it before you stop it."
            )
        return end, ""
    ending = look_at_end(segment, tail, found)
    if ending.torn_end > end.size and not ending.in_order:
        raise BackupFailed(
            f"{path} has {ending.torn_end - end.size} bytes behind index {end.last} that do not read, and nothing on disk tells whether "
            "they were acknowledged. Start the server once, or run `flo check --repair`: both cut them; then back up."
        )
    removable(files, os.path.dirname(path), found.entries, end.last)  # raises if an unlisted file may hold acknowledged records
    return end, ending.sentence


def lengthen(files: Files, path: str, first: int) -> None:
    """Make the copy of an open segment as long as its header says: zeros follow its batches."""
    segment = Segment.load(files, path, first, writable=True)
    try:
        files.truncate(segment.fd, segment.capacity)
        files.sync(segment.fd)
    finally:
        segment.close()


def _open_all(files: Files, directory: str) -> tuple[Manifest, dict[str, int]]:
    """The manifest, and every file that it names, opened; the open segment is the last."""
    missing = ""
    for _ in range(ATTEMPTS):
        try:
            found = manifest.read(files, directory)
        except FileNotFoundError:
            is_new(files, directory)  # raises a better message if files of a log are there
            raise BackupFailed(f"{directory} has no {manifest.NAME}: it is not a Flo data directory.") from None
        opened: dict[str, int] = {}
        wanted = sum(len(entry.files) for entry in found.entries) + DESCRIPTORS_BESIDES
        allowed = descriptors.raise_limit(wanted)
        if allowed < wanted:
            raise BackupFailed(
                f"only {allowed} file descriptors may be open, and a backup of {directory} needs {wanted}: raise the limit with ulimit -n, "
                "or compact the log first."
            )
        try:
            for entry in found.entries:
                for name in entry.files:
                    missing = name
                    opened[name] = files.open(os.path.join(directory, name))
            if manifest.read(files, directory).entries == found.entries:
                return found, opened
        except FileNotFoundError:  # replaced meanwhile, or lost
            pass
        except BaseException:
            _close(files, opened)
            raise
        _close(files, opened)
    raise BackupFailed(f"{directory} changed {ATTEMPTS} times while its files were opened, or {missing} is missing: try `flo check`.")


def _close(files: Files, opened: dict[str, int]) -> None:
    for fd in opened.values():
        files.close(fd)
