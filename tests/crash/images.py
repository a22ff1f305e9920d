"""Power cuts for real: the host's files lie in a file system in a file, and what that file holds at a moment is what a
disk holds whose power is cut. A copy of it is mounted, its journal is replayed, and the host goes on from there.

What the updater wrote and did not fsync is in the page cache of the mounted file system and not in the file. So that a
journal's commit is not lucky, it is mounted with `noauto_da_alloc` (a rename brings no data to the disk by itself) and
written to the disk right before the cut as far as the kernel's own timers would have: names, not contents. Needs root,
loop devices, mkfs.ext4.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.crash.mutants import MUTANTS
from tests.crash.points import Fault
from tests.crash.runner import Runner
from tests.crash.scenarios import SCENARIOS
from tests.crash.sweep import Finding, Swept, count_points, search
from tests.crash.world import Scenario, World

_SIZE = 24 << 20  # bytes; the least that ext4 has a usual journal in
_OPTIONS = "loop,noauto_da_alloc,data=ordered,commit=600"
MODE = "power cut of a disk image"


def can_mount() -> str:
    """Why images can't be used here; empty where they can."""
    if shutil.which("mkfs.ext4") is None:
        return "there is no mkfs.ext4"
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        disk = Disk(Path(folder))
        try:
            disk.make()
            disk.close()
        except subprocess.CalledProcessError as err:
            return f"{' '.join(err.cmd[:2])}: {err.stderr.strip()}"
    return ""


class Disk:
    """A file system in `folder/image`, mounted at `folder/disk`."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "image"
        self._cut = folder / "image.cut"
        self.at = folder / "disk"

    def make(self) -> None:
        """An empty one."""
        self._image.write_bytes(b"")
        with self._image.open("r+b") as file:
            file.truncate(_SIZE)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
        self.at.mkdir(exist_ok=True)
        self._mount()

    def cut(self, *, commit: bool) -> None:
        """Cut its power: what had not reached the file is gone. `commit`: the journal's timer had just gone off."""
        if commit:
            # An fsync of something else commits the whole journal, and writes no contents but its own.
            with (self.at / "lost+found.sync").open("wb") as other:
                other.flush()
                subprocess.run(["sync", other.name], check=True)
        shutil.copyfile(self._image, self._cut)
        self.close()
        self._cut.replace(self._image)
        self._mount()
        (self.at / "lost+found.sync").unlink(missing_ok=True)

    def close(self) -> None:
        _run("umount", str(self.at))

    def _mount(self) -> None:
        _run("mount", "-o", _OPTIONS, str(self._image), str(self.at))


@contextmanager
def a_world_on_disk(scenario: Scenario, mutant: str = "") -> Iterator[tuple[World, Disk]]:
    """A world whose host lies on a disk of its own."""
    with tempfile.TemporaryDirectory(prefix="crash-") as folder, Runner() as runner:
        disk = Disk(Path(folder))
        disk.make()
        try:
            with World(Path(folder), runner, scenario, mutant, host=disk.at / "host") as world:
                yield world, disk
        finally:
            disk.close()


def sweep_images(world: World, disk: Disk, points: Iterable[int], *, until_found: bool = False) -> Swept:
    """Cut the power at each of the points, once with the journal as it is, once right after its commit."""
    findings: list[Finding] = []
    hit = 0
    for at in points:
        for commit in (False, True):
            world.restore()
            subprocess.run(["sync", "-f", str(disk.at)], check=True)
            ran = world.die(Fault(mode="kill", at=at))
            if not ran.hit:
                continue
            hit += 1
            disk.cut(commit=commit)
            world.look_after(MODE)
            world.recover()
            findings += [Finding(at=at, hit=ran.hit, what=what) for what in world.broken]
            if findings and until_found:
                return Swept(scenario=world.scenario.name, mode=MODE, points=hit, findings=tuple(findings))
    return Swept(scenario=world.scenario.name, mode=MODE, points=hit, findings=tuple(findings))


def sweep_mutant(name: str) -> Swept:
    """Look for a promise that a mutant breaks until there is one."""
    with a_world_on_disk(SCENARIOS[MUTANTS[name].scenario], name) as (world, disk):
        return sweep_images(world, disk, search(name, count_points(world)), until_found=True)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True)
