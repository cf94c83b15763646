"""The replicated tail of the log: which keys it has in etcd, and the bytes of their values.

    /flo/NAME/0/leader          who leads (`Lead`). Its mod_revision is the *claim*: a leader's other writes say "if that is still mine"
    /flo/NAME/0/clock           the leader's clocks (`Clock`), at least every 500 ms: the heartbeat of a log to which nobody writes
    /flo/NAME/0/log/FIRST.PART  a batch, by the index of its first record, in parts of PART_BYTES, both in hex
    /flo/NAME/0/next            the name of the member that is to lead next, where an operator has said so
    /flo/NAME/0/member/NODE     a member (`Member`), every 2 s

A batch is cut because etcd takes 1.5 MiB in a request. It counts from its last part on; a new leader removes the parts of one that has no
last part. The value of a part:

    0  u64 first index | 8  u64 stamp, ms | 16 u64 the leader's wall clock, ms | 24 u32 records | 28 u32 chain
    32 u8 whether it is the last part | 33 a slice of the records, as they are in a segment

The *chain* is the crc-32 of all records of the replicated log up to the batch's end; who reads computes it too, so that logs that have come
apart are noticed.
"""

import json
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple
from zlib import crc32

from flo.cluster.etcd import KeyValue
from flo.errors import FloError
from flo.ual.record import U32

PART_BYTES = 1 << 20
_PART = struct.Struct("<QQQIIB")
_CLOCK = struct.Struct("<QQQI")


class TailDamaged(FloError):
    """The replicated log does not read: somebody else has written it, or a later version of Flo."""


class Keys:
    """The keys of one cluster's log."""

    def __init__(self, name: str) -> None:
        self.prefix = f"/flo/{name}/0/".encode()
        self.leader = self.prefix + b"leader"
        self.clock = self.prefix + b"clock"
        self.next = self.prefix + b"next"
        self.log = self.prefix + b"log/"
        self.members = self.prefix + b"member/"

    def part(self, first: int, part: int) -> bytes:
        """The key of a part of the batch that begins with this index."""
        return self.log + b"%016x.%04x" % (first, part)

    def batch(self, first: int) -> bytes:
        """The beginning of the keys of that batch."""
        return self.log + b"%016x" % first

    def first_of(self, key: bytes) -> int:
        """The index in a part's key. Raises `TailDamaged`."""
        try:
            return int(key[len(self.log) :].partition(b".")[0], 16)
        except ValueError:
            raise TailDamaged(f"{key!r} is no key of a batch") from None

    def member(self, node: str) -> bytes:
        """The key of a member."""
        return self.members + node.encode()


class Lead(NamedTuple):
    """Who leads: the value of the key `leader`."""

    node: str
    address: str  # that clients reach
    directory: str  # the identity of its log
    attempt: str  # random: a member knows its own claim again, whose answer was lost

    def encode(self) -> bytes:
        """Its bytes."""
        return json.dumps(self._asdict()).encode()

    @classmethod
    def decode(cls, value: bytes) -> "Lead":
        """Raises `TailDamaged`."""
        return cls(**_fields(value, cls._fields))


class Member(NamedTuple):
    """A member of the cluster, as it last told."""

    address: str
    applied: int  # index
    synced: int  # index that is on its disk
    at: int  # its wall clock, ms

    def encode(self) -> bytes:
        """Its bytes."""
        return json.dumps(self._asdict()).encode()

    @classmethod
    def decode(cls, value: bytes) -> "Member":
        """Raises `TailDamaged`."""
        return cls(**_fields(value, cls._fields))


def _fields(value: bytes, names: Sequence[str]) -> dict[str, Any]:
    try:
        found = json.loads(value)
        return {name: found[name] for name in names}
    except (ValueError, KeyError, TypeError):
        raise TailDamaged(f"{value[:100]!r} in the replicated log has not the fields {', '.join(names)}") from None


class Clock(NamedTuple):
    """The leader's clocks: the value of the key `clock`."""

    stamp: int  # ms
    wall: int  # ms
    last: int  # index of the last record that was acknowledged to the leader
    chain: int  # the checksum of the log up to there

    def encode(self) -> bytes:
        """Its bytes."""
        return _CLOCK.pack(*self)

    @classmethod
    def decode(cls, value: bytes) -> "Clock":
        """Raises `TailDamaged`."""
        try:
            return cls(*_CLOCK.unpack(value))
        except struct.error:
            raise TailDamaged(f"the clock in the replicated log has {len(value)} bytes") from None


class Batch(NamedTuple):
    """A batch of the replicated log."""

    first: int
    stamp: int
    wall: int
    records: list[bytes]
    chain: int  # the checksum in it


