"""Who holds the lock of a home, as far as /proc/locks tells: other pid namespaces hide it.

A home can be read by everybody, and who can read a directory can lock it. Who is neither root nor the agent's user is
no updater that acts there, so such a lock keeps nobody away: else any local user could keep an agent down. Reads only.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# Of here (PROC_PID_INIT_INO of the kernel) no process is in another namespace: one that isn't found has ended, which no
# updater does with a lock in its hand, or is hidden from us (hidepid), as those of our own user never are.
_ALL_SEEN = "pid:[4026531836]"


def holders(fd: int) -> tuple[int, ...]:
    """Ids of the processes that hold a flock on this file, by its inode: devices are named differently by some file
    systems, and one holder too many does no harm."""
    inode = os.fstat(fd).st_ino
    found = []
    with suppress(OSError, ValueError), open("/proc/locks", encoding="ascii") as lines:
        for line in lines:
            words = line.split()  # "7: FLOCK ADVISORY WRITE 1234 08:01:131 0 EOF"; a waiter's line has "->" second
            if len(words) > 5 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
                found.append(int(words[4]))
    return tuple(found)


def only_strangers(fd: int) -> bool:
    """Whether nobody who holds this directory can be an updater: none is root, we, or the directory's owner."""
    try:
        if os.readlink("/proc/self/ns/pid") != _ALL_SEEN:
            return False
    except OSError:
        return False
    ours = {0, os.geteuid(), os.fstat(fd).st_uid}
    return all(not ours & _users(pid) for pid in holders(fd))


def _users(pid: int) -> set[int]:
    """The users that a process counts as, real, effective and saved: none where there is no such process, root where
    that can't be told."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Uid:"):
                return {int(word) for word in line.split()[1:]}
    except (FileNotFoundError, ProcessLookupError):
        return set()
    except (OSError, ValueError):
        return {0}
    return {0}
