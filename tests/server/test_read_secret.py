"""The read-only secret (SPEC section 8): who gave it may read, over every protocol, and changes nothing by whatever it sends."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import flo
from flo.commands.resp import load_table
from flo.commands.resp.table import COMMANDS, MANY, Command
from flo.errors import Unauthorized
from flo.operations import OPERATIONS
from flo.proto import binary
from flo.proto.row import Operation
from tests.support.processes import FloProcess, RespClient
from tests.support.rest import Rest

pytestmark = pytest.mark.slow

ALL, READ = "the secret for everything", "the secret for reading"
ARGUMENTS = ["k", "1", "2"]  # of a command that is tried: words that many commands take


class Guarded(NamedTuple):
    server: FloProcess
    path: Path


def file_with(path: Path, text: str) -> str:
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server with both secrets, and something of every kind in it."""
    path = tmp_path_factory.mktemp("guarded")
    environment = {"FLO_SECRET_FILE": file_with(path / "all", ALL), "FLO_READ_SECRET_FILE": file_with(path / "read", READ)}
    with FloProcess(path / "data", environment=environment) as server, resp(server, ALL) as client:
        client.command("SET", "k", "1")
        client.command("LPUSH", "q", "message")
        client.command("XADD", "s", "*", "f", "v")
        client.command("XGROUP", "CREATE", "s", "g", "0")
        yield Guarded(server, path)


def resp(server: FloProcess, secret: str) -> RespClient:
    client = server.connect()
    assert client.command("AUTH", secret) == b"OK"
    return client


def reader(server: FloProcess) -> flo.Client:
    return flo.Client(f"flo://127.0.0.1:{server.port}", secret=READ)


def bearer(secret: str) -> str:
    return f"Bearer {secret}"


def last_index(server: FloProcess) -> int:
    with reader(server) as client:
        return int(client.status()["log"]["last_index"])


def settings_of(client: RespClient) -> Any:
    return client.command("CONFIG", "GET", "*")


# -- every row says whether it reads ---------------------------------------------------------------


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: str(row.name))
def test_a_row_that_reads_is_asked_by_get_and_no_other_is(row: Operation) -> None:
    if row.http is not None and row.name != "kv_mget":  # its keys may be too long for a path
        assert row.reads == (row.http.get or row.http.route).startswith("GET ")
    if row.resp is not None:
        assert row.reads == ("readonly" in row.resp.flags.split())


def test_no_command_both_reads_and_writes() -> None:
    load_table()
    for command in COMMANDS.values():
        for flags in (command.flags, *(tuple(sub.flags.split()) for sub in command.subcommands.values())):
            assert not ("write" in flags and {"reads", "readonly"} & set(flags)), command.name
            assert not ({"readonly", "reads"} <= set(flags)), f"{command.name}: readonly says that it reads"


# They end it, change it, or wait
OF_THE_CONNECTION = {"QUIT", "RESET", "AUTH", "HELLO", "MULTI", "XREAD", "SUBSCRIBE", "PSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE"}


def spoken(command: Command) -> Iterator[list[str]]:
    """Requests of a command, with as many arguments as it may have."""
    most = command.arity if command.arity > 0 else min(-command.arity + 3, MANY)
    for count in range(abs(command.arity), most + 1):
        yield [command.name, *(ARGUMENTS[at % 3] for at in range(count - 1))]
    for word, sub in command.subcommands.items():
        for count in range(abs(sub.arity), (sub.arity if sub.arity > 0 else -sub.arity + 2) + 1):
            yield [command.name, word.decode(), *(ARGUMENTS[at % 3] for at in range(count - 2))]


def test_whatever_a_reader_sends_changes_nothing(guarded: Guarded) -> None:
    """Every command, with arguments of every number that it takes."""
    server = guarded.server
    load_table()
    before, refused = last_index(server), set()
    with resp(server, ALL) as other:
        assert other.command("CONFIG", "SET", "resp.profile", "redis") == b"OK"  # in which every command is there
    with resp(server, READ) as client, resp(server, ALL) as other:
        settings = settings_of(client)
        for command in COMMANDS.values():
            if command.name in OF_THE_CONNECTION:
                continue
            for words in spoken(command):
                if words[:2] == ["CLIENT", "REPLY"]:
                    continue
                answer = str(client.command(*words))
                if answer.startswith("NOPERM"):
                    refused.add(command.name)
                else:
                    assert "write" not in command.flags, words
                assert client.command("SELECT", "0") == b"OK"
        assert settings_of(client) == settings
        assert other.command("PING") == b"PONG", "another client's connection was touched"
    assert last_index(server) == before
    writing = {command.name for command in COMMANDS.values() if "write" in command.flags}
    others = ["ACTION", "CLIENT", "CONFIG", "LATENCY", "MONITOR", "NAMESPACE", "PUBLISH", "QDLQ", "SHUTDOWN", "SLOWLOG", "XGROUP"]
    assert refused == writing | {*others, "EVAL", "EVALSHA", "SCRIPT"}


