"""Is a history linearizable? Registers, counters and compare-and-set, each key by itself, which is enough: linearizability is local.

The search is Wing and Gong's (1993), with Lowe's memory of what was tried. It looks for an order of a key's operations in which each one
gives the answer that it gave. Two operations keep their order if the first was answered before the second was invoked. Not all orders need
be tried: an operation that changes nothing, and whose answer fits now, can go first in any order that exists.

An operation without an answer (`answered` is None) is indeterminate: it may have happened at any time since it was invoked, or never.
"""

from collections.abc import Iterable
from typing import NamedTuple

TRIED_MAX = 1_000_000  # of one key; 20 operations at once that nobody can tell apart are that many
SHOWN = 5  # operations named in a verdict

Value = bytes | None  # of a key; None: it does not exist


class Operation(NamedTuple):
    """What one client did, and what it was told. Times are of one clock."""

    process: int
    key: str
    name: str  # get, set, delete, incr or cas
    argument: object  # set: the value; incr: the number added; cas: (expected value, new value)
    invoked: float
    answered: float | None  # None: the answer was lost
    answer: object  # get: the value; delete: whether it was there; incr: the sum; cas: whether it was set


class TooWide(Exception):
    """Too many operations overlap for a verdict."""


def failures(history: Iterable[Operation]) -> dict[str, str]:
    """A sentence for each key whose operations are not linearizable. Keys begin as missing. Raises `TooWide`."""
    keys: dict[str, list[Operation]] = {}
    for operation in history:
        if operation.answered is not None or operation.name != "get":  # a read without an answer says nothing
            keys.setdefault(operation.key, []).append(operation)
    found = {key: _failure(operations) for key, operations in keys.items()}
    return {key: sentence for key, sentence in found.items() if sentence}


def _step(value: Value, operation: Operation) -> tuple[bool, Value]:
    """(whether the answer fits if the key has this value, the value that it has then)."""
    name, argument = operation.name, operation.argument
    expected: object
    if name == "get":
        expected, after = value, value
    elif name == "set":
        assert isinstance(argument, bytes)
        return True, argument
    elif name == "delete":
        expected, after = value is not None, None
    elif name == "incr":
        assert isinstance(argument, int)
        total = int(value or b"0") + argument
        expected, after = total, b"%d" % total
    elif name == "cas":
        assert isinstance(argument, tuple)
        expected = value == argument[0]
        after = argument[1] if expected else value
    else:
        raise ValueError(f"{name!r} is no operation of this checker")
    return operation.answered is None or operation.answer == expected, after


def _failure(operations: list[Operation]) -> str:
    """Why there is no order; empty if there is one."""
    operations = sorted(operations, key=lambda each: each.invoked)
    ends = [float("inf") if each.answered is None else each.answered for each in operations]
    answered = sum(1 << at for at, each in enumerate(operations) if each.answered is not None)
    tried: set[tuple[int, Value]] = set()
    todo: list[tuple[int, Value]] = [(0, None)]  # (which operations are in the order so far, one bit each; the value behind them)
    most = -1
    farthest: tuple[int, Value] = (0, None)
    while todo:
        done, value = todo.pop()
        done = _with_reads(operations, ends, done, value)
        if done & answered == answered:
            return ""
        if (done, value) in tried:
            continue
        tried.add((done, value))
        if len(tried) > TRIED_MAX:
            raise TooWide(f"the operations on {operations[0].key!r}: over {TRIED_MAX} orders were begun, and there is no verdict")
        if (count := (done & answered).bit_count()) > most:
            most, farthest = count, (done, value)
        following: list[tuple[float, int, Value]] = []
        lost: set[tuple[str, object]] = set()
        for at in _next(operations, ends, done):
            operation = operations[at]
            if operation.answered is None:
                if (operation.name, operation.argument) in lost:
                    continue  # the one that was invoked first stands for all that are the same
                lost.add((operation.name, operation.argument))
            fits, after = _step(value, operation)
            if fits:
                following.append((ends[at], done | 1 << at, after))
        following.sort(key=lambda each: -each[0])  # what was answered first is tried first
        todo += [each[1:] for each in following]
    done, value = farthest
    stuck = [operations[at] for at in _next(operations, ends, done) if operations[at].answered is not None]
    said = "; ".join(f"process {each.process}: {each.name} {each.argument!r} gave {each.answer!r}" for each in stuck[:SHOWN])
    return f"behind {most} of {len(operations)} operations {operations[0].key!r} is {value!r}, and none of these can follow: {said}"


def _next(operations: list[Operation], ends: list[float], done: int) -> list[int]:
    """The operations that may come next: none of the others had been answered when they were invoked."""
    found: list[int] = []
    at = (~done & done + 1).bit_length() - 1  # the first that is not in the order
    first_end = float("inf")
    while at < len(operations) and operations[at].invoked <= first_end:
        if not done >> at & 1:
            found.append(at)
            first_end = min(first_end, ends[at])
        at += 1
    return [at for at in found if operations[at].invoked <= first_end]


def _with_reads(operations: list[Operation], ends: list[float], done: int, value: Value) -> int:
    """The order, with all that may come next, fits, and changes nothing."""
    while True:
        more = 0
        for at in _next(operations, ends, done):
            if operations[at].answered is not None and _step(value, operations[at]) == (True, value):
                more |= 1 << at
        if not more:
            return done
        done |= more
