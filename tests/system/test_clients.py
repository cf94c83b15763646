"""Real clients against a real server: redis-cli, redis-benchmark, telnet's inline commands, redis-py, ioredis, node-redis.

The session and the tables of seeds/redis-compatibility.txt are typed as they stand there. A client that is not installed is
SKIPPED, with the command that installs it.
"""

import asyncio
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import redis.asyncio
import redis.cluster
from redis.backoff import NoBackoff
from redis.retry import Retry

from flo.commands.resp.session import MULTI_REFUSAL
from tests.support.node import run_node
from tests.support.processes import ROOT, FloProcess, ReplyError, free_port, wait_until

pytestmark = pytest.mark.slow

CLIENT_SECONDS = 60
THREADS = 8
MULTI_REFUSED = "the profile `flo` has no MULTI"


def program(name: str, package: str) -> str:
    """The path of a program. Skips the test where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path


def run(command: Sequence[str], **options: Any) -> str:
    """What a program prints; it must exit with 0 and print no error."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_SECONDS, check=False, **options)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stderr == ""
    output: str = done.stdout
    return output


# -- redis-cli --------------------------------------------------------------------------------------

# (what is typed, what redis-cli shows), in this order, on an empty server
SEED_SESSION: tuple[tuple[tuple[str, ...], str], ...] = (
    (("SET", "hello", "world"), "OK"),
    (("INCR", "counter"), "(integer) 1"),
    (("JSON.SET", "order:42", "$", '{"items":3,"status":"new"}'), "OK"),
    (("JSON.SET", "order:42", "$.status", '"shipped"'), "OK"),
    (("JSON.GET", "order:42", "$.status"), r'"\"shipped\""'),
)
SEED_TABLES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("GET", "hello"), '"world"'),
    (("GET", "missing"), "(nil)"),
    (("SET", "k", "v"), "OK"),
    (("SET", "k", "v", "EX", "100"), "OK"),
    (("TTL", "k"), "(integer) 100"),
    (("SET", "k", "w", "NX"), "(nil)"),
    (("SET", "k2", "w", "NX"), "OK"),
    (("SET", "k3", "w", "XX"), "(nil)"),
    (("SET", "k2", "x", "XX"), "OK"),
    (("DEL", "k", "k2", "k3"), "(integer) 2"),
    (("EXISTS", "hello"), "(integer) 1"),
    (("EXISTS", "missing"), "(integer) 0"),
    (("EXPIRE", "hello", "100"), "(integer) 1"),
    (("TTL", "hello"), "(integer) 100"),
    (("PEXPIRE", "hello", "50999"), "(integer) 1"),
    (("TTL", "hello"), "(integer) 50"),
    (("PERSIST", "hello"), "(integer) 1"),
    (("TTL", "hello"), "(integer) -1"),
    (("TTL", "missing"), "(integer) -2"),
    (("INCR", "counter"), "(integer) 2"),
    (("INCRBY", "counter", "40"), "(integer) 42"),
    (("DECR", "counter"), "(integer) 41"),
    (("DECRBY", "counter", "100"), "(integer) -59"),
    (("INCR", "hello"), "(error) WRONGTYPE the value is not an integer or out of range"),
    (("JSON.GET", "order:42"), r'"{\"items\":3,\"status\":\"shipped\"}"'),
    (("JSON.GET", "order:42", "$"), r'"{\"items\":3,\"status\":\"shipped\"}"'),
    (("JSON.SET", "order:42", "$.lines", '[{"sku":"a"},{"sku":"b"}]'), "OK"),
    (("JSON.GET", "order:42", "$.lines[1].sku"), r'"\"b\""'),
    (("JSON.GET", "order:42", ".items"), '"3"'),
    (("JSON.GET", "order:42", "$.nothing"), "(nil)"),
    (("JSON.GET", "missing"), "(nil)"),
    (("JSON.DEL", "order:42", "$.lines[0]"), "(integer) 1"),
    (("JSON.GET", "order:42", "$.lines"), r'"[{\"sku\":\"b\"}]"'),
    (("JSON.DEL", "order:42", "$.nothing"), "(integer) 0"),
    (("SCAN", "0", "MATCH", "ord*"), '1) "0"\n2) 1) "order:42"'),
    (("KEYS", "*"), '1) "counter"\n2) "hello"\n3) "order:42"'),
    (("KEYS", "h*"), '1) "hello"'),
    (("JSON.DEL", "order:42"), "(integer) 1"),
    (("EXISTS", "order:42"), "(integer) 0"),
    (("CLUSTER", "KEYSLOT", "foo"), "(integer) 12182"),
    (("OBJECT", "ENCODING", "hello"), "(error) ERR OBJECT is not supported: Flo has no internal encodings to show"),
)
# What refuses: (typed, the beginning of the error that is shown)
SEED_REFUSALS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("WATCH", "counter"), f"(error) ERR {MULTI_REFUSED}"),
    (("SUBSCRIBE", "channel"), "(error) ERR SUBSCRIBE is not supported"),
    (("PUBLISH", "channel", "message"), "(error) ERR PUBLISH is not supported"),
    (("EVAL", "return 1", "0"), "(error) ERR EVAL is not supported"),
    (("EVALSHA", "0" * 40, "0"), "(error) ERR EVALSHA is not supported"),
    (("SAVE",), "(error) ERR SAVE is not supported"),
    (("BGSAVE",), "(error) ERR BGSAVE is not supported"),
)


