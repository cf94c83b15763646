"""Random contents of a database, for tests of what is accounted: they grow and are removed again, a slice at a time.

A shape keeps no list of what it made, which would be measured with it: names follow from numbers.
"""

import random
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Protocol

from flo.engine import Engine, Namespace
from flo.engine.operation import run_job
from flo.engine.stream import Bounds
from tests.support.points import key_of, write

BATCH = 200
LATER_MS = 25 * 3600 * 1000  # past every deadline but the far ones, and past the age of history
HOUR_MS = 3600 * 1000


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


class Shape(Protocol):
    """Something that grows and goes."""

    def grow(self) -> None:
        """Add a slice."""

    def remove(self, part: float) -> None:
        """Remove what there is but for this part."""


def name_of(number: int, size: int) -> bytes:
    """A name of `size` bytes, in no order, for each number below 2^40."""
    return b"%013d" % (number * 7_919_993 % (1 << 40)) + b"n" * (size - 13)


class Keys:
    """Strings, counters or documents; written once or over and over, with deadlines or without."""

    def __init__(self, engine: Engine, space: Namespace, clock: Clock, rng: random.Random) -> None:
        self.engine, self.kv, self.clock, self.rng = engine, space.kv, clock, rng
        self.name_bytes = rng.choice([13, 40, 300, 5000, 60_000])
        self.value_bytes = rng.choice([1, 60, 900, 20_000])
        self.kind = rng.choice(["put", "put", "incr", "json"])
        self.deadline = rng.choice([0, 0, HOUR_MS, 100, 4 * HOUR_MS])  # how far they are apart
        self.overwrites, self.makes_again = rng.random() < 0.3, rng.random() < 0.3
        self.scans = rng.random() < 0.3
        self.first = self.end = 0  # numbers of the keys that are there

    def __repr__(self) -> str:
        parts = ["name_bytes", "value_bytes", "kind", "deadline", "overwrites", "makes_again", "scans"]
        return "Keys(" + ", ".join(f"{part}={getattr(self, part)}" for part in parts) + ")"

    def _write(self, number: int) -> None:
        key = name_of(number, self.name_bytes)
        if self.kind == "incr":
            self.kv.incr(key)
        elif self.kind == "json":
            self.kv.json_set(key, b'{"value":"%s"}' % (b"v" * self.value_bytes))
        else:
            self.kv.put(key, self.rng.randbytes(self.value_bytes))
        if self.deadline:
            self.kv.touch(key, self.clock.now + LATER_MS + number * self.deadline)

    def grow(self) -> None:
        count = BATCH if self.name_bytes + self.value_bytes < 10_000 else 20
        for number in range(self.end, self.end + count):
            self._write(number)
            if self.overwrites:
                self._write(self.rng.randrange(self.first, number + 1))
            if self.makes_again and number % 2:
                self.kv.delete(name_of(number, self.name_bytes))
                self._write(number)
        self.end += count
        if self.scans:
            self.kv.cursors.number((name_of(self.end, self.name_bytes), 0), 0)

    def remove(self, part: float) -> None:
        first = self.end - int((self.end - self.first) * part)
        for start in range(self.first, first, BATCH):
            with self.engine.batch():
                self.kv.delete_many([name_of(number, self.name_bytes) for number in range(start, min(first, start + BATCH))])
        self.first = first


