"""Containers with deadlines (SPEC section 3, "TTL"): what queues and streams share.

At its deadline a container is gone for every operation at once: whoever looks for it first drops it, and the sweep drops the rest. A
container's deadline is in the record of its settings, so a watermark over these ends it too.
"""

from flo.engine.operation import operation
from flo.engine.part import Part
from flo.store.lifetimes import Lifetimes

SETTINGS_BYTES = 200  # the record of a container's settings, or a watermark, without the name
DROP_SLICE = 50  # containers dropped in one slice: 20 us each


class Expiring(Part):
    """A part with containers that may have deadlines."""

    # -- what a part adds --------------------------------------------------------------------------

    @property
    def lifetimes(self) -> Lifetimes:
        """The deadlines in its store."""
        raise NotImplementedError

    def exists(self, name: bytes) -> bool:
        """Whether the container exists."""
        raise NotImplementedError

    def write_lifetime(self, name: bytes, deadline: int) -> None:
        """Write the settings of a container that exists, with this deadline; 0 for none."""
        raise NotImplementedError

    def remove(self, name: bytes) -> None:
        """Write the watermarks that end all of a container. Raises `Overloaded`."""
        raise NotImplementedError

    # -- what is the same for all ------------------------------------------------------------------

    def is_over(self, name: bytes) -> bool:
        """Whether the container's deadline has passed."""
        deadline = self.lifetimes.by_name.get(name)
        return deadline is not None and deadline <= self.engine.now

    def drop_if_over(self, name: bytes) -> bool:
        """Drop a container whose deadline has passed; returns whether it has. A follower leaves that to the leader, and shows it no more.
        Raises `Overloaded`."""
        over = self.is_over(name)
        if over and not self.engine.following:
            self.remove(name)
        return over

    @operation
    def expire_at(self, name: bytes, deadline: int) -> bool:
        """Let all of it be dropped at `deadline`, Unix ms; at once if that has passed. Returns whether it exists."""
        if not self.exists(name):
            return False
        if deadline <= self.engine.now:
            self.remove(name)
        else:
            self.admit_keeps(SETTINGS_BYTES + len(name))
            self.write_lifetime(name, deadline)
        return True

    @operation
    def deadline(self, name: bytes) -> int | None:
        """When it will be dropped, Unix ms; 0 for never, None if it does not exist."""
        return self.lifetimes.by_name.get(name, 0) if self.exists(name) else None

    @operation
    def persist(self, name: bytes) -> bool:
        """Remove its deadline; returns whether it had one."""
        if not self.deadline(name):
            return False
        self.admit_keeps(SETTINGS_BYTES + len(name))
        self.write_lifetime(name, 0)
        return True

    def drop_some(self) -> bool:
        """Drop a slice of the containers whose time is over; returns whether there may be more."""
        names = self.lifetimes.due(self.engine.now, DROP_SLICE)
        for name in names:
            self.remove(name)
        return len(names) == DROP_SLICE
