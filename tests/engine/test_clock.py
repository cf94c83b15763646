"""A wall clock that is wrong for a while and put right: what is set from then on runs out when it should, over restarts too."""

import mmap
import re
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flo.engine import Engine, EngineSettings
from flo.engine.clock import DRIFT_DIVISOR, STEP_MS, Steps, steady_clock
from flo.engine.group import AT_ONCE
from flo.engine.stream import Bounds
from flo.server import Server
from flo.store.queue import DEDUP_MS, LEASE_MS
from flo.store.stream import SEQ_BITS
from flo.ual.liveness import survivors
from tests.support.fakes import FakeHost, feed, session
from tests.support.processes import FloProcess, encode, wait_until

START = 1_700_000_000_000
SECOND, HOUR = 1000, 3_600_000
AHEAD = {"90 s": 90 * SECOND, "2 h": 2 * HOUR, "12 years": 12 * 365 * 24 * HOUR}
DAY = 24 * HOUR


class Life:
    """An engine whose clock was ahead, and was put right while it ran or while it was stopped."""

    def __init__(self, directory: Path, ahead: int, stopped: bool) -> None:
        self.directory = directory
        self.wall = START
        self.steady = 0
        self.ahead = ahead
        self.stopped = stopped
        self.engine = self._open()

    def _open(self) -> Engine:
        settings = EngineSettings(segment_bytes=1 << 16, history_age=DAY)
        return Engine(str(self.directory), settings, clock=lambda: self.wall, steady=lambda: self.steady)

    def step(self) -> None:
        """The clock jumps ahead."""
        self.wall += self.ahead

    def put_right(self) -> None:
        """It is put right."""
        if self.stopped:
            self.engine.close()
        self.wall -= self.ahead
        if self.stopped:
            self.engine = self._open()

    def restart(self) -> None:
        """Vanish, and start again."""
        self.engine.log.abandon()
        self.engine = self._open()

    def later(self, ms: int) -> None:
        """Time passes, and does what it has to."""
        self.wall += ms
        self.steady += ms
        self.engine.tick()
        with self.engine.batch():
            while self.engine.upkeep(idle=True):
                pass


@pytest.fixture(params=AHEAD, ids=lambda name: name.replace(" ", ""))
def ahead(request: pytest.FixtureRequest) -> int:
    """How far the clock was ahead, ms."""
    return AHEAD[request.param]


@pytest.fixture(params=[False, True], ids=["running", "stopped"])
def life(request: pytest.FixtureRequest, tmp_path: Path, ahead: int) -> Life:
    """One that writes something while its clock is ahead, and has it put right."""
    made = Life(tmp_path / "data", ahead, request.param)
    engine = made.engine
    engine.kv.put(b"before", b"v", deadline=START + 10 * SECOND)
    engine.kv.put(b"unseen", b"v", deadline=START + 10 * SECOND)
    engine.queues.enqueue(b"old", b"m", dedup=b"key")
    made.step()
    assert engine.kv.get(b"before") is None, "it is past, and shown"
    engine.kv.put(b"ahead", b"v")
    engine.queues.enqueue(b"other", b"m", dedup=b"key")
    engine.streams.append(b"s", b"1")
    made.put_right()
    return made


def test_keys(life: Life) -> None:
    kv = life.engine.kv
    assert kv.get(b"before") is None, "what was shown as gone stays gone"
    assert kv.get(b"unseen") is not None, "what was not has its time again"
    kv.put(b"exat", b"v", deadline=START + HOUR)
    assert kv.exists(b"exat")
    kv.put(b"ex", b"v", deadline=life.wall + 2 * SECOND)
    life.later(1999)
    assert kv.exists(b"ex")
    life.restart()
    kv = life.engine.kv
    assert kv.exists(b"ex")
    life.later(1)
    assert not kv.exists(b"ex")
    life.later(10 * SECOND)
    assert not kv.exists(b"unseen") and kv.exists(b"exat")
    assert len(kv.store) == 2, "the sweep has buried the others"
    life.later(HOUR)
    assert not kv.exists(b"exat") and len(kv.store) == 1
    life.engine.close()


