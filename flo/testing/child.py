"""The process of `flo.testing.server`: a server that writes its port to standard output and ends when its standard input does."""

import ast
import os
import shutil
import sys

from flo.config import Settings
from flo.operator_log import OperatorLog
from flo.server import Server


def serve() -> None:
    """Serve with the settings of the command line, in the directory that it names; if nobody is left to remove it, remove it."""
    directory, settings = sys.argv[2], Settings(**ast.literal_eval(sys.argv[3]))
    server = Server(settings, OperatorLog(settings.log_level, settings.log_format))

    def ready() -> None:
        """Say that clients may come."""
        print(server.port, flush=True)

    server.watch(sys.stdin.fileno(), lambda _events: server.shutdown())
    parent = os.getppid()
    server.run(ready)
    if os.getppid() != parent:
        shutil.rmtree(directory, ignore_errors=True)
