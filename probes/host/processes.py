"""Processes as /proc shows them: who still lives of a version's tree, and control calls that an earlier run left.

A process is known by its id and its start time together: ids are used again. Linux only; elsewhere nothing can be told,
and that is what comes back. Nothing is decided here, and nothing is signalled but a call of our own whose time is over.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from probes.values import frozen

_PAUSE_S = 0.02
_GRACE_S = 2.0  # from SIGTERM to SIGKILL, as of a call of this run (script.py)
_ABANDON_S = 3.0


@frozen(kw_only=True)
class Leader:
    """The process of a control call, which leads a session of its own. `started`: clock ticks since the boot."""

    pid: int
    started: int


@frozen(kw_only=True)
class _Stat:
    state: str
    session: int
    started: int


def started_at(pid: int) -> int | None:
    """When a process started, in clock ticks since the boot; None where that can't be told."""
    found = _stat(pid)
    return None if found is None else found.started


def lives(leader: Leader) -> bool:
    """Whether this very process still runs; a zombie doesn't."""
    found = _stat(leader.pid)
    return found is not None and found.started == leader.started and found.state not in "ZX"


def age(leader: Leader) -> float:
    """Seconds since it started, by the clock that no one can set; 0 where that can't be told."""
    with suppress(OSError, ValueError, IndexError):
        uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        return max(0.0, uptime - leader.started / os.sysconf("SC_CLK_TCK"))
    return 0.0


def outwait(
    leader: Leader, limit_s: float, given_up: Callable[[], bool], end: Callable[[Leader], bool] | None = None
) -> bool:
    """Wait for a call of an earlier run until its limit, counted from its start; then `end` it (by `end_call`), as that
    run would have. Return False where it lives on: `given_up` said so, or `end` did."""
    if _holds_within(limit_s - age(leader), lambda: given_up() or not lives(leader)):
        return not lives(leader)
    return (end or end_call)(leader)


def end_call(leader: Leader) -> bool:
    """End a call's process group; whether that is done. To be called as the user whose call it was: of another user
    it is that user's word which process it is."""
    for number, patience in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _ABANDON_S)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader.pid, number)
        if _holds_within(patience, lambda: not _members(leader)):
            return True
    return False


def left_of(tree: Path, calls: tuple[Leader, ...]) -> tuple[int, ...] | None:
    """Ids of processes that may be what a version started, ourselves excepted; None where that can't be told.

    Those whose working directory, program, arguments or open files lie in its `tree`, and those of the sessions of our
    own `calls`. What has left all of that behind (another directory, session and program, no file open) isn't found,
    nor is what hides from its own user.
    """
    if _stat(os.getpid()) is None:
        return None
    places = {f"{os.path.realpath(tree)}/", f"{tree}/"}
    of_calls = {pid for call in calls for pid in _members(call)}
    inside = {pid for pid in _living() if any(_lies_in(path, places) for path in _paths(pid))}
    return tuple(sorted((of_calls | inside) - {os.getpid()}))


def _members(leader: Leader) -> list[int]:
    """Who lives in the session of a call. An id stays taken as long as a session bears it, so one whose bearer started
    at another time is another session."""
    if started_at(leader.pid) not in (None, leader.started):
        return []
    return [pid for pid, stat in _living().items() if stat.session == leader.pid]


def _living() -> dict[int, _Stat]:
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return {}
    return {pid: stat for pid in pids if (stat := _stat(pid)) is not None and stat.state not in "ZX"}


def _holds_within(seconds: float, condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(_PAUSE_S)
    return True


def _stat(pid: int) -> _Stat | None:
    with suppress(OSError, ValueError, IndexError):
        # pid (comm) state ppid pgrp session ... starttime: proc(5), fields 3, 6 and 22; comm may hold anything
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return _Stat(state=fields[0].decode("ascii"), session=int(fields[3]), started=int(fields[19]))
    return None


def _paths(pid: int) -> Iterator[str]:
    """What ties a process to a place: working directory, program, open files, and its arguments."""
    folder = f"/proc/{pid}"
    with suppress(OSError):
        yield os.readlink(f"{folder}/cwd")
    with suppress(OSError):
        yield os.readlink(f"{folder}/exe")
    with suppress(OSError):
        for fd in os.listdir(f"{folder}/fd"):
            with suppress(OSError):
                yield os.readlink(f"{folder}/fd/{fd}")
    with suppress(OSError):
        yield from os.fsdecode(Path(f"{folder}/cmdline").read_bytes()).split("\0")


def _lies_in(path: str, places: Iterable[str]) -> bool:
    """Whether a path is a place, or something in it; an argument may hold more than a path (`-cp a.jar:b.jar`)."""
    return any(place in f"{path.removesuffix(' (deleted)')}/" for place in places)
