"""`flo top`: what a server does now, once a second: rates from two answers of server_stats.

On a terminal the view is drawn over itself, on the terminal's other screen, until q or Ctrl-C; the terminal is then as it was. Elsewhere
each view is printed behind the last one.
"""

import argparse
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from flo.cli.output import counted, duration_text, name_text, print_json, say, size_text
from flo.cli.remote import command, whole
from flo.operator_log import escaped

if TYPE_CHECKING:
    from flo.client import Client

SECONDS = 1.0  # between two views
COMMANDS_MAX, LARGEST_MAX = 10, 8  # rows of a view
NAME_CHARACTERS = 36
# the other screen, no cursor, no wrapping of long lines; and back
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
HOME, LINE_END, REST = "\x1b[H", "\x1b[K\r\n", "\x1b[J"

Stats = dict[str, Any]


def add(commands: Any, summary: str) -> None:
    """Add the command to the parser."""
    parser = command(commands, "top", top, summary)
    parser.add_argument("--count", type=whole(1, 10**9), metavar="N", help="end after so many views. Default: never")


def top(client: "Client", args: argparse.Namespace) -> int:
    """Show the server's work each second, until the user or the server ends it."""
    where = f"{args.host}:{args.port}"
    terminal = args.format == "text" and sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    try:
        if terminal:
            with _screen():
                _watch(client, args.count, lambda view: _draw(lines(view, where)), _waits_for_key)
        elif args.format == "json":
            _watch(client, args.count, print_json, _waits)
        else:
            _watch(client, args.count, lambda view: _print(lines(view, where)), _waits)
    except KeyboardInterrupt:
        pass  # it is the usual end
    return 0


def _watch(client: "Client", count: int | None, show: Callable[[Stats], None], wait: Callable[[float], bool]) -> None:
    """Show a view each SECONDS, until `count` are shown or `wait` says that it is enough."""
    before, shown, due = client.stats(), 0, monotonic()
    while shown != count:
        due = max(due + SECONDS, monotonic())
        if not wait(due - monotonic()):
            return
        now = client.stats()
        show(view_of(before, now))
        before, shown = now, shown + 1


# -- the numbers -----------------------------------------------------------------------------------


def view_of(before: Stats, now: Stats) -> Stats:
    """What happened between two answers of server_stats, by the second, and how things are at the second one."""
    seconds: float = max((now["time"] - before["time"]) / 1000, 0.001)

    def rate(was: float, number: float) -> float:
        grown: float = max(number - was, 0)  # CONFIG RESETSTAT, or a restart, begins counts again
        return round(grown / seconds, 1)

    earlier = {(each["protocol"], each["command"]): each for each in before["commands"]}
    commands = []
    for each in now["commands"]:
        was = earlier.get((each["protocol"], each["command"]), {})
        calls = rate(was.get("calls", 0), each["calls"])
        rejected = rate(was.get("rejected", 0), each["rejected"])
        if calls or rejected:
            busy = max(each["seconds"] - was.get("seconds", 0.0), 0.0) / seconds
            refused = round(rejected + rate(was.get("failed", 0), each["failed"]), 1)
            row = {"protocol": each["protocol"], "command": each["command"], "per_second": calls, "refused_per_second": refused}
            commands.append(row | {"usec_each": round(busy / calls * 1e6, 1) if calls else 0.0})
    commands.sort(key=lambda row: -row["per_second"])
    clients, log = now["clients"], now["log"]
    return {
        "time": now["time"],
        "version": now["version"],
        "uptime_seconds": now["uptime_seconds"],
        "requests_per_second": rate(before["requests"], now["requests"]),
        "errors_per_second": rate(sum(before["errors"].values()), sum(now["errors"].values())),
        "waits": {f"p{share}_usec": wait_quantile(before, now, share / 100) for share in (50, 99)},
        "processor": round(max(now["cpu_seconds"] - before["cpu_seconds"], 0) / seconds, 3),
        "commands": commands,
        "clients": {
            "connected": clients["connected"],
            "waiting": clients["waiting"],
            "bytes_in_per_second": rate(before["clients"]["bytes_in"], clients["bytes_in"]),
            "bytes_out_per_second": rate(before["clients"]["bytes_out"], clients["bytes_out"]),
        },
        "memory": now["memory"],
        "log": log
        | {
            "syncs_per_second": rate(before["log"]["syncs"], log["syncs"]),
            "bytes_written_per_second": rate(before["log"]["bytes_written"], log["bytes_written"]),
        },
        "compacting": now["compaction"]["running"],
        "unread": now["unread"],
        "counts": now["counts"],
        "largest": now["largest"],
    }


def wait_quantile(before: Stats, now: Stats, share: float) -> int | None:
    """A time, in microseconds, that `share` of the waits between two answers did not exceed, by even spread within a bucket; None if there
    were no waits."""
    was = dict(map(tuple, before["waits"]["under"]))
    under: list[tuple[int, int]] = [(usec, max(count - was.get(usec, 0), 0)) for usec, count in now["waits"]["under"]]
    left: float = share * max(now["waits"]["count"] - before["waits"]["count"], 0)
    if not left:
        return None
    low = below = 0
    for usec, count in under:
        if count >= left:
            return round(low + (usec - low) * (left - below) / (count - below))
        low, below = usec, count
    return low


