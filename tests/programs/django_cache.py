"""All of the cache's methods, their asynchronous ones too; sessions in the cache"""

import asyncio
import sys
import time

import django
from django.conf import settings

settings.configure(
    CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"redis://127.0.0.1:{sys.argv[1]}"}},
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    INSTALLED_APPS=["django.contrib.sessions"],
    SECRET_KEY="x",
)
django.setup()

from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402  # needs the settings
from django.core.cache import cache  # noqa: E402

cache.clear()
cache.set("a", {"list": [1, 2]}, 100)
assert cache.get("a") == {"list": [1, 2]} and cache.get("nothing", "other") == "other"
assert not cache.add("a", 1) and cache.add("b", 2) and "b" in cache and cache.has_key("b") and not cache.has_key("z")
assert cache.get_or_set("c", lambda: 3, 100) == 3 and cache.get_or_set("c", 4) == 3
assert cache.set_many({"d": 4, "e": "five"}, 100) == [] and cache.set_many({"forever": 1}, None) == []
assert cache.get_many(["d", "e", "z"]) == {"d": 4, "e": "five"}
cache.delete_many(["d", "e"])
assert cache.get_many(["d", "e"]) == {} and cache.delete("b") and not cache.delete("b")
assert cache.incr("c") == 4 and cache.incr("c", 10) == 14 and cache.decr("c", 4) == 10
for call in (cache.incr, cache.decr):
    try:
        call("nothing")
    except ValueError:
        continue
    raise AssertionError("a missing counter was counted")
assert cache.touch("a", 50) and cache.touch("a", None) and not cache.touch("nothing", 1)
cache.set("soon", 1, 0.05)
cache.set("v", 1, version=1)
assert (
    cache.incr_version("v") == 2
    and cache.get("v", version=2) == 1
    and cache.get("v", version=1) is None
    and cache.decr_version("v", version=2) == 1
)
cache.set("zero", 1, 0)
assert cache.get("zero") is None
deadline = time.monotonic() + 10
while cache.get("soon") is not None:
    assert time.monotonic() < deadline
    time.sleep(0.01)


async def asynchronous() -> None:
    await cache.aset("x", 1, 100)
    await cache.aset_many({"y": 2, "z": 3}, 100)
    assert await cache.aget_many(["x", "y", "z"]) == {"x": 1, "y": 2, "z": 3}
    assert await cache.aincr("x") == 2 and await cache.atouch("x", 10) and await cache.aget_or_set("w", 5) == 5
    await cache.adelete_many(["x", "y"])
    assert await cache.aget("x") is None and await cache.aget("z") == 3


asyncio.run(asynchronous())
session = SessionStore()
session["user"] = "ann"
session.save()
again = SessionStore(session.session_key)
assert again["user"] == "ann" and again.exists(session.session_key)
again.cycle_key()
assert not SessionStore().exists(session.session_key) and SessionStore(again.session_key)["user"] == "ann"
again.flush()
cache.clear()
assert cache.get("a") is None
cache.close()
