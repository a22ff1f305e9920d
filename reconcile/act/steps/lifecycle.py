"""Stop, switch, start: all that lies in an agent's downtime, and nothing else.

After a stop and a start the status is asked with a growing pause until it says so: what a script exits with, or what
it prints by itself, proves nothing. A stop waits for the version's processes as well, and a start is given up before
its limit only where nothing can come of it any more. There is no fixed sleep here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from attrs import define, evolve, field

from probes.errors import UpdaterError
from probes.home import home_of
from probes.host import control_script, processes, procfs
from probes.observed import ProcessState
from probes.text import sanitize
from reconcile.act.context import StepContext
from reconcile.act.control_calls import (
    ENDING_S,
    StatusAnswer,
    ask_status,
    ask_statuses,
    call_control,
    summary,
    was_running,
    with_evidence,
)
from reconcile.act.home_ops import adopt, leave_home, switch_config, switch_tree, switch_version
from reconcile.decide.actions import (
    MoveHome,
    Result,
    Start,
    Stop,
    Switch,
    SwitchConfig,
    SwitchTree,
    SwitchVersion,
    assert_never,
)
from reconcile.errors import ControlFailed, ControlTimeout, StartFailed, StartPostponed, StopFailed, StopPostponed
from reconcile.log import logger

_UNHURRIED_S = 0.1  # after a call: until then most agents have come up, and looking at processes would delay that
_CAN_NOT_RUN = (126, 127)  # a shell's exit codes for a command that is not executable, or missing
_NAMED, _COMMAND = 3, 100  # processes in a message, and characters of each one's name


def stop(action: Stop, context: StepContext) -> Result:
    """Stop the version in use, and see that its status says so and that its processes end: those that don't within 10
    s are left in `results` as what outlived it. Raise StopFailed, ControlTimeout, WriteFailed, StopPostponed.

    A version that was never seen running counts as stopped, though its status can't be understood, once that does not
    say started and no process of it is left.
    """
    if action.adopt:
        # It can be gone back to without a download only if it is known as complete; a write can fail, so it is first.
        context.worker.do(adopt, home_of(context.home), action.version)
    if action.removed:
        return _end_removed(context)
    return _once_more_if_lost(lambda: _stop(action, context))


def _end_removed(context: StepContext) -> Result:
    """End what runs from a removed folder: it has no control script any more. Raise StopFailed."""
    worker = context.workers.of(context.home.run_user, context.control.stop_s + ENDING_S)
    left = worker.do(processes.end_removed, home_of(context.home).path, context.control.stop_s)
    if left:
        name = f"process {left[0].pid} ({sanitize(left[0].command[:_COMMAND])})"
        raise StopFailed(
            f"{name} runs from {sanitize(left[0].path)}, which was removed, and SIGTERM does not end it within "
            f"{context.control.stop_s:.0f} s (control_timeout.stop); end it by hand"
        )
    return Result.DONE


def _stop(action: Stop, context: StepContext) -> Result:
    limit = time.monotonic() + context.control.stop_s
    result = call_control(context, action.version, "stop", context.control.stop_s)
    if result.is_short:
        raise StopPostponed(result.error)
    limit = _asked_until(limit, result)
    answers: list[StatusAnswer] = []
    left = ""
    nothing_left = _search_processes(context, action.version)
    for answer in ask_statuses(context, action.version, limit):
        if answer.process is ProcessState.STOPPED:
            # A first look found nothing while the status was asked: so it costs the downtime nothing.
            context.results.outlived = (
                "" if not answers and nothing_left() else _outlived(context, action.version, limit)
            )
            return Result.DONE
        answers.append(answer)
        if action.never_up and not answer.is_short and not was_running(answers):
            left = _left_of(context, action.version)
            if not left:
                return Result.DONE
    raise _stop_failed(action, context, result, answers, left)


def _asked_until(limit: float, result: control_script.ScriptResult) -> float:
    """Until when a status is asked after a call: once where nothing was set in motion that could be waited for."""
    return time.monotonic() if result.ended is control_script.CallEnd.NOT_STARTED else limit


def _stop_failed(
    action: Stop,
    context: StepContext,
    result: control_script.ScriptResult,
    answers: list[StatusAnswer],
    left: str,
) -> ControlFailed:
    message = (
        f"control stop of {action.version} {summary(result)}, and status still says: {answers[-1].output or 'nothing'}"
    )
    if left and not was_running(answers):
        message += f"; {left}"
    if result.ended is control_script.CallEnd.TIMED_OUT:
        why = f"{message}; limit {context.control.stop_s:.0f} s (control_timeout.stop)"
        return with_evidence(ControlTimeout(why), result, answers)
    return with_evidence(StopFailed(f"{message}; look at its stop, or stop it by hand"), result, answers)


def start(action: Start, context: StepContext) -> Result:
    """Start the version in use, and see that it says started, twice. Raise StartFailed, ControlTimeout,
    StartPostponed.

    It is over before its limit only where all is surely dead: its call has ended, the status has said stopped for 5 s,
    and no process of it is left; or the call said that a command can't be run.
    """
    return _once_more_if_lost(lambda: _start(action, context))


def _once_more_if_lost(step: Callable[[], Result]) -> Result:
    """Do a step once more where the result of its call was lost, and it had no effect: that is no failure of the
    version's. Twice it is: a script may be what kills its callers."""
    try:
        return step()
    except ControlFailed as err:
        if not err.lost:
            raise
        logger.warning("{}; it is called once more", err.message)
    return step()


