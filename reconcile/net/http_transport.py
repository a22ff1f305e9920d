"""One HTTP request over one connection, every wait of it bounded by one deadline.

httpx's time limits bound single reads and writes, so a server that sends a byte now and then holds a request for ever
(encode/httpx#1450). Here the sockets themselves know when the request must be over: the name lookup, each connect,
the TLS handshake, each read and write may wait for what is left, and no longer. A connection serves one request, so
that its clock is its own and no server's idle close is met half an interval later.

Only `reconcile/net/http_client.py` imports this, and only when a request is made: httpx is slow to load. `httpx.Client`
is left out: it keeps cookies, logs whole URLs and prepares redirects by itself, all of which we must not.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpcore
import httpx

from reconcile.errors import FetchFailed, FetchInterrupted

_PIECE = 64 * 1024
_AT_ONCE = 512 * 1024  # what is there is taken at once: httpcore's 64 KiB cost twice the CPU time on a fast link
_TLS_ALERT = b"\x15\x03"  # how a TLS server refuses what is no TLS (RFC 8446, section 5.1)
TLS_REMEDY = "write https:// for it, or the port that serves http"
# What OpenSSL makes of an answer that is no TLS; which of them depends on its version.
_PLAIN_ANSWERS = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}
)
_TO_PIN = "take ops-meta's own as it is by tls.pin_sha256 (`updater check` shows its digest)"
_UNKNOWN_ISSUER = ("is of an unknown issuer", f"name a private authority by tls.ca_file in the config, or {_TO_PIN}")
_OTHER_NAME = ("is for another name", f"ask for it by a name that its certificate has, have one issued, or {_TO_PIN}")
# By OpenSSL's numbers, X509_V_ERR_*: what is wrong, and what to do. `{now}`: this host's clock.
_CERTIFICATE_TROUBLES = {
    9: ("is not valid yet", "is this host's clock right? It says {now}"),
    10: ("has expired", "have it renewed there, or is this host's clock wrong? It says {now}"),
    62: _OTHER_NAME,
    64: _OTHER_NAME,  # an address
}
_GLANCE_S = 0.2  # how often a silent peer's request looks whether it is still wanted


Accept = Callable[[bytes], None]


class NoHandshake(Exception):
    """A TLS handshake came to nothing. `is_plain`: what answered speaks no TLS."""

    def __init__(self, message: str, *, is_plain: bool = False) -> None:
        super().__init__(message)
        self.is_plain = is_plain


class SpeaksTls(Exception):
    """What was asked without TLS answered with a TLS alert."""


class Deadline:
    """The time that a request may still take, in seconds. `renew` and `paused` are for downloads, whose limit is on
    progress instead of on the whole. `is_cancelled`: the answer is not wanted any more, so the time is over."""

    def __init__(
        self, seconds: float, clock: Callable[[], float], is_cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        self.seconds = seconds
        self._clock = clock
        self._is_cancelled = is_cancelled
        self._ends = clock() + seconds

    def left(self) -> float:
        """Return what is left, more than 0. Raise TimeoutError when nothing is."""
        if self._is_cancelled():
            raise TimeoutError("given up, since we were asked to end")
        left = self._ends - self._clock()
        if left <= 0:
            raise TimeoutError(f"not done within {round(self.seconds, 1):g} s")
        return left

    def renew(self) -> None:
        """Begin again: the peer kept pace."""
        self._ends = self._clock() + self.seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let time stand still while we are busy ourselves: a slow disk is no fault of the server."""
        began = self._clock()
        try:
            yield
        finally:
            self._ends += self._clock() - began


