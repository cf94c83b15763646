"""The one door to the file system: every call the log makes on files goes through `Files`.

Tests put another in its place, to tear a write, lose unsynced bytes, fail any call or crash at it. It knows nothing of the contents of the
files.
"""

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress

from flo.errors import DirectoryInUse

# On macOS an ordinary sync does not flush the drive's own cache; this fcntl does.
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None) if sys.platform == "darwin" else None
_ADVISE = getattr(os, "posix_fadvise", None)  # not on macOS
_DATA_SYNC = getattr(os, "fdatasync", os.fsync)
ZEROS = bytes(1 << 20)
STAT_BLOCK_BYTES = 512  # the unit of stat's st_blocks on every file system

HOLDER_CHARACTERS_MAX = 64  # read of the line in LOCK that names the process
COPY_BYTES = 1 << 20  # copied and synced at a time: a large sync would delay the syncs of the log


class Files:
    """The real file system. Descriptors are plain ints; every failure is an `OSError`."""

    def make_dir(self, path: str) -> None:
        """Create `path` and its parents, readable by the owner only; syncs the parent of each, so that they are durable. Raises
        `NotADirectoryError` if one of them is a file."""
        missing = []
        path = os.path.abspath(path)
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for path in reversed(missing):
            try:
                os.mkdir(path, mode=0o700)
            except FileExistsError:
                if not os.path.isdir(path):
                    raise NotADirectoryError(errno.ENOTDIR, "it is a file; name a directory", path) from None
            self.sync_dir(os.path.dirname(path))

    def names(self, path: str) -> list[str]:
        """The names in directory `path`, sorted."""
        return sorted(os.listdir(path))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def size_of(self, path: str) -> int:
        """The size of the file `path` in bytes; 0 if there is none."""
        try:
            return os.stat(path).st_size
        except FileNotFoundError:
            return 0

    def changed_at(self, path: str) -> float:
        """The time of the file's last change, as the file system has it; 0 if there is no file."""
        try:
            return os.stat(path).st_mtime
        except FileNotFoundError:
            return 0.0

    def create(self, path: str) -> int:
        """Open `path` for reading and writing, new and empty."""
        return _open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def open(self, path: str, writable: bool = False) -> int:
        """Open an existing `path`."""
        return _open(path, os.O_RDWR if writable else os.O_RDONLY)

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        """Read `count` bytes at `offset`; fewer only at the end of the file."""
        data = os.pread(fd, count, offset)
        while len(data) < count:
            more = os.pread(fd, count - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def pwrite(self, fd: int, buffers: Sequence[bytes], offset: int) -> None:
        """Write all of `buffers`, one after the other, at `offset`. At most 1,000: the kernel's bound is 1,024."""
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
        """Drop the bytes from offset `start` to `end` from the system's memory; they are on disk, and will not be read soon. Pages that
        are only partly in this range stay: more may be written there. This is advice, so a refusal is ignored."""
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

        If so much is not free, the system is not asked: it would take all there is before it fails, and a compaction that is to make room
        would find the disk full for that moment."""
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
        """Remove `path` if it exists."""
        with suppress(FileNotFoundError):
            self.remove(path)

    def copy(self, fd: int, path: str, size: int) -> None:
        """Copy the first `size` bytes of an open file to a new one at `path`, and sync it; its name is not durable yet. If the
        file has become shorter meanwhile, the copy is shorter too."""
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
        """Lock the directory itself until the descriptor is closed or the process ends; None if its file system cannot do that.

        Raises `DirectoryInUse` if another process has the lock; names the holder by the file at `path`.
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
        """Lock the file at `path` until the descriptor is closed or the process ends, and write this process's id into it. Makes the file
        if there is none.

        Raises `DirectoryInUse` with the holder if another process has the lock.
        """
        fd = _open(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise _in_use(path) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"process %d\n" % os.getpid(), 0)
        return fd


def _open(path: str, flags: int) -> int:
    """Open a file of a data directory, but no symbolic link: by one, whoever may write there could have Flo empty another file. Nor a
    FIFO, whose opening would wait for another process (not so with O_NONBLOCK)."""
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as e:
        if e.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a symbolic link, which Flo does not follow in a data directory", path) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no regular file; nothing else belongs in a data directory", path)
    return fd


def _in_use(path: str) -> DirectoryInUse:
    try:
        with open(_open(path, os.O_RDONLY), encoding="ascii", errors="replace") as lock:
            holder = lock.readline(HOLDER_CHARACTERS_MAX).strip()
    except OSError:
        holder = ""
    return DirectoryInUse(
        f"{os.path.dirname(path)} is in use by {holder or 'an unknown process'}; stop it first, or choose another --data-dir."
    )
