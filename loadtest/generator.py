"""A load generator with requests encoded beforehand, for RESP and for the binary protocol.

    python3 loadtest/generator.py PORT --protocol resp|binary --command put|get|incr [--depth 16] [--seconds 1.5]
                                  [--clients 50] [--keys 1000000] [--bytes 3]

Each client sends a batch of `depth` requests, waits for all their answers, and sends the next; the loop only sends, receives and counts. It
prints one JSON object: `rate` in requests a second; `busy`, the share of the time in which the generator worked; `ceiling`, the rate at
which the generator would work all the time, rate / busy; `sent`, which includes the requests before the clock started. A rate near the
ceiling measures the generator, not the server. Answers are counted by their length; the first bytes of each batch's answers are checked.
"""

import argparse
import json
import random
import resource
import select
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from flo.operations import BY_NAME  # noqa: E402
from flo.proto.binary import encode_request  # noqa: E402

BATCHES = 2000  # encoded beforehand, sent in turn: enough different keys that most lookups miss the caches
RECEIVE_BYTES = 256 << 10
SETTLE_SECONDS = 0.2  # before counting begins


def key_of(number: int) -> bytes:
    """redis-benchmark's name for this key."""
    return b"key:%012d" % number


def resp(*args: bytes) -> bytes:
    """A RESP request."""
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)


def encoder(protocol: str, command: str, value: bytes) -> tuple[Callable[[bytes], bytes], bytes, int]:
    """(key -> request, the first bytes of an answer, its length; 0 if the length varies: then line ends are counted)."""
    if protocol == "binary":
        operation = BY_NAME[f"kv_{command}"]
        sent = value if command == "put" else b""
        size = {"put": 32, "get": 32 + len(value), "incr": 40}[command]
        return lambda key: encode_request(operation, 1, 0, key, sent), b"FLO\x01\x00\x00", size
    if command == "put":
        return lambda key: resp(b"SET", key, value), b"+OK\r\n", 5
    if command == "get":
        answer = b"$%d\r\n%b\r\n" % (len(value), value)
        return lambda key: resp(b"GET", key), answer, len(answer)
    return lambda key: resp(b"INCR", key), b":", 0


class Load:
    """Clients in a closed loop."""

    def __init__(self, port: int, clients: int, batches: list[bytes], depth: int, begins: bytes, size: int) -> None:
        self.batches = batches
        self.depth = depth
        self.begins = begins
        self.size = size
        self.poller = select.epoll()
        self.socks: dict[int, socket.socket] = {}
        self.got: dict[int, int] = {}
        self.next = 0
        self.done = 0
        for _ in range(clients):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            self.socks[sock.fileno()] = sock
            self.got[sock.fileno()] = 0
            self.poller.register(sock.fileno(), select.EPOLLIN)
        for sock in self.socks.values():
            sock.send(self._batch())

    def close(self) -> None:
        """End the connections."""
        self.poller.close()
        for sock in self.socks.values():
            sock.close()

    def _batch(self) -> bytes:
        self.next = (self.next + 1) % len(self.batches)
        return self.batches[self.next]

    def run(self, seconds: float) -> tuple[int, float]:
        """Run for so many seconds; returns (answered requests, seconds)."""
        began = time.perf_counter()
        end = began + seconds
        before = self.done
        socks, got, poll, batches, size = self.socks, self.got, self.poller.poll, self.batches, self.size
        wanted = self.depth * (size or 1)
        begins, at, done, count = self.begins, self.next, self.done, len(batches)
        buffer = memoryview(bytearray(RECEIVE_BYTES))
        now = began
        while now < end:
            for fd, _ in poll():
                sock = socks[fd]
                n = sock.recv_into(buffer)
                if not n:
                    raise SystemExit("the server closed a connection")
                had = got[fd]
                if not had and buffer[: len(begins)] != begins:
                    raise SystemExit(f"an unexpected answer: {bytes(buffer[:60])!r}")
                had += n if size else bytes(buffer[:n]).count(b"\n")
                if had == wanted:
                    got[fd] = 0
                    done += self.depth
                    at += 1
                    if at == count:
                        at = 0
                    sock.send(batches[at])
                elif had > wanted:
                    raise SystemExit(f"more answers than requests: {had} of {wanted}")
                else:
                    got[fd] = had
            now = time.perf_counter()
        self.next, self.done = at, done
        return done - before, now - began


def prepare(port: int, protocol: str, command: str, depth: int, clients: int, keys: int, value: bytes) -> Load:
    """Connected clients with encoded requests."""
    encode, begins, size = encoder(protocol, command, value)
    chance = random.Random(1)  # the same keys each time: get reads the keys that put wrote
    prefix = b"counter:" if command == "incr" else b""
    batches = [b"".join(encode(prefix + key_of(chance.randrange(keys))) for _ in range(depth)) for _ in range(BATCHES)]
    return Load(port, clients, batches, depth, begins, size)


def main() -> int:
    """Run one load and print its figures."""
    parser = argparse.ArgumentParser(description="A load generator with requests encoded beforehand.")
    parser.add_argument("port", type=int)
    parser.add_argument("--protocol", choices=("resp", "binary"), required=True)
    parser.add_argument("--command", choices=("put", "get", "incr"), required=True)
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=3, help="size of a value")
    args = parser.parse_args()
    load = prepare(args.port, args.protocol, args.command, args.depth, args.clients, args.keys, b"x" * args.bytes)
    load.run(SETTLE_SECONDS)
    before = resource.getrusage(resource.RUSAGE_SELF)
    done, took = load.run(args.seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    busy = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / took
    rate = done / took
    print(json.dumps({"rate": rate, "busy": busy, "ceiling": rate / busy, "requests": done, "sent": load.done}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
