"""The command line as a person or a script uses it: what it prints, where, and how it exits."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flo.cli import GROUPS, build_parser
from flo.server import FULL, LOOPBACK_ONLY
from tests.support.processes import ROOT, FloProcess, RedisProcess

pytestmark = pytest.mark.computes

Result = subprocess.CompletedProcess[bytes]
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    with FloProcess(tmp_path_factory.mktemp("cli") / "data") as process:
        yield process


def flo(*args: str | bytes, stdin: bytes = b"", environment: dict[str, str] | None = None) -> Result:
    """Run one command."""
    return subprocess.run(
        [sys.executable, "-m", "flo", *args],
        input=stdin,
        capture_output=True,
        timeout=30,
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("FLO_")} | {"COLUMNS": "80"} | (environment or {}),
    )


@pytest.fixture
def run(server: FloProcess) -> Run:
    """Run a command against the server."""
    return lambda *args, **kwargs: flo(*args, "--port", str(server.port), **kwargs)


def test_a_session(run: Run) -> None:
    """What a person would type first."""
    assert run("ping").stdout.startswith(b"PONG from 127.0.0.1:")
    assert run("kv", "set", "session:name", "Ada").stdout.startswith(b"OK, version ")
    assert run("kv", "get", "session:name").stdout == b"Ada\n"
    assert run("kv", "incr", "session:visits").stdout == b"1\n"
    assert run("kv", "incr", "session:visits", "41").stdout == b"42\n"
    assert run("kv", "list", "session:").stdout == b"session:name\nsession:visits\n"
    assert run("kv", "list", "session:", "--values").stdout == b"session:name\tAda\nsession:visits\t42\n"
    assert run("kv", "mget", "session:name", "session:visits").stdout == b"session:name\tAda\nsession:visits\t42\n"
    assert run("kv", "delete", "session:name", "session:visits").stdout == b"deleted 2 keys\n"
    assert run("kv", "list", "session:").stdout == b""
    history = run("kv", "history", "session:name").stdout.decode().splitlines()
    assert [line.split()[-1] for line in history] == ["(deleted)", "Ada"]


@pytest.mark.slow
def test_json_output_is_json(run: Run) -> None:
    version = json.loads(run("kv", "set", "j", "v", "--format", "json").stdout)["version"]
    assert json.loads(run("kv", "get", "j", "--format", "json").stdout) == {"key": "j", "version": version, "value": "v"}
    assert json.loads(run("kv", "set", b"bin\xff", "v", "--format", "json").stdout)["key"] == {"base64": "Ymlu/w=="}
    assert json.loads(run("kv", "list", "j", "--values", "--format", "json").stdout) == [{"key": "j", "value": "v"}]
    assert json.loads(run("kv", "list", "no such", "--format", "json").stdout) == []
    assert json.loads(run("kv", "exists", "j", "--format", "json").stdout)["exists"] is True
    assert json.loads(run("kv", "incr", "n", "--format", "json").stdout)["value"] == 1
    assert json.loads(run("kv", "mget", "j", "none", "--format", "json").stdout)[1] == {"key": "none", "value": None}
    assert [item["deleted"] for item in json.loads(run("kv", "history", "j", "--format", "json").stdout)] == [False]
    assert json.loads(run("kv", "delete", "j", "n", "--format", "json").stdout)[0]["key"] == "j"
    assert json.loads(run("server", "status", "--format", "json").stdout)["mode"] == "standalone"
    assert json.loads(run("ping", "--format", "json").stdout)["ms"] > 0
    assert json.loads(run("ns", "list", "--format", "json").stdout)[0]["name"] == "default"


def test_raw_output_is_the_bytes(run: Run) -> None:
    value = bytes(range(256)) + b"\n"
    assert run("kv", "set", "raw", "-", "--format", "raw", stdin=value).stdout.strip().isdigit()
    assert run("kv", "get", "raw", "--format", "raw").stdout == value
    assert run("kv", "get", "raw").stdout == value, "not on a terminal: nothing is escaped"
    assert run("kv", "exists", "raw", "--format", "raw").stdout == b"1\n"


@pytest.mark.slow
def test_large_values_by_standard_input(run: Run) -> None:
    value = os.urandom(1 << 20) * 16
    assert run("kv", "set", "large", "-", stdin=value).returncode == 0
    assert run("kv", "get", "large", "--format", "raw").stdout == value
    refused = run("kv", "set", "large", "-", stdin=value + b"x")
    assert refused.returncode == 1 and b"more than 16777216 bytes" in refused.stderr


@pytest.mark.slow
def test_documents(run: Run) -> None:
    assert run("kv", "jset", "doc", '{"items": [1, 2]}').returncode == 0
    assert run("kv", "jset", "doc", "-", "--path", "$.items[1]", stdin=b'"two"').returncode == 0
    assert run("kv", "jget", "doc", "--path", "$.items").stdout == b'[1,"two"]\n'
    assert json.loads(run("kv", "jget", "doc", "--format", "json").stdout)["value"] == {"items": [1, "two"]}
    assert run("kv", "jdel", "doc", "--path", "$.items").returncode == 0
    assert run("kv", "jget", "doc").stdout == b"{}\n"
    missing = run("kv", "jget", "doc", "--path", "$.nope")
    assert (missing.returncode, missing.stdout) == (1, b"")


@pytest.mark.slow
def test_a_path_is_the_last_argument_or_a_flag(run: Run) -> None:
    assert run("kv", "jset", "path", '{"a": [1]}').returncode == 0
    assert run("kv", "jset", "path", "2", "$.a[0]").returncode == 0
    assert run("kv", "jget", "path", "$.a").stdout == run("kv", "jget", "path", "--path", "$.a").stdout == b"[2]\n"
    assert run("kv", "jget", "--path", "$.a", "path").stdout == b"[2]\n"
    assert run("kv", "jdel", "path", "$.a").returncode == 0
    assert run("kv", "jget", "path").stdout == b"{}\n"


@pytest.mark.slow
def test_the_flags_of_a_server_stand_anywhere(server: FloProcess) -> None:
    port = str(server.port)
    assert flo("kv", "set", "anywhere", "a", "--port", port).returncode == 0
    for words in (
        ("--port", port, "kv", "get", "anywhere"),
        ("kv", "--port", port, "get", "anywhere"),
        ("kv", f"--port={port}", "get", "anywhere"),
        ("kv", "get", "--port", port, "anywhere"),
        ("kv", "-n", "default", "--port", port, "get", "anywhere"),
        ("--host", "127.0.0.1", "kv", "--port", port, "get", "--format", "text", "anywhere"),
    ):
        assert flo(*words).stdout == b"a\n", words
    assert flo("--port", port, "stream", "-n", "default", "group", "--format", "json", "create", "anywhere", "g").returncode == 0
    assert flo("--port", port, "ping").returncode == 0
    assert flo("kv", "set", "--port", port, "--", "anywhere", "--port").returncode == 0, "behind -- it is a value"
    assert flo("kv", "get", "anywhere", "--port", port).stdout == b"--port\n"
    for wrong in (("--port", "x", "kv", "get", "a"), ("kv", "--prot", port, "get", "a"), ("kv", "--port"), ("--port", port)):
        assert flo(*wrong).returncode == 2, wrong


@pytest.mark.slow
def test_list_and_ls_are_the_same_in_every_group(run: Run) -> None:
    run("kv", "set", "listed", "1")
    run("queue", "enqueue", "listed", "1")
    run("stream", "append", "listed", "1")
    for group in ("kv", "queue", "stream", "ns"):
        one, other = run(group, "list"), run(group, "ls")
        assert one.returncode == other.returncode == 0 and one.stdout == other.stdout != b"", group


def test_a_queue_is_configured(run: Run) -> None:
    assert run("queue", "configure", "own", "--lease", "5000", "--max-attempts", "3").stdout == b"OK\n"
    stats = json.loads(run("queue", "stats", "own", "--format", "json").stdout)
    assert (stats["lease_ms"], stats["max_attempts"]) == (5000, 3)
    nothing = run("queue", "configure", "own")
    assert nothing.returncode == 2 and b"--lease or --max-attempts" in nothing.stderr


@pytest.mark.slow
def test_to_acknowledge_or_delete_nothing_exits_1(run: Run) -> None:
    for number in range(3):
        run("queue", "enqueue", "nothing", str(number))
    receipts = [one.split("\t")[0] for one in run("queue", "dequeue", "nothing", "--limit", "3").stdout.decode().splitlines()]
    assert run("queue", "ack", "nothing", receipts[0]).returncode == 0
    again = run("queue", "ack", "nothing", receipts[0])
    assert (again.returncode, again.stdout) == (1, b"removed 0 messages\n")
    assert again.stderr == b"flo: nothing was found for 1 of 1 receipts\n"
    assert run("queue", "touch", "nothing", receipts[0], receipts[1]).returncode == 1, "one of them is"
    assert run("queue", "nack", "nothing", "--dead", *receipts[1:]).returncode == 0
    seqs = [receipt.partition("-")[0] for receipt in receipts]
    assert run("queue", "dlq", "nothing", "--requeue", seqs[0], seqs[1]).returncode == 1
    assert run("queue", "dlq", "nothing", "--delete", seqs[1]).returncode == 1
    assert run("queue", "dlq", "nothing", "--delete", seqs[2]).returncode == 0
    assert run("queue", "dlq", "nothing", "--delete").returncode == 0, "all of none"
    run("stream", "group", "create", "nothing", "g")
    assert run("stream", "group", "ack", "nothing", "g", "1-1", "--format", "json").returncode == 1


@pytest.mark.slow
def test_conditions_and_time_to_live(run: Run) -> None:
    assert run("kv", "set", "once", "1", "--if-absent").returncode == 0
    again = run("kv", "set", "once", "2", "--if-absent")
    assert again.returncode == 1 and again.stderr == b"flo: the key exists already\n"
    assert run("kv", "set", "never", "1", "--if-present").returncode == 1
    version = run("kv", "set", "once", "3", "--format", "raw").stdout.decode().strip()
    assert run("kv", "set", "once", "4", "--cas", version).returncode == 0
    stale = run("kv", "set", "once", "5", "--cas", version)
    assert stale.returncode == 1 and b"expected version" in stale.stderr
    assert run("kv", "touch", "once", "100").returncode == 0
    assert run("kv", "persist", "once").returncode == 0
    assert run("kv", "touch", "nothing", "100").returncode == 1
    assert run("kv", "set", "expiring", "1", "--ttl", "100").returncode == 0


@pytest.mark.slow
def test_what_is_missing_exits_1(run: Run) -> None:
    for args in (("get", "gone"), ("delete", "gone"), ("history", "gone"), ("jget", "gone")):
        result = run("kv", *args)
        assert (result.returncode, result.stdout.replace(b"deleted 0 keys\n", b"")) == (1, b""), args
        assert result.stderr.startswith(b"flo: "), args
    exists = run("kv", "exists", "gone")
    assert (exists.returncode, exists.stdout) == (1, b"no\n")
    assert run("kv", "mget", "gone").returncode == 1


@pytest.mark.slow
def test_a_long_list_says_that_there_is_more(run: Run) -> None:
    for number in range(105):
        run("kv", "set", f"many:{number:03}", "x") if number % 35 == 0 else None
    assert b"there are more" not in run("kv", "list", "many:").stderr
    short = run("kv", "list", "many:", "--limit", "2")
    assert short.stdout == b"many:000\nmany:035\n" and b"--limit 0" in short.stderr
    assert run("kv", "list", "many:", "--limit", "0").stdout == b"many:000\nmany:035\nmany:070\n"


@pytest.mark.slow
def test_namespaces(run: Run) -> None:
    assert run("ns", "create", "jobs").stdout == b"namespace jobs exists; use it with -n\n"
    assert run("kv", "set", "k", "v", "-n", "jobs").returncode == 0
    assert run("kv", "get", "k", "-n", "jobs").stdout == b"v\n"
    assert run("kv", "get", "k").returncode == 1
    assert run("kv", "get", "k", environment={"FLO_NAMESPACE": "jobs"}).stdout == b"v\n"
    assert b"jobs" in run("ns", "list", "--format", "raw").stdout.splitlines()
    full = run("ns", "delete", "jobs")
    assert full.returncode == 1 and b"not empty" in full.stderr
    run("kv", "delete", "k", "-n", "jobs")
    assert run("ns", "delete", "jobs").returncode == 0
    nowhere = run("kv", "get", "k", "-n", "jobs")
    assert nowhere.returncode == 1 and nowhere.stderr == b"flo: there is no namespace 'jobs'; create it first\n"
    assert run("ns", "create", "no/slash").returncode == 1


def test_status_reads_well(run: Run) -> None:
    lines = run("server", "status").stdout.decode().splitlines()
    assert any(line.endswith(", in 1 namespace") for line in lines)
    assert [line.split()[0] for line in lines][:3] == ["version", "address", "up"]
    assert max(map(len, lines)) <= 100
    assert {"keys", "queues", "streams"} <= {line.split()[0] for line in lines}
    assert run("server", "status", "--format", "raw").stdout.count(b"\t") == len(lines)


def test_wrong_usage_exits_2() -> None:
    for args in ((), ("nothing",), ("kv",), ("kv", "get"), ("ping", "--port", "x"), ("ping", "--port", "0"), ("kv", "incr", "k", "1.5")):
        result = flo(*args)
        assert result.returncode == 2, args
        assert result.stderr.startswith(b"usage: "), args
    assert flo("ping", environment={"FLO_PORT": "nonsense"}).returncode == 2


def test_a_surplus_word_shows_the_usage_of_its_command() -> None:
    """`flo kv set greeting hello world`: the quotes are missing."""
    for args, command in ((("kv", "set", "a", "b", "c"), b"kv set"), (("--port", "1", "ping", "c"), b"ping"), (("-v",), b"")):
        result = flo(*args)
        assert result.returncode == 2
        assert result.stderr.startswith(b"usage: flo " + command), result.stderr
        assert result.stderr.endswith(b"unrecognized arguments: " + args[-1].encode() + b"\n")


def test_without_a_command_the_commands_are_listed() -> None:
    for args, listed in (((), b"check that a server answers"), (("kv",), b"print the value of a key"), (("stream", "group"), b"claim")):
        result = flo(*args)
        assert (result.returncode, result.stdout) == (2, b"")
        assert result.stderr.startswith(b"usage: ") and listed in result.stderr


def test_a_host_is_a_name_or_an_address_alone() -> None:
    for host in ("127.0.0.1:9000", "flo://127.0.0.1"):
        result = flo("ping", "--host", host)
        assert result.returncode == 2
        assert f"{host!r} is not a host: give the name or the address alone, and the port with --port".encode() in result.stderr
    assert flo("ping", environment={"FLO_HOST": "localhost:9000"}).returncode == 2
    unknown = flo("ping", "--host", "flo.invalid")
    assert unknown.returncode == 3 and unknown.stderr.startswith(b"flo: cannot connect to flo.invalid port 9000: ")
    assert b"flo server start" not in unknown.stderr


def test_nobody_there_exits_3() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
        result = flo("ping", "--port", port)
    assert result.returncode == 3
    assert result.stderr.decode().startswith(f"flo: cannot connect to 127.0.0.1 port {port}: ")
    assert f"flo server start --port {port}" in result.stderr.decode()


def answering(greeting: bytes, answer: bytes) -> tuple[socket.socket, threading.Thread]:
    """A listener that is no Flo: it says something by itself, or to a line, and takes two connections."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(2):
            peer, _ = listener.accept()
            with peer:
                if greeting:
                    peer.sendall(greeting)
                while data := peer.recv(1024):
                    if answer and data.endswith(b"\n"):
                        peer.sendall(answer)
                        break

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return listener, thread


