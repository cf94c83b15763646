"""Writes the parts of the documents that come from tables: all of docs/settings.md, and tables in docs/redis.md, docs/wire-protocol.md,
docs/http.md and docs/python.md.

`make docs` runs it; tests/test_docs.py checks that the documents are current.
"""

import inspect
import json
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from flo.commands.resp import load_table
from flo.commands.resp.scripts import KNOWN
from flo.commands.resp.table import COMMANDS
from flo.config import setting_rows

DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- from the table of commands: make docs -->\n", "<!-- end of the table -->\n"


def settings_page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Precedence: flags > environment > `flo.toml` > defaults. `flo.toml` is read from the working directory, or from the path in",
        "`--config`. Settings of `[server]` have a flag too: `data_dir` is `--data-dir`. Sizes are written `64mb`, `1gb`; times",
        "`500ms`, `30s`, `24h`, `7d`. Settings marked *live* can be changed with `CONFIG SET`.",
        "",
        "`flo server start` reads all of them, `flo compact` those of `[kv]`. Commands that speak to a server (`flo kv get`, …) do not",
        "read `flo.toml`: they take `--host`, `--port`, `--namespace` and `--secret-file`, or `FLO_HOST`, `FLO_PORT`, `FLO_NAMESPACE` and",
        "`FLO_SECRET_FILE` from the environment.",
        "",
        "| in flo.toml | in the environment | default | |",
        "|---|---|---|---|",
    ]
    for row in setting_rows():
        live = " *live*" if row.live else ""
        shown = f"`{row.shown}`" if row.shown else "none"
        lines.append(f"| `[{row.section}]` `{row.name}` | `{row.environment}` | {shown} | {row.summary}{live} |")
    lines += [
        "",
        "```toml",
        "[server]",
        "port = 9000",
        'durability = "sync"',
        'max_memory = "1gb"',
        "",
        "[kv]",
        "history_depth = 16",
        "```",
        "",
    ]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|")


def command_table() -> str:
    """The tables of docs/redis.md, without their marks."""
    load_table()
    served = [entry for entry in COMMANDS.values() if not entry.refused]
    refused: dict[tuple[str, str], list[str]] = {}
    for entry in COMMANDS.values():
        if entry.refused:
            refused.setdefault((entry.group, entry.differs), []).append(entry.name)
    lines = ["## Commands", "", "| command | | different from Redis |", "|---|---|---|"]
    for entry in sorted(served, key=lambda e: (e.group, e.name)):
        syntax = f" {escaped(entry.syntax)}" if entry.syntax else ""
        differs = "; ".join(filter(None, ("in the profile `redis` only" if entry.redis_only else "", entry.differs)))
        lines.append(f"| `{entry.name}{syntax}` | {entry.summary} | {escaped(differs)} |")
    lines += ["", "## Refused", "", "| commands | replacement |", "|---|---|"]
    for (_, sentence), names in refused.items():
        lines.append(f"| {' '.join(f'`{name}`' for name in names)} | {sentence} |")
    lines += [
        "",
        "## Scripts",
        "",
        "What `EVAL` and `EVALSHA` know in the profile `redis`, by the text without comments and white space:",
        "",
    ]
    lines += ["| sent by | what it does | SHA-1 of that text |", "|---|---|---|"]
    lines += [f"| {each.source} | {each.summary} | `{digest}` |" for digest, each in KNOWN.items()]
    return "\n".join([*lines, ""])


def redis_page(current: str) -> str:
    """docs/redis.md with its table renewed."""
    head, _, rest = current.partition(BEGIN)
    return head + BEGIN + command_table() + END + rest.partition(END)[2]


def operation_tables() -> str:
    """The tables of docs/wire-protocol.md, without their marks."""
    from flo.operations import BY_NAME, OPERATIONS, OPTION_BY_NAME, OPTIONS

    lines = ["## Operations", ""]
    groups = (
        ("System", ("ping", "auth", "server_", "namespace_", "cluster_")),
        ("Keys", ("kv_",)),
        ("Queues", ("queue_",)),
        ("Streams", ("stream_",)),
        ("Time series", ("ts_",)),
        ("Actions and their runs", ("action_",)),
        ("Schedules", ("schedule_",)),
        ("Workers", ("worker_",)),
    )
    covered = 0
    for title, prefixes in groups:
        lines += [f"### {title}", "", "| operation | code | key | value | options | answer | refused as |", "|---|---|---|---|---|---|---|"]
        for operation in OPERATIONS:
            if not operation.name.startswith(prefixes):
                continue
            covered += 1
            code = f"{operation.code:#05x}" if operation.code > 0xFF else f"{operation.code:#04x}"
            options = ", ".join(f"{name}{' (required)' if name in operation.required else ''}" for name in operation.options)
            value = f"`{operation.value}`" if operation.layout else operation.value
            value += f"; {operation.value_note}" if operation.value_note else ""
            answer = f"`{operation.answer}`" if operation.answer else "empty"
            cells = (f"`{operation.name}`", code, operation.key, value, options, answer, operation.refusals)
            lines.append(f"| {' | '.join(cell or '—' for cell in cells)} |")
        lines += [
            "",
            *(f"- `{o.name}`: {o.summary}{' *any namespace*' if o.plain else ''}" for o in OPERATIONS if o.name.startswith(prefixes)),
            "",
        ]
    assert covered == len(BY_NAME), "an operation belongs to no group of the page"
    lines += ["## Options", "", "| type | name | form | | taken by |", "|---|---|---|---|---|"]
    for option in OPTIONS:
        takers = ", ".join(o.name for o in OPERATIONS if option.name in o.options)
        lines.append(f"| {option.code:#04x} | {option.name} | {option.form} | {option.summary} | {takers} |")
    assert OPTION_BY_NAME
    return "\n".join([*lines, "", *repeat_table()])


