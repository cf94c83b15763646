"""The clients that write histories: what they write down, and a whole server whose history must be accepted."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.histories import BinaryDoor, Door, Elsewhere, History, Lost, RespDoor, Unknown, Writer
from tests.support.linearizable import failures
from tests.support.processes import FloProcess, free_port, wait_until


class Script:
    """A door that does what is said: an answer, or an exception."""

    def __init__(self, steps: Iterator[object]) -> None:
        self.steps = steps
        self.closed = 0

    def do(self, name: str, key: str, argument: object) -> object:
        step = next(self.steps)
        if isinstance(step, Exception):
            raise step
        return step

    def close(self) -> None:
        self.closed += 1


def scripted(*steps: object) -> tuple[Script, Writer, History]:
    door, history = Script(iter(steps)), History()
    return door, Writer(3, [lambda: door], history), history


def test_what_is_answered_is_written_down() -> None:
    _, writer, history = scripted(b"v")
    writer.do("get", "k", None)
    (operation,) = history.operations()
    assert operation[:4] == (3, "k", "get", None) and operation.answer == b"v"
    assert operation.answered is not None and operation.invoked <= operation.answered


def test_a_follower_is_left_and_the_leader_s_answer_counts() -> None:
    door, writer, history = scripted(Elsewhere(), Elsewhere(), 5)
    writer.do("incr", "k", 1)
    assert [operation.answer for operation in history.operations()] == [5] and door.closed == 2


def test_a_lost_answer_is_indeterminate_and_not_asked_for_again() -> None:
    door, writer, history = scripted(Lost())
    writer.do("set", "k", b"v")
    (operation,) = history.operations()
    assert operation.answered is None and door.closed == 1


def test_a_compare_and_set_that_another_came_before_is_not_written_down() -> None:
    _, writer, history = scripted(Unknown())
    writer.do("cas", "k", (b"a", b"b"))
    assert history.operations() == []


@pytest.fixture
def flo(tmp_path: Path) -> Iterator[FloProcess]:
    with FloProcess(tmp_path, environment={"FLO_RESP_PROFILE": "redis"}) as process:
        yield process


@pytest.mark.parametrize("kind", [BinaryDoor, RespDoor])
def test_each_door_does_each_operation(flo: FloProcess, kind: Callable[[int], Door]) -> None:
    door = kind(flo.port)
    done = [
        door.do("get", "k", None), door.do("set", "k", b"1"), door.do("get", "k", None), door.do("cas", "k", (b"2", b"3")),
        door.do("cas", "k", (b"1", b"3")), door.do("get", "k", None), door.do("delete", "k", None), door.do("delete", "k", None),
        door.do("cas", "k", (None, b"4")), door.do("incr", "c", 5), door.do("incr", "c", -2), door.do("get", "c", None),
    ]  # fmt: skip
    assert done == [None, None, b"1", False, True, b"3", True, False, True, 5, 3, b"3"]
    door.close()
    with pytest.raises(Elsewhere):
        kind(free_port())


@pytest.mark.slow
def test_the_history_of_a_server_that_is_killed_is_accepted(flo: FloProcess) -> None:
    """Acknowledged is synced, so a restart takes nothing back; one of the two addresses is nobody's."""
    history = History()
    nobody = free_port()

    def doors(kind: Callable[[int], Door]) -> list[Callable[[], Door]]:
        return [lambda: kind(nobody), lambda: kind(flo.port)]

    writers = [Writer(process, doors((BinaryDoor, RespDoor)[process % 2]), history) for process in range(4)]
    for writer in writers:
        writer.start()
    try:
        for wanted in (400, 800):
            wait_until(lambda wanted=wanted: len(history.operations()) >= wanted, f"{wanted} operations")  # type: ignore[misc]
            flo.kill()
            flo.start()
        wait_until(lambda: len(history.operations()) >= 1200, "1200 operations")
    finally:
        for writer in writers:
            writer.stop()
    done = history.operations()
    assert failures(done) == {}
    assert {operation.name for operation in done} == {"get", "set", "delete", "incr", "cas"}
    assert any(operation.answered is None for operation in done), "a kill has lost an answer"
    at = next(at for at, each in enumerate(done) if each.name == "get" and each.answer is not None)
    done[at] = done[at]._replace(answer=b"never")
    assert list(failures(done)) == [done[at].key]
