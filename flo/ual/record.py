"""The record: an entity's whole new state. This file packs and reads its bytes; liveness.py says which records are live.

Layout (docs/log-format.md, "Record"), little-endian:

    0  u32 length | 4  u8 type | 5  u8 shape | 6  u16 entity length | 8  u32 namespace
    12 u64 time, ms | 20 u64 predecessor | 28 u64 x leans | entity | state

The index is not in the bytes: it is the batch's first index plus the record's position.
"""

import struct
from typing import NamedTuple

from flo.errors import LogDamaged
from flo.limits import ENTITY_BYTES_MAX

HEADER = struct.Struct("<IBBHIQQ")
HEADER_BYTES = HEADER.size
assert HEADER_BYTES == 28
LIKE = struct.Struct("<IBBHI")  # the start of a header: length, type, shape, length of the entity, namespace
LIKE_BYTES = LIKE.size  # records of one layout begin with the same bytes, so many
TYPE_AT = 4  # offset of the type's byte
PREV_AT = 20  # offset of the predecessor's index
TIME_AT = 12  # of the time

U16 = struct.Struct("<H")
U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")

LEANS_MASK = 0x0F
GONE = 0x80  # in `shape`: the entity is no more

# Families: the high nibble of a type. Entities of different families never meet.
FAMILY_MASK = 0xF0
FAMILY_WATERMARK = 0x00
FAMILY_NAMESPACE = 0x10
FAMILY_KV = 0x20
# From here on an entity begins with its container: u16 length, name. A watermark may drop one container's members.
FAMILY_CONTAINED = 0x30
FAMILY_QUEUE = 0x30  # messages of a queue
FAMILY_QUEUE_SIDE = 0x40  # a queue's other entities; a purge leaves them
FAMILY_STREAM = 0x50  # records of a stream
FAMILY_STREAM_SIDE = 0x60  # a stream's other entities: its counts, its groups
FAMILY_STREAM_GROUP = 0x70  # consumers and pending entries of a group; their container is the group

FAMILY_TS_POINTS = 0x80  # writes of points; their container has no name
FAMILY_TS_CHUNK = 0x90  # sealed chunks of a measurement's series
FAMILY_TS_SIDE = 0xA0  # a measurement's other entities: its series, its settings
FAMILY_RUN = 0xB0  # runs of an action
FAMILY_ACTION_SIDE = 0xC0  # an action's other entities: its settings, its idempotency keys
FAMILY_WORK = 0xD0  # workers and schedules; their container has no name

WATERMARK = 0x01
NAMESPACE = 0x10
KV_STRING = 0x20
KV_COUNTER = 0x21
KV_JSON = 0x22
KV_DEADLINE = 0x04  # added to the three above and to KV_TOUCH: the state begins with a u64 deadline
KV_TOUCH = 0x28
KV_GONE = 0x2F

QUEUE_MESSAGE = 0x30
QUEUE_LEASE = 0x31
QUEUE_BACK = 0x32
QUEUE_DEAD = 0x33
QUEUE_MESSAGE_RIGHT = 0x34  # put in at the right end: RPUSH
QUEUE_GONE = 0x3F
QUEUE_CONFIG = 0x40
QUEUE_DEDUP = 0x41
QUEUE_EVICTED = 0x42
QUEUE_DEDUP_GONE = 0x4F
STREAM_RECORD = 0x50
STREAM_RECORD_GONE = 0x5F
STREAM_STATE = 0x60
STREAM_GROUP = 0x61
STREAM_GROUP_GONE = 0x6F
STREAM_CONSUMER = 0x70
STREAM_PENDING = 0x71
STREAM_DEAD = 0x72
STREAM_CONSUMER_GONE = 0x7E
STREAM_PENDING_GONE = 0x7F

TS_POINTS = 0x80
TS_CHUNK = 0x90
TS_CHUNK_GONE = 0x9F
TS_SERIES = 0xA0
TS_SETTINGS = 0xA1
TS_PROGRESS = 0xA2
TS_PROGRESS_GONE = 0xAD
TS_SETTINGS_GONE = 0xAE
TS_SERIES_GONE = 0xAF

RUN_INVOKED = 0xB0
RUN_STARTED = 0xB1
RUN_BACK = 0xB2
RUN_FINISHED = 0xB3
RUN_GONE = 0xBF
ACTION = 0xC0
ACTION_KEY = 0xC1
ACTION_KEY_GONE = 0xCE
ACTION_GONE = 0xCF
WORKER = 0xD0
SCHEDULE = 0xD1
SCHEDULE_GONE = 0xDE
WORKER_GONE = 0xDF

