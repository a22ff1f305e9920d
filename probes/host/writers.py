"""Who else can write a file or folder: what root executes or believes must be root's alone, else who writes it is root.

Reads only; what follows from it is said elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from probes.values import frozen

_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # on the way to one folder, as in Linux


@frozen(kw_only=True)
class Loose:
    """A file or folder that others can write."""

    path: Path
    message: str
    remedy: str


def loose_among(starts: Iterable[Path], euid: int, egid: int) -> Iterator[Loose]:
    """What others than root, this user and this group can write: these files and folders, and all on the way there.

    Who owns or may write a folder can put another file in a file's place, but for a sticky one (/tmp), where only the
    owner of a file can.
    """
    looked_at: set[str] = set()
    ways: dict[str, tuple[str, ...]] = {}  # of folders: there are many files in few of them

    def way(folder: str) -> tuple[str, ...]:
        if folder not in ways:
            real = os.path.realpath(folder)
            ways[folder] = (real, *map(str, Path(real).parents))
        return ways[folder]

    for start in map(os.path.abspath, starts):
        folder, name = os.path.split(start)
        real = os.path.realpath(start) if os.path.islink(start) else os.path.join(way(folder)[0], name)
        for path in (real, *way(os.path.dirname(real)), *way(folder)):
            if path not in looked_at:
                looked_at.add(path)
                yield from _flaws(path, euid, egid, is_start=path == real)


def open_folder(path: Path) -> int:
    """Open a folder to write beneath, led there by no link but our own or root's; the caller closes it. Raise OSError.

    It may be another user's, and so may what it lies in: whoever can write there decides what lies there, and must not
    by a link lead us to where they can't write.
    """
    left = deque(part for part in os.path.abspath(path).split("/") if part)
    fd, links = os.open("/", _FOLDER), 0
    try:
        while left:
            part = left.popleft()
            try:
                inner = os.open(part, _FOLDER, dir_fd=fd)
            except OSError as err:
                target = _own_link(part, fd, str(path), err)
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None
                left.extendleft(reversed([part for part in target.split("/") if part]))
                inner = os.open("/", _FOLDER) if target.startswith("/") else os.dup(fd)
            os.close(fd)
            fd = inner
    except BaseException:
        os.close(fd)
        raise
    return fd


def _own_link(name: str, dir_fd: int, path: str, err: OSError) -> str:
    """Where a link leads that nobody else can have put there. Raise `err` where it is none."""
    try:
        target = os.readlink(name, dir_fd=dir_fd)
    except OSError:
        raise err from None
    around = os.fstat(dir_fd)
    if around.st_uid not in (0, os.geteuid()) or around.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        message = f"{name!r} on the way is a link in a folder that others can write"
        raise OSError(errno.ELOOP, message, path) from None
    return target


def _flaws(path: str, euid: int, egid: int, *, is_start: bool) -> Iterator[Loose]:
    try:
        status = os.stat(path)
    except OSError:
        return  # not there yet, or nobody can look
    if euid == 0 and status.st_uid != 0:
        yield Loose(path=Path(path), message=f"{path} belongs to user {status.st_uid}", remedy=f"chown root {path}")
    elif stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX and not is_start:
        return
    elif status.st_mode & stat.S_IWOTH:
        yield Loose(path=Path(path), message=f"{path} can be written by everybody", remedy=f"chmod o-w {path}")
    elif status.st_mode & stat.S_IWGRP and status.st_gid not in (0, egid):
        message = f"{path} can be written by group {status.st_gid}"
        yield Loose(path=Path(path), message=message, remedy=f"chmod g-w {path}")
