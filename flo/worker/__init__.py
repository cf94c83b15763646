"""Workers as decorated functions: docs/workers.md. `flo.Worker` is the class; this package has what its handlers use.

worker.py       Worker: the decorators, run, run_until_idle
action.py       the decorated function: call it, or invoke its action
arguments.py    its arguments and result as JSON
run.py          the invoker's side of a run
context.py      the handler's side of it
runner.py       what sends the calls: a client, or an engine in the program
sources.py      where work comes from: actions, a queue, a stream's group
execute.py      one delivery to its outcome; threads and an event loop for many
service.py      a worker at work; leases.py extends its leases
idle.py         the same in one thread, for tests; in_process.py for a database in the program
reload.py       starts a worker's process anew when its modules change
"""

from flo.worker.context import Context, NonRetryable, Snooze, context
from flo.worker.run import AsyncRun, Run, RunCancelled, RunEnded, RunFailed, RunTimedOut
from flo.worker.worker import Worker

__all__ = [
    "AsyncRun",
    "Context",
    "NonRetryable",
    "Run",
    "RunCancelled",
    "RunEnded",
    "RunFailed",
    "RunTimedOut",
    "Snooze",
    "Worker",
    "context",
]
