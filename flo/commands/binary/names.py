"""JSON answers, and listing names page by page: what the operations on queues and streams have in common."""

import json
from base64 import b64encode

from flo.commands.binary.table import Options
from flo.errors import BadRequest

NAMESPACE_DELETED = "the namespace was deleted while this waited"


def json_text(data: bytes) -> object:
    """Bytes in JSON: a string where they are UTF-8, else {"base64": …}."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode()}


def json_payload(value: object) -> bytes:
    """A JSON answer."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def page(operation: str, options: Options, names: list[bytes], mark: bytes) -> tuple[list[bytes], str]:
    """The names behind the cursor in an operation's options, as many as they ask for, and the next cursor, in base64, empty at the end. A
    cursor is the last name, behind a byte that says of what. Raises `BadRequest` for another operation's."""
    cursor = options.get("cursor", b"")
    if cursor and cursor[:1] != mark:
        raise BadRequest(f"the option cursor is not one that {operation} gave")
    limit = options["limit"]
    left = [name for name in names if not cursor or name > cursor[1:]]
    return left[:limit], b64encode(mark + left[limit - 1]).decode() if len(left) > limit else ""
