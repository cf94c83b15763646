"""Queues over the wire: RESP through redis-py, the binary protocol through flo.Client, the command line; waiting, fairness, restarts,
and workers that die."""

import contextlib
import faulthandler
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from flo import Client, Engine, calls
from flo.errors import BadRequest
from tests.support.processes import ROOT, FloProcess, RedisProcess, ReplyError, encode, steady_port, wait_until


@pytest.fixture
def client(flo: FloProcess) -> Iterator[Client]:
    with Client(f"flo://127.0.0.1:{flo.port}") as made:
        yield made


def test_a_redis_worker_runs(flo: FloProcess) -> None:
    """What a plain Redis job queue does, with its own client."""
    with redis.Redis(port=flo.port) as r:
        r.client_id()
        assert r.execute_command("CLIENT", "AUTOACK", "ON") in (b"OK", True)
        assert r.lpush("jobs", "a", "b", "c") == 3
        assert (r.llen("jobs"), r.lrange("jobs", 0, -1), r.lrange("jobs", -1, -1)) == (3, [b"c", b"b", b"a"], [b"a"])
        assert r.type("jobs") == b"list" and r.exists("jobs") == 1 and r.ttl("jobs") == -1
        assert r.rpop("jobs") == b"a"
        assert r.rpop("jobs", 5) == [b"b", b"c"]
        assert r.rpop("jobs") is None and r.rpop("jobs", 2) is None
        assert r.brpop(["jobs", "other"], timeout=0.05) is None
        r.lpush("other", "x")
        assert r.brpop(["jobs", "other"], timeout=1) == (b"other", b"x")
        r.lpush("jobs", "y")
        assert r.delete("jobs", "none") == 1 and r.exists("jobs") == 0


def test_pops_lease_and_receipts_acknowledge(flo: FloProcess) -> None:
    with flo.connect() as c:
        first = c.command("QENQUEUE", "q", "one")
        second = c.command("QENQUEUE", "q", "two", "PRIORITY", 5)
        assert c.command("RPOP", "q") == b"one"
        assert c.command("QLAST") == [b"%d-1" % first]
        assert c.command("QACK", "q", f"{first}-2") == 0, "another attempt than the one that holds it"
        assert c.command("QACK", "q", f"{first}-1", 999) == 1
        assert c.command("QDEQUEUE", "q", "COUNT", 5, "LEASE", 60_000) == [[second, b"two", 1]]
        assert c.command("QNACK", "q", "DELAY", 60_000, f"{second}-1") == 1
        assert c.command("QDEQUEUE", "q") == []
        stats = dict(zip(*[iter(c.command("QSTATS", "q"))] * 2, strict=True))
        assert (stats[b"delayed"], stats[b"ready"], stats[b"leased"]) == (1, 0, 0)
        third = c.command("QENQUEUE", "q", "bad")
        assert c.command("QDEQUEUE", "q") == [[third, b"bad", 1]]
        assert c.command("QNACK", "q", "DLQ", third) == 1
        assert c.command("QDLQ", "LIST", "q") == [[third, b"bad", 1]]
        assert c.command("QDLQ", "REQUEUE", "q", third) == 1
        assert c.command("RPOP", "q") == b"bad"
        assert c.command("QTOUCH", "q", 1000, third) == 1


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (("RPOP", "q", "-1"), "value is out of range, must be positive"),
        (("BRPOP", "q", "-1"), "timeout is negative"),
        (("BRPOP", "q", "soon"), "timeout is not a float or out of range"),
        (("BRPOP", "q"), "wrong number of arguments for 'brpop' command"),
        (("LPUSH", "q"), "wrong number of arguments for 'lpush' command"),
        (("LRANGE", "q", "a", "1"), "value is not an integer or out of range"),
        (("QENQUEUE", "q", "x", "PRIORITY", "256"), "PRIORITY is 0 to 255"),
        (("QENQUEUE", "q", "x", "COLOUR", "red"), "syntax error"),
        (("QDEQUEUE", "q", "COUNT", "101"), "COUNT is 1 to 100"),
        (("QACK", "q", "one"), "'one' is no receipt"),
        (("QNACK", "q", "DLQ"), "wrong number of arguments for 'qnack' command"),
        (("QCONFIG", "q", "LEASE", "0"), "the lease is 0; it is 1 to"),
        (("CLIENT", "AUTOACK", "MAYBE"), "syntax error"),
        (("QENQUEUE", "q" * 32_001, "x"), "the queue's name is 32001 bytes"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, tuple) else "",
)
def test_what_is_refused_says_why(shared_flo: FloProcess, request_: tuple[str, ...], says: str) -> None:
    with shared_flo.connect() as c:
        answer = c.command(*request_)
        assert isinstance(answer, ReplyError) and says in str(answer), answer
        assert c.command("EXISTS", "q") == 0, "nothing was changed"