def repeat_table() -> list[str]:
    """What may be sent again after a lost connection."""
    from flo.client.retry import SAME_BY_OPTION
    from flo.operations import OPERATIONS

    def named(rows: Iterable[Any], suffix: str = "") -> str:
        return ", ".join(f"`{row.name}`{suffix}" for row in rows)

    same = [row for row in OPERATIONS if row.reads or row.repeats == "same"]
    once = [row for row in OPERATIONS if row.repeats == "once"]
    conditional = [row for row in OPERATIONS if "cas_version" in row.options and not row.reads]
    by_option = "; ".join(f"{named(row for row in OPERATIONS if name in row.options)} with `{name}`" for name in SAME_BY_OPTION)
    rest = [row for row in OPERATIONS if row not in same and row not in once]
    return [
        "## Sending a request again",
        "",
        "OVERLOADED and NOT_LEADER changed nothing: send the request again after a pause, or to the leader. A connection that is",
        "lost leaves open whether the requests under way were executed. These may be sent again then:",
        "",
        "| requests | a second execution |",
        "|---|---|",
        f"| {named(same)} | leaves the same state and gives the same answer |",
        f"| {by_option} | gives the first one's answer and adds nothing |",
        f"| {named(once)}: where the request names the attempts, each over 0 (`stream_group_ack` names ids) | changes nothing, but a "
        "CONFLICT, a NOT_FOUND or a lower count may come from it: it does not tell whether the first one was executed |",
        f"| {named(conditional)} with a `cas_version` over 0 | is refused as CONFLICT or NOT_FOUND; likewise |",
        "",
        f"Do not send the others again: {named(rest)}. (`unique_key` does not help `action_invoke`: once its run has ended, another one "
        "would start.)",
        "",
    ]


OPERATIONS_BEGIN, OPERATIONS_END = "<!-- from the tables of operations: make docs -->\n", "<!-- end of the tables -->\n"


def wire_page(current: str) -> str:
    """docs/wire-protocol.md with its tables renewed."""
    head, _, rest = current.partition(OPERATIONS_BEGIN)
    return head + OPERATIONS_BEGIN + operation_tables() + OPERATIONS_END + rest.partition(OPERATIONS_END)[2]


ROUTES_BEGIN, ROUTES_END = "<!-- from the routes: make docs -->\n", "<!-- end of the routes -->\n"


def route_tables() -> str:
    """The tables of docs/http.md, without their marks."""
    from flo.commands.http import load_pages
    from flo.commands.http.convert import HEADER_OPTIONS
    from flo.commands.http.openapi import ROOT, conditions_of, routes_of_operations, statuses_of
    from flo.commands.http.routes import PAGES

    load_pages()
    groups: dict[str, list[str]] = {}
    for (method, path), rows in routes_of_operations().items():
        group = groups.setdefault(
            rows[0].name.partition("_")[0], ["| route | | parameters | body | answer | refused |", "|---|---|---|---|---|---|"]
        )
        options = {name: name in row.required for row in rows for name in row.options if f"{{{name}}}" not in path}
        given = [f"`{name}` (required)" if all(name in row.required for row in rows) else f"`{name}`" for name in options]
        if rows[0].key and "{key}" not in path:
            given.insert(0, f"`{rows[0].key_parameter}`")
        given += [f"`{header}`" for header in conditions_of(rows)]
        given += [f"`{header.decode().title()}`" for header, names in HEADER_OPTIONS.items() if any(name in options for name in names)]
        refused = sorted({status for row in rows for status in statuses_of(row) if status >= 400})
        told = " ".join(f"`{row.name}`: {row.summary}" for row in rows)
        body = "" if f"{{{rows[0].value_parameter}}}" in path else body_text(rows[0])
        cells = (f"`{method} {ROOT}{path}`", told, ", ".join(given), body, answer_text(rows[0]), ", ".join(map(str, refused)))
        group.append(f"| {' | '.join(escaped(cell) or '—' for cell in cells)} |")
    lines = [
        "## Routes",
        "",
        "Each GET may be a HEAD. Each path answers OPTIONS with 204 and `Allow`. Besides what the last column lists, any",
    ]
    lines += ["operation may be refused with 400, 401, 403, 421, 429, 500 and 503.", ""]
    for name, group in groups.items():
        lines += [f"### {name}", "", *group, ""]
    lines += ["### Pages", "", "| page | | without the secret |", "|---|---|---|"]
    lines += [f"| `{page.method} /{page.path}` | {plain(page.function.__doc__)} | {'yes' if page.open else 'no'} |" for page in PAGES]
    return "\n".join([*lines, ""])


