# mypy: disable-error-code="empty-body"
"""The rows of the operations on streams and their groups (SPEC section 2.3): each declaration is a row (flo.operations.row)."""

from collections.abc import Iterable
from json import loads as _loads
from typing import Any, Final, NamedTuple

from flo.given import Text, several
from flo.limits import LIST_ITEMS_MAX
from flo.operations.call import Call
from flo.operations.ids import Id, StreamId, from_wire
from flo.operations.method import Operations
from flo.operations.row import call, operation
from flo.proto import fields
from flo.proto.row import Command, Http

RECORDS = "count u32, (id id, kind u8, payload blob)*"
DELIVERIES = "count u32, (id id, kind u8, deliveries u32, payload blob)*"
IDS = "count u32, (id id)*"
NO_GROUP = "NOT_FOUND if the group is missing"


class StreamRecord(NamedTuple):
    """A record of a stream. `kind` is 0 for bytes, 1 for a list of fields; `deliveries` is how often a group delivered it."""

    id: StreamId
    kind: int
    payload: bytes
    deliveries: int = 0

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """The fields that XADD wrote; a record of bytes has the one field `data`."""
        if self.kind == 0:
            return [(b"data", self.payload)]
        items = fields.unpack(self.payload)
        return list(zip(items[::2], items[1::2], strict=True))

    def json(self) -> Any:
        """The payload as JSON. Raises `ValueError` if it is none."""
        return _loads(self.payload)


class StreamInfo(NamedTuple):
    """A stream's ids, size and groups. `last` is the highest id it ever had; a missing id is 0-0."""

    first: StreamId
    last: StreamId
    records: int
    size: int  # bytes of payloads
    groups: int


def _records(rows: list[tuple[int, int, bytes]]) -> list[StreamRecord]:
    return [StreamRecord(from_wire(ident), kind, payload) for ident, kind, payload in rows]


def _deliveries(rows: list[tuple[int, int, int, bytes]]) -> list[StreamRecord]:
    return [StreamRecord(from_wire(ident), kind, payload, deliveries) for ident, kind, deliveries, payload in rows]


def _info(first: int, last: int, *numbers: int) -> StreamInfo:
    return StreamInfo(from_wire(first), from_wire(last), *numbers)


def _id(ident: Id | StreamRecord) -> Id:
    return ident.id if isinstance(ident, StreamRecord) else ident


def _give_back(taken: Call[Any], records: list[StreamRecord]) -> Call[int] | None:
    given = taken.options
    if not records or "no_ack" in given:
        return None
    return call(StreamOperations.nack)(taken.key, given["group"], *records, consumer=given["consumer"])


