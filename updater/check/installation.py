"""The updater itself: its Python and packages, its tools, its own folder, and the environment that it doesn't use."""

from __future__ import annotations

import importlib.util
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from probes.host.own_installation import make_whole
from probes.host.trusted_path import WritablePath
from probes.host.user_access import directory_access
from probes.text import redact_url
from updater.check.subject import CheckContext, CheckFinding, bad, good, note
from updater.output.format import bytes_of
from updater.settings.config import METRICS, Config, lacks_web
from updater.settings.preflight import lacking, loose, missing

# What requirements.lock installs, by the names of its modules; isal is left out, since zlib stands in for it.
_MODULES = (
    *("anyio", "attrs", "certifi", "h11", "httpcore", "httpx", "idna", "loguru"),
    *("markdown_it", "mdurl", "pygments", "rich", "tenacity", "typing_extensions"),
)
# Until when python.org mends faults of security: https://devguide.python.org/versions/
_MENDED_UNTIL = {(3, 10): "2026-10", (3, 11): "2027-10", (3, 12): "2028-10", (3, 13): "2029-10", (3, 14): "2030-10"}
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def python(subject: CheckContext) -> Iterator[CheckFinding]:
    """Which Python runs us, whether anybody still mends it, and whether its venv is whole."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    own = (sys.version_info[0], sys.version_info[1])
    found = [*_missing_packages(), *_flaws(Path(sys.prefix), own)]
    until = _MENDED_UNTIL.get(own)
    if until is not None and time.strftime("%Y-%m", time.gmtime()) > until:
        message = f"Python {version} at {sys.executable}: python.org mends it no more since {until}, the OS may"
        remedy = (
            "a newer Python (in a checkout then `./control setup`); nothing is to be done while the OS supports its own"
        )
        found.append(note("python", message, remedy))
    yield from found or [good("python", f"{version} at {sys.executable}, all whole")]


def _missing_packages() -> Iterator[CheckFinding]:
    lacking = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if sys.version_info >= (3, 15):  # the lock leaves it out there
        lacking = [name for name in lacking if name != "typing_extensions"]
    if lacking:
        message = f"packages are missing: {', '.join(lacking)}"
        yield bad("python", message, f"make it whole: {make_whole()}")


def _flaws(prefix: Path, version: tuple[int, int]) -> Iterator[CheckFinding]:
    """Whether a venv was made from a Python that is there, and for this version."""
    made = _venv(prefix)
    if not made:
        return
    home, made_for = Path(made.get("home", "")), made.get("version", made.get("version_info", ""))
    remedy = f"make it again: remove it, then {make_whole()}"
    if not home.is_dir():
        message = f"the venv {prefix} was made from the Python in {home}, which is gone"
        yield bad("python", message, remedy)
    elif made_for and tuple(made_for.split(".")[:2]) != tuple(str(part) for part in version):
        message = f"the venv {prefix} was made for Python {made_for}, and {version[0]}.{version[1]} runs in it"
        yield bad("python", message, remedy)


def _venv(prefix: Path) -> dict[str, str]:
    """What a venv says of itself (venv's pyvenv.cfg); empty where it is none."""
    try:
        lines = (prefix / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError):
        return {}
    return {key.strip().lower(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def tools(subject: CheckContext) -> Iterator[CheckFinding]:
    """What a pass relies on beside Python."""
    absent, lacked = missing(), lacking(subject.config)
    for line in absent:
        yield bad("tools", line, "install it")
    for line in lacked:
        what, _, remedy = line.partition(": ")
        yield bad("tools", what, remedy)
    without = {
        "http.enabled is set, and local HTTP is not served": lacks_web() if subject.config.http.enabled else "",
        "metrics_textfile is set, and not written": lacks_web(METRICS) if subject.config.metrics_textfile else "",
    }
    for what, why in without.items():
        if why:
            needs, _, remedy = why.partition(": ")
            yield note("tools", f"{what}: {needs}", remedy)
    if not absent and not lacked and not any(without.values()):
        yield good("tools", "all tools that it needs are there")


def rights(subject: CheckContext) -> Iterator[CheckFinding]:
    """Who can write what decides about us, and read what is secret."""
    config = subject.config
    found = [
        *(loose_finding(flaw) for flaw in loose(config, os.geteuid(), os.getegid())),
        *_readable_secrets(config),
    ]
    yield from found or [good("rights", "no other user can write the code, the config or var/, or read a secret")]


def loose_finding(flaw: WritablePath) -> CheckFinding:
    return bad("rights", flaw.message, flaw.remedy)


def _readable_secrets(config: Config) -> Iterator[CheckFinding]:
    secrets: list[tuple[str, Path]] = []
    if config.auth is not None:
        secrets.append(("auth.password_file", config.auth.password_file))
    if config.proxy is not None and "@" in config.proxy:
        secrets.append(("proxy, with a password in its URL,", config.path))
    for what, path in secrets:
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if mode & stat.S_IROTH:
            message = f"{what} stands in {path}, which everybody can read"
            yield bad("rights", message, f"chmod o-r {path}")


def folders(subject: CheckContext) -> Iterator[CheckFinding]:
    """Whether var/ is there, or can be made, and can be written, and what it remembers can be read."""
    var = subject.config.var
    here = directory_access((str(var), str(var.parent)))
    if var.exists() and not var.is_dir():
        message, remedy = f"{var} is not a folder", "move it away: it is made at the first start"
        yield bad("folders", message, remedy)
    elif not here.may_write:
        what = f"{var} can't be written" if here.path == str(var) else f"{var} can't be made in {here.path}"
        remedy = f"give it to the user that runs the updater: chown {subject.own_user} {here.path}"
        yield bad("folders", what, remedy)
    elif taken := _taken_names(var):
        message = "; ".join(f"{path} is no {expected}" for path, expected in taken)
        remedy = f"move it away, it is made again: mv {taken[0][0]} {taken[0][0]}.away"
        yield bad("folders", message, remedy)
    elif subject.memory_trouble:
        remedy = "StateSetAside in docs/reasons.md: the next pass sets it aside, and what that loses"
        yield bad("folders", subject.memory_trouble, remedy)
    else:
        state = "can be written" if here.path == str(var) else "can be made"
        yield good("folders", f"{var} {state}")


def _taken_names(var: Path) -> list[tuple[Path, str]]:
    """What has the name of one of our own files or folders and is none, with what was expected."""
    files = ("updater.lock", "app.pid", "app.log", "state.db", "state.db.users", "places.json")
    found = [(var / name, "file") for name in files if not (var / name).is_file()]
    found += [(var / name, "folder") for name in ("cache", "holds") if not (var / name).is_dir()]
    return [(path, expected) for path, expected in found if os.path.lexists(path)]


def disk(subject: CheckContext) -> Iterator[CheckFinding]:
    """Whether the largest tarball has room in the cache, where what is cached for others is removed."""
    config = subject.config
    here = directory_access((str(config.var / "cache"), str(config.var), str(config.folder)))
    room = here.free + _cached(config.var / "cache")
    message = f"{bytes_of(room)} are free for {config.var / 'cache'}"
    if here.files == 0:
        message = f"no file more fits at {here.path}: its inodes are used up"
        yield bad("disk", message, "remove files there")
    elif room < config.max_tarball:
        message += f", less than the largest tarball that is taken (max_tarball, {bytes_of(config.max_tarball)})"
        remedy = "free some, or set max_tarball to what your agents need"
        yield bad("disk", message, remedy)
    elif room < config.cache_size:
        message += f", less than cache_size, {bytes_of(config.cache_size)}"
        remedy = "free some, or set a smaller cache_size"
        yield note("disk", message, remedy)
    else:
        yield good("disk", message)


def _cached(cache: Path) -> int:
    try:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(cache))
    except OSError:
        return 0


def proxy(subject: CheckContext) -> Iterator[CheckFinding]:
    """Proxies of the environment: today's updater goes through them, we don't."""
    lower = {name.lower(): value for name, value in subject.environ.items() if value}
    urls = {name: lower[name] for name in _PROXIES if name in lower}
    named = [f"{name} ({redact_url(url if '://' in url else f'http://{url}')})" for name, url in urls.items()]
    if subject.config.proxy is not None:
        message = f"requests go through {redact_url(subject.config.proxy)}, as the config says"
        yield good("proxy", message)
    elif named:
        message = f"{', '.join(named)} in the environment is not used; today's updater would use it"
        yield note("proxy", message, "set `proxy` in cfg.json if one is needed")
    else:
        yield good("proxy", "none, neither in the config nor in the environment")
