"""A lock that several machines share, and a record that it protects even from a holder that has slept through its lease.

    python3 lock.py report.txt "written by me"     # takes the lock, writes the record, gives the lock back

The lock is a key with a time to live. Its version, a number that only grows, stands for this one holder:

- Giving it back deletes the key at that version. If the lease has run out and somebody else holds the lock, the deletion is refused.
- It is also the fencing token. No lock can keep a process from sleeping between "I hold it" and its write; so the write names the token,
  and the protected thing refuses a token below the highest that it has seen. Here that is a record in Flo, changed by `cas`: of two
  writers, the one that took the lock later wins, whatever the order in which their writes arrive.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import flo
from flo.errors import Conflict


@contextmanager
def lock(client: flo.Client, name: str, lease_seconds: int) -> Iterator[int]:
    """Wait for the lock and hold it during the block, for `lease_seconds` at most; gives the fencing token."""
    while True:
        try:
            token = client.kv.put(f"lock:{name}", f"{os.uname().nodename} {os.getpid()}", ttl=lease_seconds, if_absent=True)
            break
        except Conflict as held:
            client.kv.changed(f"lock:{name}", 10_000, known=held.version)  # given back, or run out
    try:
        yield token
    finally:
        with suppress(Conflict):  # the lease ran out; another may hold the lock
            client.kv.delete(f"lock:{name}", cas=token)


def write(client: flo.Client, key: str, text: str, token: int) -> None:
    """Write the record as the holder of this token. Raises `Conflict` if a later holder has written it."""
    while True:
        entry = client.kv.get(key)
        if entry and entry.json()["token"] > token:
            raise Conflict(f"{key} was written by a later holder of the lock; this one's lease has run out")
        with suppress(Conflict):  # written since `get`: look again
            client.kv.put(key, json={"token": token, "text": text}, cas=entry.version if entry else 0)
            return


if __name__ == "__main__":
    name, text = sys.argv[1:]
    with flo.Client(os.environ.get("FLO_URL", "flo://127.0.0.1:9000")) as client, lock(client, name, 30) as token:
        write(client, name, text, token)
        print(f"{name}: {text!r}, with the token {token}")
