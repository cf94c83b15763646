"""What a program sets for a client of either kind, and what a response means for it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from flo import forks
from flo.client.address import DEFAULT_URL, Address, place_of
from flo.errors import BadRequest, CannotConnect, Disconnected, NotLeader, Refusal, Unauthorized
from flo.given import Text, data, ranged, text, told
from flo.operations.call import Call, NotAnAnswer
from flo.operations.system import auth
from flo.proto.binary import Response, namespace_hash

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")
TIMEOUT_MAX = 1e9  # seconds: thirty years
RETRIES_MAX = 100
RETRIES = 3
RETRIES_OF_CLUSTER = 10  # the pauses between them are 7 s or more in all, and a fail-over takes 3 to 5 s
NO_SECRET = "this server has a secret; give it as flo.Client(secret=…), or in the URL: flo://:SECRET@host"

__all__ = ["DEFAULT_URL", "Settings", "seconds"]


class Settings:
    """The settings that both kinds of clients have."""

    def __init__(
        self,
        url: str,
        namespace: Text | None,
        secret: Text | None,
        connect_timeout: float,
        timeout: float,
        retries: int | None,
        compress: bool,
    ) -> None:
        """Raises `BadRequest`, `TypeError`."""
        address = Address(url)
        self.places: list[tuple[str, int]] = address.places  # where the program said that servers are
        self._at = 0  # the one of them to connect to, if no leader is known
        self.namespace: str = text(namespace, "namespace") if namespace is not None else address.namespace
        self.secret: bytes | str | None = data(secret, "secret") if secret is not None else address.secret
        self.connect_timeout: float = seconds(connect_timeout, "connect_timeout")
        self.timeout: float = seconds(timeout, "timeout")
        usual = RETRIES if len(self.places) == 1 else RETRIES_OF_CLUSTER
        self.retries: int = usual if retries is None else ranged(retries, "retries", 0, RETRIES_MAX)
        self.compress: bool = compress
        try:
            self.hash: int = 0 if self.namespace == "default" else namespace_hash(self.namespace)
        except UnicodeError:
            raise BadRequest(f"the namespace {self.namespace!r} is not valid text") from None
        self._tls: ssl.SSLContext | None = address.tls.context() if address.tls is not None else None
        self._leader: tuple[str, int] | None = None  # where a server said that the leader is
        self._process = forks.process()

    @property
    def place(self) -> tuple[str, int]:
        """(host, port) to connect to."""
        return self._leader or self.places[self._at]

    @property
    def host(self) -> str:
        """The host to connect to."""
        return self.place[0]

    @property
    def port(self) -> int:
        """The port to connect to."""
        return self.place[1]

    @property
    def where(self) -> str:
        """`place`, for errors."""
        return f"{self.host} port {self.port}"

    @property
    def opening(self) -> Call[None] | None:
        """The first request of a connection: the secret, if there is one."""
        return auth(self.secret) if self.secret is not None else None

    def follow(self, error: NotLeader) -> bool:
        """Go to the leader that the error names; whether it names one."""
        try:
            place = place_of(str(error))
        except ValueError:
            return False
        if place != self._leader:
            self.turn_to(place)
        return True

    def leave(self, place: tuple[str, int]) -> None:
        """Go elsewhere if this is where the client goes: to an address that the program gave, or to the next of them."""
        if place == self.place:
            if self._leader is None:
                self._at = (self._at + 1) % len(self.places)
            self.turn_to(None)

    def cannot_connect(self, place: tuple[str, int], why: str) -> CannotConnect:
        """The error for a server that cannot be reached; the next connection goes elsewhere."""
        self.leave(place)
        host, port = place
        return CannotConnect(f"cannot connect to {host} port {port}{why}")

    def turn_to(self, place: tuple[str, int] | None) -> None:
        """Connect to this place (None: an address that the program gave) from the next connection on."""
        self._leader = place

    def time_for(self, many: Iterable[Call[Any]]) -> float | None:
        """The seconds until the responses are late: the timeout, and the longest wait; None if one waits for ever."""
        waits = [call.waits for call in many if call.waits is not None]
        if not waits:
            return self.timeout
        return None if 0 in waits else self.timeout + max(waits) / 1000

    def _outcome(self, call: Call[Any], response: Response) -> Any:
        """The result of a call, or its refusal. Raises `Disconnected` as `result` does."""
        try:
            return self.result(call, response)
        except Refusal as e:
            return e

    def late(self) -> str:
        """The sentence for a response that is late."""
        return f"{self.where} did not answer within {self.timeout:g} s"

    def result(self, call: Call[T], response: Response) -> T:
        """The result of a call. Raises a `Refusal`, or `Disconnected` for what no Flo server answers: the connection is of no use then."""
        try:
            return call.finish(response)
        except BadRequest as e:
            if self.hash and f"{self.hash:#018x}" in str(e):  # the server knows the hash alone
                raise BadRequest(f"there is no namespace {self.namespace!r}; create it first") from None
            raise
        except Unauthorized:
            if self.secret is None:
                raise Unauthorized(NO_SECRET) from None
            raise
        except (NotAnAnswer, UnicodeError, RecursionError) as e:
            raise Disconnected(f"{self.where} gave an answer that does not fit {call.operation.name}: {e}") from None


def seconds(given: Any, what: str) -> float:
    """A time in seconds. Raises `TypeError`, `BadRequest`."""
    if not isinstance(given, (int, float)) or isinstance(given, bool):
        raise TypeError(f"the {what} {told(given, what)}; give seconds as a number")
    if not 0 < given < TIMEOUT_MAX:
        raise BadRequest(f"the {what} is {given}; give seconds, more than 0 and under {TIMEOUT_MAX:g}")
    return given
