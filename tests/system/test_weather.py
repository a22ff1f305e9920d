"""Disks under `var/` that can't be written any more: what crashed is healed all the same. Needs root: it mounts."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import Processes, end_all_in, until
from tests.support.faulty_ops_meta import FaultyOpsMeta

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.usefixtures("unsharing"),
]


def run(*argv: str | Path) -> None:
    subprocess.run([str(word) for word in argv], check=True)


@pytest.fixture
def host(tmp_path: Path, unsharing: None) -> Iterator[Host]:
    """Its var/ is a file system of its own."""
    (tmp_path / "ops-updater" / "var").mkdir(parents=True)
    with FaultyOpsMeta(work_dir=tmp_path / "agents") as meta, Processes() as processes:
        (tmp_path / "ops-updater" / "var").rmdir()
        (tmp_path / "ops-updater").rmdir()
        host = Host(tmp_path, meta, processes)
        host.var.mkdir(mode=0o700)
        run("mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=500,mode=700", "tmpfs", host.var)
        try:
            host.configure(interval=1)
            yield host
            end_all_in(tmp_path)
        finally:
            run("umount", "--lazy", host.var)


@contextmanager
def read_only(host: Host) -> Iterator[None]:
    run("mount", "--bind", host.var, host.var)
    try:
        run("mount", "-o", "remount,bind,ro", host.var)
        yield
    finally:
        run("umount", "--lazy", host.var)


def fill(once_more: Callable[[int], object]) -> None:
    """Until the disk has no room for it."""
    for number in itertools.count():
        try:
            once_more(number)
        except OSError as err:
            assert err.errno == errno.ENOSPC
            return


def touched(path: Path) -> Path:
    path.touch()
    return path


@contextmanager
def without_an_inode(host: Host) -> Iterator[None]:
    """Nothing new can be made."""
    fillers: list[Path] = []
    fill(lambda number: fillers.append(touched(host.var / f"filler-{number}")))
    try:
        yield
    finally:
        for path in fillers:
            path.unlink()


@contextmanager
def full(host: Host) -> Iterator[None]:
    filler = host.var / "filler"
    with filler.open("wb", buffering=0) as file:
        fill(lambda number: file.write(bytes(1 << 16)))
    try:
        yield
    finally:
        filler.unlink()


BAD = {"read-only": read_only, "full": full, "no inode": without_an_inode}


@pytest.mark.parametrize("how", BAD)
@pytest.mark.parametrize("server", ["up", "down"])
def test_a_run_from_cron_heals_whatever_its_own_disk(host: Host, how: str, server: str) -> None:
    host.install("1.0.0")
    host.settle()
    if how == "read-only" and server == "up":  # its folder is locked instead
        (host.var / "updater.lock").unlink()
    if server == "down":
        host.meta.down()
    with BAD[how](host):
        host.crash()
        healed = host.updater("apply", "--once")
        assert healed.code in (0, 3), healed
        assert host.ask().version == "1.0.0"
        pid = host.pid()
        again = host.updater("apply", "--once")
        assert again.code in (0, 3), again
        assert host.pid() == pid
        for command in ("status", "plan", "history", f"why {NAME}", f"logs {NAME}", "check"):
            result = host.updater(*command.split())
            assert result.code in (0, 3), (command, result)
    host.meta.up()
    assert host.apply().code == 0


@pytest.mark.parametrize("how", BAD)
def test_a_change_waits_where_it_can_not_be_noted(host: Host, how: str) -> None:
    pid = host.install("1.0.0")
    host.settle()
    host.publish("2.0.0")
    host.desire("2.0.0")
    with BAD[how](host):
        held = host.apply()
        assert held.code == 3, held
        assert host.pid() == pid
    host.updater("release", NAME)  # what failed for want of room waits a minute
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"


@pytest.mark.parametrize("how", BAD)
@pytest.mark.parametrize("server", ["up", "down"])
def test_a_daemon_heals_though_its_disk_became_bad(host: Host, how: str, server: str) -> None:
    host.install("1.0.0")
    host.settle()
    with host.daemon("--now") as daemon:
        until(lambda: len(host.meta.heartbeats) > 3, "the daemon asks")
        if server == "down":
            host.meta.down()
        with BAD[how](host):
            for _ in range(3):
                host.crash()
                assert host.ask().version == "1.0.0"
            assert daemon.runs
            assert str(host.var) not in Path(f"/proc/{daemon.pid}/maps").read_text()
        host.meta.up()
        beats = len(host.meta.heartbeats)
        until(lambda: len(host.meta.heartbeats) > beats + 2, "the daemon goes on")
        assert daemon.runs


@pytest.mark.parametrize("how", BAD)
def test_a_daemon_starts_and_heals_on_a_bad_disk_and_is_the_only_one(host: Host, how: str) -> None:
    host.install("1.0.0")
    host.settle()
    with BAD[how](host):
        host.crash()
        with host.daemon("--now") as daemon:
            assert host.ask().version == "1.0.0"
            second = host.updater("daemon")
            assert second.code == 75, second
            assert f"process {daemon.pid} " in second.err
            assert daemon.runs
