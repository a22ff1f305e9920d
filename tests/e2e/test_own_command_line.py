"""A status by `pgrep -f` or `ps | grep` finds the agent alone: no process of ours has its name in its command line.

The executable is started again for each command (no `warm`), since it is its command line that is looked at.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.host import Host
from tests.e2e.processes import until
from tests.support.ops_meta import OpsMetaServer
from tests.support.sample_agents import build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pgrep") is None or sys.platform != "linux", reason="needs pgrep"),
]

# The agent's name comes once into the script, and with it into the command line of what it starts.
LOOKS_BY_NAME = """#!/bin/sh
cd "$(dirname "$0")"
app=@name@
case "$1" in
start) nohup /bin/sh ./agent.sh "$app" </dev/null >app.log 2>&1 & ;;
stop) pkill -f "$app" && echo "$app stoped" ;;
status) if @look@ >/dev/null; then echo started; else echo stoped; fi ;;
esac
"""
AGENT = b"for second in $(seq 600); do sleep 1; done\n"  # its command line ends with the name
LOOKS = {
    "pgrep": 'pgrep -f "$app"',
    "pgrep of the folder": 'pgrep -f "$app/1.0|agent.sh $app"',
    "ps": 'ps -ef | grep "$app" | grep -v grep',
    "ps of a word": 'ps -eo args | grep -w -- "$app" | grep -v grep',
}


@pytest.fixture
def name() -> Iterator[str]:
    """An agent's name that no other process of this machine has."""
    name = f"sole-{os.getpid()}-agent"
    yield name
    subprocess.run(["pkill", "-f", f"agent.sh {name}"], check=False)


def control(name: str, look: str) -> str:
    return LOOKS_BY_NAME.replace("@name@", name).replace("@look@", LOOKS[look])


def agent_of(name: str) -> list[str]:
    found = subprocess.run(["pgrep", "-f", f"agent.sh {name}$"], capture_output=True, text=True, check=False)
    return found.stdout.split()


@pytest.mark.parametrize("look", LOOKS)
def test_an_agent_that_is_looked_for_by_its_name(host: Host, meta: OpsMetaServer, name: str, look: str) -> None:
    # The config lies in a folder of that name, and the name is typed.
    folder = host.folder.with_name(f"of-{name}")
    host.folder.rename(folder)
    host.folder, host.var = folder, folder / "var"
    host.configure(control_timeout={"start": 10, "stop": 10})
    for version in ("1.0.0", "1.0.1"):
        meta.publish(name, version, build(name, version, control=control(name, look), extra={"agent.sh": AGENT}))

    def want(version: str, cmd: str = "start") -> None:
        meta.desire(meta.agent(name, version, cmd))

    want("1.0.0")
    installed = host.apply(name)
    assert installed.code == 0, installed
    [pid] = agent_of(name)
    want("1.0.1")
    upgraded = host.apply(name)
    assert (upgraded.code, upgraded.agent(name)["observed"]["version"]) == (0, "1.0.1"), upgraded
    [second] = agent_of(name)
    assert second != pid

    os.kill(int(second), 9)
    until(lambda: agent_of(name) == [], "it is dead")
    assert host.status(name).agent(name)["observed"]["status"] == "stoped"
    assert host.updater("why", name).code == 0
    assert "stopped" in host.updater("why", name).out
    host.configure(interval=1)
    with host.daemon():
        until(lambda: len(agent_of(name)) == 1, "the daemon heals it")
    host.configure(interval=300)
    want("1.0.1", "stop")
    stopped = host.apply(name)
    assert stopped.code == 0, stopped
    assert agent_of(name) == []


@pytest.mark.parametrize("packed_as", ["@name@-1.0.0.tar.gz", "x.tar.gz", "@name@/x.tar.gz"])
def test_lint_judges_it_alike_whatever_its_file_is_called(host: Host, name: str, packed_as: str) -> None:
    path = host.work.parent / packed_as.replace("@name@", name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(build(name, "1.0.0", control=control(name, "pgrep"), extra={"agent.sh": AGENT}))
    lint = [sys.executable, "-m", "updater", "lint", "-o", "json", str(path)]
    report = json.loads(host.run(*lint).out)
    failed = {check["id"] for check in report["checks"] if check["result"] == "failed"}
    # By its own fault: it does not look before it starts, and `pkill` that finds nothing fails.
    assert failed - {"archive-name"} == {"start-twice", "exit-codes"}, failed


def test_a_command_that_waits_for_another_updaters_pass_shows_no_path(host: Host) -> None:
    """It knows no names yet, and that pass calls scripts meanwhile."""
    host.var.mkdir(exist_ok=True)
    with (host.var / "updater.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = host.begin("apply")
        command = Path(f"/proc/{waiting.pid}/cmdline")
        hidden = b"\0-c\0cfg.json\0apply"
        until(lambda: b"/" not in (line := command.read_bytes()) and hidden in line, "no path is shown")
    assert waiting.ended().code == 0
