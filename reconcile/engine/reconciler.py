"""A whole pass: assess, keep the answer, execute, observe again, record, report.

With assess.py the only file that knows a pass's order. The store is written by the pass's own thread alone. How plans
run side by side is in plan_pool.py; of one that outlasts its pass the agent is observed and reported by the passes
that go by meanwhile, and nothing is planned for it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Set
from contextlib import suppress

from attrs import Factory, define, evolve, field

from probes.errors import UpdaterError
from probes.home import home_of
from probes.host.paths import AgentHome
from probes.observed import ObservedHost
from probes.values import frozen
from probes.worker.pool import run_per_user
from reconcile.act.home_ops import trim_start_logs
from reconcile.act.host.root_ops import create_user
from reconcile.decide.actions import Held, Plan
from reconcile.decide.admission import Freshness
from reconcile.decide.conditions import (
    FALSE,
    TRUE,
    Condition,
    lock_condition,
    own_conditions,
    report_condition,
    since_actions,
    stored_condition,
    with_since,
)
from reconcile.decide.desired import Refusal, RunState, refused_since
from reconcile.decide.evaluate import AgentEvaluation, after_heal, conditions_of, where_they_live
from reconcile.decide.hold import Requests
from reconcile.decide.records import (
    AgentRecord,
    FailureKind,
    Pin,
    UpgradePhase,
    record_for,
    released,
    remember_config,
    remember_use,
)
from reconcile.decide.timing.fetch_slot import after_fetch, allowed_s
from reconcile.decide.timing.fleet_places import keeps_place
from reconcile.engine.agent_reconciler import AgentResult, ExecutionContext, conclude
from reconcile.engine.assess import (
    Found,
    accept_answer,
    accepted,
    ask_remote_files,
    completed,
    exchange,
    look,
    only,
    with_found,
    with_healed,
)
from reconcile.engine.homes import look_again
from reconcile.engine.host_report import report
from reconcile.engine.pass_context import Assessment, DesiredFrom, HostContext
from reconcile.engine.place_keeper import PlaceKeeper
from reconcile.engine.plan_pool import Arrived, PlanEnded, PlanOrigin, PlanPool
from reconcile.errors import ResponseInvalid, ServerUnreachable, WriteFailed
from reconcile.log import logger
from reconcile.net.remote_files import LIMIT_S
from reconcile.net.report_delivery import DEADLINE_S
from reconcile.source import Answer, Entry
from reconcile.storage.codec import HistoryEvent
from reconcile.storage.hold_files import read_requests, take_up
from reconcile.storage.spool import Spool
from reconcile.storage.store import Store, StoredState

_TRIMMING_S = 5.0
ALIVE_S = 5.0  # seconds between two signs of life while agents are waited for
_LOOK_S = 0.2  # between two looks at the event that ends all, while something remote is waited for
_HEAL_AFTER_S = 3.0  # without an answer, after which what crashed is healed by the last one
_LAST_WAIT_S = 1.0  # for an answer, once the pass is to end
_REPORT_WAIT_S = 0.5  # for the delivery of a report, where the next pass is not to wait
_LONGEST_EXCHANGE_S = 60.0  # sources have limits of their own


@frozen(kw_only=True)
class PassRuntime:
    """All that a pass may act with. `parallel`: agents changed at once. `plans`: under way, of earlier passes too."""

    context: ExecutionContext
    store: Store
    parallel: int
    plans: PlanPool = field(default=Factory(lambda self: PlanPool(self.parallel), takes_self=True))


@frozen(kw_only=True)
class Late:
    """What came of a plan that outlasted its pass, and the conditions that changed their status by it."""

    result: AgentResult
    transitions: tuple[Condition, ...] = ()


@frozen(kw_only=True)
class PassResult:
    """What came of a pass. `flipped`: the conditions that changed their status in it, with their agent's name (empty:
    of the updater itself). `refused_anew`: entries that were not refused before, or not for this; `refused_no_more`:
    names. `troubles`: what else went wrong with the updater itself, for people. `late`: what ended meanwhile of earlier
    passes. `wake_at`: Unix seconds of the next watch's or hold's end; None: there is none."""

    assessment: Assessment
    agents: tuple[AgentResult, ...]
    conditions: tuple[Condition, ...]
    transitions: tuple[tuple[str, Condition], ...] = ()
    refused_anew: tuple[Refusal, ...] = ()
    refused_no_more: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()
    late: tuple[Late, ...] = ()
    wake_at: float | None = None
    places_held: tuple[str, ...] = ()

    @property
    def acted(self) -> bool:
        return any(agent.acted for agent in self.agents)

    @property
    def all_ready(self) -> bool:
        """Whether all is as it should be, but for what an operator holds, and what waits as is wanted."""
        return not self.assessment.refused and not self.unready

    @property
    def unready(self) -> tuple[AgentResult, ...]:
        return tuple(
            agent
            for agent in self.agents
            if not (agent.ready or agent.is_held_by_operator or agent.after.waits_as_wanted)
        )

    @property
    def confirming(self) -> tuple[str, ...]:
        """The agents whose new content has still to prove good."""
        return tuple(agent.view.desired.name for agent in self.agents if agent.after.confirming)

    @property
    def is_final(self) -> bool:
        """Whether no further pass can better it by itself: all is well and confirmed, was taken back for good, or
        waits for people, as what is refused does."""
        return not self.confirming and all(agent.is_for_people for agent in self.unready)


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


def run_pass(runtime: PassRuntime, order: PassRequest) -> PassResult:
    """Make one pass. Raise NoDesiredState, what `approve` raises, and WriteFailed where a pin can't be kept; nothing
    else that is expected."""
    with runtime.context.host.workers.at_work():
        return _run_pass(runtime, order)


def _run_pass(runtime: PassRuntime, order: PassRequest) -> PassResult:
    host, store, ask, wanted = runtime.context.host, runtime.store, order.ask, order.wanted
    for name, pin in order.pins:
        _pin(host, store, name, pin)
    state = store.state
    agents = _Agents(runtime=runtime, order=order, going_on=runtime.plans.names)
    found = agents.assess(state)
    named = len(found.agents)
    found = only(found, wanted)
    if order.approve is not None:
        found = completed(host, found, agents.keep)
        order.approve(found)
    troubles = _Troubles()
    if not host.operator_source:  # what an operator tried is no word of the server's to go by later
        troubles.unless(lambda: _keep_answer(host, store, found.fresh, found.at, found.kept))
        _keep_serials(host, found, troubles)
    # A boot that is counted, a verdict: what this look made of an open switch must outlive what is done now.
    troubles.unless(lambda: store.save(_settled_now(found, state, agents.healing | agents.going_on)))
    order.decided()
    agents.heal(found)
    found = _left_alone(_with_new_users(runtime, order, found, troubles), agents.going_on)
    found, results = agents.carry_out(found)
    _trim_start_logs(host, found)
    troubles.of_memory = troubles.of_memory or agents.unwritten
    before = {record.name: record.conditions for record in state.records}
    results = [_timed(result, before, found.at) for result in results]
    refusals = _refusals(host, found, state, wanted)
    if not troubles.of_memory:
        troubles.unless(lambda: _record(store, found, results, refusals))
    _keep_places(runtime, found, results, agents.going_on, whole=len(found.agents) == named)
    if host.reports is not None:
        host.reports.send(report(host.facts, store.state, *_seen_after(host, store.state, found, results)))
    aside = "" if store.set_aside is None else str(store.set_aside)
    own = own_conditions(
        state.conditions,
        found.at,
        server=found.server,
        stored=stored_condition(troubles.of_memory, aside),
        missing_tools=host.lacking,
        others=_other_servers(runtime, order),
    )
    pins_stand = bool(troubles.of_memory)
    troubles.unless(lambda: store.save_conditions(own))
    if not pins_stand:  # they and quarantine are as they were, and so must be the wish to end them
        troubles.unless(lambda: _end_requests(runtime, found, agents.going_on, whole=len(found.agents) == named))
    result = PassResult(
        assessment=found,
        agents=tuple(results),
        conditions=own,
        transitions=(*_flips(results, before), *(("", c) for c in _changed(own, state.conditions))),
        refused_anew=refusals.anew,
        refused_no_more=refusals.no_more,
        troubles=troubles.told,
        places_held=() if runtime.context.places is None else tuple(sorted(runtime.context.places.groups_held)),
        wake_at=min(
            (
                *(at for result in results for at in _ends(result, host.clock(), host.rules.watch)),
                *([] if runtime.context.places is None else runtime.context.places.retries),
            ),
            default=None,
        ),
    )
    if (
        any(one.changed for one in results)
        and ask is DesiredFrom.EXCHANGE
        and found.failed is None
        and not host.operator_source
    ):
        agents.report_at_once(found, results)
    return evolve(result, late=tuple(agents.late))


def _pin(host: HostContext, store: Store, name: str, pin: Pin) -> None:
    """Remember a pin. A release that was asked for before it is taken up first: it must not end the pin."""
    desired = next((agent for agent in accepted(host.policy, store.state).agents if agent.name == name), None)
    if desired is None:
        return
    record = store.state.record(name) or record_for(desired.place, None)
    if read_requests(host.holds).released(name):
        take_up(host.holds, Requests(releases=frozenset({name})), pin.at)
        record = released(record)
    store.save([evolve(record, pin=pin)])


def _keep_places(
    runtime: PassRuntime, found: Assessment, results: Iterable[AgentResult], going_on: frozenset[str], *, whole: bool
) -> None:
    """Keep the places that are still needed in the fleet's lock, and give the others back. Where it is not known what
    is wanted (no answer, some agents alone, nothing desired) all are kept. `whole`: the pass was for all agents."""
    places, groups = runtime.context.places, runtime.context.host.rules.groups
    if places is None or groups is None:
        return
    needed = {groups.of(name) for name in going_on}
    for result in results:
        desired, verdict = result.view.desired, result.after.verdict
        refused = desired.run is RunState.START and desired.artifact is None
        held = isinstance(verdict, Held) and verdict.reason == "HeldByOperator"
        if held or result.goes_on or keeps_place(result.record, None if refused else result.after.target.content):
            needed.add(groups.of(desired.name))
    unknown = not whole or found.nothing_desired or found.moment.answered is Freshness.KEPT
    for group in sorted(places.groups_held):
        runtime.context.alive()
        released = group in {groups.of(name) for name in found.requests.place_releases}
        if released or places.may_be_left_over(group) or not (unknown or group in needed):
            places.give_back(group)
        else:
            places.assert_kept(group)


def _seen_after(
    host: HostContext, state: StoredState, found: Assessment, results: Iterable[AgentResult]
) -> tuple[ObservedHost, ...]:
    """How the agents stand after a pass: what may have changed as it was seen at its end, all others as it found
    them."""
    changed = ObservedHost(at=host.clock(), agents=tuple(result.observed for result in results if result.changed))
    managed = {agent.name: agent for agent in accepted(host.policy, state).agents}
    managed |= {view.desired.name: view.desired for view in found.agents}
    others = [agent for name, agent in managed.items() if name not in {agent.name for agent in changed.agents}]
    return changed, where_they_live(found.seen, others, state.record)


def _other_servers(runtime: PassRuntime, order: PassRequest) -> dict[str, Condition | None]:
    """The conditions of the servers that the config names beside the one of the desired state; None: nothing new."""
    context, found = runtime.context, runtime.context.host.other_servers
    if context.places is not None:
        found["LockServerReachable"] = _lock_condition(context.places)
    if context.host.reports is not None:
        wait_s = DEADLINE_S + 1 if order.until is None else _REPORT_WAIT_S
        trouble = context.host.reports.trouble(wait_s, context.ending.is_set)
        found["ReportDelivered"] = None if trouble is None else report_condition(trouble)
    return found


def _lock_condition(places: PlaceKeeper) -> Condition | None:
    """Whether the lock server answered in this pass; None: it was not asked."""
    if places.reachable is None:
        return None
    answered, message = places.reachable
    return lock_condition(None if answered else message)


# --- agents, side by side ---


@define(kw_only=True)
class _Agents:
    """The agents of one pass, each on its own way: healed if it is down, then its remote files are known, then its
    change is made. None waits for another's. `going_on`: the plans of earlier passes that still run. Only the thread of
    the passes uses it."""

    runtime: PassRuntime
    order: PassRequest
    going_on: frozenset[str]
    late: list[Late] = field(factory=list)
    unwritten: str = ""
    healing: set[str] = field(factory=set)  # those that were, too
    _healed: dict[str, AgentResult] = field(factory=dict)
    _running: set[str] = field(factory=set)
    _views: dict[str, AgentEvaluation] = field(factory=dict)
    _results: dict[str, AgentResult] = field(factory=dict)
    _begun: PlanOrigin | None = None
    _answer: Arrived | None = None
    _since: float = field(factory=time.monotonic)
    _out_of_time: set[str] = field(factory=set)
    _spool: Spool = field(default=Factory(lambda self: Spool(self.runtime.context.cache), takes_self=True))

    def keep(self, content: bytes) -> Callable[[], bytes]:
        """Keep the bytes of a config on the disk until they are written."""
        return self._spool.put(content)

    def assess(self, state: StoredState) -> Assessment:
        """Observe, exchange and accept. While the server takes its time what crashed is healed, by what it said last.
        Raise NoDesiredState."""
        host, ask = self.runtime.context.host, self.order.ask
        known = look(host, state)
        if ask is not DesiredFrom.EXCHANGE:
            return accept_answer(host, state, ask, known, None)
        self._ask(lambda: exchange(host, state, known.lived_in))
        answer = self._wait_for_answer(_HEAL_AFTER_S)
        if answer is None and self.order.approve is None and state.accepted is not None:
            kept = accept_answer(host, state, DesiredFrom.KEPT, known, None)
            kept = only(kept, self.order.wanted)
            _remember(lambda: self.runtime.store.save(_settled_now(kept, state, self.going_on)))
            self.heal(kept)
            self._heal([view for view in kept.agents if view.misses_healing])
        if answer is None:
            answer = self._wait_for_answer(_LONGEST_EXCHANGE_S)
        if answer is None and self.runtime.context.ending.is_set():
            ask = DesiredFrom.KEPT
        elif answer is None:
            answer = ServerUnreachable(f"no answer from {host.source.came_from} within {_LONGEST_EXCHANGE_S:g} s")
        return accept_answer(host, state, ask, known, answer)

    def heal(self, found: Assessment) -> None:
        """Begin to heal what is down, and have downloads give way to that."""
        self._begun = PlanOrigin(found=found)
        for view in found.agents:
            if view.desired.name in self.going_on and (view.heal or view).misses_healing:
                self.runtime.plans.yield_to_heal(view.desired.name)
        self._heal([view.heal for view in found.agents if view.heal is not None])

    def _heal(self, views: Iterable[AgentEvaluation]) -> None:
        assert self._begun is not None
        for view in views:
            name = view.desired.name
            if name not in self.healing | self.going_on:
                self.healing.add(name)
                self._running.add(name)
                self.runtime.plans.begin(self.runtime.context, view, evolve(self._begun, heals=True))

    def carry_out(self, found: Assessment) -> tuple[Assessment, list[AgentResult]]:
        """Ask remote files and make the changes; until all is done, or the pass may wait no longer. Return what was
        assessed in the end, and what became of it."""
        self._begun = PlanOrigin(found=found)
        self._views = {view.desired.name: view for view in found.agents}
        asking = [view for name, view in self._views.items() if view.asks is not None and name not in self.going_on]
        if asking:
            ask_remote_files(self.runtime.context.host, asking, self._arrived, self.keep)
        until = time.monotonic() + LIMIT_S
        for name in self._views:
            self._go_on(name)
        while self._views.keys() - self._results.keys():
            self.runtime.context.alive()
            left = self._patience()
            if left <= 0:
                break
            waits = self._waits_for_remote
            if waits and (self.runtime.context.ending.is_set() or time.monotonic() > until):
                for name in waits:
                    self._say(name, None)
                continue
            left = min(left, self._end_downloads())
            self._take(max(0.0, min(left, _LOOK_S if waits else ALIVE_S)))
        self._leave_the_rest()
        agents = tuple(self._views[view.desired.name] for view in found.agents)
        return evolve(found, agents=agents), [self._results[view.desired.name] for view in found.agents]

    @property
    def _waits_for_remote(self) -> list[str]:
        done = self._results.keys()
        return [name for name, view in self._views.items() if view.asks is not None and name not in done]

    def _end_downloads(self) -> float:
        """End the downloads that took longer than this run has time for; seconds until the next may have to."""
        budget_s, soonest = self.order.budget_s, math.inf
        if budget_s is None:
            return soonest
        plans, spent = self.runtime.plans, time.monotonic() - self._since
        for name in self._running - self._out_of_time:
            left = allowed_s(self._views[name].record, budget_s, resumed=plans.is_resumed(name)) - spent
            if left > 0:
                soonest = min(soonest, left)
                continue
            ends = plans.end_download(name)
            if ends is not False:
                self._out_of_time.add(name)
            if ends is None:
                self._running.remove(name)
                view = self._views[name]
                self._results[name] = self._of_late_fetch(_joined(self._healed.get(name), _untouched(view, view)))
            soonest = min(soonest, _LOOK_S)
        return soonest

    def _of_late_fetch(self, result: AgentResult) -> AgentResult:
        """What became of an agent, with what is to be known of a download that ended for want of time."""
        if result.record is None:
            return result
        name, wanted = result.view.desired.name, result.view.target.content
        record, told = after_fetch(result.record, wanted, result.outcomes, time_was_up=name in self._out_of_time)
        if name in self._out_of_time and record.late_fetch is not None:
            why = f"{result.after.plan.message}; its download takes longer than a run, and goes on in the next one"
            conditions = (evolve(c, message=why) if c.type == "Ready" else c for c in result.conditions)
            result = evolve(result, conditions=tuple(conditions))
        return evolve(result, record=record, news=(*result.news, told) if told else result.news)

    def _arrived(self, name: str, said: Found) -> None:
        self.runtime.plans.post(Arrived(of=self, about=name, value=said))

    def _say(self, name: str, said: Found | None) -> None:
        """Take up what an agent's remote files say; None: nothing, and no longer waited for."""
        view = self._views.get(name)
        if view is None or view.asks is None:
            return
        assert self._begun is not None
        planned = with_found(self.runtime.context.host, self._begun.found, view, said)
        self._views[name] = planned
        self._go_on(name)

    def _go_on(self, name: str) -> None:
        """Do the next of an agent's steps that can be done now."""
        view, healed = self._views[name], self._healed.get(name)
        assert self._begun is not None
        if name in self._running or name in self._results:
            return
        if name in self.going_on:
            self._results[name] = _going_on(view)
            return
        if view.heal is not None and name not in self.healing:
            self._heal([view.heal])
            return
        if view.asks is not None:
            return
        if healed is not None:
            view = self._after_heal(view, healed)
        self._views[name] = view if healed is None else after_heal(view, healed.view)
        if view.due.actions:
            self._running.add(name)
            self.runtime.plans.begin(self.runtime.context, self._views[name], evolve(self._begun, heals=False))
        else:
            self._results[name] = _joined(healed, _untouched(self._views[name], view))

    def _after_heal(self, view: AgentEvaluation, healed: AgentResult) -> AgentEvaluation:
        host = self.runtime.context.host
        assert self._begun is not None
        moment = evolve(self._begun.found.moment, now=host.clock())
        seen = evolve(healed.after.sighting, desired=view.desired, record=healed.record)
        if view.desired.place != healed.view.desired.place:  # the answer came after the heal, and wants it elsewhere
            seen = look_again(view.desired, healed.record, host)
        return with_healed(host, view, seen, moment)

    def _take(self, timeout_s: float) -> None:
        """Take what arrives next, in at most so many seconds."""
        item, trouble = self.runtime.plans.next_event(self.runtime.store, timeout_s)
        self.unwritten = trouble or self.unwritten
        if isinstance(item, Arrived):
            if item.of is self and not item.about:
                self._answer = item
            elif item.of is self:
                assert isinstance(item.value, Found)
                self._say(item.about, item.value)
        elif item is not None and item.result.view.desired.name not in self._running:
            self.late.append(take_late(self.runtime, item))
        elif item is not None:
            self._ended(item)

    def _ended(self, ended: PlanEnded) -> None:
        name = ended.result.view.desired.name
        self._running.remove(name)
        if not ended.begun.heals:
            self._results[name] = self._of_late_fetch(_joined(self._healed.get(name), ended.result))
            return
        # What is remembered by then is kept first: from here on the notes of the change are newer.
        self._healed[name] = _recorded(self.runtime, ended.result)
        if name in self._views:
            self._go_on(name)

    def _patience(self) -> float:
        """For how many seconds the pass may go on waiting: no agent's watch, hold or delay ends unseen for another's
        sake."""
        if self.order.until is None:
            return math.inf
        host = self.runtime.context.host
        now = host.clock()
        ends = (at - now for result in self._results.values() for at in _ends(result, now, host.rules.watch))
        return min(self.order.until - time.monotonic(), min(ends, default=math.inf))

    def _leave_the_rest(self) -> None:
        """Say how those stand that this pass waits for no longer."""
        self._running -= set(self.runtime.plans.cancel_queued())
        for name in self._views.keys() - self._results.keys():
            view, healed = self._views[name], self._healed.get(name)
            if name in self._running and healed is not None:
                self._results[name] = evolve(healed, view=view, record=None)
            elif name in self._running:
                self._results[name] = _going_on(view)
            else:
                self._results[name] = _joined(healed, _untouched(view, view))
        self._running.clear()  # what ends from here on is late

    # The server, asked in a thread of its own

    def _ask(self, ask: Callable[[], Answer | ServerUnreachable | ResponseInvalid]) -> None:
        self._answer = None

        def work() -> None:
            value: object
            try:
                value = ask()
            except Exception as err:
                value = err
            self.runtime.plans.post(Arrived(of=self, about="", value=value))

        try:
            threading.Thread(target=work, name="exchange", daemon=True).start()
        except RuntimeError as err:  # what crashed is started all the same
            why = ServerUnreachable(f"the server was not asked: the host is short of a resource: {err}")
            self.runtime.plans.post(Arrived(of=self, about="", value=why))

    def _wait_for_answer(self, seconds: float) -> Answer | ServerUnreachable | ResponseInvalid | None:
        """Wait for the server's answer, and take what else arrives; None: it takes longer, or the pass is to end."""
        until, ends = time.monotonic() + seconds, math.inf
        while self._answer is None:
            if ends == math.inf and self.runtime.context.ending.is_set():
                ends = time.monotonic() + _LAST_WAIT_S
            left = min(until, ends) - time.monotonic()
            if left <= 0:
                return None
            self.runtime.context.alive()
            self._take(min(left, _LOOK_S))
        value = self._answer.value
        if isinstance(value, Answer | ServerUnreachable | ResponseInvalid):
            return value
        assert isinstance(value, Exception)
        raise value

    def report_at_once(self, found: Assessment, results: Iterable[AgentResult]) -> None:
        """Report to the server what changed; its answer is kept for the next pass. A failure here is not one of this
        pass."""
        host, state = self.runtime.context.host, self.runtime.store.state
        now, seen = host.clock(), _seen_after(host, state, found, results)
        self._ask(lambda: exchange(host, state, *seen))
        answer = self._wait_for_answer(_LONGEST_EXCHANGE_S)
        if isinstance(answer, Answer):
            kept = accepted(host.policy, self.runtime.store.state, answer).kept
            _remember(lambda: _keep_answer(host, self.runtime.store, answer, now, kept))
        elif answer is not None:
            logger.warning("the report after a change did not arrive: {}", answer.message)


