"""Stop, switch, start: all that lies in an agent's downtime, and nothing else.

After a stop and a start the status is asked with a growing pause until it says so: what a script exits with, or what
it prints by itself, proves nothing. There is no fixed sleep here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import groupby

from attrs import evolve

from probes.host import processes, script
from probes.look import run_control
from probes.observe import believed_call, home_of, judge_status
from probes.observed import ProcessState
from probes.status_text import last_line
from probes.values import frozen
from reconcile.act.at_home import adopt, leave_home, switch_config, switch_tree, switch_version
from reconcile.act.tools import Tools
from reconcile.decide.actions import Result, Start, Stop, Switch
from reconcile.decide.records import ControlCall
from reconcile.errors import (
    ControlFailed,
    ControlTimeout,
    StartFailed,
    StartPostponed,
    StopFailed,
    StopPostponed,
)

# Pauses between two looks at the status: measured, 2 ms growing to 50 ms costs an upgrade 1.15 of the
# floor; beyond that it grows on, so that a slow agent's script is not run 20 times a second.
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.5
_GROWTH = 1.4
_LOOKS_KEPT = 20
_ENDING_S = 6.0  # from a script's limit until it is over, whatever it does (script.py)


@frozen(kw_only=True)
class _Look:
    """What a status said. `is_short`: it could not be asked for want of resources."""

    process: ProcessState
    said: str
    is_short: bool = False


def stop(action: Stop, tools: Tools) -> Result:
    """Stop the version in use, and see that its status says so. Raise StopFailed, ControlTimeout, WriteFailed,
    StopPostponed.

    Of one that nobody ever saw up the status need not be understood: it counts as stopped when it does not say started
    and no process of it is left.
    """
    if action.adopt:
        # It can be gone back to without a download only if it is known as complete; a write can fail, so it is first.
        tools.hand.do(adopt, home_of(tools.place), action.version)
    limit = time.monotonic() + tools.control.stop_s
    result = _call(tools, action.version, "stop", tools.control.stop_s)
    if result.is_short:
        raise StopPostponed(result.error)
    looks: list[_Look] = []
    left = ""
    if result.ended is script.Ended.NOT_STARTED:
        limit = time.monotonic()
    for look in _statuses(tools, action.version, limit):
        if look.process is ProcessState.STOPPED:
            return Result.DONE
        looks.append(look)
        if action.never_up and not look.is_short and not _was_up(looks):
            left = _left_of(tools, action.version)
            if not left:
                return Result.DONE
    message = f"control stop of {action.version} {_told(result)}, and status still says: {looks[-1].said or 'nothing'}"
    if left and not _was_up(looks):
        message += f"; {left}"
    if result.ended is script.Ended.TIMED_OUT:
        why = f"{message}; limit {tools.control.stop_s:.0f} s (control_timeout.stop)"
        raise _with_evidence(ControlTimeout(why), result, looks)
    raise _with_evidence(StopFailed(f"{message}; look at its stop, or stop it by hand"), result, looks)


def start(action: Start, tools: Tools) -> Result:
    """Start the version in use, and see that it says started, twice. Raise StartFailed, ControlTimeout,
    StartPostponed."""
    limit = time.monotonic() + tools.control.start_s
    result = _call(tools, action.version, "start", tools.control.start_s)
    if result.is_short:
        raise StartPostponed(result.error)
    looks: list[_Look] = []
    if result.ended is script.Ended.NOT_STARTED:
        limit = time.monotonic()  # nothing was set in motion that could be waited for
    for look in _statuses(tools, action.version, limit):
        looks.append(look)
        if look.process is not ProcessState.RUNNING:
            continue
        time.sleep(tools.control.second_look_s)
        second = _status(tools, action.version, tools.status.limit_s)
        if second.process is ProcessState.RUNNING:
            return Result.DONE
        said = f"{second.said} (started at first, {tools.control.second_look_s:g} s later no more)"
        looks.append(evolve(second, said=said))
        break
    message = f"control start of {action.version} {_told(result)}, and status says: {looks[-1].said or 'nothing'}"
    if result.ended is script.Ended.TIMED_OUT:
        why = f"{message}; limit {tools.control.start_s:.0f} s (control_timeout.start)"
        raise _with_evidence(ControlTimeout(why), result, looks)
    log = home_of(tools.place).start_log
    raise _with_evidence(StartFailed(f"{message}; look into {log} and the agent's own log"), result, looks)


def _was_up(looks: list[_Look]) -> bool:
    return any(look.process is ProcessState.RUNNING for look in looks)


def _with_evidence(err: ControlFailed, result: script.CallResult, looks: list[_Look]) -> ControlFailed:
    """Keep what the script said, and the last looks at the status, for whoever asks why."""
    err.was_up, err.unseen = _was_up(looks), looks[-1].is_short
    said = [look.said for look in looks]
    runs = [(words, len(list(same))) for words, same in groupby(said)][-_LOOKS_KEPT:]
    samples = "\n".join(f"status: {words or 'nothing'}" + (f" ({times} times)" * (times > 1)) for words, times in runs)
    err.evidence = f"{_told(result)}\n{result.text}\n{samples}"
    return err


def switch(action: Switch, tools: Tools) -> Result:
    """Make `action.to` the version in use. Raise WriteFailed, DiskTooSmall; then the old one still is.

    Of a move the old home's `.version` goes last: until then it lives there, and after it nowhere but here.
    """
    home = home_of(tools.place)
    if action.replace:
        tools.hand.do(switch_tree, home, action.to, action.displaced)
    elif action.config is not None:
        tools.hand.do(switch_config, home, action.to, action.config)
    else:
        tools.hand.do(switch_version, home, action.to)
    if action.leaves is not None:
        tools.at(action.leaves).hand.do(leave_home, home_of(action.leaves))
    return Result.DONE


def _left_of(tools: Tools, version: str) -> str:
    """What may still live of a version, for people; empty: nothing, at two looks."""
    tree = home_of(tools.place).tree(version)
    calls = tuple(
        processes.Leader(pid=call.pid, started=call.started) for call in tools.calls() if call.version == version
    )
    for pause in (tools.control.second_look_s, 0):
        pids = tools.hand.do(processes.left_of, tree, calls)
        if pids is None:
            return "whether a process of it is left can't be told here"
        if pids:
            return f"process {pids[0]} still lives in it"
        time.sleep(pause)
    return ""


def _call(tools: Tools, version: str, verb: str, limit_s: float) -> script.CallResult:
    """Call a control script to change something, and write down what was spawned: if we are killed meanwhile, the next
    run waits for it."""

    def spawned(pid: int) -> None:
        started = processes.started_at(pid)
        if started is not None:
            call = ControlCall(version=version, verb=verb, pid=pid, started=started, boot=tools.boot, limit_s=limit_s)
            tools.call(call)

    return _control(tools, version, verb, limit_s, spawned)


def _control(
    tools: Tools, version: str, verb: str, limit_s: float, spawned: Callable[[int], None] | None = None
) -> script.CallResult:
    hand = tools.hands.of(tools.place.run_user, limit_s + _ENDING_S)
    result = hand.do(run_control, tools.place, version, verb, limit_s, tools.status.agent_env, spawned)
    return believed_call(result, tools.place.run_user)


def _status(tools: Tools, version: str, limit_s: float) -> _Look:
    result = _control(tools, version, "status", limit_s)
    process, said = judge_status(result, tools.place.name, tools.status.words)
    return _Look(process=process, said=said, is_short=result.is_short)


def _statuses(tools: Tools, version: str, limit: float) -> Iterator[_Look]:
    """The status, again and again with a growing pause until `limit` (monotonic seconds); once at least."""
    pause = _FIRST_PAUSE_S
    while True:
        left = limit - time.monotonic()
        yield _status(tools, version, max(1.0, min(tools.status.limit_s, left)))
        if time.monotonic() + pause >= limit:
            return
        time.sleep(pause)
        pause = min(pause * _GROWTH, _LONGEST_PAUSE_S)


def _told(result: script.CallResult) -> str:
    """How a control call went, with its last words, for people."""
    words = last_line(result.output)
    printed = f", printed {words!r}" if words else ", printed nothing"
    match result.ended:
        case script.Ended.EXITED:
            return f"exited {result.code}{printed}"
        case script.Ended.SIGNALED:
            return f"died of signal {result.code}{printed}"
        case script.Ended.TIMED_OUT:
            return f"did not end in time{printed}"
        case script.Ended.NOT_STARTED:
            return f"could not run ({result.error})"
