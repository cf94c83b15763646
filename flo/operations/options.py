"""The options of the binary protocol, as data (SPEC section 2.3). `parameter` is an option's name in a program."""

from flo.proto.row import Option

OPTIONS: tuple[Option, ...] = (
    Option(0x01, "ttl", "u64", "seconds until the key expires; 0 for never", metavar="SECONDS"),
    Option(0x02, "cas_version", "u64", "the version the key must have; 0: it must not exist", "cas", metavar="VERSION"),
    Option(0x03, "priority", "u8", "0 to 255; lower priorities go first; 0 if absent"),
    Option(0x04, "delay", "u64", "ms until the message or record may be delivered", metavar="MS"),
    Option(
        0x05,
        "dedup_key",
        "bytes",
        "if a message with this key was added in the last 300 s, its seq is answered and nothing is added",
        "dedup",
        metavar="KEY",
    ),
    Option(0x06, "block", "u32", "ms to wait for a change, at most; 0 for ever", waits=True, metavar="MS"),
    Option(0x07, "group", "bytes", "the consumer group"),
    Option(0x10, "if_absent", "empty", "only if the key does not exist"),
    Option(0x11, "if_present", "empty", "only if the key exists"),
    Option(0x12, "limit", "u32", "the most items in the answer"),
    Option(0x13, "cursor", "bytes", "go on where the answer with this cursor ended", absent=b""),
    Option(0x14, "keys_only", "empty", "leave out the values: every blob is empty"),
    Option(0x15, "wait", "u32", "ms to wait for the key to exist, at most; 0 for ever", waits=True),
    Option(0x16, "lease", "u32", "ms, at least 1; the queue's or the group's own if absent", least=1, metavar="MS"),
    Option(0x17, "to_dlq", "empty", "make the messages dead letters", "dead"),
    Option(0x18, "delta", "i64", "the number to add; 1 if absent"),
    Option(0x19, "path", "bytes", "a JSON path; `$`, the document, if absent"),
    Option(0x1A, "max_attempts", "u32", "deliveries after which a message that fails becomes a dead letter; 0 for never", metavar="N"),
    Option(0x1B, "keep_ttl", "empty", "keep the key's deadline"),
    Option(0x1C, "pattern", "bytes", "only keys that match, as Redis's KEYS; limit is then how many keys are looked at", absent=b""),
    Option(0x1D, "clip", "u32", "the most bytes of each value in the answer; the rest is left out", metavar="BYTES"),
    Option(0x20, "start", "id", "from this id on, included", metavar="ID"),
    Option(0x21, "end", "id", "up to this id, included", metavar="ID"),
    Option(0x22, "tail", "empty", "only new records"),
    Option(0x23, "max_len", "u64", "the most records that are kept", metavar="N"),
    Option(0x24, "max_age", "u64", "seconds that a record is kept", metavar="SECONDS"),
    Option(0x25, "max_bytes", "u64", "the most bytes of payloads that are kept", metavar="N"),
    Option(0x26, "dry_run", "empty", "remove nothing; answer how many records would be removed"),
    Option(0x30, "consumer", "bytes", "the consumer in the group"),
    Option(0x31, "no_ack", "empty", "acknowledge the records as they are delivered: none is pending"),
    Option(
        0x32,
        "ack_timeout",
        "u32",
        "ms until an unacknowledged record is delivered again; 0: never; 30,000 if absent",
        metavar="MS",
    ),
    Option(
        0x33,
        "max_deliver",
        "u32",
        "deliveries after which an unacknowledged record becomes a dead letter; 0: never; 10 if absent",
        metavar="N",
    ),
    Option(0x34, "min_idle", "u64", "only records whose last delivery was this many ms ago, or more", metavar="MS"),
)

BY_NAME: dict[str, Option] = {option.name: option for option in OPTIONS}
BY_PARAMETER: dict[str, Option] = {option.called: option for option in OPTIONS}
