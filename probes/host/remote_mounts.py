"""File systems that ask a server (NFS, FUSE): one whose server does not answer blocks its readers for ever.

So each on the path of a home is asked for an answer first, in a thread that is left behind where none comes. A server
that falls silent between that answer and the probe still blocks us.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

from probes.host import procfs

PATIENCE_S = 5.0  # for an answer; a server that is up takes milliseconds
_KINDS = r"nfs4?|cifs|smb3|9p|ceph|lustre|gpfs|afs|glusterfs|fuse(\..*)?"
_STILL_ASKED: dict[str, threading.Thread] = {}  # of an earlier look; each mount has one thread at most


def silent_on(paths: Iterable[str], patience_s: float = PATIENCE_S) -> dict[str, str]:
    """The paths that lie on, above or below a mount that does not answer, each with that mount."""
    remote = [mount.at for mount in procfs.mounts() if re.fullmatch(_KINDS, mount.kind)]
    on = [(path, at) for path in set(paths) for at in remote if _meet(at, path)]
    silent = _silent({at for _, at in on}, patience_s)
    return {path: at for path, at in on if at in silent}


def _silent(mounts: set[str], patience_s: float) -> set[str]:
    """Those of the mounts that do not answer, all asked at once."""
    asked = {at: thread for at in mounts if (thread := _ask(at)) is not None}
    until = time.monotonic() + patience_s
    for thread in asked.values():
        thread.join(max(0.0, until - time.monotonic()))
    return {at for at, thread in asked.items() if thread.is_alive()}


def _meet(mount: str, path: str) -> bool:
    return f"{path}/".startswith(f"{mount.rstrip('/')}/") or f"{mount}/".startswith(f"{path}/")


def _ask(mount: str) -> threading.Thread | None:
    """The thread that waits for an answer, that of an earlier call where it still does; None: there can be none."""
    before = _STILL_ASKED.get(mount)
    if before is not None and before.is_alive():
        return before

    def ask() -> None:
        with suppress(OSError):  # an error is an answer
            os.statvfs(mount)

    thread = threading.Thread(target=ask, name="remote_mounts", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the host is short of threads: the look itself will tell
        return None
    _STILL_ASKED[mount] = thread
    return thread
