"""Rollouts and maintenance windows, as a host of a fleet meets them."""

from __future__ import annotations

import time

import pytest

from tests.e2e.host import NAME, Host

pytestmark = pytest.mark.warm


def in_hours(hours: int) -> str:
    return time.strftime("%H:%M", time.gmtime(time.time() + hours * 3600))


def want(host: Host, version: str, **rollout: object) -> None:
    host.publish(version)
    host.meta.desire({**host.meta.agent(NAME, version), "rollout": rollout})


def test_a_rollout_reaches_a_host_when_its_share_comes(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    want(host, "2.0.0", percent=0)
    waits = host.apply("--detailed-exitcode")
    assert (waits.code, waits.condition("Ready")) == (0, ("False", "NotYet")), waits
    assert host.downloads() == [f"{NAME}-1.0.0.tar.gz"]
    host.crash()
    assert host.apply().code == 0
    assert host.ask().version == "1.0.0", "it is healed meanwhile"

    want(host, "2.0.0", percent=100)
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"
    want(host, "2.0.0", percent=0)
    assert host.apply().condition("Installed") == ("True", "AsDesired"), "nothing is rolled back"


def test_a_first_install_waits_for_its_rollout_and_is_no_success(host: Host) -> None:
    want(host, "1.0.0", percent=0)
    waits = host.apply()
    assert (waits.code, waits.condition("Ready")) == (3, ("False", "NotYet"))
    assert host.downloads() == []


@pytest.mark.parametrize("rollout", [{}, {"percent": 101}, {"percent": "5"}, {"percent": 5, "seed": 1}])
def test_a_rollout_that_can_not_be_read_refuses_the_entry_and_heals_all_the_same(
    host: Host, rollout: dict[str, object]
) -> None:
    host.install("1.0.0")
    host.settle()
    want(host, "2.0.0", **rollout)
    host.crash()
    refused = host.apply()
    assert refused.code == 3
    assert host.ask().version == "1.0.0"
    assert "rollout" in host.updater("plan").out


def test_a_change_waits_for_a_window_and_a_heal_does_not(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    host.configure(windows=[{"start": in_hours(6), "length": "1h"}])
    host.publish("2.0.0")
    host.desire("2.0.0")
    waits = host.apply()
    assert (waits.code, waits.condition("Ready")) == (0, ("False", "OutsideWindow"))
    assert waits.agent()["held"]["until"]
    assert "the next one opens in" in host.updater("why", NAME).out
    assert host.updater("status", "--detailed-exitcode").code == 0
    host.crash()
    assert host.apply().code == 0
    assert host.ask().version == "1.0.0"

    host.configure(windows=[{"start": in_hours(-6), "length": "12h"}])
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"


def test_a_zone_that_is_not_known_is_a_condition_and_heals_go_on(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    host.configure(windows=[{"start": "00:00", "length": "24h"}], time_zone="Mars/Olympus")
    host.publish("2.0.0")
    host.desire("2.0.0")
    host.crash()
    waits = host.apply()
    assert waits.condition("Ready") == ("False", "OutsideWindow")
    assert host.ask().version == "1.0.0"
    assert "Mars/Olympus" in host.updater("status").out
