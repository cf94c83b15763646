"""`flo import`: contents of a Redis that hypothesis makes, and each kind's edges, read from both sides after the import and compared."""

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flo.cli import import_redis, main
from flo.importer import kinds, run
from flo.importer.wire import Wire
from tests.importer.conftest import Sides
from tests.support.certificates import Authority
from tests.support.processes import ROOT, RedisProcess, free_port
from tests.support.redis_contents import contents, pending

pytestmark = pytest.mark.slow

MIB = 1 << 20

names = st.binary(max_size=6)
values = st.binary(max_size=30)
groups = st.lists(
    st.tuples(names, st.integers(0, 6), st.lists(st.tuples(names, st.integers(1, 4), st.integers(0, 3)), max_size=3)), max_size=3
)
streams = st.fixed_dictionaries(
    {
        "records": st.lists(
            st.tuples(st.integers(0, 3), st.integers(1, 3), st.lists(st.tuples(values, values), min_size=1, max_size=3)), max_size=8
        ),
        "deleted": st.sets(st.integers(0, 7)),
        "groups": groups,
    }
)
whole = st.fixed_dictionaries(
    {
        "string": st.dictionaries(names, values, max_size=5),
        "list": st.dictionaries(names, st.lists(values, min_size=1, max_size=12), max_size=4),
        "stream": st.dictionaries(names, streams, max_size=3),
    }
)


def fill(sides: Sides, made: dict[str, Any]) -> None:
    """Write what hypothesis has made into the Redis; a name has one kind there."""
    redis = sides.redis
    for name, value in made["string"].items():
        redis.command("SET", b"s" + name, value)
    for name, items in made["list"].items():
        redis.command("RPUSH", b"l" + name, *items)
    for name, stream in made["stream"].items():
        key, ms, seq, ids = b"x" + name, 0, 0, []
        redis.command("XGROUP", "CREATE", key, "first", "0", "MKSTREAM")
        for step, count, fields in stream["records"]:
            ms, seq = (ms + step, count) if step else (ms, seq + count)
            ids.append(redis.command("XADD", key, f"{ms}-{seq}", *(part for field in fields for part in field)))
        for group, start, reads in stream["groups"]:
            redis.command("XGROUP", "CREATE", key, group, ids[start] if start < len(ids) else "0")
            for consumer, count, acks in reads:
                found = redis.command("XREADGROUP", "GROUP", group, consumer, "COUNT", count, "STREAMS", key, ">") or [[key, []]]
                for ident, _ in found[0][1][:acks]:
                    redis.command("XACK", key, group, ident)
        for at in stream["deleted"]:
            if at < len(ids):
                redis.command("XDEL", key, ids[at])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=whole, piece=st.integers(1, 4))
def test_what_hypothesis_makes(servers: Sides, made: dict[str, Any], piece: int) -> None:
    servers.clear()
    fill(servers, made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "PIECE_ITEMS", piece)
        patch.setattr(run, "PAGE_KEYS", piece)
        report = servers.copy()
    there, here = contents(servers.redis), contents(servers.flo)
    gone = 0
    for stream in there["streams"].values():
        # a delivery whose record was deleted is left, as Redis itself drops it when it is claimed
        alive = {ident for ident, _ in stream["records"]}
        for at, found in enumerate(stream["pending"]):
            kept = [row for row in found if row[0] in alive]
            gone += len(found) - len(kept)
            stream["pending"][at] = kept
            stream["groups"][at][2] = len(kept)
    assert here == there
    assert report.done["pending"] == sum(len(found) for stream in there["streams"].values() for found in stream["pending"])
    assert sum(entry["count"] for entry in report.left.values()) == gone


def test_times_to_live_are_exact(sides: Sides) -> None:
    keys = [f"key:{at}" for at in range(20)]
    for at, key in enumerate(keys):
        sides.redis.command("SET", key, "v", "PX", 100_000 + 137 * at)
    sides.redis.command("RPUSH", "list", "a")
    sides.redis.command("PEXPIRE", "list", 90_500)
    sides.redis.command("XADD", "stream", "1-1", "a", "b")
    sides.redis.command("PEXPIRE", "stream", 80_500)
    sides.redis.command("SADD", "set", "a")
    sides.redis.command("PEXPIRE", "set", 70_500)
    sides.redis.command("SET", "far", "v", "PXAT", (1 << 62))
    sides.redis.command("SET", "plain", "v")
    sides.flo.command("SET", "plain", "old", "EX", 100)
    sides.copy(documents=True)

    def deadlines(side: Any) -> list[int]:
        return [side.command("PEXPIRETIME", key) for key in [*keys, "list", "stream", "set"]]

    apart = [ours - theirs for ours, theirs in zip(deadlines(sides.flo), deadlines(sides.redis), strict=True)]
    assert statistics.median(map(abs, apart[:20])) < 100, apart
    assert all(abs(one) < 3000 for one in apart), apart
    assert sides.flo.command("TTL", "far") == sides.flo.command("TTL", "plain") == -1


