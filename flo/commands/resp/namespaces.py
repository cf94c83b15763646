"""Making and deleting namespaces: NAMESPACE over RESP, and what the binary protocol's operations share with it."""

from collections.abc import Generator

from flo.commands.host import Host
from flo.commands.resp.session import RespSession
from flo.commands.resp.table import Sub, command
from flo.commands.runner import Job, Reply, Session
from flo.errors import BadRequest, Overloaded
from flo.proto.resp import OK, bulk_array

SWEEP_KEYS = 200  # expired keys buried in one slice


def name_of(data: bytes) -> str:
    """A namespace's name. Raises `BadRequest`."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadRequest(f"the name {data!r} of a namespace is not UTF-8") from None


def create(session: Session, name: str) -> None:
    """Bind a name, once or again. Raises `BadRequest`, `Conflict`, and `Overloaded` past limits.namespaces."""
    host = session.host
    engine, limit = host.engine, host.settings.namespaces
    if name in engine.namespaces:
        return
    if len(engine.namespaces) >= limit:
        raise Overloaded(f"there are {limit} namespaces, which is limits.namespaces; delete one, or raise the limit")
    engine.create_namespace(name)
    host.log("info", f"created the namespace {name}", peer=session.peer.address)


def delete(session: Session, name: str) -> Generator[None, None, None]:
    """Delete an empty namespace, in slices: keys whose deadline has passed are not live, and are swept first. Raises `BadRequest`,
    `Conflict`."""
    host, engine = session.host, session.host.engine
    namespace = engine.namespace(name)
    yield from namespace.kv.all_read()
    while not namespace.deleted and namespace.kv.sweep_at_once(SWEEP_KEYS):
        yield
    engine.delete_namespace(namespace.name)
    host.namespace_deleted()
    host.log("info", f"deleted the namespace {name}", peer=session.peer.address)


def names(host: Host) -> list[bytes]:
    """Every namespace, in the order of the names' bytes."""
    return sorted(name.encode() for name in host.engine.namespaces)


@command(
    "NAMESPACE",
    -2,
    "",
    "Creates a namespace, once or again; lists them; deletes an empty one.",
    group="flo",
    since="flo 0.1",
    flags="resets",
    subcommands={
        "CREATE": Sub(3, "name", "Make a namespace, or see that there is one.", "write"),
        "LIST": Sub(2, "", "Show the names of all.", "readonly"),
        "DELETE": Sub(3, "name", "Delete an empty namespace.", "write"),
    },
)
def namespace(session: RespSession, args: list[bytes]) -> Reply:
    sub = args[1].upper()
    if sub == b"CREATE":
        create(session, name_of(args[2]))
        return OK
    if sub == b"LIST":
        return bulk_array(names(session.host))
    return _delete(session, name_of(args[2]))


def _delete(session: Session, name: str) -> Job:
    yield from delete(session, name)
    return [OK]
