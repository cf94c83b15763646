"""Things with a deadline, found when it has passed: hours of seconds of sets.

Adding and removing cost the same however many there are, nothing stale is left behind by a deadline that moves, and no
single step sorts or resizes anything large: a heap of a million deadlines would do both.
"""

from collections.abc import Hashable, Sequence
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
SECOND_MS = 1000
HOUR_SECONDS = 3600
SET_ITEMS = 16_384  # past it a second gets another set: growing one of a million would stall for 30 ms
STALE_HOURS_MIN = 64

# By tracemalloc: an item's place in a set, which is 30 to 110; a set of a second, in its list, in an hour; an hour.
ITEM_BYTES = 55
SECOND_BYTES = 320
HOUR_BYTES = 270


class Deadlines(Generic[T]):
    """A set of (deadline in ms, item). An item is due once its whole second has passed: at most 1 s late."""

    __slots__ = ("_heap", "_hours", "_next", "_next_known", "_seconds", "count")

    def __init__(self) -> None:
        self._hours: dict[int, dict[int, list[set[T]]]] = {}
        self._heap: list[int] = []  # of the hours; may name hours that have gone
        self._next: int | None = None
        self._next_known = True  # whether `_next` is what `next_due` answers; the loop asks it every turn
        self._seconds = 0  # that have items
        self.count = 0

    @property
    def bytes(self) -> int:
        """Bytes of memory accounted to it, besides the items themselves."""
        return ITEM_BYTES * self.count + SECOND_BYTES * self._seconds + HOUR_BYTES * len(self._hours)

    def add(self, deadline: int, item: T) -> None:
        """Put an item in."""
        second = deadline // SECOND_MS
        hour = second // HOUR_SECONDS
        seconds = self._hours.get(hour)
        if seconds is None:
            seconds = self._hours[hour] = {}
            heappush(self._heap, hour)
        sets = seconds.get(second)
        if sets is None:
            seconds[second] = [{item}]
            self._seconds += 1
        elif len(sets[-1]) < SET_ITEMS:
            sets[-1].add(item)
        else:
            sets.append({item})
        self.count += 1
        if self._next_known:
            due = (second + 1) * SECOND_MS
            if self._next is None or due < self._next:
                self._next = due

    def add_all(self, deadline: int, items: Sequence[T]) -> None:
        """`add` of each."""
        second = deadline // SECOND_MS
        seconds = self._hours.get(second // HOUR_SECONDS)
        sets = seconds.get(second) if seconds is not None else None
        if sets and len(sets[-1]) + len(items) <= SET_ITEMS:  # nothing else changes
            sets[-1].update(items)
            self.count += len(items)
        else:
            for item in items:
                self.add(deadline, item)

    def remove_all(self, deadlines: Sequence[int], items: Sequence[T]) -> None:
        """`remove` of each deadline and its item."""
        first, last = min(deadlines, default=0) // SECOND_MS, max(deadlines, default=0) // SECOND_MS
        sets = self._hours.get(first // HOUR_SECONDS, {}).get(first, [])
        if first == last and len(sets) == 1 and len(sets[0]) > len(items):  # something is left of it: nothing else changes
            before = len(sets[0])
            sets[0].difference_update(items)
            self.count -= before - len(sets[0])
        else:
            for deadline, item in zip(deadlines, items, strict=True):
                self.remove(deadline, item)

    def move(self, before: int, deadline: int, item: T) -> None:
        """`remove` with one deadline and `add` with another; 0 stands for none."""
        if before and deadline and before // SECOND_MS == deadline // SECOND_MS:
            return
        if before:
            self.remove(before, item)
        if deadline:
            self.add(deadline, item)

    def remove(self, deadline: int, item: T) -> bool:
        """Take out what was added with the same arguments; returns whether it was there."""
        second = deadline // SECOND_MS
        hour = second // HOUR_SECONDS
        seconds = self._hours.get(hour)
        sets = seconds.get(second, []) if seconds is not None else []
        for items in sets:
            if item in items:
                items.remove(item)
                if not items:
                    sets.remove(items)
                break
        else:
            return False
        assert seconds is not None
        self.count -= 1
        if not sets:
            if self._next == (second + 1) * SECOND_MS:
                self._next_known = False
            del seconds[second]
            self._seconds -= 1
            if not seconds:
                self._drop(hour)
        return True

    def _drop(self, hour: int) -> None:
        del self._hours[hour]
        if len(self._heap) > 2 * len(self._hours) + STALE_HOURS_MIN:
            self._heap = list(self._hours)
            heapify(self._heap)

    def next_due(self) -> int | None:
        """When the first items become due, in ms; None where there are none."""
        if self._next_known:
            return self._next
        self._next, self._next_known = None, True
        while self._heap:
            seconds = self._hours.get(self._heap[0])
            if seconds is not None:
                self._next = (min(seconds) + 1) * SECOND_MS
                break
            heappop(self._heap)
        return self._next

    def due(self, now: int, limit: int) -> list[T]:
        """Up to `limit` items that are due at `now`. They stay until they are removed."""
        found: list[T] = []
        first = self.next_due()
        if first is None or first > now:
            return found
        hour = (first // SECOND_MS - 1) // HOUR_SECONDS  # that second's own: it is due when the next one, of another hour maybe, begins
        for second, sets in sorted(self._hours[hour].items()):
            if (second + 1) * SECOND_MS > now:
                break
            for items in sets:
                for item in items:
                    if len(found) >= limit:
                        return found
                    found.append(item)
        return found

    def hours(self) -> list[dict[int, list[set[T]]]]:
        """What holds the items, for freeing it piece by piece."""
        return list(self._hours.values())
