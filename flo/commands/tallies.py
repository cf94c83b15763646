"""Counts by command and by error code: INFO commandstats and errorstats, for every protocol."""

from typing import Any


class Tally:
    """The counts of one command of one protocol."""

    __slots__ = ("calls", "failed", "name", "protocol", "rejected", "seconds")

    def __init__(self, protocol: str, name: str) -> None:
        self.protocol: str = protocol
        self.name: str = name
        self.clear()

    def clear(self) -> None:
        """Count from 0 again."""
        self.calls: int = 0  # requests that reached the command, the failed ones included
        self.seconds: float = 0.0  # of executing, all slices of a long request included, waits not
        self.failed: int = 0  # … that it refused
        self.rejected: int = 0  # requests that did not reach it: a wrong number of arguments, no secret given


class Tallies:
    """The counts of all commands."""

    def __init__(self) -> None:
        self.by_handler: dict[Any, Tally] = {}  # of handlers that execute one command
        self._by_name: dict[tuple[str, str], Tally] = {}
        self.errors: dict[str, int] = {}  # by their code, the first word of RESP's error replies

    def of(self, protocol: str, name: str) -> Tally:
        """The tally of a command."""
        key = protocol, name
        found = self._by_name.get(key)
        if found is None:
            found = self._by_name[key] = Tally(protocol, name)
        return found

    def count_error(self, code: str) -> None:
        """An error with this code was answered."""
        self.errors[code] = self.errors.get(code, 0) + 1

    @property
    def error_count(self) -> int:
        """How many errors were answered."""
        return sum(self.errors.values())

    def used(self) -> list[Tally]:
        """Those with any count, by protocol and name. What no command has is in no list: its name is empty."""
        return [tally for (_, name), tally in sorted(self._by_name.items()) if name and (tally.calls or tally.rejected)]

    def reset(self) -> None:
        """CONFIG RESETSTAT."""
        self.errors.clear()
        for tally in self._by_name.values():
            tally.clear()
