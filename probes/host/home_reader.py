"""Bounded reads that never follow a link: `.version`, markers, config digests, the versions on disk.

Whatever a home holds (links, FIFOs, huge files, garbage), reading ends, costs little and reports only what is certain.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from probes.errors import Unreadable
from probes.observed import MARKER, Origin, Tree
from probes.values import frozen

VERSION_FILE_LIMIT = 256
MARKER_LIMIT = 64 * 1024
CONFIG_LIMIT = 1024 * 1024  # bytes: a config file is small, and an answer of any size must not fill our memory
_VERSION = r"[A-Za-z0-9_][A-Za-z0-9._+~-]{0,63}"
_DIGEST = r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}"


def is_version(text: str) -> bool:
    """Whether a name on disk can be a version's directory."""
    return re.fullmatch(_VERSION, text) is not None and ".." not in text


def is_digest(text: str) -> bool:
    """Whether a text is a tarball's digest as a marker names it."""
    return re.fullmatch(_DIGEST, text) is not None


def is_key(text: object) -> bool:
    """Whether it can be the public key that a marker names."""
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9+/=]{1,100}", text) is not None


def _check_absent(err: OSError, name: str | Path) -> None:
    """Let pass what says that nothing of the kind is there. Anything else (no descriptors left, a failing disk) must
    not read as absent: an agent would be installed a second time."""
    if err.errno not in (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.EACCES,
        errno.EPERM,
        errno.ENXIO,
        errno.ENAMETOOLONG,
    ):
        raise Unreadable(
            f"{name} can't be read: {err.strerror}; look at the disk and the limits of this process"
        ) from err


@contextmanager
def open_directory(path: str | Path, *, dir_fd: int | None = None) -> Iterator[int | None]:
    """Open a real directory; None where there is none, or something else. Raise Unreadable where that is not known."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError as err:
        _check_absent(err, path)
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def open_folder_of(tree_fd: int, name: str) -> Iterator[tuple[int | None, str]]:
    """Open the folder in which a relative path ends, through no link, and say its last part; None where there is no
    such folder. Raise Unreadable where that is not known."""
    *folders, leaf = name.split("/")
    with ExitStack() as stack:
        fd: int | None = tree_fd
        for folder in folders:
            fd = None if fd is None else stack.enter_context(open_directory(folder, dir_fd=fd))
        yield fd, leaf


def read_bounded(name: str | Path, limit: int, *, dir_fd: int | None = None) -> bytes | None:
    """Read a regular file of at most `limit` bytes, not through a link; None where there is none such. Raise Unreadable
    where that is not known."""
    try:
        # O_NONBLOCK: opening a FIFO would wait for its writer for ever.
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError as err:
        _check_absent(err, name)
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        with open(fd, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    except OSError as err:
        raise Unreadable(f"{name} can't be read: {err.strerror}; look at the disk") from err
    finally:
        os.close(fd)
    return content if len(content) <= limit else None


def read_regular(path: Path, limit: int = -1) -> bytes:
    """Read the beginning of a regular file that a person named, through links, too. Nothing else is waited for, or
    read without an end. Raise OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    with open(fd, "rb") as file:
        return file.read(limit)


def read_version_file(home_fd: int) -> str | None:
    """What `.version` says, without surrounding white space, escaped, cut to 64 characters; None: there is none.

    A file that can't be read as such (a link, a directory, too long) is there all the same: its text is empty.
    """
    try:
        os.stat(".version", dir_fd=home_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError:
        return ""
    content = read_bounded(".version", VERSION_FILE_LIMIT, dir_fd=home_fd)
    if content is None:
        return ""
    text = content.decode("utf-8", "backslashreplace").strip()
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)[:64]


def has_control(dir_fd: int) -> bool:
    """Whether `control` in the directory is a regular file, or a link to one that lies below that directory (whether it
    can run is found out by running it)."""
    try:
        mode = os.stat("control", dir_fd=dir_fd, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode) and _leads_below(dir_fd, "control"):
            mode = os.stat("control", dir_fd=dir_fd).st_mode
        return stat.S_ISREG(mode)
    except OSError:
        return False


def _leads_below(dir_fd: int, name: str) -> bool:
    """Whether a link in a directory leads to something below it, by way of whatever other links. Raise OSError."""
    top = os.path.realpath(f"/proc/self/fd/{dir_fd}")
    return os.path.realpath(f"/proc/self/fd/{dir_fd}/{name}").startswith(f"{top}/")


@frozen(kw_only=True)
class Marker:
    """What a version's marker says; a marker that is damaged or missing says FOREIGN, and nothing else."""

    origin: Origin = Origin.FOREIGN
    digests: frozenset[str] = frozenset()
    signed_by: str | None = None


def read_marker(dir_fd: int) -> Marker:
    """The marker of a version's directory."""
    content = read_bounded(MARKER, MARKER_LIMIT, dir_fd=dir_fd)
    if content is None:
        return Marker()
    try:
        marker = json.loads(content)
        origin = Origin(marker["origin"])
        digests = frozenset(str(digest) for digest in marker["digests"])
        signed_by = marker.get("signed_by")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Marker()
    if origin is Origin.FOREIGN or not all(is_digest(digest) for digest in digests):
        return Marker()
    return Marker(origin=origin, digests=digests, signed_by=signed_by if is_key(signed_by) else None)


def file_digest(dir_fd: int, name: str) -> str | None:
    """`sha256:hex` of a config file; None: no such file. One that can't be read as a config has a digest of its own
    (`unreadable:`), which equals no other: it is there, and it differs."""
    content = read_bounded(name, CONFIG_LIMIT, dir_fd=dir_fd)
    if content is not None:
        import hashlib  # it loads OpenSSL, and most agents have no remote config

        return f"sha256:{hashlib.sha256(content).hexdigest()}"
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except OSError as err:
        return None if err.errno == errno.ENOENT else "unreadable:"
    return "unreadable:"


def read_tree(home_fd: int, directory: str, version: str, config_name: str | None) -> Tree | None:
    """One version's directory as a Tree; None where it is no real directory or has no control."""
    with open_directory(directory, dir_fd=home_fd) as fd:
        if fd is None or not has_control(fd):
            return None
        marker = read_marker(fd)
        config = None
        if config_name is not None:
            with open_folder_of(fd, config_name) as (folder_fd, leaf):
                config = None if folder_fd is None else file_digest(folder_fd, leaf)
        return Tree(
            version=version,
            origin=marker.origin,
            digests=marker.digests,
            signed_by=marker.signed_by,
            config=config,
        )
