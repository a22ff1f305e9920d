"""Write a remote config: into a tree that is not in use, or beside the file of the one in use.

The bytes are those that the plan was made with; they are not fetched again.
"""

from __future__ import annotations

import os
import stat

from probes.host import read
from probes.host.as_user import as_user
from probes.host.paths import AgentHome
from probes.observe import home_of
from probes.observed import PREVIOUS_CONFIG, STAGED_CONFIG
from reconcile.act.host import write
from reconcile.act.tools import Tools
from reconcile.decide.actions import Configure, Result
from reconcile.errors import FetchFailed

_MODE = 0o644


def configure(action: Configure, tools: Tools) -> Result:
    """Write the file. Raise FetchFailed where its bytes are not at hand, DiskTooSmall, WriteFailed."""
    home = home_of(tools.place)
    content = tools.contents.get(action.digest) or as_user(tools.place.run_user, lambda: _displaced(home, action))
    if content is None:
        raise FetchFailed(f"the bytes of {action.name} ({action.digest}) are not at hand; the next pass fetches them")
    as_user(tools.place.run_user, lambda: _write(action, home, content))
    return Result.DONE


def _displaced(home: AgentHome, action: Configure) -> bytes | None:
    """The bytes that an earlier change displaced, if it is these that are wanted: the way back needs no network."""
    with read.open_directory(home.path) as home_fd:
        if home_fd is None or read.file_digest(home_fd, PREVIOUS_CONFIG) != action.digest:
            return None
        return read.read_bounded(PREVIOUS_CONFIG, read.CONFIG_LIMIT, dir_fd=home_fd)


def _write(action: Configure, home: AgentHome, content: bytes) -> None:
    if action.directory is None:
        home_fd = write.open_dir(home.path)
        try:
            write.write_beside(home_fd, STAGED_CONFIG, content, _mode_in_use(home_fd, action.name))
            if read.file_digest(home_fd, PREVIOUS_CONFIG) != action.digest:
                _keep_displaced(home_fd, action.name)
        finally:
            os.close(home_fd)
        return
    tree_fd = write.open_dir(home.tree(action.directory))
    try:
        write.replace_file(tree_fd, action.name, content, _MODE)
    finally:
        os.close(tree_fd)


def _keep_displaced(home_fd: int, name: str) -> None:
    """Keep the bytes that are about to be replaced, until the new ones are confirmed."""
    with read.open_directory(read.read_version_file(home_fd) or ".", dir_fd=home_fd) as tree_fd:
        content = None if tree_fd is None else read.read_bounded(name, read.CONFIG_LIMIT, dir_fd=tree_fd)
    if content is None:
        write.remove_tree(home_fd, PREVIOUS_CONFIG)
    else:
        write.write_beside(home_fd, PREVIOUS_CONFIG, content, _mode_in_use(home_fd, name))


def _mode_in_use(home_fd: int, name: str) -> int:
    """Keep the permissions of the file that is replaced: an operator may have narrowed them."""
    with read.open_directory(read.read_version_file(home_fd) or ".", dir_fd=home_fd) as tree_fd:
        try:
            found = os.stat(name, dir_fd=tree_fd, follow_symlinks=False)
        except OSError:
            return _MODE
    return stat.S_IMODE(found.st_mode) & 0o777 if stat.S_ISREG(found.st_mode) else _MODE
