"""Actions, runs and workers by example: the rules of SPEC section 3, and each sentence that a client may get."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flo.engine import Engine, EngineSettings
from flo.engine.action import Actions
from flo.engine.operation import run_job
from flo.engine.waiting import Taker
from flo.engine.worker import FORGET_MS, PARK_SLICE, SILENT_MS, Assignment, Workers
from flo.errors import BadRequest, Conflict, Damaged, NotFound
from flo.store import action as action_store
from flo.store.action import Worker
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


@pytest.mark.parametrize("count", [40, 130])
@pytest.mark.parametrize("ends", [False, True])
def test_a_rate_counts_all_starts_of_a_run_that_started_often(place: Place, count: int, ends: bool) -> None:
    """Also those that its history does not show, and more than it keeps."""
    place.actions.register(b"a", rate=(count + 2, 1_000_000), max_attempts=0, retry_delay=0)
    run = place.actions.invoke(b"a", b"")
    for _ in range(count):
        place.take()
        place.workers.fail(run, b"e" * 100, worker_id=b"w", retry=True)
        place.after(1000)
    place.take()
    if ends:
        place.workers.complete(run, b"", worker_id=b"w")
        run = place.actions.invoke(b"a", b"")
    else:
        place.workers.release(run, worker_id=b"w")
    place.restart("all")
    assert ends or [each["number"] for each in place.actions.status(run)["attempts"]] == [*range(count - 18, count + 2)]
    place.take()
    place.workers.release(run, worker_id=b"w")
    assert place.workers.take(b"w") is None
    place.restart("all")
    assert place.workers.take(b"w") is None
    place.after(1_000_000 - count * 1000 - 1)
    assert place.workers.take(b"w") is None
    place.after(1)
    if count == 40:  # exactly: the first start is over, the next one is not
        place.take()
        place.workers.release(run, worker_id=b"w")
        assert place.workers.take(b"w") is None
    place.after(60_000)
    place.take()


def test_what_a_history_keeps_of_early_starts_is_over_with_the_window(place: Place) -> None:
    place.actions.register(b"a", rate=(9, 5000))
    run = place.actions.invoke(b"a", b"")
    for _ in range(60):
        place.take()
        place.workers.release(run, worker_id=b"w")
        place.after(1000)
    place.take()
    assert len(place.actions.store.running[int(run)].history) < 20 * 40


def test_a_rate_counts_a_start_of_a_moment_when_the_clock_was_ahead(place: Place) -> None:
    """The run ended when the clock had been put back, and was forgotten; then the clock came to that time again."""
    place.actions.register(b"a", rate=(1, 10_000))
    place.restart(keep_runs=0)
    run = place.actions.invoke(b"a", b"")
    place.wall += 100_000
    place.take()
    place.workers.release(run, worker_id=b"w")
    place.wall -= 100_000
    place.actions.cancel(run)
    place.wall += 102_000
    place.sweep()
    place.restart("all", keep_runs=0)
    place.actions.invoke(b"a", b"")
    place.after(7_999)
    assert place.workers.take(b"w") is None
    place.after(1)
    place.take()
    place.after(10_000)
    assert not place.actions.store.ahead


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


# -- steps of a run --------------------------------------------------------------------------------


def test_a_run_goes_from_pending_to_completed(place: Place) -> None:
    run = place.actions.invoke(b"a", b"in", traceparent=b"00-1")
    assert (place.state(run), place.actions.result(run)) == ("pending", (0, b""))
    assert place.take() == Assignment(run, b"a", START, 1, 30_000, b"00-1", b"in")
    assert (place.state(run), place.actions.result(run)) == ("running", (1, b""))
    place.workers.complete(run, b"out", worker_id=b"w", attempt=1)
    assert (place.state(run), place.actions.result(run)) == ("completed", (2, b"out"))
    place.restart("all")
    assert place.actions.result(run) == (2, b"out")


def test_failures_are_counted_apart_from_attempts(place: Place) -> None:
    """A release counts no failure; the back-off doubles; at max_attempts the run has failed; a retry begins anew."""
    run = place.actions.invoke(b"a", b"")
    place.take()
    place.workers.release(run, worker_id=b"w")
    waits = []
    for failure in (1, 2):
        assert place.take().attempt == failure + 1
        assert place.workers.fail(run, b"oh", worker_id=b"w", retry=True) == 0
        waits.append(place.actions.status(run)["not_before"] - place.wall)
        place.after(waits[-1])
    assert waits == [1000, 2000]
    place.take()
    assert place.workers.fail(run, b"at last", worker_id=b"w", retry=True) == 3
    status = place.actions.status(run)
    assert (status["status"], status["attempt"], status["failures"], status["error"]) == ("failed", 4, 3, b"at last")
    assert [each["how"] for each in status["attempts"]] == ["released", "failed", "failed", "failed"]
    place.actions.retry(run)
    assert (place.take().attempt, place.actions.status(run)["failures"]) == (5, 0)


def test_the_back_off_is_an_hour_at_most_and_no_bound_is_no_bound(place: Place) -> None:
    place.actions.register(b"a", max_attempts=0, retry_delay=4_000_000_000)
    run = place.actions.invoke(b"a", b"")
    for _ in range(40):
        place.take()
        assert place.workers.fail(run, b"", worker_id=b"w", retry=True) == 0
        assert place.actions.status(run)["not_before"] == place.wall + 3_600_000
        place.after(3_600_000)
    assert len(place.actions.status(run)["attempts"]) == 20


def test_a_lease_that_ends_is_a_failure(place: Place) -> None:
    place.actions.register(b"a", timeout=5000, max_attempts=2, retry_delay=0)
    run = place.actions.invoke(b"a", b"")
    place.take()
    place.after(4000)
    assert place.workers.touch(run, worker_id=b"w", progress=b"half") == (place.wall + 5000, False)
    place.restart()
    place.after(4999)
    assert place.actions.status(run)["progress"] == b"half"
    place.wall += 1
    with pytest.raises(Conflict):  # nothing was swept yet
        place.workers.complete(run, b"late", worker_id=b"w")
    assert (place.state(run), place.actions.status(run)["failures"]) == ("pending", 1)
    place.take()
    place.after(5000)
    assert (place.state(run), place.actions.result(run)) == ("timed_out", (5, b"the lease ran out"))


def test_a_cancelled_run_frees_its_slots_and_tells_its_holder_alone(place: Place) -> None:
    run, other = (place.actions.invoke(b"a", b"", concurrency_key=b"k") for _ in range(2))
    place.take()
    got, _ = place.wait(b"w")
    place.actions.cancel(run)
    place.actions.cancel(run)
    assert [each.run for each in got if each] == [other]
    assert place.workers.touch(run, worker_id=b"w", attempt=1) == (0, True)
    for worker, attempt in ((b"x", 1), (b"w", 2)):
        with pytest.raises(Conflict):
            place.workers.touch(run, worker_id=worker, attempt=attempt)
    with pytest.raises(Conflict):
        place.workers.complete(run, b"", worker_id=b"w")
    assert place.state(run) == "cancelled"


def test_a_key_holds_up_no_other(place: Place) -> None:
    place.workers.register(b"w", [b"a"], concurrency=9)
    runs = [place.actions.invoke(b"a", b"", concurrency_key=key) for key in (b"k", b"k", b"l", b"")]
    assert [place.take().run for _ in range(3)] == [runs[0], runs[2], runs[3]]
    assert place.workers.take(b"w") is None
    place.actions.register(b"a", concurrency=2)
    assert place.take().run == runs[1]


def test_a_run_that_no_worker_can_take_holds_up_no_other_of_its_key(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its labels are one of many."""
    monkeypatch.setattr(action_store, "UNPARKED_LINES", 3)
    place.workers.register(b"w", [b"a"], concurrency=9)
    place.workers.register(b"x", [b"a"], labels=b'{"gpu":1,"cpu":1}', concurrency=9)

    def invoke(labels: bytes = b"") -> bytes:
        return place.actions.invoke(b"a", b"", concurrency_key=b"k", labels=labels)

    runs = [invoke(), invoke(b'{"gpu":1}'), invoke(b'{"cpu":1}'), invoke(), invoke()]
    assert place.take().run == runs[0]
    assert place.workers.take(b"x") is None, "which parks them"
    place.workers.deregister(b"x")
    for run, following in ((runs[0], runs[3]), (runs[3], runs[4])):
        place.workers.complete(run, b"", worker_id=b"w")
        assert place.take().run == following
    place.workers.complete(runs[4], b"", worker_id=b"w")
    place.workers.register(b"x", [b"a"], labels=b'{"gpu":1,"cpu":1}', concurrency=9)
    assert place.take(b"x").run == runs[1]
    assert place.workers.take(b"x") is None
    place.workers.complete(runs[1], b"", worker_id=b"x")
    assert place.take(b"x").run == runs[2]


