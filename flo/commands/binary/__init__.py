"""The binary protocol's sessions and handlers."""

from flo.commands.modules import Modules

HANDLERS = Modules(
    "flo.proto.shapes",
    "flo.proto.binary",
    "flo.operations",
    "flo.commands.binary.decode",
    "flo.commands.binary.session",
    "flo.commands.binary.rows",
    "flo.commands.binary.kv",
    "flo.commands.binary.queue",
    "flo.commands.binary.stream",
    "flo.commands.binary.timeseries",
    "flo.commands.actions",
    "flo.commands.binary.action",
    "flo.commands.binary.system",
)


def load_handlers() -> None:
    """Fill the table of handlers: each module adds its own."""
    HANDLERS.load()
