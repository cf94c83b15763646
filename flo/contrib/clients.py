"""One client of a server for each process: threads share it, and a forked child opens its own."""

from functools import cache
from typing import Any

from flo import forks
from flo.client import Client


def shared_client(url: str, **options: Any) -> Client:
    """This process's client of `url`, with these options of `flo.Client`."""
    return _client(forks.process(), url, tuple(sorted(options.items())))


@cache
def _client(process: int, url: str, options: tuple[tuple[str, Any], ...]) -> Client:
    return Client(url, **dict(options))