def _joined(healed: AgentResult | None, result: AgentResult) -> AgentResult:
    """What became of an agent that was healed before its change, as one."""
    if healed is None:
        return result
    executed, news = (*healed.executed, *result.executed), (*healed.news, *result.news)
    waited = healed.waited or result.waited
    if result.executed or result.after.broken is not None:
        return evolve(result, executed=executed, news=news, waited=waited)
    record = result.record if result.record is not None else healed.record
    return conclude(
        result.view, result.after, executed=executed, record=record, news=news, waited=waited, before=healed.view
    )


def _recorded(runtime: PassRuntime, healed: AgentResult) -> AgentResult:
    """Keep what is to be remembered of an agent that was healed."""
    before = runtime.store.state.record(healed.view.desired.name)
    healed = _timed(healed, {} if before is None else {before.name: before.conditions}, runtime.context.host.clock())
    record = _record_after(healed)
    if record is not None:
        _remember(lambda: runtime.store.save([record]))
    return evolve(healed, record=record)


def take_late(runtime: PassRuntime, ended: PlanEnded) -> Late:
    """Record a plan that outlasted the pass that began it."""
    result, found = ended.result, ended.begun.found
    if ended.begun.heals and result.record is not None:
        moment = evolve(found.moment, now=runtime.context.host.clock())
        view = with_healed(runtime.context.host, result.view, result.after.sighting, moment)
        result = _joined(result, _untouched(view, view))
    record = runtime.store.state.record(result.view.desired.name)
    before = () if record is None else record.conditions
    result = _timed(result, {result.view.desired.name: before}, runtime.context.host.clock())
    _remember(lambda: _record(runtime.store, found, [result]))
    return Late(result=result, transitions=_changed(result.conditions, before))


