"""`check` of users and folders as far as it needs no root; other users are in tests/system/test_users.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.updater.check.findings import HUGE, SMALL, found
from tests.updater.conftest import Folder
from updater.check.subject import CheckState

NOBODY = "ops-test-no-such-user"


def test_our_own_agents_need_no_other_user(folder: Folder) -> None:
    folder.want()
    [one] = found(folder, "users")
    assert (one.state, one.message.endswith(", of falcon-agent: the updater's own user")) == (CheckState.GOOD, True)


def test_an_agent_s_user_that_is_missing_is_bad(folder: Folder) -> None:
    folder.meta.desire(folder.meta.agent("falcon-agent", "1.0.0", runUser=NOBODY))
    [one] = found(folder, "desired", CheckState.BAD)
    assert f"the user '{NOBODY}' does not exist on this host" in one.message
    assert one.remedy.startswith("create it")


def test_the_config_s_own_user_that_is_missing_is_bad_or_will_be_made(folder: Folder) -> None:
    folder.configure(run_user=NOBODY)
    [one] = found(folder, "users")
    assert (one.state, one.message) == (CheckState.BAD, f"{NOBODY}: the user '{NOBODY}' does not exist on this host")
    folder.configure(run_user=NOBODY, create_users=True)
    [one] = found(folder, "users")
    assert (one.state, "is created with its first agent" in one.message) == (CheckState.NOTE, True)


@pytest.mark.parametrize("made", [True, False])
def test_a_work_dir_that_is_there_or_can_be_made_is_good(folder: Folder, made: bool) -> None:
    folder.configure(**SMALL)
    folder.want()
    if made:
        folder.work.mkdir()
    [one] = found(folder, "work_dirs")
    assert (one.state, one.message.startswith(f"{folder.work}: ")) == (CheckState.GOOD, True), one
    assert folder.work.exists() == made


@pytest.mark.parametrize("by", ["the server", "the config"])
def test_a_work_dir_that_can_not_be_made_is_bad(folder: Folder, tmp_path: Path, by: str) -> None:
    nowhere = tmp_path / "no" / "where"
    if by == "the config":
        folder.configure(work_dir=str(nowhere))
    else:
        folder.meta.desire(folder.meta.agent("falcon-agent", "1.0.0", workDir=str(nowhere)))
    [one] = found(folder, "work_dirs")
    assert (one.state, one.remedy) == (CheckState.BAD, f"make {nowhere}, or correct workDir at ops-meta")
    assert not nowhere.parent.exists()


@pytest.mark.parametrize(("key", "state"), [("max_tarball", CheckState.BAD), ("max_unpacked", CheckState.NOTE)])
def test_a_work_dir_without_room(folder: Folder, key: str, state: CheckState) -> None:
    folder.configure(**{**SMALL, key: HUGE})
    folder.want()
    [one] = found(folder, "work_dirs")
    assert (one.state, key in one.message, key in one.remedy) == (state, True, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="a rule about what root executes")
def test_a_home_that_others_can_write_is_bad_for_root(folder: Folder) -> None:
    folder.configure(**SMALL)
    folder.want()
    home = folder.work / "falcon-agent"
    home.mkdir(parents=True)
    home.chmod(0o777)
    [one] = found(folder, "work_dirs", CheckState.BAD)
    assert one.message.startswith(f"refused by rule root_home: {home} can be written by everybody")
    assert one.remedy == f"chmod o-w {home}, or have the agent run as its own user (runUser)"


# As root, of another user; more of them are in tests/system/test_users.py


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(("rules", "is_bad"), [({}, True), ({"allow_work_dirs": ["/usr/local"]}, False)])
def test_a_home_among_the_systems_own_folders_is_another_users_where_a_rule_says_so(
    folder: Folder, rules: dict[str, object], is_bad: bool
) -> None:
    folder.configure(**SMALL, **rules)
    folder.meta.desire(folder.meta.agent("falcon-agent", "1.0.0", runUser="nobody", workDir="/usr/local/lib"))
    bad = found(folder, "work_dirs", CheckState.BAD)
    assert ["rule home_parents" in one.message for one in bad] == ([True] if is_bad else [])
