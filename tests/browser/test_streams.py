"""The dashboard's page of streams, clicked through in Chromium; in the middle the server starts again on its port."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import FloProcess, wait_until

pytestmark = pytest.mark.slow


def test_streams(play: Callable[..., Any], tmp_path: Path) -> None:
    with FloProcess(tmp_path / "data") as server, ThreadPoolExecutor(1) as pool:
        played = pool.submit(play, "streams", server)

        def asks_for_a_restart() -> bool:
            with server.connect() as client:
                return played.done() or client.command("GET", "restart") is not None

        wait_until(asks_for_a_restart, "the scenario's request for a restart")
        if not played.done():
            server.stop()
            server.flags = ("--port", str(server.port))
            server.start()
        assert played.result() == {"faults": []}
