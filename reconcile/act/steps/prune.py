"""Remove what nothing needs: leftovers of interrupted steps, displaced trees, versions beyond `keep`. Only our own."""

from __future__ import annotations

import os
from pathlib import Path

from probes.host import read
from probes.host.as_user import as_user
from probes.observe import home_of
from probes.observed import Origin, is_reserved, old_name
from reconcile.act.host import write
from reconcile.act.tools import Tools
from reconcile.decide.actions import Prune, Result
from reconcile.errors import WriteFailed


def prune(action: Prune, tools: Tools) -> Result:
    """Remove each name, its marker first. Raise WriteFailed. UNCHANGED where none of them was there.

    A version goes only if it carries our marker and `.version` does not name it, looked at again right before. It gets
    a leftover's name first: interrupted without it, what is left would pass for a person's, and stay for ever.
    """
    home = home_of(tools.place).path

    def remove() -> bool:
        home_fd = write.open_dir(home)
        try:
            there = [name for name in action.names if os.path.lexists(home / name)]
            for name in there:
                _check_ours(home_fd, name, home)  # all of them, before the first goes
            for name in there:
                _check_ours(home_fd, name, home)
                write.remove_tree(home_fd, name if is_reserved(name) else _out_of_the_way(home_fd, name))
            return bool(there)
        finally:
            os.close(home_fd)

    return Result.DONE if as_user(tools.place.run_user, remove) else Result.UNCHANGED


def _out_of_the_way(home_fd: int, name: str) -> str:
    old = old_name(name)
    write.remove_tree(home_fd, old)
    write.rename(home_fd, name, old)
    return old


def _check_ours(home_fd: int, name: str, home: Path) -> None:
    if is_reserved(name):
        return
    with read.open_directory(name, dir_fd=home_fd) as tree_fd:
        marked = tree_fd is not None and read.read_marker(tree_fd)[0] is not Origin.FOREIGN
    if not marked or read.read_version_file(home_fd) == name:
        raise WriteFailed(f"{name!r} in {home} is in use or not the updater's; it is not removed")