_MAY_EXPIRE = frozenset((KV_STRING, KV_COUNTER, KV_JSON, KV_TOUCH))
KNOWN_TYPES = _MAY_EXPIRE | {kind | KV_DEADLINE for kind in _MAY_EXPIRE} | {WATERMARK, NAMESPACE, KV_GONE}
KNOWN_TYPES |= {QUEUE_MESSAGE, QUEUE_MESSAGE_RIGHT, QUEUE_LEASE, QUEUE_BACK, QUEUE_DEAD, QUEUE_GONE}
KNOWN_TYPES |= {QUEUE_CONFIG, QUEUE_DEDUP, QUEUE_EVICTED, QUEUE_DEDUP_GONE}
KNOWN_TYPES |= {STREAM_RECORD, STREAM_RECORD_GONE, STREAM_STATE, STREAM_GROUP, STREAM_GROUP_GONE}
KNOWN_TYPES |= {TS_POINTS, TS_CHUNK, TS_CHUNK_GONE, TS_SERIES, TS_SETTINGS, TS_SETTINGS_GONE, TS_SERIES_GONE}
KNOWN_TYPES |= {TS_PROGRESS, TS_PROGRESS_GONE}
KNOWN_TYPES |= {RUN_INVOKED, RUN_STARTED, RUN_BACK, RUN_FINISHED, RUN_GONE, ACTION, ACTION_KEY, ACTION_KEY_GONE, ACTION_GONE}
KNOWN_TYPES |= {WORKER, SCHEDULE, SCHEDULE_GONE, WORKER_GONE}
KNOWN_TYPES |= {STREAM_CONSUMER, STREAM_PENDING, STREAM_DEAD, STREAM_CONSUMER_GONE, STREAM_PENDING_GONE}

# The parts of two states that a base reads (flo.ual.block); only the engine reads all others.
MESSAGE_STATE = struct.Struct("<BQ")  # of a QUEUE_MESSAGE and a QUEUE_MESSAGE_RIGHT: priority, not before; the payload follows
STREAM_ID = struct.Struct("<QQ")  # of a STREAM_RECORD, behind its container: ms, seq
RECORD_STATE = struct.Struct("<BQ")  # of a STREAM_RECORD: kind, number among all; the payload follows

REGISTRY_ID = (1 << 32) - 1  # of records that belong to no namespace: a namespace's watermark must not drop its registration
NAMESPACE_ID_MAX = REGISTRY_ID - 1


def container(name: bytes) -> bytes:
    """The first bytes of an entity in the container `name`."""
    return U16.pack(len(name)) + name


def container_of(entity: bytes) -> bytes:
    """The first bytes of `entity`, of a family from FAMILY_CONTAINED on: its container's length and name."""
    return entity[: 2 + U16.unpack_from(entity)[0]]


class Record(NamedTuple):
    """A record, decoded. `type` is one of the types above; `prev` is 0 if there is no predecessor."""

    type: int
    namespace: int
    time: int
    entity: bytes
    state: bytes
    prev: int = 0
    leans: tuple[int, ...] = ()
    gone: bool = False

    @property
    def family(self) -> int:
        return self.type & FAMILY_MASK


def encode(record: Record) -> bytes:
    """The record's bytes."""
    leans = record.leans
    assert len(leans) <= LEANS_MASK, "a record leans on at most 15 others"
    assert len(record.entity) <= ENTITY_BYTES_MAX, "an entity's name is at most 65,535 bytes"
    return b"".join(
        (
            HEADER.pack(
                HEADER_BYTES + 8 * len(leans) + len(record.entity) + len(record.state),
                record.type,
                len(leans) | (GONE if record.gone else 0),
                len(record.entity),
                record.namespace,
                record.time,
                record.prev,
            ),
            *map(U64.pack, leans),
            record.entity,
            record.state,
        )
    )


def decode(data: bytes, at: int = 0) -> Record:
    """The record at offset `at` of `data`. Raises `LogDamaged` if the lengths in it are impossible."""
    try:
        length, kind, shape, entity_length, namespace, time, prev = HEADER.unpack_from(data, at)
    except struct.error as e:
        raise LogDamaged(f"a record of {len(data) - at} bytes is shorter than a record's header") from e
    leans: tuple[int, ...] = ()
    start = at + HEADER_BYTES
    if shape:
        count = shape & LEANS_MASK
        if count:
            if start + 8 * count > at + length or at + length > len(data):
                raise LogDamaged(f"a record of {length} bytes cannot hold its {count} leans")
            leans = struct.unpack_from(f"<{count}Q", data, start)
            start += 8 * count
    middle, end = start + entity_length, at + length
    if middle > end or end > len(data):
        raise LogDamaged(f"a record says it is {length} bytes with an entity of {entity_length}, which cannot be")
    return Record(kind, namespace, time, data[start:middle], data[middle:end], prev, leans, shape >= GONE)
