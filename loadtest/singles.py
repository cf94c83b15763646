"""Single commands over the keys and sizes of workload.py, for Flo: used by `mix.py --single` and paired.py.

DEL and RPOP use up what they need; it is put back between the slices, which is not counted. DEL goes through all keys, each once, since by
Zipf's law most would be gone already. SET EX, EXPIRE and TTL have keys with a deadline, of their own, so that SET has none to clear.
QDEQUEUE+QACK takes the receipts from the answers; each of the two counts as a request.
"""

import select
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.cycles import Connection, flo
from loadtest.generator import resp
from loadtest.workload import (
    CLIENTS,
    DEL,
    EXISTS,
    EXPIRE,
    GET,
    QUEUED,
    SECONDS,
    SET,
    SET_EX,
    SILENCE_SECONDS,
    THREE_FIELDS,
    TTL,
    Clients,
    Draw,
    Load,
    Make,
    Request,
    all_keys,
    batches_of,
    pour,
    request,
    weighted,
)
from tests.support.processes import RespClient

QUEUE = "work"  # the queue of cycles.py
LEASE_MS = 10**9  # no message comes back during a run
RECORDS = 10  # that XREAD asks for

XADD_ONE = request(b"XADD", Draw.stream, b"*", b"data", Draw.value)
XADD_THREE = request(b"XADD", Draw.stream, b"*", *THREE_FIELDS)
# an answer is *1, *2, the stream's name, *10, and for each record *2, its id, *2, a field and its value
XREAD = request(b"XREAD", b"COUNT", b"%d" % RECORDS, b"STREAMS", b"read", b"0", lines=4 + 5 * RECORDS)
RPOP = request(b"RPOP", QUEUE.encode())
JSON_SET = request(b"JSON.SET", Draw.key, b"$", Draw.document)

Fill = Callable[[int, Draw], None]  # of the server on this port


def delete_all(draw: Draw) -> list[Request]:
    """DEL of every key, in an order by chance."""
    return [(resp(b"DEL", name), 1) for name in draw.names]


def fill_keys(port: int, draw: Draw) -> None:
    """A value for every key."""
    pour(port, all_keys()(draw))


def fill_passing(port: int, draw: Draw) -> None:
    """A value with a deadline for every key."""
    pour(port, all_keys(b"EX", SECONDS)(draw))


def fill_documents(port: int, draw: Draw) -> None:
    """A document for every key."""
    pour(port, [(resp(b"JSON.SET", name, b"$", draw.document()), 1) for name in draw.names])


def fill_queue(port: int, draw: Draw) -> None:
    """As many messages as there were."""
    with RespClient(port, SILENCE_SECONDS) as client:
        missing = QUEUED - client.command("LLEN", QUEUE)
        client.command("QCONFIG", QUEUE, "LEASE", LEASE_MS)
    pour(port, [(resp(b"LPUSH", QUEUE.encode(), draw.value()), 1) for _ in range(missing)])


def fill_streams(port: int, draw: Draw) -> None:
    """A stream that is only read."""
    pour(port, [(resp(b"XADD", b"read", b"*", b"data", draw.value()), 1) for _ in range(RECORDS * 10)])


class Leases:
    """Clients that lease a message, wait for it, and acknowledge it. It ends early when the queue is nearly empty."""

    def __init__(self, port: int, depth: int, put_back: Callable[[], None]) -> None:
        self.port, self.depth, self.put_back = port, depth, put_back
        self.connections: list[Connection] = []
        self.restore()

    def close(self) -> None:
        """End the connections."""
        for one in self.connections:
            one.sock.close()

    def restore(self) -> None:
        """Fill the queue. A client that stopped in the middle of a cycle cannot go on, so all are new."""
        self.close()
        self.put_back()
        self.connections = [Connection(self.port, flo(number, self.depth, {"lease", "ack"})) for number in range(CLIENTS)]

    def run(self, seconds: float) -> tuple[int, float]:
        """(requests answered, seconds that took): sends for so long, then waits for what is under way. `restore` comes before the next."""
        most = 2 * (QUEUED - 2 * CLIENTS * self.depth)
        by_descriptor = {one.sock.fileno(): one for one in self.connections}
        began = now = time.perf_counter()
        end = began + seconds
        done = 0
        with select.epoll() as poller:
            for descriptor, one in by_descriptor.items():
                poller.register(descriptor, select.EPOLLIN)
                one.start()
            under_way = len(by_descriptor)
            while under_way:
                ready = poller.poll(SILENCE_SECONDS)
                if not ready:
                    raise SystemExit(f"no answer for {SILENCE_SECONDS} s: look at the server on port {self.port}")
                goes_on = now < end and done < most
                for descriptor, _ in ready:
                    one = by_descriptor[descriptor]
                    one.readable(goes_on)
                    if not one.received:  # the answers of a batch are complete
                        done += self.depth
                        under_way -= not goes_on
                now = time.perf_counter()
        return done, now - began


@dataclass(frozen=True)
class Single:
    """One command: how a request is made, and what must be there."""

    make: Make | None  # None: QDEQUEUE+QACK, which is made of answers
    fill: Fill
    prefix: str = "key"  # of its keys
    used_up: bool = False  # `fill` is needed again after each run


SINGLES = {
    "SET": Single(SET, fill_keys),
    "SET EX": Single(SET_EX, fill_passing, "passing"),
    "EXPIRE": Single(EXPIRE, fill_passing, "passing"),
    "DEL": Single(DEL, fill_keys, used_up=True),
    "EXISTS": Single(EXISTS, fill_keys),
    "TTL": Single(TTL, fill_passing, "passing"),
    "GET": Single(GET, fill_keys),
    "JSON.SET": Single(JSON_SET, fill_documents, "document"),
    "XADD 1 field": Single(XADD_ONE, fill_streams),
    "XADD 3 fields": Single(XADD_THREE, fill_streams),
    "XREAD COUNT 10": Single(XREAD, fill_streams),
    "QDEQUEUE+QACK": Single(None, fill_queue, used_up=True),
    "RPOP": Single(RPOP, fill_queue, used_up=True),
}


class Server:
    """The server on a port, as far as it has been filled."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._draws: dict[str, Draw] = {}
        self._filled: set[tuple[Fill, str]] = set()

    def load(self, name: str, depth: int) -> Load:
        """Clients of one of SINGLES; what they need is there."""
        single = SINGLES[name]
        draw = self._draws.get(single.prefix) or self._draws.setdefault(single.prefix, Draw(single.prefix))

        def fill() -> None:
            single.fill(self.port, draw)

        if single.make is None:
            return Leases(self.port, depth, fill)
        if (single.fill, single.prefix) not in self._filled:
            self._filled.add((single.fill, single.prefix))
            fill()
        requests = delete_all(draw) if single.make is DEL else weighted((1, single.make))(draw)
        return Clients(self.port, batches_of(requests, depth), depth, once=single.used_up, put_back=fill if single.used_up else None)
