"""Bytes that a pass will need later: in one unnamed file on the disk, and not in memory.

A file without a name leaves nothing behind, however the process ends.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

from reconcile.act.host.atomic_fs import as_error


class Spool:
    """Keeps bytes for as long as one of its readers is referred to. Threads may share it."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where the file is made, with the first bytes; made if it is missing."""
        self._folder = folder
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._size = 0

    def put(self, content: bytes) -> Callable[[], bytes]:
        """Write bytes down, and return what reads them. Raise WriteFailed, DiskTooSmall."""
        with self._lock:
            try:
                if self._fd is None:
                    self._fd = self._open()
                offset, written = self._size, 0
                while written < len(content):
                    written += os.pwrite(self._fd, content[written:], offset + written)
            except OSError as err:
                raise as_error(err, "write", repr(str(self._folder))) from err
            self._size += written
        return partial(self._read, offset, written)  # no closure, which would keep the bytes

    def _open(self) -> int:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            fd = os.dup(file.fileno())
        weakref.finalize(self, os.close, fd)
        return fd

    def _read(self, offset: int, size: int) -> bytes:
        assert self._fd is not None
        found = bytearray()
        while len(found) < size and (block := os.pread(self._fd, size - len(found), offset + len(found))):
            found += block
        return bytes(found)
