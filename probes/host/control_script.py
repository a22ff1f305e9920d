"""Run control scripts: each in a session of its own, with a time limit, many at once by one poll loop.

What ends a call is the end of the script's own process, never the end of its output: what it left behind lives on in
its process group and may hold stdout open for ever. That group is signalled only when the time limit is over: SIGTERM,
2 seconds of grace, SIGKILL. Whatever a script does, a call is over within its limit + 6 s, and nothing is raised.

`Popen` gets neither `preexec_fn` nor `user`, which would make it copy our page tables for each script. So signals that
the updater itself ignores or blocks are so in the script too (Python's SIGPIPE and SIGXFSZ excepted): what starts the
updater's process has to see to that.

It doesn't know what output means (status_parser.py), and doesn't change users: it is called as the agent's user.
"""

from __future__ import annotations

import errno
import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

from attrs import Attribute, define, field

from probes.host import procfs
from probes.host.output_capture import Capture, open_capture, truncate_log
from probes.host.paths import PATH
from probes.host.start_failure import HOST_CAUSES, why_not_started
from probes.values import frozen

__all__ = ["CallEnd", "ScriptCall", "ScriptResult", "clean_env", "run", "run_all", "truncate_log"]

_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.02
_BUSY_S = 1.0  # how long "text file busy" is waited out


# Processes given up alive, by an interruption or since not even SIGKILL ended them: reaped by a later call.
_left: list[subprocess.Popen[bytes]] = []


class CallEnd(Enum):
    """How a call ended. LOST: not known, since the worker that made the call was lost; nothing here ends so."""

    EXITED = auto()
    SIGNALED = auto()
    TIMED_OUT = auto()
    NOT_STARTED = auto()
    LOST = auto()


def _absolute(_: object, attribute: Attribute[Path], value: Path) -> None:
    if not value.is_absolute():
        raise ValueError(f"{attribute.name} must be an absolute path, not {value}")


@frozen(kw_only=True)
class ScriptCall:
    """One call of a control script. `env` is all of its environment. `log`: the regular file that its output is
    appended to (`start`); None: its output is kept in memory only (`status`, `stop`). `grace_s`: from SIGTERM to
    SIGKILL; `abandon_s`: from SIGKILL to giving up, as of a process in uninterruptible sleep."""

    control: Path = field(validator=_absolute)
    verb: str
    cwd: Path = field(validator=_absolute)
    env: Mapping[str, str]
    limit_s: float
    log: Path | None = None
    grace_s: float = 2.0
    abandon_s: float = 3.0

    @property
    def word(self) -> str:
        """What it is called by: as people type it. A path would hold the agent's name, and a script that looks for its
        agent by `pgrep -f` would find the call."""
        return f"./{self.control.name}" if self.control.parent == self.cwd else str(self.control)


@frozen(kw_only=True)
class ScriptResult:
    """How one call went. `code`: the exit code, for SIGNALED the signal's number, else None. `output`: the end of
    stdout and stderr together, at most 4 KiB. `error`: for NOT_STARTED and LOST why, and what to do. `is_short`: it was
    not started for a cause of the host's (no process, memory or descriptor left, a disk that fails): that says nothing
    of it."""

    ended: CallEnd
    code: int | None = None
    output: bytes = b""
    error: str = ""
    seconds: float = 0.0
    is_short: bool = False

    @property
    def text(self) -> str:
        """The output as text; bytes that aren't UTF-8 as backslash escapes."""
        return self.output.decode("utf-8", "backslashreplace")


def clean_env(user_name: str, home_dir: str, shell: str, extra: Mapping[str, str]) -> dict[str, str]:
    """Make the environment that an agent gets, whatever ours is. `extra` (the config's `agent_env`) wins."""
    ours = {"PATH": PATH, "HOME": home_dir, "USER": user_name, "LOGNAME": user_name, "SHELL": shell, "LANG": "C.UTF-8"}
    return ours | dict(extra)


def run(call: ScriptCall, spawned: Callable[[int], None] | None = None) -> ScriptResult:
    """Run one call to its end. `spawned` is called with the process id right after the spawn, before any waiting.

    What `spawned` raises comes out of here, and the script is left to itself. Safe from several threads at once.
    """
    poller = select.poll()
    return _run_crowd([_Run(index=0, call=call, poller=poller, spawned=spawned)], poller, at_once=1)[0]


