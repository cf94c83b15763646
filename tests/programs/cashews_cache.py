"""Decorators, many values at once, counters that expire, locks, deletion by pattern"""

import asyncio
import sys

from cashews import cache


async def main() -> None:
    cache.setup(f"redis://127.0.0.1:{sys.argv[1]}/", suppress=False, max_connections=20)
    await cache.clear()
    await cache.set("a", {"b": [1]}, expire=100)
    assert await cache.get("a") == {"b": [1]} and 0 < await cache.get_expire("a") <= 100 and await cache.exists("a")
    assert await cache.set("a", 1, exist=False) is not True and await cache.set("b", 2, exist=False)
    await cache.set_many({"m:1": 1, "m:2": 2}, expire=100)
    assert await cache.get_many("m:1", "m:2", "m:3") == (1, 2, None)
    assert [await cache.incr("count", expire=100) for _ in range(3)] == [1, 2, 3] and 0 < await cache.get_expire("count") <= 100
    assert await cache.incr("plain") == 1 and await cache.incr("plain", 5) == 6
    await cache.expire("plain", 50)
    inside = 0

    async def work() -> None:
        nonlocal inside
        async with cache.lock("lock", expire=10):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*[work() for _ in range(4)])
    assert not await cache.is_locked("lock") and await cache.set_lock("other", "me", expire=10) and not await cache.unlock("other", "you")
    assert await cache.unlock("other", "me")
    calls = []

    @cache(ttl="1m", key="user:{name}")
    async def user(name: str) -> str:
        calls.append(name)
        return name.upper()

    @cache.locked(ttl="10s", key="one:{name}")
    @cache.early(ttl="10m", key="early:{name}")
    async def early(name: str) -> str:
        calls.append(name)
        return name

    assert await user("ann") == "ANN" == await user("ann") and calls == ["ann"]
    assert await early("x") == "x" == await early("x")
    found = [key async for key in cache.scan("m:*")]
    assert sorted(found) == ["m:1", "m:2"]
    await cache.delete_match("m:*")
    await cache.delete_many("a", "b")
    assert await cache.get("m:1") is None and await cache.get("a") is None and await cache.ping()
    await cache.close()


asyncio.run(main())
