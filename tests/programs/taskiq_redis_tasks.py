"""ListQueueBroker, StreamBroker and PubSubBroker with the result backend"""

import asyncio
import sys

from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, PubSubBroker, RedisAsyncResultBackend, RedisStreamBroker

URL = f"redis://127.0.0.1:{sys.argv[1]}"


async def main() -> None:
    for kind in (ListQueueBroker, RedisStreamBroker, PubSubBroker):
        results = RedisAsyncResultBackend(URL, result_ex_time=100)
        broker = kind(url=URL, queue_name=f"tasks-{kind.__name__}").with_result_backend(results)

        @broker.task(task_name="double")
        async def double(number: int) -> int:
            return 2 * number

        await broker.startup()
        receiver = asyncio.create_task(run_receiver_task(broker))
        if kind is PubSubBroker:  # who publishes before somebody listens speaks to nobody
            async with __import__("redis").asyncio.Redis.from_url(URL) as client:
                while not (await client.pubsub_numsub(f"tasks-{kind.__name__}"))[0][1]:
                    await asyncio.sleep(0.01)
        tasks = [await double.kiq(number) for number in range(10)]
        assert [(await task.wait_result(timeout=20)).return_value for task in tasks] == [2 * number for number in range(10)]
        receiver.cancel()
        await asyncio.gather(receiver, return_exceptions=True)
        await broker.shutdown()


asyncio.run(main())
