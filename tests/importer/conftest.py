"""A Redis and a Flo for the tests of the import, empty at the start of each test."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import flo
from flo.importer.report import Report
from flo.importer.run import Import, Options
from flo.importer.wire import Source
from tests.support.processes import FloProcess, RedisProcess, RespClient


class Sides(NamedTuple):
    """The two servers, and a client of each."""

    redis: RespClient
    flo: RespClient
    url: str
    port: int

    def copy(
        self, *, match: str = "", documents: bool = False, lpop: bool = False, dry_run: bool = False, namespace: str = "default"
    ) -> Report:
        """Import in this process."""
        with flo.Client(f"flo://127.0.0.1:{self.port}/{namespace}") as client:
            work = Import(client, Source(self.url), Options(match, documents, lpop, dry_run))
            report = work.run()
            work.forget()
            return report

    def connect(self) -> RespClient:
        """Another client of the Flo."""
        return RespClient(self.port, 30)

    def clear(self) -> None:
        """Empty both."""
        self.redis.command("FLUSHALL")
        self.flo.command("FLUSHALL")


@pytest.fixture(scope="module")
def servers() -> Iterator[Sides]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is missing: apt-get install redis-server")
    with (
        tempfile.TemporaryDirectory() as directory,
        RedisProcess(Path(directory), "--appendonly", "no") as redis,
        FloProcess(Path(directory) / "flo", "--durability", "async") as server,
        redis.connect() as source,
        server.connect() as target,
    ):
        yield Sides(source, target, f"redis://127.0.0.1:{redis.port}", server.port)


@pytest.fixture
def sides(servers: Sides) -> Sides:
    servers.clear()
    return servers
