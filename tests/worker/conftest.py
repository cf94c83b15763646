"""Workers in threads of a test, over a server of the module."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flo import Client, Worker
from tests.support.processes import FloProcess, wait_until


@contextmanager
def running(worker: Worker, concurrency: int = 4, grace: float = 10) -> Iterator[Worker]:
    """The worker at work in a thread, and stopped at the end of the block."""
    ended: list[bool | BaseException] = []

    def work() -> None:
        try:
            ended.append(worker.run(concurrency, grace))
        except BaseException as e:
            ended.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield worker
    finally:
        wait_until(lambda: worker._service is not None or ended, "the start of a worker")
        worker.stop()
        thread.join(30)
    assert not thread.is_alive() and isinstance(ended[0], bool), ended


@pytest.fixture
def url(shared_flo: FloProcess, request: pytest.FixtureRequest) -> str:
    """The server's URL, with a namespace of this test."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:60]
    where = f"flo://127.0.0.1:{shared_flo.port}"
    with Client(where) as client:
        client.namespaces.create(name)
    return f"{where}/{name}"


@pytest.fixture
def worker(url: str) -> Iterator[Worker]:
    """A worker without handlers, in a namespace of this test."""
    made = Worker(url, name="tested")
    yield made
    made.client.close()