class _Stream(httpcore.NetworkStream):
    """A socket. httpcore's own `timeout` arguments are ignored: the deadline is stricter."""

    def __init__(self, sock: socket.socket, deadline: Deadline, accept: Accept) -> None:
        self._sock = sock
        self._deadline = deadline
        self._accept = accept
        self._has_received = isinstance(sock, ssl.SSLSocket)  # whether what comes can no longer be a TLS alert

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while True:
            # `left` ends this: a read that timed out is merely looked at again, TLS sockets allow that too.
            self._sock.settimeout(min(self._deadline.left(), _GLANCE_S))
            try:
                piece = self._sock.recv(max(max_bytes, _AT_ONCE))
            except TimeoutError as error:
                if error.errno is not None:  # ETIMEDOUT: the connection is dead, and not merely silent
                    raise
                continue
            if not self._has_received and piece.startswith(_TLS_ALERT):
                raise SpeaksTls
            self._has_received = True
            return piece

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        while rest:
            self._sock.settimeout(self._deadline.left())
            try:
                rest = rest[self._sock.send(rest[:_PIECE]) :]
            except TimeoutError:
                raise
            except OSError as error:
                # A server may refuse before it has read all: httpcore goes on to read its answer after a WriteError.
                raise httpcore.WriteError(str(error)) from error

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        self._sock.settimeout(self._deadline.left())
        secure = None
        try:
            try:
                secure = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname)
            except (ssl.SSLCertVerificationError, TimeoutError):
                raise
            except ssl.SSLError as error:
                raise NoHandshake(error.reason or "", is_plain=error.reason in _PLAIN_ANSWERS) from error
            except ConnectionError as error:
                raise NoHandshake(error.strerror or "") from error
            self._accept(secure.getpeercert(binary_form=True) or b"")
            return _Stream(secure, self._deadline, self._accept)
        except BaseException:
            (secure or self._sock).close()
            raise

    def close(self) -> None:
        self._sock.close()

    def get_extra_info(self, info: str) -> Any:
        return None


class _Backend(httpcore.NetworkBackend):
    """Opens connections, the name lookup included, within the deadline."""

    def __init__(self, deadline: Deadline, accept: Accept) -> None:
        self._deadline = deadline
        self._accept = accept

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _addresses(host, port, self._deadline)
        for tried, (family, kind, protocol, _, address) in enumerate(addresses, start=1):
            sock = socket.socket(family, kind, protocol)
            try:
                # A fair share each: an address that swallows packets must not use up the time of a good one.
                sock.settimeout(self._deadline.left() / (len(addresses) - tried + 1))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return _Stream(sock, self._deadline, self._accept)
            except BaseException as error:
                sock.close()
                if tried == len(addresses) or not isinstance(error, OSError):
                    raise
        raise OSError(f"the name {host} has no address")


