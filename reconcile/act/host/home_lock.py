"""The lock of an agent's home, and which processes hold it, as far as /proc/locks shows that: other pid namespaces
hide it.

Any user may read a home, and a user that can read a directory can lock it. A process that is neither root's nor the
agent's user's is no updater that acts there, so its lock counts for nothing: else any local user could keep an agent
down.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probes.host import procfs
from reconcile.act.host.atomic_fs import as_error, open_dir
from reconcile.errors import HomeBusy

_TRIES, _BETWEEN_TRIES_S = 3, 0.02

# Of here (PROC_PID_INIT_INO of the kernel) no process is in another namespace: one that isn't found has ended, which no
# updater does with a lock in its hand, or is hidden from us (hidepid), as those of our own user never are.
_ALL_SEEN = "pid:[4026531836]"


@contextmanager
def home_lock(home: Path) -> Iterator[int]:
    """Hold an agent's home, so that two config folders can't both act on it; yields its descriptor.

    The kernel drops the lock with the process. Raises HomeBusy at once where another process holds it, except a
    stranger, which can be no updater.
    """
    fd = open_dir(home)
    try:
        try:
            _lock(fd, home)
        except OSError as err:
            raise as_error(err, "lock", repr(str(home))) from err
        yield fd
    finally:
        os.close(fd)


def _lock(fd: int, home: Path) -> None:
    for _ in range(_TRIES):  # what lets go right after a try is not to be taken for a stranger
        if try_lock(fd):
            return
        if not only_strangers(fd):
            who = next((f"process {pid}" for pid in holders(fd) if pid > 0), "another process")
            message = f"{who} acts on {str(home)!r}: expected no other process; let one updater alone manage this agent"
            raise HomeBusy(message)
        time.sleep(_BETWEEN_TRIES_S)


def try_lock(fd: int) -> bool:
    """Lock an open file or directory for us alone; False where another holds it. Raise OSError where it can't be."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holders(fd: int) -> tuple[int, ...]:
    """Ids of the processes that hold a flock on this file, by its inode: devices are named differently by some file
    systems, and one holder too many does no harm."""
    inode = str(os.fstat(fd).st_ino)
    return tuple(lock.pid for lock in procfs.flocks() if lock.file.rpartition(":")[2] == inode)


def only_strangers(fd: int) -> bool:
    """Whether no process that holds this directory can be an updater: none is root's, ours, or its owner's."""
    try:
        if os.readlink("/proc/self/ns/pid") != _ALL_SEEN:
            return False
    except OSError:
        return False
    ours = {0, os.geteuid(), os.fstat(fd).st_uid}
    return all(not ours & _users(pid) for pid in holders(fd))


def _users(pid: int) -> frozenset[int]:
    """The users that a process counts as; root where that is not known."""
    found = procfs.users(pid)
    return frozenset((0,)) if found is None else found
