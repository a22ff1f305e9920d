"""A new version has to stay up for the watch; whichever run comes next settles it: cron, a daemon, after kill -9."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import until
from tests.e2e.steps import heartbeat_with

pytestmark = [pytest.mark.slow, pytest.mark.warm]


@pytest.fixture
def watched(host: Host) -> Host:
    """A host with 1.0.0 that is good, and 2.0.0 desired; a watch that outlasts every test unless one shortens it."""
    host.configure(control_timeout={"start": 10, "stop": 5})
    host.install("1.0.0")
    host.settle()
    host.configure(watch="10m", log_level="debug")
    host.publish("2.0.0")
    host.desire("2.0.0")
    return host


def up_to_date(host: Host) -> int:
    applied = host.apply()
    assert (applied.code, applied.condition("Ready")) == (0, ("True", "Confirming")), applied
    assert host.ask().version == "2.0.0"
    return host.ask().pid


def test_within_its_watch_it_counts_as_desired_and_is_not_good_yet(watched: Host) -> None:
    host = watched
    pid = up_to_date(host)

    for looked in (host.apply(), host.plan("--detailed-exitcode"), host.status("--detailed-exitcode")):
        assert (looked.code, looked.condition("Ready")) == (0, ("True", "Confirming"))
    assert host.pid() == pid
    assert not any("2.0.0 is good" in event["message"] for event in host.history())
    assert host.versions() == ["1.0.0", "2.0.0"], "the way back stays"


def test_apply_waits_for_the_watch_and_says_that_it_is_good(watched: Host) -> None:
    host = watched
    host.configure(watch=1)

    applied = host.updater("apply", "-o", "json")

    assert (applied.code, applied.condition("Ready")) == (0, ("True", "AsDesired"))
    assert host.history()[-1]["message"].startswith("2.0.0 is good")


def test_apply_whose_time_is_up_within_the_watch_does_not_call_it_good(watched: Host) -> None:
    host = watched

    applied = host.updater("apply", "--timeout", "1", "-o", "json")

    assert (applied.code, applied.condition("Ready")) == (3, ("True", "Confirming"))
    assert "still within the watch when the time was up: falcon-agent" in applied.err
    again = host.updater("apply", "--timeout", "1")
    assert (again.code, again.out) == (3, "liutian-01: 1 agent, 1 as desired: falcon-agent (Confirming)\n")


def test_a_version_that_dies_within_its_watch_is_rolled_back_by_the_next_run_of_cron(watched: Host) -> None:
    host = watched
    up_to_date(host)
    host.crash()
    before = len(host.meta.requests)

    result = host.apply()

    assert (result.code, result.condition("Ready")) == (4, ("False", "RolledBack")), result
    assert host.ask().version == "1.0.0"
    assert host.downloads(since=before) == []
    again = host.apply()
    assert (again.code, again.agent()["held"]["reason"]) == (3, "Quarantined")


def test_apply_that_waits_takes_it_back_itself(watched: Host) -> None:
    host = watched
    host.configure(watch=2)
    applying = host.begin("apply")
    until(lambda: host.version() == "2.0.0", "2.0.0 is switched to")
    assert host.ask().version == "2.0.0"
    host.wait_for_log("start 2.0.0: done")
    host.crash()

    ended = applying.ended()

    assert ended.code == 4, ended
    assert host.ask().version == "1.0.0"


def test_a_daemon_takes_it_back_by_itself_long_before_its_next_slot(watched: Host) -> None:
    host = watched
    host.configure(watch=2, interval="100d")
    with host.daemon("--now"):
        host.wait_for_log("start 2.0.0: done")
        assert host.ask().version == "2.0.0"
        host.crash()
        host.wait_for_log("2.0.0 was rolled back")
        until(lambda: host.version() == "1.0.0" and host.pid() is not None, "the old one runs")
    assert host.ask().version == "1.0.0"
    assert host.downloads().count(f"{NAME}-1.0.0.tar.gz") == 1


def test_a_daemon_finds_it_good_by_itself_and_sweeps(host: Host) -> None:
    host.configure(watch=1, interval="100d")
    host.publish("1.0.0")
    host.desire("1.0.0")
    with host.daemon("--now"):
        host.wait_for_log("1.0.0 is good")
    pid = host.pid()
    assert host.apply().condition("Ready") == ("True", "AsDesired")
    assert host.pid() == pid


@pytest.mark.parametrize("by", ["cron", "a daemon"])
@pytest.mark.parametrize("broken", [False, True], ids=["that comes up", "that does not"])
def test_a_run_killed_between_switch_and_start_is_settled_by_the_next(watched: Host, by: str, broken: bool) -> None:
    host = watched
    host.configure(control_timeout={"start": 2, "stop": 5}, interval="100d")
    host.publish("2.0.0", broken_start=broken, slow_start=0 if broken else 0.5)
    host.desire("2.0.0")
    killed = host.begin("apply", "--once")
    host.wait_for_log("start 2.0.0: begins")
    killed.send(signal.SIGKILL)
    killed.ended()
    assert host.version() == "2.0.0"
    wanted = "1.0.0" if broken else "2.0.0"

    if by == "cron":
        assert host.apply().code == (4 if broken else 0)
    else:
        with host.daemon("--now"):
            heartbeat_with(host, wanted, since=len(host.meta.heartbeats))

    assert host.ask().version == wanted
    settled = host.apply()
    assert settled.code == (3 if broken else 0)
    assert host.versions() == ["1.0.0", "2.0.0"]


@pytest.mark.parametrize("dies", [False, True], ids=["and it lives on", "and it dies meanwhile"])
def test_a_daemon_killed_during_the_watch_is_settled_by_cron(watched: Host, dies: bool) -> None:
    host = watched
    with host.daemon("--now") as daemon:
        heartbeat_with(host, "2.0.0")
        daemon.send(signal.SIGKILL)
        daemon.ended()
    pid = host.ask().pid
    if dies:
        host.crash()
        assert host.apply().code == 4
        assert host.ask().version == "1.0.0"
        return
    assert host.apply().condition("Ready") == ("True", "Confirming")
    host.configure(watch=0)
    assert host.apply().condition("Ready") == ("True", "AsDesired"), "never longer than the watch of today's config"
    assert host.pid() == pid


def test_a_status_that_stays_unknown_until_the_watch_ends_goes_back(watched: Host) -> None:
    """Until then it is left alone: unknown by itself starts and stops nothing."""
    host = watched
    pid = up_to_date(host)
    control = host.home() / "2.0.0" / "control"
    control.write_text(control.read_text().replace("'%s\\n' started", "'%s\\n' 'so so'"))

    waiting = host.apply()
    assert (waiting.code, waiting.condition("Ready")) == (3, ("Unknown", "StatusUnknown"))
    assert (waiting.actions(), host.pid()) == ("", pid)

    host.configure(watch=0)
    result = host.apply()
    assert (result.code, result.condition("Ready")) == (4, ("False", "RolledBack")), result
    assert host.ask().version == "1.0.0"


def test_no_fault_of_the_server_counts_as_one_of_the_version_under_watch(watched: Host) -> None:
    host = watched
    pid = up_to_date(host)
    faults: tuple[Callable[[], object], ...] = (
        host.meta.down,
        lambda: host.meta.fail(500, "/heartbeat"),
        lambda: host.meta.answer_raw(200, "<html></html>", "text/html"),
        lambda: host.meta.answer_raw(200, '{"errorMessage": "db is down", "desiredAgents": null}'),
        lambda: host.meta.answer_raw(200, '{"errorMessage": "", "desiredAgents": []}'),
    )
    for fault in faults:
        fault()
        assert host.apply().code == 0
        host.meta.heal()
        assert host.pid() == pid
    assert host.apply().condition("Ready") == ("True", "Confirming")

    host.meta.down()
    host.configure(watch=0)
    assert host.apply().condition("Ready") == ("True", "AsDesired"), "it becomes good without the server"
    assert host.pid() == pid


def test_one_that_dies_while_the_server_is_down_goes_back_all_the_same(watched: Host) -> None:
    """A switch already begun is rolled back without an answer, since nothing is needed for it."""
    host = watched
    up_to_date(host)
    host.crash()
    host.meta.down()

    assert host.apply().code == 4

    assert host.ask().version == "1.0.0"


def test_what_is_good_and_dies_later_is_only_started_again(watched: Host) -> None:
    host = watched
    up_to_date(host)
    host.configure(watch=0)
    assert host.apply().code == 0
    host.configure(watch="10m")
    host.crash()

    healed = host.apply()

    assert (healed.code, healed.actions()) == (0, "start")
    assert host.ask().version == "2.0.0"
