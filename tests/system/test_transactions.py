"""Transactions and lists in the profile `redis`: beside redis-server over random steps of two clients; raced, killed, at their limits."""

import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.processes import FloProcess, RedisProcess, ReplyError, RespClient

pytestmark = [pytest.mark.slow, pytest.mark.computes]

KEYS, LEFT_LISTS, RIGHT_LISTS = ("k1", "k2", "k3"), ("l1", "l2"), ("r1",)

# Commands whose replies, and whose effect on watched names, are Redis's own. Lists have names of their own: Flo's do not clash with keys.
COMMANDS = st.one_of(
    st.tuples(st.sampled_from(["GET", "INCR", "DEL", "EXISTS", "TYPE", "STRLEN", "GETDEL", "TTL", "PERSIST"]), st.sampled_from(KEYS)),
    st.tuples(st.just("SET"), st.sampled_from(KEYS), st.sampled_from(["1", "x", ""])),
    st.tuples(st.just("SET"), st.sampled_from(KEYS), st.just("2"), st.sampled_from(["NX", "XX", "GET", "KEEPTTL"])),
    st.tuples(st.sampled_from(["EXPIRE", "INCRBY", "SETNX", "GETSET"]), st.sampled_from(KEYS), st.just("100")),
    st.tuples(st.just("MSET"), st.sampled_from(KEYS), st.just("m"), st.sampled_from(KEYS), st.just("n")),
    st.tuples(st.sampled_from(["MGET", "UNLINK"]), st.sampled_from(KEYS), st.sampled_from(KEYS)),
    st.tuples(st.just("LPUSH"), st.sampled_from(LEFT_LISTS), st.just("a"), st.just("b")),
    st.tuples(st.just("RPUSH"), st.sampled_from(RIGHT_LISTS), st.just("a"), st.just("b")),
    st.tuples(st.just("RPOP"), st.sampled_from(LEFT_LISTS)),
    st.tuples(st.just("LPOP"), st.sampled_from(RIGHT_LISTS)),
    st.tuples(st.just("LPOP"), st.sampled_from(RIGHT_LISTS), st.just("2")),
    st.tuples(st.just("BRPOP"), st.sampled_from(LEFT_LISTS), st.just("0.01")),
    st.tuples(st.just("LLEN"), st.sampled_from(LEFT_LISTS + RIGHT_LISTS)),
    st.tuples(st.just("LRANGE"), st.sampled_from(LEFT_LISTS + RIGHT_LISTS), st.just("0"), st.sampled_from(["-1", "0", "1"])),
)
WRONG = st.sampled_from([("NOSUCH", "a"), ("GET",), ("SET", "k1"), ("INCR", "k1", "k2"), ("CLIENT", "NOSUCH"), ("SET", "k1", "1", "EX")])
STEPS = st.one_of(
    COMMANDS,
    COMMANDS,
    COMMANDS,
    WRONG,
    st.sampled_from([("MULTI",), ("MULTI",), ("EXEC",), ("EXEC",), ("DISCARD",), ("UNWATCH",)]),
    st.tuples(st.just("WATCH"), st.sampled_from(KEYS + LEFT_LISTS + RIGHT_LISTS), st.sampled_from(KEYS)),
)


@pytest.fixture(scope="module")
def flo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    """A server in the profile redis."""
    with FloProcess(tmp_path_factory.mktemp("flo"), "--resp-profile", "redis") as process:
        yield process


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A redis-server."""
    with RedisProcess(tmp_path_factory.mktemp("redis")) as process:
        yield process


@pytest.fixture
def client(flo: FloProcess) -> Iterator[RespClient]:
    """A connection to an empty server."""
    with flo.connect() as connected:
        connected.command("FLUSHALL")
        yield connected


def plain(reply: object) -> object:
    """A reply without the one error whose words differ (tests/support/differences.py)."""
    if isinstance(reply, list):
        return [plain(item) for item in reply]
    return "no integer" if isinstance(reply, ReplyError) and "not an integer" in str(reply) else reply


@pytest.mark.parametrize("protocol", ["2", "3"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from([0, 0, 0, 1]), STEPS), min_size=5, max_size=40))
def test_random_transactions_of_two_clients(
    flo: FloProcess, beside: RedisProcess, protocol: str, steps: list[tuple[int, tuple[str, ...]]]
) -> None:
    """Every reply is Redis's, those of commands that fail inside included; so is what is there at the end."""
    with closing(flo.connect()) as f1, closing(flo.connect()) as f2, closing(beside.connect()) as r1, closing(beside.connect()) as r2:
        for server in (f1, r1):
            server.command("FLUSHALL")
        for each in (f1, f2, r1, r2):
            each.command("HELLO", protocol)
        for which, words in steps:
            ours, theirs = ((f1, r1), (f2, r2))[which]
            assert plain(ours.command(*words)) == plain(theirs.command(*words)), (which, words)
        for words in (("DISCARD",), ("MGET", *KEYS), *[("LRANGE", name, "0", "-1") for name in LEFT_LISTS + RIGHT_LISTS]):
            assert f1.command(*words) == r1.command(*words), words


