"""One agent whose change takes as long as it likes delays none, itself included: passes go on meanwhile, and heal."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import until

pytestmark = pytest.mark.warm

OTHER = "other-agent"
SLOW_CONTROL = """#!/bin/sh
cd "$(dirname "$0")"
if [ "$1" = start ]; then
    echo begun >>../begun
    until [ -e ../go ]; do sleep 0.05; done
fi
exec ./control.real "$@"
"""


def starts_when_released(host: Host) -> None:
    """Two agents that run; from now on the first one's start waits for the file `go`."""
    host.publish("1.0.0")
    host.publish("1.0.0", name=OTHER)
    host.meta.desire(host.meta.agent(NAME, "1.0.0", "start"), host.meta.agent(OTHER, "1.0.0", "start"))
    assert host.apply().code == 0
    control = host.home() / "1.0.0" / "control"
    control.rename(control.with_name("control.real"))
    control.write_text(SLOW_CONTROL)
    control.chmod(0o755)


def begun(host: Host) -> int:
    path: Path = host.home() / "begun"
    return path.read_text().count("begun") if path.exists() else 0


def healed(host: Host, name: str = NAME) -> int:
    """How often history says that it was started after a crash."""
    results = [[action["result"] for action in event["actions"]] for event in host.history(name)]
    return results.count(["done"])


@pytest.mark.slow
def test_the_others_are_healed_while_it_starts(host: Host) -> None:
    starts_when_released(host)
    host.configure(interval=1, log_level="debug")
    host.crash()
    with host.daemon():
        until(lambda: begun(host) == 1, "its start has begun")
        host.crash(OTHER)
        until(lambda: healed(host, OTHER) == 1, "the other runs again, and that is recorded")
        assert host.pid(OTHER) is not None
        beats = len(host.meta.heartbeats)
        until(lambda: len(host.meta.heartbeats) >= beats + 2, "passes go by, and report")
        assert {agent["name"] for agent in host.meta.heartbeats[-1]["realAgents"]} == {NAME, OTHER}
        assert begun(host) == 1
        assert host.pid() is None

        busy = host.updater("apply", "--once")
        assert busy.code == 75, busy  # the pass lock is held until the last plan has ended

        (host.home() / "go").touch()
        until(lambda: host.pid() is not None, "it runs")
        until(lambda: host.status().condition("Ready", NAME) == ("True", "AsDesired"), "its end is recorded")
        until(lambda: host.updater("apply", "--once", NAME).code == 0, "the lock is free between passes")
    assert (begun(host), healed(host)) == (1, 1)


@pytest.mark.slow
def test_a_daemon_that_gets_sigterm_finishes_the_start_that_outlasted_its_pass(host: Host) -> None:
    starts_when_released(host)
    host.configure(interval=1)
    host.crash()
    with host.daemon() as daemon:
        until(lambda: begun(host) == 1, "its start has begun")
        beats = len(host.meta.heartbeats)
        until(lambda: len(host.meta.heartbeats) >= beats + 2, "passes go by")
        daemon.send(signal.SIGTERM)
        (host.home() / "go").touch()
        assert daemon.ended().code == 0
    assert host.pid() is not None
    assert "Traceback" not in host.log
    assert healed(host) == 1


@pytest.mark.slow
def test_an_agent_that_crashes_while_its_upgrade_is_downloaded_runs_at_the_next_pass(host: Host) -> None:
    host.publish("1.0.0")
    host.desire("1.0.0")
    assert host.apply().code == 0
    host.publish("2.0.0")
    host.meta.stall("falcon-agent-2.0.0.tar.gz")
    host.desire("2.0.0")
    host.configure(interval=1)
    with host.daemon():
        host.meta.wait_for_request(lambda request: request.path.endswith("falcon-agent-2.0.0.tar.gz"))
        pid = host.pid()
        host.crash()
        until(lambda: host.pid() not in (None, pid), "it runs again")
        assert "its download waits" in host.log
        assert host.home().joinpath(".version").read_text() == "1.0.0"
        until(lambda: healed(host) == 1, "that is recorded")
        host.meta.heal()
        until(lambda: host.home().joinpath(".version").read_text() == "2.0.0", "the change goes on")
        until(lambda: host.pid() is not None, "and it runs")
