"""The names in a data directory: whether it is new, and which files no manifest lists. Changes nothing except at creation.

The rule: any file of Flo's may hold acknowledged records, whatever the manifest says. So a directory is new only if it has no file of
Flo's. An unlisted file is removed only if all its records are in listed files:

- a base or segment whose range of indexes lies wholly within the range of the listed files, all of which were read whole: an interrupted
  compaction made it, or was about to remove it;
- a segment without a valid batch: an interrupted roll made it.

Any other unlisted file is of a later state than the manifest, or of another directory: a start refuses, and says what to do.
"""

import os
import re
from collections.abc import Sequence
from contextlib import closing

from flo.errors import LogDamaged
from flo.ual import compaction_reserve, manifest, next_segment
from flo.ual.files import ZEROS, Files
from flo.ual.manifest import ManifestEntry
from flo.ual.segment import HEADER_BYTES, Segment, file_name

CREATING_NAME = "CREATING"  # present from before the first file of a new log until its manifest is durable
FILE_ENDS = (".seg", ".base", ".hist")
_SEGMENT = re.compile(r"(\d{20})\.seg")
_BASE = re.compile(r"(\d{20})-(\d{20})-[0-9a-f]{8}\.(?:base|hist)")
ASK = "`flo check` tells more; `flo check --repair` makes the manifest again from the files."


def holds_log(names: Sequence[str]) -> list[str]:
    """The names of `names` that only a directory that holds or held a log has."""
    return [name for name in names if name.endswith(FILE_ENDS) or name in (manifest.NAME, manifest.NEW_NAME, compaction_reserve.NAME)]


def is_new(files: Files, directory: str) -> bool:
    """Whether `directory` holds no log: no files of Flo's, or only those of an interrupted creation. Raises `LogDamaged` if files of a log
    are there and their manifest is not."""
    names = files.names(directory)
    if manifest.NAME in names:
        return False
    there = holds_log(names)
    if not there:
        return True
    if CREATING_NAME in names:
        segments = [name for name in there if name not in (manifest.NEW_NAME, next_segment.NAME)]
        if segments in ([], [file_name(1)]) and not any(_is_written(files, os.path.join(directory, name)) for name in segments):
            return True
    raise LogDamaged(
        f"{directory} has no {manifest.NAME}, but {_some(there)}: it is a part of a data directory, as an interrupted copy or backup "
        f"leaves, or it lost its manifest. Copy all of it again; or, if this is all there is, {ASK} To begin anew, name another directory."
    )


def begin_creation(files: Files, directory: str) -> None:
    """Mark the directory: a log is being created, and until its manifest is there, no file in it counts."""
    files.close(files.create(os.path.join(directory, CREATING_NAME)))
    files.sync_dir(directory)


def end_creation(files: Files, directory: str) -> None:
    """Remove the mark: the manifest is durable, as at the end of every start."""
    path = os.path.join(directory, CREATING_NAME)
    if files.exists(path):
        files.remove(path)
        files.sync_dir(directory)


def removable(files: Files, directory: str, entries: Sequence[ManifestEntry], last: int) -> list[str]:
    """The files that `entries` do not list and whose records are all in listed files. The log of `entries` must have been read whole up to
    index `last`. Raises `LogDamaged` if there is any other unlisted file."""
    listed = {name for entry in entries for name in entry.files}
    found, foreign = [], []
    for name in files.names(directory):
        if name in listed or not name.endswith(FILE_ENDS):
            continue
        if name == next_segment.NAME or _is_within(files, os.path.join(directory, name), entries[0].first, last):
            found.append(name)
        else:
            foreign.append(name)
    if foreign:
        raise LogDamaged(
            f"{directory} has {_some(foreign)}, which {manifest.NAME} does not list and which may hold what is nowhere else: the manifest "
            f"is older than the files, as one from a backup is, or they are another directory's. {ASK}"
        )
    return found


def _is_within(files: Files, path: str, first: int, last: int) -> bool:
    """Whether a file is known to hold no index outside the range."""
    name = os.path.basename(path)
    base = _BASE.fullmatch(name)
    if base:
        return first <= int(base[1]) and int(base[2]) <= last
    segment = _SEGMENT.fullmatch(name)
    if not segment:
        return False
    try:
        opened = Segment.load(files, path, int(segment[1]), writable=False)
    except LogDamaged:
        return False  # not an interrupted roll: the header is on disk before its file has this name
    with closing(opened):
        opened.measure()
        rest_is_known = opened.has_footer() or opened.find_beyond(opened.tail)[1] == opened.tail
        return rest_is_known and (opened.last < opened.first or (first <= opened.first and opened.last <= last))


def _is_written(files: Files, path: str) -> bool:
    """Whether anything was ever written behind the header of a segment. Unreadable bytes count too: they may be a damaged batch."""
    fd, at = files.open(path), HEADER_BYTES
    try:
        while data := files.pread(fd, len(ZEROS), at):
            if data != ZEROS[: len(data)]:
                return True
            at += len(data)
    finally:
        files.close(fd)
    return False


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} other{'s' * (len(names) > 2)}"
