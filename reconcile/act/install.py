"""A verified tarball becomes a version's directory, with the marker of a complete tree, as the agent's user."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from probes.host.paths import AgentHome
from probes.observed import Origin
from probes.values import frozen
from reconcile.act.host import archive, atomic_fs
from reconcile.errors import DiskTooSmall, ReconcileError


def mark(
    tree_fd: int,
    origin: Origin,
    digests: frozenset[str] = frozenset(),
    source: str = "",
    signed_by: str | None = None,
) -> None:
    """Put the marker into a complete, fsynced tree. `source`: an URL, no secrets. `signed_by`: the public key that the
    tarball's signature was verified with. Raise DiskTooSmall, WriteFailed."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    content = {"format": 1, "origin": origin.value, "digests": sorted(digests), "source": source, "at": at}
    if signed_by is not None:
        content["signed_by"] = signed_by
    atomic_fs.seal(tree_fd, json.dumps(content, indent=1).encode() + b"\n")


@frozen(kw_only=True)
class UnpackRequest:
    """What is to be unpacked. `size`: what the gzip file says that it unpacks to. `source`: an URL, no secrets.
    `signed_by`: the key that its signature was verified with."""

    directory: str
    digests: frozenset[str]
    source: str
    size: int
    limits: archive.ArchiveLimits
    signed_by: str | None = None


def unpack_tree(home: AgentHome, parcel: UnpackRequest, tarball: BinaryIO) -> None:
    """Make `{home}/{directory}`. Raise UnpackRefused, DiskTooSmall, WriteFailed; then nothing of it stays."""
    home_fd = atomic_fs.open_dir(home.path)
    try:
        atomic_fs.sweep(home_fd)
        _check_room(parcel.size + parcel.limits.keep_free, home)
        stage, stage_fd = atomic_fs.make_stage(home_fd)
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
                atomic_fs.remove_tree(home_fd, stage)
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
    old = atomic_fs.clear(home_fd, directory) if os.path.lexists(home / directory) else None
    atomic_fs.rename(home_fd, stage, directory)
    if old is not None:
        with suppress(ReconcileError):
            atomic_fs.remove_tree(home_fd, old)
