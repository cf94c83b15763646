"""What a start does with a log: the records' effect on the stores, many at a time.

`Loading` does to the stores what `Engine.apply` does, record by record, for the records that most logs consist of, a third as fast or
faster; the rest goes to `Engine.apply`. tests/test_compaction.py holds the two equal. While it is at work the key-value stores' order of
keys and accounted bytes are not kept; `finish` makes them at once.
"""

from collections.abc import Callable

from flo.engine.namespace import Namespace
from flo.errors import LogDamaged
from flo.store.kv import FLAGS_SHIFT, KIND_MASK, SHARD_MASK, VERSION
from flo.ual.block import Messages, Records
from flo.ual.record import FAMILY_KV, FAMILY_MASK, HEADER, HEADER_BYTES, KV_COUNTER, KV_JSON, KV_STRING, Record, decode

_FLAGS = {kind: (kind & KIND_MASK) << FLAGS_SHIFT for kind in (KV_STRING, KV_COUNTER, KV_JSON)}


class Loading:
    """One start. It is the log's `flo.ual.recovery.Loader`."""

    def __init__(self, apply: Callable[[int, Record], None], find: Callable[[int], Namespace | None]) -> None:
        """`apply` is the engine's; `find` gives the namespace with an id."""
        self.apply = apply
        self._find = find
        self._special: set[Namespace] = set()  # those with deadlines or deletions among their keys

    def batch(self, first: int, count: int, body: bytes) -> list[int]:
        """Apply the `count` records in `body`, the first of index `first`; returns their offsets. One loop, flat, because a log of
        millions is read by it: 0.7 us a value. Raises `LogDamaged` where the records do not add up to the body."""
        places: list[int] = []
        known = -1
        special = False
        at, size = 0, len(body)
        unpack, pack, flags = HEADER.unpack_from, VERSION.pack, _FLAGS
        for index in range(first, first + count):
            if at + HEADER_BYTES > size:
                raise LogDamaged("the batch holds fewer records than it says.")
            length, kind, shape, key_length, number, _, _ = unpack(body, at)
            places.append(at)
            start, end = at + HEADER_BYTES, at + length
            middle = start + key_length
            if kind not in flags or shape or not middle <= end <= size:
                self.other(index, decode(body, at))
                known = -1
            else:
                if number != known:
                    namespace = self._find(number)
                    if namespace is None:
                        self.other(index, decode(body, at))
                        at = end
                        continue
                    known, special, store = number, namespace in self._special, namespace.kv.store
                    shards, notes, buried = store.shards, store.notes, store.buried
                key = body[start:middle]
                place = hash(key) & SHARD_MASK
                if special and (key in notes[place] or key in buried):
                    store.put(index, key, body[middle:end], kind & KIND_MASK, 0)
                else:
                    shards[place][key] = b"$%d\r\n%b\r\n%b" % (end - middle, body[middle:end], pack(index | flags[kind]))
            at += max(length, HEADER_BYTES)
        if at != size:
            raise LogDamaged("the batch's records do not add up to its length.")
        return places

    def other(self, index: int, record: Record) -> None:
        """One record by itself."""
        if record.type & FAMILY_MASK == FAMILY_KV:
            namespace = self._find(record.namespace)
            if namespace is not None:
                self._special.add(namespace)
        self.apply(index, record)

    def values(self, namespace: int, pieces: list[bytes]) -> None:
        """Values of a base: key, entry, key, entry, and so on. The namespace may have been deleted since."""
        found = self._find(namespace)
        if found is not None:
            found.kv.store.load(pieces, found in self._special)

    def group(self, group: Messages | Records) -> None:
        """Messages or stream records of a base."""
        found = self._find(group.namespace)
        if found is None:
            return
        if isinstance(group, Messages):
            found.queues.store.extend(group.name, group.priority, group.seqs)
        else:
            store = found.streams.store
            store.extend(group.name, group.indexes, group.ms, group.seqs, group.sizes, group.added)
