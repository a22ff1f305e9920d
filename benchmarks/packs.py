"""A packed updater beside the checkout's `.venv`, on the same Python: how long its commands take, from exec to exit."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

from benchmarks import hosts
from benchmarks.measure import Ratio, command, interleaved
from updater.packaging.pack import PackContents, pack

_VENV = Path(__file__).parent.parent / ".venv" / "bin"


def beside_the_checkout(folder: Path, *words: str) -> Ratio:
    """Make a pack, unpack it, and run `updater WORDS` of both in turn. Raise PackImpossible without a package index."""
    config = hosts.host(folder, 3, hosts.INSTANT)
    packed = folder / "packed"
    with tarfile.open(pack(folder / "dist", PackContents())) as tar:
        tar.extraction_filter = lambda member, path: member  # it is ours; Python 3.12 and 3.13 warn without one
        tar.extractall(packed)
    which = [str(_VENV / "python"), "-I", "-c", "import sys; print(sys._base_executable)"]
    python = subprocess.run(which, capture_output=True, text=True, check=True).stdout.strip()
    argv = ["-c", str(config), *words]
    return interleaved(
        lambda: command([str(packed / "updater"), *argv], env={**os.environ, "PYTHON": python}),
        lambda: command([str(_VENV / "updater"), *argv]),
        15,
    )
