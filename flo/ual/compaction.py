"""Compaction: sealed segments and older bases become bases that hold only what the liveness rule keeps, under the same indexes.

A pass over everything but the open segment reads it twice. The first reading goes backwards and decides about every record
(liveness.Judge). The second goes forwards, a group of neighbouring files at a time: the live records are written to one file, those that
are only history to another, and both are synced. Then the group is *adopted*: a new manifest names the base in place of the files that it
was made from, and only then are those removed.

Groups are adopted in order, the oldest first: the record that shadows a dead one (a later version, a deletion, a watermark) is behind it,
and must outlive it. So a pass may end between any two groups, and needs disk space for one group only.

A pass may also begin in the middle of the log, since the records that decide about a record are behind it. A pass over the *tail* takes the
segments that came since the last pass, so that a start reads only the open one record by record; it takes the small bases right before them
too when they have become many. It cannot know whether a deletion still shadows a record before the tail, so it keeps all deletions. An
entity may then have its state in several bases, and the newest counts, as in segments. A pass may remove the records between two states of
an entity: each state must be right when applied to any older one.

If room on the disk is scarce, a pass takes only sources that become smaller, each group within the room there is, which grows with every
file that is removed. It may leave out sources, so it keeps all deletions too.

Nothing here changes the open segment or the manifest: the process that holds the directory's lock adopts the bases, whoever made them.
"""

import heapq
import os
import struct
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from typing import NamedTuple

from flo.errors import LogDamaged
from flo.ual import base
from flo.ual.base import Base, BaseFile, BaseWriter
from flo.ual.files import Files
from flo.ual.liveness import CURRENT, DEAD, HISTORY, LIVE, Judge
from flo.ual.manifest import ManifestEntry
from flo.ual.record import GONE
from flo.ual.segment import Segment
from flo.ual.uniform_spans import Row, UniformSpan, split

GROUP_KEPT_BYTES = 64 << 20  # a base is about as large as a segment, so that the next pass needs no more room
GROUP_READ_BYTES = 256 << 20  # of the files in one group
SMALL_BASE_BYTES = 24 << 20  # a base made of one of the smaller segments, as a pass over the tail makes
STOP_RECORDS = 4096  # records between two checks whether to stop
CROWD_MIN = 8  # so many small bases in a row are merged: so each byte is rewritten few times, and there are never many files

KEPT_RECORD_BYTES = 52  # the most that a record takes in a base besides its bytes: columns, index, checks, framing
KEPT_FILE_BYTES = 8 << 10  # the same for a file: header, footer, blocks' heads, rounding by the file system

_HEAD = struct.Struct("<IBB")  # of a record: length, type, shape

Piece = UniformSpan | list[Row]  # records of a source, neighbours in order of index


class Stopped(Exception):
    """The pass was told to stop before it was done."""


class Source(NamedTuple):
    """A segment or base to be compacted."""

    entry: ManifestEntry
    last: int  # the last index of its range


class Replacement(NamedTuple):
    """A group that was rewritten: `entry` is to take the place of `sources`."""

    sources: list[ManifestEntry]
    entry: ManifestEntry


class Verdicts:
    """The verdicts on a source's records, and the bytes of records by verdict."""

    def __init__(self) -> None:
        self.column: bytearray = bytearray()
        self.bytes: list[int] = [0, 0, 0, 0]  # by verdict
        self.counts: list[int] = [0, 0, 0, 0]
        self.tombstones = 0  # deletions that are history

    @property
    def kept_bytes_max(self) -> int:
        """The largest size that the files of the kept records can have."""
        kept = sum(self.bytes) - self.bytes[DEAD], len(self.column) - self.counts[DEAD]
        return kept[0] + KEPT_RECORD_BYTES * kept[1] + KEPT_FILE_BYTES

    def add_span(self, judged: bytes, length: int) -> None:
        """Add the verdicts on a span, whose records are `length` bytes each."""
        self.column += judged
        for kept in DEAD, CURRENT:
            count = judged.count(kept)
            self.counts[kept] += count
            self.bytes[kept] += count * length


def sources_of(entries: Sequence[ManifestEntry]) -> list[Source]:
    """The sources of a log that a manifest lists: everything but the open segment."""
    return [Source(entry, following.first - 1) for entry, following in pairwise(entries)]


def tail_of(files: Files, directory: str, entries: Sequence[ManifestEntry]) -> list[Source]:
    """The sources of a pass over the tail: the segments behind the last base, and the small bases right before them if they are many; none
    if there are no such segments."""
    sources = sources_of(entries)
    first = len(sources)
    while first and not sources[first - 1].entry.is_base:
        first -= 1
    if first == len(sources):
        return []
    small = first
    while small and sources[small - 1].entry.is_base and _size_of(files, directory, sources[small - 1].entry) < SMALL_BASE_BYTES:
        small -= 1
    return sources[small if first - small >= CROWD_MIN else first :]


def _size_of(files: Files, directory: str, entry: ManifestEntry) -> int:
    return sum(files.size_of(os.path.join(directory, name)) for name in entry.files)


