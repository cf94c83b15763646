"""Settings: one table that defines flo.toml, the environment, the flags, CONFIG GET and docs/settings.md.

Precedence: flags > environment > flo.toml > defaults. `kv.history_depth` is FLO_KV_HISTORY_DEPTH in the environment; settings
of `[server]` leave out the section: FLO_PORT.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from flo.errors import ConfigError
from flo.limits import OUTPUT_BYTES_MAX, REQUEST_BYTES_MAX
from flo.ual.log import DURABILITIES, SEGMENT_BYTES

CLUSTER_NAME = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-"  # the characters of a cluster's name
PROFILES = ("flo", "redis")  # of RESP
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
ALIKE = 0.75  # how much a wrong name has to have of a right one: all variables share FLO_
CLIENT_VARIABLES = ("FLO_HOST", "FLO_NAMESPACE")  # of the command line
SECRET_BYTES_MAX = 1024
SEGMENT_BYTES_MIN = 4 << 20  # a tick may write 2 MiB before the next segment's room is checked
_SIZE = re.compile(r"(\d{1,18})\s*(b|kb?|mb?|gb?|tb?)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_DURATION = re.compile(r"(\d{1,12})\s*(ms|s|m|h|d|w)", re.IGNORECASE)
_DURATION_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def parse_int(low: int, high: int) -> Callable[[Any], int]:
    """A parser of whole numbers from `low` to `high`."""

    def parse(value: Any) -> int:
        text = str(value).strip()
        if isinstance(value, bool) or not re.fullmatch(r"-?\d{1,18}", text) or not low <= int(text) <= high:
            raise ConfigError(f"a whole number from {low} to {high} is expected")
        return int(text)

    return parse


def parse_size(low: int) -> Callable[[Any], int]:
    """A parser of byte counts such as 1048576, 64mb, 1gb: at least `low`, or 0."""

    def parse(value: Any) -> int:
        match = _SIZE.fullmatch(str(value).strip())
        size = int(match[1]) * _SIZE_UNITS[(match[2] or "").lower()[:1]] if match else -1
        if size != 0 and size < low:
            raise ConfigError(f"a size such as 64mb or 1gb is expected, at least {low} bytes{', or 0' if low else ''}")
        return size

    return parse


def parse_duration(value: Any) -> int:
    """A time such as 500ms, 30s, 10m, 24h, 7d; returns ms."""
    match = _DURATION.fullmatch(str(value).strip())
    if match is None:
        raise ConfigError("a time such as 500ms, 30s, 10m, 24h or 7d is expected")
    return int(match[1]) * _DURATION_UNITS[match[2].lower()]


class Choice:
    """A parser that accepts one of `choices`."""

    def __init__(self, choices: tuple[str, ...]) -> None:
        self.choices = choices

    def __call__(self, value: Any) -> str:
        """The value. Raises `ConfigError`."""
        if value not in self.choices:
            raise ConfigError(f"one of {', '.join(self.choices)} is expected")
        return str(value)


def parse_bool(value: Any) -> bool:
    """true or false."""
    words = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}
    found = words.get(str(value).strip().lower())
    if found is None:
        raise ConfigError("true or false is expected")
    return found


def parse_text(value: Any) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise ConfigError("text is expected")
    return value


def parse_host(value: Any) -> str:
    """An address to listen on. An empty one would mean every address."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError("an address is expected, such as 127.0.0.1; 0.0.0.0 listens on all addresses")
    return value