def test_the_binary_client(client: Client) -> None:
    q = client.queues
    a, b = q.enqueue("q", "a", dedup="k"), q.enqueue("q", "b", priority=9)
    assert q.enqueue("q", "again", dedup="k") == a
    assert [m.seq for m in q.peek("q")] == [a, b]
    first, second = q.dequeue("q", 5)
    assert (first.payload, first.attempts, first.priority, second.priority) == (b"a", 1, 0, 9)
    assert q.touch("q", first, lease=60_000) == 1
    assert q.ack("q", first, (second.seq, 7)) == 1
    assert q.nack("q", second.seq, dead=True) == 1
    assert [m.seq for m in q.dead_letters("q")] == [b]
    assert q.requeue("q", [b, 1 << 40]) == 1
    q.configure("q", lease=5000, max_attempts=1)
    assert (q.stats("q")["lease_ms"], q.stats("q")["max_attempts"]) == (5000, 1)
    (again,) = q.dequeue("q")
    assert q.ack("q", second) == 0, "it was delivered again since"
    assert q.nack("q", again) == 1
    assert [m.attempts for m in q.dead_letters("q")] == [2]
    assert q.delete_dead("q") == 1, "its one attempt since it was put back was spent"
    assert q.purge("q") == 0
    assert [queue["name"] for queue in q.list()] == ["q"]
    assert client.run_many([calls.queue_enqueue("q", "x"), calls.queue_dequeue("q")])[1][0].payload == b"x"
    with pytest.raises(BadRequest, match="limit is 101"):
        q.dequeue("q", 101)
    assert q.dequeue("none", block=20) == []


def test_many_queues_are_listed_in_pages(client: Client) -> None:
    client.run_many([calls.queue_enqueue(f"q{number:04}", "x") for number in range(1050)])
    assert [queue["name"] for queue in client.queues.list()] == [f"q{number:04}" for number in range(1050)]


@pytest.mark.slow
def test_the_command_line(flo: FloProcess) -> None:
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flo", "queue", *args, "--port", str(flo.port)], capture_output=True, text=True, cwd=ROOT, timeout=30
        )

    assert run("dequeue", "mail").returncode == 1
    assert run("enqueue", "mail", "hello", "--priority", "3").stdout == "OK, seq 1\n"
    assert run("enqueue", "mail", "later", "--delay", "100000").stdout == "OK, seq 2\n"
    assert run("peek", "mail").stdout.endswith("\thello\n")
    shown = run("dequeue", "mail")
    assert shown.stdout.startswith("1-1\t") and shown.stdout.endswith("\thello\n")
    assert run("touch", "mail", "1-1", "--lease", "1000").stdout == "extended 1 message\n"
    assert run("nack", "mail", "1-1", "--dead").stdout == "gave back 1 message\n"
    assert run("dlq", "mail", "--format", "raw").stdout == "hello\n"
    assert run("dlq", "mail", "--requeue", "1").stdout == "put back 1 message\n"
    assert json.loads(run("dequeue", "mail", "--format", "json").stdout)[0]["attempts"] == 2
    assert run("ack", "mail", "1").stdout == "removed 1 message\n"
    assert json.loads(run("stats", "mail", "--format", "json").stdout)["delayed"] == 1
    assert run("purge", "mail").stdout == "removed 1 message\n"
    assert run("ls").stdout == ""
    assert run("ack", "mail", "x").returncode == 2


# -- waiting ---------------------------------------------------------------------------------------


def are_waiting(client: Client, number: int) -> bool:
    return bool(client.queues.stats("q")["waiting"] == number)


def has_reached(drain: Callable[[], int], count: int) -> bool:
    return drain() >= count


