"""The tests of Redis's own suite that Flo does not pass and Redis does: by unit, by reason.

A name that begins with "outside the tests" is a command that the suite sends before a group of them.
"""

NO_MULTI = "Flo has no MULTI."
NO_SCRIPTS = "Flo has no scripts and no functions."
NO_SETS = "Flo has no sets."
NO_SORTED_SETS = "Flo has no sorted sets."
NO_HASHES = "Flo has no hashes."
NO_BITMAPS = "Flo has no bitmaps."
NO_DEBUG = "Flo has no DEBUG."
NO_LCS = "Flo has no LCS."
NO_DUMPS = "Flo has neither RESTORE nor MIGRATE."
NO_AOF = "Flo's log is always on, and has no commands of its own: BGREWRITEAOF, DEBUG LOADAOF and the settings of an append-only file."
NO_ENCODINGS = "Flo has no OBJECT: no encodings and no shared objects."
NO_REPLICATION = "Flo has no replicas that speak Redis's protocol."
QUEUES = "Flo's lists are queues: LPUSH adds and RPOP takes, there is no RPUSH."
THREE_THINGS = "A key, a queue and a stream of one name are three things: none hides, replaces or clashes with another."
KEYS_ONLY = "RENAME and COPY are for keys, not for streams."
TRIMS_CLOSER = "Flo's `~` does not go by the nodes of Redis, whose size can be set."
OWN_SETTINGS = "Flo's settings are its own, and its port and log do not change while it runs."
WHOLE_SECONDS = "PEXPIRE is in whole seconds."
EXPIRES_ACTIVELY = "Flo's sweep of expired keys cannot be turned off."
DEADLINE = "A deadline is at most 2^53 ms."
AT_ONCE = "A command names at most 10,000 keys."
WRONG_TYPE = "A key that is no integer answers INCR with WRONGTYPE."
NO_ERROR_STATISTICS = "INFO has no section errorstats."
INPUT_THAT_WAITS = "qbuf counts the input that waits, without the request that is executed."
OTHER_PROTOCOLS = "A connection that begins with a byte of no protocol is closed without a word: the port is not only Redis's."
LEFT_BEHIND = "An earlier test that fails leaves a stream behind, whose last id is in the way."
BEING_FIXED = "A fault that is known, and being fixed."

