"""The limits of the server, by raw sockets: what a client may send, how slowly, and how many may."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from updater.monitoring import server
from updater.monitoring.server import Server

pytestmark = pytest.mark.python_sensitive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


@pytest.fixture
def running() -> Iterator[Server]:
    one = Server("127.0.0.1:0", app, lifetime_s=2.0)
    yield one
    one.close()


def test_a_host_without_a_further_thread_is_an_error_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the daemon logs, and goes on without local HTTP."""

    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    with pytest.raises(OSError, match="the host is short of a resource: can't start new thread"):
        Server("127.0.0.1:0", app)


def connect(to: Server) -> socket.socket:
    host, _, port = to.address.removeprefix("http://").rstrip("/").rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=60)


def answer(sock: socket.socket) -> bytes:
    """All that is sent until the server closes."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


def status(to: Server, request: bytes) -> int:
    with connect(to) as sock:
        sock.sendall(request)
        return int(answer(sock).split()[1])


def test_a_connection_carries_one_request_whatever_the_client_wishes(running: Server) -> None:
    with connect(running) as sock:
        sock.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n") * 3)
        reported = answer(sock)
    assert reported.count(b"HTTP/1.1 200 OK") == 1
    assert b"\r\nConnection: close\r\n" in reported
    assert b"Server:" not in reported
    assert b"Via:" not in reported


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (GET, 200),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 15000 + b"\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (server.HEADER_BYTES - 28), 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000000\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5dc\r\n" + b"a" * 1500 + b"\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_too_large_or_malformed_is_refused(running: Server, request_: bytes, expected: int) -> None:
    assert status(running, request_) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "head", [b"", b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n"]
)
def test_a_request_that_drips_ends_with_its_connections_life(running: Server, head: bytes) -> None:
    began = time.monotonic()
    with connect(running) as sock:
        sock.sendall(head or b"G")
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 120:
                sock.sendall(b"a")
                sock.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    if not sock.recv(1):
                        break
    assert time.monotonic() - began < 60
    assert status(running, GET) == 200


@pytest.mark.slow
def test_those_who_hold_all_connections_keep_others_out_for_a_life_at_most(running: Server) -> None:
    holders = [connect(running) for _ in range(server.CONNECTIONS + 8)]
    try:
        assert status(running, GET) == 200  # the kernel keeps it waiting meanwhile
    finally:
        for holder in holders:
            holder.close()


@pytest.mark.slow
def test_a_client_that_does_not_read_is_dropped() -> None:
    def large(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", str(1 << 23))])
        return [b"a" * (1 << 23)]

    one = Server("127.0.0.1:0", large, lifetime_s=1.0)
    try:
        with connect(one) as sock:
            sock.sendall(GET)
            deadline = time.monotonic() + 60
            while not one._server.active_channels:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            while one._server.active_channels:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        one.close()


def test_its_end_leaves_no_thread_and_frees_the_port(running: Server) -> None:
    names = {thread.name for thread in threading.enumerate()}
    assert "web" in names
    address = running.address.removeprefix("http://").rstrip("/")
    running.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "web" and thread.is_alive()]
    again = Server(address, app)
    assert status(again, GET) == 200
    again.close()


def test_a_port_that_is_taken_is_an_error_at_once(running: Server) -> None:
    with pytest.raises(OSError, match="in use"):
        Server(running.address.removeprefix("http://").rstrip("/"), app)


def test_its_threads_are_never_given_a_signal(running: Server) -> None:
    tids = [thread.native_id for thread in threading.enumerate() if thread.name == "web" or "waitress" in thread.name]
    assert len(tids) >= 3
    for tid in tids:
        with open(f"/proc/self/task/{tid}/status") as file:
            blocked = next(int(line.split()[1], 16) for line in file if line.startswith("SigBlk"))
        assert all(blocked >> (number - 1) & 1 for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
