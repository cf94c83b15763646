"""A client of etcd's v3 API inside the reactor: the few calls that a replica needs, none of which blocks.

It keeps one connection to one of the cluster's members, and goes to the next one when that is lost or does not answer. A call is made again
until it is answered or cancelled; so every call must be one that may be executed twice, the second time also after later calls: a
transaction that compares, a range, a compaction, a put of the same value. A watch goes on from the revision it has reached.

It knows the members that it is given, and asks each one that it connects to for the others.

Messages are packed by the numbers of their fields in etcd's rpc.proto and kv.proto (API of 3.4; later ones only add).
"""

import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from flo.cluster import grpc
from flo.cluster.grpc import Channel, Status
from flo.cluster.http2 import ConnectionLost
from flo.cluster.protobuf import NotProtobuf, messages, nested, number, pack, text, unpack
from flo.endpoint import Address, AddressBook, Endpoint
from flo.errors import FloError
from flo.loop import GONE, READ, WRITE, Timer
from flo.unsent import Unsent

if TYPE_CHECKING:
    from ssl import SSLContext, SSLObject

ANSWER_SECONDS = 2.0  # without an answer to a call, the next member is asked
DOUBT_SECONDS = 0.5  # … a member is pinged; one that says nothing for as long again is dead, and the next one is asked
CONNECT_SECONDS = 1.0
PAUSE_SECONDS = 0.05  # before a call is made again, doubled up to …
PAUSE_SECONDS_MAX = 1.0
RECEIVE_BYTES = 256 << 10
RANGE, PUT, DELETE = 1, 2, 3  # the fields of a RequestOp, and of a ResponseOp
AGAIN = frozenset((grpc.UNAVAILABLE, grpc.DEADLINE_EXCEEDED, grpc.UNKNOWN))  # etcd has no leader, or lost it meanwhile, or times out

KV, WATCH, AUTH = b"/etcdserverpb.KV/", b"/etcdserverpb.Watch/Watch", b"/etcdserverpb.Auth/Authenticate"
STATUS, MEMBERS = b"/etcdserverpb.Maintenance/Status", b"/etcdserverpb.Cluster/MemberList"
OLD_TOKEN = "etcdserver: revision of auth store is old"  # with the code of a wrong request: the users have changed since it was made


class EtcdRefused(FloError):
    """etcd refused a call, and would again: no space, no permission, a request that is too large."""


class KeyValue(NamedTuple):
    """A key as it was at some revision; `value` is None for a deletion."""

    key: bytes
    value: bytes | None
    mod_revision: int


class Answer(NamedTuple):
    """The answer of a transaction, or of one call as one operation. `revision` is etcd's at that time, which a write has made."""

    succeeded: bool
    revision: int
    found: list[list[KeyValue]]  # of each operation; empty for those that find nothing
    more: list[bool]  # of each: whether a range had more than its limit


class Events(NamedTuple):
    """What a watch saw: changes up to `revision`, in order."""

    revision: int
    changes: list[KeyValue]


# -- messages --------------------------------------------------------------------------------------


def range_op(key: bytes, end: bytes = b"", limit: int = 0) -> bytes:
    """Read a key, or all from `key` up to `end`, ascending."""
    return nested(RANGE, pack(((1, key), (2, end), (3, limit))))


def last_op(key: bytes, end: bytes) -> bytes:
    """Read the last of all from `key` up to `end`."""
    return nested(RANGE, pack(((1, key), (2, end), (3, 1), (5, 2))))


def put_op(key: bytes, value: bytes) -> bytes:
    """Write a key."""
    return nested(PUT, pack(((1, key), (2, value))))


def delete_op(key: bytes, end: bytes = b"") -> bytes:
    """Delete a key, or all from `key` up to `end`."""
    return nested(DELETE, pack(((1, key), (2, end))))


def unchanged(key: bytes, mod_revision: int) -> bytes:
    """A comparison: the key was last written at this revision; 0: it does not exist."""
    return nested(1, pack(((2, 2), (3, key), (6, mod_revision))))


