"""A disk under `var/` of which each call fails with EIO, and hosts short of processes and memory: agents are kept."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.host import ROOT, Host
from tests.e2e.processes import Processes, end_all_in
from tests.support.faulty_ops_meta import FaultyOpsMeta

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs a C compiler on Linux"),
]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("disk") / "failing.so"
    source = Path(__file__).with_name("failing_disk.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    return made


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as processes:
        yield processes


@pytest.fixture
def host(tmp_path: Path, processes: Processes) -> Iterator[Host]:
    with FaultyOpsMeta(work_dir=tmp_path / "agents") as meta:
        host = Host(tmp_path, meta, processes)
        host.configure(interval=1)
        host.install("1.0.0")
        host.settle()
        yield host
        end_all_in(tmp_path)


def failing(host: Host, library: Path, sign: Path) -> dict[str, str]:
    return {"LD_PRELOAD": str(library), "FAILS_BELOW": str(host.var), "FAILS_WHILE": str(sign)}


def test_a_run_from_cron_heals_on_a_disk_that_fails(host: Host, library: Path, tmp_path: Path) -> None:
    env = failing(host, library, tmp_path / "bad")
    (tmp_path / "bad").touch()
    host.crash()
    healed = host.updater("apply", "--once", env=env)
    assert healed.code in (0, 3), healed
    assert host.ask().version == "1.0.0"
    pid = host.pid()
    host.publish("2.0.0")
    host.desire("2.0.0")
    assert host.updater("apply", "--once", env=env).code == 3
    assert host.pid() == pid, "a change waits"
    for command in ("status", "plan", "history", "check"):
        result = host.updater(*command.split(), env=env)
        assert result.code in (0, 3, 69), (command, result)


@pytest.mark.parametrize("server", ["up", "down"])
def test_a_daemon_heals_on_a_disk_that_begins_to_fail(
    host: Host, processes: Processes, library: Path, tmp_path: Path, server: str
) -> None:
    env = {**os.environ, **failing(host, library, tmp_path / "bad")}
    daemon = processes.start(host.command("daemon", "--now"), cwd=ROOT, env=env)
    host.meta.wait_for_heartbeat(since=len(host.meta.heartbeats))
    if server == "down":
        host.meta.down()
    (tmp_path / "bad").touch()
    host.crash()
    assert host.ask().version == "1.0.0"
    assert daemon.poll() is None
    (tmp_path / "bad").unlink()
    if server == "down":
        host.meta.up()
    host.meta.wait_for_heartbeat(since=len(host.meta.heartbeats) + 1)
    daemon.send_signal(signal.SIGTERM)
    out, err = daemon.communicate(timeout=60)
    assert (daemon.returncode, "Traceback" in out + err + host.log) == (0, False), (out, err)
