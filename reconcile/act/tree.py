"""A verified tarball becomes a version's directory: staged, complete, marked, and put in place by one rename.

The order is that of docs/adr/0003: sweep, stage, files, fsync, links, marker, fsync of every directory,
rename, fsync of the home. A version's directory therefore is whole, or it is not there. An operation as those of
at_home.py: it happens as the agent's user, who gets the tarball as a stream and never by name.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from probes.host.paths import AgentHome
from probes.observed import Origin
from probes.values import frozen
from reconcile.act.host import archive, write
from reconcile.act.marker import mark
from reconcile.errors import DiskTooSmall, ReconcileError


@frozen(kw_only=True)
class Parcel:
    """What is to be unpacked. `size`: what the gzip file says that it unpacks to. `source`: an URL, no secrets.
    `signed_by`: the key that its signature was verified with."""

    directory: str
    digests: frozenset[str]
    source: str
    size: int
    limits: archive.Limits
    signed_by: str | None = None


def unpack_tree(home: AgentHome, parcel: Parcel, tarball: BinaryIO) -> None:
    """Make `{home}/{directory}`. Raise UnpackRefused, DiskTooSmall, WriteFailed; then nothing of it stays."""
    home_fd = write.open_dir(home.path)
    try:
        write.sweep(home_fd)
        _check_room(parcel.size + parcel.limits.keep_free, home)
        stage, stage_fd = write.make_stage(home_fd)
        try:
            try:
                archive.unpack(tarball, stage_fd, parcel.limits)
                mark(stage_fd, Origin.UNPACKED, parcel.digests, parcel.source, parcel.signed_by)
            finally:
                os.close(stage_fd)
            _put_in_place(home_fd, stage, parcel.directory, home.path)
        except BaseException:
            # Room is what a full disk needs most: the stage goes at once.
            with suppress(ReconcileError):
                write.remove_tree(home_fd, stage)
            raise
    finally:
        os.close(home_fd)


def _check_room(wanted: int, home: AgentHome) -> None:
    """Refuse before writing where what is known to be unpacked, and what is kept free, is more than is free. Raise
    DiskTooSmall."""
    free = shutil.disk_usage(home.path).free
    if wanted > free:
        short = (wanted - free) // 2**20 + 1
        raise DiskTooSmall(f"it needs {wanted} bytes there, {short} MiB more than is free at {home.path}; free some")


def _put_in_place(home_fd: int, stage: str, directory: str, home: Path) -> None:
    """Rename the stage to its name. What has that name is not in use and not complete, or of other content: it goes,
    and what of it can't be removed stays under another name."""
    old = write.clear(home_fd, directory) if os.path.lexists(home / directory) else None
    write.rename(home_fd, stage, directory)
    if old is not None:
        with suppress(ReconcileError):
            write.remove_tree(home_fd, old)
