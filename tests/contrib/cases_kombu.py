"""kombu on Flo: exchanges, leases, dead letters, expiry and a server that goes away. Runs in the frameworks' environment:
tests/contrib/test_frameworks.py."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kombu
import pytest
from kombu.exceptions import OperationalError

import flo.contrib.kombu as transport
from flo import Client
from flo.client import Disconnected
from tests.support.processes import ROOT, FloProcess, steady_port, wait_until

LEASE_SECONDS = 0.6


@pytest.fixture
def connect(shared_flo: FloProcess) -> Iterator[Callable[..., Any]]:
    """Opens connections, each as a process of its own would."""
    opened = []

    def connect(**options: Any) -> Any:
        options = {"visibility_timeout": LEASE_SECONDS} | options
        opened.append(kombu.Connection(f"flo://127.0.0.1:{shared_flo.port}", transport_options=options))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.release()


@pytest.fixture
def client(shared_flo: FloProcess) -> Iterator[Client]:
    with Client(f"flo://127.0.0.1:{shared_flo.port}") as client:
        yield client


def publish(connection: Any, queue: Any, body: Any = "hello", **options: Any) -> None:
    """Publish to a queue by its exchange and routing key."""
    options = {"exchange": queue.exchange, "routing_key": queue.routing_key} | options
    connection.Producer().publish(body, declare=[queue], **options)


class Consumer:
    """A consumer on a connection of its own, which keeps what it was given."""

    def __init__(self, connection: Any, *queues: Any, prefetch: int = 0, no_ack: bool = False) -> None:
        self.connection = connection
        self.messages: list[Any] = []
        self.consumer = connection.Consumer(queues, on_message=self.messages.append, no_ack=no_ack)
        if prefetch:
            self.consumer.qos(prefetch_count=prefetch)
        self.consumer.consume()

    def next(self, seconds: float = 5) -> Any:
        """The next message."""
        self.connection.drain_events(timeout=seconds)
        return self.messages[-1]

    def nothing(self, seconds: float) -> bool:
        """Whether no message comes for some seconds."""
        with pytest.raises(socket.timeout):
            self.connection.drain_events(timeout=seconds)
        return True


def is_empty(client: Client, queue: str) -> bool:
    """Whether nothing is left in a queue, nor was lost to the dead letters."""
    stats = client.queues.stats(queue)
    return not any(stats[state] for state in ("ready", "delayed", "leased", "dead"))


def test_bindings_are_known_to_every_process(connect: Callable[..., Any], client: Client) -> None:
    topic, fanout = kombu.Exchange("news", type="topic"), kombu.Exchange("all", type="fanout")
    sport = kombu.Queue("sport", topic, routing_key="news.sport.#")
    every = [kombu.Queue(f"every-{number}", fanout) for number in (1, 2)]
    readers = [Consumer(connect(), queue) for queue in (sport, *every)]
    producer = connect().Producer()
    for exchange in (topic, fanout):
        exchange.bind(producer.channel).declare()
    producer.publish("goal", exchange=topic, routing_key="news.sport.football")
    producer.publish("rain", exchange=topic, routing_key="news.weather")
    assert [reader.next().payload for reader in readers[:1]] == ["goal"] and readers[0].nothing(0.2)
    producer.publish("stop", exchange=fanout)
    assert [reader.next().payload for reader in readers[1:]] == ["stop", "stop"]
    sport.bind(producer.channel).unbind_from(topic, "news.sport.#")
    producer.publish("late", exchange=topic, routing_key="news.sport.chess")
    assert client.queues.stats("sport")["enqueued"] == 1


def test_a_message_that_a_consumer_has_is_given_to_no_other(connect: Callable[..., Any], client: Client) -> None:
    queue = kombu.Queue("held", kombu.Exchange("held"), routing_key="held")
    publish(connect(), queue)
    first, second = Consumer(connect(), queue), None
    message = first.next()
    second = Consumer(connect(), queue)
    assert second.nothing(4 * LEASE_SECONDS)  # the lease is extended meanwhile
    message.ack()
    wait_until(lambda: is_empty(client, "held"), "the acknowledgement")


def test_what_arrived_but_was_not_taken_comes_back(connect: Callable[..., Any]) -> None:
    """A program that stops to drain keeps no message from others."""
    queue = kombu.Queue("left", kombu.Exchange("left"), routing_key="left")
    first = Consumer(connect(), queue, prefetch=10)
    publish(connect(), queue)
    wait_until(lambda: first.consumer.channel.feed._waiting, "the arrival")
    second = Consumer(connect(), queue)
    second.next().ack()
    assert first.nothing(0.1)  # it has it, but knows that its lease is over


def test_the_messages_of_a_killed_consumer_come_back(connect: Callable[..., Any], shared_flo: FloProcess) -> None:
    queue = kombu.Queue("killed", kombu.Exchange("killed"), routing_key="killed")
    publish(connect(), queue)
    script = f"""
