"""Redis's own test suite, as its README runs it against an external server.

The tests that Flo does not pass and Redis does are in tests/support/redis_suite_known.py, each with its reason. A test that is not there
must pass, and a test that is there must fail.
"""

import shutil
from pathlib import Path

import pytest

from tests.support.processes import ROOT, FloProcess, RedisProcess, free_port
from tests.support.redis_suite import Missing, run_unit, suite_directory
from tests.support.redis_suite_known import KNOWN


def test_every_reason_is_in_the_documents() -> None:
    page = " ".join((ROOT / "docs" / "redis.md").read_text().split())
    assert [reason for reasons in KNOWN.values() for reason in reasons if reason not in page] == []


@pytest.fixture(scope="module")
def suite() -> Path:
    """The directory of Redis's sources."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    try:
        return suite_directory()
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("unit", KNOWN)
def test_a_unit_of_redis_own_suite(suite: Path, unit: str, tmp_path: Path) -> None:
    known = {name for names in KNOWN[unit].values() for name in names}
    (tmp_path / "redis").mkdir()
    with RedisProcess(tmp_path / "redis", "--enable-debug-command", "yes") as redis:
        expected = run_unit(suite, unit, redis.port, lambda: pytest.fail("Redis has DEBUG LOADAOF, and needs no restart"))
    with FloProcess(tmp_path / "flo", "--port", str(free_port())) as flo:

        def restart() -> None:
            flo.kill()
            flo.start()

        found = run_unit(suite, unit, flo.port, restart)
        assert flo.alive(), "Flo serves after all of it"
    failed = {name: why for name, why in found.failed.items() if name not in expected.failed}
    print(f"{unit}: {len(found.passed)} pass, {len(failed)} fail, {found.ignored} are not for an external server")
    new = {name: why for name, why in failed.items() if name not in known}
    assert not new, "failures that are not in the list of known ones:\n" + "\n".join(f"{name}: {why}" for name, why in new.items())
    gone = known - failed.keys()
    assert not gone, f"in the list of known failures, but they pass, or are no longer there: {sorted(gone)}"
