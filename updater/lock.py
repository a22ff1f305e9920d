"""The two locks of a folder, as kernel locks that vanish with their process: one pass at a time, one daemon.

`var/updater.lock` is held by whoever makes a pass, for as long as it lasts. `var/app.pid` holds the daemon's process
id and is locked for the daemon's life, so a stale file or a reused id deceives nobody. Readers need neither.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reconcile.act.host.write import try_lock

_PAUSE_S = 0.1


class Busy(Exception):
    """Somebody else holds the lock. `pid`: whose, as the file says; 0 where it doesn't."""

    def __init__(self, path: Path, pid: int) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"another updater is in a pass: {holder} holds {path}; nothing was touched")
        self.path = path
        self.pid = pid


@contextmanager
def pass_lock(var: Path, *, wait_s: float = 0.0, ending: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold the pass lock. Wait up to `wait_s` seconds for it, less where `ending` says so. Raise Busy, OSError."""
    with _locked(var / "updater.lock", wait_s, ending):
        yield


@contextmanager
def pid_file(var: Path) -> Iterator[None]:
    """Be the daemon of this folder: hold `app.pid` with our process id in it. Raise Busy, OSError."""
    path = var / "app.pid"
    with _locked(path, 0.0, lambda: False) as fd:
        try:
            yield
        finally:
            with suppress(OSError):
                os.ftruncate(fd, 0)


@contextmanager
def _locked(path: Path, wait_s: float, ending: Callable[[], bool]) -> Iterator[int]:
    deadline = time.monotonic() + wait_s
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while not try_lock(fd):
            if time.monotonic() >= deadline or ending():
                raise Busy(path, _holder(fd))
            time.sleep(_PAUSE_S)
        with suppress(OSError):  # on a full disk the lock holds all the same, only its holder's name is missing
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield fd
    finally:
        os.close(fd)


def _holder(fd: int) -> int:
    text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    return int(text) if text.isdigit() else 0
