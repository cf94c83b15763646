"""This server as a member of a cluster: its client of etcd, its replica, and what the server does with each role."""

import os
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from flo.cluster.etcd import Etcd, Loop
from flo.cluster.replica import MEMBER_SECONDS, Replica, Role
from flo.cluster.tail import Member
from flo.config import Settings, read_secret
from flo.endpoint import Endpoint
from flo.engine import Engine
from flo.errors import BadRequest, ConfigError, FloError, NotFound
from flo.loop import Timer
from flo.waits import Waits

if TYPE_CHECKING:
    from ssl import SSLContext

AWAY_SECONDS = 5 * MEMBER_SECONDS  # a member that has told nothing for so long is stopped, or cut off
FETCH_LOOK_SECONDS = 0.2
FETCH_AGAIN_SECONDS = 2.0  # after no member could be copied
HAND_OVER_SECONDS = 3.0  # that a member which stops waits for etcd


LAST_REPLIES_SECONDS = 0.05  # who asked for a hand-over, or waited for its last batch, gets the answer before the process starts again
BEGIN = "BEGIN-CLUSTER"  # a file in the data directory (`flo cluster begin`): the replicated log begins with this member's


class Owner(Protocol):
    """The server."""

    settings: Settings
    engine: Engine
    secret: bytes | None

    def log(self, level: str, message: str, **details: object) -> None:
        """Write a line to the operator's log."""

    def shutdown(self) -> None:
        """Stop; `Cluster.stop` is called meanwhile."""

    def start_again(self) -> None:
        """Replace the process by a new one: what this one has in memory is ahead of the log."""


def node_name(settings: Settings) -> str:
    """The member's name."""
    return settings.cluster_node or platform.node() or "flo"


def check(settings: Settings) -> None:
    """Check what a member needs besides. Raises `ConfigError`."""
    if not settings.advertise:
        raise ConfigError("cluster.etcd is set and server.advertise is not: other members, and their clients, could not reach this one.")
    if not settings.secret_file and not settings.insecure:
        raise ConfigError("cluster.etcd is set and server.secret_file is not: members of a cluster serve other machines.")
    if settings.durability != "sync":
        raise ConfigError(f"cluster.etcd is set and the durability is {settings.durability}: a cluster's is sync.")


