"""What is done inside a home: what its user may not do is named before anything is done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from probes.errors import InterpreterMissing
from probes.host.paths import AgentHome
from reconcile.act import home_ops
from reconcile.errors import WorkDirMissing, WriteFailed
from tests.support.nobody import NOBODY, as_nobody

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of another user")


def test_a_home_is_made_with_its_work_folder_and_no_more(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home = AgentHome(tmp_path / "work", "falcon-agent")
        assert [home_ops.make_home(home) for _ in range(2)] == [2, 0]
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (home.path, home.work_dir)} == {0o755}
    home_ops.unmake_home(home, 1)
    assert os.listdir(home.work_dir) == []
    assert home_ops.make_home(home) == 1
    home_ops.unmake_home(home, 2)
    assert os.listdir(tmp_path) == []
    with pytest.raises(WorkDirMissing, match="nor does its parent; make it"):
        home_ops.make_home(AgentHome(tmp_path / "none" / "work", "falcon-agent"))
    (tmp_path / "file").touch()
    with pytest.raises(WriteFailed, match=r"can't make directory '?.*/file/falcon-agent"):
        home_ops.make_home(AgentHome(tmp_path / "file", "falcon-agent"))


@needs_root
def test_a_home_of_another_user_is_not_taken(tmp_path: Path) -> None:
    home = AgentHome(tmp_path, "falcon-agent")
    home.path.mkdir()
    os.chown(tmp_path, NOBODY, NOBODY)
    assert home_ops.make_home(home) == 0, "whosever the work folder is"
    os.chown(home.path, NOBODY, NOBODY)
    with pytest.raises(WriteFailed, match="is another user's, expected none, or one of the agent's; remove it"):
        home_ops.make_home(home)


@needs_root
def test_a_home_that_a_user_may_not_make_says_what_to_do(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()

    def made(work_dir: str) -> str:
        return as_nobody(home, f"home_ops.make_home(AgentHome(Path({work_dir!r}), 'falcon-agent'))")

    (tmp_path / "theirs").mkdir()
    assert made("theirs").startswith("WriteFailed can't make directory theirs/falcon-agent: Permission denied")
    assert made("new").startswith("WorkDirMissing new does not exist, and the agent's user may not make it")
    assert (made("home"), made("home/new")) == ("done 1", "done 2")


@needs_root
@pytest.mark.parametrize(("owner", "known"), [(0, "WriteFailed"), (NOBODY, "done None")])
def test_a_configs_folder_that_its_user_may_not_change_is_known_before(tmp_path: Path, owner: int, known: str) -> None:
    home = tmp_path / "falcon-agent"
    (home / "1.0.0" / "conf").mkdir(parents=True)
    os.chown(home / "1.0.0", NOBODY, NOBODY)
    os.chown(home / "1.0.0" / "conf", owner, owner)
    check = "home_ops.check_switch(AgentHome(Path('.'), 'falcon-agent'), '1.0.0', (), 'conf/cfg.json')"
    assert as_nobody(home, check).startswith(known)


def test_what_can_not_be_changed_is_known_before(tmp_path: Path) -> None:
    home = AgentHome(tmp_path, "falcon-agent")
    home.path.mkdir()
    descriptors = os.listdir("/proc/self/fd")
    home_ops.check_changeable(home)
    (home.path / ".version").mkdir()
    with pytest.raises(WriteFailed, match="is a directory, expected a file"):
        home_ops.check_changeable(home)
    with pytest.raises(WriteFailed, match="is a directory, expected a file"):
        home_ops.check_switch(home, "1.0.0", (), None)
    assert os.listdir("/proc/self/fd") == descriptors


def test_a_control_that_can_not_be_executed_is_known_before(tmp_path: Path) -> None:
    home_ops.check_runs(tmp_path / "none", {})
    control = tmp_path / "control"
    control.write_text("#!/bin/sh\n")
    control.chmod(0o755)
    home_ops.check_runs(tmp_path, {})
    control.write_text("#!/none/sh\n")
    with pytest.raises(InterpreterMissing, match="nothing was stopped for it, and what runs runs on"):
        home_ops.check_runs(tmp_path, {})


@pytest.mark.parametrize("name", ["../cfg.json", "conf//cfg.json", "conf/../../cfg.json", "conf/.", "."])
def test_a_config_is_written_nowhere_but_into_its_tree(tmp_path: Path, name: str) -> None:
    tree = tmp_path / "falcon-agent" / "1.0.0"
    tree.mkdir(parents=True)
    with pytest.raises(WriteFailed, match="expected one path component"):
        home_ops.write_config(tree, name, b"{}", False)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert os.listdir(tree) == []
