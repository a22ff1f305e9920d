"""What came of a pass, and of each agent in it, as values."""

from __future__ import annotations

from attrs import evolve

from probes.observed import ObservedAgent
from probes.values import frozen
from reconcile.assess.pass_context import Assessment
from reconcile.decide.actions import Held, Outcome, Plan, Result
from reconcile.decide.conditions import Condition, is_for_people, is_ready, ready_of
from reconcile.decide.desired import Refusal, RunState
from reconcile.decide.evaluate import AgentEvaluation, conditions_of
from reconcile.decide.records.changes import record_for
from reconcile.decide.records.record import AgentRecord
from reconcile.decide.timing.fetch_slot import after_fetch


@frozen(kw_only=True)
class ExecutedPlan:
    """One plan that was carried out, for history: why, on whose word, and what came of it."""

    plan: Plan
    outcomes: tuple[Outcome, ...]
    by: str
    reason: str

    @property
    def at(self) -> float | None:
        """When its first action began; None: none did."""
        return next((outcome.at for outcome in self.outcomes if outcome.at), None)


def executed_plan(view: AgentEvaluation, outcomes: tuple[Outcome, ...]) -> ExecutedPlan:
    """What was due for an agent, with what came of it. A way back is RolledBack, whatever it makes differ."""
    reason = "RolledBack" if view.goes_back else view.due.reason
    return ExecutedPlan(plan=view.due, outcomes=outcomes, by=view.due_by, reason=reason)


@frozen(kw_only=True)
class AgentResult:
    """What became of one agent. `view`: as it was assessed; `after`: as it stands now; `record`: what is to be
    remembered; `news`: what became of a switch. `at`: Unix seconds of the pass that it is of. `waited`: for a call of
    an earlier run, which may have changed it. `transitions`: the conditions that changed their status by it, once it
    was recorded. `goes_on`: its plan outlasts this pass, and the end of that will tell."""

    view: AgentEvaluation
    after: AgentEvaluation
    executed: tuple[ExecutedPlan, ...]
    conditions: tuple[Condition, ...]
    record: AgentRecord | None
    at: float
    news: tuple[str, ...] = ()
    waited: bool = False
    transitions: tuple[Condition, ...] = ()
    goes_on: bool = False

    @property
    def name(self) -> str:
        return self.view.desired.name

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        return tuple(outcome for one in self.executed for outcome in one.outcomes)

    @property
    def observed(self) -> ObservedAgent:
        return self.after.observed

    @property
    def changed(self) -> bool:
        """Whether it may stand otherwise than it was reported in this pass."""
        return self.acted or self.waited

    @property
    def acted(self) -> bool:
        return any(outcome.result is not Result.SKIPPED for outcome in self.outcomes)

    @property
    def ready(self) -> bool:
        return is_ready(self.conditions)

    @property
    def is_held_by_operator(self) -> bool:
        return self.after.verdict.reason == "HeldByOperator"

    @property
    def has_pending_upgrade(self) -> bool:
        return self.record is not None and self.record.confirmation is not None

    @property
    def runs(self) -> bool:
        return self.observed.active is not None and self.observed.active.process.is_running

    @property
    def is_quarantined(self) -> bool:
        """Whether it stays with its former content, and no time lifts that."""
        verdict = self.after.verdict
        quarantined = isinstance(verdict, Held) and verdict.reason == "Quarantined" and verdict.until is None
        return quarantined and self.after.is_back

    @property
    def is_for_people(self) -> bool:
        """Whether no further pass betters it by itself: it keeps what it has, and that runs where it is to."""
        after = self.after
        if after.due.actions or (after.verdict.reason == "Pinned" and not after.is_back):
            return False
        if self.is_quarantined and after.record is not None and after.record.told_to_stop:
            return True  # it stays stopped
        return not self._waits_for_start and (self.is_quarantined or is_for_people(after.verdict.reason))

    @property
    def _waits_for_start(self) -> bool:
        return self.after.desired.run is RunState.START and self.observed.active is not None and not self.runs

    @property
    def went_back(self) -> bool:
        """Whether it was rolled back in this pass."""
        ready = ready_of(self.conditions)
        return ready is not None and ready.reason == "RolledBack"

    def joined_with(self, healed: AgentResult | None) -> AgentResult:
        """The same, with what was done before it in its pass: the agent was healed."""
        if healed is None:
            return self
        news = (*([healed.view.news] if healed.view.news else []), *healed.news, *self.news)
        executed = (*healed.executed, *self.executed)
        return evolve(self, executed=executed, news=news, waited=healed.waited or self.waited)


