"""influxdata's own corpus of line protocol: every case is decided as its decoder decides it.

The corpus is public, in the repository influxdata/line-protocol, and none of it is here. FLO_LINE_CORPUS names the folder with its file:

    git clone https://github.com/influxdata/line-protocol
    FLO_LINE_CORPUS=line-protocol/lineprotocol/testdata make long

Where Flo must differ (SPEC section 3), and so what is compared is less:

- Flo keeps no strings, and no integers past 2^53: in strict mode a case with such a field is refused as such; in lenient mode the field is
  left out, and all others must agree.
- Flo's timestamps are in ms: the corpus's are floored.
- Flo's points have no order of fields: they are compared as a set of series, each with its points in order.
"""

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flo.engine.operation import run_job
from flo.errors import BadRequest
from flo.proto.lineprotocol import INTEGER_MAX, Names, Points, decode
from flo.series import Series, parse_key
from tests.support.points import by_series

FOLDER = os.environ.get("FLO_LINE_CORPUS")
UNITS = {"1ns": "ns", "1µs": "us", "1ms": "ms", "1s": "s"}
CASES = 6615  # of decoding
NS_OF_MS = 10**6

Expected = dict[Series, tuple[list[int], list[float]]]

pytestmark = [
    pytest.mark.long,
    pytest.mark.computes,
    pytest.mark.skipif(not FOLDER, reason="FLO_LINE_CORPUS does not name the folder of influxdata's corpus.json"),
]


def text_of(value: str | Mapping[str, str]) -> bytes:
    """Texts that are no UTF-8 are in base64."""
    return value.encode() if isinstance(value, str) else base64.b64decode(value["binary"])


def name_of(value: str | Mapping[str, str]) -> str:
    return text_of(value).decode("utf-8", "surrogateescape")


def expected_of(points: list[dict[str, Any]]) -> tuple[Expected, int]:
    """What Flo should have of a case's points, and how many fields it leaves out."""
    columns: Expected = {}
    left_out = 0
    for point in points:
        tags = tuple((name_of(tag["key"]), name_of(tag["value"])) for tag in point.get("tags") or ())
        for field in point["fields"]:
            ((kind, value),) = field["value"].items()
            if kind == "string" or (kind in ("int", "uint") and abs(int(value)) > INTEGER_MAX):
                left_out += 1
                continue
            series = Series(name_of(point["name"]), tags, name_of(field["key"]))
            times, numbers = columns.setdefault(series, ([], []))
            times.append(int(point["time"]) // NS_OF_MS)
            numbers.append(float(value))
    return columns, left_out


def read_of(points: Points) -> Expected:
    return {parse_key(key): (times.tolist(), numbers.tolist()) for key, (times, numbers) in by_series(points).items()}


def cases() -> Iterator[tuple[str, bytes, str, int, dict[str, Any]]]:
    assert FOLDER
    corpus = json.loads((Path(FOLDER) / "corpus.json").read_bytes())
    for key, case in corpus["decode"].items():
        given = case["input"]
        yield key, text_of(given["text"]), UNITS[given["precision"]], int(given["defaultTime"]) // NS_OF_MS, case["output"]


def test_every_case_is_decided_as_influxdata_decides_it() -> None:
    """One `Names` for all cases: what one case has taught it must not change what another says."""
    names = Names()
    seen = refused = left_out_cases = 0
    for key, text, unit, now, output in cases():
        seen += 1
        lenient = run_job(decode(text, names, now, unit, strict=False))
        if "error" in output:
            refused += 1
            with pytest.raises(BadRequest, match=r"^line \d+, column \d+: "):
                run_job(decode(text, names, now, unit))
            assert lenient.bad_lines, f"{key}: {text!r} should be refused: {output['error']}"
            continue
        expected, left_out = expected_of(output.get("result") or [])
        assert read_of(lenient) == expected, f"{key}: {text!r}"
        assert (lenient.bad_lines, lenient.dropped) == (0, left_out), f"{key}: {text!r}: {lenient.errors}"
        if left_out:
            left_out_cases += 1
            with pytest.raises(BadRequest, match=r"which Flo does not keep"):
                run_job(decode(text, names, now, unit))
        else:
            assert read_of(run_job(decode(text, names, now, unit))) == expected, f"{key}: {text!r}"
    assert seen == CASES, "another version of the corpus"
    assert refused and left_out_cases
    print(f"{seen} cases agree: {refused} refused, {left_out_cases} with fields that Flo leaves out")


def test_a_bad_line_does_not_hide_the_good_lines_around_it() -> None:
    """The refused cases of one line without quotes, between two good lines: both are kept, and line and column are the case's."""
    names = Names()
    tried = 0
    for key, text, unit, now, output in cases():
        place = re.search(r"at line 1:(\d+)", output.get("error", ""))
        if not place or b'"' in text or b"\n" in text or not text.strip(b" \r"):
            continue
        tried += 1
        points = run_job(decode(b"before v=1 5\n" + text + b"\nbehind v=2 6\n", names, now, unit, strict=False))
        assert sorted(key for key in points.keys if key in (b"before v", b"behind v")) == [b"before v", b"behind v"], f"{key}: {text!r}"
        assert points.bad_lines == 1 and len(points.keys) == 2, f"{key}: {text!r}"
        assert points.errors[0].startswith("line 2, column "), points.errors
    assert tried > 100
