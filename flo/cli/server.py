"""`flo server start` and `flo server status`."""

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import flo
from flo.cli.output import counted, duration_text, fail, print_json, say, size_text
from flo.cli.remote import command
from flo.config import Choice, SettingRow, load, setting_rows, unknown_variables
from flo.errors import FloError
from flo.operator_log import OperatorLog, escaped
from flo.systemd import EXTEND_USEC, Notifier, activated_socket

if TYPE_CHECKING:
    from flo.client import Client

TELL_SECONDS = 5.0
DURABILITY_TEXT = {
    "sync": "a write is answered once it is on disk",
    "async": "a write is on disk within 100 ms of its answer",
    "ephemeral": "everything is gone when the server stops",
}


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser("server", help=summary, description="Run a server, or show its state.").add_subparsers(metavar="COMMAND")
    command(group, "status", show_status, "show a server's address, uptime, contents and load")
    start = group.add_parser(
        "start",
        help="start a server",
        description="Start a server in the foreground. Flags win over the environment, the environment over flo.toml.",
        epilog="Every other setting is in flo.toml (see docs/settings.md); kv.history_depth is FLO_KV_HISTORY_DEPTH in the environment.",
    )
    start.add_argument("--config", metavar="FILE", help="settings file (default: ./flo.toml, if there is one)")
    for row in setting_rows():
        if row.section == "server" or row.full_name == "resp.profile":
            _add_flag(start, row)
    start.set_defaults(run=run_start)


def _add_flag(parser: argparse.ArgumentParser, row: SettingRow) -> None:
    flag = "--" + (row.name if row.section == "server" else f"{row.section}-{row.name}").replace("_", "-")
    summary = f"{row.summary} Default: {row.shown or 'none'}.".replace("%", "%%")
    if row.shown in ("true", "false"):
        parser.add_argument(flag, dest=row.attribute, action="store_const", const="true", help=summary)
    else:
        metavar = "|".join(row.parse.choices) if isinstance(row.parse, Choice) else row.name.rpartition("_")[2].upper()
        parser.add_argument(flag, dest=row.attribute, metavar=metavar, help=summary)


def run_start(args: argparse.Namespace) -> int:
    """Serve until told to stop. Exit 1 with one line if the server cannot start."""
    from flo.server import Server, address_text

    environment = dict(os.environ)  # with what the service manager says, of which the next lines take out what is read
    manager = Notifier(os.environ)
    try:
        listener = activated_socket(os.environ)
        settings, source = load(args.config, os.environ, vars(args))
        operator_log = OperatorLog(settings.log_level, settings.log_format)
        for sentence in unknown_variables(os.environ):
            operator_log.write("warning", sentence)
        began = time.monotonic()
        teller = _Teller(operator_log, sys.stderr.isatty() and settings.log_format != "json", manager)
        server = Server(settings, operator_log, on_progress=teller.tell, listener=listener)
        server.environment = environment
    except (FloError, OSError) as e:
        return fail(e)
    took = time.monotonic() - began

    def ready() -> None:
        """Print that the server listens, and what it holds."""
        engine = server.engine
        found = engine.counts()
        counts = {noun: found[noun] for noun in ("keys", "queues", "streams", "measurements")}
        unread = engine.background_load.remaining if engine.background_load is not None else 0  # some may belong to keys counted above
        to_read = f", {unread} values to be read while it serves" if unread else ""
        held = ", ".join(counted(count, nouns) for nouns, count in counts.items()) + to_read
        where = address_text((settings.bind if listener is None else listener.getsockname()[0], server.port))
        directory = os.path.abspath(settings.data_dir)
        if settings.log_format == "json":
            server.log(
                "info", "listening", address=where, data_dir=directory, durability=settings.durability,
                **counts, unread=unread, records=engine.log.recovered_records,
                recovery_seconds=round(took, 3),
                pid=os.getpid(), version=flo.__version__, config=source, descriptors=server.descriptor_limit,
            )  # fmt: skip
        else:
            where_cli = f" -h {settings.bind}" if settings.bind not in ("127.0.0.1", "0.0.0.0") else ""
            lines = [
                f"Flo {flo.__version__} is listening on {where} (process {os.getpid()}, Python {sys.version.split()[0]})",
                f"  data        {directory}: {held}; {engine.log.recovered_records} records read in {took:.2f} s",
                f"  durability  {settings.durability}: {DURABILITY_TEXT[settings.durability]}",
                f"  clients     {server.connection_limit} at once; {server.descriptor_limit} file descriptors",
                f"  try         redis-cli{where_cli}{' --tls' if settings.tls_only else ''} -p {server.port} SET hello world",
                "  stop        Ctrl-C",
            ]
            if server.tls is not None:
                also = "no connection is served without it" if settings.tls_only else "on the same port"
                lines.insert(4, f"  tls         {also}; certificate {os.path.abspath(settings.tls_cert_file)}")
            if source:
                lines.insert(1, f"  settings    {source}")
            operator_log.text("\n".join(map(escaped, lines)) + "\n")
        if server.connection_limit < settings.max_connections:
            server.log("warning", f"only {server.descriptor_limit} file descriptors may be open: too few for max_connections")

        manager.tell("READY=1", f"STATUS=Serving on {where}: {held}")
        if manager.watchdog_seconds:
            watched()

    def watched() -> None:
        """Tell the watchdog that the loop runs, and do so again in half of its time."""
        manager.tell("WATCHDOG=1")
        server.call_later(manager.watchdog_seconds / 2, watched)

    server.on_stopping = lambda: manager.tell("STOPPING=1")
    try:
        server.run(ready)
    except FloError as e:
        return fail(e)
    return 0


