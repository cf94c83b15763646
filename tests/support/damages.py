"""Directories of every state, damages to them, and the judge of what start, check, backup and repair then make of it.

A `Story` is a directory with all that is known of it: every record ever appended by its index, what of it was acknowledged, where each
batch lies and what it claims to be durable, and what the directory looked like earlier. The state at an index is made by applying the
records up to it to an engine without a log. `Judge.examine` takes a damaged directory and raises `Broken` where a promise is broken:

- A start opens the directory with a state that was acknowledged in full, or refuses it, names a file and changes nothing. After a kill,
  batches that nothing later on disk claims may be missing; then the start and the check both say with which index the log ends.
- A check says whole only where a start opens, and tells what that would say.
- A backup is such a state too and says so, or there is none.
- After a repair a check finds nothing, a start opens, every record is one that was once written, and what is lost is named.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from flo.engine import Engine, EngineSettings
from flo.errors import LogDamaged
from flo.store.queue import attempts_of, deadline_of, kind_of, priority_of, queue_of
from flo.ual import base, manifest
from flo.ual.backup import BackupFailed, backup
from flo.ual.batch import HEADER_BYTES
from flo.ual.check import check
from flo.ual.directory import FILE_ENDS
from flo.ual.liveness import entity_of
from flo.ual.lock import LOCK_NAME
from flo.ual.log import ASYNC
from flo.ual.next_segment import NAME as NEXT_NAME
from flo.ual.record import FAMILY_CONTAINED, FAMILY_KV, container_of, decode
from flo.ual.repair import Repaired, repair
from flo.ual.segment import Segment
from tests.support.faultfiles import MODES, Inode, Plan, SimCrash, SimFiles
from tests.support.processes import ROOT

DIR, OUT = "/data", "/copy"
START = 1_700_000_000_000
STEP = 1_000  # ms of the clock for each operation
FAR = START + 10**10
GOLDEN = ROOT / "tests" / "golden"
EXACT_FORMAT = 4  # from here on a manifest notes how the log was closed
Contents = dict[str, bytes]  # name in the directory -> bytes


class Broken(AssertionError):
    """A promise was broken."""


# -- a disk ----------------------------------------------------------------------------------------


def disk_of(contents: Contents, plan: Plan | None = None) -> SimFiles:
    """A disk with these files in DIR, everything durable."""
    files = SimFiles(plan)
    files.dirs |= {"/", DIR}
    for name, data in contents.items():
        files.entries[f"{DIR}/{name}"] = Inode(data, data)
    files.durable_entries = dict(files.entries)
    return files


def contents_of(files: SimFiles, directory: str = DIR) -> Contents:
    """The files in a directory, by name."""
    return {os.path.basename(path): bytes(inode.data) for path, inode in files.entries.items() if os.path.dirname(path) == directory}


def log_files(contents: Contents) -> Contents:
    """Those that a log consists of."""
    return {name: data for name, data in contents.items() if (name.endswith(FILE_ENDS) and name != NEXT_NAME) or name == manifest.NAME}


# -- what is known of a directory ------------------------------------------------------------------


class Batch(NamedTuple):
    """A batch of a segment: where it lies, its bytes, and what it says."""

    file: str
    at: int
    data: bytes
    last: int
    durable: int


class Moment(NamedTuple):
    """The directory as it was when `last` was the last index."""

    contents: Contents
    last: int
    in_order: bool


@dataclass
class Story:
    """A directory and everything that is known of it."""

    name: str
    contents: Contents
    records: dict[int, bytes] = field(default_factory=dict)
    acknowledged: int = 0
    in_order: bool = False
    earlier: list[Moment] = field(default_factory=list)
    format: int = EXACT_FORMAT
    batches: list[Batch] = field(default_factory=list)
    _states: dict[int, Any] = field(default_factory=dict)

    @property
    def written(self) -> int:
        """The last index: what is past `acknowledged` was in flight."""
        return max(self.records, default=0)

    def state(self, last: int) -> Any:
        """What the database holds with the records up to `last`."""
        if last not in self._states:
            engine = Engine.without_log()
            for index in sorted(self.records):
                if index <= last:
                    engine.apply(index, decode(self.records[index]))
            self._states[last] = state_of(engine)
        return self._states[last]

    def claimed(self, contents: Contents) -> int:
        """The highest index that something in a damaged directory says was durable: a batch that is whole where it was, the manifest, or
        a segment of which something reads."""
        highest = 0
        if self.in_order and contents.get(manifest.NAME) == self.contents.get(manifest.NAME):
            highest = self.written
        for each in self.batches:
            if contents.get(each.file, b"")[each.at : each.at + len(each.data)] == each.data:
                highest = max(highest, each.durable)
        return highest


def state_of(engine: Engine) -> Any:
    """What the stores hold, by namespace; nothing in it depends on the time."""
    return {name: _space_of(space) for name, space in engine.namespaces.items()}


def _space_of(space: Any) -> dict[str, Any]:
    kv, queues, streams = space.kv.store, space.queues.store, space.streams.store
    return {
        "keys": {key: found for shard in kv.shards for key in shard if (found := kv.find(key))},
        "queues": {
            name: (
                {
                    seq: (kind_of(state), priority_of(state), attempts_of(state), deadline_of(state))
                    for shard in queues.shards
                    for seq, state in shard.items()
                    if queue_of(state) == queue.number
                },
                [seq for seq, _ in queues.ready(queue)],
                (queue.lease, queue.attempts_max, queue.evicted),
                dict(queue.dead),
                dict(queue.dedup),
            )
            for name, queue in queues.queues.items()
            if not queue.empty or queue.dedup or space.queues.exists(name)
        },
        "streams": {
            name: (
                [(chunk.id_at(at), chunk.indexes[at]) for chunk in stream.chunks for at in range(len(chunk))],
                (stream.last, stream.added, stream.max_deleted, stream.max_len, stream.max_age, stream.max_bytes),
                {
                    group.name: (group.last, group.own, group.ack_timeout, dict(group.pending), dict(group.dead), sorted(group.consumers))
                    for group in stream.groups.values()
                    if group.declared
                },
            )
            for name, stream in streams.streams.items()
            if stream.exists or stream.groups
        },
    }


def readable(engine: Engine) -> dict[int, bytes]:
    """Every record that the log gives by its index."""
    found = {}
    for index in range(1, engine.log.next_index):
        data = engine.log.read_bytes(index)
        if data is not None:
            found[index] = data
    return found


# -- how directories come about --------------------------------------------------------------------


class Clock:
    """A wall clock that only the story moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