# -- the text --------------------------------------------------------------------------------------


def lines(view: Stats, where: str) -> list[str]:
    """A view for a person."""
    waits, clients, memory, log, counts = view["waits"], view["clients"], view["memory"], view["log"], view["counts"]
    bound = f" of {size_text(memory['max'])}" if memory["max"] else ""
    troubles = [
        "" if log["accepts_adds"] else "DISK FULL: WRITES ARE REFUSED",
        "MEMORY FULL: WRITES ARE REFUSED" if memory["full"] else "",
        f"DAMAGE MET: {counted(log['damage_met'], 'reads')} failed" if log["damage_met"] else "",
        "compacting" if view["compacting"] else "",
        f"{counted(view['unread'], 'values')} still to be read" if view["unread"] else "",
    ]
    held = ", ".join(counted(counts[noun], noun) for noun in counts if "_" not in noun)
    found = [
        f"Flo {view['version']} on {where}, up {duration_text(int(view['uptime_seconds']))}",
        "",
        f"requests  {_number(view['requests_per_second'])} /s, {_number(view['errors_per_second'])} errors /s, "
        f"processor {view['processor'] * 100:.0f} %",
        f"waits     p50 {_usec(waits['p50_usec'])}, p99 {_usec(waits['p99_usec'])}",
        f"clients   {clients['connected']} connected, {counted(clients['waiting'], 'requests')} waiting, "
        f"in {size_text(clients['bytes_in_per_second'])}/s, out {size_text(clients['bytes_out_per_second'])}/s",
        f"memory    {size_text(memory['used'])}{bound} used, {size_text(memory['resident'])} resident",
        f"log       {size_text(log['bytes'])}, {_number(log['syncs_per_second'])} syncs /s, "
        f"{size_text(log['bytes_written_per_second'])}/s written, {log['durability']}",
        f"contents  {held}",
        *(f"          {trouble}" for trouble in troubles if trouble),
        "",
        f"{'COMMAND':<{NAME_CHARACTERS}}{'/s':>12}{'us each':>12}{'refused /s':>12}",
    ]
    for row in view["commands"][:COMMANDS_MAX]:
        name = f"{row['command']} ({row['protocol']})"
        found.append(f"{_cut(name)}{_number(row['per_second']):>12}{row['usec_each']:>12.1f}{_number(row['refused_per_second']):>12}")
    for kind, rows in view["largest"].items():
        measures = [name for name in rows[0] if name not in ("namespace", "name")] if rows else []
        if rows:
            heads = [measure.removesuffix(f"_{measures[0]}").replace("_", " ") for measure in measures]  # ready_messages of messages: ready
            found += ["", f"{kind.upper():<{NAME_CHARACTERS}}" + "".join(f"{head:>14}" for head in heads)]
        for row in rows[:LARGEST_MAX]:
            name = name_text(row["name"]) if row["namespace"] == "default" else f"{row['namespace']}: {name_text(row['name'])}"
            found.append(_cut(name) + "".join(f"{row[measure]:>14}" for measure in measures))
    return found


def _cut(name: str) -> str:
    name = escaped(name)
    return f"{name if len(name) < NAME_CHARACTERS else name[: NAME_CHARACTERS - 2] + '…':<{NAME_CHARACTERS}}"


def _number(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 or not number else f"{number:.1f}"


def _usec(usec: int | None) -> str:
    return "-" if usec is None else f"{usec / 1000:.2f} ms"


# -- the terminal ----------------------------------------------------------------------------------


def _waits(seconds: float) -> bool:
    select.select([], [], [], max(seconds, 0))
    return True


def _waits_for_key(seconds: float) -> bool:
    """Wait; False as soon as the user presses q, or the terminal is gone."""
    end = monotonic() + seconds
    while True:
        ready, _, _ = select.select([sys.stdin], [], [], max(end - monotonic(), 0))
        if not ready:
            return True
        pressed = os.read(sys.stdin.fileno(), 64)
        if not pressed or b"q" in pressed.lower():
            return False


@contextmanager
def _screen() -> Iterator[None]:
    """The terminal's other screen, with single keys and no echo; everything as before at the end, also if a signal ends the process."""
    import signal
    import termios
    import tty

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        sys.stdout.write(ENTER)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        sys.stdout.write(LEAVE)
        sys.stdout.flush()


def _print(text: list[str]) -> None:
    """Print a view, and an empty line."""
    for line in (*text, ""):
        say(line)


def _draw(text: list[str]) -> None:
    """Draw a view over the last one, as far as the terminal has room."""
    size = os.get_terminal_size(sys.stdout.fileno())
    columns, height = size.columns or 80, size.lines or 24  # a terminal that does not know its size says 0
    shown = [*text[: max(height - 2, 1)], "q: end"]
    sys.stdout.write(HOME + LINE_END.join(escaped(line)[:columns] for line in shown) + LINE_END.removesuffix("\r\n") + REST)
    sys.stdout.flush()
