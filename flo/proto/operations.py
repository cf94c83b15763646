"""The binary protocol's operations and options, as data (SPEC sections 2.2 and 2.3).

The server's dispatch and checks, the client, docs/wire-protocol.md and flo-protocol(7) all come from these two tables. The
layouts of values and answers are in the language of shapes.py.
"""

from typing import NamedTuple

LIST_BYTES_MAX = 16 << 20  # answers that list stop near this, after one item at least
SCAN_LIMIT_MAX = 1000
MGET_KEYS_MAX = 256


class Option(NamedTuple):
    """One type of option. `form`: u8, u32, u64, i64, empty, bytes, text (UTF-8), or id (ms u64, seq u64)."""

    code: int
    name: str
    form: str
    summary: str


class Operation(NamedTuple):
    """One operation.

    `key` and `value` say what the request's key and value are; an empty `key` or `value` must be empty in the request. A
    `value` is a layout where `layout` is set. `answer` is the layout of the payload of status OK. `limits` gives, for the option
    `limit`, (default, most). `plain` operations are about no namespace: the header's hash is ignored.
    """

    code: int
    name: str
    key: str
    value: str
    answer: str
    summary: str
    options: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    layout: bool = False
    limits: tuple[int, int] = (0, 0)
    plain: bool = False
    waits: bool = False
    also: int = 0  # a second code, of a later edition of the protocol
    refusals: str = ""  # what it answers besides OK, beyond BAD_REQUEST


OPTIONS = (
    Option(0x01, "ttl", "u64", "seconds until the key expires; 0 for never"),
    Option(0x02, "cas_version", "u64", "the version the key must have; 0: it must not exist"),
    Option(0x03, "priority", "u8", "0 to 255, lower goes first; 0 where it is absent"),
    Option(0x04, "delay", "u64", "ms until it may be delivered"),
    Option(0x05, "dedup_key", "bytes", "within 300 s of the first message with this key, its seq is answered and nothing is added"),
    Option(0x06, "block", "u32", "wait up to so many ms for a change; 0 for as long as it takes"),
    Option(0x07, "group", "bytes", "the consumer group"),
    Option(0x10, "if_absent", "empty", "only where the key does not exist"),
    Option(0x11, "if_present", "empty", "only where the key exists"),
    Option(0x12, "limit", "u32", "at most so many items"),
    Option(0x13, "cursor", "bytes", "where to go on: the cursor of the answer before"),
    Option(0x14, "keys_only", "empty", "leave the values out: every blob is empty"),
    Option(0x15, "wait", "u32", "wait up to so many ms for the key to exist; 0 for as long as it takes"),
    Option(0x16, "lease", "u32", "ms; the queue's or the group's own where it is absent"),
    Option(0x17, "to_dlq", "empty", "to the dead letters"),
    Option(0x18, "delta", "i64", "what to add; 1 where it is absent"),
    Option(0x19, "path", "bytes", "a JSON path; `$`, the document, where it is absent"),
    Option(0x1A, "max_attempts", "u32", "after how many deliveries a message that fails is dead; 0 for never"),
    Option(0x20, "start", "id", "from this id on, itself included"),
    Option(0x21, "end", "id", "up to this id, itself included"),
    Option(0x22, "tail", "empty", "only what comes from now on"),
    Option(0x23, "max_len", "u64", "keep so many records"),
    Option(0x24, "max_age", "u64", "keep what is so many seconds old"),
    Option(0x25, "max_bytes", "u64", "keep so many bytes of payloads"),
    Option(0x26, "dry_run", "empty", "remove nothing; say how much it would be"),
    Option(0x30, "consumer", "bytes", "the consumer in the group"),
    Option(0x31, "no_ack", "empty", "what is delivered is done: nothing is pending"),
    Option(0x32, "ack_timeout", "u32", "ms until what is not acknowledged goes to whoever reads next; 0: never; 30,000 where absent"),
    Option(0x33, "max_deliver", "u32", "after how many deliveries a record is set aside; 0: never; 10 where absent"),
    Option(0x34, "min_idle", "u64", "only what was delivered so many ms ago"),
)