class StreamOperations(Operations):
    """The operations on streams and their groups. An id is a `StreamId`, (ms, seq), or the text `ms-seq`."""

    @operation(
        "stream_append",
        0x30,
        "streams.append",
        answer="id id",
        summary="Appends a record; answers its id. Creates the stream if it is missing.",
        decode=from_wire,
        command=Command(
            "stream append", "append a record and print its id", "id", "{}", {"payload": "the record; - reads it from standard input"}
        ),
        http=Http("POST streams/{ns}/{key}/records"),
    )
    def append(self, stream: Text, payload: Text | None = None, *, json: Any = ...) -> StreamId:
        """Append a record, `payload` or the JSON text of `json`; returns its id."""

    @operation(
        "stream_read",
        0x31,
        answer=RECORDS,
        summary="Reads records by id, oldest first. If there is none, the count is 0.",
        either=(("start", "tail"),),
        limits=(100, LIST_ITEMS_MAX),
        waits=True,
        decode=_records,
        reads=True,
        http=Http("GET streams/{ns}/{key}/records", "records"),
    )
    def read(
        self,
        stream: Text,
        start: Id | None = None,
        end: Id | None = None,
        *,
        tail: bool = False,
        limit: int | None = None,
        block: int | None = None,
        clip: int | None = None,
    ) -> list[StreamRecord]:
        """Up to `limit` records (100) by id, both ends included. `tail` reads only new records; `block` is how many ms to wait for the
        first, 0 for ever; `clip` is the most bytes of each."""

    @operation(
        "stream_create",
        0x32,
        "streams.create",
        summary="Creates an empty stream, with bounds if given.",
        refusals="CONFLICT if it exists",
        command=Command(
            "stream create",
            "create an empty stream, with bounds if given",
            "done",
            "OK",
            {
                "max_len": "the most records that are kept",
                "max_age": "the age up to which records are kept",
                "max_bytes": "the most bytes of payloads that are kept",
            },
        ),
        http=Http("PUT streams/{ns}/{key}"),
    )
    def create(self, stream: Text, *, max_len: int | None = None, max_age: int | None = None, max_bytes: int | None = None) -> None:
        """Create an empty stream. It keeps at most `max_len` records, records up to `max_age` seconds old, and `max_bytes` of payloads.
        Raises `Conflict` if it exists."""

    @operation(
        "stream_info",
        0x33,
        answer="first id, last id, count u64, bytes u64, groups u32",
        summary="Shows a stream's ids, size and groups; zeros if it is missing. The last id is the highest it ever had.",
        decode=_info,
        command=Command("stream info", "show a stream's ids, size and groups", "table"),
        reads=True,
        http=Http("GET streams/{ns}/{key}"),
    )
    def info(self, stream: Text) -> StreamInfo:
        """The stream's ids, size and groups; zeros if the stream is missing."""

    @operation(
        "stream_trim",
        0x34,
        answer="removed u64",
        summary="Removes the oldest records until every given bound holds; at least one bound is needed.",
        command=Command(
            "stream trim",
            "remove the oldest records",
            "count",
            "removed {} records",
            {
                "max_len": "the most records that are left",
                "max_age": "leave records up to this age",
                "max_bytes": "the most bytes of payloads that are left",
                "start": "leave records with this id or a higher one",
                "dry_run": "remove nothing; print how many records would go",
            },
        ),
        http=Http("POST streams/{ns}/{key}/trim"),
    )
    def trim(
        self,
        stream: Text,
        *,
        start: Id | None = None,
        max_len: int | None = None,
        max_age: int | None = None,
        max_bytes: int | None = None,
        dry_run: bool = False,
    ) -> int:
        """Remove the oldest records until every given bound holds: no record before `start`, at most `max_len` records, none over `max_age`
        seconds old, at most `max_bytes` of payloads. Returns how many were removed; with `dry_run` none is, and it is how many would be."""

    @operation(
        "stream_group_create",
        0x35,
        summary="Creates a group, and its stream if it is missing. The group begins with the first record, or where the options say.",
        either=(("start", "tail"),),
        refusals="CONFLICT if it exists",
        command=Command(
            "stream group create",
            "create a group, and its stream if it is missing",
            "done",
            "OK",
            {
                "start": "begin with this id. Default: the first record",
                "tail": "begin with new records",
                "ack_timeout": "ms until an unacknowledged record is delivered again; 0 for never. Default: 30000",
                "max_deliver": "deliveries after which a record becomes a dead letter; 0: never. Default: 10",
            },
        ),
        http=Http("PUT streams/{ns}/{key}/groups/{group}"),
    )
    def group_create(
        self,
        stream: Text,
        group: Text,
        *,
        start: Id | None = None,
        tail: bool = False,
        ack_timeout: int | None = None,
        max_deliver: int | None = None,
    ) -> None:
        """Create a group, and its stream if it is missing. The group begins with the first record, at `start`, or, with `tail`, with new
        records. A record that is not acknowledged within `ack_timeout` (ms; 30,000; 0 for no bound) is delivered again, at most
        `max_deliver` times (10; 0 for no bound). Raises `Conflict` if the group exists."""

    @operation(
        "stream_group_read",
        0x36,
        answer=DELIVERIES,
        summary="Delivers records: first unacknowledged records whose time is over, then new ones. Creates a missing stream and group.",
        limits=(100, LIST_ITEMS_MAX),
        waits=True,
        refusals="NOT_FOUND if the group is deleted while the request waits",
        decode=_deliveries,
        undo=_give_back,
        command=Command(
            "stream group read",
            "deliver records to a consumer; exit 1 if there is none",
            "deliveries",
            help={
                "limit": "how many. Default: 100",
                "block": "ms to wait for the first record; 0 for ever",
                "no_ack": "acknowledge the records as they are delivered",
            },
        ),
        http=Http("POST streams/{ns}/{key}/groups/{group}/read", "records"),
    )
    def group_read(
        self,
        stream: Text,
        group: Text,
        consumer: Text,
        *,
        limit: int | None = None,
        block: int | None = None,
        no_ack: bool = False,
        clip: int | None = None,
    ) -> list[StreamRecord]:
        """Deliver up to `limit` records (100) to a consumer. `block` is how many ms to wait for the first, 0 for ever; `no_ack`
        acknowledges the records as they are delivered; `clip` is the most bytes of each."""

    @operation(
        "stream_group_ack",
        0x37,
        layout=IDS,
        answer="acked u32",
        repeats="once",
        summary="Acknowledges deliveries; deletes dead letters.",
        refusals=NO_GROUP,
        item=_id,
        command=Command("stream group ack", "acknowledge deliveries; deletes dead letters", "count", "acknowledged {} records"),
        http=Http("POST streams/{ns}/{key}/groups/{group}/ack"),
    )
    def ack(self, stream: Text, group: Text, *ids: Id | StreamRecord) -> int:
        """Acknowledge deliveries; returns how many were pending."""

    @operation(
        "stream_group_nack",
        0x38,
        layout=IDS,
        answer="given_back u32",
        summary=(
            "Gives deliveries back to the next reader. A record without deliveries left becomes a dead letter. A dead letter goes back as "
            "a new record."
        ),
        refusals=NO_GROUP,
        item=_id,
        command=Command(
            "stream group nack",
            "give deliveries back to the next reader",
            "count",
            "gave back {} records",
            {"delay": "ms until the records may be delivered again"},
        ),
        http=Http("POST streams/{ns}/{key}/groups/{group}/nack"),
    )
    def nack(self, stream: Text, group: Text, *ids: Id | StreamRecord, delay: int | None = None, consumer: Text | None = None) -> int:
        """Give deliveries back, after `delay` ms; returns how many were pending."""

    @operation(
        "stream_group_touch",
        0x39,
        layout=IDS,
        answer="touched u32",
        summary="Extends the time to acknowledge.",
        refusals=NO_GROUP,
        item=_id,
        command=Command(
            "stream group touch",
            "extend the time to acknowledge",
            "count",
            "extended {} records",
            {"lease": "the length of the lease from now, in ms. Default: the group's own timeout"},
        ),
        http=Http("POST streams/{ns}/{key}/groups/{group}/touch"),
    )
    def touch(self, stream: Text, group: Text, *ids: Id | StreamRecord, lease: int | None = None, consumer: Text | None = None) -> int:
        """Extend the time to acknowledge to `lease` ms from now (None: the group's own timeout); returns how many were pending."""

    @operation(
        "stream_group_pending",
        0x3A,
        answer="pending json",
        summary="Shows the unacknowledged deliveries and the dead letters: the first 1,000 of each.",
        refusals=NO_GROUP,
        command=Command("stream group pending", "show the unacknowledged deliveries and the dead letters", "table"),
        reads=True,
        http=Http("GET streams/{ns}/{key}/groups/{group}/pending"),
    )
    def pending(self, stream: Text, group: Text) -> dict[str, Any]:
        """The unacknowledged deliveries and the dead letters."""

    @operation(
        "stream_group_claim",
        0x3B,
        answer=DELIVERIES,
        summary="Delivers pending records to this consumer, lowest id first.",
        limits=(100, LIST_ITEMS_MAX),
        refusals=NO_GROUP,
        decode=_deliveries,
        command=Command(
            "stream group claim",
            "deliver to a consumer the records that are pending with others",
            "deliveries",
            help={
                "min_idle": "only records whose last delivery was this many ms ago, or more. Default: 0",
                "limit": "how many. Default: 100",
            },
        ),
        http=Http("POST streams/{ns}/{key}/groups/{group}/claim", "records"),
    )
    def claim(
        self, stream: Text, group: Text, consumer: Text, *, min_idle: int | None = None, limit: int | None = None
    ) -> list[StreamRecord]:
        """Deliver to this consumer the records that have been pending for at least `min_idle` ms with any consumer."""

    @operation(
        "stream_group_info",
        0x3C,
        answer="group json",
        summary="Shows a group and its consumers.",
        refusals=NO_GROUP,
        command=Command("stream group info", "show a group and its consumers", "table"),
        reads=True,
        http=Http("GET streams/{ns}/{key}/groups/{group}"),
    )
    def group_info(self, stream: Text, group: Text) -> dict[str, Any]:
        """A group's figures and consumers."""

    @operation(
        "stream_group_delete",
        0x3D,
        summary="Deletes a group with its consumers, deliveries and dead letters.",
        refusals=NO_GROUP,
        command=Command("stream group delete", "delete a group, its consumers and its deliveries", "done", "OK"),
        http=Http("DELETE streams/{ns}/{key}/groups/{group}"),
    )
    def group_delete(self, stream: Text, group: Text) -> None:
        """Delete a group."""

    @operation(
        "stream_list",
        0x3E,
        answer="streams json",
        summary="Lists the streams by name, with their sizes.",
        limits=(100, LIST_ITEMS_MAX),
        reads=True,
        http=Http("GET streams/{ns}"),
    )
    def list_page(self, limit: int | None = None, cursor: Text = b"") -> dict[str, Any]:
        """The streams, a page at a time: docs/wire-protocol.md, "Streams"."""

    @operation(
        "stream_delete",
        0x3F,
        "streams.delete",
        summary="Deletes a stream with its groups; a missing stream is no error.",
        command=Command("stream delete", "delete a stream with its groups", "done", "OK"),
        http=Http("DELETE streams/{ns}/{key}"),
    )
    def delete(self, stream: Text) -> None:
        """Delete a stream with its groups."""


