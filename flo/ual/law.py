"""The record law: which records of a log are live. One generic function, the same for every store.

The latest record of an entity is its state; what it leans on is live with it; a watermark kills the members of
its scope below an index; the rest is dead. An entity is (family, namespace, entity bytes). History is kept
apart: the chain of predecessors, by depth and age. Compaction needs to know no more than this.

`store/` must agree: applying only the live records gives the same state as applying all of them. `survivors` says it plainly;
`Judge` says the same of a log too large to hold, record by record, the newest first; tests/ual/test_compaction.py holds them equal.
"""

import struct
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from flo.ual.record import (
    FAMILY_CONTAINED,
    FAMILY_MASK,
    FAMILY_WATERMARK,
    GONE,
    HEADER,
    HEADER_BYTES,
    LEANS_MASK,
    PREV_AT,
    U32,
    U64,
    WATERMARK,
    Record,
    container_of,
)
from flo.ual.runs import Run

Entity = tuple[int, int, bytes]  # family, namespace, entity
TIME_MAX = (1 << 64) - 1  # that a record can say


class Survivors(NamedTuple):
    """Indexes to keep: `live` is the present state, `history` what is kept besides."""

    live: frozenset[int]
    history: frozenset[int]


def entity_of(record: Record) -> Entity:
    return (record.family, record.namespace, record.entity)


def scopes_of(record: Record) -> tuple[bytes, ...]:
    """The entities of the watermarks that may drop this record: all of the namespace, its family, its container."""
    family = bytes((record.family,))
    if record.family < FAMILY_CONTAINED or not record.entity:
        return b"", family
    return b"", family, family + container_of(record.entity)


def survivors(log: Mapping[int, Record], now: int, depth: int, age: int) -> Survivors:
    """What the law keeps of `log`, a whole log from its first record, by index.

    `depth` is how many versions of an entity are kept, the present one included (1 keeps no history); `age`, in
    ms, how long a version is kept after something replaced it, counted back from `now` (ms). What a record replaced that says a time after
    `now` (the clock was ahead when it was written) counts as replaced now.
    """
    latest: dict[Entity, int] = {}
    marks: dict[tuple[int, bytes], int] = {}  # (namespace, scope) -> dead below
    for index in sorted(log):
        record = log[index]
        latest[entity_of(record)] = index
        if record.type == WATERMARK:
            scope = (record.namespace, record.entity)
            marks[scope] = max(marks.get(scope, 0), U64.unpack(record.state)[0])

    def dropped(index: int, record: Record) -> bool:
        if record.family == FAMILY_WATERMARK:
            return False  # a mark shadows what may lie in an older segment: the latest of its scope stays
        return any(index < marks.get((record.namespace, scope), 0) for scope in scopes_of(record))

    live: set[int] = set()
    history: set[int] = set()
    for index in latest.values():
        record = log[index]
        if dropped(index, record):
            continue
        if not record.gone:
            _keep(index, log, live)
        elif depth > 1 and record.prev and min(record.time, now) + age > now:
            _keep(index, log, history)  # the end of the chain, from which the deleted entity's history is reached
        replaced, at, kept = record.time, record.prev, 1
        while at and kept < depth and min(replaced, now) + age > now:
            older = log.get(at)
            if older is None or dropped(at, older):
                break
            _keep(at, log, history)
            replaced, at, kept = older.time, older.prev, kept + 1
    return Survivors(frozenset(live), frozenset(history - live))


def _keep(index: int, log: Mapping[int, Record], into: set[int]) -> None:
    """Add `index` and all it leans on."""
    pending = [index]
    while pending:
        at = pending.pop()
        if at not in into and at in log:
            into.add(at)
            pending.extend(log[at].leans)


DEAD, HISTORY, LIVE, CURRENT = 0, 1, 2, 3
# CURRENT is live too: its entity's latest, and nothing leans on it, so that it may be applied after all that is only LIVE.
_FAMILIES = [bytes((kind & FAMILY_MASK,)) for kind in range(256)]


