"""What is reported on standard error while `apply` works: nothing, or a line as each step begins, or a living display.

The display itself is in live_view.py, which needs rich; here is what it shows, as values that know no terminal. Methods
are called from the agents' threads, and return at once: no action waits for its report.
"""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import TextIO

from attrs import define, field

from reconcile.decide.actions import Action, Fetch, Outcome
from reconcile.decide.admission import duration
from reconcile.decide.evaluate import AgentEvaluation
from updater.output.format import bytes_of
from updater.output.words import what

_RATE_SPAN_S = 5.0  # a rate is of the last few seconds: what was before says little about what comes
_BETWEEN_S = 0.25


class Progress:
    """What goes on is reported to this. The base class says nothing: of cron, pipes, -q and JSON."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def pass_begins(self) -> None:
        """A pass begins: it waits for the lock, looks at the agents, asks the server."""

    def waits(self) -> None:
        """The pass of another updater is waited for; called every few seconds."""

    def decided(self) -> None:
        """It knows what is to be done."""

    def begins(self, view: AgentEvaluation, action: Action) -> None:
        """A step of an agent begins."""

    def arrived(self, view: AgentEvaluation, size: int, total: int | None) -> None:
        """Note how many bytes of an agent's tarball are there, of `total` where the server announced it."""

    def ended(self, view: AgentEvaluation, outcome: Outcome) -> None:
        """A step of an agent ended."""

    def interrupted(self, finishing: tuple[str, ...], within_s: float) -> None:
        """A signal asks for the end: these steps are finished first, within so many seconds. Called in the midst of
        anything: it waits for no lock."""

    def rests(self, watched: tuple[str, ...], unready: tuple[str, ...], seconds: float) -> None:
        """No pass is made now. In so many seconds the watch over the first of `watched`, new agents, ends; where there
        are none, the next pass is made for the `unready` ones."""


class Lines(Progress):
    """A line as each step begins: for a terminal that can do no more."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def begins(self, view: AgentEvaluation, action: Action) -> None:
        with suppress(OSError):  # a terminal that has gone must not end what was begun
            print(f"{view.desired.name}: {action.type} ...", file=self._out)

    def interrupted(self, finishing: tuple[str, ...], within_s: float) -> None:
        with suppress(OSError):
            os.write(self._out.fileno(), f"{interruption(finishing, within_s)}\n".encode())


def interruption(finishing: tuple[str, ...], within_s: float) -> str:
    """What is still finished after Ctrl-C."""
    if not finishing:
        return "interrupted: no agent is between stop and start; it ends now"
    return f"interrupted: finishes {', '.join(finishing)}, within {duration(within_s)} at most"


@define
class Step:
    """A step under way. Times are monotonic seconds, sizes bytes."""

    action: Action
    since: float
    size: int | None = None
    total: int | None = None
    _seen: deque[tuple[float, int]] = field(factory=deque, init=False)

    def age(self, now: float) -> str:
        """How long it has been going on; empty in its first second."""
        return duration(now - self.since) if now - self.since >= 1 else ""

    def rate(self, now: float) -> float | None:
        """Bytes per second, lately; None: not known yet. It is to be asked now and then, and looks then."""
        if self.size is None:
            return None
        seen = self._seen
        if seen and self.size < seen[-1][1]:
            seen.clear()  # it began again
        if not seen or now - seen[-1][0] >= _BETWEEN_S:
            seen.append((now, self.size))
        while len(seen) > 2 and now - seen[0][0] > _RATE_SPAN_S:
            seen.popleft()
        first, before = seen[0]
        span = now - first
        return (self.size - before) / span if span >= _BETWEEN_S else None

    def words(self, now: float, columns: int) -> str:
        """Return bytes, rate and time left of a fetch, as far as they are known and have room; the age of all else."""
        if self.size is None:
            return self.age(now)
        rate = self.rate(now)
        words = [bytes_of(self.size) if self.total is None else f"{bytes_of(self.size)} of {bytes_of(self.total)}"]
        if rate is not None:
            words.append(f"{bytes_of(rate)}/s")
            if rate >= 1 and self.total is not None:
                words.append(f"{duration(max(0.0, self.total - self.size) / rate)} left")
        while len(words) > 1 and len("  ".join(words)) > columns:
            words.pop()
        return "  ".join(words)


def step_of(action: Action) -> str:
    """A step in a few words; what a fetch fetches stands in its plan."""
    return action.type if isinstance(action, Fetch) else f"{action.type} {what(action)}"


def now() -> float:
    """Monotonic seconds."""
    return time.monotonic()