class Cli:
    """redis-cli, one command an invocation or as a session that reads what is typed from a pipe."""

    def __init__(self, port: int) -> None:
        self.words = [program("redis-cli", "redis-tools"), "--no-raw", "-h", "127.0.0.1", "-p", str(port)]

    def type(self, *words: str) -> str:
        """What one command shows."""
        return run([*self.words, *words]).rstrip("\n")

    def session(self, lines: Sequence[str]) -> str:
        """What a whole session shows."""
        return run(self.words, input="".join(line + "\n" for line in lines))


def as_typed(words: Sequence[str]) -> str:
    """A command as a person types it into redis-cli: quoted where it has to be."""
    return " ".join(word if re.fullmatch(r"[\w.:$*-]+", word) else "'" + word.replace("'", r"\'") + "'" for word in words)


def test_redis_cli_shows_what_the_seed_shows(flo: FloProcess) -> None:
    cli = Cli(flo.port)
    for words, shown in SEED_SESSION + SEED_TABLES:
        assert cli.type(*words) == shown, words
    for words, beginning in SEED_REFUSALS:
        assert beginning in cli.type(*words), words  # redis-cli says first that it is reading messages


def test_a_session_typed_into_redis_cli_shows_the_same(flo: FloProcess) -> None:
    everything = SEED_SESSION + SEED_TABLES
    assert Cli(flo.port).session([as_typed(words) for words, _ in everything]) == "".join(shown + "\n" for _, shown in everything)


def test_redis_cli_in_resp3_shows_the_same(flo: FloProcess) -> None:
    cli = Cli(flo.port)
    cli.words.append("-3")
    for words, shown in SEED_SESSION + SEED_TABLES:
        assert cli.type(*words) == shown, words