def body_text(row: Any) -> str:
    """What the body of a request is."""
    from flo.commands.http.convert import example_of

    if row.layout:
        return f"`{json.dumps(example_of(row))}`"
    return str(row.value)


def answer_text(row: Any) -> str:
    """What an answer is: the names in its JSON, or the raw value."""
    from flo.proto.shapes import shape

    layout = shape(row.answer)
    if not layout.names:
        return "204"
    if layout.kinds[-1] in ("rest", "json"):
        others = [f"`Flo-{name.replace('_', '-').title()}`" for name in layout.names[:-1] if name != "version"]
        what = f"the {layout.names[-1]}" if layout.kinds[-1] == "rest" else "JSON"
        return ", ".join([what, *["`ETag`"] * ("version" in layout.names), *others])
    names = []
    for name, _, group in layout.items:
        inner = ", ".join(each for each in group.names if each != "kind") if group is not None else ""
        names.append(f"`{row.http.items}`: list of {inner}" + " or fields" * ("kind" in group.names) if group is not None else f"`{name}`")
    return ", ".join([*names, *["`ETag`"] * ("version" in layout.names)])


def http_page(current: str) -> str:
    """docs/http.md with its tables renewed."""
    return current.partition(ROUTES_BEGIN)[0] + ROUTES_BEGIN + route_tables() + ROUTES_END


METHODS_BEGIN, METHODS_END = "<!-- from the methods: make docs -->\n", "<!-- end of the methods -->\n"
ENGINE_METHODS = ("batch", "namespace", "create_namespace", "delete_namespace", "compact", "memory_used", "close")
ENGINE_ARGUMENTS = ("directory", "settings")  # the others are for tests and for the server
CLIENT_METHODS = ("run_many", "ping", "status", "stats", "view", "connect", "close")


def plain(text: str | None) -> str:
    """A docstring for a cell of a table."""
    return escaped(" ".join((text or "").split()))


def type_text(kind: Any) -> str:
    """A result's type, short."""
    inner, origin = [type_text(each) for each in get_args(kind)], get_origin(kind)
    if origin in (Union, UnionType):
        return " | ".join(inner)
    if origin is Iterator:
        return "context manager" if inner == ["None"] else f"iterator of {inner[0]}"
    if origin is not None:
        return f"{origin.__name__}[{', '.join(inner)}]"
    return "None" if kind in (None, NoneType) else getattr(kind, "__name__", str(kind))


def signature_text(method: Callable[..., Any]) -> str:
    """A method's name and parameters, without types."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    bare = [each.replace(annotation=each.empty) for each in parameters if each.default is each.empty or not callable(each.default)]
    return (
        f"{method.__name__}{inspect.Signature(bare)}".replace(" = ", "=")
        .replace("b'$'", "'$'")
        .replace("b''", "''")
        .replace("=Ellipsis", "=…")
        .replace(str((1 << 128) - 1), "…")
    )


def constructor_text(kind: type, only: Container[str] | None = None) -> str:
    """A class's parameters with their defaults, without types; `only` those of these names."""
    parameters = inspect.signature(kind).parameters.values()
    return str(inspect.Signature([each.replace(annotation=each.empty) for each in parameters if only is None or each.name in only]))


def methods_of(kind: type, only: Container[Any] | None = None) -> Iterator[Callable[..., Any]]:
    """The public methods of a class, bases first."""
    seen: set[str] = set()  # a client's method is in its rows, and in the class that has used it
    for each in reversed(kind.__mro__):
        for name in list(vars(each)):
            method = getattr(kind, name, None)
            if inspect.isfunction(method) and not name.startswith("_") and name not in seen:
                seen.add(name)
                if only is None or method in only or name in only:
                    yield method


def results_of(methods: Iterable[Callable[..., Any]]) -> dict[str, Any]:
    """The tuples with names that the methods give, by their names."""
    found: dict[str, Any] = {}

    def look(kind: Any) -> None:
        for each in get_args(kind):
            look(each)
        if hasattr(kind, "_fields"):
            found[kind.__name__] = kind

    for method in methods:
        look(inspect.signature(method).return_annotation)
    return found


