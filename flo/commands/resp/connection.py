"""Commands about the connection: greeting, secret, name, namespace, and other clients."""

from flo.commands.resp.arguments import integer, syntax_error
from flo.commands.resp.session import RespSession, Worded, wrong_arity
from flo.commands.resp.table import Sub, command
from flo.commands.runner import Later, Reply
from flo.commands.secret import judge
from flo.errors import BadRequest, Refusal, Unauthorized
from flo.proto import resp
from flo.proto.resp import OK, bulk, bulk_or_nil, mapping

REDIS_VERSION = "7.4.0"  # what clients compare with when they choose commands
CLIENT_TYPES = (b"normal", b"master", b"replica", b"pubsub")
DATABASES = ("default",)  # where resp.databases names none
OUT_OF_RANGE = "DB index is out of range"  # Redis's own wording
NO_DATABASES = "name a namespace for it in the setting resp.databases, or change the namespace by its name with USE"
NO_PASSWORD = "AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"
WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled."


@command("PING", -1, "[message]", "Answers PONG, or the message.", group="connection", flags="fast reads")
def ping(session: RespSession, args: list[bytes]) -> Reply:
    if len(args) > 2:
        return wrong_arity("ping")
    if session.subscriptions is not None and not session.v3:
        return resp.array([bulk(b"pong"), bulk(args[1] if len(args) == 2 else b"")])  # a message's shape, which is all the client expects
    return bulk(args[1]) if len(args) == 2 else b"+PONG\r\n"


@command("ECHO", 2, "message", "Answers the message.", group="connection", flags="fast reads")
def echo(session: RespSession, args: list[bytes]) -> Reply:
    return bulk(args[1])


@command("QUIT", -1, "", "Closes the connection.", group="connection", flags="fast no_auth")
def quit_(session: RespSession, args: list[bytes]) -> Reply:
    session.halted = True
    session.peer.close_after_replies()
    return OK


@command(
    "RESET",
    1,
    "",
    "Makes the connection as new: RESP2, the default namespace, the secret owed again.",
    group="connection",
    since="6.2.0",
    flags="fast no_auth resets",
)
def reset(session: RespSession, args: list[bytes]) -> Reply:
    session.host.channels.forget(session)
    session.set_protocol(False)
    session.namespace = session.host.engine.namespace("default")
    session.refusing = False
    session.end_transaction()
    session.take_settings()
    session.replies, session.skip_next = True, False
    session.last_receipts = []
    session.name = b""
    if session.monitoring:
        session.stop_monitoring()
    session.set_authenticated(session.host.secret is None)
    if not session.authenticated:
        session.peer.owe_secret()
    return resp.simple("RESET")


def _check_secret(session: RespSession, user: bytes, secret: bytes) -> tuple[Refusal | None, float]:
    """(the refusal, None if the secret is right; the seconds that the answer waits)."""
    refused, seconds, reads_only = judge(session.host, session.peer, secret, user)
    if refused is None:
        session.set_authenticated(True, reads_only)
        return None, seconds
    return Worded(WRONG_PASSWORD) if isinstance(refused, Unauthorized) else refused, seconds


def _held(seconds: float, reply: bytes | Refusal) -> Reply:
    return Later(seconds, reply) if seconds else reply


@command(
    "AUTH",
    -2,
    "[username] password",
    "Gives the secret.",
    group="connection",
    flags="fast no_auth no_monitor resets",
    differs="one user, `default`; a wrong secret is answered after a second",
)
def auth(session: RespSession, args: list[bytes]) -> Reply:
    if len(args) > 3:
        raise syntax_error()
    user, secret = (args[1], args[2]) if len(args) == 3 else (b"default", args[1])
    if session.host.secret is None:
        if len(args) == 3:
            return OK if user == b"default" else Worded(WRONG_PASSWORD)
        return BadRequest(NO_PASSWORD)
    refused, seconds = _check_secret(session, user, secret)
    return _held(seconds, refused or OK)


@command(
    "HELLO",
    -1,
    "[protover [AUTH username password] [SETNAME name]]",
    "Chooses RESP2 or RESP3; tells about the server.",
    group="connection",
    since="6.0.0",
    flags="fast no_auth no_monitor resets",
)
def hello(session: RespSession, args: list[bytes]) -> Reply:
    held: list[float] = []
    try:
        reply = _hello(session, args, held)
    except Refusal as e:
        reply = e
    return _held(max(held, default=0.0), reply)


