"""Clients of a cluster that write down what they did, and what must hold of that.

A client is a thread with one connection at a time, to any member. It never asks again: an answer that does not come is lost. Each operation
is kept with the moments before it was sent and after its answer came, by one clock. Followers may serve reads that are a little old, so a
client reads only where a write was answered before on the same connection: that is the leader, or a follower that passes it all on. Some
clients only read then: a write that waits for its acknowledgement holds back all that comes behind it, reads of other clients too.
"""

import http.client
import itertools
import json
import threading
import time
import urllib.parse
from collections import Counter, defaultdict
from collections.abc import Sequence
from math import inf
from random import Random
from typing import Any, NamedTuple

from tests.support.linearizable import LOST, Operation, rejected
from tests.support.processes import ReplyError, RespClient

LEASE_MS = 1500
SLACK_SECONDS = 0.25  # a lease begins with the turn, which may begin before the request is sent
TIMEOUTS = (0.7, 2.0, 8.0)  # seconds that a client waits for an answer
FIRST_MS = 1_700_000_000_000  # of the points' times: each point has one of its own
_MOMENTS = itertools.count(FIRST_MS)
REFUSED = "refused"  # the answer of a write that certainly did not happen


Address = tuple[str, int]


class Push(NamedTuple):
    """A message was put into a queue."""

    queue: str
    payload: bytes
    answer: Any  # True, LOST or REFUSED


class Delivery(NamedTuple):
    """A message was leased to a client."""

    queue: str
    seq: int
    attempt: int
    payload: bytes
    invoked: float
    answered: float


class Ack(NamedTuple):
    """A client has acknowledged a message."""

    queue: str
    seq: int
    attempt: int
    payload: bytes
    answer: Any  # how many receipts stood, LOST or REFUSED
    invoked: float
    answered: float


class Append(NamedTuple):
    """An entry was appended to a stream."""

    stream: str
    value: bytes
    answer: Any  # its id, LOST or REFUSED
    invoked: float
    answered: float


class Point(NamedTuple):
    """A point was written to a series."""

    series: str
    ms: int
    value: int
    answer: Any  # True or LOST


