"""Ask a FleetLock server for this host's place in a group, and give it back (docs/interface.md, section 7).

The protocol is one page: two POSTs, both recursive. Of all hosts of a group at most as many hold a place as the server
has; whatever is missing (the server, its store, an answer in the protocol's form) ends in "no change begins".
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from probes.text import one_line, redact_url
from probes.values import frozen
from reconcile.errors import FetchFailed, FetchInterrupted
from reconcile.net.http_client import HttpClient, HttpReply

_TAKE, _GIVE_BACK = "/v1/pre-reboot", "/v1/steady-state"
_LIMIT = 64 * 1024  # bytes of an answer
# Servers of the field say yes in these words, too: one by a kind, the one that keeps its places in Kubernetes in text.
_YES_KINDS = ("success", "ok")
_YES_TEXTS = (
    r"(obtained|retained) reboot lease|steady-state confirmed|reboot lease already unlocked|unlocked reboot lease.*"
)
DEADLINE_S = 10.0  # of one request


@frozen(kw_only=True)
class Granted:
    """The server did what it was asked for."""


@frozen(kw_only=True)
class PlaceRefused:
    """The server answered in the protocol's form that it does not. `message`: its words, for people. `is_certain`:
    nothing was changed; False: it failed (5xx), and what it was asked for may be done all the same."""

    message: str
    is_certain: bool


@frozen(kw_only=True)
class NoAnswer:
    """There was no answer, or none in the protocol's form. `message`: for people."""

    message: str


LockAnswer: TypeAlias = Granted | PlaceRefused | NoAnswer


class FleetLock:
    """One host's client. `url`: of the server, empty: the config names none. `id` names the host to it. Threads may
    share it."""

    def __init__(self, url: str, id: str, http: HttpClient, deadline_s: float = DEADLINE_S) -> None:
        self.url = url if "?" in url else url.rstrip("/")  # one server has one name in what is noted
        self.id = id
        self._http = http
        self._deadline_s = deadline_s

    def at(self, url: str, id: str) -> FleetLock:
        """The client of another server, or under another id, such as this host had before."""
        return FleetLock(url, id, self._http, self._deadline_s)

    def take(self, group: str) -> LockAnswer:
        """Ask for a place; where this host has it already, the server says so once more."""
        return self._post(_TAKE, group)

    def give_back(self, group: str) -> LockAnswer:
        """Give the place back; where this host has none, that is as good."""
        return self._post(_GIVE_BACK, group)

    def _post(self, path: str, group: str) -> LockAnswer:
        body = json.dumps({"client_params": {"id": self.id, "group": group}}).encode()
        headers = {"fleet-lock-protocol": "true", "Content-Type": "application/json", "Accept": "application/json"}
        parts = urlsplit(self.url)
        url = urlunsplit(parts._replace(path=parts.path.rstrip("/") + path))
        try:
            reply = self._http.small("POST", url, body=body, headers=headers, limit=_LIMIT, deadline_s=self._deadline_s)
        except (FetchFailed, FetchInterrupted) as err:
            return NoAnswer(message=err.message)
        return _answer(reply, url)


def _answer(reply: HttpReply, url: str) -> LockAnswer:
    if reply.status == 200 and _is_yes(reply.body):
        return Granted()
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        words = one_line(reply.body[:1000], 100)
        said = f" ({words})" if words else ""
        return NoAnswer(message=f"{redact_url(url)}: HTTP {reply.status}, not in FleetLock's form{said}")
    if not _has_kind(document):
        return NoAnswer(message=f"{redact_url(url)}: HTTP {reply.status}, not in FleetLock's form")
    words = one_line(f"{document['value']} ({document['kind']})", 200)
    return PlaceRefused(message=words, is_certain=reply.status < 500)


def _is_yes(body: bytes) -> bool:
    """Whether the body of a 200 says yes: an empty one, or JSON, except a refusal."""
    text = body.decode("utf-8", "replace").strip()
    if not text or re.fullmatch(_YES_TEXTS, text):
        return True
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return not _has_kind(document) or document["kind"].lower() in _YES_KINDS


def _has_kind(document: Any) -> bool:
    """Whether a document is in the form in which the protocol says no."""
    return (
        isinstance(document, dict) and isinstance(document.get("kind"), str) and isinstance(document.get("value"), str)
    )
