"""The checker of histories: what it must accept, and what it must not."""

from random import Random
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import linearizable
from tests.support.linearizable import Operation, TooWide, failures

pytestmark = pytest.mark.computes


def op(
    name: str, argument: object, invoked: float, answered: float | None, answer: object = None, process: int = 0, key: str = "k"
) -> Operation:
    return Operation(process, key, name, argument, invoked, answered, answer)


GOOD = {
    "nothing": [],
    "in order": [op("set", b"1", 0, 1), op("get", None, 2, 3, b"1")],
    "a read beside a write sees either": [
        op("set", b"1", 0, 9), op("get", None, 1, 2, None), op("get", None, 3, 4, b"1"),
    ],
    "writes at once in either order": [op("set", b"1", 0, 9), op("set", b"2", 0, 9), op("get", None, 10, 11, b"1")],
    "a lost write that happened late": [
        op("set", b"1", 0, 1), op("set", b"2", 2, None), op("get", None, 3, 4, b"1"), op("set", b"3", 5, 6), op("get", None, 7, 8, b"2"),
    ],
    "a lost write that never happened": [op("set", b"1", 0, None), op("get", None, 5, 6, None)],
    "a lost compare-and-set that happened": [op("cas", (None, b"1"), 0, None), op("cas", (b"1", b"2"), 1, 2, True)],
    "a counter": [op("incr", 1, 0, 5, 2), op("incr", 1, 0, 5, 1), op("get", None, 6, 7, b"2"), op("incr", -3, 8, 9, -1)],
    "a lost count": [op("incr", 1, 0, None), op("incr", 1, 1, 2, 1), op("incr", 1, 3, 4, 3)],
    "compare-and-set": [op("set", b"1", 0, 1), op("cas", (b"1", b"2"), 2, 3, True), op("cas", (b"1", b"3"), 4, 5, False)],
    "deleted": [op("set", b"1", 0, 1), op("delete", None, 2, 3, True), op("delete", None, 4, 5, False), op("get", None, 6, 7, None)],
    "touching in time is at once": [op("get", None, 0, 1, b"1"), op("set", b"1", 1, 2)],
    "keys are apart": [op("set", b"1", 0, 1), op("get", None, 2, 3, None, key="other")],
}  # fmt: skip
BAD = {
    "a stale read": [op("set", b"1", 0, 1), op("set", b"2", 2, 3), op("get", None, 4, 5, b"1")],
    "a value from nowhere": [op("get", None, 0, 1, b"1")],
    "a read before the write": [op("get", None, 0, 1, b"1"), op("set", b"1", 2, 3)],
    "back in time beside a write": [op("set", b"1", 0, 9), op("get", None, 1, 2, b"1"), op("get", None, 3, 4, None)],
    "a write that was acknowledged and lost": [op("set", b"1", 0, 1), op("get", None, 2, 3, None)],
    "a lost write before it was asked for": [op("get", None, 0, 1, b"1"), op("set", b"1", 2, None)],
    "a lost write that happens twice": [
        op("set", b"1", 0, None), op("get", None, 1, 2, b"1"), op("set", b"2", 3, 4), op("get", None, 5, 6, b"1"),
    ],
    "a count that counts twice": [op("incr", 1, 0, 1, 1), op("incr", 1, 2, 3, 3)],
    "the same count twice": [op("incr", 1, 0, 9, 1), op("incr", 1, 0, 9, 1)],
    "two that both set": [op("cas", (None, b"1"), 0, 9, True), op("cas", (None, b"2"), 0, 9, True)],
    "a compare-and-set refused for nothing": [op("set", b"1", 0, 1), op("cas", (b"1", b"2"), 2, 3, False)],
    "deleted and still there": [op("set", b"1", 0, 1), op("delete", None, 2, 3, True), op("get", None, 4, 5, b"1")],
}  # fmt: skip


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD.keys())
def test_what_is_linearizable_is_accepted(history: list[Operation]) -> None:
    assert failures(history) == {}


@pytest.mark.parametrize("history", BAD.values(), ids=BAD.keys())
def test_what_is_not_is_rejected(history: list[Operation]) -> None:
    assert list(failures(history)) == ["k"]


def test_the_verdict_names_what_cannot_follow() -> None:
    said = failures(BAD["a stale read"])["k"]
    assert said == "behind 2 of 3 operations 'k' is b'2', and none of these can follow: process 0: get None gave b'1'"


