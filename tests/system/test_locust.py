"""loadtest/locustfile.py, as documented: it passes on a healthy server, and fails where an answer is wrong."""

import importlib.util
import subprocess
import sys
import threading

import pytest

from flo import Client
from tests.support.processes import ROOT, FloProcess

pytestmark = pytest.mark.slow

# Not imported here: it patches sockets, threads and the reaping of children for the whole process.
if importlib.util.find_spec("locust") is None:
    pytest.skip("locust is not installed: make tools", allow_module_level=True)
COMMAND = [
    sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless", "--only-summary", "-r", "50",
]  # fmt: skip


def test_users_of_both_protocols_get_right_answers() -> None:
    result = subprocess.run([*COMMAND, "-u", "10", "-t", "3s"], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    for protocol in ("binary", "resp"):
        for name in ("get", "put", "incr", "delete", "scan"):
            assert f"{protocol:<8} {name}" in result.stderr + result.stdout, (protocol, name)


def test_a_wrong_answer_is_a_failure(flo: FloProcess) -> None:
    """Somebody else writes to the users' keys all the time."""
    stop = threading.Event()

    def spoil() -> None:
        with Client(f"flo://127.0.0.1:{flo.port}") as client:
            while not stop.is_set():
                for key, _ in client.kv.scan("locust:", keys_only=True):
                    if not key.endswith(b"count"):
                        client.kv.put(key, "spoilt")

    thread = threading.Thread(target=spoil)
    thread.start()
    try:
        result = subprocess.run(
            [*COMMAND, "-u", "4", "-t", "2s", "--host", f"flo://127.0.0.1:{flo.port}"], capture_output=True, text=True, timeout=60, cwd=ROOT
        )
    finally:
        stop.set()
        thread.join()
    assert result.returncode == 1
    assert "WrongAnswer" in result.stderr + result.stdout
