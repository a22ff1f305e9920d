"""Who else can write a file or folder: what root executes or believes must be root's alone, else who writes it is root.

Reads only; what follows from it is said elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from probes.values import frozen

_MOST_LINKS = 40  # on one way, as in path_resolution(7)


@frozen(kw_only=True)
class Loose:
    """A file or folder that others can write."""

    path: Path
    message: str
    remedy: str


def loose_among(starts: Iterable[Path], euid: int, egid: int, ways: Ways | None = None) -> Iterator[Loose]:
    """What others than root, this user and this group can write: these files and folders, and all on the way there,
    where a link leads as well as where it lies. `ways`: what was looked at a moment ago need not be looked at again.

    Who owns or may write a folder can put another file in a file's place, but for a sticky one (/tmp), where only the
    owner of a file can.
    """
    ways = {} if ways is None else ways
    told: set[str] = set()
    for start in map(os.path.abspath, starts):
        folder, name = os.path.split(start)
        way = _step(_way_of(folder, ways), name)
        for path, status in reversed(way.passed.items()):
            if path not in told:
                told.add(path)
                yield from _flaws(path, status, euid, egid, is_start=path == way.end)


@frozen(kw_only=True)
class _Way:
    """What is passed from / on: folders, what is asked for, and links that others may exchange. `end`: where it leads;
    None: nowhere, since something is not there yet, or nobody can look."""

    end: str | None
    passed: dict[str, os.stat_result]


Ways: TypeAlias = "dict[str, _Way]"  # of folders: there are many files in few of them


def _way_of(folder: str, ways: Ways) -> _Way:
    """Go to an absolute folder, from the last one on the way whose own way is known."""
    names: list[str] = []
    while folder not in ways:
        above, name = os.path.split(folder)
        if not name:
            ways[folder] = _Way(end="/", passed={"/": os.stat("/")})
            break
        names.append(name)
        folder = above
    way = ways[folder]
    for name in reversed(names):
        folder = os.path.join(folder, name)
        way = ways[folder] = _step(way, name)
    return way


def _step(way: _Way, name: str) -> _Way:
    """Go on by a name, and where that is a link by what it says, a name at a time, as the kernel does."""
    here, passed = way.end, dict(way.passed)
    names, links = [name], 0
    while names and here is not None:
        name = names.pop()
        if name in ("", ".", ".."):
            here = os.path.dirname(here) if name == ".." else here
            continue
        there = os.path.join(here, name)
        try:
            status = os.lstat(there)
            target = os.readlink(there) if stat.S_ISLNK(status.st_mode) else None
        except OSError:
            return _Way(end=None, passed=passed)
        if target is None:
            passed[there] = status
            here = there
            continue
        if os.lstat(here).st_mode & stat.S_ISVTX:  # elsewhere a link is in the hands of who may write the folder
            passed[there] = status
        links += 1
        here = None if links > _MOST_LINKS else "/" if target.startswith("/") else here
        names += target.split("/")[::-1]
    return _Way(end=here, passed=passed)


def _flaws(path: str, status: os.stat_result, euid: int, egid: int, *, is_start: bool) -> Iterator[Loose]:
    if euid == 0 and status.st_uid != 0:
        h = "-h " if stat.S_ISLNK(status.st_mode) else ""
        yield Loose(path=Path(path), message=f"{path} belongs to user {status.st_uid}", remedy=f"chown {h}root {path}")
    elif stat.S_ISLNK(status.st_mode) or (
        stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX and not is_start
    ):
        return
    elif status.st_mode & stat.S_IWOTH:
        yield Loose(path=Path(path), message=f"{path} can be written by everybody", remedy=f"chmod o-w {path}")
    elif status.st_mode & stat.S_IWGRP and status.st_gid not in (0, egid):
        message = f"{path} can be written by group {status.st_gid}"
        yield Loose(path=Path(path), message=message, remedy=f"chmod g-w {path}")
