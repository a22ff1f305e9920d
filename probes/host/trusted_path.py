"""The way to a folder or a file that others may own: walked by descriptors, led by no link of theirs, and who else can
write on it. root executes and believes nothing that others can write.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from probes.errors import PolicyRefused, UpdaterError
from probes.host.paths import AgentHome
from probes.values import frozen

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


# The system's own: root gives no folder below these to another user.
_SYSTEM_TREES = frozenset("bin boot dev etc lib lib32 lib64 libx32 proc root run sbin sys usr var".split())
_STANDARD_LOCAL = frozenset("bin etc games include lib lib32 lib64 libexec libx32 man sbin share src".split())


def why_not_given(home: AgentHome, uid: int, allowed: tuple[str, ...]) -> str:
    """Why root doesn't make a home for another user, for people; empty: it may. `allowed`: folders below which the
    operator lets homes be."""
    try:
        os.close(open_to_give(home, uid, allowed))
    except UpdaterError as err:
        return err.message
    return ""


def open_to_give(home: AgentHome, uid: int, allowed: tuple[str, ...]) -> int:
    """Open the folder in which root is to make a home for another user; the caller closes it. Raise PolicyRefused."""
    if is_systems_own(str(home.path), uid) and not any(
        home.path.is_relative_to(folder) for given in allowed for folder in (given, os.path.realpath(given))
    ):
        raise PolicyRefused(
            f"rule home_parents: {home.path} would lie among the system's own folders, where root gives none to "
            f"another user; make it yourself (`install -d -o {uid} {home.path}`), or name {home.work_dir} in "
            f"allow_work_dirs"
        )

    def refused(why: str) -> UpdaterError:
        return PolicyRefused(
            f"rule home_parents: {why}, so root makes no directory below it; `chown {uid} {home.work_dir}`, or make "
            f"the home yourself: `install -d -o {uid} {home.path}`"
        )

    return open_ours(str(home.work_dir), refused, owners=(0, uid))


def is_systems_own(path: str, uid: int) -> bool:
    """Whether a folder lies in one of the system's own trees, and is none that they have for others: /usr/local/NAME,
    /var/opt, /var/tmp, and a /var/lib/NAME that is this user's, or isn't there."""
    parts = path.split("/")[1:]
    if parts[0] not in _SYSTEM_TREES:
        return False
    match parts:
        case ["usr", "local", name, *_]:
            return name in _STANDARD_LOCAL
        case ["var", "opt" | "tmp", _, *_]:
            return False
        case ["var", "lib", name, *_]:
            try:
                return os.lstat(f"/var/lib/{name}").st_uid != uid
            except FileNotFoundError:
                return False
        case _:
            return True


def open_ours(path: str, refused: Callable[[str], UpdaterError], *, owners: tuple[int, ...] = (0,)) -> int:
    """Open a directory, no part of its path a link or for others than the `owners` to change; the caller closes it.

    Raise what `refused` makes of the reason. In a sticky directory (/tmp) no user changes what is another's; but what
    is not there yet any user may make.
    """
    fd = os.open("/", _DIRECTORY)
    at = ""
    users = " or its user's" if len(owners) > 1 else ""
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
            if found.st_uid not in owners or (is_shared(found) and not found.st_mode & stat.S_ISVTX):
                raise refused(f"{at} is not root's{users}, or others can write to it")
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
    host = os.fstat(dir_fd)
    if host.st_uid not in (0, os.geteuid()) or is_shared(host):
        message = f"{name!r} on the way is a link in a folder that others can write"
        raise OSError(errno.ELOOP, message, path) from None
    return target


_MOST_LINKS_OF_A_PATH = 40  # on one way, as in path_resolution(7)


@frozen(kw_only=True)
class WritablePath:
    """A file or folder that others can write."""

    path: Path
    message: str
    remedy: str


def writable_paths(starts: Iterable[Path], euid: int, egid: int, ways: Ways | None = None) -> Iterator[WritablePath]:
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
        here = None if links > _MOST_LINKS_OF_A_PATH else "/" if target.startswith("/") else here
        names += target.split("/")[::-1]
    return _Way(end=here, passed=passed)


def _flaws(path: str, status: os.stat_result, euid: int, egid: int, *, is_start: bool) -> Iterator[WritablePath]:
    if euid == 0 and status.st_uid != 0:
        h = "-h " if stat.S_ISLNK(status.st_mode) else ""
        yield WritablePath(
            path=Path(path), message=f"{path} belongs to user {status.st_uid}", remedy=f"chown {h}root {path}"
        )
    elif stat.S_ISLNK(status.st_mode) or (
        stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX and not is_start
    ):
        return
    elif status.st_mode & stat.S_IWOTH:
        yield WritablePath(path=Path(path), message=f"{path} can be written by everybody", remedy=f"chmod o-w {path}")
    elif status.st_mode & stat.S_IWGRP and status.st_gid not in (0, egid):
        message = f"{path} can be written by group {status.st_gid}"
        yield WritablePath(path=Path(path), message=message, remedy=f"chmod g-w {path}")
