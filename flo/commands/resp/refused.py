"""What Flo does not do, each with a sentence that says what to use instead (SPEC section 4)."""

from flo.commands.resp.queues import LISTS
from flo.commands.resp.session import RespSession, not_supported
from flo.commands.resp.table import REFUSED_SUBCOMMANDS, command
from flo.commands.runner import Reply

_DOCUMENT = "use one JSON document (JSON.SET, JSON.GET), or keys under a prefix"
_SCRIPTS = "Flo runs no scripts; use CAS, one JSON document, or a plain pipeline"
_DURABLE = "Flo is always durable: every write is in the log before it is answered, so there is nothing to save"
_JSON = "get the part with JSON.GET, change it, and JSON.SET it; if several clients change it, keep a string, with GETV and CAS"

REFUSED: tuple[tuple[str, str, str], ...] = (
    (
        "hash",
        f"Flo has no hashes; {_DOCUMENT}",
        "HSET HGET HMSET HMGET HDEL HGETALL HKEYS HVALS HLEN HEXISTS HINCRBY HINCRBYFLOAT HSETNX HSTRLEN HSCAN HRANDFIELD HEXPIRE "
        "HPEXPIRE HEXPIREAT HPEXPIREAT HTTL HPTTL HPERSIST HEXPIRETIME HPEXPIRETIME",
    ),
    (
        "set",
        f"Flo has no sets; {_DOCUMENT}",
        "SADD SREM SMEMBERS SISMEMBER SMISMEMBER SCARD SPOP SRANDMEMBER SMOVE SINTER SINTERSTORE SINTERCARD SUNION SUNIONSTORE SDIFF "
        "SDIFFSTORE SSCAN",
    ),
    (
        "sorted-set",
        f"Flo has no sorted sets; {_DOCUMENT}, whose scan is in order",
        "ZADD ZREM ZCARD ZCOUNT ZSCORE ZMSCORE ZINCRBY ZRANGE ZREVRANGE ZRANGEBYSCORE ZREVRANGEBYSCORE ZRANGEBYLEX ZREVRANGEBYLEX "
        "ZRANGESTORE ZRANK ZREVRANK ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREMRANGEBYLEX ZLEXCOUNT ZPOPMIN ZPOPMAX BZPOPMIN BZPOPMAX "
        "ZMPOP BZMPOP ZUNION ZUNIONSTORE ZINTER ZINTERSTORE ZINTERCARD ZDIFF ZDIFFSTORE ZRANDMEMBER ZSCAN",
    ),
    (
        "list",
        LISTS,
        "LPUSHX RPUSHX LINDEX LSET LINSERT LREM LTRIM LPOS LMOVE BLMOVE RPOPLPUSH BRPOPLPUSH LMPOP BLMPOP SORT SORT_RO",
    ),
    (
        "json",
        _JSON,
        "JSON.ARRAPPEND JSON.ARRINDEX JSON.ARRINSERT JSON.ARRLEN JSON.ARRPOP JSON.ARRTRIM JSON.CLEAR JSON.DEBUG JSON.FORGET JSON.MERGE "
        "JSON.MSET JSON.NUMINCRBY JSON.NUMMULTBY JSON.OBJKEYS JSON.OBJLEN JSON.RESP JSON.STRAPPEND JSON.STRLEN JSON.TOGGLE",
    ),
    ("bitmap", f"Flo has no bitmaps; {_DOCUMENT}", "SETBIT GETBIT BITCOUNT BITPOS BITOP BITFIELD BITFIELD_RO"),
    ("hyperloglog", f"Flo has no HyperLogLog; {_DOCUMENT}", "PFADD PFCOUNT PFMERGE PFDEBUG PFSELFTEST"),
    (
        "geo",
        f"Flo has no geographic indexes; {_DOCUMENT}",
        "GEOADD GEODIST GEOHASH GEOPOS GEOSEARCH GEOSEARCHSTORE GEORADIUS GEORADIUS_RO GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO",
    ),
    ("pubsub", "Flo has no shards; use a stream, or SUBSCRIBE and PUBLISH in the profile `redis`", "SSUBSCRIBE SUNSUBSCRIBE SPUBLISH"),
    ("scripting", _SCRIPTS, "EVAL_RO EVALSHA_RO FUNCTION FCALL FCALL_RO"),
    ("server", _DURABLE, "SAVE BGSAVE BGREWRITEAOF"),
    ("generic", "Flo has no internal encodings to show", "OBJECT"),
    (
        "generic",
        "Flo has no dump format; copy values with GET and SET, or everything with `flo backup`",
        "DUMP RESTORE RESTORE-ASKING MIGRATE",
    ),
    ("generic", "a key stays in its namespace; read it there, change the namespace with USE, and write it", "MOVE"),
    ("server", "namespaces keep their names; choose another one with USE", "SWAPDB"),
    ("string", "GET both values, and compare them in the program", "LCS"),
    ("server", "Flo has no commands for debugging; INFO, SLOWLOG and LATENCY tell how the server is", "DEBUG"),
    (
        "server",
        "Flo does not replicate by Redis's protocol; `flo backup` makes a copy beside a running server",
        "REPLICAOF SLAVEOF FAILOVER REPLCONF PSYNC SYNC",
    ),
)
CONTAINERS = ("OBJECT", "FUNCTION")  # have subcommands in Redis, HELP among them

# Subcommands of commands that Flo has, by the command. Those of CLIENT are unknown: libraries try them, and go on by that error.
SUBCOMMANDS: tuple[tuple[str, str, str], ...] = (
    ("ACL", "there is one user, `default`, whose secret is in the file that server.secret_file names",
     "LIST DELUSER CAT SETUSER SAVE USERS LOG GENPASS LOAD DRYRUN GETUSER"),
    ("CLUSTER", "one node has all slots, and that cannot be changed",
     "COUNT-FAILURE-REPORTS ADDSLOTSRANGE FAILOVER SLAVES RESET FLUSHSLOTS SET-CONFIG-EPOCH LINKS DELSLOTSRANGE REPLICAS GETKEYSINSLOT "
     "SAVECONFIG FORGET ADDSLOTS MEET BUMPEPOCH DELSLOTS COUNTKEYSINSLOT SETSLOT REPLICATE MYSHARDID"),
    ("CONFIG", "write the setting into flo.toml", "REWRITE"),
    ("LATENCY", "LATENCY HISTORY tick shows long turns, and INFO stats has quantiles (flo_wait_…)", "GRAPH HISTOGRAM"),
    ("MEMORY", "INFO memory tells what is used", "MALLOC-STATS STATS PURGE"),
    ("PUBSUB", "Flo has no shards; CHANNELS and NUMSUB tell of all channels", "SHARDCHANNELS SHARDNUMSUB"),
    ("SCRIPT", "no script runs long enough to be looked at", "DEBUG KILL"),
    ("MODULE", "Flo loads no modules", "LOADEX LOAD UNLOAD"),
)  # fmt: skip


def _refuse(group: str, sentence: str, name: str) -> None:
    # the sentence is what helps, whatever the arguments: so any number of them is taken
    @command(name, -1, "…", "Refused.", group=group, refused=True, differs=sentence)
    def refuse(session: RespSession, args: list[bytes]) -> Reply:
        return not_supported(name, sentence, args if name in CONTAINERS else [])


for _group, _sentence, _names in REFUSED:
    for _name in _names.split():
        _refuse(_group, _sentence, _name)

for _name, _sentence, _names in SUBCOMMANDS:
    for _word in _names.split():
        REFUSED_SUBCOMMANDS[_name.encode(), _word.encode()] = f"{_name} {_word} is not supported: {_sentence}"
