"""Unpacking into real homes: a version's directory is whole, marked and ours, or it is not there."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probes.home import home_of, run_control
from probes.host.control_script import CallEnd
from probes.host.home_reader import Marker, open_directory, read_marker, read_tree
from probes.host.paths import AgentHome
from probes.observed import MARKER, Origin
from reconcile.act.context import Bounds, StepContext
from reconcile.act.home_ops import make_home
from reconcile.act.host import atomic_fs
from reconcile.act.host.archive import ArchiveLimits
from reconcile.act.steps.unpack import _size_unpacked, unpack
from reconcile.decide.actions import Result, Unpack
from reconcile.decide.desired import Digest, Md5, Sha256
from reconcile.errors import DiskTooSmall, ReconcileError, UnpackRefused, WorkDirMissing, WriteFailed
from tests.hostile.tarballs import CONTROL, member, soft, tar
from tests.support.sample_agents import build
from tests.yard import NAME, Yard

DIGESTS = frozenset[Digest]({Md5("1" * 32), Sha256("2" * 64)})
URL = "http://user:canary@127.0.0.1:1/releases/x.tar.gz?token=canary"


def prepared(yard: Yard, tarball: bytes, **changes: Any) -> StepContext:
    """Tools with this tarball on the bench, and the agent's home made."""
    tools = yard.tools(**changes)
    make_home(home_of(tools.home))
    tools.results.put(io.BytesIO(tarball), yard.cache / "x.tar.gz")
    return tools


def action(directory: str = "1.0.0") -> Unpack:
    return Unpack(version="1.0.0", directory=directory, url=URL, digests=DIGESTS)


@pytest.mark.parametrize("directory", ["1.0.0", ".next-1.0.0"])
def test_a_version_appears_whole_and_marked(yard: Yard, directory: str) -> None:
    tools = prepared(yard, build(NAME, "1.0.0", extra={"conf/a.json": b"{}"}))
    assert unpack(action(directory), tools) is Result.DONE
    assert os.listdir(yard.home()) == [directory]
    tree = yard.home() / directory
    assert os.access(tree / "control", os.X_OK)
    assert (tree / "conf" / "a.json").read_bytes() == b"{}"
    fd = atomic_fs.open_dir(tree)
    assert read_marker(fd) == Marker(origin=Origin.UNPACKED, digests=frozenset(str(digest) for digest in DIGESTS))
    os.close(fd)
    assert "canary" not in (tree / MARKER).read_text()


def test_a_version_whose_control_is_a_link_counts_as_one(yard: Yard) -> None:
    linked = gzip.compress(tar(soft("control", "bin/ctl"), member("bin/ctl", CONTROL, mode=0o700)))
    tools = prepared(yard, linked)
    unpack(action(), tools)
    with open_directory(yard.home()) as home_fd:
        assert home_fd is not None
        tree = read_tree(home_fd, "1.0.0", "1.0.0", None)
    assert tree is not None
    assert tree.origin is Origin.UNPACKED
    result = run_control(tools.home, "1.0.0", "status", 10.0, {}, None)
    assert (result.ended, result.code) == (CallEnd.EXITED, 0)


def test_the_bench_may_stand_anywhere_in_the_tarball(yard: Yard) -> None:
    tools = prepared(yard, build(NAME, "1.0.0"))
    assert tools.results.tarball is not None
    tools.results.tarball.read()
    assert unpack(action(), tools) is Result.DONE


def test_a_directory_without_a_marker_is_made_again(yard: Yard) -> None:
    tools = prepared(yard, build(NAME, "1.0.0"))
    old = yard.home() / "1.0.0"
    old.mkdir()
    (old / "control").write_text("#!/bin/sh\n")
    (old / "old.txt").write_text("of another updater")
    unpack(action(), tools)
    assert os.listdir(yard.home()) == ["1.0.0"]
    assert not (old / "old.txt").exists()
    assert (old / MARKER).exists()


def test_what_interrupted_work_left_is_swept(yard: Yard) -> None:
    tools = prepared(yard, build(NAME, "1.0.0"))
    for name in (".stage-1", ".stage-old-1.0.0"):
        (yard.home() / name / "deep").mkdir(parents=True)
    (yard.home() / ".next-0.9.0").mkdir()  # of an unfinished exchange: not for us to take
    unpack(action(), tools)
    assert sorted(os.listdir(yard.home())) == [".next-0.9.0", "1.0.0"]