def _left_alone(found: Assessment, names: frozenset[str]) -> Assessment:
    """The same, with nothing planned for agents whose change is still being made."""

    def view_of(view: AgentEvaluation) -> AgentEvaluation:
        if view.desired.name not in names:
            return view
        nothing = Plan(name=view.desired.name, reason=view.plan.reason, message="a change is still being made")
        return evolve(view, verdict=nothing, news="")

    return evolve(found, agents=tuple(view_of(view) for view in found.agents))


def _going_on(view: AgentEvaluation) -> AgentResult:
    """An agent whose plan outlasts this pass: seen and reported. What it notes stands; its end will be recorded."""
    return AgentResult(view=view, after=view, executed=(), conditions=conditions_of(view), record=None)


def _untouched(view: AgentEvaluation, after: AgentEvaluation) -> AgentResult:
    return AgentResult(
        view=view,
        after=after,
        executed=(),
        conditions=conditions_of(after),
        record=record_for(view.observed.place, view.record),
        news=(view.news,) if view.news else (),
    )


def _with_new_users(runtime: PassRuntime, order: PassRequest, found: Assessment, troubles: _Troubles) -> Assessment:
    """Create the users that agents lack, where the config wants that, and look again: the answer is not asked twice."""
    host = runtime.context.host
    missing = {view.desired.run_user for view in found.agents if view.lacks_user and view.desired.run is RunState.START}
    if not missing or not host.policy.create_users or found.answered is Freshness.KEPT:
        return found
    for name in sorted(missing):
        try:
            create_user(name)
            logger.info("the user {} was created", name)
        except UpdaterError as err:
            troubles.others.append(err.message)
    host.workers.forget_refused()
    ask = DesiredFrom.LIVE if order.ask is DesiredFrom.EXCHANGE and not host.operator_source else order.ask
    state = runtime.store.state
    again = only(accept_answer(host, state, ask, look(host, state), None), order.wanted)
    return evolve(again, fresh=found.fresh, failed=found.failed, server=found.server)


