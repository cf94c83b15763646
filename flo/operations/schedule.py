# mypy: disable-error-code="empty-body"
"""The rows of the operations on schedules (SPEC section 2.3): each declaration is a row (flo.operations.row)."""

from typing import Any, Final

from flo.given import Text
from flo.limits import LIST_ITEMS_MAX
from flo.operations.method import Operations
from flo.operations.row import call, operation
from flo.proto.row import Command, Http

NO_SCHEDULE = "NOT_FOUND if the schedule is missing"


class ScheduleOperations(Operations):
    """The operations on schedules, which invoke actions at their times."""

    @operation(
        "schedule_put",
        0x58,
        "actions.schedules.put",
        value="JSON: `action`, `cron` or `every_ms`, `input`, `labels`, `priority`, `missed`",
        answer="next i64",
        summary="Puts a schedule, or replaces it; answers its first time.",
        refusals="NOT_FOUND if the action is missing",
        command=Command(
            "schedule put",
            "put a schedule, or replace it",
            "next",
            "OK, first at {}",
            {"terms": 'JSON, such as {"action": "report", "cron": "0 3 * * *"}; - reads it from standard input'},
        ),
        http=Http("PUT schedules/{ns}/{key}"),
    )
    def put(self, schedule: Text, terms: Text) -> int:
        """Put a schedule, or replace it; returns its first time, Unix ms. `terms` are a JSON object: `action`; `cron` (five fields, UTC) or
        `every_ms` (100 or more); `input` (text, or `{"base64": …}`), `labels`, `priority`, `missed` (`once` or `skip`)."""

    @operation(
        "schedule_delete",
        0x59,
        "actions.schedules.delete",
        summary="Deletes a schedule.",
        refusals=NO_SCHEDULE,
        command=Command("schedule delete", "delete a schedule", "done"),
        http=Http("DELETE schedules/{ns}/{key}"),
    )
    def delete(self, schedule: Text) -> None:
        """Delete a schedule. Raises `NotFound`."""

    @operation(
        "schedule_list",
        0x5A,
        key="schedule, or empty for all",
        answer="schedules json",
        summary="Lists the schedules by their names, or describes one.",
        limits=(100, LIST_ITEMS_MAX),
        refusals=NO_SCHEDULE,
        reads=True,
        http=Http("GET schedules/{ns}/{key}", bare="GET schedules/{ns}"),
    )
    def list_page(self, schedule: Text = b"", *, limit: int | None = None, cursor: Text = b"") -> dict[str, Any]:
        """The schedules, a page at a time, or the one named: docs/wire-protocol.md, "Actions and workers"."""


schedule_put: Final = call(ScheduleOperations.put)
schedule_delete: Final = call(ScheduleOperations.delete)
schedule_list: Final = call(ScheduleOperations.list_page)