def test_history_ages(life: Life) -> None:
    """What was replaced while the clock was ahead is kept until something replaces it at a right time, and a day from then."""
    kv = life.engine.kv
    assert [item.value for item in kv.history(b"ahead")] == [b"v"]
    kv.put(b"ahead", b"w")
    assert [item.value for item in kv.history(b"ahead")] == [b"w", b"v"]
    kv.put(b"k", b"1")
    life.later(SECOND)
    kv.put(b"k", b"2")
    life.later(DAY - 1)
    assert [item.value for item in kv.history(b"k")] == [b"2", b"1"]
    assert [item.time for item in kv.history(b"k")] == [START + SECOND, START], "people are shown the wall clock"
    life.later(1)
    assert [item.value for item in kv.history(b"k")] == [b"2"]
    life.engine.compact()
    assert [item.value for item in kv.history(b"ahead")] == [b"w"]
    log = {index: record for index in range(1, life.engine.log.next_index) if (record := life.engine.log.read(index))}
    assert {log[index].entity for index in survivors(log, life.wall, 64, DAY).history} <= {b"before", b"unseen"}
    life.engine.close()


def test_leases_and_delays(life: Life) -> None:
    queues = life.engine.queues
    seq = queues.enqueue(b"q", b"m")
    late = queues.enqueue(b"q", b"late", delay=5 * SECOND)
    assert [(message.seq, message.attempts) for message in queues.dequeue(b"q", 9)] == [(seq, 1)]
    life.later(5 * SECOND - 1)
    assert queues.ready_count(b"q") == 0
    life.later(1)
    assert [message.seq for message in queues.dequeue(b"q", 9, lease=LEASE_MS)] == [late]
    life.restart()
    queues = life.engine.queues
    life.later(LEASE_MS - 5 * SECOND)
    assert [(message.seq, message.attempts) for message in queues.dequeue(b"q", 9)] == [(seq, 2)]
    life.later(5 * SECOND)
    assert [(message.seq, message.attempts) for message in queues.dequeue(b"q", 9)] == [(late, 2)]
    life.engine.close()


def test_deduplication_windows(life: Life) -> None:
    """One that was opened while the clock was ahead does not keep later ones open."""
    queues = life.engine.queues
    seq = queues.enqueue(b"q", b"m", dedup=b"key")
    life.later(DEDUP_MS - 1)
    assert queues.enqueue(b"q", b"m", dedup=b"key") == seq
    life.later(1)
    assert [queue.name for queue in queues.store.queues.values() if queue.dedup] == [b"other"], "the other ones are over, and forgotten"
    assert queues.enqueue(b"q", b"m", dedup=b"key") != seq
    life.restart()
    queues = life.engine.queues
    life.later(DEDUP_MS)
    found = queues.store.find(b"q")
    assert found is not None and not found.dedup
    life.engine.close()


def test_groups(life: Life) -> None:
    streams, groups = life.engine.streams, life.engine.streams.groups
    first = streams.read(b"s")[0].ident
    ids = [streams.append(b"s", b"x") or 0 for _ in range(2)]
    assert first < ids[0] < ids[1], "ids grow"
    assert ids[0] >> SEQ_BITS == START + life.ahead, "they are of the stamps' time"
    groups.create(b"s", b"g", 0, own=True, ack_timeout=2 * SECOND)
    taken = [one.ident for one in groups.read(b"s", b"g", b"a", 9)]
    assert taken == [first, *ids]
    life.later(1500)
    assert groups.claim_idle(b"s", b"g", b"b", 1501, 0, 1)[1] == []
    assert [one.ident for one in groups.claim_idle(b"s", b"g", b"b", 1500, 0, 1)[1]] == [first]
    assert groups.read(b"s", b"g", b"c", 9) == []
    life.restart()
    streams, groups = life.engine.streams, life.engine.streams.groups
    life.later(500)
    assert [(one.ident, one.deliveries) for one in groups.read(b"s", b"g", b"c", 9)] == [(ids[0], 2), (ids[1], 2)]
    life.later(1500)
    assert [(one.ident, one.deliveries) for one in groups.read(b"s", b"g", b"c", 9)] == [(first, 3)]
    assert (streams.append(b"s", b"y") or 0) > ids[1]
    life.engine.close()