KNOWN: dict[str, dict[str, tuple[str, ...]]] = {
    "unit/type/stream": {
        NO_MULTI: (
            "XREAD: XADD + DEL should not awake client",
            "XREAD: XADD + DEL + LPUSH should not awake client",
            "XREAD + multiple XADD inside transaction",
        ),
        TRIMS_CLOSER: (
            "XADD with MAXLEN option and the '~' argument",
            "XTRIM with MAXLEN option basic test",
            "XADD with LIMIT consecutive calls",
            "XTRIM with ~ is limited",
            "XTRIM with LIMIT delete entries no more than limit",
            "XADD with ~ MAXLEN and LIMIT can propagate correctly",
            "XADD with ~ MINID and LIMIT can propagate correctly",
            "XTRIM with ~ MAXLEN can propagate correctly",
        ),
        NO_AOF: (
            "outside the tests: CONFIG SET appendonly yes",
            "outside the tests: CONFIG SET aof-use-rdb-preamble no",
            "XADD with MAXLEN > xlen can propagate correctly",
            "XADD with MINID > lastid can propagate correctly",
            "XADD with ~ MAXLEN can propagate correctly",
            "XADD with ~ MINID can propagate correctly",
            "Empty stream can be rewrite into AOF correctly",
        ),
        BEING_FIXED: (
            "XSETID can set a specific ID",
            "XSETID cannot SETID with smaller ID",
            "XSETID cannot SETID on non-existent key",
            "XSETID cannot run with an offset but without a maximal tombstone",
            "XSETID cannot run with a maximal tombstone but without an offset",
            "XSETID errors on negstive offset",
            "XSETID cannot set the maximal tombstone with larger ID",
            "XSETID cannot set the offset to less than the length",
            "Stream can be rewrite into AOF correctly after XDEL lastid",
            "XGROUP HELP should not have unexpected options",
            "XINFO HELP should not have unexpected options",
        ),
    },
    "unit/type/stream-cgroups": {
        THREE_THINGS: ("Blocking XREADGROUP: key type changed with SET",),
        LEFT_BEHIND: (
            "Blocking XREADGROUP: key type changed with transaction",
            "RENAME can unblock XREADGROUP with -NOGROUP",
        ),
        KEYS_ONLY: ("RENAME can unblock XREADGROUP with data",),
        NO_ERROR_STATISTICS: ("XGROUP DESTROY should unblock XREADGROUP with -NOGROUP",),
        NO_AOF: (
            "outside the tests: CONFIG SET appendonly yes",
            "outside the tests: CONFIG SET aof-use-rdb-preamble no",
            "outside the tests: CONFIG SET appendfsync always",
            "XREADGROUP with NOACK creates consumer",
            "Consumer without PEL is present in AOF after AOFRW",
            "Empty stream with no lastid can be rewrite into AOF correctly",
        ),
        NO_DUMPS: ("Loading from legacy (Redis <= v6.2.x, rdb_ver < 10) persistence",),
        BEING_FIXED: ("PEL NACK reassignment after XGROUP SETID event",),
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
        THREE_THINGS: ("SETRANGE against key with wrong type",),
        QUEUES: ("Extended SET GET with incorrect type should result in wrong type error",),
        NO_LCS: (
            "LCS basic",
            "LCS len",
            "LCS indexes",
            "LCS indexes with match len",
            "LCS indexes with match len and minimum match len",
        ),
        BEING_FIXED: (
            "MSET/MSETNX wrong number of args",
            "MSETNX with already existent key",
            "MSETNX with not existing keys",
            "MSETNX with not existing keys - same key twice",
            "MSETNX with already existing keys - same key twice",
        ),
    },
    "unit/type/incr": {
        WRONG_TYPE: (
            "INCR fails against key with spaces (left)",
            "INCR fails against key with spaces (right)",
            "INCR fails against key with spaces (both)",
        ),
        QUEUES: (
            "INCR fails against a key holding a list",
            "INCRBYFLOAT fails against a key holding a list",
        ),
        NO_ENCODINGS: (
            "INCR uses shared objects in the 0-9999 range",
            "INCR can modify objects in-place",
        ),
        BEING_FIXED: ("INCRBYFLOAT does not allow NaN or Infinity",),
    },
    "unit/expire": {
        WHOLE_SECONDS: ("PEXPIRE can set sub-second expires",),
        EXPIRES_ACTIVELY: ("Redis should lazy expire keys",),
        DEADLINE: ("PEXPIREAT with big integer works",),
        NO_REPLICATION: (
            "All TTL in commands are propagated as absolute timestamp in replication stream",
            "GETEX propagate as to replica as PERSIST, DEL, or nothing",
            "SCAN: Lazy-expire should not be wrapped in MULTI/EXEC",
            "RANDOMKEY: Lazy-expire should not be wrapped in MULTI/EXEC",
        ),
        NO_AOF: (
            "SET - use KEEPTTL option, TTL should not be removed after loadaof",
            "GETEX use of PERSIST option should remove TTL after loadaof",
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
        BEING_FIXED: ("SCAN MATCH",),
    },
    "unit/keyspace": {
        NO_ENCODINGS: (
            "COPY basic usage for list",
            "COPY basic usage for stream",
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
        KEYS_ONLY: ("COPY basic usage for stream-cgroups",),
        BEING_FIXED: ("Regression for pattern matching long nested loops",),
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
        QUEUES: ("Regression for a crash with blocking ops and pipelining",),
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
        ),
        NO_REPLICATION: ("CONFIG GET multiple args",),
        BEING_FIXED: (
            "CLIENT LIST with IDs",
            "CLIENT REPLY ON: unset SKIP flag",
            "CONFIG SET duplicate configs",
        ),
    },
}
