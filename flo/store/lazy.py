"""Lazy values: values that a start has left on disk. A key-value store reads one when its key is asked for.

`flo.engine.background_load` reads the others in the background. Until it is done, the store's shards are `LazyShard`s: dicts that look on
disk for a key they do not have. The users of shards need not know. A value in memory is newer than the value of the same key on disk. A key
that is deleted meanwhile is remembered as `gone`, so that neither a lookup nor the background load brings it back. A lookup in such a shard
costs a third more for a key in memory, 10 us for a key on disk, and 1 us a file for a key that does not exist. At the end the store has
plain shards again.
"""

from collections.abc import Callable
from typing import Any
from weakref import ref

from flo.errors import Damaged

# Stands for an entry that cannot be read. No fast way knows the kind in its flags, so each leaves the key to `KvStore.find`, which reads
# again and raises.
DAMAGED = 0xFF
DAMAGED_ENTRY = b"$0\r\n\r\n" + bytes(23) + bytes((DAMAGED,))  # as long as a noted entry without a deadline

Find = Callable[[bytes], bytes | None]  # the entry on disk of a key


class LazyValues:
    """The values of one store that are still on disk."""

    __slots__ = ("_find", "_last", "_store", "below", "gone")

    def __init__(self, find: Find, store: Any, last: int, below: int) -> None:
        """`last` is the highest version on disk. Versions under `below` are dead: everything up to there was dropped."""
        self._find = find
        self._store = ref(store)  # weak: a store must not be in a cycle, since nothing collects cycles
        self._last = last
        self.below: int = below
        self.gone: set[bytes] = set()

    def dropped(self, store: Any, below: int) -> "LazyValues | None":
        """The lazy values that remain for `store` when everything under index `below` is dropped; None if none remain."""
        return LazyValues(self._find, store, self._last, below) if below <= self._last else None

    def fetch(self, shard: "LazyShard", key: bytes) -> bytes | None:
        """Read the key's entry from disk, have the store hold it, and return it. None if there is no entry; `DAMAGED_ENTRY` if it cannot be
        read."""
        store = self._store()
        if store is None or key in self.gone:
            return None
        try:
            entry = self._find(key)
        except Damaged:
            return DAMAGED_ENTRY  # not held: a fast way cannot report an error
        if entry is None or not store.hold(shard, key, entry, self.below):
            return None
        return entry

    def look(self, key: bytes) -> bytes | None:
        """The key's entry on disk. Raises `Damaged`."""
        return self._find(key)


class LazyShard(dict[bytes, bytes]):
    """A shard of a store some of whose values are on disk. Only `get` and `pop` look there: the operations on single keys."""

    __slots__ = ("lazy",)

    def __init__(self, lazy: LazyValues) -> None:
        super().__init__()
        self.lazy: LazyValues = lazy

    def get(self, key: bytes, default: Any = None) -> Any:
        """As `dict.get`."""
        entry = dict.get(self, key)
        if entry is None:
            entry = self.lazy.fetch(self, key)
        return default if entry is None else entry

    def pop(self, key: bytes, default: Any = None) -> Any:
        """As `dict.pop`. The value on disk is gone too; it is not read, since it was not in the accounted memory."""
        self.lazy.gone.add(key)
        return dict.pop(self, key, default)
