"""Counts our own file operations in a running updater, and lets the Nth of them go wrong: death or an error.

Python announces most of them (audit events, so that pathlib and shutil are seen too); fsync, write, the exchange of two
directories and the database's commits announce nothing and are wrapped. Operations of control scripts are not ours.
What a power cut takes away is power.py's business.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from tests.crash.power import PageCache

# What dies is a process; what errs is a disk. `full`, `read-only`: from the Nth operation on, not it alone.
DEATHS = ("kill", "power cut, contents lost", "power cut, names lost too")
ERRORS = ("ENOSPC", "EIO", "full", "read-only")
MODES = (*DEATHS, *ERRORS)

_ANNOUNCED = {
    "os.rename": "rename",
    "os.mkdir": "mkdir",
    "os.remove": "unlink",
    "os.rmdir": "rmdir",
    "os.link": "link",
    "os.symlink": "symlink",
    "os.truncate": "truncate",
    "os.chmod": "chmod",
    "os.utime": "utime",
    "shutil.rmtree": "rmtree",
}
_NEEDS_ROOM = frozenset({"create", "write", "fsync", "mkdir", "link", "symlink", "rename", "exchange", "commit"})
_NO_FILE_OPERATION = frozenset({"spawn", "spawned", "committed"})  # a point to die at, but no error of a disk


@frozen(kw_only=True)
class Fault:
    """What is to go wrong, and at which operation, counted from 1. No mode: nothing, they are only counted."""

    mode: str = ""
    at: int = 0


class Points:
    """The operations of this process, in order. `home`: the agent's. `report` gets the one that the fault hit,
    before it takes effect.

    Once it is installed it can't be taken off: it is for a process that ends after one run.
    """

    def __init__(self, fault: Fault, cache: PageCache, home: Path, report: Callable[[str], None]) -> None:
        self.count = 0
        self._home = home
        self._fault = fault
        self._cache = cache
        self._report = report
        self._quiet = threading.local()
        self._order = threading.Lock()

    def install(self) -> None:
        sys.addaudithook(self._hear)
        self._wrap_descriptors()
        self._wrap_spawns()

    def pass_by(self, what: str, detail: str = "") -> None:
        """One operation is about to be carried out: count it, and have it hit if it is the one."""
        fault = self._fault
        if fault.mode in ERRORS and what in _NO_FILE_OPERATION:
            return
        with self._order:
            self.count += 1
            number = self.count
        if number == fault.at:
            with self._quietly():
                self._report(f"{what} {detail}".strip())
        if fault.mode in DEATHS and number == fault.at:
            with self._quietly():
                if fault.mode != DEATHS[0]:
                    self._cache.lose_contents()
                if fault.mode == DEATHS[2]:
                    self._cache.lose_names(spared=self._home if number % 2 else None)
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.mode in ERRORS and (
            number == fault.at or (number > fault.at and fault.mode in ("full", "read-only"))
        ):
            self._err(fault.mode, what)

    def _err(self, mode: str, what: str) -> None:
        number = {"ENOSPC": errno.ENOSPC, "full": errno.ENOSPC, "EIO": errno.EIO, "read-only": errno.EROFS}[mode]
        if number == errno.ENOSPC and what not in _NEEDS_ROOM:
            return
        if number == errno.EROFS and what == "fsync":
            return
        if what == "commit":
            raise sqlite3.OperationalError(os.strerror(number))
        raise OSError(number, os.strerror(number))

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """What the harness itself does is no operation of the updater's."""
        self._quiet.now = True
        try:
            yield
        finally:
            self._quiet.now = False

    def _is_quiet(self) -> bool:
        return getattr(self._quiet, "now", False)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self._is_quiet():
            return
        if event == "os.truncate" and isinstance(args[0], int) and _name(args[0]).startswith("memfd:"):
            return  # what a control script printed, in memory
        if event == "open":
            self._hear_open(*args)
        elif event == "subprocess.Popen":
            if args[1][-1] != "status":  # which changes nothing
                self.pass_by("spawn", str(args[1][-1]))
        elif event in _ANNOUNCED:
            self.pass_by(_ANNOUNCED[event], os.fsdecode(args[0]) if isinstance(args[0], str | bytes) else "")
            with self._quietly():
                try:
                    self._cache.hear(event, args)
                except OSError as err:
                    raise RuntimeError("a defect of the harness") from err  # no OSError, which would pass for a disk's

    def _hear_open(self, path: object, mode: object, flags: int) -> None:
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if not writes or not isinstance(path, str | bytes) or os.fsdecode(path) == os.devnull:
            return
        creates = flags & os.O_EXCL or (flags & os.O_CREAT and not os.path.exists(path))
        self.pass_by("create" if creates else "open to write", os.fsdecode(path))

    def _wrap_descriptors(self) -> None:
        real_open, real_write, real_fsync = os.open, os.write, os.fsync

        def open_seen(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            entry = None
            if flags & os.O_CREAT and not self._is_quiet():
                with self._quietly():
                    entry = self._cache.before_create(path, dir_fd)
            fd = real_open(path, flags, mode, dir_fd=dir_fd)
            if flags & (os.O_WRONLY | os.O_RDWR) and not self._is_quiet():
                with self._quietly():
                    self._cache.opened(fd, entry)
            return fd

        def write_seen(fd: int, content: Any) -> int:
            if not self._is_quiet() and stat.S_ISREG(os.fstat(fd).st_mode):
                self.pass_by("write", _name(fd))
                with self._quietly():
                    self._cache.opened(fd, None)
            return real_write(fd, content)

        def fsync_seen(fd: int) -> None:
            if self._is_quiet():
                return
            self.pass_by("fsync", _name(fd))
            real_fsync(fd)
            with self._quietly():
                self._cache.synced(fd)

        os.open, os.write, os.fsync = open_seen, write_seen, fsync_seen  # type: ignore[assignment]

    def _wrap_spawns(self) -> None:
        write: Any = importlib.import_module("reconcile.act.host.atomic_fs")
        script: Any = importlib.import_module("probes.host.control_script")
        store: Any = importlib.import_module("reconcile.storage.store").Store
        real_run, real_exchange, real_change = script.run, write.exchange, store._change

        def run_seen(call: Any, spawned: Any = None) -> Any:
            # To die right after the spawn: the script goes on, and no process waits for it.
            changes = call.verb != "status"
            return real_run(call, (lambda pid: self.pass_by("spawned", call.verb)) if changes else spawned)

        def exchange_seen(dir_fd: int, a: str, b: str) -> bool:
            try:
                self.pass_by("exchange", f"{a} {b}")
            except OSError as err:  # it is called below Python, and what it raises is one of ours
                raise write.as_error(err, "exchange", b) from err
            return self._cache.exchange(dir_fd, lambda fd: real_exchange(fd, a, b))

        def change_seen(self_: Any, change: Callable[[Any], object]) -> None:
            def change_once(db: Any) -> object:
                self.pass_by("commit")
                return change(db)

            real_change(self_, change_once)
            self.pass_by("committed")

        script.run, write.exchange, store._change = run_seen, exchange_seen, change_seen


def _name(fd: int) -> str:
    try:
        return os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
    except OSError:
        return ""
