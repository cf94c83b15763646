"""What of a client's session a follower takes to the leader, and what it keeps."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from flo.commands.binary.session import BinarySession
from flo.commands.host import LITTLE, READS
from flo.commands.http.security import check_host
from flo.forward import Start
from flo.operations import BY_NAME
from flo.proto.binary import encode_request
from flo.proto.http import HttpError
from tests.support.fakes import FakeHost, FakePeer, feed, session
from tests.support.processes import encode

LEADER = "10.0.0.1:9000"


class Follower(FakeHost):
    """A host that follows; it keeps what was to be forwarded."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[Start] = []

    def follow(self) -> None:
        """What was written so far came from the leader; this member writes no more."""
        self.engine.commit()
        self.engine.follow()
        self.engine.leader = LEADER
        self.serves = READS

    def forward(self, peer: Any, start: Start) -> bool:
        self.starts.append(start)
        return True


@pytest.fixture
def host() -> Iterator[Follower]:
    made = Follower()
    made.settings.profile = "redis"
    yield made
    made.engine.following = False
    made.close()


def test_a_transaction_begins_at_the_leader(host: Follower) -> None:
    """Else its first write would be executed there at once, outside of any transaction, and EXEC would be an error."""
    host.follow()
    client = session(host)
    assert feed(client, encode("MULTI")) == b""
    assert [start.request for start in host.starts] == [encode("MULTI")]


def test_what_a_transaction_watches_is_watched_at_the_leader(host: Follower) -> None:
    """Else nothing is watched where it is executed, and an update of another client is lost."""
    host.follow()
    client = session(host)
    assert feed(client, encode("WATCH", "k")) == b""
    assert [start.request for start in host.starts] == [encode("WATCH", "k")]


def test_channels_are_the_leaders(host: Follower) -> None:
    """PUBLISH goes to the leader, so a subscriber must be there too."""
    host.follow()
    client = session(host)
    assert feed(client, encode("SUBSCRIBE", "news")) == b""
    assert [start.request for start in host.starts] == [encode("SUBSCRIBE", "news")]


def test_a_client_that_may_only_read_may_only_read_at_the_leader(host: Follower) -> None:
    """A member that is behind passes reads on too."""
    host.secret, host.read_secret = b"all of it", b"reading"
    host.follow()
    host.serves = LITTLE
    client = session(host)
    client.set_authenticated(True, reads_only=True)
    feed(client, encode("GET", "k"))
    binary = BinarySession(host, FakePeer())
    binary.set_authenticated(reads_only=True)
    binary.feed(encode_request(BY_NAME["kv_get"], 1, 0, b"k"), 1 << 20)
    assert len(host.starts) == 2
    for start in host.starts:
        assert b"all of it" not in start.greeting and b"reading" in start.greeting


def test_a_namespace_that_was_deleted_is_not_taken_to_the_leader(host: Follower) -> None:
    """USE is refused there, and what follows would be written to the namespace `default`."""
    client = session(host)
    feed(client, encode("NAMESPACE", "CREATE", "orders") + encode("USE", "orders"))
    host.engine.delete_namespace("orders")
    host.follow()
    assert b"was deleted" in feed(client, encode("SET", "k", "v"))
    assert host.starts == []


def test_a_members_name_is_known_to_the_leader(host: Follower) -> None:
    """What a follower passes on over HTTP has the Host that its client has reached: the follower's name."""
    host.settings.advertise = "flo-a.test:9000"
    with pytest.raises(HttpError):
        check_host(host, b"flo-b.test:9000")
    host.cluster = SimpleNamespace(  # type: ignore[assignment]
        describe=lambda: {"members": [{"node": "b", "address": "flo-b.test:9000"}]}
    )
    check_host(host, b"flo-b.test:9000")
