"""Actions, runs and workers by example: the rules of SPEC section 3, and each sentence that a client may get."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flo.engine import Engine, EngineSettings
from flo.engine.action import Actions
from flo.engine.operation import run_job
from flo.engine.waiting import Taker
from flo.engine.worker import PARK_SLICE, Assignment, Workers
from flo.errors import NotFound
from tests.support.totals import check_totals

pytestmark = pytest.mark.computes

START = 1_700_000_000_000
DAY = 24 * 3600 * 1000


class Place:
    """An engine whose clocks the test moves."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.wall, self.passed = directory, START, 0
        self.settings = EngineSettings(segment_bytes=1 << 16)
        self.open()

    def open(self) -> None:
        self.engine = Engine(str(self.directory), self.settings, clock=lambda: self.wall, steady=lambda: self.passed)

    def restart(self, compact: str = "", keep_runs: int = 100_000) -> None:
        if compact:
            self.engine.compact(tail=compact == "tail")
        self.engine.close()
        self.settings = self.settings._replace(keep_runs=keep_runs)
        self.open()

    @property
    def actions(self) -> Actions:
        return self.engine.namespaces["default"].actions

    @property
    def workers(self) -> Workers:
        return self.actions.workers

    def after(self, ms: int) -> None:
        """Time passes, and what is due is done."""
        self.wall += ms
        self.passed += ms
        self.sweep()

    def sweep(self) -> int:
        """Do what is due; returns in how many slices."""
        slices = 0
        with self.engine.batch():
            while self.engine.sweep():
                slices += 1
                assert slices < 1000, "it never ends"
        return slices

    def wait(self, worker: bytes) -> tuple[list[Assignment | None], Taker[bytes] | None]:
        got: list[Assignment | None] = []
        with self.engine.batch():
            return got, self.workers.wait(worker, got.append)

    def leave(self, taker: Taker[bytes] | None) -> None:
        assert taker is not None
        with self.engine.batch():
            self.workers.leave(taker)

    def take(self, worker: bytes = b"w") -> Assignment:
        found = self.workers.take(worker)
        assert found is not None
        return found

    def state(self, run: bytes) -> str:
        return str(self.actions.status(run)["status"])

    def retry_many(self, name: bytes, shown: int, labels: bytes = b"", limit: int = 100, cursor: Any = (0, 0)) -> Any:
        with self.engine.batch():
            return run_job(self.actions.retry_many_job(name, shown, labels, limit, cursor))

    def runs(self, name: bytes, shown: int | None = None, labels: bytes = b"") -> list[bytes]:
        with self.engine.batch():
            rows, _ = run_job(self.actions.runs_job(name, shown, labels, 1000, 1 << 63))
        return [row["run_id"].encode() for row in rows]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    made.actions.register(b"a")
    made.workers.register(b"w", [b"a"])
    yield made
    check_totals(made.engine)
    made.engine.close()


# -- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compact", ["", "all", "tail"])
def test_a_retried_run_keeps_its_keys_over_restarts(place: Place, compact: str) -> None:
    """Also where compaction has dropped the record that made it pending again."""
    place.workers.register(b"w", [b"a"], concurrency=9)
    run = place.actions.invoke(b"a", b"", unique_key=b"u", concurrency_key=b"k")
    place.take()
    place.actions.cancel(run)
    place.restart("all")
    place.actions.retry(run)
    assert place.take().run == run
    place.restart(compact)
    assert place.actions.invoke(b"a", b"", unique_key=b"u") == run
    other = place.actions.invoke(b"a", b"", concurrency_key=b"k")
    assert place.workers.take(b"w") is None, "its key has no room"
    place.workers.complete(run, b"", worker_id=b"w")
    assert place.take().run == other


def test_a_parked_run_goes_on_when_the_one_before_it_is_cancelled(place: Place) -> None:
    place.workers.register(b"w", [b"a"], concurrency=9)
    runs = [place.actions.invoke(b"a", b"", concurrency_key=b"k") for _ in range(3)]
    assert place.take().run == runs[0]
    assert place.workers.take(b"w") is None
    place.workers.complete(runs[0], b"", worker_id=b"w")
    place.actions.cancel(runs[1])
    assert place.take().run == runs[2]


def test_an_idempotency_key_stands_for_the_run_that_a_unique_key_has_found(place: Place) -> None:
    run = place.actions.invoke(b"a", b"", unique_key=b"u")
    assert place.actions.invoke(b"a", b"", unique_key=b"u", idempotency_key=b"i") == run
    place.take()
    place.workers.complete(run, b"", worker_id=b"w")
    assert place.actions.invoke(b"a", b"", unique_key=b"u", idempotency_key=b"i") == run


