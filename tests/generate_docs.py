"""Writes the parts of the documents that come from tables: all of docs/settings.md, and tables in docs/redis.md and docs/wire-protocol.md.

`make docs` runs it; tests/test_docs.py checks that the documents are current.
"""

from pathlib import Path

from flo.commands.resp import load_table
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
        lines.append(f"| `{entry.name}{syntax}` | {entry.summary} | {escaped(entry.differs)} |")
    lines += ["", "## Refused", "", "| commands | replacement |", "|---|---|"]
    for (_, sentence), names in refused.items():
        lines.append(f"| {' '.join(f'`{name}`' for name in names)} | {sentence} |")
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
        ("System", ("ping", "auth", "namespace_", "cluster_")),
        ("Keys", ("kv_",)),
        ("Queues", ("queue_",)),
        ("Streams", ("stream_",)),
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
    return "\n".join([*lines, ""])


OPERATIONS_BEGIN, OPERATIONS_END = "<!-- from the tables of operations: make docs -->\n", "<!-- end of the tables -->\n"


def wire_page(current: str) -> str:
    """docs/wire-protocol.md with its tables renewed."""
    head, _, rest = current.partition(OPERATIONS_BEGIN)
    return head + OPERATIONS_BEGIN + operation_tables() + OPERATIONS_END + rest.partition(OPERATIONS_END)[2]


if __name__ == "__main__":
    (DOCS / "settings.md").write_text(settings_page())
    page = DOCS / "redis.md"
    page.write_text(redis_page(page.read_text()))
    page = DOCS / "wire-protocol.md"
    page.write_text(wire_page(page.read_text()))
