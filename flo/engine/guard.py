"""Guards: whether anything was written under some names since a moment. RESP's WATCH needs it.

A guard knows no primitive. Every change is a record, and a record says which name of which namespace it is about; so the records written
since the guard was set are looked at: those of a turn when it is committed, and those of the open batch when a guard is asked. While there
is no guard, nothing is looked at. With one, a record costs 0.5 us.
"""

from collections.abc import Iterable

from flo.errors import BadRequest
from flo.limits import ATOMIC_ITEMS_MAX
from flo.ual.log import Log
from flo.ual.record import (
    FAMILY_CONTAINED,
    FAMILY_KV,
    FAMILY_MASK,
    FAMILY_STREAM_GROUP,
    FAMILY_WATERMARK,
    HEADER_BYTES,
    LEANS_MASK,
    LIKE,
    U16,
    U64,
)

NAME_BYTES = 250  # of memory, for a guarded name besides its bytes


class Guard:
    """Some names that one client guards: the key, the queue and the stream of each."""

    def __init__(self, guards: "Guards") -> None:
        self._guards = guards
        self._names: set[tuple[int, bytes]] = set()
        self._broken = False
        self.held: int = 0  # bytes of memory

    def add(self, namespace: int, names: Iterable[bytes]) -> None:
        """Guard the names of a namespace from now on. Raises `BadRequest` past ATOMIC_ITEMS_MAX names."""
        new = {(namespace, name) for name in names} - self._names
        if len(self._names) + len(new) > ATOMIC_ITEMS_MAX:
            raise BadRequest(f"{len(self._names) + len(new)} names would be watched; at most {ATOMIC_ITEMS_MAX} are allowed")
        self._guards.look()  # what was written before breaks the older guards alone
        for name in new:
            self._guards.by_name.setdefault(name, set()).add(self)
        self._names |= new
        self.held += sum(len(name) + NAME_BYTES for _, name in new)

    def spoil(self) -> None:
        """A name was written."""
        self._broken = True
        self._leave()

    @property
    def names(self) -> list[tuple[int, bytes]]:
        """The guarded names, each with the id of its namespace; none if one was written."""
        return list(self._names)

    def holds(self) -> bool:
        """Whether none of the names was written since it was added."""
        self._guards.look()
        return not self._broken

    def _leave(self) -> None:
        by_name = self._guards.by_name
        for name in self._names:
            guarding = by_name[name]
            guarding.remove(self)
            if not guarding:
                del by_name[name]
        self._names = set()

    def end(self) -> None:
        """Guard nothing any more."""
        self._leave()
        self.held = 0


class Guards:
    """The guards of one engine."""

    def __init__(self, log: Log) -> None:
        self.by_name: dict[tuple[int, bytes], set[Guard]] = {}  # by namespace and name
        self._log = log
        self._next = 0  # index of the first record that was not looked at

    def new(self) -> Guard:
        """A guard without names."""
        return Guard(self)

    def look(self) -> None:
        """Look at the new records of the open batch. An engine calls it before each commit, unless there is no guard."""
        log = self._log
        if self.by_name:
            fresh = log.next_index - max(self._next, log.next_index - len(log.pending))
            self.note(log.pending[len(log.pending) - fresh :])
        self._next = log.next_index

    def note(self, records: Iterable[bytes]) -> None:
        """These records were written."""
        for record in records:
            self._look_at(record)

    def _look_at(self, record: bytes) -> None:
        _, kind, shape, entity_length, namespace = LIKE.unpack_from(record)
        family, start = kind & FAMILY_MASK, HEADER_BYTES + U64.size * (shape & LEANS_MASK)
        if family == FAMILY_WATERMARK:
            if not entity_length:  # it drops everything in the namespace
                self._spoil([name for name in self.by_name if name[0] == namespace])
                return
            family = record[start]  # it drops this family of a container
            start += 1
        if family == FAMILY_KV:
            self._spoil([(namespace, record[start : start + entity_length])])
        elif FAMILY_CONTAINED <= family < FAMILY_STREAM_GROUP:  # a delivery of a group is no change of its stream, as in Redis
            size = int(U16.unpack_from(record, start)[0])
            start += U16.size
            self._spoil([(namespace, record[start : start + size])])

    def changed(self, namespace: int, name: bytes) -> None:
        """A name has changed without a record: the disk had no room for one."""
        self._spoil([(namespace, name)])

    def _spoil(self, names: list[tuple[int, bytes]]) -> None:
        for name in names:
            for guard in tuple(self.by_name.get(name, ())):
                guard.spoil()
