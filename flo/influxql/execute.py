"""Runs the statements of one request, one after the other. The results are InfluxDB's: a list of `{"statement_id", "series"}`, or with an
"error", behind which the other statements are not executed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from flo.errors import BadRequest
from flo.floql.columns import Meter
from flo.floql.evaluate import Budget, evaluate
from flo.floql.plan import ANSWER_POINTS_MAX
from flo.influxql.index import Databases, Index, Job, Series
from flo.influxql.plan import MS, plan_select
from flo.influxql.rows import Room, Value, make_series
from flo.influxql.show import show
from flo.influxql.statement import CreateDatabase, Select, Show, Statement

# The divisors of a time in ns, by the parameter `epoch`; any other gives ns
EPOCHS = {"u": 1_000, "ms": MS, "s": 1000 * MS, "m": 60_000 * MS, "h": 3_600_000 * MS}
ABOUT_NO_DATABASE = ("databases", "users", "continuous queries", "grants for")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def execute(
    statements: tuple[Statement, ...], databases: Databases, database: str, epoch: str, now: int, max_points: int
) -> Job[list[Any]]:
    """The results of statements at the time `now` (ms). `database` is that of statements which name none. They may look at `max_points`
    together, and answer as many values as one query. A job."""
    runner = _Runner(databases, database, time_shower(epoch), now, max_points)
    results: list[dict[str, Any]] = []
    for number, statement in enumerate(statements):
        result: dict[str, Any] = {"statement_id": number}
        results.append(result)
        try:
            if series := (yield from runner.run(statement)):
                result["series"] = series
        except BadRequest as e:
            result["error"] = str(e)
            results += [{"statement_id": each, "error": "not executed"} for each in range(number + 1, len(statements))]
            break
        yield
    return results


class _Runner:
    """What the statements of a request have in common."""

    def __init__(self, databases: Databases, database: str, show_time: Callable[[int], Value], now: int, max_points: int) -> None:
        self._databases = databases
        self._database = database
        self._show_time = show_time
        self._now = now
        self._max_points = max_points
        self._meter = Meter(max_points)  # of planning, for its pauses
        self._room = Room(ANSWER_POINTS_MAX)

    def run(self, statement: Statement) -> Job[list[Series]]:
        """The series of one statement. A job. Raise `BadRequest`."""
        if isinstance(statement, CreateDatabase):
            self._databases.create(statement.name)
            return []
        if isinstance(statement, Show):
            index = None if statement.what in ABOUT_NO_DATABASE else self._index(statement.database)
            return (yield from show(statement, self._databases, index, self._meter))
        return (yield from self._select(statement, self._index(statement.database)))

    def _index(self, name: str) -> Index:
        name = name or self._database
        index = self._databases.index(name)
        if index is None:
            raise BadRequest(f"database not found: {name}")
        return index

    def _select(self, select: Select, index: Index) -> Job[list[Series]]:
        selection = yield from plan_select(select, index, self._now * MS, self._meter)
        result = yield from evaluate(selection.plan, index, Budget(self._max_points))
        self._max_points -= result.scanned
        return (yield from make_series(select, selection, result.series, self._show_time, self._room, self._meter))


def time_shower(epoch: str) -> Callable[[int], Value]:
    """What shows a time in ns: a number, or without `epoch` RFC 3339."""
    if not epoch:
        return rfc3339
    divisor = EPOCHS.get(epoch, 1)
    return lambda time: time // divisor if time >= 0 else -(-time // divisor)


def rfc3339(time: int) -> str:
    """A time in ns, with as many digits of the second as it has. A time outside of the years 1 to 9999 stays a number."""
    seconds, fraction = divmod(time, 1000 * MS)
    try:
        text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    except OverflowError:
        return str(time)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{text.rjust(19, '0')}{digits}Z"
