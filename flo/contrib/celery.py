"""Flo as Celery's broker and result backend. Importing this module makes the URLs known.

    import flo.contrib.celery
    app = Celery(broker="flo://127.0.0.1:9000", backend="flo://127.0.0.1:9000")

The broker is flo.contrib.kombu. A result is a key that expires; a client that waits for it waits in the server, which tells of each change.

A chord's part that is done sets a key and then adds to a counter. A part that finds the counter at the chord's size or above, which counts
parts done twice as well, counts the keys; if all are there, it claims the start of the callback for itself. If its worker is killed then,
the part runs again, and its claim still holds.
"""

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from celery import states
from celery.app import backends
from celery.backends.base import KeyValueStoreBackend
from celery.exceptions import TimeoutError

import flo.contrib.kombu  # noqa: F401  makes the broker's URL known
from flo.calls import kv_delete, kv_get, kv_incr, kv_mget, kv_put, kv_touch
from flo.client import DEFAULT_URL, Client, Disconnected
from flo.contrib.clients import shared_client
from flo.errors import Conflict, NotFound, Overloaded, Refusal

MGET_MAX = 256  # of kv_mget
DELETED_AT_ONCE = 1000
WAIT_MS = 10_000  # in the server, for one change

backends.BACKEND_ALIASES["flo"] = "flo.contrib.celery:FloBackend"


class FloBackend(KeyValueStoreBackend):
    """Results in a Flo server, by their task's id."""

    supports_autoexpire = True
    supports_native_join = True
    implements_incr = True

    def __init__(self, app: Any = None, url: str | None = None, expires: Any = None, **kwargs: Any) -> None:
        super().__init__(app, url=url, expires_type=int, expires=expires, **kwargs)
        self.url: str = url or DEFAULT_URL

    @property
    def client(self) -> Client:
        """This process's client: a pool's child cannot use its parent's."""
        return shared_client(self.url)

    def exception_safe_to_retry(self, error: BaseException) -> bool:
        """Whether repeating may help, for result_backend_always_retry."""
        return isinstance(error, (Disconnected, Overloaded))

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        entry = self.client.kv.get(key)
        return None if entry is None else entry.value

    def mget(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """The values of keys."""
        asked = list(keys)
        entries: list[Any] = []
        for answer in self._run([kv_mget(asked[at : at + MGET_MAX]) for at in range(0, len(asked), MGET_MAX)]):
            entries += answer
        return [None if entry is None else entry.value for entry in entries]

    def set(self, key: bytes, value: Any) -> None:
        """Set a key, which expires as the application says."""
        self.client.kv.put(key, value, ttl=self.expires or None)

    def delete(self, key: bytes) -> None:
        """Delete a key."""
        self.client.kv.delete(key)

    def incr(self, key: bytes) -> int:
        """Add one to a counter."""
        return self.client.kv.incr(key).value

    def expire(self, key: bytes, value: Any) -> None:
        """Let a key expire after as many seconds; 0 or None: never."""
        self._run([kv_touch(key, int(value or 0))])

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Note how many parts a chord has. Celery calls this before it sends the last one."""
        self.client.kv.put(self.get_key_for_group(group_id, ".size"), str(chord_size), ttl=self.chord_expires or None)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """A part of a chord is done; after the last one, start the callback."""
        group = request.group
        if not group:
            return
        size, count, claim, parts = (self.get_key_for_group(group, end) for end in (".size", ".count", ".claim", ".part."))
        part = parts + str(request.id).encode()
        ttl = self.chord_expires or None
        counted = self._run([kv_put(part, "", ttl=ttl), kv_incr(count), kv_touch(count, ttl or 0), kv_get(size)])
        expected = counted[3]
        if expected is None or counted[1].value < int(expected.value):
            return
        if sum(1 for _ in self.client.kv.scan(parts, keys_only=True)) < int(expected.value):
            return
        try:
            self.client.kv.put(claim, str(request.id), ttl=ttl, if_absent=True)
        except Conflict:
            if self.get(claim) != str(request.id).encode():
                return
        self.delete(self.get_key_for_chord(group))
        request.chord["chord_size"] = 1  # so Celery's own method, which counts anew, starts the callback now
        super().on_chord_part_return(request, state, result, **kwargs)
        names = [size, count, claim, *(key for key, _ in self.client.kv.scan(parts, keys_only=True))]
        for at in range(0, len(names), DELETED_AT_ONCE):
            self._run([kv_delete(name) for name in names[at : at + DELETED_AT_ONCE]])

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_interval: Callable[[], None] | None = None,
    ) -> Any:
        """The task's result, as soon as it is there; waits in the server. `on_interval` is called every `interval` seconds."""
        self._ensure_not_eager()
        deadline = None if timeout is None else monotonic() + timeout
        key = self.get_key_for_task(task_id)
        version = 0
        while True:
            meta = self.get_task_meta(task_id)
            ready = meta["status"] in states.READY_STATES
            if on_interval and meta["status"] != states.SUCCESS:
                on_interval()  # Celery's raises the error of the parent, if that is why this one failed: rather than a ChordError
            if ready:
                return meta
            rest = WAIT_MS if deadline is None else min(WAIT_MS, int((deadline - monotonic()) * 1000))
            if rest <= 0:
                raise TimeoutError("The operation timed out.")
            block = min(rest, max(1, int(interval * 1000))) if on_interval else rest
            entry = self.client.kv.changed(key, block, known=version)
            version = entry.version if entry is not None else version

    def _run(self, calls: list[Any]) -> list[Any]:
        results = self.client.run_many(calls)
        for result in results:
            if isinstance(result, Refusal) and not isinstance(result, NotFound):
                raise result
        return results
