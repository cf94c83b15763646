"""A run's records as bytes: what it was invoked with, its steps, the history of its attempts, and labels.

Behind the container of its action and its u64 number, a run's records hold:

    invoked   u8 priority, u64 not before, u16 lengths of labels, concurrency key, unique key and traceparent; these, then the input
    started   leans on `invoked`; u32 attempt, u32 failures, i64 started at, i64 end of the lease, u16 lengths of worker, progress,
              concurrency key and unique key; these, then the history
    back      leans on `invoked`; u32 attempt, u32 failures, i64 started at, i64 not before, u16 lengths of concurrency key and unique key;
              these, then the history
    finished  leans on `invoked`; u8 kind, u32 attempt, u32 failures, i64 started at, i64 ended at, u16 length of worker, u32 length of the
              history; these, then the output or the error

A **history** is the last ATTEMPTS_KEPT attempts, the oldest first: u32 number, i64 started at, i64 ended at, u8 how, u16 lengths of worker
and error; these. Before them are up to STARTS_KEPT earlier ones, without worker and error, that started within the window of the action's
rate: a rate must count them when compaction has dropped their own records.
"""

import json
import struct
from typing import Any, NamedTuple

from flo.errors import BadRequest
from flo.store.action import STARTS_MAX, Label
from flo.ual.record import HEADER_BYTES, RUN_BACK, RUN_FINISHED, RUN_STARTED, Record, container_of

LABELS_BYTES_MAX = 4096
ERROR_KEPT = 1000  # bytes of an attempt's error in the history; the last error is kept whole
ATTEMPTS_KEPT = 20  # SPEC section 2.3, action_status
STARTS_KEPT = 100  # 25 bytes each, in each step of a run that starts so often
STEP_BYTES = HEADER_BYTES + 2000  # the record of a step, without its action's name, history and output
HOW = ("completed", "failed", "timed_out", "released", "cancelled")
ENDED, FAILURE, LAPSE, RELEASE, CANCEL = range(5)

_INVOKED = struct.Struct("<BQHHHH")
_STARTED = struct.Struct("<IIqqHHHH")
_BACK = struct.Struct("<IIqqHH")
_FINISHED = struct.Struct("<BIIqqHI")
_ATTEMPT = struct.Struct("<IqqBHH")


class First(NamedTuple):
    """What a run was invoked with."""

    action: bytes
    created_at: int
    labels: bytes
    key: bytes
    unique: bytes
    traceparent: bytes
    input: bytes


class Attempt(NamedTuple):
    """An attempt that has ended."""

    number: int
    started_at: int
    ended_at: int
    how: int
    worker: bytes
    error: bytes


class Step(NamedTuple):
    """What the latest record of a run says."""

    attempt: int = 0
    failures: int = 0
    started_at: int = 0
    worker: bytes = b""
    progress: bytes = b""
    history: bytes = b""
    output: bytes = b""


# -- steps -----------------------------------------------------------------------------------------


def pack_invoked(priority: int, not_before: int, labels: bytes, key: bytes, unique: bytes, traceparent: bytes, given: bytes) -> bytes:
    """The state of `invoked`."""
    packed = _INVOKED.pack(priority, not_before, len(labels), len(key), len(unique), len(traceparent))
    return b"".join((packed, labels, key, unique, traceparent, given))


def unpack_invoked(state: bytes) -> tuple[int, int, bytes, bytes, bytes]:
    """(priority, not before, labels, concurrency key, unique key)."""
    priority, not_before, *sizes = _INVOKED.unpack_from(state)
    labels, key, unique = cut(state, _INVOKED.size, *sizes[:3])
    return priority, not_before, labels, key, unique


def first_of(record: Record) -> First:
    """What `invoked` says."""
    _, _, *sizes = _INVOKED.unpack_from(record.state)
    return First(container_of(record.entity)[2:], record.time, *cut(record.state, _INVOKED.size, *sizes, len(record.state)))


def pack_started(step: Step, deadline: int, key: bytes, unique: bytes) -> bytes:
    """The state of `started`."""
    sizes = len(step.worker), len(step.progress), len(key), len(unique)
    packed = _STARTED.pack(step.attempt, step.failures, step.started_at, deadline, *sizes)
    return b"".join((packed, step.worker, step.progress, key, unique, step.history))


def unpack_started(state: bytes) -> tuple[Step, int, bytes, bytes]:
    """(what `started` says, the end of the lease, concurrency key, unique key)."""
    attempt, failures, started_at, deadline, *sizes = _STARTED.unpack_from(state)
    worker, progress, key, unique, history = cut(state, _STARTED.size, *sizes, len(state))
    return Step(attempt, failures, started_at, worker, progress, history), deadline, key, unique


def pack_back(step: Step, not_before: int, key: bytes, unique: bytes) -> bytes:
    """The state of `back`."""
    packed = _BACK.pack(step.attempt, step.failures, step.started_at, not_before, len(key), len(unique))
    return b"".join((packed, key, unique, step.history))


