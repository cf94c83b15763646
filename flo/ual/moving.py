"""`flo compact DIR --to OTHER`: compact a log into another directory, if its own disk has no room even for a compaction.

The whole log becomes bases, the open segment too; a new open segment follows them. The old directory stays as it was, except that a torn
tail is cut as at a start.
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
    """The result: bytes before and after, and the notice of a start about the log's end, "" for none."""

    before: int
    after: int
    history: int  # of the bytes after
    sentence: str


def move(files: Files, directory: str, out: str, *, now: int, depth: int, age: int) -> Moved:
    """Rewrite the log in `directory`, which no process may be using, into `out`, which must be empty or not exist. `now` (ms), `depth` and
    `age` decide how much history is kept, as in flo.ual.liveness.

    Raises `DirectoryInUse`, `BadRequest`, `LogDamaged` or `OSError`, and removes its files in `out` then.
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
                made.append(replacement.entry)  # noqa: PERF401  the bases made before a failure are removed
            history = sum(files.size_of(os.path.join(out, entry.history)) for entry in made if entry.history)
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
    return Moved(before, after, history, found.sentence)
