"""Flo in a program: what `Engine` and `Client` take, several threads, forked children."""

import inspect
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

import flo
from flo import Client, calls
from flo.client import ActionCalls, Disconnected, KeyCalls, NamespaceCalls, QueueCalls, StreamCalls, WorkerCalls
from flo.engine import EngineSettings, Groups, KeyValue, Queues, Streams
from flo.engine.operation import _OPERATIONS
from flo.engine.stream import Bounds
from flo.errors import BadRequest, FloError, Forked, LogFailed
from flo.ual.files import Files
from tests.support.processes import FloProcess, wait_until

pytestmark = pytest.mark.computes

# `Engine` is Any here: what it takes from a program is wider than the types of the methods, which are the server's
THREADS = 8
Engine: Any = flo.Engine
ROUNDS = 40
JOIN_SECONDS = 60

TEXTS = (5, True, 1.5, None, ["a"], {"a": 1}, object())  # what is no name and no value
NUMBERS = ("5", 1.5, True, b"5", [5])  # what is no number

# What each parameter is called, and something that it takes. Everything that a program can call is called with these, but for one argument.
GOOD: dict[str, Any] = {
    **dict.fromkeys(
        (
            "key",
            "name",
            "queue",
            "stream",
            "source",
            "target",
            "group",
            "consumer",
            "dedup",
            "prefix",
            "cursor",
            "view",
            "pattern",
            "measurement",
            *("action", "run_id", "worker", "worker_id"),
        ),
        "a",
    ),
    "actions": ["a"],
    **dict.fromkeys(("value", "payload", "text", "fields"), "1"),
    "lines": "a value=1 1",
    "floql": "a",
    "path": "$",
    "keys": ["a"],
    "names": ["a"],
    "payloads": ["a"],
    "items": [("a", "b", 0)],
    "receipts": [(1, 1)],
    "seqs": [1],
    "bounds": Bounds(max_len=1),
    "change": lambda old: b"1",
}
NAMES = {
    *(
        "key",
        "name",
        "queue",
        "stream",
        "source",
        "target",
        "group",
        "consumer",
        "value",
        "payload",
        "path",
        "prefix",
        "cursor",
        "dedup",
        *("view", "pattern", "measurement", "fields", "lines", "floql", "tags", "field"),
        *("action", "run_id", "worker", "worker_id", "input", "output", "error", "description", "progress", "labels", "traceparent"),
        *("idempotency_key", "unique_key", "concurrency_key"),
    )
}
LISTS = {"keys", "names", "payloads", "actions"}
COUNTS = {
    *("ttl", "cas", "version", "delta", "limit", "priority", "delay", "lease", "block", "max_attempts", "max_len", "max_age", "max_bytes"),
    *(
        "ack_timeout",
        "max_deliver",
        "min_idle",
        "timeout_ms",
        "known",
        "deadline",
        "count",
        "clip",
        "idle",
        "deliveries",
        "last",
        "time",
        "read",
    ),
    *("ms", "seq", "kind", "clip", "since", "until", "timestamp", "precision"),
    *("timeout", "retry_delay", "concurrency", "attempt", "load"),
}
OPTIONAL = {"since", "until", "timestamp", "precision", "dedup", "cas", "known", "lease", "delay", "consumer", "max_attempts"}
IDS = {"start", "end", "ids"}


