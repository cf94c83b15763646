"""The messages that a program has leased from its queues: threads fetch them, extend their leases while they are worked on, and
acknowledge them or give them back. It knows no framework.

A framework is told of each message by a call of `arrive`, and settles it later, from any thread and without waiting for the server. The
server may be away for a while: leases survive its restart, so the threads try again.

    feed = Feed(lambda: Client(url), 30_000, arrive)
    feed.consume("jobs")        # a thread calls arrive("jobs", message) for each message
    feed.begin("jobs", message) # when the work on it begins; False: its lease ran out meanwhile, leave it alone
    feed.ack("jobs", message)

A message that has arrived, but is not begun within half of its lease, is left to run out, and another program gets it.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from flo.calls import Call, Message, queue_ack, queue_nack, queue_touch
from flo.client import Client, Disconnected
from flo.errors import Overloaded, Refusal
from flo.limits import ATOMIC_ITEMS_MAX, DEQUEUE_MAX

BLOCK_MS = 500  # one request for messages; a thread sees within it that it is to end
TURN_MS = 50  # instead, while other queues of the program wait for its place
RETRY_SECONDS = 0.1  # between two tries to reach the server; it doubles, up to the next line
RETRY_SECONDS_MAX = 2.0
PATIENCE_SECONDS = 30.0  # after which a server that cannot be reached is told to the framework
CLOSE_SECONDS = 5.0  # `close` waits so long for the server; what is not settled then comes back when its lease runs out

Receipt = tuple[int, int]
Arrival = Message | Disconnected | Refusal


class Feed:
    """The leased messages of one consumer. Threads are started when they are needed. `prefetch` is how many messages it may have at
    once; 0: as many as it begins, and one more for each queue that waits."""

    def __init__(self, connect: Callable[[], Client], lease_ms: int, arrive: Callable[[str, Arrival], None]) -> None:
        """`connect` opens a client for a thread. `arrive` is called in the threads, with a queue and a message of it, or with the error
        that ended the thread of the queue."""
        self.connect = connect
        self.lease_ms = lease_ms
        self.arrive = arrive
        self.beat_seconds: float = lease_ms / 3000
        self.refresh: Callable[[], Iterable[Call[Any]]] = lambda: ()  # more calls to make with each beat
        self._changed = threading.Condition()  # guards everything below
        self._prefetch = 0
        self._waiting: dict[tuple[str, Receipt], float] = {}  # arrived, not begun: when its lease is half over
        self._begun: set[tuple[str, Receipt]] = set()
        self._settled: dict[tuple[str, str], list[Receipt]] = defaultdict(list)  # by queue and what is done with them
        self._consumed: set[str] = set()
        self._fetchers: set[str] = set()  # queues with a thread
        self._turns: list[str] = []  # threads that wait until they may ask, in their order
        self._asked = 0  # messages that the threads ask for now
        self._keeper: threading.Thread | None = None
        self._closing = False

    # -- for the framework -------------------------------------------------------------------------

    @property
    def prefetch(self) -> int:
        """How many messages it may have at once."""
        return self._prefetch

    @prefetch.setter
    def prefetch(self, count: int) -> None:
        with self._changed:
            self._prefetch = count
            self._changed.notify_all()

    def consume(self, queue: str) -> None:
        """Fetch the messages of a queue."""
        with self._changed:
            self._consumed.add(queue)
            self._start_keeper()
            if queue not in self._fetchers:
                self._fetchers.add(queue)
                threading.Thread(target=self._fetch, args=(queue,), name=f"flo-fetch-{queue}", daemon=True).start()

    def cancel(self, queue: str) -> None:
        """Fetch no more of a queue, and give back those of its messages that are not begun."""
        with self._changed:
            self._consumed.discard(queue)
            for name, receipt in [key for key in self._waiting if key[0] == queue]:
                self._settle(name, receipt, "nack")
            self._changed.notify_all()

    def begin(self, queue: str, message: Message) -> bool:
        """Begin the work on a message that has arrived: its lease is extended from now on. False if it was waiting for too long, or was
        given back."""
        with self._changed:
            until = self._waiting.pop((queue, message.receipt), 0.0)
            fresh = monotonic() < until
            if fresh:
                self._begun.add((queue, message.receipt))
            self._changed.notify_all()
            return fresh

    def hold(self, queue: str, message: Message) -> None:
        """Extend the lease of a message that the framework has taken by itself."""
        with self._changed:
            self._begun.add((queue, message.receipt))
            self._start_keeper()

    def ack(self, queue: str, receipt: Receipt) -> None:
        """Acknowledge a message."""
        with self._changed:
            self._settle(queue, receipt, "ack")

    def nack(self, queue: str, receipt: Receipt, *, dead: bool = False) -> None:
        """Give a message back, or to the dead letters."""
        with self._changed:
            self._settle(queue, receipt, "dead" if dead else "nack")

    def flush(self, seconds: float = CLOSE_SECONDS) -> None:
        """Wait until the server knows of everything that was settled."""
        with self._changed:
            self._changed.wait_for(lambda: not self._settled or self._keeper is None, seconds)

    def close(self) -> None:
        """End the threads, when the server knows of everything that was settled. What is cancelled is given back; what is begun and not
        settled comes back when its lease runs out."""
        for queue in list(self._consumed):
            self.cancel(queue)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            keeper = self._keeper
        if keeper is not None:
            keeper.join(CLOSE_SECONDS)

    # -- under the lock ----------------------------------------------------------------------------

    def _start_keeper(self) -> None:
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="flo-leases", daemon=True)
            self._keeper.start()

    def _settle(self, queue: str, receipt: Receipt, how: str) -> None:
        self._waiting.pop((queue, receipt), None)
        self._begun.discard((queue, receipt))
        self._settled[queue, how].append(receipt)
        self._changed.notify_all()

    def _room(self) -> int:
        """How many more messages may be asked for."""
        if self._prefetch:
            return self._prefetch - len(self._begun) - len(self._waiting) - self._asked
        return len(self._consumed) - len(self._waiting) - self._asked

    # -- the threads -------------------------------------------------------------------------------

    def _fetch(self, queue: str) -> None:
        """Lease the messages of a queue until it is cancelled."""
        tries = _Tries()
        with self.connect() as client:
            while count := self._turn(queue):
                with self._changed:
                    block = TURN_MS if self._turns and self._room() <= 0 else BLOCK_MS
                messages: list[Message] = []
                failure: Disconnected | Refusal | None = None
                try:
                    messages = client.queues.dequeue(queue, count, lease=self.lease_ms, block=block)
                    tries.succeeded()
                except (Disconnected, Overloaded) as e:
                    failure = None if tries.failed() else e
                except Refusal as e:
                    failure = e
                with self._changed:
                    self._asked -= count
                    kept = queue in self._consumed
                    half_over = monotonic() + self.lease_ms / 2000
                    for message in messages:
                        if kept:
                            self._waiting[queue, message.receipt] = half_over
                        else:
                            self._settle(queue, message.receipt, "nack")
                    if failure is not None:
                        self._fetchers.discard(queue)
                    self._changed.notify_all()
                for message in messages if kept else ():
                    self.arrive(queue, message)
                if failure is not None:
                    self.arrive(queue, failure)
                    return
                if tries.pause:
                    with self._changed:
                        self._changed.wait_for(lambda: queue not in self._consumed, tries.pause)

    def _turn(self, queue: str) -> int:
        """Wait for room, and in the order of the threads; how many messages the thread is to ask for, 0 if it is to end."""
        with self._changed:
            self._turns.append(queue)
            self._changed.wait_for(lambda: queue not in self._consumed or (self._turns[0] == queue and self._room() > 0))
            self._turns.remove(queue)
            self._changed.notify_all()
            if queue not in self._consumed:
                self._fetchers.discard(queue)
                return 0
            count = max(1, min(self._room() // len(self._consumed), DEQUEUE_MAX))
            self._asked += count
            return count

    def _keep(self) -> None:
        """Tell the server what was settled, and extend the leases, until `close`."""
        tries = _Tries()
        beat = monotonic()
        with self.connect() as client:
            while True:
                with self._changed:
                    if tries.pause:
                        self._changed.wait_for(lambda: False, tries.pause)
                    else:
                        self._changed.wait_for(self._has_work, max(0.0, beat - monotonic()))
                    work = {key: receipts[:ATOMIC_ITEMS_MAX] for key, receipts in self._settled.items()}
                    due = monotonic() >= beat and not self._closing
                    held: dict[str, list[Receipt]] = defaultdict(list)
                    for queue, receipt in self._begun if due else ():
                        held[queue].append(receipt)
                    ended = self._closing and not self._fetchers
                if ended and not work:
                    return
                calls: list[Call[Any]] = [_call(queue, how, receipts) for (queue, how), receipts in work.items()]
                if due:
                    calls += [queue_touch(queue, receipts, self.lease_ms) for queue, receipts in held.items()]
                    calls += self.refresh()
                try:
                    results = client.run_many(calls) if calls else []
                except Disconnected:
                    if not tries.failed() and ended:
                        return
                    continue
                tries.succeeded()
                if due:
                    beat = monotonic() + self.beat_seconds
                self._done(work, results)

    def _has_work(self) -> bool:
        return bool(self._settled) or (self._closing and not self._fetchers)

    def _done(self, work: dict[tuple[str, str], list[Receipt]], results: list[Any]) -> None:
        """Forget what the server knows now. An overloaded server is asked again; another refusal is told to the framework."""
        with self._changed:
            for (key, receipts), result in zip(work.items(), results, strict=False):
                if not isinstance(result, Overloaded):
                    rest = self._settled[key][len(receipts) :]
                    if rest:
                        self._settled[key] = rest
                    else:
                        del self._settled[key]
            self._changed.notify_all()
        for (queue, _), result in zip(work, results, strict=False):
            if isinstance(result, Refusal) and not isinstance(result, Overloaded):
                self.arrive(queue, result)


def _call(queue: str, how: str, receipts: list[Receipt]) -> Call[int]:
    return queue_ack(queue, receipts) if how == "ack" else queue_nack(queue, receipts, dead=how == "dead")


class _Tries:
    """The tries of a thread to reach the server."""

    def __init__(self) -> None:
        self.pause = 0.0  # seconds until the next one; 0 when the last one succeeded
        self._since = 0.0

    def succeeded(self) -> None:
        """The server answered."""
        self.pause = 0.0

    def failed(self) -> bool:
        """The server did not answer; whether to try again."""
        if not self.pause:
            self._since = monotonic()
        self.pause = min(self.pause * 2, RETRY_SECONDS_MAX) or RETRY_SECONDS
        return monotonic() - self._since < PATIENCE_SECONDS
