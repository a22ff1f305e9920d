"""Change a disk atomically: whole files, renames, exchanges, removals.

Everything works beneath an open directory and never follows a link. What a function made is on the disk, fsync
included, when it returns. It doesn't know what the files mean: versions, configs and pruning are the steps' business.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from probes.observed import MARKER, STAGE_PREFIX, old_name
from reconcile.errors import DiskTooSmall, ReconcileError, WorkDirMissing, WriteFailed

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ANYTHING = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RENAME_EXCHANGE = 2  # linux/fs.h
_MAX_OPEN_LEVELS = 32  # one descriptor each while a tree is removed; many hosts allow 1024 in all

_REMEDIES = {
    errno.EROFS: "the file system is read-only: look at the kernel's log, then remount it",
    errno.EACCES: "give the directory to the user that works there",
    errno.EPERM: "look for another owner or an immutable flag (lsattr)",
    errno.EIO: "the disk is failing: look at the kernel's log",
    errno.EBUSY: "something is mounted there: unmount it",
    errno.EXDEV: "it lies in a lower layer of an overlay (an image's) or another mount: publish another version, or, "
    "its agent being stopped, put a copy in its place (`cp -a X Y && rm -r X && mv Y X`)",
}


def as_error(err: OSError, doing: str, place: str) -> ReconcileError:
    """Return what to raise for an OSError: DiskTooSmall where room is missing, else WriteFailed, with the remedy."""
    said = os.strerror(err.errno) if err.errno else str(err)
    if err.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskTooSmall(f"can't {doing} {place}: {said}; free space or inodes there, or raise the quota")
    remedy = _REMEDIES.get(err.errno or 0, "look at that path and at the kernel's log")
    return WriteFailed(f"can't {doing} {place}: {said}; {remedy}")


@contextmanager
def _as_ours(doing: str, dir_fd: int, name: str = "") -> Iterator[None]:
    """Turn an OSError into ours, naming the path."""
    try:
        yield
    except OSError as err:
        raise as_error(err, doing, _place(dir_fd, name)) from err


def _place(dir_fd: int, name: str) -> str:
    """Return the path for people: a descriptor alone says nothing to them."""
    try:
        folder = os.readlink(f"/proc/self/fd/{dir_fd}")
    except OSError:
        folder = "."
    return repr(os.path.join(folder, name) if name else folder)


def check_component(name: str) -> None:
    """Refuse a name that would lead elsewhere: callers pass names of this one directory."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise WriteFailed(f"{name!r} is not the plain name of a file or directory: expected one path component")


def open_dir(path: Path) -> int:
    """Open a directory to work beneath; the caller closes it.

    Raises WorkDirMissing where nothing is there, WriteFailed where it is a link or no directory.
    """
    try:
        return os.open(path, _DIRECTORY)
    except FileNotFoundError as err:
        raise WorkDirMissing(f"{str(path)!r} does not exist: expected a directory there; make it") from err
    except OSError as err:
        if err.errno in (errno.ENOTDIR, errno.ELOOP):
            message = f"{str(path)!r} is a link or not a directory: expected a directory itself; put one there"
            raise WriteFailed(message) from err
        raise as_error(err, "open directory", repr(str(path))) from err


def check_writable(dir_fd: int) -> None:
    """See that entries of a directory can be made and removed, without doing so. Raise WriteFailed."""
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=dir_fd, effective_ids=True):
        message = f"{_place(dir_fd, '')} can't be changed: expected a writable directory; is its disk read-only?"
        raise WriteFailed(message)


def sync_dir(fd: int) -> None:
    """Bring a directory's entries to the disk."""
    with _as_ours("fsync directory", fd):
        try:
            os.fsync(fd)
        except OSError as err:
            if err.errno != errno.EINVAL:  # how a file system says that it has no such thing: nothing more can be done
                raise


