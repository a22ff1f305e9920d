"""Who holds the lock of a home, as far as /proc/locks shows it: other pid namespaces hide it.

Any user may read a home, and a user that can read a directory can lock it. A process that is neither root's nor the
agent's user's is no updater that acts there, so its lock counts for nothing: else any local user could keep an agent
down. Reads only.
"""

from __future__ import annotations

import os

from probes.host import procfs

# Of here (PROC_PID_INIT_INO of the kernel) no process is in another namespace: one that isn't found has ended, which no
# updater does with a lock in its hand, or is hidden from us (hidepid), as those of our own user never are.
_ALL_SEEN = "pid:[4026531836]"


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
