"""A row for each operation: its code, key, value, answer, options and limits, and its names in programs and on the command line.

The server's dispatch and checks, the clients, docs/wire-protocol.md and flo-protocol(7) come from these tables.
"""

from flo.operations import system  # first: the manual lists the operations in the order of their declarations

# isort: split
from flo.operations import action, kv, queue, schedule, stream, timeseries, worker
from flo.operations.options import BY_NAME as OPTION_BY_NAME
from flo.operations.options import OPTIONS
from flo.operations.row import BY_CODE, BY_NAME, DECLARED, OPERATIONS

# fmt: off
__all__ = [
    "BY_CODE", "BY_NAME", "DECLARED", "OPERATIONS", "OPTIONS", "OPTION_BY_NAME",
    "action", "kv", "queue", "schedule", "stream", "system", "timeseries", "worker",
]