import os, kombu, flo.contrib.kombu
with kombu.Connection("flo://127.0.0.1:{shared_flo.port}", transport_options={{"visibility_timeout": {LEASE_SECONDS}}}) as connection:
    connection.SimpleQueue("killed").get(timeout=5)
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == -9
    message = Consumer(connect(), queue).next()
    assert message.payload == "hello" and message.delivery_info["redelivered"]
    message.ack()


def test_rejections(connect: Callable[..., Any], client: Client) -> None:
    queue = kombu.Queue("rejected", kombu.Exchange("rejected"), routing_key="rejected")
    publish(connect(), queue)
    consumer = Consumer(connect(), queue)
    message = consumer.next()
    assert "redelivered" not in message.delivery_info
    message.requeue()
    message = consumer.next()
    assert message.delivery_info["redelivered"]
    message.reject()
    (dead,) = wait_until(lambda: client.queues.dead_letters("rejected"), "the dead letter")
    client.queues.requeue("rejected", [dead])
    consumer.next().ack()
    wait_until(lambda: is_empty(client, "rejected"), "the acknowledgement")


def test_max_attempts_makes_dead_letters(connect: Callable[..., Any], client: Client) -> None:
    queue = kombu.Queue("poison", kombu.Exchange("poison"), routing_key="poison")
    publish(connect(max_attempts=2), queue)
    consumer = Consumer(connect(max_attempts=2), queue)
    for _ in range(2):
        consumer.next().requeue()
    assert len(wait_until(lambda: client.queues.dead_letters("poison"), "the dead letter")) == 1


def test_lower_priorities_come_first_and_an_eta_waits_in_the_server(connect: Callable[..., Any], client: Client) -> None:
    queue = kombu.Queue("order", kombu.Exchange("order"), routing_key="order")
    connection = connect()
    for priority in (7, 0, 200, 3):
        publish(connection, queue, priority, priority=priority)
    publish(connection, queue, "later", headers={"eta": (datetime.now(UTC) + timedelta(seconds=600)).isoformat()})
    publish(connection, queue, "soon", headers={"eta": (datetime.now(UTC) + timedelta(seconds=0.4)).isoformat()})
    assert client.queues.stats("order")["delayed"] == 2
    consumer = Consumer(connect(), queue, no_ack=True)
    assert [consumer.next().payload for _ in range(5)] == [0, 3, 7, 200, "soon"]
    assert client.queues.stats("order")["delayed"] == 1


def test_prefetch_is_kept_and_all_queues_have_their_turn(connect: Callable[..., Any], client: Client) -> None:
    queues = [kombu.Queue(name, kombu.Exchange(name), routing_key=name) for name in ("turn-1", "turn-2", "turn-3")]
    for queue in queues:
        for _ in range(3):
            publish(connect(), queue, queue.name)
    consumer = Consumer(connect(), *queues, prefetch=1)
    seen = []
    for _ in range(9):
        message = consumer.next()
        assert sum(client.queues.stats(queue.name)["leased"] for queue in queues) == 1
        seen.append(message.payload)
        wait_until(lambda: {f"flo-fetch-{queue.name}" for queue in queues} <= {each.name for each in threading.enumerate()}, "all threads")
        message.ack()
    assert {*seen[:5]} == {"turn-1", "turn-2", "turn-3"}, "one that has just started may be passed over once"
    assert sorted(seen) == sorted(["turn-1", "turn-2", "turn-3"] * 3) and consumer.nothing(0.2)


def test_closing_gives_back_at_once(connect: Callable[..., Any]) -> None:
    queue = kombu.Queue("back", kombu.Exchange("back"), routing_key="back")
    with connect(visibility_timeout=600) as connection:
        publish(connection, queue, 1)
        publish(connection, queue, 2)
        assert Consumer(connection, queue, prefetch=2).next().payload == 1
    consumer = Consumer(connect(), queue, no_ack=True)
    assert [consumer.next(3).payload for _ in range(2)] == [1, 2]


def test_an_expired_message_is_not_delivered(connect: Callable[..., Any], client: Client) -> None:
    queue = kombu.Queue("expired", kombu.Exchange("expired"), routing_key="expired")
    publish(connect(), queue, expiration=0.001)
    publish(connect(), queue, "fresh", expiration=60)
    consumer = Consumer(connect(), queue, no_ack=True)
    assert consumer.next().payload == "fresh"
    wait_until(lambda: is_empty(client, "expired"), "the end of the expired message")


