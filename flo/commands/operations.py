"""How the engine is asked for an operation that has a row (flo.operations), whatever the protocol: the row's method, and its arguments
from the request's options."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from flo.engine import Engine
from flo.engine.group import check_stream_name
from flo.engine.kv import DEADLINE_MAX
from flo.engine.namespace import PARTS
from flo.errors import BadRequest
from flo.proto.row import Operation

SECOND_MS = 1000
Convert = Callable[[Engine, Any], Any]


def deadline(engine: Engine, ttl: int) -> int:
    """The deadline of a ttl; 0 for none. Raises `BadRequest`."""
    if not ttl:
        return 0
    end = engine.now + ttl * SECOND_MS
    if end > DEADLINE_MAX:
        raise BadRequest(f"a ttl of {ttl} seconds ends after the last deadline Flo can keep, 2^53 ms")
    return end


# Options that are something else to the engine: its parameter, and how its argument is made of theirs
CONVERTED: dict[str, tuple[str, Convert]] = {
    "ttl": ("deadline", deadline),
    "max_age": ("max_age", lambda _, seconds: seconds * SECOND_MS),
}
# What a part does not check itself in all of its methods
CHECKS: dict[str, Callable[[bytes], None]] = {"streams": check_stream_name}


def method_of(row: Operation) -> tuple[Callable[..., Any], Callable[..., Any], Callable[[bytes], None] | None]:
    """The part of a namespace that has the operation, as a function of the namespace; the method, as a function of the part; and what
    checks the key, if the method does not."""
    name, _, method = row.method.partition(".")
    return attrgetter(name), getattr(next(kind for kind in PARTS if kind.name == name), method), CHECKS.get(name)


def arguments_of(row: Operation) -> Callable[[Engine, dict[str, Any]], dict[str, Any]]:
    """What makes the method's arguments, by name, of a request's options."""
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
