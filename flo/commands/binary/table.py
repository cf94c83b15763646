"""Which function answers which operation of the binary protocol.

A handler takes the session and the request, checked against its row in flo.operations, and gives the payload of an OK answer; or a job,
a generator that yields between slices and returns the payload; or a `Later`; or WAITING, where a waiter will answer. It raises a `Refusal`
for anything else; a NotFound that comes often it may return. Most handlers are made from their row (rows.py); `handles` adds one that is
written by hand.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final

from flo.commands.table import Later
from flo.errors import NotFound
from flo.operations import BY_NAME
from flo.proto.binary import Request, value_limit
from flo.proto.row import Operation

if TYPE_CHECKING:
    from flo.commands.binary.session import BinarySession


class Waiting:
    """The type of WAITING."""


WAITING: Final = Waiting()
Answer = bytes | Later | Waiting | NotFound
Slices = Generator[None, None, Answer]
Reply = Answer | Slices
Handler = Callable[["BinarySession", Request], Reply]

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
