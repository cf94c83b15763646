"""Flo as a broker of kombu, and so of Celery: `flo://[:secret@]host[:port][/namespace]`. Importing this module makes the URL known.

    import flo.contrib.kombu
    connection = kombu.Connection("flo://127.0.0.1:9000/jobs")

A queue of kombu is a queue of Flo. A message that a consumer has is leased, and its lease is extended (flo.contrib.feed) until it is
acknowledged; if the process dies, the lease runs out and another consumer gets the message. Bindings are keys, so that every process
knows them: an exchange gives a copy to each queue that is bound to it, also a fanout exchange, whose messages are then as lasting as
others. Keys, below PREFIX:

    queue.NAME                             a declared queue; its value is its x-expires in ms, if it has one
    alive.NAME                             exists while a queue with x-expires is in use, and for that long after
    binding.EXCHANGE NUL KEY NUL QUEUE     a binding; its value is the pattern of a topic. It ends with its queue's `alive`

A queue whose `alive` has ended is deleted by the next process that declares one with x-expires. An auto-delete queue is one with x-expires
AUTO_DELETE_MS from its first consumer on: nobody can say that a consumer that is gone was the last.

Transport options: `visibility_timeout`, the length of a lease in seconds (30): after the death of a consumer, its messages come back within
it. `max_attempts`, after how many deliveries a message that failed becomes a dead letter (0: never).
"""

import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from queue import Empty
from time import monotonic, time
from typing import Any, ClassVar

from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport.base import to_rabbitmq_queue_arguments
from kombu.utils.json import dumps, loads

import flo
from flo.calls import Call, Message, kv_delete, kv_exists, kv_put, queue_configure, queue_delete, queue_enqueue
from flo.client import DEFAULT_PORT, Client, Disconnected
from flo.contrib.feed import Arrival, Feed
from flo.errors import NotFound, Refusal

PREFIX = "kombu."
LEASE_SECONDS = 30
AUTO_DELETE_MS = 60_000
NUL = "\0"

TRANSPORT_ALIASES["flo"] = "flo.contrib.kombu:Transport"


