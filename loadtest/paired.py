"""What a change costs: the server's CPU us a request, this checkout beside another commit, in paired alternating runs.

    python3 loadtest/paired.py REF [--runs 20] [--command set] [--depth 16] [--protocol resp] [--python PATH] [--seconds 0.1]
    python3 loadtest/paired.py REF --mix cache …         a mix of mix.py
    python3 loadtest/paired.py REF --command RPOP …      a command of `mix.py --single`: "XREAD COUNT 10", "QDEQUEUE+QACK" and so on

Starts both servers (the other from a worktree in a temporary directory) with clients that stay connected, and lets them take turns: a run
is SLICES short slices of each, so that both find the machine alike. Halfway all starts anew in the other order, for who is started first
pays 1.5 % more. Prints the median of the runs' ratios, this over that, with its bounds (compare.py's `middle_of`).

set, get and incr, in small letters, are generator.py's: a million keys, all values of 3 bytes. Mixes and the other commands are
workload.py's; what a slice has used up is put back before the next.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from loadtest.compare import CLIENTS, KEYS, cpu_seconds, middle_of  # noqa: E402
from loadtest.generator import prepare  # noqa: E402
from loadtest.mix import FLO_SETTINGS  # noqa: E402
from loadtest.singles import SINGLES, Server  # noqa: E402
from loadtest.workload import MIXES, Clients, Draw, Load, batches_of, pour  # noqa: E402
from tests.support.processes import FloProcess  # noqa: E402

SLICES = 10
ENCODED = ("set", "get", "incr")  # commands of generator.py, which knows both protocols
FILL_SECONDS = 1.0  # before anything is measured: keys that are there, code that has run

Run = Callable[[float], tuple[int, float]]  # seconds -> (requests answered, seconds)


def mixed(port: int, mix: str, depth: int) -> Load:
    """Clients of a mix, and a server that is filled for it."""
    draw = Draw(mix)
    pour(port, MIXES[mix].fill(draw))
    return Clients(port, batches_of(MIXES[mix].requests(draw), depth), depth)


def connect(args: argparse.Namespace, port: int, stack: contextlib.ExitStack) -> tuple[Run, Callable[[], None]]:
    """Connected clients that have run once: what lets them run, and what puts back what a run has used up."""
    if args.mix or args.command not in ENCODED:
        load = mixed(port, args.mix, args.depth) if args.mix else Server(port).load(args.command, args.depth)
        stack.callback(load.close)
        load.run(FILL_SECONDS)
        return load.run, load.restore
    command = "put" if args.command == "set" else args.command
    for wanted in ("put", command) if command == "get" else (command,):  # the first is what GET finds
        encoded = prepare(port, args.protocol, wanted, args.depth, CLIENTS, KEYS, b"xxx")
        stack.callback(encoded.close)
        encoded.run(FILL_SECONDS)
    return encoded.run, lambda: None


def measure(args: argparse.Namespace, sources: dict[str, Path], order: tuple[str, str], runs: int) -> list[dict[str, float]]:
    """CPU us a request of each server, run by run. Both are started anew, in this order."""
    costs: list[dict[str, float]] = []
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-paired-", ignore_cleanup_errors=True)))
        servers = {}
        for name in order:
            environment = FLO_SETTINGS | {"PYTHONPATH": str(sources[name])}
            program = ["-P", "-c", "import sys; sys.argv[0] = 'flo'; from flo.cli import main; sys.exit(main())"]
            server = stack.enter_context(
                FloProcess(directory / name / "data", python=args.python, environment=environment, program=program)
            )
            servers[name] = server.pid, *connect(args, server.port, stack)
        for _ in range(runs):
            spent, done = dict.fromkeys(order, 0.0), dict.fromkeys(order, 0)
            for number in range(SLICES):
                for name in order if number % 2 else order[::-1]:
                    pid, run, restore = servers[name]
                    restore()
                    before = cpu_seconds(pid)
                    done[name] += run(args.seconds)[0]
                    spent[name] += cpu_seconds(pid) - before
            costs.append({name: spent[name] / done[name] * 1e6 for name in order})
    return costs


def main() -> int:
    """Run the pairs."""
    parser = argparse.ArgumentParser(description="The server's CPU us a request, this checkout beside another commit.")
    parser.add_argument("ref", help="the commit to compare with")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--command", default="set", help=f"{', '.join(ENCODED)}, {', '.join(SINGLES)} (default: set)")
    parser.add_argument("--mix", choices=MIXES, help="a mix of commands and sizes instead of one command")
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--protocol", default="resp")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a slice")
    args = parser.parse_args()
    if args.command not in (*ENCODED, *SINGLES):
        parser.error(f"there is no command {args.command!r}; take one of {', '.join((*ENCODED, *SINGLES))}")
    if args.protocol != "resp" and (args.mix or args.command not in ENCODED):
        parser.error(f"only {', '.join(ENCODED)} can be sent by the protocol {args.protocol!r}; leave --protocol out")
    with contextlib.ExitStack() as stack:
        worktree = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-paired-", ignore_cleanup_errors=True))) / "that"
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(worktree), args.ref], check=True)
        stack.callback(subprocess.run, ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(worktree)], check=True)
        sources = {"this": ROOT, "that": worktree}
        costs = measure(args, sources, ("this", "that"), args.runs - args.runs // 2)
        costs += measure(args, sources, ("that", "this"), args.runs // 2)
    middle, low, high = middle_of([cost["this"] / cost["that"] for cost in costs])
    shown = " ".join(f"{name} {statistics.median(cost[name] for cost in costs):.2f}" for name in sources)
    print(f"{args.protocol} {args.mix or args.command} depth {args.depth}: {shown} us; {len(costs)} pairs")
    print(f"this over {args.ref}: {middle:.3f} [{low:.3f}..{high:.3f}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
