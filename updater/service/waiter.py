"""The daemon between two passes, as a small process: it waits for the next pass, and for signals.

The daemon replaces itself by this (exec: the same process id, command line, environment, open log and locks), and
comes back the same way. What it knows goes along as a document in memory that has no name in any folder. Only the
standard library is loaded here, and of that little.

Before it comes back a child process loads the program that lies on the disk by now and reads the document. Where that
fails (a folder that is half replaced, no memory), the waiter logs it and tries again at the next slot.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import time
from contextlib import suppress

TYPE_CHECKING = False  # as typing's, which alone takes half a MiB
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

_NAME = "ops-updater-daemon"
_ENDING = (signal.SIGTERM, signal.SIGINT)
OBEYED = frozenset((*_ENDING, signal.SIGHUP))
_POLL_S = 60.0  # the clock, which may be set, and var/, which may be removed
_CHECK_S = 120.0  # for the child that loads the program
_MOVED_AWAY = 78  # interface.md, section 3: as the daemon itself ends where its folder is gone


class Document:
    """What the daemon leaves to itself, as JSON in an anonymous file. `content`: see standby.py, which writes it."""

    def __init__(self, fd: int, content: dict[str, Any]) -> None:
        self.fd, self.content = fd, content

    @classmethod
    def new(cls, content: dict[str, Any]) -> Document:
        """Raise OSError."""
        document = cls(os.memfd_create(_NAME, 0), content)  # no close-on-exec: it is for what follows exec
        document.write()
        return document

    @classmethod
    def inherited(cls, pid: int) -> Document | None:
        """The document that process `pid` left to itself, if this process has it open."""
        with suppress(OSError, ValueError):
            for name in os.listdir("/proc/self/fd"):
                if _is_named(name):
                    fd = int(name)
                    content = json.loads(os.pread(fd, os.fstat(fd).st_size, 0))
                    if content["pid"] == pid:
                        return cls(fd, content)
        return None

    def write(self) -> None:
        """Raise OSError."""
        content = json.dumps(self.content).encode()
        os.ftruncate(self.fd, 0)
        written = 0
        while written < len(content):
            written += os.pwrite(self.fd, content[written:], written)


def _is_named(fd: str) -> bool:
    with suppress(OSError):
        return os.readlink(f"/proc/self/fd/{fd}") == f"/memfd:{_NAME} (deleted)"
    return False


def wait_if_left() -> None:
    """Wait, if this process is a daemon that left itself here to wait; return in any other process."""
    document = Document.inherited(os.getpid())
    if document is not None and not document.content["resumes"]:
        if document.content["shown"] is not None:
            from probes.host.process_title import write_command_line

            write_command_line(document.content["shown"].encode("latin-1"))
        _Waiter(document).run()


class _Waiter:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._content = document.content
        self._failed = False  # since the last slot, or signal
        self._exit_codes: dict[int, int] = {}  # of children that have ended
        self._notifier = None
        if self._content["notify"]:
            from updater.service.sd_notify import ServiceNotifier

            self._notifier = ServiceNotifier(dict(self._content["notify"]))

    def run(self) -> NoReturn:
        """Wait, and come back as the daemon; or end."""
        # What the daemon left running may end meanwhile: it must not stay a zombie, for which `kill -0` says started.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
        self._exit_codes.update(reaped())  # of one that ended before
        while True:
            self._wait()
            if self._program_loads():
                self._resume()
            self._failed = True
            self._content["at"] = max(time.time(), self._content["at"]) + self._content["interval_s"]

    def _wait(self) -> None:
        """Return when the daemon has something to do."""
        while True:
            if self._notifier is not None:
                self._notifier.alive()
            # A clock that was set back must not have it wait for as long as it jumped.
            self._content["at"] = min(self._content["at"], time.time() + self._content["interval_s"])
            self._obey_next(min(self._limits()))
            removed = self._var_was_removed()
            if self._content["at"] <= time.time() or (not self._failed and (removed or self._reload_in_s() <= 0)):
                self._failed = False
                return

    def _limits(self) -> Iterator[float]:
        """Seconds after which there is something to look at."""
        yield self._content["at"] - time.time()
        yield _POLL_S
        if not self._failed:
            yield self._reload_in_s()
        if self._notifier is not None and self._notifier.patience_s is not None:
            yield self._notifier.patience_s

    def _reload_in_s(self) -> float:
        """How long until the config is read again; infinite until that is asked for."""
        return self._content["reload_from"] - time.monotonic() if self._content["reload"] else float("inf")

    def _obey_next(self, within_s: float) -> None:
        """Wait for a signal, so long at most, and do what it asks."""
        arrived = signal.sigtimedwait((*OBEYED, signal.SIGCHLD), max(0.0, within_s))
        self._exit_codes.update(reaped())
        if arrived is None:
            return
        if arrived.si_signo in _ENDING:
            if self._notifier is not None:
                self._notifier.stopping(1.0)
            self._log("INFO", "ended")
            self._end(0)
        if arrived.si_signo == signal.SIGHUP:
            self._content["reload"], self._failed = True, False

    def _end(self, code: int) -> NoReturn:
        with suppress(OSError):
            os.ftruncate(self._content["pid_file"], 0)
        sys.exit(code)

    def _var_was_removed(self) -> bool:
        """Whether var/ has to be made again, which the daemon does. Where the whole folder is gone it ends."""
        if not is_still(self._content["folder_path"], self._content["folder"]):
            lost = f"{self._content['folder_path']} was removed or moved away while its daemon ran"
            self._log("ERROR", f"{lost}: it ends")
            print(f"updater: {lost}, which ends; the agents run on. Start it where it lies now", file=sys.stderr)
            self._end(_MOVED_AWAY)
        return not is_still(self._content["pid_file_path"], self._content["pid_file"])

    def _program_loads(self) -> bool:
        """Whether the program on the disk can be loaded and reads the document, as a child shows."""
        said = os.memfd_create("said", os.MFD_CLOEXEC)
        marks = (self._content["folder"], self._content["pid_file"])  # a daemon is found and locked by these
        try:
            pid = os.posix_spawn(
                sys.executable,
                [*sys.orig_argv, "--check"],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, said, 1),
                    (os.POSIX_SPAWN_DUP2, said, 2),
                    *((os.POSIX_SPAWN_CLOSE, fd) for fd in marks),
                ],
                setsigmask=(),
            )
        except OSError as err:
            return self._stays(f"{sys.executable} can't be started: {err.strerror}")
        else:
            ended = self._wait_for(pid)
            last = os.pread(said, 4096, max(0, os.fstat(said).st_size - 4096)).decode("utf-8", "replace").split("\n")
            words = next((line for line in reversed(last) if line.strip()), f"it ended with {ended}")
            return ended == 0 or self._stays(words.strip())
        finally:
            os.close(said)

    def _wait_for(self, pid: int) -> int:
        """Wait for the child, for as long as it may take, and return its exit code."""
        deadline = time.monotonic() + _CHECK_S
        while pid not in self._exit_codes:
            if time.monotonic() >= deadline:
                os.kill(pid, signal.SIGKILL)
                deadline += _CHECK_S
            self._obey_next(deadline - time.monotonic())
        code = self._exit_codes[pid]
        self._exit_codes.clear()
        return code

    def _resume(self) -> None:
        """Become the daemon again. Return only where that can't be."""
        self._content["resumes"] = True
        try:
            self._document.write()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
            os.execv(sys.executable, sys.orig_argv)
        except OSError as err:
            self._stays(f"{sys.executable} can't be started: {err.strerror}")
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
        self._content["resumes"] = False
        with suppress(OSError):
            self._document.write()

    def _stays(self, why: str) -> bool:
        self._log("ERROR", f"no pass was made: the updater can't be loaded: {why}; tried again at the next slot")
        return False

    def _log(self, level: str, line: str) -> None:
        """Write a line as log_setup.py does, if this level is logged. A log that can't be written costs the line."""
        if level not in self._content["logged"]:
            return
        now = time.time()
        stamp, zone = time.strftime("%Y-%m-%dT%H:%M:%S %z", time.localtime(now)).split()
        stamp = f"{stamp}.{int(now % 1 * 1000):03d}{zone[:3]}:{zone[3:]}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
        with suppress(OSError):
            fd = os.open("var/app.log", flags, 0o600, dir_fd=self._content["folder"])
            try:
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    os.write(fd, f"{stamp} {level: <7} {line}\n".encode("utf-8", "replace"))
            finally:
                os.close(fd)


def reaped() -> Iterator[tuple[int, int]]:
    """Ask all children that have ended for their exit codes, by pid."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended[0], os.waitstatus_to_exitcode(ended[1])


def is_still(path: str | os.PathLike[str], fd: int) -> bool:
    """Whether the open file lies where it lay. In doubt it does."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
