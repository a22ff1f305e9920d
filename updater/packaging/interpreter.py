"""A Python that a pack takes along: one that can be moved, such as a python-build-standalone release."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from updater.packaging.archive import Item
from updater.packaging.wheels import MINORS, PackImpossible

_PYTHON_S = 60  # how long a Python may take for a line


def minor_version(folder: Path) -> int:
    """The minor version of the Python in `folder/bin`, which must run here. Raise PackImpossible."""
    python = folder / "bin" / "python3"
    script = "import sys, ssl, sqlite3, zlib; print(*sys.version_info[:2])"
    try:
        said = subprocess.run(
            [python, "-I", "-c", script],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=_PYTHON_S,
        ).stdout.split()
    except FileNotFoundError:
        raise PackImpossible(f"--python {folder}: there is no bin/python3 in it") from None
    except (OSError, subprocess.SubprocessError) as err:
        raise PackImpossible(f"--python {folder}: bin/python3 does not run, or lacks ssl or sqlite3: {err}") from None
    if tuple(map(int, said)) < (3, MINORS[0]):
        raise PackImpossible(f"--python {folder}: it is Python {'.'.join(said)}; 3.{MINORS[0]} or newer is needed")
    return int(said[1])


def interpreter(folder: Path) -> Iterator[Item]:
    """Its files, as members below `python/`. Raise PackImpossible."""
    minor_version(folder)
    top = folder.resolve()
    _refuse_rooted(top)
    for path in sorted(folder.rglob("*")):
        name = f"python/{path.relative_to(folder)}"
        mode = path.lstat().st_mode
        if "__pycache__" in path.parts:
            continue
        if stat.S_ISLNK(mode):
            target = os.readlink(path)
            if os.path.isabs(target) or not path.resolve().is_relative_to(top):
                raise PackImpossible(f"{path} links to {target}, outside of --python; expected a folder that is whole")
            yield Item(name=name, link=target)
        elif stat.S_ISREG(mode):
            yield Item(name=name, path=path, program=bool(mode & 0o111))


def _refuse_rooted(top: Path) -> None:
    """Refuse a Python that loads its own library by the path where it was built, as one with a shared libpython does:
    moved, it runs here and on no other host. Raise PackImpossible."""
    maps = Path("/proc/self/maps")  # what a process has loaded; on Linux alone
    script = f"import ssl, sqlite3, zlib; print(open('{maps}').read())"
    if not maps.exists():
        return
    with tempfile.TemporaryDirectory(prefix="pack-") as scratch:
        moved = Path(scratch).resolve() / "python"
        shutil.copytree(top, moved, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "test"))
        words = [str(moved / "bin" / "python3"), "-I", "-c", script]
        try:
            ran = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_PYTHON_S)
        except subprocess.TimeoutExpired as err:
            raise PackImpossible(f"--python {top}: moved to another place it does not end: {err}") from None
    left_behind = re.search(rf"\s({re.escape(str(top))}/.*)", ran.stdout)
    if left_behind is None and ran.returncode == 0:
        return
    why = f"it still loads {left_behind[1]}" if left_behind else f"it does not run: {ran.stderr.strip()[-200:]}"
    expected = "expected one that can be, such as python-build-standalone's"
    raise PackImpossible(f"--python {top}: moved to another place {why}; {expected}")
