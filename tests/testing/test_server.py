"""Servers of flo.testing, and the fixtures of its plugin in a run of pytest of its own."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import flo
import flo.testing
from flo.client import Disconnected
from flo.errors import FloError
from tests.support.processes import ROOT, wait_until

START_CPU_SECONDS = 0.3  # half of it is used; the rest of a start is waiting for the disk, and for a core


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and is not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def cpu_seconds(pid: int) -> float:
    """What the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_server_is_there_and_then_gone() -> None:
    with flo.testing.server() as url, flo.testing.server() as other:
        assert url != other
        with flo.Client(url) as client:
            client.kv.put("a", "b")
            status = client.status()
            assert status["durability"] == "ephemeral"
        with flo.Client(other) as client:
            assert client.kv.get("a") is None
            assert cpu_seconds(client.status()["pid"]) < START_CPU_SECONDS  # the first one may have compiled Flo
    assert not alive(status["pid"]) and not Path(status["data_dir"]).parent.exists()
    with pytest.raises(Disconnected):
        client.ping()


def test_settings_are_those_of_the_server(capfd: pytest.CaptureFixture[str]) -> None:
    with flo.testing.server(durability="sync", history_depth=3) as url, flo.Client(url) as client:
        assert client.status()["durability"] == "sync"
        for n in range(5):
            client.kv.put("a", str(n))
        assert len(client.kv.history("a")) == 3
    assert capfd.readouterr() == ("", "")
    with pytest.raises(FloError, match="has ended with status 1"), flo.testing.server(colour="red"):
        pass
    assert "there is no setting colour" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_server_ends_when_its_test_is_killed(number: int, tmp_path: Path) -> None:
    script = """
import flo, flo.testing, sys
with flo.testing.server() as url:
    with flo.Client(url) as client:
        print(client.status()["pid"], client.status()["data_dir"], flush=True)
    sys.stdin.read()
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        pid, directory = process.stdout.readline().split()
        assert Path(directory).exists() and alive(int(pid))
        process.send_signal(number)
        process.communicate()
    wait_until(lambda: not alive(int(pid)), "the end of the server")
    assert not list(tmp_path.iterdir())


TESTS = """
def test_one(flo_client, flo_server):
    flo_client.kv.put("a", "b")
    assert flo_client.namespace != "default"
    print("url", flo_server, flo_client.namespace)

def test_two(flo_client, flo_server):
    assert flo_client.kv.get("a") is None
    assert flo_server.endswith(str(flo_client.port))
    print("url", flo_server, flo_client.namespace)

def test_three(flo_client):
    assert len(flo_client.namespaces.list()) == 3  # the first is not empty, the second is gone
"""


@pytest.mark.slow
def test_the_fixtures_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "flo.testing.plugin", "-s", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert ran.returncode == 0 and "3 passed" in ran.stdout, ran.stdout + ran.stderr
    found = re.findall(r"url (\S+) (\S+)", ran.stdout)
    assert found[0][0] == found[1][0] and found[0][1] != found[1][1]


def test_the_entry_point_is_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"flo": "flo.testing.plugin"}
