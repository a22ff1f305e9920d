"""Stop, switch, start: all that lies in an agent's downtime, and nothing else.

After a stop and a start the status is asked with a growing pause until it says so: what a script exits with, or what
it prints by itself, proves nothing. A stop waits for the version's processes as well, and a start is given up before
its limit only where nothing can come of it any more. There is no fixed sleep here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby

from attrs import define, evolve, field

from probes.errors import UpdaterError, WorkerLost
from probes.home import home_of, judge_status, run_control
from probes.host import control_script, processes, procfs
from probes.observe import believed_call
from probes.observed import ProcessState
from probes.status_parser import could_not_fork, last_line
from probes.text import sanitize
from probes.values import frozen
from reconcile.act.context import StepContext
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
from reconcile.decide.records import ControlCall
from reconcile.errors import ControlFailed, ControlTimeout, StartFailed, StartPostponed, StopFailed, StopPostponed
from reconcile.log import logger

# Pauses between two looks at the status: measured, 2 ms growing to 50 ms costs an upgrade 1.15 of the
# floor; beyond that it grows on, so that a slow agent's script is not run 20 times a second.
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.5
_GROWTH = 1.4
_LOOKS_KEPT = 20
_ENDING_S = 6.0  # from a script's limit until it is over, whatever it does (control_script.py)
_UNHURRIED_S = 0.1  # after a call: until then most agents have come up, and looking at processes would delay that
_CAN_NOT_RUN = (126, 127)  # a shell's exit codes for a command that is not executable, or missing
_NAMED, _COMMAND = 3, 100  # processes in a message, and characters of each one's name


@frozen(kw_only=True)
class _Look:
    """What a status said. `is_short`: it could not be asked for want of resources."""

    process: ProcessState
    said: str
    is_short: bool = False


def stop(action: Stop, tools: StepContext) -> Result:
    """Stop the version in use, and see that its status says so and that its processes end: those that don't within 10
    s are left on the bench as what outlived it. Raise StopFailed, ControlTimeout, WriteFailed, StopPostponed.

    Of one that nobody ever saw up the status need not be understood: it counts as stopped when it does not say started
    and no process of it is left.
    """
    if action.adopt:
        # It can be gone back to without a download only if it is known as complete; a write can fail, so it is first.
        tools.worker.do(adopt, home_of(tools.place), action.version)
    if action.removed:
        return _end_removed(tools)
    return _once_more_if_lost(lambda: _stop(action, tools))


def _end_removed(tools: StepContext) -> Result:
    """End what runs from a removed folder: it has no control script any more. Raise StopFailed."""
    worker = tools.workers.of(tools.place.run_user, tools.control.stop_s + _ENDING_S)
    left = worker.do(processes.end_removed, home_of(tools.place).path, tools.control.stop_s)
    if left:
        name = f"process {left[0].pid} ({sanitize(left[0].command[:_COMMAND])})"
        raise StopFailed(
            f"{name} runs from {sanitize(left[0].path)}, which was removed, and SIGTERM does not end it within "
            f"{tools.control.stop_s:.0f} s (control_timeout.stop); end it by hand"
        )
    return Result.DONE


def _stop(action: Stop, tools: StepContext) -> Result:
    limit = time.monotonic() + tools.control.stop_s
    result = _call(tools, action.version, "stop", tools.control.stop_s)
    if result.is_short:
        raise StopPostponed(result.error)
    looks: list[_Look] = []
    left = ""
    if result.ended is control_script.CallEnd.NOT_STARTED:
        limit = time.monotonic()
    nothing_left = _look_beside(tools, action.version)
    for look in _statuses(tools, action.version, limit):
        if look.process is ProcessState.STOPPED:
            # A first look found nothing while the status was asked: so it costs the downtime nothing.
            tools.bench.outlived = "" if not looks and nothing_left() else _outlived(tools, action.version, limit)
            return Result.DONE
        looks.append(look)
        if action.never_up and not look.is_short and not _was_up(looks):
            left = _left_of(tools, action.version)
            if not left:
                return Result.DONE
    message = f"control stop of {action.version} {_told(result)}, and status still says: {looks[-1].said or 'nothing'}"
    if left and not _was_up(looks):
        message += f"; {left}"
    if result.ended is control_script.CallEnd.TIMED_OUT:
        why = f"{message}; limit {tools.control.stop_s:.0f} s (control_timeout.stop)"
        raise _with_evidence(ControlTimeout(why), result, looks)
    raise _with_evidence(StopFailed(f"{message}; look at its stop, or stop it by hand"), result, looks)


def start(action: Start, tools: StepContext) -> Result:
    """Start the version in use, and see that it says started, twice. Raise StartFailed, ControlTimeout,
    StartPostponed.

    It is over before its limit only where all is surely dead: its call has ended, the status has said stopped for 5 s,
    and no process of it is left; or the call said that a command can't be run.
    """
    return _once_more_if_lost(lambda: _start(action, tools))


def _once_more_if_lost(step: Callable[[], Result]) -> Result:
    """Do a step once more where nobody knows what came of its call, and it had no effect: that is no failure of the
    version's. Twice it is: a script may be what kills those who call it."""
    try:
        return step()
    except ControlFailed as err:
        if not err.lost:
            raise
        logger.warning("{}; it is called once more", err.message)
    return step()


