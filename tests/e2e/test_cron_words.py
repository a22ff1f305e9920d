"""What cron mails: each state once, as it begins, and not while it lasts."""

from __future__ import annotations

import pytest

from tests.e2e.host import Host

pytestmark = [pytest.mark.slow, pytest.mark.warm]


def words(host: Host) -> str:
    return host.updater("apply", "--once").out


def no_digest(host: Host, version: str) -> None:
    """Want a version whose digest file is not there."""
    host.desire(version, md5=f"{host.meta.url}/nowhere")


def test_another_cause_and_another_wanted_version_are_reported_once(host: Host) -> None:
    """It failed at one version, and the next ones can't be had: it is not as desired all the time."""
    host.install("1.0.0")
    host.settle()
    host.publish("2.0.0", control="#!/bin/sh\nexit 1\n")
    host.desire("2.0.0")
    assert "RolledBack" in words(host) or "Failed" in words(host)
    assert words(host) == ""
    for version in ("3.0.0", "4.0.0"):
        host.publish(version)
        no_digest(host, version)
        reported = words(host)
        assert "FetchFailed" in reported, version
        assert version in reported
        assert words(host) == "", "once"
    host.desire("1.0.0")
    assert "AsDesired" in words(host)
    assert words(host) == ""


def test_what_becomes_of_a_config_is_said_and_not_only_that_something_changed(host: Host) -> None:
    host.publish("1.0.0")
    url = host.meta.publish_config("/c/cfg.json", b"{}")
    host.desire("1.0.0", configFileName="cfg.json", configRemoteUrl=url)
    assert host.apply().code == 0
    host.settle()
    host.meta.fail(500, "/c/cfg.json")
    begins = words(host).splitlines()
    assert (len(begins), begins[1].startswith("  ConfigInSync: FetchFailed: ")) == (2, True), begins
    assert words(host) == ""
    host.meta.heal()
    ends = words(host).splitlines()
    assert ends[1:] == ["  ConfigInSync: AsDesired: cfg.json as delivered"]
    assert words(host) == ""
