"""The address of a member of etcd, as the settings have it."""

from typing import NamedTuple
from urllib.parse import urlsplit


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