def _trim_start_logs(host: HostContext, found: Assessment) -> None:
    homes: dict[str, list[AgentHome]] = {}
    for view in found.agents:
        if view.observed.version_text is not None and not view.observed.blocked_by and not view.hands_off:
            homes.setdefault(view.observed.place.run_user, []).append(home_of(view.observed.place))

    def trim(run_user: str) -> None:
        with suppress(UpdaterError):  # a log is never worth failing for
            host.workers.of(run_user, _TRIMMING_S).do(trim_start_logs, tuple(homes[run_user]))

    run_per_user(homes, trim)


# --- memory ---


@define
class _Troubles:
    """What goes wrong in a pass with the updater itself. The pass goes on, since agents matter more. `of_memory`: why
    something can't be remembered; empty: all could."""

    of_memory: str = ""
    others: list[str] = field(factory=list)

    @property
    def told(self) -> tuple[str, ...]:
        return (*([self.of_memory] if self.of_memory else []), *self.others)

    def unless(self, write: Callable[[], None]) -> None:
        """Write to memory, and keep the first reason why that fails."""
        trouble = _why_not(write)
        self.of_memory = self.of_memory or trouble


def _why_not(write: Callable[[], None]) -> str:
    """Write to memory; return why that failed, or ''."""
    try:
        write()
    except (WriteFailed, OSError) as err:
        return str(err)
    return ""


