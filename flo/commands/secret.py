"""Checking the secret a client gives: the same for every protocol (SPEC section 8)."""

from flo.commands.host import Host, Peer

FAILURE_SECONDS = 1.0  # a wrong one is answered after this, so that a secret cannot be guessed at the speed of the loop


def is_right(host: Host, peer: Peer, secret: bytes, user: bytes = b"default") -> bool:
    """Whether they are the server's; a failure is counted and logged."""
    from hmac import compare_digest  # it brings OpenSSL along

    expected = host.secret
    assert expected is not None
    # both compared whatever the first says: the time taken tells nothing
    right = compare_digest(secret, expected) & compare_digest(user, b"default")
    if not right:
        host.counters.auth_failures += 1
        host.log("warning", "a client gave a wrong secret", peer=peer.address)
    return right
