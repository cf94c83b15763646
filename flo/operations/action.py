# mypy: disable-error-code="empty-body"
"""The rows of the operations on actions and their runs (SPEC section 2.3): each declaration is a row (flo.operations.row)."""

from json import loads as _loads
from typing import Any, Final, NamedTuple

from flo.given import Text
from flo.limits import LIST_ITEMS_MAX
from flo.operations.method import Operations
from flo.operations.options import RUN_STATES
from flo.operations.row import call, operation
from flo.proto.row import Command, Http

NO_ACTION = "NOT_FOUND if the action is missing"
NO_RUN = "NOT_FOUND if the run is missing"


class RunResult(NamedTuple):
    """A run's `state` (`pending`, `running`, `completed`, `failed`, `cancelled` or `timed_out`), and its `output`: the error of a failed
    one, nothing while it has not ended."""

    state: str
    output: bytes

    def json(self) -> Any:
        """The output as JSON. Raises `ValueError` if it is none."""
        return _loads(self.output)


class Retried(NamedTuple):
    """How many runs became pending. `cursor` goes on; it is empty at the end."""

    retried: int
    cursor: bytes


def _result(state: int, output: bytes) -> RunResult:
    return RunResult(RUN_STATES[state], output)


def _retried(more: bool, cursor: bytes, count: int) -> Retried:
    return Retried(count, cursor if more else b"")


