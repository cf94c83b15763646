"""`flo check --repair`: make a damaged log one that opens; everything that it takes out of the log is put aside.

Damage in a segment cuts the log at that place: what remains is a state that the log once had. A base holds the records of years, so damage
in a base does not cut the log: the readable records are kept, one by one, and so is everything behind the base. The lost records are named.
If an older base has an earlier state of a lost record's entity, that state holds again, even if the lost record was a deletion: the repair
says so.

A manifest that is lost, damaged, or not of these files is made again from the files (flo.ual.rebuild).

Whole files are copied to `damaged-<ms>` in the directory before anything is taken out of them. Nothing is changed before that copy is on
disk, and an interrupted repair can be made again.
"""

import os
from contextlib import closing
from typing import NamedTuple

from flo.errors import LogDamaged
from flo.ual import base, manifest, rebuild
from flo.ual.base import Base, BaseWriter
from flo.ual.directory import FILE_ENDS
from flo.ual.ending import look_at_end
from flo.ual.files import ZEROS, Files
from flo.ual.manifest import FORMAT_EXACT, Manifest, ManifestEntry
from flo.ual.next_segment import NAME as NEXT_SEGMENT_NAME
from flo.ual.salvage import Hole, salvage
from flo.ual.segment import Segment, file_name

CAPACITY = 4 << 20  # of a new segment


class Repaired(NamedTuple):
    """The result: `lines` for a person; `holes`, where records of a base are lost; `aside`, the directory with the copies, "" for none."""

    lines: list[str]
    holes: list[Hole]
    aside: str


class _Plan(NamedTuple):
    """The log as it is to be, and the way there."""

    entries: list[ManifestEntry]
    aside: list[str]  # files to be put aside
    lines: list[str]
    holes: list[Hole]


def repair(files: Files, directory: str, now: int) -> Repaired:
    """Repair the log in `directory`, which no other process may have open. `now` (ms) names the directory of the copies.

    Raises `LogDamaged` if there is no file of a log. After an `OSError` the log is as it was, or a second call completes the repair.
    """
    found, lines, superfluous = rebuild.find(files, directory)
    entries = found.entries
    writers: list[BaseWriter] = []
    plan = _Plan([], [], lines, [])
    cut: Segment | ManifestEntry | None = None
    begins_at = 0  # the first index of a new open segment; 0 if none is needed
    try:
        for number, entry in enumerate(entries):
            following = entries[number + 1].first if number + 1 < len(entries) else None
            if entry.is_base:
                _mend_base(files, directory, entry, plan, writers)
                continue
            cut = _look_at_segment(files, directory, entry, following, found)
            if cut is None:
                plan.entries.append(entry)
                continue
            last = cut.last if isinstance(cut, Segment) else entry.first - 1
            if following is None and isinstance(cut, Segment) and cut.has_footer():
                plan.entries.append(entry)  # whole, and sealed: a new open segment must follow
                cut.close()
                begins_at, cut = last + 1, None
                continue
            plan.lines.append(f"cut behind index {last}, in {entry.file}: what followed is put aside")
            if found.stopped is not None and found.stopped.last > last:
                plan.lines.append(f"the log was closed with index {found.stopped.last}: what came from {last + 1} on is lost")
            plan.aside.extend(name for behind in entries[number:] for name in behind.files)
            plan.entries.append(entry if isinstance(cut, Segment) else cut)
            break
        if plan.entries[-1].is_base:
            begins_at = plan.entries[-1].last + 1
        if begins_at:
            plan.entries.append(ManifestEntry(file_name(begins_at), begins_at))
        if cut is not None:  # files within the range of the old log may be past its new end
            superfluous = _unlisted(files, directory, plan)
        plan.aside.extend(name for name in superfluous if name not in plan.aside)
        inexact = "" if cut is not None or begins_at else _inexact(files, directory, found)
        if not plan.aside and not plan.lines:
            return Repaired([], [], "")
        if inexact:
            plan.aside.append(inexact)
        aside = _put_aside(files, directory, plan.aside, now)
        if cut is not None:
            _cut(files, directory, cut)
        if begins_at:
            _begin(files, directory, begins_at)
        if inexact:
            with closing(Segment.load(files, os.path.join(directory, inexact), plan.entries[-1].first, writable=True)) as opened:
                _have_length(files, opened)
        stopped = found.stopped if cut is None and not begins_at else None
        manifest.write(files, directory, found.id, plan.entries, found.compacted, stopped)
    except BaseException:
        for writer in writers:
            writer.discard()
        if isinstance(cut, Segment):
            cut.close()
        raise
    kept = {name for entry in plan.entries for name in entry.files}
    for name in plan.aside:
        if name not in kept:
            files.discard(os.path.join(directory, name))
    return Repaired(plan.lines, plan.holes, aside)


def _unlisted(files: Files, directory: str, plan: _Plan) -> list[str]:
    """The files of a log that the plan does not list."""
    kept = {name for entry in plan.entries for name in entry.files}
    return [name for name in files.names(directory) if name.endswith(FILE_ENDS) and name not in kept and name != NEXT_SEGMENT_NAME]


