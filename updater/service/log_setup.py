"""Where the log goes: the file with rotation, or standard error in the foreground.

`diagnose` is off: it would write the values of variables, secrets among them, into tracebacks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from reconcile.log import logger

if TYPE_CHECKING:
    from loguru import Logger, Record

_ROTATION = 10 * 1024 * 1024
_OLD_FILES = 5


def set_up(level: str, file: Path | None, *, to_stderr: bool, complains: bool = False) -> None:
    """Send the log to `file` and, or, to standard error; whatever was set up before ends. `complains`: say on standard
    error, once, that the file can't be written, and then the lines themselves."""
    level = level.upper()
    file_sink = None if file is None else LogFile(file, complains=complains and not to_stderr)

    def begin(loaded: Logger) -> None:
        _keep_time()
        loaded.remove()
        for sink in (sys.stderr if to_stderr else None, file_sink):
            if sink is not None:
                loaded.add(sink, level=level, format=_line, diagnose=False, backtrace=False)

    logger.set_up(begin, writes_debug=level in ("TRACE", "DEBUG"))


def _keep_time() -> None:
    """Have loguru ask the clock that we ask, too: its own way ends in an exception where the host's shows no time."""
    import loguru._logger as inner
    from loguru._datetime import datetime

    if hasattr(inner, "aware_now"):
        inner.aware_now = lambda: datetime.fromtimestamp(time.time()).astimezone()


class LogFile:
    """A log file of our own: rotated by size, and begun again where another program, or another run of ours, moved it.

    A disk that can't be written costs lines and nothing else: no pass is worse for it.
    """

    def __init__(self, path: Path, *, complains: bool = False) -> None:
        self._path = path
        self._complains = complains
        self._fd = -1
        self._fails = False
        with suppress(OSError):  # an empty file, at once: it is looked for
            self._open()
        self._close()

    def write(self, line: str) -> None:
        """Write a line."""
        content = line.encode("utf-8", "backslashreplace")
        try:
            self._open()
            while content:
                content = content[os.write(self._fd, content) :]
            self._fails = False
        except OSError as err:
            self._close()
            if self._complains:
                complaint = "" if self._fails else f"the log {self._path} can't be written: {err.strerror}\n"
                with suppress(OSError, ValueError):
                    sys.stderr.write(f"{complaint}{line}")
            self._fails = True

    def stop(self) -> None:
        """What loguru calls at the end."""
        self._close()

    def _open(self) -> None:
        """Have the file open that lies there now, and one of a size that may be written to. Raise OSError."""
        if self._fd >= 0:
            found = os.fstat(self._fd)
            if not self._is_there(found):
                self._close()
            elif found.st_size >= _ROTATION:
                self._rotate()
                self._close()
        if self._fd < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            self._fd = os.open(self._path, flags, 0o600)
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                self._close()
                raise OSError(errno.EINVAL, "it is not a regular file", str(self._path))

    def _is_there(self, held: os.stat_result) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), held)
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        """Move it aside, and the older ones by one, unless another run did. Raise OSError."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)  # held for a few renames
        if not self._is_there(os.fstat(self._fd)):
            return
        for number in range(_OLD_FILES - 1, 0, -1):
            with suppress(FileNotFoundError):
                os.replace(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        os.replace(self._path, f"{self._path}.1")

    def _close(self) -> None:
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
        self._fd = -1


def _line(record: Record) -> str:
    """One line a message, with the agent that it is about; a traceback after it where there is one. Times are of this
    host's zone, with its offset."""
    agent = "{extra[agent]}: " if record["extra"].get("agent") else ""
    return f"{{time:YYYY-MM-DDTHH:mm:ss.SSSZ}} {{level: <7}} {agent}{{message}}\n{{exception}}"
