"""Keys in order, for prefix scans: a two-level tree whose leaves are sorted when they are read.

Keeping keys sorted as they come costs 2-3 us a new key, as much as the write itself. So a new key is only appended to `fresh` (30 ns), and
folded into the tree later, in slices: in idle time, or when a scan needs it. Folding a key is one bisect over the leaves' first keys and an
append. A leaf is sorted when it is visited or has grown too long.

Deletions do not change the tree: a leaf drops its dead keys when it is visited. When many keys are dead, or long ones, `fold` visits all
leaves in turn, in slices. Until then the memory of dead keys is accounted as `dead_bytes`.

A scan whose cursor must be a small number (SCAN) does not go by single keys, of which there are too many to number, but by leaves:
`walk` goes from the last leaf to the first, and in a leaf by the keys' *places*, 10 bits of their checksums. So a position is the key that
the leaf ends below, and a place. Two designs were sketched for the number of a leaf:

- Labels in the order of the leaves, with gaps, found by bisection: no memory. But gaps fill where a namespace grows, and then labels move.
  A scan must neither skip a leaf for that nor start over, so each move must be upward only and never for long, and labels from before a
  restart must be told from those after it.
- A number for each key that a leaf ended below when a cursor was given out (`Cursors` in flo/engine/kv.py). Where a leaf was split since,
  the rest of it follows in leaves that are read whole; where it was removed, its range has no key that was there throughout. Other scans
  use the same numbers, so they push none out, and the memory is bounded by the leaves.

The second is here: it is a dictionary and a bisection, and keeps no promise that a burst of writes could break.

From the last to the first, since keys that are added all the time are mostly added at the end (times, counters): a scan that is slower
than they come would never end the other way.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable
from zlib import crc32

LEAF_KEYS = 512  # a leaf is split past twice this; sorting one takes about 0.1 ms
FOLD_SLICE = 1000  # keys folded at a time: about 1 ms
WAITING_MIN = 1 << 20  # with more unfolded keys than this, and than twice the keys that exist, folding does not wait for idle time: keys
# that are made and deleted again must not pile up
DEAD_MIN = 4096  # for fewer dead keys than this, a visit of every leaf is not worth it …
DEAD_BYTES_MIN = 1 << 20  # … nor for fewer bytes of them than this …
DEAD_LEAF_BYTES = 8192  # … or fewer for each leaf to be visited
OVERDUE_BYTES = 16 << 20  # with more bytes of dead keys, removing them does not wait for idle time
DEAD_KEY_BYTES = 50  # of a dead key besides its name
PLACE_BITS = 10  # of a key's checksum: about as many places as a leaf has keys
PLACES = 1 << PLACE_BITS
INDEX_BITS = 10  # of a key's index in its leaf
INDEX_MASK = (1 << INDEX_BITS) - 1
PLACED_LEAVES = 8  # leaves whose places are kept: a walk comes back to the same leaf fifty times, and to find them takes 0.2 ms

Position = tuple[bytes, int]  # the key that a walk goes on below (empty: no bound), and the place in the leaf there


class OrderedKeys:
    """The keys of one store, ascending. `alive(key)` tells whether the store (still) has the key."""

    __slots__ = (
        "_alive",
        "_backlog",
        "_firsts",
        "_folded",
        "_late",
        "_leaves",
        "_placed",
        "_sweep_at",
        "_swept_bytes",
        "dead",
        "dead_bytes",
        "fresh",
    )

    def __init__(self, alive: Callable[[bytes], bool]) -> None:
        self._alive = alive
        self.fresh: list[bytes] = []  # the store appends here; may hold deleted keys, or a key twice
        self.dead: int = 0  # keys deleted since the last sweep …
        self.dead_bytes: int = 0  # … and their accounted bytes; the store counts both
        self._backlog: list[bytes] = []  # an earlier `fresh`, reversed, which is being folded
        self._folded = 0
        self._firsts: list[bytes] = [b""]  # the lowest key each leaf may hold
        self._leaves: list[list[bytes]] = [[]]
        self._late: list[list[bytes] | None] = [None]  # for each leaf: its keys that are not sorted in yet
        self._sweep_at = -1  # the next leaf of the sweep of dead keys, -1 if no sweep is under way
        self._swept_bytes = 0  # the part of `dead_bytes` that this sweep removes
        # for leaves of the last walks, by identity: place and index of each of its keys in one int, ascending
        self._placed: OrderedDict[int, list[int]] = OrderedDict()

    # -- folding -----------------------------------------------------------------------------------

    @property
    def added(self) -> int:
        """How many keys were ever added: a scan that starts now needs `folded` to reach this."""
        return self._folded + len(self._backlog) + len(self.fresh)

    @property
    def folded(self) -> int:
        return self._folded

    @property
    def pending(self) -> bool:
        """Whether there is anything to fold or sweep."""
        return bool(self.fresh or self._backlog or self._sweep_at >= 0 or self._many_dead())

    @property
    def waiting(self) -> int:
        """How many keys are not folded yet."""
        return len(self.fresh) + len(self._backlog)

    @property
    def overdue(self) -> bool:
        """Whether dead keys take so much memory that removing them does not wait for idle time."""
        return self.dead_bytes > OVERDUE_BYTES and self.pending

    def _many_dead(self) -> bool:
        if self.dead > DEAD_MIN and self.dead > len(self._leaves) * LEAF_KEYS // 2:
            return True
        return self.dead_bytes > DEAD_BYTES_MIN and self.dead_bytes > len(self._leaves) * DEAD_LEAF_BYTES

    def fold(self) -> None:
        """One slice of work, about a ms."""
        backlog = self._backlog
        if not backlog:
            if not self.fresh:
                self._sweep()
                return
            # first in, first out: so a scan can tell when the keys it needs are folded
            backlog = self._backlog = self.fresh
            self.fresh = []
            backlog.reverse()
        firsts, late = self._firsts, self._late
        for key in backlog[: -FOLD_SLICE - 1 : -1]:
            at = bisect_right(firsts, key) - 1
            waiting = late[at]
            if waiting is None:
                late[at] = [key]
            else:
                waiting.append(key)
                if len(waiting) > LEAF_KEYS:
                    self._sort_leaf(at)
        before = len(backlog)
        del backlog[-FOLD_SLICE:]
        self._folded += before - len(backlog)

    def _sweep(self) -> None:
        if self._sweep_at < 0:
            if not self._many_dead():
                return
            self._sweep_at, self.dead, self._swept_bytes = 0, 0, self.dead_bytes
        at = self._sweep_at
        for _ in range(4):
            if at >= len(self._leaves):
                self._sweep_at = -1
                self.dead_bytes -= self._swept_bytes
                return
            if self._late[at] is None:
                self._late[at] = []
            at = self._sort_leaf(at)
        self._sweep_at = at

    def _sort_leaf(self, at: int) -> int:
        """Sort leaf `at`, drop its dead keys, split or remove it by size; returns the index of the leaf after."""
        waiting = self._late[at]
        if waiting is None:
            return at + 1
        self._placed.pop(id(self._leaves[at]), None)
        # of a key that was deleted and made again, the newest object stays: the store has that one
        keys = sorted(filter(self._alive, {*reversed(waiting), *self._leaves[at]}))
        self._late[at] = None
        if len(keys) <= 2 * LEAF_KEYS:
            if not keys and len(self._leaves) > 1 and at > 0:
                del self._leaves[at], self._late[at], self._firsts[at]
                return at
            self._leaves[at] = keys
            return at + 1
        parts = [keys[i : i + LEAF_KEYS] for i in range(0, len(keys), LEAF_KEYS)]
        self._leaves[at : at + 1] = parts
        self._late[at : at + 1] = [None] * len(parts)
        self._firsts[at : at + 1] = [self._firsts[at], *(part[0] for part in parts[1:])]
        if self._sweep_at > at:
            self._sweep_at += len(parts) - 1
        return at + len(parts)

    # -- reading -----------------------------------------------------------------------------------

    def page(self, prefix: bytes, after: bytes | None, limit: int) -> tuple[list[bytes], bool]:
        """(up to `limit` keys that start with `prefix` and come after `after`, ascending; whether there may be more). `after` None: from
        the first one. Only folded keys are found; some of them may have died since their leaf was sorted."""
        start = prefix if after is None or after < prefix else after
        end = successor(prefix)
        found: list[bytes] = []
        at = bisect_right(self._firsts, start) - 1
        while at < len(self._leaves):
            if end is not None and self._firsts[at] >= end:
                return found, False
            self._sort_leaf(at)
            if at >= len(self._leaves):
                break
            leaf = self._leaves[at]
            low = bisect_left(leaf, start) if after is None or after < prefix else bisect_right(leaf, start)
            high = len(leaf) if end is None else bisect_left(leaf, end)
            take = leaf[low : min(high, low + limit - len(found))]
            found += take
            if len(found) >= limit:
                return found, True
            if high < len(leaf):
                return found, False
            at += 1
        return found, False

    def walk(self, prefix: bytes, position: Position, limit: int) -> tuple[list[bytes], Position | None]:
        """(up to `limit` keys that start with `prefix`, from `position` on; where to go on, None at the end), in the order that the file's
        head tells. More than `limit` only where that many keys share one place. Only folded keys are found; some may have died."""
        below, place = position
        end = successor(prefix)
        found: list[bytes] = []
        while True:
            top = below if end is None or (below and below < end) else end
            at = self._leaf_below(top)
            leaf, first = self._leaves[at], self._firsts[at]
            bound = self._firsts[at + 1] if at + 1 < len(self._firsts) else b""
            low, high = bisect_left(leaf, prefix), bisect_left(leaf, top) if top else len(leaf)
            if not place and len(found) + high - low <= limit:
                found += leaf[low:high]
                if first <= prefix:
                    return found, None
                below = first
                continue
            if found:
                return found, (bound, place)  # a page of whole leaves needs no places, which take 0.2 ms to find
            order = self._places_of(leaf)
            same = 0  # where the keys of one place begin
            for mark in order[bisect_left(order, place << INDEX_BITS) :]:
                index = mark & INDEX_MASK
                if not low <= index < high:
                    continue
                if mark >> INDEX_BITS != place:
                    place, same = mark >> INDEX_BITS, len(found)
                    if same >= limit:
                        return found, (bound, place)
                elif len(found) >= limit and same:
                    del found[same:]  # they come together, with the next page
                    return found, (bound, place)
                found.append(leaf[index])
            if first <= prefix:
                return found, None
            below, place = first, 0

    def _leaf_below(self, top: bytes) -> int:
        """The index of the leaf with the highest keys below `top` (empty: of all), sorted."""
        while True:
            at = (bisect_left(self._firsts, top) if top else len(self._firsts)) - 1
            if self._late[at] is None:
                return at
            self._sort_leaf(at)

    def _places_of(self, leaf: list[bytes]) -> list[int]:
        placed = self._placed
        order = placed.pop(id(leaf), None)
        if order is None:
            order = sorted([(crc32(key) & PLACES - 1) << INDEX_BITS | index for index, key in enumerate(leaf)])
        placed[id(leaf)] = order
        if len(placed) > PLACED_LEAVES:
            placed.popitem(last=False)
        return order

    @property
    def leaf_count(self) -> int:
        """How many leaves there are."""
        return len(self._leaves)

    def leaves(self) -> list[list[bytes]]:
        """The leaves, for freeing them piece by piece."""
        return self._leaves


def successor(prefix: bytes) -> bytes | None:
    """The lowest byte string above all that start with `prefix`; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None
