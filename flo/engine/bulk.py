"""What every part's bulk load has in common: the records of a start, many at a time, into a store.

A part names its own in `Part.bulk`; flo.engine.loading walks them and names none. A part without one has its records applied one by one.
"""

from array import array
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from flo.ual.columns import extend
from flo.ual.layouts import LAYOUTS, Group, Layout, alike_places
from flo.ual.record import HEADER_BYTES, LIKE, U16, Record
from flo.ual.uniform_spans import count_alike

GATHERED_MAX = 1 << 14  # rows gathered: messages take 130 KB, stream records 450, which stay in the cache until the store takes them
ALONE_MIN = 256  # rows of a group that are worth a call of their own

Find = Callable[[int], Any]  # the part in the namespace of that number; None where that is deleted


class Background(Protocol):
    """Values that a start leaves on disk (flo.engine.background_load)."""

    def is_newer(self, namespace: int, key: bytes, index: int, /) -> bool:
        """Whether the files that are read later have a newer value of the key."""


class Bulk:
    """The bulk load of one part's records of `types`, none of which leans on a record or ends an entity."""

    types: ClassVar[frozenset[int]]
    strides: ClassVar[bool] = False  # whether `take_long_run` takes runs of many records

    def __init__(self, find: Find) -> None:
        self.find = find

    def take(self, index: int, namespace: int, kind: int, body: bytes, start: int, middle: int, end: int) -> bool:
        """Take one record, whose entity is from `start` to `middle` of `body` and whose state goes to `end`; False where it must be applied
        by itself."""
        raise NotImplementedError

    def cuts(self, entity_bytes: int, rest: int) -> Sequence[int]:
        """The sizes of the pieces of a record in a run: of its entity, and of its state as far as it is used."""
        raise NotImplementedError

    def take_run(self, first: int, namespace: int, kind: int, state_bytes: int, columns: list[tuple[bytes, ...]]) -> int:
        """Take records in `columns`, one for each cut; returns how many of the first were taken."""
        raise NotImplementedError

    def take_long_run(self, first: int, count: int, body: bytes, at: int) -> int:
        """Take records laid out alike from offset `at` on, at most `count`; returns how many were taken."""
        return 0

    def precede(self, index: int, record: Record) -> bool:
        """A record of the part is about to be applied by itself; False where it must not be."""
        return True

    def read_later(self, background: Background) -> None:
        """The values of bases are read in the background."""

    def values(self, namespace: int, pieces: list[bytes]) -> None:
        """Take values of a block: key, entry, key, entry, and so on."""
        raise NotImplementedError

    def group(self, group: Group) -> None:
        """Take a group of a block."""
        raise NotImplementedError

    def batch_ended(self) -> None:
        """A batch was taken: deliver what is gathered, if that is much."""

    def finish(self) -> None:
        """Have the store hold what was gathered."""


class Rows(Bulk):
    """Records of a type in flo.ual.layouts. Those of one container and order are gathered and reach the store as columns."""

    type: ClassVar[int]
    strides = True

    def __init__(self, find: Find) -> None:
        super().__init__(find)
        self.layout: Layout = LAYOUTS[self.type]
        self._codes = "Q" + self.layout.codes
        self.whose: tuple[int, bytes, int] | None = None  # namespace, container, order
        self._part: Any = None  # … and the part there
        self.last: int = 0  # as a group's
        self._renew()

    def _renew(self) -> None:
        self.columns: list[array[Any]] = [array(code) for code in self._codes]

    def store_rows(self, part: Any, name: bytes, order: int, columns: Sequence["array[int]"], last: int) -> None:
        """Give rows to the store of the part."""
        raise NotImplementedError

    def gather_run(self, first: int, count: int, body: bytes, at: int, length: int, middle: int) -> None:
        """Gather `count` records of `length` bytes from offset `at` on; their state is `middle` behind their start."""
        raise NotImplementedError

    def order_of(self, kind: int) -> int:
        """The order under which records of this type, out of batches, are gathered."""
        return 0

    def may_run(self, first: int, body: bytes, at: int, middle: int) -> bool:
        """Whether a long run may begin with the record at offset `at`."""
        return True

    def enter(self, namespace: int, name: bytes, order: int = 0) -> bool:
        """What is gathered from now on is of this container. Says whether there is its namespace."""
        if self.whose != (namespace, name, order):
            self.finish()
            self._part = self.find(namespace)
            if self._part is None:
                return False
            self.whose = (namespace, name, order)
        return True

    def take_long_run(self, first: int, count: int, body: bytes, at: int) -> int:
        """See `Bulk`."""
        length, kind, _, entity_bytes, namespace = LIKE.unpack_from(body, at)
        same = alike_places(kind, entity_bytes, length)
        middle = HEADER_BYTES + entity_bytes
        if not self.may_run(first, body, at, middle):
            return 0
        count = count_alike(body, at, length, same, count)
        if not self.enter(namespace, body[at + HEADER_BYTES + U16.size : at + middle - self.layout.id_bytes], self.order_of(kind)):
            return 0
        extend(self.columns[0], first, 1, count)
        self.gather_run(first, count, body, at, length, middle)
        return count

    def cuts(self, entity_bytes: int, rest: int) -> Sequence[int]:
        """See `Bulk`: container, id, state without the payload."""
        layout = self.layout
        return entity_bytes - layout.id_bytes, layout.id_bytes, layout.state_bytes

    def group(self, group: Group) -> None:
        """See `Bulk`."""
        indexes = group.columns[0]
        if len(indexes) >= ALONE_MIN:  # as it is: to gather it first would be one copy more
            self.finish()
            part = self.find(group.namespace)
            if part is not None:
                self.store_rows(part, group.name, group.order, group.columns, group.last)
            return
        if self.columns[0] and indexes[0] <= self.columns[0][-1]:
            self.finish()
        if self.enter(group.namespace, group.name, group.order):
            for column, more in zip(self.columns, group.columns, strict=True):
                column += more
            self.last = group.last
            self.batch_ended()

    def batch_ended(self) -> None:
        """See `Bulk`."""
        if len(self.columns[0]) > GATHERED_MAX:
            self.finish()

    def finish(self) -> None:
        """See `Bulk`. Only a record by itself deletes a namespace, and everything is delivered before it is applied."""
        if self.whose is not None:
            (_, name, order), columns, self.whose = self.whose, self.columns, None
            self._renew()
            if columns[0]:
                self.store_rows(self._part, name, order, columns, self.last)


def column_bytes(body: bytes, at: int, width: int, count: int, length: int) -> bytes:
    """`width` bytes from offset `at` on of each of `count` records of `length` bytes, one behind the other."""
    found = bytearray(width * count)
    for place in range(width):
        found[place::width] = body[at + place : at + (count - 1) * length + place + 1 : length]
    return bytes(found)
