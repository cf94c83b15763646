"""`flo ts`: write, read and query time series. Some commands follow from their rows; these are the others."""

import argparse
from typing import TYPE_CHECKING, Any

from flo.cli.output import duration_text, fail, json_bytes, line, name_text, print_json, print_list, say, warn
from flo.cli.remote import argument, command, time_argument
from flo.cli.rows import add_rows, ask, print_facts
from flo.limits import READ_POINTS_MAX
from flo.operations.timeseries import READ_POINTS

if TYPE_CHECKING:
    from flo.client import Client

FOR_EVER = "none"  # the word for an age without limit
SECOND_MS = 1000
TIME_FORMS = "ms, RFC 3339, or how long ago, such as 15m"
PRECISIONS = ("ns", "us", "ms", "s")  # in the order of the option's numbers


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser(
        "ts",
        help=summary,
        description="Time series: points with a time, tags and fields.",
    ).add_subparsers(metavar="COMMAND")
    write = command(group, "write", write_points, "write points of one time, or a file in InfluxDB's line protocol")
    write.add_argument("measurement", metavar="MEASUREMENT", nargs="?")
    write.add_argument("fields", metavar="FIELDS", nargs="?", help="a number, which is the field value, or fields such as f=1.5,g=2")
    write.add_argument("--tags", help="the tags, k=v,k2=v2")
    write.add_argument(
        "--at", dest="timestamp", type=time_argument, metavar="TIME", help=f"the time of the points: {TIME_FORMS}. Default: now"
    )
    write.add_argument("--file", metavar="FILE", help="a file in line protocol instead; - is standard input")
    write.add_argument("--precision", choices=PRECISIONS, help="of the times in the file. Default: ns")
    parsers = add_rows(group, "ts", {"query": query, "read": read})
    parsers["read"].add_argument(
        "--from", dest="since", type=time_argument, metavar="TIME", help=f"from this time on: {TIME_FORMS}. Default: 1 h before --to"
    )
    parsers["read"].add_argument("--to", dest="until", type=time_argument, metavar="TIME", help="up to this time. Default: now")
    for parser in (parsers["query"], parsers["read"]):
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--csv", action="store_true", help="print CSV: time, name, tags, field, value")
        form.add_argument("--plot", action="store_true", help="draw a chart")
    listing = command(group, "list", list_measurements, "list the measurements, or describe one")
    listing.add_argument("measurement", metavar="MEASUREMENT", nargs="?")
    retention = command(group, "retention", set_retention, "show or set how long a measurement keeps its points, and what it sums up")
    retention.add_argument("measurement", metavar="MEASUREMENT")
    retention.add_argument("age", metavar="AGE", nargs="?", type=_age, help=f"such as 30d or 12h; {FOR_EVER} keeps them for ever")
    retention.add_argument(
        "--downsample", metavar="RULES", type=_rules, help=f"such as 1m:avg:30d,1h:max:0, or {FOR_EVER}: also keep sums of its windows"
    )


def _age(text: str) -> int:
    """Seconds, 0 for ever."""
    from flo.config import parse_duration
    from flo.errors import ConfigError

    if text == FOR_EVER:
        return 0
    try:
        age = parse_duration(text)
    except ConfigError:
        age = 0
    if not age or age % SECOND_MS:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age: whole seconds such as 90s, 12h or 30d, or {FOR_EVER}, are expected")
    return age // SECOND_MS


def _rules(text: str) -> str:
    """Rules of downsampling as the server takes them."""
    return "" if text == FOR_EVER else text


# -- points ----------------------------------------------------------------------------------------


def write_points(client: "Client", args: argparse.Namespace) -> int:
    """Write the points of one time, or of a file."""
    if args.file is not None:
        from flo.cli.load import load

        if args.measurement is not None or args.timestamp is not None or args.tags is not None:
            return fail("--file has measurements, tags and times of its own: leave out MEASUREMENT, FIELDS, --tags and --at", 2)
        return load(client, args, PRECISIONS.index(args.precision or PRECISIONS[0]))
    if args.fields is None:
        return fail("say what to write: give MEASUREMENT and FIELDS, or --file", 2)
    if args.precision is not None:
        return fail("--precision is of the times in a --file; --at takes ms", 2)
    count = ask(client, args, "ts_write")
    print_facts(args, {"measurement": json_bytes(argument(args.measurement)), "points": count}, count, "wrote {} points")
    return 0


