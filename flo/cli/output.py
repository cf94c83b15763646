"""Printing results: text for people, JSON for programs, raw bytes for pipes."""

import json
import sys
from typing import Any


def json_bytes(data: bytes) -> Any:
    """Bytes in JSON: a string if they are UTF-8, else {"base64": …}."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        from base64 import b64encode

        return {"base64": b64encode(data).decode()}


def print_json(value: Any) -> None:
    """Print one line of JSON, in UTF-8 whatever the terminal's encoding is."""
    print_bytes(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"), b"\n")


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
    """Bytes as text that is safe on a terminal: unprintable characters are escaped."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def line(data: bytes) -> str:
    """`shown`, on one line."""
    return shown(data).replace("\n", "\\n").replace("\t", "\\t")


def time_text(milliseconds: int) -> str:
    """Unix ms as local time."""
    from datetime import datetime  # 4 ms, which most commands need not spend

    return datetime.fromtimestamp(milliseconds / 1000).astimezone().isoformat(" ", "milliseconds")


def size_text(size: int) -> str:
    """A byte count for a person."""
    number = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError("unreachable")


def duration_text(seconds: int) -> str:
    """A time for a person: its two largest units."""
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    first = next((at for at, (number, _) in enumerate(parts) if number), 3)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number) or "0 s"
