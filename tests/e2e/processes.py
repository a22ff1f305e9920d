"""Starts the processes of a test, and is the parent of all that they leave behind.

An agent outlives the updater that started it and becomes a child of PID 1, which in a container may reap slowly or
never: a dead agent then stays a zombie, for which `kill -0` lies. So the test process is made a subreaper: orphans
become its own children, and are reaped within moments of their death. Elsewhere than on Linux none of this is done.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.e2e.warm import Forked, Warm

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_EXECUTE_CHILD: Callable[..., None] = subprocess.Popen._execute_child  # type: ignore[attr-defined]
_PAUSE_S = 0.01
LIMIT_S = 150.0  # for a condition that must come true: far beyond what it takes, so that a slow machine fails nothing


def until(condition: Callable[[], object], what: str, within: float = LIMIT_S) -> None:
    """Wait until the condition holds. Raise TimeoutError, naming `what` was waited for."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within:g} s: {what}")
        time.sleep(_PAUSE_S)


class Processes:
    """A context manager: within it orphans of what was started are our children, and are reaped. What this process
    starts itself, by `start` or by `subprocess`, must be waited for."""

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._own: set[int] = set()
        self._done = threading.Event()
        self._reaper = threading.Thread(target=self._reap_until_done, name="reaper", daemon=True)

    def __enter__(self) -> Processes:
        if sys.platform == "linux":
            _set_subreaper(on=True)
            subprocess.Popen._execute_child = self._execute_child  # type: ignore[attr-defined]
            self._reaper.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if sys.platform == "linux":
            self._done.set()
            self._reaper.join()
            subprocess.Popen._execute_child = _EXECUTE_CHILD  # type: ignore[attr-defined]
            _set_subreaper(on=False)

    def start(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: int = subprocess.DEVNULL,
        output: int = subprocess.PIPE,
        warm: Warm | None = None,
    ) -> subprocess.Popen[str]:
        """Start a process with pipes for its output, or with `output`, a descriptor, for all of it.

        `warm`: the process that has the updater loaded; where it is given, `argv` is a command of the updater.
        """
        start = subprocess.Popen[str] if warm is None else partial(Forked, warm)
        with self._guard:
            process = start(argv, cwd=cwd, env=env, stdin=stdin, stdout=output, stderr=output, text=True)
            self._own.add(process.pid)
        return process

    @property
    def _execute_child(self) -> Callable[..., None]:
        """What `subprocess` starts a child by: the reaper must know it as ours before it can have ended."""

        def execute(process: subprocess.Popen[Any], *given: Any) -> None:
            with self._guard:
                _EXECUTE_CHILD(process, *given)
                self._own.add(process.pid)

        return execute

    def _reap_until_done(self) -> None:
        while not self._done.wait(_PAUSE_S):
            with self._guard:
                self._reap()
        self._reap()

    def _reap(self) -> None:
        """Reap every orphan that is dead, and no child of ours: `subprocess` wants those exit codes."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if found.si_pid in self._own:
                    self._reap_behind()
                    return
                os.waitpid(found.si_pid, 0)

    def _reap_behind(self) -> None:
        """Reap the orphans that a child of ours, dead and not yet waited for, hides from waitid."""
        for pid in _all_pids():
            if _parent(pid) == os.getpid() and pid not in self._own:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def end_all_in(folder: Path) -> None:
    """Kill whatever runs in a directory below `folder`: a hung script, a daemon of a third party."""
    pids = running_in(folder)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not set(pids) & set(running_in(folder)), f"processes in {folder} end")


def running_in(folder: Path) -> tuple[int, ...]:
    """Find the processes whose working directory lies below `folder`, also where it was removed since."""
    inside = f"{os.path.realpath(folder)}/"
    return tuple(pid for pid in _all_pids() if f"{_working_directory(pid)}/".startswith(inside))


def _working_directory(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)")  # a zombie has none
    except OSError:
        return ""


def _all_pids() -> Iterable[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _set_subreaper(*, on: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
