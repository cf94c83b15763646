"""Actions, runs and workers for every protocol: lists page by page, and requests that wait."""

import struct
from base64 import b64encode
from collections.abc import Generator
from typing import Any

from flo.engine import Namespace
from flo.errors import BadRequest, NotFound
from flo.operations.options import RUN_STATES
from flo.proto.shapes import shape

LIST_MARK = b"a"
RUNS_MARK = b"r"  # a cursor is its operation's own byte, and where to go on
RETRY_MARK = b"m"
DESCRIBED_SLICE = 50  # actions or workers described in one go: 20 us each, and each action counts its workers
JSON_SLICE = 100  # runs made into JSON in one go: 1 ms, or 5 with long labels and errors

_json = shape("answer json").pack
_RUNS, _RETRY = struct.Struct("<Q"), struct.Struct("<QQ")
SEQ_END = 1 << 63  # all seqs are lower


def check_state(state: int | None) -> None:
    """Raises `BadRequest` if no run can be in this state."""
    if state is not None and state >= len(RUN_STATES):
        raise BadRequest(f"the state is {state}; it is 0 to {len(RUN_STATES) - 1}: {', '.join(RUN_STATES)}")


def _position(operation: str, cursor: bytes, mark: bytes, layout: struct.Struct) -> tuple[int, ...] | None:
    """Where a cursor goes on; None to begin. Raises `BadRequest`."""
    if not cursor:
        return None
    if cursor[:1] != mark or len(cursor) != 1 + layout.size:
        raise BadRequest(f"the option cursor is no cursor of {operation}; send the cursor of the answer before, unchanged")
    return layout.unpack_from(cursor, 1)


def runs_job(
    namespace: Namespace, name: bytes, state: int | None, labels: bytes, limit: int, cursor: bytes
) -> Generator[None, None, dict[str, Any]]:
    """A page of the runs of an action, or of all, the newest first. A job."""
    check_state(state)
    (before,) = _position("action_runs", cursor, RUNS_MARK, _RUNS) or (SEQ_END,)
    rows, following = yield from namespace.actions.runs_job(name, state, labels, limit, before)
    return {"runs": rows, "cursor": b64encode(RUNS_MARK + _RUNS.pack(following)).decode() if following else ""}


def retry_job(
    namespace: Namespace, name: bytes, state: int, labels: bytes, limit: int, cursor: bytes
) -> Generator[None, None, tuple[bool, bytes, int]]:
    """(whether there is more, the next cursor, how many became pending) of a page of runs that are retried. A job."""
    at, until = _position("action_retry_many", cursor, RETRY_MARK, _RETRY) or (0, 0)
    following, count = yield from namespace.actions.retry_many_job(name, state, labels, limit, (at, until))
    more = bool(following[0])
    return more, RETRY_MARK + _RETRY.pack(*following) if more else b"", count


def json_job(nouns: str, rows: list[dict[str, Any]], cursor: str) -> Generator[None, None, bytes]:
    """A page as JSON. A job."""
    pieces = []
    for at in range(0, len(rows), JSON_SLICE):
        if at:
            yield
        pieces.append(_json(rows[at : at + JSON_SLICE])[1:-1])
    return b'{"%b":[%b],"cursor":%b}' % (nouns.encode(), b",".join(pieces), _json(cursor))


def described_job(part: Any, names: list[bytes]) -> Generator[None, None, list[dict[str, Any]]]:
    """Actions or workers by their names, as their part describes them; those that go meanwhile are left out. Raises `NotFound`
    for a single one. A job."""
    shown: list[dict[str, Any]] = []
    for at in range(0, len(names), DESCRIBED_SLICE):
        if at:
            yield
            part.check_namespace()
        for name in names[at : at + DESCRIBED_SLICE]:
            try:
                shown.append(part.describe(name))
            except NotFound:
                if len(names) == 1:
                    raise
    return shown
