"""What HTTP says besides an operation's own answer: refusals with their status, conditions by ETag, parts by Range (RFC 9110)."""

import json
import re
from typing import Any

from flo.errors import BadRequest, Conflict, Forbidden, InternalError, NotFound, NotLeader, Overloaded, Refusal, Unauthorized, WrongKind
from flo.proto.http import REASONS, HttpError, Request
from flo.proto.row import Operation

PROBLEM = b"application/problem+json"
RETRY_SECONDS = b"1"
RETRY_AFTER = ((b"Retry-After", RETRY_SECONDS),)
CONDITIONS = (b"if-match", b"if-none-match")
_ETAG = re.compile(rb'"([0-9]{1,20})"')
_RANGE = re.compile(rb"bytes=([0-9]{0,18})-([0-9]{0,18})")

Fields = tuple[tuple[bytes, bytes], ...]
STATUSES: tuple[tuple[type[Refusal], int], ...] = (
    (NotFound, 404), (Conflict, 409), (WrongKind, 409), (Forbidden, 403), (Unauthorized, 401), (NotLeader, 503), (Overloaded, 503),
    (InternalError, 500),
)  # fmt: skip  # any other is 400


class HttpRefusal(Refusal):
    """A refusal with its status. `fields` are more of the answer's header; with `close`, the connection ends behind it."""

    def __init__(self, status: int, message: str, close: bool = False, fields: Fields = ()) -> None:
        super().__init__(message)
        self.status = status
        self.close = close
        self.fields = fields


def with_status(e: Refusal | HttpError, request: Request) -> HttpRefusal:
    """A refusal with its status (SPEC section 2)."""
    if isinstance(e, HttpRefusal):
        return e
    if isinstance(e, HttpError):
        return HttpRefusal(e.status, str(e), e.close)
    status = next((status for kind, status in STATUSES if isinstance(e, kind)), 400)
    fields: Fields = RETRY_AFTER if status == 503 else ()
    if isinstance(e, Conflict) and any(name in request.headers for name in CONDITIONS):
        status = 412
        fields = ((b"ETag", etag(e.version)),) if e.version else ()
    if isinstance(e, NotLeader):
        return HttpRefusal(status, e.sentence, fields=fields + ((b"Flo-Leader", str(e).encode()),) * bool(str(e)))
    return HttpRefusal(status, str(e), fields=fields)


def problem(status: int, sentence: str) -> bytes:
    """The body of a refusal (RFC 9457)."""
    shown: dict[str, Any] = {"type": "about:blank", "title": REASONS[status], "status": status, "detail": sentence, "error": sentence}
    return json.dumps(shown, ensure_ascii=False).encode("utf-8", "replace")


# -- conditions ------------------------------------------------------------------------------------


def etag(version: int) -> bytes:
    """The ETag of a key's version."""
    return b'"%d"' % version


def conditions(request: Request, rows: list[Operation]) -> dict[str, bytes]:
    """The options that a writing request's If-Match and If-None-Match stand for. Raises `BadRequest` where none of `rows` takes them."""
    given: dict[str, bytes] = {}
    if_match, if_none = (request.headers.get(name) for name in CONDITIONS)
    if if_match is not None:
        tag = _ETAG.fullmatch(if_match)
        if if_match != b"*" and tag is None:
            raise BadRequest('If-Match is not * or the ETag of an answer, such as "7"; only one is taken')
        given |= {"if_present": b""} if tag is None else {"cas_version": tag[1]}
    if if_none is not None:
        if if_none != b"*":
            raise BadRequest("If-None-Match of a request that writes is not *; only this is taken")
        given["if_absent"] = b""
    for name in given:
        if not any(name in row.options for row in rows):
            raise BadRequest(f"{rows[0].name} takes no {'If-None-Match' if name == 'if_absent' else 'If-Match'} of this form")
    return given


def is_listed(header: bytes | None, tag: bytes, weak: bool = True) -> bool:
    """Whether an If-None-Match or If-Match lists the ETag. `weak`: as a weak one too (RFC 9110 section 8.8.3.2)."""
    if header is None:
        return False
    listed = [each.strip() for each in header.split(b",")]
    return listed == [b"*"] or tag in listed or (weak and b"W/" + tag in listed)


def byte_range(request: Request, size: int, tag: bytes) -> tuple[int, int] | None:
    """The part of the body that is asked for, as (start, end); None for all of it. A list of several parts is answered with all. Raises
    `HttpRefusal` for a part that is not there."""
    wanted = request.headers.get(b"range")
    if wanted is None or request.headers.get(b"if-range", tag) != tag:
        return None
    found = _RANGE.fullmatch(wanted.replace(b" ", b"").lower())
    if found is None or found[1] == found[2] == b"":
        return None
    if found[1]:
        start, end = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    else:
        start, end = max(size - int(found[2]), 0), size
    if start >= end:
        raise HttpRefusal(
            416,
            f"the value has {size} bytes, none of them in {wanted.decode('latin-1')!r}",
            fields=((b"Content-Range", b"bytes */%d" % size),),
        )
    return start, end
