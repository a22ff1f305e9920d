"""P6, the daemon at rest: what it holds after thousands of passes over converged agents, and how often it wakes.

A daemon of its own with local HTTP off and ops-meta on loopback, asked to make its passes without a pause, in one
process. Then one that waits as a small process after each pass; its interval becomes a day, and it is left alone.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from benchmarks import hosts
from benchmarks.verdicts import Figure
from tests.support.ops_meta import OpsMetaServer

PASSES, WAITS, QUIET_S = 10_000, 30, 60.0
_WARM = 0.1  # of the passes: what a process is after them is compared with what it is at the end
_LOOKED_AT = 10  # passes, each time
_PATIENCE_S = 60.0
# The command line, whole, but for the shortest interval that a config may have.
_WITHOUT_A_PAUSE = (
    "from updater import __main__; from updater.settings import values; values.SHORTEST_S = 0.001; __main__.main()"
)


@frozen(kw_only=True)
class Rest:
    """`rss_mib`, `descriptors`: by the number of passes made in one process. `waiting_mib`, `waiting_descriptors`: of
    the small process, by the number of waits. `wakes`: of all its threads, within `quiet_s` seconds. `other_calls`:
    what it asked of the server besides a heartbeat for each pass."""

    rss_mib: dict[int, float]
    descriptors: dict[int, int]
    waiting_mib: dict[int, float]
    waiting_descriptors: dict[int, int]
    other_calls: int
    wakes: int
    quiet_s: float


def rest(passes: int = PASSES, quiet_s: float = QUIET_S, agents: int = 3, waits: int = WAITS) -> Rest:
    """Have a daemon make so many passes, then watch one wait."""
    marks = sorted({max(1, round(passes * share)) for share in (_WARM, 0.25, 0.5, 0.75, 1.0)})
    rss, descriptors, small, few = {}, {}, {}, {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, OpsMetaServer() as meta:
        config = hosts.host(Path(folder) / "host", agents, hosts.INSTANT)
        meta.desire(*json.loads((config.parent / "desired.json").read_text())["desiredAgents"])
        keys = {"server": meta.server, "hostname": "bench", "interval": 0.001}
        config.write_text(json.dumps(keys))
        with _daemon("-c", _WITHOUT_A_PAUSE, "-c", str(config), "daemon", "--now") as daemon:
            for mark in marks:
                _until(functools.partial(_made, meta, mark), daemon, patience_s=mark)
                held = list(_looks(daemon.pid, functools.partial(_made, meta, mark + _LOOKED_AT)))
                rss[mark], descriptors[mark] = min(rss for rss, _ in held), min(fds for _, fds in held)
        config.write_text(json.dumps({**keys, "interval": 1}))
        with _daemon("-I", "-m", "updater", "-c", str(config), "daemon", "--now", "--stand-by-from", "0") as daemon:
            for number in range(1, waits + 1):
                now = _held_waiting(daemon)
                if number in (1, waits):
                    small[number], few[number] = now
                _until(functools.partial(_made, meta, len(meta.heartbeats) + 1), daemon)
            config.write_text(json.dumps({**keys, "interval": "1d"}))
            daemon.send_signal(signal.SIGHUP)
            _until(lambda: "config read again" in (config.parent / "var/app.log").read_text(), daemon)
            _until(lambda: _waits(daemon.pid) and _sleeps(daemon.pid, 1.0), daemon)
            before = _wakes(daemon.pid)
            time.sleep(quiet_s)
            wakes = _wakes(daemon.pid) - before
        others = [call for call in meta.requests if not call.path.endswith("/heartbeat")]
    return Rest(
        rss_mib=rss,
        descriptors=descriptors,
        waiting_mib=small,
        waiting_descriptors=few,
        other_calls=len(others),
        wakes=wakes,
        quiet_s=quiet_s,
    )


def figures(found: Rest) -> Iterator[Figure]:
    """What it holds while it waits, and what it keeps of many passes."""
    first, last = min(found.rss_mib), max(found.rss_mib)
    waits, mib = max(found.waiting_mib), found.waiting_mib
    yield Figure(
        goal="P6",
        work=f"a daemon at rest, its {waits}. wait",
        yardstick="today's updaters: 12 to 13",
        value=mib[waits],
        low=min(mib.values()),
        high=max(mib.values()),
        aim=12,
        unit="MiB",
    )
    grown = found.rss_mib[last] - found.rss_mib[first]
    held = ", ".join(f"{mib:.1f} after {passes:,}" for passes, mib in found.rss_mib.items())
    yield Figure.exact("P6-growth", f"grown by {last:,} passes in one process: {held}", grown, unit="MiB")
    more = max(found.descriptors.values()) - found.descriptors[first]
    more += max(found.waiting_descriptors.values()) - min(found.waiting_descriptors.values())
    yield Figure.exact("P6-descriptors", "more than at the first pass, and wait", more, aim=0)
    yield Figure.exact("P6-calls", "of the server besides one heartbeat a pass", found.other_calls, aim=0)
    wakes = found.wakes / found.quiet_s * 60
    yield Figure.exact("P6-wakes", "wake-ups between two slots", wakes, aim=2, unit="a minute")


@contextmanager
def _daemon(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as daemon:
        try:
            yield daemon
        finally:
            daemon.terminate()


def _until(condition: Callable[[], bool], daemon: subprocess.Popen[bytes], patience_s: float = _PATIENCE_S) -> None:
    deadline = time.monotonic() + max(_PATIENCE_S, patience_s)
    while not condition():
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the daemon ended, or does not come so far")
        time.sleep(0.05)


def _made(meta: OpsMetaServer, passes: int) -> bool:
    return len(meta.heartbeats) >= passes


def _looks(pid: int, over: Callable[[], bool]) -> Iterator[tuple[float, int]]:
    """MiB and descriptors, again and again. Within a pass it has some more than it keeps."""
    while not over():
        yield _rss(pid), len(os.listdir(f"/proc/{pid}/fd"))
        time.sleep(0.002)


def _rss(pid: int) -> float:
    """In MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _waits(pid: int) -> bool:
    """Whether it waits as a small process: without the libraries of a pass, and without the child that tries them."""
    try:
        links = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        loaded = Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # it is just changing
        return False
    tries = "/memfd:said (deleted)" in links
    return any("ops-updater-daemon" in link for link in links) and "sqlite" not in loaded and not tries


def _held_waiting(daemon: subprocess.Popen[bytes]) -> tuple[float, int]:
    """MiB and descriptors while it waits, and neither comes to that nor goes on."""
    while True:
        _until(lambda: _waits(daemon.pid) and _sleeps(daemon.pid, 0.1), daemon)
        held = _rss(daemon.pid), len(os.listdir(f"/proc/{daemon.pid}/fd"))
        if _waits(daemon.pid):
            return held


def _wakes(pid: int) -> int:
    """How often its threads went to sleep of their own so far: as often as they were woken."""
    words = [word for path in Path(f"/proc/{pid}/task").glob("*/status") for word in path.read_text().splitlines()]
    return sum(int(line.split()[1]) for line in words if line.startswith("voluntary_ctxt_switches"))


def _sleeps(pid: int, seconds: float) -> bool:
    """Whether nothing woke it for so long."""
    before = _wakes(pid)
    time.sleep(seconds)
    return _wakes(pid) == before
