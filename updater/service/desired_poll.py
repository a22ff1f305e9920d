"""Ask a `desired` URL between passes whether its file changed: at the host's slot, one question at a time.

Each question is asked in a thread of its own, so that a server that hangs delays no pass. What was answered is taken up
by the daemon's thread alone, which makes the pass; nothing is accepted here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from attrs import define

from probes.values import frozen
from reconcile.decide.actions import assert_never
from reconcile.decide.conditions import FALSE, TRUE, Condition
from reconcile.decide.timing import schedule
from reconcile.errors import ResponseInvalid, ServerUnreachable
from updater.sources.url import DesiredUrl


class FileState(Enum):
    """What a server that answered says of the file."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"


PollAnswer: TypeAlias = FileState | ServerUnreachable | ResponseInvalid


@frozen(kw_only=True)
class PollNews:
    """What an answer asks for. `pass_now`: a pass that accepts what is there. `server`: how the server is by now, where
    that is to be logged. `retry_after`: seconds, where the server asked to be left alone."""

    pass_now: bool = False
    server: Condition | None = None
    retry_after: float | None = None


class DesiredPoll:
    """The questions to one URL. `notify` is called in another thread when there is an answer."""

    def __init__(self, source: DesiredUrl, every_s: float, notify: Callable[[], None]) -> None:
        self._source = source
        self._every_s = every_s
        self._notify = notify
        self._question: _Question | None = None
        self._at: float | None = None
        self._unreachable = False  # as of the last answer
        self._refused = ""  # why the file of the last answer can't be accepted

    def next_at(self, offset: float, quiet_until: float | None) -> float:
        """When to `ask` next, as Unix seconds. `offset`: the host's slot; `quiet_until`: not before, where the server
        asked for that."""
        now = time.time()
        # A clock that was set back must not put the questions off for as long as it jumped.
        if self._at is None or self._at > now + self._every_s:
            self._at = schedule.next_poll(now, self._every_s, offset)
        if quiet_until is not None and quiet_until > self._at:
            return schedule.next_poll(now, self._every_s, offset, quiet_until=quiet_until)
        return self._at

    def ask(self) -> None:
        """Begin to ask, unless the last question is still open."""
        self._at = None
        if self._question is None:
            self._question = _Question(source=self._source, notify=self._notify)
            self._question.begin()

    def forget(self) -> None:
        """Drop an open question: a pass asks again, and knows more."""
        self._question = None

    def news(self, *, pass_failed: bool) -> PollNews | None:
        """Take an answer; None: there is none. `pass_failed`: the last pass that asked got no valid answer."""
        question = self._question
        if question is None or question.answer is None:
            return None
        self._question = None
        return self._news(question.answer, pass_failed=pass_failed)

    def _news(self, answer: PollAnswer, *, pass_failed: bool) -> PollNews:
        was_unreachable, was_refused = self._unreachable, self._refused
        self._unreachable, self._refused = False, ""
        back = None
        if was_unreachable:
            back = Condition(type="ServerReachable", status=TRUE, reason="AsDesired", message=self._source.came_from)
        match answer:
            case FileState():
                return PollNews(pass_now=pass_failed or answer is FileState.CHANGED, server=back)
            case ResponseInvalid():  # the pass says why; while that lasts no further one is made for it
                self._refused = answer.message
                return PollNews(pass_now=answer.message != was_refused)
            case ServerUnreachable():
                self._unreachable, self._refused = True, was_refused
                lost = Condition(type="ServerReachable", status=FALSE, reason=answer.reason, message=answer.message)
                return PollNews(server=lost, retry_after=answer.retry_after)
            case _:
                assert_never(answer)


@define(kw_only=True)
class _Question:
    """One question, and its answer once that is there."""

    source: DesiredUrl
    notify: Callable[[], None]
    answer: PollAnswer | None = None

    def begin(self) -> None:
        try:
            threading.Thread(target=self._ask, name="desired_poll", daemon=True).start()
        except RuntimeError as err:
            self.answer = ServerUnreachable(f"the server was not asked: the host is short of a resource: {err}")

    def _ask(self) -> None:
        try:
            self.answer = FileState.CHANGED if self.source.is_changed() else FileState.UNCHANGED
        except (ServerUnreachable, ResponseInvalid) as err:
            self.answer = err
        except Exception as err:  # an unexpected error must not end the questions
            self.answer = ServerUnreachable(f"unexpected, please report it: {err!r}")
        self.notify()