def _addresses(host: str, port: int, deadline: Deadline) -> list[Any]:
    """Look a name up. The resolver has time limits of its own, often longer ones, and can't be interrupted: so a thread
    asks it, and is left behind when the deadline has passed."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    found: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except (OSError, ValueError) as error:  # ValueError: a name that IDNA can't encode
            found.put(error)

    try:
        threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    except RuntimeError as error:
        raise OSError(f"the name {host} was not looked up, the host is short of a resource: {error}") from None
    try:
        answer = found.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError(f"the name {host} was not resolved in time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


class _Body(httpx.SyncByteStream):
    """The bytes of a reply. Its connection is closed with the transport, which carries one request. One read may bring
    very many pieces: the deadline holds between them, too."""

    def __init__(self, response: httpcore.Response, deadline: Deadline) -> None:
        self._response = response
        self._deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._response.iter_stream():
            self._deadline.left()
            yield piece


class Transport(httpx.BaseTransport):
    """Carries one request. `tls` and `proxy_url` come from the config; the environment is never asked. `accept` is
    given the certificate that is served, in DER, before a request is sent, and may raise."""

    def __init__(
        self, deadline: Deadline, tls: ssl.SSLContext | None, proxy_url: str | None, accept: Accept = lambda der: None
    ) -> None:
        backend = _Backend(deadline, accept)
        self._deadline = deadline
        self._pool: httpcore.ConnectionPool
        if proxy_url is None:
            self._pool = httpcore.ConnectionPool(ssl_context=tls, network_backend=backend)
            return
        proxy = httpx.URL(proxy_url)
        self._pool = httpcore.HTTPProxy(
            proxy_url=httpcore.URL(scheme=b"http", host=proxy.raw_host, port=proxy.port or 80, target=b"/"),
            proxy_auth=(proxy.username.encode(), proxy.password.encode()) if proxy.userinfo else None,
            ssl_context=tls,
            network_backend=backend,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        core = httpcore.Request(
            method=request.method,
            url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.read(),
        )
        response = self._pool.handle_request(core)
        return httpx.Response(
            response.status, headers=response.headers, stream=_Body(response, self._deadline), request=request
        )

    def close(self) -> None:
        self._pool.close()


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Trust `ca_file` alone; without one, what this host trusts, or where it has no store the certificates that come
    with httpx. Raise OSError (ssl.SSLError is one) on a file that can't be read or holds no certificate.

    Each Python takes the same: before 3.13 no chain may end at an intermediate authority that is trusted, since 3.13 no
    authority may lack a key identifier, as old private ones do; Go and curl take both.
    """
    paths = ssl.get_default_verify_paths()
    if ca_file is None and not (paths.cafile or paths.capath):
        import certifi

        ca_file = Path(certifi.where())
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def any_certificate_context() -> ssl.SSLContext:
    """Trust nothing, and take every certificate: the caller compares the certificate itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _with_clock(remedy: str) -> str:
    return remedy.replace("{now}", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))


def _no_handshake(where: str, error: NoHandshake, escaped: Callable[[str], str]) -> FetchInterrupted:
    if error.is_plain:
        remedy = "does that port serve http? Then write http://, or the port that serves https"
        return FetchInterrupted(f"{where}: answers https with something else than TLS", remedy=remedy)
    words = escaped(str(error)) or "it ended the connection"
    remedy = "does it serve https at that port, and a version of TLS that this host takes?"
    return FetchInterrupted(f"{where}: no TLS handshake ({words})", remedy=remedy)


@contextmanager
def translated(where: str, escaped: Callable[[str], str]) -> Iterator[None]:
    """Turn whatever the libraries and the sockets raise into FetchFailed or FetchInterrupted about `where`."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        said, remedy = _CERTIFICATE_TROUBLES.get(error.verify_code, _UNKNOWN_ISSUER)
        words = escaped(error.verify_message)
        raise FetchFailed(f"{where}: the server's certificate {said} ({words})", remedy=_with_clock(remedy)) from error
    except NoHandshake as error:
        raise _no_handshake(where, error, escaped) from error
    except SpeaksTls as error:
        raise FetchFailed(f"{where}: that port speaks TLS", remedy=TLS_REMEDY) from error
    except (TimeoutError, httpcore.TimeoutException) as error:
        raise FetchInterrupted(f"{where}: too slow ({escaped(str(error)) or 'timed out'})") from error
    except OSError as error:
        raise FetchInterrupted(f"{where}: {escaped(error.strerror or str(error) or repr(error))}") from error
    except (httpcore.NetworkError, httpcore.ProxyError, httpcore.RemoteProtocolError, httpx.HTTPError) as error:
        raise FetchInterrupted(f"{where}: {escaped(str(error)).rstrip('.') or 'the connection broke'}") from error
    except (
        httpcore.LocalProtocolError,
        httpcore.UnsupportedProtocol,
        httpx.InvalidURL,
        httpx.StreamError,
        ValueError,  # UnicodeError is one
        OverflowError,  # a port beyond 65535
    ) as error:
        # Without the library's words: they quote what can't be read: with `http://user:pass/word@host/` a password.
        remedy = "expected http:// or https://, a host, a port of at most 65535 and a path; correct that URL"
        raise FetchFailed(f"{where}: not a request that can be made ({type(error).__name__})", remedy=remedy) from error
