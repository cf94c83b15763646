"""The address of a member, of etcd or of Flo, as the settings have it, and as sockets take it."""

import socket
from collections import deque
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import urlsplit

LOOK_UP_SECONDS = 60.0  # an address is kept so long: looking up a name blocks the reactor
FAILED_SHARE = 0.01  # of the time is spent with look-ups that fail


class Endpoint(NamedTuple):
    """The address of a member's clients."""

    host: str
    port: int
    secure: bool

    @classmethod
    def parse(cls, url: str) -> "Endpoint":
        """Of `http://host:port`. Raises `ValueError`."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"{url!r} is not the address of a member of etcd; http://host:2379 is expected")
        return cls(parts.hostname, parts.port or 2379, parts.scheme == "https")

    @property
    def is_local(self) -> bool:
        """Whether it means this machine, whoever reads it."""
        return self.host in ("localhost", "0.0.0.0", "::1", "::") or self.host.startswith("127.")


class Address(NamedTuple):
    """What a socket connects to."""

    family: int
    address: Any  # as `socket.connect` takes it for the family


class AddressBook:
    """The addresses of endpoints."""

    def __init__(self) -> None:
        self._known: dict[Endpoint, deque[Address]] = {}
        self._failures: dict[Endpoint, str] = {}
        self._next: dict[Endpoint, float] = {}  # monotonic, before which nothing is looked up

    def find(self, endpoint: Endpoint) -> Address:
        """An address of the endpoint, another one each time if it has several. Raises `OSError`."""
        now = monotonic()
        if now >= self._next.get(endpoint, now):
            try:
                found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
                self._known[endpoint] = deque(Address(each[0], each[4]) for each in found)
                self._next[endpoint] = now + LOOK_UP_SECONDS
            except (OSError, UnicodeError) as e:  # the second for what no name can be
                self._failures[endpoint] = str(e)
                self._next[endpoint] = now + min((monotonic() - now) / FAILED_SHARE, LOOK_UP_SECONDS)
        if endpoint not in self._known:
            raise OSError(f"its name cannot be looked up: {self._failures[endpoint]}")
        addresses = self._known[endpoint]
        addresses.rotate(-1)
        return addresses[-1]
