"""The server under the page: waitress, with limits on everything that a client could hold.

Each connection carries one request and lives for LIFETIME_S at most, however slowly its bytes drip: waitress's own
limit is one of silence. Nothing of a pass happens in these threads.
"""

from __future__ import annotations

import errno
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import create_server

from reconcile.log import logger
from updater.settings.values import parse_listen

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

LIFETIME_S = 10.0  # of a connection, from accept to close
CONNECTIONS = 32  # further ones wait in the kernel's queue
HEADER_BYTES = 16 * 1024
BODY_BYTES = 1024  # no path wants a body
_THREADS = 2
_POLL_S = 1.0  # how often lifetimes are checked
_DRAIN_S = 2.0


class Server:
    """Serves from when it is made until `close`. `address`: where, for people."""

    def __init__(self, listen: str, app: WSGIApplication, lifetime_s: float = LIFETIME_S) -> None:
        """Listen, and begin to serve. `lifetime_s`: of a connection.

        Raise OSError, where the host has no thread for it as well."""
        host, port = parse_listen(listen)
        self._socket = _listening(host, port)
        name, port = self._socket.getsockname()[:2]
        self.address = f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"
        self._lifetime_s = lifetime_s
        self._ending = threading.Event()
        self._map: dict[int, Any] = {}
        _log_through_ours()
        # Signals are the main thread's: it waits for them, and these threads must not be given them instead.
        with _without_signals(), _as_oserror(self._socket):
            self._server = create_server(
                app,
                map=self._map,
                sockets=[self._socket],
                threads=_THREADS,
                connection_limit=CONNECTIONS + 2,  # the listening socket and waitress's own pipe count
                channel_timeout=lifetime_s,
                cleanup_interval=_POLL_S,
                max_request_header_size=HEADER_BYTES,
                max_request_body_size=BODY_BYTES,
                outbuf_overflow=8 * 2**20,  # a page stays in memory: no file is made for it
                asyncore_use_poll=True,
                log_socket_errors=False,
                expose_tracebacks=False,
                ident=None,
                # they are not trusted; request_guard.py wants to see that they are there
                clear_untrusted_proxy_headers=False,
            )
            self._server.channel_class = _Channel
            self._thread = threading.Thread(target=self._serve, name="web", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End: what is being answered has a moment to be sent."""
        if self._ending.is_set():
            return
        self._ending.set()
        self._server.pull_trigger()
        self._thread.join(_DRAIN_S + 2 * _POLL_S)
        self._server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._map)

    def _serve(self) -> None:
        until = None
        while until is None or (self._server.active_channels and time.monotonic() < until):
            try:
                wasyncore.loop(timeout=_POLL_S, map=self._map, use_poll=True, count=1)
                self._close_the_old()
            except Exception as err:  # the agents are what matters: a fault here must not spin or spread
                logger.failure("ERROR", err, "local HTTP: unexpected, please report it: {!r}", err)
                self._ending.wait(_POLL_S)
            if self._ending.is_set() and until is None:
                until = time.monotonic() + _DRAIN_S
                self._server.accepting = False
                self._server.del_channel()
                self._socket.close()

    def _close_the_old(self) -> None:
        now = time.monotonic()
        for channel in list(self._server.active_channels.values()):
            if now - channel.since > self._lifetime_s:
                channel.handle_close()  # at once: a peer that doesn't read would never let it be flushed


class _OneRequest(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """A request after which the connection is closed, whatever the client wishes."""

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        self.headers["CONNECTION"] = "close"
        self.connection_close = True


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A connection that knows its age."""

    parser_class = _OneRequest

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.since = time.monotonic()
        super().__init__(*arguments, **keywords)


def _listening(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(
        host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return socket.create_server(address[:2], family=family, backlog=CONNECTIONS)


@contextmanager
def _as_oserror(listening: socket.socket) -> Iterator[None]:
    """Raise what a host says that has no further thread as an OSError, and listen no more."""
    try:
        yield
    except RuntimeError as err:
        listening.close()
        raise OSError(errno.EAGAIN, f"the host is short of a resource: {err}") from None


@contextmanager
def _without_signals() -> Iterator[None]:
    """Threads that are made within this are never chosen to receive a signal."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _ToOurLog(logging.Handler):
    """What waitress says of itself, in our log."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "ERROR" if record.levelno >= logging.ERROR else "DEBUG"
        error = record.exc_info[1] if record.exc_info else None
        logger.failure(level, error, "local HTTP: {}", record.getMessage())


def _log_through_ours() -> None:
    log = logging.getLogger("waitress")
    log.propagate = False
    log.setLevel(logging.INFO)
    log.handlers = [_ToOurLog()]
