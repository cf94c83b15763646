"""The tests of Redis's own suite that Flo does not pass and Redis does: by unit, by reason.

None is a fault of Flo: a reason is a quotation from docs/redis.md, where users read of the difference. tests/system/test_redis_suite.py
checks that the words are still there.
"""

# -- a later version has it ------------------------------------------------------------------------

NO_MULTI = "it refuses `MULTI` and the commands sent with it"
NO_RPUSH = "Flo's lists are queues: LPUSH adds, RPOP takes"
WHOLE_SECONDS = "rounded down to whole seconds, but a positive time never to none"  # PEXPIRE; a later version can be told to be exact

# -- Flo does not have it --------------------------------------------------------------------------

NO_SCRIPTS = "Flo runs no scripts"
NO_SETS = "Flo has no sets"
NO_SORTED_SETS = "Flo has no sorted sets"
NO_HASHES = "Flo has no hashes"
NO_BITMAPS = "Flo has no bitmaps"
NO_LCS = "| `LCS` | GET both values, and compare them in the program |"
NO_OBJECT = "Flo has no internal encodings to show"
NO_DUMPS = "Flo has no dump format"  # RESTORE, MIGRATE
NO_REPLICATION = "Flo does not replicate by Redis's protocol"
NO_DEBUG = "Flo has no commands for debugging"  # so its sweep of expired keys cannot be turned off

# -- Flo does it in another way --------------------------------------------------------------------

THREE_THINGS = "**A key, a queue and a stream may have the same name**, as three things"  # so no command meets a key of the wrong type
KEYS_ONLY = "`RENAME`, `COPY` and `MEMORY USAGE` are for keys only"
WHOLE_CHUNKS = "~ keeps up to 511 records more"  # XTRIM; in Redis stream-node-max-entries, a setting, decides
LAST_ID = "neither the last id nor the count goes back"  # XSETID
WRONG_TYPE = "a key that is no integer answers -WRONGTYPE"  # INCR
LAST_DEADLINE = "a key expires at most 2^53 ms after 1970"
AT_ONCE = "10,000 keys in one request"
OWN_SETTINGS = "Flo's settings by section.name, and by Redis's names where there is one"
INPUT_THAT_WAITS = "qbuf is the input that waits, without the request that is executed"  # besides, 7.0 has no field `watch`; 7.4 and Flo do
OTHER_PROTOCOLS = "a connection that begins with a byte of no protocol is closed without an answer"

