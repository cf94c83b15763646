"""dist/flo.pyz: the same bytes each time, and the whole of Flo on every Python found."""

import marshal
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from contrib.build_pyz import build
from flo.operations import BY_NAME
from flo.proto.binary import encode_request
from tests.support.processes import ROOT, FloProcess, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.waits]


def pythons() -> list[str]:
    """Every Python from 3.11 on that can be found: on the path, in pyenv, and the one that runs this."""
    found: dict[str, str] = {}
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [
        sys.executable,
        *(shutil.which(f"python3.{minor}") or "" for minor in range(11, 20)),
        *map(str, sorted(versions.glob("3.*/bin/python3"))),
    ]
    for path in candidates:
        if path and Path(path).exists():
            shown = subprocess.run([path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True)
            version = shown.stdout.strip()
            if shown.returncode == 0 and tuple(map(int, version.split("."))) >= (3, 11):
                found.setdefault(version, path)
    return list(found.values())


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist") / "flo.pyz"
    build(out)
    return out


def test_the_same_bytes_each_time(pyz: Path, tmp_path: Path) -> None:
    """Also from a copy whose files have other times, modes, and caches of compiled code."""
    copy = tmp_path / "copy"
    for name in ("flo", "contrib"):
        shutil.copytree(ROOT / name, copy / name, copy_function=shutil.copyfile)
    for path in (copy / "flo").rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(copy / "flo")], check=True)
    subprocess.run([sys.executable, str(copy / "contrib" / "build_pyz.py"), str(tmp_path / "again.pyz")], check=True, capture_output=True)
    assert (tmp_path / "again.pyz").read_bytes() == pyz.read_bytes()
    assert os.access(pyz, os.X_OK)


