"""Streams and their groups against a plain model, with restarts, crashes and moved clocks: ids only grow, nothing is lost, nothing
is with two consumers, deliveries are exact; and what the liveness rule keeps is enough to rebuild them."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from flo.engine import Engine, EngineSettings
from flo.engine import group as engine_group
from flo.engine.group import AT_ONCE
from flo.engine.stream import Bounds, StreamRecord
from flo.errors import BadRequest, GroupExists, NoGroup, NotFound
from flo.store import stream as store_stream
from flo.store.stream import ID_MAX, SEQ_BITS, Stream
from tests.support.restarts import START, RestartModel
from tests.support.totals import check_totals

pytestmark = pytest.mark.computes

NAMES = st.sampled_from([b"s", b"s", b"t", b""])
GROUPS = st.sampled_from([b"g", b"g", b"h"])
CONSUMERS = st.sampled_from([b"a", b"b", b""])


@dataclass
class Given:
    """A delivery, as it should be."""

    consumer: bytes
    time: int
    deliveries: int
    deadline: int
    lapsed: bool = False  # it ran out, which only memory knows


@dataclass
class Group:
    """A group, as it should be."""

    last: int
    own: bool
    timeout: int
    most: int
    pending: dict[int, Given] = field(default_factory=dict)
    dead: dict[int, tuple[bytes, int, int]] = field(default_factory=dict)
    consumers: set[bytes] = field(default_factory=set)


@dataclass
class Model:
    """A stream, as it should be."""

    records: dict[int, bytes] = field(default_factory=dict)
    last: int = 0
    added: int = 0
    max_len: int = 0
    max_bytes: int = 0
    deadline: int = 0
    groups: dict[bytes, Group] = field(default_factory=dict)


def snapshot(engine: Engine) -> Any:
    """Everything that must be the same after a rebuild, once time has done what it has to."""
    while engine.sweep():
        pass

    def stream(s: Stream) -> Any:
        groups = {
            name: (
                (g.last, g.read, g.own, g.ack_timeout, g.max_deliver, g.evicted, g.bytes),
                (dict(g.pending), list(g.order.start(0)), list(g.lapsed.start(0)), list(g.dead.items())),
                {c.name: list(c.order.start(0)) for c in g.consumers.values()},
            )
            for name, g in s.groups.items()
            if g.declared
        }
        assert all(g.declared for g in s.groups.values()), "nothing is left of a group that is gone"
        counts = (s.last, s.added, s.max_deleted, s.max_len, s.max_age, s.max_bytes, s.declared, s.count, s.bytes)
        sizes = [size for chunk in s.chunks for size in chunk.sizes]
        deadline = engine.streams.lifetimes.by_name.get(s.name)
        return counts, deadline, s.ascending(0, ID_MAX, 10**6), s.descending(0, ID_MAX, 10**6), sizes, groups

    store = engine.streams.store
    return store.item_bytes, {name: stream(s) for name, s in store.streams.items()}


class StreamModel(RestartModel):
    """Every operation, on the engine and on the model."""

    PASSES: ClassVar = [1, 400, 600, 31_000]

    @initialize(chunk=st.sampled_from([2, 3, 512]), given=st.sampled_from([0, 1, 3]))
    def open(self, chunk: int, given: int) -> None:
        self.sizes = store_stream.CHUNK_RECORDS, store_stream.MERGE_RECORDS
        store_stream.CHUNK_RECORDS = chunk
        store_stream.MERGE_RECORDS = min(chunk, store_stream.MERGE_RECORDS)  # else chunks grow over their size by merging
        self.streams: dict[bytes, Model] = {}
        self.ever: list[int] = [1 << SEQ_BITS]  # ids that were given, to choose from
        self.begin()
        if given:  # chance alone takes long to make a stream, a group of it, and a delivery
            for _ in range(4):
                self.append(b"s", None, None, True, None, False)
            self.group_create(b"s", b"g", True, False, 500, 2, False)
            self.group_read(b"s", b"g", b"a", given, False, False)

    def open_engine(self) -> Engine:
        engine = super().open_engine()
        self.stamp = max(engine.log.time, self.wall)
        return engine

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "sizes"):
            store_stream.CHUNK_RECORDS, store_stream.MERGE_RECORDS = self.sizes

    def _now(self) -> int:
        """The time now, and what it has done, to both."""
        with self.engine.batch():
            while self.engine.sweep():
                pass
        self.stamp = max(self.stamp, self.wall)
        for name in [name for name, model in self.streams.items() if 0 < model.deadline <= self.wall]:
            assert not self.engine.streams.exists(name)
            del self.streams[name]
        for model in self.streams.values():
            for group in model.groups.values():
                for ident, given in list(group.pending.items()):
                    if given.lapsed or not 0 < given.deadline <= self.wall:
                        continue
                    given.lapsed = True
                    if group.most and given.deliveries >= group.most:
                        group.dead[ident] = (given.consumer, given.deliveries, self.wall)
                        del group.pending[ident]
        return self.wall

    def _group(self, name: bytes, group: bytes) -> tuple[Model, Group] | None:
        model = self.streams.get(name)
        found = model.groups.get(group) if model else None
        return (model, found) if model and found else None

    # -- records -----------------------------------------------------------------------------------

    @rule(
        name=NAMES,
        ms=st.sampled_from([None, None, None, 0, 5, START + 100_000]),
        seq=st.sampled_from([None, 0, 7]),
        create=st.sampled_from([True, True, False]),
        keep=st.sampled_from([None, None, None, 0, 1, 3]),
        approximate=st.booleans(),
    )
    def append(self, name: bytes, ms: int | None, seq: int | None, create: bool, keep: int | None, approximate: bool) -> None:
        self._now()
        model = self.streams.get(name)
        last = model.last if model else 0
        payload = b"%d" % len(self.ever) * (1 + len(self.ever) % 3)
        bounds = None if keep is None else Bounds(max_len=keep, approximate=approximate)
        if ms is None:
            expected = max(self.stamp << SEQ_BITS, last + 1)
        elif seq is None:
            expected = max(ms << SEQ_BITS, 1) if ms << SEQ_BITS > last or last == 0 == ms else last + 1
            if expected >> SEQ_BITS != ms:
                expected = 0
        else:
            expected = ms << SEQ_BITS | seq
        wrong = (ms == 0 == seq) or (expected <= last and (model is not None or create))
        try:
            ident = self.engine.streams.append(name, payload, ms=ms, seq=seq, create=create, bounds=bounds)
        except BadRequest:
            assert wrong
            return
        assert not wrong
        if model is None and not create:
            assert ident is None
            return
        assert ident == expected > last
        model = self.streams.setdefault(name, Model())
        model.records[ident] = payload
        model.last, model.added = ident, model.added + 1
        self.ever.append(ident)
        self._keep(model)  # its own bounds, which are exact, hold whatever is asked
        if keep is not None and not approximate:
            self._cut(model, max(len(model.records) - keep, 0))
        elif keep is not None:
            there = {ident for ident, _ in self.engine.streams.store.streams[name].ascending(0, ID_MAX, 10**6)}
            gone = len(model.records) - len(there)
            assert gone <= max(len(model.records) - keep, 0) and len(there) <= keep + store_stream.CHUNK_RECORDS - 1
            self._cut(model, gone)

    @staticmethod
    def _cut(model: Model, count: int) -> None:
        for ident in sorted(model.records)[:count]:
            del model.records[ident]

    def _keep(self, model: Model) -> None:
        if model.max_len:
            self._cut(model, max(len(model.records) - model.max_len, 0))
        if model.max_bytes:
            while sum(map(len, model.records.values())) > model.max_bytes:
                self._cut(model, 1)

    @rule(name=NAMES, keep=st.one_of(st.none(), st.integers(0, 4)), size=st.sampled_from([None, None, 0, 3, 6]), data=st.data())
    def trim(self, name: bytes, keep: int | None, size: int | None, data: st.DataObject) -> None:
        self._now()
        least = data.draw(st.sampled_from([None, None, *self.ever]))
        model = self.streams.get(name) or Model()
        left = dict(sorted(model.records.items()))
        while left and (
            (keep is not None and len(left) > keep)
            or (size is not None and sum(map(len, left.values())) > size)
            or (least is not None and next(iter(left)) < least)
        ):
            del left[next(iter(left))]
        bounds = Bounds(max_len=keep, max_bytes=size, min_id=least)
        count = len(model.records) - len(left)
        assert self.engine.streams.trim(name, bounds, dry_run=True) == count
        assert self.engine.streams.trim(name, bounds) == count
        model.records = left

    @rule(name=NAMES, data=st.data())
    def delete_records(self, name: bytes, data: st.DataObject) -> None:
        self._now()
        ids = data.draw(st.lists(st.sampled_from(self.ever), min_size=1, max_size=3))
        model = self.streams.get(name) or Model()
        there = {ident for ident in ids if ident in model.records}
        assert self.engine.streams.delete_records(name, ids) == len(there)
        for ident in there:
            del model.records[ident]

    @rule(name=NAMES, max_len=st.sampled_from([0, 2]), max_bytes=st.sampled_from([0, 5]))
    def create(self, name: bytes, max_len: int, max_bytes: int) -> None:
        self._now()
        if name not in self.streams:
            self.engine.streams.create(name, max_len=max_len, max_bytes=max_bytes)
            self.streams[name] = Model(max_len=max_len, max_bytes=max_bytes)

    @rule(name=NAMES)
    def delete(self, name: bytes) -> None:
        self._now()
        assert self.engine.streams.delete(name) == (self.streams.pop(name, None) is not None)

    @rule(name=NAMES, ms=st.sampled_from([-5, 1, 500, 40_000, None]))
    def expire(self, name: bytes, ms: int | None) -> None:
        now, streams, model = self._now(), self.engine.streams, self.streams.get(name)
        if ms is None:
            assert streams.persist(name) == bool(model and model.deadline)
        else:
            assert streams.expire_at(name, now + ms) == (model is not None)
        if model is not None:
            model.deadline = 0 if ms is None else now + ms
            if ms is not None and ms < 0:
                del self.streams[name]

    @rule(name=NAMES, data=st.data(), limit=st.integers(1, 5), reverse=st.booleans())
    def read(self, name: bytes, data: st.DataObject, limit: int, reverse: bool) -> None:
        self._now()
        start, end = (data.draw(st.sampled_from([0, ID_MAX, *self.ever])) for _ in range(2))
        model = self.streams.get(name) or Model()
        expected = sorted((i for i in model.records if start <= i <= end), reverse=reverse)[:limit]
        found = self.engine.streams.read(name, start, end, limit, reverse=reverse)
        assert found == [StreamRecord(ident, 0, model.records[ident]) for ident in expected]

    # -- groups ------------------------------------------------------------------------------------

    @rule(
        name=NAMES,
        group=GROUPS,
        own=st.booleans(),
        tail=st.booleans(),
        timeout=st.sampled_from([0, 500, 30_000]),
        most=st.sampled_from([0, 1, 2]),
        make=st.booleans(),
    )
    def group_create(self, name: bytes, group: bytes, own: bool, tail: bool, timeout: int, most: int, make: bool) -> None:
        self._now()
        model = self.streams.get(name)
        start = None if tail else 0
        try:
            self.engine.streams.groups.create(name, group, start, make_stream=make, own=own, ack_timeout=timeout, max_deliver=most)
        except GroupExists:
            assert model is not None and group in model.groups
            return
        except NotFound:
            assert model is None and not make
            return
        assert (model is not None or make) and group not in (model or Model()).groups
        model = self.streams.setdefault(name, Model())
        model.groups[group] = Group(model.last if tail else 0, own, timeout if own else 0, most if own else 0)

    @rule(name=NAMES, group=GROUPS, destroy=st.booleans(), data=st.data())
    def group_change(self, name: bytes, group: bytes, destroy: bool, data: st.DataObject) -> None:
        self._now()
        model = self.streams.get(name)
        if model is None:
            return
        groups = self.engine.streams.groups
        if destroy:
            assert groups.destroy(name, group) == (model.groups.pop(group, None) is not None)
        elif group in model.groups:
            last = data.draw(st.sampled_from([0, None, *self.ever]))
            groups.set_cursor(name, group, last)
            model.groups[group].last = model.last if last is None else last

    @rule(name=NAMES, group=GROUPS, consumer=CONSUMERS, make=st.booleans())
    def consumer_change(self, name: bytes, group: bytes, consumer: bytes, make: bool) -> None:
        self._now()
        found = self._group(name, group)
        if found is None:
            return
        if make:
            assert self.engine.streams.groups.create_consumer(name, group, consumer) == (consumer not in found[1].consumers)
            found[1].consumers.add(consumer)
            return
        theirs = [ident for ident, given in found[1].pending.items() if given.consumer == consumer]
        with self.engine.batch():
            assert self.engine.streams.groups.delete_consumer(name, group, consumer) == len(theirs)
        for ident in theirs:
            del found[1].pending[ident]
        found[1].consumers.discard(consumer)

    @rule(name=NAMES, group=GROUPS, consumer=CONSUMERS, count=st.integers(1, 4), acknowledge=st.booleans(), create=st.booleans())
    def group_read(self, name: bytes, group: bytes, consumer: bytes, count: int, acknowledge: bool, create: bool) -> None:
        now = self._now()
        if self._group(name, group) is None and create:
            model = self.streams.setdefault(name, Model())
            model.groups[group] = Group(0, True, 30_000, 10)
        found = self._group(name, group)
        try:
            answer = self.engine.streams.groups.read(name, group, consumer, count, no_ack=acknowledge, create=create)
        except NoGroup:
            assert found is None
            return
        assert found is not None
        model, state = found
        lapsed = sorted(ident for ident, given in state.pending.items() if given.lapsed)
        fresh = sorted(ident for ident in model.records if ident > state.last)
        if lapsed or fresh:
            state.consumers.add(consumer)
        deadline = now + state.timeout if state.timeout else 0
        expected: list[tuple[int, int, bytes]] = []
        while (lapsed or fresh) and not expected:  # what was trimmed away is passed over
            for ident in lapsed[:count]:
                given = state.pending.pop(ident)
                if ident in model.records:
                    expected.append((ident, given.deliveries + 1, model.records[ident]))
                    if not acknowledge:
                        state.pending[ident] = Given(consumer, now, given.deliveries + 1, deadline)
            del lapsed[:count]
            for ident in fresh[: count - len(expected)]:
                expected.append((ident, 1, model.records[ident]))
                state.last = ident
                if not acknowledge:
                    state.pending[ident] = Given(consumer, now, 1, deadline)
                    state.dead.pop(ident, None)
        assert [(one.ident, one.deliveries, one.payload) for one in answer] == expected

    @rule(name=NAMES, group=GROUPS, consumer=CONSUMERS, count=st.integers(1, 4), data=st.data())
    def history(self, name: bytes, group: bytes, consumer: bytes, count: int, data: st.DataObject) -> None:
        now = self._now()
        found = self._group(name, group)
        if found is None:
            return
        model, state = found
        after = data.draw(st.sampled_from([0, *self.ever]))
        answer = self.engine.streams.groups.history(name, group, consumer, after, count)
        state.consumers.add(consumer)
        ids = sorted(ident for ident, given in state.pending.items() if given.consumer == consumer and ident > after)[:count]
        assert [(one.ident, one.payload) for one in answer] == [(ident, model.records.get(ident)) for ident in ids]
        for ident in ids:
            if ident in model.records:
                given = state.pending[ident]
                deadline = now + state.timeout if state.timeout else 0
                state.pending[ident] = Given(consumer, now, given.deliveries + 1, deadline)

    @rule(
        name=NAMES,
        group=GROUPS,
        what=st.sampled_from(["ack", "ack", "nack", "nack", "touch"]),
        after=st.sampled_from([0, 0, 600]),
        by=st.sampled_from([None, None, b"a"]),
        data=st.data(),
    )
    def use(self, name: bytes, group: bytes, what: str, after: int, by: bytes | None, data: st.DataObject) -> None:
        """Acknowledge, give back or extend."""
        now = self._now()
        ids = data.draw(st.lists(st.sampled_from(self.ever), min_size=1, max_size=3))
        groups, found = self.engine.streams.groups, self._group(name, group)
        if found is None:
            assert groups.ack(name, group, ids) == 0
            return
        state = found[1]
        theirs = {i for i in ids if i in state.pending and by in (None, state.pending[i].consumer)}
        letters = {i for i in ids if i in state.dead}
        if what == "ack":
            gone = {i for i in ids if i in state.pending} | letters
            assert groups.ack(name, group, ids) == len(gone)
            for ident in gone:
                state.pending.pop(ident, None)
                state.dead.pop(ident, None)
        elif what == "touch":
            assert groups.touch(name, group, ids, lease=after or None, consumer=by) == len(theirs)
            for ident in theirs:
                given = state.pending[ident]
                given.time, given.deadline = now, now + (after or state.timeout) if after or state.timeout else 0
                given.lapsed = False
        else:
            letters = set() if by is not None else letters
            assert groups.nack(name, group, ids, delay=after, consumer=by) == len(theirs) + len(letters)
            for ident in theirs:
                given = state.pending[ident]
                if state.most and given.deliveries >= state.most:
                    state.dead[ident] = (given.consumer, given.deliveries, now)
                    del state.pending[ident]
                else:
                    given.deadline, given.lapsed = now + after if after else AT_ONCE, False
            for ident in letters:
                state.consumers.add(state.dead[ident][0])
                state.pending[ident] = Given(state.dead.pop(ident)[0], now, 0, now + after if after else AT_ONCE)

    @rule(
        name=NAMES,
        group=GROUPS,
        consumer=CONSUMERS,
        idle=st.sampled_from([0, 0, 400]),
        force=st.booleans(),
        deliveries=st.sampled_from([None, None, 3]),
        data=st.data(),
    )
    def claim(
        self, name: bytes, group: bytes, consumer: bytes, idle: int, force: bool, deliveries: int | None, data: st.DataObject
    ) -> None:
        now = self._now()
        found = self._group(name, group)
        if found is None:
            return
        model, state = found
        ids = data.draw(st.lists(st.sampled_from(self.ever), min_size=1, max_size=3, unique=True))
        claimed, gone = self.engine.streams.groups.claim(name, group, consumer, ids, min_idle=idle, force=force, deliveries=deliveries)
        expected, lost = [], []
        for ident in ids:
            given = state.pending.get(ident)
            if ident not in model.records:
                if given is not None:
                    lost.append(ident)
                    del state.pending[ident]
                continue
            if given is None and (not force or ident in state.dead):
                continue
            if given is not None and max(now - given.time, 0) < idle:
                continue
            times = deliveries if deliveries is not None else (given.deliveries if given else 1) + 1
            state.consumers.add(consumer)
            state.pending[ident] = Given(consumer, now, times, now + state.timeout if state.timeout else 0)
            expected.append((ident, times))
        assert ([(one.ident, one.deliveries) for one in claimed], gone) == (expected, lost)

    # -- time and restarts -------------------------------------------------------------------------

    def snapshot(self, engine: Engine) -> Any:
        return snapshot(engine)

    def look(self, ms: int, data: st.DataObject) -> None:
        self.stamp = max(self.stamp, self.wall)
        if data.draw(st.booleans()):
            self._now()

    def last_snapshot(self) -> Any:
        self._now()
        last = super().last_snapshot()
        self.engine.commit()
        return last

    def forget(self, wall: int) -> bool:
        """What ran out may have time again, and the new time may bring more."""
        again = False
        for given in (given for model in self.streams.values() for group in model.groups.values() for given in group.pending.values()):
            again |= given.lapsed and given.deadline > self.wall
            given.lapsed = False
        return again or self.wall > wall

    # -- what must always hold ---------------------------------------------------------------------

    def agree(self) -> None:
        self._now()
        check_totals(self.engine)
        streams = self.engine.streams
        assert streams.names() == sorted(self.streams)
        for name, model in self.streams.items():
            stream = streams.store.streams[name]
            assert (stream.last, stream.added, stream.count) == (model.last, model.added, len(model.records))
            assert stream.bytes == sum(map(len, model.records.values()))
            assert streams.deadline(name) == model.deadline
            assert [record.ident for record in streams.read(name, limit=10**6)] == sorted(model.records)
            assert sorted(name for name, group in stream.groups.items() if group.declared) == sorted(model.groups)
            for group_name, state in model.groups.items():
                group = stream.groups[group_name]
                assert group.last == state.last
                assert {i: (p.consumer, p.time, p.deliveries, p.deadline) for i, p in group.pending.items()} == {
                    i: (g.consumer, g.time, g.deliveries, g.deadline) for i, g in state.pending.items()
                }
                assert set(group.consumers) == state.consumers
                assert {i: (d.consumer, d.deliveries, d.time) for i, d in group.dead.items()} == state.dead


TestStreamModel = pytest.mark.slow(StreamModel.TestCase)
TestStreamModel.settings = settings(max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.long
class TestStreamModelLong(StreamModel.TestCase):  # type: ignore[misc, valid-type]
    """The same, for longer."""

    settings = settings(max_examples=1500, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck))


def test_dead_letters_of_a_group_are_bounded_and_counted(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_group, "DEAD_LETTERS_MAX", 5)
    with Engine(str(tmp_path), EngineSettings(segment_bytes=1 << 16)) as engine:
        streams = engine.streams
        ids = [streams.append(b"s", b"x") for _ in range(8)]
        streams.groups.create(b"s", b"g", 0, own=True, max_deliver=1)
        taken = streams.groups.read(b"s", b"g", b"c", 8)
        assert [one.ident for one in taken] == ids
        assert streams.groups.nack(b"s", b"g", [one.ident for one in taken]) == 8
        group = streams.groups.need(b"s", b"g")[1]
        assert list(group.dead) == ids[3:]
        assert group.evicted == 3
    with Engine(str(tmp_path), EngineSettings(segment_bytes=1 << 16)) as engine:
        group = engine.streams.groups.need(b"s", b"g")[1]
        assert (list(group.dead), group.evicted) == (ids[3:], 3)


def test_a_raised_last_id_outlives_a_restart(tmp_path: Any) -> None:
    with Engine(str(tmp_path)) as engine:
        streams = engine.streams
        streams.append(b"s", b"x", ms=5, seq=0)
        streams.set_last(b"s", 9 << SEQ_BITS, 12, 4 << SEQ_BITS)
        with pytest.raises(BadRequest, match="the last id of the stream is 9-0, and it never goes back"):
            streams.set_last(b"s", 8 << SEQ_BITS, None, None)
        with pytest.raises(BadRequest, match="the stream had 12 records"):
            streams.set_last(b"s", 10 << SEQ_BITS, 11, None)
    for _ in range(2):
        with Engine(str(tmp_path)) as engine:
            stream = engine.streams.store.streams[b"s"]
            assert (stream.last >> SEQ_BITS, stream.added, stream.max_deleted >> SEQ_BITS, stream.count) == (9, 12, 4, 1)
            with pytest.raises(BadRequest, match="equal or smaller"):
                engine.streams.append(b"s", b"x", ms=8, seq=0)
