"""`flo import` that is cut off: behind each of its requests, by kill -9, by a Redis or a Flo that goes away; and it is run again. It must
end with the contents of the Redis, nothing twice, and leave no key of its own."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import flo
from flo.client import Disconnected
from flo.importer import kinds, run
from flo.importer.run import Import, Options
from flo.importer.wire import Failure, Lost, Source, Stopped, Wire
from tests.importer.conftest import Sides
from tests.support.processes import ROOT, FloProcess, RedisProcess, RespClient, encode, steady_port, wait_until
from tests.support.redis_contents import contents, pairs

pytestmark = pytest.mark.slow


class Killed(Exception):
    """The importer's process ends here."""


def fill_a_little(redis: RespClient) -> None:
    """Something of each kind, of several pieces where pieces are of three."""
    redis.pipeline(*[("SET", f"key:{at}", at) for at in range(4)])
    redis.command("SET", "timed", "v", "EX", 1000)
    redis.command("RPUSH", "short", "a")
    redis.command("RPUSH", "long", *range(14))
    redis.command("EXPIRE", "long", 1000)
    redis.pipeline(*[("XADD", "stream", f"{at + 1}-1", "field", at) for at in range(8)])
    redis.pipeline(("XDEL", "stream", "8-1"), ("XGROUP", "CREATE", "stream", "g", "0"), ("XGROUP", "CREATE", "stream", "other", "3-1"))
    redis.pipeline(*[("XREADGROUP", "GROUP", "g", f"c{at}", "COUNT", "2", "STREAMS", "stream", ">") for at in range(2)])
    redis.pipeline(("XADD", "empty", "9-9", "a", "b"), ("XDEL", "empty", "9-9"), ("XGROUP", "CREATE", "empty", "g", "$"))
    redis.command("HSET", "hash", "a", "b")


class Cut:
    """Lets a number of requests to Flo through, and then breaks off with `error`: the rest of the pipeline is never sent."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = sys.maxsize
        self.error: Callable[[], Exception] = Killed
        self.passed = 0
        ask = Wire.ask

        def cut(wire: Wire, requests: Any) -> list[Any]:
            if wire.name != "Flo":
                return ask(wire, requests)
            if len(requests) <= self.left:
                self.left -= len(requests)
                self.passed += len(requests)
                return ask(wire, requests)
            some, self.left = requests[: self.left], sys.maxsize
            ask(wire, some)
            raise self.error()

        patch.setattr(Wire, "ask", cut)


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Cut:
    monkeypatch.setattr(kinds, "PIECE_ITEMS", 3)
    monkeypatch.setattr(run, "PAGE_KEYS", 3)
    monkeypatch.setattr(run, "RETRY_DELAYS", (0.0,))
    return Cut(monkeypatch)


def is_copied(sides: Sides) -> None:
    """Everything that is copied is in Flo, and nothing else is; queues are not left paused."""
    there, here = contents(sides.redis), contents(sides.flo)
    assert here == there
    for name in here["lists"]:
        assert pairs(sides.flo.command("QSTATS", name))[b"paused"] == 0, name
    for key in ("timed", "long"):
        assert abs(sides.flo.command("PTTL", key) - sides.redis.command("PTTL", key)) < 10_000
    assert sides.flo.command("JSON.GET", "hash") == b'{"a":"b"}'


def copy(sides: Sides) -> Any:
    return sides.copy(documents=True).as_json()


@pytest.mark.parametrize("times", [1, 2])
def test_a_kill_behind_each_request(sides: Sides, cut: Cut, times: int, long_run: bool) -> None:
    """Once, and then again while it goes on."""
    fill_a_little(sides.redis)
    whole = copy(sides)
    is_copied(sides)
    requests = cut.passed
    assert requests > 70
    for at in range(0, requests, 1 if long_run or times == 1 else 3):
        sides.flo.command("FLUSHALL")
        for _ in range(times):
            cut.left = at
            with suppress(Killed):
                assert copy(sides) == whole
                break
        else:
            assert copy(sides) == whole, at
        is_copied(sides)


def test_a_lost_connection_behind_each_request(sides: Sides, cut: Cut) -> None:
    fill_a_little(sides.redis)
    whole = copy(sides)
    cut.error = lambda: Lost("the connection to Flo was lost")
    for at in range(12, cut.passed, 2):  # twelve are sent before the first page
        sides.flo.command("FLUSHALL")
        cut.left = at
        assert copy(sides) == whole, at
        is_copied(sides)


def test_a_lost_connection_of_the_binary_protocol(sides: Sides, cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty stream is made over it."""
    fill_a_little(sides.redis)
    streams: Any = type(flo.Client().streams)
    create, lost = streams.create, [Disconnected("closed the connection")]

    def once(self: Any, *names: Any, **options: Any) -> Any:
        if lost:
            raise lost.pop()
        return create(self, *names, **options)

    monkeypatch.setattr(streams, "create", once)
    copy(sides)
    assert not lost
    is_copied(sides)


