"""`cfg.json` -> Config: every error at once, each with its key path and, for an unknown key, the nearest known one.

Today's keys keep their names and meaning; ours are optional with safe defaults, so an old file starts unchanged.
Secrets stand in files that the config names, never in the config itself.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from attrs import field

from probes.observed import ProcessState
from probes.status_parser import StatusWords, process_state
from probes.values import frozen
from reconcile.decide.policy import is_name
from reconcile.decide.timing.fleet_places import Groups
from reconcile.decide.timing.windows import LONGEST_S, Window
from reconcile.net.http_client import origin_of
from updater.settings import fleet_values, values
from updater.sources.ops_meta import heartbeat_url
from updater.sources.url import checked_url

_LIMIT = 1024 * 1024
_DIGITS = 30
_SIZE = r"(\d+)\s*(B|KiB|MiB|GiB)?"
_SIZE_UNITS = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_TIME = r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?"
_TIME_UNITS = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SHORTEST_S = 1.0  # of a time above zero, in seconds
_LEVELS = ("trace", "debug", "info", "warning", "error", "critical")
_LAYOUT_FIELDS = {"tarball", "arch", "name", "version"}
_LISTEN = r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:/\s]*)):(\d{1,5})"
_ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]*"

_KINDS = {str: "a text", list: "a list", bool: "true or false", int: "a number", float: "a number"}
# The keys that say what a host accepts and how it plans: they go into a snapshot of it, from which others plan for it.
_DECIDING = (
    *("work_dir", "run_user", "tarball_layout", "watch", "keep", "quarantine_for"),
    *("desiredAgent", "allow_agents", "allow_users", "allow_work_dirs", "mirrors", "min_version", "refuse_downgrade"),
    *("require_https", "require_sha256", "trusted_keys", "create_users"),
    *("windows", "time_zone"),
)

T = TypeVar("T")


class ConfigWrong(Exception):
    """The config can't be used. `errors`: one line each, with its key path."""

    def __init__(self, path: Path, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.path = path
        self.errors = errors


@frozen(kw_only=True)
class FleetLockConfig:
    """A FleetLock server, and the group of each agent."""

    url: str
    group: Groups = field(factory=lambda: Groups(others="default"))


@frozen(kw_only=True)
class AuthConfig:
    """Basic auth: sent to the server's own origin and to `hosts` (origins). `password`: what the file holds; None where
    it can't be read now, with the `trouble` of it."""

    user: str
    password: str | None = field(repr=False)
    hosts: tuple[str, ...] = ()
    password_file: Path | None = field(default=None, eq=False)
    trouble: str = ""


@frozen(kw_only=True)
class HttpConfig:
    """Local HTTP. `listen`: host:port; without a host all of this machine's addresses."""

    enabled: bool = False
    listen: str = "127.0.0.1:2001"


@frozen(kw_only=True)
class ControlTimeouts:
    """Seconds for one control call and its effect, together."""

    status: float = 10.0
    start: float = 60.0
    stop: float = 60.0


@frozen(kw_only=True)
class Config:
    """All that a config file says, checked. Sizes in bytes, times in seconds. `folder`: where it and `var/` lie.
    `deciding`: those of its keys that decide plans, as they were written; none is a secret. `desired_agent` is
    `desiredAgent` of the older line, whose `debug` has become a `log_level`."""

    path: Path
    log_level: str = "info"
    hostname: str | None = None
    server: str | None = None
    interval: float = 300.0
    http: HttpConfig = field(factory=HttpConfig)
    work_dir: str | None = None
    run_user: str | None = None
    desired: Path | str | None = None
    tarball_layout: str = "{tarball}/{arch}/{name}-{version}.tar.gz"
    auth: AuthConfig | None = None
    ca_file: Path | None = None
    pin_sha256: frozenset[str] | None = None
    proxy: str | None = field(default=None, repr=False)
    report_extra: bool = False
    create_users: bool = False
    control_timeout: ControlTimeouts = field(factory=ControlTimeouts)
    watch: float = 30.0
    keep: int = 2
    quarantine_for: float | None = None
    parallel: int = 4
    status_parallel: int = 64
    max_tarball: int = 512 * 2**20
    max_unpacked: int = 2 * 2**30
    max_files: int = 100_000
    max_download_rate: int | None = None
    fetch_splay: float = 0.0
    fleet_lock: FleetLockConfig | None = None
    windows: tuple[Window, ...] | None = None
    time_zone: str = "UTC"
    cache_size: int = 2**30
    agent_env: Mapping[str, str] = field(factory=dict)
    status_words: StatusWords = field(factory=dict)
    desired_agent: str | None = None
    allow_agents: frozenset[str] | None = None
    allow_users: frozenset[str] | None = None
    allow_work_dirs: tuple[str, ...] | None = None
    mirrors: tuple[str, ...] | None = None
    refuse_downgrade: bool = False
    min_version: Mapping[str, str] = field(factory=dict)
    require_https: bool = False
    require_sha256: bool = False
    trusted_keys: tuple[str, ...] | None = None
    metrics_textfile: Path | None = None
    deciding: Mapping[str, Any] = field(factory=dict, eq=False)

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def var(self) -> Path:
        return self.folder / "var"


def load(path: Path, *, strict: bool = True) -> Config:
    """Read and check a config file. Raise ConfigWrong with every error.

    Not `strict`: a password file that can't be read is no error of the config but of its time. Requests that need it
    fail then; what needs none goes on, and agents are healed as without a server.
    """
    path = path.absolute()
    try:
        content = _read(path, _LIMIT + 1)
    except FileNotFoundError:
        raise ConfigWrong(
            path, [f"{path} does not exist; make it from cfg.example.json, or name it by -c FILE"]
        ) from None
    except OSError as err:
        raise ConfigWrong(path, [f"{path} can't be read: {err.strerror or err}"]) from None
    if len(content) > _LIMIT:
        raise ConfigWrong(path, [f"{path} is larger than 1 MiB; that is no config"])
    try:
        document = json.loads(content, object_pairs_hook=_no_doubles, parse_constant=_no_number, parse_int=_integer)
    except (ValueError, RecursionError) as err:
        raise ConfigWrong(path, [f"{path} is not JSON: {err}"]) from None
    if not isinstance(document, dict):
        raise ConfigWrong(path, [f"{path} holds no JSON object"])
    return _Reader(path, strict=strict).config(document)


def from_keys(path: Path, keys: Mapping[str, Any]) -> Config:
    """A config of another host, from its `deciding` keys. `path`: for messages. Raise ConfigWrong, also for a key that
    decides nothing: what another host sends must not have a file of this one read (`auth`, `tls`)."""
    if beyond := [f"{key}: expected keys that decide plans alone" for key in keys if key not in _DECIDING]:
        raise ConfigWrong(path, beyond)
    return _Reader(path, strict=True).config({"server": "https://another-host", **keys})


def parse_time(value: object) -> float:
    """Seconds from a number or "90", "10m", "2h". Raise ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 10**9:
        return float(value)
    match = re.fullmatch(_TIME, value.strip()) if isinstance(value, str) else None
    if match is None or float(match[1]) >= 10**9:
        raise ValueError(f'expected seconds or a time such as "10m", found {_shown(value)}')
    return float(match[1]) * _TIME_UNITS[match[2]]


def parse_size(value: object) -> int:
    """Bytes from a number or "512MiB". Raise ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62:
        return value
    match = re.fullmatch(_SIZE, value.strip()) if isinstance(value, str) else None
    if match is None or len(match[1]) > 18:
        raise ValueError(f'expected bytes or a size such as "512MiB", found {_shown(value)}')
    return int(match[1]) * _SIZE_UNITS[match[2]]


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:2001", "[::1]:2001" or ":2001", whose host is empty. Raise ValueError."""
    match = re.fullmatch(_LISTEN, text)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"expected host:port such as 127.0.0.1:2001, found {_shown(text)}")
    return match[1] or match[2] or "", int(match[3])


