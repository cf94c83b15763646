"""The binary protocol's sessions and handlers."""


def load_handlers() -> None:
    """Fill the table of handlers: each module adds its own."""
    from flo.commands.binary import kv, queue, stream, system  # noqa: F401
