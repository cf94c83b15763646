"""The handlers that follow from the rows of the operations (flo.operations): each calls the engine's method that its row names.

A request's key and value are the method's first arguments; an option is the argument of the option's name in a program, a list or a number
in the value is decoded by its layout, and the result is the answer as its layout has it. What has to be known of a row is looked up here,
once.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from flo.commands.binary.session import BinarySession
from flo.commands.binary.table import Handler, Options, Reply, add_handler
from flo.engine import Engine, Namespace
from flo.engine.group import check_stream_name
from flo.engine.kv import DEADLINE_MAX
from flo.engine.namespace import PARTS
from flo.engine.queue import MANY_MAX
from flo.errors import BadRequest
from flo.operations import OPERATIONS
from flo.proto.row import Operation
from flo.proto.shapes import shape

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


def handler_of(row: Operation) -> Handler:
    """The handler of a row that has a method."""
    name, _, method_name = row.method.partition(".")
    kind = next(kind for kind in PARTS if kind.name == name)
    method, part_of, check = getattr(kind, method_name), attrgetter(name), CHECKS.get(name)
    arguments, answer, read = _arguments(row), _answer(row), _value(row)

    def handler(session: BinarySession, namespace: Namespace, key: bytes, _: bytes, options: Options) -> Reply:
        part = part_of(namespace)
        if check is not None:
            check(key)
        return answer(method(part, key, **arguments(session.host.engine, options)) if options else method(part, key))

    def handler_with_value(session: BinarySession, namespace: Namespace, key: bytes, value: bytes, options: Options) -> Reply:
        part = part_of(namespace)
        if check is not None:
            check(key)
        if read is not None:
            value = read(value)
        return answer(method(part, key, value, **arguments(session.host.engine, options)) if options else method(part, key, value))

    return handler_with_value if row.value else handler


def _arguments(row: Operation) -> Callable[[Engine, dict[str, Any]], dict[str, Any]]:
    """What makes the engine's arguments of the options, by name."""
    takes: dict[str, tuple[str, Convert | None]] = {
        name: CONVERTED.get(name) or (option.called, None) for name, option in row.options.items()
    }

    def arguments(engine: Engine, options: Options) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for name, value in options.items():
            parameter, convert = takes[name]
            given[parameter] = value if convert is None else convert(engine, value)
        return given

    return arguments


def _value(row: Operation) -> Callable[[bytes], Any] | None:
    """What decodes a value with a layout; an empty one is None where it may be missing."""
    if not row.layout:
        return None
    decode, optional = shape(row.value).decode, row.value_optional
    return lambda value: None if optional and not value else decode(value, MANY_MAX)[0]


def _answer(row: Operation) -> Callable[[Any], bytes]:
    """What makes the payload of a method's result: one value, or a tuple of several."""
    layout = shape(row.answer)
    pack, count = layout.pack, len(layout.names)
    if not count:
        return lambda result: b""
    return pack if count == 1 else lambda result: pack(*result)


for _row in OPERATIONS:
    if _row.method:
        add_handler(_row, handler_of(_row))