def _hello(session: RespSession, args: list[bytes], held: list[float]) -> bytes | Refusal:
    """The reply; `held` gets the seconds that it waits. An error behind a right secret waits too: at once, it would tell."""
    v3, at = session.v3, 1
    name: bytes | None = None
    if len(args) > 1:
        version = integer(args[1], message="Protocol version is not an integer or out of range")
        if version not in (2, 3):
            return Worded("NOPROTO unsupported protocol version")
        v3, at = version == 3, 2
    while at < len(args):
        option = args[at].upper()
        if option == b"AUTH" and at + 2 < len(args):
            if session.host.secret is not None:
                refused, seconds = _check_secret(session, args[at + 1], args[at + 2])
                held.append(seconds)
                if refused is not None:
                    return refused
            at += 3
        elif option == b"SETNAME" and at + 1 < len(args):
            name = _checked_name(args[at + 1])
            at += 2
        else:
            return BadRequest(f"Syntax error in HELLO option '{args[at][:64].decode('utf-8', 'replace')}'")
    if not session.authenticated:
        return Worded(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> "
            "option can be used to authenticate the client and select the RESP protocol version at the same time"
        )
    if name is not None:
        session.name = name
    session.set_protocol(v3)
    return mapping(
        {
            b"server": bulk(b"redis"),
            b"version": bulk(REDIS_VERSION.encode()),
            b"proto": resp.integer(3 if v3 else 2),
            b"id": resp.integer(session.peer.id),
            b"mode": bulk(b"standalone"),
            b"role": bulk(b"master"),
            b"modules": resp.EMPTY_ARRAY,
        },
        v3,
    )


@command(
    "SELECT",
    2,
    "index",
    "Changes the connection's namespace, by its place in resp.databases.",
    group="connection",
    flags="fast resets reads",
    differs="only 0, the namespace `default`, unless the setting resp.databases names more; USE changes the namespace by its name",
)
def select(session: RespSession, args: list[bytes]) -> Reply:
    index, listed = integer(args[1]), session.host.settings.databases
    names = listed or DATABASES
    if not 0 <= index < len(names):
        return BadRequest(OUT_OF_RANGE if listed or index < 0 else f"{OUT_OF_RANGE}: {NO_DATABASES}")
    session.namespace = session.host.engine.namespace(names[index])
    session.note_settings()
    return OK


@command("USE", 2, "namespace", "Changes the connection's namespace.", group="flo", since="flo 0.1", flags="fast resets reads")
def use(session: RespSession, args: list[bytes]) -> Reply:
    session.namespace = session.host.engine.namespace(args[1].decode("utf-8", "replace"))
    session.note_settings()
    return OK


# -- CLIENT ----------------------------------------------------------------------------------------


def _checked_name(name: bytes) -> bytes:
    if any(byte <= 0x20 or byte > 0x7E for byte in name):
        raise BadRequest("Client names cannot contain spaces, newlines or special characters.")
    return name


def _client_kill(session: RespSession, args: list[bytes]) -> Reply:
    old_form = len(args) == 3
    wanted: dict[bytes, bytes] = {}
    skip_me = not old_form
    if old_form:
        wanted[b"ADDR"] = args[2]
    elif len(args) % 2 == 1:
        raise syntax_error()
    else:
        for at in range(2, len(args), 2):
            option, value = args[at].upper(), args[at + 1]
            if option == b"SKIPME" and value.lower() in (b"yes", b"no"):
                skip_me = value.lower() == b"yes"
            elif option == b"ID":
                integer(value, 1, message="client-id should be greater than 0")
                wanted[option] = value
            elif option == b"USER" and value != b"default":
                raise BadRequest(f"No such user '{value[:64].decode('utf-8', 'replace')}'")
            elif option == b"TYPE" and value.lower() not in CLIENT_TYPES:
                raise BadRequest(f"Unknown client type '{value[:64].decode('utf-8', 'replace')}'")
            elif option in (b"ADDR", b"LADDR", b"USER", b"TYPE"):
                wanted[option] = value.lower() if option == b"TYPE" else value
            else:
                raise syntax_error()
    killed = 0
    for other in list(session.host.sessions()):
        peer = other.peer
        facts = {
            b"ADDR": peer.address.encode(),
            b"LADDR": peer.local_address.encode(),
            b"ID": b"%d" % peer.id,
            b"USER": b"default",
            b"TYPE": other.client_type,
        }
        if any(facts[option] != value for option, value in wanted.items()):
            continue
        if peer is session.peer:
            if skip_me:
                continue
            session.halted = True
            peer.close_after_replies()
        else:
            session.host.log("info", f"CLIENT KILL closed the connection of {peer.address}", peer=session.peer.address)
            peer.kill()
        killed += 1
    if old_form:
        return OK if killed else BadRequest("No such client")
    return resp.integer(killed)


