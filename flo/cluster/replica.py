"""The role of one member: follower, candidate or leader, as a state machine without sockets (docs/cluster.md).

    STARTING ──▶ FOLLOWER ──nothing heard for SILENT_SECONDS──▶ CANDIDATE ──claimed──▶ LEADER
       │            ▲  │                                          │                     │
       ▼            │  └──the leader's key is deleted─────────────┤                     ▼
     BEHIND         └────────────another has claimed──────────────┘                  DEPOSED

    STARTING   reads the tail behind its own log
    FOLLOWER   applies what the watch tells, and serves reads as long as that is fresh
    CANDIDATE  asks etcd whether it answers, waits whether a leader speaks, and claims
    LEADER     appends under its claim, and stamps when nothing is to be appended
    BEHIND     the tail goes on behind what this member needs: it must fetch a copy
    DEPOSED    another leads, or etcd has not answered for ALONE_SECONDS. What this one has in memory is ahead of the log, and cannot be
               taken back: the process starts again

The *claim* is the revision at which the leader's key was written. Each append says "if the claim still stands", so etcd itself refuses a
deposed leader, whatever any clock says; claiming is safe at any time, and the times below are only there so that nobody is deposed in vain.
A claim reads the rest of the tail in the same transaction: it goes through etcd's own log, so nothing that was acknowledged can be missing.

Reads need more: a deposed leader must not serve old values. A leader is *fresh* while its last acknowledged write was sent less than
FRESH_SECONDS ago; nobody claims before SILENT_SECONDS after *receiving* that write. The owner looks at `fresh` behind executing, and holds
the replies back until it is.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Protocol

from flo.cluster.etcd import Answer, Call, EtcdRefused, Events, KeyValue, Watch, delete_op, end_of, last_op, put_op, range_op, unchanged
from flo.cluster.tail import (
    Assembler,
    Clock,
    Extent,
    Gap,
    Keys,
    Lead,
    Member,
    TailDamaged,
    chain_behind,
    ends_with,
    last_index,
    last_whole_index,
    parts_of,
)
from flo.engine import Engine
from flo.errors import Damaged, Overloaded
from flo.loop import Timer
from flo.ual.replicated import Outgoing, ReplicatedLog
from flo.ual.segment import OFFSET_BYTES
from flo.waits import Waits

STAMP_SECONDS = 0.5  # after so long without a write, the leader stamps
FRESH_SECONDS = 1.5
SILENT_SECONDS = 2.0  # more than FRESH_SECONDS, by enough for clocks that run at rates a quarter apart
DOUBT_SECONDS = 1.0  # after so long a follower asks whether etcd answers
ALONE_SECONDS = 5.0  # a leader that etcd does not hear gives up: it can answer nobody, and as a follower it says so
PATIENCE_SECONDS = 1.0  # since it has answered: a leader that could not reach it before needs that long to stamp
MEMBER_SECONDS = 2.0  # a member tells so often how far it is
LOOK_SECONDS = 0.1  # the roles' times are looked at so often
KEEP_BYTES = 64 << 20  # of the tail, for members that were away for a moment
RANGE_LIMIT = 64  # parts of batches read at once: 64 MiB at most


class Role(Enum):
    """See the head of this file."""

    STARTING = "starting"
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"
    BEHIND = "behind"
    DEPOSED = "deposed"


class Store(Protocol):
    """etcd, as a replica uses it: flo.cluster.etcd.Etcd, or a store of the tests. Calls are answered in the reactor's turns."""

    def txn(
        self,
        compares: list[bytes],
        success: list[bytes],
        done: Callable[[Answer | EtcdRefused], None],
        failure: list[bytes] = ...,
    ) -> Call:
        """See `Etcd.txn`."""

    def watch(self, prefix: bytes, revision: int, on_events: Callable[[Events], None], on_gap: Callable[[], None]) -> Watch:
        """See `Etcd.watch`."""

    def compact(self, revision: int, done: Callable[[EtcdRefused | None], None]) -> Call:
        """See `Etcd.compact`."""


