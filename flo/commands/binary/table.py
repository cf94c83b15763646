"""Which function answers which operation of the binary protocol.

A handler takes the session and the request, checked against its row in flo.operations, and gives the payload of an OK answer; or a job,
a generator that yields between slices and returns the payload; or a `Later`; or WAITING, where a waiter will answer. It raises a `Refusal`
for anything else; a NotFound that comes often it may return. Most handlers are made from their row (rows.py); `handles` adds one that is
written by hand.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flo.commands.runner import Handler as Answerer
from flo.commands.runner import Reply
from flo.operations import BY_NAME
from flo.proto.binary import MAGIC, OK, RESPONSE, Request, value_limit
from flo.proto.row import Operation

if TYPE_CHECKING:
    from flo.commands.binary.session import BinarySession


Handler = Callable[["BinarySession", Request], Reply]

HANDLERS: dict[int, Handler] = {}  # by the operation's first code
# By each of its codes: the operation, what gives its whole answer, and how many bytes its key and its value may have
ORDINARY: dict[int, tuple[Operation, Answerer, int, int]] = {}
KEY_BYTES_MAX = 0xFFFF


def add_handler(row: Operation, handler: Handler) -> None:
    """Have `handler` answer the operation."""
    assert row.code not in HANDLERS, f"{row.name} is handled twice"
    HANDLERS[row.code] = handler
    pack = RESPONSE.pack

    def answer(session: Any, request: Request) -> Any:
        reply = handler(session, request)
        return pack(MAGIC, OK, 0, request.req_id, len(reply)) + reply if type(reply) is bytes else reply

    for code in row.codes:
        ORDINARY[code] = row, answer, KEY_BYTES_MAX if row.key else 0, value_limit(row) if row.value else 0


def handles(name: str) -> Callable[[Handler], Handler]:
    """Add a handler for the operation of that name."""

    def add(handler: Handler) -> Handler:
        add_handler(BY_NAME[name], handler)
        return handler

    return add
