"""Unpack the verified tarball: staged, complete, marked, and put in place by one rename.

The order is that of docs/adr/0003: sweep, stage, files, fsync, links, marker, fsync of every directory,
rename, fsync of the home. A version's directory therefore is whole, or it is not there.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from probes.host.as_user import as_user
from probes.host.paths import AgentHome
from probes.observe import home_of
from probes.observed import Origin, old_name
from reconcile.act.host import archive, write
from reconcile.act.marker import mark
from reconcile.act.tools import Tools
from reconcile.decide.actions import Result, Unpack
from reconcile.errors import DiskTooSmall, ReconcileError, UnpackRefused, WorkDirMissing
from reconcile.http import shown

_SMALLEST_GZIP = 18  # bytes: header and trailer of RFC 1952


def unpack(action: Unpack, tools: Tools) -> Result:
    """Make `{home}/{directory}`. Raise UnpackRefused, DiskTooSmall, WriteFailed; then nothing of it stays."""
    assert tools.bench.tarball is not None
    tools.bench.tarball.seek(0)
    home = home_of(tools.place)
    as_user(tools.place.run_user, lambda: _unpack(action, home, tools))
    return Result.DONE


def make_home(home: AgentHome) -> None:
    """Make `{work_dir}/{name}` where it is missing, by the smallest step. Raise WorkDirMissing, WriteFailed."""
    for directory in (home.work_dir, home.path):
        try:
            directory.mkdir(mode=0o755)
        except FileExistsError:
            continue
        except FileNotFoundError:
            raise WorkDirMissing(
                f"{home.work_dir} does not exist, nor does its parent; make it, or correct workDir at ops-meta"
            ) from None
        except OSError as err:
            raise write.as_error(err, "make directory", str(directory)) from err


def _unpack(action: Unpack, home: AgentHome, tools: Tools) -> None:
    home_fd = write.open_dir(home.path)
    try:
        write.sweep(home_fd)
        _check_room(tools.bench.tarball, home, tools.bounds.archive.keep_free)
        stage, stage_fd = write.make_stage(home_fd)
        try:
            try:
                assert tools.bench.tarball is not None
                archive.unpack(tools.bench.tarball, stage_fd, tools.bounds.archive)
                digests = frozenset(str(digest) for digest in action.digests)
                mark(stage_fd, Origin.UNPACKED, digests, shown(action.url))
            finally:
                os.close(stage_fd)
            _put_in_place(home_fd, stage, action.directory, home.path)
        except BaseException:
            # Room is what a full disk needs most: the stage goes at once.
            with suppress(ReconcileError):
                write.remove_tree(home_fd, stage)
            raise
    finally:
        os.close(home_fd)


def _check_room(tarball: BinaryIO | None, home: AgentHome, keep: int) -> None:
    """Refuse before writing where the unpacked size is known to be more than is free. Raise DiskTooSmall.

    A gzip member ends with its unpacked size modulo 4 GiB (RFC 1952); of several members it names the last one alone,
    so it can only be too small, and the unpacker finds out.
    """
    assert tarball is not None
    if tarball.seek(0, os.SEEK_END) < _SMALLEST_GZIP:
        raise UnpackRefused("the tarball is no gzip file: it is shorter than the shortest one")
    tarball.seek(-4, os.SEEK_END)
    wanted = int.from_bytes(tarball.read(4), "little")
    tarball.seek(0)
    free = shutil.disk_usage(home.path).free
    if wanted + keep > free:
        short = (wanted + keep - free) // 2**20 + 1
        raise DiskTooSmall(
            f"it unpacks to {wanted} bytes, and {keep} are kept free: {short} MiB more than is free at {home.path}; "
            "free some"
        )


def _put_in_place(home_fd: int, stage: str, directory: str, home: Path) -> None:
    """Rename the stage to its name. What has that name is not in use and not complete, or of other content: it goes."""
    if os.path.lexists(home / directory):
        old = old_name(directory)
        write.remove_tree(home_fd, old)
        write.rename(home_fd, directory, old)
        write.rename(home_fd, stage, directory)
        write.remove_tree(home_fd, old)
    else:
        write.rename(home_fd, stage, directory)