class History:
    """What the clients of one round have done. The keys are the round's own."""

    def __init__(self, name: str) -> None:
        self.registers = [f"{name}:register{at}" for at in range(8)]
        self.counters = [f"{name}:counter{at}" for at in range(4)]
        self.versioned = [f"{name}:versioned{at}" for at in range(4)]
        self.queues = [f"{name}:queue{at}" for at in range(2)]
        self.streams = [f"{name}:stream{at}" for at in range(2)]
        self.series = [f"{name}:series{at}" for at in range(2)]
        self.operations: list[Operation] = []
        self.pushes: list[Push] = []
        self.deliveries: list[Delivery] = []
        self.acks: list[Ack] = []
        self.appends: list[Append] = []
        self.points: list[Point] = []
        self.answers: Counter[str] = Counter()
        self.answered_at: list[float] = []  # when writes were answered
        self.surprises: list[str] = []  # answers that no client expects
        self.clock_jumps = False  # a wall clock was set forward, or right again: leases end with it, and two may hold a message

    def check(self) -> None:
        """Assert what holds of the clients' answers alone."""
        assert not self.surprises, self.surprises[:5]
        key = rejected(self.operations)
        assert key is None, f"{key} is not linearizable:\n{self.of(str(key))}"
        for queue in self.queues:
            self._check_queue(queue)

    def of(self, key: str) -> str:
        """The history of a key."""
        ops = sorted((op for op in self.operations if op.key == key), key=lambda op: op.invoked)
        start = ops[0].invoked
        times = ((op, op.invoked - start, op.answered - start) for op in ops)
        return "\n".join(
            f"  {invoked:9.4f} {answered:9.4f}  {op.kind} {op.argument or ''} -> {op.answer}" for op, invoked, answered in times
        )

    def _check_queue(self, queue: str) -> None:
        pushed = {push.payload: push.answer for push in self.pushes if push.queue == queue}
        of_seq: dict[int, list[Delivery]] = defaultdict(list)
        seq_of: dict[bytes, int] = {}
        for each in sorted((each for each in self.deliveries if each.queue == queue), key=lambda each: each.attempt):
            assert pushed.get(each.payload, REFUSED) is not REFUSED, f"{each} was never put in, or was refused"
            assert seq_of.setdefault(each.payload, each.seq) == each.seq, f"{each}: that is also message {seq_of[each.payload]}"
            for before in of_seq[each.seq]:
                assert before.attempt != each.attempt, f"one attempt was given twice: {before} and {each}"
                ends = before.invoked + LEASE_MS / 1000
                assert self.clock_jumps or each.answered > ends - SLACK_SECONDS, f"two have a message at once: {before} and {each}"
            of_seq[each.seq].append(each)
        done: dict[int, Ack] = {}
        for ack in self.acks:
            if ack.queue == queue and ack.answer == 1:
                assert ack.seq not in done, f"acknowledged twice: {done[ack.seq]} and {ack}"
                done[ack.seq] = ack
                for each in of_seq[ack.seq]:
                    assert each.invoked < ack.answered, f"{each} comes after {ack}"
                    late = each.attempt > ack.attempt and each.answered < ack.invoked
                    assert not late, f"the receipt of {ack} stood, and {each} was before it"

    def unsettled(self, queue: str) -> set[bytes]:
        """Payloads that must still be in the queue: put in, and not acknowledged by anyone."""
        acked = {ack.payload for ack in self.acks if ack.queue == queue and ack.answer in (1, LOST)}
        return {push.payload for push in self.pushes if push.queue == queue and push.answer is True} - acked

    def check_stream(self, stream: str, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Assert that the stream's entries, (id, value) each, are what was appended, once, in order."""
        appended = {each.value: each for each in self.appends if each.stream == stream}
        found = {value: (at, entry) for at, (entry, value) in enumerate(entries)}
        assert len(found) == len(entries), "a value is in the stream twice"
        for value in found:
            assert value in appended and appended[value].answer is not REFUSED, f"{value!r} was never appended, or was refused"
        known = [each for each in appended.values() if each.answer not in (LOST, REFUSED)]
        for each in known:
            assert each.value in found, f"acknowledged and lost: {each}"
            assert found[each.value][1] == each.answer, f"{each} has the id {found[each.value][1]!r} in the stream"
        latest, behind = -1, None
        ends = sorted(known, key=lambda each: each.answered)
        at = 0
        for each in sorted(known, key=lambda each: each.invoked):
            while at < len(ends) and ends[at].answered < each.invoked:
                if found[ends[at].value][0] > latest:
                    latest, behind = found[ends[at].value][0], ends[at]
                at += 1
            assert found[each.value][0] > latest, f"{each} is before {behind}, which was answered before"

    def check_series(self, series: str, found: dict[int, float]) -> None:
        """Assert that the series' points, value by time, are what was written."""
        written = {each.ms: each for each in self.points if each.series == series}
        for ms, value in found.items():
            assert ms in written and written[ms].value == value, f"{value} at {ms} in {series} was never written: {written.get(ms)}"
        for each in written.values():
            assert each.answer is LOST or each.ms in found, f"acknowledged and lost: {each}"


class Broken(Exception):
    """The connection is of no use any more."""


class Clients:
    """Threads that read and write, until `stop`. What is in `avoid` gets nothing but reads, on connections that are there."""

    def __init__(self, addresses: Sequence[Address], secret: str, history: History, seed: int, count: int) -> None:
        self.avoid: set[Address] = set()
        self._over = threading.Event()
        self._threads = [_Client(addresses, secret, history, seed * 1000 + at, at % 4 == 0, self) for at in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def over(self) -> threading.Event:
        """Set when they are to end."""
        return self._over

    def stop(self) -> None:
        """End them."""
        self._over.set()
        for thread in self._threads:
            thread.join(max(TIMEOUTS) + 20)
            assert not thread.is_alive(), "a client hangs"


class _Client(threading.Thread):
    def __init__(self, addresses: Sequence[Address], secret: str, history: History, seed: int, only_reads: bool, clients: Clients) -> None:
        super().__init__(daemon=True)
        self._addresses, self._secret, self._history = addresses, secret, history
        self._avoid, self._over, self._only_reads = clients.avoid, clients.over, only_reads
        self._address = addresses[0]
        self._rng = Random(seed)
        self._name = f"{seed}"
        self._count = 0
        self._connection: RespClient | None = None
        self._at_leader = False
        self._versions: dict[str, tuple[int, bytes | None]] = {}  # as this client last knew them
        self._held: list[Delivery] = []
        self._writes = [self._set, self._incr, self._cas, self._push, self._append]
        self._reads = [self._get, self._get, self._count_now, self._getv]
        self._all = self._reads if only_reads else [*self._writes, *self._reads, self._take, self._ack, self._ack, self._point]

    def run(self) -> None:
        while not self._over.is_set():
            try:
                if self._address in self._avoid and not (self._only_reads and self._at_leader):
                    raise Broken
                if self._connection is None:
                    self._connect()
                self._rng.choice(self._all if self._at_leader else self._writes)()
                if self._only_reads:
                    rests = self._rng.random() < 0.01  # then it asks when others have been held back for long
                    self._over.wait(self._rng.uniform(0.5, 2.5) if rests else 0.003)  # reads are fast, and there are few cores for all
                if self._rng.random() < (0.003 if self._only_reads else 0.03) and self._address not in self._avoid:
                    raise Broken
            except Broken:
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
                self._address = self._rng.choice(self._addresses)
                if not self._at_leader:
                    self._over.wait(self._rng.uniform(0.01, 0.1))
                self._at_leader = False
            except Exception as e:  # it is shown when the round ends
                self._history.surprises.append(repr(e))
                return
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> None:
        host, port = self._address
        try:
            timeout = max(TIMEOUTS) if self._only_reads else self._rng.choice(TIMEOUTS)
            self._connection = RespClient(port, timeout, host)
            if self._connection.command("AUTH", self._secret) != b"OK":
                raise Broken
        except (OSError, ValueError):
            raise Broken from None

    def _ask(self, *words: bytes | str | int) -> tuple[Any, float, float]:
        """(the answer, REFUSED or LOST, when it was asked, when the answer came). The connection is given up unless there is an answer."""
        assert self._connection is not None
        invoked = time.monotonic()
        try:
            answer = self._connection.command(*words)
        except (OSError, ValueError):
            answer = LOST
        answered = time.monotonic()
        if isinstance(answer, ReplyError) and str(answer).startswith("READONLY"):
            answer = REFUSED
        self._history.answers["lost" if answer is LOST else "refused" if answer is REFUSED else "answered"] += 1
        if answer is LOST or answer is REFUSED:
            self._at_leader &= answer is LOST
            return answer, invoked, inf
        if isinstance(answer, ReplyError) and not str(answer).startswith("CONFLICT"):
            self._history.surprises.append(f"{words} -> {answer}")
        elif words[0] in ("SET", "INCR", "LPUSH", "XADD"):
            self._at_leader = True
            self._history.answered_at.append(answered)
        return answer, invoked, answered

    def _unique(self) -> bytes:
        self._count += 1
        return f"{self._name}-{self._count}".encode()

    def _note(self, key: str, kind: str, argument: Any, made: tuple[Any, float, float]) -> Any:
        answer, invoked, answered = made
        if answer is not REFUSED:
            self._history.operations.append(Operation(key, kind, argument, answer, invoked, answered))
        self._give_up(answer)
        return answer

    def _give_up(self, answer: Any) -> None:
        if answer is LOST or answer is REFUSED:
            raise Broken

    def _set(self) -> None:
        key, value = self._rng.choice(self._history.registers), self._unique()
        self._note(key, "set", value, self._ask("SET", key, value))

    def _get(self) -> None:
        key = self._rng.choice(self._history.registers)
        self._note(key, "get", None, self._ask("GET", key))

    def _incr(self) -> None:
        key = self._rng.choice(self._history.counters)
        self._note(key, "incr", None, self._ask("INCR", key))

    def _count_now(self) -> None:
        key = self._rng.choice(self._history.counters)
        answer, invoked, answered = self._ask("GET", key)
        self._note(key, "get", None, (int(answer) if isinstance(answer, bytes) else answer, invoked, answered))

    def _getv(self) -> None:
        key = self._rng.choice(self._history.versioned)
        answer, invoked, answered = self._ask("GETV", key)
        found = self._note(key, "getv", None, (tuple(answer) if isinstance(answer, list) else answer, invoked, answered))
        self._versions[key] = found if found is not None else (0, None)

    def _cas(self) -> None:
        key, value = self._rng.choice(self._history.versioned), self._unique()
        version, before = self._versions.get(key, (0, None))
        answer, invoked, answered = self._ask("CAS", key, version, value)
        refused = isinstance(answer, ReplyError)
        self._note(key, "cas", (version, before, value), (None if refused else answer, invoked, answered))
        if not refused:
            self._versions[key] = (answer, value)

    def _push(self) -> None:
        queue, payload = self._rng.choice(self._history.queues), self._unique()
        answer, _, _ = self._ask("LPUSH", queue, payload)
        self._history.pushes.append(Push(queue, payload, answer if answer is LOST or answer is REFUSED else True))
        self._give_up(answer)

    def _take(self) -> None:
        queue = self._rng.choice(self._history.queues)
        answer, invoked, answered = self._ask("QDEQUEUE", queue, "COUNT", self._rng.randint(1, 4), "LEASE", LEASE_MS)
        self._give_up(answer)
        for seq, payload, attempt in answer or []:
            self._held.append(Delivery(queue, seq, attempt, payload, invoked, answered))
            self._history.deliveries.append(self._held[-1])

    def _ack(self) -> None:
        if not self._held:
            return
        each = self._held.pop(self._rng.randrange(len(self._held)))
        if self._rng.random() < 0.1:
            return  # it is forgotten, and comes again
        answer, invoked, answered = self._ask("QACK", each.queue, f"{each.seq}-{each.attempt}")
        self._history.acks.append(Ack(each.queue, each.seq, each.attempt, each.payload, answer, invoked, answered))
        self._give_up(answer)

    def _append(self) -> None:
        stream, value = self._rng.choice(self._history.streams), self._unique()
        answer, invoked, answered = self._ask("XADD", stream, "*", "v", value)
        self._history.appends.append(Append(stream, value, answer, invoked, answered))
        self._give_up(answer)

    def _point(self) -> None:
        series, ms = self._rng.choice(self._history.series), next(_MOMENTS)
        host, port = self._address
        client = http.client.HTTPConnection(host, port, timeout=self._rng.choice(TIMEOUTS))
        answer: Any = LOST
        try:
            client.request(
                "POST", "/write?precision=ms", f"{series},of=faults v={ms % 1000} {ms}", {"Authorization": f"Bearer {self._secret}"}
            )
            answer = client.getresponse().status == http.HTTPStatus.NO_CONTENT or LOST
        except (OSError, http.client.HTTPException):
            pass
        finally:
            client.close()
        self._history.answers["lost" if answer is LOST else "answered"] += 1
        self._history.points.append(Point(series, ms, ms % 1000, answer))
        self._give_up(answer)


def points_of(host: str, port: int, secret: str, series: str) -> dict[int, float]:
    """What is in a series: value by time."""
    client = http.client.HTTPConnection(host, port, timeout=30)
    try:
        query = urllib.parse.quote(f'"{series}"[0..{FIRST_MS * 2}]')
        client.request("GET", f"/api/v1/timeseries/default/query?floql={query}", headers={"Authorization": f"Bearer {secret}"})
        found = json.loads(client.getresponse().read())
        return {ms: value for each in found["series"] for ms, value in each["points"]}
    finally:
        client.close()


def drain(connection: RespClient, history: History, queue: str, seconds: float) -> None:
    """Take and acknowledge what is left in a queue, and assert that nothing is missing."""
    deadline = time.monotonic() + seconds
    dead: set[bytes] = set()
    while time.monotonic() < deadline and history.unsettled(queue) - dead:
        invoked = time.monotonic()
        taken = connection.command("QDEQUEUE", queue, "COUNT", 100, "LEASE", 60_000, "BLOCK", 200)
        answered = time.monotonic()
        for seq, payload, attempt in taken or []:
            history.deliveries.append(Delivery(queue, seq, attempt, payload, invoked, answered))
            before = time.monotonic()
            answer = connection.command("QACK", queue, f"{seq}-{attempt}")
            history.acks.append(Ack(queue, seq, attempt, payload, answer, before, time.monotonic()))
        dead = {payload for _, payload, _ in connection.command("QDLQ", "LIST", queue, "COUNT", 1000)}
    missing = sorted(history.unsettled(queue) - dead)
    if missing:
        records: list[Push | Delivery | Ack] = [*history.pushes, *history.deliveries, *history.acks]
        known = [each for each in records if each.payload == missing[0]]
        raise AssertionError(f"acknowledged and lost in {queue}: {len(missing)} messages, such as {missing[0]!r}: {known}")
