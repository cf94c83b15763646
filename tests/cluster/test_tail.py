"""The keys and values of the replicated tail: round trips, batches in parts, and what must be noticed."""

import contextlib
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.cluster import tail
from flo.cluster.etcd import KeyValue
from flo.cluster.tail import Assembler, Batch, Clock, Extent, Gap, Keys, Lead, Member, TailDamaged, last_index, parts_of

pytestmark = pytest.mark.computes

KEYS = Keys("test")
RECORDS = st.lists(st.binary(max_size=60).map(lambda body: (len(body) + 4).to_bytes(4, "little") + body), min_size=1, max_size=8)
NAMES = st.text(max_size=20)
U64 = st.integers(0, (1 << 64) - 1)


@dataclass
class Log:
    """A replicated log as etcd would hold it: each change of a key, in order."""

    revision: int = 1
    first: int = 1
    chain: int | None = 0
    changes: list[KeyValue] = field(default_factory=list)
    batches: list[list[bytes]] = field(default_factory=list)

    def append(self, records: list[bytes], parts: int | None = None) -> None:
        """Write a batch; only its first `parts` if that is said, as a leader that ends meanwhile."""
        values, chain = parts_of(self.first, self.revision, 7, records, self.chain)
        for number, value in enumerate(values[:parts]):
            self.put(KEYS.part(self.first, number), value)
        if parts is None or parts >= len(values):
            self.first += len(records)
            self.chain = chain
            self.batches.append(records)

    def put(self, key: bytes, value: bytes) -> None:
        """Write a key, perhaps again."""
        self.revision += 1
        self.changes.append(KeyValue(key, value, self.revision))

    def again(self, key: bytes) -> None:
        """The same put once more: its answer was lost."""
        self.put(key, next(pair.value for pair in reversed(self.changes) if pair.key == key and pair.value is not None))

    def read(self) -> list[KeyValue]:
        """What a range finds: each key's last value."""
        return [pair for _, pair in sorted({pair.key: pair for pair in self.changes}.items())]


def add_all(assembler: Assembler, pairs: list[KeyValue]) -> list[list[bytes]]:
    """The batches in these pairs."""
    found = [assembler.add(pair) for pair in pairs]
    return [batch.records for batch in found if batch is not None]


def assembler() -> Assembler:
    made = Assembler(KEYS, 1)
    made.chain = 0
    return made


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "PART_BYTES", 16)