def end_of(prefix: bytes) -> bytes:
    """The end of the range of all keys with a prefix."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def _key_values(fields: dict[int, list[int | bytes]]) -> list[KeyValue]:
    return [KeyValue(text(each, 1), text(each, 5), number(each, 3)) for each in messages(fields, 2)]


def _answer(message: bytes) -> Answer:
    fields = unpack(message)
    found, more = [], []
    for each in messages(fields, 3):
        ranged = messages(each, RANGE)
        found.append(_key_values(ranged[0]) if ranged else [])
        more.append(bool(ranged and number(ranged[0], 3)))
    return Answer(bool(number(fields, 2)), number(unpack(text(fields, 1)), 3), found, more)


# -- the client ------------------------------------------------------------------------------------


class Loop(Protocol):
    """What the client needs of the reactor."""

    def register(self, fd: int, events: int, handler: Callable[[int], None], /) -> None:
        """Call `handler` when the descriptor is ready."""

    def modify(self, fd: int, events: int, /) -> None:
        """Wait for other events of it."""

    def unregister(self, fd: int, /) -> None:
        """Wait for it no longer."""

    def call_later(self, seconds: float, callback: Callable[[], None], /) -> Timer:
        """Call back after that time."""


class Call:
    """A call until it is answered or cancelled."""

    __slots__ = ("_client", "_done", "_message", "_method", "_number", "_pause", "_read", "_timer")

    def __init__(self, client: "Etcd", method: bytes, message: bytes, read: Callable[[bytes], Any], done: Callable[[Any], None]) -> None:
        """`done` gets what `read` makes of the answer, or `EtcdRefused`."""
        self._client = client
        self._method = method
        self._message = message
        self._read = read
        self._done = done
        self._number = 0  # in the channel
        self._pause = PAUSE_SECONDS
        self._timer: Timer | None = None

    def make(self) -> None:
        """Make the call over the present connection; without one, it is made when there is one."""
        channel = self._client.ready_channel()
        if channel is None:
            return
        self._number = channel.call(self._method, self._message, self._answered, self._ended, token=self._client.token)
        self._time(DOUBT_SECONDS, self._doubt)
        self._client.flush()

    def _time(self, seconds: float, callback: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._client.loop.call_later(seconds, callback)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _doubt(self) -> None:
        self._client.ping()
        self._time(DOUBT_SECONDS, self._doubt_again)

    def _doubt_again(self) -> None:
        if self._client.is_silent:
            self._late(2 * DOUBT_SECONDS)
        else:
            self._time(ANSWER_SECONDS - 2 * DOUBT_SECONDS, lambda: self._late(ANSWER_SECONDS))

    def _late(self, seconds: float) -> None:
        self._client.lose(f"{self._client.member} has not answered for {seconds:g} s")  # which ends this call too

    def _answered(self, message: bytes) -> None:
        found = self._read(message)
        self._client.answers = True
        self._over()
        self._done(found)

    def _ended(self, status: Status) -> None:
        self._number = 0
        self._stop_timer()
        if self not in self._client.calls:
            return  # it was answered
        if (status.code == grpc.UNAUTHENTICATED or status.message == OLD_TOKEN) and self._client.renew_token():
            return  # it is made again with the new one
        if status.code not in AGAIN:
            self._over()
            self._done(EtcdRefused(f"etcd refused {self._method.decode()}: {status.message}"))
        elif self._client.channel is not None:
            self._client.trouble = status.message
            self._time(self._pause, self.make)
            self._pause = min(2 * self._pause, PAUSE_SECONDS_MAX)

    def _over(self) -> None:
        self._stop_timer()
        self._client.calls.pop(self, None)

    def cancel(self) -> None:
        """Nobody waits for it any more. It may have been executed."""
        self._over()
        if self._number and self._client.channel is not None:
            self._client.channel.cancel(self._number)
            self._client.flush()


class Watch:
    """A watch of all keys with a prefix, over connections as they come and go."""

    def __init__(
        self, client: "Etcd", prefix: bytes, revision: int, on_events: Callable[[Events], None], on_gap: Callable[[], None]
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._next = revision
        self._on_events = on_events
        self._on_gap = on_gap
        self._number = 0
        self._held: list[KeyValue] = []  # changes of the last revision, of which more are to come

    def make(self) -> None:
        """Begin, or go on, over the present connection."""
        channel = self._client.ready_channel()
        if channel is None:
            return
        self._held = []
        create = pack(((1, self._prefix), (2, end_of(self._prefix)), (3, self._next), (8, 1)))  # large answers come in fragments
        self._number = channel.call(WATCH, nested(1, create), self._received, self._ended, token=self._client.token, goes_on=True)
        self._client.flush()

    def _received(self, message: bytes) -> None:
        fields = unpack(message)
        if number(fields, 4):  # cancelled
            if number(fields, 5):  # what was asked for is compacted away
                self.cancel()
                self._on_gap()
            else:
                self._client.lose(f"{self._client.member} ended a watch: {text(fields, 6).decode('utf-8', 'replace')}")
            return
        changes, self._held = self._held, []
        for event in messages(fields, 11):
            pair = unpack(text(event, 2))
            deleted = number(event, 1) == 1
            changes.append(KeyValue(text(pair, 1), None if deleted else text(pair, 5), number(pair, 3)))
        revision = number(unpack(text(fields, 1)), 3)
        if number(fields, 7) and changes:  # a fragment: the next one may go on with the same revision
            last = changes[-1].mod_revision
            changes, self._held = (
                [each for each in changes if each.mod_revision < last],
                [each for each in changes if each.mod_revision == last],
            )
        if changes:
            revision = changes[-1].mod_revision
            self._next = revision + 1
            self._on_events(Events(revision, changes))

    def _ended(self, status: Status) -> None:
        self._number = 0
        if self._client.channel is not None and self in self._client.watches:
            self._client.lose(f"{self._client.member} ended a watch: {status.message}")

    def cancel(self) -> None:
        """Watch no longer."""
        self._client.watches.pop(self, None)
        if self._number and self._client.channel is not None:
            self._client.channel.cancel(self._number)
            self._client.flush()


class Etcd:
    """The client."""

    def __init__(
        self,
        loop: Loop,
        endpoints: Sequence[Endpoint],
        *,
        user: str = "",
        password: str = "",
        tls: "SSLContext | None" = None,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`tls` is the client's context for `https` endpoints. `on_note` gets a sentence about each lost connection, but not the same one
        again for a member that has not served meanwhile."""
        assert endpoints, "there is a member to begin with"
        self.loop = loop
        self.channel: Channel | None = None  # of the present connection, once it may be used
        self.token: bytes = b""
        self.answers: bool = False  # over the present connection: a member without a majority takes connections, and answers nothing
        self.trouble: str = ""  # what etcd last said instead of answering
        self.calls: dict[Call, None] = {}
        self.watches: dict[Watch, None] = {}
        self._given = tuple(endpoints)
        self.endpoints: list[Endpoint] = list(endpoints)  # with those that etcd has told
        self._at = 0  # the endpoint in use
        self._addresses = AddressBook()
        self._said: dict[Endpoint, str] = {}  # the last note about it, if it has not served since
        self._used = 0.0  # since when the connection may be used, monotonic
        self._credentials = (user, password)
        self._tls = tls
        self._note = on_note
        self._link: _Link | None = None
        self._timer: Timer | None = None
        self._pause = PAUSE_SECONDS
        self._closed = False

    @property
    def member(self) -> str:
        """The member that is asked now, for people."""
        endpoint = self.endpoints[self._at]
        return f"etcd at {endpoint.host}:{endpoint.port}"

    # -- calls -------------------------------------------------------------------------------------

    def txn(
        self,
        compares: Iterable[bytes],
        success: Iterable[bytes],
        done: Callable[[Answer | EtcdRefused], None],
        failure: Iterable[bytes] = (),
    ) -> Call:
        """If all comparisons hold, execute `success`, else `failure`, in one step; then call `done`. Calls that are out together are
        executed in any order."""
        message = b"".join(compares) + b"".join(nested(2, op) for op in success) + b"".join(nested(3, op) for op in failure)
        return self._call(KV + b"Txn", message, _answer, done)

    def compact(self, revision: int, done: Callable[[EtcdRefused | None], None]) -> Call:
        """Forget all revisions before this one."""
        return self._call(KV + b"Compact", pack(((1, revision),)), lambda _: None, done)

    def status(self, done: Callable[[int | EtcdRefused], None]) -> Call:
        """The bytes of the member's database."""
        return self._call(STATUS, b"", lambda found: number(unpack(found), 3), done)

    def watch(self, prefix: bytes, revision: int, on_events: Callable[[Events], None], on_gap: Callable[[], None]) -> Watch:
        """Tell every change of a key with this prefix, from `revision` on. `on_gap` is called instead where etcd has forgotten some."""
        made = Watch(self, prefix, revision, on_events, on_gap)
        self.watches[made] = None
        self._connect_or(made.make)
        return made

    def _call(self, method: bytes, message: bytes, read: Callable[[bytes], Any], done: Callable[[Any], None]) -> Call:
        made = Call(self, method, message, read, done)
        self.calls[made] = None
        self._connect_or(made.make)
        return made

    def _connect_or(self, make: Callable[[], None]) -> None:
        if self.channel is not None:
            make()
        elif self._link is None and self._timer is None:
            self._connect()

    # -- the connection ----------------------------------------------------------------------------

    def _connect(self) -> None:
        self._timer = None
        if self._closed:
            return
        endpoint = self.endpoints[self._at]
        try:
            address = self._addresses.find(endpoint)
            self._link = _Link(self.loop, endpoint, address, self._tls, self._opened, self._received, self.lose)
        except OSError as e:
            self.lose(f"{self.member} cannot be reached: {e}")

    def _opened(self) -> None:
        """The connection may be used, after the secret was shown."""
        link = self._link
        assert link is not None
        channel = Channel(link.authority, b"https" if link.secure else b"http")
        link.channel = channel
        user, password = self._credentials
        if user:
            message = pack(((1, user.encode()), (2, password.encode())))
            channel.call(AUTH, message, self._take_token, self._refused_token)
            self._timer = self.loop.call_later(
                ANSWER_SECONDS, lambda: self.lose(f"{self.member} has not answered to the user {user!r} for {ANSWER_SECONDS:g} s")
            )
            link.flush()
        else:
            self._use(channel)

    def _take_token(self, message: bytes) -> None:
        self.token = text(unpack(message), 2)
        self._stop_timer()
        assert self._link is not None and self._link.channel is not None, "its channel has called"
        self._use(self._link.channel)

    def _refused_token(self, status: Status) -> None:
        if status.code != grpc.OK and self._link is not None:  # else the connection is lost, which was told
            self.lose(f"{self.member} refused the user {self._credentials[0]!r}: {status.message}")

    def renew_token(self) -> bool:
        """The token has run out: connect anew, for another. False if there is no user to get one for."""
        if not self._credentials[0]:
            return False
        self.lose("the token of etcd has run out")
        return True

    def _use(self, channel: Channel) -> None:
        self.channel = channel
        self._used = monotonic()
        channel.call(MEMBERS, b"", self._learn, lambda _: None, token=self.token)
        for call in tuple(self.calls):
            call.make()
        for watch in tuple(self.watches):
            watch.make()

    def _learn(self, message: bytes) -> None:
        """Who etcd's members are. A member that tells no address that others can use has told its own machine's, or an insecure one."""
        now = self.endpoints[self._at]
        told = list[Endpoint]()
        for member in messages(unpack(message), 2):
            for url in member.get(4, ()):
                try:
                    endpoint = Endpoint.parse(url.decode() if isinstance(url, bytes) else "")
                except ValueError:
                    continue
                if endpoint.secure == now.secure and (now.is_local or not endpoint.is_local):
                    told.append(endpoint)
        self.endpoints = list(dict.fromkeys((*self._given, now, *told)))
        self._at = self.endpoints.index(now)

    def _received(self, data: bytes) -> None:
        link = self._link
        assert link is not None and link.channel is not None
        try:
            link.channel.receive(data)
        except (ConnectionLost, NotProtobuf) as e:
            self.lose(f"{self.member} does not speak as etcd does: {e}")
        if link is self._link and not self.calls:
            self.ready_channel()
        self.flush()

    def ready_channel(self) -> Channel | None:
        """The channel for a new call; None until there is one."""
        if self.channel is not None and not self.channel.usable:
            self.lose(f"{self.member} takes no more calls over this connection")
        return self.channel

    @property
    def unsent_bytes(self) -> int:
        """How many bytes the kernel has not taken yet."""
        return self._link.unsent.bytes if self._link is not None else 0

    @property
    def is_silent(self) -> bool:
        """Whether nothing has come from the member since it was pinged."""
        return self._link is not None and self._link.heard < self._link.pinged

    def ping(self) -> None:
        """Ask the member whether it is there, unless that was asked just now: etcd ends the connections of those who ask often."""
        if self._link is not None and self._link.channel is not None and monotonic() - self._link.pinged >= DOUBT_SECONDS:
            self._link.pinged = monotonic()
            self._link.channel.ping()
            self.flush()

    def flush(self) -> None:
        """Send what the calls have to send."""
        if self._link is not None:
            self._link.flush()

    def lose(self, sentence: str) -> None:
        """The connection is of no use any more: go to the next member."""
        link, self._link = self._link, None
        channel = (link.channel if link is not None else None) or self.channel
        used, self._used = self._used, 0.0
        self.channel, self.answers = None, False
        self.trouble = sentence
        self._stop_timer()
        if link is not None:
            link.close()
        if channel is not None:
            channel.lose(sentence)
        if self._closed:
            return
        endpoint = self.endpoints[self._at]
        if used and monotonic() - used > PAUSE_SECONDS_MAX:  # else it takes connections and ends them
            self._pause = PAUSE_SECONDS
            self._said.pop(endpoint, None)
        if self._said.get(endpoint) != sentence:
            self._said[endpoint] = sentence
            self._note(sentence)
        self._at = (self._at + 1) % len(self.endpoints)
        self._timer = self.loop.call_later(self._pause, self._connect)
        self._pause = min(2 * self._pause, PAUSE_SECONDS_MAX)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """End everything; nothing is called any more."""
        self._closed = True
        for call in tuple(self.calls):
            call.cancel()
        for watch in tuple(self.watches):
            watch.cancel()
        self.lose("closed")


