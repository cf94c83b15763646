"""How many wrong secrets each address may give, over all protocols (SPEC section 8).

A wrong secret is answered after FAILURE_SECONDS. That alone stops nobody: a right one is answered at once, so a guesser closes the
connection after 50 ms without an answer, and makes 2,400 guesses a second. So an address has a budget of failures. Past it, all answers to
its secrets wait, right or wrong, and of the secrets that come in a second only so many are compared. An address without failures is never
delayed. Clients behind one address share its budget: while one of them guesses, the others wait a second too.
"""

import socket
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

FAILURE_SECONDS = 1.0  # until a wrong secret is answered, and a right one from an address past its budget
FAILURES_MAX = 10  # the budget of an address
FORGET_SECONDS = 6.0  # after each such time, an address is forgiven one failure
COMPARED_MAX = 16  # of the secrets that an address past its budget gives in a second
ADDRESSES_MAX = 10_000  # of addresses whose failures are kept, 300 bytes each: past it, the one that failed longest ago is forgotten
MAPPED = bytes(10) + b"\xff\xff"  # the beginning of an IPv4 address within IPv6


class _Record:
    """The failures of one address."""

    __slots__ = ("compared", "forgiven_at", "second")

    def __init__(self) -> None:
        self.forgiven_at = 0.0  # when all failures so far are forgiven
        self.second = 0.0  # when the present second of `compared` began
        self.compared = 0


class Guesses:
    """The failures of all addresses of one server."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """`clock` is a steady one, in seconds."""
        self._clock = clock
        self._records: dict[bytes, _Record] = {}  # the one that failed longest ago first

    def admit(self, address: str) -> tuple[float, bool]:
        """(seconds that the answer to a secret from `address` must wait even if it is right, whether to compare the secret at all)."""
        record = self._records.get(_network(address))
        now = self._clock()
        if record is None or record.forgiven_at - now <= (FAILURES_MAX - 1) * FORGET_SECONDS:
            return 0.0, True
        if now - record.second >= 1:
            record.second, record.compared = now, 0
        record.compared += 1
        return FAILURE_SECONDS, record.compared <= COMPARED_MAX

    def failed(self, address: str) -> None:
        """Note that a wrong secret came from `address`, written as `host:port` or `[host]:port`."""
        network, now = _network(address), self._clock()
        record = self._records.pop(network, None) or _Record()
        self._records[network] = record
        record.forgiven_at = min(max(record.forgiven_at, now) + FORGET_SECONDS, now + FAILURES_MAX * FORGET_SECONDS)
        if len(self._records) > ADDRESSES_MAX:
            del self._records[next(iter(self._records))]


def _network(address: str) -> bytes:
    """What has one budget: an IPv4 address, or the /64 of an IPv6 address, which one machine may have to itself."""
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    with suppress(OSError):
        if ":" not in host:
            return socket.inet_pton(socket.AF_INET, host)
        packed = socket.inet_pton(socket.AF_INET6, host)
        return packed[12:] if packed[:12] == MAPPED else packed[:8]
    return host.encode()