def parse_address(value: Any) -> str:
    """host:port, or nothing."""
    text = parse_text(value)
    host, _, port = text.rpartition(":")
    right = bool(host) and (":" not in host or (host[0] == "[" and host[-1] == "]"))
    if text and not (right and " " not in text and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError("host:port is expected, such as flo.example.com:9000 or [2001:db8::1]:9000")
    return text


def parse_databases(value: Any) -> tuple[str, ...]:
    """Names of namespaces: a list, or text with commas."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ConfigError('a list of namespaces is expected, such as ["default", "jobs"], or text such as default,jobs')
    names = tuple(name.strip() for name in names)
    if names in ((), ("",)):
        return ()
    if names[0] != "default":
        raise ConfigError("the first namespace must be default, because SELECT 0 means default")
    if len(set(names)) < len(names):
        raise ConfigError("a namespace may be named only once")
    return names


def parse_names(value: Any) -> tuple[str, ...]:
    """Names, in small letters: a list, or text with commas."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ConfigError('a list of names is expected, such as ["flo.example.com"], or text with commas')
    return tuple(name.strip().lower() for name in names if name.strip())


def parse_urls(value: Any) -> tuple[str, ...]:
    """Addresses of etcd's members: a list, or text with commas."""
    from flo.endpoint import Endpoint

    urls = value.split(",") if isinstance(value, str) else value
    if not isinstance(urls, (list, tuple)) or not all(isinstance(url, str) for url in urls):
        raise ConfigError('a list of addresses is expected, such as ["http://10.0.0.1:2379"], or text with commas')
    found = tuple(url.strip() for url in urls if url.strip())
    for url in found:
        try:
            Endpoint.parse(url)
        except ValueError as e:
            raise ConfigError(str(e)) from None
    return found


def parse_name(value: Any) -> str:
    """A name that may be part of a key."""
    if not isinstance(value, str) or not value or not set(value) <= set(CLUSTER_NAME):
        raise ConfigError("a name of letters, digits, `.`, `_` and `-` is expected")
    return value


class SettingRow(NamedTuple):
    """One setting, for documentation and look-up. `full_name` is section.name."""

    attribute: str
    default: Any
    section: str
    name: str
    summary: str
    shown: str
    redis: str
    live: bool
    parse: Callable[[Any], Any]

    @property
    def full_name(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def environment(self) -> str:
        """The environment variable of the setting."""
        prefix = "" if self.section == "server" else f"{self.section.upper()}_"
        return f"FLO_{prefix}{self.name.upper()}"


def setting(
    default: Any,
    parse: Callable[[Any], Any],
    section: str,
    summary: str,
    *,
    name: str = "",
    shown: str = "",
    redis: str = "",
    live: bool = False,
) -> Any:
    """A row of the table. `shown` is the default as a person would write it; `redis` is its second name in CONFIG GET; `live` means
    that CONFIG SET may change it."""
    default_text = str(default).lower() if default != () else ""
    return SettingRow("", default, section, name, summary, shown or default_text, redis, live, parse)


class Settings:
    """Every setting, by its attribute. `setting_rows()` gives the table itself. (No dataclass: its import adds 25 ms to a start.)"""

    def __init__(self, **given: Any) -> None:
        """The defaults, except for the given settings."""
        for row in setting_rows():
            setattr(self, row.attribute, given.pop(row.attribute, row.default))
        if given:
            raise TypeError(f"there is no setting {', '.join(given)}")

    port: int = setting(9000, parse_int(0, 65535), "server", "The one TCP port for every protocol; 0 lets the kernel choose.", redis="port")
    bind: str = setting(
        "127.0.0.1", parse_host, "server", "The address to listen on. Only loopback clients are served until a secret is set.", redis="bind"
    )
    data_dir: str = setting("./data", parse_text, "server", "Where the log is kept. Locked while a server uses it.", redis="dir")
    durability: str = setting(
        "sync",
        Choice(DURABILITIES),
        "server",
        "sync: a write is answered once it is on disk. async: written at once, on disk within 100 ms. ephemeral: gone at stop.",
    )
    max_memory: int = setting(
        0,
        parse_size(1 << 20),
        "server",
        "When so much memory is used, refuse writes that add data; 0 for no bound. Nothing is ever evicted.",
        redis="maxmemory",
        live=True,
    )
    max_connections: int = setting(
        10_000,
        parse_int(1, 1_000_000),
        "server",
        "Connections served at once; one more is refused with a sentence and closed.",
        redis="maxclients",
    )
    secret_file: str = setting(
        "", parse_text, "server", "A file with the secret that clients must give, readable by its owner only; empty for none."
    )
    read_secret_file: str = setting(
        "",
        parse_text,
        "server",
        "A file with a second secret, for clients that may only read, such as dashboards. Readable by its owner only; needs secret_file.",
    )
    insecure: bool = setting(False, parse_bool, "server", "Serve clients from other machines without a secret.")
    advertise: str = setting(
        "", parse_address, "server", "The host:port that CLUSTER commands tell clients; empty for the address that the client reached."
    )
    log_level: str = setting(
        "info",
        Choice(LOG_LEVELS),
        "server",
        "The least important messages to print: debug, info, warning or error.",
        redis="loglevel",
        live=True,
    )
    log_format: str = setting("text", Choice(LOG_FORMATS), "server", "text for people, json for collectors; both on standard error.")
    history_depth: int = setting(
        64, parse_int(1, 1_000_000), "kv", "Versions of a key that HISTORY shows, the present one included; 1 keeps no history."
    )
    history_age: int = setting(86_400_000, parse_duration, "kv", "How long a version is kept after it was replaced.", shown="24h")
    query_max_points: int = setting(
        10_000_000,
        parse_int(1, 1_000_000_000),
        "query",
        "Points of time series that one query may look at. Where a window covers a block of points, its summary counts as one.",
        name="max_points",
    )
    actions_keep_age: int = setting(
        86_400_000, parse_duration, "actions", "How long a run is kept after it has ended, with its output.", name="keep_age", shown="24h"
    )
    actions_keep_runs: int = setting(
        100_000,
        parse_int(0, 100_000_000),
        "actions",
        "How many runs that have ended are kept of a namespace; past it, the oldest are forgotten.",
        name="keep_runs",
    )
    segment_bytes: int = setting(
        SEGMENT_BYTES,
        parse_size(SEGMENT_BYTES_MIN),
        "log",
        "A log file is a sixteenth of the log, but at least 16mb and at most this size. The space of the next file is always reserved.",
        shown="64mb",
    )
    compact_growth: int = setting(
        100,
        parse_int(0, 1_000_000),
        "log",
        "Compact the log when it is so many percent larger than after the last compaction; 0: only on request or if the disk is full. "
        "A lower value makes starts shorter and writes every byte more often.",
        redis="auto-aof-rewrite-percentage",
        live=True,
    )
    compact_min: int = setting(
        64 << 20,
        parse_size(0),
        "log",
        "A log up to this size is compacted only on request: it is not worth a process.",
        shown="64mb",
        redis="auto-aof-rewrite-min-size",
        live=True,
    )
    compact_quiet: int = setting(
        10_000,
        parse_duration,
        "log",
        "Compact the log's tail (written since the last compaction) when a core is idle, or when no log file was filled for so long. A "
        "start then has little to read. 0s: never compact the tail alone.",
        shown="10s",
        live=True,
    )
    profile: str = setting(
        "flo",
        Choice(PROFILES),
        "resp",
        "redis: for programs that were written for Redis. MULTI, WATCH, publish and subscribe, RPUSH, LPOP and the well-known scripts of "
        "locks and caches; RPOP and BRPOP acknowledge as they deliver. A change holds for new connections. docs/redis.md tells more.",
        live=True,
    )
    auto_ack: bool = setting(
        False,
        parse_bool,
        "resp",
        "RPOP and BRPOP acknowledge as they deliver: at most once, as in Redis. CLIENT AUTOACK changes it for a connection.",
    )
    databases: tuple[str, ...] = setting(
        (),
        parse_databases,
        "resp",
        'The namespaces behind the numbers of SELECT, redis-cli -n and redis://host:9000/1: ["default", "jobs"] makes jobs 1. The first '
        "must be default; the others are created at start. In the environment: separated by commas. Empty: only 0.",
    )
    http_hosts: tuple[str, ...] = setting(
        (),
        parse_names,
        "http",
        'The names in URLs that are this server\'s, besides localhost, addresses and server.advertise: ["flo.example.com"]. Any other Host '
        "is refused: a page of another site could reach the server under it.",
        name="hosts",
    )
    http_origins: tuple[str, ...] = setting(
        (),
        parse_names,
        "http",
        'The sites whose pages may use the server: ["https://app.example.com"]. Pages of all others are refused, but its own.',
        name="origins",
    )
    tls_cert_file: str = setting(
        "",
        parse_text,
        "tls",
        "A file with the server's certificate, and those between it and its authority, in PEM; TLS is then served on the same port. "
        "Read again on SIGHUP.",
        name="cert_file",
    )
    tls_key_file: str = setting(
        "", parse_text, "tls", "A file with the certificate's key, in PEM, unencrypted; empty where cert_file holds it.", name="key_file"
    )
    tls_client_ca_file: str = setting(
        "",
        parse_text,
        "tls",
        "A file with the certificates of authorities, in PEM: who connects by TLS must show a certificate that one of them has signed.",
        name="client_ca_file",
    )
    tls_only: bool = setting(False, parse_bool, "tls", "Close connections that do not begin with TLS, without an answer.", name="only")
    cluster_etcd: tuple[str, ...] = setting(
        (),
        parse_urls,
        "cluster",
        'The members of etcd that carry the log of a cluster: ["http://10.0.0.1:2379", …]. Empty: this server is alone. docs/cluster.md.',
        name="etcd",
    )
    cluster_name: str = setting("flo", parse_name, "cluster", "The cluster's name: its keys in etcd begin with /flo/NAME/.", name="name")
    cluster_node: str = setting(
        "", parse_text, "cluster", "This member's name, which no other member has. It is the machine's name unless given.", name="node"
    )
    cluster_stale_reads: int = setting(
        2000,
        parse_duration,
        "cluster",
        "A follower serves reads while what it has is at most this old. Past it, it passes them on to the leader, or refuses them.",
        name="stale_reads",
        shown="2s",
    )
    cluster_forward: bool = setting(
        True,
        parse_bool,
        "cluster",
        "A follower passes a client's connection on to the leader from its first write on. False: it answers who leads.",
        name="forward",
    )
    cluster_max_tail: int = setting(
        1 << 30,
        parse_size(64 << 20),
        "cluster",
        "The most of the log that etcd may hold. Past it, because too many members are behind, writes that add are refused.",
        name="max_tail",
        shown="1gb",
    )
    cluster_user: str = setting("", parse_text, "cluster", "The user of etcd; empty for none.", name="user")
    cluster_password_file: str = setting(
        "", parse_text, "cluster", "A file with the user's password, readable by its owner only.", name="password_file"
    )
    cluster_ca_file: str = setting(
        "", parse_text, "cluster", "A file with the certificates of etcd's authorities, in PEM; empty for the system's.", name="ca_file"
    )
    cluster_cert_file: str = setting(
        "", parse_text, "cluster", "A file with the certificate that is shown to etcd, in PEM; empty for none.", name="cert_file"
    )
    cluster_key_file: str = setting(
        "", parse_text, "cluster", "A file with that certificate's key; empty where cert_file holds it.", name="key_file"
    )
    slowlog_slower_than: int = setting(
        10_000,
        parse_int(-1, 10**12),
        "resp",
        "SLOWLOG keeps commands that took this many microseconds; -1 for none.",
        redis="slowlog-log-slower-than",
        live=True,
    )
    slowlog_max_len: int = setting(
        128, parse_int(0, 10_000), "resp", "How many commands SLOWLOG keeps.", redis="slowlog-max-len", live=True
    )
    latency_threshold: int = setting(
        20,
        parse_int(0, 10**9),
        "resp",
        "LATENCY keeps turns of the loop that took this many ms; 0 for none.",
        redis="latency-monitor-threshold",
        live=True,
    )
    input_bytes: int = setting(
        256 << 20,
        parse_size(1 << 20),
        "limits",
        "The most unread input of all connections together; a connection that exceeds it is closed.",
        shown="256mb",
    )
    connection_input_bytes: int = setting(
        REQUEST_BYTES_MAX,
        parse_size(1 << 16),
        "limits",
        "The most unread input of one connection; past it, the server stops reading the connection until there is room.",
        shown="32mb",
    )
    output_bytes: int = setting(
        OUTPUT_BYTES_MAX,
        parse_size(1 << 12),
        "limits",
        "The most unsent output of a connection; past it, the connection's next requests wait.",
        shown="1mb",
    )
    waiters: int = setting(100_000, parse_int(1, 10_000_000), "limits", "Requests that may wait at once; one more is refused.")
    connection_waiters: int = setting(
        5000, parse_int(1, 1_000_000), "limits", "Requests of one connection that may wait at once; one more is refused."
    )
    namespaces: int = setting(1000, parse_int(1, 100_000), "limits", "The most namespaces; one more is refused. Each costs about 40 KB.")
    header_timeout: int = setting(
        10_000,
        parse_duration,
        "limits",
        "How long a connection may take to show its protocol, finish a request's header, or authenticate; then it is closed.",
        shown="10s",
    )
    stall_timeout: int = setting(
        60_000,
        parse_duration,
        "limits",
        "How long a connection may take no output, or pause in the middle of a request, before it is closed.",
        shown="60s",
    )


def setting_rows() -> list[SettingRow]:
    """The table of settings, in order."""
    return [
        row._replace(attribute=attribute, name=row.name or attribute)
        for attribute, row in vars(Settings).items()
        if isinstance(row, SettingRow)
    ]


def load(
    path: str | None, environment: Mapping[str, str], flags: Mapping[str, Any], default_path: str = "flo.toml"
) -> tuple[Settings, str | None]:
    """The settings, and the file they were read from (None for none). `flags` maps attributes to text; None means not given.

    `path` is the value of --config; if it is None, `default_path` is read if it exists. Raises `ConfigError`.
    """
    settings = Settings()
    rows = setting_rows()
    if path is None and os.path.exists(default_path):
        path = default_path
    if path is not None:
        _from_file(settings, rows, path)
    for row in rows:
        if row.environment in environment:
            assign(settings, row, environment[row.environment], f"the environment variable {row.environment}")
    for row in rows:
        value = flags.get(row.attribute)
        if value is not None:
            assign(settings, row, value, f"--{row.attribute.replace('_', '-')}")
    return settings, path


def _from_file(settings: Settings, rows: list[SettingRow], path: str) -> None:
    import tomllib

    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
    except OSError as e:
        raise ConfigError(f"the configuration {path} cannot be read: {e.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"the configuration {path} is not TOML: {e}.") from None
    known = {row.full_name: row for row in rows}
    for section, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {section!r} is outside of a section; put it under [server].")
        for name, value in table.items():
            full = f"{section}.{name}"
            if full not in known:
                raise ConfigError(f"{path}: {full} is not a setting.{_did_you_mean(full, known)} `flo server start --help` lists them.")
            assign(settings, known[full], value, path)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question about the setting that is most likely meant: one that goes on where `name` ends, such as secret_file for secret, before
    one that looks alike."""
    from difflib import get_close_matches  # not at every start: 7 ms

    names = list(known)
    near = [each for each in names if each.startswith(f"{name}_")] or get_close_matches(name, names, 1, ALIKE)
    return f" Did you mean {near[0]}?" if near else ""


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A sentence about each variable that begins with FLO_ and is no setting. It is no error: Kubernetes makes such names itself."""
    known = {row.environment for row in setting_rows()}
    return [
        f"the environment variable {name} is not a setting.{_did_you_mean(name, known)}"
        for name in sorted(environment)
        if name.startswith("FLO_") and name not in known and name not in CLIENT_VARIABLES
    ]


def assign(settings: Settings, row: SettingRow, value: Any, source: str) -> None:
    """Set one setting from its text. Raises `ConfigError` with the setting, its source, the value and the allowed values."""
    try:
        setattr(settings, row.attribute, row.parse(value))
    except ConfigError as e:
        raise ConfigError(f"{row.full_name} is {value!r} in {source}: {e}.") from None


def read_secret(path: str) -> bytes | None:
    """The secret in `path`, without the line's end; None for no path. Raises `ConfigError` if it is no file, or if other users can read or
    write it. A symbolic link is followed, as Kubernetes makes one for each secret: the file that it leads to is checked."""
    shared = stat.S_IRWXG | stat.S_IRWXO
    if os.path.dirname(path) == os.environ.get("CREDENTIALS_DIRECTORY"):
        # systemd lets a service's own user read its credentials by an ACL, which shows as the group's right; nobody else can open their
        # directory
        shared &= ~stat.S_IRGRP
    if not path:
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)  # else a FIFO would wait for its writer
        with open(fd, "rb") as file:
            mode = os.fstat(fd).st_mode
            secret = file.read(SECRET_BYTES_MAX + 1).rstrip(b"\r\n") if stat.S_ISREG(mode) else b""
    except OSError as e:
        raise ConfigError(f"the secret file {path} cannot be read: {e.strerror}.") from None
    if not stat.S_ISREG(mode):
        raise ConfigError(f"the secret file {path} is no regular file; write the secret into one.")
    if mode & shared:
        raise ConfigError(
            f"the secret file {path} can be read or written by other users (mode {stat.S_IMODE(mode):o}); run chmod 600 {path}."
        )
    if not secret.strip() or len(secret) > SECRET_BYTES_MAX:
        raise ConfigError(f"the secret file {path} must hold 1 to {SECRET_BYTES_MAX} bytes that are not all spaces.")
    return secret


def read_secrets(settings: Settings) -> tuple[bytes | None, bytes | None]:
    """The secret, and the one for reading; None where there is none. Raises `ConfigError`."""
    secret, reading = read_secret(settings.secret_file), read_secret(settings.read_secret_file)
    if reading is not None and secret is None:
        raise ConfigError("server.read_secret_file is set and server.secret_file is not: whoever gives no secret could do everything.")
    if reading is not None and reading == secret:
        raise ConfigError("server.secret_file and server.read_secret_file hold the same secret; write another one into one of them.")
    return secret, reading


def size_text(size: int) -> str:
    """A byte count for a person."""
    for unit in ("b", "kb", "mb"):
        if size < 1024 or size % 1024:
            return f"{size}{unit}"
        size //= 1024
    return f"{size}gb"
