"""The one look that all checks share: what `plan` does, with an eye on the server's clock. Changes nothing.

The server gets a true report, as from any pass. Deciding what of it is good or bad is the checks'.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import evolve

from reconcile.assess import Ask, NoDesiredState, assess
from reconcile.errors import FetchFailed, FetchInterrupted
from reconcile.http import Http, Reply
from reconcile.source import Answer, DesiredSource, HostReport
from reconcile.store import read_state
from updater.check.finding import Exchange, Subject
from updater.config import Config
from updater.wiring import Chosen, asked_url, surroundings


@contextmanager
def looked_at(config: Config, *, offline: bool) -> Iterator[Subject]:
    """Look and, unless `offline`, ask; other users' children live for as long as the block lasts."""
    watch = _Watch()
    around = surroundings(config, Chosen(), heard=watch.heard)
    around = evolve(around, source=_Watched(around.source, watch))
    state = read_state(config.var / "state.db")
    subject = Subject(
        config=config,
        own_user=around.facts.run_user,
        hands=around.hands,
        environ=os.environ,
        asked=not offline,
        memory_trouble=state.trouble,
    )
    with around.hands.at_work():
        try:
            subject = evolve(subject, found=assess(around, state, Ask.LOOK if offline else Ask.EXCHANGE))
        except NoDesiredState as err:
            subject = evolve(subject, trouble=err.message)
        yield evolve(
            subject, exchange=watch.exchange, certificate=b"" if offline else _certificate(around.http, config)
        )


def _certificate(http: Http, config: Config) -> bytes:
    """What is served where the desired state is asked for; empty where that is not https, or nothing is served."""
    url = asked_url(config)
    if url is None or not url.lower().startswith("https:"):
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

    def begin(self) -> None:
        self._began = time.time()

    def heard(self, reply: Reply) -> None:
        if self._began is not None:  # a config's or a digest file's server has a clock of its own
            self._date = reply.headers.get("date", "")

    def end(self) -> None:
        if self._began is not None:
            self.exchange = Exchange(began=self._began, ended=time.time(), date=self._date)
        self._began = None


class _Watched:
    """A source, timed."""

    def __init__(self, source: DesiredSource, watch: _Watch) -> None:
        self._source = source
        self._watch = watch

    @property
    def came_from(self) -> str:
        return self._source.came_from

    def exchange(self, report: HostReport) -> Answer:
        self._watch.begin()
        try:
            return self._source.exchange(report)
        finally:
            self._watch.end()