def _remember(write: Callable[[], None]) -> None:
    """Write to memory what is no pass's own; where that fails it is told, and all goes on."""
    trouble = _why_not(write)
    if trouble:
        logger.warning("{}", trouble)


def _keep_answer(host: HostContext, store: Store, answer: Answer | None, at: float, kept: Iterable[Entry]) -> None:
    """Keep an answer, and the serial of its signature. Raise WriteFailed."""
    if answer is None:
        return
    if host.serials is None:
        store.accept(answer, at, kept)
        return
    host.serials.learn([] if answer.signature is None else [answer.signature])
    store.accept(answer, at, kept, host.serials.accepted)


def _keep_serials(host: HostContext, found: Assessment, troubles: _Troubles) -> None:
    """Keep the serials beside the memory, too. Where that fails alone nothing else is kept back for it."""
    if host.serials is not None and found.fresh is not None and (trouble := _why_not(host.serials.keep)):
        troubles.others.append(trouble)


def _settled_now(found: Assessment, state: StoredState, noted: Set[str]) -> list[AgentRecord]:
    """The records to keep before anything is done, but for agents of which there are newer notes."""
    views = (view for view in found.agents if view.desired.name not in noted)
    busy = [view.record for view in views if view.record is not None and (view.due.actions or view.heal or view.asks)]
    return [record for record in busy if record != state.record(record.name)]