def parts_of(first: int, stamp: int, wall: int, records: Sequence[bytes], chain: int) -> tuple[list[bytes], int]:
    """(the values of a batch's parts, the checksum behind it), where `chain` is the checksum before it."""
    body = b"".join(records)
    chain = crc32(body, chain)
    pieces = [body[at : at + PART_BYTES] for at in range(0, len(body), PART_BYTES)] or [b""]
    last = len(pieces) - 1
    return [_PART.pack(first, stamp, wall, len(records), chain, at == last) + piece for at, piece in enumerate(pieces)], chain


def last_index(value: bytes) -> int:
    """The last index of the batch that this part is of. Raises `TailDamaged`."""
    first, _, _, count, _, _ = _head(value)
    return int(first + count - 1)


def chain_behind(value: bytes) -> int:
    """The checksum behind the batch that this part is of. Raises `TailDamaged`."""
    return int(_head(value)[4])


def _head(value: bytes) -> tuple[int, ...]:
    if len(value) < _PART.size:
        raise TailDamaged(f"a part of a batch in the replicated log has {len(value)} bytes")
    return _PART.unpack_from(value)


class Assembler:
    """Makes batches of parts, which come in order. A part may come again: after a claim, a watch tells what was read already."""

    def __init__(self, keys: Keys, next_index: int) -> None:
        self.next_index = next_index  # of the record that comes next
        self.chain: int | None = None  # the checksum behind the last batch; None as long as that is not known
        self._keys = keys
        self._parts: list[bytes] = []  # of the batch under way
        self._last_key = b""

    @property
    def unfinished(self) -> list[bytes]:
        """The keys of a batch that has no last part yet."""
        return [self._keys.part(self.next_index, at) for at in range(len(self._parts))]

    def add(self, pair: KeyValue) -> Batch | None:
        """Add a part; returns the batch that it ends. Raises `Gap` if parts before it are missing, `TailDamaged`."""
        first = self._keys.first_of(pair.key)
        if first < self.next_index or (first == self.next_index and pair.key <= self._last_key):
            return None
        if first > self.next_index or pair.key != self._keys.part(first, len(self._parts)):
            raise Gap(f"index {self.next_index} is missing in the replicated log, which goes on with {first}")
        if pair.value is None or len(pair.value) < _PART.size:
            raise TailDamaged(f"{pair.key!r} in the replicated log is no part of a batch")
        self._parts.append(pair.value)
        self._last_key = pair.key
        _, stamp, wall, count, chain, ends = _PART.unpack_from(pair.value)
        if not ends:
            return None
        body = b"".join([part[_PART.size :] for part in self._parts])
        self.forget_unfinished()
        records = _split(body)
        if len(records) != count:
            raise TailDamaged(f"the batch of index {first} has {len(records)} records, and says {count}")
        if self.chain is not None and crc32(body, self.chain) != chain:
            raise TailDamaged(f"the batch of index {first} does not follow the one before it: its checksum is another")
        self.chain = chain
        self.next_index += count
        return Batch(first, stamp, wall, records, chain)

    def forget_unfinished(self) -> None:
        """The batch under way is complete, or was removed."""
        self._parts = []
        self._last_key = b""


class Extent:
    """How much of the log is in etcd: the batches that a member has seen since its start, and their bytes. What is older counts as nothing,
    and goes with the first trim."""

    def __init__(self) -> None:
        self.bytes = 0
        self._batches: deque[tuple[int, int, int]] = deque()  # first index, last index, bytes

    def add(self, first: int, records: Sequence[bytes]) -> None:
        """A batch was appended, or read."""
        size = sum(map(len, records)) + _PART.size
        self._batches.append((first, first + len(records) - 1, size))
        self.bytes += size

    def trim(self, synced: int, keep_bytes: int) -> int:
        """Forget the oldest batches that end by index `synced`, as long as `keep_bytes` are left. Returns the first index that is left; 0
        if nothing was forgotten."""
        first = 0
        while len(self._batches) > 1 and self._batches[0][1] <= synced and self.bytes - self._batches[0][2] >= keep_bytes:
            self.bytes -= self._batches.popleft()[2]
            first = self._batches[0][0]
        return first


class Gap(FloError):
    """Batches that a member needs are trimmed away."""


def _split(body: bytes) -> list[bytes]:
    """The records of a batch: each begins with its length."""
    records, at = [], 0
    while at < len(body):
        if len(body) - at < U32.size:
            raise TailDamaged("a batch of the replicated log ends within a record")
        length = int(U32.unpack_from(body, at)[0])
        if length < U32.size or at + length > len(body):
            raise TailDamaged(f"a batch of the replicated log has a record of {length} bytes, and {len(body) - at} are left")
        records.append(body[at : at + length])
        at += length
    return records
