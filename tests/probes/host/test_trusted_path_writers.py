"""Who else can write: real folders, modes and links. Owners stand in test_rights.py and below, for root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from probes.host.trusted_path import Routes, writable_paths

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
OTHER = 65534  # nobody, on every host


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder that is closed to others, as all above it are, with a file in a folder of it."""
    tmp_path.chmod(0o755)
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "real/file").touch(mode=0o644)
    return tmp_path


def loose(*starts: Path, routes: Routes | None = None) -> list[Path]:
    return [flaw.path for flaw in writable_paths(starts, os.geteuid(), os.getegid(), routes)]


def link(path: Path, target: str) -> Path:
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.symlink_to(target)
    return path


def test_a_folder_in_which_a_link_on_the_way_lies_counts(top: Path) -> None:
    start = link(top / "a/link", "../real") / "file"
    assert loose(start) == []
    (top / "a").chmod(0o777)
    assert loose(start) == [top / "a"]


def test_each_link_of_a_chain_counts(top: Path) -> None:
    link(top / "b/second", str(top / "real/file"))
    start = link(top / "a/first", "../b/./second")
    assert loose(start) == []
    for folder in ("a", "b", "real"):
        (top / folder).chmod(0o777)
        assert loose(start) == [top / folder]
        (top / folder).chmod(0o755)


@pytest.mark.parametrize("target", ["real/..", "real/../.", "../{top}"])
def test_what_a_link_leads_to_is_judged_where_its_way_ends_upwards(top: Path, target: str) -> None:
    start = link(top / "start", target.format(top=top.name))
    assert loose(start) == []
    top.chmod(0o777)
    assert loose(start) == [top]


def test_up_from_where_a_link_leads_is_not_up_from_where_it_lies(top: Path) -> None:
    """`a/link/..` is the folder above `real/inner`, not `a`."""
    (top / "real/inner").mkdir(mode=0o755)
    link(top / "a/link", "../real/inner")
    start = link(top / "start", "a/link/../file")
    (top / "real/file").chmod(0o666)
    assert loose(start) == [top / "real/file"]


@pytest.mark.parametrize("target", ["loop", "missing", "real/file/below", "missing/../real/file"])
def test_what_leads_nowhere_ends_there(top: Path, target: str) -> None:
    start = link(top / "loop", target)
    assert loose(start, start / "below") == []
    top.chmod(0o777)
    assert loose(start) == [top]


def test_a_sticky_folder_in_which_nothing_is_yet(top: Path) -> None:
    top.chmod(0o1777)
    assert loose(top / "missing", top / "missing/too") == []
    assert loose(top) == [top]


def test_a_link_of_our_own_in_a_sticky_folder_is_ours(top: Path) -> None:
    """Its mode says that everybody may write it, as that of each link does."""
    start = link(top / "a/link", "../real") / "file"
    (top / "a").chmod(0o1777)
    assert loose(start) == []


def test_another_group_counts_where_it_may_write(top: Path) -> None:
    file = top / "real/file"
    if os.geteuid() == 0:
        os.chown(file, -1, OTHER)
    ours = file.stat().st_gid + 1
    assert list(writable_paths([file], os.geteuid(), ours)) == []
    file.chmod(0o664)
    [flaw] = writable_paths([file], os.geteuid(), ours)
    assert (flaw.path, flaw.remedy) == (file, f"chmod g-w {file}")
    assert list(writable_paths([file], os.geteuid(), file.stat().st_gid)) == [], "its own group is no other"
    if os.geteuid() == 0:
        os.chown(file, -1, 0)
        assert list(writable_paths([file], 0, OTHER)) == [], "nor is root's"


@ROOT_ONLY
def test_a_link_that_its_owner_can_exchange(top: Path) -> None:
    """In a sticky folder; elsewhere only who writes the folder can."""
    start = link(top / "a/link", "../real") / "file"
    os.lchown(top / "a/link", OTHER, OTHER)
    assert loose(start) == []
    (top / "a").chmod(0o1777)
    [flaw] = writable_paths([start], 0, 0)
    assert (flaw.path, flaw.remedy) == (top / "a/link", f"chown -h root {top}/a/link")


def test_a_folder_is_looked_at_and_reported_once(top: Path) -> None:
    routes: Routes = {}
    (top / "real").chmod(0o777)
    assert loose(top / "real/file", routes=routes) == [top / "real"]
    (top / "real").chmod(0o755)
    assert loose(top / "real/file", routes=routes) == [top / "real"], "by what was seen a moment ago"
    assert loose(top / "real/file") == []


def test_a_folder_on_two_paths_is_reported_once(top: Path) -> None:
    (top / "real/other").touch(mode=0o644)
    (top / "real").chmod(0o777)
    assert loose(top / "real/file", top / "real/other") == [top / "real"]


def test_a_path_of_a_thousand_names(top: Path) -> None:
    assert loose(top / "/".join(["x"] * 2000)) == []
