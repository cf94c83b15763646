"""Requests to engine operations to replies: one table a protocol."""


def load_table() -> None:
    """Fill the table of RESP commands: each module adds its own."""
    from flo.commands import admin, connection, groups, json, keys, queues, refused, streams  # noqa: F401
