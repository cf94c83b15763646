"""Soak: mixed load on keys, queues, streams, time series and actions, with kills, stops, compactions and clock steps, against a model.

    python3 loadtest/soak.py [--seconds 600] [--kills N] [--seed N] [--python PATH]

Each worker is the only client of its keys, queue, stream, measurement or action, so it knows the state that the server must hold. A request
that was under way when the server died must be done as a whole or not at all. Any difference ends the run with exit status 1 and the seed.
With --kills the run ends after so many kills of the server.
"""

import argparse
import json
import mmap
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from flo.client import Client, Disconnected  # noqa: E402
from flo.errors import Conflict, FloError, NotFound  # noqa: E402
from flo.operations.worker import Assignment  # noqa: E402
from tests.support.processes import FloProcess, ReplyError, RespClient, wait_until  # noqa: E402

KEYS = 300  # of each worker
FAR_DEADLINE = 7_258_118_400  # the year 2200, in Unix seconds: no step of the clock reaches it
RUNS_LIVE, RUNS_KNOWN = 1000, 5000  # of each action: runs that have not ended, and runs that have whose ends are checked
RECORDS_KEPT = 300  # of each stream
LEASE_MS = 5_000
EVERY_MS = 500  # of each schedule
DELAY_MS = 200  # of some runs
HISTORY_PORTION = 500  # less than one reply of XREADGROUP holds, so that several portions are needed
SERIES_HOSTS, SERIES_READ = 8, 1000  # series of each worker; ms of a query, in which there is one point a ms
STEP_SECONDS = 3_600  # the largest step of the clock, forward or back
LIFE_SECONDS = 0.6  # the mean life of a server
Word = bytes | str | int

# A server whose clock can be set, which leaves even few values on disk at a start, which makes chunks of few points, and which compacts the
# log or its tail on request.
SERVER = """
import mmap, random, struct, sys, time
from flo import server
from flo.engine import loading, timeseries
loading.LAZY_VALUES_MIN = 1
timeseries.CHUNK_POINTS, timeseries.SMALL_POINTS, timeseries.SMALL_CHUNKS, timeseries.OPEN_MIN = 64, 16, 4, 300
with open({clock!r}, "r+b") as file:
    offset = mmap.mmap(file.fileno(), 8)
plain = server.Server
def clock():
    return time.time_ns() // 1_000_000 + struct.unpack("<q", offset[:8])[0]
server.Server = lambda *args, **kwargs: plain(*args, clock=clock, **kwargs)
def compact(self):
    self.engine.commit()
    self.engine.log.roll()
    self.compactor.start(self.engine.now, tail=random.random() < 0.6)
plain._compact = compact
from flo.cli import main
sys.exit(main())
"""


class Gone(Exception):
    """The server ended while a request was under way."""


class Wrong(Exception):
    """The server's state differs from the model."""


def need(condition: object, sentence: str) -> None:
    """Raise `Wrong` if the condition does not hold."""
    if not condition:
        raise Wrong(sentence)