class Judge:
    """`survivors`, one record (or run) at a time from the newest to the oldest: who leans on a record, or comes behind it in its chain, and
    every watermark that may drop it, has been seen before it. Its memory is one set item an entity, not one a record."""

    def __init__(self, now: int, depth: int, age: int, tail: bool = False) -> None:
        """As for `survivors`. `tail` says that the log did not begin with the oldest record it will be shown: a deletion may be of what is
        before that, and is live until somebody sees that there is nothing."""
        self._old = now - age if age > 0 else TIME_MAX  # what was replaced at this time or before is old
        self._tail = tail
        self._depth = depth
        self._seen: defaultdict[bytes, set[bytes]] = defaultdict(set)  # by family and namespace: entities
        self._needed: dict[int, int] = {}  # index -> what leans on it is kept as
        self._chain: dict[int, int] = {}  # index -> the how-manieth version of its entity it is
        self._marks: dict[tuple[int, bytes], int] = {}
        self._marked = 0  # no mark drops what has this index, or a higher one

    def judge(self, index: int, data: bytes, at: int, past: bool = False) -> int:
        """DEAD, HISTORY, LIVE or CURRENT: what becomes of the record at offset `at` of `data`. `past` says that an earlier pass has found
        it to be history: whatever it was replaced by may be lost, and it is not what is any more."""
        _, kind, shape, entity_length, namespace, time, prev = HEADER.unpack_from(data, at)
        leans = shape & LEANS_MASK
        start = at + HEADER_BYTES + 8 * leans
        entity = data[start : start + entity_length]
        family = kind & FAMILY_MASK
        seen = self._seen[_FAMILIES[kind] + data[at + 8 : at + 12]]
        leaned_on = verdict = self._needed.pop(index, DEAD) if self._needed else DEAD
        version = self._chain.pop(index, 0) if self._chain else 0
        latest = not past and entity not in seen
        if latest:
            seen.add(entity)
        if kind == WATERMARK:
            scope, below = (namespace, entity), U64.unpack_from(data, start + entity_length)[0]
            self._marks[scope] = max(self._marks.get(scope, 0), below)
            self._marked = max(self._marked, below)
        if (latest or version) and not (self._marks and self._dropped(index, family, namespace, entity)):
            young = time > self._old
            if version:
                verdict = verdict or HISTORY
            if latest:
                version = 1
                if not shape & GONE:
                    verdict = LIVE if leaned_on or kind == WATERMARK else CURRENT
                elif self._tail:
                    verdict = LIVE
                elif self._depth > 1 and prev and young:
                    verdict = verdict or HISTORY
            if prev and version < self._depth and young:
                self._chain[prev] = min(version + 1, self._chain.get(prev, self._depth))
        if leans and verdict:
            for lean in struct.unpack_from(f"<{leans}Q", data, at + HEADER_BYTES):
                self._needed[lean] = max(min(verdict, LIVE), self._needed.get(lean, DEAD))
        return verdict

    def judge_run(self, run: Run) -> bytes | None:
        """`judge` of every record of a run, from the newest to the oldest; None where there is something about one of them that only a
        look at each can tell, and nothing has been done then."""
        indexes = range(run.first, run.first + run.records)
        if run.kind == WATERMARK or run.first < self._marked:
            return None
        if not (self._needed.keys().isdisjoint(indexes) and self._chain.keys().isdisjoint(indexes)):
            return None
        if self._depth > 1 and any(map(any, run.cut(PREV_AT, HEADER_BYTES))):
            return None
        head = _FAMILIES[run.kind] + U32.pack(run.namespace)
        seen, entities = self._seen[head], run.cut(HEADER_BYTES, HEADER_BYTES + run.entity_length)
        new = set(entities)
        if len(new) == run.records and seen.isdisjoint(new):
            seen |= new
            return bytes((CURRENT,)) * run.records
        verdicts = bytearray()
        for entity in reversed(entities):
            if entity in seen:
                verdicts.append(DEAD)
            else:
                seen.add(entity)
                verdicts.append(CURRENT)
        return bytes(verdicts)

    def _dropped(self, index: int, family: int, namespace: int, entity: bytes) -> bool:
        if family == FAMILY_WATERMARK:
            return False
        marks, head = self._marks, bytes((family,))
        if index < marks.get((namespace, b""), 0) or index < marks.get((namespace, head), 0):
            return True
        if family < FAMILY_CONTAINED or not entity:
            return False
        return index < marks.get((namespace, head + container_of(entity)), 0)
