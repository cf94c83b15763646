"""Makes a manifest from the files themselves, for `flo check --repair`, if it is lost or damaged or is not of these files.

Bases and segments have their range in name and header. So the log is a chain of them, in which each begins where the one before it ends. If
several fit, a base is preferred to the segments it was made from, since the record that shadowed a dead one may be gone with it. Of several
bases the newest is preferred; if all are damaged, the one with most readable records. The chain that reaches furthest is the log. A missing
base that a manifest lists is a part of the chain too: its records are lost, those behind it are not. Files behind any other gap cannot be
joined to the log, and are put aside.
"""

import os
import re
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from flo.errors import LogDamaged
from flo.ual import manifest
from flo.ual.base import Base, BaseFile
from flo.ual.directory import FILE_ENDS, removable
from flo.ual.files import Files
from flo.ual.manifest import Manifest, ManifestEntry, WrongFile
from flo.ual.next_segment import NAME as NEXT_SEGMENT_NAME
from flo.ual.salvage import salvage
from flo.ual.segment import Segment

_SEGMENT = re.compile(r"(\d{20})\.seg")
_BASE = re.compile(r"(\d{20})-(\d{20})-([0-9a-f]{8})\.base")


class Found(NamedTuple):
    """The manifest for the repair."""

    manifest: Manifest
    lines: list[str]  # for a person: why and how it was made anew; none if it is the one on disk
    superfluous: list[str]  # unlisted files, to be put aside


MISSING_BASE, BROKEN_BASE, SEGMENT, BASE = range(4)


class _Candidate(NamedTuple):
    """A file that may be part of the log."""

    entry: ManifestEntry
    last: int  # the last index of its range; of a segment with a damaged header, the one before its first
    grade: int  # MISSING_BASE, BROKEN_BASE, SEGMENT or BASE: the highest is taken if several reach as far
    records: int  # of a broken base: the readable ones; an interrupted compaction or repair leaves a base with few
    time: float  # of the file's last change


def find(files: Files, directory: str) -> Found:
    """The manifest on disk if it fits the files in the directory, else one that is made from them. Raises `LogDamaged` if there is no file
    of a log."""
    there: Manifest | None
    try:
        there = manifest.read(files, directory)
        if _is_of_other_files(files, directory, there):
            there, why = None, f"{manifest.NAME} is another directory's"
        else:
            why = _contradiction(files, directory, there)
            if not why:
                return Found(there, [], [])
    except FileNotFoundError:
        there, why = None, f"there is no {manifest.NAME}"
    except (LogDamaged, ValueError, LookupError, TypeError):
        there, why = None, f"{manifest.NAME} does not read"
    return _rebuild(files, directory, there, why)


def _is_of_other_files(files: Files, directory: str, found: Manifest) -> bool:
    """Whether files have the names that the manifest lists, but none of them is the file that it means."""
    others = 0
    for entry in found.entries:
        path = os.path.join(directory, entry.file)
        if not entry.id or not files.exists(path):
            continue
        try:
            if entry.is_base:
                BaseFile(files, path, entry.first, entry.last, entry.id).close()
            else:
                Segment.load(files, path, entry.first, writable=False, expected=entry.id).close()
            return False
        except WrongFile:
            others += 1
        except LogDamaged:
            return False  # damaged: it may be the right one
    return others > 0


def _contradiction(files: Files, directory: str, found: Manifest) -> str:
    """Why the manifest does not fit the files in the directory; "" if it does."""
    last = found.entries[-1]
    names = files.names(directory)
    listed = {name for entry in found.entries for name in entry.files}
    missing = sorted(listed.difference(names))
    if missing and any(name.endswith(FILE_ENDS) and name not in listed and name != NEXT_SEGMENT_NAME for name in names):
        return f"{missing[0]} is missing, and there are files that {manifest.NAME} does not list"
    try:
        path = os.path.join(directory, last.file)
        with closing(Segment.load(files, path, last.first, writable=False, expected=last.id)) as segment:
            segment.measure()
            if segment.has_footer():
                return f"{last.file} is sealed, and {manifest.NAME} lists nothing behind it"
            removable(files, directory, found.entries, segment.last)
    except LogDamaged:
        # a listed file that is damaged is repaired as such; an unlisted file belongs to another manifest
        try:
            removable(files, directory, found.entries, found.entries[-1].first - 1)
        except LogDamaged:
            return f"there are files that {manifest.NAME} does not list"
    return ""