class Worker:
    """One client. `step` makes a request and checks it; `resolve` finds out whether the request under way was done; `finish` checks all."""

    def __init__(self, soak: "Soak", number: int) -> None:
        self.soak = soak
        self.number = number
        self.random = random.Random(f"{soak.seed}/{type(self).__name__}/{number}")
        self.client: RespClient | None = None
        self.steps = 0

    def call(self, *args: Word) -> Any:
        """One request. Raises `Gone`, or `Wrong` for an error reply."""
        assert self.client is not None
        try:
            reply = self.client.command(*args)
        except (OSError, ValueError) as e:
            raise Gone from e
        need(not isinstance(reply, ReplyError), f"{args[:3]} was answered with {reply!r}")
        return reply

    def run(self) -> None:
        """Make steps until the soak is over, and go on with the next server when one has ended."""
        try:
            while not self.soak.over.is_set():
                self.connect()
                if self.client is None:
                    return
                try:
                    self.resolve()
                    while not self.soak.over.is_set():
                        self.step()
                        self.steps += 1
                except Gone:
                    pass
        except BaseException as e:
            self.soak.fail(self, e)

    def connect(self) -> None:
        """Connect to the running server, or to the next one."""
        if self.client is not None:
            self.client.sock.close()
            self.client = None
        while not self.soak.over.is_set() or self.soak.final:
            port = self.soak.port
            try:
                self.client = RespClient(port, 30)
                return
            except OSError:
                self.soak.changed.wait(0.05)

    def step(self) -> None:
        raise NotImplementedError

    def resolve(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError


class KeyWorker(Worker):
    """Values, counters, CAS, deletions, several keys at once."""

    def __init__(self, soak: "Soak", number: int) -> None:
        super().__init__(soak, number)
        self.held: dict[bytes, bytes] = {}
        self.under_way: dict[bytes, bytes | None] = {}  # the new values of keys, all or none of them; None: deleted

    def key(self) -> bytes:
        return b"k%d:%d" % (self.number, self.random.randrange(KEYS))

    def write(self, change: dict[bytes, bytes | None], *args: Word) -> Any:
        self.under_way = change
        reply = self.call(*args)
        self.take(change)
        return reply

    def take(self, change: dict[bytes, bytes | None]) -> None:
        for key, value in change.items():
            if value is None:
                self.held.pop(key, None)
            else:
                self.held[key] = value
        self.under_way = {}

    def step(self) -> None:
        key, value = self.key(), b"%d:" % self.steps + b"x" * self.random.choice((0, 10, 200, 3000))
        kind = self.random.randrange(12)
        if kind < 4:
            self.write({key: value}, "SET", key, value)
        elif kind < 5:
            change: dict[bytes, bytes | None] = {self.key(): b"%d:%d" % (self.steps, i) for i in range(5)}
            self.write(change, "MSET", *(word for item in change.items() for word in item if word is not None))
        elif kind < 6:
            had = key in self.held
            need(self.write({key: None}, "DEL", key) == had, f"DEL {key!r} answered a wrong count")
        elif kind < 8:
            counter = b"k%d:counter" % self.number
            count = int(self.held.get(counter, b"0")) + 1
            need(self.write({counter: b"%d" % count}, "INCR", counter) == count, "INCR answered a wrong number")
        elif kind < 9:
            if key in self.held:
                held, version = self.call("GETV", key)[1], self.call("GETV", key)[0]
                need(held == self.held[key], f"GETV {key!r}")
                need(self.write({key: value}, "CAS", key, version, value) > version, "CAS answered no later version")
        elif kind < 10:
            self.write({key: value}, "SET", key, value, "EX", 10_000_000)
        else:
            self.look(key)

    def look(self, key: bytes) -> None:
        found = self.call("GET", key)
        need(found == self.held.get(key), f"{key!r} is {found!r:.60}, and must be {self.held.get(key)!r:.60}")

    def resolve(self) -> None:
        change = self.under_way
        found = {key: self.call("GET", key) for key in change}
        if change and found == change:
            self.take(change)
        for key, value in found.items():
            need(value == self.held.get(key), f"{key!r} has neither its old nor its new value, or not all keys of a request changed")
        self.under_way = {}

    def finish(self) -> None:
        self.resolve()
        for number in range(KEYS):
            self.look(b"k%d:%d" % (self.number, number))


class QueueWorker(Worker):
    """Messages are enqueued, leased, acknowledged; each is delivered until it is acknowledged, and never after."""

    def __init__(self, soak: "Soak", number: int) -> None:
        super().__init__(soak, number)
        self.queue = b"q%d" % number
        self.there: set[bytes] = set()  # enqueued and not acknowledged
        self.maybe: set[bytes] = set()  # their enqueue or acknowledgement was perhaps done
        self.done: set[bytes] = set()
        self.taken: dict[bytes, bytes] = {}  # payload -> receipt
        self.configured = False
        self.put = 0  # the number of enqueues, so that no payload is used twice

    def step(self) -> None:
        if not self.configured:
            self.call("QCONFIG", self.queue, "MAXATTEMPTS", 0)
            self.configured = True
        kind = self.random.randrange(8)
        if kind < 3 and len(self.there) < 2000:
            self.put += 1
            payloads = [b"%d:%d:%d" % (self.number, self.put, i) for i in range(self.random.choice((1, 1, 5)))]
            self.maybe |= set(payloads)
            if len(payloads) == 1 and self.random.random() < 0.5:
                self.call("QENQUEUE", self.queue, payloads[0], "DELAY", 200, "PRIORITY", self.random.randrange(3))
            else:
                self.call("LPUSH", self.queue, *payloads)
            self.maybe -= set(payloads)
            self.there |= set(payloads)
        elif kind < 6:
            self.receive(self.call("QDEQUEUE", self.queue, "COUNT", 5, "LEASE", LEASE_MS))
        elif self.taken:
            payloads = self.random.sample(sorted(self.taken), min(len(self.taken), 4))
            receipts = [self.taken.pop(payload) for payload in payloads]
            if self.random.random() < 0.15:
                self.call("QNACK", self.queue, *receipts)
                return
            self.there -= set(payloads)
            self.maybe |= set(payloads)
            if self.call("QACK", self.queue, *receipts) == len(receipts):  # otherwise a receipt belonged to an earlier delivery
                self.maybe -= set(payloads)
                self.done |= set(payloads)

    def receive(self, messages: list[Any]) -> list[bytes]:
        for seq, payload, attempts in messages:
            need(payload not in self.done, f"{payload!r} was acknowledged and is delivered again")
            need(payload in self.there or payload in self.maybe, f"{payload!r} was never put in")
            self.maybe.discard(payload)
            self.there.add(payload)
            self.taken[payload] = b"%d-%d" % (seq, attempts)
        return [payload for _, payload, _ in messages]

    def resolve(self) -> None:
        self.taken = {}  # leased messages come back when their lease runs out

    def finish(self) -> None:
        found: set[bytes] = set()
        while messages := self.call("QDEQUEUE", self.queue, "COUNT", 100, "LEASE", 10_000_000):
            found |= set(self.receive(messages))
        missing = self.there - found
        need(not missing, f"{len(missing)} answered messages of {self.queue!r} are missing: {sorted(missing)[:3]}")


class StreamWorker(Worker):
    """Records appended, read in order, delivered to a group, trimmed."""

    def __init__(self, soak: "Soak", number: int) -> None:
        super().__init__(soak, number)
        self.stream = b"s%d" % number
        self.records: list[tuple[bytes, bytes]] = []  # (id, payload) of the present records, in order
        self.under_way = b""  # the payload of an append
        self.appended = 0
        self.trimming = False
        self.grouped = False
        self.lasting = False  # it has FAR_DEADLINE
        self.delivered: set[bytes] = set()
        self.acknowledged: set[bytes] = set()

    def step(self) -> None:
        if not self.grouped:
            self.ensure_group()
        kind = self.random.randrange(10)
        if kind < 5:
            self.appended += 1
            self.under_way = b"%d:%d" % (self.number, self.appended)
            ident = self.call("XADD", self.stream, "*", "data", self.under_way)
            self.records.append((ident, self.under_way))
            self.under_way = b""
        elif kind < 6 and len(self.records) > 2 * RECORDS_KEPT:
            self.trimming = True
            self.call("XTRIM", self.stream, "MAXLEN", RECORDS_KEPT)
            self.trimming = False
            del self.records[:-RECORDS_KEPT]
        elif kind < 8:
            self.deliver(20)
        elif self.records and self.random.random() < 0.1:
            need(self.call("EXPIREAT", self.stream, FAR_DEADLINE) == 1, "EXPIREAT found no stream")
            self.lasting = True
        else:
            self.look(50)

    def ensure_group(self) -> None:
        assert self.client is not None
        try:
            self.client.command("XGROUP", "CREATE", self.stream, "g", "0", "MKSTREAM")  # an error means that it exists
        except (OSError, ValueError) as e:
            raise Gone from e
        self.grouped = True

    def deliver(self, count: int) -> int:
        reply = self.call("XREADGROUP", "GROUP", "g", "c", "COUNT", count, "STREAMS", self.stream, ">")
        entries = reply[0][1] if reply else []
        known = dict(self.records)
        for ident, fields in entries:
            need(ident not in self.delivered, f"{ident!r} is new to the group for the second time")
            need(ident in known and known[ident] == fields[1], f"{ident!r} was delivered with another payload than was appended")
            self.delivered.add(ident)
        done = [ident for ident, _ in entries if self.random.random() < 0.7]
        if done:
            need(self.call("XACK", self.stream, "g", *done) == len(done), "XACK answered a wrong count")
            self.acknowledged |= set(done)
        return len(entries)

    def look(self, count: int) -> None:
        found = self.call("XREVRANGE", self.stream, "+", "-", "COUNT", count)
        expected = [(ident, [b"data", payload]) for ident, payload in reversed(self.records[-count:])]
        need([tuple(entry) for entry in found] == expected, f"the last records of {self.stream!r} are not those that were appended")

    def resolve(self) -> None:
        found = [(ident, fields[1]) for ident, fields in self.call("XRANGE", self.stream, "-", "+")]
        if self.under_way and found and found[-1][1] == self.under_way:
            self.records.append(found[-1])
        self.under_way = b""
        if self.trimming and len(found) < len(self.records):
            del self.records[:-RECORDS_KEPT]
        self.trimming = False
        need(found == self.records, f"{self.stream!r} holds {len(found)} records, and must hold {len(self.records)}")
        if self.lasting:
            need(self.call("EXPIRETIME", self.stream) == FAR_DEADLINE, f"{self.stream!r} has lost its deadline")
        if self.grouped:  # records whose delivery got no answer are pending
            self.ensure_group()
            idents = self.pending()
            self.delivered |= idents
            again = idents & self.acknowledged
            need(not again, f"{len(again)} records were acknowledged and are pending again")

    def pending(self) -> set[bytes]:
        """All pending records, read in portions: one reply holds a bounded number of records."""
        idents: set[bytes] = set()
        after = b"0"
        while True:
            reply = self.call("XREADGROUP", "GROUP", "g", "c", "COUNT", HISTORY_PORTION, "STREAMS", self.stream, after)
            entries = reply[0][1] if reply else []
            if not entries:
                break
            idents |= {ident for ident, _ in entries}
            after = entries[-1][0]
        count = self.call("XPENDING", self.stream, "g")[0]
        need(count == len(idents), f"{count} records are pending, and {len(idents)} were shown")
        return idents

    def finish(self) -> None:
        self.resolve()
        while self.deliver(100):
            pass
        missing = {ident for ident, _ in self.records} - self.delivered
        need(not missing, f"{len(missing)} records of {self.stream!r} were never delivered: {sorted(missing)[:3]}")


class SeriesWorker(Worker):
    """Points written in order, late, and again; read, counted; series deleted."""

    def __init__(self, soak: "Soak", number: int) -> None:
        super().__init__(soak, number)
        self.measurement = f"m{number}"
        self.series: dict[str, dict[int, float]] = {}  # by the tag `host`: time in ms -> value
        self.under_way: dict[str, dict[int, float]] = {}  # what a write adds
        self.deleting = ""  # the host
        self.written = 0

    def step(self) -> None:
        kind = self.random.randrange(10)
        if kind < 6:
            hosts = self.random.sample([f"h{number}" for number in range(SERIES_HOSTS)], self.random.choice((1, 1, 4)))
            self.write({host: self.points(self.random.choice((1, 1, 5, 40))) for host in hosts})
        elif kind < 9:
            self.look(self.random.randrange(self.written + 1))
        elif self.random.random() < 0.2 and self.series:
            self.delete(self.random.choice(sorted(self.series)))

    def points(self, count: int) -> dict[int, float]:
        """The next points; a quarter of them are late, or replace others."""
        start = self.random.randrange(self.written + 1) if self.random.random() < 0.25 else self.written
        self.written = max(self.written, start + count)
        return {time: self.steps + time / 8 for time in range(start, start + count)}

    def write(self, points: dict[str, dict[int, float]]) -> None:
        self.under_way = points
        rows = [
            f"{self.measurement},host={host} v={value} {time * 1_000_000}"
            for host, found in points.items()
            for time, value in found.items()
        ]
        need(self.call("TS.WRITE", "\n".join(rows)) == len(rows), "TS.WRITE answered a wrong count")
        self.take()

    def take(self) -> None:
        for host, points in self.under_way.items():
            self.series.setdefault(host, {}).update(points)
        self.under_way = {}

    def delete(self, host: str) -> None:
        """By the binary protocol: RESP has no such command."""
        self.deleting = host
        try:
            with Client(f"flo://127.0.0.1:{self.soak.port}") as client:
                count = client.ts.delete(self.measurement, tags=f"host={host}")
        except (OSError, FloError) as e:
            raise Gone from e
        need(count == 1, f"the deletion of {host} answered {count}")
        del self.series[host]
        self.deleting = ""

    def read(self, start: int, stage: str = "") -> dict[str, dict[int, float]]:
        text = self.call("TS.QUERY", f"{self.measurement}[{start}..{start + SERIES_READ - 1}]{stage}")
        return {each["tags"]["host"]: dict(each["points"]) for each in json.loads(text)["series"]}

    def within(self, start: int) -> dict[str, dict[int, float]]:
        cut = {host: {t: v for t, v in points.items() if start <= t < start + SERIES_READ} for host, points in self.series.items()}
        return {host: points for host, points in cut.items() if points}

    def look(self, start: int) -> None:
        expected = self.within(start)
        need(self.read(start) == expected, f"the points of {self.measurement} from {start} on are not those that were written")
        counts = {host: {start: float(len(points))} for host, points in expected.items()}
        need(self.read(start, " | count()") == counts, f"the counts of {self.measurement} from {start} on are wrong")

    def resolve(self) -> None:
        times = {at for points in self.under_way.values() for at in points}
        if times and all(self.holds(host, points) for host, points in self.under_way.items()):
            self.take()
        if self.deleting and not any(self.deleting in self.read(start) for start in range(0, self.written + 1, SERIES_READ)):
            self.series.pop(self.deleting, None)
        self.under_way, self.deleting = {}, ""
        for start in sorted({at - at % SERIES_READ for at in times}):
            self.look(start)

    def holds(self, host: str, points: dict[int, float]) -> bool:
        start = min(points)
        found = self.read(start).get(host, {})
        return all(found.get(time) == value for time, value in points.items())

    def finish(self) -> None:
        self.resolve()
        for start in range(0, self.written + 1, SERIES_READ):
            self.look(start)


class ActionWorker(Worker):
    """Runs are invoked, executed, failed, given back and cancelled; each ends once, with the result that was reported. A schedule makes
    runs of another action, one for each of its times that it has dealt with."""

    def __init__(self, soak: "Soak", number: int) -> None:
        super().__init__(soak, number)
        self.action, self.scheduled = f"a{number}", f"scheduled-{number}"
        self.flo = Client()
        self.invoked = 0
        self.invoking = False
        self.live: dict[str, int] = {}  # run -> its latest attempt
        self.held: dict[str, int] = {}  # run -> the attempt
        self.ended: dict[str, tuple[str, bytes]] = {}  # run -> its state and output
        self.ending: dict[str, tuple[str, bytes]] = {}  # a run under way to its end

    def connect(self) -> None:
        super().connect()
        self.flo.close()
        self.flo = Client(f"flo://127.0.0.1:{self.soak.port}")

    def step(self) -> None:
        try:
            self.request()
        except Disconnected as e:
            raise Gone from e

    def request(self) -> None:
        kind = self.random.randrange(10)
        if kind < 3 and len(self.live) < RUNS_LIVE:
            self.invoked += 1
            self.invoking = True
            self.invoke()
        elif kind < 6:
            self.take()
        elif kind == 6 and self.random.random() < 0.05:
            self.check_schedule()
        elif kind == 6 and self.ended:
            self.check(self.random.choice(tuple(self.ended)))
        elif kind == 7 and self.live and self.random.random() < 0.2:
            run = self.random.choice(tuple(self.live))
            self.ending[run] = "cancelled", b""
            self.flo.actions.cancel(run)
            self.end(run)
        elif self.held:
            self.report(self.random.choice(tuple(self.held)))

    def invoke(self) -> None:
        """Invoke, or find out the run of an invocation whose answer was lost."""
        chance = random.Random(self.invoked)
        key = f"{self.soak.seed}/{self.invoked}"
        delay = chance.choice((None, None, DELAY_MS))
        run = self.flo.actions.invoke(self.action, key, idempotency_key=key, priority=chance.randrange(3), delay=delay)
        need(run not in self.ended and run not in self.live, f"the run {run} is given to a new invocation")
        self.live[run] = 0
        self.invoking = False

    def take(self, block: int | None = None) -> bool:
        run = self.flo.workers.take(self.action, block=block)
        if run is not None:
            self.receive(run)
        return run is not None

    def receive(self, run: Assignment) -> None:
        need(run.run_id not in self.ended, f"the run {run.run_id} has ended and is delivered again")
        need(run.run_id in self.live, f"the run {run.run_id} was never invoked")
        need(run.attempt > self.live[run.run_id], f"the run {run.run_id} has attempt {run.attempt} behind {self.live[run.run_id]}")
        stale = self.live[run.run_id]
        self.live[run.run_id] = self.held[run.run_id] = run.attempt
        if stale:
            with suppress(Conflict):
                self.flo.workers.complete(run.run_id, b"stale", worker_id=self.action, attempt=stale)
                raise Wrong(f"the run {run.run_id} took a report of attempt {stale} while it is at {run.attempt}")

    def report(self, run: str) -> None:
        attempt, kind = self.held.pop(run), self.random.random()
        output = b"%d" % attempt
        try:
            if kind < 0.1:
                self.flo.workers.fail(run, output, worker_id=self.action, attempt=attempt, retry=True)
            elif kind < 0.2:
                self.flo.workers.release(run, worker_id=self.action, attempt=attempt)
            elif kind < 0.3:
                self.ending[run] = "failed", output
                self.flo.workers.fail(run, output, worker_id=self.action, attempt=attempt)
                self.end(run)
            else:
                self.ending[run] = "completed", output
                self.flo.workers.complete(run, output, worker_id=self.action, attempt=attempt)
                self.end(run)
        except Conflict:  # the lease ran out, or the run was cancelled
            self.ending.clear()

    def end(self, run: str) -> None:
        """The run has ended as it should."""
        self.ended[run] = self.ending.pop(run)
        del self.live[run]
        self.held.pop(run, None)
        if len(self.ended) > RUNS_KNOWN:
            del self.ended[next(iter(self.ended))]

    def check(self, run: str) -> None:
        found = self.flo.actions.result(run)
        need(found == self.ended[run], f"the run {run} ended as {self.ended[run]} and is {found}")

    def check_schedule(self) -> None:
        """What the schedule says it has made is there."""
        before = self.made()
        (action,) = self.flo.actions.list_page(self.scheduled)["actions"]
        count = sum(action["runs"].values())
        need(before <= count <= self.made(), f"the schedule has made {before} runs or a few more, and {count} are there")

    def made(self) -> int:
        (schedule,) = self.flo.schedules.list_page(self.scheduled)["schedules"]
        return int(schedule["runs"])

    def resolve(self) -> None:
        self.held = {}  # these runs come back when their leases run out
        try:
            self.flo.actions.register(self.action, timeout=LEASE_MS, max_attempts=0, retry_delay=0)
            self.flo.workers.register(self.action, [self.action], concurrency=2 * RUNS_LIVE)
            self.flo.actions.register(self.scheduled)
            try:
                self.check_schedule()
            except NotFound:
                self.flo.schedules.put(self.scheduled, json.dumps({"action": self.scheduled, "every_ms": EVERY_MS}))
            if self.invoking:
                self.invoke()
            for run in tuple(self.ending):
                found = self.flo.actions.result(run)
                if found == self.ending[run]:
                    self.end(run)
                else:
                    wanted = self.ending.pop(run)
                    need(found[0] in ("pending", "running"), f"the run {run} is {found}, not {wanted}")
        except Disconnected as e:
            raise Gone from e

    def finish(self) -> None:
        self.resolve()
        while self.live.keys() - self.held.keys() and self.take(block=5 * DELAY_MS):  # one that was just invoked may be delayed
            pass
        need(not self.take(), f"more runs of {self.action!r} are delivered than were invoked")
        missing = self.live.keys() - self.held.keys()
        need(not missing, f"{len(missing)} runs of {self.action!r} are not delivered: {sorted(missing)[:3]}")
        for run in self.ended:
            self.check(run)
        wait_until(self.made, "a run of the schedule: the clock is ahead of all its times")
        self.check_schedule()
        self.flo.close()


class Soak:
    """The server, its lives, and the workers."""

    def __init__(self, seed: int, python: str) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.directory = Path(tempfile.mkdtemp(prefix="flo-soak-"))
        clock = self.directory / "clock"
        clock.write_bytes(bytes(8))
        with clock.open("r+b") as file:
            self._offset = mmap.mmap(file.fileno(), 8)
        self._ms = self._highest = 0
        self.over = threading.Event()
        self.changed = threading.Event()
        self.final = False
        self.failures: list[str] = []
        self.port = 0
        self.ends = {"killed": 0, "stopped": 0, "compactions": 0, "steps": 0}
        self.server = FloProcess(self.directory / "data", program=("-c", SERVER.format(clock=str(clock))), python=python, start=False)
        self.server.environment = {"FLO_ACTIONS_KEEP_AGE": "87600h"}  # steps of the clock forget no run
        self.workers: list[Worker] = [
            kind(self, number) for kind in (KeyWorker, QueueWorker, StreamWorker, SeriesWorker, ActionWorker) for number in range(2)
        ]

    def fail(self, worker: Worker, e: BaseException) -> None:
        """Note a failure and end the run."""
        self.failures.append(f"{type(worker).__name__} {worker.number}, step {worker.steps}: {type(e).__name__}: {e}")
        self.over.set()

    def step_clock(self, ms: int) -> None:
        """Move the server's wall clock."""
        self._ms += ms
        self._highest = max(self._highest, self._ms)
        self._offset[:8] = struct.pack("<q", self._ms)

    def run(self, seconds: float, kills: int) -> None:
        """Start and end servers until the time is over or the number of kills is reached."""
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=worker.run) for worker in self.workers]
        try:
            self._start()
            for thread in threads:
                thread.start()
            while time.monotonic() < end and not self.over.is_set() and (not kills or self.ends["killed"] < kills):
                self._live(min(self.random.expovariate(1 / LIFE_SECONDS), max(end - time.monotonic(), 0)))
            self.over.set()
            for thread in threads:
                thread.join()
            if not self.failures:
                self._finish()
        finally:
            self.over.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            for worker in self.workers:
                if worker.client is not None:
                    worker.client.sock.close()
            self.server.__exit__(None, None, None)
            if not self.failures:
                shutil.rmtree(self.directory)

    def _start(self) -> None:
        self.server.start()
        self.port = self.server.port
        self.changed.set()

    def _live(self, seconds: float) -> None:
        """Let the server live, and end it."""
        if self.random.random() < 0.3:
            self.step_clock(self.random.randrange(-STEP_SECONDS, STEP_SECONDS) * 1000)
            self.ends["steps"] += 1
        self.over.wait(seconds)
        if self.random.random() < 0.7:
            assert self.server.process is not None
            self.server.process.send_signal(signal.SIGUSR1)
            self.ends["compactions"] += 1
            self.over.wait(self.random.random() * 0.4)  # so that some compactions are done, and some under way
        if not self.server.alive():
            raise Wrong(f"the server ended by itself: {self.server.output()[-2000:]}")
        self.changed.clear()
        if self.random.random() < 0.85:
            self.server.kill()
            self.ends["killed"] += 1
        else:
            status = self.server.stop()
            self.ends["stopped"] += 1
            if status:
                raise Wrong(f"the server stopped with {status}: {self.server.output()[-2000:]}")
        if self.random.random() < 0.1:
            self._check()
        self._start()

    def _check(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "flo", "check", str(self.directory / "data")], cwd=ROOT, capture_output=True, text=True
        )
        need(done.returncode == 0, f"flo check: {done.stdout[-500:]}{done.stderr[-500:]}")

    def _finish(self) -> None:
        """Let every lease run out and check everything; check again after a stop and a start."""
        self.final = True
        self.step_clock(self._highest - self._ms + STEP_SECONDS * 1000)  # also leases that began when the clock was furthest ahead
        for last in (False, True):
            for worker in self.workers:
                worker.connect()
                try:
                    if last and isinstance(worker, (QueueWorker, ActionWorker)):
                        continue  # its messages or runs are leased now
                    worker.finish()
                except (Wrong, Gone) as e:
                    self.fail(worker, e)
            need(self.server.stop() == 0, "the server did not stop")
            self._check()
            if not last:
                self._start()


def main() -> int:
    """Run, and print what was done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--python", default=sys.executable)
    args = parser.parse_args()
    soak = Soak(args.seed, args.python)
    try:
        soak.run(args.seconds, args.kills)
    except Wrong as e:
        soak.failures.append(str(e))
    steps = {f"{type(worker).__name__} {worker.number}": worker.steps for worker in soak.workers}
    print(f"seed {args.seed}: {soak.ends}; steps {steps}")
    for failure in soak.failures:
        print(f"WRONG: {failure} (the directory is {soak.directory})")
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