stream_append: Final = call(StreamOperations.append)
stream_read: Final = call(StreamOperations.read)
stream_create: Final = call(StreamOperations.create)
stream_info: Final = call(StreamOperations.info)
stream_trim: Final = call(StreamOperations.trim)
stream_delete: Final = call(StreamOperations.delete)
stream_list: Final = call(StreamOperations.list_page)
group_create: Final = call(StreamOperations.group_create)
group_read: Final = call(StreamOperations.group_read)
group_claim: Final = call(StreamOperations.claim)
group_pending: Final = call(StreamOperations.pending)
group_info: Final = call(StreamOperations.group_info)
group_delete: Final = call(StreamOperations.group_delete)


def group_ack(stream: Text, group: Text, ids: Iterable[Id | StreamRecord]) -> Call[int]:
    """Acknowledge deliveries; the result is how many were pending."""
    return call(StreamOperations.ack)(stream, group, *several(ids, "ids"))


def group_nack(
    stream: Text, group: Text, ids: Iterable[Id | StreamRecord], *, delay: int | None = None, consumer: Text | None = None
) -> Call[int]:
    """Give deliveries back, after `delay` ms; the result is how many were pending."""
    return call(StreamOperations.nack)(stream, group, *several(ids, "ids"), delay=delay, consumer=consumer)


def group_touch(
    stream: Text, group: Text, ids: Iterable[Id | StreamRecord], *, lease: int | None = None, consumer: Text | None = None
) -> Call[int]:
    """Extend the time to acknowledge to `lease` ms from now; the result is how many were pending."""
    return call(StreamOperations.touch)(stream, group, *several(ids, "ids"), lease=lease, consumer=consumer)
