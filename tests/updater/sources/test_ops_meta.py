"""Heartbeats to real servers on loopback: what is an answer, what isn't, and where the server is."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from reconcile.errors import ResponseInvalid, ServerUnreachable
from reconcile.net.http_client import Auth, HttpClient, HttpOptions
from reconcile.source import DesiredSource, Entry, HostReport
from tests.certificates import make
from tests.loopback import GUARD, Loopback, Peer, Story, answers, ends, redirects
from updater.sources.ops_meta import OpsMeta, heartbeat_url

REPORT = HostReport(hostname="h", ip="127.0.0.1", run_user="u", updater_version="1")
ONE = b'{"errorMessage": "", "desiredAgents": [{"name": "a", "cmd": "start"}]}'


def source(server: str, deadline_s: float = GUARD) -> DesiredSource:
    return OpsMeta(server, HttpClient(HttpOptions(user_agent="ops-updater/test")), deadline_s)


def hangs(peer: Peer) -> None:
    peer.request()
    peer.hang()


def drips(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    peer.drip(for_ever=b" ")


def test_an_exchange() -> None:
    with Loopback(answers(ONE)) as server:
        meta = source(f"127.0.0.1:{server.port}")
        answer = meta.exchange(REPORT)
    assert answer.entries == (Entry(name="a", cmd="start"),)
    assert answer.came_from == meta.came_from == f"{server.origin}/api/heartbeat"
    [request] = server.requests
    assert request.line == "POST /api/heartbeat HTTP/1.1"
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body)["realAgents"] == []


def test_an_older_server_is_asked_at_its_own_path() -> None:
    with Loopback(answers(ONE)) as server:
        source(f"{server.origin}/heartbeat?key=canary").exchange(REPORT)
    assert server.requests[0].line == "POST /heartbeat?key=canary HTTP/1.1"


@pytest.mark.parametrize(
    ("server", "in_brackets"),
    [("::1", True), ("fe80::1:2000", True), ("[::1", False), ("meta:port", False), ("http://[::1]:x", False)],
)
def test_an_address_with_colons_is_to_stand_in_brackets(server: str, in_brackets: bool) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(server))) as raised:
        heartbeat_url(server)
    assert ("an IPv6 address stands in brackets" in str(raised.value)) is in_brackets


@pytest.mark.parametrize(
    ("story", "message"),
    [
        pytest.param(answers(b"body is blank", status=400), r"HTTP 400 \(body is blank\)", id="400"),
        pytest.param(answers(b'{"success": false, "message": "busy"}', status=500), r"HTTP 500 \(busy\)", id="500"),
        pytest.param(answers(ONE, status=500), "HTTP 500", id="500-valid"),
        pytest.param(answers(ONE, status=201), "HTTP 201", id="201-valid"),
        pytest.param(answers(status=204, length=False), "HTTP 204;", id="204"),
        pytest.param(answers(b"\x1b[2J", status=502), r"\\x1b\[2J", id="502"),
        pytest.param(answers(b"[" * 5000, status=502), r"HTTP 502 \(\[\[", id="502-deep"),
        pytest.param(answers(b"9" * 500_000, status=502), "HTTP 502", id="502-huge"),
        pytest.param(answers(b"", "Retry-After: 7", status=429), "asks to wait: 7", id="429"),
        pytest.param(
            redirects("http://elsewhere.test/x?canary"), "a redirect to http://elsewhere.test/x; a heartbeat", id="302"
        ),
        pytest.param(redirects("/x"), r"a redirect to http://127\.0\.0\.1:\d+/x; a heartbeat", id="302-path"),
        pytest.param(redirects(""), "redirect to nowhere", id="302-nowhere"),
        pytest.param(redirects("http://[x?canary"), "a redirect to what is not a URL, 'http://\\[x'", id="302-no-url"),
        pytest.param(
            redirects("http://u:canary@[x"), "a redirect to what is not a URL; a", id="302-no-url-with-password"
        ),
        pytest.param(answers(b"404 page not found", status=404), "is the path of `server` in", id="404"),
        pytest.param(answers(status=405), "is the path of `server` in", id="405"),
        pytest.param(
            answers(b"<html><title>no such page</title><p>canary</p></html>", status=404),
            r"HTTP 404 \(no such page\); is",
            id="404-page",
        ),
        pytest.param(answers(status=503), "is ops-meta up, and a proxy before it well", id="503"),
        pytest.param(
            answers(b"Client sent an HTTP request to an HTTPS server.\n", status=400),
            "that port speaks TLS: write https:// for it in `server` in the config",
            id="tls-go",
        ),
        pytest.param(
            answers(b"<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>", status=400),
            "that port speaks TLS: write https:// for it in `server` in the config",
            id="tls-nginx",
        ),
        pytest.param(answers(ONE + b" " * 1024 * 1024), "1048576 are allowed", id="too-large"),
        pytest.param(answers(b"half", "Content-Length: 10", length=False), "closed", id="half"),
        pytest.param(lambda peer: peer.request(), "disconnected", id="closes"),
        pytest.param(hangs, "too slow", id="hangs"),
        pytest.param(drips, "too slow", id="drips"),
    ],
)
def test_no_answer(story: Story, message: str) -> None:
    with Loopback(story) as server, ends(), pytest.raises(ServerUnreachable, match=message) as raised:
        source(f"127.0.0.1:{server.port}", deadline_s=0.5).exchange(REPORT)
    text = str(raised.value)
    assert f"{server.origin}/api/heartbeat" in text
    assert "`server` in the config" in text or "ops-meta up" in text
    assert text.isprintable()
    assert "canary" not in text


@pytest.mark.parametrize(("status", "remedy"), [(401, "`auth.password_file`"), (407, "write them into `proxy`")])
def test_whose_password_is_asked_for(status: int, remedy: str) -> None:
    with Loopback(answers(b"who are you", status=status)) as server, pytest.raises(ServerUnreachable) as raised:
        source(server.origin).exchange(REPORT)
    said, _, what_to_do = str(raised.value).partition("; ")
    assert said.endswith(f"HTTP {status} (who are you)")
    assert remedy in what_to_do


def test_a_server_that_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ServerUnreachable, match=f"http://127.0.0.1:{port}/api/heartbeat: Connection refused"):
        source(f"127.0.0.1:{port}").exchange(REPORT)


def test_a_certificate_has_its_remedy_and_no_other(tmp_path: Path) -> None:
    with Loopback(answers(ONE), tls=make().serves(tmp_path)) as server, pytest.raises(ServerUnreachable) as raised:
        source(server.origin).exchange(REPORT)
    assert "is of an unknown issuer" in str(raised.value)
    assert "ops-meta up?" not in str(raised.value)


def test_http_to_a_port_of_tls(tmp_path: Path) -> None:
    with Loopback(answers(ONE), tls=make().serves(tmp_path)) as server, pytest.raises(ServerUnreachable) as raised:
        source(f"127.0.0.1:{server.port}").exchange(REPORT)
    assert str(raised.value).endswith(
        f"http://127.0.0.1:{server.port}/api/heartbeat: that port speaks TLS; write https:// for it, or the port that "
        "serves http"
    )


def test_a_page_in_place_of_an_answer_is_shown_by_its_title() -> None:
    page = b"<!doctype html><html><head><title>Log in &middot; corp</title></head><body>long</body></html>"
    with Loopback(answers(page)) as server, pytest.raises(ResponseInvalid, match="the page 'Log in · corp' instead"):
        source(server.origin).exchange(REPORT)


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"errorMessage": "no"}', b'{"success": false}', b"null"])
def test_a_200_that_is_no_answer(body: bytes) -> None:
    with Loopback(answers(body)) as server, pytest.raises(ResponseInvalid, match=re.escape(server.origin)):
        source(server.origin).exchange(REPORT)


def test_no_secret_comes_out() -> None:
    with Loopback(answers(b"denied", status=401)) as server:
        auth = Auth(user="me", password="canary", origins=frozenset({server.origin}))
        meta = OpsMeta(f"{server.origin}/x?key=canary", HttpClient(HttpOptions(auth=auth, user_agent="t")))
        with pytest.raises(ServerUnreachable) as raised:
            meta.exchange(REPORT)
    assert server.requests[0].headers["authorization"] == "Basic bWU6Y2FuYXJ5"
    assert "canary" not in str(raised.value) + meta.came_from


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("10.0.0.1:2000", "http://10.0.0.1:2000/api/heartbeat"),
        ("meta", "http://meta/api/heartbeat"),
        ("[::1]:2000", "http://[::1]:2000/api/heartbeat"),
        ("meta:2000/heartbeat", "http://meta:2000/heartbeat"),
        ("http://meta:2000", "http://meta:2000/api/heartbeat"),
        ("https://meta/", "https://meta/api/heartbeat"),
        ("https://meta/heartbeat", "https://meta/heartbeat"),
        ("https://meta/a/?k=v", "https://meta/a/?k=v"),
        ("http://[::1]:2000/heartbeat", "http://[::1]:2000/heartbeat"),
    ],
)
def test_where_the_server_is(server: str, url: str) -> None:
    assert heartbeat_url(server) == url


@pytest.mark.parametrize(
    "server",
    ["", " ", "meta:2000 ", "me ta", "meta\n", "meta:http", "meta:70000", ":2000", "::1", "::1:2000", "[::1", "ftp://meta",
     "http://", "http:///x", "http://meta?k=v", "http://meta/x#y", "http://me:canary@meta/x", "me:canary@meta:x"],
)  # fmt: skip
def test_a_server_that_can_not_be(server: str) -> None:
    with pytest.raises(ValueError, match=r"expected host:port|auth") as raised:
        heartbeat_url(server)
    assert str(raised.value).isprintable()
    assert "canary" not in str(raised.value)
    with pytest.raises(ValueError, match=r"."):
        source(server)
