"""Actions at a server: every door, kill -9, requests that wait, workers that go, long lists."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flo import calls
from flo.client import Client, TimedOut
from flo.engine.worker import STATUS
from flo.errors import BadRequest, Conflict, NotFound, Refusal
from flo.operations import BY_NAME
from flo.operations.call import Form
from flo.operations.options import RUN_STATES
from flo.operations.worker import WORKER_STATUS
from flo.proto.binary import encode_options
from flo.store.action import NAMES
from tests.support.processes import FloProcess, wait_until
from tests.support.rest import Raw, Rest, request

FOR_EVER = 0


class Waiting:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.result: Any = None
        self._call = call
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except Refusal as e:
            self.result = e

    def join(self) -> Any:
        self.thread.join(30)
        assert not self.thread.is_alive(), "it waits still"
        return self.result


def waiting(client: Client, count: int = 1) -> None:
    """Until so many requests wait at the server."""
    wait_until(lambda: client.status()["waiting"] == count, f"{count} waiting requests")


@pytest.fixture
def client(shared_flo: FloProcess) -> Iterator[Client]:
    """A client in a new namespace."""
    with Client(f"flo://127.0.0.1:{shared_flo.port}") as first:
        number = len(first.namespaces.list())
        first.namespaces.create(f"actions-{number}")
        with Client(f"flo://127.0.0.1:{shared_flo.port}/actions-{number}") as made:
            yield made
        assert first.status()["waiting"] == 0


def test_words_for_numbers_are_the_engines() -> None:
    assert RUN_STATES == NAMES
    assert WORKER_STATUS == STATUS


def test_the_life_of_a_run_and_kill_9(tmp_path: Path) -> None:
    with FloProcess(tmp_path / "data") as flo:
        with Client(f"flo://127.0.0.1:{flo.port}") as client:
            actions, workers = client.actions, client.workers
            assert actions.register("resize", timeout=60_000, labels='{"gpu": true}', description="pictures") == 1
            assert actions.register("resize", timeout=60_000, labels='{"gpu": true}') == 2
            held, done, left = (actions.invoke("resize", f"picture {at}") for at in range(3))
            workers.register("w", ["resize"], concurrency=2)
            assert workers.take("w") is None, "it has no gpu"
            workers.register("w", ["resize"], labels='{"gpu": true, "zone": 1}', concurrency=2)
            first, second = workers.take("w"), workers.take("w")
            assert first is not None and second is not None
            assert (first.run_id, first.action, first.attempt, first.lease_ms, first.input) == (held, b"resize", 1, 60_000, b"picture 0")
            assert workers.take("w") is None, "its concurrency is 2"
            assert workers.touch(done, worker_id="w", progress="half").cancelled is False
            assert actions.status(done)["progress"] == "half"
            workers.complete(done, b"\x00\xff", worker_id="w", attempt=1)
            assert actions.result(done) == ("completed", b"\x00\xff")
        flo.kill()
    with FloProcess(tmp_path / "data") as flo, Client(f"flo://127.0.0.1:{flo.port}") as client:
        actions, workers = client.actions, client.workers
        assert [actions.result(run).state for run in (held, done, left)] == ["running", "completed", "pending"]
        assert actions.result(done).output == b"\x00\xff"
        with pytest.raises(Conflict, match="does not hold"):
            workers.complete(held, "", worker_id="other")
        assert workers.fail(held, "no such picture", worker_id="w", attempt=1) == "failed"
        assert actions.result(held) == ("failed", b"no such picture")
        found = workers.take("w")
        assert found is not None and found.run_id == left
        assert workers.fail(left, "try again", worker_id="w", retry=True, delay=0) == "pending"
        again = workers.take("w")
        assert again is not None and (again.run_id, again.attempt) == (left, 2)
        workers.release(left, worker_id="w")
        status = actions.status(left)
        assert (status["status"], status["attempt"], status["failures"], status["error"]) == ("pending", 2, 1, "")
        assert [(each["number"], each["how"], each["error"]) for each in status["attempts"]] == [
            (1, "failed", "try again"),
            (2, "released", ""),
        ]
        (described,) = actions.list()
        assert described["runs"] == {"pending": 1, "running": 0, "completed": 1, "failed": 1, "cancelled": 0, "timed_out": 0}
        assert described["name"] == "resize" and described["labels"] == {"gpu": True} and described["version"] == 2


def test_bytes_in_json(client: Client) -> None:
    client.actions.register(b"\xff", description=b"\xfe")
    run = client.actions.invoke(b"\xff")
    client.workers.register(b"w\xfd", [b"\xff"])
    assert client.workers.take(b"w\xfd") is not None
    status = client.actions.status(run)
    assert (status["action"], status["worker"]) == ({"base64": "/w=="}, {"base64": "d/0="})
    assert client.actions.list_page(b"\xff")["actions"][0]["description"] == {"base64": "/g=="}
    assert [each["worker_id"] for each in client.workers.list()] == [{"base64": "d/0="}]


# -- waits -----------------------------------------------------------------------------------------


def test_all_who_wait_for_a_result_are_told(client: Client) -> None:
    client.actions.register("a")
    client.workers.register("w", ["a"])
    run = client.actions.invoke("a")
    waits = [Waiting(lambda: client.actions.result(run, block=FOR_EVER)) for _ in range(3)]
    waiting(client, 3)
    assert client.actions.result(run, block=20) == ("pending", b""), "its time is up"
    assert client.workers.take("w") is not None
    assert client.actions.result(run, block=20) == ("running", b"")
    client.workers.complete(run, "done", worker_id="w")
    assert [each.join() for each in waits] == [("completed", b"done")] * 3
    assert client.actions.result(run, block=FOR_EVER) == ("completed", b"done"), "at once"


def test_cancel_while_waiting(client: Client) -> None:
    client.actions.register("a")
    client.workers.register("w", ["a"])
    run = client.actions.invoke("a")
    assert client.workers.take("w") is not None
    result = Waiting(lambda: client.actions.result(run, block=FOR_EVER))
    next_one = Waiting(lambda: client.workers.take("w", block=FOR_EVER))
    waiting(client, 2)
    second = client.actions.invoke("a", "second")
    assert client.actions.status(second)["status"] == "pending", "the worker's concurrency is 1"
    client.actions.cancel(run)
    assert result.join() == ("cancelled", b"")
    assert next_one.join().run_id == second, "a cancelled run frees its place at once"
    assert client.workers.touch(run, worker_id="w").cancelled
    with pytest.raises(Conflict):
        client.workers.complete(run, "", worker_id="w")
    client.actions.cancel(run)
    assert client.actions.result(run).state == "cancelled"


def test_workers_are_served_in_the_order_they_came(client: Client) -> None:
    client.actions.register("a")
    waits = []
    for at in range(3):
        client.workers.register(f"w{at}", ["a"])
        waits.append(Waiting(lambda at=at: client.workers.take(f"w{at}", block=FOR_EVER)))  # type: ignore[misc]
        waiting(client, at + 1)
    runs = [client.actions.invoke("a") for _ in range(3)]
    assert [each.join().run_id for each in waits] == runs


def test_a_wait_that_ends_takes_no_run(client: Client) -> None:
    """By its time, by its connection, by draining, by deregistering."""
    client.actions.register("a")
    client.workers.register("w", ["a"])
    assert client.workers.take("w", block=20) is None
    with Client(f"flo://127.0.0.1:{client.port}/{client.namespace}", timeout=0.05) as gone:
        call = calls.worker_take("w", block=60_000)
        call.waits = None  # the client gives up
        with pytest.raises(TimedOut):
            gone.run(call)
    waiting(client, 0)
    early = client.actions.invoke("a")
    assert client.actions.result(early).state == "pending", "whoever asked for it is gone"
    client.actions.cancel(early)
    drained = Waiting(lambda: client.workers.take("w", block=FOR_EVER))
    waiting(client)
    client.workers.drain("w")
    assert drained.join() is None
    assert client.workers.take("w", block=FOR_EVER) is None, "at once"
    assert client.workers.heartbeat("w") == "draining"
    client.workers.register("w", ["a"])
    forgotten = Waiting(lambda: client.workers.take("w", block=FOR_EVER))
    waiting(client)
    client.workers.deregister("w")
    assert forgotten.join() is None
    with pytest.raises(BadRequest, match="register it first"):
        client.workers.take("w", block=FOR_EVER)
    run = client.actions.invoke("a")
    assert client.actions.result(run).state == "pending", "none of them has it"
    client.workers.register("w", ["a"])
    found = client.workers.take("w", block=FOR_EVER)
    assert found is not None and found.run_id == run


def test_a_namespace_is_deleted_while_requests_wait(shared_flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{shared_flo.port}") as first:
        first.namespaces.create("going")
        with Client(f"flo://127.0.0.1:{shared_flo.port}/going") as client:
            client.workers.register("w", ["a"])
            wait = Waiting(
                lambda: client.run(
                    calls.Call(
                        Form(BY_NAME["worker_await"], lambda _: None), b"w", b"", encode_options(BY_NAME["worker_await"], {"block": 0}), 0
                    )
                )
            )
            waiting(first)
            first.namespaces.delete("going")
            assert isinstance(wait.join(), NotFound) and "namespace was deleted" in str(wait.result)


def test_a_lease_that_runs_out_counts_as_a_failure(client: Client) -> None:
    client.actions.register("a", timeout=30, max_attempts=2, retry_delay=0)
    client.workers.register("w", ["a"])
    run = client.actions.invoke("a")
    assert client.workers.take("w") is not None
    again = client.workers.take("w", block=FOR_EVER)
    assert again is not None and (again.run_id, again.attempt) == (run, 2)
    assert client.actions.result(run, block=FOR_EVER) == ("timed_out", b"the lease ran out")
    with pytest.raises(Conflict):
        client.workers.complete(run, "late", worker_id="w", attempt=2)
    assert client.actions.result(run).state == "timed_out"


# -- lists -----------------------------------------------------------------------------------------


def test_long_lists_page_by_page(client: Client) -> None:
    many = client.run_many([calls.action_register(f"a{at:03}") for at in range(130)])
    assert many == [1] * 130
    assert [each["name"] for each in client.actions.list()] == [f"a{at:03}" for at in range(130)]
    page = client.actions.list_page()
    assert len(page["actions"]) == 100 and page["cursor"]
    runs: list[str] = client.run_many([calls.action_invoke("a001", str(at), labels=f'{{"odd": {at % 2}}}') for at in range(2300)])
    assert [each["run_id"] for each in client.actions.runs("a001")] == runs[::-1]
    assert [each["run_id"] for each in client.actions.runs(labels='{"odd": 1}')] == runs[::-2]
    assert not list(client.actions.runs(labels='{"odd": true}')), "true is not 1"
    assert not list(client.actions.runs("a002"))
    cancelled = client.run_many([calls.action_cancel(run) for run in runs[:2000]])
    assert cancelled == [None] * 2000
    assert [each["run_id"] for each in client.actions.runs(state="pending")] == runs[:1999:-1]
    first = client.actions.retry_page("a001", "cancelled", limit=10)
    assert first.retried == 10 and first.cursor
    answered = time.time()
    wait_until(lambda: time.time() > answered + 0.002, "another millisecond")
    client.actions.retry(runs[1985])
    client.actions.cancel(runs[1985])
    rest = client.actions.retry_page("a001", "cancelled", limit=10, cursor=first.cursor)
    assert rest.retried == 9, "what has ended since the first request is left out"
    assert client.actions.retry_many("a001", "cancelled", labels='{"odd": 0}') == 990
    assert [each["run_id"] for each in client.actions.runs(state="cancelled")] == [runs[1985], *runs[1979:0:-2]]
    client.run_many([calls.worker_register(f"w{at:03}", ["a001"]) for at in range(120)])
    assert [each["worker_id"] for each in client.workers.list()] == [f"w{at:03}" for at in range(120)]


def test_cursors_and_states_of_others_are_refused(client: Client) -> None:
    client.actions.register("a")
    for name, key, options in (
        ("action_runs", b"", {"cursor": b"a12345678"}),
        ("action_runs", b"", {"cursor": b"r1"}),
        ("action_retry_many", b"a", {"cursor": b"r12345678", "state": 3}),
        ("action_list", b"", {"cursor": b"w"}),
        ("worker_list", b"", {"cursor": b"a"}),
        ("action_runs", b"", {"state": 6}),
        ("action_retry_many", b"a", {"state": 1}),
    ):
        with pytest.raises(BadRequest, match=r"cursor of|the state is"):
            client.run(calls.Call(Form(BY_NAME[name], bytes), key, b"", encode_options(BY_NAME[name], options)))


# -- other doors -----------------------------------------------------------------------------------


def test_rest(client: Client) -> None:
    space = client.namespace
    name = "r\u00e9sum\u00e9%\r\nX-Evil: 1"
    path = "r%C3%A9sum%C3%A9%25%0D%0AX-Evil:%201"
    with Rest(client.port) as rest:
        made = rest.ask("PUT", f"/api/v1/actions/{space}/{path}?timeout=5000&rate=9/1000")
        assert (made.status, made.json) == (200, {"version": 1})
        assert rest.ask("PUT", f"/api/v1/actions/{space}/{path}?rate=9").sentence == "rate is '9'; it is starts/ms, such as 10/1000"
        asked = rest.ask("POST", f"/api/v1/actions/{space}/{path}/invoke", b"\x00\xff", idempotency_key="once")
        run = asked.body.decode()
        assert asked.status == 200 and run.isdigit()
        assert rest.ask("POST", f"/api/v1/actions/{space}/{path}/invoke", b"2", idempotency_key="once").body.decode() == run
        pending = rest.ask("GET", f"/api/v1/runs/{space}/{run}/result")
        assert (pending.status, pending.body, pending.headers["flo-state"]) == (202, b"", "pending")
        assert "content-type" not in pending.headers
        rest.send_json("PUT", f"/api/v1/workers/{space}/w?concurrency=2", {"actions": [name]})
        got = rest.ask("POST", f"/api/v1/workers/{space}/w/await?block=1000")
        assert (got.status, got.body, got.headers["flo-run-id"], got.headers["flo-attempt"]) == (200, b"\x00\xff", run, "1")
        assert got.headers["flo-action"] == path.replace("%20", "%20") and "x-evil" not in got.headers
        assert rest.ask("POST", f"/api/v1/workers/{space}/w/await").status == 404
        assert rest.ask("POST", f"/api/v1/runs/{space}/{run}/complete", b"out").status == 400, "it says no worker"
        running = rest.ask("GET", f"/api/v1/runs/{space}/{run}/result?block=20")
        assert (running.status, running.headers["flo-state"]) == (202, "running")
        assert rest.ask("POST", f"/api/v1/runs/{space}/{run}/complete?worker_id=w", b"out\xff").status == 204
        done = rest.ask("GET", f"/api/v1/runs/{space}/{run}/result")
        assert (done.status, done.body, done.headers["flo-state"]) == (200, b"out\xff", "completed")
        assert rest.ask("GET", f"/api/v1/runs/{space}?state=completed").json["runs"][0]["run_id"] == run
        assert "one of pending, running" in rest.ask("GET", f"/api/v1/runs/{space}?state=2").sentence
        assert rest.ask("HEAD", f"/api/v1/runs/{space}/{run}/result").headers["flo-state"] == "completed"


def test_a_client_of_rest_goes_while_it_waits(client: Client) -> None:
    client.actions.register("a")
    client.workers.register("w", ["a"])
    with Raw(client.port) as raw:
        raw.send(request("POST", f"/api/v1/workers/{client.namespace}/w/await?block=60000"))
        waiting(client)
    waiting(client, 0)
    run = client.actions.invoke("a")
    assert client.actions.result(run).state == "pending"


def test_resp(client: Client, shared_flo: FloProcess) -> None:
    with shared_flo.connect() as resp, shared_flo.connect() as other:
        for each in (resp, other):
            assert each.command("USE", client.namespace) == b"OK"
        assert "no action 'a'" in str(resp.command("ACTION", "INVOKE", "a", "x"))
        client.actions.register("a")
        client.workers.register("w", ["a"])
        words = ("PRIORITY", "3", "IDEMPOTENCY", "i", "UNIQUE", "u", "KEY", "c", "TRACEPARENT", "00-a")
        run = resp.command("ACTION", "INVOKE", "a", "in", *words, "LABELS", "{}", "DELAY", "0")
        assert resp.command("action", "invoke", "a", "in", "unique", "u") == run
        assert json.loads(resp.command("ACTION", "STATUS", run))["priority"] == 3
        assert resp.command("ACTION", "RESULT", run) == [b"pending", b""]
        assert resp.command("ACTION", "RESULT", run, "BLOCK", "20") == [b"pending", b""]
        wait = Waiting(lambda: other.command("ACTION", "RESULT", run, "BLOCK", "0"))
        waiting(client)
        assert client.workers.take("w") is not None
        client.workers.complete(run, "out", worker_id="w")
        assert wait.join() == [b"completed", b"out"]
        assert resp.command("ACTION", "RETRY", run) == 1
        assert resp.command("ACTION", "CANCEL", run) == 1
        assert [resp.command("ACTION", word, "0") for word in ("STATUS", "RESULT", "CANCEL", "RETRY")] == [None, None, 0, 0]
        client.actions.register("b")
        cursor, (first,) = resp.command("ACTION", "LIST", "LIMIT", "1")
        assert json.loads(first)["name"] == "a"
        assert resp.command("ACTION", "LIST", "CURSOR", cursor)[0] == b""
        resp.command("ACTION", "INVOKE", "b", "x")
        cursor, (first,) = resp.command("ACTION", "RUNS", "", "LIMIT", "1")
        assert json.loads(first)["action"] == "b"
        cursor, rest = resp.command("ACTION", "RUNS", "", "STATE", "cancelled", "CURSOR", cursor)
        assert cursor == b"" and [json.loads(each)["run_id"].encode() for each in rest] == [run]
        assert resp.command("ACTION", "RUNS", "a", "STATE", "failed", "LABELS", "{}") == [b"", []]
        for wrong in (("LIMIT", "0"), ("CURSOR", "?"), ("STATE", "gone"), ("LIMIT",), ("WHAT", "1")):
            assert isinstance(resp.command("ACTION", "RUNS", "a", *wrong), Exception), wrong
