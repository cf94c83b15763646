"""Who holds a data directory: one process at a time, by two locks that end with it.

The directory itself is locked (`flock` on its descriptor), so that no name in it can be removed and made again by a second holder; and
the file LOCK, which is all that versions before format 4 know, so that those and this one exclude each other. A file system that cannot
lock a directory (NFS) has LOCK alone.
"""

import os

from flo.ual.files import Files

LOCK_NAME = "LOCK"


class DirectoryLock:
    """Both locks of a directory."""

    def __init__(self, files: Files, directory: str) -> None:
        """Take them. Raises `DirectoryInUse` with the holder's process id, as LOCK has it, or `OSError`."""
        self._files = files
        self._held: list[int] = []
        path = os.path.join(directory, LOCK_NAME)
        try:
            whole = files.lock_directory(directory, path)
            if whole is not None:
                self._held.append(whole)
            self._held.append(files.lock(path))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the directory back. Harmless when it was given back already."""
        held, self._held = self._held, []
        for fd in reversed(held):
            self._files.close(fd)
