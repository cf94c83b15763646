"""Compare and set, compare and delete: `SET … IFEQ`, DELEX, DELIFEQ, as documentation and tests of Redis 8.4 and Valkey 9 have them.

No released package of these servers is at hand, so the model below is what they are compared with.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes import FakeHost, feed, session
from tests.support.processes import encode

WRONG_TYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
NIL = b"$-1\r\n"
DOCUMENT = object()  # what the model keeps for a JSON document


def bulk(value: bytes | None) -> bytes:
    """A string, or nil."""
    return NIL if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


class Model:
    """What a Redis 8.4 answers to these commands, on the keys of one database."""

    def __init__(self) -> None:
        self.keys: dict[str, object] = {}

    def answer(self, name: str, key: str, words: list[str]) -> bytes:
        """The reply to one request, which is carried out."""
        old = self.keys.get(key)
        if name == "DOCUMENT":
            self.keys[key] = DOCUMENT
            return b"+OK\r\n"
        if name == "GET":
            return WRONG_TYPE if old is DOCUMENT else bulk(old)  # type: ignore[arg-type]
        if name in ("DELIFEQ", "DELEX"):
            return self.delete(key, [] if not words else ["IFEQ", *words] if name == "DELIFEQ" else words, old)
        value, *rest = words
        compares, gets = "IFEQ" in rest or "IFNE" in rest, "GET" in rest
        if (compares or gets) and old is DOCUMENT:
            return WRONG_TYPE
        shown = bulk(old) if gets else NIL  # type: ignore[arg-type]
        if compares:
            at = rest.index("IFEQ" if "IFEQ" in rest else "IFNE")
            if (old == rest[at + 1].encode()) != (rest[at] == "IFEQ"):
                return shown
        self.keys[key] = value.encode()
        return shown if gets else b"+OK\r\n"

    def delete(self, key: str, condition: list[str], old: object) -> bytes:
        """DELEX, whose condition is two words or none."""
        if condition and old is DOCUMENT:
            return WRONG_TYPE
        if old is None or (condition and (old == condition[1].encode()) != (condition[0] == "IFEQ")):
            return b":0\r\n"
        del self.keys[key]
        return b":1\r\n"


values = st.sampled_from(["", "a", "b", "12", "a" * 40])
comparison = st.tuples(st.sampled_from(["IFEQ", "IFNE"]), values).map(list)
requests = st.one_of(
    st.tuples(st.sampled_from(["GET", "DOCUMENT", "DELEX"]), st.sampled_from("kq"), st.just([])),
    st.tuples(st.just("SET"), st.sampled_from("kq"), st.tuples(values).map(list)),
    st.tuples(st.just("SET"), st.sampled_from("kq"), st.tuples(values, comparison).map(lambda t: [t[0], *t[1]])),
    st.tuples(st.just("SET"), st.sampled_from("kq"), st.tuples(values, comparison).map(lambda t: [t[0], "GET", *t[1]])),
    st.tuples(st.just("DELEX"), st.sampled_from("kq"), comparison),
    st.tuples(st.just("DELIFEQ"), st.sampled_from("kq"), st.tuples(values).map(list)),
)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(requests, max_size=30))
def test_every_sequence_is_answered_as_the_model_says(sequence: list[tuple[str, str, list[str]]]) -> None:
    host = FakeHost()
    try:
        made, model = session(host), Model()
        for name, key, words in sequence:
            line = [name, key, *words]
            if name == "DOCUMENT":
                feed(made, encode("DEL", key))
                line = ["JSON.SET", key, "$", "{}"]
            assert feed(made, encode(*line)) == model.answer(name, key, words), line
    finally:
        host.close()


def test_times_stay_or_go_as_with_a_plain_set() -> None:
    host = FakeHost()
    made = session(host)
    for line, reply in (
        ("SET k a EX 100", b"+OK\r\n"),
        ("SET k b IFEQ a KEEPTTL", b"+OK\r\n"),
        ("TTL k", b":100\r\n"),
        ("SET k c IFEQ b EX 50", b"+OK\r\n"),
        ("TTL k", b":50\r\n"),
        ("SET k d IFEQ nothing", b"$-1\r\n"),
        ("TTL k", b":50\r\n"),
        ("SET k e IFEQ c", b"+OK\r\n"),
        ("TTL k", b":-1\r\n"),
        ("SET k f PX 1 IFEQ e", b"+OK\r\n"),
    ):
        assert feed(made, encode(*line.split())) == reply, line
    host.time += 2
    host.engine.tick()
    assert feed(made, encode("DELEX", "k", "IFEQ", "f")) == b":0\r\n"  # its time is over
    assert feed(made, encode("DELIFEQ", "k", "f")) == b":0\r\n"
    host.close()


def test_what_makes_no_sense_is_refused() -> None:
    host = FakeHost()
    made = session(host)
    feed(made, encode("SET", "k", "v"))
    feed(made, encode("LPUSH", "queue", "v"))
    for line, reply in (
        ("SET k w IFEQ", b"-ERR syntax error\r\n"),
        ("SET k w IFEQ v NX", b"-ERR syntax error\r\n"),
        ("SET k w XX IFEQ v", b"-ERR syntax error\r\n"),
        ("SET k w IFEQ v IFNE x", b"-ERR syntax error\r\n"),
        ("SET k w IFDEQ 0123456789abcdef", b"-ERR Flo computes no digests of values; compare the value itself, with IFEQ or IFNE\r\n"),
        ("DELEX", b"-ERR wrong number of arguments for 'delex' command\r\n"),
        ("DELEX k IFEQ", b"-ERR wrong number of arguments for 'delex' command\r\n"),
        ("DELEX k IFEQ v w", b"-ERR wrong number of arguments for 'delex' command\r\n"),
        ("DELEX k WHEN v", b"-ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE\r\n"),
        ("DELEX k IFDNE 0123456789abcdef", b"-ERR Flo computes no digests of values; compare the value itself, with IFEQ or IFNE\r\n"),
        ("DELIFEQ k", b"-ERR wrong number of arguments for 'delifeq' command\r\n"),
        ("GET k", b"$1\r\nv\r\n"),
        ("DELEX queue IFEQ v", b":0\r\n"),  # a queue is no key
        ("DELEX queue", b":1\r\n"),  # … and DEL's way is for any kind
        ("COMMAND GETKEYSANDFLAGS SET k w IFEQ v", b"*1\r\n*2\r\n$1\r\nk\r\n*3\r\n+RW\r\n+access\r\n+update\r\n"),
        ("COMMAND GETKEYSANDFLAGS SET k w", b"*1\r\n*2\r\n$1\r\nk\r\n*2\r\n+OW\r\n+update\r\n"),
    ):
        assert feed(made, encode(*line.split())) == reply, line
    host.close()