class ActionOperations(Operations):
    """The operations on actions and their runs. A run is named by its id, which `invoke` returns."""

    @operation(
        "action_register",
        0x50,
        "actions.register",
        repeats="same",
        answer="version u32",
        summary="Registers an action, or sets all of one anew. Answers its version, which grows where something differs. A pause stays.",
        command=Command(
            "action register",
            "register an action, or set all of one anew",
            "version",
            "OK, version {}",
            {
                "retry_delay": "ms before the second attempt, doubled before each one behind. Default: 1000",
                "max_attempts": "failures after which a run ends; 0: never. Default: 3",
                "concurrency": "runs of one concurrency key at once. Default: 1",
                "rate": "the most starts in a sliding time. Default: no bound",
                "labels": "the labels of every run: workers must have them",
                "description": "what the action does",
            },
        ),
        http=Http("PUT actions/{ns}/{key}"),
    )
    def register(
        self,
        action: Text,
        *,
        timeout: int | None = None,
        retry_delay: int | None = None,
        max_attempts: int | None = None,
        concurrency: int | None = None,
        rate: tuple[int, int] | None = None,
        labels: Text = b"",
        description: Text = b"",
    ) -> int:
        """Register an action, or set all of one anew; returns its version. `timeout` and `retry_delay` are in ms; `rate` is (starts, ms);
        `labels` are a JSON object, which each run gets."""

    @operation(
        "action_invoke",
        0x51,
        "actions.invoke",
        answer="run_id rest",
        summary="Invokes an action; answers the id of its run.",
        refusals=NO_ACTION,
        decode=bytes.decode,
        command=Command(
            "action invoke",
            "invoke an action and print the id of its run",
            "run_id",
            "{}",
            {
                "input": "the input; - reads it from standard input. Default: nothing",
                "priority": "0 to 255; lower priorities go first. Default: 0",
                "delay": "ms until the run may start",
                "idempotency_key": "print the id of the first run with this key in the last 24 h, and add none",
                "unique_key": "print the id of the run with this key that has not ended, and add none",
                "concurrency_key": "no more runs with this key than the action's concurrency are running at once",
                "labels": "labels of the run, besides the action's",
                "traceparent": "the W3C trace context",
            },
        ),
        http=Http("POST actions/{ns}/{key}/invoke"),
    )
    def invoke(
        self,
        action: Text,
        input: Text = b"",
        *,
        json: Any = ...,
        priority: int | None = None,
        delay: int | None = None,
        idempotency_key: Text = b"",
        unique_key: Text = b"",
        concurrency_key: Text = b"",
        labels: Text = b"",
        traceparent: Text = b"",
    ) -> str:
        """Invoke an action with `input`, or with the JSON text of `json`; returns the run's id. `delay` is in ms; lower priorities go
        first; `labels` are a JSON object."""

    @operation(
        "action_status",
        0x52,
        "actions.status",
        answer="status json",
        summary="Shows all that is known of a run but its input and output, with its last 20 attempts.",
        refusals=NO_RUN,
        command=Command("action status", "show a run and its attempts", "table"),
        reads=True,
        http=Http("GET runs/{ns}/{key}"),
    )
    def status(self, run_id: Text) -> dict[str, Any]:
        """A run, with its last attempts: docs/wire-protocol.md, "Actions and workers". Raises `NotFound`."""

    @operation(
        "action_result",
        0x53,
        answer="state u8, output rest",
        summary="Reads the state of a run, and its output or error. With `block`, waits until the run has ended.",
        refusals=NO_RUN,
        waits=True,
        decode=_result,
        command=Command(
            "action result",
            "print the output of a run; exit 1 if it did not complete",
            "value",
            help={"block": "ms to wait until the run has ended; 0 for ever"},
        ),
        reads=True,
        http=Http("GET runs/{ns}/{key}/result"),
    )
    def result(self, run_id: Text, *, block: int | None = None) -> RunResult:
        """A run's state, and its output or error. `block` is how many ms to wait until it has ended, 0 for ever. Raises `NotFound`."""

    @operation(
        "action_list",
        0x54,
        key="action, or empty for all",
        answer="actions json",
        summary="Lists the actions by name, with their settings and the numbers of their runs; or describes one.",
        limits=(100, LIST_ITEMS_MAX),
        refusals=NO_ACTION,
        reads=True,
        http=Http("GET actions/{ns}/{key}", bare="GET actions/{ns}"),
    )
    def list_page(self, action: Text = b"", *, limit: int | None = None, cursor: Text = b"") -> dict[str, Any]:
        """The actions, a page at a time, or the one named: docs/wire-protocol.md, "Actions and workers"."""

    @operation(
        "action_runs",
        0x55,
        key="action, or empty for all",
        answer="runs json",
        summary="Lists runs, the newest first.",
        limits=(100, LIST_ITEMS_MAX),
        refusals=NO_ACTION,
        reads=True,
        http=Http("GET actions/{ns}/{key}/runs", bare="GET runs/{ns}"),
    )
    def runs_page(
        self, action: Text = b"", *, state: str | None = None, labels: Text = b"", limit: int | None = None, cursor: Text = b""
    ) -> dict[str, Any]:
        """The runs of an action, or of all, the newest first, a page at a time; only those in this `state`, which have all the `labels` (a
        JSON object)."""

    @operation(
        "action_cancel",
        0x56,
        "actions.cancel",
        repeats="same",
        summary="Cancels a run. Its worker learns it by the next worker_touch.",
        refusals=f"{NO_RUN}; CONFLICT if it has ended otherwise",
        command=Command("action cancel", "cancel a run", "done"),
        http=Http("POST runs/{ns}/{key}/cancel"),
    )
    def cancel(self, run_id: Text) -> None:
        """Cancel a run; no error if it is cancelled. Raises `NotFound`, and `Conflict` if it has ended otherwise."""

    @operation(
        "action_delete",
        0x57,
        "actions.delete",
        summary="Deletes an action with its finished runs.",
        refusals=f"{NO_ACTION}; CONFLICT if it has runs that have not ended",
        command=Command("action delete", "delete an action with its finished runs", "done"),
        http=Http("DELETE actions/{ns}/{key}"),
    )
    def delete(self, action: Text) -> None:
        """Delete an action with its finished runs. Raises `NotFound`, and `Conflict` if it has others."""

    @operation(
        "action_pause",
        0x5B,
        "actions.pause",
        repeats="same",
        layout="paused bool",
        summary="Stops or resumes the starts of an action's runs. A paused action is still invoked, and stays paused over a restart.",
        refusals=NO_ACTION,
        command=Command("action pause", "start no run of an action (on), or start them again (off)", "done"),
        http=Http("POST actions/{ns}/{key}/pause"),
    )
    def pause(self, action: Text, paused: bool) -> None:
        """Stop or resume the starts of an action's runs. A paused action is still invoked, and stays paused over a restart."""

    @operation(
        "action_retry",
        0x5C,
        "actions.retry",
        summary="Makes a run that has ended pending: its next attempt, with no failures.",
        refusals=f"{NO_RUN}; CONFLICT if it has not ended, or another one has its unique key",
        http=Http("POST runs/{ns}/{key}/retry"),
    )
    def retry(self, run_id: Text) -> None:
        """Make a run that has ended pending: its next attempt, with no failures. Raises `NotFound`, and `Conflict` if it has not ended, or
        if another one has its unique key."""

    @operation(
        "action_retry_many",
        0x5D,
        answer="has_more bool, cursor blob, count u32",
        summary="Retries the runs of an action that have failed, timed out, or were cancelled; limit is how many are looked at. Those that "
        "end later than the first request are left out.",
        limits=(100, LIST_ITEMS_MAX),
        refusals=NO_ACTION,
        decode=_retried,
        http=Http("POST actions/{ns}/{key}/retry"),
    )
    def retry_page(self, action: Text, state: str, *, labels: Text = b"", limit: int | None = None, cursor: Text = b"") -> Retried:
        """Retry runs of an action in this `state` (`failed`, `cancelled` or `timed_out`) which have all the `labels` (a JSON object). Looks
        at the next `limit` runs."""

    @operation(
        "action_input",
        0x5E,
        "actions.input",
        answer="input rest",
        summary="Reads what a run was invoked with.",
        refusals=NO_RUN,
        command=Command("action input", "print the input of a run", "value"),
        reads=True,
        http=Http("GET runs/{ns}/{key}/input"),
    )
    def input(self, run_id: Text, *, clip: int | None = None) -> bytes:
        """What a run was invoked with. `clip` is the most bytes of it. Raises `NotFound`."""


action_register: Final = call(ActionOperations.register)
action_invoke: Final = call(ActionOperations.invoke)
action_status: Final = call(ActionOperations.status)
action_result: Final = call(ActionOperations.result)
action_list: Final = call(ActionOperations.list_page)
action_runs: Final = call(ActionOperations.runs_page)
action_cancel: Final = call(ActionOperations.cancel)
action_delete: Final = call(ActionOperations.delete)
action_pause: Final = call(ActionOperations.pause)
action_retry: Final = call(ActionOperations.retry)
action_retry_many: Final = call(ActionOperations.retry_page)
action_input: Final = call(ActionOperations.input)