class Messages:
    """Queues: few or many, of few priorities or all; messages that wait, are late, are held, came back, are dead."""

    def __init__(self, engine: Engine, space: Namespace, clock: Clock, rng: random.Random) -> None:
        self.engine, self.queues, self.clock, self.rng = engine, space.queues, clock, rng
        self.many = rng.choice([1, 1, 30, 100_000])
        self.name_bytes = rng.choice([13, 200, 20_000])
        self.priorities = rng.choice([1, 1, 7, 256])
        self.delay = rng.choice([0, 0, HOUR_MS, 60 * HOUR_MS])
        self.dedup_bytes = rng.choice([0, 0, 0, 13, 10_000])
        self.fate = rng.choice(["stays", "leased", "back", "dead", "requeued", "taken"])
        self.way = rng.choice(["taken", "purged", "deleted"])
        self.made = 0

    def __repr__(self) -> str:
        parts = ["many", "name_bytes", "priorities", "delay", "dedup_bytes", "fate", "way"]
        return "Messages(" + ", ".join(f"{part}={getattr(self, part)}" for part in parts) + ")"

    def grow(self) -> None:
        names: dict[int, bytes] = {}
        for number in range(self.made, self.made + BATCH):
            queue = number // self.priorities % self.many
            name = names.setdefault(queue, name_of(queue, self.name_bytes))
            dedup = name_of(number, self.dedup_bytes) if self.dedup_bytes else None
            self.queues.enqueue(name, b"x", priority=number % self.priorities, delay=self.delay and self.delay + number, dedup=dedup)
        self.made += BATCH
        if self.fate != "stays":
            for name in names.values():
                self._use(name)

    def _use(self, name: bytes) -> None:
        while taken := self.queues.dequeue(name, 100, lease=40 * HOUR_MS, acknowledge=self.fate == "taken"):
            receipts = [(message.seq, message.attempts) for message in taken]
            if self.fate in ("dead", "requeued"):
                self.queues.nack(name, receipts, dead=True)
            if self.fate == "requeued":
                self.queues.requeue(name, [seq for seq, _ in receipts])
            elif self.fate == "back":
                self.queues.nack(name, receipts, delay=self.rng.choice([0, HOUR_MS]))
            if self.fate in ("back", "requeued"):
                break

    def remove(self, part: float) -> None:
        names = sorted(self.queues.store.queues)
        for name in names[: len(names) - int(len(names) * part)]:
            if self.way == "deleted":
                self.queues.delete(name)
            elif self.way == "purged":
                self.queues.purge(name)
                self.queues.delete_dead(name)
            else:
                self._take(name)

    def _take(self, name: bytes) -> None:
        self.queues.delete_dead(name)
        while self.queues.dequeue(name, 100, acknowledge=True):
            pass
        queue = self.queues.store.find(name)
        while queue is not None and queue.counts != [0, 0, 0, 0]:
            held = list(islice((seq for shard in self.queues.store.shards for seq in shard), 2000))
            if not self.queues.ack(name, [(seq, 0) for seq in held]):
                self.queues.purge(name)