def compact(
    files: Files,
    directory: str,
    sources: Sequence[Source],
    *,
    now: int,
    depth: int,
    age: int,
    should_stop: Callable[[], bool] = lambda: False,
    room: int = 0,
    out: str | None = None,
) -> Iterator[Replacement]:
    """Rewrite `sources`, which must be all of `sources_of` or of `tail_of`. The caller adopts each `Replacement` durably, and removes the
    files it replaces, before it asks for the next. `now`, `depth` and `age` are those of `liveness.survivors`. `room` is how many bytes may
    be written before something is removed, 0 where the disk has plenty. With `out`, everything is rewritten into that directory and nothing
    is replaced. Raises `LogDamaged`, `OSError`, `Stopped`; files that were not adopted are removed."""
    judge = Judge(now, depth, age, tail=room > 0 or (bool(sources) and sources[0].entry.first > 1))
    verdicts = [Verdicts() for _ in sources]
    for source, verdict in zip(reversed(sources), reversed(verdicts), strict=True):
        column, sizes, counts, decide = verdict.column, verdict.bytes, verdict.counts, judge.judge
        with closing(_pieces(files, directory, source, backwards=True)) as pieces:
            for piece in _until(should_stop, pieces):
                if isinstance(piece, UniformSpan):
                    alike = judge.judge_span(piece)
                    if alike is not None:
                        verdict.add_span(alike, piece.length)
                        continue
                    piece = piece.rows()
                for index, data, at, past in reversed(piece):
                    kept = decide(index, data, at, past)
                    column.append(kept)
                    length, _, shape = _HEAD.unpack_from(data, at)
                    sizes[kept] += length
                    counts[kept] += 1
                    if kept == HISTORY and shape & GONE:
                        verdict.tombstones += 1
        verdict.column.reverse()
    left = _Room(room)
    for group, judged in _groups(files, directory, sources, verdicts, left, rewrites_all=out is not None):
        size = sum(_size_of(files, directory, source.entry) for source in group)
        replacement = _rewrite(files, directory, out or directory, group, judged, should_stop)
        left.bytes += size - _size_of(files, directory, replacement.entry) if room else 0
        yield replacement


class _Room:
    """The bytes that may be written before something is removed; 0 for no bound."""

    def __init__(self, size: int) -> None:
        self.bytes = size


def _groups(
    files: Files, directory: str, sources: Sequence[Source], verdicts: Sequence[Verdicts], room: _Room, rewrites_all: bool
) -> Iterator[tuple[list[Source], list[Verdicts]]]:
    """The groups of neighbours that are to make one base each. A base without dead records stays as it is. A segment is always rewritten,
    since a start reads a base in a third of the time. If room is scarce, sources that do not become smaller stay too."""
    group: list[Source] = []
    judged: list[Verdicts] = []
    kept = read = 0
    crowd = _crowds(sources, verdicts)
    for number, (source, verdict) in enumerate(zip(sources, verdicts, strict=True)):
        size = sum(verdict.bytes)
        keeps = verdict.kept_bytes_max if room.bytes else size - verdict.bytes[DEAD]
        if group and (kept + keeps > (min(room.bytes, GROUP_KEPT_BYTES) or GROUP_KEPT_BYTES) or read + size > GROUP_READ_BYTES):
            yield group, judged
            group, judged, kept, read = [], [], 0, 0
        if room.bytes:
            if keeps > room.bytes or keeps >= _size_of(files, directory, source.entry):
                if group:
                    yield group, judged
                    group, judged, kept, read = [], [], 0, 0
                continue
        elif not group and number not in crowd and not rewrites_all and _is_clean(files, directory, source, verdict):
            continue
        group.append(source)
        judged.append(verdict)
        kept, read = kept + keeps, read + size
    if group:
        yield group, judged


def _crowds(sources: Sequence[Source], verdicts: Sequence[Verdicts]) -> set[int]:
    """The places of small bases with many small neighbours: these become one base, with dead records in them or not."""
    found: set[int] = set()
    neighbours: list[int] = []
    for number in range(len(sources) + 1):
        if number < len(sources) and sources[number].entry.is_base and sum(verdicts[number].bytes) < SMALL_BASE_BYTES:
            neighbours.append(number)
            continue
        if len(neighbours) >= CROWD_MIN:
            found.update(neighbours)
        neighbours = []
    return found


def _is_clean(files: Files, directory: str, source: Source, verdict: Verdicts) -> bool:
    """Whether rewriting the source would change nothing: it is a base without dead records, and none of its live records became history."""
    if verdict.counts[DEAD] or not source.entry.is_base:
        return False
    opened = Base(files, directory, source.entry)
    try:
        return bool(opened.live.records == verdict.counts[LIVE] + verdict.counts[CURRENT] + verdict.tombstones)
    finally:
        opened.close()


# -- reading ---------------------------------------------------------------------------------------


