"""What a start does with a log: the records' effect on the stores, many at a time.

`Loading` does to the stores what `Engine.apply` does, record by record, for the records that most logs consist of, three to ten times as
fast: each part's bulk load (flo.engine.bulk) takes them. The rest goes to `Engine.apply`. tests/ual/test_compaction.py holds the two equal.

A batch is read record by record. But records that begin with the same twelve bytes (length, type, shape, length of the entity, namespace)
are laid out alike, and where several of them follow each other one compiled format takes them apart: a **run**. In long runs of rows
(flo.ual.layouts) what must be the same is compared by slices with a step, one byte of all of them at once.
"""

import struct
from array import array
from collections.abc import Callable, Sequence
from functools import partial

from flo.engine.background_load import LAZY_FILES_MAX, LAZY_VALUES_MIN, BackgroundLoad
from flo.engine.bulk import Bulk
from flo.engine.namespace import PARTS, Namespace
from flo.engine.part import Part
from flo.errors import LogDamaged
from flo.ual import descriptors
from flo.ual.base import BaseFile
from flo.ual.block import VALUE_TYPES
from flo.ual.columns import extend
from flo.ual.keyindex import KeyIndex
from flo.ual.layouts import Group
from flo.ual.record import HEADER_BYTES, LIKE, LIKE_BYTES, Record, decode
from flo.ual.uniform_spans import STRIDES_MIN

RUN_SIZES = (8, 64, 512)  # records looked at in one go: after a whole run of one size, the next larger
FORMATS_RECORDS_MAX = 64 * RUN_SIZES[-1]  # of all formats together: 4 MB

# What takes the records of a run apart: (format, pieces a record), by the type and the lengths of what is cut
Form = tuple[Callable[[bytes], tuple[bytes, ...]], int]