@pytest.mark.slow
@pytest.mark.parametrize(
    ("greeting", "answer", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", b"", "An SSH server answered there (SSH-2.0-OpenSSH_9.2)"),
        (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", "A web server answered there (HTTP/1.1 400 Bad Request)"),
        (b"hello from a game\n", b"", "Another program answered there: 'hello from a game'"),
        (FULL, b"", "flo: max number of clients reached. The server there has as many clients as its max_connections allows; try"),
    ],
    ids=["ssh", "http", "other", "full"],
)
def test_a_wrong_port_says_what_answered_there(greeting: bytes, answer: bytes, says: str) -> None:
    listener, thread = answering(greeting, answer)
    with listener:
        result = flo("ping", "--port", str(listener.getsockname()[1]))
    assert result.returncode == 3
    assert says in result.stderr.decode()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.slow
def test_a_flo_that_serves_its_own_machine_only_is_taken_for_no_other_program() -> None:
    listener, thread = answering(LOOPBACK_ONLY, b"")
    with listener:
        result = flo("ping", "--port", str(listener.getsockname()[1]))
    assert result.returncode == 3
    assert result.stderr.decode().strip() == "flo: " + LOOPBACK_ONLY.decode().strip().removeprefix("-DENIED ")
    thread.join(10)


@pytest.mark.slow
def test_a_redis_port_says_so(redis_server: RedisProcess) -> None:
    result = flo("kv", "get", "a", "--port", str(redis_server.port))
    assert result.returncode == 3 and b"A Redis server, or another program that speaks RESP" in result.stderr


@pytest.mark.slow
def test_the_secret(tmp_path: Path) -> None:
    secret, wrong = tmp_path / "secret", tmp_path / "wrong"
    for path, text in ((secret, "open sesame\n"), (wrong, "open barley\n")):
        path.write_text(text)
        path.chmod(0o600)
    with FloProcess(tmp_path / "data", "--secret-file", str(secret)) as server:
        port = ("--port", str(server.port))
        assert flo("ping", *port, "--secret-file", str(secret)).returncode == 0
        without = flo("kv", "get", "a", *port)
        assert without.stderr == b"flo: this server has a secret; name the file that holds it with --secret-file\n"
        assert without.returncode == 1
        refused = flo("ping", *port, "--secret-file", str(wrong))
        assert refused.returncode == 1 and refused.stderr == b"flo: the secret is wrong\n"
        assert flo("kv", "set", "a", "1", *port, environment={"FLO_SECRET_FILE": str(secret)}).returncode == 0
        secret.chmod(0o644)
        assert b"chmod 600" in flo("ping", *port, "--secret-file", str(secret)).stderr


def test_output_to_a_closed_pipe_is_no_traceback(server: FloProcess) -> None:
    script = f"{sys.executable} -m flo kv history raw --port {server.port} | true"
    result = subprocess.run(["sh", "-c", script], capture_output=True, cwd=ROOT, timeout=30)
    assert b"Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["80"])
def test_every_help_fits_the_terminal(columns: str) -> None:
    commands: list[list[str]] = [[]]
    for group in GROUPS:
        commands.append([group])
        parser = build_parser({group})
        action = next(a for a in parser._actions if a.choices and group in a.choices)
        assert action.choices is not None
        inner = dict(action.choices)[group]
        for sub in inner._actions:
            if isinstance(sub.choices, dict):
                commands += [[group, name] for name in sub.choices]
    assert len(commands) > 20
    for command in commands:
        environment = {"COLUMNS": columns}
        parser = build_parser(set(command[:1]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", environment["COLUMNS"])
            text = text_of(parser, command)
        assert max(len(line) for line in text.splitlines()) <= int(columns), command
        assert "None" not in text, command


def text_of(parser: object, command: list[str]) -> str:
    """The help text of a command."""
    import argparse
    import contextlib
    import io

    assert isinstance(parser, argparse.ArgumentParser)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        parser.parse_args([*command, "--help"])
    assert shown.getvalue().startswith("usage: flo")
    return shown.getvalue()