def _start(action: Start, tools: StepContext) -> Result:
    limit = time.monotonic() + tools.control.start_s
    since = procfs.now()
    result = _call(tools, action.version, "start", tools.control.start_s)
    if result.is_short:
        raise StartPostponed(result.error)
    looks: list[_Look] = []
    if result.ended is control_script.CallEnd.NOT_STARTED:
        limit = time.monotonic()  # nothing was set in motion that could be waited for
    death = _Death(tools=tools, version=action.version, since=since)
    given_up = ""
    for look in _statuses(tools, action.version, limit):
        looks.append(look)
        if look.process is not ProcessState.RUNNING:
            given_up = death.certain(look.process, result)
            if given_up:
                break
            continue
        time.sleep(tools.control.second_look_s)
        second = _status(tools, action.version, tools.status.limit_s)
        if second.process is ProcessState.RUNNING:
            return Result.DONE
        said = f"{second.said} (started at first, {tools.control.second_look_s:g} s later no more)"
        looks.append(evolve(second, said=said))
        break
    said = looks[-1].said or "nothing"
    message = f"control start of {action.version} {_told(result)}, and status says: {said}{given_up}"
    if result.ended is control_script.CallEnd.TIMED_OUT:
        why = f"{message}; limit {tools.control.start_s:.0f} s (control_timeout.start)"
        raise _with_evidence(ControlTimeout(why), result, looks)
    log = home_of(tools.place).start_log
    raise _with_evidence(StartFailed(f"{message}; look into {log} and the agent's own log"), result, looks)


@define(kw_only=True)
class _Death:
    """Tells when nothing can come of a start any more. `since`: when it began, as procfs.py counts it."""

    tools: StepContext
    version: str
    since: int | None
    _began: float = field(factory=time.monotonic)
    _stopped_at: float | None = None
    _was_seen: bool = False

    def certain(self, process: ProcessState, call: control_script.ScriptResult) -> str:
        """Why it is surely dead after one more look, for people; empty: it may yet come up.

        What the agent's user began since then may be the agent. Where a process of the version was seen to end that
        counts no more, since others of that user may begin at any time.
        """
        now = time.monotonic()
        if call.ended is control_script.CallEnd.EXITED and call.code in _CAN_NOT_RUN:
            return f"; a command of it can't be run (exit {call.code})"
        if process is not ProcessState.STOPPED:
            self._stopped_at = None
            return ""
        self._stopped_at = now if self._stopped_at is None else self._stopped_at
        if not self._was_seen and now - self._began >= _UNHURRIED_S:
            tree = home_of(self.tools.place).tree(self.version)
            self._was_seen = bool(self.tools.worker.ask(processes.running_from, tree))
        if (
            call.ended is control_script.CallEnd.TIMED_OUT
            or now - self._stopped_at < self.tools.control.dead_s
            or self.since is None
        ):
            return ""
        since = None if self._was_seen else self.since
        return "" if _left_of(self.tools, self.version, since) else "; no process of it is left"


