"""Clients that enqueue, lease and acknowledge messages, and wait for every answer.

    python3 loadtest/cycles.py PORT --dialect flo|redis|beanstalk [--steps put,lease,ack] [--depth 1] [--seconds 1.5] [--clients 50]

Each client sends `depth` requests of a step at once, waits for their answers, and goes on to the next step. The program prints one JSON
object: `rate` is in messages a second, each through all the steps. Without `put` the queue must be filled before. A wrong answer ends the
program.
"""

import argparse
import json
import select
import socket
import sys
import time
from collections.abc import Callable, Generator

PAYLOAD = b"x" * 64
SILENCE_SECONDS = 10
SETTLE_SECONDS = 0.2  # before counting begins


def resp(*args: bytes) -> bytes:
    """A RESP request."""
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)


# A client is a generator: it yields (bytes to send, number of lines to wait for) and gets the lines; it yields None at a cycle's end.
Step = tuple[bytes, int] | None
Client = Generator[Step, list[bytes], None]


def check(condition: bool, lines: list[bytes]) -> None:
    """End the program if an answer is wrong: the load would measure nothing."""
    if not condition:
        raise SystemExit(f"an unexpected answer: {lines[:8]!r}")


def flo(number: int, depth: int, steps: set[str]) -> Client:
    """Flo: QENQUEUE, QDEQUEUE, QACK."""
    lease = resp(b"QDEQUEUE", b"work") * depth
    put = resp(b"QENQUEUE", b"work", PAYLOAD) * depth
    while True:
        if "put" in steps:
            lines = yield put, depth
            check(all(line[:1] == b":" for line in lines), lines)
        lines = yield lease, 6 * depth  # *1, *3, :seq, $n, payload, :attempts
        check(lines[0::6] == [b"*1"] * depth, lines)
        if "ack" in steps:
            receipts = zip(lines[2::6], lines[5::6], strict=True)
            lines = yield b"".join([resp(b"QACK", b"work", b"%b-%b" % (seq[1:], attempt[1:])) for seq, attempt in receipts]), depth
            check(lines == [b":1"] * depth, lines)
        yield None


def redis(number: int, depth: int, steps: set[str]) -> Client:
    """Redis: LPUSH, LMOVE to a list of messages under way, LREM from that list."""
    move = resp(b"LMOVE", b"work", b"doing", b"RIGHT", b"LEFT") * depth
    put = resp(b"LPUSH", b"work", PAYLOAD) * depth
    while True:
        if "put" in steps:
            lines = yield put, depth
            check(all(line[:1] == b":" for line in lines), lines)
        lines = yield move, 2 * depth
        check(lines[0::2] == [b"$%d" % len(PAYLOAD)] * depth, lines)
        if "ack" in steps:
            lines = yield b"".join([resp(b"LREM", b"doing", b"1", payload) for payload in lines[1::2]]), depth
            check(lines == [b":1"] * depth, lines)
        yield None


def beanstalk(number: int, depth: int, steps: set[str]) -> Client:
    """beanstalkd: put, reserve, delete."""
    put = b"put 0 0 60 %d\r\n%b\r\n" % (len(PAYLOAD), PAYLOAD) * depth
    while True:
        if "put" in steps:
            lines = yield put, depth
            check(all(line.startswith(b"INSERTED ") for line in lines), lines)
        lines = yield b"reserve\r\n" * depth, 2 * depth
        check(all(line.startswith(b"RESERVED ") for line in lines[0::2]), lines)
        if "ack" in steps:
            lines = yield b"".join([b"delete %b\r\n" % line.split()[1] for line in lines[0::2]]), depth
            check(lines == [b"DELETED"] * depth, lines)
        yield None


DIALECTS: dict[str, Callable[[int, int, set[str]], Client]] = {"flo": flo, "redis": redis, "beanstalk": beanstalk}


class Connection:
    """One client's socket, and its place in the cycle."""

    def __init__(self, port: int, client: Client) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client = client
        self.received = b""
        self.wanted = 0

    def start(self) -> None:
        """Send the first request."""
        self._send(next(self.client))

    def _send(self, step: Step) -> int:
        cycles = 0
        while step is None:
            cycles = 1
            step = next(self.client)
        data, self.wanted = step
        self.sock.sendall(data)
        return cycles

    def readable(self, goes_on: bool = True) -> int:
        """Receive; returns how many cycles ended: 0 or 1. Sends the next request if `goes_on`."""
        data = self.sock.recv(1 << 18)
        if not data:
            raise SystemExit("the server closed a connection")
        self.received += data
        if self.received.count(b"\r\n") < self.wanted:
            return 0
        lines = self.received.split(b"\r\n")
        check(len(lines) == self.wanted + 1 and not lines[-1], lines)
        self.received, self.wanted = b"", 0
        return self._send(self.client.send(lines[:-1])) if goes_on else 0


def main() -> int:
    """Run one load and print its figures."""
    parser = argparse.ArgumentParser(description="Clients that enqueue, lease and acknowledge messages.")
    parser.add_argument("port", type=int)
    parser.add_argument("--dialect", choices=tuple(DIALECTS), required=True)
    parser.add_argument("--steps", default="put,lease,ack")
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--clients", type=int, default=50)
    args = parser.parse_args()
    steps = set(args.steps.split(","))
    connections = [Connection(args.port, DIALECTS[args.dialect](number, args.depth, steps)) for number in range(args.clients)]
    poller = select.epoll()
    by_descriptor = {one.sock.fileno(): one for one in connections}
    for descriptor in by_descriptor:
        poller.register(descriptor, select.EPOLLIN)
    for one in connections:
        one.start()
    began = time.perf_counter()
    settled = began + SETTLE_SECONDS
    end = settled + args.seconds
    done = counted = 0
    now = began
    while now < end:
        ready = poller.poll(SILENCE_SECONDS)
        check(bool(ready), [b"no answer for %d seconds: is the queue empty?" % SILENCE_SECONDS])
        for descriptor, _ in ready:
            done += by_descriptor[descriptor].readable()
        now = time.perf_counter()
        if now < settled:
            counted, began = done, now
    rate = (done - counted) * args.depth / (now - began)
    while any(one.wanted for one in connections):  # receive the answers still under way
        for descriptor, _ in poller.poll():
            by_descriptor[descriptor].readable(goes_on=False)
    print(json.dumps({"rate": rate, "done": done * args.depth}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