class Times(Protocol):
    """The clocks and timers of the owner."""

    def steady(self) -> float:
        """Seconds of a clock that goes on while the machine sleeps."""

    def call_later(self, seconds: float, callback: Callable[[], None], /) -> Timer:
        """Call back after that time."""


class Replica:
    """One member of a cluster."""

    def __init__(
        self,
        store: Store,
        times: Times,
        engine: Engine,
        *,
        cluster: str,
        node: str,
        address: str,
        on_role: Callable[[Role, str], None],
        begins: bool = False,
        keep_bytes: int = KEEP_BYTES,
        max_tail: int = 1 << 30,
    ) -> None:
        """`on_role(role, why)` is called after each change. `begins`: an empty replicated log begins behind this member's own.
        `keep_bytes` of the log are always left in etcd, and `max_tail` at most. The engine's log must be a `ReplicatedLog`."""
        assert isinstance(engine.log, ReplicatedLog), "the engine was opened with replicated=True"
        self.role: Role = Role.STARTING
        self._begins = begins
        self.node: str = node
        self.address: str = address
        self.lead: Lead | None = None  # who leads, as far as is known
        self.term: int = 0  # the last claim that is known; a later one is larger
        self.members: dict[str, Member] = {}
        self.lags: dict[str, int] = {}  # records that a member was behind this one when it told how far it is
        self.acks: Waits = Waits()  # how long batches were out
        self.elections: int = 0  # claims that this member has seen since its start
        self._store, self._times, self._engine, self._log = store, times, engine, engine.log
        self._keys = Keys(cluster)
        self._on_role = on_role
        self._assembler = Assembler(self._keys, engine.log.next_index)
        self._claim = 0  # the mod_revision of the leader's key, whoever wrote it; 0 if there is none
        self._heard = times.steady()  # when something of the leader came last
        self._sent = 0.0  # when the write was sent that was acknowledged last
        self._sending = 0.0  # when the one that is out was sent
        self._began = 0.0  # when the batch that is out was given to this member
        self._claiming: Lead | None = None  # what this member has asked to be written
        self._asked: float | None = None  # of a candidate: since when etcd answers
        self._chain: int | None = None  # behind the batch that is out; None before this leader's first
        self._parts: list[bytes] = []  # of the batch that is out, those that are not sent yet
        self._part = 0  # the number of the one that is sent next
        self._busy = False  # a transaction of the role is under way
        self._asking: Call | None = None  # the question whether etcd answers
        self._refusal = ""  # why etcd refuses this leader's writes
        self._telling: Call | None = None  # how far this member is
        self._as_of = times.steady()  # what a follower has is at least as new as the log was then
        self._watched = 0  # the revision up to which it has heard everything
        self._looking: Call | None = None  # the question which revision there is
        self._looked = 0.0  # when that was asked last
        self._seen: tuple[int, float] | None = None  # its answer, and when it was asked, until that much was heard
        self._read_at = 0  # the revision of the first of the answers that give the tail; 0 before that
        self._handing_over: Callable[[], None] | None = None
        self.hands_over: bool = (
            False  # it is about to give the lead up, or does: nothing may be executed any more, since another may lead at once
        )
        self.handed_over: bool = False  # this member has given up the lead, and no other had claimed before
        self._watch: Watch | None = None
        self._timer: Timer | None = None
        self._member_at = 0.0
        self._extent = Extent(min(keep_bytes, max_tail // 2))
        self._max_tail = max_tail
        self._trimmed = 0  # revision up to which etcd may forget
        self._successor = ""  # who is to claim next; empty for anybody
        engine.follow()
        self._look_later()
        self._read_on()

    # -- what the owner asks -----------------------------------------------------------------------

    @property
    def fresh(self) -> bool:
        """Of a leader: whether no other can have claimed yet."""
        return self.role is Role.LEADER and self._times.steady() - self._sent < FRESH_SECONDS

    @property
    def silence(self) -> float:
        """For how many seconds nothing of the leader has come."""
        return 0.0 if self.role is Role.LEADER else self._times.steady() - self._heard

    @property
    def age(self) -> float:
        """Of a follower: how many seconds old what it has may be. It may hear much that was said long ago, after it stood still."""
        return self._times.steady() - self._as_of

    @property
    def tail_bytes(self) -> int:
        """How much of the log is in etcd, as far as this member has seen it."""
        return self._extent.bytes

    def hand_over(self, done: Callable[[], None], successor: str = "") -> None:
        """Of a leader: give the lead up once nothing is out, to the member `successor` if it is there, then call `done`. The others hear of
        it at once. Nothing more may be appended."""
        assert self.role is Role.LEADER, "only a leader has something to hand over"
        self.hands_over = True
        self._successor = successor
        self._times.call_later(0, lambda: self._hand_over_now(done))  # behind this turn: from the next one on nothing is executed

    def _hand_over_now(self, done: Callable[[], None]) -> None:
        if self.role is not Role.LEADER:
            done()
            return
        self._handing_over = done
        self._go_on()

    def remove(self, node: str, done: Callable[[], None]) -> None:
        """Forget a member: it does not count any more for what a majority has. It comes back when it runs."""
        self._forget(node)
        self._store.txn([], [delete_op(self._keys.member(node))], lambda _: done())

    def read_again(self) -> None:
        """Of a member that is behind, and could copy nobody: read who there is now, and what the log has."""
        if self.role is Role.BEHIND:
            self._become(Role.STARTING, "no member could be copied")
            self._read_on()

    def close(self) -> None:
        """Do nothing any more."""
        if self.role is not Role.DEPOSED:
            self._become(Role.DEPOSED, "closed")

    # -- reading the tail --------------------------------------------------------------------------

    def _read_on(self, after: bytes = b"") -> None:
        """Read what comes behind this member's log: behind the key `after`, where an answer before gave up to that one."""
        self._looked = self._times.steady()
        start = self._keys.batch(self._assembler.next_index)
        reads = [range_op(self._keys.leader), range_op(self._keys.clock), self._range_of_tail(after)]
        rest = [
            range_op(self._keys.members, end_of(self._keys.members)),
            last_op(self._keys.log, end_of(self._keys.log)),
            last_op(self._keys.log, start),
        ]
        self._store.txn([], [*reads, *rest], self._read)

    def _range_of_tail(self, after: bytes) -> bytes:
        """Read parts of batches. A batch may have more of them than one answer gives."""
        start = after + b"\0" if after else self._keys.batch(self._assembler.next_index)
        return range_op(start, end_of(self._keys.log), RANGE_LIMIT)

    def _read(self, answer: Answer | EtcdRefused) -> None:
        if self.role is not Role.STARTING:
            return
        if isinstance(answer, EtcdRefused):
            self._become(Role.STARTING, str(answer))
            self._times.call_later(1.0, self._read_on)
            return
        leads, clocks, parts, members, ends, before = answer.found
        self.members.clear()
        self.lags.clear()
        try:
            for pair in (*leads, *members):
                self._note(pair)
            clock = Clock.decode(clocks[0].value or b"") if clocks else Clock(0, 0, 0, 0)
            if self._begins and not leads and not clocks and not ends:
                self._begin()
                return
            last = max([clock.last, *[last_index(pair.value or b"") for pair in ends]])
            whole = max([clock.last, *[last_whole_index(pair.value or b"") for pair in ends]])
            if last < self._log.next_index - 1:
                raise TailDamaged(
                    f"this member's log ends with index {self._log.next_index - 1}, and the replicated log with {last}: that was taken "
                    "back, or is another cluster's. `flo cluster reseed` makes this member's log anew"
                )
            if not parts and whole >= self._log.next_index:
                raise Gap(f"index {self._log.next_index} is trimmed from the replicated log, which ends with {whole}")
            if self._assembler.chain is None and before and last_index(before[0].value or b"") == self._log.next_index - 1:
                self._check_origin(before[0].value or b"")
                self._assembler.chain = chain_behind(before[0].value or b"")
            self._adopt(parts)
        except Gap as e:
            if self._read_at:  # a leader may have begun a batch anew between two answers
                self._read_at = 0
                self._read_on()
            else:
                self._become(Role.BEHIND, str(e))
            return
        except Overloaded as e:
            self._start_later(e)
            return
        self._read_at = self._read_at or answer.revision
        if answer.more[2]:
            self._read_on(parts[-1].key)
            return
        since, self._read_at = self._read_at, 0
        self._heard = self._times.steady()
        self._as_of, self._watched = self._looked, answer.revision
        self._become(Role.FOLLOWER, f"index {self._log.written}")
        self._watch = self._store.watch(self._keys.prefix, since + 1, self._hear, self._miss)

    def _start_later(self, e: Overloaded) -> None:
        """The disk has no room for what was read: read it again a little later."""
        self._assembler, self._read_at = Assembler(self._keys, self._log.next_index), 0
        self._become(Role.STARTING, str(e))
        self._times.call_later(1.0, self._read_on)

    def _check_origin(self, part: bytes) -> None:
        """Check that this member's last record is that of the replicated log, whose batch this part ends. Raises `TailDamaged`."""
        record, index = b"", self._log.next_index - 1
        with suppress(Damaged):  # whoever needs the record will be told
            record = self._log.read_bytes(index) or b""  # it may be compacted away
        if not ends_with(part, record):
            raise TailDamaged(
                f"this member's log has another record at index {index} than the replicated log: it is another cluster's, or of a server "
                "that was alone. `flo cluster reseed` makes this member's log anew"
            )

    def _begin(self) -> None:
        """Begin the replicated log behind this member's own, which others then copy, unless somebody has begun it meanwhile."""
        self._begins = False
        clock = Clock(self._engine.stamp_time, self._engine.clock(), self._log.written, 0)
        none_yet = [unchanged(self._keys.clock, 0), unchanged(self._keys.leader, 0)]
        self._store.txn(none_yet, [put_op(self._keys.clock, clock.encode())], lambda _: self._read_on())

    def _adopt(self, pairs: list[KeyValue]) -> None:
        """Take over parts of batches. Raises `Gap`, `TailDamaged`, `Overloaded`."""
        for pair in pairs:
            batch = self._assembler.add(pair)
            if batch is not None:
                self._log.admit(sum(map(len, batch.records)) + OFFSET_BYTES * len(batch.records), adds=False)
                self._extent.add(batch.first, batch.records)
                self._engine.set_clock(batch.wall)
                self._engine.adopt(batch.records, batch.stamp)

    def _hear(self, events: Events) -> None:
        """The watch has seen changes."""
        if self.role not in (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER):
            return
        for pair in events.changes:
            if pair.key.startswith(self._keys.log):
                if self.role is Role.LEADER:
                    continue  # it has its own in memory
                if pair.value is None:
                    self._extent.forget(self._keys.place_of(pair.key)[0])
                    continue
                self._heard = self._times.steady()
                try:
                    self._adopt([pair])
                except Gap as e:
                    self._become(Role.BEHIND, str(e))
                    return
                except Overloaded as e:
                    self._start_later(e)
                    return
            else:
                self._note(pair)
        self._watched = max(self._watched, events.revision)
        self._note_age()

    def _look_at_age(self) -> None:
        """Ask which revision there is now: once the watch has told all up to it, this member has what there was."""
        asked = self._looked = self._times.steady()

        def answered(answer: Answer | EtcdRefused) -> None:
            self._looking = None
            if isinstance(answer, Answer):
                self._seen = answer.revision, asked
                self._note_age()

        self._looking = self._store.txn([], [range_op(self._keys.leader)], answered)

    def _note_age(self) -> None:
        if self._seen is not None and self._watched >= self._seen[0]:
            self._as_of, self._seen = max(self._as_of, self._seen[1]), None

    def _miss(self) -> None:
        """etcd has forgotten what the watch was to tell next."""
        if self.role in (Role.FOLLOWER, Role.CANDIDATE):
            self._become(Role.STARTING, "etcd has forgotten what this member had not read yet")
            self._read_on()

    def _note(self, pair: KeyValue) -> None:
        """A key besides the log has changed, or was read."""
        if pair.key == self._keys.leader:
            if pair.mod_revision <= self._claim:
                return
            if self.role is Role.LEADER:  # a watch may tell of a hand-over before its answer comes
                self.handed_over = self.hands_over and pair.value is None
                self._become(Role.DEPOSED, "the lead was handed over" if self.handed_over else "another has claimed the lead")
                return
            lead = Lead.decode(pair.value) if pair.value is not None else None
            if lead is not None and lead == self._claiming:
                return  # the answer to the claim is to come
            self._heard = self._times.steady()
            self._claim = pair.mod_revision if lead is not None else 0
            self.lead = lead
            self.elections += self._claim > self.term
            self.term = max(self.term, self._claim)
            if self.role in (Role.FOLLOWER, Role.CANDIDATE) and lead is not None:
                self._become(Role.FOLLOWER, f"{lead.node} leads")
            elif self.role is Role.FOLLOWER and lead is None:
                self._become(Role.CANDIDATE, "the lead was handed over")
                self._asked = self._times.steady()
                if self._successor in ("", self.node):  # else that member goes first, if it is there
                    self._claim_now()
        elif pair.key == self._keys.next:
            self._successor = (pair.value or b"").decode("utf-8", "replace")
        elif pair.key == self._keys.clock and self.role is not Role.LEADER and pair.value is not None:
            clock = Clock.decode(pair.value)
            self._heard = self._times.steady()
            if clock.chain and self._assembler.chain is not None and clock.last == self._log.next_index - 1:
                self._compare(clock)
            self._engine.set_clock(clock.wall)
        elif pair.key.startswith(self._keys.members):
            node = pair.key[len(self._keys.members) :].decode("utf-8", "replace")
            if pair.value is None:
                self._forget(node)
            else:
                member = self.members[node] = Member.decode(pair.value)
                self.lags[node] = max(self._log.written - member.applied, 0)

    def _forget(self, node: str) -> None:
        self.members.pop(node, None)
        self.lags.pop(node, None)

    def _compare(self, clock: Clock) -> None:
        """Each stamp shows whether this member has what its leader has. Raises `TailDamaged`."""
        if clock.chain != self._assembler.chain:
            raise TailDamaged(
                f"this member's log and its leader's have come apart before index {clock.last}: the checksum here is "
                f"{self._assembler.chain:#x}, and there {clock.chain:#x}. `flo cluster reseed` makes "
                "this member's log anew"
            )

    # -- time --------------------------------------------------------------------------------------

    def _look_later(self) -> None:
        self._timer = self._times.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """The times of the roles."""
        if self.role is Role.DEPOSED:
            return
        now = self._times.steady()
        silence = now - self._heard
        if self.role in (Role.FOLLOWER, Role.CANDIDATE):
            if self._looking is None and self._seen is None and now - self._looked >= STAMP_SECONDS:
                self._look_at_age()
            if silence < DOUBT_SECONDS:
                self._asked = None
                if self.role is Role.CANDIDATE and not self._busy:
                    self._become(Role.FOLLOWER, "the leader speaks again")
            elif self._asked is None and not self._busy:
                self._ask()
            if self.role is Role.FOLLOWER and silence > SILENT_SECONDS:
                self._become(Role.CANDIDATE, f"nothing was heard of a leader for {silence:.1f} s")
            if self.role is Role.CANDIDATE and not self._busy and self._asked is not None and now - self._asked >= PATIENCE_SECONDS:
                self._claim_now()
        if self.role is Role.LEADER and now - self._sent >= ALONE_SECONDS:
            why = f": {self._refusal}" if self._refusal else ""
            self._become(Role.DEPOSED, f"etcd has acknowledged nothing for {now - self._sent:.1f} s{why}")
            return
        if self.role is Role.LEADER:
            self._go_on()
        if now >= self._member_at and self.role is not Role.STARTING:
            self._member_at = now + MEMBER_SECONDS
            self._tell_member()
        self._look_later()

    def _tell_member(self) -> None:
        member = Member(self.address, self._log.written, self._log.durable, self._engine.clock())
        self.members[self.node] = member
        if self._telling is not None:
            self._telling.cancel()  # else those that etcd does not answer would grow in number
        self._telling = self._store.txn([], [put_op(self._keys.member(self.node), member.encode())], lambda _: None)

    # -- claiming ----------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Find out whether etcd answers: while it does not, no leader can speak."""

        def answered(answer: Answer | EtcdRefused) -> None:
            self._busy = False
            if self.role in (Role.FOLLOWER, Role.CANDIDATE) and isinstance(answer, Answer):
                self._asked = self._times.steady()

        self._busy = True
        self._asking = self._store.txn([], [range_op(self._keys.leader)], answered)

    def _claim_now(self) -> None:
        """Take the lead, unless another has since this member last heard."""
        if self._asking is not None:
            self._asking.cancel()  # its answer would end the claim's, or a later write's, being under way
        self._busy = True
        lead = self._claiming = Lead(self.node, self.address, self._log.identity, os.urandom(8).hex())
        reads = self._reads_of_claim()
        self._sending = self._times.steady()
        self._store.txn(
            [unchanged(self._keys.leader, self._claim)], [put_op(self._keys.leader, lead.encode()), *reads], self._claimed, reads
        )

    def _reads_of_claim(self, after: bytes = b"") -> list[bytes]:
        """Who leads, and what this member has not read."""
        return [range_op(self._keys.leader), self._range_of_tail(after)]

    def _claimed(self, answer: Answer | EtcdRefused) -> None:
        self._busy = False
        lead, self._claiming = self._claiming, None
        if self.role is not Role.CANDIDATE:
            return
        if isinstance(answer, EtcdRefused):
            self._asked = None
            self._become(Role.CANDIDATE, str(answer))
            return
        leads, parts = answer.found[-2:]
        if not leads or leads[0].value is None or Lead.decode(leads[0].value) != lead:
            self._become(Role.FOLLOWER, "another has claimed the lead first")
            for pair in leads:
                self._note(pair)
            return
        # else it is this member's own, be it by this answer, or by an earlier one that was lost
        claim = leads[0].mod_revision
        try:
            self._adopt(parts)
        except (Gap, Overloaded) as e:  # the tail was trimmed beyond this member, or its disk is full: it cannot lead
            self._store.txn([unchanged(self._keys.leader, claim)], [delete_op(self._keys.leader)], lambda _: None)
            if isinstance(e, Gap):
                self._become(Role.BEHIND, str(e))
            else:
                self._start_later(e)
            return
        if answer.more[-1]:  # the claim stands, and nobody else can append: the rest is read before this member does
            self._busy, self._claiming = True, lead
            self._sending = self._times.steady()
            self._store.txn([], self._reads_of_claim(parts[-1].key), self._claimed)
            return
        self._claim, self.lead, self.term = claim, lead, claim
        self.elections += 1
        self._sent = self._sending
        self._chain = None
        self._engine.lead()
        self._log.send = self._send
        self._become(Role.LEADER, f"term {claim}, index {self._log.written}")
        self._stamp()

    # -- leading -----------------------------------------------------------------------------------

    def _send(self, out: Outgoing) -> None:
        """A batch is to be replicated (flo.ual.replicated)."""
        self._parts, self._chain = parts_of(out.first, out.time, self._engine.now, out.records, self._chain)
        self._part = 0
        self._began = self._times.steady()
        if not self._busy:
            self._append()

    def _append(self) -> None:
        """Send the next part of the batch that is out."""
        out = self._log.out
        assert out is not None and self._parts, "something is out"
        self._busy = True
        self._sending = self._times.steady()
        put = put_op(self._keys.part(out.first, self._part), self._parts[self._part])
        self._store.txn([unchanged(self._keys.leader, self._claim)], [put], self._appended)

    def _appended(self, answer: Answer | EtcdRefused) -> None:
        self._busy = False
        if not self._stands(answer):
            return
        self._part += 1
        if self._part < len(self._parts):
            self._append()
            return
        self._parts = []
        self.acks.add(self._times.steady() - self._began, 1)
        assert self._log.out is not None, "what was sent is out until it is acknowledged"
        self._extent.add(self._log.out.first, self._log.out.records)
        self._assembler.next_index = self._log.next_index - len(self._log.pending)
        self._assembler.chain = self._chain
        self._log.acknowledged()
        self._go_on()

    def _stands(self, answer: Answer | EtcdRefused) -> bool:
        """Whether the claim has stood when the write was executed; what follows if it has not."""
        if self.role is not Role.LEADER:
            return False
        if isinstance(answer, EtcdRefused):
            # nothing was executed. It may be that etcd is full: the write is made again, and clients wait or are refused
            self._refusal = str(answer)
            self._times.call_later(1.0, self._go_on)
            return False
        if not answer.succeeded:
            self._become(Role.DEPOSED, "another has claimed the lead")
            return False
        self._sent, self._refusal = self._sending, ""
        return True

    def _stamp(self) -> None:
        """Tell the clocks."""
        self._busy = True
        self._sending = self._times.steady()
        clock = Clock(self._engine.stamp_time, self._engine.now, self._log.written, self._assembler.chain or 0)
        self._store.txn([unchanged(self._keys.leader, self._claim)], [put_op(self._keys.clock, clock.encode())], self._stamped)

    def _stamped(self, answer: Answer | EtcdRefused) -> None:
        self._busy = False
        if self._stands(answer):
            self._go_on()

    def _go_on(self) -> None:
        """Do what the leader has to do next."""
        if self.role is not Role.LEADER or self._busy:
            return
        full = self._extent.bytes > self._max_tail
        if full != self._log.tail_is_full:
            self._log.tail_is_full = full
        if self._parts:
            self._append()
        elif self._handing_over is not None and self._log.out is None and not self._log.pending:
            done, self._handing_over = self._handing_over, None
            self._busy = True
            ops = [put_op(self._keys.next, self._successor.encode()), delete_op(self._keys.leader)]
            self._store.txn([unchanged(self._keys.leader, self._claim)], ops, lambda answer: self._handed_over(answer, done))
        elif (first := self._extent.trim(self._synced_by_majority)) > 0:
            self._trim(first)
        elif self._times.steady() - self._sent >= STAMP_SECONDS:
            self._stamp()

    @property
    def _synced_by_majority(self) -> int:
        """The index up to which a majority of the members has the log on its own disk."""
        synced = sorted((member.synced for member in self.members.values()), reverse=True)
        return synced[len(synced) // 2] if synced else 0

    def _trim(self, first: int) -> None:
        """Let etcd forget what comes before the batch of index `first`."""
        self._busy = True
        self._sending = self._times.steady()
        gone = delete_op(self._keys.log, self._keys.batch(first))
        self._store.txn([unchanged(self._keys.leader, self._claim)], [gone], self._trimmed_away)

    def _trimmed_away(self, answer: Answer | EtcdRefused) -> None:
        self._busy = False
        if self._stands(answer) and isinstance(answer, Answer):
            before, self._trimmed = self._trimmed, answer.revision
            if before:  # watches that are a little behind still find what they need
                self._store.compact(before, lambda _: None)
            self._go_on()

    def _handed_over(self, answer: Answer | EtcdRefused, done: Callable[[], None]) -> None:
        if self.role is Role.LEADER:
            self.handed_over = isinstance(answer, Answer) and answer.succeeded
            self._become(Role.DEPOSED, "the lead was handed over" if self.handed_over else "another has claimed the lead")
        done()

    def _become(self, role: Role, why: str) -> None:
        self.role = role
        if role in (Role.DEPOSED, Role.BEHIND, Role.STARTING) and self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if role is Role.DEPOSED and self._timer is not None:
            self._timer.cancel()
        self._on_role(role, why)
