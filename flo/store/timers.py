"""Millions of items, each due at a millisecond: coarse seconds for the far items, a heap for the near ones.

`Deadlines` holds the items that are due later than the next seconds: adding and removing cost the same for any number of items. Items whose
time comes near are moved to a heap, a slice at a time, so the heap is small. An item removed from the heap stays there until its time; its
owner's `deadline_of` then shows that it is stale.
"""

from collections.abc import Callable
from heapq import heappop, heappush

from flo.store.deadlines import SECOND_MS, Deadlines

AHEAD_MS = 2 * SECOND_MS  # how long before its time an item is moved to the heap
MOVE_SLICE = 1000  # moved at once: 2 ms
NEAR_BYTES = 100  # of an item in the heap: a tuple, a deadline, and its place


class Timers:
    """A set of items with deadlines in ms, which the owner of the items knows. An item is here once, besides stale entries in the heap."""

    __slots__ = ("_deadline_of", "_far", "_near", "add")

    def __init__(self, deadline_of: Callable[[int], int]) -> None:
        """`deadline_of(item)` gives the item's present deadline, 0 if it has none any more."""
        self._far: Deadlines[int] = Deadlines()
        self.add: Callable[[int, int], None] = self._far.add  # put an item in: (deadline, item)
        self._near: list[tuple[int, int]] = []
        self._deadline_of = deadline_of

    @property
    def bytes(self) -> int:
        """Bytes of memory accounted here, without the items themselves."""
        return self._far.bytes + NEAR_BYTES * len(self._near)

    def remove(self, deadline: int, item: int) -> None:
        """Take out an item that was added with the same arguments. An item in the heap stays there, and is skipped when its time comes."""
        self._far.remove(deadline, item)

    def move(self, now: int) -> bool:
        """Move a slice of the near items into the heap; returns whether there are more to move."""
        items = self._far.due(now + AHEAD_MS, MOVE_SLICE)
        for item in items:
            deadline = self._deadline_of(item)
            there = self._far.remove(deadline, item)
            assert there, f"item {item} is not where its deadline {deadline} says"
            heappush(self._near, (deadline, item))
        far = self._far.next_due()
        return far is not None and far - AHEAD_MS <= now

    def due(self, now: int, limit: int) -> list[tuple[int, int]]:
        """Take out up to `limit` items that are due at `now`, in order. `move` must have moved the near items."""
        found: list[tuple[int, int]] = []
        near = self._near
        while near and near[0][0] <= now and len(found) < limit:
            entry = heappop(near)
            # an item whose deadline was changed and changed back is in the heap twice; equal entries come out one after the other
            if self._deadline_of(entry[1]) == entry[0] and (not found or found[-1] != entry):
                self._far.remove(*entry)  # an item that was removed and added again with the same deadline is in both
                found.append(entry)
        return found

    def quiet(self, now: int) -> bool:
        """Whether there is nothing to do at `now`: a cheaper `next_due` for callers that ask often."""
        far = self._far.next_due()
        return not (self._near and self._near[0][0] <= now) and (far is None or far - AHEAD_MS > now)

    def next_due(self) -> int | None:
        """The next time when there is something to do, in ms; None for never."""
        far = self._far.next_due()
        times = [far - AHEAD_MS] if far is not None else []
        if self._near:
            times.append(self._near[0][0])
        return min(times, default=None)

    def pieces(self) -> list[object]:
        """The containers of the items, so that they can be freed piece by piece."""
        return [*self._far.pieces(), self._near]