def test_lower_priorities_go_first_then_older_runs(place: Place) -> None:
    place.workers.register(b"w", [b"a"], concurrency=9)
    runs = [place.actions.invoke(b"a", b"", priority=priority) for priority in (9, 0, 9, 3)]
    assert [place.take().run for _ in range(4)] == [runs[1], runs[3], runs[0], runs[2]]


def test_a_paused_action_hands_out_nothing(place: Place) -> None:
    place.actions.pause(b"a", True)
    place.actions.register(b"a", timeout=7)
    got, _ = place.wait(b"w")
    run = place.actions.invoke(b"a", b"")
    place.restart()
    got, _ = place.wait(b"w")
    assert not got and place.actions.describe(b"a")["paused"]
    place.actions.pause(b"a", False)
    assert [each.run for each in got if each] == [run]


def test_a_worker_must_have_every_label_of_a_run(place: Place) -> None:
    place.actions.register(b"a", labels=b'{"gpu":true}')
    run = place.actions.invoke(b"a", b"", labels=b'{"region":"eu"}')
    for labels in (b"", b'{"gpu":true}', b'{"gpu":1,"region":"eu"}', b'{"gpu":true,"region":"us"}'):
        place.workers.register(b"x", [b"a"], labels=labels)
        assert place.workers.take(b"x") is None
    place.workers.register(b"x", [b"a"], labels=b'{"gpu":true,"region":"eu","more":0}')
    assert place.take(b"x").run == run


