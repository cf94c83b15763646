"""SUBSCRIBE, PUBLISH and their kin, in the profile `redis` (SPEC section 4, "resp.profile"): the table is in flo.commands.channels.

In RESP2 a connection with subscriptions may send little else (flo.commands.resp.session, SUBSCRIBER_COMMANDS), because a message looks
like a reply. In RESP3 messages are pushes, and the connection goes on as any other.
"""

from flo.commands.channels import NAME_BYTES_MAX, frame
from flo.commands.resp.session import RespSession, wrong_subcommand
from flo.commands.resp.table import Sub, command
from flo.commands.runner import Job, Reply
from flo.proto.resp import array, bulk, bulk_array, integer
from flo.store.pattern import read_pattern

NOT_HERE = "Flo has no publish and subscribe in the profile `flo`; use a stream, or set resp.profile to `redis`"
CHANNELS_SLICE = 2000  # channels matched in one slice: 2 ms
_LIMITS = f"names of at most {NAME_BYTES_MAX} bytes"


def _subscribe(session: RespSession, args: list[bytes], pattern: bool) -> bytes:
    channels = session.host.channels
    channels.admit(session, args[1:], pattern)
    word = b"psubscribe" if pattern else b"subscribe"
    replies = [_confirmation(session, word, name, channels.subscribe(session, name, pattern)) for name in args[1:]]
    session.note_settings()
    return b"".join(replies)


def _unsubscribe(session: RespSession, args: list[bytes], pattern: bool) -> bytes:
    channels, own = session.host.channels, session.subscriptions
    word = b"punsubscribe" if pattern else b"unsubscribe"
    names: list[bytes] = args[1:]
    if not names and own is not None:
        names = [*(own.patterns if pattern else own.channels)]
    replies = [_confirmation(session, word, name, channels.unsubscribe(session, name, pattern)) for name in names]
    session.note_settings()
    left = session.subscriptions.count if session.subscriptions else 0
    return b"".join(replies) or _confirmation(session, word, None, left)


def _confirmation(session: RespSession, word: bytes, name: bytes | None, count: int) -> bytes:
    return frame(session.v3, [bulk(word), session.nil if name is None else bulk(name), integer(count)])


@command(
    "SUBSCRIBE",
    -2,
    "channel [channel …]",
    "Have the messages of channels sent to this connection.",
    group="pubsub",
    since="2.0.0",
    flags="pubsub reads resets",
    redis_only=NOT_HERE,
    differs=f"in memory only, as in Redis; {_LIMITS}; not within MULTI",
)
def subscribe(session: RespSession, args: list[bytes]) -> Reply:
    return _subscribe(session, args, pattern=False)


@command(
    "PSUBSCRIBE",
    -2,
    "pattern [pattern …]",
    "Have the messages of all channels that match patterns sent to this connection.",
    group="pubsub",
    since="2.0.0",
    flags="pubsub reads resets",
    redis_only=NOT_HERE,
    differs=f"at most 1,000 different patterns at a time; {_LIMITS}; not within MULTI",
)
def psubscribe(session: RespSession, args: list[bytes]) -> Reply:
    return _subscribe(session, args, pattern=True)


@command(
    "UNSUBSCRIBE",
    -1,
    "[channel [channel …]]",
    "End the subscription to these channels, or to all.",
    group="pubsub",
    since="2.0.0",
    flags="pubsub reads resets",
    redis_only=NOT_HERE,
)
def unsubscribe(session: RespSession, args: list[bytes]) -> Reply:
    return _unsubscribe(session, args, pattern=False)


@command(
    "PUNSUBSCRIBE",
    -1,
    "[pattern [pattern …]]",
    "End the subscription to these patterns, or to all.",
    group="pubsub",
    since="2.0.0",
    flags="pubsub reads resets",
    redis_only=NOT_HERE,
)
def punsubscribe(session: RespSession, args: list[bytes]) -> Reply:
    return _unsubscribe(session, args, pattern=True)


@command(
    "PUBLISH",
    3,
    "channel message",
    "Send a message to the subscribers of a channel; answers how many get it.",
    group="pubsub",
    since="2.0.0",
    flags="pubsub fast",
    redis_only=NOT_HERE,
    differs="nothing is kept: who is not connected misses it; use a stream for what must arrive",
)
def publish(session: RespSession, args: list[bytes]) -> Reply:
    channels = session.host.channels
    if channels.full and not session.executing:  # a transaction cannot wait, and is bounded by itself
        return _publish_later(session, args)
    return integer(channels.publish(args[1], args[2]))


def _publish_later(session: RespSession, args: list[bytes]) -> Job:
    channels = session.host.channels
    while channels.full:
        yield
    return [integer(channels.publish(args[1], args[2]))]


@command(
    "PUBSUB",
    -2,
    "",
    "Tells about channels that somebody has subscribed to.",
    group="pubsub",
    since="2.8.0",
    subcommands={
        "CHANNELS": Sub(-2, "[pattern]", "Show the channels.", "pubsub loading stale reads"),
        "NUMSUB": Sub(-2, "[channel …]", "Show how many have subscribed to each.", "pubsub loading stale reads"),
        "NUMPAT": Sub(2, "", "Show how many patterns there are.", "pubsub loading stale reads"),
    },
    redis_only=NOT_HERE,
)
def pubsub(session: RespSession, args: list[bytes]) -> Reply:
    channels, sub = session.host.channels, args[1].upper()
    if sub == b"CHANNELS" and len(args) > 3:
        return wrong_subcommand(args)
    if sub == b"NUMPAT":
        return integer(len(channels.patterns))
    if sub == b"NUMSUB":
        return array([piece for name in args[2:] for piece in (bulk(name), integer(len(channels.channels.get(name, ()))))])
    return _channels(session, args[2] if len(args) > 2 else b"*")


def _channels(session: RespSession, pattern: bytes) -> Job:
    wanted, names = read_pattern(pattern), list(session.host.channels.channels)
    found: list[bytes] = []
    for at in range(0, len(names), CHANNELS_SLICE):
        if at:
            yield
        found += filter(wanted.matches, names[at : at + CHANNELS_SLICE])
    return [bulk_array(found)]