def write_all(fd: int, content: bytes | memoryview) -> None:
    """Write every byte: one write(2) may take fewer. Raises OSError."""
    left = memoryview(content)
    while left:
        left = left[os.write(fd, left) :]


def _write_new(dir_fd: int, name: str, content: bytes, mode: int) -> None:
    """Make a file that was not there, fsynced; on any failure it is gone again. Raises OSError."""
    fd = os.open(name, _NEW_FILE, 0o600, dir_fd=dir_fd)
    try:
        try:
            write_all(fd, content)
            os.fchmod(fd, mode)  # by hand, since the umask is not ours to choose
            os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(name, dir_fd=dir_fd)
        raise


def replace_file(dir_fd: int, name: str, content: bytes, mode: int = 0o644) -> None:
    """Put a file in place in one step: at any moment, and after a power cut, it is the old one or the new one, whole.

    A link of that name is replaced, not followed. Raises DiskTooSmall, WriteFailed; then the old one still stands,
    unless the directory's own fsync failed.
    """
    check_component(name)
    beside = f"{STAGE_PREFIX}{name[:32]}-{secrets.token_hex(8)}"
    with _as_ours("replace file", dir_fd, name):
        _write_new(dir_fd, beside, content, mode)
        try:
            os.rename(beside, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside, dir_fd=dir_fd)
            raise
    sync_dir(dir_fd)


def write_beside(dir_fd: int, name: str, content: bytes, mode: int = 0o644) -> str:
    """Write a file under its full name, to be renamed by a later step; what has that name goes first, a folder too.

    Not atomic: a reader may see it missing. Raises DiskTooSmall, WriteFailed; then nothing of that name is left.
    """
    check_component(name)
    with _as_ours("write file", dir_fd, name):
        try:
            os.unlink(name, dir_fd=dir_fd)
        except FileNotFoundError:
            pass
        except OSError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=dir_fd).st_mode):
                raise
            discard(dir_fd, name)
        _write_new(dir_fd, name, content, mode)
    sync_dir(dir_fd)
    return name


def seal(tree_fd: int, marker: bytes) -> None:
    """Put the marker into a complete, fsynced tree: the last file, since it says that the others are whole."""
    write_beside(tree_fd, MARKER, marker)


def rename(dir_fd: int, old: str, new: str) -> None:
    """Rename within one directory, on the disk when it returns. Raises DiskTooSmall, WriteFailed."""
    check_component(old)
    check_component(new)
    with _as_ours(f"rename {old!r} to", dir_fd, new):
        os.rename(old, new, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    sync_dir(dir_fd)


def exchange(dir_fd: int, a: str, b: str) -> bool:
    """Let two entries swap names in one step; False, and nothing done, where kernel, libc or file system can't."""
    check_component(a)
    check_component(b)
    import ctypes  # here: it costs every start 4 ms, and only a replaced version needs it

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):  # glibc before 2.28
        return False
    failed = libc.renameat2(dir_fd, os.fsencode(a), dir_fd, os.fsencode(b), ctypes.c_uint(_RENAME_EXCHANGE))
    if failed:
        err = OSError(ctypes.get_errno(), "renameat2")
        if err.errno in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            return False
        raise as_error(err, f"exchange {a!r} with", _place(dir_fd, b))
    sync_dir(dir_fd)
    return True


def make_stage(home_fd: int) -> tuple[str, int]:
    """Make an empty `.stage-*` directory, 0755, in a home: its name, and a descriptor that the caller closes."""
    name = f"{STAGE_PREFIX}{secrets.token_hex(8)}"
    with _as_ours("make directory", home_fd, name):
        os.mkdir(name, 0o700, dir_fd=home_fd)
        fd = os.open(name, _DIRECTORY, dir_fd=home_fd)
        try:
            os.fchmod(fd, 0o755)
        except BaseException:
            os.close(fd)
            raise
    return name, fd


