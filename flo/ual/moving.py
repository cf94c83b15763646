"""`flo compact DIR --to OTHER`: a log rewritten, compacted, into another directory, for a disk that has no room left even for that.

All of it becomes bases, the open segment too, and a new segment is open behind them. The directory it came from stays as it was, but for a
torn tail, which is cut as at a start.
"""

import os
from typing import NamedTuple

from flo.errors import BadRequest, LogDamaged
from flo.ual import manifest
from flo.ual.compaction import Source, compact, sources_of
from flo.ual.directory import is_new
from flo.ual.files import Files
from flo.ual.lock import DirectoryLock
from flo.ual.manifest import CleanEnd, ManifestEntry
from flo.ual.recovery import PlainLoader, recover
from flo.ual.segment import HEADER_BYTES, Segment, file_name

SEGMENT_BYTES = 4 << 20  # of the new open segment, as of a first start


class Moved(NamedTuple):
    """What became of it: bytes before and after, and what a start would say of the log's end, "" for nothing."""

    before: int
    after: int
    sentence: str


def move(files: Files, directory: str, out: str, *, now: int, depth: int, age: int) -> Moved:
    """Rewrite the log in `directory`, which nobody may be using, into `out`, which must be empty or not there. `now` (ms), `depth` and
    `age` say what of the history is kept, as flo.ual.liveness has it.

    Raises `DirectoryInUse`, `BadRequest`, `LogDamaged` or `OSError`; nothing of `out` is left then.
    """
    if os.path.commonpath((os.path.realpath(directory), os.path.realpath(out))) == os.path.realpath(directory):
        raise BadRequest(f"{out} is in {directory}: name a directory on another disk.")
    if files.exists(out) and files.names(out):
        raise BadRequest(f"{out} is not empty: name a directory that is, or that is not there yet.")
    if is_new(files, directory):
        raise BadRequest(f"{directory} has no {manifest.NAME}: it is not a Flo data directory.")
    lock = DirectoryLock(files, directory)
    try:
        found = recover(files, directory, PlainLoader(lambda *_: None))
        for each in (*found.sealed, found.open):
            each.close()
        before, last = sum(each.size for each in (*found.sealed, found.open)), found.open.last
        entries = manifest.read(files, directory).entries
        sources = sources_of(entries)
        if last >= entries[-1].first:
            sources.append(Source(entries[-1], last))
        files.make_dir(out)
        made: list[ManifestEntry] = []
        try:
            for replacement in compact(files, directory, sources, now=now, depth=depth, age=age, out=out):
                made.append(replacement.entry)  # noqa: PERF401  what was made before a failure is removed
            after = sum(files.size_of(os.path.join(out, name)) for entry in made for name in entry.files)
            made.append(ManifestEntry(file_name(last + 1), last + 1))
            Segment.create(files, out, os.urandom(16), last + 1, SEGMENT_BYTES).close()
            files.sync_dir(out)
            manifest.write(files, out, found.identity, made, after, CleanEnd(last, HEADER_BYTES))
        except (OSError, LogDamaged):
            for name in (manifest.NEW_NAME, *(name for entry in made for name in entry.files)):
                files.discard(os.path.join(out, name))
            raise
    finally:
        lock.release()
    return Moved(before, after, found.sentence)
