"""Whatever command or operation a client sends, however it is executed, it is counted, timed, shown by MONITOR and kept by SLOWLOG."""

import re
from collections.abc import Iterator

import pytest

from flo.commands.binary import load_handlers
from flo.commands.binary.session import BinarySession
from flo.commands.resp import load_table, table
from flo.commands.runner import Session
from flo.operations import BY_NAME, OPERATIONS
from flo.proto.binary import encode_request
from tests.support.fakes import FakeHost, FakePeer, feed, session
from tests.support.processes import encode

pytestmark = pytest.mark.computes
load_handlers()
load_table()

RESP = [
    *((name.decode(), command.arity) for name, command in sorted(table.COMMANDS.items())),
    *(
        (f"{name.decode()} {word.decode()}", sub.arity)
        for name, command in sorted(table.COMMANDS.items())
        for word, sub in command.subcommands.items()
    ),
]


class Watcher(FakePeer):
    """Keeps what MONITOR shows."""

    def push(self, data: bytes) -> None:
        super().push(data.split(b"] ", 1)[1].rstrip())


@pytest.fixture
def host() -> Iterator[FakeHost]:
    host = FakeHost()
    host.settings.slowlog_slower_than = 0
    yield host
    host.close()


def run_out(one: Session) -> None:
    """Run the job that a request has begun, if it has."""
    while one.job is not None:
        one.resume()


@pytest.mark.parametrize(("name", "arity"), RESP, ids=lambda value: str(value).replace(" ", "_"))
def test_every_command(host: FakeHost, name: str, arity: int) -> None:
    watcher = Watcher()
    host.monitors.add(watcher)
    one = session(host)
    words = name.split()
    words += ["x"] * (abs(arity) - len(words))
    feed(one, encode(*words))
    run_out(one)
    title = name.replace(" ", "|").lower()
    (tally,) = host.tallies.used()
    assert (tally.protocol, tally.name, tally.calls, tally.rejected) == ("resp", title, 1, 0)
    assert tally.seconds > 0
    assert host.counters.commands == 1
    assert one.last_command == title
    shown = "no_monitor" not in table.COMMANDS[words[0].encode()].flags
    assert bool(watcher.out) == shown
    (entry,) = host.slow
    assert entry.args[0].decode().lower() == (words[0].lower() if shown else title)


@pytest.mark.parametrize("name", [operation.name for operation in OPERATIONS])
@pytest.mark.parametrize("value", [b"", b"x"])
def test_every_operation(host: FakeHost, name: str, value: bytes) -> None:
    """Most are refused for what they are sent here, some by the decoder and some by the handler: they are counted all the same."""
    watcher = Watcher()
    host.monitors.add(watcher)
    one = BinarySession(host, FakePeer())
    one.feed(encode_request(BY_NAME[name], 1, 0, b"key", value), 1 << 20)
    run_out(one)
    (tally,) = host.tallies.used()
    assert (tally.protocol, tally.name) == ("binary", name)
    assert tally.calls + tally.rejected == 1
    assert host.counters.commands == 1
    assert one.last_command == name
    assert sum(host.tallies.errors.values()) == tally.failed + tally.rejected
    shown = name != "auth" and not tally.rejected
    assert bool(watcher.out) == shown
    (entry,) = host.slow
    assert entry.args[:2] == ([name.encode(), b"key"] if shown else [name.encode(), b"(redacted)"])


def test_what_is_answered_with_an_error(host: FakeHost) -> None:
    one = session(host)
    feed(one, encode("SET", "text", "x"))
    for words in (
        ["INCR", "text"],
        ["INCR"],
        ["NOSUCH", "x"],
        ["CONFIG", "NOSUCH"],
        ["CONFIG", "GET"],
        ["SET", "k", "v", "EX", "0"],
        ["SETEX"],
    ):
        feed(one, encode(*words))
    feed(one, encode("GET", "nothing"))
    counts = {tally.name: (tally.calls, tally.rejected, tally.failed) for tally in host.tallies.used()}
    assert counts == {
        "config": (1, 0, 1),
        "config|get": (0, 1, 0),
        "get": (1, 0, 0),
        "incr": (1, 1, 1),
        "set": (2, 0, 1),
        "setex": (0, 1, 0),
    }
    assert host.tallies.errors == {"WRONGTYPE": 1, "ERR": 6}
    said = feed(one, encode("INFO", "commandstats", "errorstats", "stats")).decode()
    assert "errorstat_ERR:count=6\r\nerrorstat_WRONGTYPE:count=1" in said and "total_error_replies:7\r\n" in said
    assert re.search(r"cmdstat_incr:calls=1,usec=\d+,usec_per_call=\d+\.\d\d,rejected_calls=1,failed_calls=1\r\n", said)
    assert "cmdstat_" not in feed(one, encode("INFO")).decode(), "it is long"
    feed(one, encode("CONFIG", "RESETSTAT"))
    assert feed(one, encode("INFO", "commandstats", "errorstats")).decode().count("stat_") == 1, "RESETSTAT itself is counted"


def test_a_pipeline_that_is_decoded_whole_is_counted_by_command(host: FakeHost) -> None:
    one = session(host)
    feed(one, b"".join(encode("SET", f"k{number}", "v" * number) + encode("GET", "k1") for number in range(50)) + encode("INCR", "k1"))
    assert {tally.name: (tally.calls, tally.failed) for tally in host.tallies.used()} == {"set": (50, 0), "get": (50, 0), "incr": (1, 1)}


def test_what_waits_is_counted_once(host: FakeHost) -> None:
    one = session(host)
    feed(one, encode("BRPOP", "q", "5"))
    host.timers[-1].callback()
    feed(one, encode("PING"))
    assert {tally.name: (tally.calls, tally.failed) for tally in host.tallies.used()} == {"brpop": (1, 0), "ping": (1, 0)}


@pytest.mark.parametrize(
    "words",
    [
        ["CONFIG", "SET", "requirepass", "hidden"],
        ["CONFIG", "SET", "maxmemory", "1gb", "MasterAuth", "hidden"],
        ["AUHT", "hidden"],
        ["AUTH", "default", "hidden", "more"],
        ["HELLO", "3", "AUTH", "default", "hidden"],
        ["ACL", "SETUSER", "bob", ">hidden"],
        ["MIGRATE", "host", "1", "k", "0", "5", "AUTH", "hidden"],
    ],
    ids=lambda words: words[0] + words[-2],
)
def test_nobody_is_shown_a_secret(host: FakeHost, words: list[str]) -> None:
    watcher = Watcher()
    host.monitors.add(watcher)
    one = session(host)
    feed(one, encode(*words))
    assert "hidden" not in repr([entry.args for entry in host.slow]) + repr(watcher.out) + one.describe() + repr(host.logged)
