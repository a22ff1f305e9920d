"""The FleetLock client against a real server of the protocol, and against all that is none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from reconcile.net.fleet_lock import FleetLock, Granted, NoAnswer, PlaceRefused
from reconcile.net.http_client import HttpClient, HttpOptions
from tests.loopback import GUARD, Loopback, Peer, Story, answers
from tests.support.fleet_lock_server import Memory, Server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(2, Memory()) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def client(url: str, id: str = "host-1-0a1b2c3d", deadline_s: float = GUARD) -> FleetLock:
    return FleetLock(url, id, HttpClient(HttpOptions(user_agent="ops-updater/test")), deadline_s)


def test_as_many_hosts_have_a_place_as_there_are(server: Server) -> None:
    first, second, third = (client(server.url, id) for id in "abc")
    assert (first.take("web"), second.take("web")) == (Granted(), Granted())
    assert third.take("web") == PlaceRefused(message="all 2 places of web are taken (failed_lock)", is_certain=True)
    assert third.take("db") == Granted()
    assert first.take("web") == Granted()  # recursive
    assert first.give_back("web") == Granted()
    assert first.give_back("web") == Granted()
    assert third.take("web") == Granted()


def test_what_is_sent_is_the_protocols_form() -> None:
    with Loopback(answers()) as server:
        lock = client(f"{server.origin}/locks/")
        assert (lock.take("web"), lock.give_back("web")) == (Granted(), Granted())
    take, give_back = server.requests
    assert take.line == "POST /locks/v1/pre-reboot HTTP/1.1"
    assert give_back.line == "POST /locks/v1/steady-state HTTP/1.1"
    for request in server.requests:
        assert request.headers["fleet-lock-protocol"] == "true"
        assert json.loads(request.body) == {"client_params": {"id": "host-1-0a1b2c3d", "group": "web"}}


@pytest.mark.parametrize("base", ["", "/", "/locks", "/locks/", "/locks/?key=a/b"])
def test_the_paths_of_the_protocol_follow_that_of_the_server(base: str) -> None:
    with Loopback(answers()) as server:
        assert client(server.origin + base).take("web") == Granted()
    path, _, query = base.partition("?")
    expected = f"POST {path.rstrip('/')}/v1/pre-reboot{query and '?' + query} HTTP/1.1"
    assert [request.line for request in server.requests] == [expected]


def asked(story: Story, deadline_s: float = GUARD) -> object:
    with Loopback(story) as server:
        return client(server.origin, deadline_s=deadline_s).take("web")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\n", b"{}", b'{"ok": true}', b"null", b"[]", b'{"kind": 1, "value": "x"}'),
        b'{"kind":"success","value":"The operation was succesfull"}',  # servers of the field, from here on
        b'{"kind": "ok", "value": ""}',
        *(b"obtained reboot lease", b"retained reboot lease", b"steady-state confirmed\n"),
    ],
)
def test_an_empty_or_a_json_body_with_200_is_a_yes(body: bytes) -> None:
    assert asked(answers(body)) == Granted()


@pytest.mark.parametrize("status", [409, 500, 404, 200, 503])
def test_a_refusal_is_one_whatever_its_status(status: int) -> None:
    body = json.dumps({"kind": "failed_lock", "value": "no place\u001b[31m\n"}).encode()
    words = "no place\\x1b[31m (failed_lock)"
    assert asked(answers(body, status=status)) == PlaceRefused(message=words, is_certain=status < 500)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, b"<html>sign in</html>", ()),
        (200, b"ok", ()),
        (200, b"obtained reboot lease\nand more", ()),
        (500, b"obtained reboot lease", ()),
        (204, b"", ()),
        (202, b"{}", ()),
        (302, b"", ("Location: http://127.0.0.1:1/v1/pre-reboot",)),
        (307, b"{}", ("Location: /elsewhere",)),
        (400, b"nope", ()),
        (500, b"", ()),
        (502, b"<html>", ()),
        (409, b'{"kind": "x"}', ()),
        (200, b'{"a": ' + b"[" * 60_000, ()),
        (200, b'"' + b"x" * 70_000 + b'"', ()),
        (500, b'{"kind": "failed_lock", "value": "compressed"}', ("Content-Encoding: gzip",)),
    ],
)
def test_what_is_not_in_the_protocols_form_is_no_answer(status: int, body: bytes, headers: tuple[str, ...]) -> None:
    answer = asked(answers(body, *headers, status=status))
    assert isinstance(answer, NoAnswer)
    assert answer.message


def test_a_server_that_is_not_there_is_no_answer() -> None:
    with Loopback(answers()) as server:
        url = server.origin
    answer = client(url).take("web")
    assert isinstance(answer, NoAnswer)
    assert url in answer.message


def test_a_server_that_hangs_is_no_answer_in_time() -> None:
    answer = asked(Peer.hang, deadline_s=0.3)
    assert isinstance(answer, NoAnswer)
