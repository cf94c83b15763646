"""`flo backup`: copy a log while a server writes to it, as of one index.

Files of the log are never changed once they are sealed, and an open file stays readable when a compaction has removed its name. So:
open everything the manifest names, read the manifest again, and begin anew if it has changed. Of the open segment, copy the batches that
are whole: everything acknowledged before that is among them. The copy's manifest comes last, so that half a copy is no data directory.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

from flo.errors import FloError, LogDamaged
from flo.ual import manifest
from flo.ual.files import Files
from flo.ual.manifest import Manifest
from flo.ual.segment import HEADER_BYTES, Segment

ATTEMPTS = 100  # the manifest changes once a roll or a group of a compaction: a second attempt is rare


class BackupFailed(FloError):
    """The copy could not be made; nothing of it is left."""


class Copied(NamedTuple):
    """What was copied."""

    last: int  # index: everything up to this one
    files: int
    bytes: int


def backup(files: Files, directory: str, out: str, on_file: Callable[[str, int], None] = lambda *_: None) -> Copied:
    """Copy the log in `directory` to `out`, which must be empty or not there. `on_file(name, bytes)` is told of each file.

    Raises `BackupFailed`, `LogDamaged` or `OSError`. Whoever calls verifies the copy (flo.ual.check).
    """
    if files.exists(out) and files.names(out):
        raise BackupFailed(f"{out} is not empty: name a directory that is, or that is not there yet.")
    found, opened = _open_all(files, directory)
    made: list[str] = []
    try:
        files.make_dir(out)
        last = found.entries[-1].file
        size = index = 0
        for name, fd in opened.items():
            made.append(name)
            if name == last:
                index, copied = _copy_open(files, os.path.join(directory, name), fd, found.entries[-1].first, os.path.join(out, name))
            else:
                copied = files.size(fd)
                files.copy(fd, os.path.join(out, name), copied)
            size += copied
            on_file(name, copied)
        files.sync_dir(out)
        made += [manifest.NEW_NAME, manifest.NAME]
        manifest.write(files, out, found.id, found.entries, found.compacted)
    except (OSError, LogDamaged):
        for name in reversed(made):
            files.discard(os.path.join(out, name))
        raise
    finally:
        for fd in opened.values():
            files.close(fd)
    return Copied(index, len(opened), size)


def _open_all(files: Files, directory: str) -> tuple[Manifest, dict[str, int]]:
    """The manifest, and every file that it names, open; the open segment last."""
    missing = ""
    for _ in range(ATTEMPTS):
        try:
            found = manifest.read(files, directory)
        except FileNotFoundError:
            raise BackupFailed(f"{directory} has no {manifest.NAME}: it is not a Flo data directory.") from None
        opened: dict[str, int] = {}
        try:
            for entry in found.entries:
                for name in entry.files:
                    missing = name
                    opened[name] = files.open(os.path.join(directory, name))
            if manifest.read(files, directory).entries == found.entries:
                return found, opened
        except FileNotFoundError:  # replaced since; or lost
            pass
        except BaseException:
            _close(files, opened)
            raise
        _close(files, opened)
    raise BackupFailed(f"{directory} changed {ATTEMPTS} times while its files were opened, or {missing} is missing: try `flo check`.")


def _close(files: Files, opened: dict[str, int]) -> None:
    for fd in opened.values():
        files.close(fd)


def _copy_open(files: Files, path: str, fd: int, first: int, out: str) -> tuple[int, int]:
    """Copy the header and the batches of the open segment. Returns (last index, bytes)."""
    segment = Segment.attach(files, path, fd, first)
    index, end = first - 1, HEADER_BYTES
    for header, at, _ in segment.batches():
        index, end = header.last, at + header.length
    files.copy(fd, out, end)
    return index, end
