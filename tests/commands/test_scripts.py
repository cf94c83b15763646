"""EVAL, EVALSHA and SCRIPT: what is known, what is refused, and what is remembered."""

from collections.abc import Iterator
from hashlib import sha1

import pytest
from redis.lock import Lock

from flo.commands.resp import scripts
from flo.commands.resp.scripts import canonical
from flo.commands.resp.session import RespSession
from tests.support.fakes import FakeHost, feed, session
from tests.support.processes import encode

RELEASE = Lock.LUA_RELEASE_SCRIPT
DIGEST = sha1(RELEASE.encode()).hexdigest()
NO_SCRIPT = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"


@pytest.fixture
def made() -> Iterator[RespSession]:
    """A session of the profile `redis`."""
    host = FakeHost()
    host.settings.profile = "redis"
    yield session(host)
    host.close()


def test_the_text_may_be_written_in_any_way() -> None:
    written = b"return redis.call('get',\n KEYS[1])  -- the value\n"
    for other in (b"return redis.call('get', KEYS[1])", b'return --[[ a\nb ]] redis . call("get",KEYS [1])'):
        assert canonical(other) == canonical(written)
    for other in (b"return redis.call('get', KEYS[2])", b"return redis.call('get ', KEYS[1])", b"returnredis.call('get', KEYS[1])"):
        assert canonical(other) != canonical(written)
    assert canonical(b"f('a:*')") == (canonical(b"f('b c:*')")[0], [b"a"])
    assert canonical(b"f('--')") != canonical(b"f('')")  # a comment only outside of a string


def test_what_was_loaded_or_sent_is_known_to_evalsha(made: RespSession) -> None:
    assert feed(made, encode("EVALSHA", DIGEST, "1", "k", "token")) == NO_SCRIPT
    assert feed(made, encode("SCRIPT", "LOAD", RELEASE)) == b"$40\r\n%b\r\n" % DIGEST.encode()
    assert feed(made, encode("SCRIPT", "EXISTS", DIGEST.upper(), "0" * 40)) == b"*2\r\n:1\r\n:0\r\n"
    feed(made, encode("SET", "k", "token"))
    assert feed(made, encode("EVALSHA", DIGEST, "1", "k", "other")) == b":0\r\n"
    assert feed(made, encode("EVALSHA", DIGEST, "1", "k", "token")) == b":1\r\n"
    assert feed(made, encode("SCRIPT", "FLUSH", "ASYNC")) == b"+OK\r\n"
    assert feed(made, encode("EVALSHA", DIGEST, "1", "k", "token")) == NO_SCRIPT
    assert feed(made, encode("EVAL", RELEASE, "1", "k", "token")) == b":0\r\n"
    assert feed(made, encode("EVALSHA", DIGEST, "1", "k", "token")) == b":0\r\n"
    assert feed(made, encode("SCRIPT", "FLUSH", "NOW")) == b"-ERR SCRIPT FLUSH only support SYNC|ASYNC option\r\n"


def test_every_other_script_is_refused_by_a_sentence(made: RespSession) -> None:
    for text in (
        "return 1",
        RELEASE.replace("'del'", "'unlink'"),
        RELEASE + "x" * 20_000,
        "for i, name in ipairs(redis.call('KEYS', 'a\\'b:*')) do redis.call('DEL', name); end",
    ):
        for words in (("EVAL", text, "0"), ("SCRIPT", "LOAD", text)):
            reply = feed(made, encode(*words))
            assert reply.startswith(b"-ERR this script is not known: Flo runs no Lua") and b"MULTI with WATCH" in reply
    assert not made.host.scripts


def test_numbers_that_make_no_sense(made: RespSession) -> None:
    for words, error in (
        (("EVAL", RELEASE, "x"), b"value is not an integer or out of range"),
        (("EVAL", RELEASE, "-1", "k"), b"Number of keys can't be negative"),
        (("EVAL", RELEASE, "3", "k", "token"), b"Number of keys can't be greater than number of args"),
        (("EVAL", RELEASE, "0", "k", "token"), b"this script (redis-py, Lock.release) takes 1 keys and 1 arguments, and got fewer"),
        (("EVAL", RELEASE), b"wrong number of arguments for 'eval' command"),
        (("SCRIPT", "KILL"), b"SCRIPT KILL is not supported: no script runs long enough to be looked at"),
    ):
        assert feed(made, encode(*words)) == b"-ERR " + error + b"\r\n"


def test_only_so_many_texts_are_remembered(made: RespSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "LOADED_MAX", 3)
    written = [RELEASE + " " * spaces for spaces in range(5)]
    for text in written:
        feed(made, encode("SCRIPT", "LOAD", text))
    digests = [sha1(text.encode()).hexdigest() for text in written]
    assert feed(made, encode("SCRIPT", "EXISTS", *digests)) == b"*5\r\n:0\r\n:0\r\n:1\r\n:1\r\n:1\r\n"


def test_within_a_transaction_and_in_the_profile_flo(made: RespSession) -> None:
    feed(made, encode("SET", "k", "token"))
    for words in (
        ("MULTI",),
        ("EVAL", RELEASE, "1", "k", "token"),
        ("EVAL", RELEASE, "1", "k", "token"),
        ("EVALSHA", DIGEST, "1", "k", "t"),
    ):
        feed(made, encode(*words))
    assert feed(made, encode("EXEC")) == b"*3\r\n:1\r\n:0\r\n:0\r\n"
    feed(made, encode("MULTI"))
    feed(made, encode("EVAL", "for i, name in ipairs(redis.call('KEYS', 'a:*')) do redis.call('DEL', name); end", "0"))
    assert b"-ERR this script deletes in slices" in feed(made, encode("EXEC"))
    made.host.settings.profile = "flo"
    other = session(made.host)  # type: ignore[arg-type]  # the fake one
    for line in (["EVAL", RELEASE, "1", "k", "token"], ["EVALSHA", DIGEST, "0"], ["SCRIPT", "LOAD", RELEASE]):
        assert b"is not supported: Flo runs no scripts in the profile `flo`" in feed(other, encode(*line))
    assert b"is not supported" in feed(other, encode("SCRIPT", "HELP"))
