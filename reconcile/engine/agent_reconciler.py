"""Each agent's own way through a pass: it is healed if it is down, its remote files are asked, its change is made.

None waits for another's. What is done for one agent, in its own thread, is in execution.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from attrs import define, evolve, field

from probes.values import frozen
from reconcile.assess.assess_agent import with_healed, with_remote
from reconcile.assess.homes import observe_now
from reconcile.assess.pass_context import Assessment
from reconcile.assess.remote_inputs import RemoteAnswer, ask_remote_files
from reconcile.decide.evaluate import AgentEvaluation, after_heal
from reconcile.engine.download_budget import DownloadBudget
from reconcile.engine.execution_context import ExecutionContext
from reconcile.engine.journal import Journal
from reconcile.engine.plan_pool import PlanPool
from reconcile.engine.recording import wake_times
from reconcile.engine.results import AgentResult, conclude, going_on, untouched, with_late_fetch
from reconcile.engine.spool import Spool
from reconcile.net.remote_files import LIMIT_S
from reconcile.storage.store import Store

ALIVE_S = 5.0  # seconds between two signs of life while agents are waited for
POLL_S = 0.2  # how often the event that ends all is read, while something remote is waited for


@frozen(kw_only=True)
class PassRuntime:
    """All that a pass may act with. `parallel`: agents changed at once. `plans`: that run, of earlier passes too."""

    context: ExecutionContext
    store: Store
    parallel: int
    plans: PlanPool = field()

    @plans.default
    def _make_plans(self) -> PlanPool:
        return PlanPool(Journal(self.store), self.parallel)


@define(kw_only=True)
class _Agent:
    """One agent in a pass. `healing`: as it was when its heal began, None: it was not healed; `healed`: what came of
    that. `runs`: its heal or its change is being made. `result`: what came of it all; `unrecorded`: what of that is
    still to be recorded, at the end of the pass."""

    view: AgentEvaluation
    healing: AgentEvaluation | None = None
    healed: AgentResult | None = None
    runs: bool = False
    result: AgentResult | None = None
    unrecorded: AgentResult | None = None


class AgentReconciler:
    """The agents of one pass. Only the thread of the passes uses it. `left_alone`: agents whose plan is of an earlier
    pass and still runs: they are observed and reported. `late`: what came of such plans meanwhile."""

    def __init__(self, runtime: PassRuntime, *, budget_s: float | None = None, until: float | None = None) -> None:
        """`budget_s`: see PassRequest; `until`: monotonic seconds to which plans are waited for; None: to their end."""
        self.left_alone = frozenset(runtime.plans.running)
        self.late: list[AgentResult] = []
        self._runtime = runtime
        self._plans = runtime.plans
        self._until = math.inf if until is None else until
        self._budget = DownloadBudget(runtime.plans, budget_s)
        self._agents: dict[str, _Agent] = {}
        self._named: dict[str, _Agent] = {}  # of the answer: what it names no more may have been healed, too
        self._found: Assessment | None = None
        self._is_over = False
        self._spool = Spool(runtime.context.cache)

    @property
    def acted_upon(self) -> frozenset[str]:
        """The agents of which there may be newer notes than those of the look of this pass."""
        return self.left_alone | self._agents.keys()

    def keep(self, content: bytes) -> Callable[[], bytes]:
        """Keep the bytes of a config on the disk until they are written."""
        return self._spool.put(content)

    def heal(self, found: Assessment) -> None:
        """Begin to heal what is down; the downloads of these agents end for that."""
        self._found = found
        for view in found.agents:
            name = view.desired.name
            if name in self.left_alone and (view.heal or view).misses_healing:
                self._plans.yield_to_heal(name)
            if view.heal is not None:
                self._begin_heal(view)

    def heal_unanswered(self, found: Assessment) -> None:
        """Begin to heal what is down, by the last accepted answer: the server takes its time."""
        self.heal(found)
        for view in found.agents:
            if view.misses_healing:
                self._begin_heal(view)

    def reconcile(self, found: Assessment) -> list[AgentResult]:
        """Ask remote files and make the changes; until all is done, or the pass may wait no longer. Return what became
        of each agent."""
        self._begin(found)
        asked_until = time.monotonic() + LIMIT_S
        while self._unfinished:
            self._runtime.context.alive()
            left = self._patience_s()
            if left <= 0:
                break
            waits = self._waiting_for_remote
            if waits and (self._runtime.context.ending.is_set() or time.monotonic() > asked_until):
                for name in waits:
                    self._take_remote(name, None)
                continue
            self.take(max(0.0, min(left, self._end_late_downloads(), POLL_S if waits else ALIVE_S)))
        self._leave_the_rest()
        return [agent.result for agent in self._named.values() if agent.result is not None]

    @property
    def _unfinished(self) -> dict[str, _Agent]:
        return {name: agent for name, agent in self._named.items() if agent.result is None}

    @property
    def _waiting_for_remote(self) -> list[str]:
        """The agents that wait for what their remote files say."""
        return [name for name, agent in self._unfinished.items() if agent.view.asks is not None]

    def _begin(self, found: Assessment) -> None:
        self._found = found
        for view in found.agents:
            self._agents.setdefault(view.desired.name, _Agent(view=view)).view = view
        self._named = {view.desired.name: self._agents[view.desired.name] for view in found.agents}
        asking = [view for view in found.agents if view.asks is not None and view.desired.name not in self.left_alone]
        if asking:
            ask_remote_files(self._runtime.context.host, asking, self._post_remote, self.keep)
        for name in self._named:
            self._go_on(name)

    def assessed(self, found: Assessment) -> Assessment:
        """What was assessed in the end, of each agent."""
        return evolve(found, agents=tuple(self._agents[view.desired.name].view for view in found.agents))

    @property
    def unrecorded(self) -> list[AgentResult]:
        return [agent.unrecorded for agent in self._agents.values() if agent.unrecorded is not None]

    def take(self, timeout_s: float) -> None:
        """Take what arrives next, in at most so many seconds."""
        result = self._plans.next_result(timeout_s)
        if result is None:
            return
        agent = self._agents.get(result.name)
        if agent is None or not agent.runs:
            self.late.append(result)
            return
        agent.runs = False
        if agent.healing is not None and agent.healed is None:
            agent.healed = result
            self._go_on(result.name)
        else:
            agent.result = result.joined_with(agent.healed)

    # One agent

    def _go_on(self, name: str) -> None:
        """Do the next of an agent's steps that can be done now."""
        agent = self._agents[name]
        assert self._found is not None
        if name not in self._named or agent.runs or agent.result is not None:
            return
        if name in self.left_alone:
            agent.result = going_on(agent.view, self._found.at)
        elif agent.view.heal is not None and agent.healing is None:
            self._begin_heal(agent.view)
        elif agent.view.asks is None:
            self._begin_change(agent)

    def _begin_heal(self, view: AgentEvaluation) -> None:
        assert self._found is not None
        name = view.desired.name
        if (name in self._agents and self._agents[name].healing is not None) or name in self.left_alone:
            return
        agent = self._agents.setdefault(name, _Agent(view=view))
        agent.healing, agent.runs = view.heal or view, True
        evaluation = self._found.evaluation_context
        self._plans.start(self._runtime.context, view, evaluation, view.heal)

    def _begin_change(self, agent: _Agent) -> None:
        assert self._found is not None
        now = self._take_heal(agent)
        if agent.view.due.actions:
            agent.runs = True
            self._plans.start(self._runtime.context, agent.view, self._found.evaluation_context)
        else:
            self._end_unchanged(agent, now)

    def _take_heal(self, agent: _Agent) -> AgentEvaluation:
        """The agent as it stands now: after its heal, by what is known of its remote files."""
        healed, view = agent.healed, agent.view
        if healed is None or agent.healing is None:
            return view
        assert self._found is not None
        host, name = self._runtime.context.host, view.desired.name
        record = healed.record or self._runtime.store.state.record(name)  # what was noted of a heal that broke stands
        seen = evolve(healed.after.agent_inputs, desired=view.desired, record=record)
        if view.desired.home != healed.view.desired.home:  # the answer came after the heal, and wants it elsewhere
            seen = observe_now(view.desired, record, host)
        now = with_healed(host, view, seen, evolve(self._found.evaluation_context, now=host.clock()))
        agent.view = after_heal(now, agent.healing)
        return now

    def _end_unchanged(self, agent: _Agent, now: AgentEvaluation, *, time_was_up: bool = False) -> None:
        """Nothing more is to be done for it in this pass. `time_was_up`: for its download."""
        assert self._found is not None
        end = untouched(now, self._found.at)
        if agent.healed is not None:
            executed = agent.healed.executed  # what failed of its heal says how it is
            end = conclude(now, now, executed=executed, record=end.record, at=end.at, before=agent.healing)
        end = evolve(end, executed=())
        agent.unrecorded = with_late_fetch(end, time_was_up=True) if time_was_up else end
        agent.result = evolve(agent.unrecorded, view=agent.view).joined_with(agent.healed)

    # Its remote files

    def _post_remote(self, name: str, answer: RemoteAnswer) -> None:
        """Called by the threads that ask."""
        self._plans.journal.post(lambda: self._take_remote(name, answer))

    def _take_remote(self, name: str, answer: RemoteAnswer | None) -> None:
        """Take up what an agent's remote files say; None: nothing, and they are no longer waited for."""
        agent = self._agents[name]
        assert self._found is not None
        if self._is_over or agent.view.asks is None:
            return
        agent.view = with_remote(self._runtime.context.host, self._found, agent.view, answer)
        self._go_on(name)

    # How long it may take

    def _end_late_downloads(self) -> float:
        """End the downloads that took longer than this run has time for; seconds until the next may have to."""
        running = [agent.view for agent in self._agents.values() if agent.runs]
        taken_back, next_s = self._budget.end_late(running)
        for name in taken_back:
            agent = self._agents[name]
            agent.runs = False
            self._end_unchanged(agent, agent.view, time_was_up=True)
        return next_s

    def _patience_s(self) -> float:
        """Return how long the pass may wait on: no agent's watch, hold or delay ends unseen for another's sake."""
        if self._until == math.inf:
            return math.inf
        host = self._runtime.context.host
        now = host.clock()
        results = (agent.result for agent in self._agents.values() if agent.result is not None)
        ends = (at - now for result in results for at in wake_times(result, now, host.rules.watch))
        return min(self._until - time.monotonic(), min(ends, default=math.inf))

    def _leave_the_rest(self) -> None:
        """Say how those stand that this pass waits for no longer."""
        assert self._found is not None
        queued = self._plans.cancel_queued()
        for name, agent in self._named.items():
            agent.runs = agent.runs and name not in queued
            if agent.result is not None:
                continue
            if not agent.runs:
                self._end_unchanged(agent, self._take_heal(agent))
            elif agent.healed is not None:
                agent.result = evolve(agent.healed, view=agent.view, record=None)
            else:
                agent.result = going_on(agent.view, self._found.at)
        for agent in self._agents.values():
            agent.runs = False  # what ends from here on is late
        self._is_over = True