METRICS = ("prometheus_client",)  # what metrics_textfile needs


def lacks_web(packages: tuple[str, ...] = ("waitress", *METRICS)) -> str:
    """What to do so that local HTTP, or metrics, have the packages that they need; empty where these are there."""
    import importlib.util

    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"it needs {' and '.join(missing)}: run ./control setup --with web" if missing else ""


def _shown(value: object) -> str:
    """A value for people, without what may be secret in an URL: userinfo and query."""
    text = re.sub(r"[?#][^\"]*", "?...", re.sub(r"//[^/\"]*@", "//", json.dumps(value, default=str)))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _read(path: Path, limit: int) -> bytes:
    """Read the beginning of a regular file: opening a FIFO must not wait, nor a device be read for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is no regular file")
    with open(descriptor, "rb") as file:
        return file.read(limit)


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} stands where a number is expected")


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:  # int() of a long text takes quadratic time
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found


def _plain(read: Callable[[object], T]) -> Callable[[str, object], T]:
    """A reader that needs to know no key path."""
    return lambda at, value: read(value)


class _Reader:
    """Collects errors instead of raising at the first."""

    def __init__(self, path: Path, *, strict: bool) -> None:
        self._path = path
        self._strict = strict
        self._errors: list[str] = []

    def config(self, document: dict[str, Any]) -> Config:
        readers: dict[str, Callable[[str, Any], Any]] = {
            "log_level": self._level,
            "debug": self._flag,
            "desiredAgent": self._text,
            "hostname": self._text,
            "server": self._server,
            "interval": self._seconds_above_zero,
            "http": self._http,
            "work_dir": self._absolute,
            "run_user": self._text,
            "desired": self._file_or_url,
            "tarball_layout": self._layout,
            "auth": self._auth,
            "tls": self._tls,
            "proxy": self._proxy,
            "report_extra": self._flag,
            "create_users": self._flag,
            "control_timeout": self._timeouts,
            "watch": self._seconds,
            "keep": self._keep,
            "quarantine_for": self._seconds_above_zero,
            "parallel": self._count,
            "status_parallel": self._count,
            "max_tarball": self._size,
            "max_unpacked": self._size,
            "max_files": self._files,
            "max_download_rate": self._size,
            "fetch_splay": self._seconds,
            "fleet_lock": self._fleet_lock,
            "windows": self._windows,
            "time_zone": _plain(fleet_values.time_zone),
            "cache_size": self._size,
            "agent_env": self._env,
            "status_words": self._status_words,
            "allow_agents": _plain(values.agent_names),
            "allow_users": _plain(values.user_names),
            "allow_work_dirs": _plain(values.directories),
            "mirrors": _plain(values.url_prefixes),
            "refuse_downgrade": self._flag,
            "min_version": _plain(values.least_versions),
            "require_https": self._flag,
            "require_sha256": self._flag,
            "trusted_keys": _plain(values.public_keys),
            "metrics_textfile": self._metrics,
        }
        found = self._object("", document, readers)
        tls: dict[str, Any] = found.pop("tls", None) or {}
        if found.pop("debug", False):
            found.setdefault("log_level", "debug")
        found["desired_agent"] = found.pop("desiredAgent", None)
        if document.get("server") is None and document.get("desired") is None:
            self._errors.append(
                "server: missing; expected host:port of ops-meta, or `desired` with a file or an URL in its place"
            )
        if found.get("require_https"):
            self._only_https(found)
        if tls.get("pin_sha256"):
            self._has_https(found)
        if self._errors:
            raise ConfigWrong(self._path, self._errors)
        deciding = {key: document[key] for key in _DECIDING if document.get(key) is not None}
        return Config(path=self._path, deciding=deciding, **tls, **{k: v for k, v in found.items() if v is not None})

    def _has_https(self, found: Mapping[str, Any]) -> None:
        """A pin that could never be compared would be taken for protection."""
        urls = [str(found[key]) for key in ("server", "desired") if found.get(key) is not None]
        if urls and not any(url.lower().startswith("https:") for url in urls):
            self._errors.append("tls.pin_sha256: holds for `server` or a `desired` URL, and none is an https:// URL")

    def _only_https(self, found: Mapping[str, Any]) -> None:
        """What tells this host what to do must come over https where all that it names must."""
        if not str(found.get("server") or "https:").lower().startswith("https:"):
            self._errors.append("server: expected an https:// URL, since require_https is set")
        lock = found.get("fleet_lock")
        if lock is not None and not lock.url.lower().startswith("https:"):
            self._errors.append("fleet_lock.url: expected an https:// URL, since require_https is set")
        if str(found.get("desired")).lower().startswith("http:"):
            self._errors.append("desired: expected a file or an https:// URL, since require_https is set")

    def _object(
        self,
        at: str,
        document: object,
        readers: Mapping[str, Callable[[str, Any], Any]],
        required: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """Read each key with its reader; say what is unknown or missing. `null` counts as absent."""
        if not isinstance(document, dict):
            # Not what: it may be the password that was to stand in a file.
            self._errors.append(f"{at}: expected an object, found {_KINDS.get(type(document), 'something else')}")
            return {}
        prefix = f"{at}." if at else ""
        for key in document.keys() - readers.keys():
            import difflib

            near = difflib.get_close_matches(key, readers, n=1)
            hint = f"; did you mean `{prefix}{near[0]}`?" if near else ""
            self._errors.append(f"{prefix}{key}: unknown key{hint}")
        for key in required:
            if document.get(key) is None:
                self._errors.append(f"{prefix}{key}: missing")
        found = {}
        for key, read in readers.items():
            if document.get(key) is not None:
                try:
                    found[key] = read(f"{prefix}{key}", document[key])
                except ValueError as err:
                    self._errors.append(f"{prefix}{key}: {err}")
        return found

    def _level(self, at: str, value: object) -> str:
        if not isinstance(value, str) or value.lower() not in (*_LEVELS, "warn"):
            raise ValueError(f"expected one of {', '.join(_LEVELS)}, found {_shown(value)}")
        return "warning" if value.lower() == "warn" else value.lower()

    def _text(self, at: str, value: object) -> str | None:
        if not isinstance(value, str) or not value.isprintable() or len(value) > 4096:
            raise ValueError(f"expected a text, found {_shown(value)}")
        return value.strip() or None  # today's example has "hostname": "" for the OS's own

    def _server(self, at: str, value: object) -> str:
        text = self._text(at, value)
        if text is None:
            raise ValueError("is empty; expected host:port of ops-meta")
        heartbeat_url(text)
        return text

    def _seconds_above_zero(self, at: str, value: object) -> float:
        seconds = parse_time(value)
        if seconds < SHORTEST_S:
            raise ValueError(f"expected at least 1 second, found {_shown(value)}")
        return seconds

    def _seconds(self, at: str, value: object) -> float:
        return parse_time(value)

    def _keep(self, at: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 100:
            raise ValueError(f"expected a number from 1 to 100, found {_shown(value)}")
        return value

    def _flag(self, at: str, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"expected true or false, found {_shown(value)}")
        return value

    def _count(self, at: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1024:
            raise ValueError(f"expected a number from 1 to 1024, found {_shown(value)}")
        return value

    def _files(self, at: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10_000_000:
            raise ValueError(f"expected a number from 1 to 10000000, found {_shown(value)}")
        return value

    def _size(self, at: str, value: object) -> int:
        size = parse_size(value)
        if size < 1:
            raise ValueError("expected more than 0 bytes")
        return size

    def _absolute(self, at: str, value: object) -> str:
        text = self._text(at, value)
        if text is None or not text.startswith("/"):
            raise ValueError(f"expected an absolute path, found {_shown(value)}")
        return text

    def _file_or_url(self, at: str, value: object) -> Path | str:
        text = self._text(at, value)
        return checked_url(text) if text is not None and "://" in text else self._file(at, value)

    def _file(self, at: str, value: object) -> Path:
        text = self._text(at, value)
        if text is None or "://" in text:
            raise ValueError(f"expected the path of a file, found {_shown(value)}")
        return self._path.parent / text

    def _readable(self, at: str, value: object) -> Path:
        path = self._file(at, value)
        try:
            _read(path, 1)
        except OSError as err:
            raise ValueError(f"{path} can't be read: {err.strerror or err}") from None
        return path

    def _secret(self, at: str, value: object) -> tuple[Path, str | None, str]:
        """A file, what it holds without its line end, and why it can't be read. No error shows a byte of it."""
        path = self._file(at, value)
        try:
            return path, _read(path, 4096).decode("utf-8").rstrip("\r\n"), ""
        except OSError as err:
            trouble = f"{path} can't be read: {err.strerror or err}"
            if self._strict:
                raise ValueError(trouble) from None
            return path, None, f"{at}: {trouble}"
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not UTF-8 text") from None

    def _layout(self, at: str, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"expected a text, found {_shown(value)}")
        import string

        try:
            fields = {name for _, name, spec, conversion in string.Formatter().parse(value) if name is not None}
        except ValueError as err:
            raise ValueError(f"{err}, in {_shown(value)}") from None
        if not fields <= _LAYOUT_FIELDS or not {"tarball", "name", "version"} <= fields:
            raise ValueError(
                f"expected {{tarball}}, {{name}}, {{version}} and at most {{arch}} in it, found {_shown(value)}"
            )
        if not value.startswith("{tarball}/"):
            raise ValueError("expected it to begin with {tarball}/")
        return value

    def _http(self, at: str, value: object) -> HttpConfig:
        found = self._object(at, value, {"enabled": self._flag, "listen": self._listen})
        return HttpConfig(**{k: v for k, v in found.items() if v is not None})

    def _listen(self, at: str, value: object) -> str | None:
        text = self._text(at, value)
        if text is not None:
            parse_listen(text)
        return text

    def _metrics(self, at: str, value: object) -> Path:
        path = self._file(at, value)
        if path.suffix != ".prom":
            raise ValueError(f"expected a name that ends in .prom, which node_exporter reads, found {_shown(value)}")
        return path

    def _fleet_lock(self, at: str, value: object) -> FleetLockConfig | None:
        readers: dict[str, Callable[[str, Any], Any]] = {
            "url": lambda at, value: checked_url(value if isinstance(value, str) else ""),
            "group": _plain(fleet_values.groups),
        }
        found = self._object(at, value, readers, required=("url",))
        return FleetLockConfig(**{k: v for k, v in found.items() if v is not None}) if found.get("url") else None

    def _windows(self, at: str, value: object) -> tuple[Window, ...]:
        if not isinstance(value, list) or not value:
            raise ValueError(f"expected a list of windows such as {fleet_values.EXAMPLE}, found {_shown(value)}")
        readers: dict[str, Callable[[str, Any], Any]] = {
            "days": _plain(fleet_values.days),
            "start": _plain(fleet_values.minutes),
            "length": self._window_length,
        }
        found = [self._object(f"{at}[{number}]", one, readers, ("start", "length")) for number, one in enumerate(value)]
        return tuple(Window(**one) for one in found if {"start", "length"} <= one.keys())

    def _window_length(self, at: str, value: object) -> float:
        seconds = parse_time(value)
        if not 60 <= seconds <= LONGEST_S:
            raise ValueError(f"expected from 1m to 24h, found {_shown(value)}")
        return seconds

    def _auth(self, at: str, value: object) -> AuthConfig | None:
        readers: dict[str, Callable[[str, Any], Any]] = {
            "user": self._text,
            "password_file": self._secret,
            "hosts": self._origins,
        }
        found = self._object(at, value, readers, required=("user", "password_file"))
        if found.get("user") is None or found.get("password_file") is None:
            return None
        path, password, trouble = found["password_file"]
        return AuthConfig(
            user=found["user"], password=password, hosts=found.get("hosts", ()), password_file=path, trouble=trouble
        )

    def _origins(self, at: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(origin, str) for origin in value):
            raise ValueError(f'expected a list of origins such as "http://host:8888", found {_shown(value)}')
        for origin in value:
            heartbeat_url(origin)
        return tuple(value)

    def _tls(self, at: str, value: object) -> dict[str, Any]:
        return self._object(at, value, {"ca_file": self._readable, "pin_sha256": _plain(values.certificates)})

    def _proxy(self, at: str, value: object) -> str | None:
        # The value may hold a password: no error shows it.
        text = value.strip() if isinstance(value, str) and value.isprintable() else ""
        if not text.startswith("http://"):
            raise ValueError("expected an http:// URL (targets of https are tunnelled through it)")
        origin_of(text)
        return text

    def _timeouts(self, at: str, value: object) -> ControlTimeouts:
        verbs = ("status", "start", "stop")
        return ControlTimeouts(**self._object(at, value, dict.fromkeys(verbs, self._seconds_above_zero)))

    def _env(self, at: str, value: object) -> dict[str, str]:
        if not isinstance(value, dict):
            raise ValueError(f"expected an object of names and texts, found {_shown(value)}")
        for name, text in value.items():
            if re.fullmatch(_ENV_NAME, name) is None or not isinstance(text, str) or "\0" in text or not _encodes(text):
                raise ValueError(f"{name!r}: expected a variable's name and a text")
        return dict(value)

    def _status_words(self, at: str, value: object) -> StatusWords:
        if not isinstance(value, dict):
            raise ValueError(f"expected an object of agents' names and their words, found {_shown(value)}")
        if wrong := [name for name in value if name != "*" and not is_name(name)]:
            raise ValueError(f"{_shown(wrong[0])}: expected an agent's name, or * for all")
        lists = {state.value: _plain(_phrases) for state in (ProcessState.RUNNING, ProcessState.STOPPED)}
        found: dict[str, dict[str, ProcessState]] = {}
        for name, words in value.items():
            said = found[name] = {}
            for word, phrases in self._object(f"{at}.{name}", words, lists).items():
                state = ProcessState(word)
                for phrase in phrases:
                    if {process_state(phrase), said.setdefault(phrase, state)} - {state, ProcessState.UNKNOWN}:
                        raise ValueError(f"{name}: {_shown(phrase)} can't mean {word}, since it means the contrary")
        return found


def _phrases(value: object) -> tuple[str, ...]:
    """What a script may print for a state: in any case, with single blanks."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"expected a list of texts, found {_shown(value)}")
    phrases = tuple(" ".join(text.lower().split()) for text in value)
    for text, phrase in zip(value, phrases, strict=True):
        if not phrase or len(phrase) > 200 or not phrase.isprintable():
            raise ValueError(f"expected words that a line of `control status` holds, found {_shown(text)}")
    return phrases
