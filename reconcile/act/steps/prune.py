"""Remove what nothing needs: leftovers of interrupted steps, displaced trees. Only names of our own in a home."""

from __future__ import annotations

import os

from probes.host.as_user import as_user
from probes.observe import home_of
from probes.observed import is_reserved
from reconcile.act.host import write
from reconcile.act.tools import Tools
from reconcile.decide.actions import Prune, Result
from reconcile.errors import WriteFailed


def prune(action: Prune, tools: Tools) -> Result:
    """Remove each name, its marker first. Raise WriteFailed. UNCHANGED where none of them was there."""
    home = home_of(tools.place).path
    foreign = [name for name in action.names if not is_reserved(name)]
    if foreign:
        raise WriteFailed(f"{foreign[0]!r} in {home} is not the updater's; it is not removed")

    def remove() -> bool:
        home_fd = write.open_dir(home)
        try:
            there = [name for name in action.names if os.path.lexists(home / name)]
            for name in there:
                write.remove_tree(home_fd, name)
            return bool(there)
        finally:
            os.close(home_fd)

    return Result.DONE if as_user(tools.place.run_user, remove) else Result.UNCHANGED
