"""Statements of InfluxQL as the parser read them: immutable trees. Durations and times are in ns, InfluxQL's own unit; so is a whole number
without a unit where a time stands."""

from dataclasses import dataclass
from typing import Literal

from flo.floql.query import Number as Number
from flo.floql.regex import Regex


@dataclass(frozen=True)
class Reference:
    """A field or a tag, or `time`. `kind` is what stands behind `::`, such as `tag`."""

    name: str
    kind: str = ""


@dataclass(frozen=True)
class Wildcard:
    """`*`; `kind` is `field` or `tag` if it stands for these alone."""

    kind: str = ""


@dataclass(frozen=True)
class Duration:
    """A number with a unit, in ns."""

    ns: int


@dataclass(frozen=True)
class Text:
    """A text in single quotes: a tag's value or a time."""

    value: str


@dataclass(frozen=True)
class Pattern:
    """A regular expression in slashes."""

    regex: Regex


@dataclass(frozen=True)
class Call:
    """A function, its name in lower case."""

    name: str
    arguments: "tuple[Expression, ...]"


@dataclass(frozen=True)
class Negative:
    """Unary minus."""

    operand: "Expression"


@dataclass(frozen=True)
class Binary:
    """Two operands and one of `or and = != < <= > >= =~ !~ + - * / %`; `<>` is read as `!=`."""

    operator: str
    left: "Expression"
    right: "Expression"


Expression = Reference | Wildcard | Number | Duration | Text | Pattern | Call | Negative | Binary


@dataclass(frozen=True)
class Column:
    """What SELECT asks for, with its name behind AS."""

    expression: Expression
    alias: str = ""


@dataclass(frozen=True)
class TimeWindows:
    """`GROUP BY time(width, offset)`."""

    width: int
    offset: int = 0


@dataclass(frozen=True)
class Select:
    """`SELECT`. `sources` are measurements; retention policies in front of them are left out, and so is a `database` that all of them name.
    `tags` are what it groups by: a name, a pattern of names, or all. `fill` None is InfluxQL's default, `fill(null)`."""

    columns: tuple[Column, ...]
    sources: tuple[str | Regex, ...]
    condition: Expression | None = None
    windows: TimeWindows | None = None
    tags: tuple[str | Regex | Wildcard, ...] = ()
    fill: float | Literal["none", "previous", "linear"] | None = None
    descending: bool = False
    limit: int = 0
    offset: int = 0
    series_limit: int = 0
    series_offset: int = 0
    database: str = ""


@dataclass(frozen=True)
class Show:
    """`SHOW`. `what` is `databases`, `measurements`, `tag values` and so on. `with_` is the operator and operand behind WITH MEASUREMENT or
    WITH KEY: a name, a pattern, or names. `database` is what stands behind ON."""

    what: str
    sources: tuple[str | Regex, ...] = ()
    with_: tuple[str, str | Regex | tuple[str, ...]] | None = None
    condition: Expression | None = None
    limit: int = 0
    offset: int = 0
    database: str = ""


@dataclass(frozen=True)
class CreateDatabase:
    """`CREATE DATABASE`."""

    name: str


Statement = Select | Show | CreateDatabase
