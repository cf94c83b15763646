"""Things that fall due to the millisecond, by the million: coarse seconds for what is far away, a heap for what is near.

`Deadlines` holds what is due later than the next seconds: adding and removing cost the same however many there are. What
comes near is moved to a heap, a slice at a time; the heap is small, and what is removed from it stays there until its time,
when its owner's word shows that it is stale.
"""

from collections.abc import Callable
from heapq import heappop, heappush

from flo.store.deadlines import SECOND_MS, Deadlines

AHEAD_MS = 2 * SECOND_MS  # how long before its time something is moved to the heap
MOVE_SLICE = 1000  # moved at once: 2 ms
NEAR_BYTES = 100  # of one in the heap: a tuple, a deadline, and its place


class Timers:
    """A set of items with a deadline in ms each, which its owner knows; an item is in here once, or stale in the heap."""

    __slots__ = ("_deadline_of", "_far", "_near", "add", "add_all", "remove_all")

    def __init__(self, deadline_of: Callable[[int], int]) -> None:
        """`deadline_of(item)` gives an item's deadline as it is now, 0 where it has none any more."""
        self._far: Deadlines[int] = Deadlines()
        self.add = self._far.add  # put an item in: (deadline, item)
        self.add_all = self._far.add_all  # … many with one deadline
        self.remove_all = self._far.remove_all
        self._near: list[tuple[int, int]] = []
        self._deadline_of = deadline_of

    @property
    def bytes(self) -> int:
        """Bytes of memory accounted to it, besides the items themselves."""
        return self._far.bytes + NEAR_BYTES * len(self._near)

    def remove(self, deadline: int, item: int) -> None:
        """Take out what was added with the same arguments; one that is in the heap is passed over when its time comes."""
        self._far.remove(deadline, item)

    def move(self, now: int) -> bool:
        """Bring a slice of what is near into the heap; returns whether there is more to bring."""
        items = self._far.due(now + AHEAD_MS, MOVE_SLICE)
        for item in items:
            deadline = self._deadline_of(item)
            there = self._far.remove(deadline, item)
            assert there, f"item {item} is not where its deadline {deadline} says"
            heappush(self._near, (deadline, item))
        far = self._far.next_due()
        return far is not None and far - AHEAD_MS <= now

    def due(self, now: int, limit: int) -> list[tuple[int, int]]:
        """Take out up to `limit` that are due at `now`, in order. What is near must have been moved."""
        found: list[tuple[int, int]] = []
        near = self._near
        while near and near[0][0] <= now and len(found) < limit:
            entry = heappop(near)
            # one whose deadline was moved away and back again is in the heap twice: equal ones come out one after the other
            if self._deadline_of(entry[1]) == entry[0] and (not found or found[-1] != entry):
                self._far.remove(*entry)  # one that was taken out and put in again with the same deadline is in both
                found.append(entry)
        return found

    def quiet(self, now: int) -> bool:
        """Whether nothing is to be done at `now`: what `next_due` says, for those who ask often."""
        far = self._far.next_due()
        return not (self._near and self._near[0][0] <= now) and (far is None or far - AHEAD_MS > now)

    def next_due(self) -> int | None:
        """When there is next something to do, in ms; None for never."""
        far = self._far.next_due()
        times = [far - AHEAD_MS] if far is not None else []
        if self._near:
            times.append(self._near[0][0])
        return min(times, default=None)

    def pieces(self) -> list[object]:
        """What holds the items, for freeing it piece by piece."""
        return [*self._far.hours(), self._near]
