"""A copy of another member's log, for a member that is new, or was away for so long that the tail in etcd does not reach back to it.

The member asks another for its manifest and for the files in it, a piece at a time (`cluster_fetch`), into a directory of its own below its
data directory. Sealed files never change; of the open segment it takes what was written when the manifest was read. If a file is gone when
it is asked for, compaction has replaced it: the member reads the manifest again, and keeps what it has of the files that are still in it.
Files of another member have the same names and other bytes, so a copy goes on only with the member that it was begun with.

When the copy is whole and synced, a mark says so. The next start puts the copy in the place of the old log, as often as it takes: the mark
goes last.
"""

import json
import os
from base64 import b64decode
from collections.abc import Callable

from flo.client import Client
from flo.errors import Disconnected, FloError, NotFound
from flo.ual import manifest
from flo.ual.backup import lengthen
from flo.ual.directory import FILE_ENDS
from flo.ual.files import Files
from flo.ual.manifest import CleanEnd
from flo.ual.segment import Segment

COPY = "FETCHED"  # the directory of the copy
SOURCE = "SOURCE"  # in it; it holds the address of the member that it is a copy of
MARK = "COMPLETE"  # in it; it holds the names of the copy's files, as JSON
NEW_MARK = MARK + ".new"
ATTEMPTS = 100  # the source's compaction may replace files while they are read
PIECE_BYTES = 1 << 20  # that the source gives at once


class NotFetched(FloError):
    """No copy could be made from that member; another may do."""


def fetch(files: Files, client: Client, directory: str, on_bytes: Callable[[int], None] = lambda _: None) -> int:
    """Copy the log of the member that `client` speaks to, to the directory COPY in `directory`; returns the last index that it has. Raises
    `NotFetched`, `OSError`."""
    out = os.path.join(directory, COPY)
    files.make_dir(out)
    files.discard(os.path.join(out, MARK))
    _note_source(files, out, f"{client.host}:{client.port}".encode())
    try:
        for _ in range(ATTEMPTS):
            told = json.loads(client.cluster.fetch("", 0))
            wanted: dict[str, int] = dict(told["files"])
            for name in files.names(out):
                if name not in wanted and name != SOURCE:  # of an earlier copy
                    files.remove(os.path.join(out, name))
            try:
                for name, size in wanted.items():
                    _fetch_file(files, client, out, name, size, on_bytes)
            except NotFound:
                continue
            files.remove(os.path.join(out, SOURCE))
            return _finish(files, out, b64decode(told["manifest"]))
    except (Disconnected, ValueError, KeyError, TypeError) as e:
        raise NotFetched(f"the copy of {client.host}:{client.port} failed: {e}") from None
    raise NotFetched(f"the log of {client.host}:{client.port} changed {ATTEMPTS} times while it was copied")


def _note_source(files: Files, out: str, source: bytes) -> None:
    """Keep what an earlier attempt has copied only if that was from the same member."""
    path = os.path.join(out, SOURCE)
    if files.exists(path):
        fd = files.open(path)
        try:
            if files.pread(fd, files.size(fd), 0) == source:
                return
        finally:
            files.close(fd)
    for name in files.names(out):
        files.remove(os.path.join(out, name))
    fd = files.create(path)
    try:
        files.pwrite(fd, [source], 0)
    finally:
        files.close(fd)


def _fetch_file(files: Files, client: Client, out: str, name: str, size: int, on_bytes: Callable[[int], None]) -> None:
    """Fetch what is missing of a file. Raises `NotFound`."""
    if os.path.basename(name) != name or not name.endswith(FILE_ENDS):
        raise ValueError(f"{name!r} is no file of a log")
    path = os.path.join(out, name)
    fd = files.open(path, writable=True) if files.exists(path) else files.create(path)
    try:
        done = files.size(fd)
        if done > size:
            files.truncate(fd, 0)
            done = 0
        while done < size:
            piece = client.cluster.fetch(name, done)[: size - done]
            if not piece:
                raise ValueError(f"{name} ends with byte {done}, and {size} were promised")
            files.pwrite(fd, [piece], done)
            done += len(piece)
            on_bytes(len(piece))
        files.sync(fd)
    finally:
        files.close(fd)


def _finish(files: Files, out: str, text: bytes) -> int:
    """Write the copy's manifest, and the mark; returns the last index."""
    path = os.path.join(out, manifest.NAME)
    files.discard(path)
    fd = files.create(path)
    try:
        files.pwrite(fd, [text], 0)
    finally:
        files.close(fd)
    found = manifest.read(files, out)
    last = found.entries[-1]
    lengthen(files, os.path.join(out, last.file), last.first)
    segment = Segment.load(files, os.path.join(out, last.file), last.first, writable=True)
    try:
        segment.measure()
        end = CleanEnd(segment.last, segment.tail)
    finally:
        segment.close()
    files.discard(path)
    manifest.write(files, out, found.id, found.entries, found.compacted, end)
    names = json.dumps([name for name in files.names(out) if name != MARK]).encode()
    fd = files.create(os.path.join(out, NEW_MARK))
    try:
        files.pwrite(fd, [names], 0)
        files.sync(fd)
    finally:
        files.close(fd)
    files.sync_dir(out)
    files.rename(os.path.join(out, NEW_MARK), os.path.join(out, MARK))
    files.sync_dir(out)
    return end.last


def put_in_place(files: Files, directory: str) -> bool:
    """Before a start: if there is a whole copy, put it in the place of the log; returns whether there was one. It may be interrupted, and
    called again."""
    out = os.path.join(directory, COPY)
    if not files.exists(os.path.join(out, MARK)):
        return False
    fd = files.open(os.path.join(out, MARK))
    try:
        copied: list[str] = json.loads(files.pread(fd, files.size(fd), 0))
    finally:
        files.close(fd)
    for name in files.names(directory):
        if (name.endswith(FILE_ENDS) or name == manifest.NEW_NAME) and name not in copied:
            files.remove(os.path.join(directory, name))
    left = set(files.names(out))
    for name in sorted(left.intersection(copied), key=lambda each: each == manifest.NAME):  # the manifest last
        files.rename(os.path.join(out, name), os.path.join(directory, name))
    files.sync_dir(directory)
    files.remove(os.path.join(out, MARK))
    files.sync_dir(out)
    return True
