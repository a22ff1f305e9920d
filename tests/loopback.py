"""A server on a loopback port that does with each connection exactly what a test says, decent or not.

A story is a function that is given a `Peer`, the client's side of one connection; the next connection gets the next
story, the last one is played again and again. Nothing here knows HTTP except for reading a request.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from attrs import frozen

GUARD = 60.0  # seconds: far beyond every deadline in the tests, and what a slow machine adds; nothing waits for it


@frozen(kw_only=True)
class Request:
    line: str
    headers: dict[str, str]  # names in lower case
    body: bytes


class Peer:
    """One accepted connection. Sending to a client that has gone is no error, it is reported."""

    def __init__(self, sock: socket.socket, server: Loopback) -> None:
        self.sock = sock
        self._server = server

    def request(self) -> Request:
        """Read one whole request, and write it down."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        while len(body) < int(headers.get("content-length", "0")):
            body += self._more()
        request = Request(line=line, headers=headers, body=body)
        self._server.requests.append(request)
        return request

    def _more(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the client has gone amid its request")
        return data

    def send(self, data: bytes) -> bool:
        try:
            self.sock.sendall(data)
        except OSError:
            return False
        return True

    def drip(self, data: bytes = b"", *, for_ever: bytes = b"", pause: float = 0.02) -> None:
        """Send `data` byte by byte, then `for_ever` again and again, until the client has gone."""
        for byte in data:
            if not self.send(bytes([byte])) or self._server.closing.wait(pause):
                return
        while for_ever and self.send(for_ever) and not self._server.closing.wait(pause):
            pass

    def flood(self, data: bytes) -> None:
        """Send `data` as fast as it goes, until the client has gone."""
        while self.send(data) and not self._server.closing.is_set():
            pass

    def hang(self) -> None:
        """Do nothing until the client has gone."""
        with suppress(OSError):
            while self.sock.recv(65536):
                pass


Story = Callable[[Peer], object]


class Loopback:
    """Serves its stories between `with` and the end of the block, each connection in a thread of its own."""

    def __init__(self, *stories: Story, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.stories = list(stories)
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._serve)]
        self._open: list[socket.socket] = []

    @property
    def origin(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Loopback:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.closing.set()
        with suppress(OSError):  # wakes accept(); where the listener can't be shut down, a connection does
            self._listener.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._threads[0].join(GUARD)
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(GUARD)
        self._listener.close()

    def _serve(self) -> None:
        while not self.closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(sock)
            story = self.stories.pop(0) if len(self.stories) > 1 else self.stories[0]
            self._threads.append(threading.Thread(target=self._play, args=(story, sock)))
            self._threads[-1].start()

    def _play(self, story: Story, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            if self._tls is None:
                story(Peer(sock, self))
                return
            with self._tls.wrap_socket(sock, server_side=True) as secure:
                story(Peer(secure, self))


def answers(body: bytes = b"", *headers: str, status: int = 200, length: bool = True) -> Story:
    """A story: read the request, answer it, close."""
    lines = [f"HTTP/1.1 {status} Words", *headers, *([f"Content-Length: {len(body)}"] if length else []), "", ""]

    def respond(peer: Peer) -> None:
        peer.request()
        peer.send("\r\n".join(lines).encode("latin-1") + body)

    return respond


def redirects(location: str, status: int = 302) -> Story:
    """A story: send the client elsewhere."""
    return answers(b"", f"Location: {location}", status=status)


@contextmanager
def ends() -> Iterator[None]:
    """Hold that the block ends, by its own means, before the guard."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < GUARD
