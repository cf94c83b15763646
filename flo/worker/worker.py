"""`flo.Worker`: functions as handlers of actions, queues and streams."""

import inspect
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flo import forks
from flo.client import Client
from flo.errors import FloError
from flo.given import Text
from flo.worker.action import Action, ActionDecorator, AsyncAction, Invocable
from flo.worker.runner import Runner
from flo.worker.sources import ActionSource, QueueSource, Source, StreamSource

if TYPE_CHECKING:
    from flo.engine import Engine
    from flo.worker.service import Service

F = TypeVar("F", bound=Callable[..., Any])
Labels = Mapping[str, str | int | float | bool]
LEASE_MS = 30_000
RETRY_DELAY_MS = 1000
GRACE_SECONDS = 30.0


class Worker:
    """Handlers, and the server that they work for. Making one connects to nothing.

    worker = Worker("flo://127.0.0.1:9000/jobs")

    @worker.action("send-email", max_attempts=5)
    def send_email(to: str) -> str: ...

    send_email.invoke(to="ada@example.com")  # in a web server, say
    worker.run()  # in a process of its own: `flo worker run module:worker`
    """

    def __init__(
        self,
        url: str = "flo://127.0.0.1:9000",
        *,
        name: str = "worker",
        labels: Labels | None = None,
        namespace: Text | None = None,
        secret: Text | None = None,
    ) -> None:
        """`url`, `namespace` and `secret` are those of `flo.Client`. `name` begins the ids of its processes. It gets the runs whose labels
        are all among its `labels`."""
        self.url = url
        self.name = name
        self.labels: dict[str, str | int | float | bool] = dict(labels or {})
        self._client_settings: dict[str, Any] = {"namespace": namespace, "secret": secret}
        self._actions: dict[str, Invocable[..., Any]] = {}
        self._others: dict[str, Callable[[str], Source]] = {}  # a function from the worker's id to its source, by what it is
        self._client: Client | None = None
        self._client_process = 0
        self._instead: Runner | None = None  # of the client, while `in_process`
        self._service: Service | None = None
        self.counts: dict[str, int] = {}
        """What became of the deliveries of the present or last `run`: how many were done, failed, refused (`NonRetryable`), snoozed,
        given back (not finished in time), and lost (the lease was)."""

    # -- handlers ----------------------------------------------------------------------------------

    def action(
        self,
        name: str,
        *,
        timeout: int | None = None,
        max_attempts: int | None = None,
        retry_delay: int | None = None,
        rate: tuple[int, int] | None = None,
        concurrency: int | None = None,
        labels: Labels | None = None,
        description: str | None = None,
    ) -> ActionDecorator:
        """Make a function, or a coroutine function, the handler of an action. The arguments are those of the action: docs/actions.md, "What
        an action says"; what is not given here stays as it is registered. Raises `TypeError` for a function that cannot be a handler."""
        given = {
            "timeout": timeout,
            "max_attempts": max_attempts,
            "retry_delay": retry_delay,
            "rate": rate,
            "concurrency": concurrency,
            "labels": None if labels is None else json.dumps(dict(labels), sort_keys=True),
            "description": description,
        }
        settings = {setting: value for setting, value in given.items() if value is not None}

        def decorate(function: Callable[..., Any]) -> Any:
            if name in self._actions:
                raise ValueError(f"the action {name!r} of this worker has a handler already: {self._actions[name].__name__}()")
            kind = AsyncAction if inspect.iscoroutinefunction(function) else Action
            self._actions[name] = kind(name, function, lambda: self._runner, settings)
            return self._actions[name]

        return cast(ActionDecorator, decorate)

    def queue(
        self, queue: str, *, lease: int = LEASE_MS, max_attempts: int | None = None, retry_delay: int = RETRY_DELAY_MS
    ) -> Callable[[F], F]:
        """Make a function the handler of a queue's messages. It takes the payload as bytes, or what its JSON holds if its parameter is
        annotated as anything but `bytes`, or the `Message`. `lease` and `retry_delay` are in ms; the latter is doubled for each further
        attempt. `max_attempts` is set for the queue."""
        return self._other(f"the queue {queue!r}", lambda function, _: QueueSource(queue, function, lease, max_attempts, retry_delay))

    def stream(
        self,
        stream: str,
        *,
        group: str,
        tail: bool = False,
        ack_timeout: int | None = None,
        max_deliver: int | None = None,
        retry_delay: int = RETRY_DELAY_MS,
    ) -> Callable[[F], F]:
        """Make a function the handler of a stream's records, as this group gets them: each as `queue` has its payload, or as the
        `StreamRecord`. A missing group is made, from the first record on, or for new ones with `tail`."""
        given = {"ack_timeout": ack_timeout, "max_deliver": max_deliver}
        settings = {setting: value for setting, value in given.items() if value is not None}
        return self._other(
            f"the group {group!r} of the stream {stream!r}",
            lambda function, consumer: StreamSource(stream, group, consumer, function, tail, settings, retry_delay),
        )

    def _other(self, what: str, make: Callable[[Callable[..., Any], str], Source]) -> Callable[[F], F]:
        def decorate(function: F) -> F:
            if what in self._others:
                raise ValueError(f"{what} has a handler of this worker already")
            make(function, "")  # raises if the function cannot be a handler
            self._others[what] = lambda worker_id: make(function, worker_id)
            return function

        return decorate

    # -- invoking ----------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """The client by which actions are invoked. A forked child opens its own."""
        if self._client is None or self._client_process != forks.process():
            self._client, self._client_process = self._open(), forks.process()
        return self._client

    @property
    def _runner(self) -> Runner:
        return self.client if self._instead is None else self._instead

    def _open(self) -> Client:
        return Client(self.url, **self._client_settings)

    def register(self) -> None:
        """Register the actions, as a start does: for programs that invoke before a worker has ever started. Raises refusals and
        `Disconnected`."""
        source = self._action_source(self._worker_id())
        source.register(self._runner)

    # -- working -----------------------------------------------------------------------------------

    def _worker_id(self) -> str:
        return f"{self.name}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"

    def _action_source(self, worker_id: str) -> ActionSource:
        return ActionSource(worker_id, self._actions, self.labels)

    def _sources(self) -> list[Source]:
        worker_id = self._worker_id()
        found: list[Source] = [self._action_source(worker_id)] if self._actions else []
        found += [make(worker_id) for make in self._others.values()]
        if not found:
            raise FloError("this worker has no handlers; decorate a function by its action(), queue() or stream()")
        return found

    def run(self, concurrency: int = 8, grace: float = GRACE_SECONDS) -> bool:
        """Work until SIGTERM, SIGINT or `stop`: up to `concurrency` handlers at once, functions in threads, coroutines in one event loop.
        Then take nothing more, give back what has not begun, and wait up to `grace` seconds for the rest; a second signal gives back the
        rest at once. Returns whether everything was finished. While the server is away it tries again and again. Raises what the server
        refuses at the start."""
        from flo.worker.service import Service  # so that a program that only invokes does not import it

        if concurrency < 1:
            raise ValueError(f"the concurrency is {concurrency}; it is 1 or more")
        self._service = Service(self._open, self._sources(), concurrency, grace)
        self.counts = self._service.counts
        return self._service.run()

    def stop(self) -> None:
        """As SIGTERM, for a `run` in another thread."""
        if self._service is not None:
            self._service.stop()

    # -- testing -----------------------------------------------------------------------------------

    @contextmanager
    def in_process(self, engine: "Engine | None" = None) -> Iterator["Engine"]:
        """In the block, invoke and work over a `flo.Engine` in this process, without a server: the given one, or one that is gone at the
        end. Gives the engine; the actions are registered in its namespace `default`."""
        from flo.engine import Engine, EngineSettings
        from flo.worker.in_process import InProcess

        with ExitStack() as stack:
            if engine is None:
                directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-worker-"))
                engine = stack.enter_context(Engine(directory, EngineSettings(durability="ephemeral")))
            stack.enter_context(self._over(InProcess(engine)))
            self.register()
            yield engine

    @contextmanager
    def _over(self, runner: Runner) -> Iterator[None]:
        self._instead, before = runner, self._instead
        try:
            yield
        finally:
            self._instead = before

    def run_until_idle(self, where: "Engine | Client | None" = None) -> int:
        """Execute what is due, one at a time and in this thread, until nothing is: over a `flo.Engine` or a `flo.Client`, or where actions
        are invoked now. Returns how many deliveries there were. An exception of a handler is reported as always, and raised here."""
        from flo.worker.idle import run_until_idle

        if where is None:
            return run_until_idle(self._runner, self._sources())
        with self._over(where) if isinstance(where, Client) else self.in_process(where):
            return self.run_until_idle()
