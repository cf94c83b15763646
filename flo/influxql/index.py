"""What InfluxQL needs of a store beside `flo.floql.source.Source`: the names of a measurement's fields and tags, and the databases."""

from collections.abc import Collection, Generator
from typing import Any, Protocol, TypeVar

from flo.floql.source import Source

Result = TypeVar("Result")
Job = Generator[None, None, Result]  # pauses after each few ms of work
Series = dict[str, Any]  # one series of an answer: name, tags, columns, values


class Index(Source, Protocol):
    """One database."""

    def fields(self, measurement: str) -> Collection[str]:
        """The fields of a measurement, in any order; none of an unknown one."""
        ...

    def tags(self, measurement: str) -> Collection[str]:
        """The names of its tags."""
        ...

    def tag_values(self, measurement: str, tag: str) -> Collection[str]:
        """The values of one of its tags."""
        ...


class Databases(Protocol):
    """All databases, as one client sees them."""

    def names(self) -> list[str]:
        """Their names, in order."""
        ...

    def index(self, name: str) -> Index | None:
        """One of them."""
        ...

    def create(self, name: str) -> None:
        """Make one, if it is not there yet. Raise a `Refusal`."""
        ...
