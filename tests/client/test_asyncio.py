"""flo.aio.Client: many tasks on one connection, cancellation, event loops."""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flo import aio, calls
from flo.aio import Client
from flo.client import KeyCalls
from flo.errors import Conflict, Disconnected, Forked, TimedOut
from flo.proto.binary import encode_response
from tests.client.test_program import in_child
from tests.support.processes import FloProcess
from tests.support.scripted_server import Peer, ScriptedServer

pytestmark = pytest.mark.computes

TASKS = 1000
VERSION = (7).to_bytes(8, "little")


@asynccontextmanager
async def connected(server: FloProcess | ScriptedServer, **settings: Any) -> AsyncIterator[Client]:
    """A client."""
    async with Client(f"flo://127.0.0.1:{server.port}", **settings) as client:
        yield client


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Look until the condition holds."""
    async with asyncio.timeout(30):
        while not (found := await condition()):
            await asyncio.sleep(0.002)
    return found


def in_loop(main: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Run it; asyncio may complain of nothing that was left."""
    complaints: list[Any] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await main()
        await asyncio.sleep(0)

    asyncio.run(watched(), debug=False)
    assert not complaints


def test_a_thousand_tasks_on_one_connection(flo: FloProcess) -> None:
    async def main() -> None:
        async with connected(flo) as client:

            async def work(number: int) -> None:
                await client.kv.put(f"k{number}", json=number)
                entry = await client.kv.get(f"k{number}")
                assert entry is not None and entry.json() == number
                await client.kv.incr("sum", number)
                await client.queues.enqueue("q", str(number))
                (message,) = await client.queues.dequeue("q")
                assert await client.queues.ack("q", message) == 1

            await asyncio.gather(*[work(number) for number in range(TASKS)])
            entry = await client.kv.get("sum")
            assert entry is not None and int(entry.value) == sum(range(TASKS))
            assert [name async for name, _ in client.kv.scan("k", keys_only=True)] == sorted(b"k%d" % n for n in range(TASKS))
            assert (await client.status())["connections"] == 1

    in_loop(main)


def test_waits_of_many_tasks_share_the_connection(flo: FloProcess) -> None:
    async def main() -> None:
        async with connected(flo) as client:
            waits = [asyncio.create_task(client.queues.dequeue("q", block=0)) for _ in range(50)]
            watch = asyncio.create_task(client.kv.wait("k"))
            await until(lambda: waiting(client, 51))
            await client.kv.put("k", "v")
            for number in range(50):
                await client.queues.enqueue("q", str(number))
            taken = [messages[0].payload for messages in await asyncio.gather(*waits)]
            assert sorted(taken) == sorted(b"%d" % number for number in range(50)) and (await watch) is not None

    in_loop(main)


async def waiting(client: Client, count: int) -> bool:
    """Whether so many requests wait on the server."""
    return bool((await client.status())["waiting"] == count)


def test_the_requests_of_one_turn_leave_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[bytes] = []

    def counting(peer: Peer) -> None:
        while data := peer.sock.recv(1 << 20):
            pieces.append(data)
            for at in range(0, len(data), 33):
                peer.sock.sendall(encode_response(0, int.from_bytes(data[at + 8 : at + 16], "little"), VERSION))

    async def main() -> None:
        async with connected(server) as client:
            await client.connect()
            await asyncio.gather(*[client.kv.get("k") for _ in range(100)])

    with ScriptedServer(counting) as server:
        in_loop(main)
    assert [len(piece) for piece in pieces] in ([33 * 100], [33, 33 * 99])  # the first need not wait for the others


@pytest.mark.slow
def test_a_full_socket_holds_new_requests_back(flo: FloProcess) -> None:
    async def main() -> None:
        async with connected(flo) as client:
            await asyncio.gather(*[client.kv.put(f"k{number}", bytes(1 << 20)) for number in range(64)])
            assert len([1 async for _ in client.kv.scan("k", keys_only=True)]) == 64

    in_loop(main)