def _was_up(looks: list[_Look]) -> bool:
    return any(look.process is ProcessState.RUNNING for look in looks)


def _with_evidence(err: ControlFailed, result: control_script.ScriptResult, looks: list[_Look]) -> ControlFailed:
    """Keep what the script said, and the last looks at the status, for whoever asks why."""
    err.was_up, err.unseen = _was_up(looks), looks[-1].is_short
    err.lost = result.ended is control_script.CallEnd.LOST
    err.no_fork = could_not_fork(result.text)
    said = [look.said for look in looks]
    runs = [(words, len(list(same))) for words, same in groupby(said)][-_LOOKS_KEPT:]
    samples = "\n".join(f"status: {words or 'nothing'}" + (f" ({times} times)" * (times > 1)) for words, times in runs)
    err.evidence = f"{_told(result)}\n{result.text}\n{samples}"
    return err


def switch(action: Switch, tools: StepContext) -> Result:
    """Make `action.to` the version in use. Raise WriteFailed, DiskTooSmall; then the old one still is.

    A move removes the old home's `.version` last: until then the agent lives there, and after it nowhere but here.
    """
    home = home_of(tools.place)
    match action:
        case SwitchVersion():
            tools.worker.do(switch_version, home, action.to)
        case SwitchTree():
            tools.worker.do(switch_tree, home, action.version, action.previous)
        case SwitchConfig():
            tools.worker.do(switch_config, home, action.version, action.name)
        case MoveHome():
            switch(action.switch, tools)
            tools.at(action.leaves).worker.do(leave_home, home_of(action.leaves))
        case _:
            assert_never(action)
    return Result.DONE


def _look_beside(tools: StepContext, version: str) -> Callable[[], bool]:
    """Begin to look for processes of a version, in a thread; return what waits for it, and says whether it found
    that there are none."""
    found: list[tuple[processes.Process, ...] | None] = []
    tree = home_of(tools.place).tree(version)

    def look() -> None:
        with suppress(UpdaterError):  # it is looked for again, then
            found.append(tools.worker.ask(processes.running_from, tree))

    thread = threading.Thread(target=look, daemon=True, name="look beside")
    try:
        thread.start()
    except RuntimeError:  # no memory for one, or no process: what was stopped must still be started
        return lambda: False

    def none_left() -> bool:
        thread.join()
        return found == [()]

    return none_left


def _outlived(tools: StepContext, version: str, limit: float) -> str:
    """The processes that still run from a version's tree, for people, once they had time to end: 10 s, but not beyond
    `limit` (monotonic seconds). Empty: none, or that can't be told."""
    patience_s = max(0.0, min(tools.control.outlasting_s, limit - time.monotonic()))
    left = tools.worker.ask(processes.outlasting, home_of(tools.place).tree(version), patience_s) or ()
    named = ", ".join(f"{one.pid} ({sanitize(one.command[:_COMMAND])})" for one in left[:_NAMED])
    more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    return f"process {named}{more}" if left else ""


def _left_of(tools: StepContext, version: str, since: int | None = None) -> str:
    """What may still live of a version, for people; empty: nothing, at two looks."""
    tree = home_of(tools.place).tree(version)
    calls = tuple(
        processes.Leader(pid=call.pid, started=call.started) for call in tools.calls() if call.version == version
    )
    for pause in (tools.control.second_look_s, 0):
        pids = tools.worker.ask(processes.left_of, tree, calls, since)
        if pids is None:
            return "whether a process of it is left can't be told here"
        if pids:
            return f"process {pids[0]} still lives in it"
        time.sleep(pause)
    return ""


