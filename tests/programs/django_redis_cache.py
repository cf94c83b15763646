"""set_many, delete_pattern, keys, counters, times, locks, its own client's features"""

import sys
import threading

import django
from django.conf import settings

settings.configure(CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"redis://127.0.0.1:{sys.argv[1]}/0"}})
django.setup()

from django.core.cache import cache  # noqa: E402  # needs the settings
from django_redis import get_redis_connection  # noqa: E402

cache.clear()
cache.set("a", [1, 2], timeout=100)
assert cache.get("a") == [1, 2] and 0 < cache.ttl("a") <= 100 and 0 < cache.pttl("a") <= 100_000
assert cache.set("a", 1, nx=True) is not True and cache.set("n", 1, nx=True, timeout=10) and cache.add("m", 1) and not cache.add("m", 2)
cache.set_many({f"user:{number}": number for number in range(50)}, timeout=100)
assert cache.get_many([f"user:{number}" for number in range(3)]) == {"user:0": 0, "user:1": 1, "user:2": 2}
assert len(cache.keys("user:*")) == 50 and len(set(cache.iter_keys("user:1*", itersize=5))) == 11
assert cache.delete_pattern("user:1*") == 11 and len(cache.keys("user:*")) == 39
assert cache.delete_pattern("user:*", itersize=3) == 39 and cache.keys("user:*") == []
assert cache.persist("a") and cache.ttl("a") is None and cache.expire("a", 5) and cache.ttl("a") <= 5 and cache.pexpire("a", 1500)
assert 1000 < cache.pttl("a") <= 1500 and cache.touch("a", 100) and cache.ttl("a") > 5
cache.set("count", 1, timeout=100)
assert (
    cache.incr("count") == 2 and cache.incr("count", 5) == 7 and cache.decr("count") == 6 and cache.incr("new", ignore_key_check=True) == 1
)
try:
    cache.incr("nothing")
except ValueError:
    pass
else:
    raise AssertionError("a missing counter was counted")
assert cache.get_or_set("made", lambda: 5, 10) == 5 and cache.has_key("made")
assert cache.delete_many(["made", "count"]) == 2 and cache.incr_version("m") == 2

inside: list[str] = []


def work(name: str) -> None:
    with cache.lock("the lock", timeout=10, sleep=0.01):
        inside.append(name)
        assert len(inside) == 1
        inside.remove(name)


threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(20)
assert not inside and get_redis_connection("default").ping() and not cache.keys("the lock")
cache.clear()
