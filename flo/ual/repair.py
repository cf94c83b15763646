"""`flo check --repair`: make a damaged log one that opens, having put all that is taken out of it aside.

A log is cut at its first damage in a segment: what is left is a state that once was. Damage in a base is another matter, since a base
holds what was written over years: there what reads is kept, record by record, and what follows too; the records that are lost are named.
Where an older base has an earlier state of what was lost, that is its state again, a deletion's too: that is said as well.

A manifest that is lost, damaged, or of other files than are there is made again from the files (flo.ual.rebuild).

Everything that is taken out is first copied, whole files, to `damaged-<ms>` in the directory. Nothing is changed before that is on disk,
and a repair that is cut short can be made again.
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

CAPACITY = 4 << 20  # of a segment that begins anew


class Repaired(NamedTuple):
    """What was done: `lines` for a person; `holes`, where records of a base are gone; `aside`, where everything lies now, "" for none."""

    lines: list[str]
    holes: list[Hole]
    aside: str


class _Plan(NamedTuple):
    """What a log is to become."""

    entries: list[ManifestEntry]
    aside: list[str]  # files to be put aside
    lines: list[str]
    holes: list[Hole]


def repair(files: Files, directory: str, now: int) -> Repaired:
    """Repair the log in `directory`, which nobody else may have open; `now` (ms) names the directory for what is put aside.

    Raises `LogDamaged` where there is no file of a log, `OSError` with the log as it was, but for what a second call makes good.
    """
    found, lines, superfluous = rebuild.find(files, directory)
    entries = found.entries
    writers: list[BaseWriter] = []
    plan = _Plan([], [], lines, [])
    cut: Segment | ManifestEntry | None = None
    begins_at = 0  # the first index of a segment that is to be made, to be open; 0 for none
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
                plan.entries.append(entry)  # it is whole, and sealed: another is to be open
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
        if cut is not None:  # what is within the log as it was listed may be past its end now
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
    """The files of a log that are not of the one that is planned."""
    kept = {name for entry in plan.entries for name in entry.files}
    return [name for name in files.names(directory) if name.endswith(FILE_ENDS) and name not in kept and name != NEXT_SEGMENT_NAME]


# -- segments --------------------------------------------------------------------------------------


def _look_at_segment(
    files: Files, directory: str, entry: ManifestEntry, following: int | None, found: Manifest
) -> Segment | ManifestEntry | None:
    """None where the segment is whole; else the segment, scanned as far as it reads, or its entry where not even its header does."""
    try:
        segment = Segment.load(files, os.path.join(directory, entry.file), entry.first, writable=True, expected=entry.id)
    except LogDamaged:
        return entry._replace(id="")  # it is begun anew
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
    """Have the segment end where it last read, so that it can be appended to; or begin it anew."""
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
    """Have the file as long as the segment's header says, durably."""
    files.truncate(segment.fd, segment.capacity)
    files.reserve(segment.fd, segment.capacity)
    files.sync(segment.fd)


def _inexact(files: Files, directory: str, found: Manifest) -> str:
    """The open segment, where an earlier format let it be longer or shorter than its header says: the manifest of a repair has this format.
    It was found whole; "" where nothing is to be done."""
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
    """Put the base into the plan: as it is, or what reads of it in a new one, which is written here."""
    if _is_whole(files, directory, entry):
        plan.entries.append(entry)
        return
    token = os.urandom(4).hex()
    names: list[str] = []
    for name, history in ((entry.file, False), (entry.history, True)):
        if not name:
            names.append("")
            continue
        time, rows, holes = salvage(files, os.path.join(directory, name), entry)
        new = base.file_name(entry.first, entry.last, token, history)
        writer = BaseWriter(files, os.path.join(directory, new), entry.first, entry.last, time, history)
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
    """Copy files into a directory of their own, the manifest too; returns its path."""
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
