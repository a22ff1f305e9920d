"""Stop, switch, start: all that lies in an agent's downtime, and nothing else.

After a stop and a start the status is asked with a growing pause until it says so: what a script exits with, or what
it prints by itself, proves nothing. There is no fixed sleep here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import groupby

from probes.host import processes, read, script
from probes.host.as_user import as_user
from probes.host.paths import AgentHome
from probes.observe import control_call, home_of, judge_status
from probes.observed import (
    STAGED_CONFIG,
    Origin,
    ProcessState,
    next_name,
    previous_name,
)
from probes.status_text import last_line
from reconcile.act.host import write
from reconcile.act.marker import mark
from reconcile.act.tools import Tools
from reconcile.decide.actions import Result, Start, Stop, Switch
from reconcile.decide.records import ControlCall
from reconcile.errors import ControlFailed, ControlTimeout, StartFailed, StopFailed, WriteFailed

# Pauses between two looks at the status: measured, 2 ms growing to 50 ms costs an upgrade 1.15 of the
# floor; beyond that it grows on, so that a slow agent's script is not run 20 times a second.
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.5
_GROWTH = 1.4
_LOOKS_KEPT = 20
START_LOG_LIMIT = 1024 * 1024


def stop(action: Stop, tools: Tools) -> Result:
    """Stop the version in use, and see that its status says so. Raise StopFailed, ControlTimeout, WriteFailed.

    Of one that nobody ever saw up the status need not be understood: it counts as stopped when it does not say started
    and no process of it is left.
    """
    if action.adopt:
        # It can be gone back to without a download only if it is known as complete; a write can fail, so it is first.
        as_user(tools.place.run_user, lambda: _adopt(home_of(tools.place), action.version))
    limit = time.monotonic() + tools.control.stop_s
    result = _call(tools, action.version, "stop", tools.control.stop_s)
    looks: list[str] = []
    was_up, left = False, ""
    if result.ended is script.Ended.NOT_STARTED:
        limit = time.monotonic()
    for process, said in _statuses(tools, action.version, limit):
        if process is ProcessState.STOPPED:
            return Result.DONE
        looks.append(said)
        was_up = was_up or process is ProcessState.RUNNING
        if action.never_up and not was_up:
            left = _left_of(tools, action.version)
            if not left:
                return Result.DONE
    message = f"control stop of {action.version} {_told(result)}, and status still says: {looks[-1] or 'nothing'}"
    if action.never_up and not was_up:
        message += f"; {left}"
    if result.ended is script.Ended.TIMED_OUT:
        why = f"{message}; limit {tools.control.stop_s:.0f} s (control_timeout.stop)"
        raise _with_evidence(ControlTimeout(why), result, looks, was_up=was_up)
    raise _with_evidence(StopFailed(f"{message}; look at its stop, or stop it by hand"), result, looks, was_up=was_up)


def start(action: Start, tools: Tools) -> Result:
    """Start the version in use, and see that it says started, twice. Raise StartFailed, ControlTimeout."""
    limit = time.monotonic() + tools.control.start_s
    result = _call(tools, action.version, "start", tools.control.start_s)
    looks: list[str] = []
    was_up = False
    if result.ended is script.Ended.NOT_STARTED:
        limit = time.monotonic()  # nothing was set in motion that could be waited for
    for process, said in _statuses(tools, action.version, limit):
        looks.append(said)
        if process is not ProcessState.RUNNING:
            continue
        was_up = True
        time.sleep(tools.control.second_look_s)
        process, said = _status(tools, action.version, tools.status.limit_s)
        if process is ProcessState.RUNNING:
            return Result.DONE
        looks.append(f"{said} (started at first, {tools.control.second_look_s:g} s later no more)")
        break
    message = f"control start of {action.version} {_told(result)}, and status says: {looks[-1] or 'nothing'}"
    if result.ended is script.Ended.TIMED_OUT:
        why = f"{message}; limit {tools.control.start_s:.0f} s (control_timeout.start)"
        raise _with_evidence(ControlTimeout(why), result, looks, was_up=was_up)
    log = home_of(tools.place).start_log
    why = f"{message}; look into {log} and the agent's own log"
    raise _with_evidence(StartFailed(why), result, looks, was_up=was_up)


def _with_evidence(err: ControlFailed, result: script.CallResult, looks: list[str], *, was_up: bool) -> ControlFailed:
    """Keep what the script said, and the last looks at the status, for whoever asks why."""
    err.was_up = was_up
    runs = [(said, len(list(same))) for said, same in groupby(looks)][-_LOOKS_KEPT:]
    samples = "\n".join(f"status: {said or 'nothing'}" + (f" ({times} times)" * (times > 1)) for said, times in runs)
    err.evidence = f"{_told(result)}\n{result.text}\n{samples}"
    return err


def switch(action: Switch, tools: Tools) -> Result:
    """Make `action.to` the version in use. Raise WriteFailed, DiskTooSmall; then the old one still is."""
    as_user(tools.place.run_user, lambda: _switch(action, home_of(tools.place)))
    return Result.DONE


def trim_start_log(home: AgentHome) -> None:
    """Keep `.start.log` bounded: a daemon that talks on writes into it for ever."""
    script.truncate_log(home.start_log, START_LOG_LIMIT)


def _left_of(tools: Tools, version: str) -> str:
    """What may still live of a version, for people; empty: nothing, at two looks."""
    tree = home_of(tools.place).tree(version)
    calls = [processes.Leader(pid=call.pid, started=call.started) for call in tools.calls() if call.version == version]
    for pause in (tools.control.second_look_s, 0):
        pids = as_user(tools.place.run_user, lambda: processes.left_of(tree, calls))
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

    return script.run(_control(tools, version, verb, limit_s), spawned)


def _control(tools: Tools, version: str, verb: str, limit_s: float) -> script.Call:
    return control_call(tools.place, version, verb, limit_s=limit_s, agent_env=tools.status.agent_env)


def _status(tools: Tools, version: str, limit_s: float) -> tuple[ProcessState, str]:
    return judge_status(script.run(_control(tools, version, "status", limit_s)), tools.place.name)


def _statuses(tools: Tools, version: str, limit: float) -> Iterator[tuple[ProcessState, str]]:
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


def _adopt(home: AgentHome, version: str) -> None:
    tree_fd = write.open_dir(home.tree(version))
    try:
        mark(tree_fd, Origin.ADOPTED)
    finally:
        os.close(tree_fd)


def _switch(action: Switch, home: AgentHome) -> None:
    home_fd = write.open_dir(home.path)
    try:
        if action.replace:
            _replace(home_fd, home, action)
        elif action.config is not None:
            _take_config(home_fd, home, action.to, action.config)
        else:
            if not os.path.isfile(home.control(action.to)):
                raise WriteFailed(
                    f"{home.tree(action.to)} is not complete any more; somebody removed it: nothing is switched"
                )
            # Without a line end: of the two forms in the field it is the one that today's updater writes.
            write.replace_file(home_fd, ".version", action.to.encode())
    finally:
        os.close(home_fd)


def _replace(home_fd: int, home: AgentHome, action: Switch) -> None:
    """Exchange a version's tree with its replacement, or back with the one that was displaced.

    The displaced one stays as `.previous-{version}`. Without renameat2 it takes two renames; an earlier run that
    stopped between them left the version missing, and only the second is made.
    """
    version = action.to
    displaced = previous_name(version)
    source, aside = (displaced, next_name(version)) if action.displaced else (next_name(version), displaced)
    with read.open_directory(version, dir_fd=home_fd) as tree_fd:
        whole = tree_fd is not None and read.has_control(tree_fd)
    if not whole:
        # Nothing to go back to: an earlier run stopped between the two renames, or somebody broke the tree, and what
        # is left of it must not pass for a displaced one.
        if os.path.lexists(home.path / source):
            write.remove_tree(home_fd, version)
        write.rename(home_fd, source, version)
        return
    write.remove_tree(home_fd, aside)
    if action.displaced:
        if not write.exchange(home_fd, version, source):
            write.rename(home_fd, version, aside)
            write.rename(home_fd, source, version)
        return
    # Under the displaced one's name before the exchange: so there is no moment without a way back.
    write.rename(home_fd, source, aside)
    if not write.exchange(home_fd, version, aside):
        write.rename(home_fd, aside, source)
        write.rename(home_fd, version, aside)
        write.rename(home_fd, source, version)


def _take_config(home_fd: int, home: AgentHome, version: str, name: str) -> None:
    tree_fd = write.open_dir(home.tree(version))
    try:
        os.rename(STAGED_CONFIG, name, src_dir_fd=home_fd, dst_dir_fd=tree_fd)
        write.sync_dir(tree_fd)
        write.sync_dir(home_fd)
    except OSError as err:
        raise write.as_error(err, "put the config in place", str(home.tree(version) / name)) from err
    finally:
        os.close(tree_fd)
