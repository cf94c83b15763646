"""The liveness rule: which records of a log are live. One generic function, the same for every store.

The latest record of an entity is its state. The records that it leans on are live with it. A watermark kills the members of its scope below
an index. All other records are dead. An entity is (family, namespace, entity bytes). History is separate: the chain of predecessors, kept
by depth and age. Compaction needs to know no more than this.

`store/` must agree: applying only the live records gives the same state as applying all. `survivors` is the rule in plain code; `Judge`
applies it to a log too large for memory, record by record, the newest first. tests/ual/test_compaction.py holds them equal.
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
from flo.ual.uniform_spans import UniformSpan

Entity = tuple[int, int, bytes]  # family, namespace, entity
TIME_MAX = (1 << 64) - 1  # the highest that a record can hold


class Survivors(NamedTuple):
    """Indexes to keep: `live` are the present state, `history` the others."""

    live: frozenset[int]
    history: frozenset[int]


def entity_of(record: Record) -> Entity:
    return (record.family, record.namespace, record.entity)


def scopes_of(record: Record) -> tuple[bytes, ...]:
    """The scopes of the watermarks that may drop this record: the whole namespace, its family, its container."""
    family = bytes((record.family,))
    if record.family < FAMILY_CONTAINED or not record.entity:
        return b"", family
    return b"", family, family + container_of(record.entity)


def survivors(log: Mapping[int, Record], now: int, depth: int, age: int) -> Survivors:
    """The records that the rule keeps of `log`, a whole log by index, from its first record on.

    `depth` is the number of versions of an entity that are kept, with the present one (1 keeps no history). `age` (ms) is how long a
    version is kept after it was replaced, counted back from `now` (ms). If the replacing record has a time after `now` (the clock was ahead
    when it was written), the version counts as replaced now.
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
            return False  # a watermark shadows records that may be in an older segment: the latest of its scope stays
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
            _keep(index, log, history)  # the end of the chain: the deleted entity's history is reached from here
        replaced, at, kept = record.time, record.prev, 1
        while at and kept < depth and min(replaced, now) + age > now:
            older = log.get(at)
            if older is None or dropped(at, older):
                break
            _keep(at, log, history)
            replaced, at, kept = older.time, older.prev, kept + 1
    return Survivors(frozenset(live), frozenset(history - live))


def _keep(index: int, log: Mapping[int, Record], into: set[int]) -> None:
    """Add `index` and every record that it leans on, directly or not."""
    pending = [index]
    while pending:
        at = pending.pop()
        if at not in into and at in log:
            into.add(at)
            pending.extend(log[at].leans)


DEAD, HISTORY, LIVE, CURRENT = 0, 1, 2, 3
# CURRENT is live too: the latest record of its entity, and no record leans on it. So it may be applied after all records that are only
# LIVE.
_FAMILIES = [bytes((kind & FAMILY_MASK,)) for kind in range(256)]


class Judge:
    """`survivors` for one record or span at a time, from the newest to the oldest. Before a record comes everything that decides about it:
    the records that lean on it, the later records of its chain, and every watermark that may drop it. The memory needed is one set item for
    each entity, not for each record."""

    def __init__(self, now: int, depth: int, age: int, tail: bool = False) -> None:
        """`now`, `depth` and `age` as in `survivors`. With `tail`, the log has older records than those that will be judged. A deletion may
        be of one of those, so it stays live."""
        self._old = now - age if age > 0 else TIME_MAX  # a version replaced at this time or before is old
        self._tail = tail
        self._depth = depth
        self._seen: defaultdict[bytes, set[bytes]] = defaultdict(set)  # by family and namespace: entities
        self._needed: dict[int, int] = {}  # index -> the verdict on the records that lean on it
        self._chain: dict[int, int] = {}  # index -> its number among the versions of its entity, the newest is 1
        self._marks: dict[tuple[int, bytes], int] = {}
        self._marked = 0  # no watermark drops a record with this index or a higher one

    def judge(self, index: int, data: bytes, at: int, past: bool = False) -> int:
        """The verdict on the record at offset `at` of `data`: DEAD, HISTORY, LIVE or CURRENT. `past`: an earlier pass has found it to be
        history. The record that replaced it may be gone, so it must not count as the latest of its entity."""
        _, kind, shape, entity_length, namespace, time, prev = HEADER.unpack_from(data, at)
        leans = shape & LEANS_MASK
        start = at + HEADER_BYTES + 8 * leans
        entity = data[start : start + entity_length]
        family = kind & FAMILY_MASK
        seen = self._seen[_FAMILIES[kind] + data[at + 8 : at + 12]]
        leaned_on = verdict = self._needed.pop(index, DEAD) if self._needed else DEAD
        version = self._chain.pop(index, 0) if self._chain else 0
        latest = not past and entity not in seen
        if kind == WATERMARK:
            scope, below = (namespace, entity), U64.unpack_from(data, start + entity_length)[0]
            self._marks[scope] = max(self._marks.get(scope, 0), below)
            self._marked = max(self._marked, below)
        if latest or version:
            if self._marks and self._dropped(index, family, namespace, entity):
                latest, version = False, 0  # and every older record of the entity: none of them need be remembered
            elif latest:
                seen.add(entity)
        if latest or version:
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

    def judge_span(self, span: UniformSpan) -> bytes | None:
        """The verdicts on the records of a span, from the newest to the oldest. None, with nothing changed, if they must be judged one by
        one."""
        indexes = range(span.first, span.first + span.records)
        if span.kind == WATERMARK or span.first < self._marked:
            return None
        if not (self._needed.keys().isdisjoint(indexes) and self._chain.keys().isdisjoint(indexes)):
            return None
        if self._depth > 1 and any(map(any, span.cut(PREV_AT, HEADER_BYTES))):
            return None
        head = _FAMILIES[span.kind] + U32.pack(span.namespace)
        seen, entities = self._seen[head], span.cut(HEADER_BYTES, HEADER_BYTES + span.entity_length)
        new = set(entities)
        if len(new) == span.records and seen.isdisjoint(new):
            seen |= new
            return bytes((CURRENT,)) * span.records
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
