"""What a server tells of itself, for `server_stats`, `flo top`, the dashboard and /metrics.

Nothing here may cost more on a server with more keys, queues or streams, but for the walk that finds the largest containers. It is done in
slices, and at most WALK_SHARE of the time.
"""

import os
from collections.abc import Generator
from heapq import nlargest
from operator import itemgetter
from time import monotonic, time
from typing import Any, NamedTuple

import flo
from flo.commands.binary.names import json_payload, json_text
from flo.commands.host import Host, Timer, resident_bytes
from flo.commands.runner import Session, Wait
from flo.engine import Part

LARGEST = 10  # containers of each kind that server_stats names
LOOK_SLICE = 500  # containers looked at before the time is looked at: 0.3 ms
SLICE_SECONDS = 0.002  # of one go; then others are served
SAMPLE_SECONDS = 1.0  # between two samples for those who wait
WALK_SHARE = 0.01  # of the time that the walks over all containers may take


class Large(NamedTuple):
    """One of the largest containers."""

    namespace: str
    name: bytes
    measures: tuple[int, ...]  # as the part's `measures`


class Pause:
    """Says when a job is to yield."""

    def __init__(self) -> None:
        self._until = monotonic() + SLICE_SECONDS

    def due(self) -> bool:
        """Whether the present slice is over; the next then begins."""
        now = monotonic()
        if now < self._until:
            return False
        self._until = now + SLICE_SECONDS
        return True


def parts(host: Host) -> list[Part]:
    """The parts that every namespace has, as an example of each."""
    return host.engine.by_hash[0].parts


def largest(host: Host, kind: Part, most: int) -> Generator[None, None, list[Large]]:
    """The containers of a part's kind with the most items, in all namespaces. A job: changes meanwhile may be seen or not."""
    found: list[Large] = []
    at, pause = parts(host).index(kind), Pause()
    for namespace in list(host.engine.namespaces.values()):
        part = namespace.parts[at]
        containers = part.containers()
        for start in range(0, len(containers), LOOK_SLICE):
            looked = [(namespace.name, *part.measure(container)) for container in containers[start : start + LOOK_SLICE]]
            found = nlargest(most, found + [Large(*each) for each in looked if each[2]], key=itemgetter(2))
            if pause.due():
                yield
    return found


def server_counts(host: Host) -> dict[str, Any]:
    """What the server has counted since its start, and how it is now: the answer of server_stats, but for what is counted in the
    namespaces. docs/wire-protocol.md explains each."""
    engine, log, counters, waits, tallies = host.engine, host.engine.log, host.counters, host.waits, host.tallies
    return {
        "time": int(time() * 1000),
        "version": flo.__version__,
        "uptime_seconds": round(host.uptime_seconds, 3),
        "requests": counters.commands,
        "commands": [
            {
                "protocol": tally.protocol,
                "command": tally.name,
                "calls": tally.calls,
                "failed": tally.failed,
                "rejected": tally.rejected,
                "seconds": round(tally.seconds, 6),
            }
            for tally in tallies.used()
        ],
        "errors": dict(sorted(tallies.errors.items())),
        "waits": {
            "count": waits.count,
            "seconds": round(waits.seconds, 6),
            "p50_usec": waits.quantile(0.5),
            "p99_usec": waits.quantile(0.99),
            "max_usec": waits.longest,
            "under": waits.under(),
        },
        "clients": {
            "connected": host.connections,
            "waiting": host.waiting,
            "accepted": counters.connections_received,
            "rejected": counters.connections_rejected,
            "unknown_protocol": counters.unknown_protocol,
            "wrong_secrets": counters.auth_failures,
            "not_reading": counters.push_limit_disconnections,
            "bytes_in": counters.bytes_in,
            "bytes_out": counters.bytes_out,
        },
        "memory": {
            "used": engine.memory_used(),
            "max": host.settings.max_memory,
            "full": engine.memory_full,
            "resident": resident_bytes(),
        },
        "log": {
            "durability": log.durability,
            "last_index": log.written,
            "durable_index": log.durable,
            "bytes": log.size,
            "tail_bytes": log.tail_size,
            "segments": log.segments,
            "syncs": log.syncs,
            "batches": log.batches,
            "bytes_written": log.bytes_written,
            "accepts_adds": log.accepts_adds,
            "damage_met": log.damage_met,
        },
        "compaction": {"running": host.compacting, "passes": host.compactions},
        "reads": {"hits": counters.hits, "misses": counters.misses},
        "expired_keys": engine.swept,
        "clock_steps": counters.clock_steps,
        "unread": engine.background_load.remaining if engine.background_load is not None else 0,
        "cpu_seconds": round(sum(os.times()[:2]), 3),
        "namespaces": len(engine.namespaces),
    }


