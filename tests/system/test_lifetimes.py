"""EXPIRE and its kin on queues and streams, beside redis-server's lists and streams; over restarts, compaction and a clock that moves."""

from pathlib import Path
from typing import Any

import pytest

from flo.engine import Engine, EngineSettings
from tests.support.processes import FloProcess, RedisProcess, wait_until

pytestmark = pytest.mark.slow

COMMANDS = """
    TTL q
    EXPIRE q 100
    {fill}
    TTL q
    PTTL q
    EXPIRETIME q
    PERSIST q
    EXPIRE q 100
    TTL q
    EXPIRE q 50 GT
    EXPIRE q 200 GT
    TTL q
    EXPIRE q 300 LT
    EXPIRE q 150 LT
    EXPIRE q 10 NX
    EXPIRE q 100 XX
    EXPIRE q 100 FOO
    TTL q
    EXPIREAT q 4000000000
    EXPIRETIME q
    PEXPIREAT q 4000000000000
    PEXPIRETIME q
    {fill}
    EXPIRETIME q
    PERSIST q
    PERSIST q
    TTL q
    EXPIRE q 10 NX
    EXISTS q
    EXPIRE q -1
    EXISTS q
    TTL q
    {fill}
    TTL q
    EXPIREAT q 1
    EXISTS q
"""


@pytest.mark.parametrize("fill", ["LPUSH q m", "XADD q * f v"])
def test_deadlines_as_in_redis(flo: FloProcess, redis_server: RedisProcess, fill: str) -> None:
    with flo.connect() as ours, redis_server.connect() as theirs:
        theirs.command("FLUSHALL")
        for line in COMMANDS.format(fill=fill).strip().splitlines():
            words = line.split()
            answers = ours.command(*words), theirs.command(*words)
            if words[0] in ("TTL", "PTTL") and answers[1] > 0:
                assert abs(answers[0] - answers[1]) <= (1 if words[0] == "TTL" else 1000), line
            elif words[0] != "XADD":
                assert answers[0] == answers[1], (line, answers)


@pytest.mark.parametrize(("fill", "look", "nothing"), [("LPUSH q m", "LRANGE q 0 -1", []), ("XADD q * f v", "XRANGE q - +", [])])
def test_it_is_gone_at_its_time_and_what_comes_then_stays(flo: FloProcess, fill: str, look: str, nothing: Any) -> None:
    with flo.connect() as client:
        client.command(*fill.split())
        assert client.command("PEXPIRE", "q", 1000) == 1
        wait_until(lambda: client.command("EXISTS", "q") == 0, "its time", 10)
        assert client.command(*look.split()) == nothing
        client.command(*fill.split())
        assert client.command("TTL", "q") == -1
    flo.kill()
    flo.start()
    with flo.connect() as client:
        assert len(client.command(*look.split())) == 1


def test_a_list_that_ran_empty_forgets_its_deadline_as_in_redis(flo: FloProcess, redis_server: RedisProcess) -> None:
    """Else what comes after would be dropped at a time that was meant for other messages."""
    with flo.connect() as ours, redis_server.connect() as theirs:
        theirs.command("DEL", "q")
        ours.command("CLIENT", "AUTOACK", "ON")
        for client in (ours, theirs):
            client.command("LPUSH", "q", "m")
            assert client.command("EXPIRE", "q", 100) == 1
            assert client.command("RPOP", "q") == b"m"
            assert (client.command("TTL", "q"), client.command("EXISTS", "q")) == (-2, 0)
            client.command("LPUSH", "q", "m")
            assert client.command("TTL", "q") == -1


def test_deadlines_outlive_restarts_and_compaction(tmp_path: Path) -> None:
    """And one that passes while no server runs is over when the next one starts; groups, configuration and dead letters go too."""
    now = 1_700_000_000_000
    settings = EngineSettings(segment_bytes=1 << 16)
    with Engine(str(tmp_path), settings, clock=lambda: now) as engine:
        for name in (b"a", b"b"):
            engine.queues.enqueue(name, b"m")
            engine.queues.configure(name, max_attempts=1)
            engine.queues.nack(name, [m.receipt for m in engine.queues.dequeue(name)])
            engine.queues.enqueue(name, b"n")
            engine.streams.append(name, b"r")
            engine.streams.groups.create(name, b"g")
            assert engine.queues.expire_at(name, now + 60_000) and engine.streams.expire_at(name, now + 60_000)
        engine.queues.pause(b"b", True)
        assert engine.queues.persist(b"b") and engine.streams.persist(b"b")
        engine.compact()
    with Engine(str(tmp_path), settings, clock=lambda: now + 59_999) as engine:
        assert engine.queues.deadline(b"a") == engine.streams.deadline(b"a") == now + 60_000
        assert engine.queues.deadline(b"b") == engine.streams.deadline(b"b") == 0
        assert engine.queues.stats(b"b")["paused"] == 1
    with Engine(str(tmp_path), settings, clock=lambda: now + 60_000) as engine:
        assert engine.queues.names() == engine.streams.names() == [b"b"]
        assert engine.queues.stats(b"a")["max_attempts"] == 5 and engine.queues.dead_letters(b"a") == []
        assert engine.streams.groups.find(b"a", b"g") is None
        engine.streams.append(b"a", b"s")
        assert [record.payload for record in engine.streams.read(b"a")] == [b"s"]
    with Engine(str(tmp_path), settings, clock=lambda: now) as engine:  # the clock is back: what was seen gone stays gone
        assert engine.queues.names() == [b"b"] and engine.streams.deadline(b"a") == 0


@pytest.mark.slow
def test_many_deadlines_at_once(flo: FloProcess) -> None:
    with flo.connect() as client:
        client.pipeline(*[("LPUSH", f"q{number}", "m") for number in range(5000)])
        client.pipeline(*[("PEXPIRE", f"q{number}", 1000) for number in range(5000)])
        wait_until(lambda: b"queues=0,messages=0" in client.command("INFO", "flo"), "the end of all queues", 20)
