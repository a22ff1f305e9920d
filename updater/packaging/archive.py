"""The members of an archive, and how they become a tarball that is the same bytes each time."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from probes.values import frozen

MTIME = 315_532_800  # 1980-01-01, the earliest that zip knows, too


@frozen(kw_only=True)
class Item:
    """One member: a file's bytes, or where it lies, or what a symbolic link says."""

    name: str
    content: bytes = b""
    path: Path | None = None
    link: str | None = None
    program: bool = False

    def read(self) -> bytes:
        """A file's bytes."""
        return self.content if self.path is None else self.path.read_bytes()


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file that has its name once it is written, and leaves nothing where that fails. Raise OSError."""
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with beside.open("wb") as file:
            yield file
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write(file: BinaryIO, items: Iterable[Item], *, folders: bool = False) -> None:
    """Write the archive: sorted, without owners, times and other traces of where it was made. `folders`: with a member
    for each folder, as dpkg needs them."""
    found = sorted(items, key=lambda item: item.name)
    with (
        gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=9, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        for name in (
            sorted({str(above) for item in found for above in PurePosixPath(item.name).parents} - {"."}) * folders
        ):
            member = _member(name, 0o755)
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
        for item in found:
            member = _member(item.name, 0o755 if item.program else 0o644)
            if item.link is not None:
                member.type, member.linkname = tarfile.SYMTYPE, item.link
                tar.addfile(member)
                continue
            content = item.read()
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _member(name: str, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mtime, member.mode = MTIME, mode
    return member
