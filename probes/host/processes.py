"""An agent's processes: those that run from a tree, those that a start may have left, and control calls.

A process is known by its id and its start time together: ids are used again. Where there is no /proc (procfs.py),
None comes back. All of it is called as the agent's user, whose processes it is about: the kernel shows no paths
of another user's. Nothing is decided here, and nothing is signalled but a call of our own whose time is over, and what
was removed while it ran.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from probes.host import procfs
from probes.values import frozen

_PAUSE_S = 0.02
_GRACE_S = 2.0  # from SIGTERM to SIGKILL, as of a call of this run (control_script.py)
_ABANDON_S = 3.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.05  # between two looks for what is left, where there are no pidfds
_COMMAND = 100  # characters of a program's name
_DELETED = " (deleted)"  # what the kernel adds to the path of what was removed


@frozen(kw_only=True)
class Process:
    """A process that runs from a tree. `command`: the name that its program was called by, without the arguments, which
    may hold secrets. `path`: its working directory, or its program, in the tree. `is_removed`: all of it that lay in
    the tree was removed meanwhile. `has_terminal`: a person works with it."""

    pid: int
    command: str
    path: str
    is_removed: bool = False
    has_terminal: bool = False


Runs = Mapping[int, tuple[str, ...]]
"""Working directory and program of each process, as far as they may be seen."""


@frozen(kw_only=True)
class Leader:
    """The process of a control call, which leads a session of its own. `started`: clock ticks since the boot."""

    pid: int
    started: int


def lives(leader: Leader) -> bool:
    """Whether this very process still runs; a zombie doesn't."""
    found = procfs.stat(leader.pid)
    return found is not None and found.started == leader.started and not found.is_dead


def age(leader: Leader) -> float:
    """Seconds since it started, by the clock that can't be set; 0 where that is not known."""
    uptime = procfs.uptime()
    return 0.0 if uptime is None else max(0.0, uptime - leader.started / os.sysconf("SC_CLK_TCK"))


def outwait(
    leader: Leader,
    limit_s: float,
    is_cancelled: Callable[[], bool],
    *,
    alive: Callable[[Leader], bool] | None = None,
    end: Callable[[Leader], bool] | None = None,
) -> bool:
    """Wait for a call whose caller is gone until its limit, counted from its start; then end it, as its caller would
    have. Return False where it lives on: `is_cancelled` said so, or nothing ends it.

    `alive`, `end`: `lives` and `end_call`, done as the call's user, to whom alone it may be visible.
    """
    alive = alive or lives
    if _holds_within(limit_s - age(leader), lambda: is_cancelled() or not alive(leader)):
        return not alive(leader)
    return (end or end_call)(leader)


def running_call(tree: Path, verb: str, since: int | None) -> Leader | None:
    """A control call of our user's in a tree that began since then and still runs; None: none is found."""
    inside = {os.path.realpath(tree), f"{os.path.realpath(tree)}{_DELETED}"}
    for pid, stat in procfs.living().items():
        if stat.session != pid or (since is not None and stat.started < since) or not _is_of_our_user(pid):
            continue
        if _is_call(pid, verb) and procfs.directory(pid) in inside and procfs.sees_our_files(pid):
            return Leader(pid=pid, started=stat.started)
    return None


def _is_call(pid: int, verb: str) -> bool:
    """Whether a process was called as a control script with this verb."""
    words = procfs.words(pid)
    return len(words) > 1 and os.path.basename(words[-2]) == b"control" and words[-1] == os.fsencode(verb)


def end_call(leader: Leader, grace_s: float = _GRACE_S) -> bool:
    """End a call's process group; whether that is done. To be called as the user whose call it was: of another user
    it is that user's word which process it is. `grace_s`: from SIGTERM to SIGKILL."""
    for number, patience in ((signal.SIGTERM, grace_s), (signal.SIGKILL, _ABANDON_S)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader.pid, number)
        if _holds_within(patience, lambda: not _members(leader)):
            return True
    return False


def left_of_call(leader: Leader) -> tuple[tuple[int, str], ...]:
    """Who lives in the session of a call: the ids, and the names that their programs were called by."""
    return tuple((pid, _command(pid)) for pid in sorted(_members(leader)))


def runs() -> Runs:
    """What all processes run from, for `running_from` of many trees."""
    return {pid: tuple(_runs_from(pid)) for pid in procfs.pids()}


def running_from(tree: Path, among: Runs | None = None) -> tuple[Process, ...] | None:
    """The processes of our user whose program or working directory lies in `tree`, or lay there when it was removed;
    None where that is not known. This process is not among them, nor its ancestors (an operator's shell, for one), nor
    the control calls that it makes just now."""
    if procfs.stat(os.getpid()) is None:
        return None
    found = list(_running_in(_places(tree), runs() if among is None else among))
    ours = procfs.ancestry(os.getpid()) if found else []
    return tuple(process for process in found if process.pid not in ours)


def _running_in(places: set[str], among: Runs) -> Iterator[Process]:
    for pid, paths in sorted(among.items()):
        inside = [path for path in paths if _leads_into(path, places)]
        if not inside or not _is_of_our_user(pid) or not procfs.sees_our_files(pid):
            continue
        stat = procfs.stat(pid)
        if not _is_call_of_ours(stat):
            yield Process(
                pid=pid,
                command=_command(pid),
                path=inside[0].removesuffix(_DELETED),
                is_removed=all(path.endswith(_DELETED) for path in inside),
                has_terminal=stat is not None and stat.terminal != 0,
            )


