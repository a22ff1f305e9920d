"""`cfg.json` -> Config: every error at once, each with its key path and, for an unknown key, the nearest known one.

Today's keys keep their names and meaning; ours are optional with safe defaults, so an old file starts unchanged.
Secrets stand in files that the config names, never in the config itself. The keys are in keys.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from attrs import evolve, field

from probes.host.home_reader import read_regular
from probes.host.own_installation import get_part
from probes.status_parser import StatusWords
from probes.values import frozen
from reconcile.decide.timing.windows import Window
from updater.settings.keys import KEYS
from updater.settings.kinds import read_keys
from updater.settings.sections import AuthConfig, ControlTimeouts, FleetLockConfig, HttpConfig, TlsConfig
from updater.settings.values import each_once
from updater.sources.signed import file_name_of

_LIMIT = 1024 * 1024
_DIGITS = 30
_LONGEST_PASSWORD = 4096  # bytes of its file that are read
_each_once = partial(each_once, twice="stands there twice")
METRICS = ("prometheus_client",)  # what metrics_textfile needs


class ConfigWrong(Exception):
    """The config can't be used. `errors`: one line each, with its key path."""

    def __init__(self, path: Path, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.path = path
        self.errors = errors


@frozen(kw_only=True)
class Config:
    """All that a config file says, checked, with the defaults of keys.py. Sizes in bytes, times in seconds. `folder`:
    where it and `var/` lie. `written`: the file itself. `desired_agent` is `desiredAgent` of the older line, whose
    `debug` has become a `log_level`."""

    path: Path
    written: Mapping[str, Any] = field(eq=False, repr=False)
    log_level: str
    hostname: str | None
    server: str | None
    interval: float
    http: HttpConfig
    work_dir: str | None
    run_user: str | None
    create_users: bool
    desired: Path | str | None
    desired_poll: float | None
    tarball_layout: str
    auth: AuthConfig | None
    tls: TlsConfig
    proxy: str | None = field(repr=False)
    report_extra: bool
    report_to: str | None
    control_timeout: ControlTimeouts
    watch: float
    keep: int
    quarantine_for: float | None
    parallel: int
    status_parallel: int
    max_tarball: int
    max_unpacked: int
    max_files: int
    max_download_rate: int | None
    fleet_lock: FleetLockConfig | None
    windows: tuple[Window, ...] | None
    time_zone: str
    fetch_splay: float
    cache_size: int
    agent_env: Mapping[str, str]
    status_words: StatusWords
    desired_agent: str | None
    allow_agents: frozenset[str] | None
    allow_users: frozenset[str] | None
    allow_work_dirs: tuple[str, ...] | None
    mirrors: tuple[str, ...] | None
    refuse_downgrade: bool
    min_version: Mapping[str, str]
    require_https: bool
    require_sha256: bool
    trusted_keys: tuple[str, ...] | None
    require_signed_desired: bool
    metrics_textfile: Path | None

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def var(self) -> Path:
        return self.folder / "var"

    @property
    def deciding(self) -> dict[str, Any]:
        """Those of its keys that decide plans, as they were written; none is a secret."""
        return {name: self.written[name] for name in _DECIDING if self.written.get(name) is not None}


# They go into a snapshot of a host, from which others plan for it.
_DECIDING = tuple(key.name for key in KEYS if key.decides)


def load(path: Path, *, strict: bool = True) -> Config:
    """Read and check a config file. Raise ConfigWrong with every error.

    Not `strict`: a password file that can't be read is no error of the config but of its time. Requests that need it
    fail then; what needs none goes on, and agents are healed as without a server.
    """
    path = path.absolute()
    try:
        content = read_regular(path, _LIMIT + 1)
    except FileNotFoundError:
        raise ConfigWrong(
            path, [f"{path} does not exist; make it from cfg.example.json, or name it by -c FILE"]
        ) from None
    except OSError as err:
        raise ConfigWrong(path, [f"{path} can't be read: {err.strerror or err}"]) from None
    if len(content) > _LIMIT:
        raise ConfigWrong(path, [f"{path} is larger than 1 MiB; that is not a config"])
    try:
        document = json.loads(content, object_pairs_hook=_each_once, parse_constant=_no_number, parse_int=_integer)
    except (ValueError, RecursionError) as err:
        raise ConfigWrong(path, [f"{path} is not JSON: {err}"]) from None
    if not isinstance(document, dict):
        raise ConfigWrong(path, [f"{path} holds no JSON object"])
    return _config(path, document, strict=strict)


def from_written(path: Path, written: Mapping[str, Any]) -> Config:
    """A config from what its file held once (`Config.written`). `path`: where it lies. Raise ConfigWrong."""
    return _config(path.absolute(), dict(written), strict=False)


def from_keys(path: Path, keys: Mapping[str, Any]) -> Config:
    """A config of another host, from its `deciding` keys. `path`: for messages. Raise ConfigWrong, also for a key that
    decides nothing: what another host sends must not have a file of this one read (`auth`, `tls`)."""
    if beyond := [f"{key}: expected keys that decide plans alone" for key in keys if key not in _DECIDING]:
        raise ConfigWrong(path, beyond)
    return _config(path, {"server": "https://another-host", **keys}, strict=True)


def lacks_web(packages: tuple[str, ...] = ("waitress", *METRICS)) -> str:
    """What to do so that local HTTP, or metrics, have the packages that they need; empty where these are there."""
    import importlib.util

    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"it needs {' and '.join(missing)}: {get_part('web')}" if missing else ""


def _config(path: Path, document: dict[str, Any], *, strict: bool) -> Config:
    found, flaws = read_keys(KEYS, document)
    errors = [*map(str, flaws), *_contradictions(found, document)]
    found |= {name: path.parent / value for name, value in found.items() if isinstance(value, Path)}
    if tls := found.get("tls"):
        found["tls"] = evolve(tls, ca_file=_readable(tls.ca_file, path.parent, errors))
    if auth := found.get("auth"):
        found["auth"] = _with_password(auth, path.parent, errors, strict=strict)
    if errors:
        raise ConfigWrong(path, errors)
    if found.pop("debug") and document.get("log_level") is None:
        found["log_level"] = "debug"
    return Config(path=path, written=document, **found)


def _contradictions(found: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong between keys. `found` lacks those that are wrong by themselves."""
    if document.get("server") is None and document.get("desired") is None:
        yield "server: missing; expected host:port of ops-meta, or `desired` with a file or an URL in its place"
    if found.get("desired_poll"):
        yield from _unpolled(found, document)
    if found.get("require_signed_desired"):
        yield from _unsigned(found, document)
    if found.get("require_https"):
        yield from _not_https(found)
    if (tls := found.get("tls")) is not None and tls.pin_sha256:
        yield from _unpinned(found)


def _unpinned(found: Mapping[str, Any]) -> Iterator[str]:
    """Why a pin could never be compared, which would be taken for protection."""
    urls = [str(url) for url in (found.get("server"), found.get("desired")) if url is not None]
    if urls and not any(map(is_https, urls)):
        yield "tls.pin_sha256: holds for `server` or a `desired` URL, and none is an https:// URL"


def _unpolled(found: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    """Why a desired state could not be asked for changes between passes."""
    desired, poll = found.get("desired"), found["desired_poll"]
    if isinstance(desired, Path) or document.get("desired") is None:
        what = "a file" if desired else "not set"
        yield f"desired_poll: asks a `desired` URL for changes, and `desired` is {what}; name an URL"
    if poll > found.get("interval", poll):
        yield f"desired_poll: expected from 1 s to `interval`, which is {found['interval']:g} s"


def _not_https(found: Mapping[str, Any]) -> Iterator[str]:
    """What does not come over https, where all that it names must."""
    lock, desired = found.get("fleet_lock"), found.get("desired")
    urls = {
        "server": (found.get("server"), "an https:// URL"),
        "fleet_lock.url": (None if lock is None else lock.url, "an https:// URL"),
        "report_to": (found.get("report_to"), "an https:// URL"),
        "desired": (desired if isinstance(desired, str) else None, "a file or an https:// URL"),
    }
    for key, (url, expected) in urls.items():
        if url is not None and not is_https(url):
            yield f"{key}: expected {expected}, since require_https is set"


def _unsigned(found: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    """Why a desired state could not be signed, or not be verified."""
    if document.get("server") is not None:
        yield "require_signed_desired: a `server` signs nothing; it is for a `desired` file or URL alone"
    if document.get("trusted_keys") is None:
        yield "require_signed_desired: needs `trusted_keys`, by one of which it must be signed"
    if isinstance(url := found.get("desired"), str):
        try:
            file_name_of(url)
        except ValueError as err:
            yield f"desired: {err} (require_signed_desired)"


def is_https(url: str) -> bool:
    return url.lower().startswith("https:")


def _readable(file: Path | None, folder: Path, errors: list[str]) -> Path | None:
    if file is None:
        return None
    try:
        read_regular(folder / file, 1)
    except OSError as err:
        errors.append(f"tls.ca_file: {folder / file} can't be read: {err.strerror or err}")
    return folder / file


def _with_password(auth: AuthConfig, folder: Path, errors: list[str], *, strict: bool) -> AuthConfig:
    """Add the password that the file holds, without its line end, or why it can't be read. No error shows it."""
    path, password, trouble = folder / auth.password_file, None, ""
    try:
        password = read_regular(path, _LONGEST_PASSWORD).decode("utf-8").rstrip("\r\n")
    except OSError as err:
        trouble = f"auth.password_file: {path} can't be read: {err.strerror or err}"
        errors += [trouble] if strict else []
    except UnicodeDecodeError:
        errors.append(f"auth.password_file: {path} is not UTF-8 text")
    return evolve(auth, password_file=path, password=password, trouble=trouble)


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} stands where a number is expected")


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:  # int() of a long text takes quadratic time
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
