"""Unpack an agent's tar.gz into an empty directory, taking nothing on trust.

Regular files, directories and links that stay inside the tree are made, through directory descriptors, without
following anything; all else is refused. Parsing within bounds is tar_stream.py's. Verifying the bytes comes before,
the marker that calls the tree whole comes after, and throwing a refused tree away is the caller's.
"""

from __future__ import annotations

import os
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from probes.observed import MARKER, NEXT_PREFIX, PREVIOUS_PREFIX, STAGE_PREFIX, START_LOG
from probes.values import frozen
from reconcile.act.host.write import as_error, sync_dir, write_all
from reconcile.errors import DiskTooSmall, UnpackRefused

if TYPE_CHECKING:
    import tarfile

    from reconcile.act.host.tar_stream import TarStream

_RESERVED = (MARKER, START_LOG)  # `.version` is free here: it means something in a home alone
_RESERVED_PREFIXES = (STAGE_PREFIX, NEXT_PREFIX, PREVIOUS_PREFIX)
_MAX_COMPONENT = 255  # NAME_MAX
_MAX_COMPONENTS = 128  # of a name or a link's target
_MAX_TARGET = 4095  # PATH_MAX, without its NUL
_MAX_NAMES = 8 << 20  # all names and targets together: they are kept in memory
_MAX_HOPS = 40  # links that the kernel follows in one path before it says ELOOP
_USUAL_HEADER = 4096  # a member, on average: an extended header of a usual tool takes 1.5 KiB

KEEP_FREE = 1 << 20  # bytes: `.version`, the memory's log, start logs

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@frozen(kw_only=True)
class Limits:
    """What an archive may cost, in bytes but for `max_members`, which counts implied directories too.

    `max_header`: of one member, extended headers included. `keep_free`: of the file system, for everyone else, and for
    what we ourselves must write to bring an agent up again.
    """

    max_unpacked: int = 2 << 30
    max_members: int = 20_000
    max_header: int = 64 << 10
    keep_free: int = KEEP_FREE


@frozen(kw_only=True)
class Unpacked:
    """What was written: regular files, hard links not counted, and their bytes."""

    files: int
    bytes: int


class _Kind(Enum):
    DIRECTORY = "directory"
    FILE = "file"
    PROGRAM = "executable file"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"


def unpack(tarball: BinaryIO, into_fd: int, limits: Limits) -> Unpacked:
    """Make the archive's tree in an existing, empty directory; all of it is on the disk when this returns.

    Raises UnpackRefused, DiskTooSmall, WriteFailed; then a part of the tree may be left there, and nothing elsewhere.
    """
    # tarfile is slow to load, and most passes unpack nothing.
    from reconcile.act.host.tar_stream import TarStream

    budget = limits.max_header + limits.max_members * _USUAL_HEADER
    stream = TarStream(tarball, max_header=limits.max_header, max_headers=budget)
    tree = _Tree(into_fd, limits)
    try:
        for member in stream.members():
            tree.add(member, stream)
        tree.settle_links()
        tree.check_control()
        tree.sync_files()
        tree.make_links()
        tree.sync_directories()
    except FileExistsError as err:
        _refuse(tree.at, f"{err.strerror}: expected an empty directory, and a file system that tells A from a")
    except OSError as err:
        raise as_error(err, "unpack", _shown(tree.at)) from err
    finally:
        tree.close()
    return Unpacked(files=tree.files, bytes=tree.bytes)


def _shown(name: bytes) -> str:
    return repr(name.decode("utf-8", "backslashreplace")[:200] or ".")


def _refuse(name: bytes, why: str) -> NoReturn:
    raise UnpackRefused(f"archive member {_shown(name)}: {why}; have it packed again without that")


def _raw(name: str) -> bytes:
    """Return a name's bytes as the archive has them: what is no UTF-8 came in escaped."""
    return name.encode("utf-8", "surrogateescape")


def _inner_path(member: bytes, name: bytes, what: str = "its name") -> bytes:
    """Return a name without `.` and doubled slashes, empty for the root; refuse one that is not a plain inner path."""
    if not name or name.startswith(b"/") or b"\0" in name:
        _refuse(member, f"{what} is empty, absolute or has a NUL byte, expected a path inside the tree")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        _refuse(member, f"{what} has '..', expected a path inside the tree")
    if len(parts) > _MAX_COMPONENTS or any(len(part) > _MAX_COMPONENT for part in parts):
        _refuse(member, f"{what} is too long, expected at most {_MAX_COMPONENTS} parts of {_MAX_COMPONENT} bytes")
    top = os.fsdecode(parts[0]) if parts else ""
    if top in _RESERVED or top.startswith(_RESERVED_PREFIXES):
        _refuse(member, f"{what} begins with {top!r}, which is reserved for the updater")
    return b"/".join(parts)


