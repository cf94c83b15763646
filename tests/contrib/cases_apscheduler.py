"""APScheduler 3 on Flo, with its scheduler. Runs in the frameworks' environment: tests/contrib/test_frameworks.py."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

from flo import Client
from flo.contrib.apscheduler import FloJobStore
from tests.contrib.kills import own_namespace
from tests.support.processes import FloProcess, wait_until

RAN: list[str] = []
LATER = datetime(2999, 1, 1, tzinfo=UTC)


def note(word: str) -> None:
    """The job."""
    RAN.append(word)


@pytest.fixture
def url(shared_flo: FloProcess, request: pytest.FixtureRequest) -> str:
    """A namespace of this test's own."""
    return own_namespace(shared_flo, request)


@pytest.fixture
def scheduler(url: str) -> Iterator[BackgroundScheduler]:
    """A scheduler that is paused: it has started its store, and runs nothing."""
    scheduler = scheduler_on(url)
    scheduler.start(paused=True)
    yield scheduler
    scheduler.shutdown()


def scheduler_on(url: str) -> BackgroundScheduler:
    RAN.clear()
    return BackgroundScheduler(jobstores={"default": FloJobStore(url)}, timezone="UTC")


def store_of(scheduler: BackgroundScheduler) -> Any:
    return scheduler._jobstores["default"]


def test_jobs_run_and_outlive_their_scheduler(url: str) -> None:
    first = scheduler_on(url)
    first.start()
    first.add_job(note, "date", run_date=datetime.now(UTC) + timedelta(seconds=0.2), args=["once"])
    first.add_job(note, "interval", seconds=0.2, args=["often"], id="often")
    wait_until(lambda: "once" in RAN and RAN.count("often") >= 2, "the jobs")
    first.shutdown()
    second = scheduler_on(url)
    second.start()
    assert [job.id for job in second.get_jobs()] == ["often"]
    wait_until(lambda: RAN.count("often") >= 2, "the job of the first scheduler")
    second.shutdown()


def test_the_order_of_jobs(scheduler: BackgroundScheduler) -> None:
    store = store_of(scheduler)
    assert store.get_next_run_time() is None and store.get_all_jobs() == []
    for word, days in (("c", 3), ("a", 1), ("b", 2)):
        scheduler.add_job(note, "date", run_date=LATER + timedelta(days=days, microseconds=days), args=[word], id=word)
    scheduler.add_job(note, "interval", days=1, args=["paused"], id="paused", next_run_time=None)
    assert [job.id for job in scheduler.get_jobs()] == ["a", "b", "c", "paused"]
    assert store.get_next_run_time() == LATER + timedelta(days=1, microseconds=1)
    assert [job.id for job in store.get_due_jobs(LATER + timedelta(days=2, microseconds=2))] == ["a", "b"]
    assert store.get_due_jobs(LATER) == []
    scheduler.pause_job("a")
    assert store.get_next_run_time() == LATER + timedelta(days=2, microseconds=2)
    scheduler.resume_job("paused")
    assert scheduler.get_jobs()[0].id == "paused"
    scheduler.remove_all_jobs()
    assert scheduler.get_jobs() == []


def test_ids(scheduler: BackgroundScheduler) -> None:
    scheduler.add_job(note, "date", run_date=LATER, args=["one"], id="é")
    with pytest.raises(ConflictingIdError):
        scheduler.add_job(note, "date", run_date=LATER, args=["two"], id="é")
    scheduler.add_job(note, "date", run_date=LATER, args=["three"], id="é", replace_existing=True)
    job = store_of(scheduler).lookup_job("é")
    assert job.args == ("three",)
    scheduler.remove_job("é")
    assert store_of(scheduler).lookup_job("é") is None
    with pytest.raises(JobLookupError):
        scheduler.remove_job("é")
    with pytest.raises(JobLookupError):
        store_of(scheduler).update_job(job)


def test_a_job_that_cannot_be_restored_is_removed(url: str, scheduler: BackgroundScheduler, caplog: pytest.LogCaptureFixture) -> None:
    scheduler.add_job(note, "date", run_date=LATER, args=["good"], id="good")
    scheduler.add_job(note, "date", run_date=LATER, args=["bad"], id="bad")
    with Client(url) as client:
        entry = client.kv.get("apscheduler.jobs:bad")
        assert entry is not None
        client.kv.put("apscheduler.jobs:bad", entry.value[:20])
        with caplog.at_level(logging.ERROR):
            assert [job.id for job in scheduler.get_jobs()] == ["good"]
        assert not client.kv.exists("apscheduler.jobs:bad")
    assert 'restore job "bad"' in caplog.text


def test_more_jobs_than_one_page(scheduler: BackgroundScheduler) -> None:
    store = store_of(scheduler)
    job = scheduler.add_job(note, "date", run_date=LATER, args=["many"], id="0")
    value = store._value(job)
    with store._client.get() as client:
        client.kv.batch_put([(f"apscheduler.jobs:{number}", value) for number in range(1500)])
    assert len(scheduler.get_jobs()) == 1500
    scheduler.remove_all_jobs()
    assert scheduler.get_jobs() == []