@frozen(kw_only=True)
class _Refusals:
    """What changed about entries that are refused. `remembered`: all that are by now; None: as they were."""

    anew: tuple[Refusal, ...] = ()
    no_more: tuple[str, ...] = ()
    remembered: tuple[Refusal, ...] | None = None


def _refusals(host: HostContext, found: Assessment, state: StoredState, wanted: Callable[[str], bool]) -> _Refusals:
    """Compare what is refused with what was. What an operator's own file names is not remembered, nor compared."""
    if host.operator_source:
        return _Refusals(anew=found.refused)
    before = tuple(entry for entry in state.refused if wanted(entry.name))
    others = tuple(entry for entry in state.refused if not wanted(entry.name))
    anew, no_more = refused_since(before, found.refused)
    return _Refusals(anew=anew, no_more=no_more, remembered=(*others, *found.refused))


def _record(store: Store, found: Assessment, results: list[AgentResult], refusals: _Refusals | None = None) -> None:
    """Keep each agent's record as this pass leaves it, and what was done, in history."""
    refusals = _Refusals() if refusals is None else refusals
    records = [_record_after(result) for result in results]
    store.save([record for record in records if record is not None])
    # Side by side, agents begin one after another's end; the sort keeps each agent's own order.
    events = sorted((event for result in results for event in _events(result, found)), key=lambda event: event.at)
    if refusals.remembered is not None:
        events += [_news(entry.name, found.at, entry.told) for entry in refusals.anew]
        events += [_news(name, found.at, "no longer refused") for name in refusals.no_more]
    store.add_events(events)
    if refusals.remembered is not None:
        store.save_refused(refusals.remembered)