@pytest.mark.parametrize(
    ("tarball", "error"),
    [
        pytest.param(build(NAME, "1.0.0", extra={"../evil": b"x"}), UnpackRefused, id="climbs"),
        pytest.param(build(NAME, "1.0.0", extra={"/evil": b"x"}), UnpackRefused, id="absolute"),
        pytest.param(build(NAME, "1.0.0", extra={MARKER: b"{}"}), UnpackRefused, id="brings-a-marker"),
        pytest.param(build(NAME, "1.0.0", no_control=True), UnpackRefused, id="no-control"),
        pytest.param(build(NAME, "1.0.0")[:-100], UnpackRefused, id="cut"),
        pytest.param(b"no tarball at all", UnpackRefused, id="garbage"),
        pytest.param(b"", UnpackRefused, id="empty"),
    ],
)
def test_nothing_stays_of_what_is_refused(yard: Yard, tarball: bytes, error: type[ReconcileError]) -> None:
    tools = prepared(yard, tarball)
    with pytest.raises(error):
        unpack(action(), tools)
    assert os.listdir(yard.home()) == []
    assert not (yard.work / "evil").exists()


@pytest.mark.parametrize(
    ("limits", "error"),
    [(ArchiveLimits(max_unpacked=1000), UnpackRefused), (ArchiveLimits(keep_free=1 << 60), DiskTooSmall)],
)
def test_nothing_stays_of_what_is_too_much(yard: Yard, limits: ArchiveLimits, error: type[ReconcileError]) -> None:
    tools = prepared(yard, build(NAME, "1.0.0", size=5000), bounds=Bounds(archive=limits))
    with pytest.raises(error):
        unpack(action(), tools)
    assert os.listdir(yard.home()) == []


def test_what_is_known_to_have_no_room_is_not_begun(yard: Yard) -> None:
    tools = prepared(yard, build(NAME, "1.0.0"), bounds=Bounds(archive=ArchiveLimits(keep_free=1 << 60)))
    with pytest.raises(DiskTooSmall, match=r"it needs \d+ bytes there, \d+ MiB more than is free at .*; free some"):
        unpack(action(), tools)


def test_a_refused_tarball_leaves_the_old_directory_as_it_is(yard: Yard) -> None:
    tools = prepared(yard, b"garbage")
    old = yard.home() / "1.0.0"
    old.mkdir()
    (old / "control").write_text("kept")
    with pytest.raises(UnpackRefused):
        unpack(action(), tools)
    assert (old / "control").read_text() == "kept"
    assert os.listdir(yard.home()) == ["1.0.0"]


# The home


def test_a_home_is_made_with_its_work_dir_alone(tmp_path: Path) -> None:
    home = AgentHome(tmp_path / "work", "a")
    make_home(home)
    make_home(home)
    assert home.path.is_dir()
    assert home.path.stat().st_mode & 0o777 == 0o755


def test_a_work_dir_whose_parent_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(WorkDirMissing, match="nor does its parent"):
        make_home(AgentHome(tmp_path / "none" / "work", "a"))
    assert os.listdir(tmp_path) == []


def test_a_work_dir_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteFailed, match="make directory"):
        make_home(AgentHome(tmp_path / "file" / "work", "a"))


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_home_that_is_no_directory_is_not_worked_in(yard: Yard, kind: str) -> None:
    yard.work.mkdir()
    elsewhere = yard.folder / "elsewhere"
    elsewhere.mkdir()
    yard.home().touch() if kind == "file" else yard.home().symlink_to(elsewhere)
    tools = prepared(yard, build(NAME, "1.0.0"))
    with pytest.raises(WriteFailed):
        unpack(action(), tools)
    assert os.listdir(elsewhere) == []


@pytest.fixture
def small_disk(yard: Yard) -> Iterator[Path]:
    """A work dir on a file system of one MiB."""
    if os.geteuid() or shutil.which("mount") is None:
        pytest.fail("needs root and mount")
    yard.work.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(yard.work)], check=True)
    try:
        yield yard.work
    finally:
        subprocess.run(["umount", str(yard.work)], check=True)


@pytest.mark.system
def test_a_full_disk_leaves_nothing_behind(yard: Yard, small_disk: Path) -> None:
    tools = prepared(yard, build(NAME, "1.0.0", size=3_000_000))
    free = shutil.disk_usage(small_disk).free
    with pytest.raises(DiskTooSmall):
        unpack(action(), tools)
    assert os.listdir(yard.home()) == []
    assert shutil.disk_usage(small_disk).free == free


def test_what_it_unpacks_to_is_known_before_from_its_last_bytes() -> None:
    file = io.BytesIO(gzip.compress(b"x" * 5000))
    assert _size_unpacked(file) == 5000
    with pytest.raises(UnpackRefused, match="shorter than the shortest"):
        _size_unpacked(io.BytesIO(file.getvalue()[:17]))
