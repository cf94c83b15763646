"""Its cache with the decorator, streams, consumer groups, its time series, which are streams"""

import sys

from walrus import Database

db = Database(host="127.0.0.1", port=int(sys.argv[1]))
db.flushall()
cache = db.cache(name="cache", default_timeout=100)
cache.set("a", [1, 2])
assert cache.get("a") == [1, 2] and cache.get("nothing", "other") == "other"
cache.set_many({"x": 1, "y": 2}, timeout=10)
assert cache.get_many(["x", "y"]) == {"x": 1, "y": 2}
calls: list[int] = []


@cache.cached(timeout=50)
def double(number: int) -> int:
    calls.append(number)
    return 2 * number


assert double(2) == 4 == double(2) and calls == [2]
cache.delete("a")
cache.flush()
assert cache.get("x") is None

stream = db.Stream("events")
ids = [stream.add({"n": str(number)}) for number in range(5)]
assert len(stream) == 5 and [message.data[b"n"] if hasattr(message, "data") else message[1][b"n"] for message in stream.read(count=2)] == [
    b"0",
    b"1",
]
assert [identity for identity, _ in stream[ids[1] : ids[3]]] == ids[1:4]
group = db.consumer_group("workers", ["events", "others"])
group.create()
group.set_id("0")
group.events.add({"n": "5"})
read = group.read(count=10)
assert [name for name, _ in read] == [b"events"] and len(read[0][1]) == 6
assert group.events.ack(*[identity for identity, _ in read[0][1]]) == 6 and group.events.pending() == []
series = db.time_series("series", ["one", "two"])
series.create()
series.one.add({"value": "1"})
assert len(series.read(count=5)) == 1
stream.trim(2, approximate=False)
assert len(stream) == 2
group.destroy()
