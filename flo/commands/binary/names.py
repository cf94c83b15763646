"""JSON answers and pages of names, for the operations on queues and on streams."""

from base64 import b64encode

from flo.commands.binary.table import Options
from flo.errors import BadRequest
from flo.proto.shapes import Pack, shape
from flo.proto.shapes import bytes_in_json as json_text

__all__ = ["NAMESPACE_DELETED", "json_payload", "json_text", "page"]

json_payload: Pack = shape("answer json").pack
NAMESPACE_DELETED = "the namespace was deleted while the request waited"


def page(operation: str, options: Options, names: list[bytes], mark: bytes) -> tuple[list[bytes], str]:
    """(one page of `names`, the cursor of the next page). The page begins behind the option `cursor` and has at most `limit` names. The
    next cursor is base64, and empty at the end. A cursor is `mark`, the operation's own byte, and the last name of the page. Raises
    `BadRequest` for a cursor of another operation."""
    cursor = options.get("cursor", b"")
    if cursor and cursor[:1] != mark:
        raise BadRequest(f"the option cursor is no cursor of {operation}; send the cursor of the answer before, unchanged")
    limit = options["limit"]
    left = [name for name in names if not cursor or name > cursor[1:]]
    return left[:limit], b64encode(mark + left[limit - 1]).decode() if len(left) > limit else ""
