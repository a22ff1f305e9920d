"""What a check of a foreign server is: named by its promise, run once, and its end is one line."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

from attrs import frozen

ANSWER_S = 10.0  # the updater's own limit of a request to a lock server
_LIMIT = 1024 * 1024  # bytes of an answer


class Broken(Exception):
    """The server does not keep the promise. The message says what it did."""


class LeftOut(Exception):
    """The check can't be made with what was given."""


@frozen(kw_only=True)
class Finding:
    """What came of a check. `trouble`: empty where the promise is kept, or the check was left out."""

    promise: str
    trouble: str = ""
    left_out: str = ""

    def __str__(self) -> str:
        if self.left_out:
            return f"left out  {self.promise}: {self.left_out}"
        return f"BROKEN    {self.promise}: {self.trouble}" if self.trouble else f"kept      {self.promise}"


@frozen(kw_only=True)
class Check:
    promise: str
    make: Callable[[], None]


@frozen(kw_only=True)
class Reply:
    status: int
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON; None: it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"HTTP {self.status}, {self.body[:100]!r}"


def run(checks: Iterable[Check]) -> list[Finding]:
    """Make each check, whatever came of those before it."""
    found = []
    for check in checks:
        try:
            check.make()
        except LeftOut as err:
            found.append(Finding(promise=check.promise, left_out=str(err)))
        except Broken as err:
            found.append(Finding(promise=check.promise, trouble=str(err)))
        except (OSError, http.client.HTTPException) as err:
            found.append(Finding(promise=check.promise, trouble=f"no answer: {err}"))
        else:
            found.append(Finding(promise=check.promise))
    return found


def demand(holds: object, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


def post(url: str, body: bytes, headers: dict[str, str]) -> Reply:
    """Ask once. A redirect is an answer like any other, and is not followed. Raise OSError."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    try:
        with _OPENER.open(request, timeout=ANSWER_S) as answer:
            return Reply(status=answer.status, body=answer.read(_LIMIT + 1))
    except urllib.error.HTTPError as err:
        with err:
            return Reply(status=err.code, body=err.read(_LIMIT + 1))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *request: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))
