"""Find a Python that a user can execute: our own, or one of the system's. Decides by permissions; runs nothing."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from probes.errors import InterpreterMissing
from probes.host.facts import User

_SYSTEM = (
    "/usr/bin/python3",
    "/usr/local/bin/python3",
    *(f"{folder}/python3.{minor}" for minor in range(14, 9, -1) for folder in ("/usr/bin", "/usr/local/bin")),
)


def interpreters_for(user: User, own: str = sys.executable) -> tuple[str, ...]:
    """The interpreters that `user` can execute, best first; they may yet be too old. Raise InterpreterMissing."""
    tried = (own, *_SYSTEM)
    found = tuple(path for path in tried if path and can_execute(Path(path), user))
    if not found:
        raise InterpreterMissing(
            f"the user {user.name!r} can execute no Python here: neither ours, {own}, nor /usr/bin/python3; install "
            f"the system's python3 (3.10 or newer), or let that user read the folder of ours"
        )
    return found


def nameless_path(interpreter: str) -> tuple[str, str]:
    """How an interpreter is named on a command line, and the folder in which that is run.

    The folder of ours may hold an agent's name, and a worker's command line, sudo's too, is seen by scripts that look
    for theirs. sudo compares files: a rule with the whole path allows `./python` as well.
    """
    if interpreter in _SYSTEM:
        return interpreter, "/"
    folder, name = os.path.split(interpreter)
    return f"./{name}", folder


def can_execute(path: Path, user: User) -> bool:
    """Whether the user may execute a file, by permission bits of all that leads to it, links included."""
    if not path.is_absolute():
        return False
    try:
        for _ in range(40):  # as many links as the kernel follows
            if not all(_may_search(folder, user) for folder in path.parents):
                return False
            found = path.lstat()
            if not stat.S_ISLNK(found.st_mode):
                real = Path(os.path.realpath(path))
                return (
                    stat.S_ISREG(found.st_mode)
                    and _allows(found, user)
                    and all(_may_search(folder, user) for folder in real.parents)
                )
            path = Path(os.path.normpath(path.parent / os.readlink(path)))
    except OSError:
        return False
    return False


def _may_search(folder: Path, user: User) -> bool:
    return _allows(folder.stat(), user)


def _allows(found: os.stat_result, user: User) -> bool:
    """The x bit that counts for the user: the owner's, else the group's, else that of others."""
    if user.uid == 0:
        return True
    if found.st_uid == user.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid in (user.gid, *user.groups):
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)
