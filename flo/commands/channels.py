"""Publish and subscribe: who has subscribed to which channels and patterns, and the messages on their way. All in memory.

A message is published by a command, and pushed to its subscribers in that turn's upkeep, so behind the replies that the turn has given
them, or in the turns after it: PUSHES_PER_TURN at a time, because each push is a `send`, 5 to 10 us, and others would wait for ten thousand
of them. Its receivers are those of the moment it was published, less those that have unsubscribed since. Messages leave in the order they
were published, so all subscribers see the same order. What a subscriber has not taken is bounded (flo.conn, PUSH_BACKLOG_BYTES_MAX): past
that it is closed, and no publisher waits for it. A publisher waits only while too much is on its way (`full`).
"""

from collections import deque
from typing import Protocol

from flo.errors import BadRequest, Overloaded
from flo.proto.resp import bulk
from flo.store.pattern import Pattern

PUSHES_PER_TURN = 100  # 1 ms, with their sending
NAME_BYTES_MAX = 1024  # of a channel or a pattern: a channel is matched with every pattern, which takes up to 0.1 us a byte
PATTERNS_MAX = 1000  # different ones: each PUBLISH looks at all, 0.3 us each
SUBSCRIPTIONS_MAX = 1_000_000  # of all connections: up to 500 bytes each
CONNECTION_SUBSCRIPTIONS_MAX = 10_000
WAITING_PUSHES_MAX = 1_000_000  # of messages on their way …
WAITING_BYTES_MAX = 32 << 20  # … and their bytes


class Subscriptions:
    """What one connection has subscribed to, oldest first."""

    __slots__ = ("channels", "patterns")

    def __init__(self) -> None:
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.channels) + len(self.patterns)


class Receiver(Protocol):
    """A connection, as messages see it."""

    def push(self, data: bytes) -> None:
        """Send data that is no reply."""


class Subscriber(Protocol):
    """A session that may subscribe."""

    v3: bool  # RESP3: messages are pushes
    subscriptions: Subscriptions | None

    @property
    def peer(self) -> Receiver:
        """Its connection."""


class _Pattern:
    """A pattern, and who has subscribed to it."""

    __slots__ = ("pattern", "subscribers")

    def __init__(self, pattern: bytes, first: Subscriber) -> None:
        self.pattern = Pattern(pattern)
        self.subscribers: dict[Subscriber, None] = {first: None}


class _Message:
    """A message on its way to the subscribers of its channel, or of one pattern."""

    __slots__ = ("at", "frames", "of", "pattern", "receivers")

    def __init__(self, parts: list[bytes], of: bytes, pattern: bool, receivers: list[Subscriber]) -> None:
        self.frames = frame(False, parts), frame(True, parts)  # made once: what slow subscribers have not taken shares these bytes
        self.of = of  # the channel or the pattern that the receivers have subscribed to
        self.pattern = pattern
        self.receivers = receivers
        self.at = 0  # how many of them have it


def frame(v3: bool, parts: list[bytes]) -> bytes:
    """These parts of a push, encoded already, as a connection of that protocol gets them."""
    return b"%c%d\r\n%b" % (b">" if v3 else b"*", len(parts), b"".join(parts))


