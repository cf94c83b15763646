"""`flo check`: read a data directory without changing it, and report its contents and its damage."""

import os
from collections.abc import Callable
from typing import NamedTuple

from flo.errors import LogDamaged
from flo.ual import manifest
from flo.ual.base import Base
from flo.ual.directory import is_new, removable
from flo.ual.ending import look_at_end
from flo.ual.files import Files
from flo.ual.manifest import Manifest, ManifestEntry
from flo.ual.record import KNOWN_TYPES, Record, decode
from flo.ual.recovery import PlainLoader
from flo.ual.segment import Segment


class Report(NamedTuple):
    """The result of a check: `lines` for a person, and one sentence of `damage` for each fault (empty: the log is whole)."""

    lines: list[str]
    damage: list[str]


def check(directory: str, files: Files | None = None, apply: Callable[[int, Record], None] = lambda *_: None) -> Report:
    """Verify the manifest, every header, every CRC, the order of indexes, every record's shape, the footers and the log's end, and that the
    manifest lists every file it should. `apply` is called for every record that a start would apply."""
    files = files or Files()
    lines: list[str] = []
    damage: list[str] = []
    try:
        if is_new(files, directory):
            return Report([], [f"{directory} has no {manifest.NAME} and no other file of a log: it is not a Flo data directory."])
        found = manifest.read(files, directory)
    except (LogDamaged, FileNotFoundError) as e:
        return Report([], [str(e)])
    entries = found.entries
    total = last = 0
    for i, entry in enumerate(entries):
        path = os.path.join(directory, entry.file)
        if entry.is_base:
            count, text = _check_base(files, directory, entry, entries[i + 1].first, damage, apply)
            total += count
            lines.append(f"{entry.file}  {text}")
            continue
        try:
            segment = Segment.load(files, path, entry.first, writable=False, expected=entry.id)
        except LogDamaged as e:
            damage.append(str(e))
            continue
        following = entries[i + 1].first if i + 1 < len(entries) else None
        try:
            count, text = _check_segment(segment, following, found, damage, apply)
            last = segment.last
        finally:
            segment.close()
        total += count
        lines.append(f"{entry.file}  {text}")
    if not damage:
        try:
            removable(files, directory, entries, last)
        except LogDamaged as e:
            damage.append(str(e))
    lines.append(f"{len(entries)} segment{'s' * (len(entries) != 1)}, {total} records")
    return Report(lines, damage)


def _check_base(
    files: Files, directory: str, entry: ManifestEntry, following: int, damage: list[str], apply: Callable[[int, Record], None]
) -> tuple[int, str]:
    """Check one base; `following` is the first index behind it."""
    try:
        base = Base(files, directory, entry)
    except LogDamaged as e:
        damage.append(str(e))
        return 0, "damaged"
    counts = []
    try:
        for file in (base.live, base.history):
            if file is None:
                continue
            last = base.first - 1
            count = 0
            for number in range(len(file)):
                for index, data in file.rows(number):
                    if not last < index <= base.last:
                        raise LogDamaged(f"{file.path} is damaged: index {index} is out of order.")
                    last = index
                    record = _look(file.path, index, decode(data))
                    count += 1
                    if file is base.live:
                        apply(index, record)
            if count != file.records:
                raise LogDamaged(f"{file.path} holds {count} records where its footer says {file.records}.")
            file.check_keys(has_any=file is base.live)
            counts.append(count)
        if base.last + 1 != following:
            raise LogDamaged(f"{base.path} ends at index {base.last}, the next begins at {following}.")
    except LogDamaged as e:
        damage.append(str(e))
        return sum(counts), "compacted, DAMAGED"
    finally:
        base.close()
    text = f"{counts[0]} records, {base.size} bytes, compacted from {base.last + 1 - base.first}"
    return sum(counts), text + (f", and {counts[1]} of history" if len(counts) > 1 else "")


def _look(path: str, index: int, record: Record) -> Record:
    """The record. Raises `LogDamaged` if it is impossible."""
    if record.type not in KNOWN_TYPES:
        raise LogDamaged(f"{path}: index {index} has type {record.type:#04x}, which this Flo does not know.")
    if record.prev >= index or any(lean >= index for lean in record.leans):
        raise LogDamaged(f"{path}: index {index} points at an index that is not before it.")
    return record


def _check_segment(
    segment: Segment, following: int | None, found: Manifest, damage: list[str], apply: Callable[[int, Record], None]
) -> tuple[int, str]:
    """Check one segment; `following` is the first index of the next one, None for the open segment."""
    try:
        tail = segment.scan(PlainLoader(lambda index, record: apply(index, _look(segment.path, index, record))).batch)
    except LogDamaged as e:
        damage.append(str(e))
        return 0, "damaged"
    count = tail.last - segment.first + 1
    text = f"{count} records, {tail.end} bytes"
    if following is not None:
        if tail.last + 1 != following:
            damage.append(f"{segment.path} is damaged at byte {tail.end}: it ends at index {tail.last}, the next begins at {following}.")
            return count, text + ", sealed, DAMAGED"
        return count, text + (", sealed" if segment.footer_is_intact() else ", sealed, footer to be made again")
    try:
        ending = look_at_end(segment, tail, found)
    except LogDamaged as e:
        damage.append(str(e))
        return count, text + ", open, DAMAGED"
    return count, text + ", open" + (f". A start would say: {ending.sentence}" if ending.sentence else "")
