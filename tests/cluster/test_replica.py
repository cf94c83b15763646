"""Replicas in a simulated cluster: random faults by a seed, and what must hold after each."""

from random import Random
from typing import Any

import pytest

from flo.cluster import replica
from flo.cluster.etcd import Answer
from flo.cluster.replica import Role
from flo.cluster.tail import TailDamaged
from tests.support.faultfiles import MODES
from tests.support.simcluster import Node, SimEtcd, World

pytestmark = pytest.mark.computes


class Cluster:
    """Three members and writers."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.etcd = SimEtcd()
        self.nodes = [Node(self.world, self.etcd, name) for name in "abc"]
        for node in self.nodes:
            node.peers = self.nodes
        self.rng = Random(seed + 1)
        self.written = 0
        self.hushed: set[Node] = set()  # whom nobody writes to
        self.waiting: list[tuple[Node, int, int, int]] = []  # (member, its life, index of the reply, number)
        self.acknowledged: list[int] = []  # numbers
        self.reads: list[tuple[int, int]] = []  # what a reader was shown, and the largest number acknowledged when it asked

    def leader(self) -> Node | None:
        """A member that believes that it leads."""
        found = [node for node in self.nodes if node.leads and self.world.now >= node.paused_until]
        return self.rng.choice(found) if found else None

    def is_fresh(self, node: Node) -> bool:
        """Whether a leader may show what it has."""
        return node.replica is not None and node.replica.fresh

    def is_acknowledged(self, node: Node, index: int) -> bool:
        """Whether a reply that waits for this index may leave."""
        return node.log.committed >= index

    def write(self) -> None:
        """One more number, to whoever says that it leads."""
        node = self.leader()
        if node is None or len(node.log.pending) > 50 or node in self.hushed or (node.cut and self.rng.random() < 0.9):
            return
        self.written += 1
        number = self.written
        _, index = node.turn(lambda engine: (engine.kv.put(b"last", b"%d" % number), engine.queues.enqueue(b"all", b"%d" % number)))
        self.waiting.append((node, node.life, index, number))

    def read(self) -> None:
        """Whoever believes that it leads shows what it has, if it may."""
        node = self.leader()
        if node is None:
            return
        before = max(self.acknowledged, default=0)
        found, index = node.turn(lambda engine: engine.kv.get(b"last"))
        if self.is_fresh(node) and self.is_acknowledged(node, index):
            self.reads.append((int(found.value) if found else 0, before))

    def answer(self) -> None:
        """Replies leave whose batch is acknowledged."""
        for each in self.nodes:
            if each.leads and each.engine is not None and each.log.out is None:
                each.engine.commit()  # the turn in which an acknowledgement is heard
        still = []
        for node, life, index, number in self.waiting:
            if node.life != life or node.engine is None:
                continue  # its client never hears
            if self.is_fresh(node) and self.is_acknowledged(node, index):
                self.acknowledged.append(number)
            else:
                still.append((node, life, index, number))
        self.waiting = still

    def fault(self) -> None:
        """Something happens to a member."""
        node = self.rng.choice(self.nodes)
        kind = self.rng.choice(["stop", "cut", "pause", "heal", "clock"])
        if kind == "stop":
            node.stop(self.rng.choice(MODES))
            self.world.at(self.rng.uniform(0.1, 4), lambda: node.start() if node.engine is None else None)
        elif kind == "cut":
            # most of its clients are cut off as well; or all who write, a little before, so that nothing is under way
            hush = self.rng.random() < 0.5
            if hush:
                self.hushed.add(node)
            self.world.at(0.3 if hush else 0.0, lambda: setattr(node, "cut", True))
            self.world.at(self.rng.uniform(0.5, 6), lambda: self.join_again(node))
        elif kind == "pause":
            node.paused_until = self.world.now + self.rng.uniform(0.5, 5)
        elif kind == "clock":
            node.wall_off = self.rng.choice([0, -3_600_000, 3_600_000, 1000])

    def join_again(self, node: Node) -> None:
        """A member that was cut off is not any more."""
        node.cut = False
        self.hushed.discard(node)

    def run(self, seconds: float, faults: bool) -> None:
        """Let clients and faults act."""
        end = self.world.now + seconds
        next_fault = self.world.now + 3
        while self.world.now < end:
            self.world.run(0.01)
            for _ in range(self.rng.randint(0, 2)):
                self.write()
            self.answer()
            self.read()
            self.answer()
            if faults and self.world.now > next_fault:
                self.fault()
                next_fault = self.world.now + self.rng.uniform(0.3, 4)

    def settle(self) -> None:
        """All is well again, and the members reach the same log."""
        for node in self.nodes:
            node.cut, node.paused_until = False, 0.0
        self.hushed.clear()
        self.world.run(15)
        for node in self.nodes:
            if node.engine is None:
                node.start()
        self.run(10, faults=False)
        for _ in range(3000):
            self.world.run(0.01)
            self.answer()
            lasts = {node.log.written for node in self.nodes if node.engine is not None}
            if len(lasts) == 1 and all(node.log.out is None and not node.log.pending for node in self.nodes):
                return
        raise AssertionError(
            f"the members do not come together: {[(n.name, n.replica and n.replica.role, n.engine and n.log.written) for n in self.nodes]}"
        )

    def check(self) -> None:
        """What was acknowledged is there, once, in order; the members have the same records; nobody was shown an old value."""
        logs = [[node.log.read_bytes(index) for index in range(1, node.log.next_index)] for node in self.nodes]
        assert logs[0] == logs[1] == logs[2], "the logs differ"
        leader = next(node for node in self.nodes if node.leads)
        assert leader.engine is not None
        kept = [int(message.payload) for message in leader.engine.queues.peek(b"all", 1_000_000)]
        assert kept == sorted(set(kept)), "something is there twice, or out of order"
        missing = set(self.acknowledged) - set(kept)
        assert not missing, f"acknowledged and lost: {sorted(missing)[:10]}"
        stale = [(shown, before) for shown, before in self.reads if shown < before]
        assert not stale, f"shown, after something later was acknowledged: {stale[:5]}"


@pytest.mark.parametrize("seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 12))])
def test_faults_lose_nothing_and_show_nothing_old(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "RANGE_LIMIT", 64 if seed % 2 else 1)  # parts that a claim reads at once
    cluster = Cluster(seed)
    cluster.run(6, faults=False)
    assert cluster.acknowledged, "somebody leads"
    cluster.run(40, faults=True)
    cluster.settle()
    cluster.check()
    assert len(cluster.acknowledged) > 500


def test_a_dead_leader_is_followed_within_seconds() -> None:
    cluster = Cluster(99)
    cluster.run(6, faults=False)
    leader = cluster.leader()
    assert leader is not None
    leader.stop("keep")
    died = cluster.world.now
    while cluster.leader() is None:
        cluster.run(0.05, faults=False)
    assert cluster.world.now - died < 4
    assert Role.CANDIDATE in next(node for node in cluster.nodes if node.leads).roles


def test_a_leader_that_starts_again_at_the_end_of_the_log_goes_on_with_its_checksum() -> None:
    """It has all batches, so it reads none, and the last stamp is older than they are. The others have heard all of it."""
    cluster = Cluster(7)
    cluster.run(8, faults=False)
    leader = cluster.leader()
    assert leader is not None
    others = [node for node in cluster.nodes if node is not leader]
    while leader.log.out is not None or leader.log.pending or any(node.log.written < leader.log.written for node in others):
        cluster.world.run(0.01)
        cluster.answer()
    for node in others:
        node.paused_until = cluster.world.now + 5
    leader.stop("keep")
    leader.start()
    cluster.run(4, faults=False)
    assert leader.leads
    cluster.settle()
    cluster.check()


class WithoutClaim(Cluster):
    """A leader's writes do not say "if the claim still stands"."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        execute = self.etcd.txn

        def careless(compares: list[bytes], success: list[bytes], failure: list[bytes]) -> Answer:
            claims = any(b"leader" in op for op in success)
            return execute(compares if claims else [], success, failure)

        self.etcd.txn = careless  # type: ignore[method-assign]


