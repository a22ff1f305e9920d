"""Whose a home is that two users may take turns in, and whether root may let one's take the place of the other's.

Two homes of one agent lie in one folder: one stands at `{work_dir}/{name}`, the other beside it (Place.beside). Root
exchanges them only where nobody else could have put something else in the place of either. Reads only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from probes.errors import HandOverRefused, UpdaterError
from probes.host.facts import find_user
from probes.host.way import is_shared
from probes.observed import Place

STRANGER = -1
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def owner_of(path: str) -> int | None:
    """The uid whose the directory at `path` is; None: nothing is there; STRANGER: no directory, or nobody can look."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError:
        return STRANGER
    return found.st_uid if stat.S_ISDIR(found.st_mode) else STRANGER


def open_ours(path: str, refused: Callable[[str], UpdaterError], *, owners: tuple[int, ...] = (0,)) -> int:
    """Open a directory, no part of its path a link or somebody else's than the `owners`' to change; the caller closes
    it.

    Raise what `refused` makes of the reason. In a sticky directory (/tmp) nobody changes what is another's; but what is
    not there yet anybody may make.
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
            shared = is_shared(found) and not found.st_mode & stat.S_ISVTX
            if found.st_uid not in owners or shared:
                raise refused(f"{at} is not root's, or others can write to it")
    except BaseException:
        os.close(fd)
        raise
    return fd


def only_made_by(path: str, uid: int) -> bool:
    """Whether nobody but root and this user can put something there, where nothing is."""
    folder = os.path.dirname(path)
    while folder != "/" and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    try:
        fd = open_ours(folder, HandOverRefused, owners=(0, uid))
    except (HandOverRefused, OSError):
        return False
    try:
        return not is_shared(os.fstat(fd))
    finally:
        os.close(fd)


def open_for_exchange(place: Place) -> int:
    """Open the workDir of a home that lies beside, after a look at all that its exchange with the standing one rests
    on; the caller closes it. Raise HandOverRefused, UserMissing."""
    assert place.beside is not None
    if os.geteuid() != 0:
        raise HandOverRefused("the updater does not run as root, and only root can exchange the homes of two users")
    stands, lies = find_user(place.beside), find_user(place.run_user)
    work_fd = open_ours(place.work_dir, HandOverRefused)
    try:
        if is_shared(os.fstat(work_fd)):  # sticky, so that others can make what is not there yet
            raise HandOverRefused(f"others can write to {place.work_dir}")
        if not os.access(".", os.W_OK, dir_fd=work_fd, effective_ids=True):
            raise HandOverRefused(f"{place.work_dir} can't be changed; is its disk read-only?")
        _check(work_fd, place.name, stands.uid, f"{place.standing.path} is not {stands.name}'s own directory")
        if os.path.lexists(place.path):
            _check(work_fd, place.directory, lies.uid, f"{place.path} is in the way: it is not {lies.name}'s directory")
    except BaseException:
        os.close(work_fd)
        raise
    return work_fd


def why_no_exchange(place: Place) -> str:
    """Why a home that lies beside can't take the place of the one that stands there, for people; empty: it can, as far
    as can be told without trying."""
    try:
        os.close(open_for_exchange(place))
    except UpdaterError as err:
        return err.message
    return ""


def _check(work_fd: int, name: str, uid: int, otherwise: str) -> None:
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=work_fd)
    except OSError as err:
        raise HandOverRefused(otherwise) from err
    try:
        if os.fstat(fd).st_uid != uid:
            raise HandOverRefused(otherwise)
        if _mount(fd) != _mount(work_fd):
            raise HandOverRefused(f"{name} in its workDir is a mount point, which can't be exchanged")
    finally:
        os.close(fd)


def _mount(fd: int) -> str:
    """Which mount a file lies on, as the kernel tells; empty where it doesn't."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as told:
            return next((line.split()[1] for line in told if line.startswith("mnt_id:")), "")
    except OSError:
        return ""
