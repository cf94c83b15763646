"""The methods of clients, written once for both kinds: blocking (flo.Client) and asynchronous (flo.aio.Client).

A class of rows has a `Method` for each operation. A client's class for it derives from the rows and from `Blocking` or `Asynchronous`. On
its first use the method becomes a plain function of that class, so that later calls cost no more than a function written by hand.

What takes several requests is written as a generator of calls, which either kind of client runs: `paged` for an iterator, `driven` for one
result.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, get_args, overload

from flo.operations.call import Call
from flo.operations.declared import Declared
from flo.operations.source import Parameters, made_from

P = ParamSpec("P")
T = TypeVar("T")

# `Steps` yields (items, the next call), is sent the call's result, and returns the last items; `Drive` yields calls and returns one result.
Steps = Generator[tuple[Iterable[T], Call[Any]], Any, Iterable[T]]
Drive = Generator[Call[Any], Any, T]


class Runner(Protocol):
    """An object that sends calls: `flo.Client`."""

    def run(self, call: Call[T]) -> T:
        """The result of a call."""


class AsyncRunner(Protocol):
    """An object that sends calls: `flo.aio.Client`."""

    async def run(self, call: Call[T]) -> T:
        """The result of a call."""


class Operations:
    """Operations of one kind: their rows."""


class Blocking(Operations):
    """Operations that a blocking client runs."""

    def __init__(self, runner: Runner) -> None:
        self._run = runner.run


class Asynchronous(Operations):
    """Operations that an asynchronous client runs."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._run = runner.run


class _Method:
    """What all methods have in common: they become functions of the class that uses them."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method
        self.__doc__ = method.__doc__
        self.__name__: str = method.__name__

    def __get__(self, client: Any, kind: type) -> Any:
        if not issubclass(kind, (Blocking, Asynchronous)):
            return self
        made = self._function(issubclass(kind, Blocking))
        setattr(kind, self.__name__, made)
        return made if client is None else made.__get__(client)

    def _function(self, blocking: bool) -> Any:
        raise NotImplementedError


class Method(_Method, Generic[P, T]):
    """The method of one operation; `call` makes its request as a value."""

    def __init__(self, declared: Declared, method: Callable[Concatenate[Any, P], T], name: str) -> None:
        """`name` is that of the function that makes calls."""
        super().__init__(method)
        self._declared = declared
        self.call: Callable[P, Call[T]] = declared.as_function(name)

    @overload
    def __get__(self, client: None, kind: type) -> "Method[P, T]": ...
    @overload
    def __get__(self, client: Blocking, kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Asynchronous, kind: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Any, kind: type) -> Any:
        """The method of a client; of a class of rows, this object."""
        return super().__get__(client, kind)

    def _function(self, blocking: bool) -> Any:
        run = f"self._run({self._declared.expression})"
        made: Any = self._declared.function(
            f"return {run}" if blocking else f"return await {run}",
            kind="def" if blocking else "async def",
            first="self",
            name=self.__name__,
            module=self.method.__module__,
        )
        made.call = self.call
        return made


class Paged(_Method, Generic[P, T]):
    """A method that gives items page after page."""

    @overload
    def __get__(self, client: None, kind: type) -> "Paged[P, T]": ...
    @overload
    def __get__(self, client: Blocking, kind: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: Asynchronous, kind: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, client: Any, kind: type) -> Any:
        """The method of a client; of a class of rows, this object."""
        return super().__get__(client, kind)

    def _function(self, blocking: bool) -> Any:
        (item,) = get_args(get_args(self.method.__annotations__["return"])[2])
        returns = Iterator[item] if blocking else AsyncIterator[item]  # type: ignore[valid-type]
        return _driver(self.method, "return", _items if blocking else _items_later, returns)


class Driven(_Method, Generic[P, T]):
    """A method that takes several requests for one result."""

    @overload
    def __get__(self, client: None, kind: type) -> "Driven[P, T]": ...
    @overload
    def __get__(self, client: Blocking, kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Asynchronous, kind: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Any, kind: type) -> Any:
        """The method of a client; of a class of rows, this object."""
        return super().__get__(client, kind)

    def _function(self, blocking: bool) -> Any:
        returns = get_args(self.method.__annotations__["return"])[2]
        return _driver(self.method, "return" if blocking else "return await", drive if blocking else drive_later, returns)


def paged(method: Callable[Concatenate[Any, P], Steps[T]]) -> Paged[P, T]:
    """Make a generator of calls and items an iterator of both kinds of clients."""
    return Paged(method)


def driven(method: Callable[Concatenate[Any, P], Drive[T]]) -> Driven[P, T]:
    """Make a generator of calls a method of both kinds of clients."""
    return Driven(method)


def _driver(method: Callable[..., Any], word: str, drive: Callable[..., Any], returns: Any) -> Callable[..., Any]:
    parameters = Parameters(method)
    body = [f"{word} _drive(self._run, _method(self, {parameters.handed_on()}))"]
    kind = "async def" if "await" in word else "def"
    return made_from(method, parameters, body, {"_drive": drive, "_method": method}, kind=kind, first="self", returns=returns)


def _items(run: Callable[[Call[Any]], Any], steps: Steps[T]) -> Iterator[T]:
    result = None
    while True:
        try:
            items, call = steps.send(result)
        except StopIteration as end:
            yield from end.value
            return
        yield from items
        result = run(call)


async def _items_later(run: Callable[[Call[Any]], Coroutine[Any, Any, Any]], steps: Steps[T]) -> AsyncIterator[T]:
    result = None
    while True:
        try:
            items, call = steps.send(result)
        except StopIteration as end:
            for item in end.value:
                yield item
            return
        for item in items:
            yield item
        result = await run(call)


def drive(run: Callable[[Call[Any]], Any], steps: Drive[T]) -> T:
    """The result of calls that are run one after the other."""
    result = None
    while True:
        try:
            call = steps.send(result)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        result = run(call)


async def drive_later(run: Callable[[Call[Any]], Coroutine[Any, Any, Any]], steps: Drive[T]) -> T:
    """As `drive`, for coroutines."""
    result = None
    while True:
        try:
            call = steps.send(result)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        result = await run(call)
