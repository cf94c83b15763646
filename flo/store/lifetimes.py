"""The deadlines of containers: queues, streams. At its deadline all of a container is dropped."""

from typing import Any

from flo.store.deadlines import Deadlines

LIFETIME_BYTES = 110  # by tracemalloc: its place in `by_name`, and the number


class Lifetimes:
    """The containers of one store that have a deadline."""

    __slots__ = ("_deadlines", "by_name")

    def __init__(self) -> None:
        self.by_name: dict[bytes, int] = {}  # name -> deadline, Unix ms
        self._deadlines: Deadlines[bytes] = Deadlines()

    def set(self, name: bytes, deadline: int) -> None:
        """The container has this deadline; 0 for none."""
        before = self.by_name.get(name, 0)
        if before != deadline:
            self._deadlines.move(before, deadline, name)
            if deadline:
                self.by_name[name] = deadline
            else:
                del self.by_name[name]

    def next_due(self) -> int | None:
        """When the first container is to be dropped, at most 1 s late; None if none has a deadline."""
        return self._deadlines.next_due()

    def due(self, now: int, limit: int) -> list[bytes]:
        """Up to `limit` containers that are to be dropped at `now`."""
        return self._deadlines.due(now, limit)

    @property
    def bytes(self) -> int:
        """Bytes of memory accounted here, without the names."""
        return self._deadlines.bytes + LIFETIME_BYTES * len(self.by_name)

    def pieces(self) -> list[Any]:
        """The containers of the names, so that they can be freed piece by piece."""
        return [self.by_name, *self._deadlines.pieces()]
