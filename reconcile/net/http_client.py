"""The one HTTP client: what a server can do to us is bounded here, for heartbeats, configs, digest files and tarballs.

- Small answers have a total deadline, connect and name lookup included; downloads must keep a least pace instead.
- Bodies are bounded on Content-Length and while reading, and never decoded: compression does not evade it.
- Redirects are followed by hand: few, http or https, never from https to http.
- Credentials go to the configured origins alone, and never on after a redirect to another one.
- Proxies, netrc and cookies of the environment are not used.

Every failure is FetchFailed (final) or FetchInterrupted (may go away); nothing of httpx, httpcore or the sockets comes
through. This module doesn't know what the bytes mean. Importing it is cheap: httpx is loaded by the first request.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from attrs import field

from probes.text import one_line, redact_url
from probes.values import frozen
from reconcile.errors import FetchFailed, FetchInterrupted, ReconcileError

if TYPE_CHECKING:
    import ssl

    import httpx

    from reconcile.net.http_transport import Deadline

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LONGEST_WAIT = 3600.0  # what a Retry-After can make us wait, seconds
_PAGE = 8192  # characters of a page that are looked at
_PROBE_S = 1.0  # for a question after an error
# Each piece of a body costs some 50 us, however small it is: a server must not keep us busy with bytes one by one. Of a
# link the smallest packets carry some 500.
_LEAST_PIECE, _PIECES_LET_PASS = 64, 16_384  # bytes on average, once there were so many
_LEAST_PACE = 4096  # bytes per second below which a download counts as stalled; a 50 KB/s link must do


@frozen(kw_only=True)
class Auth:
    """Basic auth, and the origins (as `origin_of` gives them) that may see it. `password` None: it can't be read, for
    the reason in `trouble`, and no request to them is made."""

    user: str
    password: str | None = field(repr=False)
    origins: frozenset[str]
    trouble: str = ""


@frozen(kw_only=True)
class Pins:
    """Certificates that are taken by `origins` (as `origin_of` gives them), by whatever issuer, for whatever name and
    time, and no others there. `digests`: sha256 of each, of its DER form, in lower-case hex."""

    digests: frozenset[str]
    origins: frozenset[str]


@frozen(kw_only=True)
class HttpOptions:
    """What the config says about HTTP. `proxy` is an `http://` URL; for https targets a tunnel is asked of it.
    `may_follow`: whether a redirect to an URL is followed. `on_reply`: given each whole answer."""

    auth: Auth | None = None
    ca_file: Path | None = None
    pins: Pins | None = None
    proxy: str | None = field(default=None, repr=False)
    user_agent: str
    may_follow: Callable[[str], bool] = lambda url: True
    on_reply: Callable[[HttpReply], None] = lambda reply: None


@frozen(kw_only=True)
class HttpReply:
    """A whole answer. `headers` looks names up in any case; `url` is the last one after redirects."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Download:
    """An answer whose body is still on its way."""

    def __init__(self, response: httpx.Response, url: str, deadline: Deadline) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.url = url
        self._response = response
        self._deadline = deadline

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes, undecoded, once. The caller counts: nothing bounds the whole here.

        Raise FetchInterrupted when it breaks off, or less than the least pace arrived within the stall limit
        and FetchFailed where its pieces are too small. What the caller takes between two chunks doesn't count.
        """
        quota = int(self._deadline.seconds * _LEAST_PACE)
        arrived = size = pieces = 0
        with _translated(self.url):
            body = self._response.iter_raw()
        while True:
            with _translated(self.url):
                chunk = next(body, b"")
            if not chunk:
                return
            arrived += len(chunk)
            size, pieces = size + len(chunk), pieces + 1
            if pieces > _PIECES_LET_PASS and size < pieces * _LEAST_PIECE:
                raise FetchFailed(
                    f"{redact_url(self.url)}: it comes in pieces of {size // pieces} bytes, expected "
                    f"{_LEAST_PIECE} or more on average; look at that server, or at a proxy before it"
                )
            if arrived >= quota:
                self._deadline.renew()
                arrived = 0
            with self._deadline.paused():
                yield chunk


class HttpClient:
    """Makes requests, each over a connection of its own, so nothing is left open between them. Threads may share it."""

    def __init__(self, options: HttpOptions, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds and never goes back. Raise ValueError on a proxy that isn't an http URL."""
        if options.proxy is not None and not origin_of(options.proxy).startswith("http:"):
            raise ValueError(
                f"proxy {redact_url(options.proxy)}: expected an http:// URL (https targets are tunnelled)"
            )
        self._options = options
        self._clock = clock
        self._tls: ssl.SSLContext | None = None
        self._tls_lock = threading.Lock()

    def small(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] = {},
        limit: int,
        deadline_s: float,
        redirects: int = 0,
    ) -> HttpReply:
        """Make a request whose whole answer is at most `limit` bytes and there within `deadline_s` seconds.

        Any status is a Reply; without `redirects` a redirect is one, too. The body of an error status is cut at
        `limit` instead of refused, since its first words say what is wrong. Redirects are for GET alone. Raise
        FetchFailed or FetchInterrupted.
        """
        from reconcile.net.http_transport import Deadline

        deadline = Deadline(deadline_s, self._clock)
        request = _Request(method=method, url=url, headers=headers, body=body)
        with self._answered(request, deadline, redirects) as (response, at):
            reply = HttpReply(
                status=response.status_code, headers=response.headers, body=_bounded(response, at, limit), url=at
            )
            self._options.on_reply(reply)
            return reply

    @contextmanager
    def download(
        self,
        url: str,
        headers: Mapping[str, str] = {},
        *,
        stall_s: float = 30,
        redirects: int = 3,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[Download]:
        """Open `url` for reading piece by piece, with any status. The connection is closed at the end of the block.

        The answer must begin within `stall_s` seconds and then keep the least pace; `is_cancelled` ends the wait for it
        early. Raise FetchFailed or FetchInterrupted; what the block itself raises passes unchanged.
        """
        from reconcile.net.http_transport import Deadline

        deadline = Deadline(stall_s, self._clock, is_cancelled)
        request = _Request(method="GET", url=url, headers=headers, body=None)
        with self._answered(request, deadline, redirects) as (response, at):
            deadline.renew()
            yield Download(response, at, deadline)

    def certificate(self, url: str, deadline_s: float = 10) -> bytes:
        """Return the certificate that is served at an https URL, in DER, whatever its issuer. No request is made there.

        Raise FetchFailed or FetchInterrupted.
        """
        import httpx

        from reconcile.net import http_transport

        def raise_served(der: bytes) -> None:
            raise _Served(der)

        deadline = http_transport.Deadline(deadline_s, self._clock)
        with http_transport.translated(redact_url(url), one_line):
            carrier = http_transport.Transport(
                deadline, http_transport.any_certificate_context(), self._options.proxy, raise_served
            )
        try:
            with http_transport.translated(redact_url(url), one_line):
                carrier.handle_request(httpx.Request("HEAD", url))
            raise FetchFailed(f"{redact_url(url)}: served no certificate")
        except _Served as served:
            return served.der
        finally:
            with suppress(ReconcileError), http_transport.translated(redact_url(url), one_line):
                carrier.close()

    def explained(self, error: FetchInterrupted, url: str) -> FetchFailed | FetchInterrupted:
        """The error of a request to `url`, or a better one: many a TLS port that is asked without TLS ends the
        connection without a word, so it is asked whether it is one."""
        import httpcore

        ended = isinstance(error.__cause__, (httpcore.RemoteProtocolError, ConnectionResetError, BrokenPipeError))
        if not ended or not url.lower().startswith("http:") or self._options.proxy is not None:
            return error
        from reconcile.net import http_transport

        try:
            self.certificate(f"https{url[4:]}", _PROBE_S)
        except (FetchFailed, FetchInterrupted):
            return error
        return FetchFailed(f"{redact_url(url)}: that port speaks TLS", remedy=http_transport.TLS_REMEDY)

    @contextmanager
    def _answered(self, request: _Request, deadline: Deadline, redirects: int) -> Iterator[tuple[httpx.Response, str]]:
        """Yield the first answer that is no redirect, or that may not be followed any more because none is allowed."""
        url, credentials = request.url, True
        for followed in range(redirects + 1):
            with self._one(request, url, deadline, credentials) as response:
                if response.status_code not in _REDIRECTS or redirects == 0:
                    yield response, url
                    return
                target = _redirected(url, response.headers.get("location", ""))
            if not self._options.may_follow(target):
                raise FetchFailed(
                    f"{redact_url(url)}: redirected to {redact_url(target)}, which is refused by rule mirrors"
                )
            if followed == redirects:
                raise FetchFailed(
                    f"{redact_url(request.url)}: redirected more than {redirects} times, the last time to "
                    f"{redact_url(target)}"
                )
            credentials = credentials and _checked_origin(request.url) == _checked_origin(target)
            url = target

    @contextmanager
    def _one(self, request: _Request, url: str, deadline: Deadline, credentials: bool) -> Iterator[httpx.Response]:
        """Make one request over one connection, and close it afterwards, whatever happened."""
        from reconcile.net import http_transport

        proxy = self._options.proxy
        where = redact_url(url) if proxy is None else f"{redact_url(url)} (through the proxy {redact_url(proxy)})"
        origin = _checked_origin(url)
        pins = self._options.pins
        pinned = frozenset[str]() if pins is None or origin not in pins.origins else pins.digests
        with http_transport.translated(where, one_line):
            if pinned:
                tls: ssl.SSLContext | None = http_transport.any_certificate_context()
            else:
                tls = self._tls_context() if origin.startswith("https:") else None
            carrier = http_transport.Transport(deadline, tls, proxy, lambda der: _check_pin(der, pinned, where))
        try:
            with http_transport.translated(where, one_line):
                response = carrier.handle_request(self._request(request, url, origin if credentials else None))
            yield response
        finally:
            # Closing a broken connection may fail once more; there is nothing left to lose by then.
            with suppress(ReconcileError), http_transport.translated(where, one_line):
                carrier.close()

    def _request(self, request: _Request, url: str, origin: str | None) -> httpx.Request:
        import httpx

        headers = {
            **request.headers,
            "User-Agent": self._options.user_agent,
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        auth = self._options.auth
        if auth is not None and origin in auth.origins:
            if auth.password is None:
                raise FetchFailed(f"{redact_url(url)}: not asked, its password is missing: {auth.trouble}")
            import base64

            headers["Authorization"] = "Basic " + base64.b64encode(f"{auth.user}:{auth.password}".encode()).decode()
        return httpx.Request(request.method, _as_sent(url), headers=headers, content=request.body)

    def _tls_context(self) -> ssl.SSLContext:
        """Make the context when the first https URL comes (it takes 20 ms), and keep it."""
        from reconcile.net import http_transport

        with self._tls_lock:
            if self._tls is None:
                try:
                    self._tls = http_transport.tls_context(self._options.ca_file)
                except OSError as error:
                    raise FetchFailed(
                        f"tls.ca_file {self._options.ca_file}: {error}; expected certificates in PEM form"
                    ) from error
            return self._tls


class _Served(Exception):
    """The certificate that was asked for."""

    def __init__(self, der: bytes) -> None:
        super().__init__()
        self.der = der


@frozen(kw_only=True)
class _Request:
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


def origin_of(url: str) -> str:
    """Return `scheme://host:port`, in lower case, the port always written. Raise ValueError on what has no origin."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port  # `port` raises ValueError beyond 65535
    except ValueError:
        if "@" not in url:
            raise
        # The words of that error quote what it stumbled over: with `http://user:pass/word@host/` that is a password.
        raise ValueError("the URL can't be read, and may hold a password") from None
    if parts.scheme not in _PORTS or not host:
        raise ValueError(f"{redact_url(url)} is not an http:// or https:// URL with a host")
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}:{_PORTS[parts.scheme] if port is None else port}"


def etag_of(reply: HttpReply) -> str | None:
    """The ETag of an answer, if it is one that may be kept and sent back: no blanks, no controls, no sagas."""
    etag = reply.headers.get("etag", "")
    return etag if re.fullmatch(r"[\x21-\x7e]{1,256}", etag) else None


def certificate_digest(der: bytes) -> str:
    """The sha256 of a certificate, as `tls.pin_sha256` names it."""
    import hashlib

    return hashlib.sha256(der).hexdigest()


def page_title(text: str) -> str | None:
    """What a page of HTML, or an object store's error in XML, says of itself: its title, else its first words; empty
    where it says nothing. None: it is no page."""
    text = text[:_PAGE].lstrip("\ufeff \t\r\n")
    if not text.startswith("<"):
        return None
    from html import unescape

    for name in ("title", "h1", "message"):
        found = re.search(rf"<{name}\b[^<>]*>([^<]*)</{name}", text, re.IGNORECASE)
        if found is not None and (title := one_line(unescape(found[1]), 120)):
            return title
    words = re.sub(r"<(script|style)\b.*?</\1[^>]*>|<[^>]*>?", " ", text, flags=re.IGNORECASE | re.DOTALL)
    return one_line(unescape(words), 60)


def check_status(status: int, headers: Mapping[str, str], url: str) -> None:
    """Pass 2xx and 304. Raise FetchInterrupted on 408, 429 and 5xx, with what Retry-After asks; else FetchFailed."""
    if 200 <= status < 300 or status == 304:
        return
    if status in (408, 429) or status >= 500:
        wait = retry_after(headers)
        asked = "" if wait is None else f", asks to wait {wait:g} s"
        raise FetchInterrupted(f"{redact_url(url)}: HTTP {status}{asked}", retry_after=wait)
    remedy = ""
    if status in (401, 403):
        remedy = "credentials are set by auth{user,password_file,hosts} in the config"
    elif status in (404, 410):
        remedy = "is it published there, and the path right?"
    raise FetchFailed(f"{redact_url(url)}: HTTP {status}", remedy=remedy)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """What Retry-After asks, in seconds or as a date: seconds from now, from 0 to an hour; None when it is neither."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+", value):
        return min(float(value[:20]), _LONGEST_WAIT)
    from email.utils import parsedate_to_datetime

    try:
        wait = parsedate_to_datetime(value).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):  # TypeError: no date at all, before Python 3.10
        return None
    return max(0.0, min(wait, _LONGEST_WAIT))


