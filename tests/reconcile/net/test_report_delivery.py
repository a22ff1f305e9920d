"""Reports to an URL: what is sent, what counts as delivered, and that nothing is delayed. Real servers on loopback."""

from __future__ import annotations

import threading
import time

import pytest

from reconcile.net.http_client import Auth, HttpClient, HttpOptions
from reconcile.net.report_delivery import ReportDelivery
from reconcile.source import HostReport
from tests.loopback import GUARD, Loopback, Peer, answers, redirects


def report(hostname: str = "h") -> HostReport:
    return HostReport(hostname=hostname, ip="127.0.0.1", run_user="u", updater_version="1")


def delivery(url: str, deadline_s: float = GUARD, auth: Auth | None = None) -> ReportDelivery:
    http = HttpClient(HttpOptions(user_agent="ops-updater/test", auth=auth))
    return ReportDelivery(url, lambda one: one.hostname.encode(), http, deadline_s)


def outcome(one: ReportDelivery) -> str | None:
    return one.trouble(GUARD)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_report_is_one_post_and_whatever_is_answered_with_success_is_dropped(status: int) -> None:
    with Loopback(answers(b"<html>" if status == 200 else b"", status=status)) as server:
        one = delivery(f"{server.origin}/in?token=canary")
        assert one.trouble(0) is None
        one.send(report())
        assert outcome(one) == ""
        began = time.monotonic()
        assert outcome(one) == ""
        assert time.monotonic() - began < GUARD / 2, "what has ended is not waited for"
    [request] = server.requests
    assert (request.line, request.body) == ("POST /in?token=canary HTTP/1.1", b"h")
    assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
def test_any_other_answer_is_trouble(status: int) -> None:
    with Loopback(answers(b"no", status=status)) as server:
        one = delivery(f"{server.origin}/in?token=canary")
        one.send(report())
        assert outcome(one) == f"{server.origin}/in: HTTP {status}"


def test_a_redirect_is_not_followed() -> None:
    with Loopback(answers()) as other, Loopback(redirects(f"{other.origin}/x", status=307)) as server:
        one = delivery(f"{server.origin}/in")
        one.send(report())
        assert outcome(one) == f"{server.origin}/in: HTTP 307, a redirect, and none is followed here"
        assert other.requests == []


def test_an_answer_without_an_end_is_cut() -> None:
    with Loopback(answers(b"x" * 70_000)) as server:
        one = delivery(f"{server.origin}/in")
        one.send(report())
        assert "at most 65536 are allowed" in (outcome(one) or "")


def test_credentials_go_to_the_origins_that_the_config_names_alone() -> None:
    with Loopback(answers()) as named, Loopback(answers()) as other:
        auth = Auth(user="u", password="canary", origins=frozenset({named.origin}))
        for server in (named, other):
            one = delivery(f"{server.origin}/in", auth=auth)
            one.send(report())
            assert outcome(one) == ""
    assert "authorization" in named.requests[0].headers
    assert "authorization" not in other.requests[0].headers


def test_a_server_that_hangs_delays_no_one_and_gets_the_newest_report_next() -> None:
    came, goes_on = threading.Event(), threading.Event()

    def waits(peer: Peer) -> None:
        peer.request()
        came.set()
        goes_on.wait(GUARD)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with Loopback(waits, answers()) as server:
        one = delivery(f"{server.origin}/in", deadline_s=GUARD)
        one.send(report())
        assert came.wait(GUARD)
        for number in range(100):
            one.send(report(f"h{number}"))
            assert one.trouble(0) is None
        senders = [thread for thread in threading.enumerate() if thread.name == "report_to"]
        assert len(senders) == 1
        goes_on.set()
        assert outcome(one) == ""
        senders[0].join(GUARD)
    bodies = [request.body for request in server.requests]
    assert len(bodies) == 2
    assert bodies[1] == b"h99"


def test_no_pass_waits_after_a_failure_and_its_end_is_known() -> None:
    with Loopback(lambda peer: peer.hang(), answers()) as server:
        one = delivery(f"{server.origin}/in", deadline_s=0.2)
        one.send(report())
        assert "0.2 s" in (outcome(one) or "")
        began = time.monotonic()
        one.send(report())
        assert one.trouble(GUARD) != ""
        assert time.monotonic() - began < GUARD / 2
        while one.trouble(0):
            assert time.monotonic() - began < GUARD
            time.sleep(0.01)


def test_the_news_of_a_report_is_logged_once() -> None:
    with Loopback(answers(status=500), answers()) as server:
        one = delivery(f"{server.origin}/in")
        assert one.news() is None
        for expected in (f"{server.origin}/in: HTTP 500", ""):
            one.send(report())
            began = time.monotonic()
            while (found := one.news()) is None:
                assert time.monotonic() - began < GUARD
                time.sleep(0.01)
            assert (found, one.news()) == (expected, None)
        one.send(report())
        assert outcome(one) == ""
        assert one.news() is None, "who waited for it knows"


def test_a_wait_is_given_up_where_all_is_to_end() -> None:
    with Loopback(lambda peer: peer.hang()) as server:
        one = delivery(f"{server.origin}/in")
        one.send(report())
        assert one.trouble(GUARD, is_cancelled=lambda: True) is None
