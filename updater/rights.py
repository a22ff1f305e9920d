"""Who else can write our config, `var/`, and the files by which the config says what to do: whoever can, decides what
we do. Reads only.

As root that is refused, since it would hand them root; as another user `check` tells it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from probes.values import frozen
from updater.config import Config


class FolderUnusable(Exception):
    """Our folder can't be used, or must not be. The message says why and what to do."""


@frozen(kw_only=True)
class Loose:
    """A file or folder that others can write."""

    path: Path
    message: str
    remedy: str


def loose(config: Config, euid: int, egid: int) -> tuple[Loose, ...]:
    """What others than root, this user and this group can write: the config, `var/`, a file of `desired`,
    `tls.ca_file`, and all folders on the way there.

    Who owns or may write a folder can put another file in a file's place, but for a sticky one (/tmp), where only the
    owner of a file can.
    """
    found: dict[Path, Loose] = {}
    named = (path for path in (config.desired, config.ca_file) if isinstance(path, Path))
    for start in (config.path, config.var, *named):
        for path in _on_the_way(start):
            flaw = _flaw(path, euid, egid, is_start=path == _real(start))
            if flaw is not None:
                found.setdefault(path, flaw)
    return tuple(found.values())


def refuse_loose(config: Config) -> None:
    """As root, take no config and no `var/` that others can write, nor a named file. Raise FolderUnusable."""
    if os.geteuid() != 0:
        return
    found = loose(config, os.geteuid(), os.getegid())
    if found:
        lines = "; ".join(f"{flaw.message}: {flaw.remedy}" for flaw in found)
        what = "a config, a var/ or a named file that others can write"
        raise FolderUnusable(f"run as root, {what} is refused: {lines}")


def _on_the_way(start: Path) -> Iterator[Path]:
    """A path with its folders, and where a link leads with the folders of that."""
    lexical = _real(start.parent)
    yield from dict.fromkeys((_real(start), *_real(start).parents, lexical, *lexical.parents))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _flaw(path: Path, euid: int, egid: int, *, is_start: bool) -> Loose | None:
    try:
        status = path.stat()
    except OSError:
        return None  # not there yet, or nobody can look
    if euid == 0 and status.st_uid != 0:
        return Loose(path=path, message=f"{path} belongs to user {status.st_uid}", remedy=f"chown root {path}")
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX and not is_start:
        return None
    if status.st_mode & stat.S_IWOTH:
        return Loose(path=path, message=f"{path} can be written by everybody", remedy=f"chmod o-w {path}")
    if status.st_mode & stat.S_IWGRP and status.st_gid not in (0, egid):
        return Loose(path=path, message=f"{path} can be written by group {status.st_gid}", remedy=f"chmod g-w {path}")
    return None
