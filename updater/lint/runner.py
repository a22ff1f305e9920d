"""Run an agent's `control`, follow every process that it leaves, and end them all.

We make ourselves the subreaper: whatever an agent starts stays our descendant, daemons and orphans included, so none
can hide. Dead ones are reaped at once, as a real init does, since for a zombie `kill -0` lies. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from probes.host import procfs
from probes.host.facts import User
from probes.host.start_failure import why_not_started
from probes.status_parser import last_words
from probes.text import one_line
from probes.values import frozen
from updater.lint.sandbox import as_user

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37  # linux/prctl.h
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.05  # each look reads all of /proc
_KILL_LIMIT_S = 10.0
_REDIRECTED_S = 2.0  # from the end of a call until what it left has redirected its output, on a busy machine
_OUTPUT_LIMIT = 64 * 1024
_FLOOD = 8 * 1024 * 1024
# Closes descriptor 0 for what it executes: Popen can't.
_CLOSED = ["/bin/sh", "-c", 'exec "$0" "$@" <&-']


@frozen(kw_only=True)
class Called:
    """How one call of `control` went. `code`: None where it timed out; negative for a signal. `fault`: why it could not
    be started at all. `held`: the processes that still hold its output, for people."""

    verb: str
    code: int | None = None
    output: str = ""
    seconds: float = 0.0
    fault: str = ""
    held: tuple[str, ...] = ()

    @property
    def in_time(self) -> bool:
        return self.code is not None or bool(self.fault)

    @property
    def words(self) -> str:
        """Its last line and its exit code, for people."""
        said = last_words(self.output)
        return f"exit code {self.code}, last line {said!r}" if said else f"exit code {self.code}, no output"


@frozen(kw_only=True)
class CallOptions:
    """How `control` is called. `answers`: standard input gives lines; else it is empty. `closed`: there is none."""

    env: Mapping[str, str]
    answers: bool = False
    closed: bool = False


@frozen(kw_only=True)
class _TrackedProcess:
    pid: int
    parent: int
    dead: bool


def _prctl(option: int, argument: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


class Runner:
    """A context manager: at its end nothing runs any more of what was started in it."""

    def __init__(self, folder: Path, user: User) -> None:
        """`folder`: for outputs; the agent's user can't write there."""
        self._folder = folder
        self._user = user
        self._calls = 0
        self._own: set[int] = set()
        self._was_subreaper = ctypes.c_int()
        self._before: frozenset[int] = frozenset()
        self._bystander: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Runner:
        _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(self._was_subreaper))
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._before = frozenset(process.pid for process in self._children())
        return self

    def __exit__(self, *_: object) -> None:
        if self._bystander is not None:
            self._bystander.kill()
            self._bystander.wait()
            self._own.discard(self._bystander.pid)
        self.end_all()
        _prctl(_PR_SET_CHILD_SUBREAPER, self._was_subreaper.value)

    def call(self, tree: Path, verb: str, limit_s: float, context: CallOptions) -> Called:
        """Run `control VERB` in its folder. What outlives the limit is killed, with all that it started."""
        control = tree / "control"
        self._calls += 1
        path = self._folder / f"output-{self._calls}"
        answers = self._folder / "answers"
        answers.write_text("y\n" * 1000)
        with path.open("a+b") as output, (answers if context.answers else Path(os.devnull)).open("rb") as stdin:
            began = time.monotonic()
            try:
                process = subprocess.Popen(
                    [*(_CLOSED if context.closed else ()), "./control", verb],
                    cwd=tree,
                    env=dict(context.env),
                    stdin=stdin,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    umask=0o022,
                    **as_user(self._user),
                )
            except OSError as err:
                return Called(
                    verb=verb, fault=one_line(why_not_started(control, tree, err).replace(f"{tree}/", ""), 300)
                )
            self._own.add(process.pid)
            ended = wait_until(lambda: self._reaped(process) or _flooded(output.fileno()), limit_s)
            seconds = time.monotonic() - began
            if not ended:
                self.end_all()
                process.wait()
            self._own.discard(process.pid)
            return Called(
                verb=verb,
                code=process.returncode if ended else None,
                output=_text(path),
                seconds=seconds,
                held=self._lasting_holders(output.fileno()),
            )

    def alive(self) -> tuple[int, ...]:
        """What the agent has running, and its control script while it runs."""
        self._reap()
        return tuple(sorted(process.pid for process in self._descendants() if not process.dead))

    def roots(self) -> frozenset[int]:
        """Return those of these whose own parent has gone: an agent's main processes."""
        self._reap()
        ours = os.getpid()
        return frozenset(p.pid for p in self._descendants() if p.parent == ours and not p.dead)

    def kill_all(self) -> tuple[int, ...]:
        """SIGKILL to all that runs; return which, once they are dead."""
        pids = self.alive()
        self.end_all()
        return pids

    def end_all(self) -> None:
        """Kill until nothing is left. A process in uninterruptible sleep is waited for, for a while."""

        def none_left() -> bool:
            alive = self.alive()
            for pid in alive:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            return not alive

        wait_until(none_left, _KILL_LIMIT_S)

    def bystander(self) -> int:
        """The pid of a process of the same user that is none of the agent's."""
        if self._bystander is None:
            self._bystander = subprocess.Popen(
                ["/bin/sleep", "3600"], cwd="/", env={}, stdin=subprocess.DEVNULL, **as_user(self._user)
            )
            self._own.add(self._bystander.pid)
        return self._bystander.pid

    def command_of(self, pid: int) -> str:
        """A process as people know it: its pid and command line."""
        return one_line(b"%d (%s)" % (pid, b" ".join(procfs.words(pid)) or b"?"), 120)

    def _reaped(self, process: subprocess.Popen[bytes]) -> bool:
        self._reap()
        return process.poll() is not None

    def _reap(self) -> None:
        for process in self._children():
            if process.dead and process.pid not in self._own | self._before:
                with suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)

    def _children(self) -> list[_TrackedProcess]:
        return [process for process in _all() if process.parent == os.getpid()]

    def _descendants(self) -> list[_TrackedProcess]:
        """All below us but for the bystander, and what was below us before."""
        everyone = _all()
        family = {os.getpid()}
        found: list[_TrackedProcess] = []
        skip = self._before if self._bystander is None else self._before | {self._bystander.pid}
        while more := [p for p in everyone if p.parent in family and p.pid not in family | skip]:
            family |= {process.pid for process in more}
            found += more
        return found

    def _lasting_holders(self, fd: int) -> tuple[str, ...]:
        """Who still holds the output after a moment: a child that was just forked does until it redirects its own."""
        deadline = time.monotonic() + _REDIRECTED_S
        while (held := self._holders(fd)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return held

    def _holders(self, fd: int) -> tuple[str, ...]:
        wanted = os.fstat(fd)
        return tuple(
            self.command_of(pid)
            for pid in self.alive()
            if any(_is_same(path, wanted) for path, _ in procfs.open_files(pid))
        )


def wait_until(condition: Callable[[], bool], within_s: float) -> bool:
    """Wait until the condition holds; whether it did in time."""
    deadline = time.monotonic() + within_s
    pause = _FIRST_PAUSE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    return True


def _flooded(fd: int) -> bool:
    """Empty an output that grows without end; never a reason to stop waiting."""
    if os.fstat(fd).st_size > _FLOOD:
        os.ftruncate(fd, 0)
    return False


def _text(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _OUTPUT_LIMIT))
        return file.read().decode("utf-8", "backslashreplace")


def _all() -> list[_TrackedProcess]:
    return [_TrackedProcess(pid=pid, parent=found.parent, dead=found.is_dead) for pid, found in procfs.stats().items()]


def _is_same(path: str, wanted: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.stat(path), wanted)
    return False
