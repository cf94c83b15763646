"""The engine against a plain Python model, step by step, with restarts, a clock the test moves, and the log's law.

After every restart the state rebuilt from the log must equal the state before; and a replay of only what the liveness rule calls live
must give the same keys (liveness: dropping what is dead changes nothing).
"""

from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from flo.engine import Engine, EngineSettings
from flo.engine.namespace import Namespace
from flo.errors import BadRequest, Conflict, NotFound, OutOfRange, WrongKind
from flo.store.kv import COUNTER, JSON, STRING
from tests.support.restarts import HOUR, START, RestartModel

pytestmark = [pytest.mark.computes, pytest.mark.slow]

KEYS = st.sampled_from([b"a", b"b", b"ab", b"abc", b"b\xff", b"", b"c" * 40])
VALUES = st.sampled_from([b"", b"x", b"5", b"-7", b"9223372036854775807", b"\r\n", b"y" * 3000, b"05", b"\x00\xff"])
AGE = 24 * HOUR  # for which history is kept


class Item:
    """What the model knows of a key."""

    def __init__(self, value: bytes, kind: int, version: int, deadline: int = 0) -> None:
        self.value, self.kind, self.version, self.deadline = value, kind, version, deadline


def snapshot(engine: Engine) -> dict[str, dict[bytes, Any]]:
    """Every key's state as the stores hold it, expired or not."""
    return {
        name: {key: namespace.kv.store.find(key) for shard in namespace.kv.store.shards for key in shard}
        for name, namespace in engine.namespaces.items()
    }


