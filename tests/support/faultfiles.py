"""`SimFiles`: a file system in memory that forgets, tears, reorders, fills up and fails like a disk.

What it models, and what the log may count on:

- A file has current bytes (the page cache) and durable bytes (the disk). A write changes the first, in sectors of 512 bytes
  that are rewritten whole or not at all; `sync` makes bytes and size durable.
- A name (created, renamed, removed) is durable only after `sync_dir` of its directory.
- `crash(rng, mode)` gives the file system after the machine or the process died. The lost and the kept are told apart by
  `mode`: "lose" drops all that was not synced, "reorder" keeps a random part of it, and "keep" (kill -9) keeps the page cache,
  *still unsynced*: a power cut later may take it after all.
- A `Plan` makes the process die at the n-th call, or makes the n-th call of a name fail. After it died, every call raises.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from flo.errors import DirectoryInUse
from flo.ual.files import Files

SECTOR_BYTES = 512
MODES = ("lose", "keep", "reorder")
CHANGING = ("make_dir", "create", "pwrite", "sync", "sync_dir", "reserve", "truncate", "rename", "remove", "lock")  # methods
BEFORE, TORN, AFTER = "before", "torn", "after"
FIRST_DESCRIPTOR = 100


class SimCrash(BaseException):
    """The process is no more. No handler of the code under test may catch it."""


@dataclass
class Plan:
    """What goes wrong. `crash_at` counts all calls from 1; `fail` maps (method, its n-th call) to an errno."""

    crash_at: int = 0
    how: str = BEFORE  # of the call crashed at: not done, done, or (a write) done up to some sector
    fail: dict[tuple[str, int], int] = field(default_factory=dict)
    seed: int = 0
    failed_sync_forgets: bool = False  # Linux: after a failed sync the pages count as clean, and were never written


class Inode:
    """A file's bytes, whatever its name."""

    def __init__(self, data: bytes | bytearray = b"", durable: bytes | bytearray = b"", dirty: Iterable[int] = ()) -> None:
        self.data = bytearray(data)
        self.durable = bytearray(durable)
        self.dirty = set(dirty)  # sectors in which `data` may differ from `durable`
        self.forgotten: set[int] = set()  # those of them that no sync will write any more: a sync of them failed

    def touch(self, start: int, end: int) -> None:
        """Bytes start to end changed."""
        sectors = range(start // SECTOR_BYTES, (end + SECTOR_BYTES - 1) // SECTOR_BYTES)
        self.dirty.update(sectors)
        self.forgotten.difference_update(sectors)

    def resize(self, size: int) -> None:
        old = len(self.data)
        self.touch(min(old, size), max(old, size))
        _resize(self.data, size)

    def sync(self) -> None:
        _resize(self.durable, len(self.data))
        for sector in self.dirty - self.forgotten:
            self._keep(self.durable, sector)
        self.dirty = set(self.forgotten)

    def forget(self) -> None:
        """A sync failed: the kernel will not try these sectors again unless they are written again."""
        self.forgotten |= self.dirty

    def _keep(self, into: bytearray, sector: int) -> None:
        start = sector * SECTOR_BYTES
        end = min(start + SECTOR_BYTES, len(into), len(self.data))
        if start < end:
            into[start:end] = self.data[start:end]

    def survivor(self, rng: Random, mode: str) -> "Inode":
        """What is left of it after a crash."""
        if mode == "keep":
            kept = Inode(self.data, self.durable, self.dirty)
            kept.forgotten = set(self.forgotten)
            return kept
        if mode == "reorder" and (self.dirty or len(self.data) != len(self.durable)):
            left = bytearray(self.durable)
            _resize(left, rng.choice((len(self.data), len(self.durable))))
            share = rng.choice((0.1, 0.5, 0.9))
            for sector in sorted(self.dirty):
                if rng.random() < share:
                    self._keep(left, sector)
            return Inode(left, left)
        return Inode(self.durable, self.durable)


def _resize(data: bytearray, size: int) -> None:
    if size < len(data):
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))


def crash_points(trace: Sequence[str], first: int = 1, stride: int = 1) -> list[int]:
    """Every `stride`-th of the calls, from the `first`, before which a crash finds a disk of its own: the changing ones and the last. A
    crash before another finds the disk, and what was acknowledged, as one before the next of them does."""
    own = [at for at, call in enumerate(trace, 1) if at >= first and (call.startswith(CHANGING) or at == len(trace))]
    return own[::stride]


Change = tuple[tuple[str, Inode | None], ...]  # of directory entries, all at once: path -> file, None for no more


