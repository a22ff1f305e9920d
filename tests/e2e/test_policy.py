"""The host's own rules, with the real executable: what is refused says by which rule, and nothing is fetched for it."""

from __future__ import annotations

import json

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import until

pytestmark = [pytest.mark.slow, pytest.mark.warm]


def test_a_barred_change_is_reported_and_never_fetched_and_a_crash_is_healed(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    host.publish("2.0.0")
    host.desire("2.0.0", configFileName="cfg.json", configRemoteUrl=f"{host.meta.url}/cfg.json", md5="")
    host.configure(mirrors=["http://files.example.com/releases"])
    before = len(host.meta.requests)
    barred = host.apply()
    assert (barred.code, barred.condition("Ready")) == (3, ("False", "PolicyRefused"))
    assert barred.agent()["held"]["message"].startswith(
        "refused by rule mirrors: tarball leads to none of http://files."
    )
    assert {request.method for request in host.meta.requests[before:]} == {"POST"}, "not even a digest was asked for"

    host.crash()
    until(lambda: host.pid() is None, "the agent is gone")
    healed = host.apply()
    assert (healed.code, healed.condition("Running")) == (3, ("True", "AsDesired"))
    assert host.ask().version == "1.0.0"

    host.configure(mirrors=[f"{host.meta.url}/releases"])
    host.desire("2.0.0")
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"


def test_a_redirect_leads_to_no_other_mirror(host: Host) -> None:
    host.publish("1.0.0")
    host.desire("1.0.0")
    base = host.meta.release(NAME, "1.0.0").base
    host.meta.redirect(f"{NAME}-1.0.0.tar.gz", f"{host.meta.url}/elsewhere.tar.gz")
    host.configure(mirrors=[base])
    applied = host.apply()
    assert (applied.code, applied.condition("Ready")) == (3, ("False", "FetchFailed"))
    assert "refused by rule mirrors" in json.dumps(applied.agent())


def test_a_downgrade_is_refused_and_going_back_is_none(host: Host) -> None:
    host.configure(refuse_downgrade=True)
    host.install("1.9.0")
    host.settle()
    host.publish("1.10.0")
    host.desire("1.10.0")
    assert host.apply().code == 0
    host.settle()

    host.desire("1.9.0")
    refused = host.apply()
    assert (refused.code, refused.condition("Ready")) == (3, ("False", "PolicyRefused"))
    assert "rule refuse_downgrade: 1.9.0 is older than 1.10.0" in refused.agent()["held"]["message"]
    assert host.ask().version == "1.10.0"

    assert host.updater("rollback", NAME).code == 0
    assert host.ask().version == "1.9.0"


def test_who_and_where_hold_for_what_was_accepted_before_the_rule_came(host: Host) -> None:
    pid = host.install("1.0.0")
    host.configure(allow_work_dirs=["/srv/elsewhere"])
    host.meta.down()
    kept = host.apply()
    [refused] = kept.document["refused"]
    assert (kept.code, refused["reason"], refused["rule"]) == (3, "PolicyRefused", "allow_work_dirs")
    assert host.pid() == pid, "it runs on, untouched"


def test_our_own_folder_is_not_reached_through_a_link(host: Host) -> None:
    host.publish("1.0.0")
    host.work.mkdir()
    (host.work / "link").symlink_to(host.folder.parent)
    entry = host.meta.agent(NAME, "1.0.0", workDir=str(host.work / "link"))
    host.meta.publish(host.folder.name, "1.0.0", b"never asked for")
    host.meta.desire({**entry, "name": host.folder.name})
    applied = host.apply()
    [refused] = applied.document["refused"]
    assert (applied.code, refused["reason"], refused["rule"]) == (3, "PolicyRefused", "own_folder")
    assert sorted(path.name for path in host.folder.iterdir()) == ["cfg.json", "var"]
