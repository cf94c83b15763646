"""What a change costs: the server's CPU us a request, this checkout beside another commit, in paired alternating runs.

    python3 loadtest/paired.py REF [--runs 20] [--command set] [--depth 16] [--protocol resp] [--python PATH] [--seconds 0.1]

Starts both servers (the other from a worktree in a temporary directory), with clients of generator.py that stay connected, and lets them
take turns: a run is SLICES short slices of each, so that both find the machine alike. Halfway all starts anew in the other order, for who
is started first pays 1.5 % more. Prints the median of the runs' ratios, this over that, with its bounds (compare.py's `middle_of`).
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from loadtest.compare import CLIENTS, KEYS, cpu_seconds, middle_of  # noqa: E402
from loadtest.generator import prepare  # noqa: E402
from tests.support.processes import FloProcess  # noqa: E402

SLICES = 10
FILL_SECONDS = 1.0  # before anything is measured: keys that are there, code that has run


def measure(args: argparse.Namespace, sources: dict[str, Path], order: tuple[str, str], runs: int) -> list[dict[str, float]]:
    """CPU us a request of each server, run by run. Both are started anew, in this order."""
    costs: list[dict[str, float]] = []
    command = "put" if args.command == "set" else args.command
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-paired-", ignore_cleanup_errors=True)))
        servers = {}
        for name in order:
            environment = {"PYTHONPATH": str(sources[name]), "FLO_LOG_COMPACT_GROWTH": "0"}  # a compaction would hit now this, now that
            program = ["-P", "-c", "import sys; sys.argv[0] = 'flo'; from flo.cli import main; sys.exit(main())"]
            server = stack.enter_context(
                FloProcess(directory / name / "data", python=args.python, environment=environment, program=program)
            )
            for wanted in ("put", command) if command == "get" else (command,):  # the first is what GET finds
                load = prepare(server.port, args.protocol, wanted, args.depth, CLIENTS, KEYS, b"xxx")
                stack.callback(load.close)
                load.run(FILL_SECONDS)
            servers[name] = server.pid, load
        for _ in range(runs):
            spent, done = dict.fromkeys(order, 0.0), dict.fromkeys(order, 0)
            for number in range(SLICES):
                for name in order if number % 2 else order[::-1]:
                    pid, load = servers[name]
                    before = cpu_seconds(pid)
                    done[name] += load.run(args.seconds)[0]
                    spent[name] += cpu_seconds(pid) - before
            costs.append({name: spent[name] / done[name] * 1e6 for name in order})
    return costs


def main() -> int:
    """Run the pairs."""
    parser = argparse.ArgumentParser(description="The server's CPU us a request, this checkout beside another commit.")
    parser.add_argument("ref", help="the commit to compare with")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--command", default="set")
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--protocol", default="resp")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a slice")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        worktree = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-paired-", ignore_cleanup_errors=True))) / "that"
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(worktree), args.ref], check=True)
        stack.callback(subprocess.run, ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(worktree)], check=True)
        sources = {"this": ROOT, "that": worktree}
        costs = measure(args, sources, ("this", "that"), args.runs - args.runs // 2)
        costs += measure(args, sources, ("that", "this"), args.runs // 2)
    middle, low, high = middle_of([cost["this"] / cost["that"] for cost in costs])
    shown = " ".join(f"{name} {statistics.median(cost[name] for cost in costs):.2f}" for name in sources)
    print(f"{args.protocol} {args.command} depth {args.depth}: {shown} us; {len(costs)} pairs")
    print(f"this over {args.ref}: {middle:.3f} [{low:.3f}..{high:.3f}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
