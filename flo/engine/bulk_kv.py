"""The bulk load of keys: values without a deadline, straight into the shards.

A namespace is `special` once something else happened to one of its keys (a deadline, a deletion): then each value looks at what the store
has. The store's order of keys and its accounted bytes are not kept meanwhile; `KvStore.finish_load` makes them at once.
"""

from collections.abc import Sequence
from typing import ClassVar

from flo.engine.bulk import Background, Bulk, Find
from flo.store.kv import FLAGS_SHIFT, KIND_MASK, NOTED, SHARD_MASK, VERSION
from flo.ual.record import KV_COUNTER, KV_JSON, KV_STRING, Record

NOTHING_NOTED = b"\0"  # stands for the entry of a key that is missing

_join, _pack = b"\r\n".join, VERSION.pack
_FLAGS = {kind: (kind & KIND_MASK) << FLAGS_SHIFT for kind in (KV_STRING, KV_COUNTER, KV_JSON)}


class BulkValues(Bulk):
    """Values of keys."""

    types: ClassVar[frozenset[int]] = frozenset(_FLAGS)

    def __init__(self, find: Find) -> None:
        super().__init__(find)
        self._special: set[int] = set()  # numbers of namespaces
        self._background: Background | None = None
        self._known = -1  # the namespace of the last value, with its store

    def read_later(self, background: Background) -> None:
        """See `Bulk`."""
        self._background = background

    def precede(self, index: int, record: Record) -> bool:
        """See `Bulk`. A newer value that is read later would be lost under this record."""
        if self.find(record.namespace) is not None:
            self._special.add(record.namespace)
        return self._background is None or not self._background.is_newer(record.namespace, record.entity, index)

    def take(self, index: int, namespace: int, kind: int, body: bytes, start: int, middle: int, end: int) -> bool:
        """See `Bulk`."""
        if namespace != self._known:
            part = self.find(namespace)
            if part is None:
                return False
            self._known, self._store, self._shards = namespace, part.store, part.store.shards
        key = body[start:middle]
        shard = self._shards[hash(key) & SHARD_MASK]
        if namespace in self._special and (dict.get(shard, key, NOTHING_NOTED)[-1] & NOTED or key in self._store.buried):
            self._store.put(index, key, body[middle:end], kind & KIND_MASK, 0)
        else:
            shard[key] = _join((b"$%d" % (end - middle), body[middle:end], _pack(index | _FLAGS[kind])))
        return True

    def cuts(self, entity_bytes: int, rest: int) -> Sequence[int]:
        """See `Bulk`: key, value."""
        return entity_bytes, rest

    def take_run(self, first: int, namespace: int, kind: int, state_bytes: int, columns: list[tuple[bytes, ...]]) -> int:
        """See `Bulk`."""
        part = self.find(namespace)
        if part is None or namespace in self._special:
            return 0
        shards, start, end, version, flags = part.store.shards, b"$%d\r\n" % state_bytes, b"\r\n", VERSION.pack, _FLAGS[kind]
        keys, values = columns
        for index, key, value in zip(range(first | flags, (first | flags) + len(keys)), keys, values, strict=True):
            shards[hash(key) & SHARD_MASK][key] = b"".join((start, value, end, version(index)))
        return len(keys)

    def finish(self) -> None:
        """See `Bulk`."""
        self._known = -1  # a record by itself comes, which may delete the namespace

    def values(self, namespace: int, pieces: list[bytes]) -> None:
        """See `Bulk`. The namespace may have been deleted since."""
        part = self.find(namespace)
        if part is not None:
            part.store.load(pieces, namespace in self._special)
