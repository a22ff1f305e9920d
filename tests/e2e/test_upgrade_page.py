"""docs/upgrade.md as it is written: a checkout is upgraded with a daemon running, and removed; its agent runs on. Of
a pack and a Debian package: tests/system."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.host import NAME, ROOT
from tests.e2e.processes import Processes, end_all_in, until
from tests.support.ops_meta import OpsMetaServer
from tests.support.page_shell import PageShell, blocks, page_shell
from tests.support.sample_agents import build
from updater.demo import agent as agents
from updater.version import VERSION

pytestmark = pytest.mark.slow

NEWER = f"{VERSION}.1"


class Checkout:
    """One with a daemon that runs, as in /opt/ops-updater, and its one agent."""

    def __init__(self, base: Path, meta: OpsMetaServer) -> None:
        self.folder = base / "opt" / "ops-updater"
        self.upstream = base / "upstream"
        self.home = base / "agents" / NAME
        self.meta = meta
        git("clone", "-q", str(ROOT), str(self.upstream))
        git("clone", "-q", str(self.upstream), str(self.folder))
        subprocess.run([ROOT / "control", "setup"], check=True, capture_output=True)
        shutil.copytree(ROOT / ".venv", self.folder / ".venv", symlinks=True)
        config = {"server": meta.server, "hostname": "upgrade-01", "interval": 1, "watch": 0}
        (self.folder / "cfg.json").write_text(json.dumps(config))
        meta.publish(NAME, "1.0.0", build(NAME, "1.0.0", lifetime=600))
        meta.desire(meta.agent(NAME, "1.0.0", "start"))

    def release(self) -> None:
        """A newer version is at the server of git."""
        path = self.upstream / "updater" / "version.py"
        path.write_text(path.read_text().replace(f'"{VERSION}"', f'"{NEWER}"'))
        git("-C", str(self.upstream), "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "newer")

    def block(self, words: str) -> str:
        """The page's block that has these words. What `check` says of this machine does not matter here."""
        [block] = [block for block in blocks("upgrade.md") if words in block]
        block = block.replace("/opt/ops-updater", str(self.folder))
        return re.sub(r"^(\S*updater (?:-c \S+ )?check)\b", r"\1 || [ $? = 3 ]", block, flags=re.MULTILINE)

    def control(self, verb: str) -> str:
        return subprocess.run([self.folder / "control", verb], check=True, capture_output=True, text=True).stdout

    def reports(self, version: str) -> bool:
        """Whether the last heartbeat is of this version of the updater, and its agent runs."""
        if not self.meta.heartbeats:
            return False
        last = self.meta.heartbeats[-1]
        return last["updaterVersion"] == version and [one["status"] for one in last["realAgents"]] == ["started"]


def git(*words: str) -> None:
    subprocess.run(["git", *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path, meta: OpsMetaServer, processes: Processes) -> Iterator[Checkout]:
    checkout = Checkout(tmp_path, meta)
    try:
        assert checkout.control("start").startswith("started (pid ")
        until(lambda: checkout.reports(VERSION), "the agent runs")
        yield checkout
    finally:
        if (checkout.folder / "control").exists():
            checkout.control("stop")
        agents.end_all(tmp_path)
        end_all_in(tmp_path)


@pytest.fixture
def shell(tmp_path: Path, checkout: Checkout) -> Iterator[PageShell]:
    programs = f"{checkout.folder}/.venv/bin:{os.environ['PATH']}"
    with page_shell(tmp_path, {"PATH": programs, "PIP_NO_INDEX": "1"}) as shell:
        yield shell


def test_a_checkout_is_upgraded_while_its_agent_runs_on(checkout: Checkout, shell: PageShell) -> None:
    agent, daemon = agents.pid_of(checkout.home), checkout.control("pid")
    checkout.release()
    said = shell.type(checkout.block("git pull"))
    assert re.search(r"^stoped$", said, re.MULTILINE)
    assert re.search(r"^started \(pid \d+\)$", said, re.MULTILINE)
    until(lambda: checkout.reports(NEWER), "the newer one reports")
    assert agents.pid_of(checkout.home) == agent
    assert checkout.control("pid") != daemon


def test_what_is_removed_leaves_its_agents_running(checkout: Checkout, shell: PageShell) -> None:
    agent = agents.pid_of(checkout.home)
    shell.type(checkout.block("rm -r "))
    assert not checkout.folder.exists()
    assert agents.ask(checkout.home, within=60).pid == agent
    left = {path.name for path in checkout.home.iterdir()}
    assert left == {".version", ".start.log", "1.0.0"}
    assert (checkout.home / "1.0.0" / ".ops-updater.json").exists()