class _Link:
    """One connection: its socket, and TLS between that and the channel."""

    def __init__(
        self,
        loop: Loop,
        endpoint: Endpoint,
        address: Address,
        tls: "SSLContext | None",
        opened: Callable[[], None],
        received: Callable[[bytes], None],
        lost: Callable[[str], None],
    ) -> None:
        """Begin to connect. Raises `OSError`."""
        self.authority = f"{endpoint.host}:{endpoint.port}".encode()
        self.secure = endpoint.secure
        self.channel: Channel | None = None
        self.heard = monotonic()  # when bytes came last
        self.pinged = 0.0  # monotonic
        self._loop, self._opened, self._received, self._lost = loop, opened, received, lost
        self._where = f"etcd at {endpoint.host}:{endpoint.port}"
        self.unsent = Unsent()
        self._connected = False
        self._closed = False
        self._sock = socket.socket(address.family, socket.SOCK_STREAM)
        self._tls: SSLObject | None = None
        try:
            self._sock.setblocking(False)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if endpoint.secure:
                self._wrap(tls, endpoint.host)
            failure = self._sock.connect_ex(address.address)
            if failure not in (0, errno.EINPROGRESS):
                raise OSError(failure, "the connection was refused")
        except OSError:
            self._sock.close()
            raise
        self._fd = self._sock.fileno()
        loop.register(self._fd, WRITE, self._ready)
        self._timer: Timer | None = loop.call_later(
            CONNECT_SECONDS, lambda: lost(f"{self._where} cannot be reached within {CONNECT_SECONDS:g} s")
        )

    def _wrap(self, tls: "SSLContext | None", host: str) -> None:
        import ssl  # 20 ms, for who needs it

        context = tls or ssl.create_default_context()
        context.set_alpn_protocols(["h2"])
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def _ready(self, events: int) -> None:
        try:
            if not self._connected:
                failure = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if failure:
                    raise OSError(failure, "the connection was refused")
                self._connected = True
                self._loop.modify(self._fd, READ)
                if self._tls is None or self._shake():
                    self._begin()
                return
            if events & WRITE:
                self.flush()
            if events & (READ | GONE):
                self._receive()
        except OSError as e:
            self._lost(f"{self._where} is lost: {e}")

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._opened()

    def _shake(self) -> bool:
        """Go on with the handshake; returns whether it has ended. Raises `OSError`."""
        import ssl

        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send(self._outgoing.read())
            return False
        self._send(self._outgoing.read())
        return True

    def _receive(self) -> None:
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise OSError("it closed the connection")
        self.heard = monotonic()
        if self._tls is not None:
            data = self._decrypted(data)
        if data:
            self._received(data)

    def _decrypted(self, data: bytes) -> bytes:
        import ssl

        assert self._tls is not None
        self._incoming.write(data)
        if self.channel is None:
            if not self._shake():
                return b""
            self._begin()
            if self._closed:
                return b""
        pieces: list[bytes] = []
        while True:
            try:
                piece = self._tls.read(RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                break
            if not piece:
                break
            pieces.append(piece)
        return b"".join(pieces)

    def flush(self) -> None:
        """Send what the channel has to send, as far as the kernel takes it."""
        data = self.channel.take() if self.channel is not None else b""
        if self._tls is not None:
            if data:
                self._tls.write(data)
            data = self._outgoing.read()
        self._send(data)

    def _send(self, data: bytes) -> None:
        waited = bool(self.unsent.bytes)
        if data:
            self.unsent.add(data)
        try:
            self.unsent.send(self._sock.send)
        except OSError:
            self.unsent.clear()  # the reading side finds it lost
        if self._connected and waited != bool(self.unsent.bytes):
            self._loop.modify(self._fd, READ | WRITE if self.unsent.bytes else READ)

    def close(self) -> None:
        """Close the socket."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop.unregister(self._fd)
        self._sock.close()
