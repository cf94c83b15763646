"""An expired key is gone for every command at once, and stays dead when the clock steps back over a restart."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flo.engine import Engine, EngineSettings
from flo.engine.kv import KeyValue
from flo.engine.part import SWEEP_RETRY_MS
from flo.errors import Conflict, NotFound, Overloaded
from flo.store.kv import BURIED_BYTES
from tests.support.fakes import FakeHost, feed, session
from tests.support.processes import ROOT, encode

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


def gone_by(look: Callable[[], object]) -> bool:
    """Whether the look says that nothing is there."""
    try:
        return not look()
    except NotFound:
        return True


LOOKS: dict[str, Callable[[KeyValue], object]] = {
    "get": lambda kv: kv.get(b"k"),
    "mget": lambda kv: kv.mget([b"k"])[0],
    "exists": lambda kv: kv.exists(b"k"),
    "scan": lambda kv: kv.scan()[0],
    "random_key": lambda kv: kv.random_key(),
    "delete": lambda kv: kv.delete(b"k"),
    "delete_many": lambda kv: kv.delete_many([b"k"]),
    "touch": lambda kv: kv.touch(b"k", 0),
    "persist": lambda kv: kv.persist(b"k"),
    "copy": lambda kv: kv.copy(b"k", b"x", replace=True, move=False),
    "update": lambda kv: kv.update(b"k", lambda old: old and None),
    "json_get": lambda kv: kv.json_get(b"k"),
    "sweep": lambda kv: kv.engine.run(kv.sweep),
}


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("look", LOOKS)
def test_it_stays_dead_when_the_clock_steps_back(tmp_path: Path, look: str, restart: bool) -> None:
    wall = 1_700_000_000_000
    engine = Engine(str(tmp_path), clock=lambda: wall)
    engine.kv.put(b"k", b"v", deadline=wall + 1000)
    wall += 2000
    assert gone_by(lambda: LOOKS[look](engine.kv))
    wall -= 2000
    if restart:
        engine.log.abandon()
        engine = Engine(str(tmp_path), clock=lambda: wall)
    assert engine.kv.get(b"k") is None, f"alive again after {look} had shown it dead"
    assert [item.tombstone for item in engine.kv.history(b"k")] == [True, False]
    assert engine.kv.incr(b"k")[0] == 1
    engine.close()


def test_who_is_told_that_it_is_gone_is_told_for_good(tmp_path: Path) -> None:
    """Those who wait for a key look at it, and so do conditions and commands of many keys."""
    wall = 1_700_000_000_000
    engine = Engine(str(tmp_path), clock=lambda: wall)
    kv = engine.kv
    for key in (b"watched", b"other", b"absent", b"present"):
        kv.put(key, b"v", deadline=wall + 1000)
    seen: list[str] = []
    assert kv.watch(b"watched", lambda: seen.append("gone"), known=kv.put(b"watched", b"w", deadline=wall + 500)) is not None
    wall += 2000
    assert engine.run(kv.watch, b"watched", lambda: seen.append("again")) is not None
    assert seen == ["gone"], "the look of one who waits tells the others"
    assert kv.put(b"absent", b"new", if_absent=True)
    with pytest.raises(Conflict):
        kv.put(b"present", b"new", if_present=True)
    wall -= 2000
    engine.log.abandon()
    with Engine(str(tmp_path), clock=lambda: wall) as again:
        found = again.kv.mget([b"watched", b"other", b"absent", b"present"])
        assert [item and item.value for item in found] == [None, b"v", b"new", None], "what nobody was shown has its time again"


def test_on_a_disk_that_is_full_it_stays_dead_while_the_process_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No look is refused because no tombstone fits; the sweep buries it when there is room."""
    wall, steady, full = 1_700_000_000_000, 0, True
    with Engine(str(tmp_path), manual=True, clock=lambda: wall, steady=lambda: steady) as engine:
        engine.kv.put(b"k", b"v", deadline=wall + 1000)
        engine.commit()
        last, admit, holds = engine.log.next_index, engine.log.admit, engine.log.holds

        def admit_none(size: int, adds: bool, grows: bool = True) -> None:
            if full:
                raise Overloaded("full")
            admit(size, adds)

        monkeypatch.setattr(engine.log, "admit", admit_none)
        monkeypatch.setattr(engine.log, "holds", lambda size: not full and holds(size))
        wall += 1000
        engine.tick()
        assert engine.kv.get(b"k") is None
        wall -= 86_400_000
        engine.tick()
        assert engine.kv.get(b"k") is None
        assert engine.kv.scan()[0] == []
        assert not engine.sweep()
        assert engine.next_due() == SWEEP_RETRY_MS, "not at once: the disk is full"
        full = False
        engine.tick()
        assert not engine.sweep(), "it is not time yet, whatever the wall clock says"
        assert engine.log.next_index == last
        steady += SWEEP_RETRY_MS
        engine.sweep()
        engine.commit()
        assert (len(engine.kv.store), engine.kv.history(b"k")[0].tombstone, engine.next_due()) == (0, True, None)


def test_without_the_tombstone_it_would_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule taken out: if showing a key as dead wrote nothing, the tests above would fail."""
    wall = 1_700_000_000_000
    engine = Engine(str(tmp_path), clock=lambda: wall)
    engine.kv.put(b"k", b"v", deadline=wall + 1000)
    monkeypatch.setattr(KeyValue, "_end", lambda self, key: None)
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
    from tests.support.processes import FloProcess, wait_until

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


def test_who_waits_for_a_key_that_expires_while_others_are_told_of_it_is_told_too(tmp_path: Path) -> None:
    """Telling goes in slices; the look of a later slice may be the first to find the key expired."""
    wall, told = 1_700_000_000_000, []
    with Engine(str(tmp_path), manual=True, clock=lambda: wall) as engine:
        kv = engine.kv
        first = kv.put(b"k", b"v")
        for name in "abc":
            assert kv.watch(b"k", lambda name=name: told.append(name), known=first) is not None  # type: ignore[misc]
        last = kv.put(b"k", b"w", deadline=wall + 1000)
        assert kv.watch(b"k", lambda: told.append("d"), known=last) is not None
        assert kv.notify(1)
        wall += 1000
        engine.tick()
        while engine.notify():
            pass
    assert sorted(told) == ["a", "b", "c", "d"]


def test_a_scan_of_many_expired_keys_is_cut_into_slices(host: FakeHost) -> None:
    """It buries each of them, and others wait meanwhile."""
    client = session(host)
    for at in range(3000):
        host.engine.kv.put(b"k%d" % at, b"v", deadline=host.time + 1000)
    feed(client, encode("SCAN", "0", "COUNT", "10000"))
    host.time += 1000
    host.tick()
    log = host.engine.log
    before, buried = log.next_index, []
    client.feed(encode("SCAN", "0", "COUNT", "10000"), 1 << 40)
    buried.append(log.next_index - before)
    while client.job is not None:
        before = log.next_index
        client.resume()
        buried.append(log.next_index - before)
    assert sum(buried) == 3000 and max(buried) == 1000
    assert b"".join(client.peer.out) == b"*2\r\n$1\r\n0\r\n*0\r\n"
