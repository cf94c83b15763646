"""What sends the calls of workers and invokers: `flo.Client`, or an engine in this process."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from flo.calls import Call

T = TypeVar("T")


class Runner(Protocol):
    """An object that sends calls."""

    def run(self, call: Call[T]) -> T:
        """The result of a call. Raises its refusal."""

    def run_many(self, many: Sequence[Call[Any]]) -> list[Any]:
        """The results of calls, in one round trip; a refusal is a result."""
