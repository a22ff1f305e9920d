"""The bench's faults are real ones: what it measures has happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults import failed_upgrade, healed_while_origins_hang


@pytest.mark.slow
def test_a_crashed_agent_is_started_while_servers_hang(tmp_path: Path) -> None:
    assert healed_while_origins_hang(tmp_path, origins=2).least > 0
    assert len([*tmp_path.glob("*/agents/agent-0/ready")]) == 4


@pytest.mark.slow
def test_a_version_that_dies_at_once_was_stopped_for_and_went_back(tmp_path: Path) -> None:
    assert failed_upgrade(tmp_path / "host").least > 0
    home = tmp_path / "host/agents/agent-0"
    assert len((home / "ready").read_text().split()) == len((home / "gone").read_text().split()) == 3
