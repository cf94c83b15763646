"""Its cache with a namespace, many values at once, counters, RedLock, OptimisticLock, the decorator"""

import asyncio
import sys

from aiocache import Cache, cached
from aiocache.lock import OptimisticLock, OptimisticLockError, RedLock
from aiocache.serializers import JsonSerializer, StringSerializer

PORT = int(sys.argv[1])


async def main() -> None:
    cache = Cache(Cache.REDIS, endpoint="127.0.0.1", port=PORT, namespace="main", serializer=JsonSerializer())
    await cache.clear(namespace="main")
    assert await cache.set("a", {"b": 1}, ttl=100) and await cache.get("a") == {"b": 1} and await cache.exists("a")
    await cache.multi_set([("x", 1), ("y", 2)], ttl=50)
    assert await cache.multi_get(["x", "y", "z"]) == [1, 2, None]
    assert await cache.add("new", 1)
    try:
        await cache.add("new", 2)
    except ValueError:
        pass
    else:
        raise AssertionError("a key was added twice")
    assert await cache.increment("count", 5) == 5 and await cache.increment("count", -2) == 3
    assert await cache.expire("x", 10) and await cache.delete("y") == 1
    computed = []

    async def work() -> None:
        async with RedLock(cache, "job", lease=5):  # those that wait go on once it is released, and find the result
            if await cache.get("job") is None:
                computed.append(1)
                await asyncio.sleep(0.01)
                await cache.set("job", "done")

    await asyncio.gather(*[work() for _ in range(4)])
    assert computed == [1] and not await cache.exists("job-lock")
    plain = Cache(Cache.REDIS, endpoint="127.0.0.1", port=PORT, serializer=StringSerializer())
    await plain.set("cas", "old")
    async with OptimisticLock(plain, "cas") as lock:
        assert await lock.cas("new", ttl=100)
    async with OptimisticLock(plain, "cas") as lock:
        await plain.set("cas", "meanwhile")
        try:
            await lock.cas("lost")
        except OptimisticLockError:
            pass
        else:
            raise AssertionError("a value that has changed was overwritten")
    assert await plain.get("cas") == "meanwhile"
    calls = []

    @cached(ttl=100, cache=Cache.REDIS, key="decorated", serializer=StringSerializer(), endpoint="127.0.0.1", port=PORT)
    async def compute() -> str:
        calls.append(1)
        return "result"

    assert await compute() == await compute() == "result" and len(calls) == 1
    await compute.cache.close()
    assert await cache.clear(namespace="main") and await cache.get("a") is None and await plain.get("cas") == "meanwhile"
    await cache.close()
    await plain.close()


asyncio.run(main())
