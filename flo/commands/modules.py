"""Modules that fill a table, imported one by one when there is time, or all at once when somebody asks for what may be in them.

Importing the handlers is a fifth of a start, and the first client wants one of them.
"""

from importlib import import_module


class Modules:
    """Modules in the order of what needs what, so that each is one step: 1 to 5 ms where nothing is compiled yet."""

    def __init__(self, *names: str) -> None:
        self._names = list(names)

    def step(self) -> bool:
        """Import the next one; returns whether there are more."""
        if self._names:
            import_module(self._names[0])
            del self._names[0]  # one that could not be read, for want of a descriptor perhaps, is tried again
        return bool(self._names)

    def load(self) -> None:
        """Import all that are left."""
        while self.step():
            pass