def _pieces(files: Files, directory: str, source: Source, backwards: bool) -> Generator[Piece, None, None]:
    """The records of a source, with every checksum verified; the last piece first if `backwards`. Raises `LogDamaged`."""
    if source.entry.is_base:
        with closing(_base_rows(files, directory, source.entry, backwards)) as rows:
            for row in rows:
                yield [row]
        return
    segment = Segment.load(files, os.path.join(directory, source.entry.file), source.entry.first, writable=False)
    try:
        places = [(header, at) for header, at, _ in segment.batches()]
        last = places[-1][0].last if places else segment.first - 1
        if last != source.last:
            raise LogDamaged(f"{segment.path} ends at index {last} where {source.last} should be: it is damaged, or not sealed yet.")
        for header, place in reversed(places) if backwards else places:
            found = split(header.first, header.records, files.pread(segment.fd, header.length, place))
            yield from reversed(found) if backwards else found
    finally:
        segment.close()


def _until(should_stop: Callable[[], bool], pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces. Raises `Stopped` when the pass is to stop before their end."""
    seen = STOP_RECORDS
    for piece in pieces:
        if seen >= STOP_RECORDS:
            seen = 0
            if should_stop():
                raise Stopped
        seen += piece.records if isinstance(piece, UniformSpan) else len(piece)
        yield piece


def _base_rows(files: Files, directory: str, entry: ManifestEntry, backwards: bool) -> Generator[Row, None, None]:
    opened = Base(files, directory, entry)
    try:
        if opened.history is None:
            yield from _file_rows(opened.live, backwards, past=False)
        else:
            both = (_file_rows(opened.live, backwards, past=False), _file_rows(opened.history, backwards, past=True))
            yield from heapq.merge(*both, key=_index_of, reverse=backwards)
    finally:
        opened.close()


def _index_of(row: Row) -> int:
    return row[0]


def _file_rows(file: BaseFile, backwards: bool, past: bool) -> Iterator[Row]:
    for number in range(len(file) - 1, -1, -1) if backwards else range(len(file)):
        found = [(index, data, 0, past) for index, data in file.rows(number)]
        yield from reversed(found) if backwards else found


# -- writing ---------------------------------------------------------------------------------------


def _rewrite(
    files: Files,
    directory: str,
    out: str,
    group: Sequence[Source],
    judged: Sequence[Verdicts],
    should_stop: Callable[[], bool],
) -> Replacement:
    """Write the base of a group into `out`; its files and their names are durable then."""
    first, last = group[0].entry.first, group[-1].last
    time = max(_time_of(files, directory, source) for source in group)
    token, modulus = os.urandom(4).hex(), base.modulus_in(files, directory)
    writers: dict[bool, BaseWriter] = {}

    def writer(history: bool) -> BaseWriter:
        found = writers.get(history)
        if found is None:
            name = base.file_name(first, last, token, history)
            found = writers[history] = BaseWriter(files, os.path.join(out, name), first, last, time, modulus, history)
        return found

    try:
        writer(history=False)
        for source, verdict in zip(group, judged, strict=True):
            done = 0
            with closing(_pieces(files, directory, source, backwards=False)) as pieces:
                for piece in _until(should_stop, pieces):
                    count = piece.records if isinstance(piece, UniformSpan) else len(piece)
                    column = verdict.column[done : done + count]
                    done += count
                    if isinstance(piece, UniformSpan) and column.count(CURRENT) == count:
                        writer(history=False).add_span(piece)
                        continue
                    rows = piece.rows() if isinstance(piece, UniformSpan) else piece
                    for (index, data, at, _), kept in zip(rows, column, strict=True):
                        if kept:
                            length, _, shape = _HEAD.unpack_from(data, at)
                            # a deleted key's history is found from its deletion, so recovery must see that
                            writer(history=kept == HISTORY and not shape & GONE).add(index, data[at : at + length], kept == CURRENT)
        for each in writers.values():
            each.finish()
        files.sync_dir(out)
    except (OSError, LogDamaged, Stopped):
        for each in writers.values():
            each.discard()
        raise
    history = os.path.basename(writers[True].path) if True in writers else ""
    history_id = writers[True].id if history else ""
    entry = ManifestEntry(os.path.basename(writers[False].path), first, last, history, writers[False].id, history_id)
    return Replacement([source.entry for source in group], entry)


def _time_of(files: Files, directory: str, source: Source) -> int:
    """The time of a source's last batch: the stamps must not go back when the batches are gone."""
    if source.entry.is_base:
        opened = BaseFile(files, os.path.join(directory, source.entry.file), source.entry.first, source.last)
        opened.close()
        return int(opened.time)
    segment = Segment.load(files, os.path.join(directory, source.entry.file), source.entry.first, writable=False)
    try:
        return max((header.time for header, _, _ in segment.batches()), default=0)
    finally:
        segment.close()


def remove_replaced(files: Files, directory: str, replaced: Sequence[ManifestEntry]) -> None:
    """Remove the files of entries that the manifest on disk does not name any more. Files that are gone already are skipped."""
    for entry in replaced:
        for name in entry.files:
            files.discard(os.path.join(directory, name))
