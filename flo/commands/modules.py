"""Modules that add to a table when they are imported: one by one while the server is idle, or all at once when an entry is missing.

Importing the handlers takes a fifth of a start, and the first client needs only one of them.
"""

import gc
from importlib import import_module


class Modules:
    """Modules, each after the modules that it imports, so that a step imports only one: 1 to 5 ms if nothing is compiled yet."""

    def __init__(self, *names: str) -> None:
        self._names = list(names)

    def step(self) -> bool:
        """Import the next module; returns whether more are left."""
        if self._names:
            import_module(self._names[0])
            del self._names[0]  # after the import: one that failed, for example without a free descriptor, is tried again
            gc.collect(0)  # some modules leave cycles (datetime does), and a server has turned the collector off: what is new, below a ms
        return bool(self._names)

    def load(self) -> None:
        """Import all modules that are left."""
        while self.step():
            pass