def unpack_back(state: bytes) -> tuple[Step, int, bytes, bytes]:
    """(what `back` says, not before, concurrency key, unique key)."""
    attempt, failures, started_at, not_before, *sizes = _BACK.unpack_from(state)
    key, unique, history = cut(state, _BACK.size, *sizes, len(state))
    return Step(attempt, failures, started_at, history=history), not_before, key, unique


def pack_finished(kind: int, step: Step, finished_at: int) -> bytes:
    """The state of `finished`."""
    sizes = len(step.worker), len(step.history)
    packed = _FINISHED.pack(kind, step.attempt, step.failures, step.started_at, finished_at, *sizes)
    return b"".join((packed, step.worker, step.history, step.output))


def unpack_finished(state: bytes) -> tuple[int, Step, int]:
    """(kind, what `finished` says, when the run ended)."""
    kind, attempt, failures, started_at, finished_at, *sizes = _FINISHED.unpack_from(state)
    worker, history, output = cut(state, _FINISHED.size, *sizes, len(state))
    return kind, Step(attempt, failures, started_at, worker, b"", history, output), finished_at


def step_of(record: Record) -> Step:
    """What a run's latest record says."""
    if record.type == RUN_STARTED:
        return unpack_started(record.state)[0]
    if record.type == RUN_BACK:
        return unpack_back(record.state)[0]
    return unpack_finished(record.state)[1] if record.type == RUN_FINISHED else Step()


def cut(state: bytes, at: int, *sizes: int) -> list[bytes]:
    """Pieces of these sizes, one after the other."""
    found = []
    for size in sizes:
        found.append(state[at : at + size])
        at += size
    return found


# -- history ---------------------------------------------------------------------------------------


def add_attempt(history: bytes, attempt: Attempt, since: int) -> bytes:
    """The history with one attempt more, and without the oldest if they are too many. A rate counts those that started after `since`."""
    attempts = attempts_in(history)
    if len(attempts) >= ATTEMPTS_KEPT:
        early = [each._replace(worker=b"", error=b"") for each in attempts[: 1 - ATTEMPTS_KEPT] if each.started_at > since]
        history = b"".join(map(_packed, (*early[-STARTS_KEPT:], *attempts[1 - ATTEMPTS_KEPT :])))
    return history + _packed(attempt._replace(error=attempt.error[:ERROR_KEPT]))


def _packed(attempt: Attempt) -> bytes:
    *facts, worker, error = attempt
    return _ATTEMPT.pack(*facts, len(worker), len(error)) + worker + error


def starts_of(step: Step, runs: bool) -> list[int]:
    """When the attempts started that a step knows of, the oldest first. `runs`: the last of them is not in its history yet. If there were
    more than it may keep, the others are taken to have started with the oldest: a rate counts too many rather than too few."""
    attempts = attempts_in(step.history)
    others = attempts[0].number - 1 if len(attempts) == STARTS_KEPT + ATTEMPTS_KEPT else 0
    starts = [each.started_at for each in attempts]
    return starts[:1] * min(others, STARTS_MAX) + starts + [step.started_at] * runs


def attempts_in(history: bytes) -> list[Attempt]:
    """The attempts of a history, the oldest first."""
    found, at = [], 0
    while at < len(history):
        *facts, worker, error = _ATTEMPT.unpack_from(history, at)
        at += _ATTEMPT.size
        texts = cut(history, at, worker, error)
        at += worker + error
        found.append(Attempt(*facts, *texts))
    return found


# -- labels ----------------------------------------------------------------------------------------


def parse_labels(text: bytes) -> dict[str, Label]:
    """The labels of a flat JSON object; none if it is empty. Raises `BadRequest`."""
    if not text:
        return {}
    if len(text) > LABELS_BYTES_MAX:
        raise BadRequest(f"the labels are {len(text)} bytes; at most {LABELS_BYTES_MAX} are allowed")
    try:
        labels = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadRequest('the labels are no JSON; give an object such as {"region": "eu"}') from None
    return labels_of(labels)


def labels_of(given: Any) -> dict[str, Label]:
    """The labels in decoded JSON. Raises `BadRequest`."""
    if not isinstance(given, dict):
        raise BadRequest('the labels are no JSON object; give one such as {"region": "eu"}')
    for name, value in given.items():
        if not isinstance(value, (str, int, float)):
            raise BadRequest(f"the label {name[:40]!r} is neither a string, a number nor a boolean")
    try:
        json.dumps(given, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        raise BadRequest("the labels have a lone surrogate or a number past the range of a double, which no JSON can hold") from None
    return given


def _no_constant(_: str) -> None:
    raise ValueError


def canonical(labels: dict[str, Label]) -> bytes:
    """The labels as the log has them: equal ones have one text."""
    return json.dumps(labels, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def runs_labels(text: bytes, more: bytes) -> bytes:
    """An action's labels with those of a run, which it adds. Raises `BadRequest`."""
    labels, added = json.loads(text), parse_labels(more)
    for name, value in added.items():
        if name in labels and (labels[name] != value or isinstance(labels[name], bool) != isinstance(value, bool)):
            raise BadRequest(f"the label {name[:40]!r} of every run of the action is {labels[name]!r}; a run cannot have another value")
    return canonical(labels | added)
