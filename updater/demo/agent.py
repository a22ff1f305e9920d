"""Speaking to the demo's agents, and doing to them what happens to agents: they are asked, they crash, they are ended.

A home is `{workDir}/{name}`; unless said otherwise the version in use is meant, the one that its `.version` names. What
is found here comes from the processes themselves, never from the updater or from a control script.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from probes.values import frozen


@frozen(kw_only=True)
class AgentReply:
    """What a running agent says of itself. `greeting` is from its cfg.json as it was at its start, else empty."""

    name: str
    version: str
    pid: int
    greeting: str


def ask(home: Path, *, version: str | None = None, within: float = 60) -> AgentReply:
    """Ask the agent over TCP who it is, as soon as it listens. Raise TimeoutError if it doesn't within so many seconds.

    An answer counts only from the process that the pid file names: a port may by now be someone else's.
    """
    latest: list[AgentReply] = []

    def answers() -> bool:
        answer = _ask_once(home, version)
        latest[:] = [] if answer is None else [answer]
        return answer is not None and answer.pid == pid_of(home, version=version)

    _wait_until(answers, within, f"no agent of {home} answers")
    return latest[0]


def pid_of(home: Path, *, version: str | None = None) -> int | None:
    """Say the pid of the agent if it lives, by its pid file; None if it doesn't, or never did."""
    text = _read(_state_file(home, version, "pid"))
    return int(text) if text.isdigit() and _lives(int(text)) else None


def crash(home: Path, *, version: str | None = None) -> int:
    """Kill the agent as a crash would, pid file and all left behind, and return its pid once it is dead.

    Raise ProcessLookupError if it isn't running.
    """
    pid = pid_of(home, version=version)
    if pid is None:
        raise ProcessLookupError(f"no agent of {home} runs, so it can't crash")
    _kill(pid)
    return pid


def running_below(folder: Path) -> tuple[int, ...]:
    """Find all agents that were started below this folder, those included whose files were removed since."""
    below = folder.resolve()
    found = []
    for pid, command in _commands():
        programs = [Path(word) for word in command if word.endswith("/agent.py")]
        if any(program.resolve().is_relative_to(below) for program in programs) and _lives(pid):
            found.append(pid)
    return tuple(sorted(found))


def end_all(folder: Path) -> tuple[int, ...]:
    """Kill all agents that were started below this folder, and return their pids once they are dead."""
    pids = running_below(folder)
    for pid in pids:
        _kill(pid)
    return pids


def _state_file(home: Path, version: str | None, what: str) -> Path:
    """Find the pid or port file: one for all versions in the home, where there is one, else the version's own."""
    shared = home / f"{home.name}.{what}"
    version = version or _read(home / ".version")
    return shared if shared.exists() else home / version / {"pid": "app.pid", "port": "port"}[what]


def _ask_once(home: Path, version: str | None) -> AgentReply | None:
    port = _read(_state_file(home, version, "port"))
    if not port:
        return None
    try:
        with (
            socket.create_connection(("127.0.0.1", int(port)), timeout=5) as connection,
            connection.makefile() as lines,
        ):
            found = dict(line.rstrip("\n").partition("=")[::2] for line in lines)
        return AgentReply(
            name=found["name"], version=found["version"], pid=int(found["pid"]), greeting=found["greeting"]
        )
    except (OSError, KeyError, ValueError):  # it ended amid its words, or another program has the port by now
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()  # a command line may be of any bytes
    except OSError:
        return ""


def _lives(pid: int) -> bool:
    """Tell whether the process lives; one that is dead but not yet reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = _read(Path(f"/proc/{pid}/stat"))
    return not stat.rpartition(")")[2].strip().startswith(("Z", "X"))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _wait_until(lambda: not _lives(pid), 60, f"process {pid} does not end")


def _commands() -> list[tuple[int, list[str]]]:
    """List all processes with the words of their commands."""
    if Path("/proc/self/cmdline").exists():
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        return [(pid, _read(Path(f"/proc/{pid}/cmdline")).split("\0")) for pid in pids]
    listing = subprocess.run(["ps", "-axo", "pid=,command="], capture_output=True, text=True, check=True).stdout
    return [(int(line.split()[0]), line.split()[1:]) for line in listing.splitlines()]


def _wait_until(condition: Callable[[], bool], within: float, otherwise: str) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} within {within:g} s")
        time.sleep(0.002)
