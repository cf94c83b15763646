"""The leases that the brokers share: extended while held, answered when the server is back, given back at the end."""

import os
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from flo import Client
from flo.contrib.leases import Leases, PerProcess
from tests.support.processes import FloProcess, steady_port, wait_until

pytestmark = pytest.mark.slow

LEASE_MS = 900


@pytest.fixture
def client(flo: FloProcess) -> Iterator[Client]:
    with Client(f"flo://127.0.0.1:{flo.port}") as client:
        yield client


def counts(client: Client) -> tuple[int, int, int, int]:
    """(ready, leased, dead, acknowledged) of the queue."""
    stats = client.queues.stats("q")
    return stats["ready"], stats["leased"], stats["dead"], stats["acknowledged"]


def test_a_held_message_is_extended_and_a_forgotten_one_comes_back(client: Client) -> None:
    client.queues.enqueue("q", "kept")
    client.queues.enqueue("q", "forgotten")
    with closing(Leases(client, LEASE_MS)) as leases:
        kept, forgotten = leases.take("q", 2, 1000)
        began = time.monotonic()
        leases.forget("q", [forgotten])
        (again,) = client.queues.dequeue("q", block=10_000)
        assert (again.seq, again.attempts) == (forgotten.seq, 2)
        wait_until(lambda: time.monotonic() - began > LEASE_MS * 2 / 1000, "twice the lease")
        assert client.queues.dequeue("q") == []
        leases.ack("q", kept)
        assert client.queues.ack("q", again) == 1
        assert client.queues.stats("q")["delivered"] == 3


def test_answers(client: Client) -> None:
    for payload in ("done", "back", "dead", "held"):
        client.queues.enqueue("q", payload)
    with closing(Leases(client, LEASE_MS)) as leases:
        done, back, dead, _ = leases.take("q", 4, 1000)
        leases.ack("q", done)
        leases.give_back("q", [back])
        leases.give_back("q", [dead], dead=True)
        leases.give_back("q", [])
        assert counts(client) == (1, 1, 1, 1)
        (again,) = leases.take("q", 1, 1000)
        assert (again.seq, again.attempts) == (back.seq, 2)
    assert counts(client) == (2, 0, 1, 1)  # what was held went back at the end
    assert leases.take("q", 1, 1000)  # and a closed one may be used again
    leases.close()


def test_an_answer_is_sent_when_the_server_is_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    port = steady_port()
    with (
        FloProcess(tmp_path_factory.mktemp("data"), "--port", str(port)) as server,
        Client(f"flo://127.0.0.1:{port}") as client,
        closing(Leases(client, 60_000)) as leases,
    ):
        for payload in ("done", "dead", "held"):
            client.queues.enqueue("q", payload)
        done, dead, _ = leases.take("q", 3, 1000)
        server.kill()
        leases.ack("q", done)
        leases.give_back("q", [dead], dead=True)
        server.start()
        wait_until(lambda: counts(client) == (0, 1, 1, 1), "the answers")


def test_a_forked_child_has_its_own() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(os.getpid())
        return len(made)

    own = PerProcess(make)
    assert (own.get(), own.get()) == (1, 1)
    child = os.fork()
    if child == 0:
        os._exit(0 if (own.get(), own.get()) == (2, 2) and made[1] == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert own.get() == 1
