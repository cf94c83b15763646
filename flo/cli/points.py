"""Prints the points of an answer: as a table, JSON, CSV, or line protocol, which `flo ts write --file -` takes."""

import argparse
import sys
from typing import Any

from flo.cli.output import print_bytes, print_json, shown, utc_text
from flo.operator_log import escaped

MS_NS = 1_000_000
HEAD = ("time", "name", "field", "value")  # columns of CSV; those of tags stand behind the name

Series = dict[str, Any]  # of an answer: name, tags, field, points


def label(series: Series) -> str:
    """What a person knows a series by: cpu{host=a} usage."""
    tags = ",".join(f"{name}={value}" for name, value in series["tags"].items())
    return escaped(f"{series['name']}{'{' + tags + '}' if tags else ''} {series['field']}")


def number_text(value: float) -> str:
    """A value without a needless `.0`."""
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else repr(value)


def print_points(args: argparse.Namespace, answer: dict[str, Any]) -> None:
    """Print the points of all series, in the form that the arguments say."""
    series: list[Series] = answer["series"]
    if args.csv:
        data = _csv(series)
        if sys.stdout.isatty():
            print(shown(data.replace(b"\r\n", b"\n")), end="")
        else:
            print_bytes(data)
    elif args.format == "json":
        print_json(answer)
    elif args.format == "raw":
        for one in series:
            print_bytes(_lines(one))
    else:
        for number, one in enumerate(series):
            print(("\n" if number else "") + "\n".join(_table(one)))


def _table(series: Series) -> list[str]:
    """A series as lines, with the decimal points below each other."""
    texts = [number_text(value) for _, value in series["points"]]
    fractions = [len(text.partition(".")[2]) + ("." in text) for text in texts]
    most = max(fractions)
    padded = [text + " " * (most - fraction) for text, fraction in zip(texts, fractions, strict=True)]
    width = max(map(len, padded))
    rows = [f"  {utc_text(time)}  {text:>{width}}".rstrip() for (time, _), text in zip(series["points"], padded, strict=True)]
    return [label(series), *rows]


def _csv(series: list[Series]) -> bytes:
    """All series as one table (RFC 4180): a column for each tag that one of them has, and a row for each point."""
    import csv
    from io import StringIO

    tags = sorted({tag for one in series for tag in one["tags"]})
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*HEAD[:2], *(f"tag.{tag}" if tag in HEAD else tag for tag in tags), *HEAD[2:]])
    for one in series:
        names = [one["name"], *(one["tags"].get(tag, "") for tag in tags), one["field"]]
        writer.writerows([utc_text(time), *names, number_text(value)] for time, value in one["points"])
    return text.getvalue().encode("utf-8", "surrogateescape")


def _lines(series: Series) -> bytes:
    """A series as lines of line protocol, with times in ns. Raises `BadRequest` for a name that it cannot write."""
    from flo.series import Series as Names
    from flo.series import write_key

    tags = tuple((name, value) for name, value in series["tags"].items() if value)  # line protocol has no empty tags
    key = write_key(Names(series["name"], tags, series["field"]))
    return b"".join(b"%b=%b %d\n" % (key, number_text(value).encode(), time * MS_NS) for time, value in series["points"])
