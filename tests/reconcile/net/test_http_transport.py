"""The connection below the HTTP client: what the kernel says of it is believed at once."""

from __future__ import annotations

import errno
import os
import socket
import threading

import pytest

from reconcile.errors import FetchInterrupted
from reconcile.net.http_client import HttpClient, HttpOptions
from tests.loopback import Loopback, Peer


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
            HttpClient(HttpOptions(user_agent="x")).small("GET", server.origin, limit=10, deadline_s=1)
        monkeypatch.undo()
    assert len(times) == 1
