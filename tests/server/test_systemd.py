"""What a service manager is told, and the socket it passes: contrib/flo.service counts on both."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from flo.systemd import Notifier, activated_socket
from tests.support.processes import ROOT, FloProcess, wait_until

# Has the socket of descriptor argv[1] as descriptor 3, as sd_listen_fds wants it, in the process that becomes the server.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": sys.argv[2]}
os.execv(sys.argv[3], sys.argv[3:])
"""


class Manager:
    """The socket of a service manager."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(20)

    def heard(self) -> list[str]:
        """The next message."""
        return self.socket.recv(4096).decode().split("\n")


def test_ready_watchdog_and_stopping(tmp_path: Path) -> None:
    """READY once it serves, WATCHDOG as long as the loop turns, STOPPING when it ends."""
    manager = Manager(tmp_path / "notify")
    with FloProcess(tmp_path / "data", environment={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"}) as flo:
        ready = manager.heard()
        assert ready[0] == "READY=1" and ready[1].startswith("STATUS=Serving on 127.0.0.1:")
        with flo.connect() as client:
            assert client.command("PING") == b"PONG"
        began = time.monotonic()
        for _ in range(4):
            assert manager.heard() == ["WATCHDOG=1"]
        assert time.monotonic() - began > 0.15, "at half the time that is allowed, not all the time"
        assert flo.stop() == 0
        while (told := manager.heard()) == ["WATCHDOG=1"]:
            pass
        assert told == ["STOPPING=1"]


def test_a_manager_that_is_gone_is_no_matter(tmp_path: Path) -> None:
    with FloProcess(tmp_path / "data", environment={"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "100000"}) as flo:
        with flo.connect() as client:
            assert client.command("PING") == b"PONG"
        assert flo.stop() == 0


def test_what_is_meant_for_another_process_is_left() -> None:
    """And what is meant for this one is taken out, so that the compactor's process does not believe itself meant."""
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1", "NOTIFY_SOCKET": ""}
    assert activated_socket(environment) is None
    notifier = Notifier(environment)
    assert notifier.watchdog_seconds == 0
    notifier.tell("READY=1")
    assert environment == {}


def test_socket_activation(tmp_path: Path) -> None:
    """Clients that came before the server are served; the port is the socket's, not the setting's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(listener.fileno(), True)
        port = listener.getsockname()[1]
        early = socket.create_connection(("127.0.0.1", port), timeout=20)
        early.sendall(b"PING\r\n")
        process = subprocess.Popen(
            [
                sys.executable, "-c", ACTIVATE, str(listener.fileno()), "1", sys.executable, "-m", "flo", "server", "start",
                "--data-dir", str(tmp_path / "data"),
            ],
            cwd=ROOT, pass_fds=(listener.fileno(),), stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert early.recv(100) == b"+PONG\r\n"
            with socket.create_connection(("127.0.0.1", port), timeout=20) as later:
                later.sendall(b"PING\r\n")
                assert later.recv(100) == b"+PONG\r\n"
        finally:
            process.terminate()
            _, said = process.communicate(timeout=20)
            early.close()
        assert process.returncode == 0
        assert f"listening on 127.0.0.1:{port}".encode() in said


def test_sockets_that_are_not_understood(tmp_path: Path) -> None:
    """Two of them, or one that is no TCP socket: a sentence and exit 1."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        for count, sentence in (("2", b"passed 2 sockets"), ("1", b"that is not TCP")):
            done = subprocess.run(
                [sys.executable, "-c", ACTIVATE, str(listener.fileno()), count, sys.executable, "-m", "flo", "server", "start"],
                cwd=ROOT, pass_fds=(listener.fileno(),), capture_output=True,
            )  # fmt: skip
            assert done.returncode == 1 and sentence in done.stderr and b"Traceback" not in done.stderr


# Starts again in place once, as a deposed leader does, when AGAIN is a file.
STARTS_AGAIN = """
import os, sys
import flo.server as server

class Deposed(server.Server):
    def begin(self, now):
        super().begin(now)
        if os.path.exists(os.environ["AGAIN"]):
            os.unlink(os.environ["AGAIN"])
            self.start_again()

server.Server = Deposed
sys.argv[0] = "flo"
from flo.cli import main
sys.exit(main())
"""


def test_a_server_that_starts_again_in_place_is_still_watched_and_still_reports(tmp_path: Path) -> None:
    """Else the manager ends it WatchdogSec later."""
    manager, again = Manager(tmp_path / "notify"), tmp_path / "again"
    told = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000", "AGAIN": str(again)}
    with FloProcess(tmp_path / "data", program=["-c", STARTS_AGAIN], environment=told) as flo:
        assert manager.heard()[0] == "READY=1"
        again.touch()
        while manager.heard() == ["WATCHDOG=1"]:
            pass  # until READY again
        assert manager.heard() == ["WATCHDOG=1"]
        assert flo.stop() == 0


def test_a_server_that_starts_again_in_place_keeps_the_socket_it_was_passed(tmp_path: Path) -> None:
    again = tmp_path / "again"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(listener.fileno(), True)
        process = subprocess.Popen(
            [
                sys.executable, "-c", ACTIVATE, str(listener.fileno()), "1", sys.executable, "-c", STARTS_AGAIN, "server", "start",
                "--data-dir", str(tmp_path / "data"), "--port", "0",
            ],
            cwd=ROOT, pass_fds=(listener.fileno(),), stderr=subprocess.PIPE, env=os.environ | {"AGAIN": str(again)},
        )  # fmt: skip
        try:
            for _ in range(2):
                with socket.create_connection(listener.getsockname(), timeout=20) as client:
                    client.sendall(b"PING\r\n")
                    assert client.recv(100) == b"+PONG\r\n"
                again.touch()
                wait_until(lambda: not again.exists(), "the start")
        finally:
            process.terminate()
            process.communicate(timeout=20)


def test_a_server_that_cannot_start_again_ends(tmp_path: Path) -> None:
    """Its Python was replaced meanwhile. It may not go on: what it has in memory is ahead of the log."""
    again = tmp_path / "again"
    program = ["-c", STARTS_AGAIN.replace("import flo.server", "sys.executable = '/gone'\nimport flo.server", 1)]
    with FloProcess(tmp_path / "data", program=program, environment={"AGAIN": str(again)}) as flo:
        again.touch()
        flo.connect().close()
        assert flo.process is not None and flo.process.wait(20) == 74
        assert "/gone" in flo.output()