def read(client: "Client", args: argparse.Namespace) -> int:
    """Print the points of a measurement; says on standard error if there may be more than the limit."""
    if wrong := _two_forms(args):
        return wrong
    answer = ask(client, args, "ts_read")
    _show(args, answer)
    limit = args.limit or READ_POINTS
    if args.format == "text" and any(len(series["points"]) == limit for series in answer["series"]):
        warn(f"(there may be more: these are the first {limit} of each series; --limit takes up to {READ_POINTS_MAX})")
    return 0


def query(client: "Client", args: argparse.Namespace) -> int:
    """Print the answer to a query. The refusal of a query shows it, with a caret below the column."""
    from flo.errors import BadRequest

    if wrong := _two_forms(args):
        return wrong
    try:
        _show(args, ask(client, args, "ts_query"))
    except BadRequest as e:
        first, *rest = str(e).split("\n")
        status = fail(first)
        for text in rest:
            warn(text)
        return status
    return 0


def _two_forms(args: argparse.Namespace) -> int:
    """Refuse two forms of output at once; 0 if there is one."""
    if args.format != "text" and (args.csv or args.plot):
        return fail(f"give --{'csv' if args.csv else 'plot'} or --format {args.format}, not both", 2)
    return 0


def _show(args: argparse.Namespace, answer: dict[str, Any]) -> None:
    if args.plot and answer["series"]:
        from flo.cli.plot import print_chart

        print_chart(answer["series"])
        return
    from flo.cli.points import print_points

    print_points(args, answer)
    if not answer["series"] and args.format == "text":
        warn("(there are no such points)")


# -- measurements ----------------------------------------------------------------------------------


def list_measurements(client: "Client", args: argparse.Namespace) -> int:
    """Print all measurements, or describe one."""
    if args.measurement is not None:
        return _describe(args, _found(client, args.measurement))
    return print_list(args.format, list(client.ts.list()), "name", _measurement_line)


def _measurement_line(measurement: dict[str, Any]) -> str:
    facts = "  ".join(f"{name} {text}" for name, text in _facts(measurement).items() if name != "series")
    return f"{name_text(measurement['name']):<24}{measurement['series']:>10} series  {facts}"


def _found(client: "Client", measurement: str) -> dict[str, Any] | None:
    """What the server knows of a measurement; None if it is missing."""
    page = client.ts.list_page(argument(measurement)) if measurement else {"measurements": []}
    return page["measurements"][0] if page["measurements"] else None


def _describe(args: argparse.Namespace, found: dict[str, Any] | None) -> int:
    if found is None:
        return _missing(args.measurement)
    if args.format == "json":
        print_json(found)
        return 0
    for name, text in ({"name": name_text(found["name"])} | _facts(found)).items():
        say(f"{name}\t{text}" if args.format == "raw" else f"{name:<12}{text}")
    return 0


def _facts(measurement: dict[str, Any]) -> dict[str, str]:
    """What a person wants to know of a measurement. Each tag has the number of its values, which tells what makes series many."""
    return {
        "series": str(measurement["series"]),
        "fields": ", ".join(measurement["fields"]) or "-",
        "tags": ", ".join(f"{tag['name']} ({tag['values']})" for tag in measurement["tags"]) or "-",
    } | _settings(measurement)


def _settings(measurement: dict[str, Any]) -> dict[str, str]:
    """The settings of a measurement, for a person."""
    age = measurement["max_age_ms"]
    kept = {"kept": duration_text(age // SECOND_MS) if age else "for ever"}
    return kept | {name: measurement[name] for name in ("downsample", "problem") if measurement[name]}


def _missing(measurement: str) -> int:
    return fail(f"there is no measurement {line(argument(measurement))!r}")


def set_retention(client: "Client", args: argparse.Namespace) -> int:
    """Show the settings of a measurement, or replace those that the arguments name; the others stay."""
    found = _found(client, args.measurement)
    named = {setting: value for setting, value in {"max_age": args.age, "downsample": args.downsample}.items() if value is not None}
    if named:
        present = {"max_age": found["max_age_ms"] // SECOND_MS, "downsample": found["downsample"]} if found else {}
        client.ts.create_measurement(argument(args.measurement), **(present | named))
        # a measurement without settings and points is none
        found = _found(client, args.measurement) or {
            "name": json_bytes(argument(args.measurement)),
            "max_age_ms": 0,
            "downsample": "",
            "problem": "",
        }
    if found is None:
        return _missing(args.measurement)
    if args.format == "json":
        print_json({"measurement": found["name"], "max_age_ms": found["max_age_ms"], "downsample": found["downsample"]})
        return 0
    for setting, text in _settings(found).items():
        say(f"{setting}\t{text}" if args.format == "raw" else f"{setting:<12}{text}")
    return 0
