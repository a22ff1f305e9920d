"""Control calls of an agent: one that changes something is written down and waited for, and the status is asked again
and again, each as the agent's user.

What a script exits with, or what it prints, proves nothing; what its status says is judged in probes/status_parser.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import groupby

from probes.errors import UpdaterError, WorkerLost
from probes.home import home_of, judge_status, run_control
from probes.host import control_script, processes, procfs
from probes.observe import believed_call
from probes.observed import ProcessState
from probes.status_parser import could_not_fork, last_words
from probes.values import frozen
from reconcile.act.context import StepContext
from reconcile.decide.records.record import ControlCall
from reconcile.errors import ControlFailed
from reconcile.log import logger

# Pauses between two questions for the status: measured, 2 ms growing to 50 ms costs an upgrade 1.15 of the
# floor; beyond that it grows on, so that a slow agent's script is not run 20 times a second.
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.5
_GROWTH = 1.4
_STATUSES_AT_MOST = 20
ENDING_S = 6.0  # from a script's limit until it is over, whatever it does (control_script.py)


@frozen(kw_only=True)
class StatusAnswer:
    """What a status printed, and what that means. `is_short`: it could not be asked for want of resources."""

    process: ProcessState
    output: str
    is_short: bool = False


def call_control(context: StepContext, version: str, verb: str, limit_s: float) -> control_script.ScriptResult:
    """Call a control script to change something, and write down what was spawned: the next run waits for it if this one
    is killed meanwhile. This run waits for it where only its result is lost, with the worker that made the call."""
    noted: list[ControlCall] = []

    def spawned(pid: int) -> None:
        started = procfs.started_at(pid)
        if started is not None:
            call = ControlCall(version=version, verb=verb, pid=pid, started=started, boot=context.boot, limit_s=limit_s)
            noted.append(call)
            context.call(call)

    since = procfs.now()
    try:
        result = _control(context, version, verb, limit_s, spawned)
    except WorkerLost as err:
        logger.warning("control {} of {}: {}; what was called is waited for", verb, version, err.message)
        result = _lost(context, version, verb, limit_s, _leader(noted, context, version, verb, since), err.message)
    except UpdaterError:
        raise  # nothing was called
    except Exception as err:
        logger.failure("ERROR", err, "unexpected, please report it: {!r}; what was called is waited for", err)
        result = _lost(context, version, verb, limit_s, _leader(noted, context, version, verb, since), repr(err))
    for call in noted:
        context.over(call)
    return result


def _leader(
    noted: list[ControlCall], context: StepContext, version: str, verb: str, since: int | None
) -> processes.Leader | None:
    """The process of a call, if it still runs: as it was noted, or as it is found where it was lost before that."""
    if noted:
        return processes.Leader(pid=noted[0].pid, started=noted[0].started)
    return context.worker.ask(processes.running_call, home_of(context.home).tree(version), verb, since)


def _lost(
    context: StepContext, version: str, verb: str, limit_s: float, leader: processes.Leader | None, why: str
) -> control_script.ScriptResult:
    """Wait until a call is over, or end it at its limit, as its lost caller would have."""
    ended = control_script.CallEnd.LOST

    def alive(leader: processes.Leader) -> bool:
        return context.worker.ask(processes.lives, leader)

    def end(leader: processes.Leader) -> bool:
        return context.worker.do(processes.end_call, leader)

    if leader is not None and not processes.outwait(leader, limit_s, lambda: False, alive=alive, end=end):
        ended = control_script.CallEnd.TIMED_OUT
    return control_script.ScriptResult(ended=ended, error=why)


def _control(
    context: StepContext, version: str, verb: str, limit_s: float, spawned: Callable[[int], None] | None = None
) -> control_script.ScriptResult:
    worker = context.workers.of(context.home.run_user, limit_s + ENDING_S)
    result = worker.do(run_control, context.home, version, verb, limit_s, context.status.agent_env, spawned)
    return believed_call(result, context.home.run_user)


def ask_status(context: StepContext, version: str, limit_s: float) -> StatusAnswer:
    """Ask a version's status once. Raise UpdaterError where the agent's user can't be become."""
    worker = context.workers.of(context.home.run_user, limit_s + ENDING_S)
    result = worker.ask(run_control, context.home, version, "status", limit_s, context.status.agent_env)
    result = believed_call(result, context.home.run_user)
    process, output = judge_status(result, context.home.name, context.status.words)
    return StatusAnswer(process=process, output=output, is_short=result.is_short)


def ask_statuses(context: StepContext, version: str, limit: float) -> Iterator[StatusAnswer]:
    """The status, again and again with a growing pause until `limit` (monotonic seconds); once at least."""
    pause = _FIRST_PAUSE_S
    while True:
        left = limit - time.monotonic()
        yield ask_status(context, version, max(1.0, min(context.status.limit_s, left)))
        if time.monotonic() + pause >= limit:
            return
        time.sleep(pause)
        pause = min(pause * _GROWTH, _LONGEST_PAUSE_S)


def was_running(answers: list[StatusAnswer]) -> bool:
    """Whether a status said started meanwhile."""
    return any(answer.process is ProcessState.RUNNING for answer in answers)


def with_evidence(
    err: ControlFailed, result: control_script.ScriptResult, answers: list[StatusAnswer]
) -> ControlFailed:
    """Keep what the script printed, and the last answers of the status, for `why`."""
    err.was_up, err.unseen = was_running(answers), answers[-1].is_short
    err.lost = result.ended is control_script.CallEnd.LOST
    err.no_fork = could_not_fork(result.text)
    outputs = [answer.output for answer in answers]
    runs = [(words, len(list(same))) for words, same in groupby(outputs)][-_STATUSES_AT_MOST:]
    samples = "\n".join(f"status: {words or 'nothing'}" + (f" ({times} times)" * (times > 1)) for words, times in runs)
    err.evidence = f"{_ending(result) if last_words(result.output) else summary(result)}\n{result.text}\n{samples}"
    return err


def summary(result: control_script.ScriptResult) -> str:
    """How a control call went, with its last words, for people."""
    if result.ended in (control_script.CallEnd.NOT_STARTED, control_script.CallEnd.LOST):
        return _ending(result)
    words = last_words(result.output)
    return f"{_ending(result)}, printed {words!r}" if words else f"{_ending(result)}, printed nothing"


def _ending(result: control_script.ScriptResult) -> str:
    match result.ended:
        case control_script.CallEnd.EXITED:
            return f"exited {result.code}"
        case control_script.CallEnd.SIGNALED:
            return f"died of signal {result.code}"
        case control_script.CallEnd.TIMED_OUT:
            return "did not end in time"
        case control_script.CallEnd.NOT_STARTED:
            return f"could not run ({result.error})"
        case control_script.CallEnd.LOST:
            return f"ended in an unknown way ({result.error})"