class QoS(virtual.QoS):
    """Acknowledgements go to the channel's feed."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """A message is given to a consumer that will acknowledge it."""
        super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge."""
        self.channel.feed.ack(*receipt_of(delivery_tag))
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give back, or to the dead letters."""
        self.channel.feed.nack(*receipt_of(delivery_tag), dead=not requeue)
        super().ack(delivery_tag)


class TopicExchange(virtual.exchange.TopicExchange):
    """Topics, sent to all of their queues in one request."""

    def deliver(self, message: Any, exchange: str, routing_key: str, **_: Any) -> None:
        """Send a message."""
        self.channel.put_all(self.channel._lookup(exchange, routing_key), message)


class FanoutExchange(virtual.exchange.FanoutExchange):
    """Fanout: a copy for each queue."""

    def deliver(self, message: Any, exchange: str, routing_key: str, **_: Any) -> None:
        """Send a message."""
        self.channel.put_all(self.lookup(self.channel.get_table(exchange), exchange, routing_key, None), message)


class Channel(virtual.Channel):
    """A channel: what it publishes is on disk when the call returns."""

    QoS = QoS
    supports_fanout = True
    exchange_types: ClassVar[dict[str, Any]] = {**virtual.Channel.exchange_types, "topic": TopicExchange, "fanout": FanoutExchange}
    max_priority = 255
    visibility_timeout = LEASE_SECONDS
    max_attempts = 0
    from_transport_options: tuple[str, ...] = (*virtual.Channel.from_transport_options, "visibility_timeout", "max_attempts")

    def __init__(self, connection: "Transport", **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.client: Client = connection.flo
        self.feed: Feed = Feed(connection.connect, int(self.visibility_timeout * 1000), self._arrived)
        self.feed.refresh = self._refresh
        self._expires: dict[str, int] = {}  # ms, by queue
        self._auto_delete: set[str] = set()
        self._no_ack: set[str] = set()

    # -- publishing --------------------------------------------------------------------------------

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        self.client.run(self._enqueue(queue, message))

    def put_all(self, queues: Iterable[str], message: dict[str, Any]) -> None:
        """Enqueue a copy of a message in each queue."""
        _run(self.client, [self._enqueue(queue, message) for queue in queues])

    def _enqueue(self, queue: str, message: dict[str, Any]) -> Call[int]:
        priority = self._get_message_priority(message)
        return queue_enqueue(queue, dumps(message), priority=priority or None, delay=delay_of(message) or None)

    def get_table(self, exchange: str) -> list[tuple[str, str, str]]:
        """The bindings of an exchange: (routing key, pattern, queue)."""
        table = []
        for key, pattern in self.client.kv.scan(f"{PREFIX}binding.{exchange}{NUL}"):
            _, routing_key, queue = key.decode().split(NUL)
            table.append((routing_key, pattern.decode(), queue))
        return table

    # -- declaring ---------------------------------------------------------------------------------

    def prepare_queue_arguments(self, arguments: dict[str, Any], **kwargs: Any) -> Any:
        """The arguments by RabbitMQ's names; `_new_queue` reads x-expires."""
        return to_rabbitmq_queue_arguments(arguments, **kwargs)

    def _new_queue(self, queue: str, auto_delete: bool = False, arguments: dict[str, Any] | None = None, **_: Any) -> None:
        expires = int((arguments or {}).get("x-expires") or 0)
        if auto_delete and not expires:
            self._auto_delete.add(queue)
        calls = self._declared(queue, expires)
        _run(self.client, [*calls, queue_configure(queue, max_attempts=int(self.max_attempts))])
        if expires:
            self._sweep()

    def _declared(self, queue: str, expires: int) -> list[Call[Any]]:
        """Note when an unused queue is to end, and the calls that say so."""
        calls: list[Call[Any]] = []
        if expires:
            self._expires[queue] = expires
            self.feed.beat_seconds = min(self.feed.beat_seconds, expires / 3000)
            calls = [self._alive(queue)]
        return [*calls, kv_put(f"{PREFIX}queue.{queue}", str(expires) if expires else "")]

    def _alive(self, queue: str) -> Call[int]:
        return kv_put(f"{PREFIX}alive.{queue}", "", ttl=self._ttl(queue))

    def _ttl(self, queue: str) -> int:
        """In seconds, rounded up."""
        return -(-self._expires[queue] // 1000)

    def _sweep(self) -> None:
        """Delete the queues that are unused for longer than their x-expires."""
        prefix = f"{PREFIX}queue."
        names = [key.decode()[len(prefix) :] for key, expires in self.client.kv.scan(prefix) if expires]
        alive = _run(self.client, [kv_exists(f"{PREFIX}alive.{name}") for name in names])
        for name, exists in zip(names, alive, strict=True):
            if not exists:
                self.queue_delete(name)

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return self.client.kv.exists(f"{PREFIX}queue.{queue}")

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str | None, queue: str) -> None:
        calls = [self._binding(exchange, routing_key, pattern, queue)]
        if queue in self._expires:  # a binding that outlived its queue's `alive` would bring messages to a queue that is deleted
            calls.append(self._alive(queue))
        _run(self.client, calls)

    def _binding(self, exchange: str, routing_key: str, pattern: str | None, queue: str) -> Call[int]:
        ttl = self._ttl(queue) if queue in self._expires else None
        return kv_put(_binding_key(exchange, routing_key, queue), pattern or "", ttl=ttl)

    def queue_unbind(self, queue: str, exchange: str | None = None, routing_key: str = "", **_: Any) -> None:
        """Remove a binding."""
        self.state.binding_delete(queue, exchange, routing_key)
        _run(self.client, [kv_delete(_binding_key(exchange or "", routing_key, queue))])

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any) -> None:
        """Delete a queue with its messages, and its bindings as far as this connection has made them."""
        if if_empty and self._size(queue):
            return
        super().queue_delete(queue, if_unused, if_empty, **kwargs)
        self._expires.pop(queue, None)
        _run(self.client, [queue_delete(queue), kv_delete(f"{PREFIX}queue.{queue}"), kv_delete(f"{PREFIX}alive.{queue}")])

    def _delete(self, queue: str, exchange: str, routing_key: str, *_: Any, **__: Any) -> None:
        _run(self.client, [kv_delete(_binding_key(exchange, routing_key, queue))])

    def _purge(self, queue: str) -> int:
        return self.client.queues.purge(queue)

    def _size(self, queue: str) -> int:
        stats = self.client.queues.stats(queue)
        return int(stats["ready"] + stats["delayed"])

    def after_reply_message_received(self, queue: str) -> None:
        """A queue of replies is used once."""
        self.queue_delete(queue)

    # -- consuming ---------------------------------------------------------------------------------

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> None:
        """Begin to fetch the messages of a queue."""
        super().basic_consume(queue, no_ack, *args, **kwargs)
        if no_ack:
            self._no_ack.add(queue)
        if queue in self._auto_delete:
            self._auto_delete.discard(queue)
            _run(self.client, [*self._declared(queue, AUTO_DELETE_MS), *self._bindings(queue)])
        self.feed.consume(queue)

    def basic_cancel(self, consumer_tag: str) -> None:
        """Fetch no more for a consumer."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        if queue is not None and queue not in self._active_queues:
            self._no_ack.discard(queue)
            self.feed.cancel(queue)

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        """Set how many messages may be unacknowledged."""
        super().basic_qos(prefetch_size, prefetch_count, apply_global)
        self.feed.prefetch = prefetch_count

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        self.feed.flush()  # what was just given back is to be had again
        while messages := self.client.queues.dequeue(queue, lease=self.feed.lease_ms):
            payload = payload_of(queue, messages[0])
            if not is_over(messages[0], payload):
                self.feed.hold(queue, messages[0])
                return payload
            self.client.queues.ack(queue, messages[0])
        raise Empty

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """A message, or None."""
        message = super().basic_get(queue, no_ack, **kwargs)
        if message is not None and no_ack:
            self.feed.ack(*receipt_of(message.delivery_tag))
        return message

    def _restore(self, message: Any) -> None:
        self.feed.nack(*receipt_of(message.delivery_tag))

    def _arrived(self, queue: str, arrival: Arrival) -> None:
        self.connection.put(self, queue, arrival)

    def hand_over(self, queue: str, message: Message, callback: Callable[[Any, str], None]) -> bool:
        """Give a message to its consumer; False if it was given back meanwhile, or its expiration has passed."""
        if not self.feed.begin(queue, message):
            return False
        payload = payload_of(queue, message)
        over = is_over(message, payload)
        if over or queue in self._no_ack:
            self.feed.ack(queue, message.receipt)
        if not over:
            callback(payload, queue)
        return not over

    def _refresh(self) -> list[Call[Any]]:
        """The calls that keep the consumed queues with x-expires in use."""
        queues = [queue for queue in set(self._active_queues) if queue in self._expires]
        return [call for queue in queues for call in (*self._bindings(queue), self._alive(queue))]

    def _bindings(self, queue: str) -> list[Call[int]]:
        """The calls that make this connection's bindings of a queue."""
        calls = []
        for exchange, routing_key, arguments in list(self.state.queue_bindings(queue)):
            _, pattern, _ = self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments)
            calls.append(self._binding(exchange, routing_key, pattern, queue))
        return calls

    def close(self) -> None:
        """Give back what is not acknowledged."""
        super().close()
        self.feed.close()


