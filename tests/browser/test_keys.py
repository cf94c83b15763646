"""The page of keys in Chromium: search, edit against a conflict, versions, deletion and its undo, and what a reader sees."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flo
from tests.support.processes import FloProcess

pytestmark = pytest.mark.slow  # a Chromium takes a second or two to start


def test_a_person_searches_edits_and_deletes(play: Callable[..., Any], shared_flo: FloProcess) -> None:
    seen = play("keys", shared_flo)
    assert seen["troubles"] == []
    assert seen["widths"][0] <= seen["widths"][1]
    assert seen["oracles"] == {
        "far": None,
        "indented": '{\n  "a": [\n    1,\n    {\n      "b c": "x,\\"]}"\n    },\n    []\n  ],\n'
        '  "a": 1e999,\n  "n": 12345678901234567890\n}',
        "none": None,
        "cut": "aé …",  # not within a character
        "names": [97, 255, 10, 92, 195, 169, 92, 113],
    }


def test_a_reader_has_no_button_that_changes_something(play: Callable[..., Any], tmp_path: Path) -> None:
    for name in ("all", "read"):
        (tmp_path / name).write_text(f"secret to {name}")
        (tmp_path / name).chmod(0o600)
    environment = {"FLO_SECRET_FILE": str(tmp_path / "all"), "FLO_READ_SECRET_FILE": str(tmp_path / "read")}
    with FloProcess(tmp_path / "data", environment=environment) as server:
        with flo.Client(f"flo://127.0.0.1:{server.port}", secret="secret to all") as client:
            client.kv.put("k", "first")
            client.kv.put("k", "read only")
        seen = play("keys", server, "secret to read")
    assert seen == ["Search", "Copy name", "Download", "|", "Search", "Copy name", "Download"]
