"""The key-value projection of one namespace: the latest state of every key, as the log's records give it.

    shards[hash(key) & 255]   key -> entry

An **entry** is one bytes object, the value framed as a RESP bulk string and its tail:

    $<length>\\r\\n<value>\\r\\n<version, u56 little-endian><flags, u8>
    $<length>\\r\\n<value>\\r\\n<deadline, u64><index of the record with the value, u64><version, u56><flags, u8>

The second form is for a NOTED key: one that has a deadline, or whose last record was a touch (deadline 0: the touch cleared it).
A hot read answers with a slice of the entry. No key needs a second object: a tuple of value and version would take half as much memory
again. Flags: bits 0-1 are the kind; the highest bit is NOTED.

There are 256 shards because one dict of millions stalls for a quarter of a second when it grows. One of 256 shards with a million keys
takes 0.4 ms.
"""

import struct
from collections import OrderedDict
from typing import Any, NamedTuple

from flo.store.deadlines import Deadlines
from flo.store.lazy import DAMAGED, Find, LazyShard, LazyValues
from flo.store.ordered import DEAD_KEY_BYTES, OrderedKeys

SHARDS = 256
SHARD_MASK = SHARDS - 1
STRING, COUNTER, JSON = 0, 1, 2
KIND_MASK = 0x03
NOTED = 0x80
PLAIN_MAX = 2  # an entry whose last byte is below this is a string or counter that is not NOTED
VERSION_BYTES = 8
NOTE_BYTES = 24  # of a noted entry: deadline, holder, version and flags
FLAGS_SHIFT = 56
VERSION_MASK = (1 << FLAGS_SHIFT) - 1
FRAME_END_BYTES = 2 + VERSION_BYTES  # CR, LF, version
# A short bytes object and its place in a dict, by sys.getsizeof and the growth of RSS over a million keys.
KEY_OVERHEAD_BYTES = 130
# The bounds of the deleted keys whose history can still be read; the oldest are forgotten first. A key deleted while the clock was ahead
# stays the oldest, and keeps the keys behind it, until its time comes or there are too many.
BURIED_MAX = 100_000
BURIED_BYTES_MAX = 16 << 20
BURIED_BYTES = 230  # of a buried key besides its name: a tuple, its ints, its place in an ordered dict
LONG_PAST = 1  # ms: a deadline that has passed by any clock

VERSION = struct.Struct("<Q")
NOTE = struct.Struct("<QQQ")  # deadline, holder, version and flags
_pack_version, _pack_note = VERSION.pack, NOTE.pack
_note_of, _deadline_of = NOTE.unpack_from, VERSION.unpack_from

I64_MIN, I64_MAX = -(1 << 63), (1 << 63) - 1


class Found(NamedTuple):
    """A key's present state. `deadline` is in ms, 0 for none; `holder` is the index of the record with the value."""

    value: bytes
    version: int
    kind: int
    deadline: int
    holder: int


def frame(value: bytes, version: int, flags: int) -> bytes:
    """The entry of a value that is not NOTED."""
    return b"$%d\r\n%b\r\n%b" % (len(value), value, _pack_version(version | flags << FLAGS_SHIFT))


def tail_bytes(entry: bytes) -> int:
    """How many bytes of an entry follow its value's CR and LF."""
    return NOTE_BYTES if entry[-1] & NOTED else VERSION_BYTES


def entry_value(entry: bytes) -> bytes:
    """The value in an entry."""
    return entry[entry.index(10) + 1 : -2 - tail_bytes(entry)]


def entry_value_bytes(entry: bytes) -> int:
    """The length of the value in an entry."""
    return int(entry[1 : entry.index(13)])


def entry_deadline(entry: bytes) -> int:
    """The deadline in an entry, ms; 0 for none."""
    return int(_deadline_of(entry, len(entry) - NOTE_BYTES)[0]) if entry[-1] & NOTED else 0


def entry_version(entry: bytes) -> int:
    """The version in an entry."""
    return int(VERSION.unpack_from(entry, len(entry) - VERSION_BYTES)[0]) & VERSION_MASK


