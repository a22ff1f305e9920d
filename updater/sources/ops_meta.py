"""The server: one heartbeat is one POST to ops-meta, and its answer the desired state.

This module knows where the server is and what counts as an answer; the form of the bytes is wire.py's, what a server
may do to us is bounded by reconcile/http.py. It tries once: when to try again is reconcile/decide/schedule.py's.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from reconcile.errors import FetchFailed, FetchInterrupted, ServerUnreachable
from reconcile.http import Http, Reply, escaped, origin_of, retry_after, shown
from reconcile.source import Answer, HostReport
from updater.sources import wire

_PATH = "/api/heartbeat"
_LIMIT = 1024 * 1024  # bytes of an answer
_ERROR_BODY = 8192  # bytes of an error's body that are looked at
_REMEDY = "is `server` in the config right, and ops-meta up?"
_REMEDY_OF = {
    401: "are `auth.user` and `auth.password_file` of the config what `server` in the config asks for?",
    407: "the proxy asks for a user and a password: write them into `proxy` of the config, before its host",
}


class OpsMeta:
    """A source of desired state that asks ops-meta, or an older server of the same form."""

    def __init__(self, server: str, http: Http, deadline_s: float = 30) -> None:
        """`server` as in the config. `deadline_s` bounds a whole exchange. Raise ValueError on a bad `server`."""
        self._url = heartbeat_url(server)
        self._http = http
        self._deadline_s = deadline_s

    @property
    def came_from(self) -> str:
        return shown(self._url)

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
            raise ServerUnreachable(f"no answer from {error.message}; {_REMEDY}") from error
        if reply.status != 200:
            remedy = _REMEDY_OF.get(reply.status, _REMEDY)
            message = f"no answer from {self.came_from}: {_refusal(reply)}; {remedy}"
            raise ServerUnreachable(message, retry_after=retry_after(reply.headers))
        return wire.parse_answer(reply.body, self.came_from)


def heartbeat_url(server: str) -> str:
    """Return the URL to report to: `host:port` gets http and the contract's path, an URL with a path is used as it is.

    Raise ValueError, with a message for the person who wrote the config.
    """
    expected = "expected host:port or an http:// or https:// URL, such as 10.0.0.1:2000 or https://meta/heartbeat"
    if server != server.strip() or not server or any(char.isspace() or not char.isprintable() for char in server):
        raise ValueError(f"{escaped(server)!r} is empty or holds a blank; {expected}")
    url = server if "://" in server else f"http://{server}"
    try:
        origin_of(url)
        parts = urlsplit(url)
    except ValueError as error:
        named = repr(escaped(server, 80)) if "@" not in server else "server"
        raise ValueError(f"{named}: {escaped(str(error))}; {expected}") from None
    if "@" in parts.netloc:
        raise ValueError(f"{shown(url)}: credentials in the URL would end up in logs; set auth{{user,password_file}}")
    if parts.fragment or (parts.query and not parts.path.strip("/")):
        raise ValueError(f"{shown(url)}: a query needs a path, and a # part is never sent; {expected}")
    return url if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}{_PATH}"


def _refusal(reply: Reply) -> str:
    """Say what an answer with another status than 200 was, with the server's first words."""
    if 300 <= reply.status < 400:
        location = reply.headers.get("location", "")
        return f"HTTP {reply.status}, a redirect to {_origin(location)}, and a heartbeat follows none"
    wait = reply.headers.get("retry-after", "")
    words = _message(reply.body)
    return (
        f"HTTP {reply.status}{f' ({words})' if words else ''}{f', asks to wait: {escaped(wait, 40)}' if wait else ''}"
    )


def _origin(location: str) -> str:
    try:
        return origin_of(location)
    except ValueError:
        return "another path of it" if location.startswith("/") else "nowhere"


def _message(body: bytes) -> str:
    """Return what an error's body says: its `message` or `errorMessage` where it is a JSON object, else its start."""
    text = body[:_ERROR_BODY].decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return escaped(text)
    said = (document.get("message") or document.get("errorMessage")) if isinstance(document, dict) else None
    return escaped(said) if isinstance(said, str) else escaped(text)