def made(rng: Random, count: int, keys: int, processes: int, lost: float = 0.03) -> list[Operation]:
    """A history of a real register: each operation takes effect at one moment between its two times."""
    moments = []
    free = [0.0] * processes
    for _ in range(count):
        process = min(range(processes), key=free.__getitem__)
        invoked = free[process] + rng.random()
        answered = invoked + 2 * rng.random()
        free[process] = answered
        moments.append((rng.uniform(invoked, answered), process, invoked, answered))
    values: dict[str, bytes | None] = {}
    history = []
    for serial, (_, process, invoked, answered) in enumerate(sorted(moments)):
        key = f"{'cr'[serial % 2]}{rng.randrange(keys)}"
        value = values.get(key)
        argument: object = None
        if key[0] == "c":
            name = rng.choice(["incr", "incr", "get"])
            argument = rng.choice([1, 5])
            answer: object = value
            if name == "incr":
                answer = int(value or b"0") + int(str(argument))
                values[key] = b"%d" % answer
        else:
            name = rng.choice(["get", "get", "set", "cas", "delete"])
            new = b"%d" % serial
            answer = value
            if name == "set":
                argument, answer, values[key] = new, None, new
            elif name == "delete":
                answer, values[key] = value is not None, None
            elif name == "cas":
                expected = rng.choice([value, b"nothing"])
                argument, answer = (expected, new), value == expected
                values[key] = new if answer else value
        if rng.random() < lost:
            history.append(Operation(process, key, name, argument, invoked, None, None))
        else:
            history.append(Operation(process, key, name, argument, invoked, answered, answer))
    return history


@settings(deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 60), st.integers(1, 3), st.integers(1, 6))
def test_histories_of_a_real_register_are_accepted(seed: int, count: int, keys: int, processes: int) -> None:
    history = made(Random(seed), count, keys, processes, lost=0.1)
    Random(seed).shuffle(history)
    assert failures(history) == {}


@settings(deadline=None)
@given(st.integers(0, 1 << 32), st.integers(5, 60))
def test_one_changed_answer_is_rejected(seed: int, count: int) -> None:
    """All values that are written differ, so a read of one that nobody writes, or a sum that was not reached, fits nowhere."""
    rng = Random(seed)
    history = made(rng, count, 2, 3)
    reads = [at for at, each in enumerate(history) if each.name in ("get", "incr") and each.answered is not None]
    if not reads:
        return
    at = rng.choice(reads)
    history[at] = history[at]._replace(answer=b"-7" if history[at].name == "get" else -7)
    assert list(failures(history)) == [history[at].key]


@settings(deadline=None)
@given(st.integers(0, 1 << 32))
def test_a_swapped_pair_of_reads_is_rejected(seed: int) -> None:
    rng = Random(seed)
    history = [op("set", b"%d" % number, 10 * number, 10 * number + 9 * rng.random()) for number in range(10)]
    reads = [op("get", None, 10 * number + 9.2, 10 * number + 9.2 + rng.random() / 2, b"%d" % number) for number in range(10)]
    first, second = sorted(rng.sample(range(10), 2))
    assert failures(history + reads) == {}
    reads[first], reads[second] = reads[first]._replace(answer=reads[second].answer), reads[second]._replace(answer=reads[first].answer)
    assert list(failures(history + reads)) == ["k"]


def test_two_thousand_operations_take_a_second() -> None:
    history = made(Random(1), 2000, 10, 16)
    began = process_time()
    assert failures(history) == {}
    assert process_time() - began < 5, "it takes a tenth of a second where nothing else runs"


def test_lost_counts_that_are_the_same_are_not_told_apart() -> None:
    lost = [op("incr", 1, number, None) for number in range(40)]
    assert failures([*lost, op("incr", 1, 50, 51, 31), op("get", None, 60, 61, b"41")]) == {}
    assert list(failures([*lost, op("incr", 1, 50, 51, 42)])) == ["k"]


def test_what_has_no_verdict_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linearizable, "TRIED_MAX", 1000)
    history = [op("set", b"%d" % number, 0, None) for number in range(20)] + [op("get", None, 1, 2, b"never")]
    with pytest.raises(TooWide, match="no verdict"):
        failures(history)


def test_an_operation_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="no operation of this checker"):
        failures([op("append", b"1", 0, 1)])