def _client_reply(session: RespSession, args: list[bytes]) -> bytes:
    mode = args[2].upper()
    if mode not in (b"ON", b"OFF", b"SKIP"):
        raise syntax_error()
    if mode == b"ON":
        session.want_reply(args)
    if mode != b"SKIP":
        session.replies, session.skip_next = mode == b"ON", False
    elif session.replies:
        session.skip_next = True
    session.note_settings()
    return OK if mode == b"ON" else b""


@command(
    "CLIENT",
    -2,
    "",
    "About this connection and the others.",
    group="connection",
    since="2.4.0",
    flags="resets",
    differs="other subcommands are unknown; TRACKING ON is refused: Flo pushes nothing to caches; "
    "qbuf is the input that waits, without the request that is executed",
    subcommands={
        "ID": Sub(2, "", "Show the connection's id.", "noscript loading stale reads"),
        "SETNAME": Sub(3, "name", "Give the connection a name.", "noscript loading stale reads"),
        "GETNAME": Sub(2, "", "Show the connection's name.", "noscript loading stale reads"),
        "SETINFO": Sub(4, "LIB-NAME|LIB-VER value", "Tell which client library this is.", "noscript loading stale reads"),
        "INFO": Sub(2, "", "Tell about the connection.", "noscript loading stale reads"),
        "LIST": Sub(-2, "[TYPE type | ID id …]", "Tell about all connections.", "admin noscript loading stale reads"),
        "KILL": Sub(-3, "address | option value …", "Close connections.", "admin noscript loading stale"),
        "NO-EVICT": Sub(3, "ON|OFF", "Answer OK: Flo evicts no connections.", "admin noscript loading stale reads"),
        "NO-TOUCH": Sub(3, "ON|OFF", "Answer OK: Flo keeps no last access.", "noscript loading stale reads"),
        "REPLY": Sub(3, "ON|OFF|SKIP", "Suppress replies.", "noscript loading stale reads"),
        "TRACKING": Sub(-3, "OFF", "Answer OK: Flo pushes no invalidations.", "noscript loading stale reads"),
        "AUTOACK": Sub(3, "ON|OFF", "Let RPOP and BRPOP acknowledge as they deliver.", "reads"),
    },
)
def client(session: RespSession, args: list[bytes]) -> Reply:
    sub, peer = args[1].upper(), session.peer
    if sub == b"ID":
        return resp.integer(peer.id)
    if sub == b"AUTOACK":
        word = args[2].upper()
        if word not in (b"ON", b"OFF"):
            raise syntax_error()
        session.auto_ack = word == b"ON"
        return OK
    if sub == b"GETNAME":
        return bulk_or_nil(session.name or None, session.v3)
    if sub == b"SETNAME":
        session.name = _checked_name(args[2])
        return OK
    if sub == b"SETINFO":
        attribute = args[2].upper()
        if attribute not in (b"LIB-NAME", b"LIB-VER"):
            return BadRequest(f"Unrecognized option '{args[2][:64].decode('utf-8', 'replace')}'")
        if any(byte <= 0x20 or byte > 0x7E for byte in args[3]):
            return BadRequest(f"{args[2].decode().lower()} cannot contain spaces, newlines or special characters.")
        session.library[attribute] = args[3]
        return OK
    session.last_command = session.name_of(args)  # it shows itself
    if sub == b"INFO":
        return resp.verbatim(session.describe() + "\n", session.v3)
    if sub == b"LIST":
        return _client_list(session, args)
    if sub == b"KILL":
        return _client_kill(session, args)
    if sub in (b"NO-EVICT", b"NO-TOUCH"):
        if args[2].upper() not in (b"ON", b"OFF"):
            raise syntax_error()
        return OK
    if sub == b"REPLY":
        return _client_reply(session, args)
    if args[2].upper() == b"OFF":
        return OK
    if args[2].upper() != b"ON":
        raise syntax_error()
    return BadRequest("CLIENT TRACKING ON is not supported: Flo pushes no invalidations; leave client-side caching off")


def _client_list(session: RespSession, args: list[bytes]) -> bytes:
    wanted: set[int] | None = None
    kind = b""
    if len(args) > 2:
        option = args[2].upper()
        if option == b"ID" and len(args) > 3:
            wanted = {integer(arg, message="Invalid client ID") for arg in args[3:]}
        elif option != b"TYPE" or len(args) != 4 or args[3].lower() not in CLIENT_TYPES:
            raise syntax_error()
        else:
            kind = args[3].lower()
    lines = [
        other.describe()
        for other in session.host.sessions()
        if (wanted is None or other.peer.id in wanted) and kind in (b"", other.client_type)
    ]
    return resp.verbatim("".join(line + "\n" for line in lines), session.v3)
