"""When a request is sent again, and after which pause.

- OVERLOADED and NOT_LEADER: always. A refused request changed nothing. NOT_LEADER names where to go.
- A connection that could not be made: always. Nothing was sent. If the program gave several addresses, the others are tried at once.
- A connection that was lost: the request may have been executed, so only where a second execution does no harm. The operation's row knows
  (`Operation.reads`, `.repeats`), or an option of the request does (`SAME_BY_OPTION`, and `cas_version`).
- A response that is late: never. The time is up.
"""

from collections.abc import Sequence
from time import monotonic
from typing import Any

from flo.client.settings import Settings
from flo.errors import CannotConnect, Conflict, Disconnected, FloError, NotFound, NotLeader, Overloaded, TimedOut
from flo.operations.call import Call
from flo.proto.row import Repeats
from flo.proto.shapes import shape

PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.05, 2.0  # before the second attempt, doubled before each one behind; and the most
LEADERS_MAX = 5  # times that a request follows to another leader
# With one of these a second execution gives the first one's answer and adds nothing (a point of the same time replaces itself).
# `unique_key` is none: once the first run has ended, a second execution starts another.
SAME_BY_OPTION = ("dedup_key", "idempotency_key", "timestamp")

RETRIED = (Overloaded, NotLeader, Disconnected)  # what `Attempts.pause` takes


def repeats(call: Call[Any]) -> Repeats:
    """Whether a request may be sent again that may have been executed."""
    row = call.operation
    if row.reads or row.repeats == "same":
        return "same"
    options = call.options
    if any(name in options for name in SAME_BY_OPTION):
        return "same"
    if options.get("cas_version"):  # 0 is none: a key that was made and deleted meanwhile would be made again
        return "once"
    return row.repeats if _is_one_attempt(call, options) else ""


def to_lead(client: Settings, results: Sequence[Any]) -> list[int]:
    """The places of a pipeline's calls that are to be sent again, to the leader that their refusals name."""
    refused = [place for place, result in enumerate(results) if isinstance(result, NotLeader)]
    return refused if refused and client.follow(results[refused[0]]) else []


def _is_one_attempt(call: Call[Any], options: dict[str, Any]) -> bool:
    """Whether the request names the attempts that it is about: of another one, nothing is changed."""
    row = call.operation
    if "attempt" in row.options:
        return bool(options.get("attempt"))
    if not row.layout:
        return False
    layout = shape(row.value)
    names = [name for name, _ in layout.columns] if layout.is_list else []
    return "attempt" not in names or all(item[names.index("attempt")] for item in layout.decode(call.value)[0])


class Attempts:
    """The attempts of one call, or of one pipeline."""

    def __init__(self, client: Settings, calls: Sequence[Call[Any]]) -> None:
        self._client = client
        self._calls = calls
        self._left = client.retries
        self._leaders = LEADERS_MAX
        self._others = len(client.places) - 1  # addresses to try before the next pause
        self._made = 0
        self._until = monotonic() + client.timeout  # no attempt begins later
        self._lost: Disconnected | None = None  # an attempt may have been executed

    def pause(self, error: FloError) -> float:
        """How many seconds to wait before the next attempt. Raises the error if there is none."""
        if isinstance(error, NotLeader):
            if self._leaders and self._client.follow(error):
                self._leaders -= 1
                return 0.0 if self._leaders == LEADERS_MAX - 1 else self._next_pause()
            self._client.leave(self._client.place)  # it knows no leader: another may
        elif isinstance(error, CannotConnect):
            if self._others > 0:
                self._others -= 1
                return 0.0
        elif isinstance(error, Disconnected):
            if isinstance(error, TimedOut) or not self._may_repeat():
                raise error
            self._lost = error
        if not self._left or monotonic() > self._until:
            raise self._lost or error
        self._left -= 1
        return self._next_pause()

    def settle(self, call: Call[Any], outcome: Any) -> None:
        """Raise the lost connection's error if this result or refusal may come from the second execution alone."""
        if self._lost is None or repeats(call) != "once":
            return
        refused = isinstance(outcome, (Conflict, NotFound)) or (outcome is None and call.may_miss)
        if refused or (type(outcome) is int and outcome < self._items(call)):
            raise self._lost from None

    def _items(self, call: Call[Any]) -> int:
        layout = shape(call.operation.value) if call.operation.layout else None
        return len(layout.decode(call.value)[0]) if layout is not None and layout.is_list else 0

    def _may_repeat(self) -> bool:
        return all(repeats(call) == "same" for call in self._calls) or (len(self._calls) == 1 and repeats(self._calls[0]) == "once")

    def _next_pause(self) -> float:
        from random import random  # takes 5 ms, and few need it

        self._made += 1
        self._others = len(self._client.places) - 1
        longest: float = min(PAUSE_SECONDS * 2 ** (self._made - 1), PAUSE_SECONDS_MAX)
        return longest * (0.5 + random() / 2)