# -- segments --------------------------------------------------------------------------------------


def _look_at_segment(
    files: Files, directory: str, entry: ManifestEntry, following: int | None, found: Manifest
) -> Segment | ManifestEntry | None:
    """None if the segment is whole; else the segment, scanned up to the damage, or its entry if even its header is damaged."""
    try:
        segment = Segment.load(files, os.path.join(directory, entry.file), entry.first, writable=True, expected=entry.id)
    except LogDamaged:
        return entry._replace(id="")  # a new segment will have this name
    try:
        tail = segment.measure()
        whole = following is None or segment.last + 1 == following
        if following is None:
            look_at_end(segment, tail, found)
    except LogDamaged:
        return segment
    except BaseException:
        segment.close()
        raise
    if not whole:
        return segment
    segment.close()
    return None


def _cut(files: Files, directory: str, cut: Segment | ManifestEntry) -> None:
    """Make the segment end before its damage, so that it can be appended to; or make a new one if its header is damaged."""
    if isinstance(cut, ManifestEntry):
        _begin(files, directory, cut.first)
        return
    try:
        size = min(files.size(cut.fd), cut.capacity)
        for at in range(cut.tail, size, len(ZEROS)):
            files.pwrite(cut.fd, [ZEROS[: size - at]], at)
        _have_length(files, cut)
    finally:
        cut.close()


def _have_length(files: Files, segment: Segment) -> None:
    """Make the file as long as the segment's header says, durably."""
    files.truncate(segment.fd, segment.capacity)
    files.reserve(segment.fd, segment.capacity)
    files.sync(segment.fd)


def _inexact(files: Files, directory: str, found: Manifest) -> str:
    """The open segment's file if its length must be made exact, else "". Earlier formats let it differ from the header's; the manifest that
    a repair writes has the present format. The segment is known to be whole."""
    last = found.entries[-1]
    path = os.path.join(directory, last.file)
    with closing(Segment.load(files, path, last.first, writable=False)) as segment:
        return last.file if found.format < FORMAT_EXACT and files.size(segment.fd) != segment.capacity else ""


def _begin(files: Files, directory: str, first: int) -> None:
    """Make an empty segment."""
    Segment.create(files, directory, os.urandom(16), first, CAPACITY).close()
    files.sync_dir(directory)


# -- bases -----------------------------------------------------------------------------------------


def _mend_base(files: Files, directory: str, entry: ManifestEntry, plan: _Plan, writers: list[BaseWriter]) -> None:
    """Put the base into the plan: as it is if it is whole, else a new base with its readable records, which is written here."""
    if _is_whole(files, directory, entry):
        plan.entries.append(entry)
        return
    token, modulus = os.urandom(4).hex(), base.modulus_in(files, directory)
    names: list[str] = []
    for name, history in ((entry.file, False), (entry.history, True)):
        if not name:
            names.append("")
            continue
        time, rows, holes = salvage(files, os.path.join(directory, name), entry)
        new = base.file_name(entry.first, entry.last, token, history)
        writer = BaseWriter(files, os.path.join(directory, new), entry.first, entry.last, time, modulus, history)
        writers.append(writer)
        for index, data in sorted(rows.items()):
            writer.add(index, data)
        writer.finish()
        names.append(new)
        if holes:
            places = ", ".join(f"{hole.first} to {hole.last}" for hole in holes[:5]) + (" and so on" if len(holes) > 5 else "")
            kind = "history" if history else "live records"
            plan.lines.append(f"{name}: {len(rows)} {kind} kept; some are lost between the indexes {places}")
            if not history:
                plan.holes.extend(holes)
                if plan.entries:
                    plan.lines.append(
                        f"{name}: what the files before it say of the same keys, messages and records holds again: "
                        "an older value, or one that was deleted"
                    )
        else:
            plan.lines.append(f"{name}: all {len(rows)} records kept, in a new file")
    files.sync_dir(directory)
    plan.aside.extend(entry.files)
    plan.entries.append(ManifestEntry(names[0], entry.first, entry.last, names[1]))


def _is_whole(files: Files, directory: str, entry: ManifestEntry) -> bool:
    try:
        opened = Base(files, directory, entry)
    except LogDamaged:
        return False
    try:
        for file in (opened.live, opened.history):
            if file is not None:
                for number in range(len(file)):
                    file.rows(number)
                file.check_keys(has_any=file is opened.live)
    except LogDamaged:
        return False
    finally:
        opened.close()
    return True


# -- putting aside ---------------------------------------------------------------------------------


def _put_aside(files: Files, directory: str, names: list[str], now: int) -> str:
    """Copy the files, and the manifest, into a directory of their own; returns its path."""
    aside = os.path.join(directory, f"damaged-{now}")
    files.make_dir(aside)
    for name in (*names, manifest.NAME):
        try:
            fd = files.open(os.path.join(directory, name))
        except FileNotFoundError:
            continue
        try:
            files.copy(fd, os.path.join(aside, name), files.size(fd))
        finally:
            files.close(fd)
    files.sync_dir(aside)
    return aside
