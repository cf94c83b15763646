"""Throw-away servers for the tests of programs that use Flo. With pytest, the fixtures of flo.testing.plugin are there without an import.

with flo.testing.server() as url:
    client = flo.Client(url)
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flo.errors import FloError

__all__ = ["server"]

STOP_SECONDS = 10
# Without site and the environment's variables the interpreter starts faster, and no .pth file or PYTHONSTARTUP of the tests reaches it.
COMMAND = (sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, sys.argv[1]); from flo.testing.child import serve; serve()")


@contextmanager
def server(**settings: Any) -> Iterator[str]:
    """A server in a process of its own, on a port of the kernel's choice and an empty temporary directory; gives its URL. Both are gone at
    the end of the block. If this process is killed, the server ends by itself. `settings` are those of docs/settings.md; durability is
    `ephemeral` unless they say otherwise. Raises `FloError` if it does not start."""
    with tempfile.TemporaryDirectory(prefix="flo-testing-") as directory:
        given = {"durability": "ephemeral", "log_level": "warning", **settings, "port": 0, "data_dir": os.path.join(directory, "data")}
        root = str(Path(__file__).parent.parent.parent)
        # a group of its own: Ctrl-C ends the tests, and they end the server when they have cleaned up
        process = subprocess.Popen([*COMMAND, root, directory, repr(given)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
        assert process.stdin is not None and process.stdout is not None
        try:
            port = process.stdout.readline()  # empty if it has ended: standard error says why
            if not port:
                raise FloError(f"the server of flo.testing has ended with status {process.wait(STOP_SECONDS)}; standard error says why")
            yield f"flo://127.0.0.1:{int(port)}"
        finally:
            process.stdin.close()  # it ends
            process.stdout.close()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