def _is_call_of_ours(stat: procfs.Stat | None) -> bool:
    """Whether a process belongs to a call under way: its session's leader is our child. As the first process we adopt
    daemons, too."""
    leader = None if stat is None else procfs.stat(stat.session)
    return leader is not None and leader.parent == os.getpid() != 1


def end_removed(folder: Path, limit_s: float) -> tuple[Process, ...]:
    """Ask the processes that run from what was removed in a folder to end (SIGTERM), and wait so long for it; return
    what is left. What has a terminal is a person's, and is left alone."""
    until, pause = time.monotonic() + limit_s, _FIRST_PAUSE_S
    asked: set[int] = set()
    while left := tuple(one for one in running_from(folder) or () if one.is_removed and not one.has_terminal):
        for process in left:
            if process.pid not in asked:
                asked.add(process.pid)
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGTERM)
        if time.monotonic() >= until:
            break
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    return left


def outlasting(tree: Path, patience_s: float) -> tuple[Process, ...] | None:
    """What of `running_from` is left once it had so long to end; returns at once when nothing is."""
    until, pause = time.monotonic() + patience_s, _FIRST_PAUSE_S
    while left := running_from(tree):
        rest = until - time.monotonic()
        if rest <= 0 or not _wait_for_an_end(left, rest):
            break
        time.sleep(min(pause, max(0.0, until - time.monotonic())))  # its others may be about to end as well
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    return left


def _wait_for_an_end(left: tuple[Process, ...], rest_s: float) -> bool:
    """Wait until one of them ends, where the kernel notifies of that; whether it is worth another look."""
    fds = []
    poller = select.poll()
    try:
        for process in left:
            fds.append(os.pidfd_open(process.pid))
            poller.register(fds[-1], select.POLLIN)
        return bool(poller.poll(1000 * rest_s))
    except (AttributeError, OSError):
        return True  # gone meanwhile, or no such descriptors here: the pause does
    finally:
        for fd in fds:
            os.close(fd)


def left_of(tree: Path, calls: tuple[Leader, ...], since: int | None = None) -> tuple[int, ...] | None:
    """Ids of processes that may be what a version started, except for this one; None where that is not known.

    Those whose working directory, program, arguments or open files lie in its `tree`, those of the sessions of our own
    `calls`, and with `since` (clock ticks since the boot) those of our user that began then or later, as far as nothing
    shows them to be another program's. Without `since` what has left all of that behind (another directory, session and
    program, no file open) isn't found, nor is ever what hides from its own user.
    """
    if procfs.stat(os.getpid()) is None:
        return None
    places = _places(tree)
    living = procfs.living()
    of_calls = {pid for call in calls for pid in _members(call)}
    inside = {pid for pid in living if any(_lies_in(path, places) for path in _paths(pid))}
    inside = {pid for pid in inside if procfs.sees_our_files(pid)}
    begun = set() if since is None else _orphans_since(since, living, of_calls | inside)
    return tuple(sorted((of_calls | inside | begun) - {os.getpid()}))


def _orphans_since(since: int, living: dict[int, procfs.Stat], tied: set[int]) -> set[int]:
    """Processes of our user that began since then, and are no child of what has nothing to do with it.

    A daemon's parent has ended, so it is the child of what adopts orphans: the first process, or one above us that
    leads a session. What another program of this user starts meanwhile is that program's child, and what runs in
    another directory with a `control` is another agent, or another version.
    """
    above = {pid for pid in procfs.ancestry(os.getpid()) if pid in living and living[pid].session == pid}
    parents = ({0, 1} | above | tied) - ({os.getpid()} - {1})
    found: set[int] = set()
    for pid, stat in sorted(living.items(), key=lambda item: (item[1].started, item[0])):
        is_new = stat.started >= since and stat.parent in parents and _is_of_our_user(pid)
        if is_new and (pid in tied or not os.path.lexists(f"/proc/{pid}/cwd/control")):
            found.add(pid)
            parents.add(pid)
    return found


def _is_of_our_user(pid: int) -> bool:
    return procfs.owner(pid) == os.geteuid()


def _command(pid: int) -> str:
    """The name that a process' program was called by, as it is; its own name where there is none."""
    called = next(iter(procfs.words(pid)), b"").strip() or procfs.name(pid)
    return called.decode("utf-8", "backslashreplace")[:_COMMAND]


def _members(leader: Leader) -> list[int]:
    """Who lives in the session of a call. An id stays taken as long as a session bears it, so one whose bearer started
    at another time is another session."""
    if procfs.started_at(leader.pid) not in (None, leader.started):
        return []
    return [pid for pid, stat in procfs.living().items() if stat.session == leader.pid]


def _holds_within(seconds: float, condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(_PAUSE_S)
    return True


def _runs_from(pid: int) -> Iterator[str]:
    """A process' working directory and program; a zombie has neither."""
    yield from filter(None, (procfs.directory(pid), procfs.program(pid)))


def _paths(pid: int) -> Iterator[str]:
    """What ties a process to a place: working directory, program, open files, and its arguments."""
    yield from _runs_from(pid)
    yield from (target for _, target in procfs.open_files(pid))
    yield from map(os.fsdecode, procfs.words(pid))


def _places(tree: Path) -> set[str]:
    return {f"{os.path.realpath(tree)}/", f"{tree}/"}


def _leads_into(path: str, places: set[str]) -> bool:
    return f"{path.removesuffix(_DELETED)}/".startswith(tuple(places))


def _lies_in(path: str, places: Iterable[str]) -> bool:
    """Whether a path is a place, or something in it; an argument may hold more than a path (`-cp a.jar:b.jar`)."""
    return any(place in f"{path.removesuffix(_DELETED)}/" for place in places)
