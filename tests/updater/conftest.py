"""An installed folder with its config, an ops-meta, and the command line, called in this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from reconcile.assess.pass_context import HostContext
from reconcile.log import logger
from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.support.sample_agents import build
from updater.cli import run
from updater.demo import agent
from updater.service import log_setup
from updater.service.pass_runner import make_var
from updater.settings.composition import SourceOverride, host_context
from updater.settings.config import Config, load

CODE = Path(__file__).parents[2]


@frozen
class Ran:
    """How a command line ended."""

    code: int
    out: str
    err: str


class Folder:
    """A folder with a `cfg.json` that names the ops-meta; agents live in `work`, beside it."""

    def __init__(self, path: Path, meta: FaultyOpsMeta, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self.meta = meta
        self.work = path.parent / "work"
        self.var = path / "var"
        self._capsys = capsys
        path.mkdir()
        self.configure()

    def configure(self, **keys: Any) -> None:
        # What is new is good at the first look after its start: who tests the watch sets one.
        content = {"server": self.meta.server, "interval": 300, "hostname": "host-1", "watch": 0, **keys}
        (self.path / "cfg.json").write_text(json.dumps(content))

    @property
    def config(self) -> Config:
        return load(self.path / "cfg.json")

    def around(self) -> HostContext:
        return host_context(self.config, SourceOverride())

    def home(self, name: str = "falcon-agent") -> Path:
        return self.work / name

    def want(
        self, version: str = "1.0.0", *, name: str = "falcon-agent", cmd: str = "start", **build_with: Any
    ) -> None:
        """Publish this version and desire it, and nothing else."""
        self.meta.publish(name, version, build(name, version, **build_with))
        self.meta.desire(self.meta.agent(name, version, cmd))

    def run(self, *argv: str) -> Ran:
        """Run a command line in this process."""
        self._capsys.readouterr()
        code = run(["-c", str(self.path / "cfg.json"), *argv])
        captured = self._capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    def start(self, *argv: str, **popen: Any) -> subprocess.Popen[str]:
        """Start it as a process of its own."""
        command = [sys.executable, "-m", "updater", "-c", str(self.path / "cfg.json"), *argv]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=CODE, env={**os.environ, "NO_COLOR": "1"}, **{**pipes, **popen})

    def log(self) -> str:
        return (self.var / "app.log").read_text()


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Folder]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in numbers}
    with FaultyOpsMeta(work_dir=tmp_path / "work") as meta:
        try:
            yield Folder(tmp_path / "ops-updater", meta, capsys)
        finally:
            for number, handling in before.items():
                signal.signal(number, handling)
            logger.set_up(lambda loaded: loaded.remove(), writes_debug=True)
            agent.end_all(tmp_path)


@pytest.fixture
def ready(folder: Folder) -> Folder:
    """The folder with its `var/` made and its log set up, as a process that makes passes has them."""
    make_var(folder.var)
    log_setup.set_up("debug", folder.var / "app.log", to_stderr=False)
    return folder