MESSAGES = "count u32, (seq u64, priority u8, attempts u32, time i64, payload blob)*"
RECEIPTS = "count u32, (seq u64, attempt u32)*"
SEQS = "count u32, (seq u64)*"
IDS = "count u32, (ms u64, seq u64)*"
RECORDS = "count u32, (ms u64, seq u64, kind u8, payload blob)*"
DELIVERIES = "count u32, (ms u64, seq u64, kind u8, deliveries u32, payload blob)*"

OPERATIONS = (
    Operation(0x00, "ping", "", "anything", "value rest", "Echoes its value.", plain=True),
    Operation(
        0x03,
        "auth",
        "",
        "the secret",
        "",
        "Gives the secret, where the server has one.",
        plain=True,
        refusals="UNAUTHORIZED, after a second, for a wrong one",
    ),
    Operation(
        0x70,
        "namespace_create",
        "its name",
        "",
        "",
        "Binds a name to its hash; once or again.",
        plain=True,
        refusals="CONFLICT where another name has the hash",
    ),
    Operation(0x71, "namespace_list", "", "", "count u32, (namespace name)*", "Names every namespace, in order.", plain=True),
    Operation(
        0x72,
        "namespace_delete",
        "its name",
        "",
        "",
        "Deletes an empty namespace.",
        plain=True,
        refusals="CONFLICT while anything live is in it, and for `default`",
    ),
    Operation(0x73, "namespace_info", "its name", "", "info json", "Tells what is in a namespace.", plain=True),
    Operation(
        0x10,
        "kv_get",
        "key",
        "",
        "version u64, value rest",
        "Reads a key. A counter is its decimal text, a document its JSON text.",
        ("wait", "block", "cas_version"),
        waits=True,
        also=0x101,
        refusals="NOT_FOUND",
    ),
    Operation(
        0x11,
        "kv_put",
        "key",
        "value",
        "version u64",
        "Sets a key, whatever it held. Clears its deadline unless given one.",
        ("ttl", "cas_version", "if_absent", "if_present"),
        also=0x100,
        refusals="CONFLICT",
    ),
    Operation(
        0x12,
        "kv_delete",
        "key",
        "",
        "version u64",
        "Deletes a key; answers the version of its tombstone.",
        ("cas_version",),
        also=0x103,
        refusals="NOT_FOUND, CONFLICT",
    ),
    Operation(
        0x13,
        "kv_scan",
        "prefix, may be empty",
        "",
        "has_more u8, cursor blob, count u32, (key name, value blob)*",
        "Lists the keys with a prefix, ascending.",
        ("limit", "cursor", "keys_only"),
        limits=(100, SCAN_LIMIT_MAX),
        also=0x104,
    ),
    Operation(
        0x14,
        "kv_batch_put",
        "",
        "count u32, (key name, value blob, ttl u64)*",
        "count u32, (version u64)*",
        "Sets up to 10,000 keys, all or nothing. A ttl of 0 is none.",
        layout=True,
    ),
    Operation(
        0x15,
        "kv_history",
        "key",
        "",
        "count u32, (version u64, time i64, tombstone u8, value blob)*",
        "Lists a key's versions, newest first, deletions included, as far as they are kept.",
        ("limit",),
        limits=(10, SCAN_LIMIT_MAX),
        also=0x105,
    ),
    Operation(
        0x16,
        "kv_cas",
        "key",
        "value",
        "version u64",
        "Sets a key if it has the version given.",
        ("cas_version", "ttl"),
        ("cas_version",),
        refusals="CONFLICT",
    ),
    Operation(
        0x102,
        "kv_mget",
        "",
        "count u16, (key name)*",
        "count u16, (found u8, version u64, value blob)*",
        "Reads up to 256 keys, in their order. More than 16 MiB of values are refused.",
        layout=True,
    ),
    Operation(
        0x10B,
        "kv_incr",
        "key",
        "",
        "value i64, version u64",
        "Adds to a counter; a missing one counts as 0. Keeps the deadline.",
        ("delta",),
        refusals="CONFLICT for what is no number, and past 64 bits",
    ),
    Operation(
        0x10C,
        "kv_json_get",
        "key",
        "",
        "version u64, value rest",
        "Reads a document, or what is at a path of it.",
        ("path",),
        refusals="NOT_FOUND for the key or the path; CONFLICT for what is no document",
    ),
    Operation(
        0x10D,
        "kv_json_set",
        "key",
        "a JSON text",
        "version u64",
        "Sets a document, or what is at a path of it.",
        ("path", "cas_version"),
        refusals="NOT_FOUND for the parent; CONFLICT",
    ),
    Operation(
        0x10E,
        "kv_json_del",
        "key",
        "",
        "version u64",
        "Deletes a document, or what is at a path of it.",
        ("path", "cas_version"),
        refusals="NOT_FOUND; CONFLICT",
    ),
    Operation(
        0x113,
        "kv_touch",
        "key",
        "",
        "version u64",
        "Gives a key a deadline, or with ttl 0 takes it away.",
        ("ttl", "cas_version"),
        ("ttl",),
        refusals="NOT_FOUND, CONFLICT",
    ),
    Operation(
        0x114,
        "kv_persist",
        "key",
        "",
        "version u64",
        "Takes a key's deadline away.",
        ("cas_version",),
        refusals="NOT_FOUND, CONFLICT",
    ),
    Operation(0x115, "kv_exists", "key", "", "exists u8", "1 where the key is there, else 0."),
    Operation(
        0x20,
        "queue_enqueue",
        "queue",
        "payload",
        "seq u64",
        "Puts a message in.",
        ("priority", "delay", "dedup_key"),
    ),
    Operation(
        0x21,
        "queue_dequeue",
        "queue",
        "",
        MESSAGES,
        "Leases messages: the lowest priority first, in order of seq within one. None: count 0.",
        ("limit", "lease", "block"),
        limits=(1, 100),
        waits=True,
    ),
    Operation(0x22, "queue_ack", "queue", RECEIPTS, "acked u32", "Removes messages that are done.", layout=True),
    Operation(
        0x23,
        "queue_nack",
        "queue",
        RECEIPTS,
        "given_back u32",
        "Gives messages back to their place, or to the dead letters where it says so or their attempts are spent.",
        ("delay", "to_dlq"),
        layout=True,
    ),
    Operation(
        0x24,
        "queue_peek",
        "queue",
        "",
        MESSAGES,
        "Shows the messages that are ready, in the order of their delivery.",
        ("limit",),
        limits=(100, 1000),
    ),
    Operation(0x25, "queue_touch", "queue", RECEIPTS, "touched u32", "Lets leases end later.", ("lease",), layout=True),
    Operation(
        0x26,
        "queue_dlq_list",
        "queue",
        "",
        MESSAGES,
        "Shows dead letters, oldest first; time is when they died.",
        ("limit",),
        limits=(100, 1000),
    ),
    Operation(0x27, "queue_dlq_requeue", "queue", SEQS, "requeued u32", "Puts dead letters back, their failures forgotten.", layout=True),
    Operation(
        0x28,
        "queue_dlq_delete",
        "queue",
        f"{SEQS}; empty means all",
        "deleted u32",
        "Deletes dead letters.",
    ),
    Operation(0x29, "queue_stats", "queue", "", "stats json", "Tells a queue's counts and configuration."),
    Operation(0x2A, "queue_purge", "queue", "", "removed u32", "Removes every message; dead letters stay."),
    Operation(
        0x2B,
        "queue_list",
        "",
        "",
        "queues json",
        "Names the queues, in order, with their stats.",
        ("limit", "cursor"),
        limits=(100, 1000),
    ),
    Operation(
        0x2C,
        "queue_configure",
        "queue",
        "",
        "",
        "Sets a queue's own lease or most attempts.",
        ("lease", "max_attempts"),
    ),
    Operation(0x30, "stream_append", "stream", "payload", "ms u64, seq u64", "Appends a record; answers its id. Makes the stream."),
    Operation(
        0x31,
        "stream_read",
        "stream",
        "",
        RECORDS,
        "Reads records by id, oldest first. None: count 0.",
        ("start", "end", "tail", "limit", "block"),
        limits=(100, 1000),
        waits=True,
    ),
    Operation(
        0x32,
        "stream_create",
        "stream",
        "",
        "",
        "Makes an empty stream, that keeps as much as it says.",
        ("max_len", "max_age", "max_bytes"),
        refusals="CONFLICT where it exists",
    ),
    Operation(
        0x33,
        "stream_info",
        "stream",
        "",
        "first_ms u64, first_seq u64, last_ms u64, last_seq u64, count u64, bytes u64, groups u32",
        "Tells about a stream; zeros where there is none. The last id is the highest it ever had.",
    ),
    Operation(
        0x34,
        "stream_trim",
        "stream",
        "",
        "removed u64",
        "Removes the oldest records, as far as the options together say; at least one is needed.",
        ("start", "max_len", "max_age", "max_bytes", "dry_run"),
    ),
    Operation(
        0x35,
        "stream_group_create",
        "stream",
        "",
        "",
        "Makes a group, and the stream. It begins with the first record, unless told otherwise.",
        ("group", "start", "tail", "ack_timeout", "max_deliver"),
        ("group",),
        refusals="CONFLICT where it exists",
    ),
    Operation(
        0x36,
        "stream_group_read",
        "stream",
        "",
        DELIVERIES,
        "Delivers records: first what was not acknowledged in time, then new ones. Makes stream and group.",
        ("group", "consumer", "limit", "block", "no_ack"),
        ("group", "consumer"),
        limits=(100, 1000),
        waits=True,
        refusals="NOT_FOUND where the group is deleted while it waits",
    ),
    Operation(
        0x37,
        "stream_group_ack",
        "stream",
        IDS,
        "acked u32",
        "Deliveries are done. Deletes a dead letter.",
        ("group",),
        ("group",),
        layout=True,
        refusals="NOT_FOUND where there is no such group",
    ),
    Operation(
        0x38,
        "stream_group_nack",
        "stream",
        IDS,
        "given_back u32",
        "Gives deliveries back, to whoever reads next, or to the dead letters where they are spent. A dead letter goes back as new.",
        ("group", "delay", "consumer"),
        ("group",),
        layout=True,
        refusals="NOT_FOUND where there is no such group",
    ),
    Operation(
        0x39,
        "stream_group_touch",
        "stream",
        IDS,
        "touched u32",
        "Lets deliveries run out later.",
        ("group", "lease", "consumer"),
        ("group",),
        layout=True,
        refusals="NOT_FOUND where there is no such group",
    ),
    Operation(
        0x3A,
        "stream_group_pending",
        "stream",
        "",
        "pending json",
        "Tells what is delivered and not acknowledged, and the dead letters: the first 1,000 of each.",
        ("group",),
        ("group",),
        refusals="NOT_FOUND where there is no such group",
    ),
    Operation(
        0x3B,
        "stream_group_claim",
        "stream",
        "",
        DELIVERIES,
        "Delivers to this consumer what is pending, lowest id first.",
        ("group", "consumer", "min_idle", "limit"),
        ("group", "consumer"),
        limits=(100, 1000),
        refusals="NOT_FOUND where there is no such group",
    ),
    Operation(
        0x3C,
        "stream_group_info",
        "stream",
        "",
        "group json",
        "Tells about a group and its consumers.",
        ("group",),
        ("group",),
        refusals="NOT_FOUND where there is no such group",
    ),
    Operation(
        0x3D,
        "stream_group_delete",
        "stream",
        "",
        "",
        "Deletes a group with all it knows.",
        ("group",),
        ("group",),
        refusals="NOT_FOUND where there is no such group",
    ),
    Operation(
        0x3E,
        "stream_list",
        "",
        "",
        "streams json",
        "Names the streams, in order, with what is in them.",
        ("limit", "cursor"),
        limits=(100, 1000),
    ),
    Operation(0x3F, "stream_delete", "stream", "", "", "Deletes a stream with its groups; none is no error."),
    Operation(0xC0, "cluster_join", "", "anything", "", "Refused: this server stands alone.", plain=True, refusals="BAD_REQUEST always"),
    Operation(0xC1, "cluster_leave", "", "anything", "", "Refused: this server stands alone.", plain=True, refusals="BAD_REQUEST always"),
    Operation(0xC2, "cluster_status", "", "", "status json", "Tells about the server.", plain=True),
    Operation(0xC3, "cluster_partition_table", "", "", "table json", "One partition, held by this server.", plain=True),
)

OPTION_BY_CODE = {option.code: option for option in OPTIONS}
OPTION_BY_NAME = {option.name: option for option in OPTIONS}
BY_NAME = {operation.name: operation for operation in OPERATIONS}
BY_CODE = {operation.code: operation for operation in OPERATIONS} | {o.also: o for o in OPERATIONS if o.also}
