"""Flo as a cache of Django. Sessions are in flo.contrib.django_sessions.

    CACHES = {"default": {"BACKEND": "flo.contrib.django.FloCache", "LOCATION": "flo://127.0.0.1:9000"}}

OPTIONS are those of `flo.Client`. An entry is the key `django.cache.` + Django's own key: `clear` removes these and nothing else. An int is
stored as its digits, anything else pickled.
"""

import pickle
from collections.abc import Iterable
from itertools import islice
from math import ceil
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from flo.calls import kv_delete
from flo.client import Client
from flo.contrib.clients import shared_client
from flo.errors import Conflict, NotFound, Refusal

PREFIX = "django.cache."
MGET_MAX = 256  # of kv_mget
BATCH_MAX = 1000  # keys written in one request
PICKLE = b"\x80"  # what every pickle of protocol 2 and up begins with, and no number


class FloCache(BaseCache):
    """A cache in a Flo server. It survives a restart of the server; entries go only when their time is over."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._server = server
        self._options = params.get("OPTIONS", {})

    @property
    def client(self) -> Client:
        """This process's client."""
        return shared_client(self._server, **self._options)

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Set a key that does not exist; whether it was set."""
        name, ttl = self._name(key, version), self._ttl(timeout)
        if ttl == 0:
            return not self.client.kv.exists(name)
        try:
            self.client.kv.put(name, _dump(value), ttl=ttl, if_absent=True)
        except Conflict:
            return False
        return True

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """The value of a key."""
        entry = self.client.kv.get(self._name(key, version))
        return default if entry is None else _load(entry.value)

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Set a key."""
        name, ttl = self._name(key, version), self._ttl(timeout)
        if ttl == 0:
            self.client.kv.delete(name)
        else:
            self.client.kv.put(name, _dump(value), ttl=ttl)

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Give a key another timeout; whether it exists."""
        name, ttl = self._name(key, version), self._ttl(timeout)
        if ttl == 0:
            return self.client.kv.delete(name) is not None
        try:
            self.client.kv.touch(name, ttl or 0)
        except NotFound:
            return False
        return True

    def delete(self, key: str, version: int | None = None) -> bool:
        """Delete a key; whether it existed."""
        return self.client.kv.delete(self._name(key, version)) is not None

    def has_key(self, key: str, version: int | None = None) -> bool:
        """Whether a key exists."""
        return self.client.kv.exists(self._name(key, version))

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Add to a number; no addition of another client is lost, and the timeout stays. Raises `ValueError` if there is no such key:
        for that it compares versions, as an increment of the server's own would make the key."""
        name = self._name(key, version)
        while entry := self.client.kv.get(name):
            value: int = _load(entry.value) + delta
            try:
                self.client.kv.cas(name, _dump(value), entry.version, keep_ttl=True)
            except Conflict:
                continue
            return value
        raise ValueError(f"Key {key!r} not found.")

    def get_many(self, keys: Iterable[str], version: int | None = None) -> dict[str, Any]:
        """The values of those keys that exist."""
        names = {self._name(key, version): key for key in keys}
        rest, found = iter(names), {}
        while some := list(islice(rest, MGET_MAX)):
            for name, entry in zip(some, self.client.kv.mget(some), strict=True):
                if entry is not None:
                    found[names[name]] = _load(entry.value)
        return found

    def set_many(self, data: dict[str, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> list[str]:
        """Set keys; up to BATCH_MAX of them all or none. Returns no keys: what fails raises."""
        ttl = self._ttl(timeout)
        if ttl == 0:
            self.delete_many(data, version)
            return []
        items = iter([(self._name(key, version), _dump(value), ttl or 0) for key, value in data.items()])
        while some := list(islice(items, BATCH_MAX)):
            self.client.kv.batch_put(some)
        return []

    def delete_many(self, keys: Iterable[str], version: int | None = None) -> None:
        """Delete keys."""
        self._delete(self._name(key, version) for key in keys)

    def clear(self) -> None:
        """Delete every entry of a cache in this namespace of the server."""
        self._delete(key for key, _ in self.client.kv.scan(PREFIX, keys_only=True))

    def _delete(self, names: Iterable[str | bytes]) -> None:
        rest = iter(names)
        while some := list(islice(rest, BATCH_MAX)):
            for result in self.client.run_many([kv_delete(name) for name in some]):
                if isinstance(result, Refusal) and not isinstance(result, NotFound):
                    raise result

    def _name(self, key: str, version: int | None) -> str:
        return PREFIX + str(self.make_and_validate_key(key, version=version))

    def _ttl(self, timeout: Any) -> int | None:
        """Seconds, rounded up; None for no end, 0 if its time is already over."""
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return None if timeout is None else max(0, ceil(timeout))


def _dump(value: Any) -> bytes:
    return str(value).encode() if type(value) is int else pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def _load(value: bytes) -> Any:
    return pickle.loads(value) if value.startswith(PICKLE) else int(value)
