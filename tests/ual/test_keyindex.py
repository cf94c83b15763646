"""The index of a base: nobody can make keys that share their hash, and files of earlier versions are read as they are."""

from pathlib import Path
from random import Random
from zlib import crc32

import pytest

from flo.engine import Engine, EngineSettings, loading
from flo.ual.base import MAGIC_3, MAGIC_4, BaseFile, modulus_in
from flo.ual.check import check
from flo.ual.files import Files
from flo.ual.keyindex import CRC, MODULUS_BITS, _is_prime, draw_modulus, words_of
from tests.support.old_bases import age

COUNT = 2000


def with_crc(prefix: bytes, wanted: int) -> bytes:
    """`prefix` and four bytes more, so that the CRC-32 of the whole is `wanted`: a CRC is linear in the bits behind the prefix."""
    plain = crc32(prefix + bytes(4))
    rows = [(crc32(prefix + (1 << bit).to_bytes(4, "little")) ^ plain, 1 << bit) for bit in range(32)]
    left, found = wanted ^ plain, 0
    for bit in range(32):
        pivot = next(row for row in rows if row[0] >> bit & 1)
        rows = [(row[0] ^ pivot[0], row[1] ^ pivot[1]) if row[0] >> bit & 1 else row for row in rows if row is not pivot]
        if left >> bit & 1:
            left, found = left ^ pivot[0], found ^ pivot[1]
    return prefix + found.to_bytes(4, "little")


def alike(count: int) -> list[bytes]:
    """Keys of the same CRC-32, whatever it is begun with: they are of one length."""
    keys = [with_crc(b"%06d:" % number, 0x12345678) for number in range(count)]
    assert {crc32(key) for key in keys} == {0x12345678}
    return keys


def test_the_modulus_is_a_prime_of_30_bits() -> None:
    rng = Random(1)
    numbers = [*range(11, 3001, 2), *(rng.randrange(1 << 29, 1 << 30) | 1 for _ in range(300))]
    for number in numbers:
        assert _is_prime(number) == all(number % divisor for divisor in range(3, int(number**0.5) + 1, 2)), number
    drawn = {draw_modulus() for _ in range(200)}
    assert len(drawn) > 190
    assert all(modulus.bit_length() == MODULUS_BITS and _is_prime(modulus) for modulus in drawn)


def test_the_end_of_a_key_and_its_namespace_count() -> None:
    modulus = draw_modulus()
    words = {words_of(modulus, namespace)(b"k" + bytes(zeros), 0) for namespace in range(30) for zeros in range(30)}
    assert len(words) >= 895, "hashes of 24 bits: two of 900 are the same once in 40 times"


@pytest.mark.parametrize("magic", [None, MAGIC_4, MAGIC_3])
def test_keys_that_share_their_crc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, magic: bytes | None) -> None:
    """One lookup reads one key or two from the disk, not all of them; of a file of an earlier version, it finds the right one."""
    monkeypatch.setattr(loading, "LAZY_VALUES_MIN", 1)
    keys = alike(COUNT)
    with Engine(str(tmp_path), EngineSettings(history_depth=1)) as engine:
        with engine.batch():
            for number, key in enumerate(keys):
                engine.kv.put(key, b"%d" % number)
        engine.log.roll()
        engine.compact()
    if magic is not None:
        age(next(tmp_path.glob("*.base")), magic)
    assert check(str(tmp_path)).damage == []
    reads = 0
    entry_at = BaseFile.entry_at

    def counted(*args: object) -> bytes | None:
        nonlocal reads
        reads += 1
        return entry_at(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(BaseFile, "entry_at", counted)
    engine = Engine(str(tmp_path), manual=True, lazy=True)
    assert engine.background_load is not None
    for number in (0, 1, COUNT // 2, COUNT - 1):
        reads = 0
        found = engine.kv.get(keys[number])
        assert found is not None and found.value == b"%d" % number
        assert engine.kv.get(with_crc(b"absent:", 0x12345678)) is None
        assert (reads <= 4) == (magic is None), reads
    engine.log.abandon()


def test_a_directory_keeps_its_modulus(tmp_path: Path) -> None:
    settings = EngineSettings(history_depth=1)
    with Engine(str(tmp_path), settings) as engine:
        for number in range(3):
            engine.kv.put(b"k%d" % number, b"v")
            engine.log.roll()
            engine.compact()
    moduli = set()
    for path in tmp_path.glob("*.base"):
        first, last = map(int, path.name.split("-")[:2])
        file = BaseFile(Files(), str(path), first, last)
        moduli.add(file.keys()[2])
        file.close()
    assert moduli == {modulus_in(Files(), str(tmp_path))} and CRC not in moduli
