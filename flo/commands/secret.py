"""Checks the secret that a client gives, for every protocol (SPEC section 8). There may be two: one for everything, and one for reading."""

from typing import NamedTuple

from flo.commands.guesses import FAILURE_SECONDS
from flo.commands.host import Host, Peer
from flo.errors import Forbidden, Overloaded, Refusal, Unauthorized


class Verdict(NamedTuple):
    """What is answered to a secret."""

    refusal: Refusal | None  # None: it is right
    seconds: float  # that the answer waits; every answer does, or its time would tell whether the secret was right
    reads_only: bool = False  # it is the read-only secret


def judge(host: Host, peer: Peer, secret: bytes, user: bytes = b"default") -> Verdict:
    """Whether the secret and the user are right. A failure is counted and logged."""
    from hmac import compare_digest  # not at every start: it loads OpenSSL

    expected, reading = host.secret, host.read_secret
    assert expected is not None
    seconds, compared = host.guesses.admit(peer.address)
    if not compared:
        host.counters.auth_failures += 1
        host.log("warning", "a secret was not looked at: too many wrong ones came from its address", peer=peer.address)
        sentence = "too many wrong secrets came from your address, so this one was not looked at; retry in a minute"
        return Verdict(Overloaded(sentence), FAILURE_SECONDS)
    # all are compared even if the first is wrong, so the time taken does not tell which one is
    known, writes = compare_digest(user, b"default"), compare_digest(secret, expected)
    reads = compare_digest(secret, reading if reading is not None else expected)
    if known & (writes | reads):
        return Verdict(None, seconds, reads_only=not writes)
    host.counters.auth_failures += 1
    host.guesses.failed(peer.address)
    host.log("warning", "a client gave a wrong secret", peer=peer.address)
    return Verdict(Unauthorized("the secret is wrong"), FAILURE_SECONDS)


def forbidden(what: str) -> Forbidden:
    """The refusal of a request that does not only read, for a client that gave the read-only secret."""
    return Forbidden(f"the read-only secret was given, and {what} does not only read; give the other secret")
