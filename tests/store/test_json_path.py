"""JSON paths and documents (SPEC section 3, "JSON path")."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flo.errors import BadRequest, NotFound
from flo.store import jsonpath

pytestmark = pytest.mark.computes

DOCUMENT = b'{"a": {"b": [1, 2.50, {"c": null}]}, "x y": true, "n": 12345678901234567890}'


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"$", DOCUMENT),
        (b".", DOCUMENT),
        (b"", DOCUMENT),
        (b"$.a.b[0]", b"1"),
        (b".a.b[-1].c", b"null"),
        (b"a.b[1]", b"2.5"),
        (b'$["x y"]', b"true"),
        (b"$['x y']", b"true"),
        (b'["a"]["b"][2]', b'{"c":null}'),
        (b"n", b"12345678901234567890"),
    ],
)
def test_get(path: bytes, text: bytes) -> None:
    assert jsonpath.get(DOCUMENT, path) == text


@pytest.mark.parametrize("path", [b"$.z", b"$.a.b[3]", b"$.a.b[-4]", b"$.a.b.c", b"$.a[0]", b"$.n.m"])
def test_what_is_missing_is_named(path: bytes) -> None:
    with pytest.raises(NotFound, match="has nothing at"):
        jsonpath.get(DOCUMENT, path)


@pytest.mark.parametrize(
    "path", [b"$..a", b"$.*", b"$.a[*]", b"$[?(@.a)]", b"$.a b", b"$.", b"$[1:2]", b"$[x]", b"\xff", b"$" + b".a" * 3000]
)
def test_other_paths_are_refused(path: bytes) -> None:
    with pytest.raises(BadRequest):
        jsonpath.get(DOCUMENT, path)


@pytest.mark.parametrize(
    ("path", "new", "text"),
    [
        (b"$", b' {"z" : 1}', b' {"z" : 1}'),
        (b"$.new", b'"x"', b'{"l":[1],"o":{},"new":"x"}'),
        (b"$.l[0]", b"[ ]", b'{"l":[[]],"o":{}}'),
        (b"$.l[1]", b"2", b'{"l":[1,2],"o":{}}'),
        (b"$.o.deep", b"{}", b'{"l":[1],"o":{"deep":{}}}'),
    ],
)
def test_set(path: bytes, new: bytes, text: bytes) -> None:
    assert jsonpath.set_at(b'{"l": [1], "o": {}}', path, new) == text


def test_set_needs_a_parent() -> None:
    for path in (b"$.no.where", b"$.l[2]", b"$.l.x", b"$.o[0]"):
        with pytest.raises(NotFound):
            jsonpath.set_at(b'{"l": [1], "o": {}}', path, b"1")
    with pytest.raises(NotFound, match="at the root"):
        jsonpath.set_at(None, b"$.a", b"1")


def test_delete() -> None:
    assert jsonpath.delete_at(b'{"a": 1, "b": [1, 2]}', b"$.b[0]") == b'{"a":1,"b":[2]}'
    assert jsonpath.delete_at(b'{"a": 1}', b"$") is None
    with pytest.raises(NotFound):
        jsonpath.delete_at(b'{"a": 1}', b"$.b")


@pytest.mark.parametrize(
    "text",
    [
        b"NaN", b"Infinity", b"-Infinity", b"1e999",
        b"{", b"", b"\xff", b'"\\ud800"', b'["\\uDC00x"]', b"1" * 4001, b"[" * 129 + b"]" * 129,
        b'{"a":' * 129 + b"1" + b"}" * 129, b" " * (1 << 20) + b"1", b"'a'", b"01",
    ],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
def test_documents_that_are_refused(text: bytes) -> None:
    with pytest.raises(BadRequest):
        jsonpath.parse(text)


def test_documents_at_the_limits() -> None:
    assert jsonpath.parse(b"1" * 4000) > 0
    jsonpath.parse(b"[" * 128 + b"]" * 128)
    assert jsonpath.parse(b'"' + b"[" * 1000 + b"1" * 5000 + b'"')
    assert jsonpath.parse(b'"\\ud83d\\ude00"') == "\U0001f600"
    assert jsonpath.parse(b'{"a":1,"a":2}') == {"a": 2}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(value=VALUES, new=VALUES)
def test_what_is_set_by_name_is_got_by_name(value: object, new: object) -> None:
    text = jsonpath.set_at(jsonpath.dump({"old": value}), b'$["new"]', jsonpath.dump(new))
    assert json.loads(text) == {"old": value, "new": new}
    assert jsonpath.get(text, b"$.new") == jsonpath.dump(new)