class SimFiles(Files):
    """The file system. One instance is the machine until it crashes; several logs may use it, as processes would."""

    def __init__(self, plan: Plan | None = None, capacity: int | None = None) -> None:
        """`capacity` is of the disk, in bytes; None for no bound."""
        self.plan = plan or Plan()
        self.capacity = capacity
        self.descriptors_max: int | None = None  # that may be open at once; None for no bound
        self.calls = 0
        self.counts: Counter[str] = Counter()
        self.trace: list[str] = []  # method and file name of every call
        self.dead = False
        self.dirs: set[str] = set()  # always durable: losing the data directory itself is not this model's subject
        self.entries: dict[str, Inode] = {}
        self.durable_entries: dict[str, Inode] = {}
        self.changes: list[Change] = []  # of entries, not synced yet, oldest first
        self._descriptors: dict[int, tuple[Inode, bool, str]] = {}
        self._next_descriptor = FIRST_DESCRIPTOR
        self._locks: dict[str, int] = {}

    # -- faults ------------------------------------------------------------------------------------

    def crash(self, rng: Random, mode: str, plan: Plan | None = None) -> "SimFiles":
        """The file system after a crash now; this one stays as it is, so that one moment can be crashed in many ways."""
        assert mode in MODES
        after = type(self)(plan, self.capacity)
        after.dirs = set(self.dirs)
        twins: dict[int, Inode] = {}

        def twin(inode: Inode) -> Inode:
            if id(inode) not in twins:
                twins[id(inode)] = inode.survivor(rng, mode)
            return twins[id(inode)]

        if mode == "keep":
            after.entries = {path: twin(inode) for path, inode in self.entries.items()}
            after.durable_entries = {path: twin(inode) for path, inode in self.durable_entries.items()}
            after.changes = [tuple((path, inode and twin(inode)) for path, inode in change) for change in self.changes]
            return after
        entries = dict(self.durable_entries)
        for change in self._kept_changes(rng) if mode == "reorder" else []:
            _apply(change, entries)
        after.entries = {path: twin(inode) for path, inode in entries.items()}
        after.durable_entries = dict(after.entries)
        return after

    def _kept_changes(self, rng: Random) -> list[Change]:
        if rng.random() < 0.5:  # a journal: all up to some point
            return self.changes[: rng.randint(0, len(self.changes))]
        return [change for change in self.changes if rng.random() < 0.5]  # none: each for itself

    def flip(self, path: str, offset: int, bit: int = 0) -> None:
        """Flip one bit of a file, on disk and in the cache."""
        inode = self.entries[path]
        for data in {id(data): data for data in (inode.data, inode.durable)}.values():
            if offset < len(data):
                data[offset] ^= 1 << bit

    def content(self, path: str) -> bytes:
        """A file's current bytes, without counting a call."""
        return bytes(self.entries[path].data)

    def patch(self, path: str, offset: int, data: bytes) -> None:
        """Change bytes on disk behind everybody's back."""
        inode = self.entries[path]
        for store in (inode.data, inode.durable):
            store[offset : offset + len(data)] = data

    @property
    def used(self) -> int:
        """Bytes of the disk that are taken. What has no name but is open counts as well."""
        inodes = {id(inode): inode for inode in self.entries.values()}
        inodes.update((id(inode), inode) for inode, _, _ in self._descriptors.values())
        return sum(len(inode.data) for inode in inodes.values())

    @property
    def open_files(self) -> list[str]:
        """The paths of all open descriptors."""
        return sorted(path for _, _, path in self._descriptors.values())

    def _enter(self, name: str, path: str) -> None:
        """Count a call, let it fail or crash as planned. What it does comes next, then `_leave`."""
        if self.dead:
            raise SimCrash
        self.calls += 1
        self.counts[name] += 1
        self.trace.append(f"{name} {path.rpartition('/')[2]}")
        if self.calls == self.plan.crash_at:
            self.dead = True
            if self.plan.how == BEFORE:
                raise SimCrash
        failure = self.plan.fail.get((name, self.counts[name]))
        if failure is not None and not self.dead:
            raise OSError(failure, os.strerror(failure), path)

    def _leave(self) -> None:
        if self.dead:
            raise SimCrash

    def _need_descriptor(self, path: str) -> None:
        if self.descriptors_max is not None and len(self._descriptors) >= self.descriptors_max:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)

    def _take(self, more: int) -> None:
        """Take `more` bytes of the disk."""
        if self.capacity is not None and more > 0 and self.used + more > self.capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # -- the methods of Files ----------------------------------------------------------------------

    def make_dir(self, path: str) -> None:
        self._enter("make_dir", path)
        self.dirs.add(path)
        self._leave()

    def names(self, path: str) -> list[str]:
        self._enter("names", path)
        self._need_descriptor(path)
        self._need_dir(path)
        self._leave()
        return sorted(os.path.basename(entry) for entry in self.entries if os.path.dirname(entry) == path)

    def size_of(self, path: str) -> int:
        self._enter("size_of", path)
        self._leave()
        return len(self.entries[path].data) if path in self.entries else 0

    def changed_at(self, path: str) -> float:
        self._enter("changed_at", path)
        self._leave()
        return 0.0

    def exists(self, path: str) -> bool:
        self._enter("exists", path)
        self._leave()
        return path in self.entries or path in self.dirs

    def create(self, path: str) -> int:
        self._enter("create", path)
        self._need_descriptor(path)
        self._need_dir(os.path.dirname(path))
        inode = self.entries.get(path)
        if inode is None:
            self._take(1)  # a name takes no bytes here, but a full disk has no room for it
            inode = Inode()
            self._change((path, inode))
        else:
            inode.resize(0)
        self._leave()
        return self._descriptor(inode, True, path)

    def open(self, path: str, writable: bool = False) -> int:
        self._enter("open", path)
        self._need_descriptor(path)
        inode = self.entries.get(path)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._leave()
        return self._descriptor(inode, writable, path)

    def close(self, fd: int) -> None:
        self._enter("close", self._path(fd))
        self._inode(fd)
        self._leave()
        del self._descriptors[fd]
        self._locks = {path: holder for path, holder in self._locks.items() if holder != fd}

    def size(self, fd: int) -> int:
        self._enter("size", self._path(fd))
        self._leave()
        return len(self._inode(fd).data)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        self._enter("pread", self._path(fd))
        self._leave()
        assert count >= 0 and offset >= 0
        return bytes(self._inode(fd).data[offset : offset + count])

    def pwrite(self, fd: int, buffers: Sequence[bytes], offset: int) -> None:
        assert len(buffers) <= 1000
        self._enter("pwrite", self._path(fd))
        inode, data = self._inode(fd, write=True), b"".join(buffers)
        if self.dead and self.plan.how == TORN:
            first = offset // SECTOR_BYTES
            last = (offset + len(data)) // SECTOR_BYTES
            cut = Random(self.plan.seed * 7919 + self.calls).randint(first, last) * SECTOR_BYTES
            data = data[: max(0, cut - offset)]
        end = offset + len(data)
        if end > len(inode.data):
            self._take(end - len(inode.data))
            inode.resize(end)
        inode.data[offset:end] = data
        inode.touch(offset, end)
        self._leave()

    def sync(self, fd: int) -> None:
        inode = self._inode(fd)
        try:
            self._enter("sync", self._path(fd))
        except OSError:
            if self.plan.failed_sync_forgets:
                inode.forget()
            raise
        inode.sync()
        self._leave()

    def drop(self, fd: int, start: int, end: int) -> None:
        self._enter("drop", self._path(fd))
        self._inode(fd)  # what is in memory and not on disk stays
        self._leave()

    def sync_dir(self, path: str) -> None:
        self._enter("sync_dir", path)
        self._need_descriptor(path)
        self._need_dir(path)
        for change in self.changes:
            _apply(change, self.durable_entries)
        self.changes = []
        self._leave()

    def reserve(self, fd: int, size: int) -> None:
        self._enter("reserve", self._path(fd))
        inode = self._inode(fd, write=True)
        self._take(size - len(inode.data))
        if size > len(inode.data):
            inode.resize(size)
        self._leave()

    def free(self, path: str) -> int:
        self._enter("free", path)
        self._leave()
        return 1 << 40 if self.capacity is None else max(self.capacity - self.used, 0)

    def truncate(self, fd: int, size: int) -> None:
        self._enter("truncate", self._path(fd))
        inode = self._inode(fd, write=True)
        self._take(size - len(inode.data))
        inode.resize(size)
        self._leave()

    def rename(self, old: str, new: str) -> None:
        self._enter("rename", new)
        inode = self.entries.get(old)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), old)
        self._change((old, None), (new, inode))
        self._leave()

    def remove(self, path: str) -> None:
        self._enter("remove", path)
        if path not in self.entries:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._change((path, None))
        self._leave()

    def lock_directory(self, directory: str, path: str) -> int | None:
        self._enter("lock_directory", directory)
        if directory in self._locks:
            raise DirectoryInUse(f"{directory} is in use")
        self._leave()
        fd = self._locks[directory] = self._descriptor(Inode(), False, directory)
        return fd

    def lock(self, path: str) -> int:
        self._enter("lock", path)
        if path in self._locks:
            raise DirectoryInUse(f"{os.path.dirname(path)} is in use")
        if path not in self.entries:
            self._change((path, Inode()))
        self._leave()
        fd = self._locks[path] = self._descriptor(self.entries[path], True, path)
        return fd

    # -- inside ------------------------------------------------------------------------------------

    def _change(self, *change: tuple[str, Inode | None]) -> None:
        _apply(change, self.entries)
        self.changes.append(change)

    def _need_dir(self, path: str) -> None:
        if path not in self.dirs:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def _descriptor(self, inode: Inode, writable: bool, path: str) -> int:
        fd = self._next_descriptor
        self._next_descriptor += 1  # never used again, so that a stale one is noticed
        self._descriptors[fd] = (inode, writable, path)
        return fd

    def _path(self, fd: int) -> str:
        entry = self._descriptors.get(fd)
        return entry[2] if entry else f"descriptor {fd}"

    def _inode(self, fd: int, write: bool = False) -> Inode:
        entry = self._descriptors.get(fd)
        if entry is None or (write and not entry[1]):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self._path(fd))
        return entry[0]


def _apply(change: Change, entries: dict[str, Inode]) -> None:
    for path, inode in change:
        if inode is None:
            entries.pop(path, None)
        else:
            entries[path] = inode