def test_keys_give_the_run_that_is_known(place: Place) -> None:
    run = place.actions.invoke(b"a", b"", idempotency_key=b"i")
    place.actions.cancel(run)
    place.after(DAY - 1)
    place.restart("all")
    assert place.actions.invoke(b"a", b"", idempotency_key=b"i") == run
    place.after(1)
    assert place.actions.invoke(b"a", b"", idempotency_key=b"i") != run
    only = place.actions.invoke(b"a", b"", unique_key=b"u")
    assert place.actions.invoke(b"a", b"", unique_key=b"u") == only
    place.actions.cancel(only)
    other = place.actions.invoke(b"a", b"", unique_key=b"u")
    assert other != only
    with pytest.raises(Conflict, match="another run with the same unique key has not ended"):
        place.actions.retry(only)
    assert place.retry_many(b"a", 4) == ((0, 0), 0)
    place.actions.cancel(other)
    assert place.retry_many(b"a", 4) == ((0, 0), 1), "the first has the key again"
    assert place.state(other) == "pending"


def test_retry_many_pages_through_what_had_ended_before(place: Place) -> None:
    runs = [place.actions.invoke(b"a", b"", labels=b'{"n":%d}' % (number % 2)) for number in range(5)]
    for run in runs:
        place.actions.cancel(run)
    cursor, count = place.retry_many(b"a", 4, b'{"n":0}', 2)
    assert (cursor, count) == ((int(runs[2]), place.wall), 2)
    until = place.wall
    place.after(1)
    place.actions.retry(runs[0])
    place.actions.cancel(runs[0])
    assert place.retry_many(b"a", 4, b'{"n":0}', 2, (cursor[0], until)) == ((0, 0), 0)
    assert place.runs(b"a", 0) == [runs[4], runs[2]]


# -- workers ---------------------------------------------------------------------------------------


def test_a_silent_worker_is_unhealthy_and_forgotten_after_a_day(place: Place) -> None:
    run = place.actions.invoke(b"a", b"")
    assert place.workers.heartbeat(b"w", load=7) == 1
    place.take()
    assert place.workers.heartbeat(b"w") == 0
    place.after(SILENT_MS)
    assert place.workers.describe(b"w")["status"] == "unhealthy"
    assert place.actions.describe(b"a")["workers"] == 0
    assert place.state(run) == "pending", "its lease has ended"
    place.after(1000)
    assert place.take().run == run
    assert place.workers.describe(b"w")["status"] == "active"
    place.after(FORGET_MS)
    assert place.workers.names() == []


@pytest.mark.parametrize("leaves", [False, True])
def test_a_worker_was_there_while_it_waited(place: Place, leaves: bool) -> None:
    got, taker = place.wait(b"w")
    place.after(FORGET_MS)
    if leaves:
        place.leave(taker)
    else:
        place.actions.invoke(b"a", b"")
        assert len(got) == 1
    assert place.workers.describe(b"w")["status"] == ("idle" if leaves else "active")


