"""What is reserved on the disk: the spare, which is the next segment, zeroed before the open one is full; and room for a compaction.

Reserving finds a full disk before a write is accepted. Zeroing ahead makes every later sync the cheap kind: 90 us
against 130 where the file system must first turn reserved blocks into written ones (and its slowest 1 % half as long).

A compaction needs room for what it makes of one file before it can remove that file. On a disk that is full of Flo's own files that room is
only there if it was kept: so writes that add are refused before it is used up, and a compaction of a full disk begins by taking it.
"""

import os

from flo.ual.files import ZEROS, Files

NAME = "spare.seg"
ROOM_NAME = "ROOM"
SLICE_BYTES = 256 << 10  # zeroed and synced at a time: 0.3 to 1 ms, so that nobody waits long for it


class Spare:
    """A reserved file of `capacity` bytes of which the first `zeroed` are written."""

    def __init__(self, files: Files, directory: str, capacity: int) -> None:
        """Reserve the space. Raises `OSError` (ENOSPC on a full disk) with nothing left behind."""
        self.files = files
        self.path = os.path.join(directory, NAME)
        self.capacity = capacity
        self.zeroed = 0
        self.fd = files.create(self.path)
        try:
            files.reserve(self.fd, capacity)
        except OSError:
            self.discard()
            raise

    def grow(self, capacity: int) -> None:
        """Reserve more. Raises `OSError` with what was reserved before still there."""
        if capacity > self.capacity:
            self.files.reserve(self.fd, capacity)
            self.capacity = capacity

    @property
    def ready(self) -> bool:
        """Whether all of it is zeroed. One that is not can be used too: its syncs cost a little more."""
        return self.zeroed >= self.capacity

    def zero_slice(self) -> None:
        """Zero and sync the next slice."""
        size = min(SLICE_BYTES, self.capacity - self.zeroed)
        self.files.pwrite(self.fd, [ZEROS[:size]], self.zeroed)
        self.files.sync(self.fd)
        self.zeroed += size

    def discard(self) -> None:
        """Close and remove the file."""
        self.files.close(self.fd)
        self.files.remove(self.path)


class Room:
    """The room that is kept for a compaction: a file that nobody reads."""

    def __init__(self, files: Files, directory: str) -> None:
        """None is kept yet; what an earlier process kept is there to be used."""
        self.files = files
        self.path = os.path.join(directory, ROOM_NAME)
        self.size = 0

    def resize(self, size: int) -> None:
        """Keep so many bytes. Raises `OSError` (ENOSPC on a full disk) with what was kept before still there."""
        if size == self.size:
            return
        fd = self.files.open(self.path, writable=True) if self.files.exists(self.path) else self.files.create(self.path)
        try:
            if size > self.size:
                self.files.reserve(fd, size)
            self.files.truncate(fd, size)
        finally:
            self.files.close(fd)
        self.size = size

    def release(self) -> None:
        """Give it to whoever takes it first."""
        self.files.discard(self.path)
        self.size = 0
