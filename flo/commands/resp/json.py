"""JSON documents over RESP (SPEC section 3, "JSON path"). One path names one place; answers are bare, not RedisJSON's arrays."""

from flo.commands.resp.arguments import syntax_error
from flo.commands.resp.session import RespSession
from flo.commands.resp.table import command
from flo.commands.runner import Reply
from flo.engine.kv import check_count
from flo.errors import BadRequest, Conflict, NotFound, WrongKind
from flo.proto.resp import OK, ONE, ZERO, array, bulk

_DIFFERS = 'paths are $, .field, ["field"] and [index]; one match, answered bare'


@command("JSON.GET", -2, "key [path]", "The JSON at a path.", group="json", keys=(1, 1, 1), flags="readonly", differs=_DIFFERS)
def json_get(session: RespSession, args: list[bytes]) -> Reply:
    if len(args) > 3:
        raise syntax_error()
    try:
        text, _ = session.namespace.kv.json_get(args[1], args[2] if len(args) == 3 else b"$")
    except NotFound:
        return session.nil
    return bulk(text)


@command(
    "JSON.SET",
    -4,
    "key path value [NX | XX]",
    "Set the JSON at a path.",
    group="json",
    keys=(1, 1, 1),
    flags="write denyoom",
    differs=_DIFFERS + "; a missing parent is an error that names it",
)
def json_set(session: RespSession, args: list[bytes]) -> Reply:
    option = args[4].upper() if len(args) == 5 else b""
    if len(args) > 5 or option not in (b"", b"NX", b"XX"):
        raise syntax_error()
    try:
        session.namespace.kv.json_set(args[1], args[3], args[2], if_absent=option == b"NX", if_present=option == b"XX")
    except NotFound as e:
        # nil would read as a condition that did not hold; a write that could not be placed should be heard
        raise BadRequest(str(e)) from None
    except Conflict:
        return session.nil
    return OK


def _delete(session: RespSession, args: list[bytes]) -> bytes:
    if len(args) > 3:
        raise syntax_error()
    try:
        session.namespace.kv.json_delete(args[1], args[2] if len(args) == 3 else b"$")
    except NotFound:
        return ZERO
    return ONE


@command("JSON.DEL", -2, "key [path]", "Delete the JSON at a path.", group="json", keys=(1, 1, 1), flags="write", differs=_DIFFERS)
def json_del(session: RespSession, args: list[bytes]) -> Reply:
    return _delete(session, args)


@command("JSON.TYPE", -2, "key [path]", "The JSON type at a path.", group="json", keys=(1, 1, 1), flags="readonly", differs=_DIFFERS)
def json_type(session: RespSession, args: list[bytes]) -> Reply:
    if len(args) > 3:
        raise syntax_error()
    try:
        return bulk(session.namespace.kv.json_type(args[1], args[2] if len(args) == 3 else b"$").encode())
    except NotFound:
        return session.nil


@command(
    "JSON.MGET",
    -3,
    "key [key …] path",
    "The JSON at a path of several documents.",
    group="json",
    keys=(1, -2, 1),
    flags="readonly",
    differs=_DIFFERS,
)
def json_mget(session: RespSession, args: list[bytes]) -> Reply:
    keys, path = args[1:-1], args[-1]
    check_count(keys)
    replies = []
    for key in keys:
        try:
            replies.append(bulk(session.namespace.kv.json_get(key, path)[0]))
        except (NotFound, WrongKind):
            replies.append(session.nil)
    return array(replies)