def test_what_a_worker_remembers_of_labels_is_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_store, "MAY_TAKE_MAX", 3)
    for number in range(10):
        run = place.actions.invoke(b"a", b"", labels=b'{"order":%d}' % number)
        assert place.workers.take(b"w") is None
        place.actions.cancel(run)
    assert len(place.actions.store.workers[b"w"].may_take) <= 3


def test_a_draining_worker_gets_nothing_and_finishes(place: Place) -> None:
    place.workers.register(b"w", [b"a"], concurrency=2)
    run = place.actions.invoke(b"a", b"")
    place.take()
    got, _ = place.wait(b"w")
    place.workers.drain(b"w")
    assert got == [None]
    place.restart()
    place.actions.invoke(b"a", b"")
    assert place.wait(b"w") == ([None], None)
    assert place.workers.heartbeat(b"w") == 2
    place.workers.complete(run, b"", worker_id=b"w")
    place.workers.register(b"w", [b"a"])
    place.take()


def test_an_action_counts_its_own_workers_and_looks_at_no_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.workers.register(b"x", [b"b", b"a"])
    for number in range(9):
        place.workers.register(b"other %d" % number, [b"b"])
    looks: list[bytes] = []
    status_of = Workers.status_of

    def look(self: Workers, worker: Worker) -> int:
        looks.append(worker.id)
        return status_of(self, worker)

    monkeypatch.setattr(Workers, "status_of", look)
    place.workers.drain(b"x")
    assert place.actions.describe(b"a")["workers"] == 1 and len(looks) == 2
    place.workers.register(b"x", [b"b"])
    place.workers.deregister(b"w")
    assert place.actions.describe(b"a")["workers"] == 0 and len(looks) == 2


def test_a_worker_that_is_deregistered_keeps_its_leases_until_they_end(place: Place) -> None:
    run = place.actions.invoke(b"a", b"")
    place.take()
    got, _ = place.wait(b"w")
    place.workers.deregister(b"w")
    assert got == [None]
    place.workers.complete(run, b"out", worker_id=b"w")
    assert place.state(run) == "completed"


# -- sentences -------------------------------------------------------------------------------------


def refused(kind: type[Exception], sentence: str, call: Any, *args: Any, **options: Any) -> None:
    with pytest.raises(kind) as caught:
        call(*args, **options)
    assert str(caught.value) == sentence


def test_what_actions_refuse(place: Place) -> None:
    register, invoke = place.actions.register, place.actions.invoke
    refused(BadRequest, "the action's name is 0 bytes; it is 1 to 32000", register, b"")
    refused(BadRequest, "the action's name is 32001 bytes; it is 1 to 32000", register, b"n" * 32_001)
    refused(BadRequest, "the timeout is 0 ms; it is 1 or more", register, b"a", timeout=0)
    refused(BadRequest, "the concurrency is 0; it is 1 or more. `action pause` hands out nothing", register, b"a", concurrency=0)
    for rate in ((0, 5), (5, 0), (100_001, 5)):
        sentence = f"the rate is {rate[0]} starts in {rate[1]} ms; give 1 to 100000 starts, in 1 ms or more"
        refused(BadRequest, sentence, register, b"a", rate=rate)
    refused(BadRequest, "the description is 4097 bytes; at most 4096 are allowed", register, b"a", description=b"d" * 4097)
    refused(BadRequest, "the labels are 4097 bytes; at most 4096 are allowed", register, b"a", labels=b"d" * 4097)
    for text in (b"{", b"NaN", b'{"a":Infinity}', b"\xff"):
        refused(BadRequest, 'the labels are no JSON; give an object such as {"region": "eu"}', register, b"a", labels=text)
    refused(BadRequest, 'the labels are no JSON object; give one such as {"region": "eu"}', register, b"a", labels=b"[1]")
    for text in (b'{"a":null}', b'{"a":[1]}', b'{"a":{}}'):
        refused(BadRequest, "the label 'a' is neither a string, a number nor a boolean", register, b"a", labels=text)
    none = "there is no action 'none'; register it first"
    refused(NotFound, none, invoke, b"none", b"")
    refused(NotFound, none, place.actions.pause, b"none", True)
    refused(NotFound, none, place.actions.delete, b"none")
    refused(NotFound, none, place.actions.describe, b"none")
    refused(BadRequest, "the priority is 256; it is 0 to 255, and lower goes first", invoke, b"a", b"", priority=256)
    refused(BadRequest, "the unique key is 257 bytes; at most 256 are allowed", invoke, b"a", b"", unique_key=b"k" * 257)
    refused(BadRequest, "the concurrency key is 257 bytes; at most 256 are allowed", invoke, b"a", b"", concurrency_key=b"k" * 257)
    refused(BadRequest, "the idempotency key is 32001 bytes; at most 32000 are allowed", invoke, b"a", b"", idempotency_key=b"k" * 32_001)
    refused(BadRequest, "the traceparent is 1025 bytes; at most 1024 of ASCII are allowed", invoke, b"a", b"", traceparent=b"t" * 1025)
    refused(BadRequest, "the traceparent is 1 bytes; at most 1024 of ASCII are allowed", invoke, b"a", b"", traceparent=b"\xff")
    register(b"b", labels=b'{"gpu":true}')
    sentence = "the label 'gpu' of every run of the action is True; a run cannot have another value"
    refused(BadRequest, sentence, invoke, b"b", b"", labels=b'{"gpu":1}')