# -- cancellation ----------------------------------------------------------------------------------


class CancelledAt:
    """A coroutine that is cancelled at its n-th step: while it waits there, or (`late`) just when what it waits for has come."""

    def __init__(self, work: Coroutine[Any, Any, Any], step: int, late: bool) -> None:
        self.work, self.step, self.late = work, step, late
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.work.__await__()
        number = 0
        while True:
            try:
                waits_for = next(steps)
            except StopIteration as end:
                return end.value
            if number == self.step:
                self.reached = True
                if self.late:
                    yield waits_for
                elif waits_for is not None:
                    waits_for.cancel()
                with pytest.raises(asyncio.CancelledError):
                    steps.throw(asyncio.CancelledError())
                return None
            number += 1
            yield waits_for


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("kind", ["queue", "group", "run"])
def test_nothing_is_lost_by_a_cancellation_at_any_await(flo: FloProcess, kind: str, late: bool) -> None:
    """What a cancelled call was given is given back: the next call has it, without waiting for a lease."""

    async def prepare(client: Client, name: str) -> None:
        if kind == "queue":
            await client.queues.enqueue(name, "it")
        elif kind == "group":
            await client.streams.append(name, "it")
        else:
            await client.actions.register(name)
            await client.workers.register(f"w-{name}", [name])
            await client.actions.invoke(name, "it")

    def take(client: Client, name: str) -> Coroutine[Any, Any, Any]:
        if kind == "queue":
            return client.queues.dequeue(name, block=20_000)
        if kind == "group":
            return client.streams.group_read(name, "g", "c", block=20_000)
        return client.workers.take(f"w-{name}", block=20_000)

    async def main() -> None:
        step = 0
        while True:
            name = f"{kind}-{late}-{step}"
            async with connected(flo) as helper:
                await prepare(helper, name)
            async with connected(flo) as client:
                cancelled = CancelledAt(take(client, name), step, late)
                await cancelled
                if not cancelled.reached:
                    break
                assert await client.ping("usable") == b"usable"
                async with asyncio.timeout(10):
                    found = await take(client, name)
                assert (found if kind == "run" else found[0])[-1 if kind == "run" else 4 if kind == "queue" else 2] == b"it"
            step += 1
        assert step >= 2  # connecting, and the answer

    in_loop(main)


def test_a_loop_of_cancelled_waits_leaves_one_and_spends_no_attempts(flo: FloProcess) -> None:
    """Each would take the next message and give it back: after five the message would be dead."""

    async def main() -> None:
        async with connected(flo) as client:
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.queues.dequeue("q", block=0), 0.01)
            assert await waiting(client, 1)
            last = asyncio.create_task(client.queues.dequeue("q", block=0))
            await asyncio.sleep(0)
            await client.queues.enqueue("q", "m")
            (message,) = await last
            assert message.attempts == 1 and await client.queues.ack("q", message) == 1

    in_loop(main)


def test_a_late_answer_is_dropped_and_the_connection_stays(flo: FloProcess) -> None:
    def slow(peer: Peer) -> None:
        first = peer.need()
        peer.answer(peer.need(), b"1")
        peer.answer(peer.need(), b"2")
        peer.answer(first, VERSION)
        peer.serve()

    async def main() -> None:
        async with connected(server, timeout=0.3) as client:
            late = asyncio.create_task(client.kv.get("a"))
            await asyncio.sleep(0.05)
            assert await client.ping() == b"1"
            with pytest.raises(TimedOut, match=r"0\.3 s"):
                await late
            assert await client.ping() == b"2"
            assert await client.kv.put("a", "b") == 7
        assert server.connections == 1

    with ScriptedServer(slow) as server:
        in_loop(main)


