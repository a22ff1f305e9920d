"""`apply`: one pass, or passes until all is as desired. What a pass does is in reconcile/engine/reconciler.py."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from attrs import field

from probes.values import frozen
from reconcile.assess.pass_context import Assessment, DesiredFrom, HostContext
from reconcile.decide.actions import Action, Outcome, Result, Start, Stop, Switch
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.decide.records.record import Pin
from reconcile.decide.timing.schedule import slot
from reconcile.engine.reconciler import PassRequest
from reconcile.engine.results import AgentResult, PassResult
from updater.output.json_form import to_json
from updater.output.progress import Progress, step_of
from updater.output.report import AgentReport, Report, assessed
from updater.service.pass_log import PassLog, write_metrics
from updater.service.pass_runner import PassObserver, locked_pass
from updater.service.saved_plan import PlanMoved, differences
from updater.settings.config import Config

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 15.0
_SLACK_S = 5.0  # beyond the limits of a stop and a start, for what stands around them


class ApplyInterrupted(Exception):
    """A signal asked us to end before the pass began: nothing was touched. The argument is the signal's number."""


@frozen(kw_only=True)
class ApplyOptions:
    """What was typed. `names`: only these agents; empty: all. `saved`: the plan to carry out, no other. `pins`: to go
    back to. `timeout_s`: for how long to make passes, None: one pass. `budget_s`: for how long that one waits for
    downloads, None: as long as they take. `wait_s`: for the lock of that one pass. `progress`: what reports what goes
    on. `check_names`: given the agents that there are, before anything is done; it may raise."""

    names: frozenset[str] = frozenset()
    saved: dict[str, Any] | None = None
    pins: tuple[tuple[str, Pin], ...] = ()
    offline: bool = False
    splay_s: float = 0.0
    timeout_s: float | None = None
    budget_s: float | None = None
    wait_s: float = 0.0
    progress: Progress = field(factory=Progress)
    check_names: Callable[[Iterable[str]], object] = lambda known: None


class Apply:
    """One run of `apply`. `acted`: whether any action ran in it."""

    def __init__(self, config: Config, host: HostContext, options: ApplyOptions) -> None:
        self.acted = False
        self._signal = 0
        self._went_back: set[str] = set()
        self._downtimes: dict[str, Action] = {}  # of agents between stop and start, the step; replaced, never changed
        self._outcomes: dict[str, tuple[Outcome, ...]] = {}  # of all passes of this run, by agent
        self._config = config
        self._host = host
        self._options = options
        self._ending = threading.Event()
        self._log = PassLog()
        self._known: set[str] = set()  # the agents of the desired state, by name

    def run(self) -> PassResult:
        """Make passes and return the last one. Raise Busy, Ended, NoDesiredState, PlanMoved."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)
        facts = self._host.facts
        if self._options.splay_s and self._ending.wait(slot(facts.hostname, facts.ip, self._options.splay_s)):
            raise ApplyInterrupted(self._signal)
        if self._options.timeout_s is None:
            return self._pass(wait_s=self._options.wait_s)
        deadline = time.monotonic() + self._options.timeout_s
        pause = _FIRST_PAUSE_S
        while True:
            left = deadline - time.monotonic()
            result = self._pass(wait_s=max(0.0, left))
            over = self._ending.is_set() or deadline - time.monotonic() <= pause
            if over or result.is_final:
                return result
            self._rest(result, pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _rest(self, result: PassResult, pause: float) -> None:
        """Wait for the next pass, no longer than to the end of a watch."""
        ends_in = pause if result.wake_at is None else result.wake_at - self._host.clock()
        pause = min(pause, max(_FIRST_PAUSE_S, ends_in))
        refused = (f"{entry.name} (refused: {entry.reason})" for entry in result.assessment.refused)
        unready = (*(agent.view.desired.name for agent in result.unready), *refused)
        self._options.progress.rests(result.confirming, unready, ends_in if result.confirming else pause)
        self._ending.wait(pause)

    def _end(self, number: int, frame: object) -> None:
        if not self._ending.is_set():
            limits = self._config.control_timeout
            finishing = tuple(f"{name} ({step_of(action)})" for name, action in sorted(self._downtimes.items()))
            self._options.progress.interrupted(finishing, limits.stop + limits.start + _SLACK_S)
        self._signal = number
        self._ending.set()

    def _begins(self, view: AgentEvaluation, action: Action) -> None:
        if isinstance(action, Stop | Switch | Start):
            self._downtimes = {**self._downtimes, view.desired.name: action}
        self._options.progress.begins(view, action)

    def _ended(self, view: AgentEvaluation, outcome: Outcome) -> None:
        if isinstance(outcome.action, Start) or outcome.result is Result.FAILED:
            self._downtimes = {name: step for name, step in self._downtimes.items() if name != view.desired.name}
        self._options.progress.ended(view, outcome)

    def only_went_back(self, result: PassResult) -> bool:
        """Whether every agent that isn't as desired was rolled back in this run, and the old one runs."""
        unready = result.unready
        names = {agent.view.desired.name for agent in unready}
        return not result.assessment.refused and names <= self._went_back and all(agent.runs for agent in unready)

    def document(self, result: PassResult) -> Report:
        """What the run came to, for report.py."""
        return Report(
            kind="Result",
            host=self._host.facts.hostname,
            assessment=result.assessment,
            agents=tuple(
                AgentReport(view=a.view, observed=a.observed, conditions=a.conditions, outcomes=self._done(a))
                for a in result.agents
            ),
            conditions=result.conditions,
        )

    def _done(self, agent: AgentResult) -> tuple[Outcome, ...]:
        return self._outcomes.get(agent.view.desired.name, ())

    def _pass(self, *, wait_s: float) -> PassResult:
        names, progress = self._options.names, self._options.progress
        progress.pass_begins()
        result = locked_pass(
            self._config,
            self._host,
            PassRequest(
                ask=DesiredFrom.OFFLINE if self._options.offline else DesiredFrom.EXCHANGE,
                wanted=self._is_wanted,
                approve=None if self._options.saved is None else self._approve,
                decided=self._decided,
                pins=self._options.pins,
                budget_s=self._options.budget_s,
            ),
            ending=self._ending,
            wait_s=wait_s,
            log=self._log,
            observer=PassObserver(
                begins=self._begins,
                ended=self._ended,
                arrived=progress.arrived,
                waits=progress.waits,
                # A pass over some agents says nothing of the others: the metrics of the last whole one stand.
                seen=None
                if names or self._config.metrics_textfile is None
                else lambda found: write_metrics(self._config, found, self._log),
            ),
        )
        self.acted = self.acted or result.acted
        for agent in result.agents:
            if agent.outcomes:
                self._outcomes[agent.view.desired.name] = (*self._done(agent), *agent.outcomes)
        self._went_back |= {agent.view.desired.name for agent in result.agents if agent.went_back}
        return result

    def _decided(self) -> None:
        self._options.check_names(self._known)
        self._options.progress.decided()

    def _is_wanted(self, name: str) -> bool:
        self._known.add(name)
        return not self._options.names or name in self._options.names

    def _approve(self, found: Assessment) -> None:
        """Refuse if the world moved since the plan was saved."""
        assert self._options.saved is not None
        now = Report(
            kind="Plan",
            host=self._host.facts.hostname,
            assessment=found,
            agents=tuple(assessed(view, found.at) for view in found.agents),
            conditions=(),
        )
        moved = differences(self._options.saved, json.loads(to_json(now)))
        if moved:
            raise PlanMoved(moved)
