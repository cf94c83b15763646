"""An action whose handler is a function: call the function, or invoke the action."""

import copy
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from flo import calls
from flo.operations.method import AsyncRunner
from flo.worker.arguments import Parameters
from flo.worker.context import Context, present
from flo.worker.run import AsyncRun, Run
from flo.worker.runner import Runner

P = ParamSpec("P")
R = TypeVar("R")


class Invocable(Generic[P, R]):
    """An action and its handler."""

    def __init__(self, name: str, function: Callable[..., Any], runner: Callable[[], Runner], settings: Mapping[str, Any]) -> None:
        """`runner` gives the client that invokes; `settings` are the arguments of `action_register` that the decorator was given."""
        self.name = name
        self.function = function
        self.parameters: Parameters = Parameters(function)
        self.settings = settings
        self._runner = runner
        self._options: dict[str, Any] = {}
        self.__doc__ = function.__doc__
        self.__name__: str = self.parameters.name
        self.__wrapped__ = function

    def options(
        self,
        *,
        priority: int | None = None,
        delay: int | None = None,
        idempotency_key: str | None = None,
        unique_key: str | None = None,
        concurrency_key: str | None = None,
        labels: Mapping[str, str | int | float | bool] | None = None,
        traceparent: str | None = None,
    ) -> Self:
        """The same action, whose `invoke` says these: docs/actions.md, "What an invocation says". `delay` is in ms."""
        given = {
            "priority": priority,
            "delay": delay,
            "idempotency_key": idempotency_key,
            "unique_key": unique_key,
            "concurrency_key": concurrency_key,
            "labels": None if labels is None else json.dumps(dict(labels)),
            "traceparent": traceparent,
        }
        same = copy.copy(self)
        same._options = self._options | {name: value for name, value in given.items() if value is not None}
        return same

    def invoke(self, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Invoke the action. In a handler, the run gets the handler's `traceparent`. Raises `TypeError` for arguments that do not fit or
        that JSON cannot carry, and the refusals of `action_invoke`: `NotFound` if no worker has registered the action yet."""
        runner = self._runner()
        return self._of(runner, runner.run(self.invocation(args, kwargs)))

    def run(self, run_id: str) -> Run[R]:
        """The run of this action with this id; nothing is sent."""
        return self._of(self._runner(), run_id)

    def via(self, client: AsyncRunner) -> "Via[P, R]":
        """The same action for asyncio, invoked by a `flo.aio.Client`: `run = await send_email.via(client).invoke(to=…)`."""
        return Via(self, client)

    def invocation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> calls.Call[str]:
        """The call that invokes the action, with these arguments. Raises `TypeError`."""
        options = dict(self._options)
        inside = present.get(None)
        if inside is not None and inside.traceparent:
            options.setdefault("traceparent", inside.traceparent)
        return calls.action_invoke(self.name, self.parameters.pack(args, kwargs), **options)

    def _of(self, runner: Runner, run_id: str) -> Run[R]:
        return Run(runner, run_id, self.parameters.unpack_result)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.parameters.takes_context:
            return self.function(present.get(None) or Context(self.name), *args, **kwargs)
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<action {self.name}: {self.__name__}{self.parameters.signature}>"


class Action(Invocable[P, R]):
    """An action whose handler is a function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, here and now. A context that it takes is that of the handler that calls, or one of no run."""
        result: R = self._call(args, kwargs)
        return result


class AsyncAction(Invocable[P, R]):
    """An action whose handler is a coroutine function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the function; the caller awaits it. Its context is as that of `Action`."""
        result: Coroutine[Any, Any, R] = self._call(args, kwargs)
        return result


class Via(Generic[P, R]):
    """An action that an asynchronous client invokes."""

    def __init__(self, action: Invocable[P, R], client: AsyncRunner) -> None:
        self._action = action
        self._client = client

    async def invoke(self, *args: P.args, **kwargs: P.kwargs) -> AsyncRun[R]:
        """As `Invocable.invoke`."""
        return self.run(await self._client.run(self._action.invocation(args, kwargs)))

    def run(self, run_id: str) -> AsyncRun[R]:
        """The run of this action with this id; nothing is sent."""
        return AsyncRun(self._client, run_id, self._action.parameters.unpack_result)


class ActionDecorator(Protocol):
    """What `Worker.action(…)` returns: it makes an action of a function, without the context that the function takes first."""

    # A coroutine function is a function too, so mypy says that the first two overlap with the others. The first that fits counts.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> AsyncAction[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncAction[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> Action[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Action[P, R]: ...
