"""Django's sessions in Flo.

    SESSION_ENGINE = "flo.contrib.django_sessions"

They are in the server of the cache that SESSION_CACHE_ALIAS names, which must be a flo.contrib.django.FloCache, below keys of their own:
the cache's `clear` ends no session. A session is on disk when `save` returns, and goes when its time is over.
"""

from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured

from flo.client import Client
from flo.contrib.django import FloCache
from flo.errors import Conflict

PREFIX = "django.session."


class SessionStore(SessionBase):
    """The session with a key."""

    @property
    def client(self) -> Client:
        """The client of the cache that SESSION_CACHE_ALIAS names."""
        cache = caches[settings.SESSION_CACHE_ALIAS]
        if not isinstance(cache, FloCache):
            raise ImproperlyConfigured(
                f"the cache {settings.SESSION_CACHE_ALIAS!r} is a {type(cache).__name__}; flo.contrib.django_sessions needs a FloCache: "
                "let SESSION_CACHE_ALIAS name one"
            )
        return cache.client

    def load(self) -> dict[str, Any]:
        """The session's data; a session that does not exist is an empty one with a new key."""
        entry = self.client.kv.get(PREFIX + self.session_key) if self.session_key else None
        if entry is None:
            self._session_key = None
            return {}
        data: dict[str, Any] = self.decode(entry.value.decode())
        return data

    def exists(self, session_key: str | None) -> bool:
        """Whether a session exists."""
        return bool(session_key) and self.client.kv.exists(f"{PREFIX}{session_key}")

    def create(self) -> None:
        """Make a new session."""
        while True:
            self._session_key = self._get_new_session_key()
            try:
                self.save(must_create=True)
            except CreateError:
                continue  # another process has just taken the key
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        """Write the session. Raises `CreateError` if it exists and `must_create`, else `UpdateError` if it does not exist: so a request
        that was under way at a logout does not bring the session back."""
        if self.session_key is None:
            self.create()
            return
        text = self.encode(self._get_session(no_load=must_create))
        ttl = self.get_expiry_age()
        if ttl <= 0:
            self.delete()
            return
        try:
            self.client.kv.put(PREFIX + self.session_key, text, ttl=ttl, if_absent=must_create, if_present=not must_create)
        except Conflict:
            raise (CreateError if must_create else UpdateError) from None

    def delete(self, session_key: str | None = None) -> None:
        """Delete a session, by default this one."""
        name = session_key or self.session_key
        if name:
            self.client.kv.delete(PREFIX + name)

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing is left to do: the server drops sessions when their time is over."""
