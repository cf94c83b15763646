"""Whether a history of operations is linearizable: each operation may be given one moment between its invocation and its answer, so that
executed in that order, one by one, all give the answers that they gave.

Keys do not affect each other, so each is looked at alone. The search is that of Wing and Gong (Testing and Verifying Concurrent Objects,
1993): take any operation that may come next, and go back where that leads nowhere; with Lowe's memory (Testing for Linearizability, 2017)
of the sets of operations that were taken before with the same state behind them.

An operation whose answer was lost may have happened at any time after its invocation, or never.
"""

from collections import defaultdict
from collections.abc import Iterable
from math import inf
from typing import Any, NamedTuple

LOST = "lost"  # the answer of an operation that has none
STEPS_MAX = 2_000_000  # of the search of one key


class Operation(NamedTuple):
    """What a client did with a key."""

    key: str
    kind: str  # set, get, incr, cas or getv
    argument: Any  # set: a value. cas: (version, the value at that version, the new value). Values of set and cas are unique
    answer: Any  # get: a value or None. incr: the sum. cas: the new version, or None if it was refused. getv: (version, value) or None
    invoked: float
    answered: float  # inf if the answer was lost


class Cell(NamedTuple):
    """What a key holds."""

    value: Any = None  # None: it is not there
    version: int | None = 0  # None: some version that no client knows yet


class TooHard(Exception):
    """The search was given up."""


def execute(cell: Cell, op: Operation) -> Cell | None:
    """What the key holds behind the operation; None if its answer cannot be that one."""
    lost = op.answer is LOST
    if op.kind == "set":
        return Cell(op.argument, None)
    if op.kind == "get":
        return cell if lost or op.answer == cell.value else None
    if op.kind == "incr":
        total = int(cell.value or 0) + 1
        return Cell(total, None) if lost or op.answer == total else None
    if op.kind == "getv":
        if lost:
            return cell
        version, value = op.answer if op.answer is not None else (0, None)
        return Cell(value, version) if value == cell.value and cell.version in (None, version) else None
    assert op.kind == "cas"
    expected, value, new = op.argument
    stands = cell.value == value and cell.version in (None, expected)
    if lost:
        return Cell(new, None) if stands else cell
    if op.answer is None:
        return None if stands else cell
    return Cell(new, op.answer) if stands and op.answer > expected else None


def rejected(history: Iterable[Operation]) -> str | None:
    """The first key whose operations are not linearizable; None if there is none. Raises `TooHard`."""
    keys = defaultdict(list)
    for op in history:
        keys[op.key].append(op)
    return next((key for key, ops in keys.items() if not is_linearizable(ops)), None)


def is_linearizable(history: Iterable[Operation]) -> bool:
    """Whether the operations of one key are. Raises `TooHard`."""
    ops = sorted(history, key=lambda op: op.invoked)
    answered = [op for op in ops if op.answer is not LOST]
    lost = _that_matter([op for op in ops if op.answer is LOST and op.kind not in ("get", "getv")], answered)
    everything = (1 << len(answered)) - 1
    todo = [(0, 0, Cell())]  # which of `answered` were taken, which of `lost`, and the state behind them
    seen = set(todo)
    for _ in range(STEPS_MAX):
        if not todo:
            return False
        taken, assumed, cell = todo.pop()
        if taken == everything:
            return True
        limit = inf  # whatever comes next was invoked before this: the first answer that is still out
        may_come = []
        at = (~taken & (taken + 1)).bit_length() - 1  # the first that was not taken
        while at < len(answered) and answered[at].invoked <= limit:
            if not taken >> at & 1:
                may_come.append(at)
                limit = min(limit, answered[at].answered)
            at += 1
        following = [
            (taken | 1 << at, assumed, after)
            for at in sorted(may_come, key=lambda at: answered[at].answered)
            if answered[at].invoked <= limit and (after := execute(cell, answered[at])) is not None
        ]
        same = set()  # of operations that do the same, the first one stands for all
        for at, op in enumerate(lost):
            if not assumed >> at & 1 and op.invoked <= limit and (op.kind, op.argument) not in same:
                same.add((op.kind, op.argument))
                after = execute(cell, op)
                if after is not None and after != cell:
                    following.append((taken, assumed | 1 << at, after))
        for each in reversed(following):  # those whose answer came first are tried first, the lost ones last
            if each not in seen:
                seen.add(each)
                todo.append(each)
    raise TooHard(f"no order of {len(ops)} operations of {ops[0].key} was found, nor that there is none")


def _that_matter(lost: list[Operation], answered: list[Operation]) -> list[Operation]:
    """Without writes that nobody has seen, where a key is only written and read: what holds with such a write holds without it."""
    if any(op.kind not in ("set", "get") for op in (*lost, *answered)):
        return lost
    shown = {op.answer for op in answered if op.kind == "get"}
    return [op for op in lost if op.argument in shown]
