"""The way to a directory or a file that others may own: one walk by descriptors, and the rules of who goes it.

root executes and believes nothing that others can write, and no link of theirs leads the updater elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from probes.errors import PolicyRefused, UpdaterError
from probes.host.facts import User
from probes.host.paths import AgentHome
from probes.values import frozen

_ANY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # on one way, as in path_resolution(7)


@frozen(kw_only=True)
class Component:
    """A part of a path as the walk comes to it. `folder`: the status of the directory that it lies in."""

    path: str
    status: os.stat_result
    folder: os.stat_result


Rule: TypeAlias = Callable[[Component], None]
"""Lets a component or a link pass, or raises."""


def walk(path: str, on_link: Rule, on_component: Rule) -> int:
    """Open what an absolute path leads to (O_PATH), a component at a time from / on; the caller closes it. Raise
    OSError where something is missing, and what the rules raise.

    No descriptor follows a link: the walk goes where it leads once `on_link` let it pass. All else passes
    `on_component`, / first. The rules:

    |                | a link                                          | any other component                     |
    |----------------|-------------------------------------------------|-----------------------------------------|
    | open_folder    | lies where only root and this user can write    | any                                     |
    | open_ours      | none                                            | a directory that only owners can change |
    | writable_paths | any; it is judged where its directory is sticky | any; it is judged                       |
    | can_execute    | any                                             | has the x bit for the user              |
    """
    at, left, links = "/", deque(_parts(path)), 0
    fd = os.open("/", _ANY)
    try:
        while left:
            part = left.popleft()
            there = os.path.dirname(at) if part == ".." else os.path.join(at, part)
            with _opened(part, fd, there) as inner:
                found = Component(path=there, status=os.fstat(inner), folder=os.fstat(fd))
                if stat.S_ISLNK(found.status.st_mode):
                    links += 1
                    if links > _MOST_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    on_link(found)
                    left.extendleft(reversed(_parts(os.readlink("", dir_fd=inner))))
                    continue
                on_component(found)
                os.dup2(inner, fd, inheritable=False)
                at = there
    except BaseException:
        os.close(fd)
        raise
    return fd


def _parts(path: str) -> list[str]:
    """The components of a path; of an absolute one / is the first."""
    return [*(["/"] if path.startswith("/") else []), *(part for part in path.split("/") if part not in ("", "."))]


@contextmanager
def _opened(part: str, dir_fd: int, path: str) -> Iterator[int]:
    """Open a component, and no link by it. Raise OSError that names its whole path."""
    try:
        try:
            fd = os.open(part, _ANY | os.O_DIRECTORY, dir_fd=dir_fd)  # so that a directory is mounted that is on demand
        except NotADirectoryError:
            fd = os.open(part, _ANY, dir_fd=dir_fd)
    except OSError as err:
        err.filename = path
        raise
    try:
        yield fd
    finally:
        os.close(fd)


def open_folder(path: Path) -> int:
    """Open a directory to write beneath (O_PATH), led there by no link but our own or root's; the caller closes it.
    Raise OSError.

    It may be another user's, and so may what it lies in: that user decides what lies there, and must not by a link lead
    us to where it can't write.
    """

    def is_own(link: Component) -> None:
        if link.folder.st_uid not in (0, os.geteuid()) or is_shared(link.folder):
            message = f"{os.path.basename(link.path)!r} on the way is a link in a folder that others can write"
            raise OSError(errno.ELOOP, message, str(path))

    fd = walk(os.path.abspath(path), is_own, _pass)
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    return fd


def _pass(component: Component) -> None:
    """Let it pass, whatever it is."""


# The system's own: root gives no folder below these to another user.
_SYSTEM_TREES = frozenset("bin boot dev etc lib lib32 lib64 libx32 proc root run sbin sys usr var".split())
_STANDARD_LOCAL = frozenset("bin etc games include lib lib32 lib64 libexec libx32 man sbin share src".split())


def why_home_refused(home: AgentHome, uid: int, allowed: tuple[str, ...]) -> str:
    """Why root doesn't make a home for another user, for people; empty: it may. `allowed`: folders below which the
    operator lets homes be."""
    try:
        os.close(open_home_parent(home, uid, allowed))
    except UpdaterError as err:
        return err.message
    return ""


def open_home_parent(home: AgentHome, uid: int, allowed: tuple[str, ...]) -> int:
    """Open the folder in which root is to make a home for another user; the caller closes it. Raise PolicyRefused."""
    if is_systems_own(str(home.path), uid) and not any(
        home.path.is_relative_to(folder) for top in allowed for folder in (top, os.path.realpath(top))
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

    Raise the error that `refused` returns for the reason. In a sticky directory (/tmp) no user changes what is
    another's; but any user may make what is not there yet.
    """
    users = " or its user's" if len(owners) > 1 else ""

    def refuse(component: Component) -> None:
        raise refused(f"{component.path} is a link or no directory")

    def only_owners_change(component: Component) -> None:
        found = component.status
        if component.path == "/":
            return
        if not stat.S_ISDIR(found.st_mode):
            refuse(component)
        if found.st_uid not in owners or (is_shared(found) and not found.st_mode & stat.S_ISVTX):
            raise refused(f"{component.path} is not root's{users}, or others can write to it")

    try:
        fd = walk(path, refuse, only_owners_change)
    except OSError as err:
        raise refused(f"{err.filename} is a link or no directory") from err
    try:
        return os.open(".", _DIRECTORY, dir_fd=fd)  # not O_PATH: it is written to the disk
    except OSError as err:
        raise refused(f"{path} can't be opened ({err.strerror})") from err
    finally:
        os.close(fd)