_Channel = Channel  # inside Transport, the name is an attribute


class Transport(virtual.Transport):
    """A connection. Threads put what has arrived, and ring a bell that an event loop can wait for."""

    Channel = Channel
    default_port = DEFAULT_PORT
    driver_type = driver_name = "flo"
    connection_errors: tuple[type[BaseException], ...] = (*virtual.Transport.connection_errors, Disconnected)
    channel_errors: tuple[type[BaseException], ...] = (*virtual.Transport.channel_errors, Refusal)
    implements: Any = virtual.Transport.implements.extend(asynchronous=True, exchange_type=frozenset(["direct", "topic", "fanout"]))

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.flo: Client = self.connect()
        self._lock = threading.Lock()
        self._arrived: deque[tuple[_Channel, str, Arrival]] = deque()
        self._bell, self._ringer = socket.socketpair()  # has a byte while something has arrived
        self._loop: Any = None

    def connect(self) -> Client:
        """A client by the parameters of the connection."""
        parameters = self.client
        host, port = parameters.hostname or "127.0.0.1", parameters.port or self.default_port
        return Client(
            f"flo://[{host}]:{port}" if ":" in host else f"flo://{host}:{port}",
            namespace=(parameters.virtual_host or "").strip("/") or "default",
            secret=parameters.password or None,
            connect_timeout=parameters.connect_timeout or 5,
        )

    def driver_version(self) -> str:
        """Flo's version."""
        return flo.__version__

    def establish_connection(self) -> Any:
        """Connect; raises `Disconnected`."""
        self.flo.connect()
        return super().establish_connection()

    def close_connection(self, connection: Any) -> None:
        """Close the channels and the client."""
        super().close_connection(connection)
        if self._loop is not None:
            self._loop.remove_reader(self._bell.fileno())
        self.flo.close()
        with self._lock:
            self._arrived.clear()
            self._bell.close()
            self._ringer.close()

    def put(self, channel: _Channel, queue: str, arrival: Arrival) -> None:
        """Something has arrived; called by the threads."""
        with self._lock:
            if self._bell.fileno() < 0:
                return
            self._arrived.append((channel, queue, arrival))
            if len(self._arrived) == 1:
                self._ringer.send(b"\0")

    def _hand_over(self) -> bool:
        """Give one message to its consumer; False if there was none."""
        while True:
            with self._lock:
                if not self._arrived:
                    return False
                channel, queue, arrival = self._arrived.popleft()
                if not self._arrived:
                    self._bell.recv(1)
            if isinstance(arrival, Exception):
                raise arrival
            if channel.hand_over(queue, arrival, self._deliver):
                return True

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:
        """Give one message to its consumer; waits for one. Raises `socket.timeout`."""
        deadline = None if timeout is None else monotonic() + timeout
        while not self._hand_over():
            rest = None if deadline is None else max(0.0, deadline - monotonic())
            if not select.select([self._bell], [], [], rest)[0]:
                raise TimeoutError(f"no message came within {timeout} s")

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let an event loop hand messages over."""
        self._loop = loop
        loop.add_reader(self._bell.fileno(), self.on_readable, connection, loop)

    def on_readable(self, connection: Any, loop: Any) -> None:
        """Give all that has arrived until now to the consumers."""
        for _ in range(len(self._arrived)):
            if not self._hand_over():
                return


def _binding_key(exchange: str, routing_key: str, queue: str) -> str:
    return f"{PREFIX}binding.{NUL.join((exchange, routing_key or '', queue))}"


def _run(client: Client, calls: list[Call[Any]]) -> list[Any]:
    """Run calls in one round trip; the first refusal is raised."""
    results = client.run_many(calls) if calls else []
    for result in results:
        if isinstance(result, Refusal) and not isinstance(result, NotFound):
            raise result
    return results


def payload_of(queue: str, message: Message) -> dict[str, Any]:
    """The message as it was published, with a delivery tag that is the receipt of this delivery."""
    payload: dict[str, Any] = loads(message.payload.decode())
    properties = payload["properties"]
    properties["delivery_tag"] = f"{message.seq}-{message.attempts} {queue}"
    if message.attempts > 1:
        properties["delivery_info"]["redelivered"] = True
    return payload


def receipt_of(delivery_tag: str) -> tuple[str, tuple[int, int]]:
    """The queue and the receipt that a delivery tag stands for."""
    receipt, _, queue = delivery_tag.partition(" ")
    seq, _, attempt = receipt.partition("-")
    return queue, (int(seq), int(attempt))


def is_over(message: Message, payload: dict[str, Any]) -> bool:
    """Whether the expiration of a message has passed, which is in ms from when it was published."""
    expiration = payload["properties"].get("expiration")
    return expiration is not None and message.time + int(expiration) < time() * 1000


def delay_of(message: dict[str, Any]) -> int:
    """How many ms to keep a message of Celery back, by its `eta`: it then takes no place of a worker. The worker looks at the `eta` again,
    by its own clock."""
    eta = message["headers"].get("eta")
    try:
        due = datetime.fromisoformat(eta or "")
    except (TypeError, ValueError):  # none, or not Celery's
        return 0
    due = due if due.tzinfo else due.replace(tzinfo=UTC)
    return max(0, int((due - datetime.now(UTC)).total_seconds() * 1000))
