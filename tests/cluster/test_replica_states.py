"""States of a replica that must have an end, each brought about by hand in a simulated cluster."""

from collections.abc import Callable
from typing import Any

import pytest

from flo.cluster import replica, tail
from flo.cluster.etcd import EtcdRefused, KeyValue, delete_op, put_op
from flo.cluster.replica import Role
from flo.cluster.tail import Keys, parts_of
from flo.ual import log
from tests.support.simcluster import Handle, Node, SimEtcd, World

KEYS = Keys("sim")


def until(world: World, condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Let time pass until the condition holds."""
    end = world.now + seconds
    while not condition():
        assert world.now < end, "it does not come"
        world.run(0.05)


def leader_of(world: World, *nodes: Node) -> Node:
    """The node that leads, and may show what it has."""

    def ready() -> bool:
        return any(node.leads and node.replica is not None and node.replica.fresh for node in nodes)

    until(world, ready)
    return next(node for node in nodes if node.leads)


def write(world: World, node: Node, key: bytes, value: bytes = b"v") -> None:
    """One acknowledged write."""
    _, index = node.turn(lambda engine: engine.kv.put(key, value))
    until(world, lambda: node.log.committed >= index)


def put(etcd: SimEtcd, first: int, records: list[bytes], parts: slice) -> None:
    """A leader's parts of a batch."""
    for at, value in list(enumerate(parts_of(first, 1, 1, records, None)[0]))[parts]:
        etcd.revision += 1
        etcd.keys[KEYS.part(first, at)] = KeyValue(KEYS.part(first, at), value, etcd.revision)


RECORD = b"\x28\0\0\0" + b"o" * 36


@pytest.mark.parametrize("whole", [True, False])
def test_a_batch_of_more_parts_than_are_read_at_once(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 64 MiB. A member that starts reads all of it; one that claims passes it over if its leader has ended within it."""
    monkeypatch.setattr(tail, "PART_BYTES", 16)
    monkeypatch.setattr(replica, "RANGE_LIMIT", 2)
    world, etcd = World(1), SimEtcd()
    node = Node(world, etcd, "a")
    if whole:
        write(world, leader_of(world, node), b"key", b"v" * 200)
        node.stop("keep")
        late = Node(world, etcd, "b")
        assert leader_of(world, late).engine is not None
        assert late.engine and late.engine.kv.get(b"key")
    else:
        put(etcd, node.log.next_index, [RECORD] * 10, slice(0, 5))
        write(world, leader_of(world, node), b"key")


def test_what_is_left_of_a_batch_is_not_the_end_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader has ended within a batch of many records. The next one's has the same index, and fewer parts."""
    monkeypatch.setattr(tail, "PART_BYTES", 16)
    world, etcd = World(1), SimEtcd()
    node = Node(world, etcd, "a")
    put(etcd, node.log.next_index, [RECORD] * 10, slice(0, 20))
    write(world, leader_of(world, node), b"key", b"")
    node.stop("keep")
    node.start()
    leader_of(world, node)
    assert Role.BEHIND not in node.roles


class Sent(Node):
    """A node whose transactions are answered by hand."""

    def __init__(self, world: World, etcd: SimEtcd) -> None:
        self.sent: list[tuple[Any, Handle]] = []  # what is out: (what executes it and answers, its handle)
        self.by_hand = False
        super().__init__(world, etcd, "a")

    def txn(self, compares: list[bytes], success: list[bytes], done: Any, failure: list[bytes] | None = None) -> Any:
        """See `Store`."""
        if not self.by_hand:
            return super().txn(compares, success, done, failure)
        handle = Handle()
        if not any(b"/member/" in op for op in success):
            self.sent.append((lambda: done(self.etcd.txn(compares, success, failure or [])), handle))
        return handle

    def answer(self) -> None:
        """Answer the oldest that is out."""
        answer, handle = self.sent.pop(0)
        if not handle.over:
            answer()


def test_a_question_that_is_answered_late_is_no_answer_to_a_write() -> None:
    """A follower has asked etcd whether it answers, then claims since the lead was handed over; the first answer comes once it leads."""
    world, etcd = World(1), SimEtcd()
    other = Node(world, etcd, "b")
    leader_of(world, other)
    node = Sent(world, etcd)
    until(world, lambda: node.replica and node.replica.role is Role.FOLLOWER)
    world.run(2)
    assert other.replica is not None and node.replica is not None
    other.paused_until = world.now + 1.2
    node.by_hand = True
    until(world, lambda: node.sent)  # it has heard nothing for a second: it asks
    asked = node.sent.pop()
    etcd.txn([], [delete_op(KEYS.leader)], [])
    until(world, lambda: node.sent)
    node.answer()  # its claim
    assert node.leads
    node.answer()  # its first stamp
    node.turn(lambda engine: engine.kv.put(b"one", b"v"))
    if not asked[1].over:
        asked[0]()
    world.run(0.3)  # the batch is out
    node.answer()
    _, index = node.turn(lambda engine: engine.kv.put(b"two", b"v"))
    batch = [key for key in etcd.keys if key.startswith(KEYS.batch(index))]
    assert not batch
    while len(node.sent) > 1:
        node.answer()  # all but the newest, which is the second batch
    assert node.log.committed < index or any(key.startswith(KEYS.batch(index)) for key in etcd.keys), "acknowledged, and in no log"


def test_a_member_that_etcd_does_not_hear_asks_no_more_each_time() -> None:
    """It tells every two seconds how far it is."""
    world, etcd = World(1), SimEtcd()
    node = Node(world, etcd, "a")
    other = Node(world, etcd, "b")
    leader_of(world, node, other)
    follower = other if node.leads else node
    handles: list[Handle] = []
    make = follower.txn

    def txn(*args: Any) -> Any:
        handles.append(make(*args))
        return handles[-1]

    follower.txn = txn  # type: ignore[method-assign, assignment]
    follower.cut = True
    world.run(100)
    assert sum(not handle.over for handle in handles) < 5


def test_a_log_of_another_history_is_refused() -> None:
    """A server that was alone is started as a member: with fewer records than the cluster, it would follow from its own end on."""
    world, etcd = World(1), SimEtcd()
    node = Node(world, etcd, "a")
    leader = leader_of(world, node)
    for number in range(20):
        write(world, leader, b"%d" % number)
    stray = Node(world, SimEtcd(), "b")
    leader_of(world, stray)
    for number in range(10):
        write(world, stray, b"own-%d" % number)
    stray.stop("keep")
    stray.etcd = etcd
    with pytest.raises(tail.TailDamaged):
        stray.start()
        world.run(5)


def test_a_follower_that_reads_old_news_is_not_fresh() -> None:
    """It reads slower than the leader writes, or stood still and has much before it: what it hears now was said long ago."""
    world, etcd = World(1), SimEtcd()
    node = Node(world, etcd, "a")
    leader = leader_of(world, node)
    follower = Node(world, etcd, "b")
    until(world, lambda: follower.replica and follower.replica.role is Role.FOLLOWER)
    prefix, tell = etcd.watchers[-1]
    began, stale = world.now, 0.0
    etcd.watchers[-1] = (prefix, lambda events: world.at((world.now - began) / 2, lambda: tell(events)))  # it falls behind
    while world.now < began + 20:
        write(world, leader, b"key", b"%.3f" % world.now)
        world.run(0.1)
        assert follower.engine is not None and follower.replica is not None
        found = follower.engine.kv.get(b"key")
        if found is not None and follower.replica.role in (Role.FOLLOWER, Role.CANDIDATE) and follower.replica.age <= 2:
            stale = max(stale, world.now - float(found.value))
    assert stale < 3, f"it shows what is {stale:.1f} s old"


def test_a_follower_without_room_on_its_disk_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/cluster.md has it: its `synced` stands still, and it goes on once there is room."""
    monkeypatch.setattr(log, "RESERVE_RETRY_SECONDS", 0.0)  # of a clock that does not stand still here
    world, etcd = World(1), SimEtcd()
    leader = leader_of(world, Node(world, etcd, "a"))
    follower = Node(world, etcd, "b")
    until(world, lambda: follower.replica and follower.replica.role is Role.FOLLOWER)
    follower.files.capacity = follower.files.used + 40_000
    for number in range(40):
        write(world, leader, b"%d" % number, b"v" * 5000)
    follower.files.capacity = None
    until(world, lambda: follower.log.written == leader.log.written)


def test_a_member_that_was_removed_while_nothing_was_heard_is_forgotten() -> None:
    """Else it is counted for what a majority has, by whoever reads the log again and leads later."""
    world, etcd = World(1), SimEtcd()
    key = KEYS.member("gone")
    etcd.keys[key] = KeyValue(key, tail.Member("gone", 1, 1, 1).encode(), 1)
    node = Node(world, etcd, "a")
    leader_of(world, node)
    follower = Node(world, etcd, "b")
    until(world, lambda: follower.replica and "gone" in follower.replica.members)
    assert follower.replica is not None
    etcd.watchers.pop()
    etcd.txn([], [delete_op(key)], [])
    follower.replica._miss()  # etcd has forgotten what the watch was to tell
    until(world, lambda: follower.replica and follower.replica.role is Role.FOLLOWER)
    assert "gone" not in follower.replica.members


def test_why_etcd_takes_no_writes_is_told() -> None:
    """It has no space left, or the user may not write. It answers all else, so nothing else says why no member leads."""
    world, etcd = World(1), SimEtcd()
    node = Node(world, etcd, "a")
    leader_of(world, node)
    whys: list[str] = []
    assert node.replica is not None
    node.replica._on_role = lambda role, why: whys.append(f"{role.value}: {why}")
    execute, full = etcd.txn, EtcdRefused("etcd refused it: database space exceeded")
    puts = put_op(b"", b"")[:1]

    def refuse(compares: list[bytes], success: list[bytes], failure: list[bytes]) -> Any:
        return full if any(op.startswith(puts) for op in success) else execute(compares, success, failure)

    etcd.txn = refuse  # type: ignore[method-assign]
    world.run(7)
    assert "deposed: etcd has acknowledged nothing for 5." in "".join(whys) and "space exceeded" in whys[0]
    other = Node(world, etcd, "b")
    assert other.replica is not None
    other.replica._on_role = lambda role, why: whys.append(f"{role.value}: {why}")
    world.run(10)
    assert "space exceeded" in whys[-1]
    etcd.txn = execute  # type: ignore[method-assign]
    leader_of(world, other)
