"""JSON documents and paths into them (SPEC section 3, "JSON path"): `$`, `.field`, `["field"]`, `[index]`, nested.

Functions take and return text; a path names one place. They raise `BadRequest` for a path or a document that is not understood, and
`NotFound` with the part of the path that failed.
"""

import json
import re
from array import array
from itertools import accumulate
from typing import Any

from flo.errors import BadRequest, NotFound

DOCUMENT_BYTES_MAX = 1 << 20
DEPTH_MAX = 128  # Python's own parser would only stop at its recursion limit
INTEGER_DIGITS_MAX = 4000  # under Python's limit of 4,300; longer integers take quadratic time to convert
PATH_BYTES_MAX = 4096

Step = str | int

_STEP = re.compile(
    r"""\.(?P<field>[^.\[\]"'\s*]+) | \[\s*(?P<index>-?\d{1,10})\s*\] | \[\s*(?P<quoted>"(?:[^"\\]|\\.)*")\s*\]
      | \[\s*'(?P<single>[^'\\]*)'\s*\]""",
    re.VERBOSE,
)
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_LONG_INTEGER = re.compile(rb"[0-9]{%d}" % (INTEGER_DIGITS_MAX + 1))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_BRACKETS_ONLY = bytes(set(range(256)) - set(b"[]{}"))
_DEPTH_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def parse_path(path: bytes) -> list[Step]:
    """The steps of a path; none for the whole document."""
    if len(path) > PATH_BYTES_MAX:
        raise BadRequest(f"the JSON path is {len(path)} bytes; at most {PATH_BYTES_MAX} are allowed")
    try:
        text = path.decode()
    except UnicodeDecodeError:
        raise BadRequest("the JSON path is not UTF-8") from None
    if text in ("", "$", "."):
        return []
    if text.startswith("$"):
        rest = text[1:]
    elif text[0] in ".[":
        rest = text
    else:
        rest = "." + text
    steps: list[Step] = []
    at = 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None:
            raise BadRequest(
                f"the JSON path {text!r} is not understood at {rest[at : at + 20]!r}; "
                'use $, .field, ["field"] and [index], one after the other'
            )
        if match["field"] is not None:
            steps.append(match["field"])
        elif match["index"] is not None:
            steps.append(int(match["index"]))
        elif match["quoted"] is not None:
            steps.append(str(_loads(match["quoted"].encode())))
        else:
            steps.append(match["single"])
        at = match.end()
    return steps


def parse(text: bytes) -> Any:
    """The document in `text`, checked against every limit."""
    if len(text) > DOCUMENT_BYTES_MAX:
        raise BadRequest(f"the JSON document is {len(text)} bytes; at most {DOCUMENT_BYTES_MAX} are allowed")
    check_depth = text.count(b"[") + text.count(b"{") > DEPTH_MAX
    if check_depth or len(text) > INTEGER_DIGITS_MAX:
        bare = _STRING.sub(b'""', text)
        if _LONG_INTEGER.search(bare):
            raise BadRequest(f"the JSON document has a number of more than {INTEGER_DIGITS_MAX:,} digits")
        if check_depth:
            steps = array("b", bare.translate(_DEPTH_STEPS, _BRACKETS_ONLY))
            if max(accumulate(steps), default=0) > DEPTH_MAX:
                raise BadRequest(f"the JSON document is nested deeper than {DEPTH_MAX} levels")
    value = _loads(text)
    if _SURROGATE.search(text):
        _refuse_lone_surrogates(value)
    return value


def _loads(text: bytes) -> Any:
    try:
        return json.loads(text.decode(), parse_constant=_no_constant, parse_float=_finite)
    except UnicodeDecodeError:
        raise BadRequest("the JSON document is not UTF-8") from None
    except ValueError as e:
        raise BadRequest(f"the JSON document is not understood: {e}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _refuse_lone_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadRequest("the JSON document has half of a surrogate pair, which is not a character") from None


def dump(value: Any) -> bytes:
    """The compact text of a value: no spaces, keys in order of insertion."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def get(text: bytes, path: bytes) -> bytes:
    """The text of the value at `path`; `text` itself if that is the whole document."""
    steps = parse_path(path)
    return dump(_walk(parse(text), steps, path)) if steps else text


def kind_of(text: bytes, path: bytes) -> str:
    """The JSON type at `path`, in RedisJSON's words."""
    value = _walk(parse(text), parse_path(path), path)
    if value is None:
        return "null"
    names: dict[type, str] = {
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        list: "array",
        dict: "object",
    }
    return names[type(value)]


def set_at(text: bytes | None, path: bytes, new: bytes) -> bytes:
    """The document with `new` as the value at `path`. `text` is None if there is no document yet."""
    steps = parse_path(path)
    value = parse(new)
    if not steps:
        return new
    if text is None:
        raise NotFound("there is no document yet, and a new one must be created at the root, $")
    document = parse(text)
    parent = _walk(document, steps[:-1], path)
    last = steps[-1]
    if isinstance(parent, dict) and isinstance(last, str):
        parent[last] = value
    elif isinstance(parent, list) and isinstance(last, int):
        if last == len(parent):
            parent.append(value)
        elif -len(parent) <= last < len(parent):
            parent[last] = value
        else:
            raise _missing(last, path)
    else:
        raise _missing(last, path)
    return _checked(dump(document))


def delete_at(text: bytes, path: bytes) -> bytes | None:
    """The document without the value at `path`; None if that is the whole document."""
    steps = parse_path(path)
    if not steps:
        return None
    document = parse(text)
    parent = _walk(document, steps[:-1], path)
    last = steps[-1]
    _walk(parent, [last], path)
    del parent[last]
    return dump(document)


def _checked(text: bytes) -> bytes:
    """`text`, checked against the limits of a document: a change inside may exceed one."""
    parse(text)
    return text


def _walk(value: Any, steps: list[Step], path: bytes) -> Any:
    for step in steps:
        if isinstance(step, str):
            if not isinstance(value, dict) or step not in value:
                raise _missing(step, path)
            value = value[step]
        else:
            if not isinstance(value, list) or not -len(value) <= step < len(value):
                raise _missing(step, path)
            value = value[step]
    return value


def _missing(step: Step, path: bytes) -> NotFound:
    part = f"[{step}]" if isinstance(step, int) else f".{step}"
    return NotFound(f"the path {path.decode()!r} has nothing at {part!r}")
