"""The one reader of /proc: processes, their files and their locks. It decides and signals nothing.

A process that has ended, or that may not be seen, is None, empty or missing. Linux only: elsewhere all are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from probes.values import frozen

_MOST_ANCESTORS = 64


@frozen(kw_only=True)
class Stat:
    """A process as proc(5) has it. `started`: clock ticks since the boot. `terminal`: 0 for none."""

    state: str
    parent: int
    group: int
    session: int
    terminal: int
    started: int

    @property
    def is_dead(self) -> bool:
        """Whether it is a zombie, or less."""
        return self.state in "ZX"


@frozen(kw_only=True)
class Mount:
    """Where a file system is mounted, and of which kind it is, as the kernel names it."""

    at: str
    kind: str


@frozen(kw_only=True)
class Flock:
    """A lock that is held. `pid`: of its holder, 0 or less where that is hidden. `file`: as the kernel names it,
    device and inode: `08:01:131`."""

    pid: int
    file: str


def is_there() -> bool:
    """Whether there is a /proc here."""
    return os.path.exists("/proc/self/stat")


def pids() -> list[int]:
    """The ids of all processes that may be seen."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def stat(pid: int) -> Stat | None:
    with suppress(OSError, ValueError, IndexError):
        # pid (comm) state ppid pgrp session ... starttime: proc(5), fields 3 to 7 and 22; comm may hold anything
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return Stat(
            state=fields[0].decode("ascii"),
            parent=int(fields[1]),
            group=int(fields[2]),
            session=int(fields[3]),
            terminal=int(fields[4]),
            started=int(fields[19]),
        )
    return None


def stats() -> dict[int, Stat]:
    """All processes, zombies included."""
    return {pid: found for pid in pids() if (found := stat(pid)) is not None}


def living() -> dict[int, Stat]:
    """All processes that are no zombies."""
    return {pid: found for pid, found in stats().items() if not found.is_dead}


def started_at(pid: int) -> int | None:
    """When a process started, in clock ticks since the boot."""
    found = stat(pid)
    return None if found is None else found.started


def now() -> int | None:
    """The time as `started_at` counts it."""
    found = uptime()
    return None if found is None else int(found * os.sysconf("SC_CLK_TCK"))


def uptime() -> float | None:
    """Seconds since the boot."""
    with suppress(OSError, ValueError, IndexError):
        return float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    return None


def ancestry(pid: int) -> list[int]:
    """A process, its parent, and so on."""
    line: list[int] = []
    while pid > 0 and pid not in line and len(line) < _MOST_ANCESTORS:
        line.append(pid)
        found = stat(pid)
        pid = 0 if found is None else found.parent
    return line


def owner(pid: int) -> int | None:
    """The user that a process runs as."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def users(pid: int) -> frozenset[int] | None:
    """The users that a process counts as, real, effective and saved: none where there is no such process, None where
    that is not known."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Uid:"):
                return frozenset(int(word) for word in line.split()[1:])
    except (FileNotFoundError, ProcessLookupError):
        return frozenset()
    except (OSError, ValueError):
        return None
    return None


def words(pid: int) -> tuple[bytes, ...]:
    """The command line, without the NULs that pad one that was overwritten; empty for a zombie and the kernel's own."""
    try:
        content = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
    except OSError:
        return ()
    return tuple(content.split(b"\0")) if content else ()


def name(pid: int) -> bytes:
    """The name that the kernel has for a process, at most 15 bytes."""
    try:
        return Path(f"/proc/{pid}/comm").read_bytes().strip()
    except OSError:
        return b""


def directory(pid: int) -> str | None:
    """The working directory."""
    return _link(f"/proc/{pid}/cwd")


def program(pid: int) -> str | None:
    return _link(f"/proc/{pid}/exe")


def open_files(pid: int) -> Iterator[tuple[str, str]]:
    """What a process has open: where /proc has it, and where that leads."""
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            target = _link(f"/proc/{pid}/fd/{fd}")
            if target is not None:
                yield f"/proc/{pid}/fd/{fd}", target


def flocks() -> Iterator[Flock]:
    """The locks by flock(2) that are held."""
    with suppress(OSError, ValueError, IndexError), open("/proc/locks", encoding="ascii") as lines:
        for line in lines:
            fields = line.split()  # "7: FLOCK ADVISORY WRITE 1234 08:01:131 0 EOF"; a waiter's line has "->" second
            if fields[1] == "FLOCK":
                yield Flock(pid=int(fields[4]), file=fields[5])


def mounts() -> Iterator[Mount]:
    """All that is mounted here."""
    with (
        suppress(OSError, ValueError),
        open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines,
    ):
        for line in lines:  # "36 35 98:0 /root /at rw,noatime shared:1 - ext4 /dev/sda1 rw"
            fields = line.split(" ")
            at = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
            yield Mount(at=at, kind=fields[fields.index("-", 6) + 1])


def sees_our_files(pid: int) -> bool:
    """Whether a process' paths name our files: those of a container, which has a root of its own, name others. True of
    our own root in another mount namespace, as a unit with PrivateTmp= has it; and where it can't be known."""
    if _link(f"/proc/{pid}/ns/mnt") == _link("/proc/self/ns/mnt"):
        return True
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat("/proc/self/root"))
    except OSError:
        return True


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
