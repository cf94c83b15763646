"""Dramatiq on Flo: `FloBroker`, `FloBackend` for results, and `FloRateLimiterBackend` for rate limits and barriers.

A queue of Dramatiq is the queue of the same name in Flo. A consumer takes messages with leases, and takes more when half of what it may
hold is done. A rejected message becomes a dead letter. A delayed message waits in Flo, in its own queue: no worker holds it in memory, so
the broker has no delay queues. An actor's priority is the message's priority.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.common import current_millis, q_name
from dramatiq.encoder import Encoder
from dramatiq.errors import ConnectionClosed, DecodeError, QueueJoinTimeout, QueueNotFound
from dramatiq.message import Message
from dramatiq.middleware import Middleware
from dramatiq.rate_limits import RateLimiterBackend
from dramatiq.results import Missing, ResultBackend, ResultMissing, ResultTimeout
from dramatiq.results.backend import DEFAULT_TIMEOUT

from flo import calls
from flo.client import Client, Disconnected
from flo.client.settings import DEFAULT_URL
from flo.contrib.leases import LEASE_MS, POOL, Leases, PerProcess
from flo.errors import Conflict
from flo.limits import DEQUEUE_MAX

PRIORITY_MAX = 255


class FloBroker(Broker):
    """A broker on Flo. Messages stay in the queue until their task is done, so a killed worker or server loses none."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        middleware: list[Middleware] | None = None,
        lease: int = LEASE_MS,
        max_attempts: int = 0,
        **options: Any,
    ) -> None:
        """`lease` is after how many ms the messages of a killed worker come back. `max_attempts` is after how many deliveries without an
        answer a message becomes a dead letter (0: never); a message that a stopped worker gives back counts one, although it was not
        started. Other options are those of `flo.Client`."""
        super().__init__(middleware)
        self._client = PerProcess(lambda: Client(url, **POOL | options))
        self._leases = PerProcess(lambda: Leases(self._client.get(), lease))
        self._max_attempts = max_attempts

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue. Flo makes it with its first message."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Enqueue a message, after `delay` ms. Raises `ConnectionClosed`."""
        if delay is not None:
            message = message.copy(options={"eta": current_millis() + delay})
        self.emit_before("enqueue", message, delay)
        sent = message
        if delay is not None:  # Flo waits, so the worker need not
            sent = message._replace(options={name: value for name, value in message.options.items() if name != "eta"})
        actor = self.actors.get(message.actor_name)
        priority = min(max(actor.priority, 0), PRIORITY_MAX) if actor is not None else 0
        with _connection_errors():
            self._client.get().queues.enqueue(
                q_name(message.queue_name), sent.encode(), priority=priority or None, delay=max(0, int(delay)) if delay else None
            )
        self.emit_after("enqueue", message, delay)
        return message

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> Consumer:
        """A consumer that holds up to `prefetch` messages and waits `timeout` ms for one. Raises `QueueNotFound`, `ConnectionClosed`."""
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        with _connection_errors():
            self._client.get().queues.configure(queue_name, max_attempts=self._max_attempts)
        return _FloConsumer(self._leases.get(), queue_name, prefetch, timeout)

    def flush(self, queue_name: str) -> None:
        """Remove every message of a queue, dead letters too."""
        with _connection_errors():
            self._client.get().run_many([calls.queue_purge(queue_name), calls.queue_delete_dead(queue_name)])

    def flush_all(self) -> None:
        """Remove every message of the declared queues."""
        for queue_name in self.queues:
            self.flush(queue_name)

    def join(self, queue_name: str, *, interval: int = 100, timeout: int | None = None) -> None:
        """Wait until the queue has no message but dead letters; look every `interval` ms. Raises `QueueJoinTimeout` after `timeout` ms."""
        pause = threading.Event()
        deadline = None if timeout is None else current_millis() + timeout
        while True:
            with _connection_errors():
                stats = self._client.get().queues.stats(queue_name)
            if not stats["ready"] + stats["delayed"] + stats["leased"]:
                return
            if deadline is not None and current_millis() >= deadline:
                raise QueueJoinTimeout(queue_name)
            pause.wait(interval / 1000)

    def close(self) -> None:
        """Close the connections, after the answers that are still due."""
        self._leases.get().close()
        self._client.get().close()


@contextmanager
def _connection_errors() -> Iterator[None]:
    """Dramatiq tries again after this error of its own."""
    try:
        yield
    except Disconnected as e:
        raise ConnectionClosed(e) from None


class _FloMessage(MessageProxy):
    """A message that this process holds."""

    def __init__(self, message: Message[Any], delivery: calls.Message) -> None:
        super().__init__(message)
        self.delivery = delivery


