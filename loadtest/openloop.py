"""An open-loop load generator: it sends each request when it is due, whether or not others are answered, and times it from its due time.

    python3 loadtest/openloop.py PORT --rate 30000 [--command set|get] [--seconds 2] [--clients 50] [--keys 1000000] [--bytes 3]

A closed loop waits for a slow server, so it never measures the waits of the requests that it would have sent meanwhile. Here request n is
due at n / rate seconds, on connection n % clients. Its wait counts from then, so a stall counts for every request that it delays. Requests
are encoded beforehand.

It prints one JSON object: the reached `rate`; `p50`, `p99`, `p999` and `max`, in us; `ceiling`, the rate at which this generator would work
all the time; `void`, true if the rate was within a fifth of the ceiling or could not be kept: then the waits are the generator's own.
"""

import argparse
import gc
import json
import random
import select
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from loadtest.generator import key_of, resp  # noqa: E402

PREPARED = 50_000  # requests, sent in turn
SETTLE_SECONDS = 0.3  # before counting begins
NEAR_CEILING = 0.8  # if the generator is busier than this, it measures itself
KEPT = 0.97  # the least share of the requested rate
BURST = 256  # the most requests sent before the clock and the answers are looked at again, if the rate cannot be kept
DRAIN_SECONDS = 2.0
RECEIVE_BYTES = 64 << 10


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which that share of them lies; 0 of none."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


class Load:
    """The requests under way, and the waits of the answered ones."""

    def __init__(self, port: int, requests: list[bytes], lines: int, rate: float, clients: int, sleep_seconds: float = 0.0) -> None:
        """`lines`: the number of lines in an answer. `sleep_seconds`: the longest sleep while nothing is due, which leaves the core to the
        servers; it counts as the server's time, as does any wait for the processor."""
        self.sleep_seconds = sleep_seconds
        self.requests = requests
        self.lines = lines
        self.rate = rate
        self.sent = 0
        self.overrun = False  # a connection could take no more: the rate is too high for the server or for this generator
        self.idle = 0.0  # seconds without work
        self.waits = array("d")  # seconds
        self.socks: list[socket.socket] = []
        self.due: dict[int, deque[float]] = {}  # by descriptor: the due times of unanswered requests
        self.partly: dict[int, int] = {}  # by descriptor: the received lines of an incomplete answer
        self.poller = select.epoll()
        for _ in range(clients):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            self.poller.register(sock.fileno(), select.EPOLLIN)
            self.socks.append(sock)
            self.due[sock.fileno()] = deque()
            self.partly[sock.fileno()] = 0
        self.by_fd = {sock.fileno(): sock for sock in self.socks}
        self.began = time.perf_counter()

    def run(self, until: float, sending: bool = True) -> None:
        """Send due requests and receive answers until the time `until`. If not `sending`, end earlier when all requests are answered."""
        clock, socks, requests, rate, began = time.perf_counter, self.socks, self.requests, self.rate, self.began
        clients, count = len(socks), len(requests)
        now = clock()
        while now < until and not self.overrun and (sending or any(self.due.values())):
            due = int((now - began) * rate) + 1  # request n is due at n / rate, the first at once
            wanted, before = min(due, self.sent + BURST) if sending else 0, self.sent
            while self.sent < wanted:
                sock = socks[self.sent % clients]
                self.due[sock.fileno()].append(began + self.sent / rate)
                request = requests[self.sent % count]
                try:
                    whole = sock.send(request) == len(request)
                except BlockingIOError:
                    whole = False
                if not whole:
                    self.overrun = True
                    return
                self.sent += 1
            ready = self.poller.poll(self.sleep_seconds)
            for fd, _ in ready:
                self._receive(fd, clock)
            then, now = now, clock()
            if not ready and self.sent == before:
                self.idle += now - then

    def _receive(self, fd: int, clock: Callable[[], float]) -> None:
        data = self.by_fd[fd].recv(RECEIVE_BYTES)
        if not data or data[:1] == b"-":
            raise SystemExit(f"an unexpected answer: {data[:80]!r}")
        seen = data.count(b"\n") + self.partly[fd]
        self.partly[fd] = seen % self.lines
        now, due, waits = clock(), self.due[fd], self.waits
        for _ in range(seen // self.lines):
            waits.append(now - due.popleft())

    def close(self) -> None:
        """Close the connections."""
        for sock in self.socks:
            sock.close()


def measure(port: int, command: str, rate: float, seconds: float, clients: int, keys: int, size: int) -> dict[str, object]:
    """Run one load; returns the figures to print. For GET every key must exist."""
    chance = random.Random(1)
    value = b"x" * size
    names = [key_of(chance.randrange(keys)) for _ in range(PREPARED)]
    requests = [resp(b"SET", name, value) if command == "set" else resp(b"GET", name) for name in names]
    load = Load(port, requests, 1 if command == "set" else 2, rate, clients)
    load.run(load.began + SETTLE_SECONDS)
    load.waits = array("d")
    load.idle = 0.0
    began, sent = time.perf_counter(), load.sent
    load.run(began + seconds)
    took = max(time.perf_counter() - began, 1e-6)
    reached, busy = (load.sent - sent) / took, 1 - load.idle / took
    load.run(time.perf_counter() + DRAIN_SECONDS, sending=False)
    answered = not any(load.due.values())
    load.close()
    ordered = sorted(load.waits)

    def at(share: float) -> float:
        return round(quantile(ordered, share) * 1e6, 1)

    void = busy > NEAR_CEILING or reached < KEPT * rate or not answered or load.overrun
    waits = {"p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": at(1.0)}
    return {"asked": rate, "rate": reached, "ceiling": reached / max(busy, 1e-6), **waits, "void": void}


def main() -> int:
    """Run one load and print its figures."""
    gc.disable()  # a collection would be measured
    parser = argparse.ArgumentParser(description="Latency at a rate, measured from each request's due time.")
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--command", choices=("set", "get"), default="set")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=3)
    args = parser.parse_args()
    print(json.dumps(measure(args.port, args.command, args.rate, args.seconds, args.clients, args.keys, args.bytes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
