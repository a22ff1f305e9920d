"""Unpack an archive of the corpus for real, with things beside it that must not change."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

from reconcile.act.host.archive import ArchiveLimits, Unpacked, unpack
from reconcile.act.host.atomic_fs import open_dir

SMALL = ArchiveLimits(max_unpacked=4 << 20, max_files=300)


def snapshot(root: Path) -> dict[str, object]:
    """All that a tree holds, links not followed: mode, and content or target."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        at = path.lstat()
        name = str(path.relative_to(root))
        if stat.S_ISLNK(at.st_mode):
            found[name] = os.readlink(path)
        elif stat.S_ISDIR(at.st_mode):
            found[name] = oct(stat.S_IMODE(at.st_mode))
        else:
            found[name] = (oct(stat.S_IMODE(at.st_mode)), path.read_bytes())
    return found


class Bench:
    """An empty directory to unpack into, and a sentinel tree beside it."""

    def __init__(self, folder: Path) -> None:
        self.into = folder / "home" / "stage"
        self.into.mkdir(parents=True, mode=0o755)
        beside = folder / "sentinel"
        beside.mkdir()
        (beside / "file").write_text("untouched")
        (folder / "home" / "neighbour").write_text("untouched")
        (beside / "link").symlink_to("file")
        self.folder = folder

    def outside(self) -> dict[str, object]:
        return {
            name: what
            for name, what in snapshot(self.folder).items()
            if name != "home/stage" and not name.startswith("home/stage/")
        }

    def unpack(self, tarball: bytes, limits: ArchiveLimits = SMALL) -> Unpacked:
        fd = open_dir(self.into)
        descriptors = len(os.listdir("/proc/self/fd"))
        try:
            return unpack(io.BytesIO(tarball), fd, limits)
        finally:
            assert len(os.listdir("/proc/self/fd")) == descriptors
            os.close(fd)
