"""A file in the contract's form, as a source of desired state: for hosts without a server, for trials, for tests.

There is nobody to report to, so the report is dropped. The form is wire.py's.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from reconcile.errors import ResponseInvalid, ServerUnreachable
from reconcile.net.http_client import escaped
from reconcile.source import Answer, HostReport
from updater.sources import wire

_LIMIT = 1024 * 1024  # bytes, as of a server's answer


class DesiredFile:
    """A source of desired state that reads a local file, anew at each exchange."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def came_from(self) -> str:
        return escaped(str(self._path), 300)

    def exchange(self, report: HostReport) -> Answer:
        """Read the file. Raise ServerUnreachable where it can't be read, ResponseInvalid on its content."""
        try:
            body = self._read()
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL
            what = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise ServerUnreachable(f"the desired state in {self.came_from} can't be read: {escaped(what)}") from error
        if len(body) > _LIMIT:
            raise ResponseInvalid(f"{self.came_from} is larger than {_LIMIT} bytes, which is all that is taken")
        return wire.parse_answer(body, self.came_from)

    def _read(self) -> bytes:
        # O_NONBLOCK: opening a FIFO that nobody writes to must not wait. Links are followed: the operator named it.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError("not a regular file")
        with open(descriptor, "rb") as file:
            return file.read(_LIMIT + 1)
