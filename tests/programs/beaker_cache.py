"""Cache regions and sessions in `ext:redis`, with its locks"""

import sys
import threading

from beaker.cache import CacheManager
from beaker.session import Session
from beaker.util import parse_cache_config_options

URL = f"redis://127.0.0.1:{sys.argv[1]}/0"
manager = CacheManager(**parse_cache_config_options({"cache.type": "ext:redis", "cache.url": URL, "cache.expire": 100}))
cache = manager.get_cache("numbers")
calls: list[int] = []


def create() -> list[int]:
    calls.append(1)
    return [1, 2]


got = []
threads = [threading.Thread(target=lambda: got.append(cache.get(key="k", createfunc=create))) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(30)
assert got == [[1, 2]] * 6 and len(calls) == 1, (got, calls)
cache.put("other", "value")
assert "other" in cache and cache.get("other") == "value" and len(cache.namespace.keys()) == 2
cache.remove_value("other")
assert "other" not in cache


@manager.cache("decorated", expire=60)
def decorated(number: int) -> int:
    calls.append(number)
    return number * 2


assert decorated(21) == 42 == decorated(21) and calls.count(21) == 1
manager.invalidate(decorated, "decorated", 21)
cache.clear()
assert "k" not in cache

session = Session({}, use_cookies=False, type="ext:redis", url=URL, timeout=100)
session["user"] = "ann"
session.save()
again = Session({}, id=session.id, use_cookies=False, type="ext:redis", url=URL, timeout=100)
assert again["user"] == "ann"
again.delete()
again.save()
assert "user" not in Session({}, id=session.id, use_cookies=False, type="ext:redis", url=URL, timeout=100)
