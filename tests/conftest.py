"""Fixtures: a real Flo server, a real redis-server, the long switch."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import examples
from tests.support.processes import FloProcess, RedisProcess


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long` runs the long versions too; `--programs-table` writes the table of programs in docs/redis.md."""
    parser.addoption("--long", action="store_true", help="run the long versions as well")
    parser.addoption("--programs-table", action="store_true", help="write the table of programs in docs/redis.md")


def pytest_configure(config: pytest.Config) -> None:
    """Properties are shown all their examples with --long."""
    examples.in_full = bool(config.getoption("--long"))


# For Chromium, for etcd and fail-overs, for frameworks, for influxd, for redis-server; and workers, for their own processes
WAITING = ("browser", "cluster", "contrib", "influxql", "importer", "worker")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of the rooms that wait for programs of others; without --long, leave the long tests out."""
    for item in items:
        if item.path.parent.name in WAITING and "computes" not in item.keywords:
            item.add_marker(pytest.mark.waits)
    if not config.getoption("--long"):
        skip = pytest.mark.skip(reason="a long version: make long")
        for item in items:
            if "long" in item.keywords:
                item.add_marker(skip)


@pytest.fixture
def long_run(request: pytest.FixtureRequest) -> bool:
    """Whether to do more rounds."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def flo(tmp_path: Path) -> Iterator[FloProcess]:
    """A server on a new directory and a port of the kernel's choice."""
    with FloProcess(tmp_path / "data") as server:
        yield server


@pytest.fixture(scope="module")
def shared_flo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    """One server for the tests of a module that leave it as they found it."""
    with FloProcess(tmp_path_factory.mktemp("shared") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A redis-server with `appendfsync always`, to compare with."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    with RedisProcess(tmp_path_factory.mktemp("redis")) as server:
        yield server
