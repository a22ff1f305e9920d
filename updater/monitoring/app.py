"""The paths, as a WSGI application over a board. Reading changes nothing; /config/reload only asks the daemon to.

The inherited paths answer as docs/contract.md, section 6, has it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST

from probes.host.home_reader import read_regular
from probes.values import frozen
from reconcile.log import logger
from updater.monitoring import metrics
from updater.monitoring.page import page
from updater.monitoring.request_guard import AllowedNames, refusal, refusal_to_change
from updater.monitoring.status_board import StatusBoard
from updater.output.json_form import to_json
from updater.settings.config import ConfigWrong, load
from updater.settings.in_force import without_secrets
from updater.version import VERSION

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_READ = ("GET", "HEAD")
_TEXT, _HTML, _JSON = "text/plain; charset=utf-8", "text/html; charset=utf-8", "application/json"
_HEADERS = [
    # Nothing from elsewhere, no script or style but our two files, no frame, no form.
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]


@frozen(kw_only=True)
class PageSource:
    """Whose page it is. `ask_for_reload`: tells the daemon to read its config again, and returns at once."""

    names: AllowedNames
    config: Path
    ask_for_reload: Callable[[], None]


@frozen(kw_only=True)
class PageResponse:
    status: str = "200 OK"
    type: str = _TEXT
    body: bytes = b""
    more: tuple[tuple[str, str], ...] = ()


class App:
    """The WSGI application. `site`: asked for at each request, since a reload may change it."""

    def __init__(self, board: StatusBoard, site: Callable[[], PageSource]) -> None:
        self._board = board
        self._site = site
        here = Path(__file__).parent
        files = {"/page.css": "text/css; charset=utf-8", "/page.js": "text/javascript; charset=utf-8"}
        self._files = {
            path: PageResponse(type=type, body=(here / path[1:]).read_bytes()) for path, type in files.items()
        }
        # Given the query. Only the page has one.
        self._read: dict[str, Callable[[str], PageResponse]] = {
            "/": self._page,
            "/health": lambda query: PageResponse(body=b"ok"),
            "/version": lambda query: PageResponse(body=VERSION.encode()),
            "/workdir": lambda query: _json({"msg": "success", "data": str(site().config.parent)}),
            "/status": lambda query: self._status(),
            "/metrics": lambda query: PageResponse(type=CONTENT_TYPE_LATEST, body=metrics.exposition(board.status())),
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            answer = self._answer(environ)
        except Exception as err:  # a fault of one request is reported to its client, and logged
            logger.failure("ERROR", err, "local HTTP: unexpected, please report it: {!r}", err)
            answer = PageResponse(status="500 Internal Server Error", body=b"it broke; the log has the rest\n")
        headers = [("Content-Type", answer.type), ("Content-Length", str(len(answer.body))), *_HEADERS, *answer.more]
        start_response(answer.status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def _answer(self, environ: WSGIEnvironment) -> PageResponse:
        site = self._site()
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        refused = refusal(environ, site.names)
        if refused is None and path == "/config/reload":
            if method not in ("GET", "POST"):
                return _not_allowed("GET, POST")
            refused = refusal_to_change(environ)
            if refused is None:
                return _reload(site)
        if refused is not None:
            return PageResponse(status=refused.status, body=f"{refused.message}\n".encode())
        if path not in self._read and path not in self._files:
            return PageResponse(status="404 Not Found", body=b"no such path; / is the page\n")
        if method not in _READ:
            return _not_allowed(", ".join(_READ))
        return self._files[path] if path in self._files else self._read[path](environ.get("QUERY_STRING", ""))

    def _page(self, query: str) -> PageResponse:
        html = page(self._board.status(), time.time(), trouble_alone=query.partition("=")[0] == "trouble")
        return PageResponse(type=_HTML, body=html.encode())

    def _status(self) -> PageResponse:
        status = self._board.status()
        if status.snapshot is None:
            why = status.trouble or "no pass has ended yet"
            return _json({"msg": why}, status="503 Service Unavailable")
        return PageResponse(
            type=_JSON, body=f"{to_json(status.snapshot.document)}\n".encode("utf-8", "backslashreplace")
        )


def _reload(site: PageSource) -> PageResponse:
    """Check the config, have it taken up, and show it as it is in the file, but for its secrets."""
    try:
        load(site.config)
        document = json.loads(read_regular(site.config))
    except ConfigWrong as err:
        return _json({"msg": f"the config is wrong, the old one stays: {err}"})
    except (OSError, ValueError) as err:
        return _json({"msg": f"{site.config} can't be read, the old one stays: {err}"})
    site.ask_for_reload()
    return _json({"msg": "success", "data": without_secrets(document)})


def _json(content: dict[str, Any], status: str = "200 OK") -> PageResponse:
    return PageResponse(status=status, type=_JSON, body=f"{json.dumps(content)}\n".encode())


def _not_allowed(allowed: str) -> PageResponse:
    return PageResponse(status="405 Method Not Allowed", body=b"not with this method\n", more=(("Allow", allowed),))
