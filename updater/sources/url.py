"""A plain URL in the contract's form, as a source of desired state: any web server or object store serves one.

It is asked with a GET that says what is known already, so an unchanged answer costs a header (304); a server without
ETags sends the whole file each time, which is then compared. It takes no report, so that is dropped. What
a server may do to us is bounded by reconcile/net/http_client.py; the form is wire.py's.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from attrs import evolve, field

from probes.text import one_line, redact_url
from probes.values import frozen
from reconcile.errors import DesiredUnsigned, FetchFailed, FetchInterrupted, ServerUnreachable
from reconcile.net.http_client import HttpClient, HttpReply, check_status, etag_of, origin_of, retry_after
from reconcile.source import Answer, HostReport
from updater.sources import wire
from updater.sources.ops_meta import redirect_of, unreachable
from updater.sources.signed import SIGNATURE_LIMIT, DesiredVerifier, signature_url

_LIMIT = 1024 * 1024  # bytes, as of a heartbeat's answer
_REMEDY = "is `desired` right, and its server running?"


@frozen(kw_only=True)
class _Accepted:
    """The answer that was accepted last. `etag`: None where the server gave none that may be sent back."""

    etag: str | None
    body: bytes = field(repr=False)
    answer: Answer


class DesiredUrl:
    """A source of desired state that makes conditional GETs. It remembers the last answer for as long as it lives.
    Threads may share it."""

    def __init__(
        self, url: str, http: HttpClient, deadline_s: float = 30, verifier: DesiredVerifier | None = None
    ) -> None:
        """`deadline_s` bounds each of an exchange's requests: for the file, and with a `verifier` for its signature.
        Raise ValueError on an URL that is none."""
        self._url = checked_url(url)
        self._http = http
        self._deadline_s = deadline_s
        self._verifier = verifier
        self._known: _Accepted | None = None

    @property
    def came_from(self) -> str:
        return redact_url(self._url)

    @property
    def takes_reports(self) -> bool:
        return False

    def exchange(self, report: HostReport) -> Answer:
        """Get the desired state; unchanged (304) it is the same answer, as live. No redirect is followed.

        Raise ServerUnreachable or ResponseInvalid.
        """
        known = self._known
        reply = self._get(known)
        if reply is not None:
            known = _Accepted(etag=etag_of(reply), body=reply.body, answer=self._read(reply))
        assert known is not None  # else 304 is no answer
        self._admit(known.answer)  # unchanged it may be older than what another process accepted meanwhile
        self._known = known
        return known.answer

    def is_changed(self) -> bool:
        """Ask whether there is another file than the one accepted last, which stays so until `exchange` accepts it.

        Raise ServerUnreachable, and ResponseInvalid where it could not be accepted.
        """
        known = self._known
        reply = self._get(known)
        if reply is None or (known is not None and reply.body == known.body):
            return False
        self._admit(self._read(reply))
        return True

    def _read(self, reply: HttpReply) -> Answer:
        """Verify the file where that is asked for, then parse it. Raise ServerUnreachable, ResponseInvalid."""
        if self._verifier is None:
            return wire.parse_answer(reply.body, self.came_from)
        at = signature_url(self._url)
        signature = self._verifier.verify(reply.body, self._get_signature(at), redact_url(at))
        return evolve(wire.parse_answer(reply.body, self.came_from), signature=signature)

    def _admit(self, answer: Answer) -> None:
        if self._verifier is not None and answer.signature is not None:
            self._verifier.admit(answer.signature, redact_url(signature_url(self._url)))

    def _get_signature(self, url: str) -> bytes:
        """Get the signature after the file: publishers replace it before. Raise ServerUnreachable, DesiredUnsigned."""
        try:
            reply = self._http.small("GET", url, limit=SIGNATURE_LIMIT, deadline_s=self._deadline_s)
            if reply.status != 200:
                check_status(reply.status, reply.headers, url)
                raise FetchFailed(f"{redact_url(url)}: HTTP {reply.status}")
        except FetchInterrupted as err:
            raise ServerUnreachable(f"no answer from {err.message}; {_REMEDY}", retry_after=err.retry_after) from err
        except FetchFailed as err:
            why = "a desired state must be signed here (require_signed_desired): publish its signature beside it"
            raise DesiredUnsigned(f"the signature {err.message}; {why}") from err
        return reply.body

    def _get(self, known: _Accepted | None) -> HttpReply | None:
        """Get the file; None: it is the known one. Raise ServerUnreachable, ResponseInvalid."""
        etag = None if known is None else known.etag
        headers = {"Accept": "application/json", **({} if etag is None else {"If-None-Match": etag})}
        try:
            reply = self._http.small("GET", self._url, headers=headers, limit=_LIMIT, deadline_s=self._deadline_s)
        except (FetchFailed, FetchInterrupted) as error:
            raise unreachable(error, self._http, self._url, _REMEDY) from error
        if reply.status == 304 and etag is not None:
            return None
        if reply.status != 200:
            redirect = redirect_of(reply)
            where = f", {redirect}, and none is followed here" if redirect else ""
            message = f"no answer from {self.came_from}: HTTP {reply.status}{where}; {_remedy(reply.status)}"
            raise ServerUnreachable(message, retry_after=retry_after(reply.headers))
        return reply


def _remedy(status: int) -> str:
    if status in (404, 410):
        return "is the path of `desired` right, and the file there?"
    return "is its server running?" if status >= 500 else _REMEDY


def checked_url(url: str) -> str:
    """Return an http or https URL unchanged. Raise ValueError, with a message for the operator who wrote it."""
    if not url.isprintable() or any(char.isspace() for char in url):
        raise ValueError(f"{one_line(url.partition('?')[0], 80)!r} holds a blank or a control character")
    origin_of(url)
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError(
            f"{redact_url(url)}: credentials in the URL would end up in logs; set auth{{user,password_file}}"
        )
    if parts.fragment:
        raise ValueError(f"{redact_url(url)}: a # part is never sent; leave it away")
    return url
