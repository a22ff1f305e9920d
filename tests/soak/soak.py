"""A long run of passes in bad weather, and what must be true at its end: converged, no litter, nothing grew."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from attrs import frozen

from tests.soak.passes import Passed, Passes
from tests.soak.weather import NAMES, Weather
from tests.support.faulty_ops_meta import FaultyOpsMeta

_MINUTE = 60.0
_PAST_ALL_DELAYS_S = 5000.0
_PASSES_TO_CONVERGE = 6  # a fetch that is resumed, a watch, a prune: two would do
_WARM_UP = 1000  # passes until all has been imported, every buffer been used and history is full


@frozen(kw_only=True)
class Soaked:
    """What came of it. `acted`: passes in which something was done. Sizes in bytes, `before`: after the warm-up."""

    passes: int
    acted: int
    to_converge: int
    descriptors_before: int
    descriptors: int
    threads: int
    rss_before: int
    rss: int
    memory: int
    broken: tuple[str, ...] = ()

    def __str__(self) -> str:
        mib = 1 << 20
        return (
            f"{self.passes} passes, something was done in {self.acted}; converged {self.to_converge} passes after the "
            f"last fault; descriptors {self.descriptors_before} -> {self.descriptors}, threads {self.threads}; "
            f"RSS {self.rss_before / mib:.1f} -> {self.rss / mib:.1f} MiB; state.db {self.memory / mib:.1f} MiB"
        )


def soak(passes: int, seed: int, tell: Callable[[int, Passed], object] = lambda number, passed: None) -> Soaked:
    """Make so many passes, clear up, and look."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        work, own = Path(folder) / "agents", Path(folder) / "updater"
        work.mkdir()
        (own / "var" / "holds").mkdir(parents=True)
        config = own / "cfg.json"
        with FaultyOpsMeta(work_dir=work) as meta:
            keys = {"server": meta.server, "hostname": "liutian-01", "watch": 20, "quarantine_for": 7200}
            config.write_text(json.dumps(keys))
            weather = Weather(meta, work, own / "var" / "holds", seed)
            with Passes(config) as process:
                return _run(process, weather, passes, tell, work, own / "var")


def _run(
    process: Passes,
    weather: Weather,
    passes: int,
    tell: Callable[[int, Passed], object],
    work: Path,
    var: Path,
) -> Soaked:
    later, acted = 0.0, 0
    broken: list[str] = []
    before = passed = process.make(later)
    for number in range(1, passes + 1):
        weather.change()
        later += _MINUTE
        passed = process.make(later)
        acted += passed.acted
        broken += [f"pass {number}: {name} ended unexpectedly, after {weather.said[-6:]}" for name in passed.broke]
        if number == min(_WARM_UP, passes // 2):
            before = passed
        tell(number, passed)
    weather.clear()
    for to_converge in range(1, _PASSES_TO_CONVERGE + 1):  # noqa: B007 - how many it took
        later += _PAST_ALL_DELAYS_S
        passed = process.make(later)
        if not (passed.unready or passed.trouble or passed.acted):
            break
    else:
        broken.append(f"not converged: {passed.unready} {passed.trouble}, after {weather.said[-10:]}")
    return Soaked(
        passes=passes,
        acted=acted,
        to_converge=to_converge,
        descriptors_before=before.descriptors,
        descriptors=passed.descriptors,
        threads=passed.threads,
        rss_before=before.rss,
        rss=passed.rss,
        memory=(var / "state.db").stat().st_size,
        broken=(*broken, *_litter(work, var)),
    )


def _litter(work: Path, var: Path) -> list[str]:
    """What should not be there, in the homes and in our own folder."""
    found = []
    for name in NAMES:
        home = work / name
        left = [entry for entry in os.listdir(home) if entry.startswith((".stage", ".next", ".previous"))]
        found += [f"left in {name}: {left}"] if left else []
        if not (home / (home / ".version").read_text() / "up").exists():
            found.append(f"{name} does not run")
    left = sorted(path.name for path in var.rglob("*") if path.suffix in (".part", ".release", ".json"))
    found += [f"left in var: {left}"] if left else []
    with closing(sqlite3.connect(var / "state.db")) as db:
        reported = db.execute("PRAGMA integrity_check").fetchone()[0]
    return found + ([] if reported == "ok" else [f"state.db: {reported}"])