class _FloConsumer(Consumer):
    """The messages of one queue. Worker threads answer them, while the consumer's thread asks for more."""

    def __init__(self, leases: Leases, queue_name: str, prefetch: int, timeout: int) -> None:
        self._leases = leases
        self._queue = queue_name
        self._prefetch = prefetch
        self._timeout = max(1, timeout)  # 0 would wait for ever
        self._fetched: deque[calls.Message] = deque()
        self._given: set[tuple[int, int]] = set()  # receipts of messages that are with the workers
        self._freed = threading.Condition()

    def __next__(self) -> MessageProxy | None:
        """The next message; None if there was none for the time that is waited. Raises `ConnectionClosed`."""
        with _connection_errors():
            while self._fetched or self._fetch():
                delivery = self._fetched.popleft()
                try:
                    message = Message.decode(delivery.payload)
                except DecodeError:
                    # it would come back for ever
                    self._leases.give_back(self._queue, [delivery], dead=True)
                    continue
                with self._freed:
                    self._given.add(delivery.receipt)
                return _FloMessage(message, delivery)
        return None

    def _fetch(self) -> bool:
        with self._freed:
            # by halves: a request for each message that is done would cost most of the time
            if not self._freed.wait_for(lambda: len(self._given) <= self._prefetch // 2, self._timeout / 1000):
                return False
            room = self._prefetch - len(self._given)
        self._fetched.extend(self._leases.take(self._queue, min(room, DEQUEUE_MAX), self._timeout))
        return bool(self._fetched)

    def ack(self, message: MessageProxy) -> None:
        """The task is done."""
        self._answer(message, self._leases.ack)

    def nack(self, message: MessageProxy) -> None:
        """The message becomes a dead letter."""
        self._answer(message, lambda queue, delivery: self._leases.give_back(queue, [delivery], dead=True))

    def _answer(self, message: MessageProxy, send: Callable[[str, calls.Message], None]) -> None:
        # the message may be of an earlier consumer, whose connection was lost
        assert isinstance(message, _FloMessage)
        send(self._queue, message.delivery)
        with self._freed:
            self._given.discard(message.delivery.receipt)
            self._freed.notify()

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give messages back that the workers did not start."""
        self._leases.give_back(self._queue, [message.delivery for message in messages if isinstance(message, _FloMessage)])

    def close(self) -> None:
        """Give back what no worker has."""
        self._leases.give_back(self._queue, list(self._fetched))
        self._fetched.clear()


class FloBackend(ResultBackend):
    """Results as keys of Flo, which expire. Whoever waits for a result is told by Flo; nobody polls."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        namespace: str = "dramatiq-results",
        encoder: Encoder | None = None,
        use_namespace_prefix_keys: bool = True,
        **options: Any,
    ) -> None:
        """`namespace` is the beginning of the keys, as Dramatiq's backends have it; Flo's own namespace is in the URL. Other options are
        those of `flo.Client`."""
        super().__init__(namespace=namespace, encoder=encoder, use_namespace_prefix_keys=use_namespace_prefix_keys)
        self._client = PerProcess(lambda: Client(url, **POOL | options))

    def get_result(self, message: Any, *, block: bool = False, timeout: int | None = None) -> Any:
        """The result of a message. With `block`, waits up to `timeout` ms for it (None: 10 s). Raises `ResultMissing`, `ResultTimeout`,
        and `ResultFailure` if the task failed."""
        key, kv = self.build_message_key(message), self._client.get().kv
        wait = DEFAULT_TIMEOUT if timeout is None else timeout
        entry = kv.wait(key, wait) if block and wait > 0 else kv.get(key)
        if entry is None:
            raise (ResultTimeout if block else ResultMissing)(message)
        return self.unwrap_result(self.encoder.decode(entry.value))

    def _get(self, message_key: str) -> Any:
        entry = self._client.get().kv.get(message_key)
        return Missing if entry is None else self.encoder.decode(entry.value)

    def _store(self, message_key: str, result: Any, ttl: int) -> None:
        self._client.get().kv.put(message_key, self.encoder.encode(result), ttl=_seconds(ttl))


def _seconds(ms: int) -> int:
    """Flo's keys live for whole seconds; 0 would be for ever."""
    return max(1, ceil(ms / 1000))


class FloRateLimiterBackend(RateLimiterBackend):
    """Dramatiq's rate limits and barriers on keys of Flo. A number changes by compare-and-set."""

    def __init__(self, url: str = DEFAULT_URL, **options: Any) -> None:
        """The options are those of `flo.Client`."""
        self._client = PerProcess(lambda: Client(url, **POOL | options))

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Set the key if it does not exist; returns whether it did not. `ttl` is in ms, here and below."""
        try:
            self._client.get().kv.put(key, str(value), ttl=_seconds(ttl), if_absent=True)
        except Conflict:
            return False
        return True

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Add to the number at the key, unless it would pass `maximum`; returns whether it was added."""
        return self._change(key, ttl, lambda value: value + amount, lambda value: value <= maximum)

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Subtract from the number at the key, unless it would fall below `minimum`; returns whether it was subtracted."""
        return self._change(key, ttl, lambda value: value - amount, lambda value: value >= minimum)

    def incr_and_sum(self, key: str, keys: Callable[[], list[str]], amount: int, maximum: int, ttl: int) -> bool:
        """Add to the number at the key, unless the sum of the numbers at `keys()` would pass `maximum`. The other keys are those of earlier
        times, which nobody changes any more."""

        def may(value: int) -> bool:
            entries = self._client.get().run_many([calls.kv_get(other) for other in keys()])
            return value <= maximum and amount + sum(int(entry.value) for entry in entries if entry is not None) <= maximum

        return self._change(key, ttl, lambda value: value + amount, may)

    def _change(self, key: str, ttl: int, change: Callable[[int], int], may: Callable[[int], bool]) -> bool:
        kv = self._client.get().kv
        while True:
            entry = kv.get(key)
            value = change(0 if entry is None else int(entry.value))
            if not may(value):
                return False
            try:
                kv.cas(key, str(value), 0 if entry is None else entry.version, ttl=_seconds(ttl))
            except Conflict:
                continue  # another process was faster
            return True

    def wait(self, key: str, timeout: int | None) -> bool:
        """Wait up to `timeout` ms (None: for ever) until `wait_notify` is called for the key; returns whether it was."""
        return self._client.get().kv.wait(key, timeout or 0) is not None

    def wait_notify(self, key: str, ttl: int) -> None:
        """Wake those who wait for the key, now and for `ttl` ms."""
        self._client.get().kv.put(key, b"x", ttl=_seconds(ttl))
