"""Keys in order, for prefix scans: a two-level tree whose leaves are sorted when somebody looks.

Keeping keys sorted as they come costs 2-3 us a new key, as much as the write itself. So a new key is only appended to
`fresh` (30 ns), and folded into the tree later: in idle time, in slices, or when a scan asks. Folding a key is one bisect
over the leaves' first keys and an append; a leaf is sorted when it is visited or has grown too long.

Deletions do not touch the tree: a visited leaf drops what is no longer alive. When many are dead, or long ones, `fold` visits all leaves
in turn, in slices too. Until then their memory is accounted as `dead_bytes`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable

LEAF_KEYS = 512  # a leaf is split past twice this; sorting one takes about 0.1 ms
FOLD_SLICE = 1000  # keys folded at a time: about 1 ms
WAITING_MIN = 1 << 20  # past it, and past twice the keys there are, folding does not wait for idle time: keys that are made and
# deleted again must not pile up
DEAD_MIN = 4096  # fewer dead keys than this are not worth visiting every leaf …
DEAD_BYTES_MIN = 1 << 20  # … nor are so few bytes of them
DEAD_LEAF_BYTES = 8192  # … or less for each leaf to be visited
OVERDUE_BYTES = 16 << 20  # dead keys of so much do not wait for idle time
DEAD_KEY_BYTES = 50  # of a dead key besides its name


class OrderedKeys:
    """The keys of one store, ascending. `alive(key)` says whether the store (still) has the key."""

    __slots__ = ("_alive", "_backlog", "_firsts", "_folded", "_late", "_leaves", "_sweep_at", "_swept_bytes", "dead", "dead_bytes", "fresh")

    def __init__(self, alive: Callable[[bytes], bool]) -> None:
        self._alive = alive
        self.fresh: list[bytes] = []  # appended to by the store; may hold keys deleted since, or twice
        self.dead = 0  # keys deleted since the last sweep …
        self.dead_bytes = 0  # … and what is accounted to them; both counted by the store
        self._backlog: list[bytes] = []  # an earlier `fresh`, reversed, being folded
        self._folded = 0
        self._firsts: list[bytes] = [b""]  # the lowest key each leaf may hold
        self._leaves: list[list[bytes]] = [[]]
        self._late: list[list[bytes] | None] = [None]  # keys of each leaf not sorted in yet
        self._sweep_at = -1  # the leaf a sweep of dead keys has come to, -1 when none is under way
        self._swept_bytes = 0  # of `dead_bytes`: what is gone once that sweep has ended

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
        """Whether dead keys hold so much that to be rid of them does not wait for idle time."""
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
            # first in, first out, so that a scan can tell when what it needs is folded
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
                    self._settle(at)
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
            at = self._settle(at)
        self._sweep_at = at

    def _settle(self, at: int) -> int:
        """Sort leaf `at`, drop its dead keys, split or remove it by size; returns the index of the leaf after."""
        waiting = self._late[at]
        if waiting is None:
            return at + 1
        # of a key that was deleted and made again the newest object stays, which is the one that the store has
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
        """Up to `limit` keys that start with `prefix` and come after `after` (None: from the first), ascending, and whether
        there may be more. Only folded keys are seen; some of those returned may have died since their leaf was sorted."""
        start = prefix if after is None or after < prefix else after
        end = successor(prefix)
        found: list[bytes] = []
        at = bisect_right(self._firsts, start) - 1
        while at < len(self._leaves):
            if end is not None and self._firsts[at] >= end:
                return found, False
            self._settle(at)
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
    """The lowest byte string above every one that starts with `prefix`; None where there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None
