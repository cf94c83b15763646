"""An expired key is gone for every command at once, and stays dead when the clock steps back over a restart."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flo.engine import Engine, EngineSettings
from flo.store.kv import BURIED_BYTES
from tests.fakes import FakeHost, feed, session
from tests.processes import ROOT, encode

GONE: list[tuple[tuple[str, ...], bytes]] = [
    (("GET", "k"), b"$-1\r\n"),
    (("EXISTS", "k"), b":0\r\n"),
    (("TTL", "k"), b":-2\r\n"),
    (("PTTL", "k"), b":-2\r\n"),
    (("EXPIRETIME", "k"), b":-2\r\n"),
    (("TYPE", "k"), b"+none\r\n"),
    (("STRLEN", "k"), b":0\r\n"),
    (("MGET", "k"), b"*1\r\n$-1\r\n"),
    (("KEYS", "*"), b"*0\r\n"),
    (("SCAN", "0"), b"*2\r\n$1\r\n0\r\n*0\r\n"),
    (("RANDOMKEY",), b"$-1\r\n"),
    (("GETV", "k"), b"*-1\r\n"),
    (("DEL", "k"), b":0\r\n"),
    (("EXPIRE", "k", "100"), b":0\r\n"),
    (("PERSIST", "k"), b":0\r\n"),
    (("GETDEL", "k"), b"$-1\r\n"),
    (("RENAME", "k", "x"), b"-ERR no such key\r\n"),
    (("COPY", "k", "x"), b":0\r\n"),
    (("SET", "k", "v", "XX"), b"$-1\r\n"),
    (("SET", "k", "new", "NX"), b"+OK\r\n"),
    (("SET", "k", "v", "GET"), b"$-1\r\n"),
    (("INCR", "k"), b":1\r\n"),
    (("APPEND", "k", "x"), b":1\r\n"),
    (("GETRANGE", "k", "0", "-1"), b"$0\r\n\r\n"),
    (("SETNX", "k", "x"), b":1\r\n"),
]


@pytest.fixture
def host() -> Iterator[FakeHost]:
    made = FakeHost()
    yield made
    made.close()


@pytest.mark.parametrize(("request_", "reply"), GONE, ids=lambda value: str(value[0]) if isinstance(value, tuple) else "")
def test_an_expired_key_is_invisible_at_once(host: FakeHost, request_: tuple[str, ...], reply: bytes) -> None:
    client = session(host)
    feed(client, encode("SET", "k", "5", "PX", "1000"))
    host.time += 999
    host.tick()
    assert feed(client, encode("EXISTS", "k")) == b":1\r\n"
    host.time += 1
    host.tick()
    assert feed(client, encode(*request_)) == reply


def test_cas_sees_no_expired_key(host: FakeHost) -> None:
    client = session(host)
    feed(client, encode("SET", "k", "5", "PX", "1000"))
    host.time += 1000
    host.tick()
    assert feed(client, encode("CAS", "k", "1", "x")).startswith(b"-CONFLICT")
    assert feed(client, encode("CAS", "k", "0", "x")).startswith(b":")


@pytest.mark.parametrize("look", ["get", "exists", "scan"])
def test_it_stays_dead_when_the_clock_steps_back_over_a_restart(tmp_path: Path, look: str) -> None:
    wall = 1_700_000_000_000
    engine = Engine(str(tmp_path), clock=lambda: wall)
    engine.kv.put(b"k", b"v", deadline=wall + 1000)
    wall += 1000
    shown: dict[str, Callable[[], object]] = {
        "get": lambda: engine.kv.get(b"k"),
        "exists": lambda: engine.kv.exists(b"k"),
        "scan": lambda: engine.kv.scan()[0],
    }
    assert not shown[look]()
    engine.log.abandon()
    wall -= 1000
    with Engine(str(tmp_path), clock=lambda: wall) as again:
        assert again.kv.get(b"k") is None, f"alive again after {look} had shown it dead"
        assert again.kv.incr(b"k")[0] == 1


def test_without_the_stamp_it_would_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule taken out: if showing a key as dead put no time on disk, the test above would fail."""
    wall = 1_700_000_000_000
    engine = Engine(str(tmp_path), clock=lambda: wall)
    engine.kv.put(b"k", b"v", deadline=wall + 1000)
    monkeypatch.setattr(Engine, "commit", lambda self: self.log.commit(self.now) if self.log.pending else None)
    wall += 1000
    assert engine.kv.get(b"k") is None
    engine.log.abandon()
    wall -= 1000
    with Engine(str(tmp_path), clock=lambda: wall) as again:
        assert again.kv.get(b"k") is not None


def test_sweeping_is_bounded_leaves_tombstones_and_frees(tmp_path: Path) -> None:
    wall = 1_700_000_000_000
    with Engine(str(tmp_path), EngineSettings(), clock=lambda: wall, manual=True) as engine:
        for at in range(1000):
            engine.kv.put(b"k%d" % at, b"v", deadline=wall + 10)
        engine.commit()
        wall += 2000
        engine.tick()
        assert engine.next_due() is not None
        before = engine.log.next_index
        assert engine.sweep()
        assert 0 < engine.log.next_index - before <= 200
        while engine.sweep():
            engine.commit()
        assert len(engine.kv.store) == 0
        assert engine.next_due() is None
        assert engine.kv.store.bytes == sum(BURIED_BYTES + len(b"k%d" % at) for at in range(1000)), "their names, for their history"
        assert engine.kv.history(b"k7")[0].tombstone


def test_a_server_sweeps_by_itself(tmp_path: Path) -> None:
    """Real time: a key with a short life is buried without anyone asking for it."""
    from tests.processes import FloProcess, wait_until

    with FloProcess(tmp_path / "data") as server, server.connect() as client:
        client.command("SET", "k", "v", "PX", "50")
        assert client.command("DBSIZE") == 1
        wait_until(lambda: client.command("DBSIZE") == 0, "the sweep")
        info = client.command("INFO", "stats").decode()
        assert "expired_keys:1" in info


def test_replay_uses_no_clock_and_no_chance(tmp_path: Path) -> None:
    """`apply` is handed records and nothing else: with every clock and random source raising, replay gives the same state."""
    with Engine(str(tmp_path)) as engine:
        engine.kv.put(b"a", b"1", deadline=engine.now + 100_000)
        engine.kv.incr(b"n")
        engine.kv.delete(b"n")
        engine.create_namespace("x")
        engine.flush([engine.namespace("x")])
    script = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import time, random
from flo.ual.log import Log
from flo.engine import Engine
real = Log.__init__
def fails(*_): raise AssertionError("replay asked for the time or for chance")
def init(self, directory, apply, **kw):
    def strict(index, record):
        saved = time.time, time.time_ns, time.monotonic, random.random
        time.time = time.time_ns = time.monotonic = random.random = fails
        try: apply(index, record)
        finally: time.time, time.time_ns, time.monotonic, random.random = saved
    real(self, directory, strict, **kw)
Log.__init__ = init
engine = Engine({str(tmp_path)!r})
print(engine.kv.get(b"a").value, engine.kv.get(b"n"), sorted(engine.namespaces))
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "b'1' None ['default', 'x']"
