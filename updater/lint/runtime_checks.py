"""An agent's life in the scratch folder, and what each check saw of it: asked, started, killed, stopped, moved.

Every step is judged by the agent's processes as well as by what its `control` says. Where one thing fails, what can't
be found out any more is skipped, and says so; the rest is still tried.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from attrs import evolve

from probes.observed import ProcessState
from probes.status_parser import last_line, process_state
from probes.values import frozen
from updater.lint.checks import BY_ID, CHECKS, Level, LintFinding, LintVerdict
from updater.lint.runner import Called, CallOptions, Runner, wait_until
from updater.lint.sandbox import Sandbox, SandboxHome

_STAYS_S = 0.5  # as the updater looks again after a start
_SETTLE_S = 3.0  # for a second copy that sees the first and ends itself, for children that are just ending
_NO_VERB = "no-such-verb"
_NOT_FOUND = (126, 127)  # what a shell says of a command that it can't run


@frozen(kw_only=True)
class CallLimits:
    """Seconds for one call of `control` and its effect, together; the updater's own defaults."""

    status: float = 10.0
    start: float = 60.0
    stop: float = 60.0


class _Inconclusive(Exception):
    """Nothing more can be found out. The message says why."""


class _NotHere(Exception):
    """What was well in the first folder is not in this one. The message says what."""