def _bounded(response: httpx.Response, url: str, limit: int) -> bytes:
    """Read a body of at most `limit` bytes. That of an error status is cut, and left unread when it is compressed."""
    good = response.status_code < 300
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        if not good:
            return b""
        raise FetchFailed(f"{redact_url(url)}: sent compressed ({one_line(encoding, 40)}), though not asked for")
    announced = response.headers.get("content-length", "0")  # decimal: h11 takes no other
    if good and int(announced) > limit:
        raise FetchFailed(f"{redact_url(url)}: {int(announced)} bytes announced, at most {limit} are allowed")
    body = bytearray()
    with _translated(url):
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > limit:
                break
    if good and len(body) > limit:
        raise FetchFailed(f"{redact_url(url)}: larger than {limit} bytes, which is all that is allowed")
    return bytes(body[:limit])


def _redirected(url: str, location: str) -> str:
    """Return where a redirect leads, as a whole URL. Raise FetchFailed where we don't go."""
    import httpx

    if not location:
        raise FetchFailed(f"{redact_url(url)}: a redirect without a Location")
    with _translated(url):
        target = str(httpx.URL(url).join(location))
    if _checked_origin(url).startswith("https:") and not _checked_origin(target).startswith("https:"):
        raise FetchFailed(f"{redact_url(url)}: redirected from https to {redact_url(target)}; that is never followed")
    return target


def _check_pin(der: bytes, pinned: frozenset[str], where: str) -> None:
    """Raise FetchFailed where a certificate is none of the pinned ones. Nothing pinned: the authorities decide."""
    if pinned and (found := certificate_digest(der)) not in pinned:
        remedy = "if ops-meta's certificate was renewed, compare that digest with its own and put it into the list"
        raise FetchFailed(f"{where}: serves a certificate of sha256 {found}, none of tls.pin_sha256", remedy=remedy)


def _as_sent(url: str) -> str:
    """Return `url` with each `+` of its path as `%2B`: object stores read a `+` as a blank, others both alike."""
    path, mark, query = url.partition("?")
    return path.replace("+", "%2B") + mark + query


def _checked_origin(url: str) -> str:
    """Return the origin that httpx, which makes the connection, reads in `url`: no second opinion on where secrets go.
    Raise FetchFailed on anything but http and https."""
    import httpx

    with _translated(url):
        parsed = httpx.URL(url)
        return origin_of(f"{parsed.scheme}://{parsed.netloc.decode('ascii')}")


@contextmanager
def _translated(url: str) -> Iterator[None]:
    from reconcile.net import http_transport

    with http_transport.translated(redact_url(url), one_line):
        yield
