"""What makes a method of a store's engine part an operation: in the server it runs within a turn, elsewhere it is a turn of its own."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from flo.engine.engine import Engine


class Part(Protocol):
    """Keys, queues, streams, groups."""

    engine: "Engine"


S = TypeVar("S", bound=Part)
P = ParamSpec("P")
R = TypeVar("R")


def operation(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Outside the server, run the method between a tick and a commit."""

    @wraps(method)
    def run(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        if self.engine.manual:
            return method(self, *args, **kwargs)
        result: R = self.engine.run(method, self, *args, **kwargs)
        return result

    return cast(Callable[Concatenate[S, P], R], run)