def test_what_redis_cli_wrote_is_there_after_a_restart_in_the_middle_of_its_session(tmp_path: Path) -> None:
    with FloProcess(tmp_path / "data", "--port", str(free_port())) as server:
        cli = Cli(server.port)
        port = server.port
        with subprocess.Popen(cli.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as session:
            assert session.stdin is not None and session.stdout is not None
            for words, _ in SEED_SESSION:
                session.stdin.write(as_typed(words) + "\n")
            wait_until(lambda: cli.type("EXISTS", "order:42") == "(integer) 1", "the session's writes")
            wait_until(lambda: "shipped" in cli.type("JSON.GET", "order:42"), "the session's last write")
            # it is the oldest connection; what it asked last is to be answered before the server stops, not asked again behind it
            wait_until(lambda: "cmd=json.get " in cli.type("CLIENT", "LIST").splitlines()[0], "the session's last request")
            assert server.stop() == 0
            server.start()
            assert server.port == port
            for line in ("GET hello", "GET hello", "INCR counter", "JSON.GET order:42 $.status"):
                session.stdin.write(line + "\n")
            session.stdin.close()
            shown = session.stdout.read()
            assert session.wait(CLIENT_SECONDS) == 0
        assert shown.endswith('"world"\n(integer) 2\n"\\"shipped\\""\n'), shown
        assert shown.startswith("".join(f"{answer}\n" for _, answer in SEED_SESSION)), shown
    assert not server.alive()


def test_redis_cli_reads_a_pipe_of_raw_requests(flo: FloProcess) -> None:
    """`redis-cli --pipe`, the mass insertion tool: it ends with an ECHO it waits for."""
    data = b"".join(b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$1\r\nv\r\n" % (len(key), key) for key in (b"mass:%d" % at for at in range(20_000)))
    done = subprocess.run(
        [program("redis-cli", "redis-tools"), "-p", str(flo.port), "--pipe"],
        input=data,
        capture_output=True,
        timeout=CLIENT_SECONDS,
        check=True,
    )
    assert b"errors: 0, replies: 20000" in done.stdout
    with flo.connect() as client:
        assert client.command("DBSIZE") == 20_000


def test_redis_cli_finds_keys_and_shows_info(flo: FloProcess) -> None:
    cli = [program("redis-cli", "redis-tools"), "-p", str(flo.port)]
    with flo.connect() as client:
        for at in range(300):
            client.command("SET", f"scanned:{at}", "v" * at)
    assert sorted(run([*cli, "--scan", "--pattern", "scanned:*"]).split()) == sorted(f"scanned:{at}" for at in range(300))
    assert re.search(r"^redis_version:7\.4\.0\r?$", run([*cli, "INFO", "server"]), re.MULTILINE)
    assert "Biggest string found" in run([*cli, "--bigkeys"])
    assert run([*cli, "-r", "3", "INCR", "n"]).split() == ["1", "2", "3"]


# -- redis-benchmark --------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [("-P", "16"), ("-P", "1", "-c", "20"), ("-P", "64", "-d", "3000"), ("-P", "16", "-r", "1000", "-3")])
def test_redis_benchmark_runs(shared_flo: FloProcess, flags: tuple[str, ...]) -> None:
    tool = program("redis-benchmark", "redis-tools")
    shown = run([tool, "-p", str(shared_flo.port), "-t", "set,get,incr,mset,ping", "-n", "5000", "--csv", *flags])
    names = [line.split(",")[0].strip('"') for line in shown.splitlines()[1:] if line.startswith('"')]
    assert names == ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"], shown


# -- a socket and nothing else ----------------------------------------------------------------------


def test_inline_commands_as_telnet_sends_them(shared_flo: FloProcess) -> None:
    with shared_flo.connect() as client:
        for line, reply in (
            (b"PING\r\n", b"PONG"),
            (b"ping\n", b"PONG"),
            (b"SET inline 'two words'\r\n", b"OK"),
            (b'GET "inline"\r\n', b"two words"),
            (b"  GET   inline  \r\n", b"two words"),
            (b'SET inline "\\x00\\n\\""\r\n', b"OK"),
            (b"GET inline\r\n", b'\x00\n"'),
            (b"\r\n\r\nEXISTS inline\r\n", 1),
        ):
            client.send(line)
            assert client.reply() == reply, line


def test_an_inline_command_may_arrive_byte_by_byte(shared_flo: FloProcess) -> None:
    with shared_flo.connect() as client:
        for byte in b"\r\nSET bytewise ok\r\nGET bytewise\r\n":
            client.send(bytes([byte]))
        assert [client.reply(), client.reply()] == [b"OK", b"ok"]


# -- transactions, refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("one_write", [True, False], ids=["one write", "one by one"])
@pytest.mark.parametrize(
    ("end", "answer"),
    [("EXEC", ReplyError(f"EXECABORT Transaction discarded: {MULTI_REFUSAL}")), ("DISCARD", b"OK"), ("RESET", b"RESET")],
)
def test_after_multi_nothing_is_run_until_its_end(shared_flo: FloProcess, one_write: bool, end: str, answer: Any) -> None:
    inside = [
        ("SET", "inside", "1"), ("INCR", "inside:n"), ("GET", "before"), ("set", "inside", "1"), ("PING",), ("NONSENSE",), ("GET",),
        ("HELLO", "3"), ("FLUSHALL",), ("MULTI",), ("WATCH", "before"), ("CLIENT", "REPLY", "OFF"), ("HSET", "a", "b", "c"),
        ("JSON.SET", "inside:doc", "$", "1"),
    ]  # fmt: skip
    refused = ReplyError(f"ERR {MULTI_REFUSAL}")
    with shared_flo.connect() as client:
        client.command("FLUSHALL")
        client.command("SET", "before", "1")
        requests = [("MULTI",), *inside, (end,), ("GET", "before"), ("MGET", "inside", "inside:n"), ("DBSIZE",)]
        answers = client.pipeline(*requests) if one_write else [client.command(*request) for request in requests]
        assert answers == [refused] * (1 + len(inside)) + [answer, b"1", [None, None], 1]
        assert isinstance(client.command("EXEC"), ReplyError)
        assert client.command("SET", "after", "1") == b"OK"


def test_a_refused_watch_leaves_the_connection_as_it_was(shared_flo: FloProcess) -> None:
    with shared_flo.connect() as client:
        assert client.command("WATCH", "a") == ReplyError(f"ERR {MULTI_REFUSAL}")
        assert client.command("UNWATCH") == b"OK"
        assert client.command("SET", "a", "1") == b"OK"


# -- redis-py ---------------------------------------------------------------------------------------


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def client(request: pytest.FixtureRequest, shared_flo: FloProcess) -> Iterator[Any]:
    """redis-py in both protocols, on an empty server."""
    with redis.Redis(port=shared_flo.port, protocol=request.param, socket_timeout=CLIENT_SECONDS) as opened:
        opened.flushall()
        yield opened


def test_redis_py_strings(client: Any) -> None:
    assert client.ping() is True
    assert client.echo("x") == b"x"
    assert client.set("a", "1") is True
    assert client.get("a") == b"1"
    assert client.get("missing") is None
    assert client.set("a", "2", nx=True) is None
    assert client.set("missing", "2", xx=True) is None
    assert client.set("a", "2", get=True) == b"1"
    assert client.setnx("a", "x") is False
    assert client.setnx("b", "x") is True
    assert client.mset({"a": 1, "b": 2}) is True
    assert client.mget("a", "missing", "b") == [b"1", None, b"2"]
    assert client.append("s", "hello") == 5
    assert client.strlen("s") == 5
    assert client.getrange("s", 1, -2) == b"ell"
    assert client.setrange("s", 5, "!") == 6
    assert client.getset("s", "new") == b"hello!"
    assert client.getdel("s") == b"new"
    assert client.getex("a", ex=100) == b"1"
    assert client.exists("a", "b", "missing") == 2
    assert client.touch("a", "b", "missing") == 2
    assert client.type("a") == b"string"
    assert client.rename("a", "c") is True
    assert client.renamenx("c", "b") is False
    assert client.copy("c", "d") is True
    assert client.dbsize() == 3
    assert client.randomkey() in (b"b", b"c", b"d")
    assert client.unlink("d") == 1
    assert client.delete("b", "c", "missing") == 2
    value = bytes(range(256)) * 4000
    assert client.set("large", value) is True
    assert client.get("large") == value


def test_redis_py_counters(client: Any) -> None:
    assert client.incr("n") == 1
    assert client.incrby("n", 41) == 42
    assert client.decr("n") == 41
    assert client.decrby("n", 100) == -59
    assert client.get("n") == b"-59"
    assert client.incrbyfloat("f", 1.5) == 1.5
    client.set("s", "abc")
    with pytest.raises(redis.ResponseError, match=r"WRONGTYPE|not an integer"):
        client.incr("s")
    assert client.get("s") == b"abc"


@pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")
def test_redis_py_deadlines(client: Any) -> None:
    client.set("a", "1", ex=100)
    assert client.ttl("a") == 100
    client.set("a", "1", px=100_000)
    assert 99_000 < client.pttl("a") <= 100_000
    client.set("a", "1", exat=4102444800)
    assert client.expiretime("a") == 4102444800
    client.set("a", "1", pxat=4102444800123)
    assert client.pexpiretime("a") == 4102444800123
    client.set("a", "2", keepttl=True)
    assert client.pexpiretime("a") == 4102444800123
    assert client.persist("a") is True
    assert client.ttl("a") == -1
    assert client.ttl("missing") == -2
    assert client.expire("a", 100) is True
    assert client.expire("a", 200, nx=True) is False
    assert client.expire("a", 50, gt=True) is False
    assert client.expire("a", 200, gt=True) is True
    assert client.expire("a", 300, lt=True) is False
    assert client.expire("a", 90, xx=True) is True
    assert client.pexpire("a", 70_999) is True
    assert client.ttl("a") == 70
    assert client.expireat("a", 4102444800) is True
    assert client.pexpireat("a", 4102444800123) is True
    assert client.setex("b", 100, "v") is True
    assert client.psetex("c", 100_000, "v") is True
    assert client.expire("b", -1) is True
    assert client.exists("b") == 0
    client.set("soon", "v", px=30)
    wait_until(lambda: client.get("soon") is None, "the end of a key")


def test_redis_py_scans(client: Any) -> None:
    names = {f"user:{at}".encode() for at in range(500)}
    client.mset(dict.fromkeys(names, b"v") | {b"other": b"v"})
    assert set(client.scan_iter(match="user:*", count=7)) == names
    assert sorted(client.keys("user:1*")) == sorted(name for name in names if name.startswith(b"user:1"))
    assert len(list(client.scan_iter())) == 501
    assert len(list(client.scan_iter(_type="STRING"))) == 501
    assert sorted(client.keys("us?r:[12]0[^3]")) == sorted(b"user:%d" % n for n in (*range(100, 110), *range(200, 210)) if n % 10 != 3)


def test_redis_py_documents_as_plain_commands(client: Any) -> None:
    assert client.execute_command("JSON.SET", "doc", "$", '{"a": {"b": [1, 2]}}') in (b"OK", True)
    assert json.loads(client.execute_command("JSON.GET", "doc", "$.a.b[1]")) == 2
    assert client.execute_command("JSON.DEL", "doc", "$.a.b[0]") == 1
    assert json.loads(client.execute_command("JSON.GET", "doc", "$.a")) == {"b": [2]}
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.get("doc")
    assert client.type("doc") == b"ReJSON-RL"


def test_redis_py_json_functions(client: Any) -> None:
    documents = client.json()
    assert documents.set("doc", "$", {"a": 1, "b": {"c": [1, 2]}}) is True
    assert documents.get("doc") == {"a": 1, "b": {"c": [1, 2]}}
    assert documents.set("doc", "$.a", 5) is True
    assert documents.set("doc", "$.a", 6, nx=True) is None
    assert documents.get("doc", "$.a") == 5
    assert documents.delete("doc", "$.b.c[0]") == 1
    assert documents.get("doc", "$.b") == {"c": [2]}
    assert documents.delete("doc") == 1
    assert documents.get("doc") is None


def test_redis_py_about_the_connection_and_the_server(client: Any, shared_flo: FloProcess) -> None:
    assert isinstance(client.client_id(), int)
    assert client.client_setname("tester") is True
    assert client.client_getname() in (b"tester", "tester")
    assert client.client_info()["name"] == "tester"
    assert any(row["name"] == "tester" for row in client.client_list())
    assert client.client_list(client_id=[client.client_id()])[0]["lib-name"] == "redis-py"
    assert client.client_no_evict("ON") in (b"OK", True, "OK")
    with redis.Redis(port=shared_flo.port) as other:
        assert client.client_kill_filter(_id=other.client_id()) == 1
    assert client.config_get("appendonly") == {"appendonly": "yes"}
    assert client.config_get("maxmemory*")["maxmemory-policy"] == "noeviction"
    assert client.config_set("maxmemory", "100mb") is True
    assert client.config_get("maxmemory")["maxmemory"] in ("104857600", "100mb")
    assert client.config_set("maxmemory", "0") is True
    assert client.config_resetstat() is True
    client.set("a", "1", ex=100)
    info = client.info()
    assert info["redis_version"] == "7.4.0"
    assert info["redis_mode"] == "standalone"
    assert info["loading"] == 0
    assert info["db0"] == {"keys": 1, "expires": 1, "avg_ttl": info["db0"]["avg_ttl"]}
    assert client.info("memory")["used_memory"] > 0
    documents = client.execute_command("COMMAND DOCS", "get", "set")  # redis-py's own function for it is not implemented
    assert b"get" in documents and b"set" in documents
    assert client.command_count() > 60
    assert client.command()["get"]["arity"] == 2
    assert client.command_getkeys("MSET", "a", 1, "b", 2) in ([b"a", b"b"], ["a", "b"])
    seconds, micros = client.time()
    assert seconds > 1_600_000_000
    assert 0 <= micros < 1_000_000
    assert client.memory_usage("a") > 0
    assert client.slowlog_len() >= 0
    assert isinstance(client.slowlog_get(), list)
    assert isinstance(client.latency_latest(), list)
    assert client.module_list() == []
    assert client.acl_whoami() in (b"default", "default")
    assert client.wait(0, 10) == 0
    assert client.select(0) is True
    assert client.flushdb() is True
    assert client.dbsize() == 0


def test_redis_py_tells_errors_apart(client: Any) -> None:
    for words, error, text in (
        (("GET",), redis.ResponseError, "wrong number of arguments for 'get' command"),
        (("NONSENSE", "a"), redis.ResponseError, "unknown command 'NONSENSE', with args beginning with: 'a'"),
        (("SET", "a", "1", "EX", "0"), redis.ResponseError, "invalid expire time in 'set' command"),
        (("INCRBY", "a", "x"), redis.ResponseError, "value is not an integer or out of range"),
        (("SELECT", "1"), redis.ResponseError, "DB index is out of range"),
        (("HSET", "h", "f", "v"), redis.ResponseError, "Flo has no hashes"),
    ):
        with pytest.raises(error, match=re.escape(text)):
            client.execute_command(*words)
    assert client.ping() is True


def test_redis_py_plain_pipeline(client: Any) -> None:
    with client.pipeline(transaction=False) as pipe:
        for at in range(2000):
            pipe.set(f"p:{at}", at)
        pipe.incr("n").get("p:7").incr("p:7").mget("p:7", "missing")
        assert pipe.execute() == [True] * 2000 + [1, b"7", 8, [b"8", None]]
    with client.pipeline(transaction=False) as pipe:
        pipe.set("s", "abc").incr("s").get("s")
        answers = pipe.execute(raise_on_error=False)
    assert answers[0] is True
    assert isinstance(answers[1], redis.ResponseError)
    assert answers[2] == b"abc"


def test_redis_py_default_pipeline_is_refused_and_applies_nothing(client: Any) -> None:
    client.set("balance", 10)
    pipe = client.pipeline()
    pipe.set("inside", "1").incr("balance").delete("balance")
    with pytest.raises(redis.RedisError, match=MULTI_REFUSED):
        pipe.execute()
    assert client.get("inside") is None
    assert client.get("balance") == b"10"
    single = client.client()  # every command of this one goes over one connection
    with single.pipeline() as again:
        again.set("inside", "1")
        with pytest.raises(redis.RedisError, match=MULTI_REFUSED):
            again.execute()
        assert single.ping() is True
        assert single.get("inside") is None
    single.close()
    with pytest.raises(redis.RedisError, match=MULTI_REFUSED):
        client.transaction(lambda watching: watching.multi(), "balance")
    assert client.get("balance") == b"10"


def test_redis_py_monitor(client: Any) -> None:
    with client.monitor() as watching:
        client.set("watched", 'a "quoted" word')
        while "watched" not in (seen := watching.next_command())["command"]:
            pass
    assert seen["command"] == 'SET watched a "quoted" word'
    assert seen["db"] == 0
    assert seen["client_address"] == "127.0.0.1"


def test_redis_py_cluster_client(shared_flo: FloProcess) -> None:
    """A cluster client finds one node that has every slot."""
    cluster: Any = redis.cluster.RedisCluster(host="127.0.0.1", port=shared_flo.port)
    try:
        assert cluster.set("cluster:a", "1") is True
        assert cluster.get("cluster:a") == b"1"
        assert cluster.mget_nonatomic("cluster:a", "cluster:missing") == [b"1", None]
        assert cluster.keyslot("foo") == cluster.cluster_keyslot("foo") == 12182
        assert len(cluster.get_nodes()) == 1
    finally:
        cluster.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_worker_of_a_cluster_client_finds_the_keys_of_each_command(shared_flo: FloProcess, protocol: int) -> None:
    """A cluster client asks which arguments are keys before it sends: by COMMAND, and where keys move by COMMAND GETKEYS."""
    cluster: Any = redis.cluster.RedisCluster(host="127.0.0.1", port=shared_flo.port, protocol=protocol)
    jobs, queue, other = (f"cluster{protocol}:{name}" for name in ("jobs", "queue", "other"))
    try:
        assert cluster.xgroup_create(jobs, "g", "0", mkstream=True) is True
        for number in range(5):
            cluster.xadd(jobs, {"n": number})
        done = 0
        while found := cluster.xreadgroup("g", "c", {jobs: ">"}, count=2):
            records = next(iter(found.values()))[0] if protocol == 3 else found[0][1]
            done += sum(cluster.xack(jobs, "g", ident) for ident, _ in records)
        assert done == cluster.xlen(jobs) == 5
        assert len(cluster.xread({jobs: "0"}, count=3)) == 1
        assert [group["name"] for group in cluster.xinfo_groups(jobs)] == [b"g"]
        assert [consumer["name"] for consumer in cluster.xinfo_consumers(jobs, "g")] == [b"c"]
        assert cluster.xgroup_destroy(jobs, "g") == 1
        cluster.lpush(queue, "a", "b")
        assert tuple(cluster.brpop([queue], 1)) == (queue.encode(), b"a")
        assert cluster.set(other, "1") is True
        assert cluster.memory_usage(other) > 0
        assert cluster.execute_command("COMMAND GETKEYS", "XREAD", "STREAMS", jobs, "0")[0] in (jobs, jobs.encode())
        assert cluster.keys(f"cluster{protocol}:o?her") == [other.encode()]
        assert cluster.delete(jobs, queue, other) == 3
    finally:
        cluster.close()


def test_redis_py_decodes_replies(shared_flo: FloProcess) -> None:
    for protocol in (2, 3):
        with redis.Redis(port=shared_flo.port, protocol=protocol, decode_responses=True) as client:
            assert client.set("text", "żółw") is True
            assert client.get("text") == "żółw"
            assert client.mget("text", "missing") == ["żółw", None]
            assert client.type("text") == "string"
            assert cast(dict[str, Any], client.info("server"))["redis_version"] == "7.4.0"
            assert "text" in list(client.scan_iter("te*"))


def test_redis_py_pool_shared_by_threads(shared_flo: FloProcess) -> None:
    pool = redis.ConnectionPool(port=shared_flo.port, max_connections=THREADS)
    client: Any = redis.Redis(connection_pool=pool)
    client.delete("shared:n")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for at in range(200):
                client.incr("shared:n")
                client.set(f"shared:{number}", at)
                assert client.get(f"shared:{number}") == b"%d" % at
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(CLIENT_SECONDS)
    assert not failures
    assert client.get("shared:n") == b"%d" % (200 * THREADS)
    pool.disconnect()


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_asyncio(shared_flo: FloProcess, protocol: int) -> None:
    async def talk() -> None:
        client: Any = redis.asyncio.Redis(port=shared_flo.port, protocol=protocol)
        try:
            assert await client.flushall() is True
            await asyncio.gather(*(client.set(f"async:{at}", at) for at in range(100)))
            assert await client.mget("async:7", "missing") == [b"7", None]
            assert sum([1 async for _ in client.scan_iter("async:*")]) == 100
            async with client.pipeline(transaction=False) as pipe:
                assert await pipe.incr("n").incr("n").execute() == [1, 2]
            async with client.pipeline() as pipe:
                pipe.incr("n")
                with pytest.raises(redis.RedisError, match=MULTI_REFUSED):
                    await pipe.execute()
            assert await client.get("n") == b"2"
        finally:
            await client.aclose()

    asyncio.run(talk())


def test_redis_py_goes_on_after_a_restart(tmp_path: Path) -> None:
    with FloProcess(tmp_path / "data", "--port", str(free_port())) as server:
        client: Any = redis.Redis(port=server.port)
        client.set("hello", "world", ex=1000)
        client.execute_command("JSON.SET", "doc", "$", "{}")
        client.incr("n")
        assert server.stop() == 0
        server.start()
        assert wait_until(lambda: client.get("hello"), "the value after a restart") == b"world"
        assert 900 < client.ttl("hello") <= 1000
        assert client.incr("n") == 2
        assert client.execute_command("JSON.GET", "doc") == b"{}"
        client.close()


# -- a secret ---------------------------------------------------------------------------------------

SECRET = "correct horse battery staple"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[FloProcess]:
    """A server with a secret."""
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET + "\n")
    with FloProcess(tmp_path / "data", environment={"FLO_SECRET_FILE": str(secret)}) as server:
        yield server


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_with_a_password(guarded: FloProcess, protocol: int) -> None:
    with redis.Redis(port=guarded.port, protocol=protocol, password=SECRET) as client:
        assert client.set("a", "1") is True
    with redis.Redis(port=guarded.port, protocol=protocol, username="default", password=SECRET) as client:
        assert client.get("a") == b"1"
    with redis.Redis(port=guarded.port, protocol=2, retry=Retry(NoBackoff(), 0)) as client, pytest.raises(redis.AuthenticationError):
        client.get("a")
    for wrong in ({"password": "wrong"}, {"username": "bob", "password": SECRET}):
        # a wrong secret is answered after a second, so redis-py's retries would take long
        options: dict[str, Any] = {"port": guarded.port, "protocol": protocol, "retry": Retry(NoBackoff(), 0), **wrong}
        with redis.Redis(**options) as client, pytest.raises(redis.AuthenticationError):
            client.get("a")


def test_redis_cli_with_a_password(guarded: FloProcess) -> None:
    cli = [program("redis-cli", "redis-tools"), "-p", str(guarded.port)]
    assert run([*cli, "--no-auth-warning", "-a", SECRET, "SET", "a", "1"]) == "OK\n"
    assert run([*cli, "GET", "a"]) == "NOAUTH Authentication required.\n\n"
    assert SECRET not in guarded.output()


# -- Node's clients ---------------------------------------------------------------------------------


def node_client(name: str, port: int) -> dict[str, Any]:
    """What tests/node/clients.mjs saw."""
    return cast(dict[str, Any], run_node(ROOT / "tests" / "node" / "clients.mjs", name, port, packages=["ioredis", "redis"]))


def check_node_client(seen: dict[str, Any], prefix: str) -> None:
    """What both of Node's clients saw alike."""
    assert seen["ping"] == "PONG"
    assert seen["set"] == seen["setex"] == seen["mset"] == "OK"
    assert seen["get"] == "world"
    assert seen["missing"] is None
    assert seen["setnx"] is None
    assert seen["ttl"] == 100
    assert seen["persist"] == 1
    assert seen["incr"] == [1, 42, 41]
    assert seen["mget"] == ["1", None, "2"]
    assert seen["scanned"] == [f"{prefix}:{name}" for name in ("a", "b", "doc", "hello", "n", "p", "ttl")]
    assert seen["wrongType"]["error"].startswith("WRONGTYPE ")
    assert MULTI_REFUSED in seen["multi"]["error"]
    assert seen["afterMulti"] == [None, "41"]
    assert seen["info"] == "7.4.0"
    assert seen["many"] is True
    assert seen["del"] == 2


def test_ioredis(shared_flo: FloProcess) -> None:
    seen = node_client("ioredis", shared_flo.port)
    check_node_client(seen, "io")
    assert seen["buffer"] == b"world".hex()
    assert seen["json"] == ["OK", "2"]
    assert seen["pipeline"] == [[None, "OK"], [None, 2], [None, "2"]]
    assert seen["quit"] == "OK"


@pytest.mark.parametrize("name", ["ioredis-cluster", "node-redis-cluster"])
def test_a_worker_of_a_node_cluster_client(shared_flo: FloProcess, name: str) -> None:
    seen = node_client(name, shared_flo.port)
    assert seen == {"set": "OK", "get": "world", "group": "OK", "read": 3, "acked": 3, "left": 0, "popped": "a", "groups": 1, "del": 2}


@pytest.mark.parametrize("protocol", [2, 3])
def test_node_redis(shared_flo: FloProcess, protocol: int) -> None:
    seen = node_client(f"node-redis-{protocol}", shared_flo.port)
    check_node_client(seen, f"nr{protocol}")
    assert seen["json"] == ["OK", {"a": [1, 2]}]
    assert seen["jsonPath"] == "2"
    assert seen["pipeline"] == ["OK", 2]
    assert seen["id"] == "number"
    assert seen["config"] == {"appendonly": "yes"}
