"""The same from below: strace kills or errs at each mutating system call of a pass, SQLite's own included.

It attaches to one thread of the updater at a time, the pass's own or the agent's: a counter of strace's is per thread,
and what control scripts and agents call is none of ours. Needs strace, and the right to trace.
"""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from tests.crash.runner import Ran
from tests.crash.sweep import Finding, Swept
from tests.crash.world import World

THREADS = ("main", "agent")
MODES = {"kill": "signal=KILL", "ENOSPC": "error=ENOSPC", "EIO": "error=EIO"}

_MUTATING = (
    "open openat creat write pwrite64 rename renameat renameat2 mkdir mkdirat unlink unlinkat rmdir link linkat "
    "symlink symlinkat truncate ftruncate chmod fchmod fsync fdatasync"
).split()
_OPENS = ("open", "openat")
_NEVER_SHORT_OF_ROOM = frozenset({"unlink", "unlinkat", "rmdir", "chmod", "fchmod"})
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")
_LIMIT_S = 60.0
_TRIES = 3


@frozen(kw_only=True)
class Syscall:
    """The `number`th call of its kind in a thread."""

    thread: str
    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name} {self.number} of the {self.thread} thread"


def syscalls_of(world: World) -> tuple[Syscall, ...]:
    """All that the scenario's pass changes below the host's folder, when nothing goes wrong."""
    found = []
    for thread in THREADS:
        world.restore()
        ran, lines = _attempt(world, thread, "")
        assert ran.code in world.scenario.codes, (ran, world.said())
        seen: Counter[str] = Counter()
        for line in lines:
            called = _CALL.match(line)
            if called is None:
                continue
            name = called[1]
            seen[name] += 1
            if _changes_the_host(world, line):
                found.append(Syscall(thread=thread, name=name, number=seen[name]))
    return tuple(found)


def _changes_the_host(world: World, line: str) -> bool:
    writes = not line.split("(")[0].endswith(_OPENS) or re.search(r"O_CREAT|O_WRONLY|O_RDWR", line)
    return bool(writes) and str(world.host) in line


def share(points: Iterable[Syscall], size: int, seed: int) -> tuple[Syscall, ...]:
    """So many of the points, chosen by the seed."""
    every = tuple(points)
    return tuple(random.Random(seed).sample(every, min(size, len(every))))


def sweep_traced(world: World, mode: str, points: Iterable[Syscall]) -> Swept:
    """Hit each of the points, recover, and count what did not hold."""
    findings: list[Finding] = []
    hit = 0
    for at, point in enumerate(points, 1):
        if mode == "ENOSPC" and point.name in _NEVER_SHORT_OF_ROOM:
            continue
        for _ in range(_TRIES):
            world.restore()
            ran, lines = _attempt(world, point.thread, f"{point.name}:{MODES[mode]}:when={point.number}")
            erred = [line for line in lines if "(INJECTED)" in line]
            if ran.code == -9 or any(_changes_the_host(world, line) for line in erred):
                break
        else:
            continue  # one status call more or less, and this number is that of a call that no disk lets fail so
        hit += 1
        world.look_after(mode)
        world.recover()
        findings += [Finding(at=at, hit=str(point), what=what) for what in world.broken]
    return Swept(scenario=world.scenario.name, mode=f"strace {mode}", points=hit, findings=tuple(findings))


def _attempt(world: World, thread: str, inject: str) -> tuple[Ran, list[str]]:
    """Run the pass with one of its threads traced; how it ended, and what was seen."""
    order = world.order(trace=thread)
    log = Path(f"{order.out}.strace")
    asked = Path(f"{order.out}.tid")
    asked.unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    world.runner.send(order)
    tid = _wait_for(asked)
    injecting = ["-e", f"inject={inject}"] if inject else []
    # Besides, the call that the thread makes until it is seen: only then is none of the others missed.
    wanted = ",".join(f"?{name}" for name in (*_MUTATING, "getpriority"))
    tracer = subprocess.Popen(
        ["strace", "-q", "-y", "-s", "0", "-o", str(log), "-e", f"trace={wanted}", *injecting, "-p", tid],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    ran = world.runner.receive()
    _, said = tracer.communicate(timeout=_LIMIT_S)
    assert log.exists(), said
    assert log.stat().st_size, said
    return ran, log.read_text().splitlines()


def _wait_for(path: Path) -> str:
    deadline = time.monotonic() + _LIMIT_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path}: no thread asked to be traced")
        time.sleep(0.001)
    return path.read_text()