def test_a_list_that_is_gone_from_redis_is_deleted_half_copied(sides: Sides, cut: Cut) -> None:
    sides.redis.command("RPUSH", "long", *range(30))
    sides.redis.pipeline(*[("XADD", "stream", f"{at + 1}-1", "field", at) for at in range(30)])
    for at in range(8, 40):
        cut.left = at
        with pytest.raises(Killed):
            copy(sides)
        half = contents(sides.flo)
        if half["lists"] and half["streams"]:
            break
    else:
        pytest.fail("the copies were never both begun")
    sides.redis.command("DEL", "long", "stream")
    copy(sides)
    assert contents(sides.flo) == {"strings": {}, "lists": {}, "streams": {}}


def test_workers_get_nothing_of_a_queue_before_it_is_whole(sides: Sides, cut: Cut) -> None:
    sides.redis.command("RPUSH", "long", *range(30))
    for at in range(8, 60):
        cut.left = at
        with pytest.raises(Killed):
            copy(sides)
        if 0 < sides.flo.command("LLEN", "long") < 30:
            break
    assert sides.flo.command("RPOP", "long") is None
    copy(sides)
    assert sides.flo.command("RPOP", "long") == b"29"


@pytest.mark.parametrize("lpop", [False, True])
def test_lists_for_workers_of_either_end(sides: Sides, cut: Cut, lpop: bool) -> None:
    """Cut off, too, and taken up by a run that was not told which end: what has begun ends as it was begun."""
    sides.redis.command("RPUSH", "list", *range(20))
    sides.flo.command("CONFIG", "SET", "resp.profile", "redis")
    try:
        for at in range(8, 60):
            cut.left = at
            with pytest.raises(Killed):
                sides.copy(lpop=lpop)
            if 0 < sides.flo.command("LLEN", "list") < 20:
                break
        sides.copy(lpop=not lpop)
        with sides.connect() as worker:
            pop = "LPOP" if lpop else "RPOP"
            assert worker.command(pop, "list", 20) == sides.redis.command(pop, "list", 20)
    finally:
        sides.flo.command("CONFIG", "SET", "resp.profile", "flo")


def test_lists_for_lpop_need_the_profile_of_redis(sides: Sides) -> None:
    sides.redis.command("RPUSH", "list", *range(20))
    with pytest.raises(Stopped, match=r"CONFIG SET resp\.profile redis"):
        sides.copy(lpop=True)


