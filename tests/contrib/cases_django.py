"""Django on Flo: the cache and the sessions, also while threads race and after a kill of the server. Runs in the frameworks' environment:
tests/contrib/test_frameworks.py. Django's own tests of caches and sessions are not installed with it."""

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings

if not settings.configured:
    settings.configure(SECRET_KEY="only for tests", SESSION_ENGINE="flo.contrib.django_sessions")
    django.setup()

from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from flo import Client
from flo.client import Disconnected
from flo.contrib.django import FloCache
from flo.contrib.django_sessions import SessionStore
from tests.support.processes import FloProcess, steady_port, wait_until

THREADS = 8


@pytest.fixture
def url(shared_flo: FloProcess) -> str:
    return f"flo://127.0.0.1:{shared_flo.port}"


@pytest.fixture
def cache(url: str) -> Iterator[FloCache]:
    cache = FloCache(url, {})
    yield cache
    cache.clear()


@pytest.fixture
def sessions(url: str) -> Iterator[Callable[..., Any]]:
    """Sessions, in the default cache's server."""
    with override_settings(CACHES={"default": {"BACKEND": "flo.contrib.django.FloCache", "LOCATION": url}}):
        yield SessionStore


def test_values_come_back_as_they_were(cache: FloCache) -> None:
    for value in (0, -7, 1 << 70, True, None, "text", "12", b"\x80", b"12", 1.5, [1, {"a": (2, 3)}], {4, 5}):
        cache.set("key", value)
        found = cache.get("key", "missing")
        assert found == value and type(found) is type(value)
    assert cache.get("none", "missing") == "missing" and "key" in cache and "none" not in cache


def test_timeouts(cache: FloCache, url: str) -> None:
    with Client(url) as client:

        def seconds(key: str) -> float:
            info = client.kv.info(f"django.cache.:1:{key}")
            return (info["deadline"] - client.kv.history(f"django.cache.:1:{key}", 1)[0].time) / 1000 if info["deadline"] else 0.0

        cache.set("default", 1)
        cache.set("never", 1, None)
        cache.set("half", 1, 0.5)
        cache.add("added", 1, 60)
        cache.set_many({"a": 1, "b": 2}, 40)
        assert [round(seconds(key)) for key in ("default", "never", "half", "added", "a", "b")] == [300, 0, 1, 60, 40, 40]
        assert cache.touch("default", 20) and round(seconds("default")) == 20
        assert cache.touch("default", None) and seconds("default") == 0
        assert not cache.touch("missing", 10)
        cache.incr("added")
        assert round(seconds("added")) == 60
    for timeout in (0, -1):
        cache.set("gone", 1, timeout)
        cache.set_many({"gone": 1}, timeout)
        assert cache.add("gone", 1, timeout) and "gone" not in cache
        cache.set("gone", 1)
        assert cache.touch("gone", timeout) and "gone" not in cache
        assert not cache.touch("gone", timeout) and not cache.add("default", 1, timeout)


def test_many_at_once(cache: FloCache) -> None:
    data = {f"key-{number}": number for number in range(2500)}  # more than one request of each kind
    assert cache.set_many(data) == []
    assert cache.get_many([*data, "missing"]) == data
    cache.delete_many([f"key-{number}" for number in range(2400)])
    assert len(cache.get_many(data)) == 100
    cache.clear()
    assert cache.get_many(data) == {}


def test_versions_and_prefixes(cache: FloCache, url: str) -> None:
    other = FloCache(url, {"KEY_PREFIX": "other", "VERSION": 2})
    cache.set("key", "one")
    other.set("key", "two")
    assert (cache.get("key"), other.get("key"), cache.get("key", version=2)) == ("one", "two", None)
    assert cache.incr_version("key") == 2 and cache.get("key", version=2) == "one" and "key" not in cache
    assert other.decr_version("key") == 1 and other.get("key", version=1) == "two"


def test_counting_loses_nothing_and_makes_no_key(cache: FloCache) -> None:
    cache.set("count", 0, 60)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: cache.incr("count"), range(200)))
    assert cache.get("count") == 200 and cache.decr("count", 201) == -1
    cache.set("count", 1 << 63)  # more than the server counts itself
    assert cache.incr("count") == (1 << 63) + 1
    with pytest.raises(ValueError, match="missing"):
        cache.incr("missing")
    assert "missing" not in cache
    cache.set("text", "one")
    with pytest.raises(TypeError):
        cache.incr("text")


