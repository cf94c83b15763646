"""max_memory: writes that add are refused with a sentence, in every protocol; reads, deletions and acknowledgements go on, and so do
writes once there is room."""

from pathlib import Path
from typing import Any

import pytest

import flo as flo_package
from flo.errors import Overloaded
from tests.support.processes import FloProcess, ReplyError, wait_until

LIMIT = 4 << 20


@pytest.fixture
def full(tmp_path: Path) -> FloProcess:
    return FloProcess(tmp_path / "data", "--max-memory", str(LIMIT), start=False)


def test_full_memory(full: FloProcess) -> None:
    """Refused, read, deleted; then accepted again, without a restart."""
    with full.start() as server, server.connect() as client, flo_package.Client(f"flo://127.0.0.1:{server.port}") as binary:
        client.command("QENQUEUE", "jobs", "one")
        client.command("XADD", "events", "*", "a", "1")
        client.command("JSON.SET", "parts", "$", '{"a": 1, "b": 2}')
        client.command("TS.WRITE", "cpu,host=a v=1 1000000")
        binary.actions.register("job", max_attempts=2, retry_delay=0)
        binary.workers.register("w", ["job"], concurrency=9)
        runs = [binary.actions.invoke("job", b"in") for _ in range(4)]
        held = [binary.workers.take("w") for _ in range(2)]
        count, reply = 0, None
        while not isinstance(reply, ReplyError):
            replies = client.pipeline(*(("SET", f"key-{count + i}", "v" * 1000) for i in range(100)))
            count += sum(reply == b"OK" for reply in replies)
            reply = replies[-1]
        assert 2000 < count < 5000
        assert str(reply).startswith("OOM") and "max_memory" in str(reply) and "raise max_memory" in str(reply)
        for command in (
            ("SET", "new", "v"), ("MSET", "new", "v", "newer", "v"), ("INCR", "n"), ("APPEND", "key-1", "more"), ("LPUSH", "jobs", "two"),
            ("QENQUEUE", "jobs", "two"), ("XADD", "events", "*", "a", "2"), ("JSON.SET", "doc", "$", "{}"),
            ("XGROUP", "CREATE", "events", "g", "0"), ("TS.WRITE", "cpu,host=a v=2 2000000"), ("TS.WRITE", "cpu,host=b v=1"),
        ):  # fmt: skip
            refused = client.command(*command)
            assert isinstance(refused, ReplyError) and str(refused).startswith("OOM"), command
        with pytest.raises(Overloaded, match="max_memory"):
            binary.kv.put("new", "v")
        with pytest.raises(Overloaded, match="max_memory"):
            binary.ts.write("cpu", "1")
        for refuse in (
            lambda: binary.actions.invoke("job", b"more"), lambda: binary.actions.register("other"),
            lambda: binary.schedules.put("s", '{"action": "job", "every_ms": 60000}'),
        ):  # fmt: skip
            with pytest.raises(Overloaded, match="max_memory"):
                refuse()
        assert isinstance(client.command("ACTION", "INVOKE", "job", "in"), ReplyError)
        # what keeps as much, or frees, is not refused
        for command, wanted in (
            (("EXPIRE", "key-500", "1000"), 1), (("PERSIST", "key-500"), 1), (("GETEX", "key-501", "EX", "1000"), b"v" * 1000),
            (("GETEX", "key-501", "PERSIST"), b"v" * 1000), (("RENAME", "key-501", "key-502"), b"OK"),
            (("RENAMENX", "key-502", "key-501"), 1),
            (("JSON.DEL", "parts", "$.a"), 1), (("JSON.GET", "parts"), b'{"b":2}'),
            (("PEXPIREAT", "key-501", "1"), 1),
        ):  # fmt: skip
            assert client.command(*command) == wanted, command
        assert client.command("GET", "key-1") == b"v" * 1000
        assert client.command("XLEN", "events") == 1
        assert binary.ts.query("cpu[0..10]")["series"][0]["points"] == [[1, 1.0]]
        seq, payload, attempts = client.command("QDEQUEUE", "jobs")[0]
        assert payload == b"one"
        assert client.command("QACK", "jobs", f"{seq}-{attempts}") == 1
        binary.workers.complete(runs[0], b"out", worker_id="w")
        assert binary.workers.fail(runs[1], b"oh", worker_id="w", retry=True) == "pending"
        assert [each.run_id for each in held if each] == runs[:2]
        again = [binary.workers.take("w") for _ in range(3)]
        assert [each.run_id for each in again if each] == runs[1:]
        assert not binary.workers.touch(runs[1], worker_id="w", progress="half").cancelled
        binary.workers.release(runs[1], worker_id="w")
        binary.actions.cancel(runs[2])
        binary.workers.fail(runs[3], b"oh", worker_id="w")
        assert [binary.actions.result(run).state for run in runs] == ["completed", "pending", "cancelled", "failed"]
        binary.actions.pause("job", True)
        binary.workers.drain("w")
        assert client.command("DEL", *(f"key-{i}" for i in range(100))) == 100
        assert binary.actions.invoke("job", b"more") != runs[0]
        assert client.command("SET", "new", "v") == b"OK"
        while not isinstance(client.command("SET", f"key-{count}", "v" * 1000), ReplyError):
            count += 1
        assert client.command("CONFIG", "SET", "maxmemory", str(2 * LIMIT)) == b"OK"
        assert client.command("SET", "newer", "v") == b"OK"
        assert client.command("CONFIG", "SET", "maxmemory", str(LIMIT // 2)) == b"OK"
        assert isinstance(client.command("SET", "newest", "v"), ReplyError)
        assert client.command("FLUSHALL") == b"OK"
        wait_until(lambda: client.command("SET", "newest", "v") == b"OK", "room after a flush")


@pytest.mark.slow
def test_points_in_a_full_memory(full: FloProcess) -> None:
    """Open points are sealed when they would fill it; series do fill it, and a deletion brings room."""
    with full.start() as server, flo_package.Client(f"flo://127.0.0.1:{server.port}") as client:
        series = client.ts

        def write(start: int) -> int:
            rows = (b"m%d,host=h%d v=1 %d" % (at % 2, at % 200, time) for at, time in enumerate(range(start, start + 4000)))
            dense = (b"dense v=2 %d" % time for time in range(start, start + 4000))
            return series.write_batch(b"\n".join([*rows, *dense]), precision=2)

        count = 0
        while count < 600_000:  # 18 bytes each if they were open: more than there is
            try:
                count += write(count)
            except Overloaded:
                wait_until(lambda: series_fits(series), "room after open points were sealed")
        assert series.query("dense[0..1000000] | count()")["series"][0]["points"][0][1] == count // 2
        with pytest.raises(Overloaded, match=r"max_memory.*raise max_memory"):
            for number in range(1_000_000):
                names = range(number * 50, number * 50 + 50)
                series.write_batch(b"\n".join(b"many,tag=%d v=1 0" % tag for tag in names), precision=2)
        assert series.list_page("many")["measurements"][0]["series"] % 50 == 0, "all of a text or nothing"
        assert series.delete("many") >= 50
        wait_until(lambda: series_fits(series), "room after a deletion")


def series_fits(series: Any) -> bool:
    """Whether a point is accepted."""
    try:
        return bool(series.write("m2", "1") == 1)
    except Overloaded:
        return False


@pytest.mark.slow
def test_a_start_over_the_limit(tmp_path: Path) -> None:
    """What is there stays there and is served; expiry brings room."""
    with FloProcess(tmp_path / "data") as server, server.connect() as client:
        client.pipeline(*(("SET", f"key-{i}", "v" * 1000, "PX", "60000" if i % 2 else "1500") for i in range(8000)))
        server.stop()
    with FloProcess(tmp_path / "data", "--max-memory", str(7 << 20)) as server, server.connect() as client:
        assert client.command("GET", "key-1") == b"v" * 1000
        wait_until(lambda: client.command("SET", "new", "v") == b"OK", "room after what expired")
