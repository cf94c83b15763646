"""Checks the secret that a client gives, for every protocol (SPEC section 8)."""

from flo.commands.host import Host, Peer

FAILURE_SECONDS = 1.0  # a wrong secret is refused after this time, so that nobody can guess at the speed of the loop


def is_right(host: Host, peer: Peer, secret: bytes, user: bytes = b"default") -> bool:
    """Whether the secret and the user are right; a failure is counted and logged."""
    from hmac import compare_digest  # not at every start: it loads OpenSSL

    expected = host.secret
    assert expected is not None
    # both are compared even if the first is wrong, so the time taken does not tell which one is
    right = compare_digest(secret, expected) & compare_digest(user, b"default")
    if not right:
        host.counters.auth_failures += 1
        host.log("warning", "a client gave a wrong secret", peer=peer.address)
    return right
