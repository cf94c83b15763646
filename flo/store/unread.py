"""Values that a start has left on disk, and how a key-value store reads one when somebody asks for it first.

While there are any, a store's shards are `UnreadShard`s: dicts that look on disk for a key they do not have. Whoever uses shards need
not know. What is in memory is newer than what is on disk; a key that was deleted meanwhile is remembered as `gone`, so that neither a
look nor the reading of all the rest brings it back. In such a shard a key that is in memory costs a third more, one that is on disk 10 us,
one that is nowhere 1 us a file; once all is read the store has plain shards again.
"""

from collections.abc import Callable
from typing import Any
from weakref import ref

from flo.errors import Damaged

# In the place of an entry that does not read. Its flags are of no kind that a fast way knows, so all leave it to `KvStore.find`, which asks
# again, and raises.
DAMAGED = 0xFF
DAMAGED_ENTRY = b"$0\r\n\r\n" + bytes(23) + bytes((DAMAGED,))  # as long as a noted entry: no deadline

Find = Callable[[bytes], bytes | None]  # the entry that is on disk for a key


class Unread:
    """What is left on disk of one store."""

    __slots__ = ("_find", "_last", "_store", "below", "gone")

    def __init__(self, find: Find, store: Any, last: int, below: int) -> None:
        """Entries are of versions up to `last`; those under `below` are dead: everything was dropped there."""
        self._find = find
        self._store = ref(store)  # a store is in no cycle: nothing collects those
        self._last = last
        self.below = below
        self.gone: set[bytes] = set()

    def dropped(self, store: Any, below: int) -> "Unread | None":
        """What is left of it for `store` once everything under index `below` is dropped; None for nothing."""
        return Unread(self._find, store, self._last, below) if below <= self._last else None

    def fetch(self, shard: "UnreadShard", key: bytes) -> bytes | None:
        """Have the store hold the key's entry, if there is one; returns it. `DAMAGED_ENTRY` for one that does not read."""
        store = self._store()
        if store is None or key in self.gone:
            return None
        try:
            entry = self._find(key)
        except Damaged:
            return DAMAGED_ENTRY  # it is not held: a fast way has no place for an error
        if entry is None or not store.hold(shard, key, entry, self.below):
            return None
        return entry

    def look(self, key: bytes) -> bytes | None:
        """The key's entry on disk. Raises `Damaged`."""
        return self._find(key)


class UnreadShard(dict[bytes, bytes]):
    """A shard of a store some of whose values are on disk. Only what single keys need looks there: `get` and `pop`."""

    __slots__ = ("unread",)

    def __init__(self, unread: Unread) -> None:
        super().__init__()
        self.unread = unread

    def get(self, key: bytes, default: Any = None) -> Any:
        """As of a dict."""
        entry = dict.get(self, key)
        if entry is None:
            entry = self.unread.fetch(self, key)
        return default if entry is None else entry

    def pop(self, key: bytes, default: Any = None) -> Any:
        """As of a dict; what is on disk is gone too. It is not looked at: it had no part in what is accounted."""
        self.unread.gone.add(key)
        return dict.pop(self, key, default)
