"""Whole passes over worlds, with agents that fail: what execution.py and agent_reconciler.py make of the pure core, as
a model.

`Agent` says which content starts, and which stays up. `a_pass` looks, plans, admits, acts and remembers as a real pass
does, round by round, and tells what a crash might leave at each point of it. Nothing here decides: all decisions are
those of reconcile/decide and of `evaluate_agent`, which brings them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import Factory, define, evolve, frozen

from probes.observed import Active, ObservedAgent, ProcessState, Tree
from reconcile.decide.actions import Action, Outcome, Plan, Result, Start, Stop, Switch
from reconcile.decide.admission import EvaluationContext, Freshness
from reconcile.decide.desired import RunState
from reconcile.decide.evaluate import AgentEvaluation, AgentInputs, Rules, evaluate_agent, heal_of
from reconcile.decide.hold import Hold
from reconcile.decide.planner import world_after
from reconcile.decide.records.changes import heed, record_for, remember_config, remember_use
from reconcile.decide.records.record import AgentRecord
from reconcile.decide.timing.fleet_places import Groups, PlaceWait
from reconcile.decide.upgrade.events import Observed, Paused, PlanFinished, StartConfirmed, SwitchStarted
from reconcile.decide.upgrade.steps import seen_up
from reconcile.decide.upgrade.table import advance
from tests.reconcile.decide.worlds import BOOT, NOW, WATCH, Life, Wish, legal, torn

ROUNDS = 3  # of one pass: execution.py


@frozen(kw_only=True)
class Agent:
    """How content behaves. `starts`: whether it comes up at all; `stays`: whether it is still up at the next look.
    `is_mute`: its control never says what anybody understands, and `lingers`: though something of it lives on.
    `fails`: the action types that fail, as on a full disk."""

    starts: Callable[[Tree], bool] = lambda tree: True
    stays: Callable[[Tree], bool] = lambda tree: True
    is_mute: Callable[[Tree], bool] = lambda tree: False
    lingers: bool = False
    fails: frozenset[str] = frozenset()


@frozen(kw_only=True)
class Circumstances:
    """When a pass is, and what it knows. `refused`: the fleet's lock gives no place, which is known once it was asked;
    `waits`: it was refused in an earlier pass, and is not asked in this one."""

    now: float = NOW
    boot: str = BOOT
    answered: Freshness = Freshness.LIVE
    hold: Hold | None = None
    keep: int = 2
    quarantine_for: float | None = None
    refused: bool = False
    waits: bool = False


WAIT = PlaceWait(group="web", since=NOW, message="all places are taken", answered=True)


@frozen(kw_only=True)
class Passed:
    """What came of a pass. `view`: as it was assessed; `after`: as it stands then. `done`: the types of all actions
    that were tried, round after round. `torn`: what a crash at any point of it would have left."""

    life: Life
    view: AgentEvaluation
    after: AgentEvaluation
    done: tuple[str, ...]
    news: tuple[str, ...]
    torn: tuple[Life, ...]


def looked(life: Life, wanted: Wish, around: Circumstances) -> AgentEvaluation:
    """What a pass finds: an open switch settled, plans made and admitted."""
    record = life.record
    if record is None and wanted.desired.run is RunState.STOP and life.observed.version_text:
        record = record_for(wanted.desired.home, None)
    if record is not None:
        record = heed(seen_up(record, life.observed), wanted.desired, life.observed)
    if record is not None and wanted.desired.run is not RunState.START:
        record = advance(record, Paused(boot=around.boot)).record
    elif record is not None and around.hold is None:
        record = advance(record, Observed(observed=life.observed, now=around.now, watch=WATCH, boot=around.boot)).record
    return _view(wanted, life.observed, record, around, around.hold)


def _view(
    wanted: Wish, observed: ObservedAgent, record: AgentRecord | None, around: Circumstances, hold: Hold | None = None
) -> AgentEvaluation:
    agent_inputs = AgentInputs(desired=wanted.desired, observed=observed, record=record)
    refused = (WAIT,) if around.waits else ()
    moment = EvaluationContext(now=around.now, answered=around.answered, why_not_live="down", refused_places=refused)
    return evaluate_agent(agent_inputs, wanted.remote, moment, _rules(around), hold)


def _rules(around: Circumstances) -> Rules:
    locked = around.refused or around.waits
    return Rules(
        watch=WATCH,
        keep=around.keep,
        quarantine_for=around.quarantine_for,
        groups=Groups(others=WAIT.group) if locked else None,
    )


def a_pass(life: Life, wanted: Wish, agent: Agent, around: Circumstances) -> Passed:
    """One pass that isn't interrupted, and all that it would have left if it were."""
    view = looked(life, wanted, around)
    runtime = _Shop(
        wanted=wanted, agent=agent, around=around, observed=life.observed, stored=view.record or life.record
    )
    record, after = record_for(wanted.desired.home, view.record), view
    done: list[str] = []
    news: list[str] = []
    heal = heal_before(view, wanted, around)
    if heal is not None:
        record, _ = _rounds(runtime, heal, record, evolve(around, answered=Freshness.LAST_ACCEPTED), done, news)
        runtime.stored = record
        after = _view(wanted, runtime.observed, record, around, around.hold)
    record, after = _rounds(runtime, after, record, around, done, news)
    edited = view.target.edited
    record = remember_config(record, wanted.desired, runtime.observed, wanted.remote.config, edited=edited)
    ended = Life(runtime.observed, remember_use(record, runtime.observed))
    return Passed(life=ended, view=view, after=after, done=tuple(done), news=tuple(news), torn=(*runtime.torn, ended))