def test_a_counter_raced_by_eight_clients_ends_exact(flo: FloProcess, client: RespClient) -> None:
    """WATCH, GET, MULTI, SET, EXEC, until EXEC executes."""
    rounds, aborted = 40, []

    def race() -> None:
        with redis.Redis(port=flo.port) as own, own.pipeline() as pipe:
            for _ in range(rounds):
                while True:
                    pipe.watch("counter")
                    value = int(pipe.get("counter") or 0)
                    pipe.multi()
                    pipe.set("counter", value + 1)
                    try:
                        pipe.execute()
                        break
                    except redis.WatchError:
                        aborted.append(1)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.command("GET", "counter") == str(8 * rounds).encode()
    assert aborted, "nobody was ever in the way of another: nothing was raced"


@pytest.mark.parametrize(
    "change",
    [
        ("SET", "gone", "1"), ("QENQUEUE", "gone", "x"), ("XADD", "gone", "*", "f", "v"), ("JSON.SET", "gone", "$", "1"), ("FLUSHDB",),
        ("FLUSHALL",), ("LPUSH", "gone", "x"), ("EXPIRE", "there", "50"), ("DEL", "there"), ("RENAME", "there", "gone"),
        ("PEXPIRE", "there", "-1"), ("QDEQUEUE", "waiting"), ("EXPIRE", "waiting", "50"), ("XTRIM", "log", "MAXLEN", "0"),
        ("XDEL", "log", "5-1"),
    ],
)  # fmt: skip
def test_any_write_to_the_key_the_queue_or_the_stream_aborts(flo: FloProcess, client: RespClient, change: tuple[str, ...]) -> None:
    client.pipeline(["SET", "there", "1"], ["LPUSH", "waiting", "m"], ["XADD", "log", "5-1", "f", "v"])
    assert client.command("WATCH", "gone", "there", "waiting", "log") == b"OK"
    with flo.connect() as other:
        other.pipeline(["SET", "another", "1"], ["LPUSH", "another", "1"])
        assert client.pipeline(["MULTI"], ["PING"], ["EXEC"])[-1] == [b"PONG"], "others are written, and the names are not"
        assert client.command("WATCH", "gone", "there", "waiting", "log") == b"OK"
        assert not isinstance(other.command(*change), ReplyError)
    assert client.pipeline(["MULTI"], ["SET", "new", "1"], ["EXEC"]) == [b"OK", b"QUEUED", None]
    assert client.command("GET", "new") is None


def test_a_name_that_is_missing_again_or_has_expired_aborts(flo: FloProcess, client: RespClient) -> None:
    with flo.connect() as other:
        client.command("WATCH", "a")
        other.pipeline(["SET", "a", "1"], ["DEL", "a"])
        assert client.pipeline(["MULTI"], ["PING"], ["EXEC"])[-1] is None
        other.command("SET", "a", "1", "PX", "30")
        client.command("WATCH", "a")
        while other.command("EXISTS", "b", "a"):
            pass
        assert client.pipeline(["MULTI"], ["PING"], ["EXEC"])[-1] is None
    client.command("SET", "a", "1", "PX", "30")
    client.command("WATCH", "a")
    while client.command("TIME") and client.command("PTTL", "a") > 0:
        pass
    assert client.pipeline(["MULTI"], ["PING"], ["EXEC"])[-1] is None


