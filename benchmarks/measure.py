"""Take two measurements in turn, so that whatever else the machine does meets both, and make ratios of the pairs."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

PYTHON = sys.executable


@frozen(kw_only=True)
class Ratio:
    """Paired ratios of ours to the yardstick, and the medians of both in seconds. `best`: our best round to the
    yardstick's best, which other work on the machine changes least."""

    least: float
    median: float
    most: float
    best: float
    ours_s: float
    yardstick_s: float


def interleaved(ours: Callable[[], float], yardstick: Callable[[], float], rounds: int) -> Ratio:
    """Measure both in turn, `rounds` times; each returns its seconds. One round before is not counted."""
    pairs = [(yardstick(), ours()) for _ in range(rounds + 1)][1:]
    ratios = [our / their for their, our in pairs]
    return Ratio(
        least=min(ratios),
        median=statistics.median(ratios),
        most=max(ratios),
        best=min(our for _, our in pairs) / min(their for their, _ in pairs),
        ours_s=statistics.median(our for _, our in pairs),
        yardstick_s=statistics.median(their for their, _ in pairs),
    )


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def command(argv: Sequence[str], *, cwd: str | None = None, env: Mapping[str, str] | None = None) -> float:
    """Run a command that must end well, silently; its seconds from exec to exit."""
    return seconds(
        lambda: subprocess.run(
            argv,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=cwd,
            env=env,
        )
    )


def cpu(work: Callable[[], object]) -> float:
    """The seconds of CPU time that it takes, of the processes that it starts as well."""
    before = _cpu()
    work()
    return _cpu() - before


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def counted() -> float:
    """The yardstick of what is counted in seconds: one."""
    return 1.0


def last_time(path: Path) -> float:
    """The time that a control script noted last."""
    return float(path.read_text().split()[-1])


def updater(config: Path, *argv: str) -> list[str]:
    return [PYTHON, "-m", "updater", "-c", str(config), *argv]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback, by a process of its own, and yield its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = [PYTHON, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        told = server.stdout.readline()  # Serving HTTP on 127.0.0.1 port 40647 (http://127.0.0.1:40647/) ...
        try:
            yield told[told.index("(") + 1 : told.index("/)")]
        finally:
            server.terminate()


def machine() -> str:
    """What it was measured on; the load says how quiet it was."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    python = f"Python {platform.python_version()}"
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.release()} {platform.machine()}, {python}, load {load}"
    )
