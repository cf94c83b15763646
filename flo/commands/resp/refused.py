"""What Flo does not do, each with a sentence that says what to use instead (SPEC section 4)."""

from flo.commands.resp.session import RespSession
from flo.commands.resp.table import command
from flo.commands.runner import Reply
from flo.proto.resp import error

_DOCUMENT = "use one JSON document (JSON.SET, JSON.GET), or keys under a prefix"
_STREAMS = "Flo has no publish and subscribe; use a stream"
_SCRIPTS = "Flo runs no scripts; use CAS, one JSON document, or a plain pipeline"
_DURABLE = "Flo is always durable: every write is in the log before it is answered, so there is nothing to save"
_LISTS = "Flo's lists are queues: LPUSH adds, RPOP takes"

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
        _LISTS,
        "RPUSH LPUSHX RPUSHX LPOP BLPOP LINDEX LSET LINSERT LREM LTRIM LPOS LMOVE BLMOVE RPOPLPUSH BRPOPLPUSH LMPOP BLMPOP SORT SORT_RO",
    ),
    ("bitmap", f"Flo has no bitmaps; {_DOCUMENT}", "SETBIT GETBIT BITCOUNT BITPOS BITOP BITFIELD BITFIELD_RO"),
    ("hyperloglog", f"Flo has no HyperLogLog; {_DOCUMENT}", "PFADD PFCOUNT PFMERGE"),
    (
        "geo",
        f"Flo has no geographic indexes; {_DOCUMENT}",
        "GEOADD GEODIST GEOHASH GEOPOS GEOSEARCH GEOSEARCHSTORE GEORADIUS GEORADIUSBYMEMBER",
    ),
    (
        "pubsub",
        _STREAMS,
        "SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE PUBLISH PUBSUB SSUBSCRIBE SUNSUBSCRIBE SPUBLISH",
    ),
    ("scripting", _SCRIPTS, "EVAL EVALSHA EVAL_RO EVALSHA_RO SCRIPT FUNCTION FCALL FCALL_RO"),
    ("server", _DURABLE, "SAVE BGSAVE BGREWRITEAOF"),
    ("generic", "Flo has no internal encodings to show", "OBJECT"),
)


def _refuse(group: str, sentence: str, name: str) -> None:
    # the sentence is what helps, whatever the arguments: so any number of them is taken
    @command(name, -1, "…", "Refused.", group=group, refused=True, differs=sentence)
    def refuse(session: RespSession, args: list[bytes]) -> Reply:
        session.host.counters.errors += 1
        return error(f"ERR {name} is not supported: {sentence}")


for _group, _sentence, _names in REFUSED:
    for _name in _names.split():
        _refuse(_group, _sentence, _name)
