"""Patterns against a plain reading of the same language, and the steps they take."""

import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flo.engine import Engine
from flo.errors import BadRequest
from flo.store.pattern import MATCH_SLICE_BYTES, PATTERN_BYTES_MAX, Pattern, read_pattern

pytestmark = pytest.mark.computes

# what patterns are made of, so that many match: few letters, and all that is special
PATTERNS = st.lists(st.sampled_from([b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"a", b"b", b"c", b"ab", b"[a-b]", b"[^a]"]), max_size=12)
NAMES = st.lists(st.sampled_from([b"a", b"b", b"c", b"]", b"-", b"\\", b"*", b"\xff"]), max_size=10).map(b"".join)


def plainly(pattern: bytes, name: bytes) -> bool:
    """Redis's stringmatchlen, a branch of the source a branch here, with the two things that flo.store.pattern decides otherwise."""
    if not pattern:
        return not name
    first = pattern[:1]
    if first == b"*":
        return plainly(pattern[1:], name) or (bool(name) and plainly(pattern, name[1:]))
    if not name:
        return False
    if first == b"[":
        inside, rest = class_of(pattern[1:])
        return name[0] in inside and plainly(rest, name[1:])
    if first == b"\\" and len(pattern) > 1:
        return pattern[1] == name[0] and plainly(pattern[2:], name[1:])
    return (first == b"?" or first[0] == name[0]) and plainly(pattern[1:], name[1:])


def class_of(text: bytes) -> tuple[set[int], bytes]:
    """The bytes of a class, and the pattern behind it."""
    other = text[:1] == b"^"
    text = text[other:]
    inside: set[int] = set()
    while text and not text.startswith(b"]"):
        if text[:1] == b"\\" and len(text) > 1:
            inside.add(text[1])
            text = text[2:]
        elif len(text) > 2 and text[1:2] == b"-":
            inside |= set(range(min(text[0], text[2]), max(text[0], text[2]) + 1))
            text = text[3:]
        else:
            inside.add(text[0])
            text = text[1:]
    return (set(range(256)) - inside if other else inside), text[1:]


@given(pattern=PATTERNS.map(b"".join), names=st.lists(NAMES, max_size=20))
@example(pattern=b"[", names=[b"a"])
@example(pattern=b"[^", names=[b"a", b""])
@example(pattern=b"*?b?*a[^c]", names=[b"aabbcaab", b"aba"])
@example(pattern=b"[a-]", names=[b"a", b"-", b"]", b"^"])
@example(pattern=b"[b-a", names=[b"a", b"-", b"b"])
@example(pattern=b"[]a]", names=[b"a", b"]", b"a]"])
@example(pattern=b"[\\]a]", names=[b"a", b"]", b"\\"])
@example(pattern=b"a\\", names=[b"a", b"a\\"])
@example(pattern=b"[a-]]", names=[b"a", b"a]", b"^", b"^]"])
def test_a_pattern_matches_what_it_says(pattern: bytes, names: list[bytes]) -> None:
    read = Pattern(pattern)
    wanted = [name for name in names if plainly(pattern, name)]
    assert [name for name in names if read.matches(name)] == wanted
    assert all(name.startswith(read.prefix) for name in wanted)
    if read.exact:
        assert set(wanted) <= {read.prefix}
    if read.whole_prefix:
        assert wanted == [name for name in names if name.startswith(read.prefix)]


@pytest.mark.parametrize(
    ("pattern", "prefix", "exact", "whole_prefix"),
    [
        (b"abc", b"abc", True, False),
        (b"a\\*c", b"a*c", True, False),
        (b"a[b]c", b"abc", True, False),
        (b"user:*", b"user:", False, True),
        (b"user:**", b"user:", False, True),
        (b"*", b"", False, True),
        (b"user:*:name", b"user:", False, False),
        (b"us?r:*", b"us", False, False),
        (b"user:[0-9]*", b"user:", False, False),
        (b"", b"", True, False),
    ],
)
def test_the_literal_start_narrows_the_range(pattern: bytes, prefix: bytes, exact: bool, whole_prefix: bool) -> None:
    read = Pattern(pattern)
    assert (read.prefix, read.exact, read.whole_prefix) == (prefix, exact, whole_prefix)


def test_a_prefix_and_a_pattern_together() -> None:
    read = Pattern(b"user:*:name")
    assert read.within(b"") == read.within(b"us") == b"user:"
    assert read.within(b"user:17") == b"user:17"
    assert read.within(b"x") is None


def steps(pattern: bytes, name: bytes) -> int:
    """How many lines of flo.store.pattern a match runs, once it is ready."""
    read = Pattern(pattern)
    read.matches(name[:100])
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename.endswith("pattern.py") else None

    sys.settrace(trace)
    try:
        assert not read.matches(name)
    finally:
        sys.settrace(None)
    return count


# each takes a naive matcher exponential, or quadratic, time on a name of many a
@pytest.mark.parametrize(
    "pattern",
    [b"a*" * 50 + b"b", b"*a" * 1000 + b"*b*", b"*" + b"a?" * 20 + b"b*", b"*" + b"[ab]?" * 500 + b"b*", b"*[^b]b" * 100 + b"*"],
)
def test_the_steps_of_a_match_are_linear_in_the_name(pattern: bytes) -> None:
    once, twice = steps(pattern, b"a" * 10_000), steps(pattern, b"a" * 20_000)
    assert once <= 10 * 10_000 + 10 * len(pattern)
    assert twice <= 2 * once + 100


def test_many_long_names_are_matched_in_slices() -> None:
    names = [b"x" * 10_000] * 100
    job = Pattern(b"*?y").matching(names)
    assert sum(1 for _ in job) >= 100 * 10_000 // (MATCH_SLICE_BYTES + 10_000)


def test_a_pattern_has_a_limit_and_a_name_of_any_length_has_none() -> None:
    assert read_pattern(b"a" * 60_000).matches(b"a" * 60_000)
    assert read_pattern(b"*" * PATTERN_BYTES_MAX).whole_prefix
    with pytest.raises(BadRequest, match=f"the pattern is {PATTERN_BYTES_MAX + 1} bytes"):
        read_pattern(b"?" * (PATTERN_BYTES_MAX + 1))


def test_the_engine_scans_by_a_pattern(tmp_path: Any) -> None:
    with Engine(str(tmp_path)) as engine:
        kv = engine.kv
        for number in range(300):
            kv.put(b"user:%03d:%b" % (number, b"name" if number % 3 else b"mail"), b"")
        assert kv.scan(pattern=b"user:??[05]:name", limit=1000) == (
            [b"user:%03d:name" % number for number in range(0, 300, 5) if number % 3],
            False,
        )
        found, more = kv.scan(b"user:1", None, 5, b"*:mail")
        assert (found, more) == ([b"user:%03d:mail" % number for number in range(102, 117, 3)], True)
        assert kv.scan(b"user:1", found[-1], 2, b"*:mail")[0] == [b"user:117:mail", b"user:120:mail"]
        assert kv.scan(b"x", pattern=b"user:*") == ([], False)
