"""The reserve for a compaction: disk space that is kept free for it, as a file named ROOM.

A compaction must write the new file before it can remove the old one. On a disk that is full of Flo's own files, the space for that exists
only if it was kept. So writes that add are refused before the reserve is used up, and a compaction of a full disk begins by releasing it.
"""

import os

from flo.ual.files import Files

NAME = "ROOM"


class CompactionReserve:
    """A file that nobody reads: its size is the space that is kept."""

    def __init__(self, files: Files, directory: str) -> None:
        """Nothing is kept yet. A file of an earlier process is used again."""
        self.files = files
        self.path: str = os.path.join(directory, NAME)
        self.size: int = 0

    def resize(self, size: int) -> None:
        """Keep `size` bytes. Raises `OSError` (ENOSPC on a full disk); the space kept before stays kept."""
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
        """Remove the file, so that its space can be used."""
        self.files.discard(self.path)
        self.size = 0
