"""Desired state from an URL: what is an answer, what an ETag saves, what is refused. Real servers on loopback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconcile.errors import ResponseInvalid, ServerUnreachable
from reconcile.net.http_client import HttpClient, HttpOptions
from reconcile.source import DesiredSource, Entry, HostReport
from tests.loopback import GUARD, Loopback, Peer, Story, answers, ends, redirects
from tests.updater.conftest import Folder
from updater.sources.url import DesiredUrl, checked_url

REPORT = HostReport(hostname="h", ip="127.0.0.1", run_user="canary", updater_version="1")
ONE = b'{"errorMessage": "", "desiredAgents": [{"name": "a", "cmd": "start"}]}'
UNCHANGED = answers(status=304)


def source(url: str, deadline_s: float = GUARD) -> DesiredSource:
    return DesiredUrl(url, HttpClient(HttpOptions(user_agent="ops-updater/test")), deadline_s)


def test_an_answer_and_no_report() -> None:
    with Loopback(answers(ONE)) as server:
        url = source(f"{server.origin}/desired.json?token=canary")
        answer = url.exchange(REPORT)
    assert answer.entries == (Entry(name="a", cmd="start"),)
    assert answer.came_from == url.came_from == f"{server.origin}/desired.json"
    [request] = server.requests
    assert request.line == "GET /desired.json?token=canary HTTP/1.1"
    assert request.body == b""
    assert "if-none-match" not in request.headers
    assert not any("canary" in value for value in request.headers.values())


def test_unchanged_is_the_same_answer_until_it_changes() -> None:
    new = answers(b'{"desiredAgents": []}', 'ETag: "2"')
    with Loopback(answers(ONE, 'ETag: W/"1"'), UNCHANGED, UNCHANGED, new, UNCHANGED) as server:
        url = source(f"{server.origin}/x")
        first = url.exchange(REPORT)
        assert url.exchange(REPORT) == first
        assert url.exchange(REPORT) == first
        assert url.exchange(REPORT).entries == ()
        assert url.exchange(REPORT).entries == ()
    assert [r.headers.get("if-none-match") for r in server.requests] == [None, 'W/"1"', 'W/"1"', 'W/"1"', '"2"']


@pytest.mark.parametrize("etag", ["", 'ETag: "a b"', f"ETag: {'x' * 300}"])
def test_an_etag_that_is_none_is_not_sent_back(etag: str) -> None:
    with Loopback(answers(ONE, *filter(None, [etag])), answers(ONE)) as server:
        url = source(f"{server.origin}/x")
        url.exchange(REPORT)
        url.exchange(REPORT)
    assert "if-none-match" not in server.requests[1].headers


def test_what_was_no_answer_is_not_remembered() -> None:
    with Loopback(answers(ONE, 'ETag: "1"'), answers(b"{}", 'ETag: "2"'), UNCHANGED) as server:
        url = source(f"{server.origin}/x")
        first = url.exchange(REPORT)
        with pytest.raises(ResponseInvalid):
            url.exchange(REPORT)
        assert url.exchange(REPORT) == first
    assert server.requests[2].headers["if-none-match"] == '"1"'


@pytest.mark.parametrize(
    ("story", "message"),
    [
        (UNCHANGED, "HTTP 304;"),
        (answers(ONE, status=404), "HTTP 404;"),
        (answers(ONE, status=500), "HTTP 500;"),
        (redirects("http://127.0.0.1:1/x"), "HTTP 302, a redirect to http://127.0.0.1:1/x, and none is followed"),
        (answers(ONE * 20_000), "at most 1048576 are allowed"),
    ],
)
def test_what_is_no_answer(story: Story, message: str) -> None:
    with Loopback(story) as server, pytest.raises(ServerUnreachable, match=message):
        source(f"{server.origin}/x").exchange(REPORT)


def test_who_asks_to_wait_is_heard() -> None:
    with Loopback(answers(b"", "Retry-After: 70", status=503)) as server, pytest.raises(ServerUnreachable) as raised:
        source(f"{server.origin}/x").exchange(REPORT)
    assert raised.value.retry_after == 70


def test_a_server_that_drips_is_left_at_the_deadline() -> None:
    def drips(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.drip(for_ever=b" ")

    with ends(), Loopback(drips) as server, pytest.raises(ServerUnreachable):
        source(f"{server.origin}/x", deadline_s=0.5).exchange(REPORT)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://h/x", "not an http:// or https:// URL"),
        ("http://user:canary@h/x", "credentials in the URL"),
        ("http://h/x#y", "a # part is never sent"),
        ("http://h/a b?canary", "holds a blank"),
        ("http://h/a\tb?canary", "holds a blank"),
        ("http://h/a\x07b?canary", "holds a blank or a control character"),
        ("http://h/a\u202eb?canary", "holds a blank or a control character"),
        ("http://h:99999/x", "ort"),
    ],
)
def test_urls_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        checked_url(url)
    assert "canary" not in str(raised.value)


def entry(version: str) -> bytes:
    agent = {"name": "falcon-agent", "version": version, "tarball": "http://127.0.0.1:9/x", "md5": "0" * 32}
    return json.dumps({"desiredAgents": [{**agent, "cmd": "start"}]}).encode()


def test_the_config_and_the_command_line_take_one(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("canary")
    with Loopback(answers(entry("1.0.0"))) as server, Loopback(answers(entry("2.0.0"))) as other:
        folder.configure(
            server=None,
            desired=f"{server.origin}/d.json",
            work_dir=str(folder.work),
            auth={"user": "u", "password_file": str(tmp_path / "password")},
        )
        ran = folder.run("plan", "-o", "json")
        typed = folder.run("plan", "-o", "json", "--desired", f"{other.origin}/d.json")
    plan = json.loads(ran.out)
    assert (ran.code, plan["desired_from"]) == (0, f"{server.origin}/d.json")
    assert plan["agents"][0]["desired"]["version"] == "1.0.0"
    assert json.loads(typed.out)["agents"][0]["desired"]["version"] == "2.0.0"
    # The origin in the config gets the credentials, the one that was typed does not.
    assert server.requests[0].headers["authorization"].startswith("Basic ")
    assert "authorization" not in other.requests[0].headers


def test_after_a_change_it_is_not_asked_once_more_since_it_takes_no_report(folder: Folder) -> None:
    folder.want()
    agents = [folder.meta.agent("falcon-agent", "1.0.0")]
    url = folder.meta.serve("/desired.json", json.dumps({"desiredAgents": agents}).encode())
    folder.configure(server=None, desired=url)
    assert folder.run("apply", "--once").code == 0
    assert [request.path for request in folder.meta.requests].count("/desired.json") == 1


def test_down_it_is_as_a_server_that_is_down(folder: Folder) -> None:
    with Loopback(answers(entry("1.0.0"))) as server:
        folder.configure(server=None, desired=f"{server.origin}/d.json", work_dir=str(folder.work))
        folder.run("apply", "--once")
    plan = json.loads(folder.run("plan", "-o", "json").out)
    assert plan["agents"][0]["held"]["reason"] == "ServerUnreachable"
    assert plan["conditions"][0]["type"] == "ServerReachable"
    assert plan["conditions"][0]["status"] == "False"
