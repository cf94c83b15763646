"""A namespace: a name, its hash on the wire, its id in the log, and the stores that hold what is in it."""

import re
from typing import TYPE_CHECKING, Any

from flo.engine.kv import KeyValue
from flo.engine.operation import in_program
from flo.engine.queue import Queues
from flo.engine.stream import Streams
from flo.errors import BadRequest
from flo.store.kv import KvStore
from flo.store.queue import Queue
from flo.store.tables import squeeze
from flo.ual.record import U64

if TYPE_CHECKING:
    from flo.engine.engine import Engine

DEFAULT = "default"
DEFAULT_ID = 0
NAME_BYTES_MAX = 128
NAMESPACE_BYTES = 60_000  # by tracemalloc: the empty shards of its stores
# Memory that is held and not used is looked for again after so many records, and one for every eighth thing looked at: 0.1 us each.
TIDY_RECORDS = 4096
TIDY_SLICE = 256  # things looked at in one go, the lanes of a queue included: 0.1 ms
_NAME = re.compile(rf"[A-Za-z0-9._:-]{{1,{NAME_BYTES_MAX}}}")
_FNV_OFFSET, _FNV_PRIME, _U64 = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


def hash_name(name: str) -> int:
    """FNV-1a 64 of the name's UTF-8 bytes: what the binary protocol's header carries."""
    value = _FNV_OFFSET
    for byte in name.encode():
        value = (value ^ byte) * _FNV_PRIME & _U64
    return value


def check_name(name: str) -> str:
    """`name`, if a namespace may have it. Raises `BadRequest`."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise BadRequest(f"{name!r} cannot name a namespace: use 1 to {NAME_BYTES_MAX} of letters, digits, '.', '_', ':' and '-'")
    return name


class Namespace:
    """An isolated set of keys, queues and streams. `kv`, `queues` and `streams` have the operations on them."""

    def __init__(self, engine: "Engine", name: str, identity: int) -> None:
        self.name = name
        self.id = identity
        self.hash = hash_name(name)
        self.wire = U64.pack(self.hash if identity != DEFAULT_ID else 0)  # as most clients write it in a header
        self.deleted = False
        self._tidied_at = 0  # the log's index at the last look for memory that is held and not used
        self._looked_at = 0  # of how many things that was
        self._to_look_at: list[Any] = []  # tables and queues that are left of it
        kinds: tuple[type[KeyValue], type[Queues], type[Streams]] = (KeyValue, Queues, Streams)
        if not engine.manual:
            kinds = in_program(KeyValue), in_program(Queues), in_program(Streams)
        key_value, queues, streams = kinds
        self.queues = queues(engine, identity)
        self.streams = streams(engine, identity)
        self.kv = key_value(engine, identity, KvStore(engine.settings.history_age if engine.settings.history_depth > 1 else 0))

    @property
    def quiet(self) -> bool:
        """Whether neither time nor background work has anything to do here until the next record."""
        store, queues, streams = self.kv.store, self.queues.store, self.streams.store
        if store.lazy is not None or store.ordered.pending or store.deadlines.count or queues.freeing or queues.windows:
            return False
        if self.untidy:
            return False
        if streams.garbage or streams.ages.count or self.streams.groups.unserved:
            return False
        return queues.timers.next_due() is None and streams.timers.next_due() is None

    @property
    def empty(self) -> bool:
        """Whether nothing live is in it, as far as that is known: not while keys are still to be read."""
        return self.kv.store.lazy is None and len(self.kv.store) == 0 and self.queues.empty and self.streams.empty

    @property
    def untidy(self) -> bool:
        """Whether there is something for `tidy`."""
        if self._to_look_at or self.kv.engine.log.next_index - self._tidied_at > TIDY_RECORDS + self._looked_at // 8:
            return True
        return self.queues.store.purged and not self.queues.store.freeing

    def tidy(self) -> None:
        """A slice of a look for memory that is held and not used: tables that are nearly empty, empty lanes and queues."""
        waiting = self._to_look_at
        if not waiting:
            queues = self.queues.store
            tables = self.kv.store.tables() if self.kv.store.lazy is None else []
            waiting += [*tables, *queues.tables(), *self.streams.store.tables(), *queues.queues.values()]
            queues.purged = False
            self._tidied_at, self._looked_at = self.kv.engine.log.next_index, len(waiting)
        room = TIDY_SLICE
        while waiting and room > 0:
            item = waiting.pop()
            room -= 1
            if isinstance(item, Queue):
                room -= len(item.lanes)
                self.queues.store.tidy(item)
            else:
                squeeze(item)

    @property
    def bytes(self) -> int:
        """Bytes of memory accounted to it."""
        kv = self.kv
        return NAMESPACE_BYTES + kv.store.accounted + kv.cursors.accounted + self.queues.store.accounted + self.streams.store.accounted
