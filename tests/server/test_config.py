"""Settings: precedence, units, and errors that name the setting, its source and what is allowed."""

import os
from pathlib import Path

import pytest

from flo.config import load, parse_duration, parse_size, read_secret, setting_rows, unknown_variables
from flo.errors import ConfigError

pytestmark = pytest.mark.computes


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "flo.toml"
    path.write_text('[server]\nport = 1\nbind = "::1"\nmax_memory = "1gb"\n[kv]\nhistory_depth = 7\n')
    settings, source = load(str(path), {"FLO_PORT": "2", "FLO_BIND": "127.0.0.2", "FLO_KV_HISTORY_AGE": "7d"}, {"port": "3", "bind": None})
    assert source == str(path)
    assert (settings.port, settings.bind, settings.max_memory) == (3, "127.0.0.2", 1 << 30)
    assert (settings.history_depth, settings.history_age, settings.durability) == (7, 604_800_000, "sync")


def test_a_file_in_the_working_directory_is_read_unless_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, {}, {})[1] is None
    (tmp_path / "flo.toml").write_text("[server]\nport = 7\n")
    settings, source = load(None, {}, {})
    assert (settings.port, source) == (7, "flo.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1\n", "server.prot is not a setting. Did you mean server.port?"),
        ("port = 1\n", "is outside of a section"),
        ("[server]\nport = 70000\n", "server.port is 70000 in .*: a whole number from 0 to 65535 is expected"),
        ('[server]\nport = "x"\n', "server.port is 'x'"),
        ('[server]\ndurability = "maybe"\n', "one of sync, async, ephemeral is expected"),
        ('[kv]\nhistory_age = "soon"\n', "a time such as"),
        ('[server]\nmax_memory = "lots"\n', "a size such as"),
        ('[server]\nmax_memory = "12"\n', "at least 1048576 bytes"),
        ("[server\n", "is not TOML"),
        ('[server]\ninsecure = "perhaps"\n', "true or false is expected"),
        ('[resp]\ndatabases = ["jobs"]\n', r"resp.databases is \['jobs'\] in .*: the first namespace must be default"),
        ('[resp]\ndatabases = ["default", 1]\n', "a list of namespaces is expected"),
        ("[resp]\ndatabases = 2\n", "a list of namespaces is expected"),
        ('[resp]\ndatabases = ["default", "a", "a"]\n', "only once"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "flo.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(str(path), {}, {})


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(str(tmp_path / "none.toml"), {}, {})


def test_units() -> None:
    assert [parse_size(1)(text) for text in ("5", "1kb", "2MB", "3g", "0")] == [5, 1024, 2 << 20, 3 << 30, 0]
    assert [parse_duration(text) for text in ("5ms", "2s", "3m", "1h", "1d", "1w")] == [
        5,
        2000,
        180_000,
        3_600_000,
        86_400_000,
        604_800_000,
    ]


def test_a_list_is_one_in_the_file_and_has_commas_in_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "flo.toml"
    path.write_text('[resp]\ndatabases = ["default", "jobs"]\n')
    assert load(str(path), {}, {})[0].databases == ("default", "jobs")
    assert load(str(path), {"FLO_RESP_DATABASES": "default, a,b"}, {})[0].databases == ("default", "a", "b")
    assert load(str(path), {"FLO_RESP_DATABASES": ""}, {})[0].databases == ()
    assert load(None, {}, {}, str(tmp_path / "none"))[0].databases == ()


def test_a_secret_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"s3cret\n")
    path.chmod(0o600)
    assert read_secret(str(path)) == b"s3cret"
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="can be read or written by other users"):
        read_secret(str(path))
    assert read_secret("") is None


def test_every_setting_has_its_own_names() -> None:
    rows = setting_rows()
    assert len({row.environment for row in rows}) == len({row.full_name for row in rows}) == len(rows)


def test_what_is_written_nearly_right_is_told_what_is_right(tmp_path: Path) -> None:
    path = tmp_path / "flo.toml"
    path.write_text('[server]\nsecret = "x"\n')
    with pytest.raises(ConfigError, match=r"Did you mean server\.secret_file\?"):
        load(str(path), {}, {})
    right = dict.fromkeys(("FLO_HOST", "FLO_NAMESPACE", "FLO_PORT", "FLO_KV_HISTORY_DEPTH", "HOME"), "1")
    assert unknown_variables({"FLO_PROT": "1", "FLO_X": ""} | right) == [
        "the environment variable FLO_PROT is not a setting. Did you mean FLO_PORT?",
        "the environment variable FLO_X is not a setting.",
    ]


@pytest.mark.parametrize("wrong", ["foo", "foo:", ":9000", "foo:0", "foo:65536", "foo:9000x", "::1:9000", "a b:9000", "9000"])
def test_what_is_advertised_is_an_address(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.advertise is '.*' in --advertise: host:port is expected"):
        load(None, {}, {"advertise": wrong})
    for right in ("flo.example.com:9000", "[::1]:9000", ""):
        assert load(None, {}, {"advertise": right})[0].advertise == right


def test_an_empty_address_to_listen_on_is_refused() -> None:
    for wrong in ("", " "):
        with pytest.raises(ConfigError, match=r"server\.bind is .*: an address is expected"):
            load(None, {}, {"bind": wrong})


def test_a_secret_is_in_a_regular_file_of_its_owner_and_is_not_blank(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    for blank in (b" ", b"\n", b"", b" \t\n"):
        path.write_bytes(blank)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match="that are not all spaces"):
            read_secret(str(path))
    path.write_bytes(b"s3cret")
    for mode in (0o620, 0o602, 0o604):
        path.chmod(mode)
        with pytest.raises(ConfigError, match="can be read or written by other users"):
            read_secret(str(path))
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    assert read_secret(str(tmp_path / "link")) == b"s3cret", "as Kubernetes mounts it"
    os.mkfifo(tmp_path / "fifo", 0o600)
    for other in (tmp_path / "fifo", tmp_path, Path("/dev/null")):
        with pytest.raises(ConfigError, match=r"is no regular file|can be read or written|Is a directory"):
            read_secret(str(other))