def heal_before(view: AgentEvaluation, wanted: Wish, around: Circumstances) -> AgentEvaluation | None:
    """What a pass heals before this change: assess.py."""
    fetches = isinstance(view.verdict, Plan) and view.verdict.fetches
    moment = EvaluationContext(now=around.now, answered=around.answered)
    return heal_of(view.agent_inputs, wanted.remote, moment, _rules(around), around.hold) if fetches else None


def _rounds(
    runtime: _Shop, after: AgentEvaluation, record: AgentRecord, around: Circumstances, done: list[str], news: list[str]
) -> tuple[AgentRecord, AgentEvaluation]:
    """One plan, and the way back after it: execution.py."""
    for _ in range(ROUNDS):
        if not after.due.actions:
            break
        plan = after.due
        outcomes, record = runtime.carry_out(after, record)
        done += [outcome.action.type for outcome in outcomes if outcome.attempts]
        settled = advance(
            record,
            PlanFinished(wanted=after.target.content, outcomes=outcomes, now=around.now, going_back=after.only_heals),
        )
        record = seen_up(settled.record, runtime.observed)
        if any(isinstance(o.action, Start) and o.result is Result.DONE for o in outcomes):
            record = advance(record, StartConfirmed(now=around.now, watch=WATCH)).record
        news += [settled.news] if settled.news else []
        around = evolve(around, waits=runtime.around.waits)
        after = _view(runtime.wanted, runtime.observed, record, around)
        failed = any(outcome.result is Result.FAILED for outcome in outcomes)
        declined = any(outcome.result is Result.SKIPPED for outcome in outcomes)
        if not (failed or declined) or after.due.actions == plan.actions:
            break
        runtime.stored = record
    return record, after


