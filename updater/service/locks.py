"""The two locks of a folder, as kernel locks that vanish with their process: one pass at a time, one daemon.

`var/updater.lock` is held by a pass for as long as it lasts, and so is its folder, since the file may be removed
meanwhile. `var/app.pid` holds the daemon's process id and is locked for the daemon's life, so a stale file or a reused
id is not mistaken for it. Readers need neither. A disk under var/ that can't be written keeps no pass away:
what crashed is healed all the same.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import define

from probes.host import procfs
from probes.host.process_title import hide
from reconcile.act.host.home_lock import holders, try_lock
from updater.service.waiter import is_still

_PAUSE_S = 0.1
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class Busy(Exception):
    """Somebody else holds the lock. `pid`: whose, as the file says; 0 where it doesn't."""

    def __init__(self, path: Path, pid: int) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"another updater is in a pass: {holder} holds {path}; nothing was touched")
        self.path = path
        self.pid = pid


@define
class _Lock:
    """`fd`: of the file, or of what serves in its place where there is none and none can be made. `folder`: what is
    locked beside the file; None: nothing."""

    path: Path
    fd: int
    substitute: bool
    folder: int | None = None

    @property
    def is_there(self) -> bool:
        """Whether others who want it would come to the same one. In doubt they do."""
        if not self.substitute:
            return is_still(self.path, self.fd)
        fd = _open_file(self.path, os.O_RDWR | os.O_CREAT)
        if fd is not None:
            os.close(fd)
        return fd is None

    def take(self) -> bool:
        """Lock it, where no other process has it."""
        return try_lock(self.fd) and self.is_there and (self.folder is None or _try_lock_folder(self.folder))

    @property
    def holder(self) -> int:
        """The pid of who has it; 0 where that is not known."""
        others = () if self.folder is None else (pid for pid in holders(self.folder) if pid > 0)
        return _holder(self.fd) or next(iter(others), 0)

    def close(self) -> None:
        os.close(self.fd)
        if self.folder is not None:
            os.close(self.folder)


@contextmanager
def pass_lock(var: Path, *, wait_s: float = 0.0, ending: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold the pass lock. Wait up to `wait_s` seconds for it, less where `ending` says so. Raise Busy, OSError."""
    with _locked(var / "updater.lock", wait_s, ending, or_folder=True):
        yield


@contextmanager
def pid_file(var: Path) -> Iterator[PidFile]:
    """Be the daemon of this folder: hold `app.pid` with our process id in it. Raise Busy, OSError."""
    path = var / "app.pid"
    folder = os.open(var.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        other = daemon_of(folder)
        if other:
            raise Busy(path, other)
        with _locked(path, 0.0, lambda: False, or_folder=False) as lock:
            try:
                yield PidFile(lock, folder)
            finally:
                with suppress(OSError):
                    os.ftruncate(lock.fd, 0)
    finally:
        os.close(folder)


@contextmanager
def inherited_pid_file(var: Path, lock: int, folder: int) -> Iterator[PidFile]:
    """The same for a process that has both open already, and the lock is held by that."""
    try:
        yield PidFile(_Lock(var / "app.pid", lock, substitute=False), folder)
    finally:
        with suppress(OSError):
            os.ftruncate(lock, 0)
        os.close(lock)
        os.close(folder)


class PidFile:
    """What a daemon that runs is found by: its pid file, and its folder."""

    def __init__(self, lock: _Lock, folder: int) -> None:
        self._lock, self._folder = lock, folder

    @property
    def fds(self) -> tuple[int, int] | None:
        """The open file that is locked, and our open folder; None: something else is locked in the file's place."""
        return None if self._lock.substitute else (self._lock.fd, self._folder)

    @property
    def is_there(self) -> bool:
        """Whether the file that we hold still lies where it lay. In doubt it does."""
        return self._lock.is_there

    @property
    def folder_is_there(self) -> bool:
        """Whether our folder still lies where it lay."""
        return is_still(self._lock.path.parent.parent, self._folder)


def daemon_of(folder: int) -> int:
    """The pid of another daemon of this open folder, also where its pid file was removed or moved; 0: none is seen.

    It holds our folder and a file `app.pid` open, and is of our own user: no other user can pretend to be it.
    """
    wanted = os.fstat(folder)
    for pid in procfs.pids():
        if pid == os.getpid() or procfs.owner(pid) != os.geteuid():
            continue
        files = dict(procfs.open_files(pid))
        if not any(os.path.basename(target).partition(" ")[0].endswith("app.pid") for target in files.values()):
            continue
        with suppress(OSError):  # it has ended
            if any(os.path.samestat(os.stat(file), wanted) for file in files):
                return pid
    return 0


@contextmanager
def _locked(path: Path, wait_s: float, ending: Callable[[], bool], *, or_folder: bool) -> Iterator[_Lock]:
    deadline = time.monotonic() + wait_s
    lock = _open(path, or_folder=or_folder)
    try:
        while not lock.take():
            if time.monotonic() >= deadline + _PAUSE_S or ending():
                raise Busy(path, lock.holder)
            if lock.is_there:
                hide((os.sep,))  # that pass calls scripts meanwhile, and our paths may hold an agent's name
                time.sleep(_PAUSE_S)
            else:  # its folder was removed and made again meanwhile
                lock.close()
                lock = _open(path, or_folder=or_folder)
        with suppress(OSError):  # on a full disk the lock holds all the same, only its holder's name is missing
            os.ftruncate(lock.fd, 0)
            os.pwrite(lock.fd, f"{os.getpid()}\n".encode(), 0)
        yield lock
    finally:
        lock.close()


def _open(path: Path, *, or_folder: bool) -> _Lock:
    """The lock's file. On a disk that can't be written, and where something else has its name: as it is, else its
    folder, which serves as well; and where there is nothing to lock, nothing that keeps anybody away. Nothing can be
    noted there either, so all that a pass can do is to heal, and homes have locks of their own. Raise OSError."""
    folder = _open_folder(path.parent) if or_folder else None
    for wanted in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        fd = _open_file(path, wanted)
        if fd is not None:
            return _Lock(path, fd, substitute=False, folder=folder)
    return _Lock(path, os.memfd_create(path.name) if folder is None else folder, substitute=True)


def _open_folder(path: Path) -> int | None:
    try:
        return os.open(path, os.O_CLOEXEC | os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None


def _try_lock_folder(fd: int) -> bool:
    try:
        return try_lock(fd)
    except OSError:  # a file system on which only files that can be written are locked, such as NFS
        return True


def _open_file(path: Path, wanted: int) -> int | None:
    """The lock's file, None where it is not a regular file (a FIFO, a link) or can't be opened so."""
    try:
        fd = os.open(path, _FLAGS | wanted, 0o600)
    except OSError as err:
        if err.errno in _OUT_OF_DESCRIPTORS:
            raise
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def _holder(fd: int) -> int:
    try:
        text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    except OSError:  # a folder, or a disk that fails
        return 0
    return int(text) if text.isdigit() else 0
