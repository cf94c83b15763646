"""A copy of another member's log: where the member it is taken from changes meanwhile."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from flo.cluster.fetch import NotFetched, fetch, put_in_place
from flo.engine import Engine, EngineSettings
from flo.errors import Disconnected
from flo.ual.files import Files


class Source:
    """A member, and a client of it: both in one."""

    host = "127.0.0.1"

    def __init__(self, directory: Path, port: int) -> None:
        self.engine = Engine(str(directory), EngineSettings(segment_bytes=1 << 20))
        self.port = port
        self.left = 1 << 30  # pieces until it ends
        self.cluster = self
        for number in range(12):
            self.engine.kv.put(b"%d" % number, bytes([number]) * 200_000)

    def fetch(self, name: str, offset: int) -> Any:
        """See cluster_fetch."""
        if not name:
            text, sizes = self.engine.log.listing()
            return json.dumps({"files": sizes, "manifest": b64encode(text).decode()})
        self.left -= 1
        if self.left < 0:
            raise Disconnected("it has ended")
        return self.engine.log.piece_of(name, offset, 100_000)


def test_a_copy_goes_on_at_another_member(tmp_path: Path) -> None:
    """Its files have the same names, and other bytes."""
    first, second = Source(tmp_path / "first", 1), Source(tmp_path / "second", 2)
    own = tmp_path / "own"
    own.mkdir()
    first.left = 4
    with pytest.raises(NotFetched):
        fetch(Files(), first, str(own))  # type: ignore[arg-type]
    fetch(Files(), second, str(own))  # type: ignore[arg-type]
    assert put_in_place(Files(), str(own))
    with Engine(str(own)) as engine:
        assert [entry and entry.value for entry in engine.kv.mget([b"%d" % n for n in range(12)])] == [
            bytes([n]) * 200_000 for n in range(12)
        ]
    for source in (first, second):
        source.engine.close()
