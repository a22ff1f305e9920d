"""What the last pass left behind and what goes on now, as values that never change: for the page, `/status`, metrics
and the service manager's line. A reader gets one whole value, and nothing here reaches back into a pass.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from attrs import evolve, field

from probes.values import frozen
from reconcile.decide.hold import Requests
from reconcile.engine.results import PassResult
from reconcile.storage.codec import HistoryEntry as Event
from reconcile.storage.counts import Counts
from updater.output.format import rfc3339
from updater.output.report import AgentReport, Report, ready_reason

HISTORY = 50  # events that are shown
_NAMED = 5  # agents that one line names


@frozen(kw_only=True)
class Memory:
    """What is remembered of earlier passes, too. `history`: the oldest first."""

    history: tuple[Event, ...]
    counts: Counts = field(factory=dict)


@frozen(kw_only=True)
class Snapshot:
    """`document`: what `status` reports, of the end of the pass. `history`: the oldest first, without the scripts' own
    words. `counts`: how often each agent was restarted, rolled back, healed. `ended_at`: Unix seconds. `places_held`:
    groups of the fleet's lock in which this host may have a place."""

    document: Report
    history: tuple[Event, ...]
    counts: Counts = field(factory=dict)
    ended_at: float
    took_s: float
    places_held: tuple[str, ...] = ()


@frozen(kw_only=True)
class RunningAction:
    """An action that is being carried out. `since`: Unix seconds."""

    agent: str
    action: str
    about: str
    since: float


@frozen(kw_only=True)
class DaemonStatus:
    """All that there is to see of a daemon. `trouble`: why the last pass was not made; empty: it was. `next_at`: Unix
    seconds of the next pass, None while one is made."""

    started_at: float
    snapshot: Snapshot | None = None
    trouble: str = ""
    next_at: float | None = None
    running: tuple[RunningAction, ...] = ()


def snapshot(host: str, result: PassResult, memory: Memory, requests: Requests, *, took_s: float) -> Snapshot:
    """Take a picture of a pass that has ended. `requests`: those that it left for the next one."""
    document = Report(
        kind="Status",
        host=host,
        assessment=evolve(result.assessment, requests=requests),
        agents=tuple(AgentReport(view=a.after, observed=a.observed, conditions=a.conditions) for a in result.agents),
        conditions=result.conditions,
    )
    return Snapshot(
        document=document,
        history=tuple(map(_briefly, memory.history)),
        counts=memory.counts,
        ended_at=time.time(),
        took_s=took_s,
        places_held=result.places_held,
    )


def summary(status: DaemonStatus) -> str:
    """How a daemon that waits stands, in one line: the agents that are not as desired, and when its next pass is."""
    following = "" if status.next_at is None else f"; next pass {rfc3339(status.next_at)}"
    if status.trouble:
        return f"no pass was made: {status.trouble}{following}"
    if status.snapshot is None:
        return f"no pass has ended yet{following}"
    document = status.snapshot.document
    if document.assessment.nothing_desired:
        return f"the server named no agents{following}"
    ready = sum(agent.ready for agent in document.agents)
    return f"{ready} of {len(document.agents)} agents as desired{_unready(document)}{following}"


def _unready(document: Report) -> str:
    """The agents that are not as desired, each with its reason, as the end of a line."""
    unready = [f"{agent.name} {ready_reason(agent)}" for agent in document.agents if not agent.ready]
    unready += [f"{refusal.name} {refusal.reason}" for refusal in document.assessment.refused]
    more = f" and {len(unready) - _NAMED} more" if len(unready) > _NAMED else ""
    return f": {', '.join(unready[:_NAMED])}{more}" if unready else ""


def _briefly(event: Event) -> Event:
    """An event without its evidence: up to 64 KiB each, and for the eyes of those who may read `var/`."""
    actions = ({key: value for key, value in action.items() if key != "evidence"} for action in event.actions)
    return evolve(event, actions=tuple(actions))


class StatusBoard:
    """Where a daemon's threads put what is to be seen, and others read it, as one whole value."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._status = DaemonStatus(started_at=time.time())

    def status(self) -> DaemonStatus:
        return self._status

    def passing(self, going_on: frozenset[str] = frozenset()) -> None:
        """A pass begins. `going_on`: the agents whose plan outlasts an earlier one."""
        self._put(next_at=None, running=self._doing(going_on))

    def publish(self, snapshot: Snapshot, going_on: frozenset[str] = frozenset()) -> None:
        """A pass ended so. `going_on`: the agents whose plan outlasts it."""
        self._put(snapshot=snapshot, trouble="", running=self._doing(going_on))

    def fail(self, trouble: str, going_on: frozenset[str] = frozenset()) -> None:
        """A pass was not made, for this reason."""
        self._put(trouble=trouble, running=self._doing(going_on))

    def expect(self, at: float) -> None:
        """The next pass is then."""
        if self._status.next_at != at:
            self._put(next_at=at)

    def begin(self, agent: str, action: str, about: str) -> None:
        """An agent's action begins; it is the agent's only one, and ends with `end`."""
        with self._lock:
            others = tuple(one for one in self._status.running if one.agent != agent)
            now = RunningAction(agent=agent, action=action, about=about, since=time.time())
            self._status = evolve(self._status, running=(*others, now))

    def end(self, agent: str) -> None:
        with self._lock:
            self._status = evolve(
                self._status, running=tuple(one for one in self._status.running if one.agent != agent)
            )

    def _doing(self, agents: frozenset[str]) -> tuple[RunningAction, ...]:
        return tuple(one for one in self._status.running if one.agent in agents)

    def _put(self, **changes: Any) -> None:
        with self._lock:
            self._status = evolve(self._status, **changes)
