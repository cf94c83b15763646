"""Compaction: sealed segments and older bases become bases that hold only what the liveness rule keeps, under the same indexes.

Two passes over everything but the open segment. The first goes backwards and decides about every record (liveness.Judge). The second
goes forwards, a group of neighbours at a time: their live records into one file, what is history only into another, synced; then
the group is *adopted*: one new manifest names the base in place of the files it was made from, and only then are those removed.

Groups are adopted in order, oldest first: what shadows a dead record (a later version, a deletion, a watermark) is behind it,
and must not go before it is gone. So a pass may end between any two groups, and needs disk space for one group only.

A pass may also begin in the middle of the log, for what decides about a record is behind it: over the *tail*, the segments that came
since the last pass, so that a start has to read no more than the open one record by record; and, once they are a crowd, the small bases
right before them. What such a pass cannot know is whether a deletion still shadows something before it, so it keeps them all; and an
entity may have its state in several bases then, of which the newest counts, as in segments. What was between two of its states may be gone
with a pass: each must be right to apply to any older one.

Where room on the disk is scarce, a pass takes what it can: only sources that become smaller, each group within the room that there is,
which grows with every file that is removed. Sources may then be left out, so such a pass, too, keeps all deletions.

Nothing here changes what is open: the process that holds the directory's lock adopts, whoever made the base.
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

GROUP_KEPT_BYTES = 64 << 20  # a base is about as large as a segment, so that the next pass needs room for no more
GROUP_READ_BYTES = 256 << 20  # of the files that make one group
SMALL_BASE_BYTES = 24 << 20  # one of the smaller segments, which a pass over the tail may have taken by itself
STOP_RECORDS = 4096  # so many are taken between two looks whether to stop
CROWD_MIN = 8  # so many small bases in a row are merged: each byte is then rewritten few times, and there are never many files

KEPT_RECORD_BYTES = 52  # what a base has of a record at most besides its bytes: columns, index, checks, framing
KEPT_FILE_BYTES = 8 << 10  # and of a file: header, footer, blocks' heads; and what the file system rounds up to

_HEAD = struct.Struct("<IBB")  # of a record: length, type, shape

Piece = UniformSpan | list[Row]  # of a source: neighbours in order of index


class Stopped(Exception):
    """The pass was told to end before it was done."""


class Source(NamedTuple):
    """A file (or two) to be compacted."""

    entry: ManifestEntry
    last: int  # the last index of its range


class Replacement(NamedTuple):
    """A group that was rewritten: `entry` is to take the place of `sources`."""

    sources: list[ManifestEntry]
    entry: ManifestEntry


class Verdicts:
    """What becomes of a source's records, and how many bytes that makes."""

    def __init__(self) -> None:
        self.column = bytearray()
        self.bytes = [0, 0, 0, 0]  # by verdict
        self.counts = [0, 0, 0, 0]
        self.tombstones = 0  # of those that are history

    @property
    def kept_bytes_max(self) -> int:
        """How large the files are at most that what is kept makes."""
        kept = sum(self.bytes) - self.bytes[DEAD], len(self.column) - self.counts[DEAD]
        return kept[0] + KEPT_RECORD_BYTES * kept[1] + KEPT_FILE_BYTES

    def add_span(self, judged: bytes, length: int) -> None:
        """Those about the records of a span."""
        self.column += judged
        for kept in DEAD, CURRENT:
            count = judged.count(kept)
            self.counts[kept] += count
            self.bytes[kept] += count * length


def sources_of(entries: Sequence[ManifestEntry]) -> list[Source]:
    """What can be compacted of the log that a manifest lists: all but the open segment."""
    return [Source(entry, following.first - 1) for entry, following in pairwise(entries)]


def tail_of(files: Files, directory: str, entries: Sequence[ManifestEntry]) -> list[Source]:
    """The sources that a pass over the tail takes: the segments behind the last base, and the small bases right before them if they are a
    crowd; nothing where there are no such segments."""
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
    """How many bytes may be written before something is removed; 0 for as many as it takes."""

    def __init__(self, size: int) -> None:
        self.bytes = size


def _groups(
    files: Files, directory: str, sources: Sequence[Source], verdicts: Sequence[Verdicts], room: _Room, rewrites_all: bool
) -> Iterator[tuple[list[Source], list[Verdicts]]]:
    """Neighbours that make one base each. A base that holds nothing dead stays as it is; a segment never does, since a start reads a base
    in a third of the time; unless room is scarce: then what does not become smaller stays too."""
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
    """The places of small bases that have many small neighbours: they become one, dead records in them or not."""
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
    """Whether rewriting the source would change nothing: it is a base, all of it live, but for a history that is what it was."""
    if verdict.counts[DEAD] or not source.entry.is_base:
        return False
    opened = Base(files, directory, source.entry)
    try:
        return bool(opened.live.records == verdict.counts[LIVE] + verdict.counts[CURRENT] + verdict.tombstones)
    finally:
        opened.close()


# -- reading ---------------------------------------------------------------------------------------


def _pieces(files: Files, directory: str, source: Source, backwards: bool) -> Generator[Piece, None, None]:
    """The records of a source, every checksum checked; `backwards`, the last piece first. Raises `LogDamaged`."""
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
    """The pieces. Raises `Stopped` where it should stop before they end."""
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
    """Write the base of a group into `out`, whole and durable, its names too."""
    first, last = group[0].entry.first, group[-1].last
    time = max(_time_of(files, directory, source) for source in group)
    token = os.urandom(4).hex()
    writers: dict[bool, BaseWriter] = {}

    def writer(history: bool) -> BaseWriter:
        found = writers.get(history)
        if found is None:
            name = base.file_name(first, last, token, history)
            found = writers[history] = BaseWriter(files, os.path.join(out, name), first, last, time, history)
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
                            # a deleted key's history is found from its deletion, which recovery has to see
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
    """The time of a source's last batch: the clock must not go back when the batches are gone."""
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
    """Remove the files of entries that the manifest on disk does not name any more. One that is gone already is no matter."""
    for entry in replaced:
        for name in entry.files:
            files.discard(os.path.join(directory, name))
