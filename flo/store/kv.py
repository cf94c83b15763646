"""The key-value projection of one namespace: the latest state of every key, as the log's records say.

    shards[hash(key) & 255]   key -> entry

An **entry** is one bytes object, the value framed as a RESP bulk string and its tail:

    $<length>\\r\\n<value>\\r\\n<version, u56 little-endian><flags, u8>
    $<length>\\r\\n<value>\\r\\n<deadline, u64><index of the record with the value, u64><version, u56><flags, u8>

The second form is that of a key which is NOTED: it has a deadline, or its last record was a touch (deadline 0: it has none any more).
A hot read answers with a slice, and no key costs a second object: a tuple of value and version costs half as much memory again.
Flags: bits 0-1 the kind; NOTED.

256 shards, because one dict of millions stalls for a quarter of a second when it grows; a shard of a million keys'
worth takes 0.4 ms.
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
PLAIN_MAX = 2  # an entry whose last byte is below this is a string or counter with nothing noted
VERSION_BYTES = 8
NOTE_BYTES = 24  # of a noted entry: deadline, holder, version and flags
FLAGS_SHIFT = 56
VERSION_MASK = (1 << FLAGS_SHIFT) - 1
FRAME_END_BYTES = 2 + VERSION_BYTES  # CR, LF, version
# A short bytes object and its place in a dict, by sys.getsizeof and the growth of RSS over a million keys.
KEY_OVERHEAD_BYTES = 130
# Deleted keys whose history can still be asked for: so many, and so much memory, at most; the oldest are forgotten first. One that was
# deleted while the clock was ahead stays the oldest, and those behind it stay too, until its time has come or there are too many.
BURIED_MAX = 100_000
BURIED_BYTES_MAX = 16 << 20
BURIED_BYTES = 230  # of one besides its name: a tuple, its ints, its place in an ordered dict
LONG_PAST = 1  # ms: a deadline that is past whatever a clock says

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
    """The entry of a value that nothing is noted of."""
    return b"$%d\r\n%b\r\n%b" % (len(value), value, _pack_version(version | flags << FLAGS_SHIFT))


def tail_bytes(entry: bytes) -> int:
    """How many bytes of an entry stand behind its value's CR and LF."""
    return NOTE_BYTES if entry[-1] & NOTED else VERSION_BYTES


def entry_value(entry: bytes) -> bytes:
    """The value in an entry."""
    return entry[entry.index(10) + 1 : -2 - tail_bytes(entry)]


def entry_value_bytes(entry: bytes) -> int:
    """How long the value in an entry is."""
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
    """The version in an entry, as it is sent: seven bytes and a zero that may be missing; and the value."""
    if entry[-1] & NOTED:
        return VERSION.pack(entry_version(entry)), entry_value(entry)
    return entry[-VERSION_BYTES:-1], entry[entry.index(10) + 1 : -FRAME_END_BYTES]


def found_in(entry: bytes) -> Found:
    """The state that an entry is of."""
    flags = entry[-1]
    if not flags & NOTED:
        version = entry_version(entry)
        return Found(entry_value(entry), version, flags & KIND_MASK, 0, version)
    deadline, holder, version = _note_of(entry, len(entry) - NOTE_BYTES)
    return Found(entry_value(entry), version & VERSION_MASK, flags & KIND_MASK, deadline, holder)