class Loading:
    """One start. It is the log's `flo.ual.recovery.Loader`."""

    def __init__(
        self,
        apply: Callable[[int, Record], None],
        find: Callable[[int], Namespace | None],
        begin: Callable[[list[KeyIndex]], BackgroundLoad] | None = None,
    ) -> None:
        """`apply` is the engine's; `find` gives the namespace with an id. `begin` starts a background load; None: read all values now."""
        self.apply = apply
        self._find = find
        self._begin = begin
        self._background: BackgroundLoad | None = None
        self._all: list[Bulk] = []
        self._bulks: dict[int, Bulk] = {}  # by the types they take
        self._preceding: dict[int, Bulk] = {}  # by all types of their part
        for kind in PARTS:
            if kind.bulk is not None:
                bulk = kind.bulk(partial(self._part, kind.name))
                self._all.append(bulk)
                self._bulks |= dict.fromkeys(bulk.types, bulk)
                self._preceding |= dict.fromkeys(kind.types, bulk)
        self._forms: dict[tuple[int, int, int, int], Form] = {}
        self._formed = 0  # records they are for, in all

    def _part(self, name: str, number: int) -> Part | None:
        namespace = self._find(number)
        return None if namespace is None else getattr(namespace, name)

    def defer_values(self, bases: Sequence[Callable[[], BaseFile]]) -> bool:
        """As in Loader: the values of bases may be read later, where all have an index, and there are many in not too many files."""
        opened: list[BaseFile] = []
        values, may, files_max = 0, self._begin is not None, descriptors.share(LAZY_FILES_MAX)
        try:
            for opening in bases:
                file = opening()
                opened.append(file)
                if file.has_index:
                    file.keys()  # damage anywhere is found by every start
                may = may and file.has_index
                if may and file.value_count and len(opened) <= files_max + 1:  # one too many is enough to know
                    values += file.value_count
                else:
                    opened.pop().close()
            if self._begin is not None and may and values >= LAZY_VALUES_MIN and len(opened) <= files_max:
                self._background, opened = self._begin([KeyIndex(file) for file in opened]), []
                for bulk in self._all:
                    bulk.read_later(self._background)
        finally:
            for file in opened:
                file.close()
        return self._background is not None

    def batch(self, first: int, count: int, body: bytes, base: int, offsets: "array[int]") -> None:
        """As in Loader."""
        placed, bulks, unpack = offsets.append, self._bulks, LIKE.unpack_from
        at, size, index, end_index = 0, len(body), first, first + count
        run_from = first  # where the next look for a run is worth it
        while index < end_index:
            if at + HEADER_BYTES > size:
                raise LogDamaged("the batch holds fewer records than it says.")
            length, kind, shape, entity_bytes, namespace = unpack(body, at)
            end = at + length
            bulk = None if shape or not at + HEADER_BYTES + entity_bytes <= end <= size else bulks.get(kind)
            if bulk is not None:
                if index >= run_from and body.startswith(body[at : at + LIKE_BYTES], end):
                    done = self._run(bulk, index, end_index - index, body, at)
                    if done < RUN_SIZES[1]:
                        run_from = index + done + RUN_SIZES[1]
                    if done:
                        extend(offsets, base + at, length, done)
                        index += done
                        at += done * length
                        continue
                placed(base + at)
                start = at + HEADER_BYTES
                if bulk.take(index, namespace, kind, body, start, start + entity_bytes, end):
                    index += 1
                    at = end
                    continue
            else:
                placed(base + at)
            self.other(index, decode(body, at))
            index += 1
            at += max(length, HEADER_BYTES)
        if at != size:
            raise LogDamaged("the batch's records do not add up to its length.")
        for each in self._all:
            each.batch_ended()

    def _run(self, bulk: Bulk, first: int, count: int, body: bytes, at: int) -> int:
        """Have records from offset `at` on taken that are laid out as the first is, up to `count`; returns how many were."""
        length, kind, _, entity_bytes, namespace = LIKE.unpack_from(body, at)
        most = min(count, (len(body) - at) // length)
        if bulk.strides and most >= STRIDES_MIN:
            return bulk.take_long_run(first, most, body, at)
        like = body[at : at + LIKE_BYTES]
        done, level = 0, 0
        while (size := RUN_SIZES[level]) <= min(count - done, (len(body) - at) // length):
            unpack, pieces = self._forms.get((kind, entity_bytes, length, size)) or self._form(bulk, kind, entity_bytes, length, size)
            found = unpack(body[at : at + size * length])
            heads = found[::pieces]
            alike = size
            if heads.count(like) != size:
                alike = next(place for place in range(size) if heads[place] != like)
                if not alike:
                    break
                found = found[: alike * pieces]
            columns = [found[place::pieces] for place in range(1, pieces)]
            took = bulk.take_run(first + done, namespace, kind, length - HEADER_BYTES - entity_bytes, columns)
            done += took
            if took < size:
                break
            at += size * length
            level = min(level + 1, len(RUN_SIZES) - 1)
        return done

    def _form(self, bulk: Bulk, kind: int, entity_bytes: int, length: int, size: int) -> Form:
        """What takes `size` such records apart."""
        rest = length - HEADER_BYTES - entity_bytes
        cuts = bulk.cuts(entity_bytes, rest)
        over = entity_bytes + rest - sum(cuts)
        if min(*cuts, over) < 0:
            raise LogDamaged(f"a record of type {kind:#x} and {length} bytes cannot have an entity of {entity_bytes}.")
        one = f"{LIKE_BYTES}s{HEADER_BYTES - LIKE_BYTES}x" + "".join(f"{cut}s" for cut in cuts) + f"{over}x"
        self._formed += size
        if self._formed > FORMATS_RECORDS_MAX:
            self._forms.clear()
            self._formed = size
        made = self._forms[kind, entity_bytes, length, size] = (struct.Struct("<" + one * size).unpack, 1 + len(cuts))
        return made

    def other(self, index: int, record: Record) -> None:
        """One record by itself."""
        self.finish()
        bulk = self._preceding.get(record.type)
        if bulk is None or bulk.precede(index, record):
            self.apply(index, record)

    def values(self, namespace: int, pieces: list[bytes]) -> None:
        """Values of a base: key, entry, key, entry, and so on."""
        self._bulks[VALUE_TYPES[0]].values(namespace, pieces)

    def group(self, group: Group) -> None:
        """Rows of a base."""
        self._bulks[group.type].group(group)

    def finish(self) -> None:
        """Have the stores hold what was gathered."""
        for bulk in self._all:
            bulk.finish()
