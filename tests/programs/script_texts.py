"""Prints, as JSON, the texts of scripts as the libraries send them, with the numbers of KEYS and ARGV they are sent with."""

import json
import re
from pathlib import Path

import beaker.ext.redisclusternm
import django_redis.client.default
import redis.asyncio.lock
import redis.lock
from aiocache.backends.redis import RedisBackend
from aioredlock.redis import Instance
from cashews.backends.redis import backend
from redlock import Redlock

django_texts = re.findall(r'lua = """(.*?)"""', Path(django_redis.client.default.__file__).read_text(), re.DOTALL)
beaker_text = re.search(r'LUA = """(.*?)"""', Path(beaker.ext.redisclusternm.__file__).read_text(), re.DOTALL)
texts = {}
for where in (redis.lock.Lock, redis.asyncio.lock.Lock):
    texts |= {
        f"{where.__module__} release": (where.LUA_RELEASE_SCRIPT, 1),
        f"{where.__module__} extend": (where.LUA_EXTEND_SCRIPT, 3),
        f"{where.__module__} reacquire": (where.LUA_REACQUIRE_SCRIPT, 2),
    }
texts |= {
    "aiocache release": (RedisBackend.RELEASE_SCRIPT, 1),
    "aiocache cas": (RedisBackend.CAS_SCRIPT, 2),
    "aiocache cas with a time": (RedisBackend.CAS_SCRIPT, 4),
    "aioredlock lock": (Instance.SET_LOCK_SCRIPT, 2),
    "aioredlock unlock": (Instance.UNSET_LOCK_SCRIPT, 1),
    "aioredlock ttl": (Instance.GET_LOCK_TTL_SCRIPT, 1),
    "cashews unlock": (backend._UNLOCK.replace("\n", " "), 1),
    "cashews incr": (backend._INCR_EXPIRE.replace("\n", " "), 2),
    "redlock unlock": (Redlock.unlock_script, 1),
    "beaker unlock": (beaker_text[1], 1),
    "django-redis incr of what exists": (django_texts[0], 1),
    "django-redis incr": (django_texts[1], 1),
    "fastapi-cache2 clear": ("for i, name in ipairs(redis.call('KEYS', 'space:*')) do redis.call('DEL', name); end", 0),
}
print(json.dumps(texts))
