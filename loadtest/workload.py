"""Mixes of commands over keys and values of many sizes, and the clients that send them: used by mix.py and paired.py.

The requests of a workload are encoded beforehand, REQUESTS of them, the same on every run. Keys are drawn by Zipf's law (exponent ZIPF)
from KEYS names; chance decides which names are popular. A value has 3 to 400 bytes; its logarithm is uniform, so half of the values have
fewer than 35 bytes.

Each client has a part of the requests of its own and goes through it again and again, `depth` requests at a time: it waits for all their
answers before it sends the next. Answers are counted, not parsed, so that the generator costs less than the server. An error among them
ends the program.

resp-benchmark 0.2.5 (PyPI) can send such mixes, by a Lua script. It is not used here: 16 deep it takes 3.4 us of CPU for a request, where
this generator takes 0.8 and Redis itself 1.8, so that on two cores Redis reached 190 k/s of the cache mix with it and 286 k/s with this
one. Its slices are whole seconds that begin with connecting.
"""

import itertools
import math
import random
import select
import socket
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from loadtest.generator import resp  # noqa: E402

CLIENTS = 50
KEYS = 200_000
REQUESTS = 240_000  # so many divide by 100 weights, 6 queues, 50 clients and 16 requests a batch without a rest
ZIPF = 0.99  # YCSB's exponent
BYTES_MIN, BYTES_MAX = 3, 400
VALUES = 4_000  # different values; more would only take memory
QUEUES, STREAMS = 6, 4
QUEUED = 240_000  # messages at the start: pops that run ahead of pushes still find some
STREAM_MAX = b"10000"
SECONDS = b"3600"  # a key's time to live: none runs out during a run
SESSION_SECONDS = b"1800"
FILL_DEPTH = 1_000  # requests sent at once by the client that fills a server
RECEIVE_BYTES = 64 << 10
SILENCE_SECONDS = 30  # a server that sends nothing for so long is stuck

Request = tuple[bytes, int]  # its bytes; how many lines its answer has that are not the bytes of a string


class Draw:
    """Keys and values by chance, the same on every run."""

    def __init__(self, prefix: str = "key") -> None:
        self.chance = random.Random(1)
        self.names = [b"%b:%d" % (prefix.encode(), number) for number in range(KEYS)]
        self.chance.shuffle(self.names)
        weights = itertools.accumulate(1 / (rank + 1) ** ZIPF for rank in range(KEYS))
        self._keys = itertools.cycle(self.chance.choices(self.names, cum_weights=list(weights), k=2 * REQUESTS))
        low, high = math.log(BYTES_MIN), math.log(BYTES_MAX + 1)
        sizes = [int(math.exp(self.chance.uniform(low, high))) for _ in range(VALUES)]
        self._values = [bytes(self.chance.choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=size)) for size in sizes]

    def key(self) -> bytes:
        """A key by Zipf's law."""
        return next(self._keys)

    def value(self) -> bytes:
        """A value of 3 to 400 bytes."""
        return self.chance.choice(self._values)

    def document(self) -> bytes:
        """A small JSON document."""
        return b'{"name":"%b","age":%d,"tags":["a","b"]}' % (self.value()[:40], self.chance.randrange(100))

    def number(self) -> bytes:
        """A user's number."""
        return b"%d" % self.chance.randrange(KEYS)

    def stream(self) -> bytes:
        """One of the streams."""
        return b"stream:%d" % self.chance.randrange(STREAMS)


Make = Callable[[Draw, int], Request]  # makes the next request of a kind, of which there were so many before


def request(*words: bytes | Callable[[Draw], bytes], lines: int = 1) -> Make:
    """A kind of request: words as they are, and words that are drawn anew for each request."""
    return lambda draw, _: (resp(*[word if isinstance(word, bytes) else word(draw) for word in words]), lines)


def push(draw: Draw, number: int) -> Request:
    """LPUSH to each queue in turn, so that all are pushed to as often as `pop` takes from them."""
    return resp(b"LPUSH", b"queue:%d" % (number % QUEUES), draw.value()), 1