def arguments(function: Callable[..., Any], **changed: Any) -> tuple[list[Any], dict[str, Any]]:
    """Arguments for a call: what has no default, and what is changed."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for parameter in list(inspect.signature(function).parameters.values()):
        name = parameter.name
        if name == "self":
            continue
        if name in changed:
            value = changed[name]
        elif name in ("value", "payload") and parameter.default is None:  # or `json`
            value = GOOD[name]
        elif parameter.kind is parameter.VAR_POSITIONAL or parameter.default is not parameter.empty:
            continue
        elif name in GOOD and "bytes | None" not in str(parameter.annotation):
            value = [("a", "a")] if name == "keys" and "tuple" in str(parameter.annotation) else GOOD[name]
        else:
            value = {"ids": ["1-1"] if "Iterable" in str(parameter.annotation) else [1], "replace": True, "move": True}.get(name, 1)
        if parameter.kind is parameter.VAR_POSITIONAL:
            args.append(value)
        elif parameter.kind is parameter.KEYWORD_ONLY or (args is not None and parameter.default is not parameter.empty):
            kwargs[name] = value
        else:
            args.append(value)
    return args, kwargs


def run(result: Any) -> Any:
    """What a call gives, run to its end where it is a page after page, or a slice after slice."""
    return list(result) if inspect.isgenerator(result) else result


def wrong_calls(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """(parameter, what it must refuse with a TypeError)."""
    for parameter in inspect.signature(function).parameters.values():
        name = parameter.name
        for wrong in TEXTS if name in NAMES else NUMBERS if name in COUNTS and parameter.annotation is not bool else ():
            if wrong is not None or (parameter.default is not None and name not in OPTIONAL):
                yield name, wrong
        if name in LISTS and "tuple" in str(parameter.annotation):
            yield from ((name, [("a", wrong)]) for wrong in TEXTS)
        elif name in LISTS:
            yield from ((name, ["a", wrong]) for wrong in TEXTS)
            yield from ((name, wrong) for wrong in ("abc", b"abc", 5))
        if name == "items":
            yield from ((name, [("a", wrong, 0)]) for wrong in TEXTS)
            yield from ((name, [(wrong, "a", 0)]) for wrong in TEXTS)
            yield from ((name, [("a", "a", wrong)]) for wrong in NUMBERS)
        if name in ("receipts", "seqs"):
            one = parameter.kind is parameter.VAR_POSITIONAL  # then it is a receipt, not a list of them
            yield from ((name, wrong if one else [wrong]) for wrong in (1.5, True, ("1", 1), (1, 1.5), (1, 1, 1)))
        if name in IDS:
            one = parameter.kind is parameter.VAR_POSITIONAL or name != "ids"
            yield from ((name, wrong if one else [wrong]) for wrong in (1.5, True, (1, 1.5), [1, True], {"a": 1}))
        if "dict" in str(parameter.annotation):
            yield from ((name, wrong) for wrong in ("abc", 5, {5: 1}, {"a": "b"}))
        if parameter.annotation is bool:
            yield from ((name, wrong) for wrong in (1, "no"))


def refused(context: str, call: Callable[[], Any], wrong: Any) -> None:
    """The call is a TypeError whose sentence shows what was given and says what to give."""
    with pytest.raises(TypeError) as caught:
        run(call())
    said = str(caught.value)
    assert "give " in said, (context, said)
    assert any(repr(each)[:20] in said for each in within(wrong)), (context, said)


def within(given: Any) -> Iterator[Any]:
    """It, and what is in it that is wrong."""
    yield given
    for each in given if isinstance(given, (list, tuple)) else [*given, *given.values()] if isinstance(given, dict) else ():
        yield from (inner for inner in within(each) if inner not in ("a", 0, 1) or isinstance(inner, bool))


def parts(engine: Any) -> tuple[Any, ...]:
    return engine.kv, engine.queues, engine.streams, engine.streams.groups


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Any]:
    with Engine(str(tmp_path / "engine"), EngineSettings(durability="ephemeral")) as made:
        made.streams.append("a", "1")
        made.streams.groups.create("a", "a")
        yield made


def test_everything_an_engine_can_be_called_with_is_checked(engine: Any) -> None:
    before, count = engine.log.next_index, 0
    for part, kind in zip(parts(engine), (KeyValue, Queues, Streams, Groups), strict=True):
        for name, method in vars(kind).items():
            if inspect.isfunction(method) and method in _OPERATIONS:
                for parameter, wrong in wrong_calls(method):
                    args, kwargs = arguments(method, **{parameter: wrong})
                    bound = getattr(part, name)
                    refused(f"{kind.__name__}.{name}({parameter}={wrong!r})", partial(bound, *args, **kwargs), wrong)
                    count += 1
    assert count > 400
    assert engine.log.next_index == before  # nothing of it was written


def test_an_engine_takes_text_as_the_bytes_of_it(engine: Any) -> None:
    for text in ("ключ", "a"):
        version = engine.kv.put(text, "välue")
        for same in (text.encode(), bytearray(text.encode()), memoryview(text.encode())):
            found = engine.kv.get(same)
            assert found is not None and (found.value, found.version) == ("välue".encode(), version)
        assert [entry and entry.version for entry in engine.kv.mget([text, "no"])] == [version, None]
    engine.queues.enqueue("q", "payload", dedup="d")
    assert engine.queues.enqueue(b"q", b"payload", dedup=b"d") == engine.queues.dequeue("q", limit=1)[0].seq
    assert engine.queues.exists("q") and engine.queues.names() == [b"q"]
    engine.streams.append("s", "record")
    assert [record.payload for record in engine.streams.read("s")] == [b"record"] and engine.streams.length("s") == 1
    engine.streams.groups.create("s", "g", own=True)
    assert len(engine.streams.groups.read("s", "g", "c", limit=1)) == 1
    assert len(engine.streams.groups.pending("s", "g", consumer="c")) == 1
    assert engine.streams.groups.delete_consumer("s", "g", "c") == 1 and engine.streams.groups.pending("s", "g") == []
    engine.create_namespace("n")
    assert engine.namespace(b"n") is engine.namespace("n") is engine.create_namespace(b"n")
    assert engine.kv.update("u", lambda old: "text") == b"text"
    with pytest.raises(TypeError, match=r"the value is 5, an int; give it as str or bytes"):
        engine.kv.update("u", lambda old: 5)
    for wrong in (5, None):
        with pytest.raises(TypeError, match="give it as str"):
            engine.namespace(wrong)
        with pytest.raises(TypeError, match="give it as str"):
            engine.create_namespace(wrong)


def test_numbers_out_of_their_range_are_refused_with_the_range(engine: Any) -> None:
    kv, queues, streams = engine.kv, engine.queues, engine.streams
    before = engine.log.next_index
    for call in (
        lambda: kv.put("a", "b", deadline=-5),
        lambda: kv.put("a", "b", deadline=1 << 64),
        lambda: kv.incr("a", 1 << 63),
        lambda: kv.scan(limit=-1),
        lambda: queues.enqueue("q", "p", delay=-1),
        lambda: queues.configure("q", max_attempts=1 << 32),
        lambda: streams.append("a", "p", ms=1 << 64, seq=0),
        lambda: streams.append("a", "p", kind=2),
        lambda: streams.groups.nack("a", "a", [1], delay=-5),
        lambda: streams.groups.create("a", "b", 1 << 128),
        lambda: calls.kv_put("a", "b", ttl=-1),
        lambda: calls.kv_incr("a", 1 << 63),
        lambda: calls.queue_dequeue("q", block=1 << 32),
        lambda: calls.queue_ack("q", [(1, -1)]),
        lambda: calls.stream_read("s", (1, 1 << 64)),
    ):
        with pytest.raises(BadRequest, match=r"(give a number from|it is|they are) .*\d"):
            call()
    assert engine.log.next_index == before


CALLED = {"queue_ack", "queue_nack", "queue_touch", "group_ack", "group_nack", "group_touch"}  # their methods take no list


def functions_of_calls() -> list[Callable[..., Any]]:
    return [
        function
        for name, function in vars(calls).items()
        if inspect.isfunction(function) and (name in CALLED or function.__module__ == "flo.calls")
    ]


def test_everything_a_client_can_be_called_with_is_checked() -> None:
    """Before anything is sent: nobody listens where this client would connect to."""
    client, count = Client("flo://127.0.0.1:1"), 0
    bound: list[tuple[str, Callable[..., Any], Callable[..., Any]]] = [("calls", each, each) for each in functions_of_calls()]
    for part, kind in (
        (client.kv, KeyCalls),
        (client.queues, QueueCalls),
        (client.streams, StreamCalls),
        (client.actions, ActionCalls),
        (client.workers, WorkerCalls),
        (client.namespaces, NamespaceCalls),
    ):
        bound += [
            (kind.__name__, method, getattr(part, name))
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        ]
    for where, function, call in bound:
        for parameter, wrong in wrong_calls(function):
            args, kwargs = arguments(function, **{parameter: wrong})
            refused(f"{where} {function.__name__}({parameter}={wrong!r}): {args} {kwargs}", partial(call, *args, **kwargs), wrong)
            count += 1
    assert count > 1000


def test_a_client_and_a_secret_of_a_wrong_kind() -> None:
    for given in ({"namespace": 5}, {"secret": 5}, {"timeout": "5"}, {"connect_timeout": None}):
        with pytest.raises(TypeError, match="give "):
            Client(**given)
    with pytest.raises(TypeError) as caught:
        Client(secret=cast(str, ["hidden"]))
    assert "hidden" not in str(caught.value)
    assert Client(namespace=b"jobs").namespace == "jobs"


def test_a_client_takes_text_as_the_bytes_of_it(shared_flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{shared_flo.port}") as client:
        version = client.kv.put("ключ", memoryview(b"v"))
        assert client.kv.get(bytearray("ключ".encode())) == (version, b"v")
        assert client.kv.mget([memoryview("ключ".encode())]) == [(version, b"v")]
        client.kv.batch_put([("x", b"1"), (bytearray(b"y"), "2", 100)])
        assert [entry and entry.value for entry in client.kv.mget(["x", "y"])] == [b"1", b"2"]
        client.queues.enqueue(b"q", bytearray(b"p"), dedup=memoryview(b"d"))
        assert client.queues.dequeue("q")[0].payload == b"p"


# -- threads ---------------------------------------------------------------------------------------


def in_threads(work: Callable[[int], Any], count: int = THREADS) -> None:
    """`work(number)` in so many threads at once; what one raises is raised."""
    start, raised = threading.Barrier(count), []

    def body(number: int) -> None:
        try:
            start.wait(JOIN_SECONDS)
            work(number)
        except BaseException as e:
            raised.append(e)

    threads = [threading.Thread(target=body, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_SECONDS)
        assert not thread.is_alive()
    if raised:
        raise raised[0]


def exchange(kv: Any, queues: Any, acknowledge: Callable[[Any], Any]) -> None:
    """Threads count, put messages in and take them out: all sums are right, and every message was taken once."""
    taken: list[int] = []

    def work(number: int) -> None:
        for at in range(ROUNDS):
            kv.incr("sum", number)
            kv.put(f"{number}:{at}", "v")
            queues.enqueue("q", str(number))
            (message,) = queues.dequeue("q")
            acknowledge(message)
            taken.append(message.seq)

    in_threads(work)
    assert int(kv.get("sum").value) == ROUNDS * sum(range(THREADS))
    assert all(kv.exists(f"{number}:{at}") for number in range(THREADS) for at in range(ROUNDS))
    assert len(set(taken)) == len(taken) == THREADS * ROUNDS
    assert queues.dequeue("q") == []


@pytest.mark.parametrize("durability", ["async", "sync"])
def test_threads_of_one_engine(tmp_path: Path, durability: str) -> None:
    with Engine(str(tmp_path), EngineSettings(durability=durability)) as engine:
        exchange(engine.kv, engine.queues, lambda message: engine.queues.ack("q", [(message.seq, message.attempts)]))

        def batches(number: int) -> None:
            for _ in range(ROUNDS):
                with engine.batch():
                    before = engine.kv.incr("batched")[0]
                    with engine.batch():  # one inside another is part of it
                        assert engine.kv.incr("batched")[0] == before + 1

        in_threads(batches)
        value = engine.kv.get("batched")
        assert value is not None and value.value == b"%d" % (2 * ROUNDS * THREADS)
    with Engine(str(tmp_path)) as engine:
        value = engine.kv.get("batched")
        assert value is not None and value.value == b"%d" % (2 * ROUNDS * THREADS)


class Counting(Files):
    """Counts syncs."""

    syncs = 0

    def sync(self, fd: int) -> None:
        self.syncs += 1
        super().sync(fd)


def test_an_operation_inside_another_commits_with_it(tmp_path: Path) -> None:
    """A group's first read makes it: one batch."""
    files = Counting()
    with Engine(str(tmp_path), files=files) as engine:
        engine.streams.append("s", "1")
        before = files.syncs
        assert len(engine.streams.groups.read("s", "g", "c", 1, create=True)) == 1
        assert files.syncs == before + 1


