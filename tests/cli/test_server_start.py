"""What `flo server start`, `flo compact` and their Python say before and when they start."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import flo
from contrib.build_pyz import build
from flo.engine import EngineSettings
from tests.support.processes import ROOT, FloProcess, wait_until

pytestmark = [pytest.mark.computes, pytest.mark.slow]


def start(*flags: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Start a server that cannot start."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FLO_")} | (environment or {})
    return subprocess.run(
        [sys.executable, "-m", "flo", "server", "start", "--port", "0", *flags],
        capture_output=True, text=True, timeout=30, cwd=ROOT, env=kept,
    )  # fmt: skip


def run(*words: str) -> tuple[int, str]:
    """(the exit status, standard error) of a command that is refused at once."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FLO_")}
    done = subprocess.run([sys.executable, "-m", "flo", *words], capture_output=True, text=True, timeout=30, cwd=ROOT, env=kept)
    return done.returncode, done.stderr


def test_a_file_in_the_place_of_the_directory_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "data"):
        result = start("--data-dir", str(path))
        assert (result.returncode, result.stderr) == (1, f"flo: {tmp_path}/file: it is a file; name a directory\n")


def make_place(directory: Path, name: str) -> Path:
    """A data directory of which a file is missing; the path of the file."""
    with flo.Engine(str(directory)) as db:
        db.kv.put(b"key", b"value")
        if name == "base":
            db.compact()
    there = next(directory.glob("*.base")) if name == "base" else directory / name
    if name == "CREATING":  # looked at only where there is no log yet
        for path in directory.iterdir():
            path.unlink()
    there.unlink(missing_ok=True)
    return there


PLACES = ["LOCK", "MANIFEST", "MANIFEST.new", "ROOM", "00000000000000000001.seg", "base", "CREATING"]


@pytest.mark.parametrize("name", PLACES)
def test_a_link_in_the_directory_is_not_followed(name: str, tmp_path: Path) -> None:
    """Whoever may write there could have Flo empty another file of its user, or make one."""
    other = tmp_path / "other"
    there = make_place(tmp_path / "data", name)
    there.symlink_to(other)
    for content in (None, b"precious"):
        if content is not None:
            other.write_bytes(content)
        result = start("--data-dir", str(tmp_path / "data"))
        assert result.returncode == 1 and "it is a symbolic link" in result.stderr and str(there) in result.stderr, result.stderr
        assert (other.read_bytes() if other.exists() else None) == content


@pytest.mark.parametrize("name", PLACES)
def test_a_fifo_in_the_directory_makes_nobody_wait(name: str, tmp_path: Path) -> None:
    there = make_place(tmp_path / "data", name)
    os.mkfifo(there)
    result = start("--data-dir", str(tmp_path / "data"))
    assert result.returncode == 1 and "it is no regular file" in result.stderr and str(there) in result.stderr, result.stderr


