"""Real tarballs of a real agent, made on the spot: the common control script of the field, and its bad habits.

`build("falcon-agent", "2.0.0")` is a well-behaved one; each habit is a keyword (`AgentBehavior`). The same arguments
give the same bytes. How the agent is spoken to once it runs is in updater/demo/agent.py, what it does in
agent_program.py there.
"""

from __future__ import annotations

import gzip
import io
import random
import re
import shlex
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from attrs import asdict

from probes.values import frozen
from updater.demo import agent

PROGRAM = Path(agent.__file__).with_name("agent_program.py")

# One script for all. A line with a word in its margin stands only where the agent has that habit; with a `!`, only
# where it doesn't.
CONTROL = """\
              | #!/bin/sh
              | # Starts, stops and tells the state of @name@ @version@.
              | cd "$(dirname "$0")" || exit 1
              | pid_file=@pid_file@
              | port_file=@port_file@
              |
              | running() {
              |     pid=
              |     read -r pid 2>/dev/null <"$pid_file"
              |     [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || return 1
              |     # Dead, but its parent has not looked yet: kill -0 can't tell.
              |     state=
              |     read -r _ _ state _ 2>/dev/null <"/proc/$pid/stat"
              |     [ "$state" != Z ]
              | }
              |
              | start() {
hangs_start   |     exec sleep 600
              |     if running; then
              |         echo "@name@ now is running already, pid=$pid"
fails_twice   |         return 1
!fails_twice  |         return 0
              |     fi
broken_start  |     echo "@name@ started..., pid=1"
broken_start  |     return 0
              |     rm -f "$port_file"
ignores_term  |     trap '' TERM
              |     set -- @name@ @version@ "$port_file" @options@
!keeps_stdout |     nohup @python@ -I -S "$PWD/agent.py" "$@" </dev/null >>app.log 2>&1 &
keeps_stdout  |     nohup @python@ -I -S "$PWD/agent.py" "$@" </dev/null &
              |     echo $! >"$pid_file"
slow_stop     |     while running && [ ! -s "$port_file" ]; do sleep 0.01; done
              |     echo "@name@ started..., pid=$!"
              | }
              |
              | stop() {
hangs_stop    |     exec sleep 600
              |     if ! running; then
              |         echo "@name@ is not running"
fails_twice   |         return 1
!fails_twice  |         return 0
              |     fi
              |     kill "$pid"
!ignores_term |     while running; do sleep 0.01; done
ignores_term  |     running && return 0
              |     rm -f "$pid_file" "$port_file"
              |     echo "@name@ stoped..."
              | }
              |
              | status() {
hangs_status  |     exec sleep 600
slow_start    |     if running && [ -s "$port_file" ]; then
!slow_start   |     if running; then
              |         printf '%s\\n' @running_word@
              |     else
              |         printf '%s\\n' @stopped_word@
              |     fi
              | }
              |
              | case "${1-}" in
              | start | stop | status) "$1" ;;
              | *)
              |     echo "usage: ./control start|stop|status"
              |     exit 1
              |     ;;
              | esac
"""

AGENT_HABITS = ("port", "slow_start", "slow_stop", "ignores_term", "crash_after", "lifetime")


@frozen(kw_only=True)
class AgentBehavior:
    """How an agent and its control script behave; the defaults are the field's most common script. Times in seconds."""

    broken_start: bool = False
    """`start` exits 0 and nothing runs."""
    slow_start: float = 0
    """`start` returns at once; only so much later the agent listens and `status` says started."""
    slow_stop: float = 0
    """The agent needs so long to end after SIGTERM, and `stop` waits for it."""
    ignores_term: bool = False
    """SIGTERM does nothing; `stop` exits 0 nevertheless, `status` tells the truth."""
    crash_after: float = 0
    """The agent dies by itself so long after its start; 0: it doesn't."""
    hangs: tuple[str, ...] = ()
    """These of `start stop status` don't end (within ten minutes)."""
    status_words: tuple[str, str] = ("started", "stoped")
    """What `status` prints where the agent runs, and where it doesn't; several lines are allowed."""
    start_exits_1_when_running: bool = True
    """... and `stop` exits 1 when nothing runs. False: both exit 0."""
    keeps_stdout: bool = False
    """The agent goes on holding the standard output and error that `control start` was given."""
    shared_pid_file: bool = False
    """Pid and port file lie in the agent's home, one for all versions, rather than in the version's folder."""
    port: int = 0
    """The port to listen on; 0: any free one."""
    lifetime: float = 0
    """The agent ends by itself after so long; 0: an hour."""
    control: str | None = None
    """Another script in place of the common one."""
    no_control: bool = False
    """The tarball lacks it."""
    python: str = sys.executable
    """What runs the agent. The user that it runs as must be able to execute it."""


