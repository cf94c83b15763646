"""The result backend: results, errors, states, groups, waiting by pub/sub. Chords do not work: they need sorted sets"""

import sys

from celery import Celery, group
from celery.contrib.testing.worker import start_worker
from celery.exceptions import CeleryError

app = Celery("test", broker="memory://", backend=f"redis://127.0.0.1:{sys.argv[1]}/0")
app.conf.update(worker_hijack_root_logger=False, result_expires=100, task_track_started=True, result_extended=True)


@app.task
def add(one: int, two: int) -> int:
    return one + two


@app.task
def fail() -> None:
    raise ValueError("on purpose")


with start_worker(app, perform_ping_check=False, pool="threads", concurrency=2, shutdown_timeout=20):
    result = add.delay(2, 3)
    assert result.get(timeout=20) == 5 and result.state == "SUCCESS" and result.name.endswith("add")
    broken = fail.delay()
    try:
        broken.get(timeout=20)
    except (ValueError, CeleryError) as e:
        assert "on purpose" in str(e)
    else:
        raise AssertionError("a failed task has a result")
    assert broken.state == "FAILURE" and "on purpose" in broken.traceback
    many = group(add.s(number, number) for number in range(20))()
    assert many.get(timeout=20) == [2 * number for number in range(20)]
    many.save()
    assert app.GroupResult.restore(many.id).successful()
    assert app.backend.client.ttl(f"celery-task-meta-{result.id}") > 0
    result.forget()
    assert app.AsyncResult(result.id).state == "PENDING"