def conclude(
    view: AgentEvaluation,
    after: AgentEvaluation,
    *,
    executed: tuple[ExecutedPlan, ...],
    record: AgentRecord | None,
    at: float,
    news: tuple[str, ...] = (),
    waited: bool = False,
    before: AgentEvaluation | None = None,
) -> AgentResult:
    """What became of an agent. `before`: as it was when it was first acted upon, if that was not `view`."""
    outcomes = executed[-1].outcomes if executed else ()
    return AgentResult(
        view=view,
        after=after,
        executed=executed,
        conditions=conditions_of(after, outcomes, rolled_back=_went_back(before or view, after)),
        record=record,
        at=at,
        news=news,
        waited=waited,
    )


def untouched(view: AgentEvaluation, at: float) -> AgentResult:
    """An agent for which there was nothing to do."""
    record = record_for(view.observed.home, view.record)
    return AgentResult(view=view, after=view, executed=(), conditions=conditions_of(view), record=record, at=at)


def going_on(view: AgentEvaluation, at: float) -> AgentResult:
    """An agent whose plan outlasts this pass: it is observed and reported. What its plan notes stands."""
    conditions = conditions_of(view)
    return AgentResult(view=view, after=view, executed=(), conditions=conditions, record=None, at=at, goes_on=True)


def with_late_fetch(result: AgentResult, *, time_was_up: bool) -> AgentResult:
    """What became of an agent, with what is to be known of a download that ended for want of time."""
    if result.record is None:
        return result
    wanted = result.view.target.content
    record, news = after_fetch(result.record, wanted, result.outcomes, time_was_up=time_was_up)
    if time_was_up and record.late_fetch is not None:
        why = f"{result.after.plan.message}; its download takes longer than a run, and goes on in the next one"
        conditions = (evolve(c, message=why) if c.type == "Ready" else c for c in result.conditions)
        result = evolve(result, conditions=tuple(conditions))
    return evolve(result, record=record, news=(*result.news, news) if news else result.news)


def _went_back(view: AgentEvaluation, after: AgentEvaluation) -> bool:
    """Whether it was rolled back in this pass: a way back that was tried in an earlier one and succeeded now counts."""
    was = isinstance(view.verdict, Held) and view.verdict.rolled_back and view.is_back and not view.news
    rolled_back = isinstance(after.verdict, Held) and after.verdict.rolled_back
    return rolled_back and after.is_back and not was


@frozen(kw_only=True)
class PassResult:
    """What came of a pass. `transitions`: the conditions that changed their status in it, with their agent's name
    (empty: of the updater itself). `newly_refused`: entries that were not refused before, or not for this;
    `refused_no_more`: names. `troubles`: what else went wrong with the updater itself, for people. `late`: what ended
    meanwhile of earlier passes. `wake_at`: Unix seconds of the next watch's or hold's end; None: there is none."""

    assessment: Assessment
    agents: tuple[AgentResult, ...]
    conditions: tuple[Condition, ...]
    transitions: tuple[tuple[str, Condition], ...] = ()
    newly_refused: tuple[Refusal, ...] = ()
    refused_no_more: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()
    late: tuple[AgentResult, ...] = ()
    wake_at: float | None = None
    places_held: tuple[str, ...] = ()

    @property
    def acted(self) -> bool:
        return any(agent.acted for agent in self.agents)

    @property
    def all_ready(self) -> bool:
        """Whether all is as it should be, except what an operator holds, and what waits as is wanted."""
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
        return tuple(agent.name for agent in self.agents if agent.after.confirming)

    @property
    def is_final(self) -> bool:
        """Whether no further pass can better it by itself: all is well and confirmed, was rolled back for good, or
        waits for people, as what is refused does."""
        return not self.confirming and all(agent.is_for_people for agent in self.unready)