class Cluster:
    """The member."""

    def __init__(self, owner: Owner, loop: Loop) -> None:
        """Begin: the replica reads the tail of the log, and follows. Raises `ConfigError`."""
        settings = owner.settings
        self._owner = owner
        self._loop = loop
        self.node: str = node_name(settings)
        self._stopping = False
        self._leaving = False  # and to be no member any more
        self._failed_copies: list[str] = []  # sentences, from the thread that copies
        self._stale_seconds = settings.cluster_stale_reads / 1000
        self._begin_file = os.path.join(settings.data_dir, BEGIN)
        password = read_secret(settings.cluster_password_file) or b""
        self.etcd: Etcd = Etcd(
            loop,
            [Endpoint.parse(url) for url in settings.cluster_etcd],
            user=settings.cluster_user,
            password=password.decode(),
            tls=_tls(settings),
            on_note=lambda sentence: owner.log("warning", sentence),
        )
        self.replica: Replica = Replica(
            self.etcd,
            self,
            owner.engine,
            cluster=settings.cluster_name,
            node=self.node,
            address=settings.advertise,
            on_role=self._on_role,
            begins=os.path.exists(self._begin_file),
            max_tail=settings.cluster_max_tail,
        )

    # -- Times (flo.cluster.replica) ---------------------------------------------------------------

    def steady(self) -> float:
        """Seconds of a clock that goes on while the machine sleeps: a leader that slept must not think that it is fresh."""
        return time.clock_gettime(_CLOCK)

    def call_later(self, seconds: float, callback: Callable[[], None], /) -> Timer:
        """See `Times`."""
        return self._loop.call_later(seconds, callback)

    # -- what the server asks ----------------------------------------------------------------------

    @property
    def leads(self) -> bool:
        """Whether this member leads, and goes on to."""
        return self.replica.role is Role.LEADER and not self.replica.hands_over

    @property
    def leader(self) -> str:
        """The address of the member that leads; empty if none is known, or this one leads."""
        lead = self.replica.lead
        return lead.address if lead is not None and lead.node != self.node else ""

    @property
    def reads_are_fresh(self) -> bool:
        """Of a follower: whether it may serve reads."""
        return self.replica.role in (Role.FOLLOWER, Role.CANDIDATE) and self.replica.silence <= self._stale_seconds

    @property
    def acks(self) -> Waits:
        """How long the replicated log took to acknowledge this member's batches."""
        return self.replica.acks

    def committed(self) -> int:
        """The index up to which replies may leave now; none may while a leader cannot know whether another has claimed, or once one has:
        what it read meanwhile may be old. A leader that stops lives on for a moment then."""
        replica = self.replica
        if (replica.role is Role.LEADER and not replica.fresh) or (replica.role is Role.DEPOSED and not replica.handed_over):
            return -1
        return self._owner.engine.log.committed

    def describe(self) -> dict[str, Any]:
        """The answer of cluster_status, as far as the replica knows it."""
        replica, lead = self.replica, self.replica.lead
        return {
            "mode": replica.role.value,
            "node": self.node,
            "term": replica.term,
            "leader": lead.address if lead is not None else "",
            "leader_node": lead.node if lead is not None else "",
            "silence_ms": int(replica.silence * 1000),
            "index": self._owner.engine.log.written,
            "elections": replica.elections,
            "members": [self._told_by(node, member) for node, member in sorted(replica.members.items())],
            "engine": {
                "ok": self.etcd.answers,
                "member": self.etcd.member,
                "trouble": self.etcd.trouble,
                "ack_p50_ms": replica.acks.quantile(0.5) / 1000,
                "ack_p99_ms": replica.acks.quantile(0.99) / 1000,
                "tail_bytes": replica.tail_bytes,
            },
        }

    def _told_by(self, node: str, member: Member) -> dict[str, Any]:
        """A member in cluster_status."""
        replica, log = self.replica, self._owner.engine.log
        silence = int(replica.silence * 1000) if node == self.node else max(self._owner.engine.clock() - member.at, 0)
        # what a member told is up to MEMBER_SECONDS old, so its lag is as of then; one that tells no more falls behind with each record
        away = silence > AWAY_SECONDS * 1000
        lag = max(log.written - member.applied, 0) if away else replica.lags.get(node, 0)
        return {
            "node": node,
            "address": member.address,
            "applied": member.applied,
            "synced": member.synced,
            "lag": lag,
            "behind_ms": silence,
        }

    def stop(self, done: Callable[[], None]) -> None:
        """Leave the lead to another, if this member has it, and the cluster, if it was told to; then call `done`."""
        self._stopping = True
        calls = [done]

        def once() -> None:
            if calls:
                calls.pop()()

        def too_late() -> None:
            if calls:
                self._owner.log("warning", f"cluster: etcd has not answered for {HAND_OVER_SECONDS:g} s{still_there}")
                once()

        still_there = f": remove this member at another one, by `flo cluster remove {self.node}`" if self._leaving else ""
        self.call_later(HAND_OVER_SECONDS, too_late)
        if self.replica.role is Role.LEADER:
            self.replica.hand_over(lambda: self._end(once))
        else:
            self._end(once)

    def _end(self, done: Callable[[], None]) -> None:
        """This member leads no longer."""
        if not self._leaving:
            done()
            return
        self.replica.close()  # it tells nothing more of itself
        self.replica.remove(self.node, done)

    def leave(self) -> None:
        """Be no member any more: stop this server, and forget it. Started again, it is a member again."""
        self._leaving = True
        self._owner.shutdown()

    def promote(self, node: str) -> None:
        """Of a leader: give the lead to that member, and follow. Raises `NotFound` for a member that is not there."""
        if node not in self.replica.members:
            raise NotFound(f"the cluster has no member {node!r}; it has {', '.join(sorted(self.replica.members))}")
        if node != self.node:
            self.replica.hand_over(lambda: None, node)  # being deposed, this process starts again

    def remove(self, node: str) -> None:
        """Forget a member that will not come back, so that what a majority has is counted without it. Raises `NotFound`, `BadRequest`."""
        if node not in self.replica.members:
            raise NotFound(f"the cluster has no member {node!r}; it has {', '.join(sorted(self.replica.members))}")
        if node == self.node:
            raise BadRequest(f"{node!r} is this member, which runs: stop it first, then remove it at another")
        self.replica.remove(node, lambda: None)

    def close(self) -> None:
        """Tell nobody anything any more."""
        self._stopping = True
        self.replica.close()
        self.etcd.close()

    # -- roles -------------------------------------------------------------------------------------

    def _on_role(self, role: Role, why: str) -> None:
        level = "warning" if role in (Role.DEPOSED, Role.BEHIND) and not self._stopping else "info"
        self._owner.log(level, f"cluster: {role.value}: {why}")
        if self._stopping:
            return
        if role is Role.FOLLOWER:
            with suppress(FileNotFoundError):
                os.unlink(self._begin_file)  # once: an etcd that is emptied later must not make it count again
        if role is Role.DEPOSED:
            self.call_later(LAST_REPLIES_SECONDS if self.replica.handed_over else 0, self._owner.start_again)
        elif role is Role.BEHIND:
            self.call_later(0, self._fetch)

    def _fetch(self) -> None:
        """Copy another member's log, in a thread: this member serves nothing meanwhile. Then start again with it."""
        others = [member for node, member in self.replica.members.items() if node != self.node]
        others.sort(key=lambda member: (self.replica.lead is not None and member.address == self.replica.lead.address, -member.applied))
        addresses = [member.address for member in others if member.applied >= self._owner.engine.log.next_index]
        done: list[str] = []
        thread = threading.Thread(target=self._fetch_from, args=(addresses, done), name="flo-fetch", daemon=True)
        thread.start()

        def look() -> None:
            while self._failed_copies:
                self._owner.log("warning", self._failed_copies.pop(0))
            if thread.is_alive():
                self.call_later(FETCH_LOOK_SECONDS, look)
            elif done:
                self._owner.log("info", f"cluster: copied {done[0]}")
                self._owner.start_again()
            else:
                self.call_later(FETCH_AGAIN_SECONDS, self._fetch)

        self.call_later(FETCH_LOOK_SECONDS, look)

    def _fetch_from(self, addresses: list[str], done: list[str]) -> None:
        """Try one address after the other; `done` gets a sentence about the copy."""
        from flo.client import Client
        from flo.cluster.fetch import NotFetched, fetch

        owner = self._owner
        for address in addresses:
            try:
                with Client(f"flo://{address}", secret=owner.secret) as client:
                    last = fetch(owner.engine.log.files, client, owner.settings.data_dir)
                done.append(f"the log of {address} up to index {last}")
                return
            except (NotFetched, FloError, OSError) as e:
                self._failed_copies.append(f"cluster: no copy of {address}: {e}")


def _tls(settings: Settings) -> "SSLContext | None":
    if not any(url.startswith("https:") for url in settings.cluster_etcd):
        return None
    import ssl

    try:
        context = ssl.create_default_context(cafile=settings.cluster_ca_file or None)
        if settings.cluster_cert_file:
            context.load_cert_chain(settings.cluster_cert_file, settings.cluster_key_file or None)
    except (OSError, ssl.SSLError) as e:
        raise ConfigError(f"cluster.ca_file, cluster.cert_file or cluster.key_file cannot be used: {e}.") from None
    return context


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
