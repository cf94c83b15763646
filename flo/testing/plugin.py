"""pytest's fixtures for the tests of programs that use Flo; pytest finds them by the entry point in pyproject.toml."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flo import Client

_numbers = count(1)


@pytest.fixture(scope="session")
def flo_server() -> Iterator[str]:
    """The URL of a server for all tests of the session, which is gone behind them."""
    from flo.testing import server

    with server() as url:
        yield url


@pytest.fixture
def flo_client(flo_server: str) -> Iterator["Client"]:
    """A client of that server, in a new namespace for each test."""
    from flo import Client
    from flo.errors import Conflict

    name = f"test-{next(_numbers)}"
    with Client(flo_server) as client:
        client.namespaces.create(name)
        with Client(flo_server, namespace=name) as mine:
            yield mine
        with suppress(Conflict):  # it is not empty, and goes with the server
            client.namespaces.delete(name)
