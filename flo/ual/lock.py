"""The lock of a data directory: one process at a time holds it, by two locks that end with the process.

The directory itself is locked (`flock` on its descriptor): a second process cannot get around that by removing a file and making it again.
The file LOCK is locked too: versions before format 4 know only that one, and so exclude this version. A file system that cannot lock a
directory (NFS) has LOCK alone.
"""

import os

from flo.ual.files import Files

LOCK_NAME = "LOCK"


class DirectoryLock:
    """Both locks of a directory."""

    def __init__(self, files: Files, directory: str) -> None:
        """Take both. Raises `DirectoryInUse` with the holder's process id from LOCK, or `OSError`."""
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
        """Release both. May be called again."""
        held, self._held = self._held, []
        for fd in reversed(held):
            self._files.close(fd)
