"""A namespace: its name, its hash on the wire, its id in the log, and its parts, which hold its data."""

import re
from typing import Any

from flo.engine.action import Actions
from flo.engine.kv import KeyValue
from flo.engine.operation import in_program
from flo.engine.part import Database, Part
from flo.engine.queue import Queues
from flo.engine.stream import Streams
from flo.engine.timeseries import TimeSeries
from flo.errors import BadRequest
from flo.limits import NAMESPACE_NAME_BYTES_MAX

PARTS: tuple[type[Part], ...] = (KeyValue, Queues, Streams, TimeSeries, Actions)
DEFAULT = "default"
DEFAULT_ID = 0
NAMESPACE_BYTES = 80_000  # by tracemalloc: the empty shards of its stores, and the empty tables of their deadlines
# The next look for unused memory starts after this many records, plus an eighth of the containers of the last look: 0.1 us each.
TIDY_RECORDS = 4096
TIDY_SLICE = 256  # containers looked at in one slice, including a queue's lanes: 0.1 ms
_NAME = re.compile(rf"[A-Za-z0-9._:-]{{1,{NAMESPACE_NAME_BYTES_MAX}}}")
_FNV_OFFSET, _FNV_PRIME, _U64 = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


def hash_name(name: str) -> int:
    """FNV-1a 64 of the name's UTF-8 bytes, as in the header of a binary request."""
    value = _FNV_OFFSET
    for byte in name.encode():
        value = (value ^ byte) * _FNV_PRIME & _U64
    return value


def check_name(name: str) -> str:
    """Return `name`. Raises `BadRequest` if a namespace may not have this name."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise BadRequest(f"{name!r} cannot name a namespace: use 1 to {NAMESPACE_NAME_BYTES_MAX} of letters, digits, '.', '_', ':' and '-'")
    return name


class Namespace:
    """An isolated set of keys, queues, streams and time series. Each part is an attribute (`kv`, `queues`, `streams`, `ts`) and has
    the operations."""

    kv: KeyValue
    queues: Queues
    streams: Streams
    ts: TimeSeries
    actions: Actions

    def __init__(self, engine: Database, name: str, identity: int) -> None:
        self.name = name
        self.id = identity
        self.hash: int = hash_name(name)
        self.deleted = False
        self._engine = engine
        self._tidied_at = 0  # the log's index at the last look for unused memory
        self._looked_at = 0  # how many containers that look had
        self._to_look_at: list[tuple[Part, Any]] = []  # the containers that this look still has to visit
        self.parts: list[Part] = []
        for kind in PARTS:
            part = (kind if engine.manual else in_program(kind))(engine, identity)
            setattr(self, kind.name, part)
            self.parts += (part, *part.inner)
        self.by_type: dict[int, Part] = {number: part for part in self.parts for number in part.types}
        self.by_scope: dict[int, Part] = {family: part for part in self.parts for family in part.scopes}

    @property
    def quiet(self) -> bool:
        """Whether nothing becomes due and there is no background work until the next record."""
        return not self.untidy and all(part.quiet for part in self.parts)

    @property
    def empty(self) -> bool:
        """Whether nothing live is in it. False while keys are still on disk: that is not known then."""
        return all(part.empty for part in self.parts)

    @property
    def untidy(self) -> bool:
        """Whether `tidy` has something to do."""
        if self._to_look_at or self._engine.log.next_index - self._tidied_at > TIDY_RECORDS + self._looked_at // 8:
            return True
        return any(part.urges_tidying for part in self.parts)

    def tidy(self) -> None:
        """Do a slice of a look for unused memory: nearly empty tables, empty lanes and queues."""
        waiting = self._to_look_at
        if not waiting:
            waiting += [(part, holder) for part in self.parts for holder in part.holders()]
            self._tidied_at, self._looked_at = self._engine.log.next_index, len(waiting)
        room = TIDY_SLICE
        while waiting and room > 0:
            part, holder = waiting.pop()
            room -= part.tidy(holder)

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory accounted to it."""
        return NAMESPACE_BYTES + sum(part.memory_bytes for part in self.parts)

    def counts(self) -> dict[str, int]:
        """The numbers of its items, by plural nouns such as `keys`."""
        return {noun: count for part in self.parts for noun, count in part.counts().items()}

    def happened(self) -> dict[str, int]:
        """How often what its parts count has come since the start, or CONFIG RESETSTAT, by names such as `invoked_runs`."""
        return {event: count for part in self.parts for event, count in part.happened.items()}

    def forget_happened(self) -> None:
        """Count anew."""
        for part in self.parts:
            part.happened = dict.fromkeys(part.events, 0)