class EngineModel(RestartModel):
    """Random operations on two namespaces."""

    PASSES: ClassVar = [0, 1, 500, 1500, 6000]
    SLIPS: ClassVar = [-3000, -10_000]
    BLIND: ClassVar = [False, True]
    SETTINGS: ClassVar = EngineSettings(segment_bytes=1 << 16, history_depth=5)
    HISTORY: ClassVar = (5, AGE)

    @initialize()
    def open(self) -> None:
        self.old = False  # the clock was so far ahead that history may have gone
        self.model: dict[str, dict[bytes, Item]] = {"default": {}, "other": {}}
        self.versions: dict[str, dict[bytes, list[tuple[int, bytes | None]]]] = {"default": {}, "other": {}}
        self.begin()
        self.engine.create_namespace("other")

    # -- the model ---------------------------------------------------------------------------------

    def _ns(self, name: str) -> Namespace:
        return self.engine.namespace(name)

    def _item(self, name: str, key: bytes) -> Item | None:
        """What a look at the key shows. One that has expired is gone for good then."""
        item = self.model[name].get(key)
        if item is not None and 0 < item.deadline <= self.wall:
            self._gone(name, key, 0)
            return None
        return item

    def _sweep(self) -> None:
        """What the engine's sweep does: it goes by whole seconds."""
        for name, keys in self.model.items():
            for key, item in tuple(keys.items()):
                if item.deadline and (item.deadline // 1000 + 1) * 1000 <= self.wall:
                    self._gone(name, key, 0)

    def _wrote(self, name: str, key: bytes, item: Item) -> None:
        self._item(name, key)
        self.model[name][key] = item
        self.versions[name].setdefault(key, []).append((item.version, item.value))

    def _gone(self, name: str, key: bytes, version: int) -> None:
        del self.model[name][key]
        self.versions[name].setdefault(key, []).append((version, None))

    # -- operations --------------------------------------------------------------------------------

    @rule(name=st.sampled_from(["default", "other"]), key=KEYS, value=VALUES, ttl=st.sampled_from([0, 0, 1, 5000]), keep=st.booleans())
    def put(self, name: str, key: bytes, value: bytes, ttl: int, keep: bool) -> None:
        old = self._item(name, key)
        deadline = self.wall + ttl if ttl else 0
        version = self._ns(name).kv.put(key, value, deadline=deadline, keep_deadline=keep)
        if keep and old:
            deadline = old.deadline
        self._wrote(name, key, Item(value, STRING, version, deadline))

    @rule(key=KEYS, value=VALUES, offset=st.integers(-1, 1), absent=st.booleans())
    def put_if(self, key: bytes, value: bytes, offset: int, absent: bool) -> None:
        old = self._item("default", key)
        version = max((old.version if old else 0) + offset, 0)
        offset = version - (old.version if old else 0)
        kv = self._ns("default").kv
        if offset == 0 and not (absent and old):
            self._wrote("default", key, Item(value, STRING, kv.put(key, value, cas=version, if_absent=absent)))
        else:
            with pytest.raises(Conflict):
                kv.put(key, value, cas=version, if_absent=absent)

    @rule(name=st.sampled_from(["default", "other"]), key=KEYS)
    def delete(self, name: str, key: bytes) -> None:
        if self._item(name, key) is None:
            with pytest.raises(NotFound):
                self._ns(name).kv.delete(key)
        else:
            self._gone(name, key, self._ns(name).kv.delete(key))

    @rule(key=KEYS, delta=st.sampled_from([1, -1, 10, 2**62]))
    def incr(self, key: bytes, delta: int) -> None:
        kv, old = self._ns("default").kv, self._item("default", key)
        number: int | None = 0
        if old is not None:
            canonical = old.value in (b"5", b"-7", b"9223372036854775807") or old.kind == COUNTER
            number = int(old.value) if canonical else None
        if number is None:
            with pytest.raises(WrongKind):
                kv.incr(key, delta)
        elif not -(2**63) <= number + delta < 2**63:
            with pytest.raises(OutOfRange):
                kv.incr(key, delta)
        else:
            value, version = kv.incr(key, delta)
            assert value == number + delta
            self._wrote("default", key, Item(b"%d" % value, COUNTER, version, old.deadline if old else 0))

    @rule(key=KEYS, ttl=st.sampled_from([0, 1, 700, 5000, -10]))
    def touch(self, key: bytes, ttl: int) -> None:
        old = self._item("default", key)
        deadline = self.wall + ttl if ttl else 0
        if old is None:
            with pytest.raises(NotFound):
                self._ns("default").kv.touch(key, deadline)
            return
        version = self._ns("default").kv.touch(key, deadline)
        if ttl < 0:
            self._gone("default", key, version)
        else:
            self._wrote("default", key, Item(old.value, old.kind, version, deadline))

    @rule(key=KEYS, field=st.sampled_from([b"$", b"$.n", b"$.l[0]"]), text=st.sampled_from([b'{"n":1,"l":[1,2]}', b"3", b'"s"']))
    def json_set(self, key: bytes, field: bytes, text: bytes) -> None:
        kv, old = self._ns("default").kv, self._item("default", key)
        try:
            version = kv.json_set(key, text, field)
        except WrongKind:
            assert old is not None and old.kind != JSON
        except NotFound:
            assert field != b"$"
        else:
            found = kv.get(key)
            assert found is not None and found.version == version and found.kind == JSON
            assert found.value == text if field == b"$" else found.value is not None
            self._wrote("default", key, Item(found.value, JSON, version, old.deadline if old else 0))

    @rule(source=KEYS, onto=KEYS, replace=st.booleans())
    def rename(self, source: bytes, onto: bytes, replace: bool) -> None:
        kv, old = self._ns("default").kv, self._item("default", source)
        if old is None:
            with pytest.raises(NotFound):
                kv.copy(source, onto, replace=replace, move=True)
            return
        taken = self._item("default", onto) is not None
        done = kv.copy(source, onto, replace=replace, move=True)
        if source == onto:
            return
        assert done == (replace or not taken)
        if done:
            moved, dead = kv.get(onto), kv.history(source, 1)
            assert moved is not None
            self._wrote("default", onto, Item(old.value, old.kind, moved.version, old.deadline))
            self._gone("default", source, dead[0].version)

    @rule(items=st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=4))
    def put_many(self, items: list[tuple[bytes, bytes]]) -> None:
        versions = self._ns("other").kv.put_many([(key, value, 0) for key, value in items])
        for (key, value), version in zip(items, versions, strict=True):
            self._wrote("other", key, Item(value, STRING, version))

    @rule(name=st.sampled_from(["default", "other"]))
    def flush(self, name: str) -> None:
        self.engine.flush([self._ns(name)])
        self.model[name].clear()
        self.versions[name].clear()

    def look(self, ms: int, data: st.DataObject) -> None:
        """What is shown as gone then stays gone; what is not has its time again."""
        name, seen = data.draw(st.sampled_from(["default", "other"])), data.draw(st.lists(KEYS, max_size=2))
        look = data.draw(st.sampled_from(["get", "exists", "mget", "delete", "scan"]))
        kv = self._ns(name).kv
        for key in seen:
            item = self._item(name, key)
            if look == "get":
                assert (kv.get(key) is None) == (item is None)
            elif look == "exists":
                assert kv.exists(key) == (item is not None)
            elif look == "mget":
                assert (kv.mget([key])[0] is None) == (item is None)
            elif look == "delete":
                assert kv.delete_many([key]) == (item is not None)
                if item is not None:
                    self._gone(name, key, 0)
            else:
                for other in tuple(self.model[name]):
                    if other.startswith(key):
                        self._item(name, other)
                assert kv.scan(key)[0] == sorted(other for other in self.model[name] if other.startswith(key))
        self.old |= ms >= AGE

    @rule()
    def sweep(self) -> None:
        self.engine.tick()
        self._sweep()
        self.engine.sweep()
        self.engine.commit()

    @rule()
    def fold(self) -> None:
        self.engine.tick()
        self._sweep()
        while self.engine.upkeep(idle=True):
            pass
        self.engine.commit()

    # -- time and restarts -------------------------------------------------------------------------

    def snapshot(self, engine: Engine) -> Any:
        return snapshot(engine)

    def clock_was_stepped(self) -> None:
        self.old |= abs(self.wall - self.true) >= AGE

    def last_snapshot(self) -> Any:
        self.check_liveness()
        return super().last_snapshot()

    # -- what must always hold ---------------------------------------------------------------------

    @rule(key=KEYS)
    def history(self, key: bytes) -> None:
        expected = self.versions["default"].get(key, [])
        shown = [(item.tombstone, item.value) for item in self._ns("default").kv.history(key, 3)]
        model = [(value is None, value or b"") for _, value in expected[::-1]][:3]
        if self.old:
            assert shown == model[: len(shown)] and (shown or key not in self.model["default"])
        else:
            assert shown == model

    def agree(self) -> None:
        for name, keys in self.model.items():
            kv = self._ns(name).kv
            live = {key: item for key in tuple(keys) if (item := self._item(name, key))}
            for key in (b"a", b"b", b"ab", b"abc", b"b\xff", b"", b"c" * 40):
                found, item = kv.get(key), live.get(key)
                assert (found is None) == (item is None), (key, found)
                assert kv.exists(key) == (item is not None)
                if found and item:
                    assert (found.value, found.version, found.kind, found.deadline) == (
                        item.value,
                        item.version,
                        item.kind,
                        item.deadline,
                    )
            assert kv.scan()[0] == sorted(live)
            assert kv.scan(b"a", limit=2)[0] == sorted(key for key in live if key.startswith(b"a"))[:2]
            assert (kv.random_key() in live) if live else kv.random_key() is None
        with pytest.raises(BadRequest):
            self.engine.namespace("nowhere")


TestEngineModel = EngineModel.TestCase
TestEngineModel.settings = settings(max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.long
class TestEngineModelLong(EngineModel.TestCase):  # type: ignore[misc, valid-type]
    """The same, for longer."""

    settings = settings(max_examples=1500, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck))


BEFORE = st.tuples(st.sampled_from(["put", "soon", "late", "incr", "json", "delete", "touch", "pass"]), KEYS)
ITEMS = st.lists(st.tuples(KEYS, VALUES, st.sampled_from([0, 0, 0, START + 5, START + 99_000])), max_size=12)
