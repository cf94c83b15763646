"""The default pipeline(), transaction() with WATCH, Lock with extend and reacquire (asyncio too), pub/sub"""

import asyncio
import sys
import threading
import time

import redis
import redis.asyncio
from redis.exceptions import LockError, LockNotOwnedError, WatchError

PORT = int(sys.argv[1])


def pipelines(client: redis.Redis) -> None:
    with client.pipeline() as pipe:
        assert pipe.set("a", 1).incr("a").expire("a", 100).get("a").execute() == [True, 2, True, b"2"]
    with client.pipeline() as pipe:
        pipe.watch("a")
        client.set("a", "changed")
        pipe.multi()
        pipe.set("a", "mine")
        try:
            pipe.execute()
        except WatchError:
            pass
        else:
            raise AssertionError("EXEC ran though the key was written")

    client.set("counter", 0)

    def add(pipe: redis.client.Pipeline) -> None:
        value = int(pipe.get("counter"))
        pipe.multi()
        pipe.set("counter", value + 1)

    threads = [threading.Thread(target=lambda: [client.transaction(add, "counter") for _ in range(25)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get("counter") == b"100"


def locks(client: redis.Redis) -> None:
    with client.lock("lock", timeout=10) as lock:
        assert client.exists("lock") and lock.owned()
        assert not client.lock("lock", blocking=False).acquire()
        before = client.pttl("lock")
        assert lock.extend(10) and client.pttl("lock") > before
        assert lock.extend(5, replace_ttl=True) and client.pttl("lock") <= 5000
        assert lock.reacquire() and client.pttl("lock") > 5000
    assert not client.exists("lock")
    lost = client.lock("lock", timeout=0.05)
    assert lost.acquire()
    while client.exists("lock"):
        time.sleep(0.01)
    for call in (lost.reacquire, lambda: lost.extend(1), lost.release):
        try:
            call()
        except (LockNotOwnedError, LockError):
            continue
        raise AssertionError("a lock that was lost was kept")
    held = client.lock("lock", timeout=10)
    assert held.acquire()
    entered = []

    def enter() -> None:
        with client.lock("lock", timeout=10, sleep=0.01):
            entered.append(client.get("lock"))

    other = threading.Thread(target=enter)
    other.start()
    token = client.get("lock")
    assert token == held.local.token and not entered
    held.release()
    other.join(10)
    assert entered and entered[0] != token


async def asynchronous() -> None:
    async with redis.asyncio.Redis(port=PORT) as client:
        async with client.pipeline() as pipe:
            assert await pipe.set("b", 1).incr("b").execute() == [True, 2]
        async with client.lock("lock", timeout=10) as lock:
            assert await lock.extend(10) and await lock.reacquire() and await lock.owned()
        assert not await client.exists("lock")
        async with client.pubsub() as listener:
            await listener.subscribe("news")
            await client.publish("news", "hello")
            async for message in listener.listen():
                if message["type"] == "message":
                    assert message["data"] == b"hello"
                    break


for protocol in (2, 3):
    made = redis.Redis(port=PORT, protocol=protocol)
    made.flushall()
    pipelines(made)
    locks(made)
asyncio.run(asynchronous())
