"""docs/without-ops-meta.md as it is written, from an empty folder to an upgrade; the signed half, and nginx, need
Debian's programs (tests/system/test_without_ops_meta.py)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.processes import Processes, end_all_in, until
from tests.support.page_shell import blocks, free_port, installed, listens, page_shell

PAGE = "without-ops-meta.md"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("git") is None, reason="the page is typed as it stands, with git"),
]


def test_the_page_leads_from_an_empty_folder_to_a_fleet_that_upgrades(tmp_path: Path, processes: Processes) -> None:
    begin, agent, publish, serve, host, daemon, upgrade, back = blocks(PAGE)[:8]
    port = free_port()
    begin = begin.replace("/opt/ops-updater ", f"{installed(tmp_path)} ").replace(":8000", f":{port}")
    fleet = tmp_path / "fleet"
    home = fleet / "agents" / "hello-agent"

    def runs(version: str) -> bool:
        return (home / ".version").read_text() == version

    with page_shell(tmp_path) as shell:
        for block in (begin, agent, publish):
            shell.type(block)
        assert (fleet / "www" / "desired.json").exists()
        shell.type(serve)
        until(lambda: listens(port), "the files are served")
        said = shell.type(host)
        assert "hello-agent" in said
        assert runs("1.0.0")
        shell.type(daemon)
        shell.type(upgrade)
        until(lambda: runs("1.1.0"), "the daemon takes up the new version")
        shell.type(back)
        until(lambda: runs("1.0.0"), "and goes back with it")
        assert "back to 1.0.0" in shell.type("git log --oneline www/desired.json")
        assert shell.type("git status --short") == "", "what is no history is ignored"
    end_all_in(tmp_path)
