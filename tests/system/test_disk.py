"""A disk that is too small for a version, and what to do about it. Needs root: it mounts a file system of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import Processes, end_all_in
from tests.hostile.peers import body_for_ever
from tests.loopback import Loopback
from tests.support.faulty_ops_meta import FaultyOpsMeta

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.usefixtures("unsharing"),
]

MIB = 1024 * 1024


@pytest.fixture
def host(tmp_path: Path, unsharing: None) -> Iterator[Host]:
    """Its agents live on a file system of 4 MiB."""
    work = tmp_path / "agents"
    work.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(work)], check=True)
    try:
        with FaultyOpsMeta(work_dir=work) as meta, Processes() as processes:
            yield Host(tmp_path, meta, processes)
            end_all_in(tmp_path)
    finally:
        subprocess.run(["umount", "--lazy", str(work)], check=True)


def test_a_version_that_does_not_fit_is_tried_when_there_is_room(host: Host) -> None:
    pid = host.install("1.0.0")
    host.settle()
    host.publish("2.0.0", size=8 * MIB)
    host.desire("2.0.0")

    full = host.apply()

    assert (full.code, full.condition("Ready")) == (3, ("False", "DiskTooSmall")), full
    assert host.pid() == pid
    assert host.versions() == ["1.0.0"], "what was written is removed"
    subprocess.run(["mount", "-o", "remount,size=32m", str(host.work)], check=True)  # free space
    host.updater("release", NAME)
    assert host.apply().code == 0
    host.settle()
    assert host.version() == "2.0.0"


def test_a_download_that_fills_the_disk_gives_its_room_back(host: Host) -> None:
    """The server doesn't say how long it is."""
    pid = host.install("1.0.0")
    host.settle()
    host.publish("2.0.0")
    cache = host.var / "cache"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(cache)], check=True)
    try:
        with Loopback(body_for_ever) as endless:
            host.desire("2.0.0", tarball=endless.origin)
            full = host.apply()
        assert (full.code, full.condition("Ready")) == (3, ("False", "DiskTooSmall")), full
        assert list(cache.iterdir()) == []
    finally:
        subprocess.run(["umount", "--lazy", str(cache)], check=True)
    assert host.pid() == pid