# -- rates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["cancel", "retry"])
def test_a_run_that_started_long_ago_does_not_count_as_the_last_start(place: Place, what: str) -> None:
    place.actions.register(b"a", rate=(1, 10_000))
    place.workers.register(b"w", [b"a"], concurrency=9)
    old = place.actions.invoke(b"a", b"")
    place.take()
    if what == "cancel":
        place.workers.release(old, worker_id=b"w", delay=60_000)
    else:
        place.workers.complete(old, b"", worker_id=b"w")
    place.after(10_000)
    new = place.actions.invoke(b"a", b"")
    assert place.take().run == new
    if what == "cancel":
        place.actions.cancel(old)
    else:
        place.actions.retry(old)
    place.actions.invoke(b"a", b"")
    assert place.workers.take(b"w") is None
    place.after(9_999)
    assert place.workers.take(b"w") is None
    place.after(1)
    assert place.workers.take(b"w") is not None


def test_a_rate_counts_every_start_after_compaction(place: Place) -> None:
    """Those of one run, and those whose runs ended in another order."""
    place.actions.register(b"a", rate=(3, 10_000))
    place.workers.register(b"w", [b"a"], concurrency=9)
    run = place.actions.invoke(b"a", b"")
    for _ in range(3):
        place.take()
        place.workers.release(run, worker_id=b"w")
        place.after(1)
    assert place.workers.take(b"w") is None
    place.restart("all")
    assert place.workers.take(b"w") is None
    place.after(9_997)
    first, second = place.take(), place.actions.invoke(b"a", b"")
    place.after(1)
    assert place.take().run == second
    place.after(1)
    third = place.actions.invoke(b"a", b"")
    assert place.take().run == third
    for each in (third, second, first.run):
        place.workers.complete(each, b"", worker_id=b"w")
    place.restart("all")
    place.actions.invoke(b"a", b"")
    place.after(9_997)
    assert place.workers.take(b"w") is None
    place.after(1)
    place.take()


def test_a_rate_that_is_loosened_counts_at_once(place: Place) -> None:
    place.actions.register(b"a", rate=(1, 3_600_000))
    place.workers.register(b"w", [b"a"], concurrency=9)
    place.actions.invoke(b"a", b"")
    place.take()
    got, _ = place.wait(b"w")
    run = place.actions.invoke(b"a", b"")
    assert not got
    place.actions.register(b"a")
    assert [each.run for each in got if each] == [run]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_rate_does_not_stand_still_when_a_clock_is_put_right(place: Place, restarts: bool) -> None:
    place.actions.register(b"a", rate=(2, 1000))
    place.workers.register(b"w", [b"a"], concurrency=9)
    runs = [place.actions.invoke(b"a", b"") for _ in range(4)]
    place.wall += 1000 * DAY
    place.take()
    place.wall -= 1000 * DAY
    place.take()
    if restarts:
        place.restart()
    got, _ = place.wait(b"w")
    assert not got
    place.after(1000)
    place.after(1000)
    assert [each.run for each in got if each] == [runs[2]]


def test_a_taker_is_not_forgotten_when_the_clock_is_put_back(place: Place) -> None:
    place.actions.register(b"a", rate=(1, 1000))
    place.workers.register(b"w", [b"a"], concurrency=9)
    runs = [place.actions.invoke(b"a", b"") for _ in range(2)]
    place.wall += 1000 * DAY
    place.take()
    got, _ = place.wait(b"w")
    place.wall -= 1000 * DAY
    with place.engine.batch():
        due = place.workers.next_due()
    assert due is not None and due <= place.wall + 1000
    place.after(1000)
    place.after(1000)
    assert [each.run for each in got if each] == [runs[1]]


# -- what is kept ----------------------------------------------------------------------------------


def finished(place: Place, count: int) -> list[bytes]:
    """So many runs that have ended, one each second."""
    runs = []
    for _ in range(count):
        place.actions.invoke(b"a", b"")
        runs.append(place.take().run)
        place.workers.complete(runs[-1], b"", worker_id=b"w")
        place.after(1000)
    return runs


def test_finished_runs_go_in_the_order_in_which_they_ended_last(place: Place) -> None:
    runs = finished(place, 3)
    place.actions.retry(runs[0])
    place.take()
    place.workers.complete(runs[0], b"", worker_id=b"w")
    place.after(DAY - 1000)
    assert place.runs(b"a") == [runs[2], runs[0]] or place.runs(b"a") == [runs[0]]
    place.after(999)
    assert place.runs(b"a") == [runs[0]]
    place.after(1)
    assert place.runs(b"a") == []


def test_the_oldest_go_first_where_they_are_too_many(place: Place) -> None:
    runs = finished(place, 3)
    place.actions.retry(runs[0])
    place.take()
    place.workers.complete(runs[0], b"", worker_id=b"w")
    place.restart(keep_runs=2)
    place.sweep()
    assert sorted(place.runs(b"a")) == sorted([runs[2], runs[0]])


