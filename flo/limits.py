"""The limits that several files share, each with its reason (SPEC section 3, "Limits"). A limit that one file uses is in that file."""

# -- names -----------------------------------------------------------------------------------------

ENTITY_BYTES_MAX = 65_535  # of the name of an entity in the log: its length is a u16 of the record's header
KEY_BYTES_MAX = ENTITY_BYTES_MAX  # a key is an entity of the log, and its length is a u16 of a binary request's header
NAME_BYTES_MAX = 32_000  # of a queue or a stream: with the other names in an entity (deduplication key; group, consumer), it still fits
NAMESPACE_NAME_BYTES_MAX = 128  # SPEC section 2.1

# -- requests --------------------------------------------------------------------------------------

VALUE_BYTES_MAX = 16 << 20  # of a key's value, a message or a record: it is written in one piece while other clients wait
REQUEST_BYTES_MAX = 32 << 20  # of a request's parts together: a value of the largest size fits with its key, or a batch of smaller values
UNAUTHENTICATED_BYTES_MAX = 16 << 10  # of a request before the client has given the secret: strangers must not fill the memory
INLINE_BYTES_MAX = 64 << 10  # of an inline command's line; Redis's own limit
BODY_GROWTH_BYTES = 64 << 10  # the first size of the buffer for a large value. It doubles as bytes arrive, whatever length is declared
ATOMIC_ITEMS_MAX = 10_000  # keys, messages or receipts in one request: it executes in one piece while other clients wait
DEQUEUE_MAX = 100  # messages that one request leases: each is a record in the log, and a read of its payload
DEADLINE_MAX = 1 << 53  # ms, of a time or a duration: 285,000 years; every client's number type can hold it

# -- answers ---------------------------------------------------------------------------------------

LIST_ITEMS_MAX = 1000  # of the option `limit` in one answer: each item can be a read of the log
READ_POINTS_MAX = 100_000  # points of time series in one answer: about 2 MB of JSON
LIST_BYTES_MAX = 16 << 20  # an answer that lists ends near this size, but has at least one item, of up to VALUE_BYTES_MAX
RESPONSE_BYTES_MAX = 64 << 20  # a client takes no larger response: LIST_BYTES_MAX and one more item fit well
OUTPUT_BYTES_MAX = 1 << 20  # of a connection's unsent output: past it, the connection's next requests wait

# -- kept data -------------------------------------------------------------------------------------

DEAD_LETTERS_MAX = 10_000  # of a queue, and of a group: past it, the oldest are dropped
