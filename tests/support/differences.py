"""The known differences from Redis, in one table: what a test comparing the two may see differ, and why it is meant.

An entry holds an example that shows it, so that tests/system/test_differential.py can see that each difference is still there.
Replies are written as the bytes on the wire (regular expressions over them): error lines without their CR LF.
"""

import re
from typing import NamedTuple


class Difference(NamedTuple):
    """One known difference. `commands` is a regular expression for the command lines it concerns, in any case; `redis` and `flo`
    are what the two answer there; `example` is typed in order on an empty server, and its last line shows the difference."""

    example: tuple[str, ...]
    commands: str
    redis: str
    flo: str
    reason: str

    def covers(self, line: str, redis: bytes, flo: bytes) -> bool:
        """Whether these two replies to the command line differ in this known way."""
        return (
            re.fullmatch(self.commands, line, re.IGNORECASE | re.DOTALL) is not None
            and re.fullmatch(self.redis, redis.decode("latin-1").removesuffix("\r\n"), re.DOTALL) is not None
            and re.fullmatch(self.flo, flo.decode("latin-1").removesuffix("\r\n"), re.DOTALL) is not None
        )


DIFFERENCES: tuple[Difference, ...] = (
    # -- what SPEC section 3 says of counters ------------------------------------------------------
    Difference(
        ("SET k abc", "INCR k"),
        r"(incr|decr) \S+|(incrby|decrby) \S+ -?\d+",
        r"-ERR value is not an integer or out of range",
        r"-WRONGTYPE the value is not an integer or out of range",
        "a counter and a string are two kinds: an operation on the wrong one is a conflict of kinds",
    ),
    Difference(
        ("SET k 9223372036854775807", "INCR k"),
        r"(incr|decr) \S+|(incrby|decrby) \S+ -?\d+",
        r"-ERR increment or decrement would overflow",
        r"-CONFLICT increment or decrement would overflow",
        "past the range of an i64 the request is in conflict with what the key holds, in every protocol",
    ),
    Difference(
        ("INCRBYFLOAT k 5.6", "INCRBYFLOAT k 5.0e3"),
        r"incrbyfloat .*",
        r"\$22\r\n5005\.6000000000000000\d",
        r"\$6\r\n5005\.6",
        "the sum is exact in decimal; Redis adds long doubles and shows their error",
    ),
    Difference(
        ("SET k 1", "INCRBYFLOAT k 1e308"),
        r"incrbyfloat \S+ -?\d(\.\d)?e[34]\d\d",
        r"\$\d+\r\n\d+",
        r"\$\d+\r\n\d+|-ERR value is not a valid float",
        "the sum is exact in decimal, and within what a double holds; Redis has the long doubles of its machine",
    ),
    Difference(
        ("INCRBYFLOAT k 0x10",),
        r"(incrbyfloat|brpop) \S+ 0x.*",
        r"\$\d+\r\n\d+|\*-1|_",
        r"-ERR (value is not a valid float|timeout is not a float or out of range)",
        "a number is written in decimal; Redis takes what strtold takes",
    ),
    Difference(
        ("BRPOP k 1e100",),
        r"brpop \S+ (inf|\d+e\d+|\d{16,})",
        r"-ERR timeout is negative",
        r"-ERR timeout is out of range",
        "Redis 7.0 overflows here; 7.4 says what Flo says",
    ),
    # -- deadlines ---------------------------------------------------------------------------------
    Difference(
        ("SET k v", "PEXPIRE k 1900", "PTTL k"),
        r"pttl .*",
        r":1[1-9]\d\d",
        r":(\d{1,3}|1000)",
        "PEXPIRE is floored to whole seconds (seeds), but a positive time never to none",
    ),
    Difference(
        ("SET k v", "EXPIRE k 10000000000000"),
        r"(p?expire(at)?|p?setex|set|getex) .* \d{13,19}.*",
        r":[01]|\+OK|\$.*|_",
        r"-ERR invalid expire time in '\w+' command",
        "a deadline is at most 2^53 ms, 285,000 years away: what every client's number type holds exactly",
    ),
    Difference(
        ("GETEX missing EX 0",),
        r"getex \S+ (ex|px|exat|pxat) \S+",
        r"\$-1|_",
        r"-ERR (invalid expire time in 'getex' command|value is not an integer or out of range)",
        "a time that cannot be is refused whether or not the key is there; Redis looks for the key first",
    ),
    # -- streams -----------------------------------------------------------------------------------
    Difference(
        ("XADD s 2-1 f v", "XDEL s 2-1", "XSETID s 1-1"),
        r"xsetid .*",
        r"\+OK",
        r"-ERR (The ID specified in XSETID is smaller than current max_deleted_entry_id|the (last id of the )?stream .* never goes back.*)",
        "the last id never goes back: a record's id is not given twice. Redis 7.2 compares with the highest deleted id too",
    ),
    # -- patterns and cursors ----------------------------------------------------------------------
    Difference(
        ("SET '\\xff' v", "SET m v", "KEYS '[a-\\xff]'"),
        r"(keys|scan \d+ match) (?=.*[\x80-\xff]).*\[.*-.*",
        r"\*.*",
        r"\*.*",
        "a range compares bytes as unsigned, as Redis does on ARM; on x86 it compares them as signed",
    ),
    Difference(
        ("SET '' v", "KEYS **"),
        r"keys \*\*+",
        r"\*0",
        r"\*1\r\n\$0\r\n",
        "two stars are as good as one, and one matches the empty key",
    ),
    Difference(
        ("SCAN -1",),
        r"scan (-\d+|)",
        r"\*2\r\n.*",
        r"-ERR invalid cursor",
        "a cursor is a decimal that SCAN gave out; Redis takes what strtoul takes",
    ),
    # -- limits ------------------------------------------------------------------------------------
    Difference(
        ("SETRANGE k 9223372036854775807 x",),
        r"(setrange|append) .*",
        r"-ERR string exceeds maximum allowed size \(proto-max-bulk-len\)",
        r"-ERR string exceeds maximum allowed size \(16777216 bytes\)",
        "a value is 16 MiB at most, a limit of its own",
    ),
    # -- one numbered database ---------------------------------------------------------------------
    Difference(
        ("SELECT 1",),
        r"select -?\d+",
        r"\+OK|-ERR DB index is out of range",
        r"-ERR DB index is out of range: name a namespace for it in the setting resp\.databases, or change the namespace by its name.*",
        "databases have names: USE, or resp.databases",
    ),
    Difference(
        ("COPY k l DB 1",),
        r"copy .* db -?\d+.*",
        r":[01]|-ERR DB index is out of range",
        r"-ERR DB index is out of range: COPY stays within its namespace, whose index is 0",
        "databases have names: USE",
    ),
    Difference(
        ("CONFIG GET databases",),
        r"config get databases",
        r"[*%]\d\r\n\$9\r\ndatabases\r\n\$2\r\n16",
        r"[*%]\d\r\n\$9\r\ndatabases\r\n\$1\r\n1",
        "databases have names: USE",
    ),
    # -- settings ----------------------------------------------------------------------------------
    Difference(
        ("CONFIG GET MAXMEMORY",),
        r"config get maxmemory",
        r"[*%]\d\r\n\$9\r\nMAXMEMORY\r\n.*",
        r"[*%]\d\r\n\$9\r\nmaxmemory\r\n.*",
        "a setting comes under the name the table gives it; Redis repeats the request's spelling",
    ),
    Difference(
        ("CONFIG SET maxmemory abc",),
        r"config set maxmemory abc",
        r"-ERR CONFIG SET failed \(possibly related to argument 'maxmemory'\) - argument must be a memory value",
        r"-ERR CONFIG SET failed - server\.max_memory is 'abc' in CONFIG SET: a size such as .*",
        "the sentence says what is allowed",
    ),
    # -- what Flo does not do, or does in its own way ----------------------------------------------
    Difference(
        ("MULTI",),
        r"multi",
        r"\+OK",
        r"-ERR the profile `flo` has no MULTI: .*",
        "transactions are refused (seeds): CAS, one JSON document, or a plain pipeline",
    ),
    Difference(
        ("WATCH k",),
        r"watch .*",
        r"\+OK",
        r"-ERR the profile `flo` has no MULTI: .*",
        "transactions are refused (seeds): CAS, one JSON document, or a plain pipeline",
    ),
    Difference(
        ("HSET h f v",),
        r"(h[a-z]+|[sz]add|smembers|zrange) .*",
        r"[:$*~%_].*",
        r"-ERR \w+ is not supported: Flo has no (hashes|sets|sorted sets); .*",
        "one JSON document, or keys under a prefix",
    ),
    Difference(
        ("SETBIT k 7 1",),
        r"(setbit|getbit|bitcount|pfadd|geoadd) .*",
        r":\d+",
        r"-ERR \w+ is not supported: Flo has no (bitmaps|HyperLogLog|geographic indexes); .*",
        "one JSON document, or keys under a prefix",
    ),
    Difference(
        ("PUBLISH channel message",),
        r"publish .*",
        r":\d+",
        r"-ERR PUBLISH is not supported: .*use a stream, .*",
        "streams do this, and keep what was said",
    ),
    Difference(
        ("EVAL 'return 1' 0",),
        r"eval .*",
        r":1",
        r"-ERR EVAL is not supported: Flo runs no scripts in the profile `flo`; .*",
        "no scripts (seeds)",
    ),
    Difference(
        ("SAVE",),
        r"save|bgsave|bgrewriteaof",
        r"\+.*",
        r"-ERR \w+ is not supported: Flo is always durable.*",
        "there is nothing to save (seeds)",
    ),
    Difference(
        ("SET k v", "OBJECT ENCODING k"),
        r"object encoding .*",
        r"\$\d+\r\n.*",
        r"-ERR OBJECT is not supported: Flo has no internal encodings to show",
        "there are no encodings (seeds)",
    ),
    Difference(
        ("CLIENT TRACKING ON",),
        r"client tracking on.*",
        r"\+OK|-ERR.*",
        r"-ERR CLIENT TRACKING ON is not supported: .*",
        "Flo pushes no invalidations",
    ),
    Difference(
        ("CLUSTER KEYSLOT foo",),
        r"cluster .*",
        r"-ERR This instance has cluster support disabled",
        r"(:\d+|\*|\$|=).*",
        "cluster clients find one node that has every slot (seeds)",
    ),
    Difference(
        ("READONLY",),
        r"readonly|readwrite|asking",
        r"-ERR This instance has cluster support disabled",
        r"\+OK",
        "cluster clients send it",
    ),
    # -- redis-server 7.0 beside the 7.4 that Flo follows ------------------------------------------
    Difference(
        ("CLIENT SETINFO LIB-NAME x",),
        r"client (setinfo|no-touch).*",
        r"-ERR unknown subcommand '.*'\. Try CLIENT HELP\.",
        r"\+OK|-ERR (wrong number of arguments|Unrecognized option|LIB|lib|syntax error).*",
        "Redis 7.2 has it, and clients send it",
    ),
    Difference(
        ("COMMAND GETKEYS PING",),
        r"command getkeys(andflags)? \S+",
        r"-ERR wrong number of arguments for 'command\|getkeys(andflags)?' command",
        r"-ERR (The command has no key arguments|Invalid number of arguments specified for command|Invalid command specified)",
        "Redis 7.2 takes a command without arguments here",
    ),
)


def known(line: str, redis: bytes, flo: bytes) -> Difference | None:
    """The entry that says why the two replies to a command line differ; None where no entry does."""
    return next((item for item in DIFFERENCES if item.covers(line, redis, flo)), None)
