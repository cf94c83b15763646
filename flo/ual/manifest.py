"""The manifest: which segments and bases make up the log, in order; the last is a segment, open. Always replaced as a whole.

Layout (docs/log-format.md, "The directory"): one line of JSON, then one line `crc32 xxxxxxxx` of the first. If the log was closed in order,
the manifest also says where it ends: so an open segment that was cut short or zeroed since is not taken for whole.
"""

import json
import os
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from flo.errors import LogDamaged
from flo.ual.files import Files

NAME = "MANIFEST"
NEW_NAME = "MANIFEST.new"
FORMAT = 5
# 1: no bases. 2: bases without an index (flo.ual.keyindex). 3: bases with one. Up to 3, the open segment of a backup is shorter than its
# header says, and the manifest does not note a stop. Up to 4, the index has no modulus
FORMATS = (1, 2, 3, 4, FORMAT)
FORMAT_EXACT = 4  # from this format on an open segment is as long as its header says
ID_BYTES = 8  # of the 16 in a file's header: enough to tell files of one directory apart
ENTRY_BYTES_MAX = 400  # a base's, the longer kind: two names of 55 bytes, two numbers of 20 digits, two ids
MANIFEST_BYTES_MAX = 64 << 20  # 100 bytes a segment of 64 MiB: a log of 40 TiB


class WrongFile(LogDamaged):
    """A file is whole, as far as it was read, but is not the one that the manifest lists."""


class ManifestEntry(NamedTuple):
    """One segment or base: its file's name in the directory and the index of its first record. The ids are the first bytes of those in the
    files' headers: a file that was put in the place of another is found by them. They are "" if not known yet."""

    file: str
    first: int
    last: int = 0  # of a base: the last index of its range; 0 for a segment
    history: str = ""  # of a base: the file of the records that are only history, "" for none
    id: str = ""
    history_id: str = ""

    @property
    def is_base(self) -> bool:
        return self.last > 0

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files."""
        return (self.file, self.history) if self.history else (self.file,)


def check_id(path: str, expected: str, identity: bytes) -> str:
    """The id of a file with this `identity` in its header. Raises `WrongFile` if it is not `expected`, which is "" for any."""
    found = identity[:ID_BYTES].hex()
    if expected and found != expected:
        raise WrongFile(
            f"{path} is not the file that {NAME} lists under this name: its id is {found}, and {expected} is expected. It is another "
            "directory's, or of another time. Put the right one in its place, or restore the directory from a backup."
        )
    return found


class CleanEnd(NamedTuple):
    """The end of the log when it was closed: its last index, and where the open segment's batches end in the file."""

    last: int
    size: int


class Manifest(NamedTuple):
    """`id` is 32 hex digits, made once with the directory. `compacted` is the log's size in bytes after its last compaction.
    `stopped` is None unless the log was closed in order and not opened since."""

    id: str
    entries: list[ManifestEntry]
    compacted: int = 0
    stopped: CleanEnd | None = None
    format: int = FORMAT


def write(
    files: Files,
    directory: str,
    identity: str,
    entries: Sequence[ManifestEntry],
    compacted: int = 0,
    stopped: CleanEnd | None = None,
) -> None:
    """Put a new manifest in place, atomically and durably."""
    text = _text(identity, entries, compacted, stopped)
    new = os.path.join(directory, NEW_NAME)
    fd = files.open(new, writable=True) if files.exists(new) else files.create(new)
    try:
        files.pwrite(fd, [text], 0)
        files.truncate(fd, len(text))
        files.sync(fd)
    finally:
        files.close(fd)
    files.rename(new, os.path.join(directory, NAME))
    files.sync_dir(directory)


def _text(identity: str, entries: Sequence[ManifestEntry], compacted: int, stopped: CleanEnd | None) -> bytes:
    segments: list[dict[str, object]] = []
    for entry in entries:
        row: dict[str, object] = {"file": entry.file, "first": entry.first}
        if entry.is_base:
            row |= {"last": entry.last, "history": entry.history}
        row |= {name: value for name, value in (("id", entry.id), ("history_id", entry.history_id)) if value}
        segments.append(row)
    body: dict[str, object] = {"flo": "data directory", "format": FORMAT, "id": identity, "segments": segments}
    if compacted:
        body["compacted"] = compacted
    if stopped is not None:
        body["stopped"] = {"last": stopped.last, "end": stopped.size}
    line = json.dumps(body).encode()
    return line + b"\ncrc32 %08x\n" % crc32(line)


def reserve(files: Files, directory: str, identity: str, entries: Sequence[ManifestEntry], compacted: int = 0) -> None:
    """Reserve the disk space of the next manifest, which will have one entry more. Raises `OSError` (ENOSPC)."""
    fd = files.create(os.path.join(directory, NEW_NAME))
    try:
        # ENTRY_BYTES_MAX is enough for the new entry, or for the end of the log
        files.reserve(fd, len(_text(identity, entries, compacted, None)) + ENTRY_BYTES_MAX)
    finally:
        files.close(fd)


def read(files: Files, directory: str) -> Manifest:
    """The manifest in `directory`. Raises `LogDamaged` if it cannot be trusted or has an unknown format."""
    path = os.path.join(directory, NAME)
    fd = files.open(path)
    try:
        data = files.pread(fd, MANIFEST_BYTES_MAX, 0)
    finally:
        files.close(fd)
    line, _, rest = data.partition(b"\n")
    if rest.strip() != b"crc32 %08x" % crc32(line):
        raise LogDamaged(f"{path} is damaged: its checksum does not hold. `flo check --repair` makes it again from the other files.")
    body = json.loads(line)
    if body["format"] not in FORMATS:
        known = ", ".join(map(str, FORMATS))
        raise LogDamaged(
            f"{path} says format {body['format']}, and this Flo knows formats {known}. Use the Flo that wrote it or a later one."
        )
    entries = [
        ManifestEntry(
            str(item["file"]),
            int(item["first"]),
            int(item.get("last", 0)),
            str(item.get("history", "")),
            str(item.get("id", "")),
            str(item.get("history_id", "")),
        )
        for item in body["segments"]
    ]
    firsts = [entry.first for entry in entries]
    if not entries or firsts != sorted(set(firsts)) or firsts[0] < 1 or entries[-1].is_base:
        raise LogDamaged(f"{path} lists no segments, or lists them out of order. `flo check --repair` makes it again from the other files.")
    end = body.get("stopped")
    stopped = CleanEnd(int(end["last"]), int(end["end"])) if end is not None else None
    return Manifest(str(body["id"]), entries, int(body.get("compacted", 0)), stopped, int(body["format"]))
