"""Where the output of a control script goes: never a pipe, always bounded, readable when the script has ended.

A pipe would have to be drained until the last child that inherited it closes it, and a daemon never does. So:

- `status` and `stop` write to a memfd of 64 KiB that is sealed against growing: a flood meets EPERM, not our memory;
- `start` appends to a real file, because the agent it leaves behind may talk on for months;
- where the kernel has no memfd, an unlinked temporary file stands in for it.

Files can't be sealed, so they are trimmed while the script runs (`trims`, `trim`). Only the last 4 KiB of a call are
kept; where a line is cut, `[cut]` stands in it, so that half of `not started` never reads as `started`.

A script that truncates the memfd by `> /dev/stderr` is refused by the seal (EPERM); appending and plain writing work
until it is full. What the words mean is none of this module's business.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Protocol

from attrs import define

TAIL_LIMIT = 4096  # bytes of a call: enough for its last words, whatever it prints
LOG_LIMIT = 1 << 20
_ROOM = 1 << 16


class Capture(Protocol):
    """An open file for a script's stdout and stderr."""

    @property
    def fd(self) -> int: ...

    @property
    def trims(self) -> bool:
        """Whether `trim` must be called every now and then while the script runs."""

    def trim(self) -> None:
        """Cut a file that outgrew its limit."""

    def tail(self) -> bytes:
        """The end of what was written during the call, at most `TAIL_LIMIT` bytes."""

    def close(self) -> None: ...


def open_capture(log: Path | None) -> Capture:
    """Open the place for one call's output. Raises OSError, with a message for people, if `log` can't be used."""
    if log is not None:
        try:
            return _open_log(log)
        except OSError:
            # An agent is not left down for want of a log: what it says goes where `status` says it, and where all
            # disks are read-only, nowhere.
            try:
                return _unlinked_file()
            except OSError:
                return Nowhere(fd=os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
    fd = _sealed_memory()
    return _unlinked_file() if fd is None else SealedMemory(fd=fd)


def truncate_log(path: Path, limit: int = LOG_LIMIT) -> bool:
    """Empty the file at `path` if it is larger than `limit` bytes; return whether it was.

    Its writers append, so they go on at its new end. A missing file, a link (a hard one may be anybody's file),
    anything but a regular file, and a file that we may not write are left alone without a word: a log is never worth
    failing for.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size <= limit:
            return False
        os.ftruncate(fd, 0)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


@define(eq=False)
class SealedMemory:
    """A memfd of fixed size. It is full of NULs, and how far it was written is known by the offset that the script
    shares with us, or, if it opened `/dev/stdout` again and so has an offset of its own, by the last byte set."""

    fd: int
    trims: bool = False

    def trim(self) -> None:
        """Nothing to do: it can't grow."""

    def tail(self) -> bytes:
        content = os.pread(self.fd, _ROOM, 0)
        offset = os.lseek(self.fd, 0, os.SEEK_CUR)
        if content[offset:] != bytes(len(content) - offset):  # compared first: stripping 64 KiB takes 0.1 ms
            offset = max(offset, len(content.rstrip(b"\0")))
        written = content[:offset]
        return _last_bytes(written, cut_behind=len(written) == _ROOM)

    def close(self) -> None:
        os.close(self.fd)


@define(eq=False)
class AppendedFile:
    """A regular file opened for appending. `begin`: its size when the call began. `limit`: what it may grow to."""

    fd: int
    begin: int
    limit: int
    _tail_so_far: bytes = b""
    trims: bool = True

    def trim(self) -> None:
        if os.fstat(self.fd).st_size > self.begin + self.limit:
            self._tail_so_far = self.tail() + b" [cut] "
            os.ftruncate(self.fd, 0)
            self.begin = 0

    def tail(self) -> bytes:
        size = os.fstat(self.fd).st_size
        begin = self.begin if size >= self.begin else 0  # smaller: the script, or a pass beside us, emptied it
        start = max(begin, size - TAIL_LIMIT - 1)  # one byte more than is kept, to see that there was more
        return _last_bytes(self._tail_so_far + os.pread(self.fd, size - start, start), cut_behind=False)

    def close(self) -> None:
        os.close(self.fd)


@define(eq=False)
class Nowhere:
    """Where no file can be made at all."""

    fd: int
    trims: bool = False

    def trim(self) -> None:
        """Nothing to do."""

    def tail(self) -> bytes:
        return b""

    def close(self) -> None:
        os.close(self.fd)


def _last_bytes(written: bytes, *, cut_behind: bool) -> bytes:
    behind = b" [cut]" if cut_behind else b""
    if len(written) + len(behind) <= TAIL_LIMIT:
        return written + behind
    before = b"[cut] "
    return before + written[len(written) - (TAIL_LIMIT - len(before) - len(behind)) :] + behind


def _sealed_memory() -> int | None:
    """Make a memfd that can neither grow nor shrink; None where kernel, sandbox or platform don't let us."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        fd = os.memfd_create("control-output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return None
    try:
        os.ftruncate(fd, _ROOM)
        # Shrinking is sealed too: `> /dev/stdout` would truncate to 0, and nothing could be written ever after.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    except OSError:
        os.close(fd)
        return None
    return fd


def _unlinked_file() -> AppendedFile:
    try:
        import tempfile  # slow to load, and hardly ever needed

        fd, path = tempfile.mkstemp(prefix="control-output-")
    except ImportError as err:  # there are no descriptors left to load it with
        raise OSError(errno.EMFILE, f"no place for the output of control: {err}") from err
    except OSError as err:
        raise OSError(err.errno, f"no place for the output of control: {err.strerror}") from err
    os.unlink(path)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    except OSError:
        os.close(fd)
        raise
    return AppendedFile(fd=fd, begin=0, limit=_ROOM)


def _open_log(path: Path) -> AppendedFile:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o644)
    except OSError as err:
        why = "is a symbolic link, which is never followed" if path.is_symlink() else err.strerror
        raise OSError(err.errno, f"{path}: the log of control start can't be opened: {why}; remove or fix it") from err
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise OSError(0, f"{path}: the log of control start is not a regular file; remove it")
    os.set_blocking(fd, True)  # O_NONBLOCK was for a FIFO in its place, not for the agent
    return AppendedFile(fd=fd, begin=found.st_size, limit=LOG_LIMIT)
