"""A region with a distributed lock: get_or_create by many threads, many values at once, invalidation"""

import sys
import threading

from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE

region = make_region(key_mangler=lambda key: f"dogpile:{key}").configure(
    "dogpile.cache.redis",
    expiration_time=100,
    arguments={
        "host": "127.0.0.1",
        "port": int(sys.argv[1]),
        "redis_expiration_time": 200,
        "distributed_lock": True,
        "lock_timeout": 10,
        "lock_sleep": 0.01,
        "thread_local_lock": False,
    },
)
made: list[str] = []
gate = threading.Event()


def create() -> str:
    made.append("made")
    gate.wait(0.2)
    return "value"


got: list[str] = []
threads = [threading.Thread(target=lambda: got.append(region.get_or_create("k", create))) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(30)
assert got == ["value"] * 8 and made == ["made"], (got, made)
region.set_multi({"a": 1, "b": [2]})
assert region.get_multi(["a", "b", "c"]) == [1, [2], NO_VALUE]
assert region.get_or_create_multi(["a", "d"], lambda *keys: [f"new {key}" for key in keys]) == [1, "new d"]


@region.cache_on_arguments()
def double(number: int) -> int:
    made.append("double")
    return 2 * number


assert double(4) == 8 == double(4) and made.count("double") == 1
double.invalidate(4)
assert double(4) == 8 and made.count("double") == 2
region.delete_multi(["a", "b"])
region.delete("k")
assert region.get("k") is NO_VALUE and region.get("a") is NO_VALUE
