"""Actions whose handlers are functions, over a server."""

import asyncio
import json
import threading
import time
from typing import Any

import pytest

import flo.aio
from flo import NonRetryable, Snooze, Worker
from flo.errors import NotFound
from flo.worker import Context, Run, RunCancelled, RunFailed, RunTimedOut, context
from tests.support.processes import wait_until
from tests.worker.conftest import running


def test_a_function_is_called_and_invoked(worker: Worker) -> None:
    @worker.action("add")
    def add(a: int, b: int = 10) -> dict[str, int]:
        """Add."""
        return {"sum": a + b}

    @worker.action("wait")
    async def wait(*, name: str) -> str:
        await asyncio.sleep(0)
        return f"waited for {name}"

    assert add(1) == {"sum": 11} and add.__doc__ == "Add." and asyncio.run(wait(name="Ada")) == "waited for Ada"
    with pytest.raises(NotFound):
        add.invoke(1)
    worker.register()
    early = add.invoke(1, b=2)
    with running(worker):
        assert early.result(10) == {"sum": 3}
        assert wait.invoke(name="Ada").result(10) == "waited for Ada"
        assert add.run(early.id).result(10) == {"sum": 3}
        # as other programs say it, and read it
        client = worker.client
        other = client.actions.invoke("add", '{"a": 5}')
        assert client.actions.result(other, block=10_000) == ("completed", b'{"sum":15}')
    assert worker.counts["done"] == 3
    assert not list(worker.client.workers.list())


def test_bytes_travel_as_they_are(worker: Worker) -> None:
    @worker.action("mirror")
    def mirror(ctx: Context, input: bytes) -> bytes:
        return input[::-1]

    worker.register()
    with running(worker):
        run = mirror.invoke(b"\x00\xff")
        assert run.result(10) == b"\xff\x00" and worker.client.actions.input(run.id) == b"\x00\xff"
    with pytest.raises(TypeError, match="give bytes"):
        mirror.invoke("text")  # type: ignore[arg-type]


