"""What a Redis or a Flo holds, read over RESP in the same way from both, to be compared."""

from typing import Any

from tests.support.processes import RespClient

GROUP_FACTS = (b"name", b"consumers", b"pending", b"last-delivered-id", b"entries-read")
STREAM_FACTS = (b"length", b"last-generated-id", b"max-deleted-entry-id", b"entries-added", b"groups")


def names(client: RespClient, kind: str) -> list[bytes]:
    """The names of all values of this type."""
    found: set[bytes] = set()
    cursor = b"0"
    while True:
        cursor, page = client.command("SCAN", cursor, "COUNT", 1000, "TYPE", kind)
        found.update(page)
        if cursor == b"0":
            return sorted(found)


def contents(client: RespClient) -> dict[str, Any]:
    """Strings, lists and streams, all of each, but for their deadlines."""
    strings = names(client, "string")
    lists = names(client, "list")
    return {
        "strings": dict(zip(strings, client.command("MGET", *strings) if strings else [], strict=True)),
        "lists": {name: client.command("LRANGE", name, 0, -1) for name in lists},
        "streams": {name: stream(client, name) for name in names(client, "stream")},
    }


def stream(client: RespClient, name: bytes) -> dict[str, Any]:
    """A stream: its records, its groups, their consumers, and what is pending."""
    groups = [pairs(group) for group in client.command("XINFO", "GROUPS", name)]
    info = pairs(client.command("XINFO", "STREAM", name))
    return {
        "records": client.command("XRANGE", name, "-", "+"),
        "info": [info[fact] for fact in STREAM_FACTS],
        "groups": [[group[fact] for fact in GROUP_FACTS] for group in groups],
        "consumers": [[pairs(one)[b"name"] for one in client.command("XINFO", "CONSUMERS", name, group[b"name"])] for group in groups],
        "pending": [
            [(ident, consumer, deliveries) for ident, consumer, _, deliveries in pending(client, name, group[b"name"])] for group in groups
        ],
    }


def pending(client: RespClient, name: bytes, group: bytes) -> list[list[Any]]:
    """The deliveries of a group: id, consumer, idle ms, how many."""
    found: list[list[Any]] = client.command("XPENDING", name, group, "-", "+", 10_000)
    return found


def pairs(reply: list[Any]) -> dict[bytes, Any]:
    """A map in RESP2."""
    return dict(zip(reply[::2], reply[1::2], strict=True))
