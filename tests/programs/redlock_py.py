"""Lock and unlock, one server; a second holder must wait"""

import sys
import time

from redlock import Redlock

manager = Redlock([{"host": "127.0.0.1", "port": int(sys.argv[1]), "db": 0}], retry_count=1)
first = manager.lock("resource", 10_000)
assert first and not manager.lock("resource", 10_000)
manager.unlock(first)
second = manager.lock("resource", 50)
assert second
deadline = time.monotonic() + 10
while not (third := manager.lock("resource", 10_000)):
    assert time.monotonic() < deadline
manager.unlock(second)  # another's by now: it must stay
assert not manager.lock("resource", 10_000)
manager.unlock(third)