def pop(draw: Draw, number: int) -> Request:
    """RPOP from each queue in turn."""
    return resp(b"RPOP", b"queue:%d" % (number % QUEUES)), 1


GET = request(b"GET", Draw.key)
SET = request(b"SET", Draw.key, Draw.value)
SET_EX = request(b"SET", Draw.key, Draw.value, b"EX", SECONDS)
SETEX = request(b"SETEX", Draw.key, SESSION_SECONDS, Draw.value)
DEL = request(b"DEL", Draw.key)
EXISTS = request(b"EXISTS", Draw.key)
EXPIRE = request(b"EXPIRE", Draw.key, SESSION_SECONDS)
TTL = request(b"TTL", Draw.key)
MGET = request(b"MGET", Draw.key, Draw.key, Draw.key, lines=4)
THREE_FIELDS = (b"user", Draw.number, b"action", b"view", b"data", Draw.value)
XADD_TRIMMED = request(b"XADD", Draw.stream, b"MAXLEN", b"~", STREAM_MAX, b"*", *THREE_FIELDS)


def weighted(*kinds: tuple[int, Make]) -> Callable[[Draw], list[Request]]:
    """REQUESTS requests of these kinds, exactly by their weights, in an order by chance."""

    def make(draw: Draw) -> list[Request]:
        total = sum(weight for weight, _ in kinds)
        order = [kind for kind, (weight, _) in enumerate(kinds) for _ in range(REQUESTS * weight // total)]
        draw.chance.shuffle(order)
        before = [0] * len(kinds)
        found = []
        for kind in order:
            found.append(kinds[kind][1](draw, before[kind]))
            before[kind] += 1
        return found

    return make


def limits(draw: Draw) -> list[Request]:
    """INCR, then EXPIRE of the same key by the same client, as a rate limiter does."""
    keys = [draw.key() for _ in range(REQUESTS // 2)]
    return [(resp(*words), 1) for key in keys for words in ((b"INCR", key), (b"EXPIRE", key, SECONDS))]


def all_keys(*words: bytes) -> Callable[[Draw], list[Request]]:
    """SET of every key, with these further words."""
    return lambda draw: [(resp(b"SET", name, draw.value(), *words), 1) for name in draw.names]


@dataclass(frozen=True)
class Mix:
    """What clients of a kind ask, and what is there before."""

    requests: Callable[[Draw], list[Request]]
    fill: Callable[[Draw], list[Request]]


MIXES = {
    "cache": Mix(weighted((70, GET), (20, SET_EX), (5, DEL), (5, EXISTS)), all_keys(b"EX", SECONDS)),
    "limiter": Mix(limits, limits),
    "session": Mix(weighted((50, GET), (25, SETEX), (15, EXPIRE), (5, TTL), (5, MGET)), all_keys(b"EX", SESSION_SECONDS)),
    "store": Mix(weighted((50, GET), (50, SET)), all_keys()),
    "queue": Mix(weighted((50, push), (50, pop)), lambda draw: [push(draw, number) for number in range(QUEUED)]),
    "events": Mix(weighted((100, XADD_TRIMMED)), lambda draw: [XADD_TRIMMED(draw, number) for number in range(STREAMS * 10_000)]),
}


class Load(Protocol):
    """Clients that can be let loose again and again."""

    def restore(self) -> None:
        """Put back what the last run used up."""

    def run(self, seconds: float) -> tuple[int, float]:
        """(requests answered, seconds that took). Nothing is under way at its end."""

    def close(self) -> None:
        """End the connections."""


Batches = list[tuple[bytes, int]]  # requests sent at once; how many lines of their answers are not the bytes of a string


def batches_of(requests: list[Request], depth: int) -> Batches:
    """The requests, `depth` at a time."""
    if len(requests) % depth:
        raise ValueError(f"{len(requests)} requests do not divide by a depth of {depth}; take one that does")
    parts = [requests[at : at + depth] for at in range(0, len(requests), depth)]
    return [(b"".join(data for data, _ in part), sum(lines for _, lines in part)) for part in parts]


@dataclass
class Clients:
    """Connections that send batches. With `once`, a client that has gone through its part waits for the next run. `waits`, if given, gets
    the seconds from each batch's send to its last answer."""

    port: int
    batches: Batches
    depth: int
    count: int = CLIENTS
    once: bool = False
    put_back: Callable[[], None] | None = None
    waits: "array[float] | None" = None
    socks: dict[int, socket.socket] = field(default_factory=dict)
    poller: select.epoll = field(default_factory=select.epoll)
    parts: dict[int, Iterator[tuple[bytes, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for _ in range(self.count):
            sock = socket.create_connection(("127.0.0.1", self.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socks[sock.fileno()] = sock
            self.poller.register(sock.fileno(), select.EPOLLIN)
        self._begin()

    def _begin(self) -> None:
        size = len(self.batches)
        for number, fd in enumerate(self.socks):
            part = self.batches[size * number // self.count : size * (number + 1) // self.count]
            self.parts[fd] = iter(part) if self.once else itertools.cycle(part)

    def close(self) -> None:
        """End the connections."""
        self.poller.close()
        for sock in self.socks.values():
            sock.close()

    def restore(self) -> None:
        """Put back what the last run used up; with `once`, begin anew."""
        if self.put_back is not None:
            self.put_back()
        if self.once:
            self._begin()

    def run(self, seconds: float) -> tuple[int, float]:
        """(requests answered, seconds that took): sends for so long, then waits for what is under way."""
        poll, depth, parts, waits, clock = self.poller.poll, self.depth, self.parts, self.waits, time.perf_counter
        receive = {fd: sock.recv for fd, sock in self.socks.items()}
        send = {fd: sock.sendall for fd, sock in self.socks.items()}
        owed: dict[int, int] = {}
        broken: dict[int, bytes] = {}  # an answer whose last line has not come as a whole
        sent: dict[int, float] = {}  # with `waits`: when
        began = now = time.perf_counter()
        end = began + seconds
        done = 0
        for fd, part in parts.items():
            batch = next(part, None)
            if batch is not None:
                if waits is not None:
                    sent[fd] = clock()
                send[fd](batch[0])
                owed[fd] = batch[1]
        while owed:
            ready = poll(SILENCE_SECONDS)
            if not ready:
                raise SystemExit(f"no answer for {SILENCE_SECONDS} s: look at the server on port {self.port}")
            for fd, _ in ready:
                data = receive[fd](RECEIVE_BYTES)
                if broken:
                    data = broken.pop(fd, b"") + data
                if not data:
                    raise SystemExit(f"the server on port {self.port} closed a connection")
                if data[-1] != 10:
                    broken[fd] = data
                    continue
                if data[0] == 45 or b"\n-" in data:
                    raise SystemExit(f"an error among the answers: {data[:200]!r}")
                # every line is counted but the one of a string's bytes, which follows each $ that is not $-1
                left = owed[fd] - data.count(b"\n") + data.count(b"$") - data.count(b"$-")
                if left > 0:
                    owed[fd] = left
                    continue
                if left < 0:
                    raise SystemExit(f"more answers than requests: {data[:200]!r}")
                done += depth
                batch = next(parts[fd], None) if now < end else None
                if waits is not None:
                    then, sent[fd] = sent[fd], clock()
                    waits.append(sent[fd] - then)
                if batch is None:
                    del owed[fd]
                else:
                    send[fd](batch[0])
                    owed[fd] = batch[1]
            now = time.perf_counter()
        return done, now - began


def pour(port: int, requests: list[Request]) -> None:
    """Send these, once, by one client."""
    whole = len(requests) // FILL_DEPTH * FILL_DEPTH
    for part, depth in ((requests[:whole], FILL_DEPTH), (requests[whole:], 1)):
        if part:
            clients = Clients(port, batches_of(part, depth), depth, 1, once=True)
            clients.run(math.inf)
            clients.close()
