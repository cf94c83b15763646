"""Flo as Celery's broker and result backend. Importing this module makes the URLs known.

    import flo.contrib.celery
    app = Celery(broker="flo://127.0.0.1:9000", backend="flo://127.0.0.1:9000")

The broker is flo.contrib.kombu. A result is a key that expires; a client that waits for it waits in the server, which tells of each change.
Chords count their parts with a counter.
"""

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from celery import states
from celery.app import backends
from celery.backends.base import KeyValueStoreBackend
from celery.exceptions import TimeoutError

import flo.contrib.kombu  # noqa: F401  makes the broker's URL known
from flo.calls import kv_mget, kv_touch
from flo.client import DEFAULT_URL, Client, Disconnected
from flo.contrib.clients import shared_client
from flo.errors import NotFound, Overloaded, Refusal

MGET_MAX = 256  # of kv_mget
WAIT_MS = 10_000  # in the server, for one change

backends.BACKEND_ALIASES["flo"] = "flo.contrib.celery:FloBackend"


class FloBackend(KeyValueStoreBackend):
    """Results in a Flo server, by their task's id."""

    supports_autoexpire = True
    supports_native_join = True
    implements_incr = True

    def __init__(self, app: Any = None, url: str | None = None, expires: Any = None, **kwargs: Any) -> None:
        super().__init__(app, url=url, expires_type=int, expires=expires, **kwargs)
        self.url = url or DEFAULT_URL

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
            if meta["status"] in states.READY_STATES:
                return meta
            if on_interval:
                on_interval()
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