def sweep(home_fd: int) -> None:
    """Remove what interrupted work left, `.stage-*` alone, as far as that can be: what can't is in the way of nothing.
    The caller holds the home's lock."""
    with _as_ours("list", home_fd):
        names = sorted(name for name in os.listdir(home_fd) if name.startswith(STAGE_PREFIX))
    for name in names:
        with suppress(ReconcileError):
            remove_tree(home_fd, name)


def rename_to_leftover(dir_fd: int, name: str) -> str:
    """Give an entry the name of a leftover, which is not looked for, and return it. Raise WriteFailed where it can't be
    renamed: it is a mount point, immutable, or in a lower layer of an overlay."""
    leftover = old_name(name)
    with suppress(FileNotFoundError):
        os.lstat(leftover, dir_fd=dir_fd)
        leftover = f"{leftover[:80]}-{secrets.token_hex(8)}"
    rename(dir_fd, name, leftover)
    return leftover


def clear(dir_fd: int, name: str) -> str | None:
    """Free a name, whatever has it: moved aside, else removed where it lies, its marker first. Return what it is called
    now, None where it is gone. Raise WriteFailed."""
    try:
        return rename_to_leftover(dir_fd, name)
    except ReconcileError:
        remove_tree(dir_fd, name)
        return None


def discard(dir_fd: int, name: str) -> None:
    """Free a name, and remove what had it as far as that can be. Raise WriteFailed where it still has that name."""
    old = clear(dir_fd, name) if _is_there(name, dir_fd) else None
    if old is not None:
        with suppress(ReconcileError):
            remove_tree(dir_fd, old)


def check_replaceable(dir_fd: int, name: str) -> None:
    """See that a file can take the place of this entry, or that nothing is there. Raise WriteFailed."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(name, dir_fd=dir_fd).st_mode):
            raise WriteFailed(f"{_place(dir_fd, name)} is a directory, expected a file or nothing; move it away")
    check_renamable(dir_fd, (name,))


def check_renamable(dir_fd: int, names: Iterable[str]) -> None:
    """See that these entries, where they are there, can be renamed, without renaming any. Raise WriteFailed.

    A rename onto a folder that isn't empty never succeeds; what else stands in its way is said first.
    """
    there = [name for name in names if _is_there(name, dir_fd)]
    if not there:
        return
    stage, stage_fd = make_stage(dir_fd)
    try:
        with _as_ours("make directory in", dir_fd, stage):
            os.mkdir("full", 0o700, dir_fd=stage_fd)
        for name in there:
            _try_to_rename(dir_fd, name, stage)
    finally:
        with suppress(OSError):
            os.rmdir("full", dir_fd=stage_fd)
            os.rmdir(stage, dir_fd=dir_fd)
        os.close(stage_fd)


def check_same_mount(a: int, b: int) -> None:
    """See that entries can be moved from one directory into another. Raise WriteFailed."""
    if _mount(a) != _mount(b):
        raise as_error(OSError(errno.EXDEV, ""), "move a file into", _place(b, ""))


def _is_there(name: str, dir_fd: int) -> bool:
    try:
        os.lstat(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    return True


def _try_to_rename(dir_fd: int, name: str, full: str) -> None:
    check_component(name)
    try:
        if is_mount_point(name, dir_fd):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        os.rename(name, full, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except OSError as err:
        if err.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR):
            raise as_error(err, "rename", _place(dir_fd, name)) from err


def is_mount_point(name: str, dir_fd: int) -> bool:
    """Whether something is mounted on an entry of a directory. Raise OSError."""
    fd = os.open(name, _ANYTHING, dir_fd=dir_fd)
    try:
        return _mount(fd) != _mount(dir_fd)
    finally:
        os.close(fd)


def _mount(fd: int) -> tuple[int, str]:
    """Which mount a file lies on: of two bind mounts of one file system the kernel alone can tell."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:
            mount = next((line for line in lines if line.startswith("mnt_id:")), "")
    except OSError:
        mount = ""
    return os.fstat(fd).st_dev, mount