class Records:
    """Streams: few or many, with groups or without, with consumers of long names, whose records are pending or dead."""

    def __init__(self, engine: Engine, space: Namespace, clock: Clock, rng: random.Random) -> None:
        self.engine, self.streams, self.clock, self.rng = engine, space.streams, clock, rng
        self.many = rng.choice([1, 1, 30, 100_000])
        self.name_bytes = rng.choice([13, 200, 20_000])
        self.groups = rng.choice([0, 1, 1, 5])
        self.own = rng.random() < 0.5
        self.consumers, self.consumer_bytes = rng.choice([1, 50, 3000]), rng.choice([13, 1000])
        self.way = rng.choice(["acknowledged", "destroyed", "middle", "trimmed", "deleted"])
        self.made = 0

    def __repr__(self) -> str:
        parts = ["many", "name_bytes", "groups", "own", "consumers", "consumer_bytes", "way"]
        return "Records(" + ", ".join(f"{part}={getattr(self, part)}" for part in parts) + ")"

    def grow(self) -> None:
        names: dict[int, bytes] = {}
        for number in range(self.made, self.made + BATCH):
            stream = number % self.many
            name = names.setdefault(stream, name_of(stream, self.name_bytes))
            self.streams.append(name, b"x" * 100)
        for name in names.values():
            for group in range(self.groups):
                found = self.streams.store.streams[name].group(b"g%d" % group)
                if found is None:
                    self.streams.groups.create(name, b"g%d" % group, own=self.own, ack_timeout=40 * HOUR_MS, max_deliver=1)
                for start in range(0, BATCH, 50):
                    consumer = name_of((self.made + start) // 50 % self.consumers, self.consumer_bytes)
                    self.streams.groups.read(name, b"g%d" % group, consumer, 50)
        self.made += BATCH

    def remove(self, part: float) -> None:
        names = sorted(self.streams.store.streams)
        for name in names[: len(names) - int(len(names) * part)]:
            stream = self.streams.store.streams[name]
            if self.way == "deleted" or not self.groups:
                self.streams.delete(name)
                continue
            for group in list(stream.groups.values()):
                if self.way == "destroyed":
                    self.streams.groups.destroy(name, group.name)
                while group.pending and self.way != "destroyed":
                    self.streams.groups.ack(name, group.name, list(islice(group.pending, 1000)))
            if self.way == "middle":
                self._thin_out(name)
            elif self.way == "trimmed":
                self.streams.trim(name, Bounds(max_len=1))

    def _thin_out(self, name: bytes) -> None:
        """Delete 19 of 20 records."""
        stream = self.streams.store.streams[name]
        at = 0
        while at < stream.last:
            found = stream.ascending(at + 1, stream.last, 1000)
            at = found[-1][0] if found else stream.last
            self.streams.delete_records(name, [ident for place, (ident, _) in enumerate(found) if place % 20])


class Series:
    """Time series: few or many, with long names or short, whose points are open, in chunks, or late."""

    def __init__(self, engine: Engine, space: Namespace, clock: Clock, rng: random.Random) -> None:
        self.engine, self.part, self.clock, self.rng = engine, space.ts, clock, rng
        self.many = rng.choice([1, 30, 3000, 1_000_000])
        self.name_bytes, self.tags = rng.choice([13, 200, 5000]), rng.choice([1, 1, 5])
        self.measurements = rng.choice([1, 50])
        self.points = rng.choice([1, 10, 40])  # at once
        self.late = rng.random() < 0.3
        self.seals = rng.choice([0, 0.1, 1])
        self.made = 0

    def __repr__(self) -> str:
        parts = ["many", "name_bytes", "tags", "measurements", "points", "late", "seals"]
        return "Series(" + ", ".join(f"{part}={getattr(self, part)}" for part in parts) + ")"

    def _key(self, number: int) -> bytes:
        tags = {f"tag{at}": (name_of(number, self.name_bytes) if not at else b"%d" % (number % 10**at)).decode() for at in range(self.tags)}
        return key_of(f"m{number % self.measurements}", **tags)

    def grow(self) -> None:
        start = self.rng.randrange(self.made + 1) if self.late else self.made
        points = {(start + at) * 10: self.rng.random() for at in range(self.points)}
        count = min(BATCH // 5 if self.seals else BATCH, self.many)  # a seal takes as long as many points
        write(self.part, {self._key(number % self.many): points for number in range(self.made, self.made + count)})
        self.made += max(count, self.points)
        while self.seals and len(self.part.store.open) > BATCH / self.seals:
            self._seal()
        if self.seals == 1:
            self._seal()

    def _seal(self) -> None:
        self.part._seal(next(iter(self.part.store.open.values())))
        self.part._lower()

    def remove(self, part: float) -> None:
        names = self.part.names()
        for name in names[: len(names) - int(len(names) * part)]:
            with self.engine.batch():
                run_job(self.part.delete_job(name, {}))


class Runs:
    """Actions: few or many, with keys and labels or without, whose runs wait, are held, came back, or have ended."""

    def __init__(self, engine: Engine, space: Namespace, clock: Clock, rng: random.Random) -> None:
        self.engine, self.actions, self.clock, self.rng = engine, space.actions, clock, rng
        self.many = rng.choice([1, 1, 30, 3000])
        self.name_bytes, self.key_bytes = rng.choice([13, 200, 5000]), rng.choice([13, 200])
        self.key = rng.choice(["", "", "concurrency_key", "unique_key", "idempotency_key"])
        self.keys = rng.choice([1, 50, 1 << 30])
        self.delay = rng.choice([0, 0, HOUR_MS, 60 * HOUR_MS])
        self.fate = rng.choice(["waits", "held", "held", "back", "ended", "ended"])
        self.labels = rng.choice([1, 1, 50, 1 << 30]) if self.fate == "waits" else 1  # such that a worker may take them, else
        self.attempts, self.error_bytes = rng.choice([1, 1, 3]), rng.choice([0, 800])
        self.made = 0

    def __repr__(self) -> str:
        parts = ["many", "name_bytes", "key_bytes", "key", "keys", "labels", "delay", "fate", "attempts", "error_bytes"]
        return "Runs(" + ", ".join(f"{part}={getattr(self, part)}" for part in parts) + ")"

    def grow(self) -> None:
        names: dict[int, bytes] = {}
        for number in range(self.made, self.made + BATCH):
            name = names.setdefault(number % self.many, name_of(number % self.many, self.name_bytes))
            if number < self.many:
                self.actions.register(name, timeout=60 * HOUR_MS, max_attempts=0, retry_delay=0, concurrency=1 << 30)
            key = {self.key: name_of(number % self.keys, self.key_bytes)} if self.key else {}
            labels = b'{"l":%d}' % (number % self.labels) if self.labels > 1 else b""
            delay = self.delay if self.fate == "waits" else 0
            self.actions.invoke(name, b"x", delay=delay and delay + number, labels=labels, **key)  # type: ignore[arg-type]
        if self.fate != "waits":
            self.actions.workers.register(b"w", list(names.values()), concurrency=1 << 30)
            self._use()
        self.made += BATCH

    def _use(self) -> None:
        """Have all that the worker may take come to their fate."""
        for attempt in range(1, self.attempts + 1):
            held = []
            while (found := self.actions.workers.take(b"w")) is not None:
                held.append(found.run)
            for run in held:
                if attempt < self.attempts or self.fate == "back":
                    delay = HOUR_MS if attempt == self.attempts else None
                    self.actions.workers.fail(run, b"e" * self.error_bytes, worker_id=b"w", retry=True, delay=delay)
                elif self.fate == "ended":
                    self.actions.workers.complete(run, b"", worker_id=b"w")

    def remove(self, part: float) -> None:
        names = self.actions.names()
        for name in names[: len(names) - int(len(names) * part)]:
            with self.engine.batch():
                for line in list(self.actions.store.actions[name].lines.values()):
                    for shown in (0, 1):
                        for seq in list(line.shown[shown].after(0)) if shown in line.shown else []:
                            self.actions.cancel(b"%d" % seq)
                self.actions.delete(name)
                while self.engine.sweep():
                    pass


class Spaces:
    """Namespaces with a few keys each."""

    def __init__(self, engine: Engine, space: Namespace, clock: Clock, rng: random.Random) -> None:
        self.engine, self.keys = engine, rng.choice([0, 10, 500])
        self.prefix, self.first, self.end = space.name, 0, 0

    def __repr__(self) -> str:
        return f"Spaces(keys={self.keys})"

    def _name(self, number: int) -> str:
        return f"{self.prefix}.{number}"

    def grow(self) -> None:
        for number in range(self.end, self.end + 5):
            kv = self.engine.create_namespace(self._name(number)).kv
            for key in range(self.keys):
                kv.put(name_of(key, 20), b"value")
        self.end += 5

    def remove(self, part: float) -> None:
        first = self.end - int((self.end - self.first) * part)
        for number in range(self.first, first):
            self.engine.flush([self.engine.namespace(self._name(number))])
            self.engine.delete_namespace(self._name(number))
        self.first = first


Kinds = Sequence[Callable[[Engine, Namespace, Clock, random.Random], Any]]
KINDS: Kinds = (Keys, Keys, Messages, Messages, Records, Records, Spaces)


def random_shapes(engine: Engine, clock: Clock, rng: random.Random, kinds: Kinds = KINDS) -> list[Shape]:
    """One to three shapes, each in a namespace of its own."""
    return [rng.choice(kinds)(engine, engine.create_namespace(f"space{at}"), clock, rng) for at in range(rng.choice([1, 1, 2, 3]))]
