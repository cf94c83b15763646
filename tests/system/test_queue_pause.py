"""queue_pause, over each way in: the binary protocol, RESP, a client, the command line; and over a restart."""

import subprocess
import sys
from pathlib import Path

import flo as package
from tests.support.processes import ROOT, FloProcess, encode, wait_until


def test_a_paused_queue_hands_nothing_out_until_it_goes_on(tmp_path: Path) -> None:
    with FloProcess(tmp_path / "data") as flo:
        with flo.connect() as client, package.Client(f"flo://127.0.0.1:{flo.port}") as program:
            program.queues.pause("q", True)
            assert client.command("LPUSH", "q", "a", "b") == 2
            assert client.command("RPOP", "q") is None and program.queues.dequeue("q") == []
            assert program.queues.stats("q")["paused"] == 1 and program.queues.stats("q")["ready"] == 2
            assert client.command("QPAUSE", "q", "OFF") == b"OK"
            (message,) = program.queues.dequeue("q")
            assert client.command("QPAUSE", "q", "on") == b"OK"
            assert program.queues.ack("q", message) == 1, "what is leased goes on as usual"
        flo.kill()
        flo.start()
        with flo.connect() as client, flo.connect() as waiting:
            assert client.command("RPOP", "q") is None
            waiting.sock.sendall(encode("BRPOP", "q", "0"))
            wait_until(lambda: b"blocked_clients:1" in client.command("INFO"), "the wait")
            command = [sys.executable, "-m", "flo", "queue", "pause", "q", "off", "--port", str(flo.port)]
            assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
            assert waiting.reply() == [b"q", b"b"]