def test_what_runs_refuse(place: Place) -> None:
    actions = place.actions
    for run in (b"9999", b"x", b"", b"9" * 30):
        sentence = f"there is no run {run.decode()!r}; it may be long over: see actions.keep_age"
        for call in (actions.status, actions.result, actions.input, actions.cancel, actions.retry):
            refused(NotFound, sentence, call, run)
    run = actions.invoke(b"a", b"")
    refused(Conflict, "the run is pending; only one that has ended can be retried", actions.retry, run)
    refused(Conflict, "runs of the action have not ended: 1; cancel them, or let them end, first", actions.delete, b"a")
    place.take()
    lost = "the worker does not hold this attempt of the run any more: the report changes nothing"
    for worker, attempt in ((b"x", 0), (b"w", 2)):
        for give in (place.workers.release, place.workers.touch):
            refused(Conflict, lost, give, run, worker_id=worker, attempt=attempt)
        for report in (place.workers.complete, place.workers.fail):
            refused(Conflict, lost, report, run, b"", worker_id=worker, attempt=attempt)
    sentence = "the delay is of another attempt, for which the option retry is needed"
    refused(BadRequest, sentence, place.workers.fail, run, b"", worker_id=b"w", delay=1)
    sentence = "the progress is 4097 bytes; at most 4096 are allowed"
    refused(BadRequest, sentence, place.workers.touch, run, worker_id=b"w", progress=b"p" * 4097)
    place.workers.complete(run, b"", worker_id=b"w")
    refused(Conflict, "the run has ended: it is completed", actions.cancel, run)
    refused(BadRequest, "the state is 2; give 3 for failed, 4 for cancelled or 5 for timed out", place.retry_many, b"a", 2)


def test_what_workers_refuse(place: Place) -> None:
    workers = place.workers
    refused(BadRequest, "the worker's id is 0 bytes; it is 1 to 1024", workers.register, b"", [b"a"])
    refused(BadRequest, "the worker's id is 1025 bytes; it is 1 to 1024", workers.register, b"w" * 1025, [b"a"])
    refused(BadRequest, "the worker names 0 actions; give 1 to 1000", workers.register, b"w", [])
    refused(BadRequest, "the worker names 1001 actions; give 1 to 1000", workers.register, b"w", [b"a"] * 1001)
    sentence = "the concurrency is 0; it is 1 or more. A worker that shall get nothing is drained"
    refused(BadRequest, sentence, workers.register, b"w", [b"a"], concurrency=0)
    for ask in (workers.take, workers.heartbeat):
        refused(BadRequest, "there is no worker 'none'; register it first", ask, b"none")
    for call in (workers.drain, workers.deregister, workers.describe):
        refused(NotFound, "there is no worker 'none'", call, b"none")


def test_a_damaged_run_fails_and_holds_up_nobody(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the request of another client nor the run behind it; and who waits for its result is told."""
    place.actions.pause(b"a", True)
    damaged, good = place.actions.invoke(b"a", b""), place.actions.invoke(b"a", b"")
    got, _ = place.wait(b"w")
    told: list[int] = []
    with place.engine.batch():
        place.actions.watch(damaged, lambda: told.append(1))
    first = place.actions.first

    def read(seq: int) -> Any:
        if seq == int(damaged):
            raise Damaged("the record is damaged")
        return first(seq)

    monkeypatch.setattr(place.actions, "first", read)
    place.actions.pause(b"a", False)
    assert [each.run for each in got if each] == [good]
    assert place.actions.result(damaged) == (3, b"what the run was invoked with is damaged on the disk")
    assert told == [1]
