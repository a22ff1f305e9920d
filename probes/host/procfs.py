"""Processes as /proc shows them: those that run from a tree, those that a start may have left, and control calls.

A process is known by its id and its start time together: ids are used again. Linux only; elsewhere nothing can be told,
and that is what comes back. All of it is called as the agent's user, whose processes it is about: of another user's
the kernel tells no paths. Nothing is decided here, and nothing is signalled but a call of our own whose time is over.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from probes.values import frozen

_PAUSE_S = 0.02
_GRACE_S = 2.0  # from SIGTERM to SIGKILL, as of a call of this run (control_script.py)
_ABANDON_S = 3.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.05  # between two looks for what is left, where no descriptor tells its end
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


@frozen(kw_only=True)
class _Stat:
    state: str
    parent: int
    session: int
    terminal: int
    started: int


def started_at(pid: int) -> int | None:
    """When a process started, in clock ticks since the boot; None where that can't be told."""
    found = _stat(pid)
    return None if found is None else found.started


def now() -> int | None:
    """The time as `started_at` counts it; None where that can't be told."""
    uptime = _uptime()
    return None if uptime is None else int(uptime * os.sysconf("SC_CLK_TCK"))


def lives(leader: Leader) -> bool:
    """Whether this very process still runs; a zombie doesn't."""
    found = _stat(leader.pid)
    return found is not None and found.started == leader.started and found.state not in "ZX"


def age(leader: Leader) -> float:
    """Seconds since it started, by the clock that no one can set; 0 where that can't be told."""
    uptime = _uptime()
    return 0.0 if uptime is None else max(0.0, uptime - leader.started / os.sysconf("SC_CLK_TCK"))


def _uptime() -> float | None:
    with suppress(OSError, ValueError, IndexError):
        return float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    return None


def outwait(
    leader: Leader,
    limit_s: float,
    given_up: Callable[[], bool],
    *,
    alive: Callable[[Leader], bool] | None = None,
    end: Callable[[Leader], bool] | None = None,
) -> bool:
    """Wait for a call whose caller is gone until its limit, counted from its start; then end it, as its caller would
    have. Return False where it lives on: `given_up` said so, or nothing ends it.

    `alive`, `end`: `lives` and `end_call`, done as the call's user, to whom alone it may be visible.
    """
    alive = alive or lives
    if _holds_within(limit_s - age(leader), lambda: given_up() or not alive(leader)):
        return not alive(leader)
    return (end or end_call)(leader)


def call_under_way(tree: Path, verb: str, since: int | None) -> Leader | None:
    """A control call of our user's in a tree that began since then and still runs; None: none is found."""
    inside = {os.path.realpath(tree), f"{os.path.realpath(tree)}{_DELETED}"}
    for pid, stat in _living().items():
        if stat.session != pid or (since is not None and stat.started < since) or not _is_of_our_user(pid):
            continue
        with suppress(OSError):
            words = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).removesuffix("\0").split("\0")
            is_call = len(words) > 1 and os.path.basename(words[-2]) == "control" and words[-1] == verb
            if is_call and os.readlink(f"/proc/{pid}/cwd") in inside:
                return Leader(pid=pid, started=stat.started)
    return None


def end_call(leader: Leader) -> bool:
    """End a call's process group; whether that is done. To be called as the user whose call it was: of another user
    it is that user's word which process it is."""
    for number, patience in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _ABANDON_S)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader.pid, number)
        if _holds_within(patience, lambda: not _members(leader)):
            return True
    return False


def runs() -> Runs:
    """What all processes run from, for `running_from` of many trees."""
    return {pid: tuple(_runs_from(pid)) for pid in _ids()}


def running_from(tree: Path, among: Runs | None = None) -> tuple[Process, ...] | None:
    """The processes of our user whose program or working directory lies in `tree`, or lay there when it was removed;
    None where that can't be told. Neither we are among them, nor who called us (an operator's shell, for one), nor the
    control calls that we make just now."""
    if _stat(os.getpid()) is None:
        return None
    places = _places(tree)
    found = {}
    for pid, paths in (runs() if among is None else among).items():
        inside = [path for path in paths if _leads_into(path, places)]
        if inside and _is_of_our_user(pid):
            stat = _stat(pid)
            if stat is not None and _is_call_of_ours(stat):
                continue
            found[pid] = Process(
                pid=pid,
                command=_command(pid),
                path=inside[0].removesuffix(_DELETED),
                is_removed=all(path.endswith(_DELETED) for path in inside),
                has_terminal=stat is not None and stat.terminal != 0,
            )
    ours = _our_line() if found else ()
    return tuple(found[pid] for pid in sorted(found) if pid not in ours)


