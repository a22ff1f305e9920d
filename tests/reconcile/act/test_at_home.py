"""What is done inside a home, where no step's own test shows it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from probes.errors import HandOverRefused
from probes.host.paths import AgentHome
from reconcile.act.at_home import check_exchange
from reconcile.act.host import write


@pytest.mark.parametrize("can", [True, False])
def test_whether_two_directories_can_swap_places_is_tried_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can: bool
) -> None:
    home = AgentHome(tmp_path, "falcon-agent")
    home.path.mkdir()
    if not can:
        monkeypatch.setattr(write, "exchange", lambda *args: False)
        with pytest.raises(HandOverRefused, match="can't exchange two directories"):
            check_exchange(home)
    else:
        check_exchange(home)
    assert os.listdir(home.path) == []