def test_rpop_takes_from_flo_what_it_took_from_redis(sides: Sides) -> None:
    sides.redis.command("LPUSH", "jobs", *range(5000))
    sides.copy()
    ours = [message for _ in range(5) for message in sides.flo.command("RPOP", "jobs", 1000)]
    assert ours == sides.redis.command("RPOP", "jobs", 5000)


def test_idle_times_of_deliveries(sides: Sides) -> None:
    redis = sides.redis
    redis.command("XADD", "s", "1-1", "a", "b")
    redis.command("XGROUP", "CREATE", "s", "g", "0")
    redis.command("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    redis.command("XCLAIM", "s", "g", "other", 0, "1-1", "IDLE", 7_200_000, "RETRYCOUNT", 17)
    sides.copy()
    ((ident, consumer, idle, deliveries),) = pending(sides.flo, b"s", b"g")
    assert (ident, consumer, deliveries) == (b"1-1", b"other", 17)
    assert 7_200_000 <= idle < 7_230_000


def test_documents(sides: Sides) -> None:
    redis = sides.redis
    redis.command("HSET", "hash", "name", "Ada", "raw", b"\xff\x00")
    redis.command("SADD", "set", "b", "a", "c")
    redis.command("ZADD", "zset", "2", "two", "1.5", "x", "-inf", "low", "9007199254740993", "big", "1e300", "huge")
    redis.command("HSET", "names", b"\xff", "x")
    redis.command("HSET", "large", "x", "y" * MIB)
    many = {f"field:{at}": str(at) for at in range(3000)}
    redis.command("HSET", "many", *(part for item in many.items() for part in item))
    report = sides.copy(documents=True)

    def document(name: str) -> Any:
        return json.loads(sides.flo.command("JSON.GET", name))

    assert document("hash") == {"name": "Ada", "raw": {"base64": "/wA="}}
    assert document("set") == ["a", "b", "c"]
    found = document("zset")
    assert found == {"low": "-inf", "x": 1.5, "two": 2, "big": 9007199254740992, "huge": 1e300}
    assert list(found) == ["low", "x", "two", "big", "huge"]
    assert sides.flo.command("JSON.GET", "zset", "$.two") == b"2"
    assert document("many") == many
    assert report.done["documents"] == 4
    reasons = {title: entry["examples"] for title, entry in report.left.items()}
    assert reasons == {
        "hash: a name in it is not UTF-8, as the names in JSON are": ["names"],
        "hash: larger than 1 MiB, the most a JSON document may have": ["large"],
    }


def test_the_report_says_what_was_left_and_why(sides: Sides) -> None:
    redis = sides.redis
    redis.pipeline(*[("HSET", f"user:{at}", "a", "b") for at in range(9)])
    redis.command("SADD", "set", "a")
    redis.command("ZADD", "zset", 1, "a")
    redis.command("SETRANGE", "large", 16 * MIB, "x")
    redis.command("RPUSH", "list", "a", b"x" * (16 * MIB + 1), "b", b"y" * (16 * MIB + 1), "c")
    redis.command("XADD", "stream", "1-1", "a", "b")
    redis.command("XADD", "stream", "2-1", "a", b"x" * (16 * MIB + 1))
    redis.command("XADD", "stream", "3-1", "a", "b")
    redis.command("SET", b"k" * 65_536, "v")
    redis.command("RPUSH", b"n" * 32_001, "v")
    redis.command("SET", "kept", "v")
    left = sides.copy().left
    assert {title: entry["count"] for title, entry in left.items()} == {
        "hash: Flo has no hashes; --hashes json copies them as JSON documents": 9,
        "set: Flo has no sets; --hashes json copies them as JSON documents": 1,
        "sorted set: Flo has no sorted sets; --hashes json copies them as JSON documents": 1,
        "string: larger than 16 MiB, the most a value may have": 1,
        "message: larger than 16 MiB, the most a value may have": 2,
        "record: larger than 16 MiB, the most a value may have": 1,
        "key: a name of over 65,535 bytes, the most a key may have": 1,
        "list: a name of over 32,000 bytes, the most a queue or a stream may have": 1,
    }
    assert len(left["hash: Flo has no hashes; --hashes json copies them as JSON documents"]["examples"]) == 3
    assert sides.flo.command("LRANGE", "list", 0, -1) == [b"a", b"b", b"c"]
    assert [ident for ident, _ in sides.flo.command("XRANGE", "stream", "-", "+")] == [b"1-1", b"3-1"]
    assert sides.flo.command("KEYS", "*") == [b"kept"]


@pytest.mark.slow
def test_memory_is_bounded(sides: Sides) -> None:
    """Values of the largest size, and larger ones, in every kind."""
    value = b"x" * (15 * MIB)
    for at in range(3):
        sides.redis.command("SET", f"string:{at}", value)
        sides.redis.command("RPUSH", "list", value)
        sides.redis.command("XADD", "stream", f"{at + 1}-1", "a", value)
    sides.redis.command("SETRANGE", "large", 40 * MIB, "x")
    sides.redis.command("RPUSH", "list", b"y" * (40 * MIB))
    script = "import re, sys; from flo.cli import main; print(main(), re.search('VmHWM:(.*) kB', open('/proc/self/status').read())[1])"
    words = [sys.executable, "-c", script, "import", sides.url, "--port", str(sides.port)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=120)
    status, peak = map(int, done.stdout.splitlines()[-1].split())
    assert (status, sides.flo.command("LLEN", "list"), sides.flo.command("XLEN", "stream")) == (0, 3, 3)
    assert peak < 200_000, peak


@pytest.mark.long
def test_a_string_of_512_mib_is_left(sides: Sides) -> None:
    sides.redis.command("SETRANGE", "large", (512 * MIB) - 1, "x")
    assert [*sides.copy().left] == ["string: larger than 16 MiB, the most a value may have"]
    assert sides.redis.command("CONFIG", "RESETSTAT") and sides.flo.command("DBSIZE") == 0


def test_what_flo_had_before_stays(sides: Sides) -> None:
    for side in (sides.redis, sides.flo):
        side.command("LPUSH", "list", side is sides.flo)
        side.command("XADD", "stream", "5-5", "a", "b")
        side.command("SET", "string", side is sides.flo)
    report = sides.copy()
    assert [entry["examples"] for entry in report.left.values()] in ([["list"], ["stream"]], [["stream"], ["list"]])
    assert sides.flo.command("LRANGE", "list", 0, -1) == [b"True"]
    assert sides.flo.command("GET", "string") == b"False"  # a string is replaced; its history has the old one


def test_a_second_import_adds_nothing_twice(sides: Sides) -> None:
    sides.redis.command("RPUSH", "list", *range(50))
    sides.redis.command("XADD", "stream", "5-5", "a", "b")
    sides.copy()
    before = contents(sides.flo)
    sides.copy()
    assert contents(sides.flo) == before


def test_a_queue_that_was_configured_keeps_its_configuration(sides: Sides) -> None:
    sides.redis.pipeline(*[("RPUSH", name, "a") for name in ("plain", "paused")])
    sides.flo.command("QCONFIG", "plain", "LEASE", 77_000)
    sides.flo.command("QPAUSE", "paused", "ON")
    sides.copy()
    stats = [sides.flo.command("QSTATS", name) for name in ("plain", "paused")]
    found = [dict(zip(one[::2], one[1::2], strict=True)) for one in stats]
    assert [(one[b"ready"], one[b"lease_ms"], one[b"paused"]) for one in found] == [(1, 77_000, 0), (1, 30_000, 1)]


def test_the_deadline_of_a_list_never_falls_on_a_string_of_its_name(sides: Sides) -> None:
    sides.redis.command("RPUSH", "name", "a")
    sides.redis.command("EXPIRE", "name", 100)
    sides.flo.command("SET", "name", "v")
    report = sides.copy()
    assert sides.flo.command("TTL", "name") == -1
    assert [*report.left] == ["time to live: Flo has a value of another kind with this name, which would get it"]


def test_a_pattern_and_a_namespace(sides: Sides) -> None:
    sides.redis.pipeline(("SET", "user:1", "a"), ("SET", "other", "b"), ("RPUSH", "user:list", "c"))
    sides.flo.command("NAMESPACE", "CREATE", "mine")
    sides.copy(match="user:*", namespace="mine")
    assert sides.flo.command("DBSIZE") == 0
    sides.flo.command("USE", "mine")
    try:
        assert sides.flo.command("KEYS", "*") == [b"user:1"]
        assert sides.flo.command("LRANGE", "user:list", 0, -1) == [b"c"]
    finally:
        sides.flo.command("USE", "default")
        sides.flo.command("FLUSHALL")


def test_a_dry_run_writes_nothing_and_counts_the_same(sides: Sides) -> None:
    fill(sides, {"string": {b"1": b"v", b"2": b""}, "list": {b"1": [b"a", b"b"]}, "stream": {}})
    sides.redis.command("XADD", "s", "*", "a", "b")
    sides.redis.command("HSET", "h", "a", "b")
    sides.redis.command("SETRANGE", "large", 16 * MIB, "x")
    dry = sides.copy(dry_run=True)
    assert contents(sides.flo) == {"strings": {}, "lists": {}, "streams": {}}
    assert dry.as_json() == sides.copy().as_json()


def test_large_lists_are_read_in_pieces(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """No reply holds much more than a piece, where the values have about one size."""
    sides.redis.command("RPUSH", "list", *([b"y" * 100_000] * 100))
    sides.redis.pipeline(*[("XADD", "s", f"{at + 1}-0", "f", b"z" * 50_000) for at in range(200)])
    seen: list[int] = []
    ask = Wire.ask

    def measured(wire: Wire, requests: Any) -> list[Any]:
        replies = ask(wire, requests)
        seen.extend(len(repr(reply)) for reply in replies)
        return replies

    monkeypatch.setattr(Wire, "ask", measured)
    sides.copy()
    there, here = contents(sides.redis), contents(sides.flo)
    assert here == there
    assert max(seen) < 3 * kinds.PIECE_BYTES, max(seen)


def test_a_reply_that_is_too_large_is_asked_for_in_smaller_pieces(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flo.importer.wire.REPLY_BYTES_MAX", 2000)
    sides.redis.command("RPUSH", "list", *([b"x"] * 500), *([b"y" * 1500] * 20), *([b"x"] * 500))
    sides.copy()
    assert contents(sides.flo) == contents(sides.redis)


def test_reading_makes_no_key_look_used(sides: Sides) -> None:
    """Redis 7.2 and later has CLIENT NO-TOUCH; what an older one is asked must still be what it may be asked: no KEYS, COUNT everywhere."""
    sides.redis.command("CONFIG", "RESETSTAT")
    sides.redis.command("SET", "a", "b")
    sides.redis.command("HSET", "h", "a", "b")
    sides.redis.command("SADD", "s", "a")
    sides.copy(documents=True)
    used = {line.split(b":")[0].removeprefix(b"cmdstat_") for line in sides.redis.command("INFO", "commandstats").splitlines()[1:]}
    assert not used & {b"keys", b"hgetall", b"smembers", b"flushall", b"config|set"}, used
    assert {b"scan", b"hscan", b"sscan", b"client|setname"} <= used


# -- the command -----------------------------------------------------------------------------------


def command(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "flo", "import", *words], capture_output=True, text=True, cwd=ROOT, env=os.environ | environment, timeout=60
    )


def test_the_command_prints_its_report(sides: Sides) -> None:
    sides.redis.pipeline(("SET", "a", "b"), ("RPUSH", "l", "1", "2"), ("XADD", "s", "1-1", "a", "b"), ("HSET", "h", "a", "b"))
    done = command(sides.url, "--port", str(sides.port))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("copied from 127.0.0.1:") and lines[0].endswith("/0 into default:")
    assert lines[1:] == [
        "  1 string, 1 bytes",
        "  1 list, 2 messages",
        "  1 stream, 1 record, 0 groups, 0 pending",
        "left:",
        "  1  hash: Flo has no hashes; --hashes json copies them as JSON documents (such as 'h')",
    ]
    found = json.loads(command(sides.url, "--port", str(sides.port), "--format", "json", "--dry-run").stdout)
    assert found["done"]["messages"] == 2


def test_the_progress_is_a_line_now_and_then_without_a_terminal(
    sides: Sides, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sides.redis.pipeline(*[("SET", f"key:{at}", "v") for at in range(2000)])
    monkeypatch.setattr(import_redis, "PLAIN_SECONDS", 0.0)
    assert main(["import", sides.url, "--port", str(sides.port)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert all(re.fullmatch(r"\[#*-*\] +\d+% of 2,000 keys, [\d,]+ written, [\d,]+ /s", line) for line in lines), lines
    assert len(lines) >= 4 and all(len(line) == 80 for line in lines)
    assert "75% of 2,000 keys" in lines[-1]


def test_the_examples_of_the_page_are_true(sides: Sides) -> None:
    sides.redis.pipeline(
        ("SET", "greeting", "hello"),
        ("SET", "page:1", "<html></html>", "EX", 100),
        ("SET", "counter", "1234"),
        ("LPUSH", "jobs", "a", "b", "c"),
        ("XADD", "events", "1-1", "a", "b"),
        ("XADD", "events", "2-1", "a", "b"),
        ("XGROUP", "CREATE", "events", "g", "0"),
        ("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "events", ">"),
        ("HSET", "user:1", "name", "Ada"),
        ("ZADD", "scores", "3", "ada"),
    )
    session = re.search(r"```\n(\$ flo import .*?)```", (ROOT / "docs" / "import.md").read_text(), re.DOTALL)
    assert session
    examples = re.split(r"^\$ flo import ", session[1].replace("localhost:6379", sides.url.removeprefix("redis://")), flags=re.MULTILINE)[
        1:
    ]
    for example in examples:
        words, _, expected = example.partition("\n")
        assert command(*words.split(), "--port", str(sides.port)).stdout == expected
    assert len(examples) == 2
    assert sides.flo.command("JSON.GET", "user:1", "$.name") == b'"Ada"'


SECRET = "hun:ter/2@x"
QUOTED = "hun%3Ater%2F2%40x"


def test_a_password_is_used_and_never_printed(sides: Sides, tmp_path: Path) -> None:
    with RedisProcess(tmp_path, "--requirepass", SECRET, "--appendonly", "no") as redis:
        with redis.connect() as client:
            client.command("AUTH", SECRET)
            client.command("ACL", "SETUSER", "ada", "on", f">{SECRET}", "~*", "+@all")
            client.command("SELECT", 2)
            client.command("SET", "a", "b")
        at = f"127.0.0.1:{redis.port}"
        flags = ("--port", str(sides.port))
        runs = {
            "password": command(f"redis://:{QUOTED}@{at}/2", *flags),
            "user": command(f"redis://ada:{QUOTED}@{at}/2", *flags),
            "environment": command(f"redis://{at}/2", *flags, REDISCLI_AUTH=SECRET),
            "wrong": command(f"redis://ada:{QUOTED}x@{at}/2", *flags),
            "no database": command(f"redis://:{QUOTED}@{at}/99", *flags),
            "no redis": command(f"redis://:{QUOTED}@127.0.0.1:{sides.port}x/2", *flags),
            "twice": command(f"redis://:{QUOTED}@{at}/2", f"redis://:{SECRET}@{at}/2", *flags),
            "other scheme": command(f"http://:{QUOTED}@{at}/2", *flags),
            "no port there": command(f"redis://:{QUOTED}@127.0.0.1:1/2", *flags),
        }
    for name, done in runs.items():
        assert done.returncode == (
            0 if name in ("password", "user", "environment") else 3 if "port" in name else 1 if name in ("wrong", "no database") else 2
        ), (name, done)
        for secret in (SECRET, QUOTED):
            assert secret not in done.stdout + done.stderr, (name, done)
    assert "WRONGPASS" in runs["wrong"].stderr
    assert sides.flo.command("GET", "a") == b"b"


def test_tls(sides: Sides, tmp_path: Path) -> None:
    files = Authority().issue(tmp_path)
    port = free_port()
    flags = (
        "--tls-port",
        str(port),
        "--tls-cert-file",
        str(files.certificate),
        "--tls-key-file",
        str(files.key),
        "--tls-auth-clients",
        "no",
    )
    with (
        RedisProcess(tmp_path, *flags, "--tls-ca-cert-file", str(files.authority), "--appendonly", "no") as redis,
        redis.connect() as client,
    ):
        client.command("SET", "a", b"x" * 1_000_000)
        trusting = command(f"rediss://127.0.0.1:{port}", "--port", str(sides.port), SSL_CERT_FILE=str(files.authority))
        strange = command(f"rediss://127.0.0.1:{port}", "--port", str(sides.port))
        plain = command(f"redis://127.0.0.1:{port}", "--port", str(sides.port))
    assert (trusting.returncode, trusting.stderr) == (0, "")
    assert sides.flo.command("STRLEN", "a") == 1_000_000
    assert strange.returncode == 1 and "SSL_CERT_FILE" in strange.stderr and "\n" not in strange.stderr.strip()
    assert plain.returncode == 3 and len(plain.stderr.splitlines()) == 1