class Channels:
    """All channels of the server; as in Redis, namespaces do not divide them."""

    def __init__(self) -> None:
        self.channels: dict[bytes, dict[Subscriber, None]] = {}
        self.patterns: dict[bytes, _Pattern] = {}
        self.subscribers: int = 0  # connections
        self.subscriptions: int = 0
        self._waiting: deque[_Message] = deque()
        self._waiting_pushes = self._waiting_bytes = 0

    # -- subscribing -------------------------------------------------------------------------------

    def admit(self, subscriber: Subscriber, names: list[bytes], patterns: bool) -> None:
        """Raise `BadRequest` or `Overloaded` if a connection may not subscribe to all of these names."""
        for name in names:
            if len(name) > NAME_BYTES_MAX:
                raise BadRequest(f"the name of a channel has {len(name)} bytes; it may have {NAME_BYTES_MAX}")
        own = subscriber.subscriptions.count if subscriber.subscriptions else 0
        if own + len(names) > CONNECTION_SUBSCRIPTIONS_MAX:
            raise Overloaded(f"a connection may have {CONNECTION_SUBSCRIPTIONS_MAX:,} subscriptions; open another, or use a pattern")
        if self.subscriptions + len(names) > SUBSCRIPTIONS_MAX:
            raise Overloaded(f"the connections have {self.subscriptions:,} subscriptions, and may have {SUBSCRIPTIONS_MAX:,}; use patterns")
        if patterns and len(self.patterns) + len({*names} - self.patterns.keys()) > PATTERNS_MAX:
            raise Overloaded(f"there may be {PATTERNS_MAX:,} different patterns; subscribe to channels, or to fewer and wider patterns")

    def subscribe(self, subscriber: Subscriber, name: bytes, pattern: bool) -> int:
        """Subscribe to a channel or a pattern, once or again; returns how many subscriptions the connection has."""
        own = subscriber.subscriptions
        if own is None:
            own = subscriber.subscriptions = Subscriptions()
            self.subscribers += 1
        mine = own.patterns if pattern else own.channels
        if name not in mine:
            mine[name] = None
            self.subscriptions += 1
            if not pattern:
                self.channels.setdefault(name, {})[subscriber] = None
            elif name in self.patterns:
                self.patterns[name].subscribers[subscriber] = None
            else:
                self.patterns[name] = _Pattern(name, subscriber)
        return own.count

    def unsubscribe(self, subscriber: Subscriber, name: bytes, pattern: bool) -> int:
        """Subscribe no longer, if ever; returns how many subscriptions are left."""
        own = subscriber.subscriptions
        if own is None:
            return 0
        mine = own.patterns if pattern else own.channels
        if name in mine:
            del mine[name]
            self.subscriptions -= 1
            members = self.patterns[name].subscribers if pattern else self.channels[name]
            del members[subscriber]
            if not members:
                (self.patterns if pattern else self.channels).pop(name)
            if not own.count:
                subscriber.subscriptions = None
                self.subscribers -= 1
        return own.count

    def forget(self, subscriber: Subscriber) -> None:
        """Take back all subscriptions of a connection."""
        while subscriber.subscriptions is not None:
            own = subscriber.subscriptions
            pattern = not own.channels
            self.unsubscribe(subscriber, next(iter(own.patterns if pattern else own.channels)), pattern)

    # -- publishing --------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether the messages on their way are as many as may be."""
        return self._waiting_pushes >= WAITING_PUSHES_MAX or self._waiting_bytes >= WAITING_BYTES_MAX

    def publish(self, channel: bytes, message: bytes) -> int:
        """Send a message on its way; returns how many subscriptions get it."""
        name, payload = bulk(channel), bulk(message)
        count = 0
        members = self.channels.get(channel)
        if members:
            count = self._send(_Message([bulk(b"message"), name, payload], channel, False, list(members)))
        for pattern, each in self.patterns.items():
            if each.pattern.matches(channel):
                parts = [bulk(b"pmessage"), bulk(pattern), name, payload]
                count += self._send(_Message(parts, pattern, True, list(each.subscribers)))
        return count

    def _send(self, message: _Message) -> int:
        self._waiting.append(message)
        self._waiting_pushes += len(message.receivers)
        self._waiting_bytes += sum(map(len, message.frames))
        return len(message.receivers)

    @property
    def waiting(self) -> bool:
        """Whether there is anything to deliver."""
        return bool(self._waiting)

    def deliver(self) -> bool:
        """Push the next messages to their subscribers, as many as one turn may; returns whether there are more."""
        room = PUSHES_PER_TURN
        while self._waiting and room > 0:
            message = self._waiting[0]
            batch = message.receivers[message.at : message.at + room]
            for each in batch:
                own = each.subscriptions
                if own is not None and message.of in (own.patterns if message.pattern else own.channels):  # else it has unsubscribed since
                    each.peer.push(message.frames[each.v3])
            message.at += len(batch)
            room -= len(batch)
            self._waiting_pushes -= len(batch)
            if message.at == len(message.receivers):
                self._waiting.popleft()
                self._waiting_bytes -= sum(map(len, message.frames))
        return bool(self._waiting)