class RuntimeChecks:
    """One agent's trials. `say`: reports what is being tried."""

    def __init__(self, runner: Runner, scratch: Sandbox, limits: CallLimits, say: Callable[[str], None]) -> None:
        self._runner = runner
        self._scratch = scratch
        self._limits = limits
        self._say = say
        self._call_options = CallOptions(env=scratch.env)
        self._name = scratch.plain.path.name
        self._found: dict[str, LintFinding] = {}
        self._elsewhere_now = False

    def run(self) -> tuple[LintFinding, ...]:
        """Make all trials, and return what came of each check that needs them."""
        why = "not tried"
        try:
            self._before_a_start()
            self._a_start()
            self._start_again()
            self._killed()
            self._a_stop()
            self._elsewhere()
        except _Inconclusive as err:
            why = str(err)
        finally:
            self._runner.end_all()
        return tuple(
            self._found.get(check.id, LintFinding(check=check, verdict=LintVerdict.SKIPPED, seen=why))
            for check in CHECKS
            if check.runs
        )

    # What is made of what was seen

    def _judge(self, id: str, seen: str) -> bool:
        """Note how a check went; `seen` is empty where all is well. The first failure stands."""
        if seen and self._elsewhere_now and BY_ID[id].level is Level.ERROR:
            raise _NotHere(seen)
        before = self._found.get(id)
        if before is None or before.verdict is not LintVerdict.FAILED:
            verdict = LintVerdict.FAILED if seen else LintVerdict.PASSED
            self._found[id] = LintFinding(check=BY_ID[id], verdict=verdict, seen=seen)
        return not seen

    def _failed(self, id: str) -> bool:
        return id in self._found and self._found[id].verdict is LintVerdict.FAILED

    def _call(self, tree: Path, verb: str, context: CallOptions | None = None) -> Called:
        limit = {"start": self._limits.start, "stop": self._limits.stop}.get(verb, self._limits.status)
        called = self._runner.call(tree, verb, limit, context or self._call_options)
        fault = called.fault
        if called.code in _NOT_FOUND and verb != _NO_VERB:
            fault = f"control {verb}: {called.words}"
        if not self._judge("runs", fault):
            raise _Inconclusive("`control` can't be run")
        return called

    def _status(self, tree: Path) -> ProcessState:
        """Ask, and judge the answer's form. Raise _GivenUp where it can't be understood."""
        called = self._call(tree, "status")
        if not self._judge("status-in-time", "" if called.in_time else _late(called)):
            raise _Inconclusive("`control status` does not return, and every other check depends on it")
        state = process_state(called.output, self._name)
        said = last_line(called.output)
        unknown = f"it printed {said!r}" if said else "it printed nothing"
        if not self._judge("status-words", unknown if state is ProcessState.UNKNOWN else ""):
            raise _Inconclusive("what `control status` prints is not understood, and every other check depends on it")
        lines = len(called.output.strip().splitlines())
        self._judge("status-plain", f"it printed {lines} lines" if lines > 1 else "")
        return state

    def _is(self, tree: Path, state: ProcessState) -> bool:
        return self._status(tree) is state

    def _comes_up(self, tree: Path, called: Called) -> bool:
        """Whether status comes to say started. Where nothing runs any more that is not waited for."""
        left = max(self._limits.start - called.seconds, 0.0)
        wait_until(lambda: self._is(tree, ProcessState.RUNNING) or not self._runner.alive(), left)
        return self._is(tree, ProcessState.RUNNING)

    def _ends(self, tree: Path, called: Called) -> bool:
        left = max(self._limits.stop - called.seconds, 0.0)
        return wait_until(lambda: self._is(tree, ProcessState.STOPPED), left)

    def _what_runs(self) -> str:
        return ", ".join(self._runner.command_of(pid) for pid in self._runner.alive()[:3])

    # The trials

    def _before_a_start(self) -> None:
        self._say("before a start")
        tree = self._scratch.plain.first
        fresh = self._is(tree, ProcessState.STOPPED)
        self._judge("fresh-status", "" if fresh else "it says started, and nothing was started yet")
        called = self._call(tree, _NO_VERB)
        quiet = wait_until(lambda: not self._runner.alive(), _SETTLE_S)
        trouble = "" if quiet else f"`control {_NO_VERB}` left running: {self._what_runs()}"
        self._judge("verbs", trouble if called.in_time else _late(called))
        self._runner.end_all()
        called = self._call(tree, "stop")
        trouble = "" if called.in_time else _late(called)
        if called.in_time and fresh and not self._is(tree, ProcessState.STOPPED):
            trouble = "after it status says started"
        self._judge("stop-twice", trouble)
        if called.in_time:
            self._judge("exit-codes", "" if called.code == 0 else f"stop on a stopped agent: {called.words}")

    def _a_start(self) -> None:
        self._say("start")
        tree = self._scratch.plain.first
        called = self._call(tree, "start")
        if not called.in_time and self._starts_otherwise(tree, "standard-input"):
            return
        if not self._judge("start-in-time", "" if called.in_time else _late(called)):
            raise _Inconclusive("`control start` does not return")
        self._judge("held-output", "held by " + ", ".join(called.held) if called.held else "")
        if not self._up(tree, called):
            if self._starts_otherwise(tree, "clean-environment", "standard-input"):
                return
            self._judge("starts", f"start: {called.words}; status says stopped")
            raise _Inconclusive("it does not start")
        self._judge("clean-environment", "")
        time.sleep(_STAYS_S)
        if not self._judge("starts", "" if self._up(tree, called) else "half a second later it had ended"):
            raise _Inconclusive("it does not stay started")

    def _up(self, tree: Path, called: Called) -> bool:
        """Whether it comes up, in word and in fact."""
        return self._comes_up(tree, called) and bool(self._runner.alive())

    def _starts_otherwise(self, tree: Path, *checks: str) -> bool:
        """Find out whether it would start with more than a host gives it, and go on with that."""
        more = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER", "LOGNAME")}
        others = {
            "clean-environment": evolve(self._call_options, env={**self._call_options.env, **more}),
            "standard-input": evolve(self._call_options, answers=True),
        }
        for id in checks:
            context = others[id]
            self._runner.end_all()
            called = self._call(tree, "start", context)
            if called.in_time and self._up(tree, called):
                self._judge(
                    id, f"it starts only with {'more variables' if id != 'standard-input' else 'lines to read'}"
                )
                self._judge("start-in-time", "")
                self._judge("starts", "")
                self._judge("held-output", "held by " + ", ".join(called.held) if called.held else "")
                self._call_options = context
                return True
        self._runner.end_all()
        return False

    def _start_again(self) -> None:
        self._say("start once more")
        tree = self._scratch.plain.first
        before = self._runner.roots()
        called = self._call(tree, "start")
        if not self._judge("start-twice", "" if called.in_time else _late(called)):
            raise _Inconclusive("`control start` on a running agent does not return")
        wait_until(lambda: self._runner.roots() <= before, _SETTLE_S)
        after = self._runner.roots()
        trouble = ""
        if before - after:
            trouble = "the running agent was ended and replaced" if after else "the running agent was ended"
        elif after - before:
            trouble = f"a second copy runs: {self._runner.command_of(min(after - before))}"
        elif not self._is(tree, ProcessState.RUNNING):
            trouble = "after it status says stopped, and the agent runs"
        self._judge("start-twice", trouble)
        self._judge("exit-codes", "" if called.code == 0 else f"start on a running agent: {called.words}")

    def _killed(self) -> None:
        self._say("kill -9")
        tree = self._scratch.plain.first
        killed = self._runner.kill_all()
        noticed = wait_until(lambda: self._is(tree, ProcessState.STOPPED), self._limits.status)
        if not self._judge("kill-noticed", "" if noticed else "all its processes are dead, and status says started"):
            raise _Inconclusive("a crash is not noticed")
        self._a_strangers_pid(tree, killed)
        called = self._call(tree, "start")
        well = called.in_time and self._up(tree, called)
        if not self._judge(
            "starts-after-kill", "" if well else f"start: {called.words if called.in_time else _late(called)}"
        ):
            raise _Inconclusive("after a kill -9 it does not start again")

    def _a_strangers_pid(self, tree: Path, killed: tuple[int, ...]) -> None:
        """Let the pid files name a living process that is none of the agent's, as after a reboot."""
        dead = {str(pid) for pid in killed}
        files = {path: text for path in _small_files(self._scratch.plain.path) if (text := _read(path)).strip() in dead}
        if not files:
            skipped = LintFinding(check=BY_ID["foreign-pid"], verdict=LintVerdict.SKIPPED, seen="no pid file was found")
            self._found.setdefault("foreign-pid", skipped)
            return
        for path in files:
            path.write_text(f"{self._runner.bystander()}\n")
        taken = self._is(tree, ProcessState.RUNNING)
        for path, text in files.items():
            path.write_text(text)
        self._judge("foreign-pid", f"{min(files).name}: status takes a stranger's process for it" if taken else "")

    def _a_stop(self) -> None:
        self._say("stop")
        tree = self._scratch.plain.first
        called = self._call(tree, "stop")
        if not self._judge("stop-in-time", "" if called.in_time else _late(called)):
            raise _Inconclusive("`control stop` does not return")
        if not self._judge("stops", "" if self._ends(tree, called) else f"stop: {called.words}; status says started"):
            self._runner.end_all()
            raise _Inconclusive("it does not stop")
        gone = wait_until(lambda: not self._runner.alive(), _SETTLE_S)
        self._judge("nothing-left", "" if gone else f"still there: {self._what_runs()}")
        self._runner.end_all()
        if not self._failed("standard-input"):
            self._say("without standard input")
            self._judge("standard-input", self._cycle(tree, evolve(self._call_options, closed=True)))

    def _elsewhere(self) -> None:
        self._say("in a path with spaces")
        self._judge("spaces", self._cycle(self._scratch.spaced.first))
        self._say("in another version's folder")
        self._judge("other-version", self._moved(self._scratch.moved))

    def _moved(self, home: SandboxHome) -> str:
        trouble = self._cycle(home.first)
        if trouble:
            return f"in the first folder: {trouble}"
        shutil.rmtree(home.first)
        return self._cycle(home.second)

    def _cycle(self, tree: Path, context: CallOptions | None = None) -> str:
        """Start and stop it there. Say what went wrong; empty: nothing."""
        self._elsewhere_now = True
        try:
            called = self._call(tree, "start", context)
            if not called.in_time:
                return _late(called)
            if not self._up(tree, called):
                return f"start: {called.words}; it does not run"
            called = self._call(tree, "stop")
            if not called.in_time:
                return _late(called)
            return "" if self._ends(tree, called) else f"stop: {called.words}; status says started"
        except _NotHere as err:
            return str(err)
        finally:
            self._elsewhere_now = False
            self._runner.end_all()


def _late(called: Called) -> str:
    return f"`control {called.verb}` had not returned after {called.seconds:.0f} s"


def _small_files(folder: Path) -> list[Path]:
    """Regular files that may hold a pid, links not followed."""
    found = []
    for below, _, names in os.walk(folder):
        for name in names:
            path = Path(below, name)
            status = path.lstat()
            if path.is_file() and not path.is_symlink() and 0 < status.st_size <= 16:
                found.append(path)
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeError):
        return ""