def test_make_install_puts_the_program_and_its_pages_below_a_prefix(tmp_path: Path) -> None:
    make = ["make", "install", f"PYTHON={sys.executable}", f"DESTDIR={tmp_path}/root", "PREFIX=/opt/flo tools"]
    subprocess.run(make, cwd=ROOT, check=True, capture_output=True)
    there = tmp_path / "root" / "opt" / "flo tools"
    pages = {path.relative_to(there / "share" / "man").as_posix() for path in there.glob("share/man/*/*")}
    assert pages == {"man1/flo.1", "man5/flo.toml.5", "man7/flo-protocol.7", "man7/floql.7"}
    shown = subprocess.run([there / "bin" / "flo", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("flo ")


def test_only_what_the_program_needs_is_in_it(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert "__main__.py" in names and "flo/server.py" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests") or name.endswith(".pyc")]


@pytest.mark.parametrize("python", pythons(), ids=lambda path: str(path).replace(str(Path.home()), ""))
def test_server_and_command_line(pyz: Path, tmp_path: Path, python: str) -> None:
    """In an empty directory, with nothing of this checkout in sight."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([python, str(pyz), *args], capture_output=True, text=True, cwd=tmp_path, timeout=60)

    assert run("--version").stdout.startswith("flo ")
    assert "server" in run("--help").stdout
    with FloProcess(tmp_path / "data", python=python, program=[str(pyz)]) as server:
        port = ("--port", str(server.port))
        with server.connect() as client:
            assert client.command("SET", "a", "1") == b"OK"
        assert run("kv", "incr", "a", *port).stdout == "2\n"
        assert run("kv", "get", "a", *port).stdout == "2\n"
        assert run("server", "status", *port).returncode == 0
        with server.connect() as client:
            assert client.command("GET", "a") == b"2"
        server.stop()
        server.start()
        assert run("kv", "get", "a", "--port", str(server.port)).stdout == "2\n"
    assert run("check", str(tmp_path / "data")).returncode == 0
    assert not list(tmp_path.glob("**/__pycache__"))


def test_what_is_compiled_is_kept_and_never_trusted_blindly(pyz: Path, tmp_path: Path) -> None:
    """In a directory of the user's own; a file that is damaged, of another source or cut short is made again."""
    home = tmp_path / "home"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONDONTWRITEBYTECODE", "XDG_CACHE_HOME")}
    environment["HOME"] = str(home)

    def version(**more: str) -> str:
        done = subprocess.run([sys.executable, str(pyz), "--version"], capture_output=True, text=True, env=environment | more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = version()
    cache = home / ".cache" / "flo"
    kept = {path.name: path.read_bytes() for path in cache.iterdir()}
    assert any(name.startswith("flo.cli.") for name in kept) and not any(name.endswith(str(os.getpid())) for name in kept)
    assert cache.stat().st_mode & 0o777 == 0o700
    written = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert version() == shown
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == written, "the second start compiles nothing"
    other = marshal.dumps(compile("raise SystemExit('not the source that is in the archive')", "x", "exec"))
    for damage in (lambda data: data[:-7], lambda data: data[:40] + b"\xff" + data[41:], lambda _: b"", lambda data: data[:12] + other):
        for name, data in kept.items():
            (cache / name).write_bytes(damage(data))
        assert version() == shown
        assert {path.name: path.read_bytes() for path in cache.iterdir()} == kept
    # others may write there: what they wrote is not run
    elsewhere = tmp_path / "elsewhere"
    for mode, used in ((0o777, False), (0o755, True)):
        elsewhere.mkdir(exist_ok=True)
        elsewhere.chmod(mode)
        assert version(CACHE_DIRECTORY=str(elsewhere)) == shown
        assert bool(list(elsewhere.iterdir())) == used
    assert version(XDG_CACHE_HOME="relative") == shown and not Path("relative").exists(), "no directory is made wherever one happens to be"
    # nothing can be written, or shall be
    assert version(CACHE_DIRECTORY="/proc/flo") == shown
    assert version(XDG_CACHE_HOME=str(tmp_path / "none"), PYTHONDONTWRITEBYTECODE="1") == shown
    assert not (tmp_path / "none").exists()


def has_own_copy(server: FloProcess, archive: Path, size: int) -> bool:
    """Whether the process has copied its archive of `size` bytes, and closed it."""
    copied = False
    if server.process is not None:
        with suppress(OSError):
            for link in Path(f"/proc/{server.pid}/fd").iterdir():
                if link.readlink() == archive:
                    return False
                copied = copied or (str(link.readlink()).startswith("/memfd:flo.pyz") and link.stat().st_size == size)
    return copied


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the system has no files in memory")
@pytest.mark.parametrize("moment", ["while it imports", "when it listens"])
@pytest.mark.parametrize("how", ["moved", "rewritten"])
def test_a_server_does_not_see_what_takes_the_place_of_its_archive(pyz: Path, tmp_path: Path, how: str, moment: str) -> None:
    """Neither the server nor the process that compacts for it, whenever that is."""
    archive, other = tmp_path / "flo.pyz", tmp_path / "other.pyz"
    shutil.copy(pyz, archive)
    size = archive.stat().st_size
    with zipfile.ZipFile(other, "w") as later:
        for name in ("flo/__init__.py", "flo/commands/binary/__init__.py", "flo/ual/__init__.py", "flo/ual/rewriter.py"):
            later.writestr(name, "raise SystemError('of another version')")
    with FloProcess(tmp_path / "data", program=[str(archive)], start=False) as server:
        starting = threading.Thread(target=server.start)
        starting.start()
        wait_until((lambda: has_own_copy(server, archive, size)) if moment == "while it imports" else (lambda: server.port), moment)
        if how == "moved":
            other.replace(archive)
        else:
            archive.write_bytes(other.read_bytes())
        starting.join()
        with server.connect() as client:
            assert client.command("XADD", "stream", "*", "field", "value")
            assert client.command("INCRBYFLOAT", "key", "1.5") == b"1.5"
        with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
            sock.sendall(encode_request(BY_NAME["ping"], 1, 0, b"", b""))
            assert sock.recv(100).startswith(b"FLO")
        os.kill(server.pid, signal.SIGUSR1)
        wait_until(lambda: "compact" in server.output(), "the end of the compaction")
        assert "compacted the log" in server.output() and "Traceback" not in server.output()
        assert server.stop() == 0


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the system has no files in memory")
def test_an_archive_that_is_replaced_while_it_is_read_is_said_in_words(pyz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contrib import pyz_main

    archive = tmp_path / "flo.pyz"
    shutil.copy(pyz, archive)
    real = os.fstat

    def changes(descriptor: int) -> os.stat_result:
        before = real(descriptor)
        os.truncate(archive, 0)
        return before

    monkeypatch.setattr(os, "fstat", changes)
    with pytest.raises(SystemExit, match=r"flo\.pyz is not whole: it may have been replaced while it was read\."):
        pyz_main.own_copy(str(archive))
    monkeypatch.undo()
    with pytest.raises(SystemExit, match=r"cannot be read: No such file or directory\."):
        pyz_main.own_copy(str(tmp_path / "none"))


def test_start_up_imports_only_what_it_needs(pyz: Path) -> None:
    """`--help` knows no engine, a client command no server."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); from flo.cli import build_parser; build_parser({group!r}); print(*sys.modules)"

    def loaded(group: set[str]) -> set[str]:
        result = subprocess.run(
            [sys.executable, "-I", "-c", script.format(group=group), str(pyz)], capture_output=True, text=True, check=True
        )
        return set(result.stdout.split())

    assert not {name for name in loaded({""}) if name.startswith("flo.") and not name.startswith("flo.cli")}
    client = loaded({"kv"})
    assert not client & {"flo.server", "flo.engine", "flo.ual.log", "asyncio", "logging", "ssl", "random"}
    assert not loaded({"server"}) & {"flo.client", "asyncio", "logging", "ssl", "random", "traceback"}