class KvStore:
    """The keys of one namespace. `put`, `touch`, `bury` and `clear` are what records do to it, replayed or live."""

    def __init__(self, history_age: int) -> None:
        """`history_age`, ms: how long a deleted key's history can be asked for."""
        self._history_age = history_age
        self.lazy: LazyValues | None = None  # what a start has left on disk
        self.clear(0)

    def clear(self, below: int) -> list[dict[bytes, bytes]]:
        """Forget every key of a version under `below`, which are all that there are; returns what held them, for the caller to free
        piece by piece."""
        old: list[dict[bytes, bytes]] = getattr(self, "shards", [])
        if self.lazy is not None:
            self.lazy = self.lazy.dropped(self, below)  # None where that is all of it
        shards = self._new_shards()
        self.shards = shards
        # deleted key -> (index, time) of its deletion, oldest first; a plain dict finds its first slowly after deletions
        self.buried: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self.deadlines: Deadlines[bytes] = Deadlines()
        self.ordered = self._new_order()
        self._buried_bytes = 0
        self.bytes = 0  # of memory, accounted: to keys and to what is buried
        return old

    def _new_shards(self) -> list[dict[bytes, bytes]]:
        lazy = self.lazy
        return [{} if lazy is None else LazyShard(lazy) for _ in range(SHARDS)]

    def _new_order(self) -> OrderedKeys:
        shards = self.shards
        # not through self: a store that is dropped with its namespace must be in no cycle, since nothing collects those
        return OrderedKeys(lambda key: key in shards[hash(key) & SHARD_MASK])

    @property
    def accounted(self) -> int:
        """Bytes of memory accounted to all of it."""
        return self.bytes + self.deadlines.bytes + self.ordered.dead_bytes

    def __len__(self) -> int:
        """Keys, those whose deadline has passed and that were not swept yet included."""
        return sum(map(len, self.shards))

    def __contains__(self, key: bytes) -> bool:
        """Whether there is an entry, expired or not."""
        return self.shards[hash(key) & SHARD_MASK].get(key) is not None

    # -- reading -----------------------------------------------------------------------------------

    def find(self, key: bytes) -> Found | None:
        """The key's state, whatever its deadline. Raises `Damaged` for one that is on disk and does not read."""
        entry = self.shards[hash(key) & SHARD_MASK].get(key)
        if entry is not None and entry[-1] == DAMAGED:
            entry = self.look(key)
        return None if entry is None else found_in(entry)

    def look(self, key: bytes) -> bytes | None:
        """The entry of a key that is on disk, and did not read before. Raises `Damaged`."""
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
        # what is on disk needs no look: it is not accounted, and this hides it
        self.replace(shard, dict.get(shard, key), index, key, value, kind, deadline)

    def replace(self, shard: dict[bytes, bytes], old: bytes | None, index: int, key: bytes, value: bytes, kind: int, deadline: int) -> None:
        """`put`, where the key's shard and its entry so far are known."""
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
        """Values without a deadline, as a base of the log holds them: key, entry, key, entry, and so on. `special` says that there may be
        deadlines or deleted keys. Order and accounting are left to `finish_load`."""
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
        """There are values on disk that `load` is not told of, of versions up to `last`: `find` gives the entry of a key. The store is
        empty yet."""
        self.lazy = LazyValues(find, self, last, 0)
        self.clear(0)

    def hold(self, shard: dict[bytes, bytes], key: bytes, entry: bytes, below: int) -> bool:
        """Take a value that was on disk into its shard, which does not have the key; not where it is of a version under `below`."""
        if below and entry_version(entry) < below:
            return False
        shard[key] = entry
        self.ordered.fresh.append(key)
        self.bytes += KEY_OVERHEAD_BYTES + len(key) + len(entry)
        return True

    def load_lazy(self, pieces: list[bytes]) -> None:
        """Take what nobody has asked for yet, of key, entry, key, entry, and so on. Files are read from the newest on: what is there
        already is newer."""
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
        """All is read: have a plain shard in the place of this one; with the last, in the place of any that came since, and forget
        that there was anything. Returns how many entries it has."""
        plain = self.shards[shard] = dict(self.shards[shard])
        if shard == SHARDS - 1:
            self.lazy = None
            self.shards[:] = [dict(each) if isinstance(each, LazyShard) else each for each in self.shards]
        return len(plain)

    def finish_load(self) -> None:
        """Account for everything and put every key down for ordering: the end of a start."""
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
            # a replay of a log whose compaction was cut short: the touch is dead, and the value it was of is gone already
            return
        if entry_holder(old) != holder:
            # the value that it was of was lost with a damaged file: what is here was another, and is not the key's any more
            self.bury(index, key, 0)
            return
        self.note(shard, old, index, key, deadline, holder)

    def note(self, shard: dict[bytes, bytes], old: bytes, index: int, key: bytes, deadline: int, holder: int) -> None:
        """`touch`, where the key's shard and its entry so far are known, and that its value is `holder`'s."""
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
        """The key's deadline has passed, and was seen to have: it stays past should the clock go back. No record says so."""
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
        """A noted entry goes: so does its deadline, if it has one."""
        deadline = _deadline_of(entry, len(entry) - NOTE_BYTES)[0]
        if deadline:
            self.deadlines.remove(deadline, key)
