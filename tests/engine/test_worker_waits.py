"""Workers whose requests wait, in ways that a server's tests cannot bring about: clocks, a full disk, damage, registering anew."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flo.engine import Engine, EngineSettings
from flo.engine.waiting import Taker
from flo.engine.worker import SILENT_MS, Assignment
from flo.errors import BadRequest, Damaged, Overloaded

START = 1_700_000_000_000


class Life:
    """An engine with clocks that are moved by hand, an action and a worker."""

    def __init__(self, path: Path) -> None:
        self.wall, self.steady = START, 1_000_000
        self.engine = Engine(str(path), EngineSettings(), clock=lambda: self.wall, steady=lambda: self.steady)
        self.actions = self.engine.namespaces["default"].actions
        self.workers = self.actions.workers
        self.actions.register(b"a")
        self.workers.register(b"w", [b"a"])
        self.got: list[Assignment | None] = []

    def wait(self) -> Taker[bytes]:
        with self.engine.batch():
            taker = self.workers.wait(b"w", self.got.append)
        assert taker is not None
        return taker

    def forward(self, ms: int) -> None:
        self.wall += ms
        self.steady += ms
        with self.engine.batch():
            self.engine.upkeep(idle=True)

    def status(self) -> object:
        return self.workers.describe(b"w")["status"]


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    made = Life(tmp_path)
    yield made
    made.engine.close()


def test_an_open_wait_is_a_heartbeat_to_its_end(life: Life) -> None:
    taker = life.wait()
    life.forward(2 * SILENT_MS)
    assert life.status() == "idle"
    life.workers.leave(taker)
    assert life.status() == "idle", "it was there until now"
    life.forward(SILENT_MS)
    assert life.status() == "unhealthy"


def test_a_wait_goes_on_when_its_worker_registers_anew(life: Life) -> None:
    taker = life.wait()
    life.actions.register(b"b")
    life.workers.register(b"w", [b"b"])
    life.actions.invoke(b"a", b"")
    assert not life.got
    life.workers.leave(taker)
    assert life.workers.describe(b"w")["waiting"] == 0
    life.actions.invoke(b"b", b"")
    assert not life.got, "whoever left gets nothing, whatever was registered meanwhile"


def test_registering_anew_may_give_a_waiting_worker_what_was_there(life: Life) -> None:
    life.actions.register(b"b")
    run = life.actions.invoke(b"b", b"")
    life.wait()
    life.workers.register(b"w", [b"a", b"b"])
    assert [found and found.run for found in life.got] == [run]


def test_who_makes_a_run_ready_is_not_refused_when_the_lease_has_no_room(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of the run is in the log by then. The worker gets the run once there is room."""

    def full(size: int) -> None:
        raise Overloaded("the disk is full")

    life.wait()
    monkeypatch.setattr(life.workers, "admit_frees", full)
    run = life.actions.invoke(b"a", b"")
    life.forward(5000)
    assert not life.got
    monkeypatch.undo()
    life.forward(5000)
    assert [found and found.run for found in life.got] == [run]
    life.wait()
    second = life.actions.invoke(b"a", b"")
    assert len(life.got) == 1, "its concurrency is 1"
    monkeypatch.setattr(life.workers, "admit_frees", full)
    life.workers.complete(run, b"", worker_id=b"w")
    monkeypatch.undo()
    life.forward(5000)
    assert [found and found.run for found in life.got] == [run, second]


def test_a_damaged_run_ends_and_the_next_one_starts(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged, whole = life.actions.invoke(b"a", b"1"), life.actions.invoke(b"a", b"2")
    ended: list[int] = []
    with life.engine.batch():
        life.actions.watch(damaged, lambda: ended.append(1))
    first = life.actions.first

    def damage(seq: int) -> object:
        if b"%d" % seq == damaged:
            raise Damaged("record 1 is damaged")
        return first(seq)

    monkeypatch.setattr(life.actions, "first", damage)
    found = life.workers.take(b"w")
    assert found is not None and found.run == whole
    state, error = life.actions.result(damaged)
    assert state == 3 and b"damaged" in error
    life.forward(1)
    assert ended == [1]


@pytest.mark.parametrize(
    "labels", ['{"a": 1e999}', '{"a": "\\ud800"}', '{"\\ud800": 1}', '{"a": NaN}', '{"a": null}', "[]", "{", '{"a": {}}']
)
def test_labels_that_no_json_can_answer_are_refused(life: Life, labels: str) -> None:
    with pytest.raises(BadRequest, match="label"):
        life.actions.register(b"c", labels=labels.encode())


def test_an_id_has_one_text(life: Life) -> None:
    """A wait for `07` would never be told of the end of run 7."""
    run = life.actions.invoke(b"a", b"")
    assert life.actions.result(run) == (0, b"")
    for other in (b"0" + run, b"+" + run, run + b" ", b"", b"-1", b"9" * 21):
        with pytest.raises(Exception, match="there is no run"):
            life.actions.result(other)
