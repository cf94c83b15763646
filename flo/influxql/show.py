"""SHOW: what a database has, from the store's index. A time in WHERE is left out: InfluxDB looks at whole weeks there, and Flo at all.

What has more than `SHOWN_MAX` names is refused, and names are put in order in slices.
"""

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any

from flo.errors import BadRequest
from flo.floql.columns import ROW_NS, Meter, in_order
from flo.floql.condition import matchers_of, of_series
from flo.floql.plan import ANSWER_POINTS_MAX
from flo.floql.regex import Regex
from flo.influxql.index import Databases, Index, Job, Series
from flo.influxql.plan import matching
from flo.influxql.statement import Binary, Expression, Pattern, Reference, Show, Text
from flo.influxql.where import condition_of, matchers_and_rest, split

SHOWN_MAX = ANSWER_POINTS_MAX  # names in one answer
POLICY: list[Any] = ["autogen", "0s", "168h0m0s", 1, True]  # the only retention policy, under InfluxDB's name for it


def show(statement: Show, databases: Databases, index: Index | None, meter: Meter) -> Job[list[Series]]:
    """The series that a SHOW is answered with; `index` is the database's, if the statement is about one. A job. Raise `BadRequest`."""
    match statement.what:
        case "databases":
            return [{"name": "databases", "columns": ["name"], "values": [[name] for name in databases.names()]}]
        case "users":
            return [{"columns": ["user", "admin"]}]
        case "continuous queries":
            return [{"name": name, "columns": ["name", "query"]} for name in databases.names()]
        case "grants for":
            return [{"columns": ["database", "privilege"]}]
        case "retention policies":
            return [{"columns": ["name", "duration", "shardGroupDuration", "replicaN", "default"], "values": [POLICY]}]
    assert index is not None
    return (yield from _Shown(statement, index, meter).series())


