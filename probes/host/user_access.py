"""How a user stands on this host: by which Python we work as it, and what it may do in a folder. Reads only.

Both are operations for pool.py: their result is true of the user that they run as.
"""

from __future__ import annotations

import os
import sys

from probes.values import frozen


@frozen(kw_only=True)
class PythonInfo:
    """The Python that works as a user: where it is, and its version."""

    python: str
    version: str


@frozen(kw_only=True)
class DirectoryAccess:
    """The first of some folders that exists; `path` is empty where none does. `free`: bytes that the user may still
    write there. `files`: how many files more fit, None where the file system sets no number."""

    path: str = ""
    may_write: bool = False
    free: int = 0
    files: int | None = None


def python_info() -> PythonInfo:
    """Say who we are as a Python."""
    return PythonInfo(python=sys.executable, version=".".join(str(part) for part in sys.version_info[:3]))


def directory_access(folders: tuple[str, ...]) -> DirectoryAccess:
    """Look at the first of the folders that exists. One that can't be seen is as one that doesn't exist."""
    for path in folders:
        try:
            if not os.path.isdir(path):
                continue
            room = os.statvfs(path)
        except (OSError, ValueError):
            continue
        root = os.geteuid() == 0
        files = (room.f_ffree if root else room.f_favail) if room.f_files else None
        return DirectoryAccess(
            path=path,
            may_write=os.access(path, os.W_OK | os.X_OK),
            free=(room.f_bfree if root else room.f_bavail) * room.f_frsize,
            files=files,
        )
    return DirectoryAccess()
