"""RESP: its sessions, its decoder, the table of its commands and their handlers."""

from flo.commands.modules import Modules

TABLE = Modules(
    "flo.commands.resp.connection",  # the first, for it has what clients begin with
    "flo.commands.resp.keys",
    "flo.commands.resp.actions",
    "flo.commands.resp.admin",
    "flo.commands.resp.command_info",
    "flo.commands.resp.delete_if",
    "flo.commands.resp.groups",
    "flo.commands.resp.json",
    "flo.commands.resp.namespaces",
    "flo.commands.resp.pubsub",
    "flo.commands.resp.queues",
    "flo.commands.resp.refused",
    "flo.commands.resp.rows",
    "flo.commands.resp.scripts",
    "flo.commands.resp.streams",
    "flo.commands.resp.strings",
    "flo.commands.resp.timeseries",
    "flo.commands.resp.transactions",
)


def load_table() -> None:
    """Fill the table of RESP commands: each module adds its own."""
    TABLE.load()
