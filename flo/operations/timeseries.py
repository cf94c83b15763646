# mypy: disable-error-code="empty-body"
"""The rows of the operations on time series (SPEC section 2.3): each declaration is a row (flo.operations.row)."""

from typing import Any, Final

from flo.given import Text
from flo.limits import LIST_ITEMS_MAX, READ_POINTS_MAX
from flo.operations.method import Operations
from flo.operations.row import call, operation
from flo.proto.row import Command, Http

READ_POINTS = 1000  # of each series, unless the limit says another number


class TimeSeriesOperations(Operations):
    """The operations on time series. A point is a measurement, tags, a field, a time in ms, and a number."""

    @operation(
        "ts_write",
        0x40,
        answer="points u32",
        summary="Adds points of one time: a number, which is the field `value`, or fields such as `f=1.5,g=2`.",
        http=Http("POST timeseries/{ns}/measurements/{key}/points"),
    )
    def write(self, measurement: Text, fields: Text, *, tags: Text = b"", timestamp: int | None = None) -> int:
        """Add points of one time; returns how many. `fields` is a number, or text such as `f=1.5,g=2`; `tags` are `k=v,k2=v2`;
        `timestamp` is in ms (None: now)."""

    @operation(
        "ts_write_batch",
        0x41,
        key="",
        value="InfluxDB's line protocol",
        answer="points u32",
        summary="Adds the points of a text in line protocol, all or none: a bad line is refused with its number.",
        http=Http("POST timeseries/{ns}/write"),
    )
    def write_batch(self, lines: Text, *, precision: int | None = None) -> int:
        """Add the points of a text in InfluxDB's line protocol, all or none; returns how many. `precision` is of its timestamps: 0 ns
        (None), 1 us, 2 ms, 3 s."""

    @operation(
        "ts_query",
        0x42,
        key="",
        value="a FloQL query",
        answer="result json",
        summary="Answers a FloQL query.",
        command=Command(
            "ts query",
            "answer a FloQL query; raw is line protocol",
            "points",
            help={"floql": "the query: man 7 floql; - reads it from standard input"},
        ),
        reads=True,
        http=Http("POST timeseries/{ns}/query", get="GET timeseries/{ns}/query"),
    )
    def query(self, floql: Text) -> dict[str, Any]:
        """The answer to a FloQL query: docs/floql.md."""

    @operation(
        "ts_create_measurement",
        0x43,
        repeats="same",
        summary="Creates a measurement, or replaces its settings. The first point makes one without settings.",
        http=Http("PUT timeseries/{ns}/measurements/{key}"),
    )
    def create_measurement(self, measurement: Text, *, max_age: int | None = None, downsample: Text = b"") -> None:
        """Create a measurement, or replace its settings. Points older than `max_age` seconds are dropped; None or 0 for never. `downsample`
        are rules such as `1m:avg:30d,1h:max:0`: docs/timeseries.md."""

    @operation(
        "ts_read",
        0x44,
        answer="result json",
        summary="Reads the points of a measurement, the oldest `limit` of each series.",
        limits=(READ_POINTS, READ_POINTS_MAX),
        command=Command(
            "ts read",
            "print the points of a measurement, oldest first; raw is line protocol",
            "points",
            help={
                "field": "only this field",
                "tags": "only series with these tags, k=v,k2=v2",
                "limit": "how many points of each series. Default: 1000",
            },
        ),
        reads=True,
        http=Http("GET timeseries/{ns}/measurements/{key}/points"),
    )
    def read(
        self,
        measurement: Text,
        limit: int | None = None,
        *,
        since: int | None = None,
        until: int | None = None,
        field: Text = b"",
        tags: Text = b"",
    ) -> dict[str, Any]:
        """The points from `since` to `until`, Unix ms (None: the last hour; until now), the oldest `limit` of each series that has all the
        `tags`."""

    @operation(
        "ts_list",
        0x45,
        key="measurement, or empty for all",
        answer="list json",
        summary="Lists the measurements with their series, fields and tags; or describes one.",
        limits=(100, LIST_ITEMS_MAX),
        reads=True,
        http=Http("GET timeseries/{ns}/measurements/{key}", bare="GET timeseries/{ns}/measurements"),
    )
    def list_page(self, measurement: Text = b"", *, limit: int | None = None, cursor: Text = b"") -> dict[str, Any]:
        """The measurements, a page at a time, or the one named: docs/wire-protocol.md, "Time series"."""

    @operation(
        "ts_delete",
        0x46,
        answer="series u32",
        summary="Deletes the series of a measurement that have all the given tags; without tags, all of it.",
        command=Command(
            "ts delete",
            "delete a measurement, or its series that have all of some tags",
            "series",
            "{} series deleted",
            {"tags": "only series with these tags, k=v,k2=v2"},
        ),
        http=Http("DELETE timeseries/{ns}/measurements/{key}"),
    )
    def delete(self, measurement: Text, *, tags: Text = b"") -> int:
        """Delete the series that have all the `tags` (`k=v,k2=v2`), or the whole measurement; returns how many series there were."""


ts_write: Final = call(TimeSeriesOperations.write)
ts_write_batch: Final = call(TimeSeriesOperations.write_batch)
ts_query: Final = call(TimeSeriesOperations.query)
ts_create_measurement: Final = call(TimeSeriesOperations.create_measurement)
ts_read: Final = call(TimeSeriesOperations.read)
ts_list: Final = call(TimeSeriesOperations.list_page)
ts_delete: Final = call(TimeSeriesOperations.delete)
