"""The common part of all commands that speak to a server: flags, connection, and errors that name a remedy."""

import argparse
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flo.cli import EXIT_CANNOT_CONNECT
from flo.cli.output import fail
from flo.limits import VALUE_BYTES_MAX

if TYPE_CHECKING:
    from flo.client import Client

FIRST_ANSWER_SECONDS = 3.0  # a Flo server answers a ping at once; another program on the port gets no longer
PROBE_SECONDS = 1.0

Action = Callable[["Client", argparse.Namespace], int]


def remote_flags() -> argparse.ArgumentParser:
    """The flags of every command that speaks to a server, as a parent parser."""
    flags = argparse.ArgumentParser(add_help=False)
    group = flags.add_argument_group(
        "server",
        "FLO_HOST, FLO_PORT, FLO_NAMESPACE and FLO_SECRET_FILE in the environment are the defaults. Only a server reads flo.toml.",
    )
    environment = os.environ
    group.add_argument(
        "--host", type=_host, default=environment.get("FLO_HOST", "127.0.0.1"), help="the server's address. Default: %(default)s"
    )
    group.add_argument("--port", type=_port, default=environment.get("FLO_PORT", "9000"), help="the server's port. Default: %(default)s")
    group.add_argument("-n", "--namespace", default=environment.get("FLO_NAMESPACE", "default"), help="the namespace. Default: %(default)s")
    group.add_argument(
        "--secret-file", metavar="FILE", default=environment.get("FLO_SECRET_FILE", ""), help="a file with the server's secret"
    )
    group.add_argument("--timeout", type=_seconds, default=30.0, metavar="SECONDS", help="how long to wait for an answer. Default: 30")
    group.add_argument(
        "--format",
        choices=("text", "json", "raw"),
        default="text",
        help="text for people, json for programs, raw for unchanged bytes. Default: text",
    )
    return flags


def _host(text: str) -> str:
    if "/" in text or text.count(":") == 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a host: give the name or the address alone, and the port with --port")
    return text


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 1 to 65535 is expected")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: a number of seconds over 0 is expected")
    return seconds


def whole(low: int, high: int) -> Callable[[str], int]:
    """An argument's type: a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return number

    return parse


def time_argument(text: str) -> int:
    """An argument's type: a time as Unix ms, RFC 3339 (UTC if it has no zone), `now`, or how long ago it was, such as 15m. Returns Unix
    ms."""
    from datetime import UTC, datetime, timedelta
    from time import time

    from flo.config import parse_duration
    from flo.errors import ConfigError

    now = int(time() * 1000)
    if text == "now":
        return now
    with suppress(ConfigError):
        return now - parse_duration(text)
    with suppress(ValueError):
        if text.removeprefix("-").isdecimal():
            return I64(text)
        moment = datetime.fromisoformat(text)
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (zoned - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    raise argparse.ArgumentTypeError(
        f"{text!r} is not a time: Unix ms, RFC 3339 such as 2024-05-01T12:00:00Z, now, or how long ago, such as 15m, is expected"
    )


U32, U64, I64 = whole(0, (1 << 32) - 1), whole(0, (1 << 64) - 1), whole(-(1 << 63), (1 << 63) - 1)


def command(commands: Any, name: str, action: Action, summary: str) -> argparse.ArgumentParser:
    """Add a command that speaks to a server; the caller adds its own arguments. `list` is `ls` as well."""
    listing = name == "list"
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[:1].upper() + summary[1:] + "." + (" The command ls is the same." if listing else ""),
        parents=[remote_flags()],
        aliases=["ls"] if listing else [],
    )
    parser.set_defaults(run=lambda args: run(action, args))
    return parser


def run(action: Action, args: argparse.Namespace) -> int:
    """Connect, act, and turn a failure into one line and an exit status."""
    from flo.client import Disconnected
    from flo.errors import FloError, NotLeader, Unauthorized

    try:
        client = client_of(args)
        client.timeout = min(args.timeout, FIRST_ANSWER_SECONDS)
        try:
            client.connect()
            if client.secret is None:
                client.ping()
        except Disconnected as e:
            unknown = isinstance(e.__context__, socket.gaierror)  # no host has that name, so no server is there to ask
            return fail(f"{e}{'' if unknown else _hint(args.host, args.port)}", EXIT_CANNOT_CONNECT)
        client.timeout = args.timeout
        with client:
            return action(client, args)
    except Unauthorized as e:
        return fail(e if args.secret_file else "this server has a secret; name the file that holds it with --secret-file")
    except Disconnected as e:
        return fail(str(e), EXIT_CANNOT_CONNECT)
    except NotLeader as e:
        return fail(e.sentence)
    except FloError as e:
        return fail(str(e))


def client_of(args: argparse.Namespace) -> "Client":
    """The client that a server's flags stand for."""
    from flo.client import Client
    from flo.config import read_secret

    client = Client(namespace=args.namespace, secret=read_secret(args.secret_file), timeout=args.timeout, retries=0)
    client.places = [(args.host, args.port)]
    return client


def _hint(host: str, port: int) -> str:
    """The remedy if no Flo server answers there."""
    found = identify(host, port)
    if found is None:
        return f". Is a server running there? `flo server start --port {port}` starts one."
    return f". {found}" if found else ""


def identify(host: str, port: int) -> str | None:
    """A sentence about the program that listens there, judged by its greeting and its answer to a line; "" for a Flo that has already said
    why it does not serve this client, None if nothing can be reached."""
    try:
        with socket.create_connection((host, port), PROBE_SECONDS) as sock:
            sock.settimeout(PROBE_SECONDS)
            said = b""
            for line in (b"INFO server\r\n", b"\r\n"):
                try:
                    sock.sendall(line)
                    said = sock.recv(4096)
                except TimeoutError:
                    continue
                break
    except (OSError, UnicodeError):
        return None
    shown = said.split(b"\n")[0].strip()[:60].decode("utf-8", "replace")
    if b"flo_version:" in said:
        return "A Flo server listens there but does not answer in time; try a longer --timeout."
    if said.startswith(b"-DENIED this Flo"):
        return ""
    if said.startswith(b"-ERR max number of clients"):
        return "The server there has as many clients as its max_connections allows; try again later."
    if said.startswith((b"$", b"-")):
        version = next((line for line in said.decode("utf-8", "replace").split() if line.startswith("redis_version")), shown)
        return f"A Redis server, or another program that speaks RESP, answered there ({version}); give Flo's port with --port."
    if said.startswith(b"HTTP/") or said.lower().startswith(b"<"):
        return f"A web server answered there ({shown}); give Flo's port with --port."
    if said.startswith(b"SSH-"):
        return f"An SSH server answered there ({shown}); give Flo's port with --port."
    if said:
        return f"Another program answered there: {shown!r}; give Flo's port with --port."
    return "The program that listens there says nothing, so it is not a Flo server; give Flo's port with --port."


def argument(text: str) -> bytes:
    """A key or value from the command line, byte for byte."""
    return os.fsencode(text)


def value_argument(text: str) -> bytes:
    """A value from the command line, or all of standard input for `-`. Raises `BadRequest` for a value that no server
    accepts."""
    if text != "-":
        return argument(text)
    from flo.errors import BadRequest

    if sys.stdin is None:
        raise BadRequest("- reads standard input, but standard input is closed")
    data = sys.stdin.buffer.read(VALUE_BYTES_MAX + 1)
    if len(data) > VALUE_BYTES_MAX:
        raise BadRequest(f"standard input holds more than {VALUE_BYTES_MAX} bytes, the most a value may have")
    return data