@define(kw_only=True)
class _Shop:
    """Carries plans out, and keeps what lies on disk and in the store, which is all that a crash leaves."""

    wanted: Wish
    agent: Agent
    around: Circumstances
    observed: ObservedAgent
    stored: AgentRecord | None
    torn: list[Life] = Factory(list)

    def carry_out(self, view: AgentEvaluation, record: AgentRecord) -> tuple[tuple[Outcome, ...], AgentRecord]:
        """The executor: in order, until one fails; a stop that failed is followed by a start."""
        plan, outcomes = view.due, list[Outcome]()
        for action in plan.actions:
            refused = isinstance(action, Stop | Switch) and self._is_refused(view)
            if refused or any(outcome.result in (Result.FAILED, Result.SKIPPED) for outcome in outcomes):
                outcomes.append(Outcome(action=action, result=Result.SKIPPED))
                continue
            problem = legal(self.observed, action)
            assert not problem, f"{action}: {problem}, in {self.observed}"
            if action is _first_that_touches(plan) and not view.only_heals:
                record = self._begin(view, record)
            outcomes.append(self._try(action))
            came = isinstance(action, Start) and outcomes[-1].result is Result.DONE and plan.switch is not None
            if came and not view.only_heals:
                self.stored = record = advance(record, StartConfirmed(now=self.around.now, watch=WATCH)).record
                self.torn.append(Life(self.observed, record))
        return tuple(outcomes), record

    def _is_refused(self, view: AgentEvaluation) -> bool:
        """Whether the fleet's lock is asked, and refuses: by then that is known."""
        refused = self.around.refused and not view.only_heals and view.place_group is not None
        if refused:
            self.around = evolve(self.around, waits=True)
        return refused

    def _begin(self, view: AgentEvaluation, record: AgentRecord) -> AgentRecord:
        active = view.observed.active
        self.stored = advance(
            record, SwitchStarted(to=view.target.content, active=active, now=self.around.now, boot=self.around.boot)
        ).record
        return self.stored

    def _try(self, action: Action) -> Outcome:
        for world in (self.observed, *torn(self.observed, action)):
            self._might_leave(world)
        ok = action.type not in self.agent.fails
        active = self.observed.active
        if isinstance(action, Start):
            assert active is not None
            ok = self.agent.starts(active.tree)
        if isinstance(action, Stop) and active is not None and self.agent.is_mute(active.tree):
            ok = ok and action.never_up and not self.agent.lingers
        if ok:
            self.observed = world_after(self.observed, action)
        if not ok or not isinstance(action, Stop):
            self.observed = muted(self.observed, self.agent)
        self._might_leave(self.observed)
        if ok:
            return Outcome(action=action, result=Result.DONE, attempts=1)
        return Outcome(action=action, result=Result.FAILED, attempts=1, reason=f"{action.type}Failed", error="no")

    def _might_leave(self, world: ObservedAgent) -> None:
        self.torn.append(Life(muted(world, self.agent), self.stored))


def _first_that_touches(plan: Plan) -> Action | None:
    """Where a switch is written down: before its stop, or before itself."""
    if plan.switch is None:
        return None
    return next(action for action in plan.actions if isinstance(action, Stop | Switch))


def later(life: Life, agent: Agent) -> Life:
    """The same when some time has passed: what does not keep running is stopped, and an unknown status has an end."""
    active = life.observed.active
    if active is None:
        return life
    up = active.process.is_running or (active.status_output == "starting" and agent.starts(active.tree))
    life = with_process(life, ProcessState.RUNNING if up and agent.stays(active.tree) else ProcessState.STOPPED)
    return Life(muted(life.observed, agent), life.record)


def stopped(life: Life, agent: Agent | None = None) -> Life:
    """The same with its process gone: it died, was killed, or the host went down."""
    if life.observed.active is None:
        return life
    life = with_process(life, ProcessState.STOPPED)
    return life if agent is None else Life(muted(life.observed, agent), life.record)


def muted(observed: ObservedAgent, agent: Agent) -> ObservedAgent:
    """The same as its control says it: of mute content nothing is known."""
    active = observed.active
    if active is None or not agent.is_mute(active.tree):
        return observed
    return evolve(observed, active=evolve(active, process=ProcessState.UNKNOWN, status_output="what?"))


def with_process(life: Life, process: ProcessState) -> Life:
    assert life.observed.active is not None
    active = Active(tree=life.observed.active.tree, process=process, status_output=process.value)
    return Life(evolve(life.observed, active=active), life.record)


def passes(life: Life, wanted: Wish, agent: Agent, around: Circumstances, *, every: float = WATCH) -> Iterator[Passed]:
    """Pass after pass, as time goes by; the agent is as it is."""
    while True:
        passed = a_pass(life, wanted, agent, around)
        yield passed
        life = later(passed.life, agent)
        around = evolve(around, now=around.now + every)