def remove_tree(dir_fd: int, name: str) -> None:
    """Remove an entry with all beneath it; a missing one is fine.

    The marker goes first, on the disk, so that an interrupted removal never leaves what looks complete. Directories
    of ours that lack permissions get them. What can't be removed (another user's, an immutable file, what is mounted
    inside) keeps nothing else: the rest goes. Raises WriteFailed, naming the first of it.
    """
    check_component(name)
    with _as_ours("remove", dir_fd, name):
        try:
            if stat.S_ISDIR(os.lstat(name, dir_fd=dir_fd).st_mode):
                _remove_directory(dir_fd, name)
            else:
                os.unlink(name, dir_fd=dir_fd)
        except FileNotFoundError:
            return
    sync_dir(dir_fd)


def _remove_directory(dir_fd: int, name: str) -> None:
    top = _open_to_empty(dir_fd, name)
    try:
        if _mount(top) != _mount(dir_fd):
            raise OSError(errno.EBUSY, "something is mounted on it")
        with suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(MARKER, dir_fd=top)
            os.fsync(top)
        removal = _Removal(top)
        removal.empty(top, "", 1)
        if removal.first is not None:
            os.fsync(top)
            raise as_error(removal.first, "remove", _place(dir_fd, f"{name}/{removal.at}")) from removal.first
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=dir_fd)


class _Removal:
    """What lies in a tree goes, as far as it can. `first`: what stood in the way first, of what lies `at` there."""

    def __init__(self, top: int) -> None:
        self.first: OSError | None = None
        self.at = ""
        self._top = top
        self._mount = _mount(top)

    def empty(self, fd: int, path: str, level: int) -> bool:
        """Remove what is in a directory, and say whether all of it went. What lies too deep is moved up to the top,
        which is read until nothing new is found, so that neither descriptors nor the stack bound the depth."""
        stuck: set[str] = set()
        found = True
        while found:
            found = False
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.name in stuck:
                        continue
                    found = True
                    if not self._remove(fd, entry, f"{path}{entry.name}", level):
                        stuck.add(entry.name)
        return not stuck

    def _remove(self, fd: int, entry: os.DirEntry[str], path: str, level: int) -> bool:
        try:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=fd)
                return True
            try:
                inner = _open_to_empty(fd, entry.name)
            except PermissionError:
                with suppress(OSError):  # another user's: it may be empty
                    os.rmdir(entry.name, dir_fd=fd)
                    return True
                raise
            try:
                if _mount(inner) != self._mount:
                    raise OSError(errno.EBUSY, "something is mounted on it")
                if level == _MAX_OPEN_LEVELS:
                    os.rename(entry.name, secrets.token_hex(8), src_dir_fd=fd, dst_dir_fd=self._top)
                    return True
                if not self.empty(inner, f"{path}/", level + 1):
                    return False
            finally:
                os.close(inner)
            os.rmdir(entry.name, dir_fd=fd)
        except FileNotFoundError:
            pass
        except OSError as err:
            if self.first is None:
                self.first, self.at = err, path
            return False
        return True


def _open_to_empty(dir_fd: int, name: str) -> int:
    """Open a directory and see to it that its owner may read, write and enter it."""
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=dir_fd)
    except PermissionError:
        # chmod by name follows links, fchmod needs a readable file: O_PATH and /proc reach exactly this directory.
        pinned = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            os.chmod(f"/proc/self/fd/{pinned}", 0o700)
        finally:
            os.close(pinned)
        fd = os.open(name, _DIRECTORY, dir_fd=dir_fd)
    try:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if mode & 0o700 != 0o700:
            with suppress(PermissionError):  # another user's: what can be removed is found out by trying
                os.fchmod(fd, mode | 0o700)
    except BaseException:
        os.close(fd)
        raise
    return fd