def test_takers_are_served_in_the_order_they_came_over_both_protocols(flo: FloProcess, client: Client) -> None:
    """One message wakes one; a blocked RESP connection keeps its pipeline's order."""
    order: list[int] = []
    waiters = []

    def wait(number: int) -> None:
        if number % 2:
            with flo.connect() as c:
                c.send(encode("BRPOP", "q", 0) + encode("PING"))
                assert c.reply()[1] == b"%d" % number
                assert c.reply() == b"PONG"
        else:
            with Client(f"flo://127.0.0.1:{flo.port}") as c2:
                assert c2.queues.dequeue("q", block=0)[0].payload == b"%d" % number
        order.append(number)

    for number in range(10):
        thread = threading.Thread(target=wait, args=(number,))
        thread.start()
        waiters.append(thread)
        wait_until(partial(are_waiting, client, number + 1), "the next to wait")
    for number, thread in enumerate(waiters):
        client.queues.enqueue("q", str(number))
        thread.join(10)
        assert order == list(range(number + 1)), "one message wakes one"
        assert client.queues.stats("q")["waiting"] == 9 - number
    assert client.queues.stats("q")["leased"] == 10


def test_waits_end_with_their_connection(flo: FloProcess, client: Client) -> None:
    with flo.connect() as gone, socket.create_connection(("127.0.0.1", flo.port)) as half:
        gone.send(encode("BRPOP", "q", "r", 0))
        half.sendall(encode("BRPOP", "q", 0))
        wait_until(lambda: client.queues.stats("q")["waiting"] == 2, "two who wait")
        half.shutdown(socket.SHUT_WR)
        half.settimeout(10)
        assert half.recv(10) == b"", "the end of input ends the wait"
    wait_until(lambda: client.queues.stats("q")["waiting"] == 0, "nobody to wait")
    client.queues.enqueue("q", "x")
    assert [m.payload for m in client.queues.dequeue("q")] == [b"x"]
    assert client.status()["waiting"] == 0


def test_a_lease_that_runs_out_wakes_a_taker(client: Client, flo: FloProcess) -> None:
    client.queues.enqueue("q", "x")
    (first,) = client.queues.dequeue("q", lease=150)
    with Client(f"flo://127.0.0.1:{flo.port}") as other:
        (again,) = other.queues.dequeue("q", block=5000)
        assert (again.seq, again.attempts) == (first.seq, 2)
    assert client.queues.ack("q", first) == 0, "it was delivered again"
    assert client.queues.ack("q", again) == 1


def test_a_delayed_message_comes_when_it_is_due(client: Client) -> None:
    seq = client.queues.enqueue("q", "x", delay=200)
    assert client.queues.dequeue("q") == []
    (message,) = client.queues.dequeue("q", block=5000)
    assert message.seq == seq


def test_ten_thousand_who_wait_on_one_queue(tmp_path: Path) -> None:
    """4 connections, 2,500 waits each: one message wakes exactly one of them."""
    with FloProcess(tmp_path / "data") as flo, Client(f"flo://127.0.0.1:{flo.port}") as client:
        socks = [socket.create_connection(("127.0.0.1", flo.port)) for _ in range(4)]
        for sock in socks:
            sock.settimeout(20)
            sock.sendall(b"".join(calls.queue_dequeue("q", block=0).encode(number, 0) for number in range(2500)))
        wait_until(lambda: client.queues.stats("q")["waiting"] == 10_000, "all of them to wait")
        client.queues.enqueue("q", "x")
        assert client.queues.stats("q")["waiting"] == 9_999
        assert client.queues.stats("q")["leased"] == 1
        assert len(socks[0].recv(1000)) == 24 + 4 + 8 + 1 + 4 + 8 + 4 + 1
        for sock in socks:
            sock.close()
        wait_until(lambda: client.queues.stats("q")["waiting"] == 0, "nobody to wait")
        assert client.status()["waiting"] == 0


# -- nothing is lost -------------------------------------------------------------------------------


def work(port: int, path: str) -> None:
    """Take, tell, acknowledge, until the queue is empty. Told, by a line in a file, before acknowledged: at least once."""
    done = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    stack = open(f"{path}.{os.getpid()}", "w")  # noqa: SIM115 - for as long as the process lives
    faulthandler.register(signal.SIGUSR1, stack)  # where it is, if it does not end
    client = Client(f"flo://127.0.0.1:{port}", timeout=20)
    while True:
        try:
            messages = client.queues.dequeue("work", 20, lease=700, block=1500)
            if not messages:
                return
            os.write(done, b"".join(b"%b %d %d\n" % (m.payload, m.seq, m.attempts) for m in messages))
            client.queues.ack("work", *messages)
        except Exception:  # the server was killed: it comes back
            client.close()
            if os.getppid() == 1:
                return