def method_tables(groups: Sequence[tuple[str, type, Container[Any] | None]]) -> list[str]:
    """A table of methods for each (title, class, which of them), and one of the tuples that they give."""
    lines: list[str] = []
    every: list[Callable[..., Any]] = []
    for title, kind, only in groups:
        lines += [f"### {title}", "", "| method | result | |", "|---|---|---|"]
        for method in methods_of(kind, only):
            every.append(method)
            result = inspect.signature(method).return_annotation
            lines.append(f"| `{escaped(signature_text(method))}` | {escaped(type_text(result))} | {plain(method.__doc__)} |")
        lines.append("")
    lines += ["The tuples among the results:", "", "| tuple | |", "|---|---|"]
    for name, kind in sorted(results_of(every).items()):
        lines.append(f"| `{name}({', '.join(kind._fields)})` | {plain(kind.__doc__)} |")
    return [*lines, ""]


def error_table() -> list[str]:
    """The exceptions that a program may catch."""
    import flo.errors

    lines = ["| exception | is a | |", "|---|---|---|"]
    kinds = [kind for kind in vars(flo.errors).values() if isinstance(kind, type) and issubclass(kind, flo.errors.FloError)]
    for kind in kinds:
        base = kind.__base__
        assert base is not None
        lines.append(f"| `{kind.__name__}` | `{base.__name__}` | {plain(kind.__doc__)} |")
    return [*lines, ""]


def python_tables() -> str:
    """The generated part of docs/python.md."""
    from flo import aio
    from flo.client import (
        ActionCalls,
        Client,
        KeyCalls,
        NamespaceCalls,
        QueueCalls,
        ScheduleCalls,
        StreamCalls,
        TimeSeriesCalls,
        WorkerCalls,
    )
    from flo.engine import Actions, Bounds, Engine, EngineSettings, Groups, KeyValue, Queues, Streams
    from flo.engine.operation import _OPERATIONS
    from flo.engine.schedule import Schedules
    from flo.engine.worker import Workers

    lines = ["## Methods of Client", "", f"`flo.Client{constructor_text(Client)}`: {plain(Client.__init__.__doc__)}", ""]
    lines += [f"`flo.aio.Client{constructor_text(aio.Client)}`: {plain(aio.Client.__init__.__doc__)}", ""]
    lines += [
        "The methods below are those of `flo.Client`. `flo.aio.Client` has the same: `await` them; an iterator is for `async for`.",
        "",
    ]
    lines += method_tables(
        [
            ("client", Client, CLIENT_METHODS),
            ("client.kv", KeyCalls, None),
            ("client.queues", QueueCalls, None),
            ("client.streams", StreamCalls, None),
            ("client.ts", TimeSeriesCalls, None),
            ("client.actions", ActionCalls, None),
            ("client.workers", WorkerCalls, None),
            ("client.schedules", ScheduleCalls, None),
            ("client.namespaces", NamespaceCalls, None),
        ]
    )
    lines += ["## Methods of Engine", "", f"`flo.Engine{constructor_text(Engine, ENGINE_ARGUMENTS)}`: {plain(Engine.__doc__)}", ""]
    lines += [f"`flo.engine.EngineSettings{constructor_text(EngineSettings)}`: {plain(EngineSettings.__doc__)}", ""]
    lines += [f"`flo.engine.Bounds{constructor_text(Bounds)}`: {plain(Bounds.__doc__)}", ""]
    lines += method_tables(
        [
            ("db", Engine, ENGINE_METHODS),
            ("db.kv", KeyValue, _OPERATIONS),
            ("db.queues", Queues, _OPERATIONS),
            ("db.streams", Streams, _OPERATIONS),
            ("db.streams.groups", Groups, _OPERATIONS),
            ("db.actions", Actions, _OPERATIONS),
            ("db.actions.workers", Workers, _OPERATIONS),
            ("db.actions.schedules", Schedules, _OPERATIONS),
        ]
    )
    lines += ["## Exceptions", "", "They are in `flo.errors`.", "", *error_table()]
    return "\n".join(lines)


def python_page(current: str) -> str:
    """docs/python.md with its tables renewed."""
    return current.partition(METHODS_BEGIN)[0] + METHODS_BEGIN + python_tables() + METHODS_END


if __name__ == "__main__":
    (DOCS / "settings.md").write_text(settings_page())
    page = DOCS / "redis.md"
    page.write_text(redis_page(page.read_text()))
    page = DOCS / "wire-protocol.md"
    page.write_text(wire_page(page.read_text()))
    page = DOCS / "http.md"
    page.write_text(http_page(page.read_text()))
    page = DOCS / "python.md"
    page.write_text(python_page(page.read_text()))