def entry_holder(entry: bytes) -> int:
    """The index of the record that holds the value in an entry."""
    if entry[-1] & NOTED:
        return int(_deadline_of(entry, len(entry) - NOTE_BYTES + 8)[0])
    return entry_version(entry)


def entry_parts(entry: bytes) -> tuple[bytes, bytes]:
    """(version, value) of an entry. The version is in the byte order of the protocol; its eighth byte, a zero, may be missing."""
    if entry[-1] & NOTED:
        return VERSION.pack(entry_version(entry)), entry_value(entry)
    return entry[-VERSION_BYTES:-1], entry[entry.index(10) + 1 : -FRAME_END_BYTES]


def found_in(entry: bytes) -> Found:
    """The key's state in an entry."""
    flags = entry[-1]
    if not flags & NOTED:
        version = entry_version(entry)
        return Found(entry_value(entry), version, flags & KIND_MASK, 0, version)
    deadline, holder, version = _note_of(entry, len(entry) - NOTE_BYTES)
    return Found(entry_value(entry), version & VERSION_MASK, flags & KIND_MASK, deadline, holder)


class KvStore:
    """The keys of one namespace. `put`, `touch`, `bury` and `clear` apply a record, replayed or live."""

    def __init__(self, history_age: int) -> None:
        """`history_age`, ms: how long a deleted key's history can be read."""
        self._history_age = history_age
        self.lazy: LazyValues | None = None  # the values that a start has left on disk
        self.clear(0)

    def clear(self, below: int) -> list[dict[bytes, bytes]]:
        """Forget every key; all their versions are under `below`. Returns the dicts that held them, which the caller frees piece by
        piece."""
        old: list[dict[bytes, bytes]] = getattr(self, "shards", [])
        if self.lazy is not None:
            self.lazy = self.lazy.dropped(self, below)  # None if no value on disk remains
        shards = self._new_shards()
        self.shards = shards
        # deleted key -> (index, time) of its deletion, oldest first; a plain dict is slow to find its first item after deletions
        self.buried: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self.deadlines: Deadlines[bytes] = Deadlines()
        self.ordered: OrderedKeys = self._new_order()
        self._buried_bytes = 0
        self.bytes: int = 0  # of memory accounted to keys and buried keys
        return old

    def _new_shards(self) -> list[dict[bytes, bytes]]:
        lazy = self.lazy
        return [{} if lazy is None else LazyShard(lazy) for _ in range(SHARDS)]

    def _new_order(self) -> OrderedKeys:
        shards = self.shards
        # not through self: a store that is dropped with its namespace must not be in a cycle, since nothing collects cycles
        return OrderedKeys(lambda key: key in shards[hash(key) & SHARD_MASK])

    @property
    def accounted(self) -> int:
        """Bytes of memory accounted to the whole store."""
        return self.bytes + self.deadlines.bytes + self.ordered.dead_bytes

    def __len__(self) -> int:
        """How many keys there are, including expired keys that were not swept yet."""
        return sum(map(len, self.shards))

    def __contains__(self, key: bytes) -> bool:
        """Whether there is an entry, expired or not."""
        return self.shards[hash(key) & SHARD_MASK].get(key) is not None

    # -- reading -----------------------------------------------------------------------------------

    def find(self, key: bytes) -> Found | None:
        """The key's state, expired or not. Raises `Damaged` if its value on disk cannot be read."""
        entry = self.shards[hash(key) & SHARD_MASK].get(key)
        if entry is not None and entry[-1] == DAMAGED:
            entry = self.look(key)
        return None if entry is None else found_in(entry)

    def look(self, key: bytes) -> bytes | None:
        """Read again the entry on disk of a key whose entry is DAMAGED_ENTRY. Raises `Damaged`."""
        assert self.lazy is not None
        return self.lazy.look(key)

    def deadline(self, key: bytes) -> int:
        """The key's deadline in ms; 0 for none or no such key."""
        entry = self.shards[hash(key) & SHARD_MASK].get(key)
        return entry_deadline(entry) if entry is not None else 0

    def predecessor(self, key: bytes) -> int:
        """The index that the next record of `key` names as its predecessor; 0 for none."""
        entry = self.shards[hash(key) & SHARD_MASK].get(key)
        if entry is not None:
            return entry_version(entry)
        buried = self.buried.get(key)
        return buried[0] if buried else 0

    # -- what records do ---------------------------------------------------------------------------

    def put(self, index: int, key: bytes, value: bytes, kind: int, deadline: int) -> None:
        """Record `index` gave the key this value, kind and deadline (ms, 0 for none)."""
        shard = self.shards[hash(key) & SHARD_MASK]
        # `dict.get` does not look on disk: a value there is not accounted, and the new entry hides it
        self.replace(shard, dict.get(shard, key), index, key, value, kind, deadline)

    def replace(self, shard: dict[bytes, bytes], old: bytes | None, index: int, key: bytes, value: bytes, kind: int, deadline: int) -> None:
        """`put`, for a caller that knows the key's shard and its old entry."""
        if deadline:
            entry = b"$%d\r\n%b\r\n%b" % (len(value), value, _pack_note(deadline, index, index | (kind | NOTED) << FLAGS_SHIFT))
            if old is not None and old[-1] & NOTED:
                self.deadlines.move(_deadline_of(old, len(old) - NOTE_BYTES)[0], deadline, key)
            else:
                self.deadlines.add(deadline, key)
        else:
            entry = b"$%d\r\n%b\r\n%b" % (len(value), value, _pack_version(index | kind << FLAGS_SHIFT))
            if old is not None and old[-1] & NOTED:
                self._drop_deadline(old, key)
        shard[key] = entry
        if old is not None:
            self.bytes += len(entry) - len(old)
            return
        self.ordered.fresh.append(key)
        self.bytes += KEY_OVERHEAD_BYTES + len(key) + len(entry)
        if self.buried:
            self._unbury(key)

    def load(self, pieces: list[bytes], special: bool) -> None:
        """Take values without a deadline from a base of the log: key, entry, key, entry, and so on. With `special`, the store may have
        deadlines or deleted keys. `finish_load` does the order and the accounting."""
        shards = self.shards
        if not special:
            for key, entry in zip(pieces[::2], pieces[1::2], strict=True):
                shards[hash(key) & SHARD_MASK][key] = entry
            return
        for key, entry in zip(pieces[::2], pieces[1::2], strict=True):
            shard = shards[hash(key) & SHARD_MASK]
            old = dict.get(shard, key)
            if old is not None and old[-1] & NOTED:
                self._drop_deadline(old, key)
            self._unbury(key)
            shard[key] = entry

    def begin_lazy(self, find: Find, last: int) -> None:
        """Leave values of versions up to `last` on disk: `find` gives a key's entry there. The store must be empty."""
        self.lazy = LazyValues(find, self, last, 0)
        self.clear(0)

    def hold(self, shard: dict[bytes, bytes], key: bytes, entry: bytes, below: int) -> bool:
        """Take a value from disk into its shard, which does not have the key. False, and not taken, if its version is under `below`."""
        if below and entry_version(entry) < below:
            return False
        shard[key] = entry
        self.ordered.fresh.append(key)
        self.bytes += KEY_OVERHEAD_BYTES + len(key) + len(entry)
        return True

    def load_lazy(self, pieces: list[bytes]) -> None:
        """Take values from disk: key, entry, key, entry, and so on. A key that the store has already is skipped: its value is newer, since
        files are read from the newest to the oldest."""
        lazy = self.lazy
        if lazy is None:
            return
        shards, gone, below, order = self.shards, lazy.gone, lazy.below, self.ordered.fresh.append
        size = 0
        for key, entry in zip(pieces[::2], pieces[1::2], strict=True):
            shard = shards[hash(key) & SHARD_MASK]
            if key in shard or key in gone or (below and entry_version(entry) < below):
                continue
            shard[key] = entry
            order(key)
            size += KEY_OVERHEAD_BYTES + len(key) + len(entry)
        self.bytes += size

    def end_lazy(self, shard: int) -> int:
        """All values are read: put a plain dict in the place of this shard. With the last shard, also replace the lazy shards that were
        made since, and drop `lazy`. Returns how many entries the shard has."""
        plain = self.shards[shard] = dict(self.shards[shard])
        if shard == SHARDS - 1:
            self.lazy = None
            self.shards[:] = [dict(each) if isinstance(each, LazyShard) else each for each in self.shards]
        return len(plain)

    def finish_load(self) -> None:
        """The end of a start: account for all keys, and give every key to `ordered`."""
        size = self._buried_bytes
        ordered = self.ordered = self._new_order()
        for shard in self.shards:
            ordered.fresh += shard
            size += KEY_OVERHEAD_BYTES * len(shard) + sum(map(len, shard)) + sum(map(len, shard.values()))
        self.bytes = size

    def touch(self, index: int, key: bytes, deadline: int, holder: int) -> None:
        """Record `index` gave the key this deadline; its value is still that of record `holder`."""
        shard = self.shards[hash(key) & SHARD_MASK]
        old = shard.get(key)
        if old is None:
            # a replay of a log whose compaction was interrupted: the touch is dead, and the record of its value is removed already
            return
        if entry_holder(old) != holder:
            # the touched value was lost with a damaged file: the value here is another one, and no longer the key's
            self.bury(index, key, 0)
            return
        self.note(shard, old, index, key, deadline, holder)

    def note(self, shard: dict[bytes, bytes], old: bytes, index: int, key: bytes, deadline: int, holder: int) -> None:
        """`touch`, for a caller that knows the key's shard and its old entry, whose value is that of record `holder`."""
        flags = old[-1]
        if flags & NOTED:
            value_end = len(old) - NOTE_BYTES
            self.deadlines.move(_deadline_of(old, value_end)[0], deadline, key)
        else:
            value_end = len(old) - VERSION_BYTES
            self.bytes += NOTE_BYTES - VERSION_BYTES
            if deadline:
                self.deadlines.add(deadline, key)
        shard[key] = old[:value_end] + _pack_note(deadline, holder, index | (flags | NOTED) << FLAGS_SHIFT)

    def expire(self, key: bytes) -> None:
        """A request was shown that the key has expired: set its deadline so that it stays expired even if the clock goes back. No record
        is written."""
        shard = self.shards[hash(key) & SHARD_MASK]
        entry = shard[key]
        before, holder, version = _note_of(entry, len(entry) - NOTE_BYTES)
        self.deadlines.move(before, LONG_PAST, key)
        shard[key] = entry[:-NOTE_BYTES] + _pack_note(LONG_PAST, holder, version)

    def bury(self, index: int, key: bytes, time: int) -> None:
        """Record `index` deleted the key."""
        old = self.shards[hash(key) & SHARD_MASK].pop(key, None)
        if old is not None:
            self.bytes -= KEY_OVERHEAD_BYTES + len(key) + len(old)
            ordered = self.ordered
            ordered.dead += 1
            ordered.dead_bytes += DEAD_KEY_BYTES + len(key)
            if old[-1] & NOTED:
                self._drop_deadline(old, key)
        buried = self.buried
        if key in buried:
            self._unbury(key)
        if self._history_age:
            buried[key] = (index, time)
            size = BURIED_BYTES + len(key)
            self._buried_bytes += size
            self.bytes += size
            while (
                len(buried) > BURIED_MAX
                or self._buried_bytes > BURIED_BYTES_MAX
                or next(iter(buried.values()))[1] + self._history_age <= time
            ):
                self._grow_buried(-BURIED_BYTES - len(buried.popitem(last=False)[0]))

    def _unbury(self, key: bytes) -> None:
        if self.buried.pop(key, None) is not None:
            self._grow_buried(-BURIED_BYTES - len(key))

    def _grow_buried(self, change: int) -> None:
        self._buried_bytes += change
        self.bytes += change

    def tables(self) -> list[dict[bytes, Any]]:
        """The dicts that hold the keys."""
        return [*self.shards]

    def _drop_deadline(self, entry: bytes, key: bytes) -> None:
        """Remove the deadline of a noted entry that is replaced or deleted, if it has one."""
        deadline = _deadline_of(entry, len(entry) - NOTE_BYTES)[0]
        if deadline:
            self.deadlines.remove(deadline, key)