def test_runs_that_ended_while_the_clock_was_ahead_do_not_keep_the_others(place: Place) -> None:
    place.wall += 1000 * DAY
    ahead = finished(place, 1)
    place.wall -= 1000 * DAY
    finished(place, 2)
    place.after(DAY)
    assert place.runs(b"a") == ahead


def test_runs_that_a_rate_counts_do_not_keep_the_others_nor_the_engine_busy(place: Place) -> None:
    place.actions.register(b"b", rate=(9, 2 * DAY))
    place.workers.register(b"w", [b"a", b"b"])
    place.actions.invoke(b"b", b"")
    counted = place.take().run
    place.workers.complete(counted, b"", worker_id=b"w")
    finished(place, 2)
    place.after(DAY)
    assert place.runs(b"") == [counted]
    with place.engine.batch():
        due = place.actions.next_due()
    assert due is not None and due > place.wall
    place.restart(keep_runs=0)
    place.sweep()
    assert place.runs(b"") == [counted]
    with place.engine.batch():
        due = place.actions.next_due()
    assert due is not None and due > place.wall
    place.after(DAY)
    assert place.runs(b"") == []


def test_runs_of_a_deleted_action_are_not_those_of_a_new_one(place: Place) -> None:
    """Also right after a start whose log has the new one alone."""
    runs = finished(place, 2)
    place.actions.invoke(b"a", b"", idempotency_key=b"i")
    place.actions.cancel(place.take().run)
    with place.engine.batch():  # nothing is swept in between
        place.engine.run(Actions.delete, place.actions, b"a")
        place.engine.run(Actions.register, place.actions, b"a")
    place.restart("all")
    with place.engine.batch():
        rows, _ = run_job(place.actions.runs_job(b"a", None, b"", 9, 1 << 63))
        assert rows == []
        assert run_job(place.actions.retry_many_job(b"a", 4, b"", 9, (0, 0)))[1] == 0
    with pytest.raises(NotFound):
        place.actions.status(runs[0])
    check_totals(place.engine)
    place.sweep()
    assert place.actions.counts()["finished_runs"] == 0
    assert place.actions.invoke(b"a", b"", idempotency_key=b"i") not in runs


# -- takers ----------------------------------------------------------------------------------------


def test_a_search_that_stopped_does_not_keep_an_engine_busy_that_nobody_waits_in(place: Place) -> None:
    place.workers.register(b"w", [b"a"], concurrency=9)
    with place.engine.batch():
        for _ in range(PARK_SLICE + 2):
            place.actions.invoke(b"a", b"", concurrency_key=b"k")
    place.take()
    assert place.workers.take(b"w") is None
    place.sweep()


def test_a_worker_that_registers_anew_while_it_waits_can_still_leave(place: Place) -> None:
    got, taker = place.wait(b"w")
    place.actions.register(b"b")
    place.workers.register(b"w", [b"b"])
    place.leave(taker)
    run = place.actions.invoke(b"b", b"")
    assert not got
    assert place.take().run == run
    assert place.workers.describe(b"w")["waiting"] == 0


def test_a_worker_that_registers_anew_while_it_waits_keeps_its_place(place: Place) -> None:
    mine, _ = place.wait(b"w")
    place.workers.register(b"x", [b"a"])
    others, _ = place.wait(b"x")
    place.workers.register(b"w", [b"a"], labels=b'{"gpu":true}')
    place.actions.invoke(b"a", b"")
    assert (len(mine), len(others)) == (1, 0)


def test_runs_that_become_ready_together_go_by_priority(place: Place) -> None:
    place.actions.register(b"b")
    place.workers.register(b"w", [b"a", b"b"])
    got, _ = place.wait(b"w")
    place.actions.invoke(b"a", b"", delay=1000, priority=5)
    best = place.actions.invoke(b"b", b"", delay=1000, priority=1)
    place.after(5000)
    assert [each.run for each in got if each] == [best]


def test_takers_are_served_in_the_order_in_which_they_came(place: Place) -> None:
    """Also with a run that becomes takeable because another worker is done with one."""
    first = place.actions.invoke(b"a", b"", concurrency_key=b"k")
    place.actions.invoke(b"a", b"", concurrency_key=b"k")
    place.take()
    place.workers.register(b"x", [b"a"])
    others, _ = place.wait(b"x")
    mine, _ = place.wait(b"w")
    place.workers.complete(first, b"", worker_id=b"w")
    assert (len(others), len(mine)) == (1, 0)


def test_a_worker_that_registers_anew_has_its_new_labels(place: Place) -> None:
    """True is not 1."""
    place.actions.register(b"a", labels=b'{"gpu":true}')
    place.workers.register(b"w", [b"a"], labels=b'{"gpu":true}')
    place.workers.register(b"w", [b"a"], labels=b'{"gpu":1}')
    place.actions.invoke(b"a", b"")
    assert place.workers.take(b"w") is None
