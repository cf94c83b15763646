"""The budget of wrong secrets: by address, over both protocols, bounded."""

import pytest

from flo.commands.guesses import ADDRESSES_MAX, COMPARED_MAX, FAILURES_MAX, FORGET_SECONDS, Guesses
from tests.support.fakes import FakeHost, FakePeer, feed, session
from tests.support.processes import encode

AT_ONCE, LATER, NOT_COMPARED = (0.0, True), (1.0, True), (1.0, False)


class Clock:
    """A steady clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def spend(budget: Guesses, address: str) -> None:
    for _ in range(FAILURES_MAX):
        assert budget.admit(address) == AT_ONCE
        budget.failed(address)


def test_past_the_budget_every_answer_waits() -> None:
    clock = Clock()
    budget = Guesses(clock)
    spend(budget, "192.0.2.1:1000")
    assert budget.admit("192.0.2.1:2000") == LATER, "another port is the same address"
    assert budget.admit("192.0.2.2:1000") == AT_ONCE
    for _ in range(COMPARED_MAX - 1):
        assert budget.admit("192.0.2.1:2000") == LATER
    for _ in range(100):
        assert budget.admit("192.0.2.1:2000") == NOT_COMPARED
    clock.now += 1
    assert budget.admit("192.0.2.1:1000") == LATER


def test_failures_are_forgiven_one_by_one() -> None:
    clock = Clock()
    budget = Guesses(clock)
    spend(budget, "192.0.2.1:1")
    for _ in range(50):
        budget.failed("192.0.2.1:1")  # those past the budget add nothing to it
    clock.now += FORGET_SECONDS - 0.1
    assert budget.admit("192.0.2.1:1") == LATER
    clock.now += 0.1
    assert budget.admit("192.0.2.1:1") == AT_ONCE
    budget.failed("192.0.2.1:1")
    assert budget.admit("192.0.2.1:1") == LATER
    clock.now += FAILURES_MAX * FORGET_SECONDS
    spend(budget, "192.0.2.1:1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("[2001:db8:1:2:3::4]:1", "[2001:db8:1:2:ffff::]:2", True),
        ("[2001:db8:1:2::]:1", "[2001:db8:1:3::]:1", False),
        ("[fe80::1%eth0]:1", "[fe80::2%eth1]:1", True),
        ("[::ffff:192.0.2.1]:1", "192.0.2.1:1", True),
        ("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:1", False),
        ("192.0.2.1:1", "192.0.2.11:1", False),
    ],
)
def test_addresses(one: str, other: str, same: bool) -> None:
    budget = Guesses(Clock())
    spend(budget, one)
    assert budget.admit(one) == LATER
    assert budget.admit(other) == (LATER if same else AT_ONCE)


def test_the_address_that_failed_longest_ago_is_forgotten() -> None:
    budget = Guesses(Clock())
    spend(budget, "10.255.0.1:1")
    spend(budget, "10.255.0.2:1")
    for number in range(ADDRESSES_MAX - 2):
        budget.failed(f"10.0.{number >> 8}.{number & 255}:1")
    budget.failed("10.255.0.1:1")
    budget.failed("10.254.0.1:1")
    assert budget.admit("10.255.0.1:1") == LATER, "it goes on failing"
    assert budget.admit("10.255.0.2:1") == AT_ONCE
    assert len(budget._records) == ADDRESSES_MAX


RIGHT: list[tuple[str | int, ...]] = [
    ("AUTH", "right"),
    ("AUTH", "default", "right"),
    ("HELLO", 3, "AUTH", "default", "right"),
    ("HELLO", 3, "AUTH", "default", "right", "SETNAME", "a name with spaces"),
    ("HELLO", 3, "AUTH", "default", "right", "NOOPTION"),
]


@pytest.mark.parametrize("words", RIGHT, ids=lambda words: " ".join(map(str, words)))
def test_the_time_does_not_tell_whether_a_secret_is_right(words: tuple[str | int, ...]) -> None:
    """Past the budget, a request with the right secret says nothing before a second either; within it, at once."""
    host = FakeHost()
    host.secret = b"right"
    try:
        assert feed(session(host), encode(*words)) != b""
        for _ in range(FAILURES_MAX):
            host.guesses.failed(FakePeer().address)
        made = session(host)
        assert feed(made, encode(*words)) == b""
        assert isinstance(made.peer, FakePeer) and len(made.peer.later) == 1
        made.peer.later.pop()()
        assert made.peer.out != [] and made.authenticated
        for _ in range(COMPARED_MAX):
            host.guesses.admit(FakePeer().address)
        made = session(host)
        assert feed(made, encode(*words)) == b"" and not made.authenticated, "it is not compared"
        assert isinstance(made.peer, FakePeer)
        made.peer.later.pop()()
        assert made.peer.out[0].startswith(b"-BUSY too many wrong secrets")
    finally:
        host.close()
