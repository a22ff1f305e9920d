"""Deliberate mistakes in how files are written, put into a running updater: the harness must catch each of them.

They replace functions of the code in one process, and exist nowhere else.
"""

from __future__ import annotations

import importlib
import os
import tarfile
from collections.abc import Callable
from typing import Any, BinaryIO

from attrs import frozen

from probes.host.paths import AgentHome
from probes.observed import NEXT_PREFIX, Origin
from reconcile.act.install import UnpackRequest, mark
from tests.crash.points import DEATHS

archive: Any = importlib.import_module("reconcile.act.host.archive")
write: Any = importlib.import_module("reconcile.act.host.atomic_fs")
unpack: Any = importlib.import_module("reconcile.act.steps.unpack")
lifecycle: Any = importlib.import_module("reconcile.act.steps.lifecycle")


def unpack_in_place() -> None:
    """Unpack where the version is, over what is there, as `tar xzf` does: no stage, no rename, no exchange."""

    def in_place(home: AgentHome, parcel: UnpackRequest, tarball: BinaryIO) -> None:
        tree = home.tree(parcel.directory.removeprefix(NEXT_PREFIX))
        tree.mkdir(exist_ok=True)
        with tarfile.open(fileobj=tarball) as tar:
            for member in tar:
                content = tar.extractfile(member)
                path = tree / member.name
                path.parent.mkdir(exist_ok=True)
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, member.mode)
                os.write(fd, content.read() if content else b"")
                os.fsync(fd)
                os.close(fd)
        tree_fd = write.open_dir(tree)
        mark(tree_fd, Origin.UNPACKED, parcel.digests, parcel.source)
        os.close(tree_fd)

    def no_exchange(home: AgentHome, version: str, displaced: bool) -> None:
        pass

    unpack.unpack_tree = in_place
    lifecycle.switch_tree = no_exchange


def no_fsync_of_files() -> None:
    """Bring directories to the disk, but not the files that they name."""
    archive._Tree.sync_files = lambda tree: None
    archive._begin_writing = lambda fd: None  # a hint, by which a disk may get them in time, and need not


def no_fsync_of_directories() -> None:
    """Bring files to the disk, but not the directories that name them."""
    archive.sync_dir = write.sync_dir = lambda fd: None


def no_fsync() -> None:
    """Leave all of it to the kernel."""
    os.fsync = lambda fd: None


def version_in_place() -> None:
    """Write `.version` over the old one, fsynced, instead of beside it."""
    beside = write.replace_file

    def in_place(dir_fd: int, name: str, content: bytes, mode: int = 0o644) -> None:
        if name != ".version":
            beside(dir_fd, name, content, mode)
            return
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode, dir_fd=dir_fd)
        os.write(fd, content)
        os.fsync(fd)
        os.close(fd)

    write.replace_file = in_place


@frozen(kw_only=True)
class Mutant:
    """`put_in` makes the mistake. `scenario`, `mode`: where it must be caught. `near`: which part of the operations the
    search goes backwards from, to be short; it looks at the others after that. `on_ext4`: whether a disk image shows
    it, too."""

    put_in: Callable[[], Any]
    scenario: str
    mode: str
    near: float = 1.0
    on_ext4: bool = True


MUTANTS = {
    "unpack in place": Mutant(put_in=unpack_in_place, scenario="replacement", mode=DEATHS[0], near=0.65),
    "no fsync of files": Mutant(put_in=no_fsync_of_files, scenario="install", mode=DEATHS[1]),
    # ext4's journal keeps names in order, whether their directory is fsynced or not.
    "no fsync of directories": Mutant(
        put_in=no_fsync_of_directories, scenario="upgrade", mode=DEATHS[2], on_ext4=False
    ),
    "no fsync at all": Mutant(put_in=no_fsync, scenario="upgrade", mode=DEATHS[1]),
    "`.version` written in place": Mutant(put_in=version_in_place, scenario="upgrade", mode=DEATHS[0], near=0.8),
}
