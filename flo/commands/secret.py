"""Checks the secret that a client gives, for every protocol (SPEC section 8)."""

from typing import NamedTuple

from flo.commands.guesses import FAILURE_SECONDS
from flo.commands.host import Host, Peer
from flo.errors import Overloaded, Refusal, Unauthorized


class Verdict(NamedTuple):
    """What is answered to a secret."""

    refusal: Refusal | None  # None: it is right
    seconds: float  # that the answer waits; every answer does, or its time would tell whether the secret was right


def judge(host: Host, peer: Peer, secret: bytes, user: bytes = b"default") -> Verdict:
    """Whether the secret and the user are right. A failure is counted and logged."""
    from hmac import compare_digest  # not at every start: it loads OpenSSL

    expected = host.secret
    assert expected is not None
    seconds, compared = host.guesses.admit(peer.address)
    if not compared:
        host.counters.auth_failures += 1
        host.log("warning", "a secret was not looked at: too many wrong ones came from its address", peer=peer.address)
        sentence = "too many wrong secrets came from your address, so this one was not looked at; retry in a minute"
        return Verdict(Overloaded(sentence), FAILURE_SECONDS)
    # both are compared even if the first is wrong, so the time taken does not tell which one is
    if compare_digest(secret, expected) & compare_digest(user, b"default"):
        return Verdict(None, seconds)
    host.counters.auth_failures += 1
    host.guesses.failed(peer.address)
    host.log("warning", "a client gave a wrong secret", peer=peer.address)
    return Verdict(Unauthorized("the secret is wrong"), FAILURE_SECONDS)
