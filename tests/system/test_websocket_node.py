"""Node's package `ws`, which most JavaScript servers and programs use, as a client of /ws."""

from pathlib import Path

from tests.support.node import run_node
from tests.support.processes import ROOT, FloProcess

# The server is in a hurry: it pings after 0.1 s of silence, and closes after a further 0.6
HURRIED = """
import sys
from flo.commands.http import websocket
websocket.SILENT_SECONDS, websocket.ANSWER_SECONDS = 0.1, 0.6
from flo.cli import main
sys.exit(main())
"""


def test_ws(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("right")
    with FloProcess(tmp_path / "data", program=("-c", HURRIED), environment={"FLO_SECRET_FILE": str(secret)}) as server:
        seen = run_node(ROOT / "tests" / "node" / "websocket.mjs", server.port, "right", packages=["ws"])
        assert server.alive()
    assert seen["extensions"] == ""
    assert seen["auth"] == ["4:1", "0:2"]
    assert seen["pipeline"] is True
    assert seen["large"] is True
    assert seen["waiting"] == ["0:2"]
    assert seen["awaited"] == ["0:1", "0:3"]
    assert seen["silent"] == [1001, ""]
    assert seen["pings"] == [True, 1]
    assert seen["alive"] == ["0:4"]
    assert seen["text"] == [1003, "text messages are not taken; send the binary protocol in binary messages"]
    assert seen["closed"] == 4000