def test_an_unused_queue_with_expires_goes_with_its_bindings(connect: Callable[..., Any], client: Client) -> None:
    fanout = kombu.Exchange("told", type="fanout")
    unused = kombu.Queue("unused", fanout, expires=0.5)
    used = Consumer(connect(), kombu.Queue("used", fanout, expires=0.5), no_ack=True)
    publish(connect(), unused)
    assert used.next().payload == "hello"
    wait_until(lambda: not client.kv.exists("kombu.alive.unused"), "the end of the use")
    publish(connect(), used.consumer.queues[0], "again")  # it declares a queue with expires
    assert used.next().payload == "again"
    names = {queue["name"] for queue in client.queues.list()}
    assert "used" in names and "unused" not in names


def test_an_auto_delete_queue_stays_while_it_is_consumed(
    connect: Callable[..., Any], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "AUTO_DELETE_MS", 1000)
    fanout = kombu.Exchange("auto", type="fanout")
    connection = connect()
    consumer = Consumer(connection, kombu.Queue("auto", fanout, auto_delete=True), no_ack=True)
    assert consumer.nothing(2.2)
    fanout.bind(connection.default_channel).declare()
    connection.Producer().publish("still", exchange=fanout)
    assert consumer.next().payload == "still"
    connection.release()
    wait_until(lambda: not client.kv.exists("kombu.alive.auto"), "the end of the use")
    assert not [key for key, _ in client.kv.scan("kombu.binding.auto")]


def test_a_queue_can_be_asked_for_and_deleted(connect: Callable[..., Any]) -> None:
    channel = connect().channel()
    with pytest.raises(kombu.exceptions.ChannelError, match="no queue 'nowhere'"):
        channel.queue_declare("nowhere", passive=True)
    channel.queue_declare("somewhere")
    assert channel.queue_declare("somewhere", passive=True).message_count == 0
    channel.basic_publish(channel.prepare_message("one"), "", "somewhere")
    assert channel.queue_declare("somewhere", passive=True).message_count == 1
    assert channel.queue_purge("somewhere") == 1
    assert channel.basic_get("somewhere") is None
    channel.queue_delete("somewhere")
    with pytest.raises(kombu.exceptions.ChannelError):
        channel.queue_declare("somewhere", passive=True)


def test_a_consumer_works_on_when_the_server_was_killed(tmp_path: Path) -> None:
    """Also what it acknowledged meanwhile is acknowledged."""
    port = steady_port()
    queue = kombu.Queue("on", kombu.Exchange("on"), routing_key="on")
    with FloProcess(tmp_path / "data", "--port", str(port)) as server, kombu.Connection(f"flo://127.0.0.1:{port}") as connection:
        publish(connection, queue, 1)
        publish(connection, queue, 2)
        consumer = Consumer(connection, queue)
        message = consumer.next()
        server.kill()
        message.ack()
        assert not _published(connection, queue, 3)
        server.start()
        wait_until(lambda: _published(connection, queue, 4), "a connection")
        assert {consumer.next().payload, consumer.next().payload} == {2, 4}
        for message in consumer.messages[1:]:
            message.ack()
        with Client(f"flo://127.0.0.1:{port}") as client:
            wait_until(lambda: is_empty(client, "on"), "the acknowledgements")


def _published(connection: Any, queue: Any, body: Any) -> bool:
    with suppress(OperationalError, Disconnected):
        publish(connection, queue, body)
        return True
    return False


def test_a_wrong_address_is_told() -> None:
    port = steady_port()
    with pytest.raises(OperationalError, match=f"{port}"):
        kombu.Connection(f"flo://127.0.0.1:{port}").ensure_connection(max_retries=1, interval_start=0)


def test_the_secret_and_the_namespace_are_those_of_the_url(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open sesame")
    secret.chmod(0o600)
    with FloProcess(tmp_path / "data", "--secret-file", str(secret)) as server:
        with pytest.raises(Exception, match="secret"):
            kombu.Connection(f"flo://127.0.0.1:{server.port}").default_channel.queue_declare("q")
        with Client(f"flo://:open%20sesame@127.0.0.1:{server.port}") as client:
            client.namespaces.create("jobs")
        with kombu.Connection(f"flo://:open%20sesame@127.0.0.1:{server.port}/jobs") as connection:
            connection.SimpleQueue("q").put("hello")
            assert "sesame" not in connection.as_uri()
        with Client(f"flo://127.0.0.1:{server.port}/jobs", secret="open sesame") as client:
            assert client.queues.stats("q")["ready"] == 1