def test_raising_tries_again_and_non_retryable_does_not(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    attempts: list[int] = []

    @worker.action("third", max_attempts=3, retry_delay=1)
    def third() -> int:
        attempts.append(context().attempt)
        if len(attempts) < 3:
            raise ValueError(f"not the {len(attempts)}th time")
        return len(attempts)

    @worker.action("never", max_attempts=2, retry_delay=1)
    async def never() -> None:
        raise KeyError("never")

    @worker.action("refused", max_attempts=50)
    def refused() -> None:
        raise NonRetryable("the address does not exist")

    worker.register()
    with running(worker):
        assert third.invoke().result(10) == 3 and attempts == [1, 2, 3]
        failed = never.invoke()
        with pytest.raises(RunFailed, match="KeyError: 'never'") as caught:
            failed.result(10)
        assert "in never" in caught.value.error and failed.status()["failures"] == 2
        last = refused.invoke()
        with pytest.raises(RunFailed, match="the address does not exist"):
            last.result(10)
        assert last.status()["attempt"] == 1
    assert worker.counts | {"done": 0} == {"done": 0, "failed": 4, "refused": 1, "snoozed": 0, "given back": 0, "lost": 0}
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [f"refused {last.id}, attempt 1: refused"]


def test_arguments_and_results_that_do_not_fit_fail_at_once(worker: Worker) -> None:
    @worker.action("one", max_attempts=50)
    def one(n: int) -> Any:
        return {n} if n else float("nan")

    worker.register()
    with pytest.raises(TypeError, match=r"an argument of one\(\) cannot be carried: .*bytes.*JSON carries text"):
        one.invoke(b"1")
    with pytest.raises(TypeError, match="missing a required argument"):
        one.invoke()
    with running(worker):
        for given, sentence in (
            (b"[1]", "the input is a JSON list"),
            (b"{", "the input is not JSON"),
            (b'{"m": 1}', "does not fit"),
            (b'{"n": 1}', "the result of one.*set"),
            (b'{"n": 0}', "the result of one.*Out of range"),
        ):
            run: Run[Any] = one.run(worker.client.actions.invoke("one", given))
            with pytest.raises(RunFailed, match=sentence):
                run.result(10)
            assert run.status()["attempt"] == 1


def test_snooze_is_no_failure(worker: Worker) -> None:
    times: list[float] = []

    @worker.action("later", max_attempts=1)
    def later() -> int:
        times.append(time.monotonic())
        if len(times) < 3:
            raise Snooze(0.2)
        return context().attempt

    @worker.action("wrong", max_attempts=1)
    def wrong(seconds: float) -> None:
        raise Snooze(seconds)

    @worker.action("silent", max_attempts=1)
    def silent() -> None:
        class Broken(Exception):
            def __str__(self) -> str:
                raise ValueError

        raise Broken

    worker.register()
    with running(worker, concurrency=1):
        with pytest.raises(RunFailed, match="a snooze of -1 s; give 0 to"):
            wrong.invoke(-1).result(10)
        with pytest.raises(RunFailed, match="Broken: its text cannot be shown"):
            silent.invoke().result(10)
        run = later.invoke()
        assert run.result(10) == 3 and run.status()["failures"] == 0
    assert min(times[1] - times[0], times[2] - times[1]) >= 0.2
    assert worker.counts["snoozed"] == 2


def test_options_of_an_invocation(worker: Worker) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    @worker.action("inner")
    def inner() -> str:
        return context().traceparent

    @worker.action("outer")
    def outer() -> str:
        return inner.invoke().id

    worker.register()
    plain = inner.options(priority=7, labels={"region": "eu"})
    first, second = (plain.options(idempotency_key="once").invoke().id for _ in range(2))
    assert first == second and inner.options(idempotency_key="once").invoke().id == first != inner.invoke().id
    assert inner.run(first).status()["priority"] == 7 and inner.run(first).status()["labels"] == {"region": "eu"}
    assert inner.options(unique_key="u").invoke().id == inner.options(unique_key="u").invoke().id
    assert inner.options(delay=60_000).invoke().status()["not_before"] > time.time() * 1000
    with running(worker):
        run = outer.options(traceparent=trace, concurrency_key="k").invoke()
        assert inner.run(run.result(10)).result(10) == trace  # a handler's invocations carry its own
        with pytest.raises(TimeoutError):
            inner.run(first).result(0.01)  # this worker does not have the label
    eu = Worker(worker.url, labels={"region": "eu", "gpu": True})
    eu.action("inner")(inner.function)
    with running(eu):
        assert inner.run(first).result(10) == ""


def test_progress_and_cancelled_are_seen(worker: Worker) -> None:
    begun, release = threading.Event(), threading.Event()

    @worker.action("long", timeout=600)
    def long(ctx: Context) -> str:
        ctx.progress("ä" * 5000)
        begun.set()
        wait_until(lambda: ctx.cancelled, "the cancellation")
        release.wait(10)
        return "for nothing"

    worker.register()
    with running(worker):
        run = long.invoke()
        assert begun.wait(10)
        wait_until(lambda: run.status()["progress"] == "ä" * 2048, "the progress")
        run.cancel()
        with pytest.raises(RunCancelled):
            run.result(10)
        release.set()
        wait_until(lambda: worker.counts["lost"] == 1, "a report that is dropped")
    assert run.status()["status"] == "cancelled" and worker.counts["done"] == 0


def test_actions_are_invoked_from_asyncio(worker: Worker) -> None:
    @worker.action("double")
    def double(n: int) -> int:
        return 2 * n

    @worker.action("fail", max_attempts=1)
    async def fail() -> None:
        raise ValueError("as it is told")

    @worker.action("outer")
    async def outer(n: int) -> int:
        """A handler that invokes, and waits without holding the event loop up."""
        async with flo.aio.Client(worker.url) as client:
            return await (await double.via(client).invoke(n)).result(10)

    @worker.action("traced")
    def traced() -> str:
        return context().traceparent

    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    @worker.action("tracing")
    async def tracing() -> str:
        async with flo.aio.Client(worker.url) as client:
            return await (await traced.via(client).invoke()).result(10)

    async def use() -> None:
        async with flo.aio.Client(worker.url) as client:
            runs = await asyncio.gather(*[double.via(client).invoke(n) for n in range(50)])
            assert await asyncio.gather(*[run.result(10) for run in runs]) == [2 * n for n in range(50)]
            assert await double.via(client).run(runs[7].id).result() == 14
            once = double.options(idempotency_key="once").via(client)
            assert (await once.invoke(1)).id == (await once.invoke(2)).id
            with pytest.raises(RunFailed, match="as it is told"):
                await (await fail.via(client).invoke()).result(10)
            assert await (await outer.via(client).invoke(21)).result(10) == 42
            assert await (await tracing.options(traceparent=parent).via(client).invoke()).result(10) == parent
            with pytest.raises(TypeError):
                await double.via(client).invoke("a", "b")  # type: ignore[call-arg, arg-type]
            later = await double.options(delay=60_000).via(client).invoke(1)
            with pytest.raises(TimeoutError, match=r"is pending after 0\.05 s"):
                await later.result(0.05)
            waiting = asyncio.create_task(later.result())
            await asyncio.sleep(0)
            waiting.cancel()
            assert (await later.status())["status"] == "pending"
            await later.cancel()
            with pytest.raises(RunCancelled):
                await later.result()

    worker.register()
    with running(worker, concurrency=2):
        asyncio.run(use())


def test_a_run_without_a_worker_times_out(worker: Worker) -> None:
    @worker.action("slow", timeout=1, max_attempts=1)
    def slow() -> None:
        """Never runs."""

    worker.register()
    client = worker.client
    run = slow.invoke()
    client.workers.register("lame", ["slow"])
    assert client.workers.take("lame") is not None
    with pytest.raises(RunTimedOut):
        run.result(10)


def test_only_what_is_named_is_registered(worker: Worker) -> None:
    def register(**settings: Any) -> dict[str, Any]:
        made = Worker(worker.url)
        made.action("report", **settings)(lambda: None)
        made.register()
        made.client.close()
        found: dict[str, Any] = worker.client.actions.list_page("report")["actions"][0]
        return found

    first = register(max_attempts=7, labels={"b": 1, "a": "x"}, rate=(5, 1000))
    assert (first["max_attempts"], first["rate"], first["version"]) == (7, {"starts": 5, "ms": 1000}, 1)
    worker.client.actions.register("report", max_attempts=7, labels=json.dumps(first["labels"]), rate=(5, 1000), timeout=5000)
    again = register(max_attempts=7, labels={"a": "x", "b": 1}, rate=(5, 1000))
    assert again["version"] == 2 and again["timeout_ms"] == 5000  # nothing differs: an operator's timeout stays
    later = register(concurrency=3)
    assert later == {**again, "version": 3, "concurrency": 3}


def test_handlers_that_cannot_be(worker: Worker) -> None:
    with pytest.raises(TypeError, match="cannot be given by its name"):
        worker.action("a")(lambda *args: None)
    with pytest.raises(TypeError, match="is to take one argument"):
        worker.queue("q")(lambda: None)
    worker.action("a")(lambda: None)
    with pytest.raises(ValueError, match="has a handler already"):
        worker.action("a")(lambda: None)
    worker.stream("s", group="g")(lambda payload: None)
    with pytest.raises(ValueError, match="has a handler of this worker already"):
        worker.stream("s", group="g")(lambda payload: None)
    with pytest.raises(LookupError, match="for handlers"):
        context()