def test_what_a_killed_importer_has_still_sent_is_not_executed(sides: Sides, cut: Cut) -> None:
    """Flo may execute requests of a connection after the process at its other end was killed. Here a second connection stands for it: it
    has the importer's name, and sends its messages after the next importer has begun."""
    sides.redis.command("RPUSH", "long", *range(5))
    with sides.connect() as ghost:
        ghost.command("CLIENT", "SETNAME", Import(flo.Client(), Source(sides.url), Options("", False, False, False))._name.rstrip(b":"))
        copy(sides)
        with pytest.raises((ConnectionError, OSError)):
            ghost.send(encode("LPUSH", "long", "again"))
            ghost.reply()
    assert sides.flo.command("LLEN", "long") == 5


def test_a_second_importer_takes_over_and_the_first_says_so(sides: Sides, cut: Cut) -> None:
    fill_a_little(sides.redis)

    def second() -> Exception:
        cut.left = sys.maxsize
        copy_until_the_second_page()
        return Lost("the connection to Flo was lost")

    def copy_until_the_second_page() -> None:
        cut.left, cut.error = 30, Killed
        with pytest.raises(Killed):
            copy(sides)

    cut.left, cut.error = 40, second
    with pytest.raises(Stopped, match="taken over"):
        copy(sides)
    copy(sides)
    is_copied(sides)


