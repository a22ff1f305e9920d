"""What a check says and is given, and the one look at host and server that all checks share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from attrs import evolve, field

from probes.values import frozen
from probes.worker.pool import WorkerPool
from reconcile.assess.assess_host import assess
from reconcile.assess.pass_context import Assessment, DesiredFrom, NoDesiredState
from reconcile.decide.conditions import Condition
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.errors import FetchFailed, FetchInterrupted
from reconcile.net.http_client import HttpClient, HttpReply, etag_of
from reconcile.source import Answer, DesiredSource, HostReport
from reconcile.storage.store import read_state
from updater.settings.composition import SourceOverride, asked_url, host_context
from updater.settings.config import Config, is_https


class CheckState(Enum):
    """How a thing is; the value is the word in text and JSON."""

    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


@frozen(kw_only=True)
class CheckFinding:
    """One line. `about`: the check that it is of. `remedy`: what to do, empty where nothing is to be done."""

    about: str
    state: CheckState
    message: str
    remedy: str = ""


def good(about: str, message: str) -> CheckFinding:
    return CheckFinding(about=about, state=CheckState.GOOD, message=message)


def note(about: str, message: str, remedy: str = "") -> CheckFinding:
    return CheckFinding(about=about, state=CheckState.NOTE, message=message, remedy=remedy)


def bad(about: str, message: str, remedy: str = "") -> CheckFinding:
    return CheckFinding(about=about, state=CheckState.BAD, message=message, remedy=remedy)


@frozen(kw_only=True)
class Exchange:
    """When the server was asked, by our clock (Unix seconds). `date`: its `Date` as sent, empty where it sent none.
    `has_etag`: whether its answer can be asked for by an ETag."""

    began: float
    ended: float
    date: str = ""
    has_etag: bool = False


@frozen(kw_only=True)
class CheckContext:
    """What is checked. `found`: what a plan would find; None where nothing is desired that we know of, and `trouble`
    says why. `conditions`: of the updater itself, after its last pass. `exchange`: None where the server was not asked.
    `certificate`: what an https server serves, in DER. `root`: where the host's files are looked up."""

    config: Config
    own_user: str
    workers: WorkerPool
    environ: Mapping[str, str]
    asked: bool
    found: Assessment | None = None
    trouble: str = ""
    memory_trouble: str = ""
    conditions: tuple[Condition, ...] = ()
    exchange: Exchange | None = None
    certificate: bytes = field(default=b"", repr=False)
    root: Path = field(default=Path("/"))

    @property
    def agents(self) -> tuple[AgentEvaluation, ...]:
        return () if self.found is None else self.found.agents

    @property
    def unanswered(self) -> str:
        """Why the server gave no valid answer; empty where it did, or was not asked."""
        if self.found is None:
            return self.trouble
        return "" if self.found.failed is None else self.found.failed.message


CheckFunction = Callable[[CheckContext], Iterable[CheckFinding]]


def parted(text: str) -> tuple[str, str]:
    """Message and remedy of an error that says both: they are parted by its last semicolon."""
    message, _, remedy = text.rpartition("; ")
    return (message, remedy) if message else (remedy, "")


@contextmanager
def open_context(config: Config, *, offline: bool) -> Iterator[CheckContext]:
    """Look and, unless `offline`, ask; other users' children live for as long as the block lasts."""
    watch = _Watch()
    host = host_context(config, SourceOverride(), on_reply=watch.on_reply)
    host = evolve(host, source=_Watched(host.source, watch))
    state = read_state(config.var / "state.db")
    subject = CheckContext(
        config=config,
        own_user=host.facts.run_user,
        workers=host.workers,
        environ=os.environ,
        asked=not offline,
        memory_trouble=state.trouble,
        conditions=state.conditions,
    )
    with host.workers.at_work():
        try:
            found = assess(host, state, DesiredFrom.READ_ONLY if offline else DesiredFrom.EXCHANGE)
            subject = evolve(subject, found=found)
        except NoDesiredState as err:
            subject = evolve(subject, trouble=err.message)
        yield evolve(subject, exchange=watch.exchange, certificate=b"" if offline else _certificate(host.http, config))


def _certificate(http: HttpClient, config: Config) -> bytes:
    """What is served where the desired state is asked for; empty where that is not https, or nothing is served."""
    url = asked_url(config)
    if url is None or not is_https(url):
        return b""
    try:
        return http.certificate(url)
    except (FetchFailed, FetchInterrupted):  # the check of the server says what is wrong
        return b""


class _Watch:
    """Notes when the exchange began and ended, and what the server said that the time was."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self._began: float | None = None
        self._date = ""
        self._has_etag = False

    def begin(self) -> None:
        self._began = time.time()
        self._has_etag = False

    def on_reply(self, reply: HttpReply) -> None:
        if self._began is not None:  # a config's or a digest file's server has a clock of its own
            self._date = reply.headers.get("date", "")
            self._has_etag = self._has_etag or etag_of(reply) is not None

    def end(self) -> None:
        if self._began is not None:
            self.exchange = Exchange(began=self._began, ended=time.time(), date=self._date, has_etag=self._has_etag)
        self._began = None


class _Watched:
    """A source, timed."""

    def __init__(self, source: DesiredSource, watch: _Watch) -> None:
        self._source = source
        self._watch = watch

    @property
    def came_from(self) -> str:
        return self._source.came_from

    @property
    def takes_reports(self) -> bool:
        return self._source.takes_reports

    def exchange(self, report: HostReport) -> Answer:
        self._watch.begin()
        try:
            return self._source.exchange(report)
        finally:
            self._watch.end()