def test_a_server_that_is_gone_without_a_word_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that is late may be the first to find it; the others must not wait for ever."""

    def silent(peer: Peer) -> None:
        while peer.take() is not None:
            pass

    async def main() -> None:
        async with connected(server, timeout=0.2) as client:
            for_ever = asyncio.create_task(client.queues.dequeue("q", block=0))
            await asyncio.sleep(0.01)
            with pytest.raises(TimedOut):
                await client.kv.get("a")
            with pytest.raises(Disconnected, match="nothing else came"):
                await for_ever
            assert await client.kv.put("a", "1") == 7

    with ScriptedServer(silent, Peer.serve) as server:
        in_loop(main)


# -- loops, processes, closing ---------------------------------------------------------------------


def test_a_second_event_loop_is_refused(flo: FloProcess) -> None:
    client = flo_client(flo)

    async def use() -> None:
        await client.kv.put("a", "1")

    asyncio.run(use())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(use())
    asyncio.run(client.close())
    asyncio.run(use())
    asyncio.run(client.close())


def flo_client(server: FloProcess) -> Client:
    return Client(f"flo://127.0.0.1:{server.port}")


def test_a_forked_child_cannot_use_its_parents_client(flo: FloProcess) -> None:
    async def main() -> None:
        async with connected(flo) as client:
            await client.kv.put("a", "1")

            def work() -> str:
                loop = asyncio.new_event_loop()
                try:
                    loop.run_until_complete(client.kv.put("a", "child"))
                except Forked as e:
                    loop.run_until_complete(client.close())
                    return str(e)
                return "done"

            said = await asyncio.to_thread(in_child, work)
            assert f"this client was opened by process {os.getpid()}" in said
            entry = await client.kv.get("a")
            assert entry is not None and entry.value == b"1"

    in_loop(main)


def test_closing_ends_what_tasks_wait_for(flo: FloProcess) -> None:
    async def main() -> None:
        client = flo_client(flo)
        wait = asyncio.create_task(client.queues.dequeue("q", block=0))
        await until(lambda: waiting(client, 1))
        await client.close()
        with pytest.raises(Disconnected, match="was closed"):
            await wait
        assert await client.kv.put("a", "1")  # it may be used again
        connecting = asyncio.create_task(flo_client(flo).connect())
        await asyncio.sleep(0)
        connecting.cancel()
        await client.close()

    in_loop(main)


def test_iterators(flo: FloProcess) -> None:
    async def main() -> None:
        async with connected(flo) as client:
            for number in range(3):
                await client.queues.enqueue("q", json={"n": number})
                await client.streams.append("s", json=number)
            seen = []
            async for message in client.queues.consume("q"):
                seen.append(message.json()["n"])
                await client.queues.ack("q", message)
                if len(seen) == 3:
                    break
            assert seen == [0, 1, 2]
            followed = []
            async for record in client.streams.follow("s", "0-0"):
                followed.append(record.json())
                if len(followed) == 3:
                    await client.streams.append("s", json=3)
                if len(followed) == 4:
                    break
            assert followed == [0, 1, 2, 3]
            assert [each["name"] async for each in client.streams.list()] == ["s"]
            await client.actions.register("a")
            run = await client.actions.invoke("a", json=[1])
            await client.actions.cancel(run)
            assert await client.actions.retry_many("a", "cancelled") == 1
            results = await client.run_many([calls.kv_put("x", "1"), calls.kv_cas("x", "1", 0)])
            assert isinstance(results[1], Conflict)

    in_loop(main)


def test_the_methods_are_coroutine_functions_with_signatures() -> None:
    here, there = vars_of(aio.KeyCalls), vars_of(KeyCalls)
    assert inspect.iscoroutinefunction(here.put) and not inspect.iscoroutinefunction(there.put)
    assert list(inspect.signature(here.put).parameters) == list(inspect.signature(there.put).parameters)
    assert "Set the key" in str(here.put.__doc__)
    assert "AsyncIterator" in str(inspect.signature(here.scan)) and "Iterator" in str(inspect.signature(there.scan))


def vars_of(kind: Any) -> Any:
    """A class, whose methods are what they are when a program runs: functions."""
    return kind