def test_of_those_that_add_at_once_one_succeeds(cache: FloCache) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for number in range(20):
            added = list(pool.map(lambda thread: cache.add(f"lock-{number}", thread), range(THREADS)))  # noqa: B023
            assert added.count(True) == 1 and cache.get(f"lock-{number}") == added.index(True)


def test_the_async_twins(cache: FloCache) -> None:
    async def use() -> list[Any]:
        await cache.aset("key", 1)
        return [
            await cache.aincr("key"), await cache.aadd("key", 5), await cache.aget_many(["key"]), await cache.aget_or_set("new", "made"),
            await cache.adelete("key"), await cache.ahas_key("key"),
        ]  # fmt: skip

    assert asyncio.run(use()) == [2, False, {"key": 2}, "made", True, False]


def test_all_threads_of_a_process_share_a_client_and_a_child_has_its_own(cache: FloCache, url: str) -> None:
    assert FloCache(url, {}).client is cache.client
    assert FloCache(url, {"OPTIONS": {"timeout": 5.0}}).client.timeout == 5
    cache.set("key", "parent")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, cache.get("key").encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"parent"
    os.waitpid(child, 0)


def test_sessions(sessions: Callable[..., Any], cache: FloCache) -> None:
    session = sessions()
    session["user"] = 7
    session.save()
    again = sessions(session.session_key)
    assert again["user"] == 7 and sessions().exists(session.session_key)
    cache.clear()
    assert sessions(session.session_key)["user"] == 7
    key = session.session_key
    session.cycle_key()
    assert session.session_key != key and not sessions().exists(key)
    assert sessions(session.session_key)["user"] == 7
    lost = sessions("1" * 32)
    assert lost.load() == {} and lost.session_key is None
    with pytest.raises(CreateError):
        session.save(must_create=True)


def test_a_logout_stays_a_logout(sessions: Callable[..., Any]) -> None:
    """A request that began before it does not bring the session back."""
    session = sessions()
    session["user"] = 7
    session.save()
    request = sessions(session.session_key)
    request["seen"] = True
    sessions(session.session_key).flush()
    with pytest.raises(UpdateError):
        request.save()
    assert not sessions().exists(session.session_key)


def test_a_session_expires(sessions: Callable[..., Any], url: str) -> None:
    session = sessions()
    session["user"] = 7
    session.set_expiry(600)
    session.save()
    with Client(url) as client:
        info = client.kv.info(f"django.session.{session.session_key}")
        written = client.kv.history(f"django.session.{session.session_key}", 1)[0].time
        assert round((info["deadline"] - written) / 1000) == 600
    session.set_expiry(-1)
    session.save()
    assert not sessions().exists(session.session_key)


def test_sessions_need_a_cache_of_flo() -> None:
    memory = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    with override_settings(CACHES=memory), pytest.raises(ImproperlyConfigured, match=r"'default' is a LocMemCache; .* needs a FloCache"):
        SessionStore("1" * 32).load()


def test_a_kill_of_the_server_loses_nothing(tmp_path: Path) -> None:
    port = steady_port()
    url = f"flo://127.0.0.1:{port}"
    with (
        FloProcess(tmp_path / "data", "--port", str(port)) as server,
        override_settings(CACHES={"default": {"BACKEND": "flo.contrib.django.FloCache", "LOCATION": url}}),
    ):
        cache, saved = FloCache(url, {}), {}
        for number in range(60):
            if number % 20 == 10:
                server.kill()
                with pytest.raises(Disconnected):
                    cache.set("away", 1)
                server.start()
                wait_until(lambda: _answers(cache), "a connection")
            session = SessionStore()
            session["number"] = number
            session.save()
            cache.set(f"key-{number}", number)
            saved[session.session_key] = number
        assert cache.get_many([f"key-{number}" for number in range(60)]) == {f"key-{number}": number for number in range(60)}
        assert {key: SessionStore(key)["number"] for key in saved} == saved


def _answers(cache: FloCache) -> bool:
    try:
        return not cache.has_key("nothing")
    except Disconnected:
        return False
