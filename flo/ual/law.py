"""The record law: which records of a log are live. One generic function, the same for every store.

The latest record of an entity is its state; what it leans on is live with it; a watermark kills the members of
its scope below an index; the rest is dead. An entity is (family, namespace, entity bytes). History is kept
apart: the chain of predecessors, by depth and age. Compaction needs to know no more than this.

`store/` must agree: applying only the live records gives the same state as applying all of them.
`tests/test_law.py` holds that for every record type.
"""

from collections.abc import Mapping
from typing import NamedTuple

from flo.ual.record import FAMILY_CONTAINED, FAMILY_WATERMARK, U64, WATERMARK, Record, container_of

Entity = tuple[int, int, bytes]  # family, namespace, entity


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
    ms, how long a version is kept after something replaced it, counted back from `now` (ms).
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
        elif depth > 1 and record.time + age > now:
            history.add(index)  # the end of the chain, from which the deleted entity's history is reached
        replaced, at, kept = record.time, record.prev, 1
        while at and kept < depth and replaced + age > now:
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
