"""A real daemon that makes passes as fast as it can in bad weather; now and then it clears, and all must be well."""

from __future__ import annotations

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

from attrs import evolve, frozen

from reconcile.storage.hold_files import put_release
from tests.soak.weather import GOOD, NAMES, Weather
from tests.support.faulty_ops_meta import FaultyOpsMeta

_ROOT = Path(__file__).parents[2]
_INTERVAL_S = 0.05  # less than a config may say
_DAEMON = """
from updater.settings import values
values.SHORTEST_S = 0.0
from updater.__main__ import main
main()
"""
_BETWEEN_CHANGES_S = 0.3
_CALM_S = 180.0  # for all to be as desired: a fetch that is resumed, a watch, on a busy machine
_RELEASE_EACH_S = 5.0  # what failed in the storm would wait for up to an hour
_STAYS_S = 2.0
_LOOKS = 300
_PAGE = os.sysconf("SC_PAGE_SIZE")


@frozen(kw_only=True)
class Held:
    """What a daemon holds while all is well: of many looks the fewest, since passes and their scripts come and go."""

    rss: int
    descriptors: int
    threads: int
    children: int

    def __str__(self) -> str:
        return (
            f"{self.rss / (1 << 20):.1f} MiB, {self.descriptors} descriptors, {self.threads} threads, "
            f"{self.children} children"
        )


@frozen(kw_only=True)
class DaemonSoaked:
    """What came of it. `heartbeats`: those that arrived; a pass without a server has none. `calms`: what was held each
    time that all was as desired."""

    heartbeats: int = 0
    calms: tuple[Held, ...] = ()
    broken: tuple[str, ...] = ()

    def __str__(self) -> str:
        held = f"{self.calms[0]} -> {self.calms[-1]}" if self.calms else "never as desired"
        return f"{self.heartbeats} heartbeats, all as desired {len(self.calms)} times; {held}"


def soak_daemon(
    seconds: float,
    seed: int,
    report: Callable[[DaemonSoaked], object] = lambda so_far: None,
    *,
    storm_s: float = 20.0,
) -> DaemonSoaked:
    """Let storms of `storm_s` seconds and calms take turns for so long."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        work, own = Path(folder) / "agents", Path(folder) / "updater"
        work.mkdir()
        holds = own / "var" / "holds"
        holds.mkdir(parents=True)
        with FaultyOpsMeta(work_dir=work) as meta:
            keys = {"server": meta.server, "hostname": "liutian-01", "interval": _INTERVAL_S, "watch": 0.5}
            (own / "cfg.json").write_text(json.dumps({**keys, "quarantine_for": 60}))
            weather = Weather(meta, work, holds, seed)
            soaked, until = DaemonSoaked(), time.monotonic() + seconds
            with _daemon(own / "cfg.json") as daemon:
                while time.monotonic() < until and not soaked.broken:
                    _storm(weather, storm_s)
                    said = tuple(weather.said[-10:])
                    why = _calm_down(weather, work, holds, daemon)
                    soaked = evolve(soaked, heartbeats=len(meta.heartbeats))
                    if why:
                        log = (own / "var" / "app.log").read_text().splitlines()[-20:]
                        soaked = evolve(soaked, broken=(f"{why}, after {said}", *log))
                    else:
                        soaked = evolve(soaked, calms=(*soaked.calms, _held(daemon.pid)))
                    report(soaked)
    return soaked


@contextmanager
def _daemon(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", _DAEMON, "-c", str(config), "daemon", "--now"]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        try:
            yield daemon
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(120)


def _storm(weather: Weather, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        weather.change()
        time.sleep(_BETWEEN_CHANGES_S)


def _calm_down(weather: Weather, work: Path, holds: Path, daemon: subprocess.Popen[bytes]) -> str:
    """Let nothing happen any more until each agent runs as desired, and stays so. Why not; empty: they do."""
    weather.clear()
    until, well_since, released_at = time.monotonic() + _CALM_S, float("inf"), 0.0
    while (now := time.monotonic()) < until:
        if daemon.poll() is not None:
            return f"the daemon ended with {daemon.returncode}"
        if now - released_at > _RELEASE_EACH_S and well_since > now:
            released_at = now
            for name in NAMES:
                put_release(holds, name)
        well_since = min(well_since, now) if not _unwell(work) else float("inf")
        if now - well_since > _STAYS_S:
            return ""
        time.sleep(0.1)
    return f"not as desired: {_unwell(work)}"


def _unwell(work: Path) -> list[str]:
    """The agents that do not run at the version that is wanted."""
    return [name for name in NAMES if not _runs(work / name)]


def _runs(home: Path) -> bool:
    try:
        return (home / ".version").read_text() == GOOD[-1] and (home / GOOD[-1] / "up").exists()
    except OSError:
        return False


def _held(pid: int) -> Held:
    looks = []
    for _ in range(_LOOKS):
        looks.append((_children(pid), _entries(pid, "fd"), _entries(pid, "task")))
        time.sleep(_INTERVAL_S / 5)
    children, descriptors, threads = map(min, zip(*looks, strict=True))
    rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return Held(rss=rss, descriptors=descriptors, threads=threads, children=children)


def _entries(pid: int, folder: str) -> int:
    return len(os.listdir(f"/proc/{pid}/{folder}"))


def _children(pid: int) -> int:
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
