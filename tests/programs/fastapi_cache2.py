"""An application's cached routes, their headers, a namespace cleared"""

import asyncio
import sys

import httpx
from fastapi import FastAPI
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache
from redis import asyncio as redis

app = FastAPI()
calls: list[int] = []


@app.get("/double/{number}")
@cache(expire=100, namespace="numbers")
async def double(number: int) -> dict[str, int]:
    calls.append(number)
    return {"double": 2 * number}


async def main() -> None:
    client = redis.from_url(f"redis://127.0.0.1:{sys.argv[1]}")
    await client.set("beside", "stays")
    FastAPICache.init(RedisBackend(client), prefix="app")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as http:
        first, second = await http.get("/double/4"), await http.get("/double/4")
        assert first.json() == second.json() == {"double": 8} and calls == [4]
        assert first.headers["x-fastapi-cache"] == "MISS" and second.headers["x-fastapi-cache"] == "HIT"
        assert second.headers["cache-control"].startswith("max-age=")
        assert (await http.get("/double/4", headers={"if-none-match": second.headers["etag"]})).status_code == 304
        await http.get("/double/5")
        await FastAPICache.clear(namespace="numbers")
        await http.get("/double/4")
    assert calls == [4, 5, 4] and await client.get("beside") == b"stays"
    await client.aclose()


asyncio.run(main())