def test_a_redis_that_was_restarted_is_walked_anew(sides: Sides, cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cursors mean something else then. The run id says so."""
    fill_a_little(sides.redis)
    whole = copy(sides)
    sides.flo.command("FLUSHALL")
    cut.left = cut.passed - 30
    with pytest.raises(Killed):
        copy(sides)
    scans: list[Any] = []
    ask = Wire.ask

    def changed(wire: Wire, requests: Any) -> list[Any]:
        scans.extend(request[1] for request in requests if request[0] == "SCAN" and wire.name == "Redis")
        replies = ask(wire, requests)
        return [reply.replace(b"run_id:", b"run_id:x") if isinstance(reply, bytes) and b"run_id:" in reply else reply for reply in replies]

    monkeypatch.setattr(Wire, "ask", changed)
    assert copy(sides) == whole
    assert scans[0] == "0"
    is_copied(sides)


def test_it_gives_up_where_nothing_more_is_copied(sides: Sides, cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_a_little(sides.redis)
    monkeypatch.setattr(run, "RETRY_SECONDS", 0.3)
    ask = Wire.ask

    def full(wire: Wire, requests: Any) -> list[Any]:
        refused = Failure("OOM command not allowed when used memory > 'maxmemory'.", "Flo")
        return [refused if request[0] == b"SET" else reply for request, reply in zip(requests, ask(wire, requests), strict=True)]

    with monkeypatch.context() as patch:
        patch.setattr(Wire, "ask", full)
        with pytest.raises(Disconnected, match=r"OOM .* run the same command again"):
            copy(sides)
    copy(sides)
    is_copied(sides)


@pytest.mark.parametrize("command", [b"XADD", b"LPUSH"])
def test_a_refused_write_leaves_no_gap(sides: Sides, cut: Cut, monkeypatch: pytest.MonkeyPatch, command: bytes) -> None:
    """The first is refused for a full memory, and by the next one's turn there is room again."""
    fill_a_little(sides.redis)
    ask = Wire.ask
    refusals = 3

    def full(wire: Wire, requests: Any) -> list[Any]:
        nonlocal refusals
        at = next((at for at, request in enumerate(requests) if request[0] == command and request[1] in (b"stream", b"long")), None)
        if wire.name != "Flo" or at is None or not refusals:
            return ask(wire, requests)
        refusals -= 1
        taken = ask(wire, [*requests[:at], *requests[at + 1 :]])
        return [*taken[:at], Failure("OOM command not allowed when used memory > 'maxmemory'.", "Flo"), *taken[at:]]

    monkeypatch.setattr(Wire, "ask", full)
    copy(sides)
    assert not refusals
    is_copied(sides)


# -- whole processes -------------------------------------------------------------------------------


def fill_much(redis: RespClient) -> None:
    for part in range(10):
        redis.pipeline(*[("SET", f"key:{part}:{at}", "v" * (at % 50)) for at in range(1000)])
    redis.pipeline(*[("RPUSH", f"list:{at}", *range(at % 9 + 1)) for at in range(300)])
    for part in range(20):
        redis.command("RPUSH", "long", *range(part * 1000, part * 1000 + 1000))
    for name in ("one", "two"):
        redis.pipeline(*[("XADD", name, f"{at + 1}-0", "field", at, "other", "x" * 40) for at in range(4000)])
        redis.command("XGROUP", "CREATE", name, "g", "0")
        redis.pipeline(*[("XREADGROUP", "GROUP", "g", f"c{at}", "COUNT", "300", "STREAMS", name, ">") for at in range(4)])


def start(url: str, port: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "flo", "import", url, "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def has_begun(client: RespClient, importer: "subprocess.Popen[str]", written: int = 1) -> None:
    wait_until(lambda: importer.poll() is not None or client.command("DBSIZE") > written, "the first keys")


def test_kill_9_at_random_moments(sides: Sides, long_run: bool) -> None:
    fill_much(sides.redis)
    chance = random.Random()
    kills = 0
    for _ in range(20 if long_run else 2):
        sides.flo.command("FLUSHALL")
        report = ""
        for patience in (*(chance.uniform(0, 0.5) for _ in range(4)), 60):
            importer = start(sides.url, sides.port)
            has_begun(sides.flo, importer, 0)
            try:  # the moment is random
                out, _ = importer.communicate(timeout=patience)
                status = 0
            except subprocess.TimeoutExpired:
                importer.kill()
                out, _ = importer.communicate()
                status = -signal.SIGKILL
                kills += 1
            report = report or out  # behind its report, an import has ended: the next one finds everything there
            if importer.returncode == 0:
                break
            assert importer.returncode == status
        assert contents(sides.flo) == contents(sides.redis)
        assert report and "left" not in report, report
    assert kills


@pytest.fixture
def fixed(tmp_path: Path) -> Iterator[tuple[RedisProcess, FloProcess]]:
    """A Redis with a log, and a Flo, at ports that stay."""
    with (
        RedisProcess(tmp_path, "--appendfsync", "no", port=steady_port()) as redis,
        FloProcess(tmp_path / "flo", "--port", str(steady_port())) as server,
    ):
        yield redis, server


def test_a_redis_that_is_restarted_in_the_middle(tmp_path: Path, fixed: tuple[RedisProcess, FloProcess]) -> None:
    redis, server = fixed
    with redis.connect() as source:
        fill_much(source)
    importer = start(f"redis://127.0.0.1:{redis.port}", server.port)
    with server.connect() as target:
        has_begun(target, importer)
        redis.process.terminate()
        redis.process.wait(30)
        with RedisProcess(tmp_path, "--appendfsync", "no", port=redis.port) as again, again.connect() as source:
            out, err = importer.communicate(timeout=60)
            assert importer.returncode == 0, err
            assert "trying again" in err
            assert contents(target) == contents(source)
            assert "left" not in out, out


def test_a_flo_that_is_killed_in_the_middle(fixed: tuple[RedisProcess, FloProcess]) -> None:
    redis, server = fixed
    with redis.connect() as source:
        fill_much(source)
        importer = start(f"redis://127.0.0.1:{redis.port}", server.port)
        with server.connect() as target:
            has_begun(target, importer)
        server.kill()
        server.start()
        out, err = importer.communicate(timeout=60)
        assert importer.returncode == 0, err
        assert "trying again" in err
        with server.connect() as target:
            assert contents(target) == contents(source)
        assert "left" not in out, out


def test_a_redis_that_is_not_there(sides: Sides) -> None:
    importer = start("redis://127.0.0.1:1", sides.port)
    out, err = importer.communicate(timeout=30)
    assert (importer.returncode, out) == (3, "")
    assert err == "flo: cannot connect to Redis at 127.0.0.1 port 1: [Errno 111] Connection refused\n"
