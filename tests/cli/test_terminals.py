"""Names and values that hold escape sequences, bells, line ends and marks for right-to-left text: no command prints them as they are."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flo import Client
from tests.support.processes import ROOT, FloProcess, wait_until

pytestmark = pytest.mark.computes

EVIL = "a\x1b[2J\x07\r\nb\u202ec\u2066d\x7fe\x9b1mf\u2028g"
BARE = [character for character in EVIL if not character.isprintable() and character != "\n"]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with FloProcess(tmp_path_factory.mktemp("terminals") / "data") as server:
        with Client(f"flo://127.0.0.1:{server.port}") as client:
            client.kv.put(EVIL, EVIL)
            client.kv.json_set(EVIL + "doc", json.dumps({EVIL: EVIL}, ensure_ascii=False))
            client.queues.enqueue(EVIL, EVIL)
            client.queues.enqueue(EVIL, EVIL)
            client.queues.nack(EVIL, *client.queues.dequeue(EVIL), dead=True)
            client.streams.append(EVIL, EVIL)
            client.streams.append(EVIL, EVIL)
            client.streams.group_read(EVIL, EVIL, EVIL, limit=1)
        yield str(server.port)


SHOWN = [
    ("kv", "list"), ("kv", "list", "--values"), ("kv", "mget", EVIL), ("kv", "history", EVIL), ("kv", "jget", EVIL + "doc"),
    ("kv", "exists", EVIL), ("kv", "touch", EVIL, "100"), ("kv", "set", EVIL, EVIL), ("kv", "jset", EVIL + "doc2", "1"),
    ("queue", "list"), ("queue", "peek", EVIL), ("queue", "dlq", EVIL), ("queue", "stats", EVIL), ("queue", "pause", EVIL, "off"),
    ("queue", "enqueue", EVIL, EVIL), ("queue", "configure", EVIL, "--lease", "1000"),
    ("stream", "list"), ("stream", "read", EVIL), ("stream", "info", EVIL), ("stream", "append", EVIL, EVIL),
    ("stream", "group", "info", EVIL, EVIL), ("stream", "group", "pending", EVIL, EVIL),
    ("stream", "group", "claim", EVIL, EVIL, EVIL + "2"), ("stream", "group", "read", EVIL, EVIL, EVIL),
]  # fmt: skip
REFUSED = [
    ("kv", "get", EVIL + "no"), ("kv", "delete", EVIL + "no"), ("kv", "history", EVIL + "no"), ("kv", "incr", EVIL),
    ("kv", "jget", EVIL + "doc", "$." + EVIL), ("queue", "dequeue", EVIL + "no"), ("queue", "ack", EVIL, EVIL),
    ("stream", "read", EVIL, "--start", EVIL), ("stream", "group", "read", EVIL + "2", EVIL, EVIL),
    ("stream", "group", "info", EVIL, EVIL + "no"), ("ns", "create", EVIL), ("ns", "delete", EVIL), ("kv", "get", "a", "-n", EVIL),
    ("kv", EVIL), (EVIL,), ("kv", "get", "a", "b" + EVIL), ("kv", "get", "a", "--" + EVIL), ("ping", "--host", EVIL),
    ("ping", "--format", EVIL), ("ping", "--secret-file", EVIL), ("ts", "query", EVIL), ("ts", "ls", EVIL), ("ts", "retention", EVIL),
    ("ts", "write", "--file", EVIL), ("ts", "write", EVIL, "1"), ("ts", "read", "a", "--from", EVIL), ("ts", "retention", "a", EVIL),
]  # fmt: skip
LOCAL = [
    ("check", "{}" + EVIL),
    ("compact", "{}" + EVIL),
    ("backup", "{}" + EVIL, "{}out" + EVIL),
    ("server", "start", "--port", "0", "--data-dir", "{}f" + EVIL),
]


def printed(*words: str) -> str:
    """What a command prints."""
    result = subprocess.run(
        [sys.executable, "-m", "flo", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=30,
        cwd=ROOT,
    )
    assert b"Traceback" not in result.stdout, result.stdout
    return result.stdout.decode()


ONE_BY_ONE = """
import json, os, sys
from contextlib import suppress
from flo.cli import main
out = os.dup(1)
for words in json.load(sys.stdin):
    with suppress(SystemExit):
        main(words)
    os.dup2(out, 1)  # a command that fails at its connection closes it
    print(end="\\0", flush=True)
"""


def printed_by_each(commands: list[tuple[str, ...]]) -> list[str]:
    """What each of many commands prints, one after the other in one process."""
    result = subprocess.run(
        [sys.executable, "-uc", ONE_BY_ONE],
        input=json.dumps(commands).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        cwd=ROOT,
    )
    assert b"Traceback" not in result.stdout, result.stdout
    return result.stdout.decode().split("\0")[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_command_prints_what_moves_a_terminals_cursor(port: str, form: str) -> None:
    seen = 0
    said_by_each = printed_by_each([("--port", port, "--format", form, *words) for words in SHOWN + REFUSED])
    for words, said in zip(SHOWN + REFUSED, said_by_each, strict=True):
        assert said, words
        assert not [character for character in BARE if character in said], (words, said)
        seen += "\\x1b[2J" in said or "\\u001b[2J" in said
        if form == "json" and words in SHOWN:
            json.loads(said)
    assert seen > len(SHOWN)


def test_a_line_stays_a_line(port: str) -> None:
    """A name with a line's end in it cannot pretend to be a name of its own."""
    keys = printed("kv", "list", "--port", port).splitlines()
    assert len(keys) == len(json.loads(printed("kv", "list", "--port", port, "--format", "json")))
    for group in ("queue", "stream"):
        assert len(printed(group, "list", "--port", port).splitlines()) == len(
            json.loads(printed(group, "list", "--port", port, "--format", "json"))
        )


@pytest.mark.slow
def test_json_gives_back_the_name_that_it_escapes(port: str) -> None:
    assert EVIL in [one["key"] for one in json.loads(printed("kv", "list", "--port", port, "--format", "json"))]
    assert EVIL in [one["name"] for one in json.loads(printed("queue", "list", "--port", port, "--format", "json"))]
    assert json.loads(printed("kv", "get", EVIL, "--port", port, "--format", "json"))["value"] == EVIL


@pytest.mark.slow
def test_no_directory_is_printed_as_it_is(tmp_path: Path) -> None:
    (tmp_path / f"f{EVIL}").write_text("")
    for words in LOCAL:
        said = printed(*(word.format(f"{tmp_path}/") for word in words))
        assert "\\x1b[2J" in said, words
        assert not [character for character in BARE if character in said], (words, said)


def test_a_server_says_its_directory_without_it(tmp_path: Path) -> None:
    (tmp_path / EVIL).mkdir()
    (tmp_path / EVIL).chmod(0o777)
    with FloProcess(tmp_path / EVIL) as server:
        wait_until(lambda: "other users can write" in server.output(), "the warning")
        assert not [character for character in BARE if character in server.output()]
        assert server.output().count("a\\x1b[2J") == 3