def test_ages_of_streams(ahead: int, tmp_path: Path) -> None:
    """Ids say no age while they are ahead of the clock: what was written then goes once something behind it is too old."""
    for stopped in (False, True):
        life = Life(tmp_path / str(stopped), ahead, stopped)
        for name, max_len in ((b"aged", 0), (b"both", 100)):
            life.engine.streams.create(name, max_age=HOUR, max_len=max_len)
            life.engine.streams.append(name, b"before")
        life.step()
        for name in (b"aged", b"both"):
            life.engine.streams.append(name, b"ahead")
        life.put_right()

        def kept(life: Life = life) -> set[tuple[bytes, ...]]:
            return {tuple(record.payload for record in life.engine.streams.read(name)) for name in (b"aged", b"both")}

        gone = ahead > HOUR  # while the clock said that it was too old
        first = (b"ahead",) if gone else (b"before", b"ahead")
        assert kept() == {first}
        for payload in (b"1", b"2"):
            life.later(20 * 60 * SECOND)
            for name in (b"aged", b"both"):
                life.engine.streams.append(name, payload)
        assert kept() == {(*first, b"1", b"2")}
        life.later(40 * 60 * SECOND - 2 * SECOND)
        assert kept() == {(b"ahead", b"1", b"2") if gone else (b"1", b"2")}
        assert life.engine.streams.trim(b"aged", Bounds(max_age=HOUR), dry_run=True) == 0
        life.restart()
        life.later(20 * SECOND)
        assert kept() == {(b"2",)}, "what was written while it was ahead was written before what is too old"
        life.later(20 * 60 * SECOND)
        assert kept() == {()}
        life.engine.close()


def test_what_was_delivered_while_the_clock_was_ahead_is_idle_for_no_time(tmp_path: Path) -> None:
    """Never for less than none; and who asks for all is shown it."""
    host = FakeHost(str(tmp_path / "data"))
    client = session(host)
    feed(client, encode("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM"))
    host.time += HOUR
    host.tick()
    feed(client, encode("XADD", "s", "5-5", "f", "v"))
    feed(client, encode("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"))
    host.time -= HOUR
    host.tick()
    assert feed(client, encode("XPENDING", "s", "g", "-", "+", "9")) == b"*1\r\n*4\r\n$3\r\n5-5\r\n$1\r\nc\r\n:0\r\n:1\r\n"
    consumers = feed(client, encode("XINFO", "CONSUMERS", "s", "g"))
    assert b"$4\r\nidle\r\n:0\r\n" in consumers and b"$8\r\ninactive\r\n:0\r\n" in consumers
    claimed = feed(client, encode("XAUTOCLAIM", "s", "g", "d", "0", "0", "JUSTID"))
    assert b"$3\r\n5-5\r\n" in claimed
    host.close()


def test_what_was_given_back_at_once_is_there_whatever_the_clock_says_after_a_restart(tmp_path: Path) -> None:
    life = Life(tmp_path, 2 * HOUR, stopped=True)
    ident = life.engine.streams.append(b"s", b"x") or 0
    life.engine.streams.groups.create(b"s", b"g", 0, own=True)
    life.step()
    groups = life.engine.streams.groups
    groups.read(b"s", b"g", b"a", 1)
    groups.nack(b"s", b"g", [ident])
    assert groups.need(b"s", b"g")[1].pending[ident].deadline == AT_ONCE
    life.put_right()
    assert [one.deliveries for one in life.engine.streams.groups.read(b"s", b"g", b"b", 1)] == [2]
    life.engine.close()