# -- over each protocol ----------------------------------------------------------------------------


def test_resp(guarded: Guarded) -> None:
    with resp(guarded.server, READ) as client:
        assert client.command("GET", "k") == b"1"
        assert client.command("XLEN", "s") == 1
        assert client.command("CONFIG", "GET", "port") and client.command("CLIENT", "LIST")
        assert isinstance(client.command("SLOWLOG", "GET"), list), "it is empty where no request was slow"
        for words in (
            ["SET", "k", "2"], ["DEL", "k"], ["LPUSH", "q", "m"], ["RPOP", "q"], ["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"],
            ["MONITOR"], ["CONFIG", "SET", "slowlog-max-len", "1"], ["SHUTDOWN"], ["SLOWLOG", "RESET"], ["CLIENT", "KILL", "ID", "1"],
            ["NAMESPACE", "CREATE", "other"], ["FLUSHALL"],
        ):  # fmt: skip
            said = str(client.command(*words))
            assert said.startswith("NOPERM the read-only secret was given, and the command ") and words[0] in said, said
        assert client.command("GET", "k") == b"1"


def test_the_last_secret_decides(guarded: Guarded) -> None:
    with resp(guarded.server, READ) as client, resp(guarded.server, ALL) as other:
        assert str(client.command("SET", "k", "1")).startswith("NOPERM")
        assert client.command("AUTH", ALL) == b"OK"
        assert client.command("SET", "k", "1") == b"OK" and client.command("MONITOR") == b"OK"
        other.command("GET", "seen")
        assert "seen" in str(client.reply())
        assert client.command("AUTH", READ) == b"OK"
        other.command("GET", "unseen")
        assert client.command("PING") == b"PONG", "a reader is shown the requests of others"
        assert str(client.command("HELLO", "3", "AUTH", "default", "wrong")).startswith("WRONGPASS")
        assert str(client.command("SET", "k", "1")).startswith("NOPERM"), "a wrong secret changes nothing"


def test_binary(guarded: Guarded) -> None:
    with reader(guarded.server) as client:
        found = client.kv.get("k")
        assert found is not None and found.value == b"1"
        assert client.stats()["access"] == "read"
        assert client.stats(block=2000)["access"] == "read"
        with pytest.raises(Unauthorized, match="kv_put does not only read"):
            client.kv.put("k", "2")
        with pytest.raises(Unauthorized, match="queue_dequeue does not only read"):
            client.queues.dequeue("q")
        with pytest.raises(Unauthorized):
            client.namespaces.create("other")
    with flo.Client(f"flo://127.0.0.1:{guarded.server.port}", secret=ALL) as client:
        assert client.stats()["access"] == "all"
    assert binary.UNAUTHORIZED == 4


def test_http(guarded: Guarded) -> None:
    with Rest(guarded.server.port) as rest:
        assert rest.ask("GET", "/api/v1/kv/default/keys/k").status == 401
        assert rest.ask("GET", "/api/v1/kv/default/keys/k", authorization=bearer(READ)).body == b"1"
        assert rest.ask("GET", "/metrics", authorization=bearer(READ)).status == 200
        assert rest.ask("GET", "/api/v1/stats", authorization=bearer(READ)).json["access"] == "read"
        refused = rest.ask("PUT", "/api/v1/kv/default/keys/k", b"2", authorization=bearer(READ))
        assert refused.status == 403 and "kv_put does not only read" in refused.sentence
        assert rest.ask("POST", "/api/v1/queues/default/q/dequeue", authorization=bearer(READ)).status == 403
        assert rest.ask("PUT", "/api/v1/kv/default/keys/k", b"1", authorization=bearer(ALL)).status in (200, 204)
        assert rest.ask("GET", "/api/v1/stats", authorization=bearer(ALL)).json["access"] == "all"
        assert rest.ask("PUT", "/api/v1/kv/default/keys/k", b"2", authorization=bearer(READ)).status == 403, (
            "each request brings its own secret"
        )
        assert rest.ask("GET", "/api/v1/kv/default/keys/k", authorization=bearer("wrong")).status == 401


def test_a_large_body_is_taken_from_a_reader_to_be_refused(guarded: Guarded) -> None:
    with Rest(guarded.server.port) as rest:
        assert rest.ask("PUT", "/api/v1/kv/default/keys/k", bytes(1 << 20), authorization=bearer(READ)).status == 403


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"FLO_READ_SECRET_FILE": READ}, "server.read_secret_file is set and server.secret_file is not"),
        ({"FLO_READ_SECRET_FILE": ALL, "FLO_SECRET_FILE": ALL}, "hold the same secret"),
    ],
)
def test_a_start_with_a_reading_secret_that_protects_nothing(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    environment = {name: file_with(tmp_path / name, text) for name, text in files.items()}
    with pytest.raises(RuntimeError, match=sentence):
        FloProcess(tmp_path / "data", environment=environment)
