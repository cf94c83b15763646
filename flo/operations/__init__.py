"""One row an operation: code, key, value, answer, options, limits, and what a program and a command line call it.

The server's dispatch and checks, the clients, docs/wire-protocol.md and flo-protocol(7) come from these tables.
"""

from flo.operations import system  # first, since the manual lists the operations as they are declared

# isort: split
from flo.operations import kv, queue, stream
from flo.operations.options import BY_NAME as OPTION_BY_NAME
from flo.operations.options import OPTIONS
from flo.operations.row import BY_CODE, BY_NAME, DECLARED, OPERATIONS

__all__ = ["BY_CODE", "BY_NAME", "DECLARED", "OPERATIONS", "OPTIONS", "OPTION_BY_NAME", "kv", "queue", "stream", "system"]
