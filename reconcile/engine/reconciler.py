"""A whole pass: assess, keep the answer, heal and change the agents, record, report.

The order of a pass stands here and, for one agent, in agent_reconciler.py. The store is written by the thread of the
passes alone. A plan may outlast its pass: see plan_pool.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from attrs import define, evolve, field

from probes.errors import UpdaterError
from probes.home import home_of
from probes.host.paths import AgentHome
from probes.observed import ObservedHost
from probes.values import frozen
from probes.worker.pool import run_per_user
from reconcile.act.home_ops import trim_start_logs
from reconcile.act.host.root_ops import create_user
from reconcile.assess.assess_host import accept_answer, accepted, completed, observe_known, only
from reconcile.assess.exchange import ExchangeResult, RunningExchange, exchange
from reconcile.assess.host_report import report
from reconcile.assess.pass_context import Assessment, DesiredFrom, HostContext
from reconcile.decide.actions import Plan
from reconcile.decide.admission import Freshness
from reconcile.decide.conditions import Condition, own_conditions, report_condition, stored_condition
from reconcile.decide.desired import RunState
from reconcile.decide.evaluate import AgentEvaluation, where_they_live
from reconcile.decide.records.record import Pin
from reconcile.decide.timing.fleet_places import Groups
from reconcile.engine.agent_reconciler import POLL_S, AgentReconciler, PassRuntime
from reconcile.engine.journal import Journal
from reconcile.engine.operator_requests import end_requests, remember_pin
from reconcile.engine.place_keeper import needs_of
from reconcile.engine.recording import (
    as_recorded,
    changed,
    keep_answer,
    keep_serials,
    record,
    refusals_of,
    timed,
    transitions_of,
    wake_times,
)
from reconcile.engine.results import AgentResult, PassResult
from reconcile.errors import ServerUnreachable
from reconcile.log import logger
from reconcile.net.report_delivery import DEADLINE_S
from reconcile.source import Answer
from reconcile.storage.store import Store, StoredState

_TRIMMING_S = 5.0
_HEAL_AFTER_S = 3.0  # without an answer, after which what crashed is healed by the last one
_LAST_WAIT_S = 1.0  # for an answer, once the pass is to end
_REPORT_WAIT_S = 0.5  # for the delivery of a report, where the next pass is not to wait
_LONGEST_EXCHANGE_S = 60.0  # sources have limits of their own


@frozen(kw_only=True)
class PassRequest:
    """What a pass is to be. `wanted`: the agents, by name. `decided`: called once the host and the server were asked.
    `approve`: given what was assessed, before anything is done, and may raise to have nothing done. `pins`: agents that
    an operator wants back at a version, to be remembered first. `budget_s`: seconds after which a download ends, to go
    on in the next run; None: it takes as long as it takes. `until`: monotonic seconds to which it may wait for its
    plans, those that still run then go on without it; None: it waits for all."""

    ask: DesiredFrom
    wanted: Callable[[str], bool] = lambda name: True
    decided: Callable[[], None] = lambda: None
    approve: Callable[[Assessment], None] | None = None
    pins: tuple[tuple[str, Pin], ...] = ()
    budget_s: float | None = None
    until: float | None = None


def run_pass(runtime: PassRuntime, request: PassRequest) -> PassResult:
    """Make one pass. Raise NoDesiredState, what `approve` raises, and WriteFailed where a pin can't be kept; nothing
    else that is expected."""
    with runtime.context.host.workers.at_work():
        for name, pin in request.pins:
            remember_pin(runtime.context.host, runtime.store, name, pin)
        agents = AgentReconciler(runtime, budget_s=request.budget_s, until=request.until)
        return _Pass(runtime=runtime, request=request, agents=agents, before=runtime.store.state).make()


@define(kw_only=True)
class _Pass:
    """One pass. `before`: what was remembered when it began. `troubles`: what goes wrong with the updater itself."""

    runtime: PassRuntime
    request: PassRequest
    agents: AgentReconciler
    before: StoredState
    troubles: list[str] = field(factory=list)

    @property
    def host(self) -> HostContext:
        return self.runtime.context.host

    @property
    def store(self) -> Store:
        return self.runtime.store

    @property
    def journal(self) -> Journal:
        return self.runtime.plans.journal

    def make(self) -> PassResult:
        """The order of a pass."""
        found = self._assess()
        is_whole = all(self.request.wanted(view.desired.name) for view in found.agents)
        found = only(found, self.request.wanted)
        if self.request.approve is not None:
            found = completed(self.host, found, self.agents.keep)
            self.request.approve(found)
        self._remember(found)
        self.request.decided()
        self.agents.heal(found)
        found = _left_alone(self._with_new_users(found), self.agents.left_alone)
        results = self.agents.reconcile(found)
        found = self.agents.assessed(found)
        _trim_start_logs(self.host, found)
        result = self._record(found, results, is_whole=is_whole)
        self._report_changes(result)
        return evolve(result, late=tuple(self.agents.late))

    # What is so, and what is wanted

    def _assess(self) -> Assessment:
        """Observe, exchange and accept. While the server takes its time what crashed is healed, by what it said last.
        Raise NoDesiredState."""
        host, before, ask = self.host, self.before, self.request.ask
        known = observe_known(host, before)
        if ask is not DesiredFrom.EXCHANGE:
            return accept_answer(host, before, ask, known, None)
        asked = RunningExchange(lambda: exchange(host, before, known.lived_in), self._post)
        answer = self._wait_for(asked, _HEAL_AFTER_S)
        if answer is None and self.request.approve is None and before.accepted is not None:
            self._heal_unanswered(
                only(accept_answer(host, before, DesiredFrom.LAST_ACCEPTED, known, None), self.request.wanted)
            )
        if answer is None:
            answer = self._wait_for(asked, _LONGEST_EXCHANGE_S)
        if answer is None and self.runtime.context.ending.is_set():
            ask = DesiredFrom.LAST_ACCEPTED
        elif answer is None:
            answer = ServerUnreachable(f"no answer from {host.source.came_from} within {_LONGEST_EXCHANGE_S:g} s")
        return accept_answer(host, before, ask, known, answer)

    def _heal_unanswered(self, unanswered: Assessment) -> None:
        self._save_settled(unanswered)
        self.agents.heal_unanswered(unanswered)

    def _post(self, work: Callable[[], None]) -> None:
        self.journal.post(lambda: work())

    def _wait_for(self, asked: RunningExchange, seconds: float) -> ExchangeResult | None:
        """Wait for the server's answer, and take what else arrives; None: it takes longer, or the pass is to end."""
        until, ends = time.monotonic() + seconds, math.inf
        while not asked.has_ended:
            if ends == math.inf and self.runtime.context.ending.is_set():
                ends = time.monotonic() + _LAST_WAIT_S
            left = min(until, ends) - time.monotonic()
            if left <= 0:
                return None
            self.runtime.context.alive()
            self.agents.take(min(left, POLL_S))
        return asked.result

    def _with_new_users(self, found: Assessment) -> Assessment:
        """Create the users that agents lack, where the config wants that, and look again: the answer is not asked
        twice."""
        host, state = self.host, self.store.state
        missing = {v.desired.run_user for v in found.agents if v.lacks_user and v.desired.run is RunState.START}
        if not missing or not host.policy.create_users or found.answered is Freshness.LAST_ACCEPTED:
            return found
        self._create_users(missing)
        host.workers.forget_refused()
        again = accept_answer(host, state, self.request.ask, observe_known(host, state), found.fresh)
        return only(again, self.request.wanted)

    def _create_users(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            try:
                create_user(name)
                logger.info("the user {} was created", name)
            except UpdaterError as err:
                self.troubles.append(err.message)

    # Memory

    def _remember(self, found: Assessment) -> None:
        """Keep the answer, and what was found of pending upgrades, before anything is done."""
        fresh, host = found.fresh, self.host
        if fresh is not None and host.operator is None:  # an operator's file is no word of the server's
            self.journal.attempt(lambda: keep_answer(host, self.store, fresh, found.at, found.last_entries))
            if trouble := keep_serials(host):
                self.troubles.append(trouble)
        self._save_settled(found)

    def _save_settled(self, found: Assessment) -> None:
        """Keep what this look made of pending upgrades (a boot that is counted, a verdict): it must outlive what is
        done now. Of agents that are acted upon already there are newer notes."""
        views = (view for view in found.agents if view.desired.name not in self.agents.acted_upon)
        busy = (view.record for view in views if view.due.actions or view.heal or view.asks)
        changes = [record for record in busy if record is not None and record != self.before.record(record.name)]
        self.journal.attempt(lambda: self.store.save(changes))

    def _record(self, found: Assessment, results: list[AgentResult], *, is_whole: bool) -> PassResult:
        """Record what was not recorded when it ended, and say what came of the pass."""
        journal, places = self.journal, self.runtime.context.places
        rest = {result.name: as_recorded(result) for result in self.agents.unrecorded}
        results = [timed(one) if one.executed or one.name not in rest else rest[one.name] for one in results]
        operator_source = self.host.operator is not None
        refusals = refusals_of(found, self.before, self.request.wanted, operator_source=operator_source)
        journal.attempt(lambda: record(self.store, rest.values(), refusals))
        self._keep_places(found, results, is_whole=is_whole)
        own = self._own_conditions(found, results)
        stand = bool(journal.trouble)  # pins and quarantine are as they were, and so must be the wish to end them
        journal.attempt(lambda: self.store.save_conditions(own))
        if not stand:
            left_alone = self.agents.left_alone
            journal.attempt(lambda: end_requests(self.host, found, left_alone, places, is_whole=is_whole))
        trouble = journal.take_trouble()
        changes = (("", condition) for condition in changed(own, self.before.conditions))
        return PassResult(
            assessment=found,
            agents=tuple(results),
            conditions=own,
            transitions=(*transitions_of(results, self.before), *changes),
            newly_refused=refusals.new,
            refused_no_more=refusals.no_more,
            troubles=(*([trouble] if trouble else []), *self.troubles),
            places_held=() if places is None else tuple(sorted(places.groups_held)),
            wake_at=self._wake_at(results),
        )

    def _keep_places(self, found: Assessment, results: list[AgentResult], *, is_whole: bool) -> None:
        places, groups = self.runtime.context.places, self.host.rules.groups or Groups()
        if places is not None:
            needs = needs_of(groups, found, results, self.agents.left_alone, is_whole=is_whole)
            places.end_pass(needs, self.runtime.context.alive)

    def _own_conditions(self, found: Assessment, results: list[AgentResult]) -> tuple[Condition, ...]:
        """The updater's own conditions, once the report of the pass was sent."""
        host = self.host
        if host.reports is not None:
            host.reports.send(report(host.facts, self.store.state, *self._seen_after(found, results)))
        damaged_copy = "" if self.store.damaged_copy is None else str(self.store.damaged_copy)
        return own_conditions(
            self.before.conditions,
            found.at,
            server=found.server,
            stored=stored_condition(self.journal.trouble, damaged_copy),
            missing_tools=host.lacking,
            others=self._other_servers(),
        )

    def _wake_at(self, results: list[AgentResult]) -> float | None:
        places, now = self.runtime.context.places, self.host.clock()
        times = [at for result in results for at in wake_times(result, now, self.host.rules.watch)]
        return min((*times, *(() if places is None else places.retries)), default=None)

    # The report after a change

    def _seen_after(self, found: Assessment, results: Iterable[AgentResult]) -> tuple[ObservedHost, ...]:
        """How the agents stand after a pass: what may have changed as it was seen at its end, all others as it found
        them."""
        host, state = self.host, self.store.state
        acted = ObservedHost(at=host.clock(), agents=tuple(result.observed for result in results if result.changed))
        managed = {agent.name: agent for agent in accepted(host.policy, state).agents}
        managed |= {view.desired.name: view.desired for view in found.agents}
        others = [agent for name, agent in managed.items() if name not in {agent.name for agent in acted.agents}]
        return acted, where_they_live(found.seen, others, state.record)

    def _other_servers(self) -> dict[str, Condition | None]:
        """The conditions of the servers that the config names beside the one of the desired state; None: nothing
        new."""
        context, found = self.runtime.context, self.host.other_servers
        if context.places is not None:
            found["LockServerReachable"] = context.places.condition
        if self.host.reports is not None:
            wait_s = DEADLINE_S + 1 if self.request.until is None else _REPORT_WAIT_S
            trouble = self.host.reports.trouble(wait_s, context.ending.is_set)
            found["ReportDelivered"] = None if trouble is None else report_condition(trouble)
        return found

    def _report_changes(self, result: PassResult) -> None:
        """Report to the server what changed; its answer is kept for the next pass. A failure here is not one of this
        pass."""
        host, state, found = self.host, self.store.state, result.assessment
        asked = self.request.ask is DesiredFrom.EXCHANGE and found.failed is None and host.operator is None
        if not asked or not host.source.takes_reports or not any(agent.changed for agent in result.agents):
            return
        now, seen = host.clock(), self._seen_after(found, result.agents)
        answer = self._wait_for(RunningExchange(lambda: exchange(host, state, *seen), self._post), _LONGEST_EXCHANGE_S)
        if isinstance(answer, Answer):
            last_entries = accepted(host.policy, self.store.state, answer).last_entries
            self.journal.attempt(lambda: keep_answer(host, self.store, answer, now, last_entries))
        elif answer is not None:
            logger.warning("the report after a change did not arrive: {}", answer.message)


def _left_alone(found: Assessment, names: frozenset[str]) -> Assessment:
    """The same, with nothing planned for agents whose plan still runs."""

    def view_of(view: AgentEvaluation) -> AgentEvaluation:
        if view.desired.name not in names:
            return view
        nothing = Plan(name=view.desired.name, reason=view.plan.reason, message="a change is still being made")
        return evolve(view, verdict=nothing, news="", released_by=None)

    return evolve(found, agents=tuple(view_of(view) for view in found.agents))


def _trim_start_logs(host: HostContext, found: Assessment) -> None:
    homes: dict[str, list[AgentHome]] = {}
    for view in found.agents:
        if view.observed.version_text is not None and not view.observed.blocked_by and not view.is_left_alone:
            homes.setdefault(view.observed.home.run_user, []).append(home_of(view.observed.home))

    def trim(run_user: str) -> None:
        with suppress(UpdaterError):  # a log is never worth failing for
            host.workers.of(run_user, _TRIMMING_S).do(trim_start_logs, tuple(homes[run_user]))

    run_per_user(homes, trim)