class _Teller:
    """Shows the progress of a long start: on a terminal in one line that is overwritten, else in the log every TELL_SECONDS."""

    def __init__(self, operator_log: OperatorLog, terminal: bool, manager: Notifier) -> None:
        self._manager = manager
        self._operator_log = operator_log
        self._terminal = terminal
        self._told = 0.0

    def tell(self, done: int, total: int, seconds_left: int) -> None:
        """Show that `done` of `total` bytes are read."""
        now = time.monotonic()
        left = f"{100 * min(done, total) / max(total, 1):.0f} % of {size_text(total)}, about {seconds_left} s left"
        self._manager.tell(f"STATUS=Reading the log: {left}", f"EXTEND_TIMEOUT_USEC={EXTEND_USEC}")
        if self._terminal:
            self._operator_log.text(f"\r\033[K  loading     {left}\r")
        elif now >= self._told + TELL_SECONDS:
            self._told = now
            self._operator_log.write("info", f"loading: {left}", bytes=done, total=total)


def show_status(client: "Client", args: argparse.Namespace) -> int:
    """Print the server's status."""
    status = client.status()
    if args.format == "json":
        print_json(status)
        return 0
    log = status["log"]
    bound = f" of {size_text(status['max_memory'])}" if status["max_memory"] else ""
    counts = status["counts"]
    rows = {
        "version": f"Flo {status['version']} on Python {status['python']}, process {status['pid']}",
        "address": status["address"],
        "up": duration_text(status["uptime_seconds"])
        + (", loading" if status["loading"] else f", {status['unread']} values still to be read" if status["unread"] else ""),
        "data": status["data_dir"],
        "durability": f"{status['durability']}: {DURABILITY_TEXT[status['durability']]}",
        "writes": "accepted" if status["accepts_writes"] else "REFUSED: disk or memory is full",
        "clients": f"{status['connections']} connected, {status['waiting']} requests waiting",
        "requests": f"{status['requests']} since the start, {status['refused']} refused",
        "keys": f"{counts['keys']}, {counts['keys_with_deadline']} of them with a deadline, "
        f"in {counted(status['namespaces'], 'namespaces')}",
        "queues": f"{counts['queues']} with {counted(counts['messages'], 'messages')}, {counts['dead_messages']} of them dead letters",
        "streams": f"{counts['streams']} with {counted(counts['records'], 'records')}",
        "used": f"{size_text(status['bytes'])}{bound}",
        "resident": size_text(status["resident_bytes"]),
        "log": f"{counted(log['segments'], 'segments')}, index {log['last_index']}, {counted(log['syncs'], 'syncs')}",
    }
    for name, text in rows.items():
        say(f"{name}\t{text}" if args.format == "raw" else f"{name:<12}{text}")
    return 0
