"""One client of a server for each process: threads share it, and a forked child opens its own."""

from functools import cache
from typing import Any

from flo import forks
from flo.client import Client

CONNECTIONS = 256  # a thread that waits for a result has one, and an application's server may have hundreds of threads


def shared_client(url: str, **options: Any) -> Client:
    """This process's client of `url`, with these options of `flo.Client`."""
    options = {"max_connections": CONNECTIONS} | options
    return _client(forks.process(), url, tuple(sorted(options.items())))


@cache
def _client(process: int, url: str, options: tuple[tuple[str, Any], ...]) -> Client:
    return Client(url, **dict(options))