def _record_after(result: AgentResult) -> AgentRecord | None:
    """The record to keep. An agent that could not even be looked at keeps the one that it has, and is told once."""
    view, record = result.view, result.record
    if view.broken is not None and view.record is not None:
        return evolve(view.record, conditions=result.conditions)
    if record is None or view.broken is not None:
        return None
    record = remember_config(record, view.desired, result.observed, view.findings.config, edited=view.target.edited)
    found = view.findings
    return evolve(
        remember_use(record, result.observed),
        conditions=result.conditions,
        remote_config=found.config if found.config is not None else record.remote_config,
        digest_file=found.digest_file if found.digest_file is not None else record.digest_file,
    )


def _timed(result: AgentResult, before: dict[str, tuple[Condition, ...]], now: float) -> AgentResult:
    """Say since when each condition is so. `before`: as they were remembered; `now`: of the look that began this."""
    seen = with_since(conditions_of(result.view), before.get(result.view.desired.name, ()), now)
    return evolve(result, conditions=since_actions(result.conditions, seen, result.outcomes, now))


def _events(result: AgentResult, found: Assessment) -> list[HistoryEvent]:
    """What is kept in history of an agent's part of a pass, in the order of their times."""
    name, now = result.view.desired.name, found.at
    before = [_news(name, now, result.view.news, by=_by(result, result.view.news))] if result.view.news else []
    before += _news_of_operators(result, found)
    done = [
        HistoryEvent(
            name=name,
            at=one.at or now,
            by=one.by,
            reason=one.reason,
            message=one.plan.message,
            outcomes=one.outcomes,
        )
        for one in result.executed
    ]
    ended = next((o.ended_at for o in reversed(result.outcomes) if o.at), now)
    after = [said for said in result.news if said != result.view.news]
    return [*before, *done, *(_news(name, ended, said, by=_by(result, said)) for said in after)]