def can_execute(path: Path, user: User) -> bool:
    """Whether the user may execute a file, by permission bits of all that leads to it."""

    def allows(component: Component) -> None:
        if not _has_x(component.status, user):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), component.path)

    if not path.is_absolute():
        return False
    try:
        fd = walk(str(path), _pass, allows)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _has_x(found: os.stat_result, user: User) -> bool:
    """The x bit that counts for the user: the owner's, else the group's, else that of others."""
    if user.uid == 0:
        return True
    if found.st_uid == user.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid in (user.gid, *user.groups):
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def is_shared(found: os.stat_result) -> bool:
    """Whether others than its owner can write there, sticky or not."""
    return bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


@frozen(kw_only=True)
class WritablePath:
    """A file or folder that others can write."""

    path: Path
    message: str
    remedy: str


def writable_paths(
    starts: Iterable[str | Path], euid: int, egid: int, routes: Routes | None = None
) -> Iterator[WritablePath]:
    """What others than root, this user and this group can write: these files and folders, and all on the way there,
    where a link leads as well as where it lies. `routes`: what was looked at a moment ago need not be looked at again.

    The owner of a folder, and those who may write it, can replace a file in it, except in a sticky one (/tmp), where
    only the owner of a file can.
    """
    routes = {} if routes is None else routes
    judged: set[_Route] = set()
    reported: set[str] = set()
    for start in map(os.path.abspath, starts):
        route: _Route | None = _route_to(start, routes)
        end = None if route is None else route.end
        while route is not None:
            for path, status in reversed(route.passed.items()):
                flaw = _flaw(path, status, euid, egid, is_start=path == end)
                if flaw is not None and path not in reported:
                    reported.add(path)
                    yield flaw
            judged.add(route)
            route = None if route.folder in judged else route.folder


@frozen(kw_only=True, eq=False)
class _Route:
    """What is passed from / on: directories, what is asked for, and links that others may exchange. `end`: where it
    leads; None: nowhere, since something is not there yet, or can't be looked at. `folder`: the way to the folder that
    it lies in, of which `passed` has nothing then."""

    end: str | None
    passed: dict[str, os.stat_result]
    folder: _Route | None = None


Routes: TypeAlias = "dict[str, _Route]"  # of folders: there are many files in few of them


def _route_to(path: str, routes: Routes) -> _Route:
    """What is passed on the way to an absolute path; a folder on it is looked at once."""
    parent, name = os.path.split(path)
    if parent not in routes:
        routes[parent] = _route_to(parent, routes) if os.path.dirname(parent) in routes else _walked(parent)
    folder = routes[parent]
    if folder.end is None:
        return folder
    there = os.path.join(folder.end, name)
    try:
        status = os.lstat(there)
        if stat.S_ISDIR(status.st_mode):
            status = os.lstat(f"{there}/")  # so that it is mounted where that is on demand
    except OSError:
        return _Route(end=None, passed={}, folder=folder)
    return _walked(path) if stat.S_ISLNK(status.st_mode) else _Route(end=there, passed={there: status}, folder=folder)


def _walked(path: str) -> _Route:
    passed: dict[str, os.stat_result] = {}
    end = "/"

    def note(component: Component) -> None:
        nonlocal end
        end = component.path
        passed[end] = component.status

    def note_exchangeable(link: Component) -> None:
        if link.folder.st_mode & stat.S_ISVTX:  # elsewhere those who may write the directory exchange it
            passed[link.path] = link.status

    try:
        os.close(walk(path, note_exchangeable, note))
    except OSError:
        return _Route(end=None, passed=passed)
    return _Route(end=end, passed=passed)


def _flaw(path: str, status: os.stat_result, euid: int, egid: int, *, is_start: bool) -> WritablePath | None:
    if euid == 0 and status.st_uid != 0:
        h = "-h " if stat.S_ISLNK(status.st_mode) else ""
        message, remedy = f"{path} belongs to user {status.st_uid}", f"chown {h}root {path}"
    elif not _is_replaceable(status, is_start=is_start):
        return None
    elif status.st_mode & stat.S_IWOTH:
        message, remedy = f"{path} can be written by everybody", f"chmod o-w {path}"
    elif status.st_gid not in (0, egid):
        message, remedy = f"{path} can be written by group {status.st_gid}", f"chmod g-w {path}"
    else:
        return None
    return WritablePath(path=Path(path), message=message, remedy=remedy)


def _is_replaceable(status: os.stat_result, *, is_start: bool) -> bool:
    """Whether others may exchange what lies there. On the way to it, a sticky directory keeps them from that."""
    is_sticky = stat.S_ISDIR(status.st_mode) and bool(status.st_mode & stat.S_ISVTX)
    return is_shared(status) and not stat.S_ISLNK(status.st_mode) and (is_start or not is_sticky)
