"""Printing results: text for people, JSON for programs, raw bytes for pipes."""

import json
import sys
from collections.abc import Callable
from typing import Any

from flo.cli import EXIT_REFUSED
from flo.operator_log import escaped


def json_bytes(data: bytes) -> Any:
    """Bytes in JSON: a string if they are UTF-8, else {"base64": …}."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        from base64 import b64encode

        return {"base64": b64encode(data).decode()}


def print_json(value: Any) -> None:
    """Print one line of JSON, in UTF-8 whatever the terminal's encoding is."""
    print_bytes(json_text(value), b"\n")


def print_list(form: str, items: list[dict[str, Any]], name: str, line_of: Callable[[dict[str, Any]], str]) -> int:
    """Print what a list command found: JSON, or raw their names (the field `name`), or a line for each. Returns the exit status."""
    if form == "json":
        print_json(items)
        return 0
    for each in items:
        say(name_text(each[name]) if form == "raw" else line_of(each))
    return 0


def json_text(value: Any) -> bytes:
    """JSON that is safe on a terminal: what is not printable is escaped as JSON escapes it."""
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return text.encode("utf-8", "replace")


def print_bytes(data: bytes, end: bytes = b"") -> None:
    """Print bytes unchanged."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data + end)
    sys.stdout.buffer.flush()


def print_text(data: bytes) -> None:
    """Print a value for a person: with a line's end, and on a terminal without characters that would move its cursor."""
    if sys.stdout.isatty():
        print(shown(data))
    else:
        print_bytes(data, b"" if data.endswith(b"\n") else b"\n")


def shown(data: bytes) -> str:
    """A value on a terminal, with its lines and tabs."""
    return escaped(data.decode("utf-8", "backslashreplace"), kept="\n\t")


def line(data: bytes) -> str:
    """A name or a value, on one line."""
    return escaped(data.decode("utf-8", "backslashreplace"))


def name_text(shown: Any) -> str:
    """A name out of a JSON answer, on one line: text, or base64 where it is not UTF-8."""
    return escaped(shown if isinstance(shown, str) else str(shown["base64"]))


def fail(problem: str | Exception, status: int = EXIT_REFUSED) -> int:
    """Print a problem as a sentence; returns the exit status."""
    if isinstance(problem, OSError) and problem.strerror and isinstance(problem.filename, str):
        problem = f"{problem.filename}: {problem.strerror}"
    warn(f"flo: {problem}")
    return status


def say(text: str) -> None:
    """Print a line for a person. Tabs are between columns."""
    print(escaped(text, kept="\t"), flush=True)


def warn(sentence: str) -> None:
    """Print a line on standard error, unless it was closed before the start."""
    if sys.stderr is not None:
        print(escaped(sentence), file=sys.stderr)


def time_text(milliseconds: int) -> str:
    """Unix ms as local time."""
    from datetime import datetime  # 4 ms, which most commands need not spend

    return datetime.fromtimestamp(milliseconds / 1000).astimezone().isoformat(" ", "milliseconds")


def utc_text(milliseconds: int) -> str:
    """Unix ms as RFC 3339 in UTC, with ms; the number itself if no calendar has it."""
    from datetime import UTC, datetime, timedelta

    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return str(milliseconds)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def size_text(size: int) -> str:
    """A byte count for a person."""
    number = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError("unreachable")


def counted(count: int, nouns: str) -> str:
    """A number of things: "1 key", "2 keys"."""
    return f"{count} {nouns.removesuffix('s') if count == 1 else nouns}"


def duration_text(seconds: int) -> str:
    """A time for a person: its two largest units."""
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    first = next((at for at, (number, _) in enumerate(parts) if number), 3)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number) or "0 s"