def _call(tools: StepContext, version: str, verb: str, limit_s: float) -> control_script.ScriptResult:
    """Call a control script to change something, and write down what was spawned: if we are killed meanwhile, the next
    run waits for it. So do we where only our knowledge of it is lost: who made the call for us was killed, for one."""
    noted: list[ControlCall] = []

    def spawned(pid: int) -> None:
        started = procfs.started_at(pid)
        if started is not None:
            call = ControlCall(version=version, verb=verb, pid=pid, started=started, boot=tools.boot, limit_s=limit_s)
            noted.append(call)
            tools.call(call)

    since = procfs.now()
    try:
        result = _control(tools, version, verb, limit_s, spawned)
    except WorkerLost as err:
        logger.warning("control {} of {}: {}; what was called is waited for", verb, version, err.message)
        result = _lost(tools, version, verb, limit_s, _leader(noted, tools, version, verb, since), err.message)
    except UpdaterError:
        raise  # nothing was called
    except Exception as err:
        logger.failure("ERROR", err, "unexpected, please report it: {!r}; what was called is waited for", err)
        result = _lost(tools, version, verb, limit_s, _leader(noted, tools, version, verb, since), repr(err))
    for call in noted:
        tools.over(call)
    return result


def _leader(
    noted: list[ControlCall], tools: StepContext, version: str, verb: str, since: int | None
) -> processes.Leader | None:
    """The process of a call, if it still runs: as it was noted, or by a look, where it was lost before that."""
    if noted:
        return processes.Leader(pid=noted[0].pid, started=noted[0].started)
    return tools.worker.ask(processes.call_under_way, home_of(tools.place).tree(version), verb, since)


def _lost(
    tools: StepContext, version: str, verb: str, limit_s: float, leader: processes.Leader | None, why: str
) -> control_script.ScriptResult:
    """Wait until a call is over, or end it at its limit, as who made it would have."""
    ended = control_script.CallEnd.LOST

    def alive(leader: processes.Leader) -> bool:
        return tools.worker.ask(processes.lives, leader)

    def end(leader: processes.Leader) -> bool:
        return tools.worker.do(processes.end_call, leader)

    if leader is not None and not processes.outwait(leader, limit_s, lambda: False, alive=alive, end=end):
        ended = control_script.CallEnd.TIMED_OUT
    return control_script.ScriptResult(ended=ended, error=why)


def _control(
    tools: StepContext, version: str, verb: str, limit_s: float, spawned: Callable[[int], None] | None = None
) -> control_script.ScriptResult:
    worker = tools.workers.of(tools.place.run_user, limit_s + _ENDING_S)
    result = worker.do(run_control, tools.place, version, verb, limit_s, tools.status.agent_env, spawned)
    return believed_call(result, tools.place.run_user)


def _status(tools: StepContext, version: str, limit_s: float) -> _Look:
    worker = tools.workers.of(tools.place.run_user, limit_s + _ENDING_S)
    result = worker.ask(run_control, tools.place, version, "status", limit_s, tools.status.agent_env)
    result = believed_call(result, tools.place.run_user)
    process, said = judge_status(result, tools.place.name, tools.status.words)
    return _Look(process=process, said=said, is_short=result.is_short)


def _statuses(tools: StepContext, version: str, limit: float) -> Iterator[_Look]:
    """The status, again and again with a growing pause until `limit` (monotonic seconds); once at least."""
    pause = _FIRST_PAUSE_S
    while True:
        left = limit - time.monotonic()
        yield _status(tools, version, max(1.0, min(tools.status.limit_s, left)))
        if time.monotonic() + pause >= limit:
            return
        time.sleep(pause)
        pause = min(pause * _GROWTH, _LONGEST_PAUSE_S)


def _told(result: control_script.ScriptResult) -> str:
    """How a control call went, with its last words, for people."""
    words = last_line(result.output)
    printed = f", printed {words!r}" if words else ", printed nothing"
    match result.ended:
        case control_script.CallEnd.EXITED:
            return f"exited {result.code}{printed}"
        case control_script.CallEnd.SIGNALED:
            return f"died of signal {result.code}{printed}"
        case control_script.CallEnd.TIMED_OUT:
            return f"did not end in time{printed}"
        case control_script.CallEnd.NOT_STARTED:
            return f"could not run ({result.error})"
        case control_script.CallEnd.LOST:
            return f"went nobody knows how ({result.error})"