@pytest.mark.parametrize("name", ["spare.seg", "CONTROL"])
def test_a_link_in_the_place_of_what_a_start_makes_anew_is_removed(name: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    make_place(tmp_path / "data", name).symlink_to(other)
    with FloProcess(tmp_path / "data") as server:
        assert not (tmp_path / "data" / name).is_symlink()
        with server.connect() as client:
            assert client.command("GET", "key") == b"value"
        assert server.stop() == 0
    assert other.read_bytes() == b"precious"


def test_a_secret_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    """By a server as by a client."""
    secret = tmp_path / "secret"
    server = "server", "start", "--port", "0", "--data-dir", str(tmp_path / "data")
    blank = f"flo: the secret file {secret} must hold 1 to 1024 bytes that are not all spaces.\n"
    secret.write_text("open sesame\n")
    for mode in (0o640, 0o602):
        secret.chmod(mode)
        others = f"flo: the secret file {secret} can be read or written by other users (mode {mode:o}); run chmod 600 {secret}.\n"
        for words in (server, ("ping",)):
            assert run(*words, "--secret-file", str(secret)) == (1, others)
    secret.chmod(0o600)
    for text in (" ", "\n", "", "x" * 1025):
        secret.write_text(text)
        assert run(*server, "--secret-file", str(secret)) == (1, blank), text
    secret.unlink()
    assert run(*server, "--secret-file", str(secret)) == (
        1, f"flo: the secret file {secret} cannot be read: No such file or directory.\n"
    )  # fmt: skip
    os.mkfifo(secret, 0o600)
    no_file = f"flo: the secret file {secret} is no regular file; write the secret into one.\n"
    for words in (server, ("ping",)):
        assert run(*words, "--secret-file", str(secret)) == (1, no_file), "and nobody waits for its writer"


@pytest.mark.parametrize("address", ["", " "])
def test_an_empty_address_to_listen_on_is_refused_in_words(address: str, tmp_path: Path) -> None:
    allowed = "an address is expected, such as 127.0.0.1; 0.0.0.0 listens on all addresses"
    assert run("server", "start", "--port", "0", "--data-dir", str(tmp_path), "--bind", address) == (
        1,
        f"flo: server.bind is {address!r} in --bind: {allowed}.\n",
    )


def test_settings_that_open_the_port_are_warned_about(tmp_path: Path) -> None:
    refused = "there is no secret, so clients from other machines are refused: set secret_file, or bind 127.0.0.1"
    everybody = "there is no secret, and insecure is set: whoever reaches the port can read and change everything"
    (tmp_path / "secret").write_text("open sesame")
    (tmp_path / "secret").chmod(0o600)
    for number, (flags, said, unsaid) in enumerate(
        (
            (("--bind", "0.0.0.0"), refused, everybody),
            (("--bind", "0.0.0.0", "--insecure"), everybody, refused),
            (("--bind", "0.0.0.0", "--secret-file", str(tmp_path / "secret")), "", "there is no secret"),
            ((), "", "there is no secret"),
        )
    ):
        with FloProcess(tmp_path / str(number), *flags) as server:
            with server.connect() as client:
                client.command("PING")
            assert said in server.output() and unsaid not in server.output(), flags


def test_an_address_of_ipv6_is_shown_in_brackets(tmp_path: Path) -> None:
    with FloProcess(tmp_path / "data", "--bind", "::1") as server:
        assert f"is listening on [::1]:{server.port} (process" in server.output()


def test_a_directory_that_others_can_write_to_is_warned_about_once(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o777)
    with FloProcess(tmp_path / "data") as server:
        wait_until(lambda: "other users can write" in server.output(), "the warning")
        assert server.output().count(f"other users can write to the data directory {tmp_path}/data: run chmod 700") == 1
        (tmp_path / "data").chmod(0o700)
        server.stop()
        server.start()
        server.stop()
        assert "other users" not in server.output()


def test_a_misspelt_variable_is_warned_about(tmp_path: Path) -> None:
    with FloProcess(tmp_path / "data", environment={"FLO_DURABILTY": "async"}) as server:
        assert "the environment variable FLO_DURABILTY is not a setting. Did you mean FLO_DURABILITY?" in server.output()


@pytest.mark.parametrize("entry", ["package", "archive"])
def test_an_older_python_is_told_which_one_is_needed(entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ast

    source = ROOT / "flo" / "__main__.py" if entry == "package" else ROOT / "contrib" / "pyz_main.py"
    for path in (source, ROOT / "flo" / "__init__.py"):
        ast.parse(path.read_text(), feature_version=(3, 7))
    if entry == "archive":
        build(tmp_path / "flo.pyz")
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    with pytest.raises(SystemExit, match=re.escape("Flo needs Python 3.11 or later; this is 3.9")):
        runpy.run_path(str(source if entry == "package" else tmp_path / "flo.pyz"), run_name="__main__")


def test_a_compaction_says_how_much_is_history(tmp_path: Path) -> None:
    """Its log may be larger than before: no value is dead where all are history."""
    directory = str(tmp_path / "data")
    with flo.Engine(directory, EngineSettings(durability="async")) as db, db.batch():
        for number in range(200):
            db.kv.put(b"key", b"%d" % number * 100)
    pattern = r"[\d.]+ \w+ before, ([\d.]+ \w+) now, of which ([\d.]+ \w+) are history \(kv\.history_depth, kv\.history_age\)"
    pattern += "(?:; there was little to remove)?"
    by_command = subprocess.run(
        [sys.executable, "-m", "flo", "compact", directory], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True
    )
    assert re.fullmatch(f"{directory}: {pattern}\n", by_command.stdout), by_command.stdout
    with FloProcess(tmp_path / "data") as server:
        by_server = subprocess.run(
            [sys.executable, "-m", "flo", "compact", directory], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True
        )
        assert re.fullmatch(f"{directory}, by the server that serves it: {pattern}\n", by_server.stdout), by_server.stdout
        assert re.search(r"and is \d+ now, \d+ of them history", server.output())
    moved = subprocess.run(
        [sys.executable, "-m", "flo", "compact", directory, "--to", f"{tmp_path}/other"],
        capture_output=True, text=True, timeout=60, cwd=ROOT, check=True,
    )  # fmt: skip
    assert re.search(f"{directory}: {pattern}. Start the server with --data-dir {tmp_path}/other", moved.stdout), moved.stdout


def test_a_compaction_onto_another_disk_needs_the_directory_alone_and_leaves_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flo", "compact", str(tmp_path / "data"), "--to", str(tmp_path / "other")]
    with FloProcess(tmp_path / "data") as server:
        with server.connect() as client:
            client.command("SET", "a", "1")
        held = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
        assert held.returncode == 1 and "is in use by process" in held.stderr
        assert not (tmp_path / "other").exists()
        server.stop()
        files = [tmp_path / "data" / "MANIFEST", *(tmp_path / "data").glob("0*.seg")]
        before = [path.read_bytes() for path in files]
        moved = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
        assert (moved.returncode, moved.stderr) == (0, "") and "not closed in order" not in moved.stdout
        assert [path.read_bytes() for path in files] == before
        server.start()
        assert "not closed in order" not in server.output()


def test_a_compaction_that_found_nothing_says_so(tmp_path: Path) -> None:
    directory = str(tmp_path / "data")
    with flo.Engine(directory, EngineSettings(durability="async")) as db:
        db.kv.put(b"key", b"value")
    command = [sys.executable, "-m", "flo", "compact", directory]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=True)
    assert re.fullmatch(f"{directory}: .* before, .* now; there was little to remove\n", result.stdout), result.stdout
