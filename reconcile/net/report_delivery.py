"""Deliver reports to an URL, each in a thread of its own: a server that hangs delays nothing, and its answer changes
nothing (docs/interface.md, section 7).

At most one report is on its way. Of those that come meanwhile the newest follows it, and the others are dropped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from probes.text import redact_url
from reconcile.errors import FetchFailed, FetchInterrupted
from reconcile.net.http_client import HttpClient
from reconcile.source import HostReport

DEADLINE_S = 10.0  # of one report, name lookup and connection included
_LIMIT = 64 * 1024  # bytes of an answer, of which nothing is read
_POLL_S = 0.1  # how often is_cancelled is asked


class ReportDelivery:
    """Reports to one URL. `encode` gives a report its form. Threads may share it."""

    def __init__(
        self, url: str, encode: Callable[[HostReport], bytes], http: HttpClient, deadline_s: float = DEADLINE_S
    ) -> None:
        self._url = url
        self._encode = encode
        self._http = http
        self._deadline_s = deadline_s
        self._changed = threading.Condition()
        self._waiting: HostReport | None = None
        self._sending = False
        self._trouble: str | None = None
        self._is_news = False

    @property
    def is_sending(self) -> bool:
        """Whether a report is on its way."""
        return self._sending

    def send(self, report: HostReport) -> None:
        """Begin to deliver a report, and return."""
        with self._changed:
            self._waiting = report
            if self._sending:
                return
            try:
                threading.Thread(target=self._work, name="report_to", daemon=True).start()
                self._sending = True
            except RuntimeError as err:
                self._trouble = f"the host is short of a resource: {err}"

    def trouble(self, wait_s: float, is_cancelled: Callable[[], bool] = lambda: False) -> str | None:
        """Why the last report was not delivered, empty where it was; None: no report has ended yet.

        It is waited for `wait_s` seconds at most, but not after one that failed: what hangs delays a pass once.
        """
        until = time.monotonic() + wait_s
        with self._changed:
            while self._sending and not self._trouble and not is_cancelled() and time.monotonic() < until:
                self._changed.wait(_POLL_S)
            self._is_news = False
            return self._trouble

    def news(self) -> str | None:
        """The same of a report that ended since this, or `trouble`, was called last; None: none did."""
        with self._changed:
            found = self._trouble if self._is_news else None
            self._is_news = False
            return found

    def _work(self) -> None:
        while True:
            with self._changed:
                report, self._waiting = self._waiting, None
                if report is None:
                    self._sending = False
                    self._changed.notify_all()
                    return
            trouble = self._deliver(report)
            with self._changed:
                self._trouble, self._is_news = trouble, True
                self._changed.notify_all()

    def _deliver(self, report: HostReport) -> str:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        body = self._encode(report)
        try:
            reply = self._http.small(
                "POST", self._url, body=body, headers=headers, limit=_LIMIT, deadline_s=self._deadline_s
            )
        except (FetchFailed, FetchInterrupted) as err:
            return err.message
        if 200 <= reply.status < 300:
            return ""
        redirect = ", a redirect, and none is followed here" if 300 <= reply.status < 400 else ""
        return f"{redact_url(self._url)}: HTTP {reply.status}{redirect}"
