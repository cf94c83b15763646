"""The table of channels by itself: who gets what, in which order, and its limits."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.commands import channels as module
from flo.commands.channels import Channels, Subscriptions
from flo.errors import BadRequest, Overloaded
from flo.store.pattern import Pattern
from tests.support.fakes import FakeHost, FakePeer, feed, session
from tests.support.processes import encode


class Listener:
    """A session with nothing but its subscriptions."""

    def __init__(self, v3: bool = False) -> None:
        self.v3 = v3
        self.subscriptions: Subscriptions | None = None
        self.peer = FakePeer()


NAMES = [b"a", b"b", b"ab", b"*", b"a*", b"?"]
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["subscribe", "unsubscribe"]), st.integers(0, 3), st.sampled_from(NAMES), st.booleans()),
        st.tuples(st.just("publish"), st.just(0), st.sampled_from(NAMES), st.just(False)),
        st.tuples(st.sampled_from(["deliver", "forget"]), st.integers(0, 3), st.just(b""), st.just(False)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(steps)
def test_a_model_of_who_gets_which_message(sequence: list[tuple[str, int, bytes, bool]]) -> None:
    """A message goes to those who have subscribed when it is published, unless they unsubscribe before it is delivered."""
    table, people = Channels(), [Listener(v3=number % 2 == 1) for number in range(4)]
    mine: list[dict[tuple[bool, bytes], int]] = [{} for _ in people]  # subscriptions, by the step they began with
    waiting: list[tuple[int, bytes, bytes, bytes, bool, int]] = []
    wanted: list[list[bytes]] = [[] for _ in people]
    for step, (what, number, name, pattern) in enumerate(sequence):
        if what == "subscribe":
            mine[number].setdefault((pattern, name), step)
            assert table.subscribe(people[number], name, pattern) == len(mine[number])
        elif what == "unsubscribe":
            mine[number].pop((pattern, name), None)
            assert table.unsubscribe(people[number], name, pattern) == len(mine[number])
        elif what == "forget":
            mine[number].clear()
            table.forget(people[number])
        elif what == "publish":
            payload, count = b"%d" % step, 0
            for each, own in enumerate(mine):
                for by_pattern, subscribed in own:
                    if Pattern(subscribed).matches(name) if by_pattern else subscribed == name:
                        waiting.append((each, subscribed, name, payload, by_pattern, own[by_pattern, subscribed]))
                        count += 1
            assert table.publish(name, payload) == count
        else:
            while table.deliver():
                pass
            for each, subscribed, channel, payload, by_pattern, _ in waiting:
                if (by_pattern, subscribed) in mine[each]:
                    words = [b"pmessage", subscribed, channel, payload] if by_pattern else [b"message", channel, payload]
                    mark = b">" if each % 2 else b"*"
                    wanted[each].append(mark + encode(*words)[1:])
            waiting.clear()
        for each, person in enumerate(people):
            assert Counter(person.peer.out) == Counter(wanted[each])  # of one message, the order of patterns is nobody's business
            payloads = [piece.split(b"\r\n")[-2] for piece in person.peer.out]
            assert payloads == sorted(payloads, key=int)
        assert table.subscriptions == sum(map(len, mine)) and table.subscribers == sum(map(bool, mine))
        assert set(table.channels) == {name for own in mine for by_pattern, name in own if not by_pattern}
        assert set(table.patterns) == {name for own in mine for by_pattern, name in own if by_pattern}


def test_a_turn_delivers_only_so_much() -> None:
    table, people = Channels(), [Listener() for _ in range(250)]
    for each in people:
        table.subscribe(each, b"c", False)
    assert table.publish(b"c", b"1") == table.publish(b"c", b"2") == 250
    pushes = []
    while table.waiting:
        table.deliver()
        pushes.append(sum(len(each.peer.out) for each in people))
    assert pushes == [100, 200, 300, 400, 500]
    assert all([piece[-5:] for piece in each.peer.out] == [b"\r\n1\r\n", b"\r\n2\r\n"] for each in people)


def test_limits_are_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATTERNS_MAX", 3)
    monkeypatch.setattr(module, "CONNECTION_SUBSCRIPTIONS_MAX", 3)
    monkeypatch.setattr(module, "SUBSCRIPTIONS_MAX", 5)
    table, one, other = Channels(), Listener(), Listener()
    table.admit(one, [b"a", b"b", b"c"], True)
    for name in (b"a", b"b", b"c"):
        table.subscribe(one, name, True)
    table.admit(other, [b"a"], True)  # a pattern that is there already
    with pytest.raises(Overloaded, match="different patterns"):
        table.admit(other, [b"d"], True)
    with pytest.raises(Overloaded, match="a connection may have 3"):
        table.admit(one, [b"x"], False)
    with pytest.raises(Overloaded, match="may have 5"):
        table.admit(other, [b"x", b"y", b"z"], False)
    with pytest.raises(BadRequest, match="1025 bytes; it may have 1024"):
        table.admit(other, [b"x" * 1025], False)


def test_a_publisher_waits_only_while_too_much_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES_MAX", 300)
    host = FakeHost()
    host.settings.profile = "redis"
    listener, publisher = session(host), session(host)
    assert feed(listener, encode("SUBSCRIBE", "c")).endswith(b":1\r\n")
    assert feed(publisher, encode("PUBLISH", "c", "x" * 60)) == b":1\r\n"
    assert feed(publisher, encode("PUBLISH", "c", "y" * 60)) == b":1\r\n"
    assert host.channels.full
    publisher.feed(encode("PUBLISH", "c", "z") + encode("PING"), 1 << 30)
    assert publisher.job is not None and not publisher.resume() and publisher.peer.out == []
    assert not host.channels.deliver() and not host.channels.full
    assert publisher.resume() and publisher.peer.out == [b":1\r\n"]
    assert host.channels.waiting
    assert feed(publisher, encode("PUBLISH", "c", "x" * 200)).endswith(b":1\r\n") and host.channels.full
    # a transaction cannot wait, and what it publishes is bounded by what it may hold
    publisher.peer.out.clear()
    for words in (("MULTI",), ("PUBLISH", "c", "x")):
        feed(publisher, encode(*words))
    assert feed(publisher, encode("EXEC")) == b"*1\r\n:1\r\n"
    host.close()
