"""Chromium as a client of /ws, and the harness itself: a check that finds nothing would let all scenarios pass."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import FloProcess

pytestmark = pytest.mark.slow  # a Chromium takes a second or two to start


def test_chromium_speaks_the_binary_protocol(play: Callable[..., Any], shared_flo: FloProcess) -> None:
    seen = play("websocket", shared_flo)
    text = "text messages are not taken; send the binary protocol in binary messages"
    answers = [[0, 0, 5, 24, ord("h")], [0, 1, 1_000_000, 24, 7], [0, 2, 0, 24, 0]]
    assert seen["own"] == {"opened": True, "answers": answers, "closed": [1003, text]}
    # … and a page of another origin is refused
    assert seen["foreign"] == {"opened": False, "answers": [], "closed": [1006, ""]}
    assert any("Unexpected response code: 403" in trouble for trouble in seen["troubles"])


def test_the_harness_sees_what_is_wrong(play: Callable[..., Any], shared_flo: FloProcess) -> None:
    seen = play("faults", shared_flo)
    (csp,) = seen["csp"]
    assert csp.startswith("CSP: Executing inline script violates")
    assert {sentence.split(":")[0] for sentence in seen["strictAccessibility"]} >= {"document-title", "html-has-lang"}
    assert [sentence.split("\n")[0] for sentence in seen["accessibility"]] == ["image-alt: img: Fix any of the following:"]
    for part in ("404 (Not Found)", "foreign request: http://example.com/", "GET http://example.com/ net::ERR_NAME_NOT_RESOLVED", "thrown"):
        assert any(part in trouble for trouble in seen["troubles"]), part
    assert seen["looks"] == [[390, 844, False], [390, 844, True]]
    assert Path(seen["shot"]).read_bytes().startswith(b"\x89PNG")


def test_a_scenario_with_troubles_fails(play: Callable[..., Any], shared_flo: FloProcess) -> None:
    with pytest.raises(AssertionError, match="Executing inline script violates") as failed:
        play("faults", shared_flo, "untaken")
    (folder,) = re.findall(r"screenshots are in (\S+)", str(failed.value))
    assert (Path(folder) / "failed-0.png").exists()
