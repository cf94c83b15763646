"""What the brokers of this folder share: a client for each process, and the leases of the messages that a process works on.

A worker holds a message from `take` until `ack` or `give_back`. Meanwhile a thread extends its lease at every third of the lease's length,
so a task may take any time. The message of a process that was killed comes back when its lease runs out. If the server is away while an
answer (an acknowledgement, or a message given back) is due, the thread sends the answer when the server is back: a finished task is not
repeated only because the server was restarted.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from flo import calls, forks
from flo.calls import Call, Message
from flo.client import Client, Disconnected
from flo.errors import FloError, Overloaded

T = TypeVar("T")
AGAIN_SECONDS = 0.5  # until the next try while the server is away
AWAY = (Disconnected, Overloaded)  # the errors behind which trying again helps
LEASE_MS = 30_000  # of messages, unless a broker is told otherwise: also the default of Flo's queues
POOL: dict[str, Any] = {"max_connections": 1000}  # of a client whose threads may all wait at once: for messages, or for results
log: logging.Logger = logging.getLogger("flo.contrib")


class PerProcess(Generic[T]):
    """A thing that a forked child must have its own of: `get` makes it anew after a fork."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made = (forks.process(), make())

    def get(self) -> T:
        """This process's own."""
        process, thing = self._made
        if process != forks.process():
            thing = self._make()
            self._made = (forks.process(), thing)
        return thing


class Leases:
    """The messages that this process has taken and not answered. Several threads may use it."""

    def __init__(self, client: Client, lease: int) -> None:
        """`lease` is in ms."""
        self._client = client
        self._lease = lease
        self._lock = threading.Lock()  # guards the next three; never held while sending
        self._held: set[tuple[str, int, int]] = set()  # queue, seq, attempt
        self._unsent: list[tuple[Call[Any], list[tuple[str, int, int]]]] = []  # answers, and the messages that they end
        self._thread: threading.Thread | None = None
        self._closed = False
        self._wake = threading.Event()  # an answer is due, or all is over

    def take(self, queue: str, limit: int, block: int) -> list[Message]:
        """Take up to `limit` messages; wait up to `block` ms for the first (0: for ever). Raises as `client.queues.dequeue` does."""
        messages = self._client.queues.dequeue(queue, limit, lease=self._lease, block=block)
        if messages:
            with self._lock:
                self._held.update((queue, *message.receipt) for message in messages)
                self._have_thread()
        return messages

    def ack(self, queue: str, message: Message) -> None:
        """The message's task is done: remove it."""
        self._answer(calls.queue_ack(queue, [message]), queue, [message])

    def give_back(self, queue: str, messages: list[Message], *, dead: bool = False) -> None:
        """Give messages back to their queue, or to its dead letters."""
        if messages:
            self._answer(calls.queue_nack(queue, messages, dead=dead), queue, messages)

    def forget(self, queue: str, messages: list[Message]) -> None:
        """The messages were answered otherwise."""
        with self._lock:
            self._held.difference_update((queue, *message.receipt) for message in messages)

    def later(self, call: Call[Any], queue: str, messages: list[Message], error: FloError) -> None:
        """Send the answer to these messages when the server, which failed with `error`, takes it; their leases are extended until then."""
        log.warning("an answer on the queue %s is sent later: %s", queue, error)
        with self._lock:
            self._unsent.append((call, [(queue, *message.receipt) for message in messages]))
            self._have_thread()
        self._wake.set()

    def close(self) -> None:
        """If the server is there, send the answers that are still due, and give back all that was not answered. The next `take` begins
        anew."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._wake.set()
        if thread is not None:
            thread.join()
        with suppress(FloError):
            self._send_unsent()
            with self._lock:
                held, self._held = self._by_queue(), set()
            self._client.run_many([calls.queue_nack(queue, receipts) for queue, receipts in held.items()])
        self._closed = False

    def _answer(self, call: Call[Any], queue: str, messages: list[Message]) -> None:
        try:
            self._client.run(call)
        except AWAY as e:
            self.later(call, queue, messages, e)
        else:
            self.forget(queue, messages)

    # -- the thread --------------------------------------------------------------------------------

    def _have_thread(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._keep, name="flo-leases", daemon=True)
            self._thread.start()

    def _keep(self) -> None:
        """Send and extend until nothing is held. A lease that ran out meanwhile is not extended if another worker has the message."""
        pause, away = self._lease / 3000, False
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            try:
                self._send_unsent()
                self._extend()
            except FloError as e:
                if not away:
                    log.warning("leases are not extended until the server is back: %s", e)
                pause, away = min(AGAIN_SECONDS, self._lease / 3000), True
            else:
                pause, away = self._lease / 3000, False
            with self._lock:
                if self._closed or not (self._held or self._unsent):
                    self._thread = None
                    return

    def _send_unsent(self) -> None:
        with self._lock:
            unsent, self._unsent = self._unsent, []
        try:
            results = self._client.run_many([call for call, _ in unsent])
        except FloError:
            with self._lock:
                self._unsent = unsent + self._unsent
            raise
        with self._lock:
            for (call, ended), result in zip(unsent, results, strict=True):
                if isinstance(result, Overloaded):
                    self._unsent.append((call, ended))
                else:
                    self._held.difference_update(ended)

    def _extend(self) -> None:
        with self._lock:
            held = self._by_queue()
        for result in self._client.run_many([calls.queue_touch(queue, receipts, self._lease) for queue, receipts in held.items()]):
            if isinstance(result, FloError):
                raise result

    def _by_queue(self) -> dict[str, list[tuple[int, int]]]:
        """The receipts of what is held, of each queue."""
        queues: dict[str, list[tuple[int, int]]] = {}
        for queue, seq, attempt in self._held:
            queues.setdefault(queue, []).append((seq, attempt))
        return queues
