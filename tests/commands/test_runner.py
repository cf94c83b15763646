"""For every protocol: MONITOR and SLOWLOG see binary requests too, and replies that nobody wants are not sent."""

import pytest

from flo.commands.binary import load_handlers
from flo.commands.binary.session import BinarySession
from flo.commands.runner import Session
from flo.operations import BY_NAME
from flo.proto.binary import encode_request
from tests.support.fakes import FakeHost, FakePeer, feed, session
from tests.support.processes import encode

pytestmark = pytest.mark.computes
load_handlers()


class Watcher(FakePeer):
    """Keeps what MONITOR shows."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def push(self, data: bytes) -> None:
        self.lines.append(data.decode().split("] ", 1)[1].rstrip())


def test_monitor_shows_the_requests_of_every_protocol_and_no_secret() -> None:
    host = FakeHost()
    try:
        watcher = Watcher()
        resp, binary = session(host), BinarySession(host, FakePeer())
        host.monitors.add(watcher)
        feed(resp, encode("SET", "k", 'a "b"\n') + encode("AUTH", "secret") + encode("NOSUCH", "x") + b"GET k\r\n")
        binary.feed(
            encode_request(BY_NAME["kv_put"], 1, 0, b"key", b"\xff") + encode_request(BY_NAME["auth"], 2, 0, b"", b"secret")
            + encode_request(BY_NAME["queue_list"], 3), 1 << 20,
        )  # fmt: skip
        assert watcher.lines == ['"SET" "k" "a \\"b\\"\\n"', '"GET" "k"', '"kv_put" "key" "\\xff"', '"queue_list"']
    finally:
        host.close()


def test_slow_requests_of_every_protocol_are_kept() -> None:
    host = FakeHost()
    try:
        host.settings.slowlog_slower_than = 0
        resp, binary = session(host), BinarySession(host, FakePeer())
        feed(resp, encode("GET", "k") * 2 + encode("AUTH", "secret"))
        binary.feed(encode_request(BY_NAME["kv_get"], 1, 0, b"k" * 200), 1 << 20)
        words = [entry.args for entry in host.slow]
        assert words[:3] == [[b"GET", b"k"], [b"GET", b"k"], [b"auth", b"(redacted)"]]
        assert words[3] == [b"kv_get", b"k" * 128 + b"... (72 more bytes)"]
    finally:
        host.close()


def test_what_a_client_has_asked_last_is_listed() -> None:
    host = FakeHost()
    try:
        resp, binary = session(host), BinarySession(host, FakePeer())
        feed(resp, encode("SET", "k", "v") + encode("GET", "k"))
        binary.feed(encode_request(BY_NAME["kv_get"], 1, 0, b"k"), 1 << 20)
        each: Session
        for each, name in ((resp, "get"), (binary, "kv_get")):
            assert f"cmd={name} " in each.describe()
    finally:
        host.close()


def test_replies_that_nobody_wants() -> None:
    """CLIENT REPLY in every order with plain, sliced, waiting and refused commands: no reply is shifted."""
    host = FakeHost()
    try:
        made = session(host)
        skip, off, on = (encode("CLIENT", "REPLY", word) for word in ("SKIP", "OFF", "ON"))
        get, keys, wrong, wait = encode("GET", "k"), encode("KEYS", "*"), encode("INCR", "k", "x"), encode("BRPOP", "q", "0")
        feed(made, encode("SET", "k", "v"))
        assert feed(made, skip + get + get) == b"$1\r\nv\r\n"
        assert feed(made, skip + keys + get) == b"$1\r\nv\r\n"
        assert feed(made, skip + wrong + get) == b"$1\r\nv\r\n"
        assert feed(made, off + get + keys + wrong + skip + get) == b""
        assert feed(made, on + get) == b"+OK\r\n$1\r\nv\r\n"
        assert feed(made, skip + wait + get) == b""
        other = session(host)
        assert feed(other, encode("LPUSH", "q", "m")) == b":1\r\n"
        assert feed(made, b"") + feed(made, get) == b"$1\r\nv\r\n" * 2
        assert feed(made, off + skip + get + get) == b"", "it is off already"
    finally:
        host.close()


@pytest.mark.parametrize("request_", [("MGET",), ("EXISTS",), ("DEL",), ("MSET",)])
def test_ten_thousand_keys_that_have_just_expired_are_buried_in_slices(request_: tuple[str, ...]) -> None:
    host = FakeHost()
    try:
        made = session(host)
        keys = [f"k{number:05}" for number in range(10_000)]
        feed(made, b"".join(encode("SET", key, "v", "PX", "1") for key in keys) + encode("SET", "k10000", "v"))
        host.tick()
        host.time += 10
        host.tick()
        words = [word for key in keys for word in ((key, "w") if request_ == ("MSET",) else (key,))]
        assert made.feed(encode(*request_, *words), 1 << 30)
        slices = 1
        while made.job is not None:
            made.resume()
            slices += 1
        assert slices >= 20, "500 keys in one go"
        answer = b"".join(made.peer.out)
        assert answer == {"MGET": b"*10000\r\n" + b"$-1\r\n" * 10_000, "MSET": b"+OK\r\n"}.get(request_[0], b":0\r\n")
        assert len(host.engine.kv.history(b"k00000")) == (3 if request_ == ("MSET",) else 2)
    finally:
        host.close()
