"""The way to a folder that others may own: whoever can write on it must not lead us elsewhere by a link.

Opens and looks, no more. Who can write what root believes is in writers.py.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable
from pathlib import Path

from probes.errors import UpdaterError

_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # on one way, as in path_resolution(7)


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


def open_ours(path: str, refused: Callable[[str], UpdaterError]) -> int:
    """Open a directory, no part of its path a link or another user's than root's to change; the caller closes it.

    Raise what `refused` makes of the reason. In a sticky directory (/tmp) no user changes what is another's; but what
    is not there yet any user may make.
    """
    fd = os.open("/", _DIRECTORY)
    at = ""
    try:
        for part in [part for part in path.split("/") if part]:
            at = f"{at}/{part}"
            try:
                inner = os.open(part, _DIRECTORY, dir_fd=fd)
            except OSError as err:
                raise refused(f"{at} is a link or no directory") from err
            os.close(fd)
            fd = inner
            found = os.fstat(fd)
            if found.st_uid != 0 or (is_shared(found) and not found.st_mode & stat.S_ISVTX):
                raise refused(f"{at} is not root's, or others can write to it")
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_shared(found: os.stat_result) -> bool:
    """Whether others than its owner can write there, sticky or not."""
    return bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _own_link(name: str, dir_fd: int, path: str, err: OSError) -> str:
    """Where a link leads that nobody else can have put there. Raise `err` where it is none."""
    try:
        target = os.readlink(name, dir_fd=dir_fd)
    except OSError:
        raise err from None
    around = os.fstat(dir_fd)
    if around.st_uid not in (0, os.geteuid()) or is_shared(around):
        message = f"{name!r} on the way is a link in a folder that others can write"
        raise OSError(errno.ELOOP, message, path) from None
    return target