class _Shown:
    """One SHOW about the series of a database."""

    def __init__(self, statement: Show, index: Index, meter: Meter) -> None:
        _, asked = split(statement.condition, 0)
        _check_tags(asked)
        self._statement = statement
        self._index = index
        self._meter = meter
        self._matchers, self._condition = matchers_and_rest(condition_of(asked, lambda _: False))
        self._shown = 0

    def series(self) -> Job[list[Series]]:
        """The answer. A job."""
        what = self._statement.what
        names = yield from matching(self._statement.sources, self._index, self._meter)
        if what == "measurements":
            return (yield from self._measurements(names))
        if what == "series":
            return (yield from self._keys(names))
        found: list[Series] = []
        for name in names:
            if what == "field keys":
                columns, rows = ["fieldKey", "fieldType"], [[field, "float"] for field in sorted(self._index.fields(name))]
            elif what == "tag keys":
                columns, rows = ["tagKey"], [[tag] for tag in sorted((yield from self._tag_keys(name)))]
            else:
                columns, rows = ["key", "value"], (yield from self._tag_values(name))
            rows = list(self._bounded(rows))
            self._count(len(rows))
            if rows:
                found.append({"name": name, "columns": columns, "values": rows})
            self._meter.spend(ROW_NS * (5 + len(rows)))
            if self._meter.due():
                yield
        return found

    def _bounded(self, rows: Collection[list[str]]) -> Iterator[list[str]]:
        """The rows within LIMIT and OFFSET."""
        offset, limit = self._statement.offset, self._statement.limit
        return islice(rows, offset, offset + limit if limit else None)

    def _count(self, rows: int) -> None:
        self._shown += rows
        if self._shown > SHOWN_MAX:
            raise BadRequest(f"the answer has more than {SHOWN_MAX:,} names: ask for one measurement, or with WHERE")

    def _ordered(self, names: Collection[str]) -> Job[list[str]]:
        """The names in order. A job."""
        self._count(len(names))
        self._shown -= len(names)
        return (yield from in_order(list(names), str, self._meter))

    # -- what matches --------------------------------------------------------------------------

    @property
    def _asks(self) -> bool:
        return bool(self._matchers) or self._condition is not True

    def _matching(self, name: str) -> Iterator[dict[str, str] | None]:
        """The tags of each series that matches; None now and then, to pause."""
        matchers = len(matchers_of(self._condition))
        for series in self._index.series(name, self._matchers, None):
            if series is None:
                yield None
                continue
            if of_series(self._condition, series.tags) is True:
                yield series.tags
            self._meter.spend(ROW_NS * (2 + matchers))
            if self._meter.due():
                yield None

    def _measurements(self, names: list[str]) -> Job[list[Series]]:
        found: list[str] = []
        for name in names:
            if self._statement.with_ is None or _is_wanted(name, self._statement.with_):
                for tags in self._matching(name) if self._asks else ({},):
                    if tags is not None:
                        found.append(name)
                        break
                    yield
            self._meter.spend(ROW_NS * 2)
            if self._meter.due():
                yield
        rows = list(self._bounded([[name] for name in found]))
        self._count(len(rows))
        return [{"name": "measurements", "columns": ["name"], "values": rows}] if rows else []

    def _keys(self, names: list[str]) -> Job[list[Series]]:
        keys: list[str] = []
        for name in names:
            found: set[str] = set()
            for tags in self._matching(name):
                if tags is None:
                    yield
                else:
                    found.add(_key_of(name, tags))
            keys += yield from self._ordered(found)
            self._count(len(found))
        rows = list(self._bounded([[key] for key in keys]))
        return [{"columns": ["key"], "values": rows}] if rows else []

    def _tag_keys(self, name: str) -> Job[set[str]]:
        if not self._asks:
            return set(self._index.tags(name))
        found: set[str] = set()
        for tags in self._matching(name):
            if tags is None:
                yield
            else:
                found.update(tags)
        return found

    def _tag_values(self, name: str) -> Job[list[list[str]]]:
        wanted = self._statement.with_
        assert wanted is not None
        values: dict[str, Collection[str]] = {}
        for tag in self._index.tags(name):
            if _is_wanted(tag, wanted):
                values[tag] = () if self._asks else self._index.tag_values(name, tag)
        if values and self._asks:
            found: dict[str, set[str]] = {tag: set() for tag in values}
            for tags in self._matching(name):
                if tags is None:
                    yield
                    continue
                for tag in found.keys() & tags.keys():
                    found[tag].add(tags[tag])
            values = dict(found)
        rows: list[list[str]] = []
        for tag in sorted(values):
            rows += [[tag, value] for value in (yield from self._ordered(values[tag]))]
        return rows


def _is_wanted(name: str, wanted: tuple[str, str | Regex | tuple[str, ...]]) -> bool:
    """Whether a name is what stands behind WITH."""
    operator, operand = wanted
    if isinstance(operand, Regex):
        return operand.search(name) == (operator == "=~")
    if isinstance(operand, tuple):
        return name in operand
    return (name == operand) == (operator == "=")


def _check_tags(expression: Expression | None) -> None:
    """Refuse, as InfluxDB does, conditions that are not about tags. Raise `BadRequest`."""
    match expression:
        case Binary("and" | "or", left, right):
            _check_tags(left)
            _check_tags(right)
        case None | Binary("=" | "!=" | "=~" | "!~", Reference(), Text() | Pattern()) | Binary("=" | "!=", Text(), Reference()):
            return
        case _:
            raise BadRequest("invalid tag comparison operator")


def _key_of(name: str, tags: dict[str, str]) -> str:
    """A series' key as line protocol has it."""
    parts = [_escaped(name, ", "), *[f"{_escaped(tag, ',= ')}={_escaped(tags[tag], ',= ')}" for tag in sorted(tags)]]
    return ",".join(parts)


def _escaped(text: str, special: str) -> str:
    return "".join([f"\\{c}" if c in special else c for c in text])
