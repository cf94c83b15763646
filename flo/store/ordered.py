"""Keys in order, for prefix scans: a two-level tree whose leaves are sorted when they are read.

Keeping keys sorted as they come costs 2-3 us a new key, as much as the write itself. So a new key is only appended to `fresh` (30 ns), and
folded into the tree later, in slices: in idle time, or when a scan needs it. Folding a key is one bisect over the leaves' first keys and an
append. A leaf is sorted when it is visited or has grown too long.

Deletions do not change the tree: a leaf drops its dead keys when it is visited. When many keys are dead, or long ones, `fold` visits all
leaves in turn, in slices. Until then the memory of dead keys is accounted as `dead_bytes`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable

LEAF_KEYS = 512  # a leaf is split past twice this; sorting one takes about 0.1 ms
FOLD_SLICE = 1000  # keys folded at a time: about 1 ms
WAITING_MIN = 1 << 20  # with more unfolded keys than this, and than twice the keys that exist, folding does not wait for idle time: keys
# that are made and deleted again must not pile up
DEAD_MIN = 4096  # for fewer dead keys than this, a visit of every leaf is not worth it …
DEAD_BYTES_MIN = 1 << 20  # … nor for fewer bytes of them than this …
DEAD_LEAF_BYTES = 8192  # … or fewer for each leaf to be visited
OVERDUE_BYTES = 16 << 20  # with more bytes of dead keys, removing them does not wait for idle time
DEAD_KEY_BYTES = 50  # of a dead key besides its name


class OrderedKeys:
    """The keys of one store, ascending. `alive(key)` tells whether the store (still) has the key."""

    __slots__ = ("_alive", "_backlog", "_firsts", "_folded", "_late", "_leaves", "_sweep_at", "_swept_bytes", "dead", "dead_bytes", "fresh")

    def __init__(self, alive: Callable[[bytes], bool]) -> None:
        self._alive = alive
        self.fresh: list[bytes] = []  # the store appends here; may hold deleted keys, or a key twice
        self.dead = 0  # keys deleted since the last sweep …
        self.dead_bytes = 0  # … and their accounted bytes; the store counts both
        self._backlog: list[bytes] = []  # an earlier `fresh`, reversed, which is being folded
        self._folded = 0
        self._firsts: list[bytes] = [b""]  # the lowest key each leaf may hold
        self._leaves: list[list[bytes]] = [[]]
        self._late: list[list[bytes] | None] = [None]  # for each leaf: its keys that are not sorted in yet
        self._sweep_at = -1  # the next leaf of the sweep of dead keys, -1 if no sweep is under way
        self._swept_bytes = 0  # the part of `dead_bytes` that this sweep removes

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

    def leaves(self) -> list[list[bytes]]:
        """The leaves, for freeing them piece by piece."""
        return self._leaves


def successor(prefix: bytes) -> bytes | None:
    """The lowest byte string above all that start with `prefix`; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None
