"""The one door to the file system: every call the log makes on files goes through `Files`.

It is injectable so that tests can tear a write, lose what was not synced, fail any call or crash at it. It
knows nothing of what is in the files.
"""

import errno
import fcntl
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from flo.errors import DirectoryInUse

# Where the ordinary sync leaves the drive's own cache unwritten (macOS), this fcntl flushes that as well.
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None) if sys.platform == "darwin" else None
_ADVISE = getattr(os, "posix_fadvise", None)  # not on macOS
_DATA_SYNC = getattr(os, "fdatasync", os.fsync)
ZEROS = bytes(1 << 20)
STAT_BLOCK_BYTES = 512  # of stat's st_blocks, whatever the file system's

HOLDER_CHARACTERS_MAX = 64  # of the line in LOCK that names the process
COPY_BYTES = 1 << 20  # copied and synced at a time: a large sync would hold up those of the log


class Files:
    """The real file system. Descriptors are plain ints; every failure is an `OSError`."""

    def make_dir(self, path: str) -> None:
        """Create `path` and its parents, readable by the owner only; syncs each one's parent, so that they last."""
        missing = []
        path = os.path.abspath(path)
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for path in reversed(missing):
            os.mkdir(path, mode=0o700)
            self.sync_dir(os.path.dirname(path))

    def names(self, path: str) -> list[str]:
        """The names in directory `path`, sorted."""
        return sorted(os.listdir(path))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def size_of(self, path: str) -> int:
        """Bytes of the file `path`; 0 where there is none."""
        try:
            return os.stat(path).st_size
        except FileNotFoundError:
            return 0

    def changed_at(self, path: str) -> float:
        """When the file was last written, as far as the file system says; 0 where there is none."""
        try:
            return os.stat(path).st_mtime
        except FileNotFoundError:
            return 0.0

    def create(self, path: str) -> int:
        """Open `path` for reading and writing, new and empty."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def open(self, path: str, writable: bool = False) -> int:
        """Open an existing `path`."""
        return os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        """`count` bytes at `offset`, fewer only at the end of the file."""
        data = os.pread(fd, count, offset)
        while len(data) < count:
            more = os.pread(fd, count - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def pwrite(self, fd: int, buffers: Sequence[bytes], offset: int) -> None:
        """All of `buffers` (1,000 at most: the kernel's bound is 1,024) one after the other at `offset`."""
        written = os.pwritev(fd, buffers, offset)
        total = sum(map(len, buffers))
        if written != total:  # a short write is legal, if rare; finish it
            rest = memoryview(b"".join(buffers))[written:]
            while rest:
                count = os.pwrite(fd, rest, offset + written)
                written += count
                rest = rest[count:]

    def sync(self, fd: int) -> None:
        """Return once the file's bytes are on disk."""
        if _FULL_SYNC is not None:
            fcntl.fcntl(fd, _FULL_SYNC)
        else:
            _DATA_SYNC(fd)

    def drop(self, fd: int, start: int, end: int) -> None:
        """Have the system keep no copy in memory of what is on disk from offset `start` to `end`: nobody will read it soon. The pages it
        begins and ends in the middle of stay, whoever goes on writing there. It is advice: nothing comes of its being refused."""
        if _ADVISE is not None:
            with suppress(OSError):
                _ADVISE(fd, start, end - start, os.POSIX_FADV_DONTNEED)

    def sync_dir(self, path: str) -> None:
        """Return once the directory's entries (creations, renames, removals) are on disk."""
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def reserve(self, fd: int, size: int) -> None:
        """Give the file `size` bytes of disk, so that writing them later cannot find it full.

        What is not there is not even asked for: the system would take all there is before it says so, and for that moment who writes
        beside this, a compaction that is to make room, finds the disk full."""
        there = os.fstatvfs(fd)
        free = (there.f_bavail if os.geteuid() else there.f_bfree) * there.f_frsize
        if there.f_blocks and size - os.fstat(fd).st_blocks * STAT_BLOCK_BYTES > free:
            raise OSError(errno.ENOSPC, f"{size} bytes are wanted, and {free} are free")
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:
            for start in range(0, size, len(ZEROS)):
                self.pwrite(fd, [ZEROS[: size - start]], start)

    def free(self, path: str) -> int:
        """Bytes that may still be written to the disk that holds directory `path`."""
        there = os.statvfs(path)
        return (there.f_bavail if os.geteuid() else there.f_bfree) * there.f_frsize

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def discard(self, path: str) -> None:
        """Remove `path`, if it is there."""
        with suppress(FileNotFoundError):
            self.remove(path)

    def copy(self, fd: int, path: str, size: int) -> None:
        """Copy the first `size` bytes of an open file to a new one at `path`, and sync it; its name is not durable yet. Where the file has
        become shorter meanwhile, so is the copy."""
        target = self.create(path)
        try:
            for at in range(0, size, COPY_BYTES):
                data = self.pread(fd, min(COPY_BYTES, size - at), at)
                if data:
                    self.pwrite(target, [data], at)
                    self.sync(target)
        finally:
            self.close(target)

    def lock_directory(self, directory: str, path: str) -> int | None:
        """Lock the directory itself, until the descriptor is closed or the process ends; None where its file system cannot do that.

        Raises `DirectoryInUse`, naming the holder that the file at `path` names, when another process has it.
        """
        fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise _in_use(path) from None
        except OSError:
            os.close(fd)
            return None
        return fd

    def lock(self, path: str) -> int:
        """Lock the file at `path`, which is made where there is none, until the descriptor is closed or the process ends, and write this
        process's id into it.

        Raises `DirectoryInUse`, naming the holder, when another process has it.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise _in_use(path) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"process %d\n" % os.getpid(), 0)
        return fd


def _in_use(path: str) -> DirectoryInUse:
    try:
        with open(path, encoding="ascii", errors="replace") as lock:
            holder = lock.readline(HOLDER_CHARACTERS_MAX).strip()
    except OSError:
        holder = ""
    return DirectoryInUse(
        f"{os.path.dirname(path)} is in use by {holder or 'an unknown process'}; stop it first, or choose another --data-dir."
    )
