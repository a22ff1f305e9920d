"""HTTP/1.1 on loopback as a good file server speaks it.

Ranges, entity tags and HEAD follow RFC 9110. What is served under which path is the business of a `FileSite`
(ops_meta.py): this module knows neither agents nor heartbeats.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from attrs import evolve, field

from probes.values import frozen


@frozen(kw_only=True)
class ServedRequest:
    """A request as it came in, its path without percent escapes. `headers` by lower-case name."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@frozen(kw_only=True)
class Reply:
    """A whole answer. A file is streamed from disk, so it must stay as it is while it is served."""

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    content: bytes | Path = b""

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def text(status: int, words: str, **headers: str) -> Reply:
    """Make an answer of plain text. Header names with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, headers={"Content-Type": "text/plain; charset=utf-8", **named}, content=words.encode())


class FileSite(Protocol):
    """What the server asks of its owner. Called from many threads at once."""

    def respond(self, call: ServedRequest) -> Reply:
        """Say what is at this path, in full. It may take its time."""

    def note(self, call: ServedRequest, status: int) -> None:
        """Remember the request. Called before the status line leaves."""


def negotiate(call: ServedRequest, reply: Reply) -> tuple[Reply, int, int]:
    """Turn the whole answer into what was asked for: the answer, and the first and past-the-last byte to send.

    RFC 9110, section 13.2.2: If-None-Match first, then If-Range, then Range, which counts for GET alone. Several ranges
    in one request may be ignored, and are.
    """
    size, tag = reply.size, reply.headers.get("ETag")
    if reply.status != 200 or tag is None or call.method not in ("GET", "HEAD"):
        return reply, 0, size
    known = re.split(r"\s*,\s*", call.headers.get("if-none-match", ""))
    if not {tag, f"W/{tag}", "*"}.isdisjoint(known):
        return Reply(status=304, headers={"ETag": tag}), 0, 0
    is_current = call.headers.get("if-range", tag) == tag
    wanted = _range(call.headers.get("range", ""), size)
    if wanted is None or not is_current or call.method == "HEAD" or reply.headers.get("Accept-Ranges") != "bytes":
        return reply, 0, size
    start, stop = wanted
    if start >= stop:
        return Reply(status=416, headers={"Content-Range": f"bytes */{size}"}), 0, 0
    headers = {**reply.headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return evolve(reply, status=206, headers=headers), start, stop


def _range(header: str, size: int) -> tuple[int, int] | None:
    """The first and past-the-last byte that a Range header asks for of so many; None where it is to be ignored."""
    if suffix := re.fullmatch(r"bytes=-(\d+)", header):
        return max(size - int(suffix[1]), 0), size
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", header)
    if match is None:
        return None
    first, last = int(match[1]), int(match[2] or size)
    return None if match[2] and first > last else (first, min(last + 1, size))


_Address = Any  # what socketserver's own annotations call it
_Accepted = Any


class Conversation(BaseHTTPRequestHandler):
    """One connection, with as many requests as the client likes."""

    protocol_version = "HTTP/1.1"
    server_version = "ops-meta"
    sys_version = ""
    disable_nagle_algorithm = True  # else a small body waits up to 40 ms for the acknowledgement of its headers
    server: LoopbackServer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: standard error belongs to those who embed the server; they read `requests`."""

    def do_GET(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal():
            self.send_error(400, "Content-Length is not a number")
            return
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = ServedRequest(method=self.command, path=unquote(self.path), headers=headers, body=body)
        site = self.server.site
        reply, start, stop = negotiate(call, site.respond(call))
        site.note(call, reply.status)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status not in (204, 304):
            self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if call.method != "HEAD":
            self.send_body(call, reply, start, stop)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def send_body(self, call: ServedRequest, reply: Reply, start: int, stop: int) -> None:
        """Send the bytes of the whole content from `start` to before `stop`."""
        if start >= stop:
            return
        if isinstance(reply.content, bytes):
            self.connection.sendall(memoryview(reply.content)[start:stop])
            return
        with reply.content.open("rb") as file:
            self.connection.sendfile(file, start, stop - start)


class LoopbackServer(ThreadingHTTPServer):
    """A server on 127.0.0.1 that can be taken down and up again on the same port, and leaves no thread or socket.

    `errors` holds what a conversation died of, other than a client that went away: a fault of ours, never of a test.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, site: FileSite, port: int = 0, conversation: type[Conversation] = Conversation) -> None:
        super().__init__(("127.0.0.1", port), conversation)
        self.site = site
        self.port = int(self.server_address[1])
        self.errors: list[BaseException] = []
        self._open: dict[socket.socket, threading.Thread] = {}
        self._guard = threading.Lock()
        # A short poll, since shutdown() waits for its end.
        self._accepting = threading.Thread(target=self.serve_forever, args=(0.02,), name="ops-meta", daemon=True)
        self._accepting.start()

    def process_request(self, request: _Accepted, client_address: _Address) -> None:
        thread = threading.Thread(target=self._converse, args=(request, client_address), daemon=True)
        with self._guard:
            self._open[request] = thread
        thread.start()

    def _converse(self, request: socket.socket, client_address: _Address) -> None:
        try:
            self.process_request_thread(request, client_address)
        finally:
            with self._guard:
                del self._open[request]

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            self.errors.append(error)

    def close(self) -> None:
        """Refuse new connections, break the open ones, and wait for their threads."""
        self.shutdown()
        self._accepting.join()
        self.server_close()
        with self._guard:
            conversations = dict(self._open)
        for connection in conversations:
            with contextlib.suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)
        for thread in conversations.values():
            thread.join(timeout=10)


def reserve_port() -> tuple[int, socket.socket | None]:
    """Choose a free port and keep it ours while no server listens there, so that it can be taken up again.

    Without the reservation Linux may hand the port to an outgoing connection, even to one that tries to reach this very
    port and so ends up talking to itself. Elsewhere two sockets can't share an address: port 0, no reservation.
    """
    if sys.platform != "linux":
        return 0, None
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    return int(reservation.getsockname()[1]), reservation
