"""The replicated tail of the log: which keys it has in etcd, and the bytes of their values.

    /flo/NAME/0/leader          who leads (`Lead`). Its mod_revision is the *claim*: a leader's other writes say "if that is still mine"
    /flo/NAME/0/clock           the leader's clocks (`Clock`), at least every 500 ms: the heartbeat of a log to which nobody writes
    /flo/NAME/0/log/FIRST.PART  a batch, by the index of its first record, in parts of PART_BYTES, both in hex
    /flo/NAME/0/next            the name of the member that is to lead next, where an operator has said so
    /flo/NAME/0/member/NODE     a member (`Member`), every 2 s

A batch is cut because etcd takes 1.5 MiB in a request. It counts from its last part on; the parts of one that has no last part, because
its leader ended, are passed over: all parts of a batch begin with the same bytes. Nobody removes them: a deletion that was executed late
could meet what came after. The value of a part:

    0  u64 first index | 8  u64 stamp, ms | 16 u64 the leader's wall clock, ms | 24 u32 records | 28 u32 chain
    32 u8 flags: 1 the last part, 2 the chain begins here | 33 a slice of the records, as they are in a segment

The *chain* is the crc-32 of all records of the replicated log from where it begins up to the batch's end; who reads computes it too, so
that logs that have come apart are noticed. A new leader begins it: it may have its log from its own disk, and not know the chain before.
"""

import json
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple
from zlib import crc32

from flo.cluster.etcd import KeyValue
from flo.errors import FloError, LogFailed
from flo.ual.record import U32

PART_BYTES = 1 << 20
_PART = struct.Struct("<QQQIIB")
_LAST, _BEGINS = 1, 2
GROUP_BATCHES = 256  # deleted by one transaction: a follower takes 3 ms to hear of them
GROUPS_KEPT = 16  # of large batches
_SAME_BYTES = _PART.size - 1  # that all parts of a batch begin with
_CLOCK = struct.Struct("<QQQI")


class TailDamaged(LogFailed):
    """The replicated log does not read, or this member's own has come apart from it: the process ends. Somebody else has written it, or a
    later version of Flo, or a disk has changed."""


class Keys:
    """The keys of one cluster's log."""

    def __init__(self, name: str) -> None:
        self.prefix: bytes = f"/flo/{name}/0/".encode()
        self.leader: bytes = self.prefix + b"leader"
        self.clock: bytes = self.prefix + b"clock"
        self.next: bytes = self.prefix + b"next"
        self.log: bytes = self.prefix + b"log/"
        self.members: bytes = self.prefix + b"member/"

    def part(self, first: int, part: int) -> bytes:
        """The key of a part of the batch that begins with this index."""
        return self.log + b"%016x.%04x" % (first, part)

    def batch(self, first: int) -> bytes:
        """The beginning of the keys of that batch."""
        return self.log + b"%016x" % first

    def place_of(self, key: bytes) -> tuple[int, int]:
        """(first index, part) in a part's key. Raises `TailDamaged`."""
        first, _, part = key[len(self.log) :].partition(b".")
        try:
            place = int(first, 16), int(part, 16)
        except ValueError:
            place = -1, -1
        if min(place) < 0 or self.part(*place) != key:
            raise TailDamaged(f"{key!r} is no key of a batch")
        return place

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
        return cls(**_fields(value, cls.__annotations__))


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
        return cls(**_fields(value, cls.__annotations__))


def _fields(value: bytes, kinds: dict[str, type]) -> dict[str, Any]:
    try:
        read = json.loads(value)
        found = {name: read[name] for name in kinds}
    except (ValueError, KeyError, TypeError, RecursionError):
        found = {}
    if not all(isinstance(found.get(name), kind) for name, kind in kinds.items()):
        raise TailDamaged(f"{value[:100]!r} in the replicated log has not the fields {', '.join(kinds)}")
    return found


class Clock(NamedTuple):
    """The leader's clocks: the value of the key `clock`."""

    stamp: int  # ms
    wall: int  # ms
    last: int  # index of the last record that was acknowledged to the leader
    chain: int  # of the log up to there; 0 if this leader does not know it

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


def parts_of(first: int, stamp: int, wall: int, records: Sequence[bytes], before: int | None) -> tuple[list[bytes], int]:
    """(the values of a batch's parts, the chain behind it), where `before` is the chain before it, and None begins one."""
    body = b"".join(records)
    chain = crc32(body, before or 0)
    begins = 0 if before is not None else _BEGINS
    pieces = [body[at : at + PART_BYTES] for at in range(0, len(body), PART_BYTES)] or [b""]
    last = len(pieces) - 1
    return [_PART.pack(first, stamp, wall, len(records), chain, (at == last) | begins) + piece for at, piece in enumerate(pieces)], chain


def last_index(value: bytes) -> int:
    """The last index of the batch that this part is of. Raises `TailDamaged`."""
    first, _, _, count, _, _ = _head(value)
    return int(first + count - 1)


def last_whole_index(value: bytes) -> int:
    """The last index of the batches up to this part that are known to be whole: without its last part, a batch may never have been. Raises
    `TailDamaged`."""
    first, _, _, count, _, flags = _head(value)
    return int(first + count - 1 if flags & _LAST else first - 1)