def _start(action: Start, context: StepContext) -> Result:
    limit = time.monotonic() + context.control.start_s
    since = procfs.now()
    result = call_control(context, action.version, "start", context.control.start_s)
    if result.is_short:
        raise StartPostponed(result.error)
    limit = _asked_until(limit, result)
    answers: list[StatusAnswer] = []
    death = _Death(context=context, version=action.version, since=since)
    no_hope = ""
    for answer in ask_statuses(context, action.version, limit):
        answers.append(answer)
        if answer.process is not ProcessState.RUNNING:
            no_hope = death.certain(answer.process, result)
            if no_hope:
                break
            continue
        time.sleep(context.control.recheck_s)
        second = ask_status(context, action.version, context.status.limit_s)
        if second.process is ProcessState.RUNNING:
            return Result.DONE
        output = f"{second.output} (started at first, {context.control.recheck_s:g} s later no more)"
        answers.append(evolve(second, output=output))
        break
    output = answers[-1].output or "nothing"
    message = f"control start of {action.version} {summary(result)}, and status says: {output}{no_hope}"
    if result.ended is control_script.CallEnd.TIMED_OUT:
        why = f"{message}; limit {context.control.start_s:.0f} s (control_timeout.start)"
        raise with_evidence(ControlTimeout(why), result, answers)
    log = home_of(context.home).start_log
    raise with_evidence(StartFailed(f"{message}; look into {log} and the agent's own log"), result, answers)


@define(kw_only=True)
class _Death:
    """Tells when nothing can come of a start any more. `since`: when it began, as procfs.py counts it."""

    context: StepContext
    version: str
    since: int | None
    _began: float = field(factory=time.monotonic)
    _stopped_at: float | None = None
    _was_seen: bool = False

    def certain(self, process: ProcessState, call: control_script.ScriptResult) -> str:
        """Why it is surely dead after one more search, for people; empty: it may yet run.

        What the agent's user began since then may be the agent. Where a process of the version was seen to end that
        counts no more, since others of that user may begin at any time.
        """
        if call.ended is control_script.CallEnd.EXITED and call.code in _CAN_NOT_RUN:
            return f"; a command of it can't be run (exit {call.code})"
        if process is not ProcessState.STOPPED:
            self._stopped_at = None
            return ""
        if not self._take_up_stopped(time.monotonic()) or self.since is None:
            return ""
        since = None if self._was_seen else self.since
        return "" if _left_of(self.context, self.version, since) else "; no process of it is left"

    def _take_up_stopped(self, now: float) -> bool:
        """Look for its processes meanwhile; whether the status has said stopped for long enough."""
        if self._stopped_at is None:
            self._stopped_at = now
        if not self._was_seen and now - self._began >= _UNHURRIED_S:
            tree = home_of(self.context.home).tree(self.version)
            self._was_seen = bool(self.context.worker.ask(processes.running_from, tree))
        return now - self._stopped_at >= self.context.control.dead_s


def switch(action: Switch, context: StepContext) -> Result:
    """Make `action.to` the version in use. Raise WriteFailed, DiskTooSmall; then the old one still is.

    A move removes the old home's `.version` last: until then the agent lives there, and after it nowhere but here.
    """
    home = home_of(context.home)
    match action:
        case SwitchVersion():
            context.worker.do(switch_version, home, action.to)
        case SwitchTree():
            context.worker.do(switch_tree, home, action.version, action.previous)
        case SwitchConfig():
            context.worker.do(switch_config, home, action.version, action.name)
        case MoveHome():
            switch(action.switch, context)
            context.at(action.leaves).worker.do(leave_home, home_of(action.leaves))
        case _:
            assert_never(action)
    return Result.DONE


def _search_processes(context: StepContext, version: str) -> Callable[[], bool]:
    """Begin to look for processes of a version, in a thread; return what waits for it, and says whether it found
    that there are none."""
    found: list[tuple[processes.Process, ...] | None] = []
    tree = home_of(context.home).tree(version)

    def search() -> None:
        with suppress(UpdaterError):  # it is looked for again, then
            found.append(context.worker.ask(processes.running_from, tree))

    thread = threading.Thread(target=search, daemon=True, name="search processes")
    try:
        thread.start()
    except RuntimeError:  # no memory for one, or no process: what was stopped must still be started
        return lambda: False

    def none_left() -> bool:
        thread.join()
        return found == [()]

    return none_left


def _outlived(context: StepContext, version: str, limit: float) -> str:
    """The processes that still run from a version's tree, for people, once they had time to end: 10 s, but not beyond
    `limit` (monotonic seconds). Empty: none, or they can't be seen."""
    patience_s = max(0.0, min(context.control.outlasting_s, limit - time.monotonic()))
    left = context.worker.ask(processes.outlasting, home_of(context.home).tree(version), patience_s) or ()
    named = ", ".join(f"{one.pid} ({sanitize(one.command[:_COMMAND])})" for one in left[:_NAMED])
    more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    return f"process {named}{more}" if left else ""


def _left_of(context: StepContext, version: str, since: int | None = None) -> str:
    """What may still live of a version, for people; empty: nothing, at two answers."""
    tree = home_of(context.home).tree(version)
    calls = tuple(
        processes.Leader(pid=call.pid, started=call.started) for call in context.calls() if call.version == version
    )
    for pause in (context.control.recheck_s, 0):
        pids = context.worker.ask(processes.left_of, tree, calls, since)
        if pids is None:
            return "whether a process of it is left is unknown here"
        if pids:
            return f"process {pids[0]} still lives in it"
        time.sleep(pause)
    return ""
