"""Requests to engine operations to replies: one table a protocol."""

from flo.commands.modules import Modules

TABLE = Modules(
    "flo.commands.connection",  # the first, for it has what clients begin with
    "flo.commands.admin",
    "flo.commands.groups",
    "flo.commands.json",
    "flo.commands.keys",
    "flo.commands.namespaces",
    "flo.commands.queues",
    "flo.commands.refused",
    "flo.commands.rows",
    "flo.commands.streams",
    "flo.commands.strings",
)


def load_table() -> None:
    """Fill the table of RESP commands: each module adds its own."""
    TABLE.load()
