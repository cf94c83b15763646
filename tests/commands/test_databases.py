"""Namespaces under Redis's numbers (resp.databases), so that they survive a reconnect; and NAMESPACE."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flo import Client
from tests.support.processes import FloProcess, ReplyError, wait_until

CLIENT_SECONDS = 60
OUT_OF_RANGE = "ERR DB index is out of range"


@pytest.fixture
def numbered(tmp_path: Path) -> Iterator[FloProcess]:
    """A server with three databases."""
    with FloProcess(tmp_path / "data", environment={"FLO_RESP_DATABASES": "default, jobs,logs"}) as server:
        yield server


def test_select_names_the_namespaces_that_are_listed(numbered: FloProcess) -> None:
    with numbered.connect() as client, Client(f"flo://127.0.0.1:{numbered.port}/jobs") as jobs:
        assert client.command("SELECT", "1") == b"OK"
        assert client.command("SET", "a", "in jobs") == b"OK"
        entry = jobs.kv.get("a")
        assert entry is not None and entry.value == b"in jobs"
        assert client.command("SELECT", "0") == b"OK" and client.command("GET", "a") is None
        assert client.command("USE", "jobs") == b"OK" and client.command("GET", "a") == b"in jobs"
        for wrong in ("3", "16", "-1"):
            assert client.command("SELECT", wrong) == ReplyError(OUT_OF_RANGE)
        assert client.command("GET", "a") == b"in jobs"  # a refused one changes nothing
        assert client.command("RESET") == b"RESET" and client.command("GET", "a") is None
        # within one write: the hot path must follow
        for index in (1, 0, 2):
            client.send(b"*2\r\n$6\r\nSELECT\r\n$1\r\n%d\r\n" % index + b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n%d\r\n" % index)
        assert [client.reply() for _ in range(6)] == [b"OK"] * 6
        for index in (0, 1, 2):
            assert client.command("SELECT", str(index)) == b"OK" and client.command("GET", "b") == b"%d" % index


def test_what_tells_about_databases_follows(numbered: FloProcess) -> None:
    with numbered.connect() as client, numbered.connect() as other:
        assert client.command("CONFIG", "GET", "databases") == [b"databases", b"3"]
        assert client.command("CONFIG", "GET", "resp.databases") == [b"resp.databases", b"default,jobs,logs"]
        assert client.command("NAMESPACE", "CREATE", "unlisted") == b"OK"
        for name, keys in (("default", 1), ("jobs", 2), ("logs", 3), ("unlisted", 4)):
            client.command("USE", name)
            for key in range(keys):
                client.command("SET", f"k{key}", "v")
        keyspace = client.command("INFO", "keyspace").decode().splitlines()[1:]
        assert [line.split(",")[0] for line in keyspace] == ["db0:keys=1", "db1:keys=2", "db2:keys=3", "ns_unlisted:keys=4"]
        client.command("SELECT", "2")
        assert re.search(r" db=2 .* namespace=logs", client.command("CLIENT", "INFO").decode())
        assert re.search(r" db=2 .* namespace=logs", other.command("CLIENT", "LIST").decode())
        assert client.command("COPY", "k0", "copied", "DB", "2") == 1
        assert client.command("COPY", "k0", "copied", "DB", "0") == ReplyError(
            f"{OUT_OF_RANGE}: COPY stays within its namespace, whose index is 2"
        )
        assert other.command("MONITOR") == b"OK"
        client.command("GET", "k0")
        assert re.match(rb"[\d.]+ \[2 127", other.reply())


def test_redis_py_keeps_its_database_over_a_reconnect(numbered: FloProcess) -> None:
    url = f"redis://127.0.0.1:{numbered.port}/1"
    with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 3)) as jobs, redis.Redis(port=numbered.port) as default:
        jobs.set("before", "1")
        default.client_kill_filter(_id=jobs.client_id())
        jobs.set("after", "1")
        assert jobs.client_info()["db"] == 1
        assert sorted(jobs.keys()) == [b"after", b"before"] and default.keys() == []
        assert numbered.stop() == 0
    flags = ("--port", str(numbered.port))
    with FloProcess(numbered.directory, *flags, environment={"FLO_RESP_DATABASES": "default,jobs"}), redis.Redis.from_url(url) as jobs:
        assert sorted(jobs.keys()) == [b"after", b"before"]


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is missing: apt-get install redis-tools")
def test_redis_cli_with_a_number(numbered: FloProcess) -> None:
    def cli(*words: str) -> str:
        command = ["redis-cli", "-p", str(numbered.port), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_SECONDS, check=True).stdout.strip()

    assert cli("-n", "1", "SET", "a", "1") == "OK"
    assert cli("-n", "1", "GET", "a") == "1" and cli("GET", "a") == "" and cli("-n", "0", "EXISTS", "a") == "0"
    assert cli("NAMESPACE", "LIST").split() == ["default", "jobs", "logs"]


def test_without_a_list_only_0_is_served_and_the_rest_says_what_to_do(shared_flo: FloProcess) -> None:
    with shared_flo.connect() as client:
        assert client.command("NAMESPACE", "CREATE", "n") == b"OK"
        assert client.command("USE", "n") == b"OK" and client.command("SET", "a", "1") == b"OK"
        said = client.command("SELECT", "1")
        assert isinstance(said, ReplyError) and str(said).startswith(OUT_OF_RANGE) and "resp.databases" in str(said) and "USE" in str(said)
        assert client.command("SELECT", "-1") == ReplyError(OUT_OF_RANGE)
        assert client.command("GET", "a") == b"1"
        assert client.command("SELECT", "0") == b"OK" and client.command("GET", "a") is None
        assert client.command("CONFIG", "GET", "databases") == [b"databases", b"1"]
        client.command("USE", "n")
        client.command("DEL", "a")
        assert client.command("NAMESPACE", "DELETE", "n") == b"OK"


def test_namespaces_over_resp(flo: FloProcess) -> None:
    with flo.connect() as client, flo.connect() as other:
        assert client.command("namespace", "list") == [b"default"]
        assert client.command("NAMESPACE", "CREATE", "b") == client.command("NAMESPACE", "CREATE", "a") == b"OK"
        assert client.command("NAMESPACE", "CREATE", "a") == b"OK"
        assert client.command("NAMESPACE", "LIST") == [b"a", b"b", b"default"]
        for wrong, says in (
            (("CREATE", "no spaces"), "ERR 'no spaces' cannot name a namespace"),
            (("CREATE", b"\xff"), "ERR the name"),
            (("DELETE", "none"), "ERR there is no namespace 'none'"),
            (("DELETE", "default"), "CONFLICT the namespace 'default' cannot be deleted"),
            (("CREATE",), "ERR wrong number of arguments for 'namespace|create' command"),
            (("RENAME", "a"), "ERR unknown subcommand 'RENAME'"),
        ):
            answer = client.command("NAMESPACE", *wrong)
            assert isinstance(answer, ReplyError) and str(answer).startswith(says), answer
        other.command("USE", "a")
        other.command("SET", "key", "v")
        answer = client.command("NAMESPACE", "DELETE", "a")
        assert isinstance(answer, ReplyError) and str(answer).startswith("CONFLICT the namespace 'a' is not empty")
        other.command("SET", "key", "v", "PX", "1")
        wait_until(lambda: other.command("EXISTS", "key") == 0, "the key's end")
        assert client.command("NAMESPACE", "DELETE", "a") == b"OK"  # what has expired is not in it
        answer = other.command("GET", "key")
        assert isinstance(answer, ReplyError) and "was deleted" in str(answer)
        assert other.command("NAMESPACE", "CREATE", "a") == b"OK" and other.command("GET", "key") is None
        assert flo.stop() == 0
    with FloProcess(flo.directory) as again, again.connect() as client:
        assert client.command("NAMESPACE", "LIST") == [b"a", b"b", b"default"]


def test_namespaces_have_a_limit_over_resp(tmp_path: Path) -> None:
    with FloProcess(tmp_path, environment={"FLO_LIMITS_NAMESPACES": "2"}) as server, server.connect() as client:
        assert client.command("NAMESPACE", "CREATE", "a") == b"OK"
        answer = client.command("NAMESPACE", "CREATE", "b")
        assert isinstance(answer, ReplyError) and str(answer).startswith("BUSY there are 2 namespaces, which is limits.namespaces")


def test_a_start_with_a_name_that_cannot_be_is_refused(tmp_path: Path) -> None:
    server = FloProcess(tmp_path / "data", environment={"FLO_RESP_DATABASES": "default,no spaces"}, start=False)
    with pytest.raises(RuntimeError, match=r"ended with 1: flo: resp\.databases names 'no spaces', and that namespace cannot be created: "):
        server.start()
    server.log_path.unlink()
    with FloProcess(tmp_path / "data") as again, again.connect() as client:
        assert client.command("NAMESPACE", "LIST") == [b"default"]
