"""What only root does so that an agent has a home. With real users: tests/system."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from probes.host.facts import own_user
from probes.host.paths import AgentHome
from reconcile.act.host.users import give_home
from reconcile.errors import WriteFailed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes homes for others")


class Killed(BaseException):
    """The updater is gone."""


@pytest.mark.parametrize("at", ["fchmod", "fchown", "rename"])
def test_killed_amid_it_no_home_is_there_and_the_next_run_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def killed(*args: object, **keys: object) -> NoReturn:
        raise Killed

    home = AgentHome(tmp_path, "falcon-agent")
    monkeypatch.setattr(os, at, killed)
    with pytest.raises(Killed):
        give_home(home, own_user())
    monkeypatch.undo()
    assert not home.path.exists()
    give_home(home, own_user())
    assert os.listdir(tmp_path) == ["falcon-agent"]
    assert home.path.stat().st_mode & 0o777 == 0o755


def test_a_home_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    home = AgentHome(tmp_path, "falcon-agent")
    home.tree("1.0.0").mkdir(parents=True)
    with pytest.raises(WriteFailed, match="can't make directory"):
        give_home(home, own_user())
    assert (os.listdir(tmp_path), os.listdir(home.path)) == (["falcon-agent"], ["1.0.0"])
