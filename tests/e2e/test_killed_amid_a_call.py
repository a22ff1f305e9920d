"""The updater is killed while a control script runs: whichever run comes next waits for that call, not doubling it."""

from __future__ import annotations

import calendar
import signal
import time

import pytest

from reconcile.storage.store import read_state
from tests.e2e.host import NAME, Daemon, Host
from tests.e2e.processes import until
from tests.support.sample_agents import AgentBehavior, control_script
from updater.demo import agent as agents

pytestmark = [pytest.mark.slow, pytest.mark.warm]

WAITS = """
    echo {verb} >>../calls
    while [ ! -e ../go ]; do sleep 0.05; done
"""
HANGS_ONCE = """
    echo {verb} >>../calls
    if [ ! -e ../hung ]; then touch ../hung; exec sleep 600; fi
"""


def slow(version: str, verb: str, *, first: str = WAITS, **habits: object) -> dict[str, str]:
    """The field's script, except that one verb waits for a file in the home."""
    script = control_script(NAME, version, AgentBehavior(lifetime=600, **habits))  # type: ignore[arg-type]
    return {"control": script.replace(f"\n{verb}() {{\n", f"\n{verb}() {{{first.format(verb=verb)}", 1)}


def calls(host: Host) -> list[str]:
    path = host.home() / "calls"
    return path.read_text().split() if path.exists() else []


def killed_amid(host: Host, verb: str) -> None:
    """Run `apply --once`, and kill it while this verb runs and is noted."""

    def noted() -> bool:
        record = read_state(host.var / "state.db").record(NAME)
        return record is not None and any(call.verb == verb and not call.over for call in record.calls)

    killed = host.begin("apply", "--once")
    until(lambda: calls(host) and noted(), f"control {verb} runs, and is noted")
    killed.send(signal.SIGKILL)
    killed.ended()


def waits(host: Host, verb: str) -> Daemon:
    """Begin the next run, which finds the call alive."""
    running = host.begin("apply", "--once")
    host.wait_for_log(f"waits for control {verb}")
    return running


def copies(host: Host) -> int:
    return len(agents.running_below(host.home()))


@pytest.mark.parametrize("late", [0, 1], ids=["up at once", "up a while after its start has ended"])
def test_a_start_that_outlived_its_run_is_waited_for(host: Host, late: float) -> None:
    host.install("1.0.0")
    host.settle()
    host.configure(watch="10m")
    host.publish("2.0.0", **slow("2.0.0", "start", slow_start=late))
    host.desire("2.0.0")
    killed_at = int(time.time())
    killed_amid(host, "start")
    assert (host.version(), copies(host)) == ("2.0.0", 0)

    running = waits(host, "start")
    assert calls(host) == ["start"]
    (host.home() / "go").touch()

    assert running.ended().code == 0
    assert calls(host) == ["start"], "it is never doubled"
    assert (host.meta.reported(NAME) or {})["status"] == "started", "the server gets at once what came of it"
    assert host.ask().version == "2.0.0"
    assert copies(host) == 1
    again = host.apply()
    assert again.condition("Ready") == ("True", "Confirming")
    since = next(c["since"] for c in again.agent()["conditions"] if c["type"] == "Running")
    assert calendar.timegm(time.strptime(since, "%Y-%m-%dT%H:%M:%SZ")) >= killed_at, "it runs since its last start"
    assert calls(host) == ["start"]


def test_the_start_of_a_crashed_agent_is_not_doubled_either(host: Host) -> None:
    host.publish("1.0.0", **slow("1.0.0", "start"))
    host.desire("1.0.0")
    host.home().mkdir(parents=True)
    (host.home() / "go").touch()
    assert host.apply().code == 0
    host.settle()
    for name in ("go", "calls"):
        (host.home() / name).unlink()
    host.crash()
    killed_amid(host, "start")

    running = waits(host, "start")
    (host.home() / "go").touch()

    assert running.ended().code == 0
    assert (calls(host), copies(host)) == (["start"], 1)


def test_a_start_that_goes_on_beyond_its_limit_is_ended_and_made_again(host: Host) -> None:
    host.configure(control_timeout={"start": 3}, watch="10m")
    host.publish("1.0.0", **slow("1.0.0", "start", first=HANGS_ONCE))
    host.desire("1.0.0")
    killed_amid(host, "start")

    assert waits(host, "start").ended().code == 0

    assert calls(host) == ["start", "start"]
    assert copies(host) == 1


def test_a_stop_that_outlived_its_run_is_waited_for(host: Host) -> None:
    host.publish("1.0.0", **slow("1.0.0", "stop"))
    host.desire("1.0.0")
    assert host.apply().code == 0
    host.settle()
    host.publish("2.0.0")
    host.desire("2.0.0")
    killed_amid(host, "stop")

    running = waits(host, "stop")
    (host.home() / "go").touch()

    assert running.ended().code == 0
    assert calls(host) == ["stop"]
    assert host.ask().version == "2.0.0"
    assert copies(host) == 1


def test_a_server_that_changed_its_mind_meanwhile_gets_no_second_copy(host: Host) -> None:
    """2.0.0 is still being started, and says stopped: what it may become is waited for, and stopped."""
    host.install("1.0.0")
    host.settle()
    host.publish("2.0.0", **slow("2.0.0", "start"))
    host.desire("2.0.0")
    killed_amid(host, "start")
    host.publish("3.0.0")
    host.desire("3.0.0")

    running = waits(host, "start")
    (host.home() / "go").touch()

    assert running.ended().code == 0
    assert host.ask().version == "3.0.0"
    assert copies(host) == 1
