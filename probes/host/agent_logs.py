"""What an agent wrote itself: the ends of its log files, for the terminal of the person who asks.

Called as the agent's user, since its files may be links, FIFOs, huge, and full of control codes: only regular files
are read, none through a link, a bounded end of each, and their text is escaped.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from heapq import nlargest
from pathlib import Path

from probes.errors import UpdaterError
from probes.host.home_reader import is_version, open_directory, read_version_file
from probes.observed import START_LOG
from probes.text import sanitize
from probes.values import frozen

_ENDINGS = (".log", ".out", ".err")
_DEPTH = 4  # folders below a version's directory
_MOST_ENTRIES = 20_000  # looked at in a version's directory: an agent's data may lie there, too
_MOST_BYTES = 256 * 1024  # of one file


@frozen(kw_only=True)
class Position:
    """Where the reading of a file ended: from there it goes on, unless another file has taken its place."""

    path: str
    inode: int
    offset: int

    def still_in(self, status: os.stat_result) -> int:
        """The offset in the file that is there now: 0 where that is another one, or was cut."""
        return self.offset if self.inode == status.st_ino and self.offset <= status.st_size else 0


@frozen(kw_only=True)
class LogEnd:
    """The last lines of a file, escaped. `seen`: where they end."""

    seen: Position
    lines: tuple[str, ...]

    @property
    def path(self) -> str:
        return self.seen.path


def read_log_ends(
    home: Path,
    directories: tuple[str, ...] = (),
    *,
    limit: int,
    most: int,
    since: tuple[Position, ...] = (),
) -> tuple[LogEnd, ...]:
    """The ends, at most `limit` bytes each, of the start log in a home and of the `most` newest log files below the
    version in use and each of these directories, the newest last. What can't be read or is empty is passed by.

    With `since`, only what was written after these positions, in whole lines; a new file from its beginning.
    """
    limit = min(limit, _MOST_BYTES)
    positions = {position.path: position for position in since}
    ends: list[LogEnd] = []
    with suppress(OSError, UpdaterError), open_directory(home) as home_fd:
        if home_fd is None:
            return ()
        found: list[tuple[str, ...]] = [(START_LOG,)]
        in_use = read_version_file(home_fd) or ""
        for directory in dict.fromkeys((*((in_use,) if is_version(in_use) else ()), *directories)):
            newest = nlargest(most, _log_files(home_fd, directory))
            found += [path for _, path in reversed(newest)]
        for path in found:
            with suppress(OSError, UpdaterError):
                end = _read_end(home_fd, home, path, limit, positions)
                if end is not None:
                    ends.append(end)
    return tuple(ends)


def _log_files(home_fd: int, directory: str) -> Iterator[tuple[float, tuple[str, ...]]]:
    """The log files below a directory: when each was written, and its path's parts. The upper folders first."""
    waiting: list[tuple[str, ...]] = [(directory,)]
    left = _MOST_ENTRIES
    while waiting and left:
        parts = waiting.pop(0)
        with suppress(OSError, UpdaterError), _opened(home_fd, parts) as fd, os.scandir(fd) as entries:
            for entry in entries:
                left -= 1
                if not left:
                    break
                if entry.is_dir(follow_symlinks=False):
                    if len(parts) <= _DEPTH:
                        waiting.append((*parts, entry.name))
                elif entry.name.endswith(_ENDINGS):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_size:
                        yield status.st_mtime, (*parts, entry.name)


@contextmanager
def _opened(home_fd: int, parts: tuple[str, ...]) -> Iterator[int]:
    """A folder below a home, reached through no link. Raise OSError."""
    fd = os.dup(home_fd)
    try:
        for part in parts:
            above = fd
            fd = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            os.close(above)
        yield fd
    finally:
        os.close(fd)


def _read_end(
    home_fd: int, home: Path, parts: tuple[str, ...], limit: int, positions: dict[str, Position]
) -> LogEnd | None:
    """The end of one file, or what is new in it; None where there is nothing."""
    name = str(home.joinpath(*parts))
    with _opened(home_fd, parts[:-1]) as folder:
        # O_NONBLOCK: opening a FIFO would wait for its writer for ever.
        fd = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        known = positions.get(name)
        earliest = 0 if known is None else known.still_in(status)
        begin = max(earliest, status.st_size - limit)
        content = os.pread(fd, limit, begin)
    finally:
        os.close(fd)
    if begin > earliest and b"\n" in content[:-1]:  # a line that was cut
        cut = content.index(b"\n") + 1
        begin, content = begin + cut, content[cut:]
    if positions and len(content) < limit:
        content = content[: content.rfind(b"\n") + 1]  # the rest of a line that is being written comes next time
    if not content and known is None:
        return None
    seen = Position(path=name, inode=status.st_ino, offset=begin + len(content))
    return LogEnd(seen=seen, lines=tuple(_lines(content)))


def _lines(content: bytes) -> Iterator[str]:
    if content:
        for line in content.decode("utf-8", "backslashreplace").removesuffix("\n").split("\n"):
            yield sanitize(line.rstrip("\r").expandtabs())