def chain_behind(value: bytes) -> int | None:
    """The chain behind the batch that this part ends; None if it does not end one. Raises `TailDamaged`."""
    _, _, _, _, chain, flags = _head(value)
    return chain if flags & _LAST else None


def ends_with(value: bytes, record: bytes) -> bool:
    """Whether the batch of which this is a part may end with this record; its last part may have only the record's end."""
    count = min(len(record), len(value) - _PART.size)
    return chain_behind(value) is None or value[len(value) - count :] == record[len(record) - count :]


def _head(value: bytes) -> tuple[int, ...]:
    if len(value) < _PART.size:
        raise TailDamaged(f"a part of a batch in the replicated log has {len(value)} bytes")
    return _PART.unpack_from(value)


class Assembler:
    """Makes batches of parts, which come in order.

    A part may come again: the leader puts it again if an answer was lost, and a watch may tell what was read already. A batch may begin
    again: its leader ended within it, and the next leader's first batch has the same index. Parts of the old one may still lie behind the
    first part of the new one.
    """

    def __init__(self, keys: Keys, next_index: int) -> None:
        self.next_index: int = next_index  # of the record that comes next
        self.chain: int | None = None  # the checksum behind the last batch; None as long as that is not known
        self._keys = keys
        self._parts: list[bytes] = []  # of the batch under way
        self._begun = 0  # the revision at which its first part was written

    def add(self, pair: KeyValue) -> Batch | None:
        """Add a part; returns the batch that it ends. Raises `Gap` if parts before it are missing, `TailDamaged`."""
        first, part = self._keys.place_of(pair.key)
        if first < self.next_index:
            return None
        if first > self.next_index:
            raise Gap(f"index {self.next_index} is missing in the replicated log, which goes on with {first}")
        if pair.value is None or len(pair.value) < _PART.size:
            raise TailDamaged(f"{pair.key!r} in the replicated log is no part of a batch")
        if not self._follows(part, pair.value, pair.mod_revision):
            return None
        self._parts.append(pair.value)
        _, stamp, wall, count, chain, flags = _PART.unpack_from(pair.value)
        if not flags & _LAST:
            return None
        body = b"".join([part[_PART.size :] for part in self._parts])
        self._parts = []
        records = _split(body)
        if len(records) != count:
            raise TailDamaged(f"the batch of index {first} has {len(records)} records, and says {count}")
        before = 0 if flags & _BEGINS else self.chain
        if before is not None and crc32(body, before) != chain:
            raise TailDamaged(f"the batch of index {first} does not follow the one before it: its checksum is another")
        self.chain = chain
        self.next_index += count
        return Batch(first, stamp, wall, records, chain)

    def _follows(self, part: int, value: bytes, revision: int) -> bool:
        """Whether a part is the next one of the batch under way, or the first of that which takes its place. Raises `Gap`."""
        if part == 0:
            if self._parts and (revision <= self._begun or value == self._parts[0]):
                return False
            self._parts, self._begun = [], revision
        elif self._parts and value[:_SAME_BYTES] != self._parts[0][:_SAME_BYTES]:
            return False  # of a batch whose leader ended within it
        if part > len(self._parts):
            raise Gap(f"part {len(self._parts)} of the batch of index {self.next_index} is missing in the replicated log")
        return part == len(self._parts)


class Extent:
    """How much of the log is in etcd: the batches that a member has seen since its start, and their bytes. What is older counts as nothing,
    and goes with the first trim. Batches are trimmed by groups: a transaction for each would cost as much as the batch's own, and for very
    many at once their deletions would keep the followers, who are told of each, from serving."""

    def __init__(self, keep_bytes: int) -> None:
        """So much is always left."""
        self.bytes: int = 0
        self._keep_bytes = keep_bytes
        self._group_bytes = keep_bytes // GROUPS_KEPT
        self._groups: deque[list[int]] = deque()  # first index, last index, bytes, batches

    def add(self, first: int, records: Sequence[bytes]) -> None:
        """A batch was appended, or read."""
        size = sum(map(len, records)) + _PART.size
        last = first + len(records) - 1
        group = self._groups[-1] if self._groups else None
        if group is None or group[2] >= self._group_bytes or group[3] >= GROUP_BATCHES:
            self._groups.append([first, last, size, 1])
        else:
            group[1:] = last, group[2] + size, group[3] + 1
        self.bytes += size

    def trim(self, synced: int) -> int:
        """Forget the oldest group, if it ends by index `synced` and enough is left. Returns the first index that is left; 0 if nothing was
        forgotten."""
        groups = self._groups
        if len(groups) < 2 or groups[0][1] > synced or self.bytes - groups[0][2] < self._keep_bytes:
            return 0
        self.bytes -= groups.popleft()[2]
        return groups[0][0]

    def forget(self, first: int) -> None:
        """The leader has trimmed the batch that begins with this index: forget the groups before it."""
        while self._groups and self._groups[0][1] < first:
            self.bytes -= self._groups.popleft()[2]


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
