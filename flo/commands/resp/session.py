"""A RESP connection's session: its settings, its parser, and what a command needs a look at besides its handler (flo.commands.runner)."""

import os
from collections.abc import Callable, Iterable
from types import GeneratorType
from typing import Any

from flo.commands.channels import Subscriptions
from flo.commands.host import EVERYTHING, KEYS_AT_ONCE, Host, Peer, client_line
from flo.commands.resp import decode, load_table, table
from flo.commands.resp.table import KEY_GROUPS
from flo.commands.resp.transaction import Transaction
from flo.commands.runner import Call, Decoded, Job, Later, Reply, Session, Wait
from flo.commands.secret import forbidden
from flo.engine import Namespace
from flo.engine.guard import Guard
from flo.engine.namespace import DEFAULT
from flo.errors import BadRequest, Forbidden, InternalError, NotLeader, Refusal
from flo.forward import Start
from flo.proto import resp
from flo.proto.resp import ProtocolError, RequestParser

NEED_NO_NAMESPACE = ("USE", "NAMESPACE", "INFO", "CONFIG", "FLUSHALL", "SHUTDOWN")
SUBSCRIBER_COMMANDS = frozenset(
    ("SUBSCRIBE", "PSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "SUNSUBSCRIBE", "PING", "QUIT", "RESET")
)
IN_TRANSACTIONS = frozenset(("MULTI", "EXEC", "DISCARD", "WATCH", "RESET", "QUIT"))  # executed at once between MULTI and EXEC
SERVED_ALWAYS = ("connection", "server", "cluster")  # groups: by every member of a cluster, in any role
WITH_SECRETS = ("ACL", "MIGRATE")  # what clients send to these may hold secrets of another server
SECRET_SETTINGS = (b"requirepass", b"masterauth", b"tls-key-file-pass", b"tls-client-key-file-pass")  # Redis's; nobody is shown their value
UNKNOWN_ARGUMENTS_SHOWN = 128  # bytes of arguments that the error for an unknown command repeats

MULTI_REFUSAL = (
    "the profile `flo` has no MULTI: nothing of this transaction was or will be run. Use CAS, one JSON document, or a plain pipeline "
    "(redis-py: pipeline(transaction=False)); or set resp.profile to `redis`"
)


class Unwanted(list[bytes]):
    """The arguments of a request whose reply nobody wants: CLIENT REPLY OFF, or SKIP, which was for this one."""

    __slots__ = ("skipped",)
    skipped: bool


class Worded(Refusal):
    """A refusal in Redis's own words, which clients match on. `text` begins with the error word.

    `rejected`: the request did not reach its command."""

    code: str

    def __init__(self, text: str, rejected: bool = False) -> None:
        self.code, _, message = text.partition(" ")
        super().__init__(message)
        self.rejected = rejected


class Unblocked(Exception):
    """A command would wait, within a transaction, where none does. `reply` is what it answers when its time is up."""

    def __init__(self, reply: bytes) -> None:
        self.reply = reply


class RespSession(Session):
    """One RESP connection."""

    protocol = "resp"
    # fmt: off
    __slots__ = (
        "auto_ack", "executing", "guard", "last_receipts", "library", "monitoring", "namespace", "nil", "parser", "redis_profile",
        "refusing", "replies", "skip_next", "subscriptions", "transaction", "v3",
    )
    # fmt: on

    def __init__(self, host: Host, peer: Peer) -> None:
        super().__init__(host, peer)
        self.namespace: Namespace = host.engine.namespace("default")
        self.parser: RequestParser = RequestParser(self.authenticated)
        self.v3: bool = False
        self.nil: bytes = resp.NIL2
        self.library: dict[bytes, bytes] = {}
        self.refusing: bool = False  # between a refused MULTI and its EXEC, DISCARD or RESET
        self.replies: bool = True  # CLIENT REPLY OFF
        self.skip_next: bool = False  # CLIENT REPLY SKIP
        self.monitoring: bool = False
        self.last_receipts: list[tuple[int, int]] = []  # of the messages this connection took last
        self.subscriptions: Subscriptions | None = None  # None where there is none
        self.transaction: Transaction | None = None  # between MULTI and EXEC
        self.executing: bool = False  # a transaction, now
        self.guard: Guard | None = None  # what WATCH watches
        self.take_settings()

    # -- decoding ----------------------------------------------------------------------------------

    def decode(self, data: bytes) -> Decoded:
        """See `Session`."""
        return decode.decode(data, RespSession.attend, table.PLAIN_BY_SERVED[self.host.serves])

    def parse(self, data: bytes, at: int) -> tuple[Call | None, int]:
        """See `Session`. Raises `ProtocolError`."""
        args, at = self.parser.parse(data, at)
        if self.parser.passed_empty:
            self.parser.passed_empty = self.skip_next = False  # an empty request is not answered, and uses up a SKIP, as in Redis
            self.note_settings()
        return None if args is None else self._call(args), at

    def body_room(self) -> memoryview | None:
        """See `Session`."""
        return self.parser.body_room()

    def body_received_call(self, count: int) -> Call | None:
        """See `Session`. Raises `ProtocolError`."""
        args = self.parser.body_received(count)
        return None if args is None else self._call(args)

    def _call(self, args: list[bytes]) -> Call:
        if self.replies and not self.skip_next:
            return RespSession.attend, args
        unwanted = Unwanted(args)
        unwanted.skipped = self.skip_next
        if self.skip_next:
            self.skip_next = False
            self.note_settings()
        return RespSession.attend, unwanted

    def note_unfinished(self) -> None:
        """See `Session`."""
        parser = self.parser
        self.unfinished: bool = not parser.idle
        self.length_known: bool = parser.length_known
        self.held: int = parser.held
        if self.transaction is not None:
            self.held += self.transaction.held
        if self.guard is not None:
            self.held += self.guard.held

    def lose_framing(self, e: Exception) -> bool:
        """See `Session`."""
        if not isinstance(e, ProtocolError):
            return False
        self.host.tallies.count_error("ERR")
        self.peer.out.append(resp.error(f"ERR Protocol error: {e}"))
        self.halted: bool = True
        self.peer.close_after_replies()
        return True

    # -- executing ---------------------------------------------------------------------------------

    def attend(self, args: list[bytes]) -> Reply:
        """Execute any command, with every look that a plain one does not need."""
        reply = self._dispatch(args)
        if type(args) is Unwanted and self._is_unwanted(args):
            if type(reply) is bytes:
                return b""
            if isinstance(reply, Later):
                return Later(reply.seconds, b"")
        return reply

    def _is_unwanted(self, args: Any) -> bool:
        return type(args) is Unwanted and (args.skipped or not self.replies)

    def want_reply(self, args: list[bytes]) -> None:
        """Answer the request with these arguments, though a CLIENT REPLY SKIP was for it: CLIENT REPLY ON ends that."""
        if type(args) is Unwanted:
            args.skipped = False

    def refusal(self, e: Refusal, request: Any) -> bytes:
        """See `Session`."""
        if self._is_unwanted(request):
            return b""
        if type(e) is NotLeader:
            return resp.error(f"READONLY {e.sentence}")
        return resp.error("ERR internal error" if type(e) is InternalError else f"{e.code} {e}")

    def rejects(self, e: Refusal, request: Any) -> bool:
        """See `Session`."""
        return type(e) is Forbidden or (type(e) is Worded and e.rejected)

    def pieces(self, request: Any, reply: Any) -> list[bytes]:
        """See `Session`."""
        if self._is_unwanted(request):
            return []
        return reply if isinstance(reply, list) else [reply]

    def forward_start(self, request: list[bytes], refusal: bytes) -> Start | None:
        """See `Session`."""
        if not self.replies or self._is_unwanted(request):
            return None
        marker = os.urandom(8).hex().encode()
        words: list[list[bytes]] = []
        if self.host.secret is not None:
            words.append([b"AUTH", self.host.secret])
        if self.v3:
            words.append([b"HELLO", b"3"])
        if self.namespace.name != DEFAULT:
            words.append([b"USE", self.namespace.name.encode()])
        if self.name:
            words.append([b"CLIENT", b"SETNAME", self.name])
        words += [[b"CLIENT", b"AUTOACK", b"ON" if self.auto_ack else b"OFF"], [b"ECHO", marker]]
        last = resp.bulk(marker)

        def answers(data: bytes) -> int | None:
            at = data.find(last)
            return at + len(last) if at >= 0 else None

        return Start(b"".join(map(resp.bulk_array, words)), answers, resp.bulk_array(request), refusal)

    def block(self, seconds: float, cancel: Callable[[], None], timed_out: Callable[[], bytes], args: list[bytes]) -> Wait:
        """Hold the connection until `answer` is called on what this returns, or for `seconds` (0: for ever), when the
        reply is `timed_out()`. `cancel` takes back what was asked for. Raises `Overloaded`, and `Unblocked` within a transaction."""
        if self.executing:
            cancel()
            raise Unblocked(timed_out())
        try:
            wait = Wait(self, args, seconds * 1000, timed_out)
        except BaseException:
            cancel()
            raise
        wait.ends_with(cancel)
        return wait

    def _dispatch(self, args: list[bytes]) -> Reply:
        found = self._find(args)
        if not isinstance(found, table.Command):
            if self.transaction is not None:
                self.transaction.aborted = True
            return found
        if self.transaction is not None and found.name not in IN_TRANSACTIONS:
            return self.transaction.add(found, args)
        if self.namespace.deleted and found.group not in ("connection", "pubsub") and found.name not in NEED_NO_NAMESPACE:
            self.find_namespace_again()
        if len(args) > KEYS_AT_ONCE and found.group in KEY_GROUPS and self.namespace.kv.needs_preparing:
            return self._once_prepared(found, args)
        return self.perform(found, args)

    def _find(self, args: list[bytes]) -> table.Command | Refusal | bytes:
        """The command, if these may be its arguments and the client may send it; else the reply."""
        command = table.find(args[0])
        if command is None:
            return self._unknown(args)
        if not self.authenticated and "no_auth" not in command.flags:
            return Worded("NOAUTH Authentication required.", rejected=True)
        if command.redis_only and not self.redis_profile and command.group != "transactions":
            return not_supported(command.name, command.redis_only, args if command.subcommands else [])
        if self.reads_only and not command.reads(args):
            return forbidden(f"the command {self.name_of(args).upper().replace('|', ' ')}")
        if self.refusing and command.name not in ("EXEC", "DISCARD", "RESET", "QUIT"):
            return Worded(f"ERR {MULTI_REFUSAL}", rejected=True)
        if self.host.serves != EVERYTHING and (command.group not in SERVED_ALWAYS or "write" in command.flags):
            self.check_served(command.reads(args))
        count = len(args)
        if count != command.arity if command.arity > 0 else count < -command.arity:
            return wrong_arity(command.name)
        if command.subcommands and count > 1:
            word = args[1].upper()
            sub = command.subcommands.get(word)
            if sub is None:
                load_table()
                sentence = table.REFUSED_SUBCOMMANDS.get((command.name.encode(), word))
                return BadRequest(sentence) if sentence else unknown_subcommand(args)
            if count != sub.arity if sub.arity > 0 else count < -sub.arity:
                return wrong_arity(f"{command.name}|{word.decode()}")
        if self.subscriptions is not None and not self.v3 and command.name not in SUBSCRIBER_COMMANDS:
            allowed = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
            return Worded(f"ERR Can't execute '{self.name_of(args)}': {allowed}", rejected=True)
        return command

    def perform(self, command: table.Command, args: list[bytes]) -> Reply:
        """Execute a command whose arguments `_find` has seen."""
        if command.subcommands and len(args) > 1 and args[1].upper() == b"HELP":
            return _help(command)
        return command.handler(self, args)

    def _once_prepared(self, command: table.Command, args: list[bytes]) -> Job:
        """A command of many keys, some of which may be on disk since the start, or have expired: to look there, or to bury them, would
        take long, and others would wait."""
        first, last, step = command.keys
        yield from self.namespace.kv.prepare(args[first : len(args) + 1 + last if last < 0 else last + 1 : step])
        reply = command.handler(self, args)
        if isinstance(reply, GeneratorType):
            pieces: list[bytes] = yield from reply
            return pieces
        return reply

    def _unknown(self, args: list[bytes]) -> Refusal | bytes:
        if not self.authenticated:
            return Worded("NOAUTH Authentication required.", rejected=True)
        name = args[0]
        if name.upper() in (b"POST", b"HOST:"):
            # a browser was made to send an HTTP request here: nothing more of it is read
            self.host.log("warning", "closed a connection that sends HTTP in the place of commands", peer=self.peer.address)
            self.peer.kill()
            self.halted = True
            return b""
        if self.refusing:
            return Worded(f"ERR {MULTI_REFUSAL}", rejected=True)
        shown = ""
        for arg in args[1:]:
            if len(shown) >= UNKNOWN_ARGUMENTS_SHOWN:
                break
            shown += f"'{_text(arg[: UNKNOWN_ARGUMENTS_SHOWN - len(shown)])}' "
        return Worded(f"ERR unknown command '{_text(name[:128])}', with args beginning with: {shown}", rejected=True)

    def find_namespace_again(self) -> None:
        """The namespace was deleted while this connection used it. One of the same name may have been made since. Raises `BadRequest`."""
        found = self.host.engine.namespaces.get(self.namespace.name)
        if found is None:
            raise BadRequest(f"the namespace {self.namespace.name!r} was deleted; choose another with USE")
        self.namespace = found
        self.note_settings()

    def end(self) -> None:
        """See `Session`."""
        self.host.channels.forget(self)
        self.end_transaction()
        super().end()

    # -- what commands change ----------------------------------------------------------------------

    def take_settings(self) -> None:
        """Take what the settings say about a new connection."""
        settings = self.host.settings
        self.redis_profile: bool = settings.profile == "redis"
        self.auto_ack: bool = settings.auto_ack or self.redis_profile

    def guard_names(self, names: Iterable[bytes]) -> None:
        """WATCH. Raises `BadRequest`."""
        if self.guard is None:
            self.guard = self.host.engine.guards.new()
        self.guard.add(self.namespace.id, names)
        self.note_unfinished()

    def unguard(self) -> None:
        """Watch no name any more."""
        guard, self.guard = self.guard, None
        if guard is not None:
            guard.end()
            self.note_unfinished()

    def end_transaction(self) -> None:
        """Forget the kept commands and the watched names."""
        self.transaction = None
        self.unguard()
        self.note_settings()
        self.note_unfinished()

    def set_protocol(self, v3: bool) -> None:
        """HELLO 2 or 3."""
        self.v3 = v3
        self.nil = resp.NIL3 if v3 else resp.NIL2
        self.note_settings()

    def set_authenticated(self, value: bool, reads_only: bool = False) -> None:
        """A secret was given, or is owed again."""
        self.authenticated = self.parser.authenticated = value
        self.reads_only = reads_only
        if reads_only and self.monitoring:
            self.stop_monitoring()
        self.note_settings()
        if value:
            self.host.known(self.peer)

    def note_settings(self) -> None:
        """Work out again whether the session is `ordinary`."""
        free = self.transaction is None and (self.v3 or self.subscriptions is None)
        plain = self.replies and not self.skip_next and not self.refusing and free and not self.namespace.deleted
        self.ordinary: bool = plain and self.authenticated and not self.reads_only

    def stop_monitoring(self) -> None:
        """Show this connection no requests of others any more."""
        self.monitoring = False
        self.host.monitors.discard(self.peer)

    # -- telling -----------------------------------------------------------------------------------

    def name_of(self, request: list[bytes]) -> str:
        """See `Session`."""
        command = table.find(request[0])
        if command is None:
            return ""
        word = request[1].upper() if command.subcommands and len(request) > 1 else b""
        return (f"{command.name}|{word.decode()}" if word in command.subcommands else command.name).lower()

    def words_of(self, request: list[bytes]) -> list[bytes] | None:
        """See `Session`."""
        command = table.find(request[0])
        if command is None or "no_monitor" in command.flags:
            return None
        if command.name == "CONFIG" or command.name in WITH_SECRETS:
            return _redacted(command.name, request)
        return request

    @property
    def client_type(self) -> bytes:
        """See `Session`."""
        return b"normal" if self.subscriptions is None else b"pubsub"

    @property
    def database(self) -> int:
        """Which of Redis's databases the namespace is, by resp.databases; 0 where it is none."""
        names, name = self.host.settings.databases, self.namespace.name
        return names.index(name) if name in names else 0

    def describe(self) -> str:
        """The line of CLIENT LIST and CLIENT INFO."""
        own = self.subscriptions
        return client_line(
            self.peer,
            flags="O" * self.monitoring + "P" * (self.subscriptions is not None) or "N",
            held=self.held,
            command=self.last_command,
            protocol="3" if self.v3 else "2",
            name=_text(self.name),
            library=(_text(self.library.get(b"LIB-NAME", b"")), _text(self.library.get(b"LIB-VER", b""))),
            namespace=self.namespace.name,
            database=self.database,
            subscriptions=(len(own.channels), len(own.patterns)) if own is not None else (0, 0),
        )

    def overload(self) -> bytes:
        """The last reply of a connection whose unread input went past what all may hold."""
        return resp.error("BUSY the unread input of all connections is at its limit; try again later")


RespSession.generic = frozenset((RespSession.attend,))


def wrong_arity(name: str) -> Refusal:
    """The refusal of a wrong number of arguments."""
    return Worded(f"ERR wrong number of arguments for '{name.lower()}' command", rejected=True)


def not_supported(name: str, sentence: str, args: list[bytes]) -> bytes | Refusal:
    """The refusal of a command that is refused by name. HELP, if `args` are of a command with subcommands, is answered with it."""
    text = f"{name} is not supported: {sentence}"
    return resp.array([resp.simple(text)]) if [arg.upper() for arg in args[1:]] == [b"HELP"] else BadRequest(text)


def unknown_subcommand(args: list[bytes]) -> BadRequest:
    """Redis's own wording, for a word that is no subcommand."""
    return BadRequest(f"unknown subcommand '{_text(args[1][:128])}'. Try {_text(args[0]).upper()} HELP.")


def wrong_subcommand(args: list[bytes]) -> BadRequest:
    """Redis's own wording, for a subcommand with arguments it does not take."""
    return BadRequest(f"unknown subcommand or wrong number of arguments for '{_text(args[1][:128])}'. Try {_text(args[0]).upper()} HELP.")


def _redacted(name: str, request: list[bytes]) -> list[bytes]:
    """A request's words without the secrets in it."""
    if name in WITH_SECRETS:
        return [request[0], b"(redacted)"]
    return [b"(redacted)" if before.lower() in SECRET_SETTINGS else word for before, word in zip((b"", *request), request, strict=False)]


def _help(command: table.Command) -> bytes:
    """HELP of a command with subcommands, in the shape Redis has."""
    lines = [f"{command.name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for word, sub in command.subcommands.items():
        lines += [f"{word.decode()} {sub.syntax}".rstrip(), f"    {sub.summary}"]
    return resp.array([resp.simple(line) for line in lines])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
