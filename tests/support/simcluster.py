"""A cluster in one process and one thread, with its own time: members around real engines, an etcd in memory, faults by a seed.

The etcd executes each transaction when it arrives, in one order, as etcd's log does. Requests and answers take their time, and may be lost.
A member then asks again, as flo.cluster.etcd does, so a transaction may be executed twice. A member may be cut off, be paused, or stop, and
start again with what its disk has.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any
from unittest.mock import patch

from flo.cluster.etcd import DELETE, PUT, RANGE, Answer, EtcdRefused, Events, KeyValue
from flo.cluster.protobuf import Fields, messages, number, text, unpack
from flo.cluster.replica import Replica, Role
from flo.engine import Engine, EngineSettings
from flo.loop import Timer
from flo.ual import log as log_module
from flo.ual.replicated import ReplicatedLog
from tests.support.faultfiles import SimFiles
from tests.support.late import StepSyncer

AGAIN_SECONDS = 0.5  # without an answer, a member asks again
WALL = 1_700_000_000_000


class World:
    """Time, and what is to happen."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.now = 0.0
        self._todo: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it after so many seconds."""
        self._count += 1
        heappush(self._todo, (self.now + seconds, self._count, action))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._todo and self._todo[0][0] <= end:
            self.now, _, action = heappop(self._todo)
            action()
        self.now = end


class SimEtcd:
    """The keys and their history."""

    def __init__(self) -> None:
        self.revision = 1
        self.keys: dict[bytes, KeyValue] = {}
        self.history: list[KeyValue] = []
        self.compacted = 0  # watches from before this revision find a gap
        self.watchers: list[tuple[bytes, Callable[[Events], None]]] = []

    def txn(self, compares: list[bytes], success: list[bytes], failure: list[bytes]) -> Answer:
        """Execute a transaction."""
        holds = all(self._holds(messages(unpack(each), 1)[0]) for each in compares)
        changes: list[KeyValue] = []
        found, more = [], []
        for op in success if holds else failure:  # each sees what those before it have done
            fields = unpack(op)
            pairs, cut = list[KeyValue](), False
            made: list[KeyValue] = []
            if RANGE in fields:
                asked = messages(fields, RANGE)[0]
                pairs = self._range(text(asked, 1), text(asked, 2))
                pairs = pairs[::-1] if number(asked, 5) == 2 else pairs
                limit = number(asked, 3)
                cut = bool(limit and len(pairs) > limit)
                pairs = pairs[: limit or None]
            elif PUT in fields:
                put = messages(fields, PUT)[0]
                made = [KeyValue(text(put, 1), text(put, 2), self.revision + 1)]
            else:
                asked = messages(fields, DELETE)[0]
                made = [KeyValue(pair.key, None, self.revision + 1) for pair in self._range(text(asked, 1), text(asked, 2))]
            for pair in made:
                if pair.value is None:
                    del self.keys[pair.key]
                else:
                    self.keys[pair.key] = pair
            changes += made
            found.append(pairs)
            more.append(cut)
        if changes:
            self.revision += 1
            self.history += changes
            for prefix, tell in self.watchers:
                seen = [pair for pair in changes if pair.key.startswith(prefix)]
                if seen:
                    tell(Events(self.revision, seen))
        return Answer(holds, self.revision, found, more)

    def _holds(self, compare: Fields) -> bool:
        present = self.keys.get(text(compare, 3))
        return (present.mod_revision if present else 0) == number(compare, 6)

    def _range(self, key: bytes, end: bytes) -> list[KeyValue]:
        return [self.keys[each] for each in sorted(self.keys) if (key <= each < end if end else each == key)]


class Handle:
    """A call or a watch."""

    def __init__(self) -> None:
        self.over = False

    def cancel(self) -> None:
        """Nothing comes of it any more."""
        self.over = True


class Node:
    """One member: its disk, its engine, its replica, and its way to etcd. It is the `Store` and the `Times` of its replica."""

    def __init__(self, world: World, etcd: SimEtcd, name: str) -> None:
        self.world, self.etcd, self.name = world, etcd, name
        self.files = SimFiles()
        self.cut = False  # off from etcd
        self.paused_until = 0.0
        self.life = 0  # grows with each start: what was of an earlier life is not heard
        self.replica: Replica | None = None
        self.engine: Engine | None = None
        self.roles: list[Role] = []
        self.wall_off = 0  # ms that its wall clock is wrong
        self.peers: list[Node] = []
        self.start()

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, with what the disk has."""
        self.life += 1
        with patch.object(log_module, "_Syncer", StepSyncer):
            self.engine = Engine(
                "/node",
                EngineSettings(segment_bytes=1 << 16),
                manual=True,
                clock=lambda: WALL + int(self.world.now * 1000) + self.wall_off,
                steady=lambda: int(self.world.now * 1000),
                files=self.files,
                replicated=True,
            )
        self.replica = Replica(
            self, self, self.engine, cluster="sim", node=self.name, address=self.name, on_role=self._on_role, keep_bytes=20_000
        )

    def stop(self, mode: str) -> None:
        """The machine stops; `mode` says what its disk has of what was not synced."""
        if self.engine is None:
            return
        self.life += 1
        self.engine.log.abandon()
        self.files = self.files.crash(self.world.rng, mode)
        self.engine = self.replica = None

    def _on_role(self, role: Role, why: str) -> None:
        self.roles.append(role)
        if role is Role.BEHIND:
            life = self.life
            self.world.at(self.world.rng.uniform(0.5, 2), lambda: self._fetch() if self.life == life else None)
        if role is Role.DEPOSED:
            life = self.life

            def again() -> None:
                if self.life == life and self.engine is not None:
                    self.stop("keep")
                    self.start()

            self.world.at(0.05, again)

    def _fetch(self) -> None:
        """Take a copy of another member's directory, and start with it."""
        sources = [node for node in self.peers if node is not self and node.engine is not None and node.replica is not None]
        source = max(sources, key=lambda node: node.log.written, default=None)
        if source is None or source.log.written <= self.log.written:
            self.world.at(1.0, lambda life=self.life: self._fetch() if self.life == life else None)  # type: ignore[misc]
            return
        self.stop("keep")
        self.files = source.files.crash(self.world.rng, "keep")
        self.start()

    @property
    def leads(self) -> bool:
        """Whether it believes that it leads."""
        return self.replica is not None and self.replica.role is Role.LEADER

    @property
    def log(self) -> ReplicatedLog:
        """Its log."""
        assert self.engine is not None and isinstance(self.engine.log, ReplicatedLog)
        return self.engine.log

    def turn(self, write: Callable[[Engine], Any]) -> tuple[Any, int]:
        """One turn of a leader with one operation; (what it gave, the index that its reply waits for)."""
        assert self.engine is not None
        self.engine.tick()
        result = write(self.engine)
        self.engine.commit()
        return result, self.log.next_index - 1

    # -- Times -------------------------------------------------------------------------------------

    def steady(self) -> float:
        """See `Times`."""
        return self.world.now

    def call_later(self, seconds: float, callback: Callable[[], None], /) -> Timer:
        """See `Times`."""
        timer = Timer(callback, [0])
        self._later(seconds, lambda: timer.callback())
        return timer

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        """In this life, and not while paused."""
        life = self.life

        def act() -> None:
            if self.life != life:
                return
            if self.world.now < self.paused_until:
                self.world.at(self.paused_until - self.world.now + 0.001, act)
            else:
                action()

        self.world.at(seconds, act)

    # -- Store -------------------------------------------------------------------------------------

    def _way(self) -> float | None:
        """Seconds to etcd, or back; None where what is sent is lost."""
        rng = self.world.rng
        return None if self.cut or rng.random() < 0.02 else rng.choice([0.001, 0.002, 0.004, 0.05])

    def txn(
        self, compares: list[bytes], success: list[bytes], done: Callable[[Answer | EtcdRefused], None], failure: list[bytes] | None = None
    ) -> Any:
        """See `Store`."""
        handle, life = Handle(), self.life

        def arrive() -> None:
            answer = self.etcd.txn(compares, success, failure or [])
            back = self._way()
            if back is not None:
                self._later(back, lambda: come(answer))

        def come(answer: Answer) -> None:
            if not handle.over and self.life == life:
                handle.over = True
                done(answer)

        def ask() -> None:
            if handle.over:
                return
            there = self._way()
            if there is not None:
                self.world.at(there, arrive)  # also if the member stops meanwhile: it is on its way
            self._later(AGAIN_SECONDS, ask)

        ask()
        return handle

    def compact(self, revision: int, done: Callable[[EtcdRefused | None], None]) -> Any:
        """See `Store`."""
        life = self.life

        def act() -> None:
            self.etcd.compacted = max(self.etcd.compacted, revision)
            if self.life == life:
                done(None)

        self.world.at(0.002, act)
        return Handle()

    def watch(self, prefix: bytes, revision: int, on_events: Callable[[Events], None], on_gap: Callable[[], None]) -> Any:
        """See `Store`."""
        handle = Handle()
        queue = [
            Events(pair.mod_revision, [pair]) for pair in self.etcd.history if pair.mod_revision >= revision and pair.key.startswith(prefix)
        ]
        self.etcd.watchers.append((prefix, queue.append))

        def deliver() -> None:
            if handle.over:
                return
            if not self.cut:
                while queue and not handle.over:
                    on_events(queue.pop(0))
            self._later(0.003, deliver)

        self._later(0.003, deliver)
        return handle
