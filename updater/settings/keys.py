"""The table of all keys of `cfg.json`: what each takes, its default, its meaning in one line.

docs/configuration.md has the same rows with more words; a test holds both equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from probes.observed import ProcessState
from reconcile.decide.policy.names import is_name
from reconcile.decide.timing.windows import DAYS, Window
from updater.settings import fleet_values, policy_values, values
from updater.settings.kinds import Key, Kind, object_of, read_each
from updater.settings.sections import AuthConfig, ControlTimeouts, FleetLockConfig, HttpConfig, TlsConfig


def leaves(keys: tuple[Key, ...] = (), at: str = "") -> Iterator[tuple[str, Key]]:
    """Each key that is no object of keys, with its path (`http.listen`)."""
    for key in keys or KEYS:
        if key.kind.keys:
            yield from leaves(key.kind.keys, f"{at}{key.name}.")
        else:
            yield f"{at}{key.name}", key


def _windows(value: object) -> tuple[Window, ...]:
    if not isinstance(value, list) or not value:
        example = fleet_values.EXAMPLE
        raise ValueError(f"expected a list of windows such as {example}, found {values.printable(value)}")
    return tuple(read_each(((f"[{number}]", one) for number, one in enumerate(value)), _WINDOW))


def _status_words(value: object) -> dict[str, Mapping[str, ProcessState]]:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object of agents' names and their words, found {values.printable(value)}")
    if wrong := [name for name in value if name != "*" and not is_name(name)]:
        raise ValueError(f"{values.printable(wrong[0])}: expected an agent's name, or * for all")
    return dict(zip(value, read_each(value.items(), _AGENT_WORDS), strict=True))


def _text(pattern: str = "") -> dict[str, Any]:
    """A text that matches as a whole."""
    return {"type": "string", **({"pattern": f"^{pattern}$"} if pattern else {})}


def _amount(pattern: str, least: int) -> dict[str, Any]:
    """A number, or one with its unit."""
    return {"anyOf": [{"type": "number", "minimum": least}, _text(rf"\s*{pattern}\s*")]}


def _list(item: dict[str, Any], least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": least}


def _map(value: dict[str, Any], name: str = "") -> dict[str, Any]:
    return {"type": "object", "additionalProperties": value, **({"propertyNames": _text(name)} if name else {})}


_NUMBER = {"type": "integer", "minimum": 1}
_HTTP = r"[hH][tT][tT][pP][sS]?://\S+"

FLAG = Kind(values.flag, {"type": "boolean"})
LEVEL = Kind(values.level, {"enum": [case(word) for case in (str, str.upper) for word in (*values.LEVELS, "warn")]})
TEXT = Kind(values.text, _text())
SERVER = Kind(values.server, _text(r"\s*\S+\s*"))
ABSOLUTE = Kind(values.absolute_path, _text(r"\s*/.*"))
FILE = Kind(values.file, _text(r"\s*[^\s].*"))
METRICS_FILE = Kind(values.metrics_file, _text(r".*\.prom\s*"))
FILE_OR_URL = Kind(values.file_or_url, _text(r"\s*\S.*"))
URL = Kind(values.url, _text(_HTTP))
PROXY = Kind(values.proxy, _text(r"\s*http://\S+\s*"))
ORIGINS = Kind(values.origins, _list(_text(r"\S+")))
LISTEN = Kind(values.listen, _text(r"\s*(.*:\d{1,5})?\s*"))
LAYOUT = Kind(values.tarball_layout, _text(r"\{tarball\}/.*"))
TIME = Kind(values.parse_time, _amount(values.TIME, 0))
TIME_ABOVE_ZERO = Kind(values.time_above_zero, _amount(values.TIME, 1))
SIZE = Kind(values.size_above_zero, _amount(values.SIZE, 1))
UP_TO_100 = Kind(partial(values.number, most=100), {**_NUMBER, "maximum": 100})
UP_TO_1024 = Kind(partial(values.number, most=1024), {**_NUMBER, "maximum": 1024})
FILES = Kind(partial(values.number, most=10_000_000), {**_NUMBER, "maximum": 10_000_000})
VARIABLES = Kind(values.variables, _map(_text(), values.VARIABLE))
PHRASES = Kind(values.phrases, _list(_text(r".*\S.*")))
AGENTS = Kind(policy_values.agent_names, _list(_text(r"\S+")))
USERS = Kind(policy_values.user_names, _list(_text(r".+")))
FOLDERS = Kind(policy_values.directories, _list(_text(r"/.*")))
URL_PREFIXES = Kind(policy_values.url_prefixes, _list(_text(_HTTP)))
VERSIONS = Kind(policy_values.least_versions, _map(_text(r"\S+")))
PUBLIC_KEYS = Kind(policy_values.public_keys, _list(_text(r"\S+"), 1))
CERTIFICATES = Kind(policy_values.certificates, _list(_text(r"\s*([0-9A-Fa-f]:?){64}\s*"), 1))
GROUPS = Kind(fleet_values.groups, {"anyOf": [_text(fleet_values.GROUP), _map(_text(fleet_values.GROUP))]})
WEEKDAYS = Kind(fleet_values.days, _list({"enum": list(DAYS)}, 1))
TIME_OF_DAY = Kind(fleet_values.minutes, _text(fleet_values.TIME_OF_DAY))
LENGTH = Kind(fleet_values.window_length, _amount(values.TIME, 60))
ZONE = Kind(fleet_values.time_zone, _text(fleet_values.ZONE))

_WINDOW = object_of(
    Window,
    Key("days", WEEKDAYS, list(DAYS), "the days of the week on which it opens"),
    Key("start", TIME_OF_DAY, None, "when it opens, such as 23:30", required=True),
    Key("length", LENGTH, None, "how long it stays open, from 1m to 24h", required=True),
)
_AGENT_WORDS = object_of(
    values.state_words,
    Key("started", PHRASES, None, "what `control status` may print of an agent that runs"),
    Key("stoped", PHRASES, None, "what it may print of one that is stopped"),
)
WINDOWS = Kind(_windows, {"type": "array", "minItems": 1}, of=_WINDOW)
STATUS_WORDS = Kind(_status_words, {"type": "object"}, of=_AGENT_WORDS)

_HTTP_KEYS = object_of(
    HttpConfig,
    Key("enabled", FLAG, False, "the daemon serves a page, `/status` and `/metrics`"),
    Key("listen", LISTEN, "127.0.0.1:2001", "host:port to listen on"),
)
_AUTH_KEYS = object_of(
    AuthConfig,
    Key("user", TEXT, None, "the user of HTTP basic auth", required=True),
    Key("password_file", FILE, None, "the path of a file that holds the password", required=True),
    Key("hosts", ORIGINS, [], "origins (`http://host:port`) that get the credentials beside `server` itself"),
)
_TLS_KEYS = object_of(
    TlsConfig,
    Key("ca_file", FILE, None, "a PEM file with the certificate authorities to trust for https"),
    Key("pin_sha256", CERTIFICATES, None, "sha256 digests of whole certificates"),
)
_TIMEOUT_KEYS = object_of(
    ControlTimeouts,
    Key("status", TIME_ABOVE_ZERO, 10, "limit of one `control status`"),
    Key("start", TIME_ABOVE_ZERO, 60, "limit of one `control start`, until status says started"),
    Key("stop", TIME_ABOVE_ZERO, 60, "limit of one `control stop`, until status says stopped"),
)
_LOCK_KEYS = object_of(
    FleetLockConfig,
    Key("url", URL, None, "a FleetLock server", required=True),
    Key("group", GROUPS, "default", "the group of all agents, or of each"),
)

KEYS = (
    Key("log_level", LEVEL, "info", "how much `var/app.log` has"),
    Key("debug", FLAG, False, 'of the older line: `true` is `log_level` `"debug"`'),
    Key("hostname", TEXT, None, "the name in the report"),
    Key("server", SERVER, None, "ops-meta as `host:port`, or a whole URL"),
    Key("interval", TIME_ABOVE_ZERO, 300, "time between two heartbeats"),
    Key("http", _HTTP_KEYS, {}, "local HTTP"),
    Key("work_dir", ABSOLUTE, None, "where agents live when the server sends no `workDir`", decides=True),
    Key("run_user", TEXT, None, "the agents' user when the server sends no `runUser`", decides=True),
    Key("create_users", FLAG, False, "create users that agents lack", decides=True),
    Key("desired", FILE_OR_URL, None, "a file or an URL that is read instead of asking `server`"),
    Key("desired_poll", TIME_ABOVE_ZERO, None, "how often the daemon asks a `desired` URL whether it changed"),
    Key("tarball_layout", LAYOUT, "{tarball}/{arch}/{name}-{version}.tar.gz", "where a tarball is", decides=True),
    Key("auth", _AUTH_KEYS, None, "HTTP basic auth"),
    Key("tls", _TLS_KEYS, {}, "certificates"),
    Key("proxy", PROXY, None, "an `http://` URL of a proxy"),
    Key("report_extra", FLAG, False, "add each agent's `ready`, `reason` and `message` to the report"),
    Key("report_to", URL, None, "an URL that gets the heartbeat's body after each pass"),
    Key("control_timeout", _TIMEOUT_KEYS, {}, "limits of control calls"),
    Key("watch", TIME, 30, "time that new content must stay started to be good", decides=True),
    Key("keep", UP_TO_100, 2, "versions kept on disk", decides=True),
    Key(
        "quarantine_for",
        TIME_ABOVE_ZERO,
        None,
        "time after which content that was rolled back is tried again",
        decides=True,
    ),
    Key("parallel", UP_TO_1024, 4, "agents that are changed at once"),
    Key("status_parallel", UP_TO_1024, 64, "status calls at once"),
    Key("max_tarball", SIZE, "512MiB", "a larger tarball is not fetched"),
    Key("max_unpacked", SIZE, "2GiB", "a tarball that unpacks to more is refused"),
    Key("max_files", FILES, 100_000, "a tarball with more files, folders and links together is refused"),
    Key("max_download_rate", SIZE, None, "bytes per second for all downloads together"),
    Key("fleet_lock", _LOCK_KEYS, None, "a limit of how many hosts change at once"),
    Key("windows", WINDOWS, None, "maintenance windows", decides=True),
    Key("time_zone", ZONE, "UTC", "the time zone of `windows`", decides=True),
    Key("fetch_splay", TIME, 0, "time over which a fleet's fetches of a new version are spread"),
    Key("cache_size", SIZE, "1GiB", "size of `var/cache/`"),
    Key("agent_env", VARIABLES, {}, "variables that control scripts get"),
    Key("status_words", STATUS_WORDS, {}, "further words of an agent's `control status`"),
    Key(
        "desiredAgent",
        TEXT,
        None,
        "of the older line: the one agent that this host takes",
        decides=True,
        field="desired_agent",
    ),
    Key("allow_agents", AGENTS, None, "the agents' names that this host takes", decides=True),
    Key("allow_users", USERS, None, "the users whose agents this host takes", decides=True),
    Key("allow_work_dirs", FOLDERS, None, "a `workDir` must be one of these paths or below", decides=True),
    Key("mirrors", URL_PREFIXES, None, "URL prefixes of all that is fetched for agents", decides=True),
    Key("refuse_downgrade", FLAG, False, "refuse a version older than the one in use", decides=True),
    Key("min_version", VERSIONS, {}, "per agent's name the oldest version that this host takes", decides=True),
    Key("require_https", FLAG, False, "take `https://` URLs alone", decides=True),
    Key("require_sha256", FLAG, False, "an entry must give the tarball's `sha256`", decides=True),
    Key("trusted_keys", PUBLIC_KEYS, None, "minisign public keys", decides=True),
    Key(
        "require_signed_desired", FLAG, False, "take a `desired` file or URL alone that a key of `trusted_keys` signed"
    ),
    Key("metrics_textfile", METRICS_FILE, None, "a file, `*.prom`, with metrics for node_exporter"),
)
