"""Which function answers which operation of the binary protocol.

A handler takes the session, the namespace, and the request's key, value and options, checked against the row in flo.operations; the
option `limit` is always there for an operation that takes it. It gives the payload of an OK answer; or a job, a generator that yields
between slices and returns what a handler gives; or a `Waiter`, which answers later; or `Held`. It raises a `Refusal` for anything else; a
NotFound that comes often it may return. Most handlers are made from their row (rows.py); `handles` adds one that is written by hand.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from flo.engine import Namespace
from flo.errors import NotFound, Refusal
from flo.operations import BY_NAME
from flo.proto.binary import value_limit
from flo.proto.row import Operation
from flo.proto.shapes import Pack, shape

if TYPE_CHECKING:
    from flo.commands.binary.session import BinarySession, Waiter


class Held(NamedTuple):
    """A refusal that is held back for some seconds, by a timer."""

    seconds: float
    refusal: Refusal


Answer = Union[bytes, Held, "Waiter", NotFound]
Slices = Generator[None, None, Answer]
Reply = Answer | Slices
Options = dict[str, Any]  # by name
Handler = Callable[["BinarySession", Namespace, bytes, bytes, Options], Reply]

HANDLERS: dict[int, Handler] = {}  # by the operation's first code
# By each of its codes: the operation, its handler, and how many bytes its key and its value may have
ORDINARY: dict[int, tuple[Operation, Handler, int, int]] = {}
KEY_BYTES_MAX = 0xFFFF


def add_handler(row: Operation, handler: Handler) -> None:
    """Have `handler` answer the operation."""
    assert row.code not in HANDLERS, f"{row.name} is handled twice"
    HANDLERS[row.code] = handler
    for code in row.codes:
        ORDINARY[code] = row, handler, KEY_BYTES_MAX if row.key else 0, value_limit(row) if row.value else 0


def handles(name: str) -> Callable[[Handler], Handler]:
    """Add a handler for the operation of that name."""

    def add(handler: Handler) -> Handler:
        add_handler(BY_NAME[name], handler)
        return handler

    return add


def packs(name: str) -> Pack:
    """What makes the payload of an operation's answer."""
    return shape(BY_NAME[name].answer).pack
