"""Lock, extend, time left, unlock, one server"""

import asyncio
import sys

from aioredlock import Aioredlock, LockError


async def main() -> None:
    manager = Aioredlock([("127.0.0.1", int(sys.argv[1]))], retry_count=1)
    lock = await manager.lock("resource", lock_timeout=10)
    assert lock.valid and await manager.is_locked("resource")
    await manager.extend(lock)
    assert 0 < await manager.redis.get_lock_ttl("resource", lock.id) <= 10
    try:
        await manager.lock("resource", lock_timeout=10)
    except LockError:
        pass
    else:
        raise AssertionError("two hold one lock")
    await manager.unlock(lock)
    assert not await manager.is_locked("resource")
    async with await manager.lock("resource") as again:
        assert again.valid
    await manager.destroy()


asyncio.run(main())