def run_all(calls: Iterable[ScriptCall], at_once: int = 64) -> tuple[ScriptResult, ...]:
    """Run calls side by side, at most `at_once` at a time; results come in the calls' order.

    Each call is taken from `calls` when there is room for it. What that raises comes out of here.

    If it is interrupted (KeyboardInterrupt), scripts that run are left running; no descriptor is, but perhaps one of a
    script that was being started in that moment.
    """
    if at_once < 1:
        raise ValueError(f"at_once must be at least 1, not {at_once}")
    poller = select.poll()
    return _run_crowd(
        (_Run(index=index, call=call, poller=poller) for index, call in enumerate(calls)), poller, at_once
    )


class _Stage(Enum):
    SPAWNING = auto()
    AWAITED = auto()
    TERMINATED = auto()
    KILLED = auto()


@define(eq=False)
class _Run:
    """One call under way. `wake`: when, by the monotonic clock, `step` is due whatever happens."""

    index: int
    call: ScriptCall
    poller: select.poll
    spawned: Callable[[int], None] | None = None
    stage: _Stage = _Stage.SPAWNING
    process: subprocess.Popen[bytes] | None = None
    capture: Capture | None = None
    pidfd: int | None = None
    began: float = 0.0
    until: float = 0.0
    wake: float = 0.0
    pause: float = _FIRST_PAUSE_S

    def step(self) -> ScriptResult | None:
        """Go on where the call stands. Return its result once it is over."""
        now = time.monotonic()
        if self.process is None:
            return self._begin(now) or self._spawn()
        assert self.capture is not None
        with suppress(OSError):
            self.capture.trim()
        # From SIGTERM to SIGKILL the process isn't reaped: until it is, its group's id can't become another's.
        if self.stage is not _Stage.TERMINATED and self.process.poll() is not None:
            return self._ended(self.process.returncode)
        if now >= self.until or (self.stage is _Stage.TERMINATED and not _group_lives(self.process.pid)):
            if self.stage is _Stage.KILLED:
                return self._ended(None)
            self._escalate(now)
        self._sleep(now)
        return None

    def _begin(self, now: float) -> ScriptResult | None:
        """Open the file that its output goes to, once."""
        if self.capture is None:
            self.began = now
            self._enter(_Stage.SPAWNING, now + min(_BUSY_S, self.call.limit_s))
            try:
                self.capture = open_capture(self.call.log)
            except OSError as err:
                return self._not_started(str(err.strerror), is_short=True)
        return None

    def close(self) -> None:
        """Give back the descriptors. The script is left as it is."""
        self._unwatch()
        if self.capture is not None:
            self.capture.close()
            self.capture = None
        if self.process is not None and self.process.returncode is None:
            _left.append(self.process)

    def _spawn(self) -> ScriptResult | None:
        assert self.capture is not None
        call = self.call
        try:
            self.process = subprocess.Popen(
                [call.word, call.verb],
                cwd=call.cwd,
                env=dict(call.env),
                stdin=subprocess.DEVNULL,
                stdout=self.capture.fd,
                stderr=self.capture.fd,
                start_new_session=True,
                umask=0o022,
            )
        except (OSError, ValueError) as err:
            now = time.monotonic()
            # Another thread's fork may for a moment hold the descriptor that this very file was written through.
            if isinstance(err, OSError) and err.errno == errno.ETXTBSY and now < self.until:
                self._sleep(now)
                return None
            is_short = isinstance(err, OSError) and err.errno in HOST_CAUSES
            return self._not_started(why_not_started(call.control, call.cwd, err), is_short=is_short)
        self._enter(_Stage.AWAITED, self.began + call.limit_s)
        self.pidfd = _open_pidfd(self.process.pid)
        if self.pidfd is not None:
            self.poller.register(self.pidfd, select.POLLIN)
        self._sleep(time.monotonic())
        if self.spawned is not None:
            self.spawned(self.process.pid)
        return None

    def _escalate(self, now: float) -> None:
        assert self.process is not None
        if self.stage is _Stage.AWAITED:
            self._unwatch()  # it stays readable as long as it is not reaped: the clock is enough from here
            _signal_group(self.process.pid, signal.SIGTERM)
            self._enter(_Stage.TERMINATED, now + self.call.grace_s)
        else:
            _signal_group(self.process.pid, signal.SIGKILL)
            self._enter(_Stage.KILLED, now + self.call.abandon_s)

    def _unwatch(self) -> None:
        if self.pidfd is not None:
            self.poller.unregister(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = None

    def _enter(self, stage: _Stage, until: float) -> None:
        self.stage, self.until, self.pause = stage, until, _FIRST_PAUSE_S

    def _sleep(self, now: float) -> None:
        """Set `wake`: the stage's end if the pidfd covers all else, otherwise after a pause that grows."""
        assert self.capture is not None
        if self.stage is _Stage.AWAITED and self.pidfd is not None and not self.capture.trims:
            self.wake = self.until
        else:
            self.wake = min(self.until, now + self.pause)
            self.pause = min(2 * self.pause, _LONGEST_PAUSE_S)

    def _not_started(self, error: str, *, is_short: bool) -> ScriptResult:
        seconds = time.monotonic() - self.began
        return ScriptResult(ended=CallEnd.NOT_STARTED, error=error, seconds=seconds, is_short=is_short)

    def _ended(self, code: int | None) -> ScriptResult:
        assert self.capture is not None
        seconds = time.monotonic() - self.began
        try:
            output = self.capture.tail()
        except OSError as err:  # a failing disk below the log
            output = f"[output can't be read: {err.strerror}]".encode()
        if self.stage is _Stage.KILLED or code is None:
            return ScriptResult(ended=CallEnd.TIMED_OUT, output=output, seconds=seconds)
        ended = CallEnd.EXITED if code >= 0 else CallEnd.SIGNALED
        return ScriptResult(ended=ended, code=abs(code), output=output, seconds=seconds)


def _run_crowd(runs: Iterable[_Run], poller: select.poll, at_once: int) -> tuple[ScriptResult, ...]:
    """The poll loop: let in what fits, sleep until a script ends or a call is due, let it go on."""
    waiting = iter(runs)
    crowd = _Crowd()
    _reap_left()
    try:
        while True:
            while len(crowd.running) < at_once and (one := next(waiting, None)) is not None:
                crowd.go_on(one)
            if not crowd.running:
                break
            for one in crowd.await_due(poller):
                crowd.go_on(one)
    finally:
        for one in crowd.running:
            one.close()
    return tuple(crowd.results[index] for index in sorted(crowd.results))


@define
class _Crowd:
    """The calls under way, and what came of the others, by their index."""

    running: set[_Run] = field(factory=set)
    results: dict[int, ScriptResult] = field(factory=dict)

    def go_on(self, one: _Run) -> None:
        self.running.add(one)
        result = one.step()
        if result is not None:
            self.results[one.index] = result
            self.running.remove(one)
            one.close()

    def await_due(self, poller: select.poll) -> list[_Run]:
        """Sleep until a script ends or a call is due; return those that are to go on."""
        pause_ms = math.ceil(1000 * (min(one.wake for one in self.running) - time.monotonic()))
        ready = {fd for fd, _ in poller.poll(max(0, pause_ms))}
        now = time.monotonic()
        return [one for one in self.running if one.pidfd in ready or one.wake <= now]


def _reap_left() -> None:
    for process in list(_left):
        if process.poll() is not None:
            with suppress(ValueError):  # another thread was faster
                _left.remove(process)


def _open_pidfd(pid: int) -> int | None:
    """Open a descriptor that becomes readable when `pid` ends; None where there is no such thing (before Linux 5.3,
    in some sandboxes, on macOS, or no descriptor left): then the loop looks after it by the clock."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _signal_group(group: int, number: signal.Signals) -> None:
    # Gone already, or another user's (sudo): then the call is given up after its time all the same.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _group_lives(group: int) -> bool:
    """Whether a process of `group` is alive, zombies not counted; True where /proc doesn't show it.

    `group`'s leader is not reaped, so it must be seen there: where it isn't, others may be hidden too.
    """
    members = [stat for stat in procfs.stats().values() if stat.group == group]
    return not members or not all(stat.is_dead for stat in members)