class Author:
    """Lives of one directory, one after the other, with operations of every kind in them."""

    def __init__(self, name: str, seed: int, segment_bytes: int = 16 << 10, plan: Plan | None = None, durability: str = "sync") -> None:
        self.rng = Random(f"{name}/{seed}")
        self.story = Story(name, {})
        self.files = SimFiles(plan)
        self.files.dirs.add("/")
        self.clock = Clock()
        self.settings = EngineSettings(durability=durability, segment_bytes=segment_bytes)
        self.number = 0
        self.engine: Engine | None = None

    def open(self) -> "Author":
        """Begin a life."""
        self.engine = Engine(DIR, self.settings, clock=self.clock, files=self.files)
        return self

    def write(self, operations: int, moments: int = 4) -> "Author":
        """Do so many operations, looking around now and then."""
        for at in range(operations):
            self._one()
            if moments and at % (operations // moments + 1) == operations // (moments + 1):
                self.look()
        return self

    def compact(self, tail: bool = False) -> "Author":
        """Rewrite the log."""
        assert self.engine is not None
        self.engine.compact(tail=tail)
        self._note()
        self.look()
        return self

    def look(self) -> None:
        """Remember what the directory is like."""
        self.story.earlier.append(Moment(contents_of(self.files), self.story.acknowledged, self.engine is None))

    def close(self) -> "Author":
        """Stop in order."""
        assert self.engine is not None
        self.engine.close()
        self.engine = None
        self.look()
        return self

    def end(self, in_order: bool, mode: str = "keep") -> Story:
        """The story, with the directory as it is left by a stop, or by a kill."""
        if in_order and self.engine is not None:
            self.close()
        left = self.files.crash(self.rng, mode)
        if self.engine is not None:
            if not self.files.dead:
                self.engine.log.abandon()
            self.engine = None
        self.story.contents = contents_of(left)
        self.story.in_order = in_order
        self.story.batches = list(batches_in(self.story.contents))
        for each in self.story.batches:  # of what was in flight, what reached the disk was written too
            if each.last > self.story.acknowledged:
                self.story.records.update(records_of(each))
        return self.story

    def _note(self) -> None:
        assert self.engine is not None
        log = self.engine.log
        for index in range(self.story.acknowledged + 1, log.next_index):
            data = log.read_bytes(index)
            assert data is not None
            self.story.records[index] = data
        self.story.acknowledged = log.next_index - 1

    def _one(self) -> None:
        """One operation, acknowledged."""
        assert self.engine is not None
        self.clock.now += STEP
        self._act(self.engine)
        self._note()

    def _act(self, engine: Engine) -> None:
        rng, self.number = self.rng, self.number + 1
        kv, queues, streams = engine.kv, engine.queues, engine.streams
        if "other" in engine.namespaces and rng.random() < 0.2:
            other = engine.namespace("other")
            kv, queues, streams = other.kv, other.queues, other.streams
        key, queue, stream = b"key-%d" % rng.randrange(14), b"q%d" % rng.randrange(2), b"s%d" % rng.randrange(2)
        text = b"%d|" % self.number * rng.choice((1, 5, 30, 120))
        kind = rng.randrange(24)
        if kind < 5:
            kv.put(key, text, deadline=FAR if kind == 0 else 0)
        elif kind == 5:
            if kv.exists(key):
                kv.delete(key)
        elif kind == 6:
            kv.incr(b"count", rng.randrange(9))
        elif kind == 7:
            kv.json_set(b"document", b"[%d]" % self.number)
        elif kind == 8:
            if kv.exists(key):
                kv.touch(key, FAR + self.number)
        elif kind == 9:
            kv.put_many([(b"key-%d" % at, text, 0) for at in range(rng.randrange(1, 14))])
        elif kind < 13:
            queues.enqueue(
                queue,
                text,
                priority=rng.choice((0, 0, 3)),
                delay=10**10 if rng.random() < 0.1 else 0,
                dedup=b"d%d" % rng.randrange(5) if rng.random() < 0.2 else None,
            )
        elif kind == 13:
            queues.dequeue(queue, 2, lease=10**9)
        elif kind == 14:
            taken = queues.dequeue(queue, 3, lease=10**9)
            queues.ack(queue, [(message.seq, message.attempts) for message in taken[:2]])
            queues.nack(queue, [(message.seq, message.attempts) for message in taken[2:]], dead=True)
        elif kind == 15:
            if rng.random() < 0.2:
                queues.purge(queue)
            else:
                queues.configure(queue, lease=10**6 + self.number)
                queues.expire_at(queue, FAR + self.number)
        elif kind < 19:
            streams.append(stream, text)
        elif kind == 19:
            streams.expire_at(stream, FAR + self.number)
            records = streams.read(stream, limit=3)
            if records and rng.random() < 0.5:
                streams.delete_records(stream, [records[-1].ident])
            elif records and rng.random() < 0.1:
                streams.delete(stream)
        elif kind < 22:
            taken_ids = [each.ident for each in streams.groups.read(stream, b"g", b"c%d" % rng.randrange(2), 3, create=True)]
            streams.groups.ack(stream, b"g", taken_ids[:2])
        elif kind == 22:
            if rng.random() < 0.1:
                engine.flush([engine.namespace("other" if "other" in engine.namespaces else "default")])
            else:
                engine.create_namespace("other")
        else:
            kv.put(b"large", text * 20)


def records_of(each: Batch) -> dict[int, bytes]:
    """The records of a batch."""
    found: list[bytes] = []
    at = HEADER_BYTES
    while at < len(each.data):
        length = int.from_bytes(each.data[at : at + 4], "little")
        found.append(each.data[at : at + length])
        at += length
    return dict(enumerate(found, each.last + 1 - len(found)))


def batches_in(contents: Contents) -> Iterator[Batch]:
    """Every batch that continues the log, of every segment."""
    files = disk_of(contents)
    for name in contents:
        match = re.fullmatch(r"(\d{20})\.seg", name)
        if match is None:
            continue
        try:
            segment = Segment.load(files, f"{DIR}/{name}", int(match[1]), writable=False)
        except LogDamaged:
            continue  # a story may end while a segment is begun
        for header, at, body in segment.batches():
            begin = at - HEADER_BYTES
            yield Batch(name, begin, contents[name][begin : at + len(body)], header.last, header.durable)
        segment.close()


def cut_short(name: str, seed: int, rng: Random, where: str) -> Story:
    """A life that ends at a call of `where`: a roll, or the adoption of a base."""

    def live(author: Author) -> None:
        author.open().write(60, 1)
        author.compact()
        author.write(60, 1)
        author.compact(tail=True)
        author.write(20, 1)

    whole = Author(name, seed)
    live(whole)
    trace = whole.files.trace
    assert whole.engine is not None
    whole.engine.log.abandon()
    wanted = {
        "creation": list(range(1, 40)),
        "roll": [at for at, call in enumerate(trace, 1) if call == "rename MANIFEST" or call.startswith("rename 0")],
        "adoption": [at for at, call in enumerate(trace, 1) if ".base" in call and call.startswith(("remove", "create", "sync"))],
    }[where]
    at = rng.choice(wanted) + (rng.randrange(-6, 12) if where != "creation" else 0)
    author = Author(name, seed, plan=Plan(crash_at=max(1, at), how=rng.choice(("before", "after", "torn")), seed=seed))
    with suppress(SimCrash):
        live(author)
    return author.end(False, rng.choice(MODES))


def golden(form: str) -> Story:
    """A directory that an earlier Flo wrote."""
    contents = {path.name: path.read_bytes() for path in sorted((GOLDEN / form).iterdir())}
    files = disk_of(contents)
    engine = Engine(DIR, EngineSettings(segment_bytes=16 << 10), clock=Clock(), files=files)
    story = Story(form, contents, readable(engine), engine.log.next_index - 1, format=int(form.split("-")[1]))
    engine.log.abandon()
    story.batches = list(batches_in(contents))
    return story


def copy_of(story: Story) -> Story:
    """A backup."""
    files = disk_of(story.contents)
    copied = backup(files, DIR, OUT)
    made = Story(f"copy of {story.name}", contents_of(files, OUT), story.records, copied.last, in_order=True, earlier=story.earlier)
    made.batches = list(batches_in(made.contents))
    return made


def crowd(name: str, seed: int) -> Author:
    """Many small bases, each of a pass over the tail."""
    author = Author(name, seed).open().write(20, 0).compact()
    for _ in range(6):
        author.write(12, 0).compact(tail=True)
    return author


def stories(seed: int) -> list[Story]:
    """Directories of every state."""
    rng = Random(f"stories {seed}")

    def mode() -> str:
        return rng.choice(MODES)

    made = [
        Author("fresh", seed).open().end(True),
        Author("fresh, killed", seed).open().end(False, mode()),
        Author("one segment", seed, 256 << 10).open().write(60).end(True),
        Author("one segment, killed", seed, 256 << 10).open().write(60).end(False, mode()),
        Author("segments", seed).open().write(200).end(True),
        Author("segments, killed", seed).open().write(200).end(False, mode()),
        Author("async, killed", seed, durability=ASYNC).open().write(100).end(False, "keep"),
        Author("two lives", seed).open().write(80).close().open().write(80).end(True),
        Author("two lives, killed", seed, 256 << 10).open().write(40).close().open().write(40).end(False, mode()),
        Author("opened, killed", seed).open().write(60).close().open().end(False, mode()),
        Author("compacted", seed).open().write(150).compact().end(True),
        Author("compacted, more", seed).open().write(120).compact().write(100).end(True),
        Author("compacted, killed", seed).open().write(120).compact().write(100).end(False, mode()),
        Author("compacted twice", seed).open().write(100).compact().write(80).compact().write(30).end(True),
        Author("tail compacted", seed).open().write(100).compact().write(60).compact(tail=True).write(40).end(True),
        Author("tail compacted, killed", seed).open().write(100).compact().write(60).compact(tail=True).write(40).end(False, mode()),
        crowd("crowd", seed).write(30).end(True),
        crowd("crowd, merged", seed).write(12).compact(tail=True).write(12).compact(tail=True).write(20).end(True),
        *(golden(form) for form in ("format-1", "format-1-queues", "format-1-streams", "format-2", "format-3", "format-4")),
    ]
    made += [cut_short(f"{where}, cut {number}", seed, rng, where) for where in ("creation", "roll", "adoption") for number in range(2)]
    made += [copy_of(made[12]), copy_of(made[4])]
    return made


# -- damages ---------------------------------------------------------------------------------------


class Damaged(NamedTuple):
    """A damaged directory: what it holds, which files were touched, and how, for a person."""

    contents: Contents
    touched: set[str]
    what: str
    foreign: bool  # a file of another directory is in it, or of another kind, which a repair takes for one of the log where its range fits


Damage = Callable[[Random, Story, Contents, Sequence[Story]], tuple[set[str], str] | None]


def _some_file(rng: Random, contents: Contents) -> str | None:
    names = sorted(log_files(contents))
    return rng.choice(names) if names else None


def _place(rng: Random, data: bytes) -> int:
    """A place in a file: where something is, mostly."""
    filled = len(data.rstrip(b"\0")) or 1
    near_the_end = max(filled - 1 - rng.randrange(200), 0)
    return rng.choice((rng.randrange(filled), rng.randrange(filled), near_the_end, rng.randrange(len(data) or 1)))


def flip(rng: Random, _story: Story, contents: Contents, _others: Sequence[Story]) -> tuple[set[str], str] | None:
    """One bit."""
    name = _some_file(rng, contents)
    if name is None or not contents[name]:
        return None
    at, bit = _place(rng, contents[name]), rng.randrange(8)
    data = bytearray(contents[name])
    data[at] ^= 1 << bit
    contents[name] = bytes(data)
    return {name}, f"bit {bit} of byte {at} of {name} flipped"


def sector(rng: Random, _story: Story, contents: Contents, _others: Sequence[Story]) -> tuple[set[str], str] | None:
    """A sector of zeros, or of something else."""
    name = _some_file(rng, contents)
    if name is None or not contents[name]:
        return None
    size = rng.choice((512, 4096))
    at = _place(rng, contents[name]) // size * size
    data = bytearray(contents[name])
    size = min(size, len(data) - at)
    with_what = rng.choice(("zeros", "noise", "another sector"))
    other = rng.randrange(len(data)) // 512 * 512
    copied = bytes(data[other : other + size]).ljust(size, b"\0")
    data[at : at + size] = {"zeros": bytes(size), "noise": rng.randbytes(size), "another sector": copied}[with_what]
    contents[name] = bytes(data)
    return {name}, f"{size} bytes at {at} of {name} are {with_what}"


def cut(rng: Random, _story: Story, contents: Contents, _others: Sequence[Story]) -> tuple[set[str], str] | None:
    """A file that ends early."""
    name = _some_file(rng, contents)
    if name is None or not contents[name]:
        return None
    at = rng.choice((0, _place(rng, contents[name]), _place(rng, contents[name]) // 4096 * 4096))
    contents[name] = contents[name][:at]
    return {name}, f"{name} cut to {at} bytes"


def grow(rng: Random, _story: Story, contents: Contents, _others: Sequence[Story]) -> tuple[set[str], str] | None:
    """Something behind the end of a file."""
    name = _some_file(rng, contents)
    if name is None:
        return None
    more = rng.choice((bytes(rng.randrange(1, 9000)), rng.randbytes(rng.randrange(1, 3000)), contents[name][: rng.randrange(1, 5000)]))
    contents[name] += more
    return {name}, f"{len(more)} bytes behind {name}"


def zero_tail(rng: Random, _story: Story, contents: Contents, _others: Sequence[Story]) -> tuple[set[str], str] | None:
    """Zeros from somewhere on, the file as long as before: what a file system leaves that has lost its last writes."""
    name = _some_file(rng, contents)
    if name is None or not contents[name]:
        return None
    at = rng.choice((_place(rng, contents[name]), _place(rng, contents[name]) // 512 * 512, _place(rng, contents[name]) // 4096 * 4096))
    contents[name] = contents[name][:at].ljust(len(contents[name]), b"\0")
    return {name}, f"{name} zeroed from byte {at} on"


def lose_batches(rng: Random, story: Story, contents: Contents, _others: Sequence[Story]) -> tuple[set[str], str] | None:
    """The last batches of a segment are zeros, or do not read."""
    known = [each for each in story.batches if each.file in contents]
    if not known:
        return None
    name = max(each.file for each in known) if rng.random() < 0.7 else rng.choice(known).file
    there = [each for each in known if each.file == name]
    first = rng.choice(there[-4:])
    data = bytearray(contents[name])
    if rng.random() < 0.5:
        end = there[-1].at + len(there[-1].data)
        data[first.at : end] = bytes(end - first.at)
        contents[name] = bytes(data)
        return {name}, f"the batches of {name} from byte {first.at} on are zeros"
    at = first.at + rng.randrange(len(first.data))
    if at < len(data):
        data[at] ^= 0xFF
    contents[name] = bytes(data)
    return {name}, f"the batch at {first.at} of {name} does not read"


def miss(rng: Random, _story: Story, contents: Contents, _others: Sequence[Story]) -> tuple[set[str], str] | None:
    """Files that are gone."""
    names = sorted(log_files(contents))
    if not names:
        return None
    gone = set(rng.sample(names, rng.choice((1, 1, 1, 2, 3)) if len(names) > 3 else 1))
    for name in gone:
        del contents[name]
    return gone, f"{', '.join(sorted(gone))} missing"


def swap(rng: Random, _story: Story, contents: Contents, _others: Sequence[Story]) -> tuple[set[str], str] | None:
    """Two files have each other's names."""
    names = sorted(log_files(contents))
    if len(names) < 2:
        return None
    one, other = rng.sample(names, 2)
    if {os.path.splitext(one)[1], os.path.splitext(other)[1]} == {".base", ".hist"} and contents[one].startswith(base.MAGIC_2):
        return None  # nothing in formats before 3 tells the one kind from the other
    contents[one], contents[other] = contents[other], contents[one]
    return {one, other}, f"{one} and {other} swapped"


def older(rng: Random, story: Story, contents: Contents, _others: Sequence[Story]) -> tuple[set[str], str] | None:
    """Files as they were at an earlier moment; also such as were removed since."""
    if not story.earlier:
        return None
    moment = rng.choice(story.earlier)
    then = log_files(moment.contents)
    different = sorted(name for name, data in then.items() if contents.get(name) != data)
    if not different:
        return None
    kind = rng.randrange(4)
    if kind == 0 and manifest.NAME in different:
        names = [manifest.NAME]
    elif kind == 1:
        names = [name for name in different if name not in contents] or different
    else:
        names = rng.sample(different, rng.randrange(1, len(different) + 1))
    for name in names:
        contents[name] = then[name]
    return set(names), f"{', '.join(names)} as of index {moment.last}"


def foreign(rng: Random, _story: Story, contents: Contents, others: Sequence[Story]) -> tuple[set[str], str] | None:
    """A file of another directory, in the place of one or beside them."""
    other = rng.choice(others)
    theirs = log_files(other.contents)
    if not theirs:
        return None
    source = manifest.NAME if rng.random() < 0.3 and manifest.NAME in theirs else rng.choice(sorted(theirs))
    end = os.path.splitext(source)[1]
    same_kind = [name for name in sorted(log_files(contents)) if os.path.splitext(name)[1] == end]
    target = rng.choice(same_kind) if same_kind and rng.random() < 0.5 else source
    if target in contents and source != manifest.NAME and target[:20] == source[:20]:
        return None  # nothing in a manifest tells files of the same range apart
    contents[target] = theirs[source]
    return {target}, f"{target} is {source} of the directory {other.name!r}"


def double(rng: Random, story: Story, contents: Contents, _others: Sequence[Story]) -> tuple[set[str], str] | None:
    """A file once more, under another legal name."""
    names = sorted(name for name in log_files(contents) if name != manifest.NAME)
    if not names:
        return None
    source = rng.choice(names)
    first = rng.choice((1, 7, story.written // 2 + 1, story.written + 1, story.written + 50))
    if source.endswith(".seg"):
        target = f"{first:020d}.seg"
    elif rng.random() < 0.5:
        target = f"{source[:42]}{rng.randrange(1 << 32):08x}{os.path.splitext(source)[1]}"
    else:
        target = f"{first:020d}-{first + rng.randrange(100):020d}-{rng.randrange(1 << 32):08x}{os.path.splitext(source)[1]}"
    if target in contents:
        return None
    contents[target] = contents[source]
    return {target}, f"{source} also as {target}"


def litter(rng: Random, _story: Story, contents: Contents, _others: Sequence[Story]) -> tuple[set[str], str] | None:
    """What is no part of the log: locks, sockets, marks, reserved files."""
    name = rng.choice((LOCK_NAME, "CONTROL", "CREATING", NEXT_NAME, manifest.NEW_NAME, "notes.txt", "damaged-1"))
    contents[name] = rng.choice((b"", b"process 1\n", bytes(9000), rng.randbytes(5000), contents.get(manifest.NAME, b"")))
    return set(), f"{len(contents[name])} bytes of {name}"


DAMAGES: list[Damage] = [flip, sector, cut, grow, zero_tail, lose_batches, miss, swap, older, foreign, double, litter]


def damage(rng: Random, story: Story, others: Sequence[Story]) -> Damaged:
    """One damage, or two or three."""
    contents = dict(story.contents)
    touched: set[str] = set()
    told: list[str] = []
    strange = False
    wanted = rng.choice((1, 1, 1, 2, 3))
    while len(told) < wanted:
        kind = rng.choice(DAMAGES)
        done = None if kind is foreign and strange else kind(rng, story, contents, others)
        if done is not None:
            strange = strange or kind is foreign
            touched |= done[0]
            told.append(done[1])
        elif not log_files(contents):
            break
    for one, other in ((".base", ".hist"), (".hist", ".base")):
        kinds = {data for name, data in story.contents.items() if name.endswith(one)}
        strange = strange or any(name.endswith(other) and data in kinds for name, data in contents.items())
    return Damaged(contents, touched, "; ".join(told), strange)


# -- the judge -------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """What became of a damaged directory."""

    opened: int | None  # with which last index, None where a start refused
    said: str  # what the start said, or why it refused
    repaired: Repaired | None


@dataclass
class Judge:
    """Examines damaged directories and counts what became of them."""

    summary: Counter[str] = field(default_factory=Counter)

    def examine(self, story: Story, damaged: Damaged, rng: Random) -> Seen:
        """Check every promise about one directory. Raises `Broken`."""
        contents = damaged.contents
        report = check(DIR, checked := disk_of(contents))
        _need(contents_of(checked) == contents and not checked.open_files, "a check changed something, or left it open")
        opened, said = self._start(story, contents, bool(report.damage))
        allowed = self._allowed(story, damaged)
        if opened is None:
            _need(bool(report.damage), f"a check says whole, and a start refuses: {said}")
            self.summary["refused"] += 1
        elif opened < 0:
            self.summary["begun anew"] += 1
        else:
            _need(opened in allowed, f"a start opens with index {opened} and says {said!r}; allowed are {sorted(allowed)}")
            if opened < story.acknowledged and not (story.format < EXACT_FORMAT and not said):
                _need(f"index {opened}" in said or self._is_earlier(story, contents, opened), f"{opened} without a word: {said!r}")
                _need(not report.damage and (not said or any(said in line for line in report.lines)), f"a check does not say {said!r}")
                self.summary["opened, cut with the sentence"] += 1
            else:
                self.summary["opened whole"] += 1
        if not report.damage:
            _need(opened is not None and opened >= 0, f"a check says whole, and a start does not open: {said}")
        self._back_up(story, contents, opened, said)
        done = self._repair(story, damaged, opened, rng) if opened is None or opened >= 0 else None
        return Seen(opened, said, done)

    # -- start -------------------------------------------------------------------------------------

    def _start(self, story: Story, contents: Contents, damaged: bool) -> tuple[int | None, str]:
        """(with which index it opens, what it says): None for a refusal, -1 where there was nothing of a log and it began anew."""
        files = disk_of(contents)
        told: list[str] = []
        try:
            engine = Engine(DIR, EngineSettings(), clock=Clock(), files=files, on_notice=told.append)
        except LogDamaged as e:
            left = contents_of(files)
            left.pop(LOCK_NAME)
            _need(left == {name: data for name, data in contents.items() if name != LOCK_NAME}, f"a refusal changed something: {e}")
            _need(not files.open_files, f"a refusal left files open: {files.open_files}")
            named = re.search(r"MANIFEST|\d{20}\S*\.(seg|base|hist)", str(e))
            _need(bool(named), f"a refusal names no file: {e}")
            return None, str(e)
        last = engine.log.next_index - 1
        if last == 0 and not any(name.endswith(FILE_ENDS) and name != NEXT_NAME for name in contents) and manifest.NAME not in contents:
            engine.close()
            return -1, ""
        self._must_be(story, engine, last, past_too=not damaged)
        engine.kv.put(b"after", b"it")
        engine.close()
        with Engine(DIR, EngineSettings(), clock=Clock(), files=files) as again:
            _need(again.log.next_index == last + 2, "a write after the start is not there after the next")
        return last, " ".join(told)

    def _must_be(self, story: Story, engine: Engine, last: int, past_too: bool = True) -> None:
        """The engine's state is that of index `last`, and every record that the log gives is the one that was written: of history, which a
        start does not read, where a check found no damage."""
        if past_too:
            for index, data in readable(engine).items():
                _need(story.records.get(index) == data, f"index {index} was never written so")
        difference = differing(state_of(engine), story.state(last))
        _need(not difference, f"the state at index {last} is not what was written: {difference}")

    def _allowed(self, story: Story, damaged: Damaged) -> set[int]:
        """The last indexes with which the directory may open."""
        allowed = {story.acknowledged, story.written}
        for moment in story.earlier:
            if self._is(moment, damaged.contents):
                allowed.add(moment.last)
        # where the manifest says that the log was closed in order, nothing may be missing; else what nothing on disk claims
        claimed = story.claimed(damaged.contents)
        allowed |= {each.last for each in story.batches if each.last >= claimed}
        if not claimed:
            allowed.add(0)
        return allowed

    def _is(self, moment: Moment, contents: Contents) -> bool:
        """Whether a directory is as it was at that moment, but for segments in which there is nothing: nothing can tell that there was
        more."""
        then, now = log_files(moment.contents), log_files(contents)
        more = {name: data for name, data in now.items() if name not in then}
        return (
            all(now.get(name) == data for name, data in then.items())
            and not any(name.endswith((".base", ".hist")) for name in more)
            and not any(batches_in(more))
        )

    def _looks_earlier(self, story: Story, contents: Contents, last: int) -> bool:
        """Whether the manifest's last segment and the manifest, but for a base's name, are as they were at an earlier moment."""
        open_segment = max((name for name in contents if re.fullmatch(r"\d{20}\.seg", name)), default="")
        return any(moment.last == last and moment.contents.get(open_segment) == contents.get(open_segment) for moment in story.earlier)

    def _is_earlier(self, story: Story, contents: Contents, last: int) -> bool:
        return any(moment.last == last and self._is(moment, contents) for moment in story.earlier)

    # -- backup ------------------------------------------------------------------------------------

    def _back_up(self, story: Story, contents: Contents, opened: int | None, said: str) -> None:
        """A copy opens as the directory does, or there is none. One that a check finds damaged counts as none: the command says so."""
        for acknowledged in (None, story.acknowledged):
            files = disk_of(contents)
            try:
                copied = backup(files, DIR, OUT, acknowledged)
            except (BackupFailed, LogDamaged):
                _need(not contents_of(files, OUT), "a backup that failed left something")
                _need(not files.open_files, "a backup that failed left files open")
                continue
            _need(contents_of(files) == contents, "a backup changed what it copied")
            if check(OUT, files).damage:
                continue
            _need(opened is not None or acknowledged is not None, f"a backup copies what a start refuses: {said}")
            told: list[str] = []
            with Engine(OUT, EngineSettings(), clock=Clock(), files=files, on_notice=told.append) as engine:
                last = engine.log.next_index - 1
                self._must_be(story, engine, last)
            _need(not told, f"the start of a copy says {told}")
            _need(last == copied.last, f"a copy has index {last}, and the backup said {copied.last}")
            if acknowledged is None:
                _need(last == opened, f"a copy has index {last}, a start {opened}")
                _need(copied.sentence == said, f"a backup says {copied.sentence!r}, a start {said!r}")
            else:
                _need(last >= acknowledged, f"a copy beside a server has index {last}, and {acknowledged} was acknowledged")

    # -- repair ------------------------------------------------------------------------------------

    def _repair(self, story: Story, damaged: Damaged, opened: int | None, rng: Random) -> Repaired | None:
        """What is lost is named, nothing is invented, and the log opens; cut short, it can be made again."""
        contents = damaged.contents
        files = disk_of(contents)
        try:
            done = repair(files, DIR, START + 1)
        except LogDamaged as e:
            _need(not any(re.fullmatch(r"\d{20}\S*\.(seg|base)", name) for name in contents), f"a repair gives up: {e}")
            return None
        calls = files.calls
        _need(not files.open_files, "a repair left files open")
        report = check(DIR, files)
        _need(not report.damage, f"after a repair: {report.damage}; it said {done.lines}")
        _need(repair(files, DIR, START + 2) == Repaired([], [], ""), f"a second repair finds something to do; the first said {done.lines}")
        self._nothing_is_gone(contents, files)
        last = self._named(story, damaged, files, done, opened)
        if done.lines:
            self.summary["repaired" + (", with holes" if done.holes else ", cut" if last < story.acknowledged else ", nothing lost")] += 1
        for _ in range(2):
            plan = Plan(crash_at=rng.randrange(1, calls + 1), how=rng.choice(("before", "torn", "after")), seed=rng.randrange(99))
            image = disk_of(contents, plan)
            with suppress(SimCrash):  # which does not come where the last call finds nothing to remove
                repair(image, DIR, START + 1)
            assert image.dead, "the repair made fewer calls than before"
            left = image.crash(rng, rng.choice(MODES))
            context = f"a repair that was cut short at {image.trace[-1]}"
            try:
                repair(left, DIR, START + 2)
            except LogDamaged as e:
                raise Broken(f"{context} cannot be made again: {e}") from None
            _need(not check(DIR, left).damage, f"{context}, made again: {check(DIR, left).damage}")
            self._nothing_is_gone(contents, left)
            with Engine(DIR, EngineSettings(), clock=Clock(), files=left) as engine:
                again = engine.log.next_index - 1
                # a base that a compaction left may take the place of what the first repair has put aside: then there is more
                _need(last <= again <= max(last, story.written), f"{context}, made again, ends with {again}, not {last}")
                for index, data in readable(engine).items():
                    _need(damaged.foreign or story.records.get(index) == data, f"{context}, made again: index {index} is not what it was")
        return done

    def _nothing_is_gone(self, contents: Contents, files: SimFiles) -> None:
        """Every file that is not as it was lies aside, as it was."""
        aside = {bytes(inode.data) for path, inode in files.entries.items() if f"{DIR}/damaged-" in path and os.path.dirname(path) != DIR}
        now = contents_of(files)
        for name, data in log_files(contents).items():
            kept = now.get(name) == data or data in aside
            _need(kept, f"{name} is not as it was after a repair, and not aside")

    def _named(self, story: Story, damaged: Damaged, files: SimFiles, done: Repaired, opened: int | None) -> int:
        """Start what was repaired and compare it with what was written; returns its last index."""
        text = "\n".join(done.lines)
        told: list[str] = []
        engine = Engine(DIR, EngineSettings(), clock=Clock(), files=files, on_notice=told.append)
        last = engine.log.next_index - 1
        if opened is not None and not done.lines:
            _need(last == opened, f"a repair that says nothing ends with {last}, a start with {opened}")
        missing_before = 0
        match = re.search(r"what the indexes 1 to (\d+) held is lost", text)
        if match:
            missing_before = int(match[1])
        holes = [(hole.first, hole.last) for hole in done.holes] + ([(1, missing_before)] if match else [])
        if damaged.foreign and done.lines:
            engine.close()
            return last
        for index, data in readable(engine).items():
            _need(story.records.get(index) == data, f"after a repair index {index} is what was never written; it said {text!r}")
        if last < story.acknowledged and opened != last and not self._looks_earlier(story, contents_of(files), last):
            text_and_start = text + " ".join(told)
            _need(
                f"index {last}" in text_and_start or f"from {last + 1}" in text or f"to {last}" in text,
                f"cut to {last}, and it said {text!r}",
            )
        kept = self._kept_prefix(story, damaged)
        _need(last >= kept, f"everything up to index {kept} is there, and a repair cuts to {last}: {text!r}")
        lost = {index for index in story.records if index <= last and any(first <= index <= end for first, end in holes)}
        self._compare(story, engine, last, lost, text)
        engine.forget_lost()
        for space in engine.namespaces.values():
            for name in list(space.queues.store.queues):
                space.queues.peek(name, 1000)
            for name in list(space.streams.store.streams):
                space.streams.read(name, limit=1000)
        engine.kv.put(b"after", b"it")
        engine.close()
        return last

    def _kept_prefix(self, story: Story, damaged: Damaged) -> int:
        """The index up to which no file was touched: what a repair must keep."""
        try:
            entries = manifest.read(disk_of(story.contents), DIR).entries
        except (FileNotFoundError, LogDamaged):
            return 0
        kept = 0
        for number, entry in enumerate(entries):
            if damaged.touched.intersection(entry.files) or not all(name in damaged.contents for name in entry.files):
                break
            kept = entries[number + 1].first - 1 if number + 1 < len(entries) else story.acknowledged
        return kept

    def _compare(self, story: Story, engine: Engine, last: int, lost: set[int], text: str) -> None:
        """Everything that no lost record is about is as it was at index `last`; what is older than that is said to be."""
        found, expected = state_of(engine), story.state(last)
        if not lost:
            difference = differing(found, expected)
            _need(not difference, f"after a repair without holes, at index {last}: {difference}; it said {text!r}")
            return
        touched: set[Any] = set()
        everything: set[int] = set()  # namespaces of which a mark or the name was lost
        for index in lost:
            record = decode(story.records[index])
            if record.family < FAMILY_KV:
                everything.add(record.namespace)
            elif record.family >= FAMILY_CONTAINED:
                touched.add((record.namespace, container_of(record.entity)))
            else:
                touched.add(entity_of(record)[1:])
        if 0xFFFFFFFF in everything:
            return
        for name, space in found.items():
            number = engine.namespaces[name].id
            if number in everything:
                continue
            wanted = expected.get(name, {"keys": {}, "queues": {}, "streams": {}})
            for key in {*space["keys"], *wanted["keys"]}:
                if (number, key) in touched:
                    self._may_be_older(story, number, key, space["keys"].get(key), wanted["keys"].get(key), text)
                else:
                    same = space["keys"].get(key) == wanted["keys"].get(key)
                    _need(same, f"key {key!r} is {space['keys'].get(key)}, not {wanted['keys'].get(key)}; it said {text!r}")
            for kind in ("queues", "streams"):
                for each in {*space[kind], *wanted[kind]}:
                    if not any(space_id == number and len(each).to_bytes(2, "little") + each in entity for space_id, entity in touched):
                        same = space[kind].get(each) == wanted[kind].get(each)
                        _need(same, f"{kind} {each!r}: {space[kind].get(each)}, not {wanted[kind].get(each)}; it said {text!r}")

    def _may_be_older(self, story: Story, number: int, key: bytes, found: Any, wanted: Any, text: str) -> None:
        """A key of which records were lost: gone, or what it was before, which must be said."""
        if found is None or found == wanted:
            return
        _need("holds again" in text, f"{key!r} is {found}, and was {wanted}: nothing says so in {text!r}")
        # a touch that is left of a lost value is applied to the older one: the value counts here, not its holder
        once = (decode(data) for data in story.records.values())
        was = any(each.entity == key and each.namespace == number and each.state.endswith(found.value) for each in once)
        _need(was, f"{key!r} was never {found}")


def differing(found: Any, expected: Any) -> str:
    """The first difference of two states, "" where they are the same."""
    if found == expected:
        return ""
    for name in sorted({*found, *expected}):
        one, other = found.get(name), expected.get(name)
        if one is None or other is None:
            return f"namespace {name} is {'missing' if one is None else 'too many'}"
        for kind in one:
            for key in sorted({*one[kind], *other[kind]}):
                if one[kind].get(key) != other[kind].get(key):
                    return f"{name} {kind} {key!r}: {one[kind].get(key)!r:.400} instead of {other[kind].get(key)!r:.400}"
    return "somewhere"


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise Broken(what)
