"""Items with deadlines, found when their deadlines have passed: a set of items for each second.

    tables[second & 63]     second -> its set of items, or a list of sets
    hours                    hour -> how many of its seconds have items

Adding and removing cost the same for any number of items. A deadline that moves leaves no stale item behind. No single step sorts or
resizes a large container: a heap of a million deadlines would do so, and so would one dict of all seconds.
"""

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=Hashable)
SECOND_MS = 1000
HOUR_SECONDS = 3600
TABLES = 64
TABLE_MASK = TABLES - 1
SET_ITEMS = 16_384  # a second with more items gets another set: growing a set of a million would stall for 30 ms
STALE_HOURS_MIN = 64

# By tracemalloc: an item's place in a set (30 to 110 bytes); a second's set and its place in a table; an hour.
ITEM_BYTES = 55
SECOND_BYTES = 320
HOUR_BYTES = 120


class Deadlines(Generic[T]):
    """A set of (deadline in ms, item). An item is due once its whole second has passed: at most 1 s late."""

    __slots__ = ("_heap", "_hours", "_next", "_next_known", "_seconds", "_tables", "count")

    def __init__(self) -> None:
        self._tables: list[dict[int, Any]] | None = None  # made for the first item: most sets of deadlines stay empty
        self._hours: dict[int, int] = {}
        self._heap: list[int] = []  # of the hours; may still have hours whose items are all removed
        self._next: int | None = None
        self._next_known = True  # whether `_next` is what `next_due` answers; the loop asks it every turn
        self._seconds = 0  # how many seconds have items
        self.count: int = 0

    @property
    def bytes(self) -> int:
        """Bytes of memory accounted here, without the items themselves and the empty tables (5 KB)."""
        return ITEM_BYTES * self.count + SECOND_BYTES * self._seconds + HOUR_BYTES * len(self._hours)

    def add(self, deadline: int, item: T) -> None:
        """Put an item in."""
        second = deadline // SECOND_MS
        if self._tables is None:
            self._tables = [{} for _ in range(TABLES)]
        table = self._tables[second & TABLE_MASK]
        items = table.get(second)
        self.count += 1
        if items is None:
            table[second] = {item}
            self._begin_second(second)
        elif type(items) is set:
            if len(items) < SET_ITEMS:
                items.add(item)
            else:
                table[second] = [items, {item}]
        elif len(items[-1]) < SET_ITEMS:
            items[-1].add(item)
        else:
            items.append({item})

    def _begin_second(self, second: int) -> None:
        """Count a second that has its first item now."""
        self._seconds += 1
        hour = second // HOUR_SECONDS
        seconds = self._hours.get(hour, 0)
        self._hours[hour] = seconds + 1
        if not seconds:
            heappush(self._heap, hour)
        if self._next_known:
            due = (second + 1) * SECOND_MS
            if self._next is None or due < self._next:
                self._next = due

    def remove(self, deadline: int, item: T) -> bool:
        """Take out an item that was added with the same arguments; returns whether it was there."""
        second = deadline // SECOND_MS
        if self._tables is None:
            return False
        table = self._tables[second & TABLE_MASK]
        items: Any = table.get(second)
        if type(items) is set:
            if item not in items:
                return False
            items.remove(item)
        else:
            for part in items or ():
                if item in part:
                    part.remove(item)
                    break
            else:
                return False
            if not part:
                items.remove(part)
        self.count -= 1
        if not items:
            del table[second]
            self._end_second(second)
        return True

    def _end_second(self, second: int) -> None:
        """Forget a second whose last item was removed."""
        self._seconds -= 1
        if self._next == (second + 1) * SECOND_MS:
            self._next_known = False
        hour = second // HOUR_SECONDS
        left = self._hours[hour] - 1
        if left:
            self._hours[hour] = left
            return
        del self._hours[hour]
        if len(self._heap) > 2 * len(self._hours) + STALE_HOURS_MIN:
            self._heap = list(self._hours)
            heapify(self._heap)

    def move(self, before: int, deadline: int, item: T) -> None:
        """`remove` with the deadline `before` and `add` with `deadline`; 0 stands for none. The common cases of both are written out here
        for speed."""
        old, new, tables = before // SECOND_MS, deadline // SECOND_MS, self._tables
        if before:
            if old == new and deadline:
                return
            items = tables[old & TABLE_MASK].get(old) if tables is not None else None
            if type(items) is set and len(items) > 1 and item in items:
                items.remove(item)
                self.count -= 1
            else:
                self.remove(before, item)
        if deadline:
            items = tables[new & TABLE_MASK].get(new) if tables is not None else None
            if type(items) is set and len(items) < SET_ITEMS:
                items.add(item)
                self.count += 1
            else:
                self.add(deadline, item)

    def next_due(self) -> int | None:
        """When the first items become due, in ms; None if there are no items."""
        if self._next_known:
            return self._next
        self._next, self._next_known = None, True
        while self._heap and self._heap[0] not in self._hours:
            heappop(self._heap)
        if self._heap:
            assert self._tables is not None
            second = self._heap[0] * HOUR_SECONDS
            while second not in self._tables[second & TABLE_MASK]:  # some second of this hour has items
                second += 1
            self._next = (second + 1) * SECOND_MS
        return self._next

    def due(self, now: int, limit: int) -> list[T]:
        """Up to `limit` items that are due at `now`. They stay until they are removed."""
        found: list[T] = []
        first = self.next_due()
        if first is None or first > now:
            return found
        assert self._tables is not None
        second = first // SECOND_MS - 1
        end = min(now // SECOND_MS, (second // HOUR_SECONDS + 1) * HOUR_SECONDS)  # at most this hour: the next call starts at the next hour
        while second < end:
            items = self._tables[second & TABLE_MASK].get(second, ())
            for part in (items,) if type(items) is set else items:
                for item in part:
                    if len(found) >= limit:
                        return found
                    found.append(item)
            second += 1
        return found

    def pieces(self) -> list[Any]:
        """The containers of the items, so that they can be freed piece by piece."""
        return self._tables or []
