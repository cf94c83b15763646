"""`flo action`: register and invoke actions, look at their runs. Most commands follow from their rows; these are the others."""

import argparse
from typing import TYPE_CHECKING, Any

from flo.cli.output import fail, json_bytes, line, name_text, print_bytes, print_json, print_list, print_text, say, time_text
from flo.cli.remote import argument, command, whole
from flo.cli.rows import add_rows, ask, print_facts
from flo.limits import DEADLINE_MAX, LIST_ITEMS_MAX
from flo.operations.options import RUN_STATES

if TYPE_CHECKING:
    from flo.calls import RunResult
    from flo.client import Client

TIMES = ("created_at", "started_at", "finished_at", "not_before", "lease_until")  # of a run's status; 0 for none


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser(
        "action",
        help=summary,
        description="Actions: names for work that workers do. Each invocation is a run, which is kept until it has ended.",
    ).add_subparsers(metavar="COMMAND")
    own = {"register": register, "invoke": invoke, "status": show_status, "result": print_result, "input": print_input}
    parsers = add_rows(group, "action", own)
    parsers["register"].add_argument(
        "--lease",
        type=whole(1, DEADLINE_MAX),
        metavar="MS",
        help="how long a worker may hold a run without a touch: the action's timeout, for --timeout is this command's own. Default: 30000",
    )
    parsers["invoke"].add_argument(
        "--wait", action="store_true", help="wait until the run has ended and print its output instead; exit 1 if it did not complete"
    )
    command(group, "list", list_actions, "list the actions and their runs")
    runs = command(group, "runs", list_runs, "list runs, the newest first")
    runs.add_argument("action", metavar="ACTION", nargs="?", help="only runs of this action")
    runs.add_argument("--state", choices=RUN_STATES, metavar="STATE", help=f"only runs in this state: {', '.join(RUN_STATES)}")
    runs.add_argument("--labels", metavar="JSON", default="", help="only runs that have all these labels")
    runs.add_argument("--limit", type=whole(1, LIST_ITEMS_MAX), default=100, help="how many. Default: 100")
    again = command(group, "retry", retry, "make a run that has ended pending again, or all of an action that have ended so")
    again.add_argument("run_id", metavar="RUN_ID", nargs="?")
    again.add_argument("--action", metavar="ACTION", help="instead of one run, those of this action that are in the state --state")
    again.add_argument(
        "--state", choices=RUN_STATES[3:], metavar="STATE", help=f"how the runs of --action have ended: {', '.join(RUN_STATES[3:])}"
    )
    again.add_argument("--labels", metavar="JSON", default="", help="only runs that have all these labels")


def register(client: "Client", args: argparse.Namespace) -> int:
    """Register."""
    args.timeout = args.lease  # the flag --timeout of every command is the client's own
    version: int = ask(client, args, "action_register")
    print_facts(args, {"action": json_bytes(argument(args.action)), "version": version}, version, "OK, version {}")
    return 0


# -- runs ------------------------------------------------------------------------------------------


def invoke(client: "Client", args: argparse.Namespace) -> int:
    """Invoke; with --wait, wait for the end and print the output."""
    run: str = ask(client, args, "action_invoke")
    if args.wait:
        return _finish(args, run, client.actions.result(run, block=0))
    print_facts(args, {"run_id": run}, run, "{}")
    return 0


def print_result(client: "Client", args: argparse.Namespace) -> int:
    """Print the output of a run."""
    return _finish(args, args.run_id, ask(client, args, "action_result"))


def _finish(args: argparse.Namespace, run: str, result: "RunResult") -> int:
    """Print a run's output, or say why there is none."""
    if args.format == "json":
        print_json({"run_id": run, "state": result.state, "output": json_bytes(result.output)})
    elif result.state == "completed":
        (print_bytes if args.format == "raw" else print_text)(result.output)
    else:
        error = f": {line(result.output)}" if result.output else ""
        fail(f"the run {run} is {result.state.replace('_', ' ')}{error}")
    return 0 if result.state == "completed" else 1


def print_input(client: "Client", args: argparse.Namespace) -> int:
    """Print what a run was invoked with."""
    data: bytes = ask(client, args, "action_input")
    if args.format == "json":
        print_json({"run_id": args.run_id, "input": json_bytes(data)})
    else:
        (print_bytes if args.format == "raw" else print_text)(data)
    return 0


def show_status(client: "Client", args: argparse.Namespace) -> int:
    """Print a run, and its attempts."""
    found = ask(client, args, "action_status")
    if args.format == "json":
        print_json(found)
        return 0
    attempts = found.pop("attempts")
    for name, value in found.items():
        shown = value if name not in TIMES else time_text(value) if value and args.format == "text" else value or ""
        say(f"{name}\t{_text(shown)}" if args.format == "raw" else f"{name:<16}{_text(shown)}")
    for each in attempts:
        took = each["ended_at"] - each["started_at"]
        error = f": {_text(each['error'])}" if each["error"] else ""
        say(f"attempt {each['number']:<8}{each['how'].replace('_', ' ')} after {took} ms at {name_text(each['worker'])}{error}")
    return 0


def _text(value: Any) -> str:
    """A value of a JSON answer, which may be {"base64": …}."""
    return name_text(value) if isinstance(value, str) or (isinstance(value, dict) and value.keys() == {"base64"}) else str(value)


def list_runs(client: "Client", args: argparse.Namespace) -> int:
    """Print runs."""
    name = argument(args.action or "")
    runs = client.actions.runs_page(name, state=args.state, labels=argument(args.labels), limit=args.limit)["runs"]
    return print_list(args.format, runs, "run_id", _run_line)


def _run_line(run: dict[str, Any]) -> str:
    return f"{run['run_id']:<12}{run['status']:<11}{time_text(run['created_at'])}  {name_text(run['action'])}  {_text(run['error'])}"


def retry(client: "Client", args: argparse.Namespace) -> int:
    """Retry one run, or all that match."""
    if (args.run_id is None) == (args.action is None) or (args.action is None) != (args.state is None):
        return fail("say what to retry: give RUN_ID, or --action and --state", 2)
    if args.action is None:
        client.actions.retry(argument(args.run_id))
        print_facts(args, {"run_id": json_bytes(argument(args.run_id))}, None, "OK")
        return 0
    count = client.actions.retry_many(argument(args.action), args.state, labels=argument(args.labels))
    print_facts(args, {"action": json_bytes(argument(args.action)), "count": count}, count, "retried {} runs")
    return 0


# -- actions ---------------------------------------------------------------------------------------


def list_actions(client: "Client", args: argparse.Namespace) -> int:
    """Print all actions."""
    return print_list(args.format, list(client.actions.list()), "name", _action_line)


def _action_line(action: dict[str, Any]) -> str:
    counts = "  ".join(f"{action['runs'][state]} {state}" for state in ("pending", "running", "completed", "failed"))
    return f"{name_text(action['name']):<24}{counts}  {action['workers']} workers{'  paused' if action['paused'] else ''}"
