"""Bases as earlier versions wrote them: a base of today is changed into one of the format before."""

from array import array
from pathlib import Path
from zlib import crc32

from flo.ual.base import _HEADER, ENTRY_BYTES, HEADER_BYTES, MAGIC, MAGIC_4, TRAILER_BYTES, BaseFile
from flo.ual.columns import to_bytes
from flo.ual.files import Files
from flo.ual.keyindex import CRC
from flo.ual.record import U32


def age(path: Path, magic: bytes) -> None:
    """Make the base at `path` one of `magic` (MAGIC_4, or MAGIC_3, which has no checks): its hashes are CRCs, and it has no modulus."""
    data = path.read_bytes()
    assert data[:8] == MAGIC
    _, _, first, last, _ = _HEADER.unpack_from(data)
    file = BaseFile(Files(), str(path), first, last)
    words = sorted(word for block in file.blocks() for word in block.words(CRC)) if file.value_count else []
    at = file.footer_at + len(file) * ENTRY_BYTES
    file.close()
    index = to_bytes(array("Q", [word for word, _ in words]))
    if magic == MAGIC_4:
        index += to_bytes(array("I", [check for _, check in words]))
    head = magic + data[8 : _HEADER.size]
    header = (head + U32.pack(crc32(head))).ljust(HEADER_BYTES, b"\0")
    path.write_bytes(header + data[HEADER_BYTES:at] + index + U32.pack(crc32(index)) + data[-TRAILER_BYTES:])