def stack_of(worker: Any, path: str, flo: FloProcess) -> str:
    """Where a worker is that should have ended, looked at twice, and what its server says."""
    for _ in range(2):
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGUSR1)
        worker.join(0.5)
    with Client(f"flo://127.0.0.1:{flo.port}") as client:
        return f"{Path(path).read_text()}\n{client.status()}\n{client.queues.stats('work')}"


@pytest.mark.slow
def test_workers_and_the_server_die_and_no_message_is_lost(tmp_path: Path, long_run: bool, request: pytest.FixtureRequest) -> None:
    """8 workers, 4 of them killed, the server killed too."""
    count = 100_000 if long_run else 8_000
    context = multiprocessing.get_context("spawn")
    with FloProcess(tmp_path / "data", start=False) as flo:
        port = steady_port()
        flo.flags = ("--port", str(port))
        flo.start()
        with Client(f"flo://127.0.0.1:{port}") as client:
            client.queues.configure("work", max_attempts=0)
            for at in range(0, count, 1000):
                client.run_many([calls.queue_enqueue("work", str(number)) for number in range(at, min(at + 1000, count))])
        path = tmp_path / "done"
        path.touch()
        workers = [context.Process(target=work, args=(port, str(path)), daemon=True) for _ in range(8)]
        for worker in workers:
            worker.start()
            request.addfinalizer(worker.kill)  # if this fails they would go on asking for a server that is gone
        told: dict[int, list[tuple[int, int]]] = {}

        def drain() -> int:
            told.clear()
            for line in path.read_text().rpartition("\n")[0].splitlines():  # behind it a line is being written
                number, seq, attempts = map(int, line.split())
                told.setdefault(number, []).append((seq, attempts))
            return len(told)

        for step, victim in enumerate(workers[:4], 1):
            wait_until(partial(has_reached, drain, count * step // 8), "some work", 120)
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            if step == 2:
                flo.kill()
                flo.start()
        wait_until(lambda: drain() == count, "every message", 240)
        with Client(f"flo://127.0.0.1:{port}") as client:
            wait_until(
                lambda: not any(client.queues.stats("work")[kind] for kind in ("ready", "leased", "delayed", "dead")),
                "the queue to be empty",
                60,
            )
        for worker in workers[4:]:
            worker.join(30)
            assert not worker.is_alive(), stack_of(worker, f"{path}.{worker.pid}", flo)
        drain()
        assert set(told) == set(range(count))
        again = {number: deliveries for number, deliveries in told.items() if len(deliveries) > 1}
        for deliveries in again.values():
            attempts = [attempt for _, attempt in deliveries]
            assert len(set(attempts)) == len(attempts), "the same delivery twice"
        assert len(again) <= 20 * 8 * 4, "each second delivery traces to a lease that was cut off"


@pytest.mark.slow
def test_with_auto_ack_a_queue_answers_as_a_redis_list(tmp_path: Path, redis_server: RedisProcess) -> None:
    """The same random commands to both; the answers are compared one by one."""
    chance = random.Random(7)
    with (
        FloProcess(tmp_path / "data", environment={"FLO_RESP_AUTO_ACK": "true"}) as flo,
        flo.connect() as mine,
        redis_server.connect() as theirs,
    ):
        theirs.command("FLUSHALL")
        for number in range(4000):
            queue = chance.choice(["a", "b", "c"])
            command = chance.choice(
                [
                    ("LPUSH", queue, *(f"{number}.{at}" for at in range(chance.randrange(1, 4)))),
                    ("RPOP", queue),
                    ("RPOP", queue, chance.randrange(4)),
                    ("LLEN", queue),
                    ("LRANGE", queue, chance.randrange(-6, 6), chance.randrange(-6, 6)),
                    ("LRANGE", queue, 0, -1),
                    ("TYPE", queue),
                    ("EXISTS", "a", "b", "c", queue),
                    ("TTL", queue),
                    ("BRPOP", queue, "b", "0.001") if number % 100 == 0 else ("LLEN", "b"),
                    ("DEL", queue) if number % 20 == 0 else ("LLEN", "c"),
                ]
            )
            assert mine.command(*command) == theirs.command(*command), (number, command)


def test_deleting_a_queue_gives_back_what_was_accounted(tmp_path: Path) -> None:
    """Deduplication keys too."""
    with Engine(str(tmp_path)) as engine:
        before = engine.memory_used()
        for i in range(20):
            engine.queues.enqueue(b"q", b"x", dedup=b"%d" % i + b"k" * 1000)
        engine.queues.dequeue(b"q", 3)
        engine.queues.delete(b"q")
        while engine.upkeep(True):
            pass
        assert engine.memory_used() == before
