"""docs/quickstart.md as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.processes import Processes, end_all_in, until
from tests.support.page_shell import blocks, free_port, installed, listens, page_shell

pytestmark = pytest.mark.slow


def test_ten_commands_lead_to_an_upgraded_agent(tmp_path: Path, processes: Processes) -> None:
    port, program = free_port(), installed(tmp_path)
    begin, publish, host, upgrade = (
        block.replace("8000", str(port)).replace("/opt/ops-updater/", f"{program}/")
        for block in blocks("quickstart.md")
    )
    version = tmp_path / "quick" / "agents" / "hello" / ".version"
    with page_shell(tmp_path) as shell:
        shell.type(begin)
        shell.type(publish)
        until(lambda: listens(port), "the files are served")
        said = shell.type(host)
        assert "hello" in said
        assert version.read_text() == "1.0.0"
        said = shell.type(upgrade)
        assert version.read_text() == "1.1.0"
        assert "1.0.0 -> 1.1.0" in said
    end_all_in(tmp_path)
