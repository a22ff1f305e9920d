"""The connection below the HTTP client: what the kernel says of it is believed at once."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from reconcile.errors import FetchInterrupted
from reconcile.net.http_client import HttpClient, HttpOptions
from reconcile.net.http_transport import Deadline, NoHandshake, SpeaksTls, _Backend, _Stream, translated
from tests.loopback import GUARD, Loopback, Peer


def test_a_connection_that_the_kernel_declared_dead_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has the same class for it as for a read that took too long, which is merely tried again."""
    ours, receive, times = threading.get_ident(), socket.socket.recv, []

    def dead(sock: socket.socket, size: int) -> bytes:
        if threading.get_ident() != ours:
            return receive(sock, size)
        times.append(size)
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    with Loopback(Peer.hang) as server:
        monkeypatch.setattr(socket.socket, "recv", dead)
        with pytest.raises(FetchInterrupted, match="timed out"):
            HttpClient(HttpOptions(user_agent="x")).small("GET", server.origin, limit=10, deadline_s=GUARD)
        monkeypatch.undo()
    assert len(times) == 1


def test_a_connection_that_the_kernel_declared_dead_is_not_written_to_and_read_once_more() -> None:
    """A server that refuses is still heard after a failed write; of a dead connection nothing comes any more."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 100)
        stream = _Stream(ours, Deadline(GUARD, time.monotonic), lambda der: None)
        with server.accept()[0], pytest.raises(TimeoutError) as raised:  # which reads nothing
            stream.write(bytes(1 << 26))
    assert raised.value.errno == errno.ETIMEDOUT, "and not our deadline"


def test_a_limit_is_said_as_a_person_would() -> None:
    """What is left of one that several questions share is no round number."""
    for seconds, words in ((29.9955, "30 s"), (2.5, "2.5 s"), (0.0, "0 s")):
        with pytest.raises(TimeoutError, match=f"^not done within {words}$"):
            Deadline(seconds, iter((0.0, 60.0)).__next__).left()


ALERT = b"\x15\x03\x01\x00\x02\x02\x46"


@pytest.fixture
def peers() -> Iterator[tuple[_Stream, socket.socket]]:
    """A connection without TLS, and its other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield _Stream(ours, Deadline(60, time.monotonic), lambda der: None), theirs


def test_only_the_first_bytes_of_a_peer_can_be_a_tls_alert(peers: tuple[_Stream, socket.socket]) -> None:
    stream, theirs = peers
    theirs.send(b"HTTP/1.1 200 OK\r\n")
    assert stream.read(1000) == b"HTTP/1.1 200 OK\r\n"
    theirs.send(ALERT)
    assert stream.read(1000) == ALERT, "bytes of the body"


def test_a_peer_that_answers_with_a_tls_alert_speaks_tls(peers: tuple[_Stream, socket.socket]) -> None:
    stream, theirs = peers
    theirs.send(ALERT)
    with pytest.raises(SpeaksTls):
        stream.read(1000)


def test_a_connection_sends_small_packets_at_once_and_is_closed() -> None:
    with Loopback(Peer.hang) as server:
        stream = _Backend(Deadline(60, time.monotonic), lambda der: None).connect_tcp("127.0.0.1", server.port)
        assert isinstance(stream, _Stream)
        assert stream._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        stream.close()
        assert stream._sock.fileno() == -1


def test_a_handshake_that_ends_without_a_word_is_said_to_end() -> None:
    with (
        pytest.raises(FetchInterrupted, match=r"^x: no TLS handshake \(it ended the connection\)"),
        translated("x", str),
    ):
        raise NoHandshake("")
    with pytest.raises(FetchInterrupted, match=r"^x: no TLS handshake \(BAD_ECPOINT\)"), translated("x", str):
        raise NoHandshake("BAD_ECPOINT")
