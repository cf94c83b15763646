"""The checker of histories accepts what was made in one order, and rejects what no order explains."""

from math import inf
from random import Random

import pytest

from tests.support.linearizable import LOST, Cell, Operation, execute, is_linearizable, rejected

pytestmark = pytest.mark.computes


def made(seed: int, count: int = 200, keys: int = 2, losses: float = 0.05) -> list[Operation]:
    """A history of clients that overlap: each operation happens at a moment between its invocation and its answer."""
    rng = Random(seed)
    cells = {f"{kind}{at}": Cell() for kind in ("register", "counter", "versioned") for at in range(keys)}
    known: dict[str, list[tuple[int, object]]] = {key: [(0, None)] for key in cells}
    history = []
    for at in range(count):
        key = rng.choice(list(cells))
        cell = cells[key]
        kind = rng.choice({"r": ["set", "get"], "c": ["incr", "get"], "v": ["cas", "getv"]}[key[0]])
        argument: object = at if kind == "set" else (*rng.choice(known[key][-2:]), at) if kind == "cas" else None
        never = rng.random() < losses
        happens = not never or rng.random() < 0.5
        op = Operation(key, kind, argument, LOST, at - rng.uniform(0, 6), inf)
        if happens:
            after = execute(cell, op)
            assert after is not None
            if kind in ("cas", "set", "incr") and after != cell:
                after = Cell(after.value, at + 1)  # the version
                known[key].append((at + 1, after.value))
            cells[key] = after
            if not never:
                answer = {"set": True, "get": cell.value, "incr": after.value, "cas": at + 1 if after != cell else None}.get(
                    kind, (cell.version, cell.value) if cell.value is not None else None
                )
                op = op._replace(answer=answer, answered=at + rng.uniform(0, 6))
        history.append(op)
    rng.shuffle(history)
    return history


@pytest.mark.parametrize("seed", range(20))
def test_what_was_made_in_one_order_is_accepted(seed: int) -> None:
    assert rejected(made(seed)) is None


def test_two_thousand_operations_take_a_moment() -> None:
    assert rejected(made(1, 2000, keys=7)) is None


@pytest.mark.parametrize("kind", ["get", "incr", "cas", "getv"])
@pytest.mark.parametrize("seed", range(10))
def test_one_answer_from_another_time_is_rejected(seed: int, kind: str) -> None:
    """The answer is that of an operation so much earlier that they do not overlap, and something has happened between."""
    history = sorted(made(seed, 400, keys=1), key=lambda op: op.invoked)
    key = {"get": "register0", "incr": "counter0"}.get(kind, "versioned0")
    same = [op for op in history if op.key == key and op.kind == kind and op.answer not in (LOST, None)]
    old, late = same[len(same) // 4], same[-len(same) // 4]
    assert is_linearizable([op for op in history if op.key == key])
    changed = [op._replace(answer=old.answer) if op is late else op for op in history if op.key == key]
    assert not is_linearizable(changed)


def op(kind: str, argument: object, answer: object, invoked: float, answered: float) -> Operation:
    return Operation("k", kind, argument, answer, invoked, answered)


def test_an_old_value_behind_an_acknowledged_write_is_rejected() -> None:
    writes = [op("set", 1, True, 0, 1), op("set", 2, True, 2, 3)]
    assert is_linearizable([*writes, op("get", None, 2, 4, 5)])
    assert not is_linearizable([*writes, op("get", None, 1, 4, 5)])
    assert is_linearizable([*writes, op("get", None, 1, 2.5, 5)])


def test_a_lost_write_may_happen_late_once_or_never() -> None:
    lost = op("set", 1, LOST, 0, inf)
    write = op("set", 2, True, 1, 2)
    assert is_linearizable([lost, write, op("get", None, 2, 3, 4)])
    assert is_linearizable([lost, write, op("get", None, 1, 3, 4)])
    assert is_linearizable([lost, write, op("get", None, 2, 3, 4), op("get", None, 1, 5, 6)])
    assert not is_linearizable([lost, write, op("get", None, 1, 3, 4), op("get", None, 2, 5, 6)])
    assert not is_linearizable([lost, op("get", None, 1, -2, -1)]), "before it was invoked"


def test_a_lost_increment_counts_once_at_most() -> None:
    assert is_linearizable([op("incr", None, LOST, 0, inf), op("incr", None, 2, 1, 2)])
    assert not is_linearizable([op("incr", None, LOST, 0, inf), op("incr", None, 3, 1, 2)])
    assert not is_linearizable([op("incr", None, 1, 0, 1), op("incr", None, 1, 2, 3)])


def test_a_lost_cas_explains_a_refusal() -> None:
    first = op("cas", (0, None, 1), 5, 0, 1)
    refused = op("cas", (5, 1, 3), None, 3, 4)
    assert not is_linearizable([first, refused])
    assert is_linearizable([first, op("cas", (5, 1, 2), LOST, 2, inf), refused])
    assert not is_linearizable([first, op("cas", (5, 1, 2), 6, 2, 3), op("cas", (5, 1, 3), 7, 2, 3)]), "two from one version"


def test_many_lost_answers_do_not_make_the_search_long() -> None:
    lost = [op("incr", None, LOST, at, inf) for at in range(60)]
    answers = [op("incr", None, 2 * (at + 1), at + 0.9, at + 0.95) for at in range(60)]
    assert is_linearizable(lost + answers)
    assert not is_linearizable([*lost, *answers, op("incr", None, 120, 70, 71)])