def _news_of_operators(result: AgentResult, found: Assessment) -> Iterable[HistoryEvent]:
    """What operators asked for since the last pass: a release, a hold, a pin to what is in use."""
    name, now, record = result.view.desired.name, found.at, result.after.record
    releaser, hold, verdict = found.requests.releaser(name), result.after.hold, result.after.verdict
    if releaser is not None:
        said = f"released by {releaser}: holds, pins, quarantine and delays have ended"
        yield _news(name, now, said, by=f"operator:{releaser}")
    if not isinstance(verdict, Held) or _was_held(result.view.record, verdict.reason):
        return
    if verdict.reason == "HeldByOperator" and hold is not None:
        yield _news(name, now, f"held by {verdict.message}", by=f"operator:{hold.owner}")
    if verdict.reason == "Pinned" and record is not None and record.pin is not None and not result.executed:
        yield _news(name, now, verdict.message, by=f"operator:{record.pin.owner}")


def _by(result: AgentResult, said: str) -> str:
    """On whose word there is news of a change: the server's, who asked for it, or none but ours, who took it back."""
    failures = () if result.after.record is None else result.after.record.failures
    taken_back = any(f.verdict is FailureKind.ROLLED_BACK and said.startswith(f.message) for f in failures)
    return "rollback" if taken_back else "server"


def _was_held(record: AgentRecord | None, reason: str) -> bool:
    conditions = () if record is None else record.conditions
    return any(c.type == "Held" and c.status == "True" and c.reason == reason for c in conditions)


def _news(name: str, now: float, said: str, *, by: str = "server") -> HistoryEvent:
    return HistoryEvent(name=name, at=now, by=by, reason="News", message=said)


def _end_requests(runtime: PassRuntime, found: Assessment, going_on: frozenset[str], *, whole: bool) -> None:
    """Releases were taken up by this pass, of its agents; holds that ended go. `whole`: it was for all agents, but for
    those whose change is `going_on`: theirs wait. A place that could not be given back is still to be."""
    host, places = runtime.context.host, runtime.context.places
    names = frozenset(view.desired.name for view in found.agents) - going_on
    whole = whole and not going_on
    requests = found.requests
    held = frozenset[str | None]() if places is None else places.groups_held
    given_back = {
        name for name in requests.place_releases if host.rules.groups is None or host.rules.groups.of(name) not in held
    }
    mine = evolve(
        requests,
        releases=requests.releases if whole else requests.releases & names,
        place_releases=frozenset(given_back),
    )
    take_up(host.holds, mine, found.at)


def _ends(result: AgentResult, now: float, watch: float) -> Iterable[float]:
    """When this agent is to be looked at again before the next slot."""
    record, verdict = result.record, result.after.verdict
    installed = result.observed.active is not None
    open_switch = record.confirmation if record is not None and result.after.confirming and installed else None
    if open_switch is not None and (open_switch.stage is UpgradePhase.WATCHING or result.runs):
        yield now + max(0.0, open_switch.remaining(now, watch))
    if isinstance(verdict, Held) and verdict.until is not None:
        yield max(now, verdict.until)
    if record is not None and record.start_again_at(now) > now and not result.runs:
        yield record.start_again_at(now)  # one whose time has come was held for another reason


# --- what changed, and the report of it ---


def _flips(results: Iterable[AgentResult], before: dict[str, tuple[Condition, ...]]) -> Iterable[tuple[str, Condition]]:
    """The conditions of agents that changed their status. Of one whose change goes on, its end tells."""
    for result in results:
        if not result.goes_on:
            name = result.view.desired.name
            yield from ((name, condition) for condition in _changed(result.conditions, before.get(name)))


def _changed(now: Iterable[Condition], before: Iterable[Condition] | None) -> tuple[Condition, ...]:
    """The conditions whose status is another than before; those that are new count where they tell of trouble. What is
    not as desired for another cause, or where something else is wanted, counts as well: `apply --once` reports it."""
    known = {condition.type: condition for condition in before or ()}
    usual = {"Held": "False", "Quarantined": "False"}

    def is_changed(condition: Condition) -> bool:
        earlier = known.get(condition.type)
        if earlier is None:
            return condition.status != usual.get(condition.type, "True")
        return condition.status != earlier.status or _is_for_another_cause(condition, earlier)

    return tuple(filter(is_changed, now))


def _is_for_another_cause(now: Condition, before: Condition) -> bool:
    """Whether an agent that still isn't as desired is so for another cause. A delay between two tries is none, nor is
    what a failure that was reported leads to."""
    if now.type == "Installed":
        return now.status == FALSE and now.message != before.message  # it names what is wanted
    goes_on = now.reason in ("BackingOff", "Quarantined") or before.reason == "BackingOff"
    return now.type == "Ready" and now.status != TRUE and now.reason != before.reason and not goes_on
