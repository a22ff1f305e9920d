"""What a pass relies on before it begins: tools of this host, and that no other user can write our config and var/."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import timezone, tzinfo
from importlib.util import find_spec
from pathlib import Path

from probes.host.own_installation import PACKED, get_part
from probes.host.trusted_path import WritablePath, writable_paths
from updater.settings.config import Config

TOOLS = ("sh",)  # what agents' control scripts need of any host


def missing() -> tuple[str, ...]:
    """What is not there, one line each, with the remedy."""
    folders = f"{os.defpath}:{os.environ.get('PATH', '')}".split(":")
    absent = [
        tool for tool in TOOLS if not any(folder and os.access(f"{folder}/{tool}", os.X_OK) for folder in folders)
    ]
    return (f"missing on this host: {', '.join(absent)}; agents' control scripts need it",) if absent else ()


def lacking(config: Config) -> tuple[str, ...]:
    """What the config needs and the host lacks, so that changes wait; one line each, with the remedy."""
    found = []
    if config.trusted_keys is not None and not all(find_spec(name) for name in ("nacl", "_cffi_backend")):
        found.append(f"trusted_keys needs PyNaCl, which is not installed: {get_part('signatures')}")
    if config.windows and time_zone(config) is None:
        found.append(
            f"the time zone {config.time_zone} (time_zone) is not known on this host, so its maintenance windows count "
            "as closed: install tzdata, or name another"
        )
    return tuple(found)


def time_zone(config: Config) -> tzinfo | None:
    """The time zone of the maintenance windows; None: this host does not know it."""
    if config.time_zone == "UTC":
        return timezone.utc
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(config.time_zone)
    except (LookupError, OSError, ValueError):  # no such zone, or no tzdata on this host
        return None


_PACKAGES = ("probes", "reconcile", "updater")
_FOLDERS_OF_PACKAGES = ("site-packages", "dist-packages", PACKED)
_LISTED_AT_MOST = 5


class FolderUnusable(Exception):
    """Our folder can't be used, or must not be. The message says why and what to do."""


def loose(config: Config, euid: int, egid: int) -> tuple[WritablePath, ...]:
    """What others than root, this user and this group can write: the code, the config, `var/`, a file of `desired`,
    `tls.ca_file`, and all folders on the way there."""
    named = (path for path in (config.desired, config.tls.ca_file) if isinstance(path, Path))
    return tuple(writable_paths((config.path, config.var, *named, *code()), euid, egid))


def code() -> Iterator[str]:
    """What is executed as us: the interpreter, each folder that modules are looked for in with what lies in it, and our
    packages, whole. Below those folders the packages of others are not looked through: there are thousands of files."""
    yield sys.executable
    yield sys.prefix
    for path in dict.fromkeys(filter(None, sys.path)):
        yield path
        if os.path.basename(path) in _FOLDERS_OF_PACKAGES and os.path.isdir(path):
            yield from (os.path.join(path, entry) for entry in sorted(os.listdir(path)))
    for name in _PACKAGES:
        yield from _package(name)


def _package(name: str) -> Iterator[str]:
    """All that lies in a package."""
    spec = find_spec(name)
    for place in (spec and spec.submodule_search_locations) or ():
        for folder, inner, files in os.walk(place):
            yield from (os.path.join(folder, entry) for entry in ("", *inner, *files))


def refuse_loose(config: Config) -> None:
    """Refuse, as root, code, a config, a `var/` or a named file that others can write. Raise FolderUnusable."""
    if os.geteuid() != 0:
        return
    found = loose(config, os.geteuid(), os.getegid())
    if found:
        listed = found[:_LISTED_AT_MOST]
        lines = "; ".join(f"{flaw.message}: {flaw.remedy}" for flaw in listed)
        more = f"; and {len(found) - len(listed)} more, which `updater check` names" if len(found) > len(listed) else ""
        what = "code, a config, a var/ or a named file that others can write"
        raise FolderUnusable(f"run as root, {what} is refused: {lines}{more}")
