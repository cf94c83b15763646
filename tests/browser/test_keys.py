"""The page of keys in Chromium: search, edit against a conflict, versions, deletion and its undo, and what a reader sees."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.processes import FloProcess

pytestmark = pytest.mark.slow  # a Chromium takes a second or two to start


def test_a_person_searches_edits_and_deletes(play: Callable[..., Any], shared_flo: FloProcess) -> None:
    seen = play("keys", shared_flo)
    assert seen["troubles"] == []
    assert seen["widths"][0] <= seen["widths"][1]
    assert seen["oracles"] == {
        "far": None,
        "indented": '{\n  "a": [\n    1,\n    {\n      "b c": "x,\\"]}"\n    },\n    []\n  ],\n  "a": 1e999,\n  "n": 12345678901234567890\n}',
        "none": None,
        "names": [97, 255, 10, 92, 195, 169, 92, 113],
    }
