"""Reports to an URL of their own: after each pass, true, and never in the way. Real servers and processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import LIMIT_S, until
from tests.loopback import Loopback, Peer, answers
from tests.support.faulty_ops_meta import FaultyOpsMeta

pytestmark = [pytest.mark.slow, pytest.mark.warm]

INBOX = "/api/heartbeat"  # a second ops-meta keeps what is posted there


@pytest.fixture
def inbox() -> Iterator[FaultyOpsMeta]:
    with FaultyOpsMeta() as server:
        yield server


@pytest.fixture
def reporting(host: Host, inbox: FaultyOpsMeta) -> Host:
    """A host without ops-meta, that reports."""
    host.configure(server=None, desired=f"{host.meta.url}/desired.json", report_to=inbox.url + INBOX)
    return host


def want(host: Host, version: str, **habits: Any) -> None:
    host.publish(version, **habits)
    host.meta.serve("/desired.json", json.dumps({"desiredAgents": [host.meta.agent(NAME, version)]}).encode())


def reported_agents(inbox: FaultyOpsMeta) -> list[list[tuple[str, str]]]:
    """What each report said of the agents: version and status."""
    return [[(agent["version"], agent["status"]) for agent in beat["realAgents"]] for beat in inbox.heartbeats]


def test_each_pass_reports_how_it_left_the_agents_and_looking_reports_nothing(
    reporting: Host, inbox: FaultyOpsMeta
) -> None:
    want(reporting, "1.0.0")
    applied = reporting.apply()
    assert (applied.code, applied.condition("ReportDelivered", None)) == (0, ("True", "AsDesired"))
    assert reported_agents(inbox) == [[("1.0.0", "started")]]
    beat = inbox.heartbeats[0]
    assert (beat["hostname"], beat["realAgents"][0]["name"]) == ("liutian-01", NAME)
    assert set(beat) == {"hostname", "ip", "runUser", "updaterVersion", "realAgents"}
    for command in (["plan"], ["status"], ["why", NAME], ["check"], ["history"]):
        reporting.updater(*command)
    assert len(inbox.heartbeats) == 1
    want(reporting, "2.0.0")
    assert reporting.apply().code == 0
    want(reporting, "3.0.0", broken_start=True)
    assert reporting.apply().code == 4
    assert reported_agents(inbox)[1:] == [[("2.0.0", "started")]] * 2, "rolled back"
    assert reporting.apply("--desired", f"{reporting.meta.url}/desired.json").code == 3
    assert reported_agents(inbox)[3:] == [[("2.0.0", "started")]]


def test_beside_a_server_both_get_reports(host: Host, inbox: FaultyOpsMeta) -> None:
    host.configure(report_to=inbox.url + INBOX, report_extra=True)
    host.install("1.0.0")
    assert reported_agents(inbox) == [[("1.0.0", "started")]]
    assert inbox.heartbeats[0]["realAgents"][0]["ready"] == "True"
    assert host.meta.heartbeats[-1]["realAgents"][0]["version"] == "1.0.0"


def test_its_trouble_is_one_line_a_condition_and_no_exit_code(reporting: Host, inbox: FaultyOpsMeta) -> None:
    want(reporting, "1.0.0")
    assert reporting.apply().code == 0
    reporting.settle()
    inbox.fail(500, INBOX)
    begins = reporting.updater("apply", "--once")
    assert begins.code == 0
    assert begins.out.startswith("ReportDelivered: ServerUnreachable: ")
    assert "HTTP 500" in begins.out
    assert reporting.updater("apply", "--once").out == ""
    assert reporting.status().condition("ReportDelivered", None) == ("False", "ServerUnreachable")
    assert "the last report was not delivered" in reporting.updater("check").out
    inbox.heal()
    ends = reporting.updater("apply", "--once")
    assert (ends.code, ends.out.partition("\n")[0]) == (0, "ReportDelivered: AsDesired")
    inbox.down()
    assert reporting.apply().condition("ReportDelivered", None) == ("False", "ServerUnreachable")
    reporting.configure(report_to=None)
    without = reporting.apply()
    assert "ReportDelivered" not in without.out


def test_a_server_of_reports_that_hangs_delays_no_heal_and_no_slot(host: Host) -> None:
    """It hangs for the whole 10 s each time; heals and heartbeats go on at their pace."""

    def hangs(peer: Peer) -> None:
        peer.request()
        peer.hang()

    with Loopback(hangs) as server:
        host.install("1.0.0")
        host.configure(interval=1, report_to=f"{server.origin}/in")
        before = len(host.meta.heartbeats)
        with host.daemon("--now"):
            until(lambda: server.requests, "the first report is on its way")
            until(lambda: len(host.meta.heartbeats) >= before + 4, "the server is asked at its slots")
            for _ in range(2):
                host.crash()
                until(host.pid, "the crash is healed")
                host.ask()
            assert len(server.requests) <= 1 + len(host.meta.heartbeats) // 4, "one at a time"
            until(
                lambda: host.status().condition("ReportDelivered", None) == ("False", "ServerUnreachable"),
                "it is reported",
                within=2 * LIMIT_S,
            )
        once = host.updater("apply", "--once")
        assert once.code == 0


def test_a_redirect_is_not_followed_and_an_error_shows_no_query(host: Host) -> None:
    with Loopback(answers()) as other:
        moved = answers(b"", f"Location: {other.origin}/x", status=307)
        with Loopback(moved) as server:
            host.configure(report_to=f"{server.origin}/in?token=canary")
            host.install("1.0.0")
            shown = host.status()
            assert shown.condition("ReportDelivered", None) == ("False", "ServerUnreachable")
            assert "HTTP 307, a redirect, and none is followed here" in shown.out
            assert "canary" not in shown.out + host.log
        assert other.requests == []
