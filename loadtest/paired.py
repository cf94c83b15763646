"""What a change costs: the server's CPU us a request, this checkout beside another commit, in paired alternating runs.

    python3 loadtest/paired.py REF [--runs 20] [--command set] [--depth 16] [--protocol resp] [--python PATH] [--seconds 0.7]

Starts both servers (the other from a worktree in a temporary directory), loads them in turn with generator.py, and prints the median of
the pairs' ratios, this over that, with the quartiles.
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

from loadtest.compare import Target, generate  # noqa: E402
from tests.processes import FloProcess  # noqa: E402


def main() -> int:
    """Run the pairs."""
    parser = argparse.ArgumentParser(description="The server's CPU us a request, this checkout beside another commit.")
    parser.add_argument("ref", help="the commit to compare with")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--command", default="set")
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--protocol", default="resp")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--seconds", type=float, default=0.7)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-paired-", ignore_cleanup_errors=True)))
        worktree = directory / "that"
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(worktree), args.ref], check=True)
        stack.callback(subprocess.run, ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(worktree)], check=True)
        targets = []
        for name, source in (("this", ROOT), ("that", worktree)):
            environment = {"PYTHONPATH": str(source)}
            program = ["-P", "-c", "import sys; sys.argv[0] = 'flo'; from flo.cli import main; sys.exit(main())"]
            server = stack.enter_context(
                FloProcess(directory / name / "data", python=args.python, environment=environment, program=program)
            )
            targets.append(Target(name, server.port, server.pid))
        if args.command == "get":
            for target in targets:
                generate(target, args.protocol, "set", args.depth, args.seconds)  # what it finds
        costs: list[tuple[float, ...]] = []
        for run in range(args.runs + 1):
            pair = [generate(target, args.protocol, args.command, args.depth, args.seconds)[1] for target in targets]
            if run:  # the first fills the keys and warms up
                costs.append(tuple(pair))
        ratios = sorted(this / that for this, that in costs)
        low, middle, high = statistics.quantiles(ratios, n=4)
        shown = " ".join(f"{t.name} {statistics.median(cost[at] for cost in costs):.2f}" for at, t in enumerate(targets))
        print(f"{args.protocol} {args.command} depth {args.depth}: {shown} us; {len(ratios)} pairs")
        print(f"this over {args.ref}: {middle:.3f} [{low:.3f}..{high:.3f}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