def control_script(name: str, version: str, habits: AgentBehavior) -> str:
    """Write the control script: the common one with these habits, or the one that `habits` brings."""
    if habits.control is not None:
        return habits.control
    present = _present(habits)
    words = {
        "name": name,
        "version": version,
        "pid_file": f"../{name}.pid" if habits.shared_pid_file else "app.pid",
        "port_file": f"../{name}.port" if habits.shared_pid_file else "port",
        "python": shlex.quote(habits.python),
        "options": " ".join(f"{habit}={getattr(habits, habit):g}" for habit in AGENT_HABITS if getattr(habits, habit)),
        "running_word": shlex.quote(habits.status_words[0]),
        "stopped_word": shlex.quote(habits.status_words[1]),
    }
    lines = (re.sub(r"@(\w+)@", lambda found: words[found[1]], line).rstrip() for line in _lines(present))
    return "".join(f"{line}\n" for line in lines)


def _present(habits: AgentBehavior) -> set[str]:
    """The habits as the margin of the common script names them."""
    present = {f"hangs_{verb}" for verb in habits.hangs} | {habit for habit, is_so in asdict(habits).items() if is_so}
    return present | ({"fails_twice"} if habits.start_exits_1_when_running else set())


def _lines(present: set[str]) -> Iterator[str]:
    """The lines of the common script where these habits are."""
    for line in CONTROL.splitlines():
        margin, _, code = line.partition("|")
        habit = margin.strip()
        if not habit or (habit.removeprefix("!") in present) is not habit.startswith("!"):
            yield code[1:]


def build(name: str, version: str, *, size: int = 0, extra: Mapping[str, bytes] | None = None, **habits: Any) -> bytes:
    """Make the tarball of one version: `control`, `agent.py`, the files in `extra` (path: content), and padding.

    `size`: so many bytes of incompressible padding. `habits`: the keywords of `AgentBehavior`.
    """
    target = io.BytesIO()
    _pack(target, name, version, size, extra or {}, AgentBehavior(**habits))
    return target.getvalue()


def build_file(
    path: Path, name: str, version: str, *, size: int = 0, extra: Mapping[str, bytes] | None = None, **habits: Any
) -> Path:
    """Do the same straight into a file, in memory that does not grow with `size`; return its path."""
    with path.open("wb") as target:
        _pack(target, name, version, size, extra or {}, AgentBehavior(**habits))
    return path


def _pack(
    target: IO[bytes], name: str, version: str, size: int, extra: Mapping[str, bytes], habits: AgentBehavior
) -> None:
    files: dict[str, bytes] = {"agent.py": PROGRAM.read_bytes(), **extra}
    if not habits.no_control:
        files = {"control": control_script(name, version, habits).encode(), **files}
    # Stored where there is padding, which would not shrink anyway: a tenth of the time. No clock, so the same bytes.
    with (
        gzip.GzipFile(filename="", fileobj=target, mode="wb", compresslevel=0 if size else 6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        for path, content in files.items():
            tar.addfile(_member(path, len(content)), io.BytesIO(content))
        if size:
            tar.addfile(_member("padding", size), _Noise(name + version))


def _member(path: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.size = size
    member.mode = 0o755 if path == "control" else 0o644
    member.mtime = 1480000000  # any fixed time
    return member


class _Noise(io.RawIOBase):
    """Endless bytes that don't compress, the same for the same seed. They repeat far beyond what gzip looks back."""

    def __init__(self, seed: str) -> None:
        self._block = random.Random(seed).randbytes(1 << 20)
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        piece = self._block[self._at : self._at + size]
        self._at = (self._at + len(piece)) % len(self._block)
        return piece if len(piece) == size else piece + self.read(size - len(piece))