def _rebuild(files: Files, directory: str, there: Manifest | None, why: str) -> Found:
    identity, listed_before = (there.id, there.entries) if there is not None else (os.urandom(16).hex(), [])
    candidates = _candidates(files, directory, listed_before)
    if not candidates:
        raise LogDamaged(f"{directory} has no file of a log: there is nothing that a repair could begin with. Restore it from a backup.")
    chain = _chain(candidates)
    entries = [candidate.entry for candidate in chain]
    end = chain[-1].last
    lines = [f"{why}: made a manifest of {len(entries)} files, which hold the indexes {entries[0].first} to {end}"]
    if entries[0].first > 1:
        lines.append(f"what the indexes 1 to {entries[0].first - 1} held is lost: no file has them")
    listed = {name for entry in entries for name in entry.files}
    others = [name for name in files.names(directory) if name.endswith(FILE_ENDS) and name not in listed and name != NEXT_SEGMENT_NAME]
    behind = [candidate for candidate in candidates if candidate.entry.first > end + 1]
    if behind:
        lines.append(f"no file has the indexes from {end + 1} to {behind[0].entry.first - 1}: what is behind them is put aside")
    return Found(Manifest(identity, entries), lines, others)


def _candidates(files: Files, directory: str, listed: Sequence[ManifestEntry]) -> list[_Candidate]:
    """Every base and segment in the directory, by first index. Missing bases of `listed` are included, so that the files behind one are not
    lost with it."""
    found = []
    names = set(files.names(directory))
    ids = {entry.file: entry.id for entry in listed}  # a file with another id is not of this log
    for name in names:
        path = os.path.join(directory, name)
        segment, base = _SEGMENT.fullmatch(name), _BASE.fullmatch(name)
        if segment:
            first = int(segment[1])
            last, segment_entry = first - 1, ManifestEntry(name, first)
            try:
                with closing(Segment.load(files, path, first, writable=False, expected=ids.get(name, ""))) as opened:
                    opened.measure()
                    segment_entry, last = opened.entry, opened.last
            except WrongFile:
                continue
            except LogDamaged:
                pass
            found.append(_Candidate(segment_entry, last, SEGMENT, 0, files.changed_at(path)))
        elif base:
            first, last = int(base[1]), int(base[2])
            history = name.removesuffix(".base") + ".hist"
            entry = ManifestEntry(name, first, last, history if history in names else "", ids.get(name, ""))
            grade, records = BASE, 0
            try:
                with closing(Base(files, directory, entry)) as whole:
                    entry = whole.entry
            except WrongFile:
                continue
            except LogDamaged:
                grade, records = BROKEN_BASE, len(salvage(files, path, entry)[1])
            found.append(_Candidate(entry, last, grade, records, files.changed_at(path)))
    missing = [entry for entry in listed if entry.is_base and entry.file not in names]
    if found:
        found += [_Candidate(entry, entry.last, MISSING_BASE, 0, 0.0) for entry in missing]
    found.sort(key=lambda candidate: (candidate.entry.first, candidate.entry.file))
    return found


def _chain(candidates: list[_Candidate]) -> list[_Candidate]:
    """The candidates that are the log, in order: of the chains from the lowest index on, the one that reaches furthest."""
    # by first index: (end of the chain, grade of its first file, the chain)
    best: dict[int, tuple[int, tuple[int, int, float], list[_Candidate]]] = {}
    for candidate in reversed(candidates):
        first = candidate.entry.first
        after = best.get(candidate.last + 1) if candidate.last >= first else None
        end, rest = (after[0], after[2]) if after is not None else (candidate.last, [])
        grade = (candidate.grade, candidate.records, candidate.time)
        if first not in best or (end, grade) > best[first][:2]:
            best[first] = (end, grade, [candidate, *rest])
    return best[candidates[0].entry.first][2]
