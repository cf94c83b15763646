"""From an operation's row (flo.operations) to the engine's method, and from a request's options to the method's arguments. Every protocol
uses it."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from flo.engine import Engine
from flo.engine.group import check_stream_name
from flo.engine.namespace import PARTS
from flo.engine.part import Part
from flo.engine.schedule import Schedules
from flo.engine.worker import Workers
from flo.errors import BadRequest
from flo.limits import DEADLINE_MAX
from flo.proto.row import Operation

SECOND_MS = 1000
Convert = Callable[[Engine, Any], Any]


def deadline(engine: Engine, ttl: int) -> int:
    """The deadline, in Unix ms, of a ttl in seconds; 0 for a ttl of 0. Raises `BadRequest`."""
    if not ttl:
        return 0
    end = engine.now + ttl * SECOND_MS
    if end > DEADLINE_MAX:
        raise BadRequest(f"a ttl of {ttl} seconds ends after the last deadline Flo can keep, 2^53 ms")
    return end


# Options that the engine takes in another form: the engine's parameter, and the function that makes its argument from the option's value
CONVERTED: dict[str, tuple[str, Convert]] = {
    "ttl": ("deadline", deadline),
    "keep_ttl": ("keep_deadline", lambda _, given: given),
    "max_age": ("max_age", lambda _, seconds: seconds * SECOND_MS),
}
# By the place in a namespace: the parts that have operations
INNER: dict[str, type[Part]] = {"actions.workers": Workers, "actions.schedules": Schedules}
KINDS: dict[str, type[Part]] = {**{kind.name: kind for kind in PARTS}, **INNER}
# By part: the check of the key, for parts whose methods do not all check it
CHECKS: dict[str, Callable[[bytes], None]] = {"streams": check_stream_name}


def method_of(row: Operation) -> tuple[Callable[..., Any], Callable[..., Any], Callable[[bytes], None] | None]:
    """(a function from a namespace to its part that has the operation, the part's method, the check of the key). The check is None if the
    method checks the key."""
    name, _, method = row.method.rpartition(".")
    return attrgetter(name), getattr(KINDS[name], method), CHECKS.get(name)


def arguments_of(row: Operation) -> Callable[[Engine, dict[str, Any]], dict[str, Any]]:
    """A function that makes the method's arguments, by name, from a request's options."""
    takes: dict[str, tuple[str, Convert | None]] = {
        name: CONVERTED.get(name) or (option.called, None) for name, option in row.options.items()
    }

    def arguments(engine: Engine, options: dict[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for name, value in options.items():
            parameter, convert = takes[name]
            given[parameter] = value if convert is None else convert(engine, value)
        return given

    return arguments
