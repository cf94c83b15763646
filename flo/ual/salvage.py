"""Reads a damaged file of a base, block by block: the intact records, and where records are lost. Changes nothing."""

import os
from typing import NamedTuple

from flo.errors import LogDamaged
from flo.ual import base, block
from flo.ual.block import BLOCK_HEADER_BYTES, Block
from flo.ual.files import Files
from flo.ual.manifest import ManifestEntry
from flo.ual.record import HEADER


class Hole(NamedTuple):
    """A range of indexes in which records were lost."""

    first: int
    last: int


def salvage(files: Files, path: str, entry: ManifestEntry) -> tuple[int, dict[int, bytes], list[Hole]]:
    """(time of the range, every intact record by index, the holes where records are lost) of a file of a base. Raises `OSError`."""
    try:
        fd = files.open(path)
    except FileNotFoundError:
        return 0, {}, [Hole(entry.first, entry.last)]
    try:
        data = files.pread(fd, files.size(fd), 0)
    finally:
        files.close(fd)
    expected = entry.id if os.path.basename(path) == entry.file else entry.history_id
    time, seed, said, blocks_end = base.read_loosely(data, entry.first, entry.last, expected)
    rows: dict[int, bytes] = {}
    holes: list[Hole] = []
    at, last = 0, entry.first - 1
    broken = False
    while True:
        at = data.find(block.MAGIC, at, blocks_end)
        if at < 0:
            break
        found = _block_at(data, at, seed, path)
        if found is None or not entry.first <= found.head.first <= found.head.last <= entry.last:  # a block out of range is of another file
            broken, at = True, at + 1
            continue
        head = found.head
        if broken or head.first <= last:
            holes.append(Hole(last + 1, head.first - 1))
            broken = False
        end = at + head.end
        for index, row in found.rows_that_read(data[end : end + head.grouped_bytes]):
            if row is None:
                holes.append(Hole(index, index))
            else:
                rows[index] = row
        last = head.last
        at = end + head.grouped_bytes
    if broken or said is None or said != len(rows) + sum(1 for hole in holes if hole.first == hole.last):
        holes.append(Hole(last + 1, entry.last))
    time = max([time, *(HEADER.unpack_from(row)[5] for row in rows.values())])  # the stamps must not go back
    return time, rows, [hole for hole in holes if hole.first <= hole.last]


def _block_at(data: bytes, at: int, seed: int, path: str) -> Block | None:
    try:
        end = block.read_head(data[at : at + BLOCK_HEADER_BYTES], path, at).end
        return Block(data[at : at + end], seed, path, at)
    except LogDamaged:
        return None
