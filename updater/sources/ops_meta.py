"""The server: one heartbeat is one POST to ops-meta, and its answer the desired state.

This module knows where the server is and what counts as an answer; the form of the bytes is wire.py's, what a server
may do to us is bounded by reconcile/net/http_client.py. It tries once: when to try again is
reconcile/decide/timing/schedule.py's.
"""

from __future__ import annotations

import json
import re
from urllib.parse import urljoin, urlsplit

from probes.text import one_line, redact_url
from reconcile.errors import FetchFailed, FetchInterrupted, ServerUnreachable
from reconcile.net.http_client import HttpClient, HttpReply, origin_of, page_title, retry_after
from reconcile.source import Answer, HostReport
from updater.sources import wire

_PATH = "/api/heartbeat"
_EXPECTED = "expected host:port or an http:// or https:// URL, such as 10.0.0.1:2000 or https://meta/heartbeat"
_LIMIT = 1024 * 1024  # bytes of an answer
_ERROR_BODY = 8192  # bytes of an error's body that are looked at
_REMEDY = "is `server` in the config right, and ops-meta up?"
_REMEDY_OF = {
    400: "its words say what it does not take; is `server` in the config an ops-meta?",
    401: "are `auth.user` and `auth.password_file` of the config what `server` in the config asks for?",
    403: "does ops-meta, or a proxy before it, let this host in?",
    407: "the proxy asks for a user and a password: write them into `proxy` of the config, before its host",
}
_PATH_REMEDY = "is the path of `server` in the config right? ops-meta has /api/heartbeat, older ones have /heartbeat"
_UP_REMEDY = "is ops-meta up, and a proxy before it well? Ask those who run it"
# What servers say on their TLS port to http: Go, nginx, Apache.
_PLAIN_TO_TLS = r"(?i)http request to an https server|plain http request was sent to https|plain http to an ssl"


class OpsMeta:
    """A source of desired state that asks ops-meta, or an older server of the same form."""

    def __init__(self, server: str, http: HttpClient, deadline_s: float = 30) -> None:
        """`server` as in the config. `deadline_s` bounds a whole exchange. Raise ValueError on a bad `server`."""
        self._url = heartbeat_url(server)
        self._http = http
        self._deadline_s = deadline_s

    @property
    def came_from(self) -> str:
        return redact_url(self._url)

    @property
    def takes_reports(self) -> bool:
        return True

    def exchange(self, report: HostReport) -> Answer:
        """Report, and get the desired state. Raise ServerUnreachable or ResponseInvalid."""
        try:
            reply = self._http.small(
                "POST",
                self._url,
                body=wire.report_body(report),
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                limit=_LIMIT,
                deadline_s=self._deadline_s,
            )
        except (FetchFailed, FetchInterrupted) as error:
            raise unreachable(error, self._http, self._url, _REMEDY) from error
        if reply.status != 200:
            message = f"no answer from {self.came_from}: {_refusal(reply)}; {_remedy(reply)}"
            raise ServerUnreachable(message, retry_after=retry_after(reply.headers))
        return wire.parse_answer(reply.body, self.came_from)


def heartbeat_url(server: str) -> str:
    """Return the URL to report to: `host:port` gets http and the contract's path, an URL with a path is used as it is.

    Raise ValueError, with a message for the person who wrote the config.
    """
    if server.split() != [server] or not server.isprintable():
        raise ValueError(f"{one_line(server)!r} is empty or holds a blank; {_EXPECTED}")
    url = server if "://" in server else f"http://{server}"
    try:
        origin_of(url)
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(_why_no_url(server, url, f"{one_line(str(error))}; {_EXPECTED}")) from None
    has_path = parts.path.strip("/") != ""
    if "@" in parts.netloc:
        why = "credentials in the URL would end up in logs; set auth{user,password_file}"
    elif parts.fragment or (parts.query and not has_path):
        why = f"a query needs a path, and a # part is never sent; {_EXPECTED}"
    else:
        return url if has_path else f"{parts.scheme}://{parts.netloc}{_PATH}"
    raise ValueError(f"{redact_url(url)}: {why}")


def _why_no_url(server: str, url: str, why: str) -> str:
    """Why a server can't be read as an URL, for people; it is not named where it holds credentials."""
    named = repr(one_line(server, 80)) if "@" not in server else "server"
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    if host.count(":") > 1 and "[" not in host:
        why = "an IPv6 address stands in brackets; expected host:port such as [::1]:2000"
    return f"{named}: {why}"


def unreachable(error: FetchFailed | FetchInterrupted, http: HttpClient, url: str, remedy: str) -> ServerUnreachable:
    """Say that there was no answer, with what to do: what the error itself knows of that, else `remedy`."""
    if isinstance(error, FetchInterrupted):
        error = http.explained(error, url)
    return ServerUnreachable(f"no answer from {error.message}" + ("" if error.remedy else f"; {remedy}"))


def redirect_of(reply: HttpReply) -> str:
    """Where a redirect leads, for people; empty where the answer is none."""
    if not 300 <= reply.status < 400 or reply.status == 304:
        return ""
    location = reply.headers.get("location", "")
    try:
        return f"a redirect to {redact_url(urljoin(reply.url, location))}" if location else "a redirect to nowhere"
    except ValueError:
        named = "" if "@" in location else f", {one_line(location.partition('?')[0], 60)!r}"
        return f"a redirect to what is not a URL{named}"


def _remedy(reply: HttpReply) -> str:
    if reply.status == 400 and re.search(_PLAIN_TO_TLS, reply.body[:_ERROR_BODY].decode("latin-1")):
        return "that port speaks TLS: write https:// for it in `server` in the config, or the port that serves http"
    if redirect_of(reply):
        return "a heartbeat follows none: if that is ops-meta, write it into `server` in the config"
    if reply.status in (404, 405, 410):
        return _PATH_REMEDY
    return _UP_REMEDY if reply.status >= 500 else _REMEDY_OF.get(reply.status, _REMEDY)


def _refusal(reply: HttpReply) -> str:
    """Say what an answer with another status than 200 was, with the server's first words."""
    if redirect := redirect_of(reply):
        return f"HTTP {reply.status}, {redirect}"
    wait = reply.headers.get("retry-after", "")
    words = _message(reply.body)
    return (
        f"HTTP {reply.status}{f' ({words})' if words else ''}{f', asks to wait: {one_line(wait, 40)}' if wait else ''}"
    )


def _message(body: bytes) -> str:
    """Return what an error's body says: its `message` or `errorMessage` where it is a JSON object, a page's title, else
    its start."""
    text = body[:_ERROR_BODY].decode("utf-8", "replace")
    if (title := page_title(text)) is not None:
        return title
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return one_line(text)
    said = (document.get("message") or document.get("errorMessage")) if isinstance(document, dict) else None
    return one_line(said) if isinstance(said, str) else one_line(text)