def test_an_operation_by_one_who_is_told_of_a_change(tmp_path: Path) -> None:
    with Engine(str(tmp_path)) as engine:
        assert engine.kv.watch(b"a", lambda: engine.kv.put("b", "told")) is not None
        engine.kv.put("a", "1")
        assert engine.log.committed == engine.log.next_index - 1
        found = engine.kv.get("b")
        assert found is not None and found.value == b"told"


def test_a_closed_engine_says_so(tmp_path: Path) -> None:
    engine = Engine(str(tmp_path))
    engine.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    uses: tuple[Callable[[], Any], ...] = (lambda: engine.kv.put("a", "b"), lambda: engine.kv.get("a"), lambda: engine.streams.read("s"))
    for call in uses:
        with pytest.raises(LogFailed, match="this engine is closed"):
            call()
    engine.close()  # once more is no error
    assert sorted(path.name for path in tmp_path.iterdir()) == names  # not even a spare segment: another process may have it now


def test_threads_of_one_client(flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{flo.port}") as client:
        exchange(client.kv, client.queues, lambda message: client.queues.ack("q", message))


def test_a_thread_that_waits_holds_up_no_other(flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{flo.port}") as client, flo.connect() as control:
        got: list[Any] = []
        waits: list[Callable[[], Any]] = [
            lambda: client.queues.dequeue("q", block=0),
            lambda: client.kv.wait("k", 0),
            lambda: client.streams.read("s", tail=True, block=0),
        ]
        threads = [threading.Thread(target=lambda w=wait: got.append(w()), daemon=True) for wait in waits]
        for thread in threads:
            thread.start()
        wait_until(lambda: b"blocked_clients:3" in control.command("INFO", "clients"), "three that wait")
        client.kv.put("k", "v")
        client.queues.enqueue("q", "m")
        client.streams.append("s", "r")
        for thread in threads:
            thread.join(JOIN_SECONDS)
            assert not thread.is_alive()
        assert len(got) == 3


def test_closing_a_client_ends_what_its_threads_wait_for(flo: FloProcess) -> None:
    client = Client(f"flo://127.0.0.1:{flo.port}")
    raised: list[BaseException] = []

    def work() -> None:
        try:
            client.queues.dequeue("q", block=0)
        except FloError as e:
            raised.append(e)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    with flo.connect() as control:
        wait_until(lambda: b"blocked_clients:1" in control.command("INFO", "clients"), "one that waits")
    client.close()
    thread.join(JOIN_SECONDS)
    assert not thread.is_alive() and isinstance(raised[0], Disconnected) and "another thread" in str(raised[0])
    assert client.kv.put("a", "b")  # it may be used again
    client.close()


def test_a_client_has_no_more_connections_than_threads_at_once(flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{flo.port}") as client, flo.connect() as control:
        in_threads(lambda number: [client.kv.put("a", "b") for _ in range(10)])
        for _ in range(50):
            client.ping()
        counted = control.command("INFO", "stats")
        received = int(counted.split(b"total_connections_received:")[1].split(b"\r\n")[0])
        assert received <= THREADS + 3


# -- forks -----------------------------------------------------------------------------------------


def in_child(work: Callable[[], str]) -> str:
    """What `work` gives in a forked child."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            try:
                said = work()
            except BaseException as e:
                said = f"{type(e).__name__}: {e}"
            os.write(write, said.encode()[:4000])
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


class Watching(Files):
    """Notes every call that changes something, by process."""

    def __init__(self, note: Path) -> None:
        self._note = note

    def __getattribute__(self, name: str) -> Any:
        if name in ("create", "pwrite", "sync", "sync_dir", "reserve", "truncate", "rename", "remove", "discard"):
            with open(object.__getattribute__(self, "_note"), "a") as note:
                note.write(f"{os.getpid()} {name}\n")
        return super().__getattribute__(name)


def uses(engine: Any) -> list[Callable[[], Any]]:
    return [
        lambda: engine.kv.put("a", "child"),
        lambda: engine.kv.get("a"),
        lambda: engine.streams.read("s"),
        lambda: engine.create_namespace("n"),
        lambda: engine.flush([]),
        lambda: engine.compact(),
        lambda: engine.upkeep(True),
        lambda: engine.queues.names(),
    ]


@pytest.mark.parametrize("durability", ["sync", "async", "ephemeral"])
def test_a_forked_child_cannot_use_its_parents_engine(tmp_path: Path, durability: str) -> None:
    note = tmp_path / "note"
    with Engine(str(tmp_path / "data"), EngineSettings(durability=durability), files=Watching(note)) as engine:
        engine.kv.put("a", "parent")
        kept = sorted(path.name for path in (tmp_path / "data").iterdir())

        def work() -> str:
            said = []
            for use in uses(engine):
                try:
                    use()
                    said.append("done")
                except Forked as e:
                    said.append(f"{e}")
            engine.close()
            with engine:
                pass
            return "\n".join([*said, str(os.getpid())])

        *said, child = in_child(work).splitlines()
        assert len(said) == len(uses(engine))
        assert all(f"was opened by process {os.getpid()}, and this is process {child}" in each and "open your own" in each for each in said)
        assert not [line for line in note.read_text().splitlines() if line.startswith(f"{child} ")]
        assert sorted(path.name for path in (tmp_path / "data").iterdir()) == kept
        engine.kv.put("b", "parent")  # the parent goes on, and still has the directory
        assert "DirectoryInUse" in in_child(lambda: str(Engine(str(tmp_path / "data"), EngineSettings(durability=durability))))


def test_a_child_that_is_forked_within_a_batch_writes_nothing_of_it(tmp_path: Path) -> None:
    with Engine(str(tmp_path)) as engine:
        size = engine.log.size

        def leave(error: type[BaseException] | None) -> Callable[[], str]:
            def work() -> str:
                batch.__exit__(error, error() if error else None, None)
                return "left"

            return work

        batch: Any = engine.batch()
        batch.__enter__()
        engine.kv.put("a", "1")
        assert in_child(leave(None)).startswith("Forked: ")
        assert in_child(leave(SystemExit)) in ("left", "SystemExit: ")  # what ends the child is not hidden
        assert engine.log.size == size and engine.log.pending
        batch.__exit__(None, None, None)
        assert engine.kv.get("a") is not None


def test_a_child_that_is_forked_while_a_thread_is_in_an_operation_is_refused_too(tmp_path: Path) -> None:
    """The lock is held by a thread that is not in the child: it must not wait for it."""
    with Engine(str(tmp_path)) as engine:
        inside, go = threading.Event(), threading.Event()

        def work() -> None:
            with engine.batch():
                inside.set()
                go.wait(JOIN_SECONDS)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert inside.wait(JOIN_SECONDS)
        try:

            def child() -> str:
                engine.close()
                engine.kv.get("a")
                return "done"

            assert in_child(child).startswith("Forked: this engine was opened by process")
        finally:
            go.set()
            thread.join(JOIN_SECONDS)


def test_a_forked_child_cannot_use_its_parents_client(flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{flo.port}") as client, flo.connect() as control:
        client.kv.put("a", "parent")

        def work() -> str:
            said = []
            for use in (lambda: client.kv.put("a", "child"), client.connect, lambda: client.run_many([calls.kv_get("a")])):
                try:
                    use()
                    said.append("done")
                except Forked as e:
                    said.append(str(e))
            client.close()
            with client:
                pass
            return "\n".join(said)

        said = in_child(work).splitlines()
        assert len(said) == 3
        assert all(f"this client was opened by process {os.getpid()}" in each and "open your own" in each for each in said)
        entry = client.kv.get("a")
        assert entry is not None and entry.value == b"parent"
        assert int(control.command("INFO", "stats").split(b"total_connections_received:")[1].split(b"\r\n")[0]) <= 3
        assert in_child(lambda: str(Client(f"flo://127.0.0.1:{flo.port}").kv.put("a", "own"))).isdigit()