def _inner_target(member: bytes, target: bytes) -> bytes:
    """Return a symbolic link's target as it is; refuse one whose form alone is wrong."""
    if not target or target.startswith(b"/") or b"\0" in target:
        _refuse(member, f"its target {_shown(target)} is empty, absolute or has a NUL byte, expected a relative path")
    parts = target.split(b"/")
    if len(target) > _MAX_TARGET or len(parts) > _MAX_COMPONENTS or any(len(part) > _MAX_COMPONENT for part in parts):
        _refuse(member, f"its target is too long, expected at most {_MAX_COMPONENTS} parts of {_MAX_COMPONENT} bytes")
    return target


def _begin_writing(fd: int) -> None:
    """Let the kernel begin to write a file now, and not only when it is fsynced: then all files are on their way to the
    disk together, and one commit of the journal is enough for them (docs/adr/0003). A hint; it promises nothing.

    What Linux drops from memory at this advice is clean, and what has just been written is not.
    """
    if hasattr(os, "posix_fadvise"):  # not on macOS
        with suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


class _Tree:
    """The tree in the making. Paths are bytes, relative to its root, which is the empty path."""

    def __init__(self, root_fd: int, limits: Limits) -> None:
        self.at = b""  # what is being worked on, for messages
        self.files = 0
        self.bytes = 0
        self._root_fd = root_fd
        self._limits = limits
        self._kinds: dict[bytes, _Kind] = {b"": _Kind.DIRECTORY}
        self._soft: dict[bytes, bytes] = {}
        self._hard: dict[bytes, bytes] = {}
        self._destinations: dict[bytes, bytes] = {}
        self._members = 0
        self._name_bytes = 0
        self._open_path: bytes | None = None  # the directory worked in last: members come in clusters
        self._open_fd = -1

    def add(self, member: tarfile.TarInfo, stream: TarStream) -> None:
        """Make a directory or a file at once; remember a link."""
        name = _raw(member.name)
        self.at = name
        path = self.at = _inner_path(name, name)
        self._count(path)
        if member.isdir():
            self._make_directory(path)
            return
        if not path or name.endswith(b"/"):
            _refuse(name, "it has a directory's name and is none")
        if path in self._kinds:
            _refuse(name, f"it is there already, as {self._kinds[path].value}: two members of one name")
        self._make_directory(path.rpartition(b"/")[0])
        if member.isreg():
            self._make_file(path, member, stream)
        elif member.issym():
            self._kinds[path] = _Kind.SYMLINK
            self._soft[path] = _inner_target(name, _raw(member.linkname))
            self._count(self._soft[path], members=0)
        elif member.islnk():
            self._kinds[path] = _Kind.HARDLINK
            self._hard[path] = _inner_path(name, _raw(member.linkname), "its target")
            self._count(self._hard[path], members=0)
        else:
            _refuse(name, f"its type is {member.type!r}, expected a regular file, a directory or a link")

    def settle_links(self) -> None:
        """Refuse links that lead out, once all members are known: real archives list a link before its target."""
        for path, target in self._hard.items():
            kind = self._kinds.get(target)
            if kind not in (_Kind.FILE, _Kind.PROGRAM):
                _refuse(path, f"it is a hard link to {_shown(target)}, which is no regular file of this archive")
            self._kinds[path] = kind  # so a later one may name it
        for path in self._soft:
            self.at = path
            self._destination(path)

    def check_control(self) -> None:
        """Refuse a tree without an executable `control` in its root: nobody could start it."""
        kind = self._kinds.get(b"control")
        if kind is not _Kind.PROGRAM:
            is_there = f"is there as {kind.value}" if kind else "is missing"
            _refuse(b"control", f"it {is_there}, expected an executable file in the archive's root")

    def sync_files(self) -> None:
        for path, kind in self._kinds.items():
            if kind in (_Kind.FILE, _Kind.PROGRAM) and path not in self._hard:
                self.at = path
                folder, _, leaf = path.rpartition(b"/")
                fd = os.open(leaf, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory(folder))
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)

    def make_links(self) -> None:
        for path, target in self._hard.items():
            self.at = path
            folder, _, leaf = path.rpartition(b"/")
            target_folder, _, target_leaf = target.rpartition(b"/")
            target_fd = self._walk(target_folder)
            try:
                here = self._directory(folder)
                os.link(target_leaf, leaf, src_dir_fd=target_fd, dst_dir_fd=here, follow_symlinks=False)
            finally:
                os.close(target_fd)
        for path, target in self._soft.items():
            self.at = path
            folder, _, leaf = path.rpartition(b"/")
            os.symlink(target, leaf, dir_fd=self._directory(folder))

    def sync_directories(self) -> None:
        """Bring all entries to the disk, inner directories before those that hold them."""
        for path, kind in reversed(self._kinds.items()):
            if kind is _Kind.DIRECTORY:
                self.at = path
                sync_dir(self._directory(path))

    def close(self) -> None:
        if self._open_path is not None:
            os.close(self._open_fd)
            self._open_path = None

    def _count(self, name: bytes, members: int = 1) -> None:
        self._members += members
        if self._members > self._limits.max_members:
            _refuse(self.at, f"with it the archive has more than {self._limits.max_members} members")
        self._name_bytes += len(name)
        if self._name_bytes > _MAX_NAMES:
            _refuse(self.at, f"with it the archive's names exceed {_MAX_NAMES >> 20} MiB")

    def _make_directory(self, path: bytes) -> None:
        """Make a directory and those above it where they are missing; one that is listed again is harmless."""
        kind = self._kinds.get(path)
        if kind is _Kind.DIRECTORY:
            return
        if kind is not None:
            _refuse(self.at, f"{_shown(path)} would have to be a directory and is a {kind.value}")
        folder, _, leaf = path.rpartition(b"/")
        self._make_directory(folder)
        if path != self.at:  # implied by a name below it
            self._count(path)
        os.mkdir(leaf, 0o700, dir_fd=self._directory(folder))
        self._kinds[path] = _Kind.DIRECTORY
        os.fchmod(self._directory(path), 0o755)  # by hand, since the umask is not ours to choose

    def _make_file(self, path: bytes, member: tarfile.TarInfo, stream: TarStream) -> None:
        left = member.size
        if left > self._limits.max_unpacked - self.bytes:
            _refuse(path, f"with it the archive unpacks to more than {self._limits.max_unpacked} bytes")
        program = bool(member.mode & 0o111)
        folder, _, leaf = path.rpartition(b"/")
        fd = os.open(leaf, _NEW_FILE, 0o600, dir_fd=self._directory(folder))
        try:
            self._keep_free(left)
            while left:
                piece = stream.data(left)
                write_all(fd, piece)
                left -= len(piece)
                self._keep_free(left)
            os.fchmod(fd, 0o755 if program else 0o644)
            _begin_writing(fd)
        finally:
            os.close(fd)
        self._kinds[path] = _Kind.PROGRAM if program else _Kind.FILE
        self.files += 1
        self.bytes += member.size

    def _keep_free(self, wanted: int) -> None:
        """Stop before the disk is full, whoever fills it: asked anew at each piece."""
        there = os.fstatvfs(self._root_fd)
        free = there.f_bavail * there.f_frsize
        if free < wanted + self._limits.keep_free:
            raise DiskTooSmall(
                f"can't unpack {_shown(self.at)}: {free} bytes are free there, expected {wanted} for it "
                f"and {self._limits.keep_free} to keep free; free space"
            )

    def _destination(self, path: bytes, hops: int = 1) -> bytes:
        """Follow a symbolic link in the tree as it will stand, the way the kernel will, other links included; refuse
        a step out of it, or a circle."""
        if path in self._destinations:
            return self._destinations[path]
        target = self._soft[path]
        if hops > _MAX_HOPS:
            _refuse(path, f"it links to {_shown(target)}, in a circle or a chain of more than {_MAX_HOPS} links")
        here = path.rpartition(b"/")[0]
        for part in target.split(b"/"):
            if part == b"..":
                if not here:
                    _refuse(path, f"it links to {_shown(target)}, which leads out of the tree")
                here = here.rpartition(b"/")[0]
            elif part not in (b"", b"."):
                here = here + b"/" + part if here else part
                if here in self._soft:
                    here = self._destination(here, hops + 1)
        self._destinations[path] = here
        self._count(here, members=0)
        return here

    def _directory(self, path: bytes) -> int:
        """Return an open descriptor of a directory of the tree, which stays the tree's."""
        if self._open_path != path:
            self.close()
            self._open_fd = self._walk(path)
            self._open_path = path
        return self._open_fd

    def _walk(self, path: bytes) -> int:
        """Open a directory of the tree, no component followed if it is a link; the caller closes it."""
        fd = os.open(b".", _DIRECTORY, dir_fd=self._root_fd)
        for part in path.split(b"/") if path else ():
            try:
                inner = os.open(part, _DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd
