"""Flo: key-value, queues, streams, time series and durable actions over one append-only log.

`flo.Client(url)` speaks to a server, `flo.aio.Client(url)` too, for asyncio; `flo.Engine(path)` is the database in-process, without a
server; `flo.Worker(url)` makes functions the handlers of actions, queues and streams. The names below are imported when first asked for, so
that `python3 -m flo --help` does not pay for the engine.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flo import aio as aio
    from flo.client import Client as Client
    from flo.engine import Engine as Engine
    from flo.worker import NonRetryable as NonRetryable
    from flo.worker import Snooze as Snooze
    from flo.worker import Worker as Worker

__version__ = "0.1.0"
__all__ = ["Client", "Engine", "NonRetryable", "Snooze", "Worker", "__version__", "aio"]


def __getattr__(name: str) -> Any:
    if name == "Engine":
        from flo.engine import Engine

        return Engine
    if name == "Client":
        from flo.client import Client

        return Client
    if name in ("NonRetryable", "Snooze", "Worker"):
        from flo import worker

        return getattr(worker, name)
    if name == "aio":
        from importlib import import_module

        return import_module("flo.aio")
    raise AttributeError(f"module 'flo' has no attribute {name!r}")