def test_the_same_name_in_another_namespace_is_another(flo: FloProcess, client: RespClient) -> None:
    with flo.connect() as other:
        other.pipeline(["NAMESPACE", "CREATE", "beside"], ["USE", "beside"])
        client.command("WATCH", "a")
        other.command("SET", "a", "1")
        assert client.pipeline(["MULTI"], ["PING"], ["EXEC"])[-1] == [b"PONG"]
        client.command("USE", "beside")
        client.command("WATCH", "a")
        client.command("USE", "default")
        other.command("SET", "a", "2")
        assert client.pipeline(["MULTI"], ["PING"], ["EXEC"])[-1] is None, "it was watched in the namespace of that time"


def test_nobody_sees_half_of_a_transaction(flo: FloProcess, client: RespClient) -> None:
    """Two keys always change together: whoever reads both, in one command, finds them equal."""
    stop = threading.Event()

    def write() -> None:
        with flo.connect() as writer:
            for number in range(400):
                writer.pipeline(["MULTI"], ["SET", "x", number], *[["INCR", "between"]] * 20, ["SET", "y", number], ["EXEC"])
        stop.set()

    thread = threading.Thread(target=write)
    client.command("MSET", "x", "0", "y", "0")
    thread.start()
    seen = set()
    while not stop.is_set():
        x, y = client.command("MGET", "x", "y")
        assert x == y
        seen.add(x)
    thread.join()
    assert len(seen) > 2


def test_blocking_commands_do_not_block_inside(client: RespClient) -> None:
    replies = client.pipeline(
        ["MULTI"], ["BRPOP", "none", "0"], ["BLPOP", "none", "0"], ["XREAD", "BLOCK", "0", "STREAMS", "none", "$"],
        ["QDEQUEUE", "none", "BLOCK", "0"], ["SET", "a", "1"], ["EXEC"],
    )  # fmt: skip
    assert replies[-1] == [None, None, None, [], b"OK"]


@pytest.mark.parametrize("command", [("KEYS", "*"), ("FLUSHALL",), ("SELECT", "0"), ("USE", "default"), ("AUTH", "x"), ("MONITOR",)])
def test_what_cannot_be_part_of_it_is_refused_when_it_is_queued(client: RespClient, command: tuple[str, ...]) -> None:
    queued, ended = client.pipeline(["MULTI"], ["SET", "a", "1"], command, ["EXEC"])[2:]
    assert isinstance(queued, ReplyError) and "cannot be part of a transaction" in str(queued)
    assert isinstance(ended, ReplyError) and str(ended).startswith("EXECABORT")
    assert client.command("GET", "a") is None


def test_too_much_at_once_is_refused(client: RespClient) -> None:
    for requests in ([["INCR", "a"]] * 10_001, [["DEL", *"k" * 20_000]] * 3, [["SET", "a", b"x" * (12 << 20)]] * 3):
        client.command("MULTI")
        refused = [reply for reply in client.pipeline(*requests) if reply != b"QUEUED"]
        assert len(refused) == 1 and "make several of it" in str(refused[0])
        assert isinstance(client.command("EXEC"), ReplyError)
        assert client.command("EXISTS", "a") == 0
    client.command("MULTI")
    client.pipeline(*[["INCR", "a"]] * 10_000)
    assert client.command("EXEC") == list(range(1, 10_001))


def test_queued_commands_and_watched_names_are_in_the_connections_memory(client: RespClient) -> None:
    def held() -> int:
        line = client.command("CLIENT", "INFO").decode()
        return int(line.split("argv-mem=")[1].split()[0])

    client.command("WATCH", *[b"%0500d" % number for number in range(1000)])
    assert held() > 500_000
    client.command("UNWATCH")
    assert held() < 10_000


def test_a_list_too_long_for_the_turn_is_an_error_inside_and_the_rest_is_done(client: RespClient) -> None:
    for _ in range(40):
        client.command("LPUSH", "long", *[b"x" * 50] * 10_000)
    replies = client.pipeline(["MULTI"], ["SET", "before", "1"], ["LRANGE", "long", "0", "-1"], ["SET", "behind", "2"], ["EXEC"])[-1]
    assert replies[0] == replies[2] == b"OK" and isinstance(replies[1], ReplyError) and "too much at once" in str(replies[1])
    assert client.command("MGET", "before", "behind") == [b"1", b"2"]


def test_a_profile_holds_for_connections_made_after_it_was_set(flo: FloProcess, client: RespClient) -> None:
    try:
        assert client.command("CONFIG", "SET", "resp.profile", "flo") == b"OK"
        with flo.connect() as later:
            assert "profile" in str(later.command("MULTI"))
            assert "EXECABORT" in str(later.command("EXEC"))
            assert "not supported" in str(later.command("RPUSH", "q", "x"))
        assert client.pipeline(["MULTI"], ["PING"], ["EXEC"])[-1] == [b"PONG"]
    finally:
        client.command("CONFIG", "SET", "resp.profile", "redis")