def test_a_lock_that_runs_out(ahead: int, tmp_path: Path) -> None:
    """SET NX PX over RESP, with GET, TTL and EXAT."""
    host = FakeHost(str(tmp_path / "data"))
    client = session(host)

    def say(*words: str) -> bytes:
        host.tick()
        return feed(client, encode(*words))

    host.time += ahead
    assert say("SET", "written", "v") == b"+OK\r\n"
    host.time -= ahead
    assert say("SET", "lock", "a", "NX", "PX", "2000") == b"+OK\r\n"
    assert say("TTL", "lock") == b":2\r\n"
    host.time += 1999
    assert say("SET", "lock", "b", "NX", "PX", "2000") == b"$-1\r\n"
    host.time += 1
    assert say("SET", "lock", "b", "NX", "PX", "2000") == b"+OK\r\n"
    assert say("GET", "lock") == b"$1\r\nb\r\n"
    assert say("SET", "k", "v", "EXAT", str(host.time // 1000 + 3600)) == b"+OK\r\n"
    assert say("GET", "k") == b"$1\r\nv\r\n"
    host.time += 3_601_000
    assert say("GET", "k") == b"$-1\r\n"
    assert say("MGET", "k", "written") == b"*2\r\n$-1\r\n$1\r\nv\r\n"
    host.close()


@pytest.mark.parametrize("count", [1, 64])
def test_ids_of_the_flat_ways_go_on_when_the_clock_goes_back(tmp_path: Path, count: int) -> None:
    """XADD in a run and by itself, against the plain way."""
    replies = []
    for plain in (False, True):
        host = FakeHost(str(tmp_path / str(plain)))
        client = session(host, plain)
        said = other = b""
        feed(client, encode("XADD", "other", "1-1", "field", "value"))
        for step in (0, HOUR, -2 * HOUR, 1, HOUR, HOUR):
            host.time += step
            host.tick()
            said += feed(client, encode("XADD", "s", "*", "field", "value") * count)
            if step < 0:
                other = feed(client, encode("XADD", "other", "*", "field", "value") * count)
        assert other.count(b"%d-" % (START + HOUR)) == count, "of a stream that was left alone meanwhile, too"
        replies.append(said)
        records = [host.engine.log.read(index) for index in range(1, host.engine.log.next_index)]
        assert {record.time for record in records if record} == {
            START,
            START + HOUR,
            START - HOUR,
            START - HOUR + 1,
            START + 1,
            START + HOUR + 1,
        }
        host.close()
    assert replies[0] == replies[1]
    ids = [tuple(map(int, found)) for found in re.findall(rb"(\d+)-(\d+)", replies[0])]
    assert len(ids) == 6 * count and all(one < following for one, following in pairwise(ids))
    assert {ms for ms, _ in ids} == {START, START + HOUR, START + HOUR + 1}


def test_what_was_quiet_at_a_time_need_not_be_when_it_comes_again(tmp_path: Path) -> None:
    """RPOP remembers in which turn nothing was due, and not at what time."""
    host = FakeHost(str(tmp_path / "data"))
    client = session(host)
    feed(client, encode("LPUSH", "q", "m") + encode("LPUSH", "q", "n") + encode("LPUSH", "q", "o"))
    host.tick()
    assert feed(client, encode("RPOP", "q")) == b"$1\r\nm\r\n", "nothing was due at this time"
    host.time -= HOUR
    host.tick()
    assert b"$1\r\nn\r\n" in feed(client, encode("QDEQUEUE", "q", "LEASE", "50"))
    host.time += HOUR
    host.tick()
    assert feed(client, encode("RPOP", "q")) == b"$1\r\nn\r\n", "its lease ran out nearly an hour ago"
    host.close()


def test_how_long_until_something_is_due(tmp_path: Path) -> None:
    life = Life(tmp_path, HOUR, stopped=False)
    assert life.engine.next_due() is None
    life.engine.kv.put(b"k", b"v", deadline=START + 10 * SECOND)
    assert life.engine.next_due() == 11 * SECOND, "a key is swept when its second is over"
    life.wall += HOUR
    assert life.engine.next_due() == 0, "the clock is asked, not what it was"
    life.wall -= 2 * HOUR
    assert life.engine.next_due() == HOUR + 11 * SECOND
    life.engine.close()


def test_a_server_never_waits_long_for_the_wall_clock() -> None:
    """That may be stepped forward while the server waits for something an hour away."""

    def seconds(due: int | None, compacts: float | None) -> float | None:
        log = SimpleNamespace(owes_claim=False)
        parts: Any = SimpleNamespace(
            engine=SimpleNamespace(next_due=lambda: due, log=log), compactor=SimpleNamespace(next_due=lambda: compacts)
        )
        return Server.next_due(parts)

    assert seconds(None, None) is None
    assert seconds(HOUR, None) == seconds(HOUR, 60.0) == 1.0
    assert seconds(None, 60.0) == 60.0
    assert (seconds(300, 60.0), seconds(300, 0.1), seconds(0, None)) == (0.3, 0.1, 0.001)


def test_steps_are_found_and_drift_is_none() -> None:
    steps = Steps(START, 0)
    wall, steady = START, 0
    for _ in range(100):  # half a second a look: no step, however often
        wall, steady = wall + 10_000 + STEP_MS // 2, steady + 10_000
        assert steps.look(wall, steady) == 0
    for step in (HOUR, -HOUR, STEP_MS + 1, -STEP_MS - 1):
        wall, steady = wall + 1 + step, steady + 1
        assert steps.look(wall, steady) == step
        assert steps.look(wall, steady) == 0, "once"
    wall, steady = wall + 12 * HOUR + 12 * HOUR // DRIFT_DIVISOR, steady + 12 * HOUR
    assert steps.look(wall, steady) == 0, "half a day between two looks"
    assert steady_clock() <= steady_clock()


# A server whose wall clock is off by what stands in a file.
SERVER = """
import mmap, struct, sys, time
from flo import server
with open({clock!r}, "r+b") as file:
    offset = mmap.mmap(file.fileno(), 8)
plain = server.Server
def clock():
    return time.time_ns() // 1_000_000 + struct.unpack("<q", offset[:8])[0]
server.Server = lambda *args, **kwargs: plain(*args, clock=clock, **kwargs)
from flo.cli import main
sys.exit(main())
"""


@pytest.fixture
def stepped(tmp_path: Path) -> tuple[FloProcess, Callable[[int], None]]:
    """A server, not started yet, and what sets how many ms its wall clock is off."""
    file = tmp_path / "clock"
    file.write_bytes(bytes(8))
    with file.open("r+b") as opened:
        offset = mmap.mmap(opened.fileno(), 8)

    def set_offset(ms: int) -> None:
        offset[:8] = struct.pack("<q", ms)

    return FloProcess(tmp_path / "data", program=("-c", SERVER.format(clock=str(file))), start=False), set_offset


def info(client: object, field: str) -> int:
    """A field of INFO."""
    text: bytes = client.command("INFO")  # type: ignore[attr-defined]
    found = re.search(rb"\b%b:(-?\d+)" % field.encode(), text)
    assert found, field
    return int(found[1])


def test_a_server_tells_of_steps_and_serves_on(stepped: tuple[FloProcess, Callable[[int], None]]) -> None:
    """Ahead while it runs, put right while it is stopped and while it runs."""
    flo, set_offset = stepped
    with flo.start() as server:
        with server.connect() as client:
            assert (info(client, "flo_clock_steps"), info(client, "flo_clock_ahead_ms")) == (0, 0)
            client.command("SET", "k", "v", "EX", "3600")
            set_offset(2 * HOUR)
            assert client.command("GET", "k") is None
            assert info(client, "flo_clock_steps") == 1
            assert re.search(r"warning the wall clock was stepped forward by 7(200|199)\.\d{3} s", server.output())
            set_offset(0)
            assert client.command("GET", "k") is None, "it was shown as gone"
            assert info(client, "flo_clock_steps") == 2
            assert 2 * HOUR - 60_000 < info(client, "flo_clock_ahead_ms") <= 2 * HOUR
            assert re.search(r"warning the wall clock was stepped back by 7(200|199)\.\d{3} s", server.output())
            assert client.command("SET", "lock", "v", "NX", "PX", "100") == b"OK"
            wait_until(lambda: client.command("SET", "lock", "w", "NX", "PX", "100000") == b"OK", "the lock to run out")
            assert client.command("CONFIG", "RESETSTAT") == b"OK"
            assert info(client, "flo_clock_steps") == 0
        assert server.stop() == 0
        server.start()
        assert re.search(r"warning the wall clock is 7[12]\d\d\.\d{3} s behind the last write's time", server.output())
        with server.connect() as client:
            assert client.command("GET", "lock") == b"w"
            assert client.command("SET", "k", "v", "EXAT", str(10**10)) == b"OK"
            assert client.command("GET", "k") == b"v"


def test_a_server_that_waits_notices_a_step_forward(stepped: tuple[FloProcess, Callable[[int], None]]) -> None:
    """It polls for what falls due in an hour: a taker is served within about a second of the step, with nobody else there."""
    flo, set_offset = stepped
    with flo.start() as server, server.connect() as client, server.connect() as other:
        client.command("SET", "k", "v", "EX", "3600")
        client.command("QENQUEUE", "q", "m", "DELAY", "3600000")
        other.send(encode("BRPOP", "q", "0"))
        assert client.command("PING") == b"PONG"
        set_offset(2 * HOUR)
        other.sock.settimeout(30)
        assert other.reply() == [b"q", b"m"]
        wait_until(lambda: client.command("DBSIZE") == 0, "the sweep of a key that nobody asked for")