KNOWN: dict[str, dict[str, tuple[str, ...]]] = {
    "unit/type/stream": {
        NO_MULTI: (
            "XREAD: XADD + DEL should not awake client",
            "XREAD: XADD + DEL + LPUSH should not awake client",
            "XREAD + multiple XADD inside transaction",
        ),
        WHOLE_CHUNKS: (
            "XADD with MAXLEN option and the '~' argument",
            "XTRIM with MAXLEN option basic test",
            "XADD with LIMIT consecutive calls",
            "XTRIM with ~ is limited",
            "XTRIM with LIMIT delete entries no more than limit",
            "XADD with ~ MAXLEN and LIMIT can propagate correctly",
            "XADD with ~ MINID and LIMIT can propagate correctly",
            "XTRIM with ~ MAXLEN can propagate correctly",
        ),
        LAST_ID: (
            "XSETID can set a specific ID",
            "Stream can be rewrite into AOF correctly after XDEL lastid",
        ),
    },
    "unit/type/stream-cgroups": {
        THREE_THINGS: (
            "Blocking XREADGROUP: key type changed with SET",
            "Blocking XREADGROUP: key type changed with transaction",
        ),
        KEYS_ONLY: (
            "RENAME can unblock XREADGROUP with data",
            "RENAME can unblock XREADGROUP with -NOGROUP",
        ),
        NO_DUMPS: ("Loading from legacy (Redis <= v6.2.x, rdb_ver < 10) persistence",),
    },
    "unit/type/string": {
        NO_REPLICATION: (
            "GETDEL propagate as DEL command to replica",
            "GETEX without argument does not propagate to replica",
        ),
        NO_SETS: ("MGET against non-string key",),
        NO_BITMAPS: (
            "SETBIT against non-existing key",
            "SETBIT against string-encoded key",
            "SETBIT against integer-encoded key",
            "SETBIT against key with wrong type",
            "SETBIT with out of range bit offset",
            "SETBIT with non-bit argument",
            "SETBIT fuzzing",
            "GETBIT against non-existing key",
            "GETBIT against string-encoded key",
            "GETBIT against integer-encoded key",
        ),
        THREE_THINGS: (
            "SETRANGE against key with wrong type",
            "Extended SET GET with incorrect type should result in wrong type error",
        ),
        NO_LCS: (
            "LCS basic",
            "LCS len",
            "LCS indexes",
            "LCS indexes with match len",
            "LCS indexes with match len and minimum match len",
        ),
    },
    "unit/type/incr": {
        WRONG_TYPE: (
            "INCR fails against key with spaces (left)",
            "INCR fails against key with spaces (right)",
            "INCR fails against key with spaces (both)",
        ),
        THREE_THINGS: (
            "INCR fails against a key holding a list",
            "INCRBYFLOAT fails against a key holding a list",
        ),
        NO_OBJECT: (
            "INCR uses shared objects in the 0-9999 range",
            "INCR can modify objects in-place",
        ),
    },
    "unit/expire": {
        WHOLE_SECONDS: ("PEXPIRE can set sub-second expires",),
        NO_DEBUG: ("Redis should lazy expire keys",),
        LAST_DEADLINE: ("PEXPIREAT with big integer works",),
        NO_REPLICATION: (
            "All TTL in commands are propagated as absolute timestamp in replication stream",
            "GETEX propagate as to replica as PERSIST, DEL, or nothing",
            "SCAN: Lazy-expire should not be wrapped in MULTI/EXEC",
            "RANDOMKEY: Lazy-expire should not be wrapped in MULTI/EXEC",
        ),
    },
    "unit/scan": {
        NO_SETS: (
            "SSCAN with encoding intset",
            "SSCAN with encoding hashtable",
            "SSCAN with integer encoded object (issue #1345)",
            "SSCAN with PATTERN",
            "SCAN regression test for issue #4906",
        ),
        NO_HASHES: (
            "HSCAN with encoding listpack",
            "HSCAN with encoding hashtable",
            "HSCAN with PATTERN",
        ),
        NO_SORTED_SETS: (
            "ZSCAN with encoding listpack",
            "ZSCAN with encoding skiplist",
            "ZSCAN with PATTERN",
            "ZSCAN scores: regression test for issue #2175",
        ),
    },
    "unit/keyspace": {
        KEYS_ONLY: (
            "COPY basic usage for list",
            "COPY basic usage for stream",
            "COPY basic usage for stream-cgroups",
        ),
        NO_SETS: (
            "COPY basic usage for intset set",
            "COPY basic usage for hashtable set",
        ),
        NO_SORTED_SETS: (
            "COPY basic usage for listpack sorted set",
            "COPY basic usage for skiplist sorted set",
        ),
        NO_HASHES: (
            "COPY basic usage for listpack hash",
            "COPY basic usage for hashtable hash",
        ),
    },
    "unit/protocol": {
        OTHER_PROTOCOLS: ("Protocol desync regression test #1",),
        NO_SETS: (
            "raw protocol response",
            "raw protocol response - deferred",
            "raw protocol response - multiline",
        ),
        NO_DEBUG: (
            "RESP3 attributes",
            "RESP3 attributes readraw",
            "RESP3 attributes on RESP2",
            "test big number parsing",
            "test bool parsing",
            "test verbatim str parsing",
        ),
        AT_ONCE: ("test large number of args",),
        NO_MULTI: ("test argument rewriting - issue 9598",),
        NO_RPUSH: ("Regression for a crash with blocking ops and pipelining",),
    },
    "unit/introspection": {
        INPUT_THAT_WAITS: (
            "CLIENT LIST",
            "CLIENT INFO",
        ),
        NO_SCRIPTS: (
            "MONITOR can log commands issued by the scripting engine",
            "MONITOR can log commands issued by functions",
        ),
        NO_DUMPS: ("MONITOR supports redacting command arguments",),
        NO_MULTI: ("MONITOR correctly handles multi-exec cases",),
        OWN_SETTINGS: (
            "CONFIG sanity",
            "CONFIG SET with multiple args",
            "CONFIG SET rollback on set error",
            "CONFIG SET rollback on apply error",
            "CONFIG SET set immutable",
            "CONFIG GET hidden configs",
            "CONFIG GET multiple args",
        ),
    },
}