def _is_call_of_ours(stat: _Stat) -> bool:
    """Whether a process belongs to a call under way: its session's leader is our child. As the first process we adopt
    daemons, too."""
    leader = _stat(stat.session)
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
    """Wait until one of them ends, where the kernel tells that; whether it is worth another look."""
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
    """Ids of processes that may be what a version started, ourselves excepted; None where that can't be told.

    Those whose working directory, program, arguments or open files lie in its `tree`, those of the sessions of our own
    `calls`, and with `since` (clock ticks since the boot) those of our user that began then or later, as far as nothing
    shows them to be another program's. Without `since` what has left all of that behind (another directory, session and
    program, no file open) isn't found, nor is ever what hides from its own user.
    """
    if _stat(os.getpid()) is None:
        return None
    places = _places(tree)
    living = _living()
    of_calls = {pid for call in calls for pid in _members(call)}
    inside = {pid for pid in living if any(_lies_in(path, places) for path in _paths(pid))}
    begun = set() if since is None else _orphans_since(since, living, of_calls | inside)
    return tuple(sorted((of_calls | inside | begun) - {os.getpid()}))


def _orphans_since(since: int, living: dict[int, _Stat], tied: set[int]) -> set[int]:
    """Processes of our user that began since then, and are no child of what has nothing to do with it.

    A daemon's parent has ended, so it is the child of what adopts orphans: the first process, or one above us that
    leads a session. What another program of this user starts meanwhile is that program's child, and what runs in
    another directory with a `control` is another agent, or another version.
    """
    above = {pid for pid in _our_line() if pid in living and living[pid].session == pid}
    parents = ({0, 1} | above | tied) - ({os.getpid()} - {1})
    found: set[int] = set()
    for pid, stat in sorted(living.items(), key=lambda item: (item[1].started, item[0])):
        is_new = stat.started >= since and stat.parent in parents and _is_of_our_user(pid)
        if is_new and (pid in tied or not os.path.lexists(f"/proc/{pid}/cwd/control")):
            found.add(pid)
            parents.add(pid)
    return found


def _our_line() -> set[int]:
    """Us, our parent, and so on."""
    line: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in line:
        line.add(pid)
        stat = _stat(pid)
        pid = 0 if stat is None else stat.parent
    return line


def _is_of_our_user(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid()
    except OSError:
        return False


def _command(pid: int) -> str:
    """The name that a process' program was called by, as it is; its own name where there is none."""
    for name in ("cmdline", "comm"):
        with suppress(OSError):
            said = Path(f"/proc/{pid}/{name}").read_bytes().partition(b"\0")[0].strip()
            if said:
                return said.decode("utf-8", "backslashreplace")[:_COMMAND]
    return ""


def _members(leader: Leader) -> list[int]:
    """Who lives in the session of a call. An id stays taken as long as a session bears it, so one whose bearer started
    at another time is another session."""
    if started_at(leader.pid) not in (None, leader.started):
        return []
    return [pid for pid, stat in _living().items() if stat.session == leader.pid]


def _living() -> dict[int, _Stat]:
    return {pid: stat for pid in _ids() if (stat := _stat(pid)) is not None and stat.state not in "ZX"}


def _ids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _holds_within(seconds: float, condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(_PAUSE_S)
    return True


def _stat(pid: int) -> _Stat | None:
    with suppress(OSError, ValueError, IndexError):
        # pid (comm) state ppid pgrp session ... starttime: proc(5), fields 3, 4, 6, 7 and 22; comm may hold anything
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return _Stat(
            state=fields[0].decode("ascii"),
            parent=int(fields[1]),
            session=int(fields[3]),
            terminal=int(fields[4]),
            started=int(fields[19]),
        )
    return None


def _runs_from(pid: int) -> Iterator[str]:
    """A process' working directory and program; a zombie has neither."""
    for link in ("cwd", "exe"):
        with suppress(OSError):
            yield os.readlink(f"/proc/{pid}/{link}")


def _paths(pid: int) -> Iterator[str]:
    """What ties a process to a place: working directory, program, open files, and its arguments."""
    yield from _runs_from(pid)
    folder = f"/proc/{pid}"
    with suppress(OSError):
        for fd in os.listdir(f"{folder}/fd"):
            with suppress(OSError):
                yield os.readlink(f"{folder}/fd/{fd}")
    with suppress(OSError):
        yield from os.fsdecode(Path(f"{folder}/cmdline").read_bytes()).split("\0")


def _places(tree: Path) -> set[str]:
    return {f"{os.path.realpath(tree)}/", f"{tree}/"}


def _leads_into(path: str, places: set[str]) -> bool:
    return f"{path.removesuffix(_DELETED)}/".startswith(tuple(places))


def _lies_in(path: str, places: Iterable[str]) -> bool:
    """Whether a path is a place, or something in it; an argument may hold more than a path (`-cp a.jar:b.jar`)."""
    return any(place in f"{path.removesuffix(_DELETED)}/" for place in places)
