"""A disk whose syncs take long: nobody is answered before his own, and one sync is everybody's."""

import threading
import time
from pathlib import Path

import pytest

from tests.support.processes import FloProcess, encode

pytestmark = pytest.mark.slow

SYNC_SECONDS = 0.1
CLIENTS = 40
SLOW = """
import sys, time
from flo.ual import files
plain = files.Files.sync
def slow(self, fd):
    time.sleep({seconds})
    plain(self, fd)
    with open({ledger!r}, "a") as ledger:
        ledger.write("%f\\n" % time.monotonic())
files.Files.sync = slow
from flo.cli import main
sys.exit(main())
"""


def test_slow_syncs(tmp_path: Path) -> None:
    """Each reply comes behind a sync that began after its request was sent; 40 clients share them; after a kill everything is there."""
    ledger = tmp_path / "ledger"
    acknowledged: list[tuple[str, float, float]] = []
    with FloProcess(tmp_path / "data", program=("-c", SLOW.format(seconds=SYNC_SECONDS, ledger=str(ledger)))) as flo:
        syncs_before = len(ledger.read_text().splitlines())

        def write(number: int) -> None:
            with flo.connect() as client:
                for turn in range(3):
                    key = f"{number}:{turn}"
                    sent = time.monotonic()
                    client.send(encode("SET", key, "v"))
                    assert client.reply() == b"OK"
                    acknowledged.append((key, sent, time.monotonic()))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        syncs = [float(line) for line in ledger.read_text().splitlines()]
        for key, sent, answered in acknowledged:
            assert any(sent + SYNC_SECONDS * 0.9 <= done <= answered for done in syncs), f"{key} was answered before a sync of its own"
        assert len(syncs) - syncs_before <= 3 * CLIENTS // 3, "clients share a sync"
        flo.kill()
        flo.program = ["-m", "flo"]
        flo.start()
        with flo.connect() as client:
            assert all(client.command("GET", key) == b"v" for key, _, _ in acknowledged)
    assert len(acknowledged) == 3 * CLIENTS
