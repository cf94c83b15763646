"""The options of the binary protocol, as data (SPEC section 2.3). What an option is called in a program is its `parameter`."""

from flo.proto.row import Option

OPTIONS: tuple[Option, ...] = (
    Option(0x01, "ttl", "u64", "seconds until the key expires; 0 for never", metavar="SECONDS"),
    Option(0x02, "cas_version", "u64", "the version the key must have; 0: it must not exist", "cas", metavar="VERSION"),
    Option(0x03, "priority", "u8", "0 to 255, lower goes first; 0 where it is absent"),
    Option(0x04, "delay", "u64", "ms until it may be delivered", metavar="MS"),
    Option(
        0x05,
        "dedup_key",
        "bytes",
        "within 300 s of the first message with this key, its seq is answered and nothing is added",
        "dedup",
        metavar="KEY",
    ),
    Option(0x06, "block", "u32", "wait up to so many ms for a change; 0 for as long as it takes", waits=True, metavar="MS"),
    Option(0x07, "group", "bytes", "the consumer group"),
    Option(0x10, "if_absent", "empty", "only where the key does not exist"),
    Option(0x11, "if_present", "empty", "only where the key exists"),
    Option(0x12, "limit", "u32", "at most so many items"),
    Option(0x13, "cursor", "bytes", "where to go on: the cursor of the answer before", absent=b""),
    Option(0x14, "keys_only", "empty", "leave the values out: every blob is empty"),
    Option(0x15, "wait", "u32", "wait up to so many ms for the key to exist; 0 for as long as it takes", waits=True),
    Option(0x16, "lease", "u32", "ms, 1 at least; the queue's or the group's own where it is absent", least=1, metavar="MS"),
    Option(0x17, "to_dlq", "empty", "to the dead letters", "dead"),
    Option(0x18, "delta", "i64", "what to add; 1 where it is absent"),
    Option(0x19, "path", "bytes", "a JSON path; `$`, the document, where it is absent"),
    Option(0x1A, "max_attempts", "u32", "after how many deliveries a message that fails is dead; 0 for never", metavar="N"),
    Option(0x20, "start", "id", "from this id on, itself included", metavar="ID"),
    Option(0x21, "end", "id", "up to this id, itself included", metavar="ID"),
    Option(0x22, "tail", "empty", "only what comes from now on"),
    Option(0x23, "max_len", "u64", "keep so many records", metavar="N"),
    Option(0x24, "max_age", "u64", "keep what is so many seconds old", metavar="SECONDS"),
    Option(0x25, "max_bytes", "u64", "keep so many bytes of payloads", metavar="N"),
    Option(0x26, "dry_run", "empty", "remove nothing; say how much it would be"),
    Option(0x30, "consumer", "bytes", "the consumer in the group"),
    Option(0x31, "no_ack", "empty", "what is delivered is done: nothing is pending"),
    Option(
        0x32,
        "ack_timeout",
        "u32",
        "ms until what is not acknowledged goes to whoever reads next; 0: never; 30,000 where absent",
        metavar="MS",
    ),
    Option(0x33, "max_deliver", "u32", "after how many deliveries a record is set aside; 0: never; 10 where absent", metavar="N"),
    Option(0x34, "min_idle", "u64", "only what was delivered so many ms ago", metavar="MS"),
)

BY_NAME: dict[str, Option] = {option.name: option for option in OPTIONS}
BY_PARAMETER: dict[str, Option] = {option.called: option for option in OPTIONS}