def all_counts(host: Host) -> Generator[None, None, dict[str, int]]:
    """`Engine.counts`, as a job: there may be many namespaces."""
    found = {noun: 0 for part in parts(host) for noun in part.nouns}
    pause = Pause()
    for namespace in list(host.engine.namespaces.values()):
        for noun, count in namespace.counts().items():
            found[noun] += count
        if pause.due():
            yield
    return found


class Stats:
    """Makes the answers of server_stats. Whoever waits for the next one gets the same one as the others."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._largest: dict[str, list[dict[str, Any]]] = {}
        self._walk_after = 0.0  # monotonic; the largest containers stay as they are until then
        self._made_at = -SAMPLE_SECONDS  # monotonic; when the last sample for those who wait was begun
        self._payload = b""  # that sample
        self._waiting: dict[Wait, None] = {}
        self._timer: Timer | None = None
        self._job: Generator[None, None, bytes] | None = None  # makes the next sample

    def answer(self, session: Session) -> Generator[None, None, bytes]:
        """Make an answer of server_stats for one who does not wait. A job."""
        return with_access(session, (yield from self._sample()))

    def _sample(self) -> Generator[None, None, bytes]:
        """What all are answered."""
        host = self._host
        counts = yield from all_counts(host)
        if monotonic() >= self._walk_after:
            took = 0.0
            found: dict[str, list[dict[str, Any]]] = {}
            for kind in [part for part in parts(host) if part.container]:
                began = monotonic()
                walk = largest(host, kind, LARGEST)
                while True:
                    try:
                        next(walk)
                    except StopIteration as end:
                        large = end.value
                        break
                    took += monotonic() - began
                    yield
                    began = monotonic()
                took += monotonic() - began
                found[kind.container] = [_shown(kind, each) for each in large]
            self._largest = found
            self._walk_after = monotonic() + took / WALK_SHARE
        return json_payload(server_counts(host) | {"counts": counts, "largest": self._largest})

    def next_one(self, session: Session, milliseconds: int) -> Wait:
        """Wait for the next sample, `milliseconds` at most, 0 for as long as it takes: then for the last one. Raises `Overloaded`."""
        wait = Wait(session, None, milliseconds, lambda: with_access(session, self._last()))
        self._waiting[wait] = None
        wait.ends_with(lambda: self._waiting.pop(wait, None))
        if self._timer is None and self._job is None:
            self._timer = self._host.call_later(max(self._made_at + SAMPLE_SECONDS - monotonic(), 0.0), self._begin)
        return wait

    def _last(self) -> bytes:
        """The last sample. Before the first one, only the counts."""
        return self._payload or json_payload(server_counts(self._host) | {"counts": self._host.engine.counts(), "largest": {}})

    def _begin(self) -> None:
        self._timer = None
        if self._waiting:
            self._made_at = monotonic()
            self._job = self._sample()
            self._step()

    def _step(self) -> None:
        """Do a slice of the sample, and the next in the next turn."""
        job, self._job = self._job, None  # so that after a defect the next who waits begins anew
        assert job is not None
        try:
            next(job)
        except StopIteration as end:
            self._payload = end.value
            for wait in tuple(self._waiting):
                wait.ready()
        else:
            self._job = job
            self._host.call_later(0.0, self._step)


def with_access(session: Session, payload: bytes) -> bytes:
    """The JSON object with what the session may do."""
    return b'{"access":"%s",' % (b"read" if session.reads_only else b"all") + payload[1:]


def _shown(kind: Part, large: Large) -> dict[str, Any]:
    measures = dict(zip(kind.measures, large.measures, strict=True))
    return {"namespace": large.namespace, "name": json_text(large.name), **measures}
