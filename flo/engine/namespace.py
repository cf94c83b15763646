"""A namespace: a name, its hash on the wire, its id in the log, and the stores that hold what is in it."""

import re
from typing import TYPE_CHECKING

from flo.engine.kv import KeyValue
from flo.engine.operation import in_program
from flo.engine.queue import Queues
from flo.engine.stream import Streams
from flo.errors import BadRequest
from flo.store.kv import KvStore
from flo.ual.record import U64

if TYPE_CHECKING:
    from flo.engine.engine import Engine

DEFAULT = "default"
DEFAULT_ID = 0
NAME_BYTES_MAX = 128
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
        if store.unread is not None or store.ordered.pending or store.deadlines.count or queues.garbage or queues.windows:
            return False
        if streams.garbage or streams.ages.count or self.streams.groups.unserved:
            return False
        return queues.timers.next_due() is None and streams.timers.next_due() is None

    @property
    def empty(self) -> bool:
        """Whether nothing live is in it, as far as that is known: not while keys are still to be read."""
        return self.kv.store.unread is None and len(self.kv.store) == 0 and self.queues.empty and self.streams.empty

    @property
    def bytes(self) -> int:
        """Bytes of memory accounted to it."""
        return self.kv.store.bytes + self.queues.store.bytes + self.streams.store.bytes
