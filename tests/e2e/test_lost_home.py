"""An agent runs on while its home is moved away or unmounted: the updater starts no second copy beside it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import until

pytestmark = pytest.mark.warm

AWAY: dict[str, Callable[[Host], tuple[str, str]]] = {
    "its home": lambda host: (str(host.home()), str(host.work / "aside")),
    "its workDir": lambda host: (str(host.work), f"{host.work}.aside"),
}


def control_without_paths(host: Host, version: str) -> str:
    """The common script, of an agent whose command line names no folder."""
    from tests.support.sample_agents import AgentBehavior, control_script

    return control_script(NAME, version, AgentBehavior(lifetime=600)).replace('"$PWD/agent.py"', "agent.py")


def installed(host: Host) -> int:
    for version in ("1.0.0", "2.0.0"):
        host.publish(version, control=control_without_paths(host, version))
    host.desire("1.0.0")
    assert host.apply().code == 0
    host.settle()
    pid = host.pid()
    assert pid is not None
    return pid


@pytest.mark.parametrize("what", AWAY)
def test_an_agent_whose_folder_was_moved_away_gets_no_second_copy(host: Host, what: str) -> None:
    pid = installed(host)
    home, aside = AWAY[what](host)
    os.rename(home, aside)
    for version in ("1.0.0", "2.0.0"):
        host.desire(version)
        held = host.apply()
        assert (held.code, held.condition("Ready")) == (3, ("Unknown", "StatusUnknown"))
        assert held.actions() == ""
        assert f"process {pid} " in held.agent()["conditions"][0]["message"]
    assert host.plan().actions() == ""
    assert f"kill {pid}" in host.updater("why", NAME).out
    assert not host.home().exists()
    os.kill(pid, 0)

    os.rename(aside, home)
    host.desire("1.0.0")
    back = host.apply()
    assert (back.code, back.condition("Ready")) == (0, ("True", "AsDesired"))
    assert host.pid() == pid


def test_its_home_is_made_again_once_it_has_ended(host: Host) -> None:
    pid = installed(host)
    os.rename(host.home(), host.work / "aside")
    assert host.apply().code == 3
    os.kill(pid, 9)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "it ends")
    assert host.apply().code == 0
    assert host.ask().version == "1.0.0"


def test_an_agent_that_an_operator_stopped_and_moved_away_is_installed_again(host: Host) -> None:
    installed(host)
    host.desire("1.0.0", cmd="stop")
    assert host.apply().code == 0
    os.rename(host.home(), host.work / "aside")
    host.desire("2.0.0")
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_agent_whose_disk_was_unmounted_gets_no_second_copy(host: Host) -> None:
    host.work.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", str(host.work)], check=True)
    try:
        pid = installed(host)
    finally:
        subprocess.run(["umount", "-l", str(host.work)], check=True)
    try:
        held = host.apply()
        assert (held.code, held.condition("Ready")) == (3, ("Unknown", "StatusUnknown"))
        assert f"process {pid} " in held.agent()["conditions"][0]["message"]
    finally:
        os.kill(pid, 9)