@pytest.mark.parametrize("push, wrong, right", [("LPUSH", "LPOP", "RPOP"), ("RPUSH", "RPOP", "LPOP")])
def test_a_list_is_taken_from_the_other_end(client: RespClient, push: str, wrong: str, right: str) -> None:
    other_push = "RPUSH" if push == "LPUSH" else "LPUSH"
    client.command(push, "list", "1", "2", "3")
    assert "filled from the" in str(client.command(wrong, "list"))
    assert "filled from the" in str(client.command("B" + wrong, "none", "list", "0"))
    assert "filled from the" in str(client.command(other_push, "list", "4"))
    assert client.command("LLEN", "list") == 3, "nothing was changed"
    assert [client.command(right, "list") for _ in range(2)] == [b"1", b"2"]
    assert client.command(wrong, "list") == b"3", "the last one is the same from both ends"
    client.command(other_push, "list", "a", "b")  # the end is forgotten with the last message
    assert client.command(wrong, "list") == b"a"


def test_who_waits_at_the_wrong_end_is_told(flo: FloProcess, client: RespClient) -> None:
    with flo.connect() as waiting, flo.connect() as second:
        waiting.send(b"*3\r\n$5\r\nBLPOP\r\n$1\r\nw\r\n$1\r\n0\r\n")
        while b"cmd=blpop" not in client.command("CLIENT", "LIST"):
            pass
        client.command("LPUSH", "w", "1", "2")
        assert "filled from the left" in str(waiting.reply())
        second.send(b"*3\r\n$5\r\nBRPOP\r\n$1\r\nw\r\n$1\r\n0\r\n")
        assert second.reply() == [b"w", b"1"]


def test_ends_hold_over_a_restart_and_a_compaction(tmp_path: Path) -> None:
    with FloProcess(tmp_path, "--resp-profile", "redis") as process:
        with process.connect() as client:
            client.command("RPUSH", "r", *range(5000))
            client.command("LPUSH", "l", *range(5000))
            client.command("RPUSH", "was", "x")
            client.pipeline(["LPOP", "was"], ["LPUSH", "was", "y", "z"], ["RPUSH", "few", "1", "2"])
        for end in ("kill", "compact"):
            if end == "kill":
                process.kill()
                process.start()
            else:
                process.stop(signal.SIGTERM)
                from flo.engine import Engine

                with Engine(str(process.directory)) as engine:
                    engine.compact()
                process.start()
            with process.connect() as client:
                for name, wrong in (("r", "RPOP"), ("l", "LPOP"), ("was", "LPOP"), ("few", "RPOP")):
                    assert "filled from" in str(client.command(wrong, name)), (end, name)
                assert client.command("LRANGE", "r", "0", "1") == [b"0", b"1"]
                assert client.command("LRANGE", "l", "-2", "-1") == [b"1", b"0"]


@pytest.mark.slow
def test_a_kill_leaves_whole_transactions(tmp_path: Path) -> None:
    """Each transaction writes a key, its twin, and a message with the same number; a kill may come at any moment."""
    with FloProcess(tmp_path, "--resp-profile", "redis") as process:
        acknowledged = 0
        for _ in range(4):
            done = [acknowledged]

            def write(done: list[int] = done) -> None:
                with process.connect() as client:
                    number = done[-1]
                    try:
                        while True:
                            number += 1
                            client.pipeline(
                                ["MULTI"], ["SET", "a", number], ["SET", "filler", b"x" * 3000], ["LPUSH", "list", number],
                                ["SET", "b", number], ["EXEC"],
                            )  # fmt: skip
                            done.append(number)
                    except (ConnectionError, OSError):
                        return

            thread = threading.Thread(target=write)
            thread.start()
            while len(done) < 60:
                assert thread.is_alive()
            process.kill()
            thread.join()
            process.start()
            with process.connect() as client:
                a, b = map(int, client.command("MGET", "a", "b"))
                assert a == b >= done[-1] and a - done[-1] <= 1
                assert client.command("LRANGE", "list", "0", "0") == [str(a).encode()]
                assert client.command("LLEN", "list") == a
            acknowledged = a
