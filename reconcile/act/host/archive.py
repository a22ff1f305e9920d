"""Unpack an agent's tar.gz into an empty directory, taking nothing on trust.

Regular files, directories and links that stay inside the tree are made, through directory descriptors, without
following anything; all else is refused. Parsing within bounds is tar_stream.py's. Verifying the bytes comes before,
the marker that calls the tree whole comes after, and throwing a refused tree away is the caller's.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from probes.observed import MARKER, NEXT_PREFIX, PREVIOUS_PREFIX, STAGE_PREFIX, START_LOG
from probes.text import sanitize
from probes.values import frozen
from reconcile.act.host.atomic_fs import as_error, sync_dir, write_all
from reconcile.errors import DiskTooSmall, UnpackRefused

if TYPE_CHECKING:
    import tarfile

    from reconcile.act.host.tar_stream import TarStream

_RESERVED = (MARKER, START_LOG)  # `.version` is free here: it means something in a home alone
_RESERVED_PREFIXES = (STAGE_PREFIX, NEXT_PREFIX, PREVIOUS_PREFIX)
_MAX_COMPONENT = 255  # NAME_MAX
_MAX_COMPONENTS = 128  # of a name or a link's target
_MAX_TARGET = 4095  # PATH_MAX, without its NUL
_MAX_LINK_BYTES = 12 << 20  # of memory, for the names and targets of all links: they are made last
_MEMORY_OF_A_TEXT = 100  # bytes beside its own: an object's head, and its place in a dict
_MAX_HOPS = 40  # links that the kernel follows in one path before it says ELOOP
_USUAL_HEADER = 4096  # a member, on average: an extended header of a usual tool takes 1.5 KiB

KEEP_FREE = 1 << 20  # bytes: `.version`, the memory's log, start logs

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o755  # of what was packed: no setuid, setgid, sticky, and nothing that group and others may write


@frozen(kw_only=True)
class ArchiveLimits:
    """What an archive may cost, in bytes except `max_files`, which counts all members, and the folders that they imply.

    `max_header`: of one member, extended headers included. `keep_free`: of the file system, for everyone else, and for
    what we ourselves must write to bring an agent up again.
    """

    max_unpacked: int = 2 << 30
    max_files: int = 100_000
    max_header: int = 64 << 10
    keep_free: int = KEEP_FREE


@frozen(kw_only=True)
class Unpacked:
    """What was written: regular files, hard links not counted, and the bytes of all, those that came again included."""

    files: int
    bytes: int


class _Kind(Enum):
    DIRECTORY = "a directory"
    FILE = "a file"


def unpack(tarball: BinaryIO, into_fd: int, limits: ArchiveLimits) -> Unpacked:
    """Make the archive's tree in an existing, empty directory; all of it is on the disk when this returns.

    Raises UnpackRefused, DiskTooSmall, WriteFailed; then a part of the tree may be left there, and nothing elsewhere.
    """
    # tarfile is slow to load, and most passes unpack nothing.
    from reconcile.act.host.tar_stream import TarStream

    budget = limits.max_header + limits.max_files * _USUAL_HEADER
    stream = TarStream(tarball, max_header=limits.max_header, max_headers=budget)
    tree = _Tree(into_fd, limits)
    try:
        if os.listdir(into_fd):
            raise UnpackRefused("something lies where the archive is to be unpacked: expected an empty directory")
        for member in stream.members():
            tree.add(member, stream)
        tree.settle_links()
        tree.sync_files()
        tree.make_links()
        tree.check_control()
        tree.sync_directories()
    except FileExistsError as err:
        _refuse(tree.at, f"{err.strerror}: expected a file system that tells A from a")
    except OSError as err:
        raise as_error(err, "unpack", _quoted(tree.at)) from err
    finally:
        tree.close()
    return Unpacked(files=tree.files, bytes=tree.bytes)


def _quoted(name: bytes) -> str:
    return f"'{sanitize(name or b'.', 200)}'"


def _refuse(name: bytes, why: str) -> NoReturn:
    raise UnpackRefused(f"archive member {_quoted(name)}: {why}; have it packed again without that")


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
    if _is_too_long(parts):
        _refuse(member, f"{what} is too long, expected at most {_MAX_COMPONENTS} parts of {_MAX_COMPONENT} bytes")
    top = os.fsdecode(next(iter(parts), b""))
    if top in _RESERVED or top.startswith(_RESERVED_PREFIXES):
        _refuse(member, f"{what} begins with {top!r}, which is reserved for the updater")
    return b"/".join(parts)


def _is_too_long(parts: list[bytes]) -> bool:
    return len(parts) > _MAX_COMPONENTS or any(len(part) > _MAX_COMPONENT for part in parts)


def _inner_target(member: bytes, target: bytes) -> bytes:
    """Return a symbolic link's target as it is; refuse one whose form alone is wrong."""
    if not target or target.startswith(b"/") or b"\0" in target:
        _refuse(member, f"its target {_quoted(target)} is empty, absolute or has a NUL byte, expected a relative path")
    parts = target.split(b"/")
    if len(target) > _MAX_TARGET or _is_too_long(parts):
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
    """The tree in the making. Paths are bytes, relative to its root, which is the empty path.

    The disk is the record of what was made, so that a hundred thousand files take no memory; only links are remembered,
    since they are made last.
    """

    def __init__(self, root_fd: int, limits: ArchiveLimits) -> None:
        self.at = b""  # what is being worked on, for messages
        self.files = 0
        self.bytes = 0
        self._root_fd = root_fd
        self._limits = limits
        self._soft: dict[bytes, bytes] = {}
        self._hard: dict[bytes, bytes] = {}
        self._hard_targets: set[bytes] = set()
        self._destinations: dict[bytes, bytes] = {}
        self._members = 0
        self._link_bytes = 0
        self._open_path: bytes | None = None  # the directory worked in last: members come in clusters
        self._open_fd = -1

    def add(self, member: tarfile.TarInfo, stream: TarStream) -> None:
        """Make a directory or a file at once; remember a link."""
        name = _raw(member.name)
        self.at = name
        path = self.at = _inner_path(name, name)
        self._count()
        if member.isdir() or (name.endswith(b"/") and member.isreg() and not member.size):  # as GNU tar reads it
            os.fchmod(self._directory(path), member.mode & _MODE | 0o700)
            return
        if not path or name.endswith(b"/"):
            _refuse(name, "it has a directory's name and is none")
        here = self._directory(path.rpartition(b"/")[0])
        if member.islnk():
            self._add_hard_link(path, _raw(member.linkname), here, name)
            return
        self._refuse_linked(path)
        if member.isreg():
            self._make_file(path, member, stream)
        elif member.issym():
            self._remember(self._soft, path, _inner_target(name, _raw(member.linkname)))
        else:
            _refuse(name, f"its type is {member.type!r}, expected a regular file, a directory or a link")

    def _add_hard_link(self, path: bytes, link: bytes, here: int, name: bytes) -> None:
        first = _inner_path(name, link, "its target")
        is_there = path in self._soft or path in self._hard or _kind(path.rpartition(b"/")[2], here) is _Kind.FILE
        if is_there and first in (path, self._hard.get(path)):
            return  # GNU tar packs what it was given twice as a hard link the second time, to where it came first
        self._refuse_linked(path)
        self._remember(self._hard, path, first)
        self._hard_targets.add(first)

    def _refuse_linked(self, path: bytes) -> None:
        if path in self._soft or path in self._hard:
            self._refuse_second("a link")

    def settle_links(self) -> None:
        """Refuse links that lead out, once all members are known: real archives list a link before its target."""
        for path in self._soft:
            self.at = path
            self._destination(path)

    def sync_files(self) -> None:
        self._sync_files(self._root_fd)

    def make_links(self) -> None:
        """Make the links, hard ones first: the target of one is then a file, and never a link."""
        for path, target in self._hard.items():
            self.at = path
            folder, _, leaf = path.rpartition(b"/")
            target_folder, _, target_leaf = target.rpartition(b"/")
            try:
                target_fd = self._walk(target_folder, make=False)
            except (FileNotFoundError, NotADirectoryError):
                self._refuse_target(target)
            try:
                if _kind(target_leaf, target_fd) is not _Kind.FILE:
                    self._refuse_target(target)
                here = self._directory(folder)
                os.link(target_leaf, leaf, src_dir_fd=target_fd, dst_dir_fd=here, follow_symlinks=False)
            finally:
                os.close(target_fd)
        for path, target in self._soft.items():
            self.at = path
            folder, _, leaf = path.rpartition(b"/")
            os.symlink(target, leaf, dir_fd=self._directory(folder))

    def check_control(self) -> None:
        """Refuse a tree without an executable `control` in its root, which can't be started. It may be a link, which
        the kernel follows; none of the tree leads out of it."""
        self.at = b"control"
        link = f"links to {_quoted(self._soft[self.at])}, which is" if self.at in self._soft else "is"
        try:
            found = os.stat(self.at, dir_fd=self._root_fd)
        except OSError:
            _refuse(self.at, f"it {link} missing; expected an executable file in the archive's root")
        if not stat.S_ISREG(found.st_mode):
            _refuse(self.at, f"it {link} a directory; expected an executable file in the archive's root")
        if not found.st_mode & stat.S_IXUSR:
            mode = stat.S_IMODE(found.st_mode)
            _refuse(self.at, f"it {link} of mode {mode:04o}; expected a file that is executable for its owner")

    def sync_directories(self) -> None:
        """Bring all entries to the disk, inner directories before those that hold them."""
        self._sync_directories(self._root_fd)

    def close(self) -> None:
        if self._open_path is not None:
            os.close(self._open_fd)
            self._open_path = None

    def _count(self) -> None:
        self._members += 1
        if self._members > self._limits.max_files:
            limit = self._limits.max_files
            raise UnpackRefused(
                f"archive member {_quoted(self.at)}: with it the archive has more than {limit} members "
                f"(max_files, which counts files, folders and links); set max_files higher, or pack less"
            )

    def _remember(self, links: dict[bytes, bytes], path: bytes, target: bytes) -> None:
        kind = _kind(path.rpartition(b"/")[2], self._open_fd)
        if kind is not None:
            self._refuse_second(kind.value)
        links[path] = target
        self._count_link(path, target)

    def _count_link(self, *texts: bytes) -> None:
        self._link_bytes += sum(len(text) + _MEMORY_OF_A_TEXT for text in texts)
        if self._link_bytes > _MAX_LINK_BYTES:
            _refuse(self.at, f"with it the archive's links take more than {_MAX_LINK_BYTES >> 20} MiB")

    def _make_file(self, path: bytes, member: tarfile.TarInfo, stream: TarStream) -> None:
        left = member.size
        if left > self._limits.max_unpacked - self.bytes:
            _refuse(path, f"with it the archive unpacks to more than {self._limits.max_unpacked} bytes (max_unpacked)")
        fd = self._new_file(path)
        try:
            self._keep_free(left)
            while left:
                piece = stream.data(left)
                write_all(fd, piece)
                left -= len(piece)
                self._keep_free(left)
            os.fchmod(fd, member.mode & _MODE | 0o400)
            _begin_writing(fd)
        finally:
            os.close(fd)
        self.files += 1
        self.bytes += member.size

    def _new_file(self, path: bytes) -> int:
        """Create a file in the directory that is open; of a file that comes twice the last counts, as for tar."""
        leaf = path.rpartition(b"/")[2]
        with suppress(FileExistsError):
            return self._create(leaf)
        self._remove_earlier(path, leaf)
        return self._create(leaf)

    def _create(self, leaf: bytes) -> int:
        return os.open(leaf, _NEW_FILE, 0o600, dir_fd=self._open_fd)  # its own mode follows once it is whole

    def _remove_earlier(self, path: bytes, leaf: bytes) -> None:
        kind = _kind(leaf, self._open_fd)
        if kind is not _Kind.FILE:
            self._refuse_second(kind.value if kind else "something else")
        if path in self._hard_targets:
            _refuse(path, "it comes again after a hard link to it, which can be read in two ways")
        if not _is_case_sensitive(leaf, self._open_fd):
            _refuse(path, "a file of that name was made before, or of one that differs in case: this file system can't")
        os.unlink(leaf, dir_fd=self._open_fd)
        self.files -= 1

    def _refuse_second(self, kind: str) -> NoReturn:
        _refuse(self.at, f"it is there already, as {kind}: two members of one name")

    def _refuse_target(self, target: bytes) -> NoReturn:
        _refuse(self.at, f"it is a hard link to {_quoted(target)}, which is not a regular file of this archive")

    def _keep_free(self, wanted: int) -> None:
        """Stop before the disk is full, whatever fills it: asked again at each piece."""
        there = os.fstatvfs(self._root_fd)
        free = there.f_bavail * there.f_frsize
        if free < wanted + self._limits.keep_free:
            raise DiskTooSmall(
                f"can't unpack {_quoted(self.at)}: {free} bytes are free there, expected {wanted} for it "
                f"and {self._limits.keep_free} to keep free; free space"
            )

    def _destination(self, path: bytes, hops: int = 1) -> bytes:
        """Follow a symbolic link in the tree as it will stand, the way the kernel will, other links included; refuse
        a step out of it, or a circle."""
        if path in self._destinations:
            return self._destinations[path]
        target = self._soft[path]
        if hops > _MAX_HOPS:
            _refuse(path, f"it links to {_quoted(target)}, in a circle or a chain of more than {_MAX_HOPS} links")
        here = path.rpartition(b"/")[0]
        for part in target.split(b"/"):
            if part == b"..":
                if not here:
                    _refuse(path, f"it links to {_quoted(target)}, which leads out of the tree")
                here = here.rpartition(b"/")[0]
            elif part not in (b"", b"."):
                here = here + b"/" + part if here else part
                if here in self._soft:
                    here = self._destination(here, hops + 1)
        self._destinations[path] = here
        self._count_link(here)
        return here

    def _directory(self, path: bytes) -> int:
        """Return an open descriptor of a directory of the tree, which is made where it is missing, as are those above
        it; it stays the tree's."""
        if self._open_path != path:
            self.close()
            self._open_fd = self._walk(path, make=True)
            self._open_path = path
        return self._open_fd

    def _walk(self, path: bytes, *, make: bool) -> int:
        """Open a directory of the tree, no component followed if it is a link; the caller closes it."""
        fd = os.open(b".", _DIRECTORY, dir_fd=self._root_fd)
        at = b""
        for part in path.split(b"/") if path else ():
            at = at + b"/" + part if at else part
            try:
                inner = self._enter(part, at, fd) if make else os.open(part, _DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd

    def _enter(self, name: bytes, path: bytes, dir_fd: int) -> int:
        if path in self._soft or path in self._hard:
            _refuse(self.at, f"{_quoted(path)} would have to be a directory and is a link")
        with suppress(FileNotFoundError):
            try:
                return os.open(name, _DIRECTORY, dir_fd=dir_fd)
            except NotADirectoryError:
                _refuse(self.at, f"{_quoted(path)} would have to be a directory and is a file")
        if path != self.at:  # implied by a name below it
            self._count()
        os.mkdir(name, 0o700, dir_fd=dir_fd)
        fd = os.open(name, _DIRECTORY, dir_fd=dir_fd)
        try:
            os.fchmod(fd, 0o755)  # by hand, since the umask is not ours to choose
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _sync_files(self, fd: int) -> None:
        with os.scandir(fd) as entries:
            for entry in entries:
                self.at = os.fsencode(entry.name)
                is_dir = entry.is_dir(follow_symlinks=False)
                inner = os.open(entry.name, _DIRECTORY if is_dir else _OLD_FILE, dir_fd=fd)
                try:
                    self._sync_files(inner) if is_dir else os.fsync(inner)
                finally:
                    os.close(inner)

    def _sync_directories(self, fd: int) -> None:
        with os.scandir(fd) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    continue
                self.at = os.fsencode(entry.name)
                inner = os.open(entry.name, _DIRECTORY, dir_fd=fd)
                try:
                    self._sync_directories(inner)
                finally:
                    os.close(inner)
        sync_dir(fd)


def _kind(name: bytes, dir_fd: int) -> _Kind | None:
    """What lies there; None: nothing."""
    try:
        mode = os.lstat(name, dir_fd=dir_fd).st_mode
    except FileNotFoundError:
        return None
    return _Kind.DIRECTORY if stat.S_ISDIR(mode) else _Kind.FILE


def _is_case_sensitive(name: bytes, dir_fd: int) -> bool:
    """Whether A and a differ on the file system, as far as this name shows it."""
    other = name.swapcase()
    try:
        return other == name or not os.path.samestat(os.lstat(other, dir_fd=dir_fd), os.lstat(name, dir_fd=dir_fd))
    except FileNotFoundError:
        return True