class ReadsAnyTime(Cluster):
    """A leader's reads do not look whether its claim is fresh."""

    def is_fresh(self, node: Node) -> bool:
        return node.leads


class AnswersAtOnce(Cluster):
    """Replies do not wait for the acknowledgement."""

    def is_acknowledged(self, node: Node, index: int) -> bool:
        return True


def arrive_late(cluster: Cluster) -> None:
    """A leader's batch arrives when another leads, and has written there."""
    cluster.run(6, faults=False)
    leader = cluster.leader()
    assert leader is not None
    asked: list[tuple[list[bytes], list[bytes]]] = []
    ask = leader.txn

    def note(compares: list[bytes], success: list[bytes], *rest: Any) -> Any:
        asked.append((compares, success))
        return ask(compares, success, *rest)

    while leader.log.out is not None or leader.log.pending:
        cluster.world.run(0.001)
        cluster.answer()
    leader.txn = note  # type: ignore[assignment, method-assign]
    leader.cut = True
    while not any(b"/log/" in op for _, success in asked for op in success):
        cluster.write()
        cluster.world.run(0.001)
    compares, success = next((compares, success) for compares, success in asked if any(b"/log/" in op for op in success))
    cluster.hushed.add(leader)
    others = [node for node in cluster.nodes if node is not leader]
    while not any(node.leads for node in others):
        cluster.run(0.05, faults=False)
    cluster.run(1, faults=False)
    cluster.etcd.txn(compares, success, [])
    cluster.join_again(leader)
    cluster.settle()
    cluster.check()


def test_a_batch_that_arrives_too_late_is_not_written() -> None:
    for seed in range(4):
        arrive_late(Cluster(seed))
    with pytest.raises((AssertionError, TailDamaged)):
        for seed in range(20):  # some hear of both batches in their order, and take the first
            arrive_late(WithoutClaim(seed))


@pytest.mark.slow
@pytest.mark.parametrize(("careless", "first"), [(ReadsAnyTime, 6), (AnswersAtOnce, 0)])  # the first seed that shows it
def test_each_rule_is_missed_when_it_is_taken_out(careless: type[Cluster], first: int) -> None:
    for seed in range(first, first + 40):
        cluster = careless(seed)
        try:
            cluster.run(46, faults=True)
            cluster.settle()
            cluster.check()
        except (AssertionError, TailDamaged):
            return
    raise AssertionError("no seed has shown it")