@settings(deadline=None)
@given(st.lists(RECORDS, max_size=6))
def test_batches_in_parts_are_read_from_a_watch_and_from_a_range(batches: list[list[bytes]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "PART_BYTES", 16)
        log = Log()
        for records in batches:
            log.append(records)
        assert add_all(assembler(), log.changes) == batches
        assert add_all(assembler(), log.read()) == batches
        behind = assembler()
        assert add_all(behind, log.read() + log.changes) == batches, "what was read already comes again"
        assert behind.next_index == log.first and behind.chain == log.chain


def big(count: int, byte: bytes = b"r") -> list[bytes]:
    """Records of 14 bytes."""
    return [b"\x0e\0\0\0" + byte * 10] * count


def test_a_batch_says_what_it_is() -> None:
    values, chain = parts_of(17, 1000, 2000, big(2), 5)
    assert len(values) == 2
    assert [last_index(value) for value in values] == [18, 18]
    log = Assembler(KEYS, 17)
    assert log.add(KeyValue(KEYS.part(17, 0), values[0], 3)) is None
    assert log.add(KeyValue(KEYS.part(17, 1), values[1], 4)) == Batch(17, 1000, 2000, big(2), chain)


def test_parts_that_are_written_twice_count_once() -> None:
    """A lost answer: the leader puts the same again. A copy may even be executed when the batch is further, or complete."""
    log = Log()
    log.append(big(3), parts=1)
    log.again(KEYS.part(1, 0))
    values = parts_of(1, log.changes[0].mod_revision - 1, 7, big(3), 0)[0]
    log.put(KEYS.part(1, 1), values[1])
    log.again(KEYS.part(1, 0))
    log.again(KEYS.part(1, 1))
    log.put(KEYS.part(1, 2), values[2])
    log.again(KEYS.part(1, 1))
    assert add_all(assembler(), log.changes) == [big(3)]
    assert add_all(assembler(), log.read()) == [big(3)]


@pytest.mark.parametrize("later", [1, 2, 3, 5])
def test_a_batch_whose_leader_ended_within_it_is_written_anew_by_the_next(later: int) -> None:
    """The next leader's batch begins with the same index, and may have fewer parts or more."""
    log = Log()
    log.append(big(1))
    log.append(big(4, b"o"), parts=2)  # the deposed leader's
    log.append(big(later, b"n"))
    log.append(big(1))
    wanted = [big(1), big(later, b"n"), big(1)]
    assert add_all(assembler(), log.changes) == wanted, "who has watched it all"
    assert add_all(assembler(), log.read()) == wanted, "who reads what is left"


def test_while_the_next_leader_writes_the_parts_of_the_last_one_are_passed_over() -> None:
    log = Log()
    log.append(big(5, b"o"), parts=4)
    log.append(big(3, b"n"), parts=1)
    early = assembler()
    assert add_all(early, log.read()) == []
    already = len(log.changes)
    whole = Log(revision=log.revision - 1)
    whole.append(big(3, b"n"))
    log.changes += [KeyValue(pair.key, pair.value, log.revision + at) for at, pair in enumerate(whole.changes[1:], 1)]
    assert add_all(early, log.changes[already:]) == [big(3, b"n")]
    assert add_all(assembler(), log.changes) == [big(3, b"n")]


def test_a_missing_part_or_batch_is_a_gap() -> None:
    log = Log()
    log.append(big(3))
    log.append(big(3))
    for missing in (0, 1):
        with pytest.raises(Gap):
            add_all(assembler(), log.changes[:missing] + log.changes[missing + 1 :])
    with pytest.raises(Gap, match="index 1 is missing"):
        add_all(assembler(), log.changes[3:])


def test_a_new_leader_begins_the_chain() -> None:
    log, reader = Log(chain=99), Assembler(KEYS, 1)
    log.append(big(1))
    log.chain = None  # the next leader has its log from its disk
    log.append(big(2))
    log.append(big(1))
    assert add_all(reader, log.changes) == [big(1), big(2), big(1)]
    assert reader.chain == log.chain


def test_a_log_that_has_come_apart_is_noticed() -> None:
    log = Log(chain=99)
    log.append(big(1))
    with pytest.raises(TailDamaged, match="checksum"):
        add_all(assembler(), log.changes)
    unknown = Assembler(KEYS, 1)  # who does not know the checksum before takes it from the first batch
    assert add_all(unknown, log.changes) == [big(1)]
    assert unknown.chain == log.chain


@settings(deadline=None)
@given(st.binary(max_size=80), st.binary(max_size=30))
def test_any_key_and_value_are_read_or_refused(value: bytes, key: bytes) -> None:
    for read in (Lead.decode, Member.decode, Clock.decode, last_index):
        with contextlib.suppress(TailDamaged):
            read(value)
    for each in (KEYS.log + key, KEYS.part(1, 0)):
        with contextlib.suppress(TailDamaged, Gap):
            assembler().add(KeyValue(each, value, 5))


@settings(deadline=None)
@given(RECORDS, st.integers(0, 2**32))
def test_a_damaged_batch_is_refused_or_the_same(records: list[bytes], seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "PART_BYTES", 16)
        rng = Random(seed)
        log = Log()
        log.append(records)
        at = rng.randrange(len(log.changes))
        pair = log.changes[at]
        value = bytearray(pair.value or b"")
        place = rng.randrange(len(value))
        value[place] ^= 1 << rng.randrange(8)
        log.changes[at] = KeyValue(pair.key, bytes(value), pair.mod_revision)
        try:
            found = add_all(assembler(), log.changes)
        except (TailDamaged, Gap):
            return
        assert found in ([], [records])


@pytest.mark.slow
@settings(deadline=None)
@given(NAMES, NAMES, NAMES, NAMES)
def test_a_lead_is_read_as_written(node: str, address: str, directory: str, attempt: str) -> None:
    lead = Lead(node, address, directory, attempt)
    assert Lead.decode(lead.encode()) == lead


@settings(deadline=None)
@given(NAMES, U64, U64, U64)
def test_a_member_is_read_as_written(address: str, applied: int, synced: int, at: int) -> None:
    member = Member(address, applied, synced, at)
    assert Member.decode(member.encode()) == member


@settings(deadline=None)
@given(U64, U64, U64, st.integers(0, (1 << 32) - 1))
def test_a_clock_is_read_as_written(stamp: int, wall: int, last: int, chain: int) -> None:
    clock = Clock(stamp, wall, last, chain)
    assert Clock.decode(clock.encode()) == clock


@pytest.mark.parametrize(
    "value",
    [
        b"", b"7", b"null", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"node": 1, "address": "", "directory": "", "attempt": ""}',
        b'{"node": "a", "address": "", "directory": ["1"], "attempt": ""}',
    ],
)  # fmt: skip
def test_what_is_no_lead_is_refused(value: bytes) -> None:
    with pytest.raises(TailDamaged):
        Lead.decode(value)


def test_keys_sort_as_the_log() -> None:
    pairs = [(1, 0), (1, 1), (1, 0xFFFF), (2, 0), (255, 3), (256, 0), (1 << 63, 0)]
    keys = [KEYS.part(first, part) for first, part in pairs]
    assert keys == sorted(keys)
    assert [KEYS.place_of(key) for key in keys] == pairs
    for wrong in (b"x.0000", b"1.0", b"", b"0000000000000001", b"000000000000000_1.0000", b"-000000000000001.0000"):
        with pytest.raises(TailDamaged, match="no key of a batch"):
            KEYS.place_of(KEYS.log + wrong)


def test_the_log_is_trimmed_by_groups_and_never_below_what_is_kept() -> None:
    """Of many small batches, so many at once that the transaction is worth it, and so few that their deletions take nobody long."""
    leader, follower = Extent(100_000), Extent(100_000)
    first = last = trims = 1
    for index in range(1, 20_001):
        for extent in (leader, follower):
            extent.add(index, [b"r" * 10])
        last = index
        trimmed = leader.trim(last)
        if trimmed:
            assert trimmed - first <= tail.GROUP_BATCHES
            for gone in range(first, trimmed):
                follower.forget(gone)
            first, trims = trimmed, trims + 1
        assert leader.bytes >= 100_000 or not trimmed
    assert trims > 50 and last - first > trims
    assert leader.bytes < 120_000 and follower.bytes - leader.bytes < 20_000
    assert len(follower._groups) < 20, "a follower keeps nothing of what is trimmed"
    assert Extent(10).trim(100) == 0 and Extent(10).bytes == 0


def test_large_batches_are_trimmed_soon_and_unsynced_ones_never() -> None:
    extent = Extent(1000)
    for index in range(1, 11):
        extent.add(index, [b"r" * 400])
    assert extent.trim(0) == 0
    assert [extent.trim(3) for _ in range(4)] == [2, 3, 4, 0]
    while extent.trim(10):
        assert extent.bytes >= 1000
    assert 1000 <= extent.bytes < 1500
