"""APScheduler 3 on Flo: `FloJobStore` keeps each job in a key of its own.

A value is the time of the job's next run (microseconds since 1970; the highest number for a paused job) and the job's state as a pickle. So
a scan that asks for the first eight bytes of each value finds which jobs are due, and adding, changing and removing a job are one operation
each.
"""

import pickle
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any

from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore, ConflictingIdError, JobLookupError

from flo import calls
from flo.client import Client
from flo.client.settings import DEFAULT_URL
from flo.contrib.leases import PerProcess
from flo.errors import Conflict
from flo.limits import LIST_ITEMS_MAX

TIME = Struct("<q")
PAUSED = (1 << 63) - 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FloJobStore(BaseJobStore):
    """A job store on Flo. As with every store of APScheduler 3, one scheduler runs its jobs."""

    def __init__(self, url: str = DEFAULT_URL, *, prefix: str = "apscheduler.jobs", **options: Any) -> None:
        """Keys are `PREFIX:ID`. Other options are those of `flo.Client`."""
        super().__init__()
        self._client = PerProcess(lambda: Client(url, **options))
        self._prefix = f"{prefix}:"

    def lookup_job(self, job_id: str) -> Job | None:
        """The job with this id, or None."""
        entry = self._client.get().kv.get(self._prefix + job_id)
        return None if entry is None else self._job(entry.value)

    def get_due_jobs(self, now: datetime) -> list[Job]:
        """The jobs whose time has come, the earliest first."""
        return self._jobs([key for time, key in self._times() if time <= _microseconds(now)])

    def get_next_run_time(self) -> datetime | None:
        """The earliest time of a job; None if there is none, or all are paused."""
        time = min((time for time, _ in self._times()), default=PAUSED)
        return None if time == PAUSED else EPOCH + timedelta(microseconds=time)

    def get_all_jobs(self) -> list[Job]:
        """All jobs, the earliest first, paused ones last."""
        return self._jobs([key for _, key in self._times()])

    def add_job(self, job: Job) -> None:
        """Add a job. Raises `ConflictingIdError`."""
        try:
            self._client.get().kv.put(self._prefix + job.id, self._value(job), if_absent=True)
        except Conflict:
            raise ConflictingIdError(job.id) from None

    def update_job(self, job: Job) -> None:
        """Replace a job. Raises `JobLookupError`."""
        try:
            self._client.get().kv.put(self._prefix + job.id, self._value(job), if_present=True)
        except Conflict:
            raise JobLookupError(job.id) from None

    def remove_job(self, job_id: str) -> None:
        """Remove a job. Raises `JobLookupError`."""
        if self._client.get().kv.delete(self._prefix + job_id) is None:
            raise JobLookupError(job_id)

    def remove_all_jobs(self) -> None:
        """Remove every job."""
        self._client.get().run_many([calls.kv_delete(key) for _, key in self._times()])

    def shutdown(self) -> None:
        """Close the connections."""
        self._client.get().close()

    def _times(self) -> list[tuple[int, bytes]]:
        """(the time of its next run, its key) of every job, the earliest first."""
        found, cursor = [], b""
        while True:
            page = self._client.get().kv.scan_page(self._prefix, limit=LIST_ITEMS_MAX, cursor=cursor, clip=TIME.size)
            found += [(TIME.unpack(value)[0], key) for key, value in page.items]
            cursor = page.cursor
            if not cursor:
                return sorted(found)

    def _jobs(self, keys: list[bytes]) -> list[Job]:
        """The jobs with these keys. One that cannot be restored is removed, as other stores do."""
        jobs = []
        for key, entry in zip(keys, self._client.get().run_many([calls.kv_get(key) for key in keys]), strict=True):
            try:
                jobs += [] if entry is None else [self._job(entry.value)]
            except Exception:
                self._logger.exception('Unable to restore job "%s" -- removing it', key.decode()[len(self._prefix) :])
                self._client.get().kv.delete(key)
        return jobs

    def _job(self, value: bytes) -> Job:
        job = Job.__new__(Job)
        job.__setstate__(pickle.loads(value[TIME.size :]))
        job._scheduler, job._jobstore_alias = self._scheduler, self._alias
        return job

    def _value(self, job: Job) -> bytes:
        time = PAUSED if job.next_run_time is None else _microseconds(job.next_run_time)
        return TIME.pack(time) + pickle.dumps(job.__getstate__(), pickle.HIGHEST_PROTOCOL)


def _microseconds(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)
