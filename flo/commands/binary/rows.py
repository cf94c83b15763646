"""The handlers that follow from the rows of the operations (flo.operations): each calls the engine's method that its row names.

The method's first arguments are the request's key and value; a value with a layout is decoded first. An option is passed under its name in
a program. The method's result is packed by the layout of the answer. A row is read once, when its handler is made.
"""

from collections.abc import Callable
from typing import Any

from flo.commands.binary.session import BinarySession
from flo.commands.binary.table import Handler, Options, Result, add_handler
from flo.commands.operations import arguments_of, method_of
from flo.engine import Namespace
from flo.operations import OPERATIONS
from flo.proto.row import Operation
from flo.proto.shapes import shape


def handler_of(row: Operation) -> Handler:
    """The handler of a row that has a method."""
    part_of, method, check = method_of(row)
    arguments, answer, read = arguments_of(row), _answer(row), _value(row)

    def handler(session: BinarySession, namespace: Namespace, key: bytes, _: bytes, options: Options) -> Result:
        part = part_of(namespace)
        if check is not None:
            check(key)
        return answer(method(part, key, **arguments(session.host.engine, options)) if options else method(part, key))

    def handler_with_value(session: BinarySession, namespace: Namespace, key: bytes, value: bytes, options: Options) -> Result:
        part = part_of(namespace)
        if check is not None:
            check(key)
        if read is not None:
            value = read(value)
        return answer(method(part, key, value, **arguments(session.host.engine, options)) if options else method(part, key, value))

    return handler_with_value if row.value else handler


def _value(row: Operation) -> Callable[[bytes], Any] | None:
    """A function that decodes a value with a layout; if the value is optional, it makes None of an empty value."""
    if not row.layout:
        return None
    decode, optional = shape(row.value).decode, row.value_optional
    return lambda value: None if optional and not value else decode(value, row.items_max)[0]


def _answer(row: Operation) -> Callable[[Any], bytes]:
    """A function that packs a method's result, one value or a tuple of several, into a payload."""
    layout = shape(row.answer)
    pack, count = layout.pack, len(layout.names)
    if not count:
        return lambda result: b""
    return pack if count == 1 else lambda result: pack(*result)


for _row in OPERATIONS:
    if _row.method:
        add_handler(_row, handler_of(_row))
