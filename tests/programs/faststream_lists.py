"""Subscribers of lists, batches, channels, patterns and streams with a group; requests"""

import asyncio
import sys

from faststream.redis import ListSub, RedisBroker, StreamSub

broker = RedisBroker(f"redis://127.0.0.1:{sys.argv[1]}", logger=None)
got: dict[str, list[object]] = {name: [] for name in ("list", "batch", "channel", "pattern", "stream")}


@broker.subscriber(list="fs-jobs")
async def one(message: int) -> None:
    got["list"].append(message)


@broker.subscriber(list=ListSub("fs-batch", batch=True, polling_interval=0.01))
async def many(messages: list[int]) -> None:
    got["batch"] += messages


@broker.subscriber("fs-channel")
async def channel(message: str) -> str:
    got["channel"].append(message)
    return message.upper()


@broker.subscriber("fs-log.{name}")
async def pattern(message: str) -> None:
    got["pattern"].append(message)


@broker.subscriber(stream=StreamSub("fs-events", group="workers", consumer="one", last_id=">"))
async def stream(message: dict[str, int]) -> None:
    got["stream"].append(message)


async def main() -> None:
    await broker.start()
    for number in range(5):
        await broker.publish(number, list="fs-jobs")
    await broker.publish_batch(*range(5), list="fs-batch")
    assert await broker.publish("hello", "fs-channel") is not None
    await broker.publish("line", "fs-log.web")
    await broker.publish({"n": 1}, stream="fs-events")
    answer = await broker.request("hi", "fs-channel", timeout=10)
    assert await answer.decode() == "HI"
    wanted = {"list": [0, 1, 2, 3, 4], "batch": [0, 1, 2, 3, 4], "channel": ["hello", "hi"], "pattern": ["line"], "stream": [{"n": 1}]}
    async with asyncio.timeout(20):
        while got != wanted:
            await asyncio.sleep(0.01)
    await broker.stop()


asyncio.run(main())
