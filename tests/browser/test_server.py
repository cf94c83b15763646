"""The dashboard's page of the server."""

import shlex
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flo.config import load
from tests.support.processes import FloProcess

pytestmark = pytest.mark.slow  # a Chromium takes a second or two to start

CONNECTIONS = 120


def test_the_page_of_the_server(play: Callable[..., Any], flo: FloProcess, tmp_path: Path) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(flo.connect()) for _ in range(CONNECTIONS)]
        for client in clients:
            client.command("PING")
        waiting = clients[7]
        waiting.command("CLIENT", "SETNAME", "<b>worker-7")
        waiting.send(b"*3\r\n$5\r\nBRPOP\r\n$4\r\nnone\r\n$1\r\n0\r\n")
        one = clients[0]
        one.command("NAMESPACE", "CREATE", "full")
        one.command("USE", "full")
        one.command("SET", "a", "b")
        one.command("CONFIG", "SET", "resp.slowlog_slower_than", "0")
        one.command("SET", b"evil\xff\x00", "<img src=x onerror=alert(1)>" * 100)
        one.command("CONFIG", "SET", "resp.slowlog_slower_than", "5000000")
        lines = play("server", flo, flo.directory)

        # Each line that changes a setting is one that the server takes
        live = [shlex.split(line) for line in lines if line.startswith("redis-cli ")]
        assert len(live) == 9
        for words in live:
            assert words[1:3] == ["-p", str(flo.port)]
            assert one.command(*words[3:]) == b"OK", words
    tables: dict[str, str] = {}
    for section, setting in (line.split("\n") for line in lines if line.startswith("[")):
        tables[section] = tables.get(section, "") + setting + "\n"
    file = tmp_path / "flo.toml"
    file.write_text("".join(f"{section}\n{text}" for section, text in tables.items()))
    settings, _ = load(str(file), {}, {})
    assert (settings.port, settings.data_dir, settings.slowlog_slower_than) == (flo.port, str(flo.directory), 5_000_000)
    assert (settings.history_age, settings.compact_min, settings.stall_timeout) == (86_400_000, 64 << 20, 60_000)
